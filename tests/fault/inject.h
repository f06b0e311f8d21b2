/*
 * inject.h: have one call of libkq's to libc fail, or all from one on.
 *
 * Allocations and system calls are counted together from inject_arm() on; the
 * nth that can fail does, in one of the ways that the kernel has for it.  What
 * cannot fail as libkq uses it is not counted: inject.c says why of each.
 */
#ifndef INJECT_H
#define INJECT_H

#include <stdbool.h>

struct fault {
	unsigned int f_nth; /* from 1 on; 0: none */
	int f_way;          /* from 0 on: which of its errno values */
	/* EMFILE and ENOMEM alone, and so does whatever can, from then on. */
	bool f_lasting;
};

void inject_arm(const struct fault *);

struct injected {
	const char *i_call; /* what failed; NULL: there was no nth */
	int i_error;
	bool i_more; /* there is a next way */
};

struct injected inject_disarm(void);

/* Be Linux before 6.13, which lets a pidfd be asked nothing. */
extern bool inject_old_pidfds;

/* Blocks of memory that have been allocated and not freed. */
long inject_blocks(void);

#endif
