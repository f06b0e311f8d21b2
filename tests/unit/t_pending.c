/*
 * t_pending.c: signals that every thread blocks are observed and not taken:
 * they are still there, as they were sent, for whoever wants them.
 */
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/signalfd.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "t_signals_kit.h"

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

static double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* It is asked again, every 10 ms, whether what is held is blocked still. */
START_TEST(the_mask_stays)
{
	sigset_t before, after;
	double end;

	mask(SIG_BLOCK, SIGUSR2);
	take_one(SIGUSR1, 1);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &before), 0);
	for (end = now() + 0.05; now() < end;) {
		none(SIGUSR1);
		ck_assert_int_eq(sigprocmask(SIG_BLOCK, NULL, &after), 0);
		ck_assert_mem_eq(&before, &after, 8);
	}
	ck_assert(sigismember(&after, SIGUSR2));
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

static int order[8];

static void
order_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	order[run() - 1] = info->si_value.sival_int;
}

/* Those that were taken before those that came later. */
START_TEST(real_time_in_order_when_unblocked)
{
	int i;

	handle(SIGRTMIN + 1, order_handler, 0);
	mask(SIG_BLOCK, SIGRTMIN + 1);
	watch(SIGRTMIN + 1);
	for (i = 1; i <= 3; i++)
		send_value(SIGRTMIN + 1, i);
	ck_assert_int_eq(counted(SIGRTMIN + 1), 3);
	for (; i <= 5; i++)
		send_value(SIGRTMIN + 1, i);
	mask(SIG_UNBLOCK, SIGRTMIN + 1);
	ck_assert_int_eq(ran(), 5);
	for (i = 1; i <= 5; i++)
		ck_assert_int_eq(order[i - 1], i);
	ck_assert_int_eq(counted(SIGRTMIN + 1), 2);
	none(SIGRTMIN + 1);
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

static void
add(TCase *tc)
{
	tcase_add_test(tc, blocked_counts_every_send);
	tcase_add_test(tc, unblocked_runs_the_handler_once);
	tcase_add_test(tc, setmask_gives_back);
	tcase_add_test(tc, pending_is_shown);
	tcase_add_test(tc, the_mask_stays);
	tcase_add_test(tc, ignoring_discards);
	tcase_add_test(tc, waited_for);
	tcase_add_test(tc, real_time_in_order);
	if (!HANDLERS_LATE)
		tcase_add_test(tc, real_time_in_order_when_unblocked);
	tcase_add_test(tc, signalfd_shows_it);
	tcase_add_loop_test(tc, waited_with, 0, 4);
	tcase_add_test(tc, wait_is_a_cancellation_point);
	tcase_add_test(tc, sent_before_the_watch);
	tcase_add_test(tc, the_last_watch_gives_back);
	tcase_add_test(tc, a_handler_that_returns_unblocks);
}

int
main(void)
{
	return kit_run("pending", add);
}
