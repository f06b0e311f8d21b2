/*
 * Memory that runs out: the malloc(), calloc() and realloc() of a test that is
 * linked with -Wl,--wrap for each of them.  Check allocates, too: so nothing is
 * to be checked while one may fail.
 */
#ifndef T_MEMORY_H
#define T_MEMORY_H

#include <stdbool.h>

/* The allocation that fails, 1 being the next; 0: none. */
extern int memory_countdown;

/* Whether what is allocated now counts; true at first. */
extern bool memory_counts;

#endif
