/*
 * EVFILT_READ on connected stream sockets of every family.
 */
#include "family.h"

static int
socket_error(int fd)
{
	socklen_t len = sizeof(int);
	int error = -1;

	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	return error;
}

/* -- connected streams ----------------------------------------------------- */

/*
 * R-READ-01: active from the first byte on, data is what can be read.
 */
START_TEST(data_is_the_bytes_that_can_be_read)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_none();

	t_put(s[1], 5);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 5);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	t_put(s[1], 3);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 8);
	t_take(s[0], 5);
	t_expect_data(s[0], EVFILT_READ, 3);
	t_take(s[0], 3);
	t_none();
}
END_TEST

/* R-READ-01, R-REG-02: what is already there when the knote is made counts. */
START_TEST(data_before_registration_is_reported)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_put(s[1], 7);
	t_add(s[0], EVFILT_READ, 0);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 7);
}
END_TEST

/* R-READ-01: the count is exact far above one buffer. */
START_TEST(data_counts_a_full_buffer)
{
	struct kevent ev;
	size_t n;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	for (n = 0; n < 20000; n += 1000)
		t_put(s[1], 1000);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 20000);
	ck_assert_uint_eq(t_drain(s[0]), n);
	t_none();
}
END_TEST

/* R-READ-01: SO_RCVLOWAT, where the program set it, is the threshold. */
START_TEST(so_rcvlowat_is_the_threshold)
{
	int s[2], four = 4;

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(setsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &four,
			     sizeof(four)),
	    0);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 3);
	t_quiet();
	t_put(s[1], 1);
	t_expect_data(s[0], EVFILT_READ, 4);
}
END_TEST

/* R-READ-01: a descriptor that travels with a byte is not counted. */
START_TEST(control_data_is_not_counted)
{
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = { (char[]){ 'x' }, 1 };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cm;
	int s[2];

	t_unix(SOCK_STREAM, s);
	msg.msg_control = &control;
	msg.msg_controllen = sizeof(control);
	cm = CMSG_FIRSTHDR(&msg);
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &s[0], sizeof(int));
	ck_assert_int_eq(sendmsg(s[1], &msg, 0), 1);

	t_add(s[0], EVFILT_READ, 0);
	t_expect_data(s[0], EVFILT_READ, 1);
}
END_TEST

/*
 * R-READ-03, R-READ-04, R-READ-05: the peer sent bytes and its end: EV_EOF
 * with the bytes that are left, again and again, and after read() said 0.
 */
START_TEST(end_comes_with_the_bytes_before_it)
{
	struct kevent ev;
	int s[2];
	char c;

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 4);
	ck_assert_int_eq(shutdown(s[1], SHUT_WR), 0);

	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_uint_eq(ev.fflags, 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 4);
	t_take(s[0], 4);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 0);
	ck_assert_int_eq(read(s[0], &c, 1), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
}
END_TEST

/* R-READ-03, R-READ-17: the same when the peer closes, without an error. */
START_TEST(close_of_the_peer_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 4);
	ck_assert_int_eq(close(s[1]), 0);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_uint_eq(ev.fflags, 0);
	t_take(s[0], 4);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-READ-03: the end that came before the knote is reported too. */
START_TEST(end_before_registration_is_reported)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(close(s[1]), 0);
	t_add(s[0], EVFILT_READ, 0);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	ck_assert_int_eq(ev.data, 0);
}
END_TEST

/* R-READ-03: our own shutdown(SHUT_RD) ends the read side, ... */
START_TEST(own_shutdown_of_reading_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(shutdown(s[0], SHUT_RD), 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 0);
	ck_assert_uint_eq(ev.fflags, 0);
}
END_TEST

/* R-READ-03: ... also before the knote was made. */
START_TEST(earlier_shutdown_of_reading_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(shutdown(s[0], SHUT_RD), 0);
	t_add(s[0], EVFILT_READ, 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-READ-17: the peer's half-close ends READ, and leaves WRITE as it was. */
START_TEST(half_close_ends_reading_alone)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(shutdown(s[1], SHUT_WR), 0);
	t_add(s[0], EVFILT_READ, 0);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	t_delete(s[0], EVFILT_READ);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_put(s[0], 1);
	t_until(read(s[1], &(char){ 0 }, 1) == 1);
}
END_TEST

/*
 * R-READ-06: a reset is EV_EOF with ECONNRESET, and stays to be found by
 * read(), which takes it.
 */
START_TEST(reset_is_left_for_read)
{
	struct kevent ev;
	int s[2];
	char c;

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_reset(s[1]);

	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	ck_assert_int_eq(ev.data, 0);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	ck_assert_int_eq(read(s[0], &c, 1), -1);
	ck_assert_int_eq(errno, ECONNRESET);

	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	ck_assert_int_eq(read(s[0], &c, 1), 0);
}
END_TEST

/* R-READ-06: the same for getsockopt(SO_ERROR), and with two queues. */
START_TEST(reset_is_left_for_so_error)
{
	int s[2], other;
	struct kevent ev;

	need(_i);
	stream_open(_i, s);
	other = kqueue();
	t_add(s[0], EVFILT_READ, 0);
	t_add_on(other, s[0], EVFILT_READ, 0);
	t_reset(s[1]);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	t_expect_on(other, &ev, s[0], EVFILT_READ);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	ck_assert_int_eq(socket_error(s[0]), ECONNRESET);
	ck_assert_int_eq(socket_error(s[0]), 0);
}
END_TEST

/* R-READ-06, R-READ-04: bytes that came before the reset are counted. */
START_TEST(reset_comes_with_the_bytes_before_it)
{
	struct kevent ev;
	int s[2];
	char c;

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_READ, 0);
	t_put(s[1], 4);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.data == 4);
	t_reset(s[1]);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	t_take(s[0], 4);
	ck_assert_int_eq(read(s[0], &c, 1), -1);
	ck_assert_int_eq(errno, ECONNRESET);
}
END_TEST

/* -- NOTE_NODATA ----------------------------------------------------------- */

#ifdef NOTE_NODATA
/*
 * kqueue(2), NOTE_NODATA: data is 1, whatever waits; all else is as without.
 */
START_TEST(nodata_reports_one)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	t_none();
	t_put(s[1], 5);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.data, 1);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(s[0], 5);
	t_none();
	ck_assert_int_eq(close(s[1]), 0);
	t_expect_until(&ev, s[0], EVFILT_READ, ev.flags & EV_EOF);

	/* A change without the note asks for the count again. */
	t_change(s[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	t_expect_data(s[0], EVFILT_READ, 0);
}
END_TEST

/* kqueue(2), NOTE_NODATA: an unconnected socket is silent with it, too. */
START_TEST(nodata_unconnected_is_silent)
{
	int fd;

	need(_i);
	fd = family_socket(_i);
	t_change(fd, EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	t_change(fd, EVFILT_WRITE, EV_ADD, NOTE_NODATA, 0, NULL);
	t_quiet();
}
END_TEST
#endif

int
main(void)
{
	TCase *tc = t_begin("read");

	tcase_add_loop_test(tc, data_is_the_bytes_that_can_be_read, 0, STREAMS);
	tcase_add_loop_test(tc, data_before_registration_is_reported, 0,
	    STREAMS);
	tcase_add_loop_test(tc, data_counts_a_full_buffer, 0, STREAMS);
	tcase_add_loop_test(tc, so_rcvlowat_is_the_threshold, TCP4, TCP6 + 1);
	tcase_add_test(tc, control_data_is_not_counted);
	tcase_add_loop_test(tc, end_comes_with_the_bytes_before_it, 0, STREAMS);
	tcase_add_loop_test(tc, close_of_the_peer_is_the_end, 0, STREAMS);
	tcase_add_loop_test(tc, end_before_registration_is_reported, 0,
	    STREAMS);
	tcase_add_loop_test(tc, own_shutdown_of_reading_is_the_end, 0, STREAMS);
	tcase_add_loop_test(tc, earlier_shutdown_of_reading_is_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, half_close_ends_reading_alone, 0, STREAMS);
	tcase_add_loop_test(tc, reset_is_left_for_read, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, reset_is_left_for_so_error, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, reset_comes_with_the_bytes_before_it, TCP4,
	    TCP6 + 1);
#ifdef NOTE_NODATA
	tcase_add_loop_test(tc, nodata_reports_one, 0, STREAMS);
	tcase_add_loop_test(tc, nodata_unconnected_is_silent, 0, FAMILIES);
#endif
	return t_end();
}
