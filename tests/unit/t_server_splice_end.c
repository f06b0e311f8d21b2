/* Every way in which two connections that are joined can end. */
#include "t_server_pair.h"

#include <sys/socket.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

START_TEST(reset)
{
	static const struct linger now = { .l_onoff = 1 };
	const struct mode *m;

	EACH_MODE(m)
	{
		pair_begin_mode(m);
		kit_send(peers[0], "hello");
		kit_expect(peers[1], "hello");
		setsockopt(peers[0], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(peers[0]);
		kit_expect_reset(peers[1]);
		pair_ends_with(KQUAY_ERROR, KQUAY_DONE);
		ck_assert_int_eq(ended[0].err, ECONNRESET);
		close(peers[1]);
		kit_stop();
	}
}
END_TEST

/* The receiver breaks while a stream goes to it. */
START_TEST(reset_of_the_receiver)
{
	static const struct linger now = { .l_onoff = 1 };
	const struct mode *m;
	struct stream there;

	EACH_MODE(m)
	{
		pair_begin_mode(m);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = UINT64_MAX };
		while (there.got < m->bytes / 4) {
			stream_in(&there);
			ck_assert_int_ne(kquay_step(q, 0), -1);
			stream_out(&there);
		}
		stream_in(&there);
		setsockopt(peers[1], SOL_SOCKET, SO_LINGER, &now, sizeof(now));
		close(peers[1]);
		pair_ends_with(KQUAY_DONE, KQUAY_ERROR);
		ck_assert(ended[1].err == ECONNRESET || ended[1].err == EPIPE);
		close(peers[0]);
		kit_stop();
	}
}
END_TEST

/* Closed in order: what was taken from the one still reaches the other. */
START_TEST(close_delivers)
{
	struct kquay_stat st;
	const struct mode *m;
	struct stream there;

	EACH_MODE(m)
	{
		if (m->most == 1)
			continue;
		pair_begin_mode(m);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = UINT64_MAX };
		stream_jam(&there);
		kquay_stats(q, &st);
		ck_assert_uint_gt(st.in, st.out);
		kquay_close(ends[0]);
		UNTIL((stream_out(&there), there.ended));
		ck_assert_uint_eq(there.got, st.in);
		close(peers[0]);
		close(peers[1]);
		pair_ends_with(KQUAY_DONE, KQUAY_DONE);
		kit_stop();
	}
}
END_TEST

START_TEST(abort_resets_both)
{
	pair_begin(NULL);
	kit_settle();
	kquay_abort(ends[1]);
	kit_expect_reset(peers[0]);
	kit_expect_reset(peers[1]);
	pair_ends_with(KQUAY_DONE, KQUAY_DONE);
	pair_end();
}
END_TEST

static const struct kquay_sys clockwork = { .now = kit_now };

/* A byte one way keeps both from being idle. */
START_TEST(idle)
{
	struct kquay_conf conf = { .maxconn = 8, .idle = 1000 };
	int i;

	pair_start(&pair_service, &clockwork, &conf);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	for (i = 0; i < 5; i++) {
		kit_clock += 800;
		kit_send(peers[0], "x");
		kit_expect(peers[1], "x");
	}
	ck_assert_int_eq(ended[0].n + ended[1].n, 0);
	kquay_timeout(ends[0], -1, 0);
	kit_clock += 1100;
	pair_ends_with(KQUAY_DONE, KQUAY_IDLE);
	kit_expect_end(peers[0], "");
	pair_end();
}
END_TEST

/* Nor is it idle whose end has just come, behind bulk. */
START_TEST(idle_after_an_end)
{
	struct kquay_conf conf = { .maxconn = 8, .idle = 1000 };
	struct stream there;

	pair_start(&pair_service, &clockwork, &conf);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	there = (struct stream){ .from = peers[0],
		.to = peers[1],
		.total = UINT64_MAX };
	UNTIL((stream_in(&there), stream_out(&there), there.got > 1 << 20));
	UNTIL((stream_out(&there), there.got == there.sent));
	kquay_timeout(ends[1], -1, 0);
	kit_clock += 800;
	shutdown(peers[0], SHUT_WR);
	kit_expect_end(peers[1], "");
	kit_clock += 800;
	kit_settle();
	ck_assert_int_eq(ended[0].n + ended[1].n, 0);
	kit_clock += 300;
	pair_ends_with(KQUAY_IDLE, KQUAY_DONE);
	pair_end();
}
END_TEST

START_TEST(life)
{
	pair_begin(&clockwork);
	kquay_timeout(ends[0], 0, 500);
	kit_send(peers[1], "last words");
	kit_settle();
	kit_clock += 600;
	kit_expect_end(peers[0], "last words");
	kit_expect_end(peers[1], "");
	close(peers[0]);
	close(peers[1]);
	pair_ends_with(KQUAY_LIFE, KQUAY_DONE);
	kit_stop();
}
END_TEST

START_TEST(stop)
{
	pair_begin(NULL);
	kit_send(peers[0], "on the way");
	kit_step();
	kquay_stop(q);
	kit_expect_end(peers[1], "on the way");
	close(peers[0]);
	close(peers[1]);
	UNTIL(kquay_done(q));
	pair_ends_with(KQUAY_SHUTDOWN, KQUAY_SHUTDOWN);
	kit_stop();
}
END_TEST

START_TEST(freed)
{
	pair_begin(NULL);
	pair_end();
	ck_assert_int_eq(ended[0].why, KQUAY_SHUTDOWN);
	ck_assert_int_eq(ended[1].why, KQUAY_SHUTDOWN);
}
END_TEST

/* From close one may do to the other what one likes. */
static void
closes_both(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *other = ends[ends[0] == c];

	pair_on_close(c, why);
	kquay_pause(c, 0);
	kquay_close(c);
	if (ended[other == ends[1]].n > 0)
		return;
	ck_assert_int_eq(kquay_splice(c, other), -1);
	ck_assert_int_eq(kquay_puts(other, "x"), -1);
	kquay_close(other);
	kquay_abort(other);
}

START_TEST(close_from_callback)
{
	struct kquay_ops ops = pair_service;

	ops.close = closes_both;
	pair_start(&ops, NULL, NULL);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	close(peers[0]);
	close(peers[1]);
	UNTIL(ended[0].n == 1 && ended[1].n == 1);
	kit_stop();
}
END_TEST

/* Joined and ended before the loop has come to it. */
START_TEST(closed_at_once)
{
	pair_begin(NULL);
	kquay_close(ends[0]);
	ck_assert_int_eq(ended[0].n, 0);
	kit_expect_end(peers[0], "");
	kit_expect_end(peers[1], "");
	close(peers[0]);
	close(peers[1]);
	pair_ends_with(KQUAY_DONE, KQUAY_DONE);
	kit_stop();
}
END_TEST

START_TEST(wrong_arguments)
{
	int fd;

#define REFUSED(a, b, err)                                                     \
	do {                                                                   \
		errno = 0;                                                     \
		ck_assert_int_eq(kquay_splice(a, b), -1);                      \
		ck_assert_int_eq(errno, err);                                  \
	} while (0)
	pair_start(&pair_service, NULL, NULL);
	fd = kit_join();
	REFUSED(ends[0], ends[0], EINVAL);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	REFUSED(ends[0], ends[1], EALREADY);
	close(peers[0]);
	close(peers[1]);
	UNTIL(ended[0].n == 1);
	close(fd);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = { &reset, &reset_of_the_receiver,
	&close_delivers, &abort_resets_both, &idle, &idle_after_an_end, &life,
	&stop, &freed, &close_from_callback, &closed_at_once,
	&wrong_arguments };

KIT_MAIN("splice_end", tests)
