/*
 * The slow half of lock.h: a futex, taken when the word is held.
 */
#include <sys/syscall.h>

#include <linux/futex.h>

#include <errno.h>
#include <unistd.h>

#include "lock.h"

#define SPINS 64

_Thread_local uint32_t lock_tid __attribute__((tls_model("initial-exec")));

static void
relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
#endif
}

uint32_t
lock_ask_tid(void)
{
	lock_tid = (uint32_t)syscall(SYS_gettid);
	return lock_tid;
}

void
lock_forget_tid(void)
{
	lock_tid = 0;
}

/*
 * A holder keeps the lock for less than a system call or two, so look a few
 * times before sleeping.  Whoever sleeps sets LOCK_WAITERS, and takes the
 * lock with it set: there may be more sleepers.
 */
enum lock_result
lock_take_slow(struct lock *l, uint32_t tid, lock_may_wait_fn *may_wait)
{
	uint32_t seen, mark = 0;
	int spin, saved = errno;

	for (spin = 0;; spin++) {
		seen = __atomic_load_n(&l->l_word, __ATOMIC_RELAXED);
		if ((seen & ~LOCK_WAITERS) == tid)
			return LOCK_MINE;
		if (seen == 0) {
			if (__atomic_compare_exchange_n(&l->l_word, &seen,
				tid | mark, 0, __ATOMIC_ACQUIRE,
				__ATOMIC_RELAXED))
				break;
		} else if (spin < SPINS) {
			relax();
		} else if (may_wait != NULL && !may_wait(tid)) {
			errno = saved;
			return LOCK_BUSY;
		} else if ((seen & LOCK_WAITERS) ||
		    __atomic_compare_exchange_n(&l->l_word, &seen,
			seen | LOCK_WAITERS, 0, __ATOMIC_RELAXED,
			__ATOMIC_RELAXED)) {
			syscall(SYS_futex, &l->l_word, FUTEX_WAIT_PRIVATE,
			    seen | LOCK_WAITERS, NULL, NULL, 0);
			mark = LOCK_WAITERS;
		}
	}
	errno = saved;
	return LOCK_TAKEN;
}

void
lock_wake(struct lock *l)
{
	int saved = errno;

	syscall(SYS_futex, &l->l_word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	errno = saved;
}
