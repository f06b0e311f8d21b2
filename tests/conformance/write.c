/*
 * EVFILT_WRITE on streams, listeners, pipes, terminals and files.
 */
#include "family.h"

#include <limits.h>
#include <pty.h>
#include <stdio.h>
#include <sys/stat.h>
#include <termios.h>

#ifdef __linux__
#include <sys/eventfd.h>
#endif

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

/* -- pipes and FIFOs ------------------------------------------------------- */

/* R-WRITE-12: silent below PIPE_BUF free bytes, active from there on. */
START_TEST(pipe_space)
{
	struct kevent ev;
	int64_t whole;
	int p[2];

	t_pipe(p);
	t_add(p[1], EVFILT_WRITE, 0);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_ge(ev.data, PIPE_BUF);
	whole = ev.data;
	t_put(p[1], PIPE_BUF);
	t_expect_data(p[1], EVFILT_WRITE, whole - PIPE_BUF);
	ck_assert_int_eq(t_fill(p[1]), whole - PIPE_BUF);
	t_none();
	t_take(p[0], PIPE_BUF - 1);
	t_none();
	t_take(p[0], 1);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ge(ev.data, PIPE_BUF);
	ck_assert_int_eq(write(p[1], (char[PIPE_BUF]){ 0 }, PIPE_BUF),
	    PIPE_BUF);
	t_none();
}
END_TEST

/* R-WRITE-13: the reader closes later: EV_EOF. */
START_TEST(pipe_reader_gone)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_add(p[1], EVFILT_WRITE, 0);
	t_fill(p[1]);
	t_none();
	ck_assert_int_eq(close(p[0]), 0);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-14: the reader had closed before: EPIPE, or EV_EOF at once. */
START_TEST(pipe_reader_gone_before)
{
	struct kevent ev;
	int p[2], error;

	t_pipe(p);
	ck_assert_int_eq(close(p[0]), 0);
	error = t_try(p[1], EVFILT_WRITE, EV_ADD, 0, 0, NULL);
	if (error != 0) {
		ck_assert_int_eq(error, EPIPE);
		t_fails(ENOENT, p[1], EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
		return;
	}
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-13: ... and since: a change of the knote is none of EV_ADD. */
START_TEST(pipe_reader_gone_since)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_add(p[1], EVFILT_WRITE, EV_DISPATCH);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_eq(close(p[0]), 0);
	t_change(p[1], EVFILT_WRITE, EV_ENABLE, 0, 0, NULL);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	t_change(p[1], EVFILT_WRITE, EV_ADD | EV_ENABLE, 0, 0, NULL);
	t_expect(&ev, p[1], EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-WRITE-15: WRITE on the read end is accepted and never fires. */
START_TEST(pipe_read_end_is_never_writable)
{
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_WRITE, 0);
	t_none();
	t_put(p[1], 1);
	t_quiet();
	ck_assert_int_eq(close(p[1]), 0);
	t_quiet();
}
END_TEST

/* R-REG-19, R-MODE-04: ... and to change it is nothing to READ. */
START_TEST(pipe_read_end_is_left_alone)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, EV_CLEAR);
	t_add(p[0], EVFILT_WRITE, EV_CLEAR);
	t_put(p[1], 1);
	t_expect(&ev, p[0], EVFILT_READ);
	t_add(p[0], EVFILT_WRITE, EV_CLEAR);
	t_quiet();
}
END_TEST

/* R-WRITE-16: a FIFO ends with its last reader, and is well with a new one. */
START_TEST(fifo_end_and_new_reader)
{
	struct kevent ev;
	char path[128];
	int reader, fd;

	snprintf(path, sizeof(path), "%s/fifo", t_dir());
	ck_assert_int_eq(mkfifo(path, 0600), 0);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	fd = open(path, O_WRONLY | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(close(reader), 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	reader = open(path, O_RDONLY | O_NONBLOCK);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_put(fd, 1);
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

/* -- terminals, files, devices --------------------------------------------- */

/* R-WRITE-17: both sides of a terminal have space, and an end. */
START_TEST(terminal_space)
{
	int master, slave, fd, other;
	struct termios tio;
	struct kevent ev;

	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(slave, &tio), 0);
	cfmakeraw(&tio);
	ck_assert_int_eq(tcsetattr(slave, TCSANOW, &tio), 0);
	fd = _i == 0 ? slave : master;
	other = _i == 0 ? master : slave;
	ck_assert_int_ne(fcntl(fd, F_SETFL, O_NONBLOCK), -1);
	ck_assert_int_ne(fcntl(other, F_SETFL, O_NONBLOCK), -1);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_gt(ev.data, 0);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_put(fd, 1);
	ck_assert_int_eq(close(other), 0);
	t_expect_until(&ev, fd, EVFILT_WRITE, ev.flags & EV_EOF);
}
END_TEST

/* R-WRITE-18: a regular file is always active, or refused with EINVAL. */
START_TEST(file)
{
	struct kevent ev;
	int fd, error;

	fd = t_file("abc");
	error = t_try(fd, EVFILT_WRITE, EV_ADD, 0, 0, NULL);
	if (error != 0) {
		ck_assert_int_eq(error, EINVAL);
		return;
	}
	t_expect(&ev, fd, EVFILT_WRITE);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

#ifdef __linux__
/* R-WRITE-19: data is the largest value that eventfd can still take. */
START_TEST(eventfd_room)
{
	struct kevent ev;
	uint64_t n;
	int fd;

	fd = eventfd(0, EFD_NONBLOCK);
	t_add(fd, EVFILT_WRITE, 0);
	t_expect(&ev, fd, EVFILT_WRITE);
	ck_assert_int_eq(eventfd_write(fd, UINT64_MAX - 100), 0);
	t_expect_data(fd, EVFILT_WRITE, 99);
	ck_assert_int_eq(eventfd_write(fd, 99), 0);
	t_quiet();
	ck_assert_int_eq(eventfd_read(fd, &n), 0);
	t_expect(&ev, fd, EVFILT_WRITE);
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
	tcase_add_loop_test(tc, earlier_shutdown_of_writing_is_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, answered_shutdown_of_writing_is_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, own_shutdown_of_reading_is_not_the_end, 0,
	    STREAMS);
	tcase_add_loop_test(tc, shutdown_of_a_full_socket, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_ends_a_wait, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_of_a_duplicate, 0, STREAMS);
	tcase_add_loop_test(tc, shutdown_of_anothers_duplicate, 0, STREAMS);
	tcase_add_loop_test(tc, reset_is_the_end, TCP4, TCP6 + 1);
	tcase_add_loop_test(tc, half_close_is_not_the_end, 0, STREAMS);
	tcase_add_loop_test(tc, half_close_of_a_full_socket, 0, STREAMS);
	tcase_add_loop_test(tc, unix_peer_closed, UNIX_STREAM, STREAMS);
	tcase_add_loop_test(tc, listener_is_silent, 0, FAMILIES);
	tcase_add_loop_test(tc, listener_registered_before_is_silent, 0,
	    FAMILIES);

	tcase_add_test(tc, pipe_space);
	tcase_add_test(tc, pipe_reader_gone);
	tcase_add_test(tc, pipe_reader_gone_before);
	tcase_add_test(tc, pipe_reader_gone_since);
	tcase_add_test(tc, pipe_read_end_is_never_writable);
	tcase_add_test(tc, pipe_read_end_is_left_alone);
	tcase_add_test(tc, fifo_end_and_new_reader);
#ifdef NOTE_NODATA
	tcase_add_loop_test(tc, nodata_reports_one, 0, STREAMS);
#endif
	tcase_add_loop_test(tc, terminal_space, 0, 2);
	tcase_add_test(tc, file);
#ifdef __linux__
	tcase_add_test(tc, eventfd_room);
#endif
	return t_end();
}
