/*
 * Which of several endpoints gets the next connection.
 */
#ifndef KQUAY_BALANCE_H
#define KQUAY_BALANCE_H

#include "upstream.h"

/*
 * One of the list first, which is not empty and linked by their also; in the
 * order of the configuration.  source is the hash of the caller's address.
 */
struct endpoint *balance_choose(enum upstream_balance balance,
    struct endpoint *first, uint64_t source);

#endif
