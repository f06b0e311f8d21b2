/*
 * interpose.h: what the wrappers of libc's functions have in common.
 */
#ifndef KQ_INTERPOSE_H
#define KQ_INTERPOSE_H

#include <stdbool.h>

#include "watch.h"

/* There is something to do besides calling libc. */
static inline bool
interpose_on(void)
{
	return __atomic_load_n(&watch_on, __ATOMIC_RELAXED);
}

/*
 * Store the next definition after ours of a function in *slot, a pointer to
 * it.  In a program that is linked statically there is none, and *slot stays.
 */
void	interpose_find(const char *name, void *slot);

/*
 * Does the program's close() reach ours?  Not if the library was loaded with
 * dlopen(), or stands behind libc in the order of libraries.
 */
bool	interpose_effective(void);

#endif
