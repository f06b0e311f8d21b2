/*
 * How much memory the connections can take, by the limits that hold for them.
 */
#ifndef KQUAY_MEMORY_H
#define KQUAY_MEMORY_H

#include <stdio.h>

#include "program.h"

/* A line of each service and one of all, each of them a comment. */
void memory_print(const struct program_conf *conf, FILE *out);

/* The last of them in the log. */
void memory_log(const struct program_conf *conf);

#endif
