/*
 * t_signals.c: EVFILT_SIGNAL counts what threads get, the program's handlers
 * run as they would, and it sees its own dispositions.
 */
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "t_signals_kit.h"

#define PACED 2000

/* -- threads --------------------------------------------------------------- */

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

/* -- the program's own dispositions ---------------------------------------- */

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
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	pthread_t me = pthread_self(), thread;
	char c;

	ck_assert_int_eq(pipe(gate), 0);
	/* signal() would set SA_RESTART; who ignores need not. */
	if (_i == 0)
		ck_assert_int_eq(sigaction(SIGUSR1, &ignore, NULL), 0);
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

static bool interrupted;

static void *
interrupt(void *arg)
{
	pthread_t *reader = arg;

	while (!__atomic_load_n(&interrupted, __ATOMIC_SEQ_CST)) {
		pthread_kill(*reader, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

START_TEST(no_restart_is_kept)
{
	pthread_t me = pthread_self(), thread;
	char c;

	ck_assert_int_eq(pipe(gate), 0);
	handle(SIGUSR1, storm_handler, 0);
	watch(SIGUSR1);
	ck_assert_int_eq(pthread_create(&thread, NULL, interrupt, &me), 0);
	ck_assert_int_eq(read(gate[0], &c, 1), -1);
	ck_assert_int_eq(errno, EINTR);
	__atomic_store_n(&interrupted, true, __ATOMIC_SEQ_CST);
	pthread_join(thread, NULL);
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

static void
add(TCase *tc)
{
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
	tcase_add_test(tc, no_restart_is_kept);
	tcase_add_test(tc, not_hooked_where_the_kernel_asks);
	tcase_add_test(tc, closing_the_queue_unhooks);
	if (HANDLERS_LATE)
		puts("not run: where a handler runs and how deep, which the "
		     "thread sanitizer decides");
	else {
		tcase_add_loop_test(tc, nodefer_nests, 0, 2);
		tcase_add_test(tc, stack_and_mask_are_the_programs);
	}
}

int
main(void)
{
	return kit_run("signals", add);
}
