/*
 * process.h: is this process the one that the queues belong to?
 *
 * A queue is not inherited by fork (R-FD-06).  One word stands in memory that
 * the kernel wipes in a forked child, whichever call made it; a vforked child
 * shares all memory with its parent and is told apart by its process id.
 */
#ifndef KQ_PROCESS_H
#define KQ_PROCESS_H

#include <stdbool.h>

extern char __libc_single_threaded __attribute__((weak));

extern volatile int *process_word; /* 1 in the owner, 0 in its child */

static inline bool
process_is_owner(void)
{
	return process_word != NULL && *process_word != 0;
}

/*
 * KQ_STRICT=1, or close() does not reach our wrapper: do not trust a knote
 * before the kernel has said that its number names the file it was made for.
 */
extern bool process_strict;

/*
 * interpose_vfork.c: this thread called vfork() and may be the child; or
 * there is no such mark on this machine.
 */
extern _Thread_local volatile int process_vforked
    __attribute__((tls_model("initial-exec")));
extern bool process_vforks_unseen;

/* Not even a vforked child; asks the kernel. */
bool process_is_self(void);

/* A child that has our memory. */
bool process_is_vforked(void);

/*
 * Make this process the owner: 0 or an errno value.  Before there is one,
 * process_check() does nothing; in a child that nobody has told it does what
 * fork() would have done.
 */
int process_own(void);
void process_check(void);

/* No second thread exists, so none can look on. */
static inline bool
process_single_threaded(void)
{
	return &__libc_single_threaded != NULL && __libc_single_threaded;
}

#endif
