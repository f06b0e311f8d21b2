/*
 * entry.h: what getdents64(2) stores, one entry after the other.
 *
 * For the folders of /proc: opendir() takes memory, and closedir() is the
 * program's to call.
 */
#ifndef KQ_ENTRY_H
#define KQ_ENTRY_H

#include <stdint.h>

struct entry {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen; /* from this entry to the next */
	uint8_t d_type;
	char d_name[];
};

#endif
