/*
 * Numbers as people read them.
 */
#ifndef KQUAY_HUMAN_H
#define KQUAY_HUMAN_H

#include <stdint.h>

#define HUMAN_MAX 32

/* "512", "1.5k", "64M": bytes, of 1024.  Returns buf. */
const char *human_size(char buf[HUMAN_MAX], uint64_t bytes);

/* "0.25s", "42s", "3m07s", "5h12m", "12d04h".  Returns buf. */
const char *human_time(char buf[HUMAN_MAX], int64_t ms);

#endif
