/*
 * White box: the wheel of time limits against the plain truth, over years of
 * ticks and across the wrap of their 32 bits.
 */
#include "t_server_kit.h"
#include "server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 200, STRIDE = 10 };

static int expired[N];
static int64_t due_at[N], gone_at[N];

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	int *number = kquay_udata(c);

	ck_assert_int_eq(why, KQUAY_IDLE);
	expired[*number]++;
	gone_at[*number] = kit_clock;
}

static const struct kquay_sys clockwork = { .now = kit_now };

/* Limits of every size; the clock goes from one due time to the next. */
static void
run_from(int64_t start)
{
	static const struct kquay_ops ops = { .close = on_close };
	struct kquay_conf conf = { .maxconn = N,
		.udatasz = sizeof(int),
		.sys = &clockwork };
	int sv[2], i, ms, left = N, turns = 0;
	struct kquay_conn *c;

	memset(expired, 0, sizeof(expired));
	kit_clock = 0;
	kit_start(&ops, &conf);
	kit_clock = start;
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
				     0, sv),
		    0);
		c = kquay_adopt(q, sv[0], NULL);
		ck_assert_ptr_nonnull(c);
		*(int *)kquay_udata(c) = i;
		ms = 1 + (int)((unsigned)rand() >> (rand() % 31));
		kquay_timeout(c, ms, -1);
		due_at[i] = kit_clock + ms;
		ck_assert_int_ne(kquay_step(q, 0), -1);
		kit_clock += rand() % STRIDE;
	}
	while (left > 0) {
		ms = kquay_due(q);
		ck_assert_int_ge(ms, 0);
		kit_clock += ms;
		ck_assert_int_ne(kquay_step(q, 0), -1);
		for (left = 0, i = 0; i < N; i++)
			left += expired[i] == 0;
		ck_assert_int_lt(++turns, 100 * N);
	}
	ck_assert_int_eq(kquay_due(q), -1);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(expired[i], 1);
		ck_assert_int_ge(gone_at[i], due_at[i]);
		ck_assert_int_le(gone_at[i], due_at[i] + 2 * TICK_MS + STRIDE);
	}
	kit_stop();
}

START_TEST(every_limit_is_kept_to_two_ticks)
{
	int seed;

	for (seed = 1; seed <= 5; seed++) {
		srand((unsigned)seed);
		run_from(rand());
	}
}
END_TEST

START_TEST(ticks_may_wrap)
{
	int64_t wrap = ((int64_t)1 << 32) * TICK_MS;

	srand(6);
	run_from(wrap - 1000);
	run_from(wrap - 3 * N * 50);
	run_from(wrap / 2 - 1000);
}
END_TEST

/* An activity is a store: it moves nothing on the wheel. */
START_TEST(activity_leaves_the_wheel_alone)
{
	static const struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.idle = 60000,
		.sys = &clockwork };
	struct kquay_conn *c;
	uint32_t place;
	int fd, i;

	kit_start(&ops, &conf);
	fd = kit_join();
	c = kit_conn();
	place = q->wheel.prev[kquay_pool_link(c)];
	ck_assert_uint_ne(place, 0);
	for (i = 0; i < 100; i++) {
		kit_clock += 7;
		kit_send(fd, "x");
		ck_assert_int_eq(kquay_step(q, 1000), 1);
		ck_assert_uint_eq(q->wheel.prev[kquay_pool_link(c)], place);
		ck_assert_uint_eq(c->active, q->tick);
	}
	ck_assert_uint_eq(q->wheel.count, 1);
	kit_stop();
	ck_assert_int_eq(kit_closed.n, 1);
}
END_TEST

START_TEST(a_limit_in_ticks_is_not_shorter)
{
	ck_assert_uint_eq(kquay_wheel_ticks(-1), 0);
	ck_assert_uint_eq(kquay_wheel_ticks(1), 1);
	ck_assert_uint_eq(kquay_wheel_ticks(TICK_MS), 1);
	ck_assert_uint_eq(kquay_wheel_ticks(TICK_MS + 1), 2);
	ck_assert_uint_eq(kquay_wheel_ticks(INT_MAX), (1u << 31) / TICK_MS);
}
END_TEST

static const TTest **const tests[] = {
	&every_limit_is_kept_to_two_ticks,
	&ticks_may_wrap,
	&activity_leaves_the_wheel_alone,
	&a_limit_in_ticks_is_not_shorter,
};

KIT_MAIN("server_wheel", tests)
