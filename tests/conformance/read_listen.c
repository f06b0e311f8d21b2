/*
 * EVFILT_READ on sockets that are not connected, connect, or listen.
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

/* -- before and while connecting ------------------------------------------- */

/* R-READ-08: a socket that is not connected says nothing. */
START_TEST(unconnected_is_silent)
{
	int fd;

	need(_i);
	fd = family_socket(_i);
	t_add(fd, EVFILT_READ, 0);
	t_quiet();
}
END_TEST

/* R-READ-08, R-READ-01: a knote made before connect() works after it. */
START_TEST(registered_before_connect)
{
	struct family_addr addr;
	int listener, fd, peer;
	struct kevent ev;

	need(_i);
	listener = family_listen(_i, &addr, 4);
	fd = family_socket(_i);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == -1)
		ck_assert_int_eq(errno, EINPROGRESS);
	t_until((peer = accept(listener, NULL, NULL)) != -1);
	t_quiet();
	t_put(peer, 6);
	t_expect_until(&ev, fd, EVFILT_READ, ev.data == 6);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(fd, 6);
	t_none();
	ck_assert_int_eq(close(peer), 0);
	t_expect_until(&ev, fd, EVFILT_READ, ev.flags & EV_EOF);
}
END_TEST

/* R-READ-08, R-READ-09: EV_CLEAR before connect() works as well. */
START_TEST(edge_registered_before_connect)
{
	struct family_addr addr;
	int listener, fd, peer;

	need(_i);
	listener = family_listen(_i, &addr, 4);
	fd = family_socket(_i);
	t_add(fd, EVFILT_READ, EV_CLEAR);
	t_none();
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == -1)
		ck_assert_int_eq(errno, EINPROGRESS);
	t_until((peer = accept(listener, NULL, NULL)) != -1);
	t_quiet();
	t_put(peer, 6);
	t_expect_data(fd, EVFILT_READ, 6);
	t_none();
}
END_TEST

/*
 * R-READ-09: a connection that is refused is EV_EOF with the error, which
 * getsockopt(SO_ERROR) still finds.
 */
START_TEST(refused_connect)
{
	struct family_addr addr;
	struct kevent ev;
	int fd;

	need(_i);
	family_nobody(_i, &addr);
	fd = family_socket(_i);
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == 0 ||
	    errno != EINPROGRESS) {
		t_skip("connect() was refused at once");
		return;
	}
	t_add(fd, EVFILT_READ, 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, ECONNREFUSED);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_uint_eq(ev.fflags, ECONNREFUSED);
	ck_assert_int_eq(socket_error(fd), ECONNREFUSED);
}
END_TEST

/* R-READ-09: the same for a knote from before connect(), and for read(). */
START_TEST(refused_connect_registered_before)
{
	struct family_addr addr;
	struct kevent ev;
	int fd;
	char c;

	need(_i);
	family_nobody(_i, &addr);
	fd = family_socket(_i);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == 0 ||
	    errno != EINPROGRESS) {
		t_skip("connect() was refused at once");
		return;
	}
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, ECONNREFUSED);
	ck_assert_int_eq(read(fd, &c, 1), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
}
END_TEST

/* -- listeners ------------------------------------------------------------- */

/* R-READ-10: data is the number of connections that wait for accept(). */
START_TEST(backlog_is_counted)
{
	struct family_addr addr;
	struct kevent ev;
	int listener, i;

	need(_i);
	listener = family_listen(_i, &addr, 8);
	t_add(listener, EVFILT_READ, 0);
	t_none();
	for (i = 1; i <= 4; i++) {
		family_connect(_i, &addr);
		t_expect_until(&ev, listener, EVFILT_READ, ev.data == i);
		ck_assert_int_eq(ev.flags & EV_EOF, 0);
	}
	for (i = 3; i >= 0; i--) {
		ck_assert_int_ne(accept(listener, NULL, NULL), -1);
		if (i == 0)
			break;
		t_expect_data(listener, EVFILT_READ, i);
	}
	t_none();
}
END_TEST

/* R-READ-10: EV_CLEAR reports each arrival, with all that wait. */
START_TEST(backlog_with_clear)
{
	struct family_addr addr;
	int listener;

	need(_i);
	listener = family_listen(_i, &addr, 8);
	t_add(listener, EVFILT_READ, EV_CLEAR);
	family_connect(_i, &addr);
	t_expect_data(listener, EVFILT_READ, 1);
	t_quiet();
	family_connect(_i, &addr);
	t_expect_data(listener, EVFILT_READ, 2);
}
END_TEST

/* R-READ-11: NOTE_LOWAT does not hold back a connection. */
START_TEST(lowat_is_nothing_to_a_listener)
{
	struct family_addr addr;
	int listener;

	need(_i);
	listener = family_listen(_i, &addr, 8);
	t_change(listener, EVFILT_READ, EV_ADD, NOTE_LOWAT, 3, NULL);
	t_none();
	family_connect(_i, &addr);
	t_expect_data(listener, EVFILT_READ, 1);
}
END_TEST

/* R-READ-13: a socket that is registered first and listens later. */
START_TEST(registered_before_listen)
{
	struct family_addr addr;
	struct kevent ev;
	int fd;

	need(_i);
	fd = family_socket(_i);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	family_bind(_i, fd, &addr);
	ck_assert_int_eq(listen(fd, 4), 0);
	t_quiet();
	family_connect(_i, &addr);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 1);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	family_connect(_i, &addr);
	t_expect_until(&ev, fd, EVFILT_READ, ev.data == 2);
	ck_assert_int_ne(accept(fd, NULL, NULL), -1);
	ck_assert_int_ne(accept(fd, NULL, NULL), -1);
	t_none();
}
END_TEST

/* R-READ-18: what accept() returns has no knotes. */
START_TEST(accepted_is_not_registered)
{
	struct family_addr addr;
	int listener, fd, peer;
	struct kevent ev;

	need(_i);
	listener = family_listen(_i, &addr, 4);
	t_add(listener, EVFILT_READ, 0);
	fd = family_connect(_i, &addr);
	t_expect(&ev, listener, EVFILT_READ);
	peer = accept(listener, NULL, NULL);
	ck_assert_int_ne(peer, -1);
	t_put(fd, 1);
	t_quiet();
	t_fails(ENOENT, peer, EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-READ-20: EVFILT_VNODE (-4) and EVFILT_PROCDESC (-8) are not for sockets. */
START_TEST(filters_that_are_not_for_sockets)
{
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_fails(EINVAL, s[0], -4, EV_ADD | EV_CLEAR, 2, 0, NULL);
	t_fails(EINVAL, s[0], -8, EV_ADD, 0x80000000, 0, NULL);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("read_listen");

	tcase_add_loop_test(tc, unconnected_is_silent, 0, FAMILIES);
	tcase_add_loop_test(tc, registered_before_connect, 0, FAMILIES);
	tcase_add_loop_test(tc, edge_registered_before_connect, 0, FAMILIES);
	tcase_add_loop_test(tc, refused_connect, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, refused_connect_registered_before, TCP4,
	    TCP6 + 1);

	tcase_add_loop_test(tc, backlog_is_counted, 0, FAMILIES);
	tcase_add_loop_test(tc, backlog_with_clear, 0, FAMILIES);
	tcase_add_loop_test(tc, lowat_is_nothing_to_a_listener, 0, FAMILIES);
	tcase_add_loop_test(tc, registered_before_listen, 0, FAMILIES);
	tcase_add_loop_test(tc, accepted_is_not_registered, 0, FAMILIES);
	tcase_add_loop_test(tc, filters_that_are_not_for_sockets, 0, STREAMS);
	return t_end();
}
