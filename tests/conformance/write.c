/*
 * EVFILT_WRITE on streams and listeners.
 */
#include "family.h"

#include <poll.h>

/* -- connected streams ----------------------------------------------------- */

/* R-WRITE-01, R-WRITE-20: active with space, data > 0, and a byte goes in. */
START_TEST(stream_with_space)
{
	struct kevent ev;
	int s[2], size;
	socklen_t len = sizeof(size);

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	ck_assert_int_gt(ev.data, 0);
	ck_assert_int_eq(getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &size, &len),
	    0);
	ck_assert_int_le(ev.data, size);
	t_put(s[0], 1);
	t_expect(&ev, s[0], EVFILT_WRITE);
}
END_TEST

/* R-WRITE-01, R-WRITE-09: data falls while the peer leaves bytes unread. */
START_TEST(stream_space_falls)
{
	struct kevent ev;
	int64_t before;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	before = ev.data;
	t_put(s[0], 4096);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_le(ev.data, before - 4096);
}
END_TEST

/* R-WRITE-21, R-WRITE-01: silent after EAGAIN, until the peer has read. */
START_TEST(stream_full_and_drained)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, _i % 2 == 0 ? 0 : EV_CLEAR);
	t_expect(&ev, s[0], EVFILT_WRITE);
	do
		t_fill(s[0]);
	while (t_get(t_kq, &ev, 1, T_QUIET_MS) != 0);
	do
		t_drain(s[1]);
	while (t_get(t_kq, &ev, 1, 1) == 0);
	ck_assert_uint_eq(ev.ident, (uintptr_t)s[0]);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_gt(ev.data, 0);
	t_put(s[0], 1);
}
END_TEST

/* -- before and while connecting ------------------------------------------- */

/* R-WRITE-03, R-WRITE-09: a socket that was never connected is silent. */
START_TEST(unconnected_is_silent)
{
	int fd;

	need(_i);
	fd = family_socket(_i);
	t_add(fd, EVFILT_WRITE, 0);
	t_quiet();
}
END_TEST

/* R-WRITE-03: a knote from before connect() reports that it succeeded. */
START_TEST(registered_before_connect)
{
	struct family_addr addr;
	struct kevent ev;
	int fd;

	need(_i);
	family_listen(_i, &addr, 4);
	fd = family_socket(_i);
	t_add(fd, EVFILT_WRITE, _i % 2 == 0 ? 0 : EV_CLEAR);
	t_none();
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == -1)
		ck_assert_int_eq(errno, EINPROGRESS);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_gt(ev.data, 0);
	t_put(fd, 1);
}
END_TEST

struct connecting {
	struct family_addr addr;
	int fd;
};

static void *
connect_later(void *arg)
{
	struct connecting *c = arg;

	t_pause(10);
	connect(c->fd, (struct sockaddr *)&c->addr.sa, c->addr.len);
	return NULL;
}

/* R-WRITE-03: ... also to a kevent() that waits while connect() is called. */
START_TEST(connect_ends_a_wait)
{
	struct connecting peer;
	pthread_t thread;
	struct kevent ev;

#ifdef __SANITIZE_THREAD__
	t_skip("ThreadSanitizer takes connect() for a write to memory");
	return;
#endif
	need(_i);
	family_listen(_i, &peer.addr, 4);
	peer.fd = family_socket(_i);
	t_add(peer.fd, EVFILT_WRITE, 0);
	t_none();
	thread = t_thread(connect_later, &peer);
	t_expect(&ev, peer.fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_join(thread);
}
END_TEST

/*
 * R-WRITE-03, R-READ-09: while the connection is being made neither filter
 * is active; a full backlog keeps it waiting for as long as we like.
 */
START_TEST(connect_in_progress)
{
	struct family_addr addr;
	struct kevent ev;
	int listener, fd, i;

	need(_i);
	listener = family_listen(_i, &addr, 0);
	for (i = 0; i < 8; i++) {
		fd = family_socket(_i);
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&addr.sa,
				     addr.len),
		    -1);
		ck_assert_int_eq(errno, EINPROGRESS);
	}
	t_add(fd, EVFILT_WRITE, 0);
	t_add(fd, EVFILT_READ, 0);
	t_quiet();
	while (t_get(t_kq, &ev, 1, 1) == 0)
		(void)accept(listener, NULL, NULL);
	ck_assert_uint_eq(ev.ident, (uintptr_t)fd);
	ck_assert_int_eq(ev.filter, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-04: a refused connection is EV_EOF with the error, left in place. */
START_TEST(refused_connect)
{
	struct family_addr addr;
	socklen_t len = sizeof(int);
	struct kevent ev;
	int fd, error;

	need(_i);
	family_nobody(_i, &addr);
	fd = family_socket(_i);
	t_add(fd, EVFILT_WRITE, 0);
	t_none();
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == 0 ||
	    errno != EINPROGRESS) {
		t_skip("connect() was refused at once");
		return;
	}
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, ECONNREFUSED);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_uint_eq(ev.fflags, ECONNREFUSED);
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	ck_assert_int_eq(error, ECONNREFUSED);
}
END_TEST

/* -- the end --------------------------------------------------------------- */

/* R-WRITE-05: our own shutdown(SHUT_WR) is EV_EOF, ... */
START_TEST(own_shutdown_of_writing_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-05: ... also from before the knote was made, ... */
START_TEST(earlier_shutdown_of_writing_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_uint_eq(ev.fflags, 0);
}
END_TEST

/* Connected, as most are: connect() left it on its way. */
static int
connected_meanwhile(int kind)
{
	struct family_addr addr;
	struct pollfd pfd;
	int fd;

	family_listen(kind, &addr, 4);
	fd = family_socket(kind);
	if (connect(fd, (struct sockaddr *)&addr.sa, addr.len) == -1)
		ck_assert_int_eq(errno, EINPROGRESS);
	pfd = (struct pollfd){ .fd = fd, .events = POLLOUT };
	t_until(poll(&pfd, 1, 0) == 1);
	return fd;
}

/* R-WRITE-05: ... of one that was being connected, ... */
START_TEST(shutdown_after_connect_is_the_end)
{
	struct kevent ev;
	int fd;

	need(_i);
	fd = connected_meanwhile(_i);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-05: ... by a duplicate, too, which is gone already, ... */
START_TEST(shutdown_of_a_former_duplicate)
{
	struct kevent ev;
	int fd, copy;

	need(_i);
	fd = connected_meanwhile(_i);
	copy = dup(fd);
	ck_assert_int_eq(shutdown(copy, SHUT_WR), 0);
	ck_assert_int_eq(close(copy), 0);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-FD-04: a pipe that has the number of one that was being connected. */
START_TEST(pipe_where_one_was_connected)
{
	int low = dup(0), fd = connected_meanwhile(TCP4), p[2];
	struct kevent ev;

	ck_assert_int_eq(close(low), 0);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(p[1], fd);
	t_add(p[1], EVFILT_WRITE, 0);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_eq(close(p[0]), 0);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-05: ... and when the peer has answered it, ... */
START_TEST(answered_shutdown_of_writing_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_until(read(s[1], &(char){ 0 }, 1) == 0);
	t_put(s[1], 1);
	t_until(read(s[0], &(char){ 0 }, 1) == 1);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-05: ... also of a socket that is full, and not for READ. */
START_TEST(shutdown_of_a_full_socket)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_fill(s[0]);
	t_add(s[0], EVFILT_READ, 0);
	t_none();
	t_add(s[0], EVFILT_WRITE, 0);
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	t_delete(s[0], EVFILT_WRITE);
	t_quiet();
}
END_TEST

static void *
shut_later(void *arg)
{
	t_pause(10);
	ck_assert_int_eq(shutdown(*(int *)arg, SHUT_WR), 0);
	return NULL;
}

/* R-WRITE-05: ... also while kevent() waits for space. */
START_TEST(shutdown_ends_a_wait)
{
	pthread_t thread;
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	do
		t_fill(s[0]);
	while (t_get(t_kq, &ev, 1, T_QUIET_MS) != 0);
	thread = t_thread(shut_later, &s[0]);
	t_expect_until(&ev, s[0], EVFILT_WRITE, ev.flags & EV_EOF);
	t_join(thread);
}
END_TEST

/* R-WRITE-05: through a duplicate of the descriptor it is the same socket. */
START_TEST(shutdown_of_a_duplicate)
{
	struct kevent ev;
	int s[2], copy;

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	copy = dup(s[0]);
	ck_assert_int_eq(shutdown(copy, SHUT_WR), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-05: ... also while there was no knote, ... */
START_TEST(shutdown_of_a_duplicate_meanwhile)
{
	struct kevent ev;
	int s[2], copy;

	need(_i);
	stream_open(_i, s);
	copy = dup(s[0]);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	t_delete(s[0], EVFILT_WRITE);
	ck_assert_int_eq(shutdown(copy, SHUT_WR), 0);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-MODE-05: ... and nothing to another socket that has duplicates. */
START_TEST(shutdown_of_anothers_duplicate)
{
	struct kevent ev;
	int s[2], other[2], i;

	need(_i);
	stream_open(_i, s);
	stream_open(_i, other);
	for (i = 0; i < 2; i++) {
		ck_assert_int_ne(dup(s[i]), -1);
		ck_assert_int_ne(dup(other[i]), -1);
	}
	t_add(other[0], EVFILT_WRITE, EV_CLEAR);
	t_expect(&ev, other[0], EVFILT_WRITE);
	t_quiet();
	ck_assert_int_eq(shutdown(s[0], SHUT_WR), 0);
	t_quiet();
}
END_TEST

/* R-WRITE-05: our own shutdown(SHUT_RD) is nothing to our writing. */
START_TEST(own_shutdown_of_reading_is_not_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	ck_assert_int_eq(shutdown(s[0], SHUT_RD), 0);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_put(s[0], 1);
	ck_assert_int_eq(shutdown(s[0], SHUT_RD), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-06: a reset is EV_EOF with the error, which write() still finds. */
START_TEST(reset_is_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_reset(s[1]);
	t_expect_until(&ev, s[0], EVFILT_WRITE, ev.flags & EV_EOF);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_uint_eq(ev.fflags, ECONNRESET);
	ck_assert_int_eq(write(s[0], "x", 1), -1);
	ck_assert_int_eq(errno, ECONNRESET);
}
END_TEST

/* R-WRITE-07: that the peer will not write is nothing to our writing. */
START_TEST(half_close_is_not_the_end)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_add(s[0], EVFILT_READ, 0);
	ck_assert_int_eq(shutdown(s[1], SHUT_WR), 0);
	do
		ck_assert_int_eq(t_wait(&ev), 1);
	while (ev.filter != EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	t_delete(s[0], EVFILT_READ);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_gt(ev.data, 0);
	t_put(s[0], 1);
}
END_TEST

/* R-WRITE-07: a full socket does not end when the peer half-closes. */
START_TEST(half_close_of_a_full_socket)
{
	struct kevent ev;
	int s[2], n;

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	do
		t_fill(s[0]);
	while (t_get(t_kq, &ev, 1, T_QUIET_MS) != 0);
	ck_assert_int_eq(shutdown(s[1], SHUT_WR), 0);
	/* A slow machine may still make room; then a byte goes in. */
	n = t_get(t_kq, &ev, 1, T_QUIET_MS);
	if (n == 1)
		t_put(s[0], 1);
	ck_assert(n == 0 || (ev.flags & EV_EOF) == 0);
}
END_TEST

/* R-WRITE-08, R-WRITE-09: the UNIX peer closed: EV_EOF. */
START_TEST(unix_peer_closed)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(close(s[1]), 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(write(s[0], "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
}
END_TEST

/* R-WRITE-10: a listener is never active, whoever knocks. */
START_TEST(listener_is_silent)
{
	struct family_addr addr;
	int fd;

	need(_i);
	fd = family_listen(_i, &addr, 4);
	t_add(fd, EVFILT_WRITE, 0);
	t_none();
	family_connect(_i, &addr);
	t_quiet();
}
END_TEST

/* R-WRITE-10: nor one that was registered before listen(). */
START_TEST(listener_registered_before_is_silent)
{
	struct family_addr addr;
	int fd;

	need(_i);
	fd = family_socket(_i);
	t_add(fd, EVFILT_WRITE, 0);
	t_none();
	family_bind(_i, fd, &addr);
	ck_assert_int_eq(listen(fd, 4), 0);
	family_connect(_i, &addr);
	t_quiet();
}
END_TEST

#ifdef NOTE_NODATA
/* kqueue(2), NOTE_NODATA: data is 1. */
START_TEST(nodata_reports_one)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_change(s[0], EVFILT_WRITE, EV_ADD, NOTE_NODATA, 0, NULL);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_eq(ev.data, 1);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST
#endif

int
main(void)
{
	TCase *tc = t_begin("write");

	tcase_add_loop_test(tc, stream_with_space, 0, STREAMS);
	tcase_add_loop_test(tc, stream_space_falls, UNIX_STREAM, STREAMS);
	tcase_add_loop_test(tc, stream_full_and_drained, 0, STREAMS);
	tcase_add_loop_test(tc, unconnected_is_silent, 0, FAMILIES);
	tcase_add_loop_test(tc, registered_before_connect, 0, FAMILIES);
	tcase_add_loop_test(tc, connect_ends_a_wait, 0, FAMILIES);
	tcase_add_loop_test(tc, connect_in_progress, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, refused_connect, TCP4, TCP6 + 1);

	tcase_add_loop_test(tc, own_shutdown_of_writing_is_the_end, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_after_connect_is_the_end, TCP4,
	    TCP6 + 1);
	tcase_add_loop_test(tc, shutdown_of_a_former_duplicate, TCP4, TCP6 + 1);
	tcase_add_test(tc, pipe_where_one_was_connected);
	tcase_add_loop_test(tc, earlier_shutdown_of_writing_is_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, answered_shutdown_of_writing_is_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, own_shutdown_of_reading_is_not_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, shutdown_of_a_full_socket, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_ends_a_wait, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_of_a_duplicate, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_of_a_duplicate_meanwhile, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_of_anothers_duplicate, 0, STREAMS);
	tcase_add_loop_test(tc, reset_is_the_end, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, half_close_is_not_the_end, 0, STREAMS);
	tcase_add_loop_test(tc, half_close_of_a_full_socket, 0, STREAMS);
	tcase_add_loop_test(tc, unix_peer_closed, UNIX_STREAM, STREAMS);
	tcase_add_loop_test(tc, listener_is_silent, 0, FAMILIES);
	tcase_add_loop_test(tc, listener_registered_before_is_silent, 0,
	    FAMILIES);
#ifdef NOTE_NODATA
	tcase_add_loop_test(tc, nodata_reports_one, 0, STREAMS);
#endif
	return t_end();
}
