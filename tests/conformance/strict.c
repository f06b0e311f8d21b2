/*
 * KQ_STRICT=1: closes that the library does not hear of.  kqueue(2),
 * ENVIRONMENT and CAVEATS.
 */
#include "t.h"

#include <sys/syscall.h>

static int
raw_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static int64_t
cpu_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static const int modes[] = { 0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH };
#define MODES 4

/* R-FD-01: a knote ends with its descriptor, though a copy lives. */
START_TEST(closed_unheard)
{
	int s[2];

	t_unix(SOCK_STREAM, s);
	ck_assert_int_ne(dup(s[0]), -1);
	t_add(s[0], EVFILT_READ, modes[_i]);
	t_add(s[0], EVFILT_WRITE, modes[_i]);
	ck_assert_int_eq(raw_close(s[0]), 0);
	t_put(s[1], 1);
	t_quiet();
	t_fails(EBADF, s[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-FD-01: ... and once that has been noticed, it costs nothing. */
START_TEST(closed_unheard_is_quiet)
{
	int64_t before;
	int s[2];

	t_unix(SOCK_STREAM, s);
	ck_assert_int_ne(dup(s[0]), -1);
	t_add(s[0], EVFILT_READ, 0);
	ck_assert_int_eq(raw_close(s[0]), 0);
	t_put(s[1], 1);
	t_quiet();
	t_put(s[1], 1);
	before = cpu_now();
	t_quiet();
	ck_assert_int_lt(cpu_now() - before, T_QUIET_MS * 1000000LL / 2);
}
END_TEST

/* R-FD-04, R-REG-11: a new file with the number has no knote. */
START_TEST(number_used_again)
{
	int s[2], p[2];

	t_unix(SOCK_STREAM, s);
	ck_assert_int_ne(dup(s[0]), -1);
	t_add(s[0], EVFILT_READ, modes[_i]);
	ck_assert_int_eq(raw_close(s[0]), 0);
	t_pipe(p);
	ck_assert_int_eq(p[0], s[0]);
	t_put(s[1], 5);
	t_put(p[1], 2);
	t_quiet();
	t_fails(ENOENT, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	t_add(p[0], EVFILT_READ, modes[_i]);
	t_expect_data(p[0], EVFILT_READ, 2);
}
END_TEST

/* R-FD-03: nor one that a raw dup3() has put there. */
START_TEST(replaced_unheard)
{
	int s[2], p[2];

	t_unix(SOCK_STREAM, s);
	t_pipe(p);
	ck_assert_int_ne(dup(s[0]), -1);
	t_add(s[0], EVFILT_READ, modes[_i]);
	ck_assert_int_eq(syscall(SYS_dup3, p[0], s[0], 0), s[0]);
	t_put(s[1], 5);
	t_put(p[1], 2);
	t_quiet();
	t_fails(ENOENT, s[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
}
END_TEST

/* R-FD-04: ... nor while the library gets rid of another that was closed so. */
START_TEST(another_used_again)
{
	struct kevent ev;
	int s[2], p[2], q[2], i;

	t_unix(SOCK_STREAM, s);
	t_pipe(p);
	t_pipe(q);
	ck_assert_int_ne(dup(s[0]), -1);
	ck_assert_int_ne(dup(p[0]), -1);
	t_add(s[0], EVFILT_READ, 0);
	t_add(p[0], EVFILT_READ, 0);
	ck_assert_int_eq(raw_close(s[0]), 0);
	t_put(s[1], 1);
	ck_assert_int_eq(syscall(SYS_dup3, q[0], p[0], 0), p[0]);
	t_put(q[1], 1);
	for (i = 0; i < 8; i++)
		ck_assert_int_eq(t_poll(&ev), 0);
	t_fails(ENOENT, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-FD-01: others in the same collection are returned as ever. */
START_TEST(others_are_returned)
{
	struct kevent ev[4];
	int s[2], p[2];

	t_unix(SOCK_STREAM, s);
	t_pipe(p);
	ck_assert_int_ne(dup(s[0]), -1);
	t_add(s[0], EVFILT_READ, 0);
	t_add(p[0], EVFILT_READ, 0);
	t_put(s[1], 5);
	t_put(p[1], 2);
	ck_assert_int_eq(t_get(t_kq, ev, 4, T_DEADLINE_MS), 2);
	ck_assert_int_eq(raw_close(s[0]), 0);
	ck_assert_int_eq(t_get(t_kq, ev, 4, T_DEADLINE_MS), 1);
	ck_assert_uint_eq(ev[0].ident, (uintptr_t)p[0]);
	ck_assert_int_eq(ev[0].data, 2);
	t_take(p[0], 2);
	t_quiet();
}
END_TEST

/* R-FD-01: ... also if one was watched beside another that has been deleted. */
START_TEST(what_is_watched_otherwise_is_returned)
{
	struct kevent ev[4];
	int s[2], u[2], i;

	t_unix(SOCK_STREAM, s);
	t_unix(SOCK_STREAM, u);
	ck_assert_int_ne(dup(s[0]), -1);
	t_put(s[1], 1);
	t_add(s[0], EVFILT_READ, 0);
	t_add(u[0], EVFILT_READ, EV_CLEAR);
	t_add(u[0], EVFILT_WRITE, 0);
	ck_assert_int_eq(raw_close(s[0]), 0);
	ck_assert_int_eq(t_get(t_kq, ev, 4, 0), 1);
	t_delete(u[0], EVFILT_READ);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(t_get(t_kq, ev, 4, 0), 1);
		ck_assert_uint_eq(ev[0].ident, (uintptr_t)u[0]);
		ck_assert_int_eq(ev[0].filter, EVFILT_WRITE);
	}
}
END_TEST

int
main(void)
{
	TCase *tc;

	setenv("KQ_STRICT", "1", 1);
	tc = t_begin("strict");
	tcase_add_loop_test(tc, closed_unheard, 0, MODES);
	tcase_add_test(tc, closed_unheard_is_quiet);
	tcase_add_loop_test(tc, number_used_again, 0, MODES);
	tcase_add_loop_test(tc, replaced_unheard, 0, MODES);
	tcase_add_test(tc, another_used_again);
	tcase_add_test(tc, others_are_returned);
	tcase_add_test(tc, what_is_watched_otherwise_is_returned);
	return t_end();
}
