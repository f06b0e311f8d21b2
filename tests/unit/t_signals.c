/*
 * t_signals.c: EVFILT_SIGNAL observes and does not take.
 *
 * What the conformance tests cannot say on every system: that a signal which
 * all threads block is still there for whoever wants it, that the program sees
 * its own dispositions and the processes that it makes inherit them, and that
 * its handlers run as they would.
 */
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PACED 2000
#define DEADLINE_S 20

/* The argument with which this program is only a child that looks. */
#define CHILD "--is-ignored"

/*
 * The thread sanitizer runs handlers when it sees fit, merged and not nested:
 * what they count and where they run is then not the kernel's doing.
 */
#ifdef __SANITIZE_THREAD__
#define HANDLERS_LATE 1
#else
#define HANDLERS_LATE 0
#endif

static int kq;
static char self[4096];

/* -- what the tests share
 * ------------------------------------------------------ */

static void
change(int queue, int signo, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)signo, EVFILT_SIGNAL, flags, 0, 0, NULL);
	ck_assert_int_eq(kevent(queue, &ev, 1, NULL, 0, NULL), 0);
}

/* A queue that watches. */
static void
watch(int signo)
{
	if (kq == -1)
		kq = kqueue();
	ck_assert_int_ne(kq, -1);
	change(kq, signo, EV_ADD);
}

/* data of the next event, which must be of this signal; 0: there is none. */
static int
look(int queue, int signo, time_t seconds)
{
	struct timespec ts = { .tv_sec = seconds };
	struct kevent ev;
	int n;

	do
		n = kevent(queue, NULL, 0, &ev, 1, &ts);
	while (n == -1 && errno == EINTR);
	ck_assert_int_ge(n, 0);
	if (n == 0)
		return 0;
	ck_assert_uint_eq(ev.ident, (uintptr_t)signo);
	ck_assert_int_eq((short)ev.filter, EVFILT_SIGNAL);
	ck_assert_uint_eq(ev.fflags, 0);
	return (int)ev.data;
}

#define counted(signo) look(kq, signo, DEADLINE_S)
#define none(signo) ck_assert_int_eq(look(kq, signo, 0), 0)

static int calls; /* of a handler, by any thread */
static siginfo_t last;

#define ran() __atomic_load_n(&calls, __ATOMIC_SEQ_CST)

static int
run(void)
{
	return __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
}

static void
plain_handler(int signo)
{
	(void)signo;
	run();
}

static void
info_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	run();
	last = *info;
}

/* Of whatever thread. */
static void
storm_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)info;
	(void)context;
	run();
}

static void
handle(int signo, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler,
		.sa_flags = flags | SA_SIGINFO };

	ck_assert_int_eq(sigaction(signo, &action, NULL), 0);
}

static sigset_t
only(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	return set;
}

static void
mask(int how, int signo)
{
	sigset_t set = only(signo);

	ck_assert_int_eq(sigprocmask(how, &set, NULL), 0);
}

static void
send_value(int signo, int value)
{
	ck_assert_int_eq(sigqueue(getpid(), signo,
			     (union sigval){ .sival_int = value }),
	    0);
}

static void
check_info(const siginfo_t *info, int value)
{
	ck_assert_int_eq(info->si_code, SI_QUEUE);
	ck_assert_int_eq(info->si_pid, getpid());
	ck_assert_int_eq(info->si_value.sival_int, value);
}

/* Does the kernel have a handler for it?  It alone knows the truth. */
static bool
caught_by_kernel(int signo)
{
	char line[256];
	unsigned long long set = 0;
	FILE *f = fopen("/proc/self/status", "r");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "SigCgt:", 7) == 0)
			set = strtoull(line + 7, NULL, 16);
	fclose(f);
	return (set >> (signo - 1) & 1) != 0;
}

/* A blocked signal, watched, sent with a value and returned by kevent(). */
static void
take_one(int signo, int value)
{
	mask(SIG_BLOCK, signo);
	watch(signo);
	send_value(signo, value);
	ck_assert_int_eq(counted(signo), 1);
}

/* -- blocked by every thread
 * ------------------------------------------------------ */

START_TEST(blocked_counts_every_send)
{
	int i;

	mask(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	for (i = 0; i < 100; i++) {
		kill(getpid(), SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
	}
	none(SIGUSR1);
}
END_TEST

START_TEST(unblocked_runs_the_handler_once)
{
	handle(SIGUSR1, info_handler, 0);
	take_one(SIGUSR1, 42);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 0);
	mask(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(ran(), 1);
	check_info(&last, 42);
	none(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 2);
}
END_TEST

START_TEST(setmask_gives_back)
{
	sigset_t empty;

	sigemptyset(&empty);
	handle(SIGUSR1, info_handler, 0);
	take_one(SIGUSR1, 7);
	ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, &empty, NULL), 0);
	ck_assert_int_eq(ran(), 1);
	check_info(&last, 7);
	none(SIGUSR1);
}
END_TEST

START_TEST(pending_is_shown)
{
	sigset_t set;

	take_one(SIGUSR1, 1);
	ck_assert_int_eq(sigpending(&set), 0);
	ck_assert(sigismember(&set, SIGUSR1));
	ck_assert(!sigismember(&set, SIGUSR2));
}
END_TEST

START_TEST(ignoring_discards)
{
	sigset_t set;

	take_one(SIGUSR1, 1);
	kill(getpid(), SIGUSR1);
	signal(SIGUSR1, SIG_IGN);
	ck_assert_int_eq(sigpending(&set), 0);
	ck_assert(!sigismember(&set, SIGUSR1));
	ck_assert_int_eq(counted(SIGUSR1), 1);
	handle(SIGUSR1, info_handler, 0);
	mask(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(ran(), 0);
}
END_TEST

START_TEST(waited_for)
{
	struct timespec zero = { 0 };
	sigset_t set = only(SIGUSR1);
	siginfo_t info;
	int signo;

	take_one(SIGUSR1, 1);
	ck_assert_int_eq(sigtimedwait(&set, &info, &zero), SIGUSR1);
	check_info(&info, 1);
	send_value(SIGUSR1, 2);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(sigwaitinfo(&set, &info), SIGUSR1);
	check_info(&info, 2);
	send_value(SIGUSR1, 3);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(sigwait(&set, &signo), 0);
	ck_assert_int_eq(signo, SIGUSR1);
	none(SIGUSR1);
	/* Taken before kevent() could see it, and counted all the same. */
	send_value(SIGUSR1, 4);
	ck_assert_int_eq(sigwaitinfo(&set, &info), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(sigtimedwait(&set, &info, &zero), -1);
	ck_assert_int_eq(errno, EAGAIN);
	none(SIGUSR1);
}
END_TEST

START_TEST(real_time_in_order)
{
	struct timespec zero = { 0 };
	sigset_t set = only(SIGRTMIN + 1);
	siginfo_t info;
	int i, sum = 0;

	mask(SIG_BLOCK, SIGRTMIN + 1);
	watch(SIGRTMIN + 1);
	for (i = 0; i < 20; i++)
		send_value(SIGRTMIN + 1, i);
	ck_assert_int_eq(counted(SIGRTMIN + 1), 20);
	for (; i < 25; i++)
		send_value(SIGRTMIN + 1, i);
	for (i = 0; i < 25; i++) {
		ck_assert_int_eq(sigtimedwait(&set, &info, &zero),
		    SIGRTMIN + 1);
		check_info(&info, i);
	}
	while ((i = look(kq, SIGRTMIN + 1, 0)) > 0)
		sum += i;
	ck_assert_int_eq(sum, 5);
}
END_TEST

START_TEST(signalfd_shows_it)
{
	struct signalfd_siginfo info;
	sigset_t set = only(SIGUSR1);
	int fd;

	take_one(SIGUSR1, 5);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	ck_assert_int_eq(read(fd, &info, sizeof(info)), (int)sizeof(info));
	ck_assert_int_eq(info.ssi_int, 5);
	none(SIGUSR1);
	/* From now on it is counted, and left for the signalfd. */
	send_value(SIGUSR1, 6);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	none(SIGUSR1);
	ck_assert_int_eq(read(fd, &info, sizeof(info)), (int)sizeof(info));
	ck_assert_int_eq(info.ssi_int, 6);
	none(SIGUSR1);
	send_value(SIGUSR1, 7);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

/* Calls that wait with nothing blocked: all of them are interrupted. */
static int
wait_sigsuspend(const sigset_t *set)
{
	return sigsuspend(set);
}

static int
wait_ppoll(const sigset_t *set)
{
	return ppoll(NULL, 0, NULL, set);
}

static int
wait_pselect(const sigset_t *set)
{
	return pselect(0, NULL, NULL, NULL, NULL, set);
}

static int
wait_epoll(const sigset_t *set)
{
	struct epoll_event ev;

	return epoll_pwait(epoll_create1(0), &ev, 1, -1, set);
}

static int (*const waits[])(const sigset_t *) = { wait_sigsuspend, wait_ppoll,
	wait_pselect, wait_epoll };

START_TEST(waited_with)
{
	sigset_t empty;

	sigemptyset(&empty);
	handle(SIGUSR1, info_handler, SA_RESTART);
	take_one(SIGUSR1, 9);
	ck_assert_int_eq(waits[_i](&empty), -1);
	ck_assert_int_eq(errno, EINTR);
	ck_assert_int_eq(ran(), 1);
	check_info(&last, 9);
	none(SIGUSR1);
	send_value(SIGUSR1, 10);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

static void *
cancelled_wait(void *arg)
{
	sigset_t set = only(SIGUSR1);
	int signo;

	(void)arg;
	sigwait(&set, &signo);
	return NULL;
}

START_TEST(wait_is_a_cancellation_point)
{
	pthread_t thread;
	void *result;

	mask(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	ck_assert_int_eq(pthread_create(&thread, NULL, cancelled_wait, NULL),
	    0);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
	/* Its claim has gone with it. */
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

START_TEST(sent_before_the_watch)
{
	int other = kqueue();

	handle(SIGUSR1, info_handler, 0);
	mask(SIG_BLOCK, SIGUSR1);
	send_value(SIGUSR1, 11);
	watch(SIGUSR1);
	none(SIGUSR1);
	kill(getpid(), SIGUSR1);
	change(other, SIGUSR1, EV_ADD);
	ck_assert_int_eq(look(other, SIGUSR1, 0), 0);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	mask(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(ran(), 1);
	check_info(&last, 11);
}
END_TEST

START_TEST(the_last_watch_gives_back)
{
	handle(SIGUSR1, info_handler, 0);
	take_one(SIGUSR1, 12);
	change(kq, SIGUSR1, EV_DELETE);
	mask(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(ran(), 1);
	check_info(&last, 12);
}
END_TEST

/* kevent() in a handler, during which the handler's own signal is blocked. */
static int seen;

static void
looking_handler(int signo, siginfo_t *info, void *context)
{
	static const struct timespec now;
	struct kevent ev;

	(void)info;
	(void)context;
	if (run() == 1) {
		kill(getpid(), signo);
		while (kevent(kq, NULL, 0, &ev, 1, &now) == 1)
			seen += (int)ev.data;
	}
}

START_TEST(a_handler_that_returns_unblocks)
{
	handle(SIGUSR1, looking_handler, 0);
	watch(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(ran(), 2);
	if (!HANDLERS_LATE)
		ck_assert_int_eq(seen, 2);
	none(SIGUSR1);
}
END_TEST

/* -- threads
 * ------------------------------------------------------------------------ */

static int gate[2];

static void *
idle(void *arg)
{
	char c;

	while (read(gate[0], &c, 1) == -1)
		ck_assert_int_eq(errno, EINTR);
	return arg;
}

START_TEST(thread_older_than_the_watch)
{
	pthread_t thread;
	int i;

	signal(SIGUSR1, _i == 0 ? SIG_IGN : plain_handler);
	ck_assert_int_eq(pipe(gate), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, idle, NULL), 0);
	watch(SIGUSR1);
	for (i = 0; i < 100; i++) {
		pthread_kill(thread, SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
	}
	none(SIGUSR1);
	ck_assert_int_eq(write(gate[1], "", 1), 1);
	pthread_join(thread, NULL);
	if (_i == 0 || !HANDLERS_LATE)
		ck_assert_int_eq(ran(), _i == 0 ? 0 : 100);
}
END_TEST

static void
sender(int signo, int acks)
{
	char c;
	int i;

	for (i = 0; i < PACED; i++)
		if (kill(getppid(), signo) == -1 || read(acks, &c, 1) != 1)
			_exit(1);
	_exit(0);
}

/* From another process, each send after the one before was returned. */
START_TEST(paced_is_exact)
{
	static void (*const handlers[])(int) = { SIG_IGN, plain_handler };
	int acks[2], status, i;
	pid_t pid;

	ck_assert_int_eq(pipe(acks), 0);
	signal(SIGUSR1, _i < 2 ? handlers[_i] : SIG_DFL);
	if (_i == 2)
		mask(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	if ((pid = fork()) == 0)
		sender(SIGUSR1, acks[0]);
	for (i = 0; i < PACED; i++) {
		ck_assert_int_eq(counted(SIGUSR1), 1);
		if (_i == 1)
			ck_assert_int_eq(ran(), i + 1);
		ck_assert_int_eq(write(acks[1], "", 1), 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	none(SIGUSR1);
}
END_TEST

static int received[2];

/* Everything that it takes it tells. */
static void *
signal_thread(void *arg)
{
	sigset_t set = only(SIGUSR1);
	int signo;

	do {
		ck_assert_int_eq(sigwait(&set, &signo), 0);
		ck_assert_int_eq(write(received[1], "", 1), 1);
	} while (__atomic_load_n((bool *)arg, __ATOMIC_RELAXED));
	return NULL;
}

START_TEST(sigwait_takes_and_it_counts)
{
	static bool more = true;
	pthread_t thread;
	char c;
	int i;

	mask(SIG_BLOCK, SIGUSR1);
	ck_assert_int_eq(pipe(received), 0);
	watch(SIGUSR1);
	ck_assert_int_eq(pthread_create(&thread, NULL, signal_thread, &more),
	    0);
	for (i = 0; i < 500; i++) {
		if (i == 499)
			__atomic_store_n(&more, false, __ATOMIC_RELAXED);
		kill(getpid(), SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
		ck_assert_int_eq(read(received[0], &c, 1), 1);
	}
	pthread_join(thread, NULL);
	none(SIGUSR1);
}
END_TEST

static bool storm_ends;

static void *
storm(void *arg)
{
	int queue = kqueue();

	(void)arg;
	while (!__atomic_load_n(&storm_ends, __ATOMIC_RELAXED)) {
		handle(SIGUSR1, storm_handler, SA_RESTART);
		change(queue, SIGUSR1, EV_ADD);
		signal(SIGUSR1, SIG_IGN);
		change(queue, SIGUSR1, EV_DELETE);
	}
	handle(SIGUSR1, storm_handler, SA_RESTART);
	close(queue);
	return NULL;
}

START_TEST(sigaction_beside_delivery)
{
	pthread_t thread[2];
	struct sigaction now;
	int i;

	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, storm, NULL),
		    0);
	for (i = 0; i < PACED; i++) {
		kill(getpid(), SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
	}
	__atomic_store_n(&storm_ends, true, __ATOMIC_RELAXED);
	for (i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	none(SIGUSR1);
	ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
	ck_assert(now.sa_sigaction == storm_handler);
	i = ran();
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(ran(), i + 1);
}
END_TEST

/* Watches come and go, as the only ones, while the disposition changes. */
static void *
coming_and_going(void *arg)
{
	int queue = kqueue();

	while (!__atomic_load_n(&storm_ends, __ATOMIC_RELAXED)) {
		change(queue, SIGUSR1, EV_ADD);
		change(queue, SIGUSR1, EV_DELETE);
	}
	close(queue);
	return arg;
}

START_TEST(sigaction_beside_watches)
{
	struct sigaction old;
	pthread_t thread;
	int i;

	ck_assert_int_eq(pthread_create(&thread, NULL, coming_and_going, NULL),
	    0);
	for (i = 0; i < PACED; i++) {
		handle(SIGUSR1, storm_handler, 0);
		kill(getpid(), SIGUSR1);
		ck_assert_int_eq(sigaction(SIGUSR1, NULL, &old), 0);
		ck_assert(old.sa_sigaction == storm_handler);
		ck_assert(signal(SIGUSR1, SIG_IGN) ==
		    (sighandler_t)(uintptr_t)storm_handler);
		ck_assert(signal(SIGUSR1, SIG_IGN) == SIG_IGN);
	}
	__atomic_store_n(&storm_ends, true, __ATOMIC_RELAXED);
	pthread_join(thread, NULL);
	ck_assert_int_ge(ran(), 1);
	ck_assert(!caught_by_kernel(SIGUSR1));
}
END_TEST

struct poker {
	pthread_t whom;
	int queue;
};

static void *
poke(void *arg)
{
	struct poker *p = arg;
	struct kevent ev;
	int i;

	for (i = 0; i < 50; i++) {
		pthread_kill(p->whom, SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
	}
	EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	ck_assert_int_eq(kevent(p->queue, &ev, 1, NULL, 0, NULL), 0);
	return NULL;
}

START_TEST(ignored_does_not_interrupt)
{
	struct poker p = { .whom = pthread_self(), .queue = kqueue() };
	struct timespec ts = { .tv_sec = DEADLINE_S };
	struct kevent ev;
	pthread_t thread;

	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kevent(p.queue, &ev, 1, NULL, 0, NULL), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, poke, &p), 0);
	ck_assert_int_eq(kevent(p.queue, NULL, 0, &ev, 1, &ts), 1);
	ck_assert_int_eq((short)ev.filter, EVFILT_USER);
	pthread_join(thread, NULL);
}
END_TEST

/* -- the program's own dispositions
 * -------------------------------------------------- */

START_TEST(dispositions_are_shown)
{
	struct sigaction given = { .sa_sigaction = info_handler,
		.sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER };
	struct sigaction now;
	int round;

	given.sa_mask = only(SIGUSR2);
	ck_assert_int_eq(sigaction(SIGUSR1, &given, NULL), 0);
	for (round = 0; round < 3; round++) {
		if (round == 1)
			watch(SIGUSR1);
		if (round == 2)
			change(kq, SIGUSR1, EV_DELETE);
		ck_assert(caught_by_kernel(SIGUSR1));
		ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
		ck_assert(now.sa_sigaction == info_handler);
		ck_assert_int_eq(now.sa_flags & given.sa_flags, given.sa_flags);
		ck_assert_int_eq(now.sa_flags & (int)SA_RESETHAND, 0);
		ck_assert(sigismember(&now.sa_mask, SIGUSR2));
		ck_assert(!sigismember(&now.sa_mask, SIGHUP));
	}
	watch(SIGUSR1);
	ck_assert(
	    signal(SIGUSR1, SIG_IGN) == (sighandler_t)(uintptr_t)info_handler);
	ck_assert(caught_by_kernel(SIGUSR1));
	ck_assert(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	ck_assert(!caught_by_kernel(SIGUSR1));
	ck_assert(signal(SIGUSR1, plain_handler) == SIG_DFL);
	ck_assert_int_eq(sigignore(SIGUSR1), 0);
	ck_assert(sigset(SIGUSR1, SIG_HOLD) == SIG_IGN);
	ck_assert(sigset(SIGUSR1, plain_handler) == SIG_HOLD);
	ck_assert_int_eq(siginterrupt(SIGUSR1, 1), 0);
	ck_assert_int_eq(sigaction(SIGUSR1, NULL, &now), 0);
	ck_assert(now.sa_handler == plain_handler);
	ck_assert_int_eq(now.sa_flags & SA_RESTART, 0);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 1);
}
END_TEST

START_TEST(errors_are_as_ever)
{
	struct sigaction action = { .sa_handler = plain_handler };

	errno = 0;
	ck_assert_int_eq(sigaction(0, &action, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert_int_eq(sigaction(65, &action, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	ck_assert(signal(0, SIG_IGN) == SIG_ERR);
	ck_assert_int_eq(errno, EINVAL);
	errno = 0;
	watch(SIGKILL);
	ck_assert_int_eq(sigaction(SIGKILL, &action, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(sigprocmask(99, &action.sa_mask, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	change(kq, SIGKILL, EV_DELETE);
}
END_TEST

START_TEST(reset_handler_runs_once)
{
	struct sigaction now;

	/* The default of SIGURG is to be ignored: we live to count. */
	handle(SIGURG, info_handler, (int)SA_RESETHAND);
	watch(SIGURG);
	kill(getpid(), SIGURG);
	kill(getpid(), SIGURG);
	ck_assert_int_eq(ran(), 1);
	ck_assert_int_eq(counted(SIGURG), 2);
	ck_assert_int_eq(sigaction(SIGURG, NULL, &now), 0);
	ck_assert(now.sa_handler == SIG_DFL);
	/* That of SIGUSR1 is to die. */
	handle(SIGUSR1, info_handler, (int)SA_RESETHAND);
	watch(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(ran(), 2);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert(!caught_by_kernel(SIGUSR1));
}
END_TEST

static int depth, deepest;

static void
nesting_handler(int signo, siginfo_t *info, void *context)
{
	(void)info;
	(void)context;
	if (++depth > deepest)
		deepest = depth;
	if (run() < 3)
		kill(getpid(), signo);
	depth--;
}

START_TEST(nodefer_nests)
{
	handle(SIGUSR1, nesting_handler, _i == 0 ? SA_NODEFER : 0);
	watch(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(ran(), 3);
	ck_assert_int_eq(deepest, _i == 0 ? 3 : 1);
	ck_assert_int_eq(counted(SIGUSR1), 3);
}
END_TEST

static char *stack_low;
static bool on_stack, masked;

static void
placed_handler(int signo, siginfo_t *info, void *context)
{
	char here;
	sigset_t now;

	(void)signo;
	(void)info;
	(void)context;
	on_stack = &here >= stack_low && &here < stack_low + 4 * SIGSTKSZ;
	pthread_sigmask(SIG_BLOCK, NULL, &now);
	masked = sigismember(&now, SIGHUP) && sigismember(&now, SIGUSR1) &&
	    !sigismember(&now, SIGUSR2);
}

START_TEST(stack_and_mask_are_the_programs)
{
	struct sigaction action = { .sa_sigaction = placed_handler,
		.sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_size = (size_t)(4 * SIGSTKSZ) };

	stack.ss_sp = stack_low = malloc(stack.ss_size);
	ck_assert_ptr_nonnull(stack_low);
	ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
	action.sa_mask = only(SIGHUP);
	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	watch(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert(on_stack);
	ck_assert(masked);
}
END_TEST

/* Sends until the handler has run three times, then lets read() return. */
static void *
interrupter(void *arg)
{
	pthread_t *reader = arg;
	int i;

	for (i = 0; i < 3; i++) {
		pthread_kill(*reader, SIGUSR1);
		ck_assert_int_eq(counted(SIGUSR1), 1);
	}
	ck_assert_int_eq(write(gate[1], "x", 1), 1);
	return NULL;
}

START_TEST(restart_is_kept)
{
	pthread_t me = pthread_self(), thread;
	char c;

	ck_assert_int_eq(pipe(gate), 0);
	if (_i == 0)
		signal(SIGUSR1, SIG_IGN);
	else
		handle(SIGUSR1, info_handler, SA_RESTART);
	watch(SIGUSR1);
	ck_assert_int_eq(pthread_create(&thread, NULL, interrupter, &me), 0);
	ck_assert_int_eq(read(gate[0], &c, 1), 1);
	pthread_join(thread, NULL);
	if (_i == 0 || !HANDLERS_LATE)
		ck_assert_int_eq(ran(), _i == 0 ? 0 : 3);
}
END_TEST

START_TEST(not_hooked_where_the_kernel_asks)
{
	signal(SIGTTOU, SIG_IGN);
	watch(SIGTTOU);
	ck_assert(!caught_by_kernel(SIGTTOU));
	signal(SIGSEGV, SIG_IGN);
	watch(SIGSEGV);
	ck_assert(!caught_by_kernel(SIGSEGV));
	signal(SIGTERM, SIG_DFL);
	watch(SIGTERM);
	ck_assert(!caught_by_kernel(SIGTERM));
	watch(SIGWINCH);
	ck_assert(caught_by_kernel(SIGWINCH));
}
END_TEST

START_TEST(closing_the_queue_unhooks)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	ck_assert(caught_by_kernel(SIGUSR1));
	close(kq);
	ck_assert(!caught_by_kernel(SIGUSR1));
}
END_TEST

/* -- defaults
 * ----------------------------------------------------------------------------
 */

START_TEST(default_kills)
{
	int status;
	pid_t pid;

	/* The test runner has handlers for it and for SIGINT. */
	signal(SIGTERM, SIG_DFL);
	if ((pid = fork()) == 0) {
		watch(SIGTERM);
		/* Blocked, counted, taken: and it kills when it is unblocked.
		 */
		if (_i == 1)
			take_one(SIGTERM, 1);
		else
			kill(getpid(), SIGTERM);
		mask(SIG_UNBLOCK, SIGTERM);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGTERM);
}
END_TEST

START_TEST(default_stops)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0) {
		watch(SIGTSTP);
		kill(getpid(), SIGTSTP);
		if (counted(SIGTSTP) != 1)
			_exit(1);
		kill(getpid(), SIGTSTP);
		_exit(counted(SIGTSTP) == 1 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	kill(pid, SIGCONT);
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(WSTOPSIG(status), SIGTSTP);
	kill(pid, SIGCONT);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(ignored_children_leave_no_zombie)
{
	pid_t pid;
	int status;

	signal(SIGCHLD, _i == 0 ? SIG_IGN : SIG_DFL);
	watch(SIGCHLD);
	if ((pid = fork()) == 0)
		_exit(3);
	ck_assert_int_eq(counted(SIGCHLD), 1);
	if (_i == 0) {
		ck_assert_int_eq(waitpid(pid, &status, 0), -1);
		ck_assert_int_eq(errno, ECHILD);
	} else {
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(WEXITSTATUS(status), 3);
	}
}
END_TEST

/* -- processes inherit
 * -------------------------------------------------------------------- */

static char *const child_argv[] = { self, (char *)(uintptr_t)CHILD, NULL };

static void
exec_by(int way)
{
	switch (way) {
	case 0:
		execl(self, self, CHILD, NULL);
		break;
	case 1:
		execv(self, child_argv);
		break;
	case 2:
		execve(self, child_argv, environ);
		break;
	case 3:
		execvp(self, child_argv);
		break;
	case 4:
		execlp(self, self, CHILD, NULL);
		break;
	case 5:
		execle(self, self, CHILD, NULL, environ);
		break;
	case 6:
		execvpe(self, child_argv, environ);
		break;
	case 7:
		fexecve(open(self, O_RDONLY | O_CLOEXEC), child_argv, environ);
		break;
	case 8:
		execveat(AT_FDCWD, self, child_argv, environ, 0);
		break;
	}
}

#define EXEC_WAYS 9

static pid_t
vfork_exec(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execve(self, child_argv, environ);
		_exit(99);
	}
	return pid;
}

/* What a started program says of SIGUSR1: its exit status. */
static int
start(int way)
{
	char command[sizeof(self) + 32];
	int status;
	pid_t pid = -1;

	snprintf(command, sizeof(command), "%s %s", self, CHILD);
	switch (way) {
	case EXEC_WAYS:
		ck_assert_int_eq(posix_spawn(&pid, self, NULL, NULL, child_argv,
				     environ),
		    0);
		break;
	case EXEC_WAYS + 1:
		ck_assert_int_eq(posix_spawnp(&pid, self, NULL, NULL,
				     child_argv, environ),
		    0);
		break;
	case EXEC_WAYS + 2:
		return system(command);
	case EXEC_WAYS + 3:
		return pclose(popen(command, "w"));
	case EXEC_WAYS + 4:
		pid = vfork_exec();
		break;
	default:
		/* In the process itself, without a fork that unhooks. */
		if ((pid = fork()) == 0) {
			kq = -1;
			watch(SIGUSR1);
			if (!caught_by_kernel(SIGUSR1))
				_exit(98);
			exec_by(way);
			_exit(99);
		}
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

START_TEST(programs_inherit)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	ck_assert_int_eq(start(_i), 0);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	signal(SIGUSR1, plain_handler);
	ck_assert_int_eq(WEXITSTATUS(start(_i)), 1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 1);
}
END_TEST

START_TEST(exec_that_fails_changes_nothing)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	ck_assert_int_eq(execl("/nonexistent", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execlp("no such program", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execlp("", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execvp("/", child_argv), -1);
	ck_assert_int_eq(errno, EACCES);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

/* A pending signal stays pending across exec. */
START_TEST(pending_across_exec)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0) {
		kq = -1;
		take_one(SIGUSR1, 1);
		execl(self, self, CHILD, "pending", NULL);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 2);
}
END_TEST

START_TEST(system_is_libcs)
{
	sigset_t before, after;

	signal(SIGINT, SIG_DFL);
	watch(SIGCHLD);
	watch(SIGINT);
	sigprocmask(SIG_BLOCK, NULL, &before);
	ck_assert_int_eq(system(NULL), 1);
	ck_assert_int_eq(WEXITSTATUS(system("exit 7")), 7);
	ck_assert_int_eq(WTERMSIG(system("kill -TERM $$")), SIGTERM);
	ck_assert_int_eq(WTERMSIG(system("kill -INT $$")), SIGINT);
	sigprocmask(SIG_BLOCK, NULL, &after);
	ck_assert_int_eq(sigismember(&before, SIGCHLD),
	    sigismember(&after, SIGCHLD));
	ck_assert(signal(SIGINT, SIG_DFL) == SIG_DFL);
}
END_TEST

START_TEST(path_is_searched)
{
	int status;
	pid_t pid;

	watch(SIGUSR1);
	if ((pid = fork()) == 0) {
		setenv("PATH", "/nonexistent::/etc/passwd:/bin:/usr/bin", 1);
		execlp("sh", "sh", "-c", "exit 5", NULL);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 5);
}
END_TEST

START_TEST(forked_child_has_its_own)
{
	int status;
	pid_t pid;

	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	if ((pid = fork()) == 0) {
		if (caught_by_kernel(SIGUSR1))
			_exit(1);
		kill(getpid(), SIGUSR1);
		if (signal(SIGUSR1, plain_handler) != SIG_IGN)
			_exit(2);
		kill(getpid(), SIGUSR1);
		if (ran() != 1)
			_exit(3);
		/* It may have queues of its own. */
		kq = -1;
		watch(SIGUSR1);
		kill(getpid(), SIGUSR1);
		_exit(look(kq, SIGUSR1, DEADLINE_S) == 1 && ran() == 2 ? 0 : 4);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	none(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

/* -- all of them
 * ----------------------------------------------------------------------------
 */

/* 0: SIGUSR1 is ignored; 2: it is pending; 1: neither. */
static int
child_main(int argc)
{
	struct sigaction now;
	sigset_t set;

	if (argc > 2)
		return sigpending(&set) == 0 && sigismember(&set, SIGUSR1) ? 2 :
									     1;
	return sigaction(SIGUSR1, NULL, &now) == 0 &&
		now.sa_handler == SIG_IGN ?
	    0 :
	    1;
}

static void
fresh(void)
{
	kq = -1;
}

static Suite *
suite(void)
{
	Suite *s = suite_create("signals");
	TCase *tc = tcase_create("signals");

	tcase_add_checked_fixture(tc, fresh, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, blocked_counts_every_send);
	tcase_add_test(tc, unblocked_runs_the_handler_once);
	tcase_add_test(tc, setmask_gives_back);
	tcase_add_test(tc, pending_is_shown);
	tcase_add_test(tc, ignoring_discards);
	tcase_add_test(tc, waited_for);
	tcase_add_test(tc, real_time_in_order);
	tcase_add_test(tc, signalfd_shows_it);
	tcase_add_loop_test(tc, waited_with, 0, 4);
	tcase_add_test(tc, wait_is_a_cancellation_point);
	tcase_add_test(tc, sent_before_the_watch);
	tcase_add_test(tc, the_last_watch_gives_back);
	tcase_add_test(tc, a_handler_that_returns_unblocks);
	tcase_add_loop_test(tc, thread_older_than_the_watch, 0, 2);
	tcase_add_loop_test(tc, paced_is_exact, 0, 3);
	tcase_add_test(tc, sigwait_takes_and_it_counts);
	tcase_add_test(tc, sigaction_beside_delivery);
	tcase_add_test(tc, sigaction_beside_watches);
	tcase_add_test(tc, ignored_does_not_interrupt);
	tcase_add_test(tc, dispositions_are_shown);
	tcase_add_test(tc, errors_are_as_ever);
	tcase_add_test(tc, reset_handler_runs_once);
	tcase_add_loop_test(tc, restart_is_kept, 0, 2);
	tcase_add_test(tc, not_hooked_where_the_kernel_asks);
	tcase_add_test(tc, closing_the_queue_unhooks);
	tcase_add_loop_test(tc, default_kills, 0, 2);
	tcase_add_test(tc, default_stops);
	tcase_add_loop_test(tc, ignored_children_leave_no_zombie, 0, 2);
	tcase_add_loop_test(tc, programs_inherit, 0, EXEC_WAYS + 5);
	tcase_add_test(tc, exec_that_fails_changes_nothing);
	tcase_add_test(tc, pending_across_exec);
	tcase_add_test(tc, system_is_libcs);
	tcase_add_test(tc, path_is_searched);
	tcase_add_test(tc, forked_child_has_its_own);
	if (HANDLERS_LATE)
		puts("not run: where a handler runs and how deep, which the "
		     "thread sanitizer decides");
	else {
		tcase_add_loop_test(tc, nodefer_nests, 0, 2);
		tcase_add_test(tc, stack_and_mask_are_the_programs);
	}
	suite_add_tcase(s, tc);
	return s;
}

int
main(int argc, char **argv)
{
	SRunner *runner;
	int failed;

	if (argc > 1 && strcmp(argv[1], CHILD) == 0)
		return child_main(argc);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) == -1)
		return 1;
	runner = srunner_create(suite());
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
