/*
 * Level, EV_CLEAR, EV_ONESHOT, EV_DISPATCH.  docs/kqueue-rules.md, section 4.
 */
#include "t.h"

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

static void *
trigger_soon(void *arg)
{
	t_pause(15);
	trigger(1);
	return arg;
}

/* Kinds of connected pair for the rules of sockets and pipes. */
enum { PIPE, TCP, UNIX, KINDS };

/* e[0] is to be read, e[1] to be written. */
static void
ends(int kind, int e[2])
{
	if (kind == PIPE)
		t_pipe(e);
	else if (kind == TCP)
		t_tcp(e);
	else
		t_unix(SOCK_STREAM, e);
}

/* -- level ----------------------------------------------------------------- */

/* R-MODE-01 */
START_TEST(level_returns_while_active)
{
	struct kevent got;
	int e[2], i;

	ends(_i, e);
	t_add(e[0], EVFILT_READ, 0);
	t_none();
	t_put(e[1], 3);
	for (i = 0; i < 4; i++) {
		t_expect(&got, e[0], EVFILT_READ);
		ck_assert_int_eq(got.data, 3);
	}
	t_take(e[0], 2);
	t_expect(&got, e[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 1);
	t_take(e[0], 1);
	t_quiet();
}
END_TEST

/* R-MODE-01: pending but gone before it was collected. */
START_TEST(level_is_asked_again_when_collected)
{
	struct kevent got[4];
	int e[2], f[2];

	ends(_i, e);
	ends(_i, f);
	t_add(e[0], EVFILT_READ, 0);
	t_add(f[0], EVFILT_READ, 0);
	t_put(e[1], 1);
	t_put(f[1], 1);
	t_readable(e[0]);
	t_readable(f[0]);
	t_take(e[0], 1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_uint_eq(got[0].ident, f[0]);
	t_take(f[0], 1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 0);
}
END_TEST

/* R-MODE-02: what was pending has gone; the call waits its time out. */
START_TEST(inactive_knotes_do_not_end_the_wait)
{
	struct kevent got;
	int64_t start;
	pthread_t thread;
	int e[2];

	ends(_i, e);
	t_add(e[0], EVFILT_READ, 0);
	t_put(e[1], 1);
	t_expect(&got, e[0], EVFILT_READ);
	t_take(e[0], 1);
	start = t_now();
	ck_assert_int_eq(t_get(t_kq, &got, 1, 20), 0);
	ck_assert_int_ge(t_now() - start, 20000000);

	t_put(e[1], 1);
	t_expect(&got, e[0], EVFILT_READ);
	t_take(e[0], 1);
	t_add(1, EVFILT_USER, 0);
	thread = t_thread(trigger_soon, NULL);
	t_expect(&got, 1, EVFILT_USER);
	t_join(thread);
}
END_TEST

/* -- EV_CLEAR -------------------------------------------------------------- */

/* R-MODE-03 */
START_TEST(clear_resets_data)
{
	struct kevent got;
	int64_t sum = 0, start = t_now();

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 10, NULL);
	while (sum < 3) {
		t_expect(&got, 1, EVFILT_TIMER);
		ck_assert_int_ge(got.data, 1);
		sum += got.data;
		ck_assert_int_le(sum, (t_now() - start) / 10000000);
	}

	t_add(2, EVFILT_USER, EV_CLEAR);
	t_delete(1, EVFILT_TIMER);
	trigger(2);
	t_expect(&got, 2, EVFILT_USER);
	t_quiet();
}
END_TEST

/* R-MODE-04 */
START_TEST(clear_read_fires_on_each_arrival)
{
	struct kevent got;
	int e[2];

	ends(_i, e);
	t_add(e[0], EVFILT_READ, EV_CLEAR);
	t_put(e[1], 3);
	t_expect(&got, e[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 3);
	t_none();
	t_put(e[1], 2);
	t_expect(&got, e[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 5);
	t_take(e[0], 2);
	t_quiet();
	t_put(e[1], 1);
	t_expect(&got, e[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 4);
}
END_TEST

/* R-MODE-05: at registration, then when space returns after EAGAIN. */
START_TEST(clear_write_fires_when_space_returns)
{
	struct kevent got;
	int e[2], round;

	ends(_i, e);
	t_add(e[1], EVFILT_WRITE, EV_CLEAR);
	t_expect(&got, e[1], EVFILT_WRITE);
	t_none();
	for (round = 0; round < 3; round++) {
		ck_assert_uint_gt(t_fill(e[1]), 0);
		while (t_poll(&got) == 1) /* space came while it filled */
			t_fill(e[1]);
		while (t_poll(&got) == 0)
			t_drain(e[0]);
		ck_assert_int_eq(got.filter, EVFILT_WRITE);
		ck_assert_int_eq(write(e[1], "x", 1), 1);
	}
}
END_TEST

static const unsigned int again[] = { EV_ADD, EV_ENABLE, 0 };

/* R-MODE-06 */
START_TEST(clear_is_asked_again_by_a_change)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, EV_CLEAR);
	t_add(p[1], EVFILT_WRITE, EV_CLEAR);
	ck_assert_int_eq(t_poll(&got) + t_poll(&got), 2);
	t_quiet();
	t_change(p[0], EVFILT_READ, again[_i], 0, 0, NULL);
	if (_i < 2)
		t_expect(&got, p[0], EVFILT_READ);
	t_change(p[1], EVFILT_WRITE, again[_i], 0, 0, NULL);
	if (_i < 2)
		t_expect(&got, p[1], EVFILT_WRITE);
	t_delete(p[0], EVFILT_READ);
	t_delete(p[1], EVFILT_WRITE);
	t_none();
}
END_TEST

static void
on_signal(int signo)
{
	(void)signo;
}

/* R-MODE-07 */
START_TEST(clear_is_forced_for_some_filters)
{
	struct kevent got;

	signal(SIGUSR1, on_signal);
	t_add(SIGUSR1, EVFILT_SIGNAL, 0);
	raise(SIGUSR1);
	t_expect(&got, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_uint_eq(got.flags & T_MODES, EV_CLEAR);
	t_quiet();

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 1, NULL);
	t_expect(&got, 1, EVFILT_TIMER);
	ck_assert_uint_eq(got.flags & T_MODES, EV_CLEAR);
	t_delete(1, EVFILT_TIMER);

	t_change(1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_uint_eq(got.flags & T_MODES, 0);
	t_delete(1, EVFILT_USER);
#ifdef NOTE_ABSTIME
	t_change(1, EVFILT_TIMER, EV_ADD, NOTE_ABSTIME, 1, NULL);
	t_expect(&got, 1, EVFILT_TIMER);
	ck_assert_uint_eq(got.flags & T_MODES, 0);
#endif
}
END_TEST

/* -- EV_ONESHOT and EV_DISPATCH -------------------------------------------- */

static const short filters[] = { EVFILT_READ, EVFILT_WRITE, EVFILT_USER,
	EVFILT_TIMER };

/* Register one of them so that it is active soon, and return its ident. */
static uintptr_t
active(int filter, unsigned int mode)
{
	uintptr_t ident = 1;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	if (filter == EVFILT_READ || filter == EVFILT_WRITE)
		ident = (uintptr_t)p[filter == EVFILT_WRITE];
	t_change(ident, filter, EV_ADD | mode, 0, 2, NULL);
	if (filter == EVFILT_USER)
		t_change(ident, filter, 0, NOTE_TRIGGER, 2, NULL);
	return ident;
}

/* R-MODE-08, R-MODE-12: with EV_DISPATCH in the second half of the loop. */
START_TEST(oneshot_returns_once_and_is_gone)
{
	unsigned int more = _i >= (int)T_COUNT(filters) ? EV_DISPATCH : 0;
	int filter = filters[_i % (int)T_COUNT(filters)];
	uintptr_t ident = active(filter, EV_ONESHOT | more);
	struct kevent got;

	t_expect(&got, ident, filter);
	ck_assert(got.flags & EV_ONESHOT);
	t_gone(ident, filter);
	t_fails(ENOENT, ident, filter, EV_ENABLE, 0, 0, NULL);
	t_quiet();
	t_change(ident, filter, EV_ADD, 0, 5000, NULL);
	t_delete(ident, filter);
}
END_TEST

/* R-MODE-09: either is right, as long as the knote agrees with it. */
START_TEST(oneshot_whose_condition_went)
{
	struct kevent got;
	int p[2], n;

	t_pipe(p);
	t_add(p[0], EVFILT_READ, EV_ONESHOT);
	t_put(p[1], 1);
	t_take(p[0], 1);
	n = t_poll(&got);
	if (n == 1) {
		ck_assert_uint_eq(got.ident, p[0]);
		t_gone(p[0], EVFILT_READ);
	} else {
		ck_assert_int_eq(n, 0);
		t_put(p[1], 1);
		t_expect(&got, p[0], EVFILT_READ);
		t_gone(p[0], EVFILT_READ);
	}
}
END_TEST

/* R-MODE-10 */
START_TEST(dispatch_is_silent_until_enabled)
{
	int filter = filters[_i], round;
	uintptr_t ident = active(filter, EV_DISPATCH);
	struct kevent got;

	for (round = 0; round < 3; round++) {
		t_expect(&got, ident, filter);
		ck_assert(got.flags & EV_DISPATCH);
		t_quiet();
		t_change(ident, filter, EV_ENABLE, 0, 2, NULL);
	}
	t_expect(&got, ident, filter);
	t_delete(ident, filter);
}
END_TEST

/* R-MODE-10: what arrives while it is disabled is not lost. */
START_TEST(dispatch_sees_what_came_meanwhile)
{
	struct kevent got;
	int e[2];

	ends(_i, e);
	t_add(e[0], EVFILT_READ, EV_DISPATCH);
	t_put(e[1], 3);
	t_expect(&got, e[0], EVFILT_READ);
	t_take(e[0], 3);
	t_put(e[1], 2);
	t_readable(e[0]);
	t_quiet();
	t_change(e[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, e[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 2);
	t_take(e[0], 2);
	t_change(e[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_quiet();
}
END_TEST

/* R-MODE-11: the notes are still there when it is enabled. */
START_TEST(dispatch_keeps_fflags)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD | EV_DISPATCH, 0x123, 0, NULL);
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_uint_eq(got.fflags, 0x123);
	t_none();
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_uint_eq(got.fflags, 0x123);
}
END_TEST

/* R-MODE-13: disabled by EV_DISPATCH, un-triggered by EV_CLEAR. */
START_TEST(dispatch_and_clear_both_act)
{
	struct kevent got;
	int p[2];

	t_add(1, EVFILT_USER, EV_DISPATCH | EV_CLEAR);
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	t_quiet();
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	trigger(1);
	t_quiet();
	t_delete(1, EVFILT_USER);

	t_pipe(p);
	t_add(p[0], EVFILT_READ, EV_DISPATCH | EV_CLEAR);
	t_put(p[1], 1);
	t_expect(&got, p[0], EVFILT_READ);
	t_put(p[1], 1);
	t_quiet();
	t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 2);
}
END_TEST

/* R-MODE-15 */
START_TEST(eof_does_not_remove_the_knote)
{
	struct kevent got;
	int e[2], i;

	ends(_i, e);
	t_add(e[0], EVFILT_READ, 0);
	t_put(e[1], 2);
	close(e[1]);
	t_until(t_poll(&got) == 1 && (got.flags & EV_EOF));
	t_take(e[0], 2);
	for (i = 0; i < 3; i++) {
		t_expect(&got, e[0], EVFILT_READ);
		ck_assert(got.flags & EV_EOF);
		ck_assert(!(got.flags & EV_ONESHOT));
		ck_assert_int_eq(got.data, 0);
	}
	t_delete(e[0], EVFILT_READ);
	t_none();
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("mode");
	int n = (int)T_COUNT(filters);

	tcase_add_loop_test(tc, level_returns_while_active, 0, KINDS);
	tcase_add_loop_test(tc, level_is_asked_again_when_collected, 0, KINDS);
	tcase_add_loop_test(tc, inactive_knotes_do_not_end_the_wait, 0, KINDS);
	tcase_add_test(tc, clear_resets_data);
	tcase_add_loop_test(tc, clear_read_fires_on_each_arrival, 0, KINDS);
	tcase_add_loop_test(tc, clear_write_fires_when_space_returns, 0, KINDS);
	tcase_add_loop_test(tc, clear_is_asked_again_by_a_change, 0,
	    (int)T_COUNT(again));
	tcase_add_test(tc, clear_is_forced_for_some_filters);
	tcase_add_loop_test(tc, oneshot_returns_once_and_is_gone, 0, 2 * n);
	tcase_add_test(tc, oneshot_whose_condition_went);
	tcase_add_loop_test(tc, dispatch_is_silent_until_enabled, 0, n);
	tcase_add_loop_test(tc, dispatch_sees_what_came_meanwhile, 0, KINDS);
	tcase_add_test(tc, dispatch_keeps_fflags);
	tcase_add_test(tc, dispatch_and_clear_both_act);
	tcase_add_loop_test(tc, eof_does_not_remove_the_knote, 0, KINDS);
	return t_end();
}
