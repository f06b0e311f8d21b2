/*
 * The owner lock of a queue: one word, the thread id of its holder.
 *
 * It guards bookkeeping and system calls that do not block; nobody waits for
 * events with it.  Knowing the holder makes one thing possible that a mutex
 * does not: kevent() or close() in a signal handler that interrupted its own
 * thread inside the library sees that it must not wait (LOCK_MINE).
 */
#ifndef KQ_LOCK_H
#define KQ_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "process.h"

struct lock {
	uint32_t l_word; /* 0, or holder's tid | LOCK_WAITERS */
};

#define LOCK_WAITERS 0x80000000u

enum lock_result { LOCK_TAKEN, LOCK_MINE, LOCK_BUSY };

/*
 * The calling thread's id, cached.  lock_forget_tid() is for the child of a
 * fork, whose only thread has another id.
 */
extern _Thread_local uint32_t lock_tid
    __attribute__((tls_model("initial-exec")));
uint32_t lock_ask_tid(void);
void lock_forget_tid(void);

/* Whether the thread may sleep until another one drops a lock. */
typedef bool lock_may_wait_fn(uint32_t tid);

/*
 * Wait for the lock; LOCK_MINE, without it, if this thread holds it; LOCK_BUSY,
 * without it, if another one does and this one may not wait.
 */
__attribute__((cold)) enum lock_result lock_take_slow(struct lock *,
    uint32_t tid, lock_may_wait_fn *);
__attribute__((cold)) void lock_wake(struct lock *);

/* Alone, no atomic instruction is needed, only the order of our own thread. */
static inline enum lock_result
lock_take_if(struct lock *l, lock_may_wait_fn *may_wait)
{
	uint32_t tid, unlocked = 0;

	tid = lock_tid != 0 ? lock_tid : lock_ask_tid();
	if (process_single_threaded()) {
		if (l->l_word == 0) {
			l->l_word = tid;
			__atomic_signal_fence(__ATOMIC_SEQ_CST);
			return LOCK_TAKEN;
		}
	} else if (__atomic_compare_exchange_n(&l->l_word, &unlocked, tid, 0,
		       __ATOMIC_ACQUIRE, __ATOMIC_RELAXED)) {
		return LOCK_TAKEN;
	}
	return lock_take_slow(l, tid, may_wait);
}

static inline enum lock_result
lock_take(struct lock *l)
{
	return lock_take_if(l, NULL);
}

static inline void
lock_drop(struct lock *l)
{
	if (process_single_threaded()) {
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
		l->l_word = 0;
	} else if (__atomic_exchange_n(&l->l_word, 0, __ATOMIC_RELEASE) &
	    LOCK_WAITERS) {
		lock_wake(l);
	}
}

#endif
