/*
 * UTF-8 (RFC 3629), a character at a time.
 */
#ifndef KQUAY_UTF8_H
#define KQUAY_UTF8_H

#include <stdint.h>

/*
 * The character that begins at text, which a NUL ends: its length, and its
 * code in *code; 0 if there is none: a wrong byte, or the end.
 */
int utf8_next(const char *text, uint32_t *code);

/*
 * May it be shown?  What acts on a terminal, or turns a line around, may not.
 */
int utf8_printable(uint32_t code);

#endif
