/*
 * How much memory the connections can take, by the limits that hold for them.
 */
#ifndef KQUAY_MEMORY_H
#define KQUAY_MEMORY_H

#include <stdint.h>
#include <stdio.h>

#include "program.h"

/*
 * The most that all connections of a service take together: their slots in the
 * loops of that many workers, input that waits for its end, output that is
 * queued, TLS, and what the handler has of each.
 */
uint64_t memory_of(const struct service_conf *conf, unsigned workers);

/* A line of each service and one of all, each of them a comment. */
void memory_print(const struct program_conf *conf, FILE *out);

/* The last of them in the log. */
void memory_log(const struct program_conf *conf);

#endif
