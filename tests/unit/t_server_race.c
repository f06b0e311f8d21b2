/*
 * The race of a name's addresses: which is tried, and when.  No socket and no
 * clock is needed to see that.
 */
#include "dial.h"
#include "t_server_kit.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { HOLD = 5, APART = 17 }; /* ticks of RACE_HOLD_MS, RACE_APART_MS */

static struct race race;

/* n addresses of one family, whose last byte counts from 1; or none. */
static void
tell(enum family family, unsigned n, int err, uint32_t now)
{
	union peer_addr addrs[16];
	struct answer answer = { .known = 1,
		.err = err,
		.n = n,
		.addrs = addrs };
	unsigned i;

	memset(addrs, 0, sizeof(addrs));
	for (i = 0; i < n; i++)
		if (family == FAMILY_6) {
			addrs[i].in6.sin6_family = AF_INET6;
			addrs[i].in6.sin6_addr.s6_addr[15] = (uint8_t)(i + 1);
		} else {
			addrs[i].in4.sin_family = AF_INET;
			addrs[i].in4.sin_addr.s_addr = htonl(i + 1);
		}
	ck_assert_int_eq(kquay_race_answer(&race, family, &answer, now), 0);
}

/* What is to be done at this tick: "6.1" an attempt, "20" wait until then,
   "-" wait for something else, "E<errno>" lost. */
static const char *
step(uint32_t now)
{
	static char text[16];
	union peer_addr addr;

	switch (kquay_race_step(&race, now, &addr)) {
	case RACE_TRY:
		snprintf(text, sizeof(text), "%d.%d",
		    family_of(&addr) == FAMILY_6 ? 6 : 4,
		    family_of(&addr) == FAMILY_6 ?
			addr.in6.sin6_addr.s6_addr[15] :
			(int)ntohl(addr.in4.sin_addr.s_addr));
		break;
	case RACE_WAIT:
		if (race.timed)
			snprintf(text, sizeof(text), "%u", race.due);
		else
			strcpy(text, "-");
		break;
	case RACE_LOST:
		snprintf(text, sizeof(text), "E%d", race.err);
		break;
	}
	return text;
}

static void
begin(void)
{
	kquay_race_init(&race);
}

/* The families take turns, IPv6 first, and each attempt has its time. */
START_TEST(families_take_turns)
{
	begin();
	ck_assert_str_eq(step(100), "-");
	tell(FAMILY_6, 3, 0, 100);
	tell(FAMILY_4, 2, 0, 100);
	ck_assert_str_eq(step(100), "6.1");
	ck_assert_str_eq(step(100), "117");
	ck_assert_str_eq(step(116), "117");
	ck_assert_str_eq(step(117), "4.1");
	ck_assert_str_eq(step(134), "6.2");
	ck_assert_str_eq(step(151), "4.2");
	ck_assert_str_eq(step(160), "168");
	ck_assert_str_eq(step(168), "6.3");
	ck_assert_str_eq(step(168), "-");
	ck_assert_uint_eq(race.running, 5);
	kquay_race_fini(&race);
}
END_TEST

/* An attempt that fails makes room at once, for one. */
START_TEST(failure_goes_on_at_once)
{
	begin();
	tell(FAMILY_6, 2, 0, 100);
	tell(FAMILY_4, 2, 0, 100);
	ck_assert_str_eq(step(100), "6.1");
	kquay_race_failed(&race, ENETUNREACH, 101);
	ck_assert_str_eq(step(101), "4.1");
	ck_assert_str_eq(step(101), "118");
	kquay_race_failed(&race, ECONNREFUSED, 103);
	ck_assert_str_eq(step(103), "6.2");
	kquay_race_failed(&race, ENETUNREACH, 103);
	ck_assert_str_eq(step(103), "4.2");
	kquay_race_failed(&race, ETIMEDOUT, 200);
	ck_assert_int_eq(race.err, ECONNREFUSED);
	ck_assert_str_eq(step(200), "E111");
	kquay_race_fini(&race);
}
END_TEST

/* IPv6 begins when it is known, whether IPv4 is or not. */
START_TEST(six_does_not_wait)
{
	begin();
	tell(FAMILY_6, 1, 0, 100);
	ck_assert_str_eq(step(100), "6.1");
	ck_assert_str_eq(step(100), "-");
	tell(FAMILY_4, 1, 0, 105);
	ck_assert_str_eq(step(105), "117");
	ck_assert_str_eq(step(117), "4.1");
	kquay_race_fini(&race);
}
END_TEST

/* IPv4 waits a little for IPv6; then it begins, and IPv6 is next. */
START_TEST(four_holds)
{
	begin();
	tell(FAMILY_4, 2, 0, 100);
	ck_assert_str_eq(step(100), "105");
	ck_assert_str_eq(step(104), "105");
	tell(FAMILY_6, 1, 0, 104);
	ck_assert_str_eq(step(104), "6.1");
	ck_assert_str_eq(step(121), "4.1");
	kquay_race_fini(&race);

	begin();
	tell(FAMILY_4, 2, 0, 100);
	ck_assert_str_eq(step(100 + HOLD), "4.1");
	ck_assert_str_eq(step(100 + HOLD), "122");
	tell(FAMILY_6, 1, 0, 110);
	ck_assert_str_eq(step(110), "122");
	ck_assert_str_eq(step(105 + APART), "6.1");
	ck_assert_str_eq(step(105 + 2 * APART), "4.2");
	kquay_race_fini(&race);
}
END_TEST

/* It does not wait for an answer that is there and empty. */
START_TEST(no_six_no_hold)
{
	begin();
	tell(FAMILY_6, 0, ENOENT, 100);
	tell(FAMILY_4, 1, 0, 100);
	ck_assert_str_eq(step(100), "4.1");
	kquay_race_fini(&race);

	begin();
	tell(FAMILY_4, 1, 0, 100);
	ck_assert_str_eq(step(100), "105");
	tell(FAMILY_6, 0, EAGAIN, 101);
	ck_assert_str_eq(step(101), "4.1");
	kquay_race_failed(&race, ETIMEDOUT, 300);
	ck_assert_str_eq(step(300), "E11");
	kquay_race_fini(&race);
}
END_TEST

/* Lost is only who has no attempt, no address and no answer to come. */
START_TEST(lost_is_the_last)
{
	begin();
	tell(FAMILY_6, 1, 0, 100);
	ck_assert_str_eq(step(100), "6.1");
	kquay_race_failed(&race, ENETUNREACH, 101);
	ck_assert_str_eq(step(101), "-");
	tell(FAMILY_4, 1, 0, 110);
	ck_assert_str_eq(step(110), "4.1");
	ck_assert_str_eq(step(500), "-");
	kquay_race_failed(&race, EHOSTUNREACH, 501);
	ck_assert_str_eq(step(501), "E113");
	kquay_race_fini(&race);

	begin();
	tell(FAMILY_6, 0, ENOENT, 100);
	ck_assert_str_eq(step(100), "-");
	tell(FAMILY_4, 0, ENOENT, 100);
	ck_assert_str_eq(step(100), "E2");
	kquay_race_fini(&race);
}
END_TEST

/* Ticks wrap. */
START_TEST(ticks_wrap)
{
	begin();
	tell(FAMILY_4, 2, 0, UINT32_MAX - 1);
	ck_assert_str_eq(step(UINT32_MAX), "3");
	ck_assert_str_eq(step(3), "4.1");
	kquay_race_fini(&race);
}
END_TEST

/* Of several errors the one that says most. */
START_TEST(most_telling_error)
{
	static const int order[] = { ENOENT, ENETUNREACH, ETIMEDOUT,
		EHOSTUNREACH, ECONNREFUSED, EMFILE };
	unsigned i, k, n = sizeof(order) / sizeof(order[0]);

	for (i = 0; i < n; i++)
		for (k = 0; k < n; k++) {
			begin();
			tell(FAMILY_6, 2, 0, 0);
			tell(FAMILY_4, 0, ENOENT, 0);
			step(0);
			kquay_race_failed(&race, order[i], 0);
			step(0);
			kquay_race_failed(&race, order[k], 0);
			ck_assert_int_eq(race.err, order[i > k ? i : k]);
			kquay_race_fini(&race);
		}
}
END_TEST

static const TTest **const tests[] = { &families_take_turns,
	&failure_goes_on_at_once, &six_does_not_wait, &four_holds,
	&no_six_no_hold, &lost_is_the_last, &ticks_wrap, &most_telling_error };

KIT_MAIN("race", tests)
