/*
 * The order of events, and several threads on one queue.
 * docs/kqueue-rules.md, section 5.
 */
#include "t.h"

#include <stdatomic.h>

#define THREADS 4

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

/* -- order ----------------------------------------------------------------- */

/* R-ORD-01: triggers, collected at once and one by one. */
START_TEST(triggers_come_in_order)
{
	static const uintptr_t order[] = { 5, 2, 9, 1, 7, 3, 8, 4, 6 };
	struct kevent got[16];
	size_t i, n = T_COUNT(order);

	for (i = 1; i <= n; i++)
		t_add(i, EVFILT_USER, EV_CLEAR);
	for (i = 0; i < n; i++)
		trigger(order[i]);
	ck_assert_int_eq(t_get(t_kq, got, 16, 0), n);
	for (i = 0; i < n; i++)
		ck_assert_uint_eq(got[i].ident, order[i]);
	for (i = n; i > 0; i--)
		trigger(order[i - 1]);
	for (i = n; i > 0; i--)
		t_expect(&got[0], order[i - 1], EVFILT_USER);
}
END_TEST

/* R-ORD-01 */
START_TEST(arrivals_come_in_order)
{
	static const int order[] = { 3, 0, 4, 1, 2 };
	struct kevent got[8];
	int p[5][2], i;

	for (i = 0; i < 5; i++) {
		t_pipe(p[i]);
		t_add(p[i][0], EVFILT_READ, EV_CLEAR);
	}
	for (i = 0; i < 5; i++)
		t_put(p[order[i]][1], 1);
	ck_assert_int_eq(t_get(t_kq, got, 8, 0), 5);
	for (i = 0; i < 5; i++)
		ck_assert_uint_eq(got[i].ident, p[order[i]][0]);
}
END_TEST

/*
 * R-ORD-01: descriptors and triggers in turn.  Linux does not tell when a
 * descriptor became ready: there each kind has its own order.
 */
START_TEST(filters_come_in_order)
{
	static const int order[] = { 0, 3, 1, 4, 2, 5 };
	int p[3][2], i, next[2] = { 0, 3 };
	struct kevent got[8];

	for (i = 0; i < 3; i++) {
		t_pipe(p[i]);
		t_change(p[i][0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0,
		    t_ptr(i));
		t_add(i, EVFILT_USER, EV_CLEAR);
	}
	for (i = 0; i < 6; i++)
		if (order[i] < 3)
			t_put(p[order[i]][1], 1);
		else
			t_change(order[i] - 3, EVFILT_USER, 0, NOTE_TRIGGER, 0,
			    t_ptr(order[i]));
	ck_assert_int_eq(t_get(t_kq, got, 8, 0), 6);
	for (i = 0; i < 6; i++) {
#ifndef __linux__
		ck_assert_ptr_eq(got[i].udata, t_ptr(order[i]));
#endif
		ck_assert_ptr_eq(got[i].udata,
		    t_ptr(next[got[i].filter == EVFILT_USER]++));
	}
}
END_TEST

/* Which filters the ready knotes have; several take turns. */
static const struct {
	short filter[3];
	int n;
} mixtures[] = {
	{ { EVFILT_READ }, 1 },
	{ { EVFILT_WRITE }, 1 },
	{ { EVFILT_USER }, 1 },
	{ { EVFILT_READ, EVFILT_WRITE }, 2 },
	{ { EVFILT_READ, EVFILT_WRITE, EVFILT_USER }, 3 },
};

/* Make the i-th level knote, which is active; udata is i. */
static void
make_ready(int filter, int i)
{
	uintptr_t ident = (uintptr_t)i;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	if (filter != EVFILT_USER)
		ident = (uintptr_t)p[filter == EVFILT_WRITE];
	t_change(ident, filter, EV_ADD, 0, 0, t_ptr(i));
	if (filter == EVFILT_USER)
		t_change(ident, filter, 0, NOTE_TRIGGER, 0, t_ptr(i));
}

/*
 * R-ORD-02: 9 ready knotes and 1 to 8 slots, for each mixture.  Who was
 * returned goes to the tail, so each row of 9 events has each knote once,
 * wherever the calls end.
 */
START_TEST(few_slots_starve_none)
{
	enum { READY = 9, ROUNDS = 20 };
	int count[READY] = { 0 }, total = 0, n, i, slots = _i % 8 + 1;
	struct kevent got[READY];

	for (i = 0; i < READY; i++)
		make_ready(mixtures[_i / 8].filter[i % mixtures[_i / 8].n], i);
	while (total < READY * ROUNDS) {
		n = t_get(t_kq, got, slots, 0);
		ck_assert_int_eq(n, slots);
		for (i = 0; i < n; i++)
			count[(uintptr_t)got[i].udata]++;
		total += n;
	}
	for (i = 0; i < READY; i++) {
		ck_assert_int_ge(count[i], ROUNDS);
		ck_assert_int_le(count[i], ROUNDS + 1);
	}
}
END_TEST

/* R-ORD-02: both filters of several sockets, one slot. */
START_TEST(one_slot_cycles_through_both_filters)
{
	enum { SOCKETS = 3, READY = 2 * SOCKETS };
	int s[2], i, round, count[READY];
	struct kevent got;

	for (i = 0; i < SOCKETS; i++) {
		t_unix(SOCK_STREAM, s);
		t_put(s[1], 1);
		t_change(s[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(2 * i));
		t_change(s[0], EVFILT_WRITE, EV_ADD, 0, 0, t_ptr(2 * i + 1));
	}
	for (round = 0; round < 10; round++) {
		memset(count, 0, sizeof(count));
		for (i = 0; i < READY; i++) {
			ck_assert_int_eq(t_poll(&got), 1);
			count[(uintptr_t)got.udata]++;
		}
		for (i = 0; i < READY; i++)
			ck_assert_int_eq(count[i], 1);
	}
}
END_TEST

static atomic_int stop;

/* Write to the pipes, one after another, until told to stop. */
static void *
write_often(void *arg)
{
	int(*p)[2] = arg, i = 0;

	while (!atomic_load(&stop)) {
		if (write(p[i][1], "x", 1) == -1)
			t_drain(p[i][0]);
		i = (i + 1) % 8;
	}
	return NULL;
}

/* R-ORD-03, R-CALL-30: activations race with the collection. */
START_TEST(a_new_activation_is_not_a_second_event)
{
	struct kevent got[32];
	int p[8][2], i, j, n, round;
	pthread_t thread;

	for (i = 0; i < 8; i++) {
		t_pipe(p[i]);
		t_add(p[i][0], EVFILT_READ, i % 2 ? EV_CLEAR : 0);
	}
	thread = t_thread(write_often, p);
	for (round = 0; round < 3000; round++) {
		n = t_get(t_kq, got, 32, T_DEADLINE_MS);
		ck_assert(n >= 1 && n <= 8);
		for (i = 0; i < n; i++)
			for (j = 0; j < i; j++)
				ck_assert_uint_ne(got[i].ident, got[j].ident);
	}
	atomic_store(&stop, 1);
	t_join(thread);
}
END_TEST

/* -- waking ---------------------------------------------------------------- */

static void *
wait_one(void *arg)
{
	return (void *)(intptr_t)t_wait(arg);
}

/* R-ORD-04: what a change makes ready wakes a thread that waits. */
START_TEST(a_change_wakes_a_waiting_thread)
{
	struct kevent got;
	pthread_t thread;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, EV_DISABLE);
	t_add(1, EVFILT_USER, EV_DISABLE);
	trigger(1);
	thread = t_thread(wait_one, &got);
	t_pause(10);
	if (_i == 0)
		t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	else if (_i == 1)
		t_add(p[1], EVFILT_WRITE, 0);
	else if (_i == 2)
		t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	else if (_i == 3)
		t_change(1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL);
	else
		t_add(t_file("text"), EVFILT_READ, 0);
	ck_assert_int_eq((intptr_t)t_join(thread), 1);
	ck_assert_int_eq(got.flags & EV_ERROR, 0);
}
END_TEST

/* R-ORD-04: an earlier timer than the one that is waited for. */
START_TEST(an_earlier_timer_shortens_the_wait)
{
	struct kevent got;
	pthread_t thread;

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 3600000, NULL);
	thread = t_thread(wait_one, &got);
	t_pause(10);
	t_change(2, EVFILT_TIMER, EV_ADD, 0, 5, NULL);
	ck_assert_int_eq((intptr_t)t_join(thread), 1);
	ck_assert_uint_eq(got.ident, 2);
}
END_TEST

/* -- several threads ------------------------------------------------------- */

static atomic_int delivered;

/* Count events until the level trigger 0 says stop. */
static void *
count_events(void *arg)
{
	struct kevent got;

	for (;;) {
		if (kevent(t_kq, NULL, 0, &got, 1, NULL) != 1)
			return NULL;
		if (got.filter == EVFILT_USER && got.ident == 0)
			return arg;
		atomic_fetch_add(&delivered, 1);
	}
}

static const struct {
	short filter;
	unsigned short mode, rearm;
} single[] = {
	{ EVFILT_USER, EV_CLEAR, 0 },
	{ EVFILT_USER, EV_CLEAR | EV_DISPATCH, EV_ENABLE },
	{ EVFILT_USER, EV_ONESHOT, EV_ADD | EV_ONESHOT },
	{ EVFILT_READ, EV_CLEAR, 0 },
	{ EVFILT_READ, EV_DISPATCH, EV_ENABLE },
	{ EVFILT_READ, EV_ONESHOT, EV_ADD | EV_ONESHOT },
};

/* R-ORD-05: each activation to one of four threads, the stop to all. */
START_TEST(an_activation_goes_to_one_thread)
{
	int filter = single[_i].filter, round, i, p[2];
	pthread_t thread[THREADS];
	uintptr_t ident = 1;

	t_pipe(p);
	if (filter == EVFILT_READ)
		ident = (uintptr_t)p[0];
	t_add(0, EVFILT_USER, 0);
	t_add(ident, filter, single[_i].mode);
	for (i = 0; i < THREADS; i++)
		thread[i] = t_thread(count_events, &stop);
	for (round = 1; round <= 500; round++) {
		if (filter == EVFILT_READ)
			t_put(p[1], 1);
		else
			trigger(ident);
		t_until(atomic_load(&delivered) >= round);
		ck_assert_int_eq(atomic_load(&delivered), round);
		if (filter == EVFILT_READ)
			t_take(p[0], 1);
		if (single[_i].rearm != 0)
			t_change(ident, filter, single[_i].rearm, 0, 0, NULL);
	}
	t_pause(10);
	trigger(0);
	for (i = 0; i < THREADS; i++)
		ck_assert_ptr_eq(t_join(thread[i]), &stop);
	ck_assert_int_eq(atomic_load(&delivered), 500);
}
END_TEST

static atomic_uintptr_t deleted;

/*
 * Collect for ever.  An event with the udata of a knote that was deleted
 * before the call began is stale: the thread ends with it.
 */
static void *
collect_fresh(void *arg)
{
	struct timespec brief = { 0, 1000000 };
	struct kevent got[4];
	uintptr_t old;
	int i, n;

	while (!atomic_load(&stop)) {
		old = atomic_load(&deleted);
		n = kevent(t_kq, NULL, 0, got, 4, &brief);
		for (i = 0; i < n; i++)
			if ((uintptr_t)got[i].udata <= old)
				return arg;
	}
	return NULL;
}

/* R-ORD-06 */
START_TEST(no_stale_udata_after_delete)
{
	int filter = _i == 0 ? EVFILT_USER : EVFILT_READ, p[2], i;
	pthread_t thread[2];
	uintptr_t n, ident;

	t_pipe(p);
	t_put(p[1], 1);
	ident = _i == 0 ? 1 : (uintptr_t)p[0];
	for (i = 0; i < 2; i++)
		thread[i] = t_thread(collect_fresh, &stop);
	for (n = 1; n <= 3000; n++) {
		t_change(ident, filter, EV_ADD, 0, 0, t_ptr(n));
		if (_i == 0)
			t_change(ident, filter, 0, NOTE_TRIGGER, 0, t_ptr(n));
		t_delete(ident, filter);
		atomic_store(&deleted, n);
	}
	atomic_store(&stop, 1);
	for (i = 0; i < 2; i++)
		ck_assert_ptr_null(t_join(thread[i]));
	t_quiet();
}
END_TEST

static void *
wait_for_close(void *arg)
{
	struct kevent got;

	if (kevent(*(int *)arg, NULL, 0, &got, 1, NULL) != -1)
		return NULL;
	return (void *)(intptr_t)errno;
}

/* R-ORD-07 */
START_TEST(closing_the_queue_ends_the_wait)
{
#ifdef __FreeBSD__
	t_skip("the other thread goes on waiting");
#else
	pthread_t thread[THREADS];
	int kq = kqueue(), again, i;

	t_add_on(kq, 1, EVFILT_USER, 0);
	for (i = 0; i < THREADS; i++)
		thread[i] = t_thread(wait_for_close, &kq);
	t_pause(20);
	ck_assert_int_eq(close(kq), 0);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq((intptr_t)t_join(thread[i]), EBADF);
	again = kqueue();
	ck_assert_int_eq(again, kq);
	t_change_on(again, 1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
#endif
}
END_TEST

/*
 * R-CALL-29, R-CALL-30, R-ORD-02: as many as are ready, each once, though they
 * are more than any implementation is likely to fetch at a time; with as many
 * slots, with more and with fewer, and with a trigger among them.
 */
START_TEST(hundreds_come_in_one_call)
{
	enum { READY = 600, SLOTS = 1024 };
	static const int slots[] = { READY, SLOTS, 256, 257, 512, 100 };
	static struct kevent got[SLOTS];
	static int count[READY];
	int p[2], i, round, n, want = slots[_i] < READY ? slots[_i] : READY;

	for (i = 0; i < READY - 1; i++) {
		t_pipe(p);
		ck_assert_int_eq(write(p[1], "x", 1), 1);
		ck_assert_int_eq(close(p[1]), 0);
		t_change(p[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(i));
	}
	t_change(1, EVFILT_USER, EV_ADD, 0, 0, t_ptr(i));
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, t_ptr(i));
	for (round = 0; round < 4; round++) {
		memset(count, 0, sizeof(count));
		n = t_get(t_kq, got, slots[_i], 0);
		ck_assert_int_eq(n, want);
		for (i = 0; i < n; i++)
			ck_assert_int_eq(count[(uintptr_t)got[i].udata]++, 0);
	}
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("order");

	tcase_add_test(tc, triggers_come_in_order);
	tcase_add_test(tc, arrivals_come_in_order);
	tcase_add_test(tc, filters_come_in_order);
	tcase_add_loop_test(tc, few_slots_starve_none, 0,
	    8 * (int)T_COUNT(mixtures));
	tcase_add_test(tc, one_slot_cycles_through_both_filters);
	tcase_add_test(tc, a_new_activation_is_not_a_second_event);
	tcase_add_loop_test(tc, a_change_wakes_a_waiting_thread, 0, 5);
	tcase_add_test(tc, an_earlier_timer_shortens_the_wait);
	tcase_add_loop_test(tc, an_activation_goes_to_one_thread, 0,
	    (int)T_COUNT(single));
	tcase_add_loop_test(tc, no_stale_udata_after_delete, 0, 2);
	tcase_add_loop_test(tc, hundreds_come_in_one_call, 0, 6);
	tcase_add_test(tc, closing_the_queue_ends_the_wait);
	return t_end();
}
