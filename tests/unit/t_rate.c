/*
 * Buckets of tokens: against the arithmetic, of whom each is, and what a full
 * table does; with the clock in the test's hand.
 */
#include "rate.h"
#include "t_unit.h"

#include <sys/un.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOBODY ((uid_t)-1)
#define START 1234567890

static struct rate *rate;

static void
start(const char *limit, int when, uint32_t sources)
{
	struct rate_conf conf = { .v6_prefix = 64,
		.sources = sources,
		.when = when };
	char why[256] = "";

	ck_assert_msg(rate_kind.parse(&conf.limit, limit, why, sizeof(why)) ==
		0,
	    "%s", why);
	rate = rate_new(&conf);
	ck_assert_ptr_nonnull(rate);
}

static void
teardown(void)
{
	rate_free(rate);
	rate = NULL;
}

static int
take_in4(uint32_t addr, int64_t ms)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr = { htonl(addr) } };

	return rate_take(rate, (struct sockaddr *)&sin, NOBODY, START + ms);
}

/* Of an address, or "unix" with uid, or "unspec". */
static int
take(const char *who, uid_t uid, int64_t ms)
{
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	struct in_addr in4;

	if (inet_pton(AF_INET, who, &in4) == 1)
		return take_in4(ntohl(in4.s_addr), ms);
	if (strcmp(who, "unix") == 0)
		return rate_take(rate, (struct sockaddr *)&un, uid, START + ms);
	if (strcmp(who, "unspec") == 0)
		return rate_take(rate, &unspec, uid, START + ms);
	ck_assert_int_eq(inet_pton(AF_INET6, who, &in6.sin6_addr), 1);
	return rate_take(rate, (struct sockaddr *)&in6, uid, START + ms);
}

static const struct {
	const char *text, *printed;
	struct rate_limit limit;
} good[] = {
	{ "none", "\"none\"", { 0, 0, 0 } },
	{ "10/s", "\"10/s burst 10\"", { 10, 1000, 10 } },
	{ "10/s burst 20", "\"10/s burst 20\"", { 10, 1000, 20 } },
	{ "300/m", "\"300/m burst 300\"", { 300, 60000, 300 } },
	{ "1/h burst 1", "\"1/h burst 1\"", { 1, 3600000, 1 } },
	{ "1000000/s burst 1000000", "\"1000000/s burst 1000000\"",
	    { 1000000, 1000, 1000000 } },
};

START_TEST(rates_are_read_and_printed)
{
	struct rate_limit limit = { 77, 77, 77 };
	char why[256], *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	ck_assert_int_eq(rate_kind.parse(&limit, good[_i].text, why,
			     sizeof(why)),
	    0);
	ck_assert_uint_eq(limit.tokens, good[_i].limit.tokens);
	ck_assert_uint_eq(limit.per_ms, good[_i].limit.per_ms);
	ck_assert_uint_eq(limit.burst, good[_i].limit.burst);
	rate_kind.print(&limit, out);
	fclose(out);
	ck_assert_str_eq(text, good[_i].printed);
	free(text);
}
END_TEST

static const char *const bad[] = { "", "10", "10/", "/s", "10/x", "10/sm",
	"10/ms", "10/s ", "10/s burst", "10/s burst ", "10/s burst 0",
	"10/s burst 1000001", "10/s burst 20 ", "10/s  burst 20",
	"10/s burst 20 30", "0/s", "-1/s", "+1/s", " 1/s", "1000001/s", "1.5/s",
	"99999999999999999999/s", "10/s burst 99999999999999999999", "None" };

START_TEST(mistakes_are_explained)
{
	struct rate_limit limit = { 77, 78, 79 };
	char why[256], wanted[256];

	ck_assert_int_eq(rate_kind.parse(&limit, bad[_i], why, sizeof(why)),
	    -1);
	snprintf(wanted, sizeof(wanted),
	    "'%s' is not a rate, such as 10/s, 300/m or \"10/s burst 20\" "
	    "(numbers from 1 to 1000000), nor \"none\"",
	    bad[_i]);
	ck_assert_str_eq(why, wanted);
	ck_assert_uint_eq(limit.tokens, 77);
	ck_assert_uint_eq(limit.per_ms, 78);
	ck_assert_uint_eq(limit.burst, 79);
}
END_TEST

START_TEST(a_burst_and_then_the_rate)
{
	int i;

	start("10/s burst 20", RATE_REFUSE, 1000);
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 0), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 99), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 100), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 100), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 350), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 350), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 350), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 400), 0);
	/* It fills up to the burst and no more; refusals cost nothing. */
	for (i = 0; i < 20; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 1000000), 0);
	for (i = 0; i < 1000; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 1000000), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 1000100), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 1000100), -1);
}
END_TEST

START_TEST(who_is_delayed_has_its_token)
{
	int i;

	start("10/s burst 5", RATE_DELAY, 1000);
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 0), 0);
	for (i = 1; i <= 5; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 0), 100 * i);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 99), -1);
	/* One of the waiting is no more: there is room for one. */
	ck_assert_int_eq(take("192.0.2.1", 0, 150), 450);
	ck_assert_int_eq(take("192.0.2.1", 0, 150), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 600), 100);
	ck_assert_int_eq(take("192.0.2.1", 0, 900), 0);
}
END_TEST

/* A wait is told in whole milliseconds, but the rate is kept exactly. */
START_TEST(nothing_is_rounded)
{
	int64_t ms, hour = 60 * 60 * 1000;
	int taken = 0;

	start("7/s burst 1", RATE_REFUSE, 1000);
	for (ms = 0; ms < hour; ms += 1)
		taken += take("192.0.2.1", 0, ms) == 0;
	/* Each is taken in the first millisecond after its time. */
	ck_assert_int_le(taken, hour / 1000 * 7);
	ck_assert_int_ge(taken, hour / 1000 * 7 * 143 / 144);
	teardown();
	start("7/s burst 100", RATE_REFUSE, 1000);
	for (taken = 0, ms = 0; ms < hour; ms += 1)
		taken += take("192.0.2.1", 0, ms) == 0;
	ck_assert_int_eq(taken, 99 + hour / 1000 * 7);
	teardown();
	start("7/s burst 1", RATE_DELAY, 1000);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), 143);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 142), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 143), 143);
}
END_TEST

START_TEST(the_ends_of_the_range)
{
	int i, now = 0, right = 0;
	int64_t wait;

	start("1/h burst 1000000", RATE_DELAY, 1);
	for (i = 0; i < 1000000; i++)
		now += take("192.0.2.1", 0, 0) == 0;
	ck_assert_int_eq(now, 1000000);
	/* The wait of the last ones is longer than an int can tell. */
	for (i = 0; i < 1000000; i++) {
		wait = INT64_C(3600000) * (i + 1);
		right += take("192.0.2.1", 0, 0) ==
		    (wait < INT_MAX ? wait : INT_MAX);
	}
	ck_assert_int_eq(right, 1000000);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), -1);
	teardown();
	start("1000000/s burst 1000000", RATE_REFUSE, 1);
	/* A machine that has been up for thirty years. */
	for (now = i = 0; i < 1000000; i++)
		now += take("192.0.2.1", 0, 946080000000) == 0;
	ck_assert_int_eq(now, 1000000);
	ck_assert_int_eq(take("192.0.2.1", 0, 946080000000), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 946080000001), 0);
}
END_TEST

/* Workers read their clocks before they get the lock. */
START_TEST(a_clock_that_is_a_little_behind)
{
	start("1/s burst 2", RATE_REFUSE, 1);
	ck_assert_int_eq(take("192.0.2.1", 0, 5000), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 4990), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 5000), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 5999), -1);
	ck_assert_int_eq(take("192.0.2.1", 0, 6000), 0);
}
END_TEST

static const struct {
	const char *one, *other;
	uid_t uids[2];
	int same;
} pairs[] = {
	{ "192.0.2.1", "192.0.2.1", { 1, 2 }, 1 },
	{ "192.0.2.1", "192.0.2.2", { 0, 0 }, 0 },
	{ "192.0.2.1", "::ffff:192.0.2.1", { 0, 0 }, 1 },
	{ "192.0.2.1", "::192.0.2.1", { 0, 0 }, 0 },
	{ "2001:db8::1", "2001:db8::2", { 0, 0 }, 1 },
	{ "2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff", { 0, 0 }, 1 },
	{ "2001:db8::1", "2001:db8:0:1::1", { 0, 0 }, 0 },
	{ "unix", "unix", { 5, 5 }, 1 },
	{ "unix", "unix", { 5, 6 }, 0 },
	{ "unix", "unix", { NOBODY, NOBODY }, 1 },
	{ "unix", "0.0.0.5", { 5, 0 }, 0 },
	{ "unix", "unspec", { NOBODY, NOBODY }, 0 },
	{ "unspec", "unspec", { NOBODY, NOBODY }, 1 },
};

START_TEST(each_source_has_a_bucket)
{
	start("1/s", RATE_REFUSE, 1000);
	ck_assert_int_eq(take(pairs[_i].one, pairs[_i].uids[0], 0), 0);
	ck_assert_int_eq(take(pairs[_i].other, pairs[_i].uids[1], 0),
	    pairs[_i].same ? -1 : 0);
}
END_TEST

static const struct {
	uint32_t prefix;
	const char *other;
	int same;
} prefixes[] = {
	{ 128, "2001:db8::1", 1 },
	{ 128, "2001:db8::3", 0 },
	{ 127, "2001:db8::", 1 },
	{ 127, "2001:db8::2", 0 },
	{ 61, "2001:db8:0:7::", 1 },
	{ 61, "2001:db8:0:8::", 0 },
	{ 1, "7fff::", 1 },
	{ 1, "8000::", 0 },
};

START_TEST(a_source_of_some_bits)
{
	struct rate_conf conf = { .limit = { 1, 1000, 1 },
		.v6_prefix = prefixes[_i].prefix,
		.sources = 1000 };

	rate = rate_new(&conf);
	ck_assert_int_eq(take("2001:db8::1", 0, 0), 0);
	ck_assert_int_eq(take(prefixes[_i].other, 0, 0),
	    prefixes[_i].same ? -1 : 0);
}
END_TEST

/* A million sources at once get no more than the table holds. */
START_TEST(a_full_table_keeps_the_rate)
{
	enum { SOURCES = 4096, CALLERS = 1000000 };
	int i, round, taken;

	start("1/s burst 3", RATE_REFUSE, SOURCES);
	for (round = 0; round < 2; round++) {
		for (taken = 0, i = 0; i < CALLERS; i++)
			taken += take_in4((uint32_t)i, round * 1000) == 0;
		ck_assert_int_eq(taken, round == 0 ? SOURCES * 3 : SOURCES);
	}
	/* Who comes when it has calmed down has a bucket of its own. */
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(take("192.0.2.1", 0, 5000), 0);
	ck_assert_int_eq(take("192.0.2.1", 0, 5000), -1);
}
END_TEST

/* A crowd pushes somebody out, who gets nothing for it. */
START_TEST(a_crowd_resets_no_bucket)
{
	enum { CROWD = 100000, ROUNDS = 100 };
	int i, round, taken = 0;

	start("1/s burst 5", RATE_REFUSE, 1024);
	for (i = 0; i < CROWD; i++)
		take_in4((uint32_t)i, 0);
	for (round = 0; round < ROUNDS; round++) {
		taken += take("192.0.2.1", 0, round) == 0;
		for (i = 0; i < 1000; i++)
			take_in4((uint32_t)(round * 1000 + i), round);
	}
	ck_assert_int_eq(taken, 0);
}
END_TEST

/* Who is full, and so no longer known, makes place without loss to anybody. */
START_TEST(places_of_full_buckets_are_free)
{
	uint32_t i;

	start("1/s burst 1", RATE_REFUSE, 8);
	for (i = 0; i < 8000; i++) {
		/* The eight before are full again. */
		ck_assert_int_eq(take_in4(i, i * 125), 0);
		ck_assert_int_eq(take_in4(i, i * 125), -1);
	}
}
END_TEST

/* By a service before and after a reload. */
START_TEST(a_table_is_handed_on)
{
	static const struct rate_conf others[] = {
		{ { 2, 3600000, 1 }, 64, 8, RATE_REFUSE },
		{ { 1, 1000, 1 }, 64, 8, RATE_REFUSE },
		{ { 1, 3600000, 2 }, 64, 8, RATE_REFUSE },
		{ { 1, 3600000, 1 }, 63, 8, RATE_REFUSE },
		{ { 1, 3600000, 1 }, 64, 9, RATE_REFUSE },
		{ { 1, 3600000, 1 }, 64, 8, RATE_DELAY },
	};
	struct rate_conf conf = { { 1, 3600000, 1 }, 64, 8, RATE_REFUSE };
	size_t i;

	start("1/h burst 1", RATE_REFUSE, 8);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), 0);
	for (i = 0; i < COUNT(others); i++)
		ck_assert_ptr_null(rate_share(rate, &others[i]));
	ck_assert_ptr_eq(rate_share(rate, &conf), rate);
	rate_free(rate);
	ck_assert_int_eq(take("192.0.2.1", 0, 0), -1);
	ck_assert_int_eq(take("192.0.2.2", 0, 0), 0);
}
END_TEST

enum { THREADS = 4, CALLS = 200000, SHARED = 4, BURST = 100000 };

static pthread_barrier_t all_there;

static void *
caller(void *arg)
{
	int *taken = arg, i;

	pthread_barrier_wait(&all_there);
	for (i = 0; i < CALLS; i++)
		*taken += take_in4((uint32_t)i % SHARED, 0) == 0;
	return NULL;
}

START_TEST(workers_share_the_table)
{
	pthread_t thread[THREADS];
	int taken[THREADS] = { 0 }, i, sum = 0;

	start("1/h burst 100000", RATE_REFUSE, 4096);
	pthread_barrier_init(&all_there, NULL, THREADS);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&thread[i], NULL, caller,
				     &taken[i]),
		    0);
	for (i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		sum += taken[i];
	}
	ck_assert_int_eq(sum, SHARED * BURST);
	pthread_barrier_destroy(&all_there);
}
END_TEST

int
main(void)
{
	static const TTest **const tests[] = { &a_burst_and_then_the_rate,
		&who_is_delayed_has_its_token, &nothing_is_rounded,
		&the_ends_of_the_range, &a_clock_that_is_a_little_behind,
		&a_full_table_keeps_the_rate, &a_crowd_resets_no_bucket,
		&places_of_full_buckets_are_free, &a_table_is_handed_on,
		&workers_share_the_table };
	TCase *tc = unit_begin("rate");
	size_t i;

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_add_loop_test(tc, rates_are_read_and_printed, 0, COUNT(good));
	tcase_add_loop_test(tc, mistakes_are_explained, 0, COUNT(bad));
	tcase_add_loop_test(tc, each_source_has_a_bucket, 0, COUNT(pairs));
	tcase_add_loop_test(tc, a_source_of_some_bits, 0, COUNT(prefixes));
	for (i = 0; i < COUNT(tests); i++)
		tcase_add_test(tc, *tests[i]);
	tcase_set_timeout(tc, 120);
	return unit_end();
}
