/*
 * What close(2) and its relatives do to knotes.
 * docs/kqueue-rules.md, section 6, R-FD-01 to R-FD-05.
 */
#include "t.h"

#include <dirent.h>
#include <stdio.h>

#ifdef __linux__
#include <sys/syscall.h>
#endif

static void
by_close(int fd)
{
	ck_assert_int_eq(close(fd), 0);
}

static void
by_fclose(int fd)
{
	FILE *stream = fdopen(fd, "r+");

	ck_assert_ptr_nonnull(stream);
	ck_assert_int_eq(fclose(stream), 0);
}

static void
by_freopen(int fd)
{
	FILE *stream = fdopen(fd, "r+");

	ck_assert_ptr_nonnull(stream);
	stream = freopen("/dev/null", "r", stream);
	ck_assert_ptr_nonnull(stream);
	fclose(stream);
}

static void
by_dup2(int fd)
{
	int other[2];

	t_pipe(other);
	ck_assert_int_eq(dup2(other[0], fd), fd);
	ck_assert_int_eq(close(fd), 0);
}

#ifndef __APPLE__
static void
by_dup3(int fd)
{
	int other[2];

	t_pipe(other);
	ck_assert_int_eq(dup3(other[0], fd, O_CLOEXEC), fd);
	ck_assert_int_eq(close(fd), 0);
}
#endif

#ifdef T_FREEBSD
static void
by_close_range(int fd)
{
	ck_assert_int_eq(close_range((unsigned)fd, (unsigned)fd, 0), 0);
}

/* The highest descriptor of the test is the one that is watched. */
static void
by_closefrom(int fd)
{
	closefrom(fd);
}
#endif

static const struct {
	const char *name;
	void (*close)(int);
} closers[] = {
	{ "close", by_close },
	{ "fclose", by_fclose },
	{ "freopen", by_freopen },
	{ "dup2", by_dup2 },
#ifndef __APPLE__
	{ "dup3", by_dup3 },
#endif
#ifdef T_FREEBSD
	{ "close_range", by_close_range },
	{ "closefrom", by_closefrom },
#endif
};

/*
 * R-FD-01, R-FD-03: a duplicate keeps the open file alive, data is pending
 * and more arrives; nothing of it shows in either queue.
 */
START_TEST(closing_removes_the_knotes)
{
	int s[2], fd, kq = kqueue();
	struct kevent got;

	t_tcp(s);
	fd = fcntl(s[0], F_DUPFD, 100);
	ck_assert_int_eq(fd, 100);
	t_add(fd, EVFILT_READ, 0);
	t_add(fd, EVFILT_WRITE, 0);
	t_add_on(kq, fd, EVFILT_READ, EV_CLEAR);
	t_put(s[1], 1);
	t_expect_on(kq, &got, fd, EVFILT_READ);
	t_put(s[1], 1);

	closers[_i].close(fd);
	t_put(s[1], 1);
	t_quiet();
	t_quiet_on(kq);
	t_fails(EBADF, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	ck_assert_int_eq(dup2(s[0], fd), fd);
	t_quiet();
	t_gone(fd, EVFILT_READ);
	t_gone(fd, EVFILT_WRITE);
	t_add(fd, EVFILT_READ, 0);
	t_expect(&got, fd, EVFILT_READ);
	ck_assert_int_eq(got.data, 3);
}
END_TEST

/* R-FD-01: without a duplicate, and for each filter of a descriptor alone. */
START_TEST(closing_drops_what_is_pending)
{
	int p[2], q[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	t_add(p[1], EVFILT_WRITE, 0);
	t_put(p[1], 1);
	close(p[0]);
	close(p[1]);
	t_quiet();
	t_pipe(q);
	t_put(q[1], 1);
	t_quiet();
	t_gone(q[0], EVFILT_READ);
	t_gone(q[1], EVFILT_WRITE);
}
END_TEST

/* R-FD-01: a file has no readiness to wait for, yet goes as well. */
START_TEST(closing_a_file_removes_its_knotes)
{
	struct kevent got;
	int fd = t_file("text"), copy = dup(fd);

	t_add(fd, EVFILT_READ, 0);
	t_expect(&got, fd, EVFILT_READ);
	close(fd);
	t_quiet();
	ck_assert_int_eq(dup2(copy, fd), fd);
	t_quiet();
	t_gone(fd, EVFILT_READ);
}
END_TEST

#ifdef __linux__
/* R-FD-01: popen() and pclose() own the descriptor. */
START_TEST(pclose_removes_the_knotes)
{
	FILE *stream = popen("echo hello", "r");
	struct kevent got;
	int fd, copy;

	ck_assert_ptr_nonnull(stream);
	fd = fileno(stream);
	copy = dup(fd);
	ck_assert_int_ne(copy, -1);
	t_add(fd, EVFILT_READ, 0);
	t_expect(&got, fd, EVFILT_READ);
	ck_assert_int_ne(pclose(stream), -1);
	t_quiet();
	t_fails(EBADF, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST
#endif

#ifdef __linux__
/*
 * R-FD-01, R-CALL-08, R-CALL-11: a close that goes past the C library may be
 * noticed late, but the queue goes on: calls end, other events come.
 */
START_TEST(an_unheard_close_does_not_stop_the_queue)
{
	struct kevent got;
	int p[2], fd, other;

	t_pipe(p);
	t_put(p[1], 1);
	fd = fcntl(p[0], F_DUPFD, 100);
	other = open("/dev/null", O_RDONLY);
	t_add(fd, EVFILT_READ, _i == 0 ? 0 : EV_CLEAR);
	t_add(1, EVFILT_USER, EV_CLEAR);
	ck_assert_int_eq(syscall(SYS_dup3, other, fd, 0), fd);
	ck_assert_int_eq(close(fd), 0);
	ck_assert_int_le(t_poll(&got), 1);
	t_put(p[1], 1);
	ck_assert_int_le(t_get(t_kq, &got, 1, 20), 1);
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	t_until(t_poll(&got) == 1 && got.filter == EVFILT_USER);
	t_take(p[0], 2);
	t_quiet();
}
END_TEST
#endif

/* R-FD-01: closedir(), where a folder can be watched (R-READ-47). */
START_TEST(closedir_removes_the_knotes)
{
	DIR *dir = opendir("/");
	int fd, copy;

	ck_assert_ptr_nonnull(dir);
	fd = dirfd(dir);
	copy = dup(fd);
	if (t_try(fd, EVFILT_READ, EV_ADD, 0, 0, NULL) == EINVAL) {
		t_skip("READ of a folder is EINVAL");
		return;
	}
	ck_assert_int_eq(closedir(dir), 0);
	t_quiet();
	ck_assert_int_eq(dup2(copy, fd), fd);
	t_quiet();
	t_gone(fd, EVFILT_READ);
}
END_TEST

/* R-FD-02 */
START_TEST(a_duplicate_has_no_knote)
{
	struct kevent got[4];
	int p[2], copy;

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	copy = dup(p[0]);
	t_gone(copy, EVFILT_READ);
	t_put(p[1], 1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_uint_eq(got[0].ident, p[0]);
	t_add(copy, EVFILT_READ, 0);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 2);
	close(copy);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_uint_eq(got[0].ident, p[0]);
}
END_TEST

/* R-FD-03: the new file on the number is not watched. */
START_TEST(dup2_onto_a_watched_number)
{
	struct kevent got;
	int p[2], q[2];

	t_pipe(p);
	t_pipe(q);
	t_add(p[0], EVFILT_READ, 0);
	t_put(p[1], 1);
	t_put(q[1], 2);
	ck_assert_int_eq(dup2(q[0], p[0]), p[0]);
	t_quiet();
	t_gone(p[0], EVFILT_READ);
	t_add(p[0], EVFILT_READ, 0);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 2);
}
END_TEST

/* R-FD-03: a dup2() that fails, or onto itself, replaces nothing. */
START_TEST(dup2_that_changes_nothing)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_change(p[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(5));
	t_put(p[1], 1);
	ck_assert_int_eq(dup2(p[0], p[0]), p[0]);
	ck_assert_int_eq(dup2(999, p[0]), -1);
	ck_assert_int_eq(errno, EBADF);
#ifdef __linux__
	ck_assert_int_eq(dup3(p[0], p[0], 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(dup3(p[1], p[0], 1), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(close_range(5, 3, 0), -1);
	ck_assert_int_eq(close_range(0, 4096, CLOSE_RANGE_CLOEXEC), 0);
#endif
	ck_assert_int_eq(close(999), -1);
	ck_assert_int_eq(errno, EBADF);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(5));
	t_delete(p[0], EVFILT_READ);
}
END_TEST

/* R-FD-04: what happens to one that is not watched is nothing to the next. */
START_TEST(a_reused_number_is_not_shut_down)
{
	struct kevent got;
	int s[2], number;

	t_unix(SOCK_STREAM, s);
	number = s[0];
	t_add(number, EVFILT_WRITE, 0);
	t_delete(number, EVFILT_WRITE);
	close(number);
	t_unix(SOCK_STREAM, s);
	ck_assert_int_ne(dup(number), -1);
	ck_assert_int_eq(shutdown(number, SHUT_WR), 0);
	close(number);
	t_unix(SOCK_STREAM, s);
	ck_assert_int_eq(s[0], number);
	t_add(number, EVFILT_WRITE, 0);
	t_expect(&got, number, EVFILT_WRITE);
	ck_assert_int_eq(got.flags & EV_EOF, 0);
}
END_TEST

/* R-FD-04: again and again, a file of another kind on the same number. */
START_TEST(a_reused_number_is_fresh)
{
	struct kevent got;
	int round, e[2];

	for (round = 0; round < 60; round++) {
		if (round % 3 == 0)
			t_pipe(e);
		else if (round % 3 == 1)
			t_unix(SOCK_STREAM, e);
		else
			t_tcp(e);
		t_gone(e[0], EVFILT_READ);
		t_none();
		t_change(e[0], EVFILT_READ, EV_ADD | (round & 1 ? EV_CLEAR : 0),
		    0, 0, t_ptr(round));
		t_none();
		t_put(e[1], 1 + (size_t)round);
		t_expect(&got, e[0], EVFILT_READ);
		ck_assert_ptr_eq(got.udata, t_ptr(round));
		ck_assert_int_eq(got.data, 1 + round);
		if (round & 2) /* pending at the close, else collected */
			t_put(e[1], 1);
		close(e[0]);
		close(e[1]);
	}
}
END_TEST

/* The argument, if 50 ms pass without an event, else NULL. */
static void *
wait_briefly(void *arg)
{
	int64_t start = t_now();
	struct kevent got;

	if (t_get(t_kq, &got, 1, 50) != 0 || t_now() - start < 50000000)
		return NULL;
	return arg;
}

/* R-FD-05 */
START_TEST(closing_does_not_wake)
{
	pthread_t thread;
	int s[2], copy;

	t_tcp(s);
	copy = dup(s[0]);
	t_add(s[0], EVFILT_READ, 0);
	t_add(copy, EVFILT_READ, 0);
	thread = t_thread(wait_briefly, s);
	t_pause(10);
	close(copy);
	close(s[0]);
	ck_assert_ptr_eq(t_join(thread), s);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("fd");

	tcase_add_loop_test(tc, closing_removes_the_knotes, 0,
	    (int)T_COUNT(closers));
	tcase_add_test(tc, closing_drops_what_is_pending);
	tcase_add_test(tc, closing_a_file_removes_its_knotes);
#ifdef __linux__
	tcase_add_test(tc, pclose_removes_the_knotes);
	tcase_add_loop_test(tc, an_unheard_close_does_not_stop_the_queue, 0, 2);
#endif
	tcase_add_test(tc, closedir_removes_the_knotes);
	tcase_add_test(tc, a_duplicate_has_no_knote);
	tcase_add_test(tc, dup2_onto_a_watched_number);
	tcase_add_test(tc, dup2_that_changes_nothing);
	tcase_add_test(tc, a_reused_number_is_fresh);
	tcase_add_test(tc, a_reused_number_is_not_shut_down);
	tcase_add_test(tc, closing_does_not_wake);
	return t_end();
}
