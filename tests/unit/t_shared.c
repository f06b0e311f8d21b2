/*
 * A queue in which two threads have waited at once: from then on the kernel is
 * asked to tell one thread only (EPOLLONESHOT), and forgets what it is not
 * reminded of.
 */
#include <sys/event.h>
#include <sys/socket.h>

#include <pthread.h>
#include <stdint.h>
#include <unistd.h>

#include "t_unit.h"

#define DEADLINE_S 20

static int kq, fds[2];
static const struct timespec none, deadline = { .tv_sec = DEADLINE_S };

static void
change(int ident, short filter, unsigned short flags, unsigned int fflags,
    int64_t data)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)ident, filter, flags, fflags, data, NULL);
	ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
}

static void
expect(short filter, int fd)
{
	struct kevent ev;

	ck_assert_int_eq(kevent(kq, NULL, 0, &ev, 1, &deadline), 1);
	ck_assert_int_eq(ev.filter, filter);
	ck_assert_uint_eq(ev.ident, (uintptr_t)fd);
}

static void
expect_none(void)
{
	struct kevent ev;

	ck_assert_int_eq(kevent(kq, NULL, 0, &ev, 1, &none), 0);
}

static void *
wait_once(void *arg)
{
	struct kevent ev;

	ck_assert_int_eq(kevent(kq, NULL, 0, &ev, 1, NULL), 1);
	return arg;
}

/* Until two threads are seen asleep in it nobody knows that it is shared. */
static void
share(void)
{
	const struct timespec while_they_come = { .tv_nsec = 20000000 };
	pthread_t threads[2];
	int i;

	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, wait_once,
				     NULL),
		    0);
	nanosleep(&while_they_come, NULL);
	change(1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
	change(1, EVFILT_USER, EV_DELETE, 0, 0);
}

static void
setup(void)
{
	kq = kqueue();
	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
			     fds),
	    0);
	share();
}

static const unsigned short once[] = { EV_ONESHOT, EV_DISPATCH };

/* WRITE fires, and READ of the same socket is watched still. */
START_TEST(the_other_filter_stays)
{
	change(fds[0], EVFILT_READ, EV_ADD | once[_i], 0, 0);
	change(fds[0], EVFILT_WRITE, EV_ADD | once[_i], 0, 0);
	expect(EVFILT_WRITE, fds[0]);
	expect_none();
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	expect(EVFILT_READ, fds[0]);
	expect_none();
}
END_TEST

/* ... and one that is ready, too, comes in the same call. */
START_TEST(the_other_filter_comes_too)
{
	struct kevent ev[4];

	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	change(fds[0], EVFILT_READ, EV_ADD | EV_CLEAR | once[_i], 0, 0);
	change(fds[0], EVFILT_WRITE, EV_ADD, 0, 0);
	ck_assert_int_eq(kevent(kq, NULL, 0, ev, 4, &none), 2);
	expect(EVFILT_WRITE, fds[0]);
}
END_TEST

/* Too few bytes are no event, and the rest is waited for. */
START_TEST(a_threshold_is_reached)
{
	change(fds[0], EVFILT_READ, EV_ADD | once[_i], NOTE_LOWAT, 3);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	expect_none();
	ck_assert_int_eq(write(fds[1], "y", 1), 1);
	expect_none();
	ck_assert_int_eq(write(fds[1], "z", 1), 1);
	expect(EVFILT_READ, fds[0]);
	expect_none();
}
END_TEST

/*
 * Enabled again and ready again while others still have not had their turn: it
 * waits for its next one.
 */
START_TEST(enabled_within_a_turn)
{
	int i;

	for (i = 10; i < 14; i++)
		change(i, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0);
	change(fds[0], EVFILT_READ, EV_ADD | EV_DISPATCH, 0, 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	for (i = 0; i < 20; i++) {
		struct kevent ev;

		ck_assert_int_eq(kevent(kq, NULL, 0, &ev, 1, &deadline), 1);
		if (ev.filter == EVFILT_READ)
			change(fds[0], EVFILT_READ, EV_ENABLE, 0, 0);
	}
	for (i = 10; i < 14; i++)
		change(i, EVFILT_USER, EV_DELETE, 0, 0);
	expect(EVFILT_READ, fds[0]);
	expect_none();
}
END_TEST

/* A registration of before is not told to two. */
START_TEST(nothing_left_to_read)
{
	char byte;

	change(fds[0], EVFILT_READ, EV_ADD | EV_DISPATCH, 0, 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	expect(EVFILT_READ, fds[0]);
	ck_assert_int_eq(read(fds[0], &byte, 1), 1);
	change(fds[0], EVFILT_READ, EV_ENABLE, 0, 0);
	expect_none();
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	expect(EVFILT_READ, fds[0]);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("shared");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, the_other_filter_stays, 0, 2);
	tcase_add_loop_test(tc, the_other_filter_comes_too, 0, 2);
	tcase_add_loop_test(tc, a_threshold_is_reached, 0, 2);
	tcase_add_test(tc, enabled_within_a_turn);
	tcase_add_test(tc, nothing_left_to_read);
	return unit_end();
}
