/*
 * Limits: time, with a clock moved by hand; the length of lines and queues;
 * the size of the table; memory.
 */
#include "t_server_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct kquay_sys clockwork = { .now = kit_now };

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	kquay_write(c, data, len);
	return (ssize_t)len;
}

#ifdef __SANITIZE_THREAD__
#define THREAD_SANITIZER 1
#else
#define THREAD_SANITIZER 0
#endif

/* Move the clock to ms after *from; whether anything ended. */
static bool
over_at(int64_t from, int ms)
{
	int before = kit_closed.n;

	kit_clock = from + ms;
	kit_settle();
	return kit_closed.n > before;
}

static void
expect_idle(int64_t ms)
{
	int64_t idle = kquay_idle(kit_conn());

	ck_assert_int_ge(idle, ms - 16);
	ck_assert_int_le(idle, ms + 16);
}

/* -- time ------------------------------------------------------------------ */

START_TEST(idle_counts_from_the_last_byte_either_way)
{
	static const struct kquay_ops ops = { .input = echo,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.idle = 1000,
		.sys = &clockwork };
	int64_t from = kit_clock;
	int fd;

	kit_start(&ops, &conf);
	fd = kit_join();
	ck_assert(!over_at(from, 900));
	expect_idle(900);
	kit_send(fd, "x");
	kit_expect(fd, "x");
	expect_idle(0);
	from = kit_clock;
	ck_assert(!over_at(from, 990));
	expect_idle(990);
	kquay_puts(kit_conn(), "y");
	kit_expect(fd, "y");
	expect_idle(0);
	from = kit_clock;
	ck_assert(!over_at(from, 999));
	ck_assert(over_at(from, 1000 + 2 * 16));
	ck_assert_int_eq(kit_closed.why, KQUAY_IDLE);
	kit_expect_end(fd, "");
	kit_stop();
}
END_TEST

START_TEST(life_is_not_prolonged_by_bytes)
{
	static const struct kquay_ops ops = { .input = echo,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.life = 3600 * 1000,
		.sys = &clockwork };
	int64_t from = kit_clock;
	int fd, i;

	kit_start(&ops, &conf);
	fd = kit_join();
	for (i = 1; i < 60; i++) {
		ck_assert(!over_at(from, i * 60000));
		kit_send(fd, "x");
		kit_expect(fd, "x");
	}
	ck_assert(!over_at(from, 3600 * 1000 - 1));
	ck_assert(over_at(from, 3600 * 1000 + 2 * 16));
	ck_assert_int_eq(kit_closed.why, KQUAY_LIFE);
	kit_stop();
}
END_TEST

START_TEST(handshake_ends_with_the_first_byte)
{
	static const struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.handshake = 500,
		.sys = &clockwork };
	int64_t from = kit_clock;
	int fd;

	kit_start(&ops, &conf);
	fd = kit_join();
	kit_join();
	kit_send(fd, "x");
	kit_settle();
	ck_assert(!over_at(from, 499));
	ck_assert(over_at(from, 532));
	ck_assert_int_eq(kit_closed.why, KQUAY_HANDSHAKE);
	ck_assert(!over_at(from, 100000));
	ck_assert_int_eq(kit_closed.n, 1);
	kit_stop();
}
END_TEST

/* More than the socket buffers of both ends hold. */
static char flood[32 << 20];

/*
 * Until the kernel has taken all that it will: TCP moves a little more for
 * some time after the peer's window is full, and that counts as read.
 */
static void
stall(struct kquay_conn *c)
{
	size_t before;
	int same;

	for (same = 0; same < 20;) {
		before = kquay_pending(c);
		kit_settle();
		same = kquay_pending(c) == before ? same + 1 : 0;
	}
}

/* A caller who has so much to read, and with a linger of 2 s. */
static int
flooded(size_t len)
{
	static const struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.outmax = sizeof(flood),
		.linger = 2000,
		.sys = &clockwork };
	int fd;

	kit_start(&ops, &conf);
	fd = kit_join();
	ck_assert_int_eq(kquay_write(kit_conn(), flood, len), 0);
	return fd;
}

START_TEST(linger_ends_a_close_that_nobody_reads)
{
	int64_t from = kit_clock;
	int fd = flooded(sizeof(flood));

	stall(kit_conn());
	kquay_close(kit_conn());
	ck_assert(!over_at(from, 1999));
	ck_assert(over_at(from, 2032));
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_uint_gt(kit_closed.pending, 0);
	kit_expect_reset(fd);
	kit_stop();
}
END_TEST

/* Read about n bytes, as soon as some are there. */
static size_t
take(int fd, size_t n)
{
	static char sink[1 << 20];
	ssize_t got = -1;

	ck_assert_uint_le(n, sizeof(sink));
	UNTIL((got = recv(fd, sink, n, 0)) != -1 || errno != EAGAIN);
	ck_assert_int_ge(got, 0);
	return (size_t)got;
}

/* A reader that is slow gets it all, though it takes many times linger. */
static void
slow_reader(size_t len, const char *unread)
{
	int64_t from = kit_clock;
	size_t got = 0, n;
	int fd = flooded(len);

	if (unread != NULL) {
		UNTIL(kquay_pending(kit_conn()) == 0);
		kit_send(fd, unread);
	}
	kquay_close(kit_conn());
	kit_settle();
	while ((n = take(fd, len / 10)) > 0) {
		got += n;
		if (kit_clock - from < 25000)
			kit_clock += 1500;
		kit_settle();
	}
	ck_assert_uint_eq(got, len);
	ck_assert_int_ge(kit_clock - from, 3 * 2000);
	close(fd);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	kit_stop();
}

START_TEST(a_slow_reader_gets_it_all)
{
	slow_reader(8 << 20, NULL);
}
END_TEST

/* All of it is the kernel's, and the peer would be reset by a close. */
START_TEST(a_slow_reader_gets_what_the_kernel_has)
{
	slow_reader(1 << 20, "unread");
}
END_TEST

/* Less at a time the kernel does not tell: windows open in steps. */
START_TEST(a_reader_that_is_too_slow_is_reset)
{
	int64_t from = kit_clock;
	int fd = flooded(sizeof(flood));

	kquay_close(kit_conn());
	while (kit_closed.n == 0 && kit_clock < from + 100000) {
		take(fd, 800 * 1024);
		kit_clock += 1000;
		kit_settle();
	}
	ck_assert_int_ge(kit_clock - from, 16 * 2000);
	/* A busy kernel may tell of the last bytes a look later. */
	ck_assert_int_le(kit_clock - from, 16 * 2000 + 2000);
	kit_expect_reset(fd);
	kit_stop();
}
END_TEST

START_TEST(timeout_overrides_for_one)
{
	static const struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8,
		.idle = 100,
		.sys = &clockwork };
	int64_t from = kit_clock;

	kit_start(&ops, &conf);
	kit_join();
	kquay_timeout(kit_conn(), -1, 5000);
	ck_assert(!over_at(from, 4999));
	ck_assert(over_at(from, 5032));
	ck_assert_int_eq(kit_closed.why, KQUAY_LIFE);
	from = kit_clock;
	kit_join();
	kquay_timeout(kit_conn(), -1, -1);
	ck_assert(!over_at(from, 1000000));
	kquay_timeout(kit_conn(), 0, 0);
	from = kit_clock;
	ck_assert(!over_at(from, 99));
	ck_assert(over_at(from, 132));
	ck_assert_int_eq(kit_closed.why, KQUAY_IDLE);
	kit_stop();
}
END_TEST

START_TEST(due_tells_the_next_limit)
{
	struct kquay_conf conf = { .maxconn = 8,
		.idle = 10000,
		.sys = &clockwork };

	kit_start(&(struct kquay_ops){ 0 }, &conf);
	ck_assert_int_eq(kquay_due(q), -1);
	kit_join();
	ck_assert_int_ge(kquay_due(q), 0);
	/* The wheel may look at it early, never late. */
	ck_assert_int_le(kquay_due(q), 10032);
	kit_clock += 11000;
	ck_assert_int_eq(kquay_due(q), 0);
	kit_settle();
	ck_assert_int_eq(kquay_due(q), -1);
	kit_stop();
}
END_TEST

/* -- bytes ----------------------------------------------------------------- */

START_TEST(output_over_outmax_ends_it_as_slow)
{
	static const struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conn *c;
	int fd, rc;

	kit_start(&ops, NULL);
	fd = kit_join();
	c = kit_conn();
	ck_assert_int_eq(kquay_write(c, flood, (1 << 20) + 1), -1);
	ck_assert_int_eq(errno, EMSGSIZE);
	ck_assert_int_eq(kquay_write(c, flood, 0), 0);
	do {
		rc = kquay_write(c, flood, 100000);
		ck_assert_uint_le(kquay_pending(c), 1 << 20);
	} while (rc == 0);
	ck_assert_int_eq(errno, ENOBUFS);
	ck_assert_int_eq(kquay_puts(c, "x"), -1);
	ck_assert_int_eq(errno, EPIPE);
	ck_assert_int_eq(kit_closed.n, 0);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SLOW);
	kit_expect_reset(fd);
	kit_stop();
}
END_TEST

static long
resident_kib(void)
{
	char line[128];
	long kib = -1;
	FILE *f = fopen("/proc/self/status", "r");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "VmRSS: %ld", &kib);
	fclose(f);
	return kib;
}

/* Feed fd until neither it nor the loop can take more. */
static size_t
stuff(int fd)
{
	size_t sent = 0;
	int stuck = 0;
	ssize_t n;

	while (stuck < 5) {
		n = send(fd, flood, 65536, MSG_NOSIGNAL);
		if (n > 0)
			sent += (size_t)n;
		stuck = n > 0 || kquay_step(q, 2) != 0 ? 0 : stuck + 1;
	}
	return sent;
}

static void
answer(struct kquay_conn *c, char *text, size_t len)
{
	kquay_write(c, flood, 10000);
}

START_TEST(a_slow_reader_costs_bounded_memory)
{
	static const struct kquay_ops ops[] = { { .input = echo,
						    .close = kit_on_close },
		/* A byte in makes 5,000 out: lines must wait in the buffer. */
		{ .line = answer, .close = kit_on_close } };
	long before;
	size_t i;

	if (THREAD_SANITIZER) {
		puts("skipped: ThreadSanitizer's own memory grows");
		return;
	}
	memset(flood, '\n', sizeof(flood));
	for (i = 0; i < 2; i++) {
		kit_start(&ops[i], NULL);
		close(kit_join());
		kit_settle();
		ck_assert_int_eq(kit_closed.n, 1);
		before = resident_kib();
		stuff(kit_join());
		ck_assert_int_lt(resident_kib() - before, 1024);
		ck_assert_uint_le(kquay_pending(kit_conn()), 128 * 1024);
		ck_assert_int_eq(kit_closed.n, 1);
		kit_stop();
	}
}
END_TEST

/* -- the table ------------------------------------------------------------- */

static int nrefused;

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	ck_assert_int_eq(sa->sa_family, AF_INET);
	ck_assert_uint_eq(salen, sizeof(struct sockaddr_in));
	nrefused++;
}

static int
greet(struct kquay_conn *c)
{
	return kquay_puts(c, "welcome!\n");
}

START_TEST(a_full_table_refuses)
{
	static const struct kquay_ops ops = { .open = greet,
		.refused = on_refused,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 2,
		.refusal = "connection refused\n" };
	struct kquay_stat st;
	int a, b, c;

	kit_start(&ops, &conf);
	kit_expect(a = kit_join(), "welcome!\n");
	kit_expect(b = kit_join(), "welcome!\n");
	c = kit_connect();
	kit_send(c, "not a word of which is read\n");
	kit_expect_end(c, "connection refused\n");
	ck_assert_int_eq(nrefused, 1);
	close(a);
	UNTIL(kit_closed.n == 1);
	kit_expect(kit_connect(), "welcome!\n");
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.accepted, 3);
	ck_assert_uint_eq(st.refused, 1);
	ck_assert_uint_eq(st.conns, 2);
	close(b);
	kit_stop();
}
END_TEST

START_TEST(fullwait_leaves_callers_in_the_backlog)
{
	static const struct kquay_ops ops = { .open = greet,
		.refused = on_refused,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 2, .flags = KQUAY_FULLWAIT };
	int a, b, c, d;
	char byte;

	kit_start(&ops, &conf);
	kit_expect(a = kit_join(), "welcome!\n");
	kit_expect(b = kit_join(), "welcome!\n");
	c = kit_connect();
	d = kit_connect();
	kit_settle();
	ck_assert_int_eq(recv(c, &byte, 1, 0), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close(a);
	kit_expect(c, "welcome!\n");
	kit_settle();
	ck_assert_int_eq(recv(d, &byte, 1, 0), -1);
	close(b);
	kit_expect(d, "welcome!\n");
	ck_assert_int_eq(nrefused, 0);
	kit_stop();
}
END_TEST

START_TEST(an_address_has_its_share)
{
	static const struct kquay_ops ops = { .open = greet,
		.refused = on_refused,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 20,
		.maxperaddr = 3,
		.refusal = "no\n" };
	int fd[3], i, round;

	kit_start(&ops, &conf);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 3; i++)
			kit_expect(fd[i] = kit_join(), "welcome!\n");
		kit_expect_end(kit_connect(), "no\n");
		for (i = 2; i >= 0; i--)
			close(fd[(i + round) % 3]);
		UNTIL(kit_closed.n == 3 * (round + 1));
	}
	ck_assert_int_eq(nrefused, 3);
	kit_stop();
}
END_TEST

START_TEST(a_loop_refuses_senseless_limits)
{
	static const struct kquay_ops ops;
	static const struct kquay_conf bad[] = {
		{ .maxconn = 8, .outlo = 2, .outhi = 1 },
		{ .maxconn = 8, .outhi = 2, .outmax = 1 },
		{ .maxconn = 8, .idle = -2 },
		{ .maxconn = 8, .life = -2 },
		{ .maxconn = 8, .linger = -2 },
		{ .maxconn = 8, .handshake = -2 },
		{ .maxconn = 1 << 24 },
	};
	static const struct kquay_conf good = { .maxconn = 1, .outmax = 100 };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 0;
		ck_assert_ptr_null(kquay_new(&ops, &bad[i]));
		ck_assert_int_eq(errno, EINVAL);
	}
	q = kquay_new(&ops, &good);
	ck_assert_ptr_nonnull(q);
	kquay_free(q);
	q = kquay_new(&ops, NULL);
	ck_assert_ptr_nonnull(q);
	kquay_free(q);
	kquay_free(NULL);
}
END_TEST

static void
limit_and_close(struct kquay_conn *c, enum kquay_why why)
{
	kquay_timeout(c, 1000, 1000);
	kit_on_close(c, why);
}

START_TEST(a_limit_for_the_dead_does_nothing)
{
	static const struct kquay_ops ops = { .close = limit_and_close };
	int fd[3], i;

	kit_start(&ops, NULL);
	for (i = 0; i < 3; i++)
		fd[i] = kit_join();
	/* All of them in one batch, so that each is linked to the next. */
	for (i = 0; i < 3; i++)
		kquay_abort(kquay_next(q, NULL));
	UNTIL(kit_closed.n == 3);
	for (i = 0; i < 3; i++)
		close(fd[i]);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&a_limit_for_the_dead_does_nothing,
	&idle_counts_from_the_last_byte_either_way,
	&life_is_not_prolonged_by_bytes,
	&handshake_ends_with_the_first_byte,
	&linger_ends_a_close_that_nobody_reads,
	&a_slow_reader_gets_it_all,
	&a_slow_reader_gets_what_the_kernel_has,
	&a_reader_that_is_too_slow_is_reset,
	&timeout_overrides_for_one,
	&due_tells_the_next_limit,
	&output_over_outmax_ends_it_as_slow,
	&a_slow_reader_costs_bounded_memory,
	&a_full_table_refuses,
	&fullwait_leaves_callers_in_the_backlog,
	&an_address_has_its_share,
	&a_loop_refuses_senseless_limits,
};

KIT_MAIN("server_limits", tests)
