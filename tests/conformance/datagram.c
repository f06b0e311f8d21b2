/*
 * EVFILT_READ and EVFILT_WRITE on datagram sockets.
 */
#include "t.h"

enum { UDP4, UNIX_DGRAM, PAIR_DGRAM, DATAGRAMS };

/* Two datagram sockets, connected to each other. */
static void
datagram_open(int kind, int s[2])
{
	struct sockaddr_un un[2];
	char *folder;
	int i;

	if (kind == UDP4) {
		t_udp(s);
		return;
	}
	if (kind == PAIR_DGRAM) {
		t_unix(SOCK_DGRAM, s);
		return;
	}
	folder = t_dir();
	for (i = 0; i < 2; i++) {
		memset(&un[i], 0, sizeof(un[i]));
		un[i].sun_family = AF_UNIX;
		strcpy(un[i].sun_path, folder);
		strcat(un[i].sun_path, i == 0 ? "/0" : "/1");
		s[i] = socket(AF_UNIX, SOCK_DGRAM, 0);
		ck_assert_int_ne(fcntl(s[i], F_SETFL, O_NONBLOCK), -1);
		ck_assert_int_eq(bind(s[i], (struct sockaddr *)&un[i],
				     sizeof(un[i])),
		    0);
	}
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(connect(s[i], (struct sockaddr *)&un[1 - i],
				     sizeof(un[0])),
		    0);
}

/* -- EVFILT_READ ----------------------------------------------------------- */

/* R-READ-14, R-READ-15: one datagram of n bytes is data n. */
START_TEST(datagram_is_counted)
{
	struct kevent ev;
	int s[2];

	datagram_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_none();
	t_put(s[1], 5);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.data, 5);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	t_put(s[1], 9);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ge(ev.data, 5);
	t_take(s[0], 5);
	t_expect_data(s[0], EVFILT_READ, 9);
	t_take(s[0], 9);
	t_none();
}
END_TEST

/*
 * R-READ-15: with EV_CLEAR, who has read data bytes has read all; nginx waits
 * for the next edge then, with the second answer of a name server unread.
 */
START_TEST(datagrams_are_all_counted)
{
	static const size_t size[] = { 0, 33, 700, 1472 };
	size_t first = size[_i / 4], second = size[_i % 4];
	struct kevent ev;
	int s[2];

	datagram_open(UDP4, s);
	t_put(s[1], first);
	t_put(s[1], second);
	t_add(s[0], EVFILT_READ, EV_CLEAR);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ge(ev.data, (int64_t)(first + second));
	t_none();
}
END_TEST

/* R-READ-15: and one alone is counted exactly. */
START_TEST(datagram_alone_with_clear)
{
	int s[2];

	datagram_open(_i, s);
	t_add(s[0], EVFILT_READ, EV_CLEAR);
	t_put(s[1], 512);
	t_expect_data(s[0], EVFILT_READ, 512);
	t_take(s[0], 512);
	t_put(s[1], 33);
	t_expect_data(s[0], EVFILT_READ, 33);
}
END_TEST

/* R-READ-14: an empty datagram is an event, until it has been read. */
START_TEST(empty_datagram_is_reported)
{
	struct kevent ev;
	int s[2];
	char c;

	datagram_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	ck_assert_int_eq(send(s[1], "", 0, 0), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(recv(s[0], &c, 1, 0), 0);
	t_none();
}
END_TEST

/* R-READ-14: also with EV_CLEAR, where it comes once. */
START_TEST(empty_datagram_with_clear)
{
	struct kevent ev;
	int s[2];

	datagram_open(_i, s);
	t_add(s[0], EVFILT_READ, EV_CLEAR);
	ck_assert_int_eq(send(s[1], "", 0, 0), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	t_quiet();
	ck_assert_int_eq(send(s[1], "", 0, 0), 0);
	t_expect(&ev, s[0], EVFILT_READ);
}
END_TEST

/* R-READ-16: the peer of a datagram socket has no end. */
START_TEST(datagram_peer_has_no_end)
{
	struct kevent ev;
	int s[2];

	datagram_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 2);
	ck_assert_int_eq(close(s[1]), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(s[0], 2);
	t_quiet();
}
END_TEST

/*
 * R-READ-07: an error that came back for a datagram makes READ active, is no
 * end, and is left for the next receive.
 */
START_TEST(datagram_error_is_left_for_recv)
{
	struct kevent ev;
	int s[2];
	char c;

	t_udp(s);
	ck_assert_int_eq(close(s[1]), 0);
	t_add(s[0], EVFILT_READ, 0);
	t_none();
	t_put(s[0], 1);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(recv(s[0], &c, 1, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
	t_none();
}
END_TEST

/* -- EVFILT_WRITE ---------------------------------------------------------- */

/* R-WRITE-11, R-WRITE-20: active with space. */
START_TEST(datagram_with_space)
{
	struct kevent ev;
	int s[2];

	if (_i == 0)
		t_udp(s);
	else
		t_unix(SOCK_DGRAM, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_gt(ev.data, 0);
	t_put(s[0], 1);
}
END_TEST

/* R-WRITE-11: a UNIX datagram socket whose peer takes no more is silent. */
START_TEST(datagram_full)
{
	struct kevent ev;
	int s[2];

	t_unix(SOCK_DGRAM, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	t_fill(s[0]);
	t_quiet();
	t_drain(s[1]);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_gt(ev.data, 0);
}
END_TEST

/* R-WRITE-11: an unconnected datagram socket can send. */
START_TEST(datagram_unconnected)
{
	struct kevent ev;
	int fd;

	fd = socket(AF_INET, SOCK_DGRAM, 0);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-11: a pending error makes it active, is no end, and stays. */
START_TEST(error_makes_write_active)
{
	struct kevent ev;
	int s[2];
	char c;

	t_udp(s);
	ck_assert_int_eq(close(s[1]), 0);
	t_put(s[0], 1);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(recv(s[0], &c, 1, 0), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("datagram");

	tcase_add_loop_test(tc, datagram_is_counted, 0, DATAGRAMS);
	tcase_add_loop_test(tc, datagrams_are_all_counted, 0, 4 * 4);
	tcase_add_loop_test(tc, datagram_alone_with_clear, 0, DATAGRAMS);
	tcase_add_loop_test(tc, empty_datagram_is_reported, 0, DATAGRAMS);
	tcase_add_loop_test(tc, empty_datagram_with_clear, 0, DATAGRAMS);
	tcase_add_loop_test(tc, datagram_peer_has_no_end, 0, DATAGRAMS);
	tcase_add_test(tc, datagram_error_is_left_for_recv);

	tcase_add_loop_test(tc, datagram_with_space, 0, 2);
	tcase_add_test(tc, datagram_full);
	tcase_add_test(tc, datagram_unconnected);
	tcase_add_test(tc, error_makes_write_active);
	return t_end();
}
