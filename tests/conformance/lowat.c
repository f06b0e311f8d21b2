/*
 * NOTE_LOWAT: the threshold of one knote, and of nothing else.
 */
#include "family.h"

static int
option(int fd, int name)
{
	socklen_t len = sizeof(int);
	int value = -1;

	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, name, &value, &len), 0);
	return value;
}

/* R-READ-02: silent below the threshold, active from it on. */
START_TEST(read_threshold)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	t_none();
	t_put(s[1], 9);
	t_quiet();
	t_put(s[1], 1);
	t_expect_data(s[0], EVFILT_READ, 10);
	t_put(s[1], 5);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 15);
	t_take(s[0], 9);
	t_none();
	t_put(s[1], 4);
	t_expect_data(s[0], EVFILT_READ, 10);
}
END_TEST

/* R-READ-02: what waits at EV_ADD is held against the threshold at once. */
START_TEST(read_threshold_at_registration)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 5);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 5);
	t_delete(s[0], EVFILT_READ);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 6, NULL);
	t_none();
	t_delete(s[0], EVFILT_READ);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 5, NULL);
	t_expect(&ev, s[0], EVFILT_READ);
}
END_TEST

/* R-READ-02, R-REG-03, R-REG-06: a change brings a new threshold, or none. */
START_TEST(read_threshold_changed)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	t_put(s[1], 5);
	t_quiet();
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 5, NULL);
	t_expect(&ev, s[0], EVFILT_READ);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 6, NULL);
	t_none();
	t_change(s[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect_data(s[0], EVFILT_READ, 5);
}
END_TEST

/* R-READ-02: a threshold of 0 is always reached. */
START_TEST(read_threshold_of_zero)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 0, NULL);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.data, 0);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_expect(&ev, s[0], EVFILT_READ);
}
END_TEST

/* R-READ-02: the modes see the threshold, not the first byte. */
START_TEST(read_threshold_with_modes)
{
	static const int modes[] = { EV_CLEAR, EV_ONESHOT, EV_DISPATCH };
	struct kevent ev;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_change(s[0], EVFILT_READ, EV_ADD | modes[_i], NOTE_LOWAT, 10, NULL);
	t_put(s[1], 9);
	t_quiet();
	t_put(s[1], 1);
	t_expect_data(s[0], EVFILT_READ, 10);
	t_quiet();
	t_put(s[1], 1);
	ck_assert_int_eq(t_poll(&ev), modes[_i] == EV_CLEAR);
}
END_TEST

/* R-MODE-01, R-READ-02: in each call, whichever had its turn before. */
START_TEST(read_threshold_in_every_turn)
{
	static const int slots[] = { 1, 4, 4, 2, 1, 1, 4, 1, 2, 4 };
	struct kevent ev[4];
	int s[2], other[2];
	size_t i;

	t_unix(SOCK_STREAM, s);
	t_unix(SOCK_STREAM, other);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 3, NULL);
	t_add(other[0], EVFILT_READ, 0);
	t_put(s[1], 1);
	t_quiet();
	t_put(s[1], 2);
	t_put(other[1], 1);
	for (i = 0; i < T_COUNT(slots); i++)
		ck_assert_int_eq(t_get(t_kq, ev, slots[i], 0),
		    slots[i] == 1 ? 1 : 2);
}
END_TEST

static void *
put_ten(void *arg)
{
	int i;

	for (i = 0; i < 10; i++) {
		t_pause(1);
		t_put(*(int *)arg, 1);
	}
	return NULL;
}

/* R-READ-02, R-MODE-02: a wait goes on through arrivals below the threshold. */
START_TEST(read_threshold_in_a_wait)
{
	pthread_t thread;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	thread = t_thread(put_ten, &s[1]);
	t_expect_data(s[0], EVFILT_READ, 10);
	t_join(thread);
}
END_TEST

/* R-READ-03, R-READ-02: the end comes whatever the threshold is. */
START_TEST(end_is_above_every_threshold)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 100, NULL);
	t_put(s[1], 4);
	t_quiet();
	ck_assert_int_eq(close(s[1]), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 4);
}
END_TEST

/*
 * R-READ-02: the threshold is this knote's: the socket keeps SO_RCVLOWAT, and
 * another queue its own.
 */
START_TEST(read_threshold_is_private)
{
	struct kevent ev;
	int s[2], other, before;

	need(_i);
	stream_open(_i, s);
	other = kqueue();
	before = option(s[0], SO_RCVLOWAT);
	t_add_on(other, s[0], EVFILT_READ, 0);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	ck_assert_int_eq(option(s[0], SO_RCVLOWAT), before);
	t_put(s[1], 1);
	t_expect_on(other, &ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.data, 1);
	t_quiet();

	t_change_on(other, s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 12, NULL);
	t_put(s[1], 10);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 11);
	ck_assert_int_eq(t_get(other, &ev, 1, 0), 0);
	t_put(s[1], 1);
	t_expect_on(other, &ev, s[0], EVFILT_READ);
}
END_TEST

/* R-READ-02: a threshold above the buffer is not reached, and does no harm. */
START_TEST(read_threshold_is_huge)
{
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, INT64_MAX, NULL);
	t_put(s[1], 1000);
	t_quiet();
}
END_TEST

/* R-READ-02, R-READ-14: a datagram below the threshold waits as well. */
START_TEST(datagram_threshold)
{
	int s[2];

	t_udp(s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	t_put(s[1], 9);
	t_quiet();
	t_take(s[0], 9);
	t_put(s[1], 10);
	t_expect_data(s[0], EVFILT_READ, 10);
}
END_TEST

/* R-WRITE-02: active when that much space is free, silent when it is not. */
START_TEST(write_threshold)
{
	struct kevent ev;
	int64_t whole;
	int s[2], size = 65536;

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size,
			     sizeof(size)),
	    0);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	whole = ev.data;
	t_delete(s[0], EVFILT_WRITE);

	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, whole, NULL);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ge(ev.data, whole);
	t_delete(s[0], EVFILT_WRITE);
	do
		t_fill(s[0]);
	while (t_pause(T_QUIET_MS), write(s[0], "", 1) == 1);

	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, whole, NULL);
	t_quiet();
	while (t_get(t_kq, &ev, 1, 1) == 0)
		t_drain(s[1]);
	ck_assert_uint_eq(ev.ident, (uintptr_t)s[0]);
	ck_assert_int_ge(ev.data, whole);
}
END_TEST

/* R-WRITE-02: a threshold above the buffer is not reached. */
START_TEST(write_threshold_is_huge)
{
	struct kevent ev;
	int s[2], before;

	need(_i);
	stream_open(_i, s);
	before = option(s[0], SO_SNDLOWAT);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, INT64_MAX, NULL);
	t_quiet();
	ck_assert_int_eq(option(s[0], SO_SNDLOWAT), before);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, 1, NULL);
	t_expect(&ev, s[0], EVFILT_WRITE);
}
END_TEST

/* R-WRITE-02, R-WRITE-05: the end comes whatever the threshold is. */
START_TEST(write_end_is_above_every_threshold)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, INT64_MAX, NULL);
	t_none();
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-02, R-WRITE-07: the peer's half-close is no end here either. */
START_TEST(half_close_is_below_a_threshold)
{
	struct kevent ev[2];
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, INT64_MAX, NULL);
	t_add(s[0], EVFILT_READ, 0);
	ck_assert_int_eq(shutdown(s[1], SHUT_WR), 0);
	t_expect_until(&ev[0], s[0], EVFILT_READ, ev[0].flags & EV_EOF);
	ck_assert_int_eq(t_get(t_kq, ev, 2, T_QUIET_MS), 1);
	ck_assert_int_eq(ev[0].filter, EVFILT_READ);
	t_delete(s[0], EVFILT_READ);
	t_quiet();
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, 1, NULL);
	t_expect(&ev[0], s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev[0].flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-02, R-REG-19: READ and WRITE have a threshold each. */
START_TEST(two_thresholds)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 5, NULL);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, INT64_MAX, NULL);
	t_put(s[1], 4);
	t_quiet();
	t_put(s[1], 1);
	t_expect(&ev, s[0], EVFILT_READ);
	t_take(s[0], 5);
	t_none();
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_LOWAT, 1, NULL);
	t_expect(&ev, s[0], EVFILT_WRITE);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("lowat");

	tcase_add_loop_test(tc, read_threshold, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_at_registration, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_changed, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_of_zero, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_with_modes, 0, 3);
	tcase_add_test(tc, read_threshold_in_every_turn);
	tcase_add_loop_test(tc, read_threshold_in_a_wait, 0, STREAMS);
	tcase_add_loop_test(tc, end_is_above_every_threshold, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_is_private, 0, STREAMS);
	tcase_add_loop_test(tc, read_threshold_is_huge, 0, STREAMS);
	tcase_add_test(tc, datagram_threshold);
	tcase_add_loop_test(tc, write_threshold, 0, STREAMS);
	tcase_add_loop_test(tc, write_threshold_is_huge, 0, STREAMS);
	tcase_add_loop_test(tc, write_end_is_above_every_threshold, 0, STREAMS);
	tcase_add_loop_test(tc, half_close_is_below_a_threshold, 0, STREAMS);
	tcase_add_loop_test(tc, two_thresholds, 0, STREAMS);
	return t_end();
}
