/*
 * Two connections joined: every byte, both ways, by copy and by pipe, in one
 * piece and byte by byte.
 */
#include "server.h"
#include "t_server_pair.h"

#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* -- it relays ------------------------------------------------------------- */

START_TEST(messages)
{
	const struct mode *m;
	int i;

	EACH_MODE(m)
	{
		pair_begin_mode(m);
		for (i = 0; i < 20; i++) {
			kit_send(peers[0], "question");
			kit_expect(peers[1], "question");
			kit_send(peers[1], "a longer answer\n");
			kit_expect(peers[0], "a longer answer\n");
		}
		ck_assert_int_eq(kquay_puts(ends[0], "x"), -1);
		ck_assert_int_eq(errno, EPIPE);
		ck_assert_uint_eq(q->npipes, 0);
		close(peers[1]);
		kit_expect_end(peers[0], "");
		close(peers[0]);
		pair_ends_with(KQUAY_EOF, KQUAY_EOF);
		kit_stop();
	}
}
END_TEST

/* Two calls for a message, and no more than that. */
START_TEST(two_calls_a_message)
{
	enum { ROUNDS = 200 };
	int i;

	mode_most = SIZE_MAX;
	pair_begin(&mode_copying);
	kit_settle();
	mode_reads = mode_writes = 0;
	for (i = 0; i < ROUNDS; i++) {
		kit_send(peers[i % 2], "ping");
		kit_expect(peers[1 - i % 2], "ping");
	}
	ck_assert_uint_eq(mode_reads, ROUNDS);
	ck_assert_uint_eq(mode_writes, ROUNDS);
	pair_end();
}
END_TEST

/* Much at a time, both ways at once, and each byte is looked at. */
START_TEST(bulk)
{
	struct stream there, back;
	const struct mode *m;

	EACH_MODE(m)
	{
		pair_begin_mode(m);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = m->bytes };
		back = (struct stream){ .from = peers[1],
			.to = peers[0],
			.total = m->bytes / 2 };
		stream_pump(&there, &back);
		ck_assert((q->npipes > 0) == m->splices);
		pair_ends_with(KQUAY_EOF, KQUAY_EOF);
		pair_end();
	}
}
END_TEST

/* The end of one way leaves the other open, for as long as it takes. */
START_TEST(half_close)
{
	struct stream there, back;
	const struct mode *m;

	EACH_MODE(m)
	{
		pair_begin_mode(m);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = m->bytes / 4 };
		back = (struct stream){ .ended = true };
		stream_pump(&there, &back);
		kit_settle();
		ck_assert_int_eq(ended[0].n + ended[1].n, 0);
		back = (struct stream){ .from = peers[1],
			.to = peers[0],
			.total = m->bytes / 4 };
		stream_pump(&back, &there);
		pair_ends_with(KQUAY_EOF, KQUAY_EOF);
		pair_end();
	}
}
END_TEST

/* Who does not read is not read for; and nothing spins meanwhile. */
START_TEST(slow_reader)
{
	struct stream there, back = { .ended = true };
	struct kquay_stat st;
	const struct mode *m;

	EACH_MODE(m)
	{
		if (m->most == 1)
			continue;
		pair_begin_mode(m);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = 64 << 20 };
		stream_jam(&there);
		ck_assert_uint_lt(there.sent, there.total);
		kquay_stats(q, &st);
		ck_assert_uint_gt(st.in, st.out);
		ck_assert_uint_le(st.in - st.out, 1024 * 1024);
		/* The other way is free. */
		kit_send(peers[1], "still there");
		kit_expect(peers[0], "still there");
		there.total = there.sent + 100000;
		stream_pump(&there, &back);
		pair_end();
	}
}
END_TEST

/* What was received and not used, and what was queued, goes first. */
static void
joins(struct kquay_conn *c, char *text, size_t len)
{
	ck_assert_str_eq(text, "CONNECT");
	ck_assert_int_eq(kquay_puts(ends[0], "OK\n"), 0);
	ck_assert_int_eq(kquay_puts(ends[1], "HELLO\n"), 0);
	ck_assert_int_eq(kquay_splice(c, ends[ends[0] == c]), 0);
}

static ssize_t
joins_raw(struct kquay_conn *c, char *data, size_t len)
{
	if (len < 8)
		return 0;
	joins(c, strcpy(data, "CONNECT"), 7);
	return 8;
}

START_TEST(kept_and_queued_go_first)
{
	struct kquay_ops ops = pair_service;
	int i;

	for (i = 0; i < 2; i++) {
		ops.line = i == 0 ? joins : NULL;
		ops.input = i == 0 ? NULL : joins_raw;
		pair_start(&ops, NULL, NULL);
		kit_send(peers[1], "abc");
		kit_send(peers[0], "CONN");
		kit_settle();
		kit_send(peers[0], "ECT\nfirst\nsecond");
		kit_expect(peers[1], "HELLO\nfirst\nsecond");
		kit_expect(peers[0], "OK\nabc");
		kit_send(peers[0], " third");
		kit_expect(peers[1], " third");
		pair_end();
	}
}
END_TEST

/* Input that is kept because of a pause is passed on, too, and its end. */
static int
pauses(struct kquay_conn *c)
{
	pair_on_open(c);
	kquay_pause(c, 1);
	return 0;
}

START_TEST(paused_and_ended_before)
{
	struct kquay_ops ops = pair_service;

	ops.open = pauses;
	pair_start(&ops, NULL, NULL);
	kit_send(peers[0], "all that there is");
	shutdown(peers[0], SHUT_WR);
	kit_settle();
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	kit_settle();
	kquay_pause(ends[0], 0);
	kit_expect_end(peers[1], "all that there is");
	kit_send(peers[1], "unread");
	kit_settle();
	kquay_pause(ends[1], 0);
	kit_expect(peers[0], "unread");
	pair_end();
}
END_TEST

static int
stays(struct kquay_conn *c)
{
	return 1;
}

/* One whose peer had ended before is an end that is passed on. */
START_TEST(half_open_before)
{
	struct kquay_ops ops = pair_service;

	ops.eof = stays;
	pair_start(&ops, NULL, NULL);
	shutdown(peers[0], SHUT_WR);
	UNTIL(ends[0]->state == CONN_HALF);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	kit_expect_end(peers[1], "");
	kit_send(peers[1], "answer");
	kit_expect(peers[0], "answer");
	close(peers[1]);
	pair_ends_with(KQUAY_EOF, KQUAY_EOF);
	peers[1] = dup(peers[0]);
	pair_end();
}
END_TEST

START_TEST(a_pause_stops_one_way)
{
	pair_begin(NULL);
	kit_settle();
	kquay_pause(ends[0], 1);
	kit_send(peers[0], "held");
	kit_send(peers[1], "free");
	kit_expect(peers[0], "free");
	kit_settle();
	ck_assert_int_eq(recv(peers[1], (char[8]){ 0 }, 8, 0), -1);
	kquay_pause(ends[0], 0);
	kit_expect(peers[1], "held");
	pair_end();
}
END_TEST

/* -- pipes ----------------------------------------------------------------- */

/* The pair of a message costs no pipe, and bulk gives its own back. */
START_TEST(pipes_are_returned)
{
	enum { PAIRS = 24 };
	struct stream s[PAIRS];
	struct kquay_conf conf = { .maxconn = 64 };
	int a[PAIRS], b[PAIRS], before, i, left;

	pair_start(&pair_service, NULL, &conf);
	before = unit_descriptors();
	for (i = 0; i < PAIRS; i++) {
		ends[0] = ends[1] = NULL;
		a[i] = kit_join();
		b[i] = kit_join();
		ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
		s[i] = (struct stream){ .from = a[i],
			.to = b[i],
			.total = 8 << 20 };
	}
	/* All are stuck with a pipe that is full. */
	for (i = 0; i < PAIRS; i++)
		stream_jam(&s[i]);
	ck_assert_int_gt(unit_descriptors(), before + 4 * PAIRS);
	/* Large ones are for some only, and not for those who were slow. */
	ck_assert_uint_gt(q->nlarge, 0);
	ck_assert_uint_le(q->nlarge, 8);
	do
		for (i = left = 0; i < PAIRS; i++) {
			stream_in(&s[i]);
			kquay_step(q, 0);
			stream_out(&s[i]);
			left += !s[i].ended;
		}
	while (left > 0);
	ck_assert_int_le(unit_descriptors(), before + 4 * PAIRS + 2 * 16);
	ck_assert_uint_le(q->npipes, 16);
	for (i = 0; i < PAIRS; i++) {
		ck_assert_uint_eq(s[i].got, s[i].total);
		close(a[i]);
		close(b[i]);
	}
	close(peers[0]);
	close(peers[1]);
	kit_settle();
	kit_stop();
}
END_TEST

/* Without descriptors for a pipe it is copied. */
START_TEST(no_descriptor_for_a_pipe)
{
	struct stream there, back;
	struct rlimit rl, old;
	int fds[64], n = 0;

	pair_begin(NULL);
	getrlimit(RLIMIT_NOFILE, &old);
	rl = old;
	rl.rlim_cur = 48;
	setrlimit(RLIMIT_NOFILE, &rl);
	while (n < 64 && (fds[n] = open("/dev/null", O_RDONLY)) != -1)
		n++;
	ck_assert_int_eq(errno, EMFILE);
	there = (struct stream){ .from = peers[0],
		.to = peers[1],
		.total = 8 << 20 };
	back = (struct stream){ .from = peers[1],
		.to = peers[0],
		.total = 8 << 20 };
	stream_pump(&there, &back);
	ck_assert_uint_eq(q->npipes, 0);
	while (n > 0)
		close(fds[--n]);
	setrlimit(RLIMIT_NOFILE, &old);
	pair_end();
}
END_TEST

/* Where SIGPIPE would end the process there is no splice(2). */
START_TEST(sigpipe_is_deadly)
{
	struct stream there, back;

	pair_begin(NULL);
	signal(SIGPIPE, SIG_DFL);
	there = (struct stream){ .from = peers[0],
		.to = peers[1],
		.total = 8 << 20 };
	back = (struct stream){ .from = peers[1],
		.to = peers[0],
		.total = 8 << 20 };
	stream_pump(&there, &back);
	ck_assert_uint_eq(q->npipes, 0);
	pair_end();
}
END_TEST

/* Each way in which splice(2) fails: what does not end it loses no byte. */
START_TEST(splice_fails_so)
{
	static const int harmless[] = { EINVAL, EAGAIN, EINTR, ENOMEM,
		ENOBUFS };
	struct stream there, back;
	static char big[64 * 1024];
	size_t i;
	unsigned k;

	for (i = 0; i < sizeof(harmless) / sizeof(harmless[0]); i++)
		for (k = 1; k <= 3; k++) {
			pair_begin_mode(&pair_modes[2]);
			mode_err = harmless[i];
			mode_fails = k;
			there = (struct stream){ .from = peers[0],
				.to = peers[1],
				.total = 2 << 20 };
			back = (struct stream){ .from = peers[1],
				.to = peers[0],
				.total = 1 << 20 };
			stream_pump(&there, &back);
			pair_end();
		}
	pair_begin_mode(&pair_modes[2]);
	mode_err = ECONNRESET;
	mode_fails = 1;
	UNTIL((send(peers[0], big, sizeof(big), MSG_NOSIGNAL),
	    q->dead != 0 || ended[0].n == 1));
	pair_ends_with(KQUAY_ERROR, KQUAY_DONE);
	pair_end();
}
END_TEST

/* -- what is no TCP socket ------------------------------------------------- */

START_TEST(unix_sockets)
{
	struct stream there, back;
	int a[2], b[2];

	pair_start(&pair_service, NULL, NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, a),
	    0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b),
	    0);
	ends[0] = ends[1] = NULL;
	ck_assert_ptr_nonnull(kquay_adopt(q, a[0], NULL));
	ck_assert_ptr_nonnull(kquay_adopt(q, b[0], NULL));
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	there = (struct stream){ .from = a[1], .to = b[1], .total = 32 << 20 };
	back = (struct stream){ .from = b[1], .to = a[1], .total = 16 << 20 };
	stream_pump(&there, &back);
	pair_ends_with(KQUAY_EOF, KQUAY_EOF);
	close(a[1]);
	close(b[1]);
	close(peers[0]);
	close(peers[1]);
	kit_stop();
}
END_TEST

/* A terminal cannot be told of an end but by its close. */
START_TEST(terminal)
{
	int master, slave;
	char buf[64];

	pair_start(&pair_service, NULL, NULL);
	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	close(peers[1]);
	UNTIL(ended[1].n == 1);
	ended[1].n = 0;
	ends[1] = NULL;
	ck_assert_ptr_nonnull(kquay_adopt(q, master, NULL));
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	kit_send(peers[0], "to the terminal\n");
	kit_expect(peers[0], "to the terminal\r\n"); /* its echo */
	ck_assert_int_eq(read(slave, buf, sizeof(buf)), 16);
	ck_assert_int_eq(write(slave, "from it\n", 8), 8);
	kit_expect(peers[0], "from it\r\n");
	close(slave);
	kit_expect_end(peers[0], "");
	close(peers[0]);
	pair_ends_with(KQUAY_EOF, KQUAY_EOF);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = { &messages, &two_calls_a_message, &bulk,
	&half_close, &slow_reader, &kept_and_queued_go_first,
	&paused_and_ended_before, &half_open_before, &a_pause_stops_one_way,
	&pipes_are_returned, &no_descriptor_for_a_pipe, &sigpipe_is_deadly,
	&splice_fails_so, &unix_sockets, &terminal };

KIT_MAIN("splice", tests)
