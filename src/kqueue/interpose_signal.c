/*
 * interpose_signal.c: what the program says about signals, heard first.
 *
 * Two things must not show: that a watched signal has a handler of ours, and
 * that a signal which every thread blocks was taken (pending.c).  So whatever
 * sets or shows a disposition goes through signal_action(), and whatever
 * unblocks, waits for or looks for a signal first has it given back.  Where
 * libc only passes a call on, so do we; while nothing is watched that is all.
 *
 * The waits are cancellation points, as libc's are: by asynchronous
 * cancellation for the time of the call.
 */
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "export.h"
#include "kq.h"
#include "ktime.h"
#include "signals.h"

/* siginterrupt(): signals whose handlers signal() installs to interrupt. */
static uint64_t interrupting;

/* The signal number is one; else EINVAL. */
static bool
valid(int signo)
{
	if (signo >= 1 && signo <= LAST_SIGNAL)
		return true;
	errno = EINVAL;
	return false;
}

static void
set_of(sigset_t *set, int signo)
{
	sigemptyset(set);
	sigaddset(set, signo);
}

/* -- dispositions ---------------------------------------------------------- */

KQ_EXPORT BARE_CODE int
sigaction(int signo, const struct sigaction *restrict action,
    struct sigaction *restrict old)
{
	return signal_action(signo, action, old);
}

/* The handler that was there, SIG_ERR with errno. */
static sighandler_t
replace(int signo, const struct sigaction *action)
{
	struct sigaction old;

	if (signal_action(signo, action, &old) == -1)
		return SIG_ERR;
	return old.sa_handler;
}

KQ_EXPORT sighandler_t
signal(int signo, sighandler_t handler)
{
	struct sigaction action = { .sa_handler = handler };

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (!valid(signo))
		return SIG_ERR;
	set_of(&action.sa_mask, signo);
	if ((__atomic_load_n(&interrupting, __ATOMIC_RELAXED) &
		signal_bit(signo)) == 0)
		action.sa_flags = SA_RESTART;
	return replace(signo, &action);
}

/* glibc has both of these under more names. */
KQ_EXPORT sighandler_t bsd_signal(int signo, sighandler_t handler);
KQ_EXPORT sighandler_t __sysv_signal(int signo, sighandler_t handler);

KQ_EXPORT sighandler_t
bsd_signal(int signo, sighandler_t handler)
{
	return signal(signo, handler);
}

KQ_EXPORT sighandler_t
ssignal(int signo, sighandler_t handler)
{
	return signal(signo, handler);
}

KQ_EXPORT sighandler_t
__sysv_signal(int signo, sighandler_t handler)
{
	struct sigaction action = { .sa_handler = handler,
		.sa_flags = (int)(SA_RESETHAND | SA_NODEFER) };

	if (handler == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	sigemptyset(&action.sa_mask);
	return replace(signo, &action);
}

KQ_EXPORT sighandler_t
sysv_signal(int signo, sighandler_t handler)
{
	return __sysv_signal(signo, handler);
}

KQ_EXPORT int
siginterrupt(int signo, int interrupt)
{
	struct sigaction action;

	if (!valid(signo) || signal_action(signo, NULL, &action) == -1)
		return -1;
	if (interrupt) {
		__atomic_or_fetch(&interrupting, signal_bit(signo),
		    __ATOMIC_RELAXED);
		action.sa_flags &= ~SA_RESTART;
	} else {
		__atomic_and_fetch(&interrupting, ~signal_bit(signo),
		    __ATOMIC_RELAXED);
		action.sa_flags |= SA_RESTART;
	}
	return signal_action(signo, &action, NULL);
}

KQ_EXPORT sighandler_t
sigset(int signo, sighandler_t disposition)
{
	struct sigaction action = { .sa_handler = disposition }, now;
	sigset_t set, old;
	int how = SIG_UNBLOCK;

	if (disposition == SIG_ERR) {
		errno = EINVAL;
		return SIG_ERR;
	}
	if (!valid(signo))
		return SIG_ERR;
	set_of(&set, signo);
	if (disposition == SIG_HOLD)
		how = SIG_BLOCK;
	if (signal_action(signo, how == SIG_BLOCK ? NULL : &action, &now) ==
		-1 ||
	    sigprocmask(how, &set, &old) == -1)
		return SIG_ERR;
	return sigismember(&old, signo) ? SIG_HOLD : now.sa_handler;
}

KQ_EXPORT int
sigignore(int signo)
{
	struct sigaction action = { .sa_handler = SIG_IGN };

	sigemptyset(&action.sa_mask);
	return signal_action(signo, &action, NULL);
}

/* -- masks ----------------------------------------------------------------- */

/* 0 or an errno value; errno itself stays. */
static int
change_mask(int how, const sigset_t *set, sigset_t *old)
{
	uint64_t word = 0, opened = 0;
	int saved = errno, error = 0;

	if (set != NULL) {
		word = signal_set_of(set) & ~LIBC_SIGNALS;
		if (how == SIG_UNBLOCK)
			opened = word;
		else if (how == SIG_SETMASK)
			opened = ~word;
	}
	/* Before, so that what came later comes later. */
	pending_give_back(opened);
	if (syscall(SYS_rt_sigprocmask, how, set != NULL ? &word : NULL, old,
		KERNEL_SIGSET) == -1)
		error = errno;
	/* And after: it may have been taken just before we unblocked it. */
	pending_give_back(opened);
	errno = saved;
	return error;
}

KQ_EXPORT int
pthread_sigmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	return change_mask(how, set, old);
}

KQ_EXPORT int
sigprocmask(int how, const sigset_t *restrict set, sigset_t *restrict old)
{
	int error = change_mask(how, set, old);

	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

KQ_EXPORT int
sighold(int signo)
{
	sigset_t set;

	if (!valid(signo))
		return -1;
	set_of(&set, signo);
	return sigprocmask(SIG_BLOCK, &set, NULL);
}

KQ_EXPORT int
sigrelse(int signo)
{
	sigset_t set;

	if (!valid(signo))
		return -1;
	set_of(&set, signo);
	return sigprocmask(SIG_UNBLOCK, &set, NULL);
}

/* 4.2BSD's masks have 32 signals. */
KQ_EXPORT int
sigsetmask(int mask)
{
	sigset_t set, old;
	uint64_t word = (unsigned int)mask;

	sigemptyset(&set);
	memcpy(&set, &word, sizeof(word));
	change_mask(SIG_SETMASK, &set, &old);
	return (int)signal_set_of(&old);
}

KQ_EXPORT int
sigpending(sigset_t *set)
{
	uint64_t word, blocked;

	if (syscall(SYS_rt_sigpending, set, KERNEL_SIGSET) == -1)
		return -1;
	if (signals_held() != 0) {
		syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &blocked,
		    KERNEL_SIGSET);
		word = signal_set_of(set) | (signals_held() & blocked);
		memcpy(set, &word, sizeof(word));
	}
	return 0;
}

KQ_EXPORT int
signalfd(int fd, const sigset_t *set, int flags)
{
	int r;

	r = (int)syscall(SYS_signalfd4, fd, set, KERNEL_SIGSET, flags);
	if (r != -1)
		pending_leave(signal_set_of(set));
	return r;
}

/* -- waits ----------------------------------------------------------------- */

static BARE_CODE void
release_claim(void *claim)
{
	int saved = errno;

	pending_release(*(uint64_t *)claim);
	errno = saved;
}

/*
 * A system call that waits for signals of a set, or with them unblocked; none
 * of them is taken meanwhile.  What the call itself takes, it counts.
 */
static BARE_CODE long
wait_call(uint64_t set, long number, const long a[6])
{
	volatile uint64_t claim = pending_claim(set);
	volatile long r;
	int type;

	pthread_cleanup_push(release_claim, (void *)(uintptr_t)&claim);
	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	r = syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
	pthread_setcanceltype(type, NULL);
	if (number == SYS_KT_RT_SIGTIMEDWAIT && r > 0 &&
	    (signals_watched() & signal_bit((int)r)) != 0)
		signal_count((int)r);
	pthread_cleanup_pop(1);
	return r;
}

KQ_EXPORT int
sigtimedwait(const sigset_t *restrict set, siginfo_t *restrict info,
    const struct timespec *restrict timeout)
{
	struct ktime kt;
	int r;

	r = (int)wait_call(signal_set_of(set), SYS_KT_RT_SIGTIMEDWAIT,
	    (long[6]){ (long)set, (long)info, (long)ktime_of(&kt, timeout),
		KERNEL_SIGSET });
	/* As glibc has it: raise() looks like kill(). */
	if (r > 0 && info != NULL && info->si_code == SI_TKILL)
		info->si_code = SI_USER;
	return r;
}

KQ_EXPORT int
sigwaitinfo(const sigset_t *restrict set, siginfo_t *restrict info)
{
	return sigtimedwait(set, info, NULL);
}

KQ_EXPORT int
sigwait(const sigset_t *restrict set, int *restrict signo)
{
	int r, saved = errno, error;

	do
		r = sigtimedwait(set, NULL, NULL);
	while (r == -1 && errno == EINTR);
	error = errno;
	errno = saved;
	if (r == -1)
		return error;
	*signo = r;
	return 0;
}

/* What a call unblocks that waits with this mask. */
static uint64_t
opened_by(const sigset_t *mask)
{
	return mask == NULL ? 0 : ~signal_set_of(mask);
}

KQ_EXPORT int
sigsuspend(const sigset_t *mask)
{
	return (int)wait_call(opened_by(mask), SYS_rt_sigsuspend,
	    (long[6]){ (long)mask, KERNEL_SIGSET });
}

/* <signal.h> gives sigpause() the name __xpg_sigpause. */
KQ_EXPORT int
sigpause(int signo)
{
	sigset_t mask;

	if (!valid(signo))
		return -1;
	sigprocmask(SIG_BLOCK, NULL, &mask);
	sigdelset(&mask, signo);
	return sigsuspend(&mask);
}

KQ_EXPORT int
ppoll(struct pollfd *fds, nfds_t nfds, const struct timespec *timeout,
    const sigset_t *mask)
{
	struct ktime left; /* the kernel writes to it */

	return (int)wait_call(opened_by(mask), SYS_KT_PPOLL,
	    (long[6]){ (long)fds, (long)nfds, (long)ktime_of(&left, timeout),
		(long)mask, KERNEL_SIGSET });
}

/* ppoll() of programs that were built with _FORTIFY_SOURCE. */
KQ_EXPORT int __ppoll_chk(struct pollfd *fds, nfds_t nfds,
    const struct timespec *timeout, const sigset_t *mask, size_t size);

KQ_EXPORT int
__ppoll_chk(struct pollfd *fds, nfds_t nfds, const struct timespec *timeout,
    const sigset_t *mask, size_t size)
{
	if (size / sizeof(*fds) < nfds)
		abort();
	return ppoll(fds, nfds, timeout, mask);
}

KQ_EXPORT int
pselect(int nfds, fd_set *restrict in, fd_set *restrict out,
    fd_set *restrict except, const struct timespec *restrict timeout,
    const sigset_t *restrict mask)
{
	const struct {
		const sigset_t *set;
		size_t size;
	} sixth = { mask, KERNEL_SIGSET };
	struct ktime left;

	return (int)wait_call(opened_by(mask), SYS_KT_PSELECT6,
	    (long[6]){ nfds, (long)in, (long)out, (long)except,
		(long)ktime_of(&left, timeout), (long)&sixth });
}

KQ_EXPORT int
epoll_pwait(int epfd, struct epoll_event *events, int maxevents, int timeout,
    const sigset_t *mask)
{
	return (int)wait_call(opened_by(mask), SYS_epoll_pwait,
	    (long[6]){ epfd, (long)events, maxevents, timeout, (long)mask,
		KERNEL_SIGSET });
}

KQ_EXPORT int
epoll_pwait2(int epfd, struct epoll_event *events, int maxevents,
    const struct timespec *timeout, const sigset_t *mask)
{
	struct ktime kt;

	return (int)wait_call(opened_by(mask), SYS_epoll_pwait2,
	    (long[6]){ epfd, (long)events, maxevents,
		(long)ktime_of(&kt, timeout), (long)mask, KERNEL_SIGSET });
}
