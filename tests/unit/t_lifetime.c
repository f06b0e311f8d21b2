/*
 * Beginnings and ends: forks beside threads that wait, names and nested queues
 * closed in every order, threads that end.
 */
#include <sys/event.h>
#include <sys/wait.h>

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <unistd.h>

#include "t_unit.h"

#define DEADLINE_S 20

static void
user(int kq, unsigned short flags, unsigned int fflags)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, flags, fflags, 0, NULL);
	ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
}

/* Events that are there now, or come within a deadline if some must. */
static int
events(int kq, time_t seconds)
{
	struct timespec ts = { .tv_sec = seconds };
	struct kevent ev[8];

	return kevent(kq, NULL, 0, ev, 8, &ts);
}

/* -- forks beside threads that wait ---------------------------------------- */

#define THREADS 4
#define FORKS 50

static int shared_kq;

static void *
wait_for_event(void *arg)
{
	return (void *)(intptr_t)events(shared_kq, DEADLINE_S);
}

/* The parent's queue is none here; one of our own is. */
static int
child_works(void)
{
	struct timespec now = { 0 };
	struct kevent ev;
	int kq;

	if (kevent(shared_kq, NULL, 0, &ev, 1, &now) != -1 || errno != EBADF)
		return 1;
	if ((kq = kqueue()) == -1)
		return 2;
	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
	return kevent(kq, &ev, 1, &ev, 1, &now) == 1 ? 0 : 3;
}

START_TEST(forked_beside_waits)
{
	pthread_t threads[THREADS];
	int i, status;
	pid_t child;
	void *got;

	shared_kq = kqueue();
	user(shared_kq, EV_ADD, 0);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL,
				     wait_for_event, NULL),
		    0);
	for (i = 0; i < FORKS; i++) {
		child = fork();
		if (child == 0)
			_exit(child_works());
		ck_assert_int_eq(waitpid(child, &status, 0), child);
		ck_assert_int_eq(status, 0);
	}
	/* A level: all of them see it. */
	user(shared_kq, 0, NOTE_TRIGGER);
	for (i = 0; i < THREADS; i++) {
		ck_assert_int_eq(pthread_join(threads[i], &got), 0);
		ck_assert_int_eq((int)(intptr_t)got, 1);
	}
}
END_TEST

/* -- every order of closing ------------------------------------------------ */

static const int orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
	{ 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

/* The queue is there as long as one of its names is. */
START_TEST(names_in_any_order)
{
	int names[3], before = unit_descriptors(), i;

	names[0] = kqueue();
	names[1] = dup(names[0]);
	names[2] = dup(names[1]);
	user(names[1], EV_ADD, NOTE_TRIGGER);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(events(names[orders[_i][i]], 0), 1);
		ck_assert_int_eq(close(names[orders[_i][i]]), 0);
		ck_assert_int_eq(events(names[orders[_i][i]], 0), -1);
		ck_assert_int_eq(errno, EBADF);
	}
	ck_assert_int_eq(unit_descriptors(), before);
}
END_TEST

/* Each is watched by the next; those that are left go on. */
START_TEST(nested_in_any_order)
{
	int kq[3], before = unit_descriptors(), i, k, last;
	bool open[3] = { true, true, true };
	struct kevent ev;

	for (i = 0; i < 3; i++) {
		kq[i] = kqueue();
		user(kq[i], EV_ADD | EV_CLEAR, 0);
	}
	for (i = 1; i < 3; i++) {
		EV_SET(&ev, kq[i - 1], EVFILT_READ, EV_ADD, 0, 0, NULL);
		ck_assert_int_eq(kevent(kq[i], &ev, 1, NULL, 0, NULL), 0);
	}
	for (k = 0; k < 3; k++) {
		for (i = 0; i < 3; i++)
			if (open[i])
				user(kq[i], 0, NOTE_TRIGGER);
		/* Its own, and the one below if that is there. */
		for (i = 2; i >= 0; i--)
			if (open[i])
				ck_assert_int_eq(events(kq[i], 0),
				    i > 0 && open[i - 1] ? 2 : 1);
		last = orders[_i][k];
		user(kq[last], 0, NOTE_TRIGGER);
		ck_assert_int_eq(close(kq[last]), 0);
		open[last] = false;
	}
	ck_assert_int_eq(unit_descriptors(), before);
}
END_TEST

/* -- threads that end ------------------------------------------------------ */

static pthread_key_t key;

/* When the thread's own data goes. */
static void
trigger_late(void *arg)
{
	user(*(int *)arg, 0, NOTE_TRIGGER);
}

static void *
add_and_end(void *arg)
{
	user(*(int *)arg, EV_ADD, 0);
	ck_assert_int_eq(pthread_setspecific(key, arg), 0);
	return arg;
}

/* A knote is the queue's: that its thread has ended is no matter. */
START_TEST(a_thread_ends)
{
	pthread_t thread;
	int kq = kqueue();

	ck_assert_int_eq(pthread_key_create(&key, trigger_late), 0);
	ck_assert_int_eq(pthread_create(&thread, NULL, add_and_end, &kq), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert_int_eq(events(kq, 0), 1);
	ck_assert_int_eq(close(kq), 0);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("lifetime");

	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, forked_beside_waits);
	tcase_add_loop_test(tc, names_in_any_order, 0, 6);
	tcase_add_loop_test(tc, nested_in_any_order, 0, 6);
	tcase_add_test(tc, a_thread_ends);
	return unit_end();
}
