/*
 * What a process may meet or do that is none of its business as usual: no
 * descriptor left, a child that libc does not know of.
 */
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "t_unit.h"

static int kq, fds[2];

static void
setup(void)
{
	kq = kqueue();
	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
			     fds),
	    0);
}

static int
change(int ident, short filter, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)ident, filter, flags, 0, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL);
}

static int
next(struct kevent *ev, time_t seconds)
{
	struct timespec ts = { .tv_sec = seconds };

	return kevent(kq, NULL, 0, ev, 1, &ts);
}

/* READ with EV_CLEAR would move WRITE to an epoll that cannot be opened. */
START_TEST(a_failed_add_leaves_the_other_filter)
{
	struct rlimit none, all;
	static char bytes[65536];
	struct kevent ev;

	while (write(fds[0], bytes, sizeof(bytes)) > 0)
		continue;
	ck_assert_int_eq(change(fds[0], EVFILT_WRITE, EV_ADD), 0);
	ck_assert_int_eq(next(&ev, 0), 0);

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &all), 0);
	none = all;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD | EV_CLEAR), -1);
	ck_assert_int_eq(errno, EMFILE);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &all), 0);
	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_DELETE), -1);
	ck_assert_int_eq(errno, ENOENT);

	while (read(fds[1], bytes, sizeof(bytes)) > 0)
		continue;
	ck_assert_int_eq(next(&ev, 20), 1);
	ck_assert_int_eq(ev.filter, EVFILT_WRITE);
	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD | EV_CLEAR), 0);
}
END_TEST

/* -- closed behind the library's back -------------------------------------- */

/*
 * A copy keeps a closed file open, and it has something to read, for ever: the
 * queue's epoll is replaced.
 */
static void
lose_one(void)
{
	struct kevent ev;
	int copy, p[2];

	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD), 0);
	ck_assert_int_ne(copy = dup(fds[0]), -1);
	ck_assert_int_eq(syscall(SYS_close, fds[0]), 0);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(p[0], fds[0]);
	ck_assert_int_eq(change(p[0], EVFILT_READ, EV_DELETE), 0);
	ck_assert_int_eq(change(p[0], EVFILT_READ, EV_ADD), 0);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(next(&ev, 0), 0);
}

static void
trigger(void)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
	ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
}

/* Level, edge, once: who watches the queue goes on to. */
START_TEST(watched_by_a_queue)
{
	static const unsigned short modes[] = { 0, EV_CLEAR, EV_DISPATCH };
	const struct timespec none = { 0 }, long_time = { .tv_sec = 20 };
	int outer = kqueue(), copy = dup(kq);
	struct kevent ev;

	EV_SET(&ev, copy, EVFILT_READ, EV_ADD | modes[_i], 0, 0, &outer);
	ck_assert_int_eq(kevent(outer, &ev, 1, NULL, 0, NULL), 0);
	lose_one();
	kevent(outer, NULL, 0, &ev, 1, &none);
	ck_assert_int_eq(next(&ev, 0), 0);
	EV_SET(&ev, copy, EVFILT_READ, EV_ENABLE, 0, 0, &outer);
	ck_assert_int_eq(kevent(outer, &ev, 1, NULL, 0, NULL), 0);
	ck_assert_int_eq(kevent(outer, NULL, 0, &ev, 1, &none), 0);
	trigger();
	ck_assert_int_eq(kevent(outer, NULL, 0, &ev, 1, &long_time), 1);
	ck_assert_uint_eq(ev.ident, (uintptr_t)copy);
	ck_assert_ptr_eq(ev.udata, &outer);
}
END_TEST

START_TEST(watched_by_an_epoll)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET,
		.data.u64 = 0x123456789abcdef };
	int outer = epoll_create1(0), i;

	/* Among many: its line is not in the first piece of the file. */
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(epoll_ctl(outer, EPOLL_CTL_ADD,
				     eventfd(0, EFD_NONBLOCK), &ev),
		    0);
	ck_assert_int_eq(epoll_ctl(outer, EPOLL_CTL_ADD, kq, &ev), 0);
	lose_one();
	while (epoll_wait(outer, &ev, 1, 0) == 1)
		continue;
	trigger();
	ev.data.u64 = 0;
	ck_assert_int_eq(epoll_wait(outer, &ev, 1, 20000), 1);
	ck_assert_uint_eq(ev.data.u64, 0x123456789abcdef);
}
END_TEST

/* Nor does it make the queue look ready when no knote wants to know. */
START_TEST(lost_and_unwanted)
{
	static const unsigned short ways[] = { EV_DISABLE, EV_DELETE };
	struct pollfd pfd = { .fd = kq, .events = POLLIN };
	struct kevent ev;

	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD), 0);
	ck_assert_int_ne(dup(fds[0]), -1);
	ck_assert_int_eq(write(fds[1], "x", 1), 1);
	ck_assert_int_eq(change(fds[0], EVFILT_READ, ways[_i]), 0);
	ck_assert_int_eq(syscall(SYS_close, fds[0]), 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(next(&ev, 0), 0);
	ck_assert_int_eq(poll(&pfd, 1, 0), 0);
}
END_TEST

/* Of the socket that had the number the kernel was asked to tell. */
static void
close_socket(void)
{
	ck_assert_int_eq(change(fds[0], EVFILT_WRITE, EV_ADD), 0);
	ck_assert_int_eq(change(fds[0], EVFILT_WRITE, EV_DELETE), 0);
	ck_assert_int_eq(syscall(SYS_close, fds[0]), 0);
}

START_TEST(a_file_where_a_socket_was)
{
	char path[] = "/tmp/t_hostile.XXXXXX";
	struct kevent ev;

	close_socket();
	ck_assert_int_eq(mkstemp(path), fds[0]);
	unlink(path);
	ck_assert_int_eq(write(fds[0], "hello", 5), 5);
	ck_assert_int_eq(lseek(fds[0], 0, SEEK_SET), 0);
	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD), 0);
	ck_assert_int_eq(next(&ev, 0), 1);
	ck_assert_int_eq(ev.data, 5);
}
END_TEST

/* R-WRITE-15 */
START_TEST(a_pipe_where_a_socket_was)
{
	struct kevent ev;
	int p[2];

	close_socket();
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(p[0], fds[0]);
	ck_assert_int_eq(change(p[0], EVFILT_WRITE, EV_ADD), 0);
	ck_assert_int_eq(close(p[1]), 0);
	ck_assert_int_eq(next(&ev, 0), 0);
}
END_TEST

/* -- a child that libc does not know of ------------------------------------ */

/* How the child of clone() takes a number of its parent's for itself. */
enum { CLOSE, CLOSE_RANGE, DUP2, WAYS };

static bool
take_number(int fd, int way)
{
	switch (way) {
	case CLOSE:
		return close(fd) == 0 && fcntl(fds[0], F_DUPFD, fd) == fd;
	case CLOSE_RANGE:
		return close_range((unsigned int)fd, (unsigned int)fd, 0) ==
		    0 &&
		    fcntl(fds[0], F_DUPFD, fd) == fd;
	default:
		return dup2(fds[0], fd) == fd;
	}
}

static bool
same_file(int a, int b)
{
	struct stat x, y;

	return fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
	    x.st_ino == y.st_ino;
}

/* The queue's number, and each that the library has, name files of its. */
static bool
reuse_numbers(int way)
{
	bool taken[2048] = { false };
	int fd, other;

	for (fd = fds[1] + 1; fd < 2048; fd++)
		if (fd == kq || fcntl(fd, F_GETFD) != -1)
			taken[fd] = true;
	taken[kq] = true;
	for (fd = 0; fd < 2048; fd++)
		if (taken[fd] && !take_number(fd, way))
			return false;
	if ((other = kqueue()) == -1 || taken[other])
		return false;
	for (fd = 0; fd < 2048; fd++)
		if (taken[fd] && !same_file(fd, fds[0]))
			return false;
	return true;
}

START_TEST(a_raw_child_reuses_numbers)
{
	pid_t child;
	int status;

	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_ADD), 0);
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (child == 0)
		_exit(reuse_numbers(_i) ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	/* The parent's queue is what it was. */
	ck_assert_int_eq(change(fds[0], EVFILT_READ, EV_DELETE), 0);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("hostile");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, a_failed_add_leaves_the_other_filter);
	tcase_add_loop_test(tc, watched_by_a_queue, 0, 3);
	tcase_add_test(tc, watched_by_an_epoll);
	tcase_add_loop_test(tc, lost_and_unwanted, 0, 2);
	tcase_add_test(tc, a_file_where_a_socket_was);
	tcase_add_test(tc, a_pipe_where_a_socket_was);
	tcase_add_loop_test(tc, a_raw_child_reuses_numbers, 0, WAYS);
	return unit_end();
}
