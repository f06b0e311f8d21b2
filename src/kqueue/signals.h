/*
 * signals.h: the signals that queues watch, for the filter and the wrappers.
 *
 * signals.c has the totals and the program's dispositions, pending.c the
 * signals that every thread blocks.  A set of signals is a word: bit
 * (signo - 1), as the kernel has it.  What is called "watched" is watched by
 * at least one queue of this process.
 *
 * One lock guards the state of both files, with every signal blocked in the
 * thread that holds it: a handler never finds it held by its own thread.  It
 * is taken after a queue's lock, never before it.
 */
#ifndef KQ_SIGNALS_H
#define KQ_SIGNALS_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "libc.h"

/*
 * A handler may interrupt anything, the thread sanitizer's own code too; the
 * sanitizer calls sigaction() before it is ready, and sees no lock taken while
 * it is inside a call that blocks.  Such code is not instrumented.
 */
#define BARE_CODE	__attribute__((no_sanitize("thread")))

#define LAST_SIGNAL	64
#define KERNEL_SIGSET	sizeof(uint64_t)

BARE_CODE static inline uint64_t
signal_bit(int signo)
{
	return UINT64_C(1) << (signo - 1);
}

/* The lowest signal of a set that is not empty. */
static inline int
signal_first(uint64_t set)
{
	return __builtin_ctzll(set) + 1;
}

BARE_CODE static inline uint64_t
signal_set_of(const sigset_t *set)
{
	uint64_t word;

	memcpy(&word, set, sizeof(word));
	return word;
}

/* -- signals.c ------------------------------------------------------------- */

extern uint64_t signals_watched_word;
extern uint64_t signals_held_word;

/* Watched signals that have a disposition; 0: the wrappers do nothing. */
BARE_CODE static inline uint64_t
signals_watched(void)
{
	return __atomic_load_n(&signals_watched_word, __ATOMIC_SEQ_CST);
}

/* Take the lock; *mask is what the thread blocked before.  Drop it again. */
void	 signals_lock(uint64_t *mask);
void	 signals_unlock(const uint64_t *mask);

/* This is not a child, forked or vforked, of the process that watches. */
bool	 signals_mine(void);

/*
 * A queue watches, or stops to.  0 or an errno value.  Every watch is ended
 * by one signal_unwatch().
 */
int	 signal_watch(int signo);
void	 signal_unwatch(int signo);

/* How often it has been sent, as far as anybody can tell; wraps never. */
uint64_t signal_total(int signo);
/* An eventfd on which each count makes an edge; never drained, never closed. */
int	 signal_wake(int signo);

/*
 * It was delivered, or taken by someone: count it, unless it was counted
 * when it was first seen.  Async-signal-safe.
 */
void	 signal_count(int signo);
/* The next one to be delivered or taken has been counted already. */
void	 signal_owe(int signo);
void	 signal_unowe(int signo);
/* Let the queues that watch look again. */
void	 signal_kick(int signo);

/* sigaction(2) as the program means it; -1 with errno. */
int	 signal_action(int signo, const struct sigaction *,
	    struct sigaction *old);

/*
 * Between these, what the program ignores is really ignored, so that a
 * process that is made inherits it.  Meanwhile it is not counted.
 */
void	 signals_plain_begin(void);
void	 signals_plain_end(void);
/* The same before execve(), for a process that will be gone, or vforked. */
void	 signals_exec_begin(void);
void	 signals_exec_failed(void);

/* -- pending.c ------------------------------------------------------------- */

/* Signals that we took from the kernel, and that are pending to the program. */
BARE_CODE static inline uint64_t
signals_held(void)
{
	return __atomic_load_n(&signals_held_word, __ATOMIC_SEQ_CST);
}

/*
 * Count those of a set that are pending and blocked by every thread; take
 * them, so that the next one can be told.
 */
void	 pending_look(uint64_t set);
/* Give back what we hold of a set but some thread no longer blocks. */
void	 pending_verify(uint64_t set);
/* Look again: some may have gone that are counted but were not taken. */
bool	 pending_unsure(void);
/* Of these it could not be found out, for want of a descriptor. */
uint64_t pending_blind(void);

/* The program unblocks a set: what we hold of it is pending in the kernel. */
void	 pending_give_back(uint64_t set);
/*
 * The thread will wait for, or with, a set: from now on none of it is taken.
 * Returns what must be released after the wait.
 */
uint64_t pending_claim(uint64_t set);
void	 pending_release(uint64_t claimed);
/* The program has a signalfd for a set: none of it is taken any more. */
void	 pending_leave(uint64_t set);

/* With the lock held: the program ignores it now, so none is pending. */
void	 pending_discard(int signo);
/* With the lock held: nobody watches it any more. */
void	 pending_forget(int signo);
void	 pending_fork_child(void);

#endif
