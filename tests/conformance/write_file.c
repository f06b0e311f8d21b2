/*
 * EVFILT_WRITE on pipes, terminals and files.
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
	TCase *tc = t_begin("write_file");

	tcase_add_test(tc, pipe_space);
	tcase_add_test(tc, pipe_reader_gone);
	tcase_add_test(tc, pipe_reader_gone_before);
	tcase_add_test(tc, pipe_reader_gone_since);
	tcase_add_test(tc, pipe_read_end_is_never_writable);
	tcase_add_test(tc, pipe_read_end_is_left_alone);
	tcase_add_test(tc, fifo_end_and_new_reader);
	tcase_add_loop_test(tc, terminal_space, 0, 2);
	tcase_add_test(tc, file);
#ifdef __linux__
	tcase_add_test(tc, eventfd_room);
#endif
	return t_end();
}
