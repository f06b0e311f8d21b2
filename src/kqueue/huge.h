/*
 * huge.h: memory for tables.
 *
 * With a million entries each look at one misses the cache, and without huge
 * pages the page tables as well, which are then too big for it, too.
 */
#ifndef KQ_HUGE_H
#define KQ_HUGE_H

#include <sys/mman.h>

#include <stdlib.h>

#define CACHE_LINE ((size_t)64)
#define HUGE_PAGE ((size_t)2 << 20)

/* As malloc(), but begins with a cache line, or even a huge page. */
static inline void *
huge_alloc(size_t bytes)
{
	size_t unit = bytes < HUGE_PAGE ? CACHE_LINE : HUGE_PAGE;
	void *p;

	bytes = (bytes + unit - 1) / unit * unit;
	p = aligned_alloc(unit, bytes);
	if (p != NULL && unit == HUGE_PAGE)
		madvise(p, bytes, MADV_HUGEPAGE);
	return p;
}

#endif
