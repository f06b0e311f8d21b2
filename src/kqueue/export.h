/*
 * export.h: what the library shows.  Everything else is hidden, by the
 * compiler's flag and by libkq.map, which names the same functions.
 */
#ifndef KQ_EXPORT_H
#define KQ_EXPORT_H

#define KQ_EXPORT __attribute__((visibility("default")))

#endif
