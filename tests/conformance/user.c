/*
 * EVFILT_USER: events that the program makes itself.
 * docs/kqueue-rules.md, section 15.
 */
#include "t.h"

#include <sys/time.h>

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

/* R-USER-01 */
START_TEST(silent_until_triggered)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD, NOTE_FFCOPY | 5, 6, NULL);
	t_change(1, EVFILT_USER, 0, NOTE_FFOR | 8, 7, NULL);
	t_change(1, EVFILT_USER, EV_ENABLE, NOTE_FFNOP, 8, NULL);
	t_quiet();
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
}
END_TEST

static void *
wait_one(void *arg)
{
	return (void *)(intptr_t)t_wait(arg);
}

/* R-USER-02: level, so each of the waiting threads gets it. */
START_TEST(a_trigger_wakes_the_waiting)
{
	struct kevent got[3];
	pthread_t thread[3];
	int i;

	t_add(1, EVFILT_USER, 0);
	for (i = 0; i < 3; i++)
		thread[i] = t_thread(wait_one, &got[i]);
	t_pause(10);
	trigger(1);
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq((intptr_t)t_join(thread[i]), 1);
		ck_assert_uint_eq(got[i].ident, 1);
	}
}
END_TEST

/* R-USER-03 */
START_TEST(a_trigger_in_the_creating_add)
{
#if defined(__FreeBSD__) || defined(__NetBSD__)
	t_skip("has no effect");
#else
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR,
	    NOTE_TRIGGER | NOTE_FFCOPY | 3, 4, t_ptr(5));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_uint_eq(got.fflags, 3);
	ck_assert_int_eq(got.data, 4);
	ck_assert_ptr_eq(got.udata, t_ptr(5));
	t_none();
#endif
}
END_TEST

/* R-USER-04 */
START_TEST(level_stays_active)
{
	struct kevent got;
	int i;

	t_add(1, EVFILT_USER, 0);
	trigger(1);
	for (i = 0; i < 5; i++)
		t_expect(&got, 1, EVFILT_USER);
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
}
END_TEST

/* R-USER-05 */
START_TEST(clear_merges_triggers)
{
	struct kevent got[4];
	int i;

	t_add(1, EVFILT_USER, EV_CLEAR);
	for (i = 0; i < 3; i++)
		trigger(1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	t_quiet();
	for (i = 0; i < 3; i++) {
		trigger(1);
		t_expect(&got[0], 1, EVFILT_USER);
		t_none();
	}
}
END_TEST

/* What a change makes of the stored bits 0x00ff00. */
static const struct {
	unsigned int given, stored;
} combinations[] = {
	{ NOTE_FFNOP, 0x00ff00 }, { NOTE_FFNOP | 0x123456, 0x00ff00 },
	{ NOTE_FFAND | 0x0ff0ff, 0x00f000 }, { NOTE_FFAND, 0 },
	{ NOTE_FFOR | 0x0f0001, 0x0fff01 }, { NOTE_FFOR, 0x00ff00 },
	{ NOTE_FFCOPY | 0x123456, 0x123456 }, { NOTE_FFCOPY, 0 },
	{ NOTE_FFCOPY | NOTE_FFLAGSMASK, NOTE_FFLAGSMASK },
	{ NOTE_FFCOPY | 0x3e000001, 1 }, /* the bits between are no one's */
};

/* R-USER-06, R-USER-08: with the trigger, and in a change of its own. */
START_TEST(fflags_combine)
{
	unsigned int given = combinations[_i].given, round;
	struct kevent got;

	for (round = 0; round < 2; round++) {
		t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0x00ff00, 0, NULL);
		if (round == 0)
			t_change(1, EVFILT_USER, 0, given, 1, NULL);
		t_change(1, EVFILT_USER, 0,
		    NOTE_TRIGGER | (round == 0 ? NOTE_FFNOP : given), 42, NULL);
		t_expect(&got, 1, EVFILT_USER);
		ck_assert_uint_eq(got.fflags, combinations[_i].stored);
		ck_assert_int_eq(got.data, 42);
		t_delete(1, EVFILT_USER);
	}
}
END_TEST

/* R-USER-07: at creation the top bits do not count. */
START_TEST(fflags_at_creation_are_masked)
{
	static const unsigned int top[] = { NOTE_FFNOP, NOTE_FFAND, NOTE_FFOR,
		NOTE_FFCOPY };
	struct kevent got;
	size_t i;

	for (i = 0; i < T_COUNT(top); i++) {
		t_change(1, EVFILT_USER, EV_ADD, top[i] | 0xabcdef, 0, NULL);
		trigger(1);
		t_expect(&got, 1, EVFILT_USER);
#ifdef __FreeBSD__
		got.fflags &= NOTE_FFLAGSMASK;
#endif
		ck_assert_uint_eq(got.fflags, 0xabcdef);
		t_delete(1, EVFILT_USER);
	}
}
END_TEST

/* R-USER-08: each change overwrites data. */
START_TEST(data_is_that_of_the_last_change)
{
	static const int64_t data[] = { 1, 0, -1, INT64_MAX, INT64_MIN };
	struct kevent got;
	size_t i;

	t_change(1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 99, NULL);
	trigger(1);
	for (i = 0; i < T_COUNT(data); i++) {
		t_change(1, EVFILT_USER, 0, 0, data[i], NULL);
		t_expect(&got, 1, EVFILT_USER);
		ck_assert_int_eq(got.data, data[i]);
	}
}
END_TEST

/* R-USER-09 */
START_TEST(a_return_keeps_the_stored_bits)
{
	struct kevent got;
	int i;

	t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	t_change(1, EVFILT_USER, 0, NOTE_FFCOPY | 0x77, 0, NULL);
	for (i = 0; i < 3; i++) {
		trigger(1);
		t_expect(&got, 1, EVFILT_USER);
		ck_assert_uint_eq(got.fflags, 0x77);
	}
}
END_TEST

/* R-USER-10: of a knote with and without EV_CLEAR of its own. */
START_TEST(clear_takes_the_trigger_back)
{
#ifdef __APPLE__
	t_skip("EV_CLEAR of a later change is ignored");
#else
	struct kevent got;

	t_add(1, EVFILT_USER, _i == 0 ? 0 : EV_CLEAR);
	trigger(1);
	t_change(1, EVFILT_USER, EV_CLEAR, 0, 0, NULL);
	t_quiet();
	t_change(1, EVFILT_USER, EV_CLEAR, NOTE_TRIGGER, 0, NULL);
	t_quiet();
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_int_eq(t_poll(&got), _i == 0);
#endif
}
END_TEST

/* R-USER-11 */
START_TEST(a_trigger_overwrites_udata)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, t_ptr(5));
#ifdef EV_KEEPUDATA
	t_change(1, EVFILT_USER, EV_KEEPUDATA, NOTE_TRIGGER, 0, NULL);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_ptr_eq(got.udata, t_ptr(5));
#endif
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, t_ptr(6));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_ptr_eq(got.udata, t_ptr(6));
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_ptr_null(got.udata);
}
END_TEST

/* R-USER-12 */
START_TEST(a_trigger_does_not_create)
{
	t_fails(ENOENT, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	t_fails(ENOENT, 1, EVFILT_USER, EV_ENABLE, NOTE_TRIGGER, 0, NULL);
	t_gone(1, EVFILT_USER);
	t_quiet();
}
END_TEST

/* R-USER-13 */
START_TEST(add_with_trigger_on_an_existing_knote)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 3, 0, t_ptr(1));
	t_change(1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 9, t_ptr(2));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_int_eq(got.data, 9);
	ck_assert_ptr_eq(got.udata, t_ptr(2));
	ck_assert_uint_eq(got.fflags & NOTE_FFLAGSMASK, 3);
	t_none();
}
END_TEST

/* R-USER-14 */
START_TEST(a_disabled_trigger_is_remembered)
{
	struct kevent got;

	t_add(1, EVFILT_USER, _i == 0 ? EV_DISABLE : EV_DISABLE | EV_CLEAR);
	trigger(1);
	t_quiet();
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_int_eq(t_poll(&got), _i == 0);
}
END_TEST

/* R-USER-15 */
START_TEST(dispatch_keeps_the_trigger)
{
	struct kevent got;
	int i;

	t_add(1, EVFILT_USER, EV_DISPATCH);
	trigger(1);
	for (i = 0; i < 3; i++) {
		t_expect(&got, 1, EVFILT_USER);
		t_none();
		t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	}
	t_expect(&got, 1, EVFILT_USER);
	t_quiet();
}
END_TEST

/* R-USER-16 */
START_TEST(oneshot_returns_what_is_stored)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD | EV_ONESHOT, 0, 0, NULL);
	t_change(1, EVFILT_USER, 0, NOTE_FFCOPY | NOTE_TRIGGER | 0x21, 4,
	    t_ptr(8));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_ptr_eq(got.udata, t_ptr(8));
#ifdef __linux__
	ck_assert_uint_eq(got.fflags, 0x21);
	ck_assert_int_eq(got.data, 4);
#else
	ck_assert((got.fflags == 0x21 && got.data == 4) ||
	    (got.fflags == 0 && got.data == 0));
#endif
	t_gone(1, EVFILT_USER);
}
END_TEST

static void *
trigger_often(void *arg)
{
	int i;

	for (i = 0; i < 2000; i++)
		if (t_try((uintptr_t)arg, EVFILT_USER, 0, NOTE_TRIGGER, 0,
			arg) != 0)
			return NULL;
	return arg;
}

/* R-USER-17: four threads trigger, the last trigger of each is seen. */
START_TEST(threads_may_trigger)
{
	enum { N = 4 };
	struct kevent got[N];
	pthread_t thread[N];
	int i, n, seen = 0;
	uintptr_t id;

	for (id = 1; id <= N; id++) {
		t_add(id, EVFILT_USER, EV_CLEAR);
		thread[id - 1] = t_thread(trigger_often, t_ptr(id));
	}
	while (seen != (1 << N) - 1) {
		n = t_get(t_kq, got, N, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++) {
			ck_assert_ptr_eq(got[i].udata, t_ptr(got[i].ident));
			seen |= 1 << (got[i].ident - 1);
		}
	}
	for (i = 0; i < N; i++)
		ck_assert_ptr_nonnull(t_join(thread[i]));
	while (t_get(t_kq, got, N, 0) > 0)
		continue;
	t_quiet();
}
END_TEST

static volatile sig_atomic_t handled, failed;

static void
trigger_in_handler(int signo)
{
	int saved = errno;
	struct kevent change;

	(void)signo;
	EV_SET(&change, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	if (kevent(t_kq, &change, 1, NULL, 0, NULL) == -1)
		failed++;
	handled++;
	errno = saved;
}

static void
signals_every(long us)
{
	struct itimerval every = { { 0, us }, { 0, us } };
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_handler = trigger_in_handler;
	act.sa_flags = SA_RESTART;
	ck_assert_int_eq(sigaction(SIGALRM, &act, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &every, NULL), 0);
}

/* R-USER-17: the handler interrupts changes and collections of its thread. */
START_TEST(a_handler_may_trigger)
{
	struct kevent got[4];
	int p[2], seen = 0;

	t_pipe(p);
	t_put(p[1], 1);
	t_add(1, EVFILT_USER, EV_CLEAR);
	signals_every(100);
	while (handled < 500) {
		t_add(p[0], EVFILT_READ, 0);
		t_change(2, EVFILT_TIMER, EV_ADD, 0, 1000, NULL);
		seen += t_get(t_kq, got, 4, 0) == 2;
		t_delete(p[0], EVFILT_READ);
		t_delete(2, EVFILT_TIMER);
	}
	signals_every(0);
	ck_assert_int_eq(failed, 0);
	ck_assert_int_gt(seen, 0);
	while (t_poll(&got[0]) == 1)
		continue;
	raise(SIGALRM);
	t_expect(&got[0], 1, EVFILT_USER);
	t_none();
}
END_TEST

/* R-USER-17: the wait that the handler interrupts finds its trigger. */
START_TEST(a_handler_s_trigger_is_not_lost)
{
	struct kevent got;
	int round, n;

	t_add(1, EVFILT_USER, EV_CLEAR);
	signals_every(2000);
	for (round = 0; round < 50; round++) {
		do
			n = kevent(t_kq, NULL, 0, &got, 1, NULL);
		while (n == -1 && errno == EINTR);
		ck_assert_int_eq(n, 1);
		ck_assert_uint_eq(got.ident, 1);
	}
	signals_every(0);
	ck_assert_int_ge(handled, 50);
	ck_assert_int_eq(failed, 0);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("user");

	tcase_add_test(tc, silent_until_triggered);
	tcase_add_test(tc, a_trigger_wakes_the_waiting);
	tcase_add_test(tc, a_trigger_in_the_creating_add);
	tcase_add_test(tc, level_stays_active);
	tcase_add_test(tc, clear_merges_triggers);
	tcase_add_loop_test(tc, fflags_combine, 0, (int)T_COUNT(combinations));
	tcase_add_test(tc, fflags_at_creation_are_masked);
	tcase_add_test(tc, data_is_that_of_the_last_change);
	tcase_add_test(tc, a_return_keeps_the_stored_bits);
	tcase_add_loop_test(tc, clear_takes_the_trigger_back, 0, 2);
	tcase_add_test(tc, a_trigger_overwrites_udata);
	tcase_add_test(tc, a_trigger_does_not_create);
	tcase_add_test(tc, add_with_trigger_on_an_existing_knote);
	tcase_add_loop_test(tc, a_disabled_trigger_is_remembered, 0, 2);
	tcase_add_test(tc, dispatch_keeps_the_trigger);
	tcase_add_test(tc, oneshot_returns_what_is_stored);
	tcase_add_test(tc, threads_may_trigger);
	tcase_add_test(tc, a_handler_may_trigger);
	tcase_add_test(tc, a_handler_s_trigger_is_not_lost);
	return t_end();
}
