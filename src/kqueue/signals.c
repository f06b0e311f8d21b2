/*
 * signals.c: the signals that queues watch, observed and not taken.
 *
 * A watched signal that has something to do in the program, or nothing, is
 * caught by hook(), which counts it and then does what the program wants: its
 * handler, with the flags and the mask that the program gave, or nothing.  The
 * program goes on seeing its own disposition, which is kept here.
 *
 *	kernel ---> hook() ---> w_total, w_wake ---> each queue's epoll
 *		      |
 *		      +-------> the program's handler
 *
 * What the program leaves to the default action is hooked only if that is to
 * ignore or to stop; a fatal one kills as ever and nobody is left to count.
 *
 * Invariants
 *  1 A signal is hooked only while w_queues is not 0.
 *  2 hook() takes the lock only to change a disposition (SA_RESETHAND, the
 *    default stop) or to give back signals; else it works beside any writer.
 *  3 w_wake stays open for the life of the process: a handler may be late.
 *  4 The disposition in w_app[w_version & 1] is whole, at a fork as well.
 *
 * DIVERGES: SIGTTIN, SIGTTOU and the signals of faults are not counted while
 * they are ignored: the kernel asks about them before it acts, so a hook would
 * change what the program does.  kqueue(2), EVFILT_SIGNAL.
 *
 * DIVERGES: a standard signal that is sent again before it was delivered is
 * merged by the kernel and counts once.  kqueue(2), EVFILT_SIGNAL.
 */
#include <sys/eventfd.h>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <ucontext.h>
#include <unistd.h>

#include "kq.h"
#include "signals.h"

struct watched {
	uint64_t w_total;          /* how often it was sent */
	uint32_t w_owed;           /* of those on their way, counted before */
	uint32_t w_queues;         /* that watch it; the lock */
	int w_wake;                /* eventfd + 1, or 0: none yet */
	uint32_t w_version;        /* of the disposition */
	struct sigaction w_app[2]; /* the program's disposition */
};

uint64_t signals_watched_word;

static struct watched table[LAST_SIGNAL + 1];
static struct lock signals_word;
static pid_t owner;          /* the process whose queues watch */
static uint32_t watch_epoch; /* odd: a first watch begins or a last one ends */
static uint32_t plain; /* signals_plain_begin() without its end; the lock */
static bool handlers;  /* atomic: the program has one, or had */

/* What hook() found since signal_wait_begin(), in this thread. */
enum { MARK_IGNORED = 1, MARK_CAUGHT = 2 };
static _Thread_local volatile unsigned char marks
    __attribute__((tls_model("initial-exec")));

static int (*real_sigaction)(int, const struct sigaction *, struct sigaction *);

static void hook(int signo, siginfo_t *info, void *context);

/* -- the real thing -------------------------------------------------------- */

extern void *dlsym(void *, const char *) __attribute__((weak));

/* A static program has one name for it, and no dlsym(). */
__attribute__((constructor)) BARE_CODE static void
find_real(void)
{
	void *found = NULL;

	if (dlsym != NULL)
		found = dlsym(RTLD_NEXT, "sigaction");
	if (found != NULL)
		memcpy(&real_sigaction, &found, sizeof(found));
	else
		real_sigaction = libc_sigaction;
}

/* -- the lock -------------------------------------------------------------- */

BARE_CODE void
signals_lock(uint64_t *mask)
{
	uint64_t all = UINT64_MAX;

	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, mask, KERNEL_SIGSET);
	lock_take(&signals_word);
}

BARE_CODE void
signals_unlock(const uint64_t *mask)
{
	int saved = errno;

	lock_drop(&signals_word);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, mask, NULL, KERNEL_SIGSET);
	errno = saved;
}

BARE_CODE bool
signals_mine(void)
{
	return syscall(SYS_getpid) == __atomic_load_n(&owner, __ATOMIC_SEQ_CST);
}

/* -- dispositions ---------------------------------------------------------- */

enum default_action { IGNORE, STOP, FATAL };

static BARE_CODE enum default_action
default_action(int signo)
{
	switch (signo) {
	case SIGCHLD:
	case SIGCONT:
	case SIGURG:
	case SIGWINCH:
		return IGNORE;
	case SIGTSTP:
	case SIGTTIN:
	case SIGTTOU:
		return STOP;
	default:
		return FATAL;
	}
}

/* Nobody can catch it; a watch is accepted and never fires. */
static bool
uncatchable(int signo)
{
	return signo == SIGKILL || signo == SIGSTOP ||
	    (signal_bit(signo) & LIBC_SIGNALS) != 0;
}

/* What the thread itself did wrong; so none comes while it waits. */
static BARE_CODE bool
is_fault(int signo)
{
	switch (signo) {
	case SIGSEGV:
	case SIGBUS:
	case SIGFPE:
	case SIGILL:
	case SIGTRAP:
	case SIGSYS:
		return true;
	default:
		return false;
	}
}

/* The kernel asks whether it is ignored, and acts otherwise if it is. */
static bool
must_be_ignored(int signo)
{
	return signo == SIGTTIN || signo == SIGTTOU || is_fault(signo);
}

/* The part of a disposition that hook() goes by. */
struct response {
	void (*handler)(int);
	int flags;
};

static BARE_CODE struct response
app_response(const struct watched *w)
{
	const struct sigaction *app;
	struct response r;
	uint32_t version;

	do {
		version = __atomic_load_n(&w->w_version, __ATOMIC_ACQUIRE);
		app = &w->w_app[version & 1];
		r.handler = __atomic_load_n(&app->sa_handler, __ATOMIC_ACQUIRE);
		r.flags = __atomic_load_n(&app->sa_flags, __ATOMIC_ACQUIRE);
	} while (version != __atomic_load_n(&w->w_version, __ATOMIC_ACQUIRE));
	return r;
}

static struct sigaction *
app_now(struct watched *w)
{
	return &w->w_app[w->w_version & 1];
}

/* With the lock held. */
static void
app_set(struct watched *w, const struct sigaction *action)
{
	struct sigaction *next = &w->w_app[(w->w_version + 1) & 1];

	next->sa_mask = action->sa_mask;
	__atomic_store_n(&next->sa_handler, action->sa_handler,
	    __ATOMIC_RELEASE);
	__atomic_store_n(&next->sa_flags, action->sa_flags, __ATOMIC_RELEASE);
	__atomic_store_n(&w->w_version, w->w_version + 1, __ATOMIC_RELEASE);
}

static BARE_CODE bool
is_ignored(int signo, void (*handler)(int))
{
	return handler == SIG_IGN ||
	    (handler == SIG_DFL && default_action(signo) == IGNORE);
}

static bool
wants_hook(int signo, const struct sigaction *app)
{
	if (app->sa_handler == SIG_IGN)
		return plain == 0 && !must_be_ignored(signo);
	return app->sa_handler != SIG_DFL || default_action(signo) != FATAL;
}

/* Make the kernel's disposition what the program's calls for; with the lock. */
static int
install(int signo)
{
	struct watched *w = &table[signo];
	struct sigaction action = *app_now(w);

	if (wants_hook(signo, &action)) {
		/*
		 * Who ignores a signal does not expect to see calls fail or
		 * stacks overflow by it.
		 */
		if (is_ignored(signo, action.sa_handler)) {
			action.sa_flags |= SA_RESTART | SA_ONSTACK;
			sigfillset(&action.sa_mask);
		}
		if (signo == SIGCHLD && action.sa_handler == SIG_IGN)
			action.sa_flags |= SA_NOCLDWAIT;
		action.sa_flags &= ~(int)SA_RESETHAND;
		action.sa_flags |= SA_SIGINFO;
		action.sa_sigaction = hook;
	} else if (action.sa_handler == SIG_IGN)
		__atomic_store_n(&w->w_owed, 0, __ATOMIC_SEQ_CST);
	return real_sigaction(signo, &action, NULL);
}

static BARE_CODE bool
is_hook(const struct sigaction *action)
{
	return (action->sa_flags & SA_SIGINFO) != 0 &&
	    action->sa_sigaction == hook;
}

/* sigaction() of a signal that is watched, with the lock held. */
static int
watched_action(int signo, const struct sigaction *action, struct sigaction *old)
{
	struct watched *w = &table[signo];
	struct sigaction given;
	int r;

	if (w->w_queues == 0)
		return real_sigaction(signo, action, old);
	if (action != NULL)
		given = *action;
	if (old != NULL)
		*old = *app_now(w);
	if (action == NULL)
		return 0;
	app_set(w, &given);
	r = install(signo);
	if (is_ignored(signo, given.sa_handler))
		pending_discard(signo);
	return r;
}

/*
 * A vforked child has signals of its own, which the kernel keeps, but our
 * memory: what it changes is nothing to the table.
 */
static BARE_CODE int
vforked_action(int signo, const struct sigaction *action, struct sigaction *old)
{
	struct sigaction now;

	if (real_sigaction(signo, action, &now) == -1)
		return -1;
	if (old != NULL)
		*old = is_hook(&now) ? *app_now(&table[signo]) : now;
	return 0;
}

/* Can it end a wait?  Those of faults are installed by sanitizers, too. */
static BARE_CODE bool
is_handler(int signo, void (*handler)(int))
{
	return handler != SIG_DFL && handler != SIG_IGN && !is_fault(signo);
}

BARE_CODE int
signal_action(int signo, const struct sigaction *action, struct sigaction *old)
{
	uint32_t epoch = __atomic_load_n(&watch_epoch, __ATOMIC_SEQ_CST);
	uint64_t bit, mask;
	bool watched;
	int r = 0;

	if (real_sigaction == NULL)
		find_real();
	if (action != NULL && is_handler(signo, action->sa_handler))
		__atomic_store_n(&handlers, true, __ATOMIC_RELAXED);
	bit = signo < 1 || signo > LAST_SIGNAL ? 0 : signal_bit(signo);
	watched =
	    bit != 0 && ((epoch & 1) != 0 || (signals_watched() & bit) != 0);
	if (!watched) {
		r = real_sigaction(signo, action, old);
		if (r == -1 || bit == 0 ||
		    epoch == __atomic_load_n(&watch_epoch, __ATOMIC_SEQ_CST))
			return r;
	}
	if (process_is_vforked())
		return watched ? vforked_action(signo, action, old) : r;
	/* Watched, or a watch began or ended beside us: once more, alone. */
	signals_lock(&mask);
	if (watched)
		r = watched_action(signo, action, old);
	else {
		if (old != NULL && is_hook(old))
			*old = *app_now(&table[signo]);
		if (action != NULL)
			r = watched_action(signo, action, NULL);
	}
	signals_unlock(&mask);
	return r;
}

/* -- counting -------------------------------------------------------------- */

BARE_CODE int
signal_wake(int signo)
{
	return __atomic_load_n(&table[signo].w_wake, __ATOMIC_SEQ_CST) - 1;
}

BARE_CODE void
signal_kick(int signo)
{
	uint64_t one = 1;
	int saved = errno;

	syscall(SYS_write, signal_wake(signo), &one, sizeof(one));
	errno = saved;
}

BARE_CODE void
signal_count(int signo)
{
	struct watched *w = &table[signo];
	uint32_t owed = __atomic_load_n(&w->w_owed, __ATOMIC_SEQ_CST);

	while (owed != 0)
		if (__atomic_compare_exchange_n(&w->w_owed, &owed, owed - 1, 0,
			__ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
			return;
	__atomic_add_fetch(&w->w_total, 1, __ATOMIC_SEQ_CST);
	signal_kick(signo);
}

BARE_CODE void
signal_owe(int signo)
{
	__atomic_add_fetch(&table[signo].w_owed, 1, __ATOMIC_SEQ_CST);
}

BARE_CODE void
signal_unowe(int signo)
{
	uint32_t owed = __atomic_load_n(&table[signo].w_owed, __ATOMIC_SEQ_CST);

	while (owed != 0 &&
	    !__atomic_compare_exchange_n(&table[signo].w_owed, &owed, owed - 1,
		0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		continue;
}

uint64_t
signal_total(int signo)
{
	return __atomic_load_n(&table[signo].w_total, __ATOMIC_SEQ_CST);
}

/* -- the handler ----------------------------------------------------------- */

/*
 * Stop, as the kernel would have: it alone knows when a stop is not due
 * (orphaned process groups).  All threads stop, so the lock harms nobody.
 */
static void
stop(int signo)
{
	uint64_t mask, only = signal_bit(signo), all = UINT64_MAX;
	struct sigaction action = { .sa_handler = SIG_DFL };

	signals_lock(&mask);
	if (app_now(&table[signo])->sa_handler == SIG_DFL) {
		real_sigaction(signo, &action, NULL);
		syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid),
		    signo);
		syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &only, NULL,
		    KERNEL_SIGSET);
		syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, NULL,
		    KERNEL_SIGSET);
		if (table[signo].w_queues != 0)
			install(signo);
	}
	signals_unlock(&mask);
}

/* SA_RESETHAND: whoever finds the handler still there calls it. */
static bool
reset_handler(int signo, const struct response *r)
{
	struct watched *w = &table[signo];
	struct sigaction action;
	uint64_t mask;
	bool mine;

	signals_lock(&mask);
	action = *app_now(w);
	mine = action.sa_handler == r->handler && action.sa_flags == r->flags;
	if (mine) {
		action.sa_handler = SIG_DFL;
		app_set(w, &action);
		if (w->w_queues != 0)
			install(signo);
		else
			real_sigaction(signo, &action, NULL);
	}
	signals_unlock(&mask);
	return mine;
}

/* The default action of a signal that was caught by the hook. */
static BARE_CODE void
act_by_default(int signo)
{
	switch (default_action(signo)) {
	case IGNORE:
		break;
	case STOP:
		stop(signo);
		break;
	case FATAL:
		/* The disposition changed under way; no hook any more. */
		syscall(SYS_tgkill, syscall(SYS_getpid), syscall(SYS_gettid),
		    signo);
		break;
	}
}

static BARE_CODE void
hook(int signo, siginfo_t *info, void *context)
{
	struct watched *w = &table[signo];
	ucontext_t *interrupted = context;
	struct response r;
	int saved = errno;

	/* A vforked child has our memory and signals of its own. */
	if (signals_mine())
		signal_count(signo);
	do
		r = app_response(w);
	while ((r.flags & SA_RESETHAND) && r.handler != SIG_DFL &&
	    r.handler != SIG_IGN && !reset_handler(signo, &r));
	errno = saved;
	if (is_ignored(signo, r.handler))
		marks |= MARK_IGNORED;
	else if (r.handler == SIG_DFL)
		act_by_default(signo);
	else {
		marks |= MARK_CAUGHT;
		/* The kernel, too, passes all three to either kind. */
		((void (*)(int, siginfo_t *, void *))(
		    void (*)(void))r.handler)(signo, info, context);
		saved = errno;
	}
	if (signals_held() & ~signal_set_of(&interrupted->uc_sigmask))
		pending_give_back(~signal_set_of(&interrupted->uc_sigmask));
	errno = saved;
}

void
signal_wait_begin(void)
{
	marks = 0;
}

bool
signal_only_ignored(void)
{
	bool only_ignored = marks == MARK_IGNORED;

	marks = 0;
	return only_ignored;
}

/*
 * Of a handler that has gone only signal_action() knows; of one that came by
 * another way, only the kernel.
 */
bool
signal_has_handlers(void)
{
	struct sigaction now;
	int signo;

	for (signo = 1; signo <= LAST_SIGNAL &&
	     !__atomic_load_n(&handlers, __ATOMIC_RELAXED);
	     signo++)
		if (signal_action(signo, NULL, &now) == 0 &&
		    is_handler(signo, now.sa_handler))
			__atomic_store_n(&handlers, true, __ATOMIC_RELAXED);
	return __atomic_load_n(&handlers, __ATOMIC_RELAXED);
}

/* -- watching -------------------------------------------------------------- */

/* A program that closes what it did not open may have closed the eventfd. */
static int
wake_open(struct watched *w)
{
	int fd;

	if (w->w_wake != 0 && syscall(SYS_fcntl, w->w_wake - 1, F_GETFD) != -1)
		return 0;
	/* Raw, as fd_close() is: a sanitizer sees both or neither. */
	fd = fd_move_high(
	    (int)syscall(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC));
	if (fd == -1)
		return errno;
	__atomic_store_n(&w->w_wake, fd + 1, __ATOMIC_SEQ_CST);
	return 0;
}

/* The first queue watches; with the lock held. */
static int
watch_first(int signo)
{
	struct watched *w = &table[signo];
	struct sigaction action;
	int error;

	if (real_sigaction == NULL)
		find_real();
	if ((error = wake_open(w)) != 0 || uncatchable(signo))
		return error;
	__atomic_store_n(&owner, (pid_t)syscall(SYS_getpid), __ATOMIC_SEQ_CST);
	if (real_sigaction(signo, NULL, &action) == -1)
		return errno;
	app_set(w, &action);
	/* First the word: from here on the wrappers ask for the lock. */
	__atomic_or_fetch(&signals_watched_word, signal_bit(signo),
	    __ATOMIC_SEQ_CST);
	return install(signo) == -1 ? errno : 0;
}

int
signal_watch(int signo)
{
	struct watched *w = &table[signo];
	uint64_t mask;
	int error = 0;

	signals_lock(&mask);
	if (w->w_queues == 0) {
		__atomic_add_fetch(&watch_epoch, 1, __ATOMIC_SEQ_CST);
		error = watch_first(signo);
		if (error != 0)
			__atomic_and_fetch(&signals_watched_word,
			    ~signal_bit(signo), __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&watch_epoch, 1, __ATOMIC_SEQ_CST);
	}
	if (error == 0)
		w->w_queues++;
	signals_unlock(&mask);
	/* What is pending was sent before, and is not this queue's to count. */
	if (error == 0)
		pending_look(signal_bit(signo));
	return error;
}

void
signal_unwatch(int signo)
{
	struct watched *w = &table[signo];
	struct sigaction action;
	uint64_t mask;

	signals_lock(&mask);
	if (--w->w_queues == 0 && !uncatchable(signo)) {
		__atomic_add_fetch(&watch_epoch, 1, __ATOMIC_SEQ_CST);
		/* Unless a sigaction() that asked for no lock was there. */
		if (real_sigaction(signo, NULL, &action) == 0 &&
		    is_hook(&action))
			real_sigaction(signo, app_now(w), NULL);
		pending_forget(signo);
		__atomic_store_n(&w->w_owed, 0, __ATOMIC_SEQ_CST);
		__atomic_and_fetch(&signals_watched_word, ~signal_bit(signo),
		    __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&watch_epoch, 1, __ATOMIC_SEQ_CST);
	}
	signals_unlock(&mask);
}

/* -- processes that inherit ------------------------------------------------ */

/* Install anew what the program ignores. */
static void
reinstall_ignored(void)
{
	uint64_t set;
	int signo;

	for (set = signals_watched(); set != 0; set &= set - 1) {
		signo = signal_first(set);
		if (app_now(&table[signo])->sa_handler == SIG_IGN)
			install(signo);
	}
}

void
signals_plain_begin(void)
{
	uint64_t mask;

	signals_lock(&mask);
	if (plain++ == 0)
		reinstall_ignored();
	signals_unlock(&mask);
}

void
signals_plain_end(void)
{
	uint64_t mask;

	signals_lock(&mask);
	if (--plain == 0)
		reinstall_ignored();
	signals_unlock(&mask);
}

/*
 * The memory may be that of a parent that waits in vfork(), and execve() may
 * not return: no lock, and nothing written down.
 */
static void
exec_dispositions(void (*handler)(int, siginfo_t *, void *))
{
	struct sigaction action = { .sa_flags = SA_RESTART | SA_ONSTACK };
	uint64_t set;
	int signo;

	for (set = signals_watched(); set != 0; set &= set - 1) {
		signo = signal_first(set);
		if (app_response(&table[signo]).handler != SIG_IGN ||
		    must_be_ignored(signo))
			continue;
		if (handler == NULL)
			action.sa_handler = SIG_IGN;
		else {
			action.sa_sigaction = handler;
			action.sa_flags |=
			    SA_SIGINFO | (signo == SIGCHLD ? SA_NOCLDWAIT : 0);
			sigfillset(&action.sa_mask);
		}
		real_sigaction(signo, &action, NULL);
	}
}

void
signals_exec_begin(void)
{
	if (signals_mine() && signals_held() != 0)
		pending_give_back(signals_watched());
	exec_dispositions(NULL);
}

void
signals_exec_failed(void)
{
	exec_dispositions(hook);
}

void
signal_fork_child(void)
{
	struct watched *w;
	uint64_t set;
	int signo;

	for (set = signals_watched(); set != 0; set &= set - 1) {
		signo = signal_first(set);
		real_sigaction(signo, app_now(&table[signo]), NULL);
	}
	signals_watched_word = 0;
	for (w = table; w <= &table[LAST_SIGNAL]; w++) {
		if (w->w_wake != 0)
			fd_close(w->w_wake - 1);
		w->w_wake = 0;
		w->w_queues = w->w_owed = 0;
	}
	signals_word.l_word = plain = watch_epoch = 0;
	pending_fork_child();
}
