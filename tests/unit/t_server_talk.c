/*
 * The server library seen from its peers: what goes in, what comes out, in
 * what order, and who may do what to whom from which callback.
 */
#include "t_server_kit.h"

#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char heard[4096];

static void
hear(const char *text, size_t len)
{
	size_t at = strlen(heard);

	ck_assert_uint_lt(at + len + 2, sizeof(heard));
	memcpy(heard + at, text, len);
	memcpy(heard + at + len, "|", 2);
}

static int
greet(struct kquay_conn *c)
{
	return kquay_puts(c, "welcome!\n");
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	ck_assert_uint_eq(strlen(text), len);
	hear(text, len);
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	kquay_write(c, data, len);
	return (ssize_t)len;
}

/* -- lines ----------------------------------------------------------------- */

START_TEST(lines_in_all_shapes)
{
	static const struct kquay_ops ops = { .open = greet, .line = on_line };
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_expect(fd, "welcome!\n");
	kit_send(fd, "one\ntwo\r\n\n\r\nfi");
	UNTIL(strcmp(heard, "one|two|||") == 0);
	kit_send(fd, "ve");
	kit_settle();
	kit_send(fd, " and\r");
	kit_settle();
	ck_assert_str_eq(heard, "one|two|||");
	kit_send(fd, "\nsix\nseven");
	UNTIL(strcmp(heard, "one|two|||five and|six|") == 0);
	close(fd);
	UNTIL(kquay_next(q, NULL) == NULL);
	ck_assert_str_eq(heard, "one|two|||five and|six|seven|");
	kit_stop();
}
END_TEST

/* A read ends at the place of urgent data, whatever lies behind it. */
START_TEST(urgent_data_hides_nothing)
{
	static const struct kquay_ops ops = { .line = on_line };
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, "one\ntwo\n");
	ck_assert_int_eq(send(fd, "!", 1, MSG_OOB), 1);
	kit_send(fd, "three\n");
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	kit_expect_end(fd, "");
	ck_assert_str_eq(heard, "one|two|three|");
	close(fd);
	kit_stop();
}
END_TEST

static char longest[8193];

static void
measure(struct kquay_conn *c, char *text, size_t len)
{
	ck_assert_uint_eq(len, 8192);
	heard[0]++;
}

START_TEST(the_longest_line_is_inmax_bytes)
{
	static const struct kquay_ops ops = { .line = measure,
		.close = kit_on_close };
	int fd;

	memset(longest, 'x', sizeof(longest) - 1);
	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, longest);
	kit_settle();
	kit_send(fd, "\n");
	UNTIL(heard[0] == 1);
	kit_send(fd, longest);
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	kit_send(fd, "y");
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_TOOLONG);
	/* Also when its end has come with it. */
	fd = kit_join();
	kit_send(fd, longest);
	kit_send(fd, "y\n");
	UNTIL(kit_closed.n == 2);
	ck_assert_int_eq(kit_closed.why, KQUAY_TOOLONG);
	ck_assert_int_eq(heard[0], 1);
	kit_stop();
}
END_TEST

/* -- raw input ------------------------------------------------------------- */

/* Uses whole words of four, one a call; hangs up at a '!'. */
static ssize_t
fours(struct kquay_conn *c, char *data, size_t len)
{
	if (data[0] == '!')
		return -1;
	if (len < 4)
		return 0;
	hear(data, 4);
	return 4;
}

START_TEST(input_keeps_what_is_not_used)
{
	static const struct kquay_ops ops = { .input = fours,
		.close = kit_on_close };
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, "aaaabbbbcc");
	UNTIL(strcmp(heard, "aaaa|bbbb|") == 0);
	kit_send(fd, "c");
	kit_settle();
	kit_send(fd, "cdddde");
	UNTIL(strcmp(heard, "aaaa|bbbb|cccc|dddd|") == 0);
	kit_send(fd, "eee!");
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_str_eq(heard, "aaaa|bbbb|cccc|dddd|eeee|");
	kit_expect_end(fd, "");
	kit_stop();
}
END_TEST

static ssize_t
refuse_all(struct kquay_conn *c, char *data, size_t len)
{
	return 0;
}

START_TEST(unused_input_over_inmax_is_too_long)
{
	static const struct kquay_ops ops = { .input = refuse_all,
		.close = kit_on_close };
	int fd;

	memset(longest, 'x', sizeof(longest) - 1);
	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, longest);
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	kit_send(fd, "y");
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_TOOLONG);
	kit_stop();
}
END_TEST

/* -- end of file ----------------------------------------------------------- */

static int ends;

static int
keep_open(struct kquay_conn *c)
{
	ends++;
	return 1;
}

START_TEST(eof_can_keep_our_half)
{
	static const struct kquay_ops ops = { .input = echo,
		.eof = keep_open,
		.close = kit_on_close };
	struct kquay_conn *c;
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, "last words");
	shutdown(fd, SHUT_WR);
	UNTIL(ends == 1);
	kit_expect(fd, "last words");
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	c = kit_conn();
	ck_assert_int_eq(kquay_puts(c, "and ours"), 0);
	kquay_close(c);
	ck_assert_int_eq(kquay_puts(c, "too late"), -1);
	ck_assert_int_eq(errno, EPIPE);
	kit_expect_end(fd, "and ours");
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_int_eq(ends, 1);
	kit_stop();
}
END_TEST

enum { BULK = 8 * 1024 * 1024 };

static unsigned char
bulk(size_t at)
{
	return (unsigned char)(at * 2654435761u >> 13);
}

/* Send BULK bytes as far as they go, end, read everything back. */
static void
half_close(int fd, bool patient)
{
	static unsigned char out[65536], in[65536];
	size_t sent = 0, got = 0, len = 0, i;
	int64_t deadline = kit_ms() + 30000;
	ssize_t n;

	while (sent < BULK || got < BULK) {
		if (kit_ms() > deadline)
			ck_abort_msg("%zu sent, %zu got", sent, got);
		for (len = 0; len < sizeof(out) && sent + len < BULK; len++)
			out[len] = bulk(sent + len);
		n = len == 0 ? 0 : send(fd, out, len, MSG_NOSIGNAL);
		if (n > 0) {
			sent += (size_t)n;
			if (sent == BULK)
				shutdown(fd, SHUT_WR);
		}
		/* A patient one reads only when it can send no more. */
		if (!patient || n <= 0) {
			n = recv(fd, in, sizeof(in), 0);
			if (n == 0)
				ck_abort_msg("cut off at %zu", got);
			for (i = 0; n > 0 && i < (size_t)n; i++)
				if (in[i] != bulk(got + i))
					ck_abort_msg("byte %zu", got + i);
			got += n > 0 ? (size_t)n : 0;
		}
		if (kquay_step(q, 0) == -1)
			ck_abort_msg("kquay_step: %s", strerror(errno));
	}
	kit_expect_end(fd, "");
}

START_TEST(half_close_delivers_8_mib)
{
	static const struct kquay_ops ops = { .input = echo,
		.close = kit_on_close };

	kit_start(&ops, NULL);
	half_close(kit_join(), false);
	UNTIL(kit_closed.n == 1);
	half_close(kit_join(), true);
	UNTIL(kit_closed.n == 2);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	kit_stop();
}
END_TEST

/* -- output ---------------------------------------------------------------- */

static int writes;

static ssize_t
count_write(int fd, const void *buf, size_t len)
{
	writes++;
	return send(fd, buf, len, MSG_NOSIGNAL);
}

static const struct kquay_sys counting = { .write = count_write };

static void
chatter(struct kquay_conn *c, char *text, size_t len)
{
	int i;

	for (i = 0; i < 100; i++)
		ck_assert_int_eq(kquay_printf(c, "%s %d\n", text, i), 0);
}

START_TEST(a_callback_makes_one_send)
{
	static const struct kquay_ops ops = { .line = chatter };
	struct kquay_conf conf = { .maxconn = 8, .sys = &counting };
	char want[4096] = "";
	int fd, i;

	kit_start(&ops, &conf);
	fd = kit_join();
	kit_send(fd, "line\n");
	for (i = 0; i < 100; i++)
		sprintf(want + strlen(want), "line %d\n", i);
	kit_expect(fd, want);
	ck_assert_int_eq(writes, 1);
	kit_stop();
}
END_TEST

static int
long_farewell(struct kquay_conn *c)
{
	static char text[200000];
	size_t i;

	for (i = 0; i < sizeof(text); i++)
		text[i] = (char)('a' + i % 26);
	ck_assert_int_eq(kquay_puts(c, "<"), 0);
	ck_assert_int_eq(kquay_write(c, text, sizeof(text)), 0);
	ck_assert_int_eq(kquay_printf(c, "%.*s>", 5000, text), 0);
	return -1;
}

START_TEST(output_before_a_close_arrives_in_order)
{
	static const struct kquay_ops ops = { .open = long_farewell,
		.close = kit_on_close };
	char buf[65536];
	size_t got = 0;
	ssize_t n;
	int fd;

	kit_start(&ops, NULL);
	fd = kit_connect();
	/* Unread input would turn a plain close into a reset. */
	kit_send(fd, "what the server never reads\n");
	for (;;) {
		UNTIL((n = recv(fd, buf, sizeof(buf), 0)) != -1 ||
		    errno != EAGAIN);
		ck_assert_int_ge(n, 0);
		if (n == 0)
			break;
		if (got == 0)
			ck_assert_int_eq(buf[0], '<');
		got += (size_t)n;
		if (got == 205002)
			ck_assert_int_eq(buf[n - 1], '>');
	}
	ck_assert_uint_eq(got, 205002);
	close(fd);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	kit_stop();
}
END_TEST

static int drains;

static void
on_drained(struct kquay_conn *c)
{
	drains++;
	ck_assert_uint_le(kquay_pending(c), 1000);
	kquay_puts(c, "$");
}

START_TEST(drained_is_told_once_per_high_water)
{
	static const struct kquay_ops ops = { .drained = on_drained };
	struct kquay_conf conf = { .maxconn = 8,
		.outhi = 2000,
		.outlo = 1000,
		.outmax = 64 << 20 };
	static char block[1 << 20];
	static char sink[1 << 20];
	size_t got = 0, sent = 0;
	ssize_t n;
	int fd;

	memset(block, '.', sizeof(block));
	kit_start(&ops, &conf);
	fd = kit_join();
	while (kquay_pending(kit_conn()) <= 2000) {
		ck_assert_int_eq(kquay_write(kit_conn(), block, sizeof(block)),
		    0);
		sent += sizeof(block);
	}
	while (got < sent + 1) {
		UNTIL((n = recv(fd, sink, sizeof(sink), 0)) > 0);
		got += (size_t)n;
	}
	ck_assert_int_eq(sink[n - 1], '$');
	ck_assert_int_eq(drains, 1);
	ck_assert_uint_eq(kquay_pending(kit_conn()), 0);
	kit_stop();
}
END_TEST

/* -- everybody to everybody ------------------------------------------------ */

static void
say(struct kquay_conn *c, char *text, size_t len)
{
	struct kquay_conn *o;

	KQUAY_FOREACH(o, kquay_of(c))
		if (o != c)
			kquay_printf(o, "%s: %s\n", kquay_peer(c), text);
}

START_TEST(chat_reaches_everyone_else)
{
	static const struct kquay_ops ops = { .open = greet, .line = say };
	struct kquay_conn *c;
	char peer[3][64], want[128];
	int fd[3], i = 0;

	kit_start(&ops, NULL);
	for (i = 0; i < 3; i++)
		kit_expect(fd[i] = kit_join(), "welcome!\n");
	i = 0;
	KQUAY_FOREACH(c, q)
		strcpy(peer[i++], kquay_peer(c));
	ck_assert_int_eq(i, 3);
	kit_send(fd[1], "hello\n");
	sprintf(want, "%s: hello\n", peer[1]);
	kit_expect(fd[0], want);
	kit_expect(fd[2], want);
	kit_settle();
	ck_assert_int_eq(recv(fd[1], want, 1, 0), -1);
	kit_stop();
}
END_TEST

static uint64_t ids[8];
static int nids;

static int
remember(struct kquay_conn *c)
{
	ids[nids++] = kquay_id(c);
	return 0;
}

/* Whoever is heard first ends all others. */
static void
end_the_others(struct kquay_conn *c, char *text, size_t len)
{
	struct kquay_conn *o;

	hear(text, len);
	KQUAY_FOREACH(o, q)
		if (o != c) {
			if (text[0] == 'a')
				kquay_abort(o);
			else
				kquay_close(o);
			ck_assert_int_eq(kquay_puts(o, "?"), -1);
		}
}

static void
farewell(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *o;

	kit_on_close(c, why);
	ck_assert_ptr_null(kquay_find(q, kquay_id(c)));
	ck_assert_int_eq(kquay_puts(c, "?"), -1);
	kquay_close(c);
	kquay_abort(c);
	kquay_pause(c, 0);
	KQUAY_FOREACH(o, q) {
		ck_assert_ptr_ne(o, c);
		kquay_printf(o, "bye %d\n", (int)why);
	}
}

/* Both lines are in the queue before the batch; one is served. */
static void
one_ends_the_other(const char *line, bool reset)
{
	static const struct kquay_ops ops = { .open = remember,
		.line = end_the_others,
		.close = farewell };
	int fd[2], left;

	nids = 0;
	heard[0] = '\0';
	kit_start(&ops, NULL);
	fd[0] = kit_join();
	fd[1] = kit_join();
	kit_send(fd[0], line);
	kit_send(fd[1], line);
	UNTIL(kit_closed.n == 1);
	kit_settle();
	ck_assert_uint_eq(strlen(heard), 2);
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq((kquay_find(q, ids[0]) != NULL) +
		(kquay_find(q, ids[1]) != NULL),
	    1);
	left = kquay_find(q, ids[0]) == NULL;
	kit_expect(fd[left], "bye 0\n");
	if (reset)
		kit_expect_reset(fd[!left]);
	kit_stop();
}

START_TEST(one_closes_another_of_the_same_batch)
{
	one_ends_the_other("a\n", true);
	one_ends_the_other("c\n", false);
}
END_TEST

START_TEST(close_comes_once_and_a_stale_id_finds_nothing)
{
	static const struct kquay_ops ops = { .open = remember,
		.close = farewell };
	uint64_t stale;
	int i;

	kit_start(&ops, NULL);
	for (i = 0; i < 8; i++) {
		nids = 0;
		close(kit_join());
		stale = ids[0];
		UNTIL(kit_closed.n == i + 1);
		ck_assert_ptr_null(kquay_find(q, stale));
		/* The same slot again, and the same number. */
		nids = 0;
		close(kit_join());
		ck_assert_uint_ne(ids[0], stale);
		ck_assert_ptr_null(kquay_find(q, stale));
		ck_assert_ptr_nonnull(kquay_find(q, ids[0]));
		UNTIL(kit_closed.n == i + 2);
		kit_closed.n--;
	}
	ck_assert_ptr_null(kquay_find(q, 0));
	ck_assert_ptr_null(kquay_find(q, UINT64_MAX));
	ck_assert_ptr_null(kquay_find(q, 1));
	kit_stop();
}
END_TEST

/* A number that is closed without EV_DELETE works again at once. */
START_TEST(a_reused_descriptor_is_heard)
{
	static const struct kquay_ops ops = { .input = echo,
		.close = kit_on_close };
	int fd, dupfd, i;

	kit_start(&ops, NULL);
	for (i = 0; i < 50; i++) {
		fd = kit_join();
		/* A duplicate keeps the socket itself alive. */
		dupfd = dup(fd);
		kit_send(fd, "ping");
		kit_expect(fd, "ping");
		shutdown(fd, SHUT_WR);
		UNTIL(kit_closed.n == i + 1);
		close(dupfd);
		close(fd);
	}
	kit_stop();
}
END_TEST

/* -- changing one's mind --------------------------------------------------- */

static void switch_to_echo(struct kquay_conn *c, char *text, size_t len);
static const struct kquay_ops echo_ops = { .input = echo };
static const struct kquay_ops line_ops = { .line = switch_to_echo };

static void
switch_to_echo(struct kquay_conn *c, char *text, size_t len)
{
	hear(text, len);
	if (strcmp(text, "echo") == 0)
		kquay_setops(c, &echo_ops);
}

START_TEST(setops_acts_on_the_rest_of_the_buffer)
{
	int fd;

	kit_start(&line_ops, NULL);
	fd = kit_join();
	kit_send(fd, "hello\necho\nraw\nbytes");
	kit_expect(fd, "raw\nbytes");
	ck_assert_str_eq(heard, "hello|echo|");
	/* And on what was kept. */
	kquay_setops(kit_conn(), &line_ops);
	kit_send(fd, "half a li");
	kit_settle();
	kquay_setops(kit_conn(), &echo_ops);
	kit_expect(fd, "half a li");
	kit_stop();
}
END_TEST

static void
pause_at_stop(struct kquay_conn *c, char *text, size_t len)
{
	hear(text, len);
	if (strcmp(text, "stop") == 0)
		kquay_pause(c, 1);
}

START_TEST(pause_holds_lines_and_end_back)
{
	static const struct kquay_ops ops = { .line = pause_at_stop,
		.close = kit_on_close };
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, "a\nstop\nb\nstop\nlast");
	shutdown(fd, SHUT_WR);
	UNTIL(strcmp(heard, "a|stop|") == 0);
	kit_settle();
	ck_assert_str_eq(heard, "a|stop|");
	kquay_pause(kit_conn(), 0);
	UNTIL(strcmp(heard, "a|stop|b|stop|") == 0);
	kit_settle();
	ck_assert_str_eq(heard, "a|stop|b|stop|");
	ck_assert_int_eq(kit_closed.n, 0);
	kquay_pause(kit_conn(), 0);
	UNTIL(kit_closed.n == 1);
	ck_assert_str_eq(heard, "a|stop|b|stop|last|");
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	kit_stop();
}
END_TEST

/* -- adopting -------------------------------------------------------------- */

START_TEST(adopt_a_socketpair_a_pipe_and_a_pty)
{
	static const struct kquay_ops ops = { .open = greet,
		.line = on_line,
		.close = kit_on_close };
	struct kquay_conn *c;
	int sv[2], p[2], pty, tty;
	char buf[64];

	kit_start(&echo_ops, NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	c = kquay_adopt(q, sv[0], &ops);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	kit_expect(sv[1], "welcome!\n");
	kit_send(sv[1], "to the pair\n");
	UNTIL(strcmp(heard, "to the pair|") == 0);
	close(sv[1]);
	UNTIL(kit_closed.n == 1);

	ck_assert_int_eq(pipe(p), 0);
	c = kquay_adopt(q, p[0], &ops);
	ck_assert_ptr_nonnull(c);
	sprintf(buf, "fd:%d", p[0]);
	ck_assert_str_eq(kquay_peer(c), buf);
	/* The greeting cannot be written to the reading end of a pipe. */
	UNTIL(kit_closed.n == 2);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, EBADF);
	close(p[1]);

	heard[0] = '\0';
	pty = posix_openpt(O_RDWR | O_NOCTTY);
	ck_assert_int_eq(grantpt(pty), 0);
	ck_assert_int_eq(unlockpt(pty), 0);
	tty = open(ptsname(pty), O_RDWR | O_NOCTTY);
	ck_assert_int_ne(tty, -1);
	ck_assert_ptr_nonnull(kquay_adopt(q, pty, &ops));
	ck_assert_int_eq(write(tty, "from the tty\n", 13), 13);
	UNTIL(strstr(heard, "from the tty|") != NULL);
	close(tty);
	UNTIL(kit_closed.n == 3);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);

	ck_assert_ptr_null(kquay_adopt(q, -1, &ops));
	ck_assert_int_eq(errno, EBADF);
	kit_stop();
}
END_TEST

static int
check_udata(struct kquay_conn *c)
{
	char *u = kquay_udata(c);
	int i;

	ck_assert_uint_eq((uintptr_t)u % 16, 0);
	for (i = 0; i < 100; i++)
		ck_assert_int_eq(u[i], 0);
	memset(u, 0xff, 100);
	return 0;
}

START_TEST(udata_is_zeroed_for_each_connection)
{
	static const struct kquay_ops ops = { .open = check_udata,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 3, .udatasz = 100 };
	int i;

	kit_start(&ops, &conf);
	for (i = 0; i < 5; i++) {
		close(kit_join());
		UNTIL(kit_closed.n == i + 1);
	}
	kit_join(), kit_join(), kit_join();
	kit_stop();
	ck_assert_int_eq(kit_closed.n, 8);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
}
END_TEST

START_TEST(stats_add_up)
{
	struct kquay_stat st;
	int fd[2];

	kit_start(&echo_ops, NULL);
	fd[0] = kit_join();
	fd[1] = kit_join();
	kit_send(fd[0], "12345");
	kit_expect(fd[0], "12345");
	close(fd[1]);
	UNTIL((kquay_stats(q, &st), st.closed == 1));
	ck_assert_uint_eq(st.accepted, 2);
	ck_assert_uint_eq(st.refused, 0);
	ck_assert_uint_eq(st.in, 5);
	ck_assert_uint_eq(st.out, 5);
	ck_assert_uint_eq(st.conns, 1);
	ck_assert_uint_eq(st.peak, 2);
	ck_assert_uint_gt(st.batches, 2);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&lines_in_all_shapes,
	&urgent_data_hides_nothing,
	&the_longest_line_is_inmax_bytes,
	&input_keeps_what_is_not_used,
	&unused_input_over_inmax_is_too_long,
	&eof_can_keep_our_half,
	&half_close_delivers_8_mib,
	&a_callback_makes_one_send,
	&output_before_a_close_arrives_in_order,
	&drained_is_told_once_per_high_water,
	&chat_reaches_everyone_else,
	&one_closes_another_of_the_same_batch,
	&close_comes_once_and_a_stale_id_finds_nothing,
	&a_reused_descriptor_is_heard,
	&setops_acts_on_the_rest_of_the_buffer,
	&pause_holds_lines_and_end_back,
	&adopt_a_socketpair_a_pipe_and_a_pty,
	&udata_is_zeroed_for_each_connection,
	&stats_add_up,
};

KIT_MAIN("server_talk", tests)
