/*
 * Frames: every prefix and delimiter, whole and byte by byte, at their limits,
 * with a service that changes its mind between two of them.
 */
#include "t_server_kit.h"
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char heard[65536];

/* Bodies as text, each with a bar after it. */
static void
hear(struct kquay_conn *c, char *data, size_t len)
{
	size_t at = strlen(heard);

	(void)c;
	ck_assert_uint_lt(at + len + 2, sizeof(heard));
	memcpy(heard + at, data, len);
	memcpy(heard + at + len, "|", 2);
}

static void
send_all(int fd, const char *data, size_t len, size_t step)
{
	size_t n;

	for (; len > 0; data += n, len -= n) {
		n = len < step ? len : step;
		ck_assert_int_eq(send(fd, data, n, MSG_NOSIGNAL), n);
		if (step == 1)
			kit_step();
	}
}

/* -- what a frame looks like ----------------------------------------------- */

/* "one", "" and "three" in each framing. */
#define BYTES(s) s, sizeof(s) - 1
static const struct shape {
	struct kquay_framing framing;
	const char *wire;
	size_t len;
} shapes[] = {
	{ { .prefix = 1 }, BYTES("\3one\0\5three") },
	{ { .prefix = 2 }, BYTES("\0\3one\0\0\0\5three") },
	{ { .prefix = 3 }, BYTES("\0\0\3one\0\0\0\0\0\5three") },
	{ { .prefix = 4 }, BYTES("\0\0\0\3one\0\0\0\0\0\0\0\5three") },
	{ { .prefix = 8 },
	    BYTES("\0\0\0\0\0\0\0\3one"
		  "\0\0\0\0\0\0\0\0"
		  "\0\0\0\0\0\0\0\5three") },
	{ { .prefix = 1, .flags = KQUAY_LITTLE }, BYTES("\3one\0\5three") },
	{ { .prefix = 2, .flags = KQUAY_LITTLE },
	    BYTES("\3\0one\0\0\5\0three") },
	{ { .prefix = 4, .flags = KQUAY_LITTLE },
	    BYTES("\3\0\0\0one\0\0\0\0\5\0\0\0three") },
	{ { .prefix = 8, .flags = KQUAY_LITTLE },
	    BYTES("\3\0\0\0\0\0\0\0one"
		  "\0\0\0\0\0\0\0\0"
		  "\5\0\0\0\0\0\0\0three") },
	{ { .prefix = 1, .flags = KQUAY_COUNTSELF }, BYTES("\4one\1\6three") },
	{ { .prefix = 2, .flags = KQUAY_COUNTSELF | KQUAY_LITTLE },
	    BYTES("\5\0one\2\0\7\0three") },
	{ { .prefix = 4, .flags = KQUAY_COUNTSELF },
	    BYTES("\0\0\0\7one\0\0\0\4\0\0\0\11three") },
	{ { .prefix = 8, .flags = KQUAY_COUNTSELF | KQUAY_LITTLE },
	    BYTES("\13\0\0\0\0\0\0\0one"
		  "\10\0\0\0\0\0\0\0"
		  "\15\0\0\0\0\0\0\0three") },
	{ { .delim = NULL }, BYTES("one\n\nthree\n") },
	{ { .delim = ";" }, BYTES("one;;three;") },
	{ { .delim = "\r\n" }, BYTES("one\r\n\r\nthree\r\n") },
	{ { .delim = "" }, BYTES("one\0\0three\0") },
	{ { .delim = "a\0b", .delimlen = 3 }, BYTES("onea\0ba\0bthreea\0b") },
	{ { .delim = "--END--" }, BYTES("one--END----END--three--END--") },
};

static const size_t steps[] = { 100, 1, 2, 3, 7 };

START_TEST(every_shape_in_all_pieces)
{
	struct kquay_ops ops = { .frame = hear };
	size_t i, k;
	int fd;

	for (i = 0; i < COUNT(shapes); i++) {
		ops.framing = shapes[i].framing;
		kit_start(&ops, NULL);
		for (k = 0; k < COUNT(steps); k++) {
			heard[0] = '\0';
			fd = kit_join();
			send_all(fd, shapes[i].wire, shapes[i].len, steps[k]);
			UNTIL(strlen(heard) >= strlen("one||three|"));
			ck_assert_msg(strcmp(heard, "one||three|") == 0,
			    "shape %zu: %s", i, heard);
			close(fd);
		}
		kit_stop();
	}
}
END_TEST

static int
say_three(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_frame(c, "one", 3), 0);
	ck_assert_int_eq(kquay_frame(c, "", 0), 0);
	ck_assert_int_eq(kquay_frame(c, "three", 5), 0);
	return 0;
}

static int writes;

static ssize_t
count_write(int fd, const void *buf, size_t len)
{
	writes++;
	return send(fd, buf, len, MSG_NOSIGNAL);
}

START_TEST(what_is_sent_is_of_the_same_shape)
{
	static const struct kquay_sys sys = { .write = count_write };
	static const struct kquay_conf conf = { .maxconn = 8, .sys = &sys };
	struct kquay_ops ops = { .open = say_three };
	char got[128];
	size_t i, n;
	int fd;

	for (i = 0; i < COUNT(shapes); i++) {
		ops.framing = shapes[i].framing;
		kit_start(&ops, &conf);
		writes = 0;
		fd = kit_join();
		for (n = 0; n < shapes[i].len;)
			UNTIL(recv(fd, got + n, 1, 0) == 1 && ++n);
		ck_assert_msg(memcmp(got, shapes[i].wire, n) == 0, "shape %zu",
		    i);
		ck_assert_int_eq(writes, 1);
		kit_stop();
		close(fd);
	}
}
END_TEST

/* -- limits ---------------------------------------------------------------- */

static const struct limit {
	struct kquay_framing framing;
	const char *head; /* goes before the body */
	size_t hlen;
	size_t body; /* so many bytes 'x', then the tail */
	const char *tail;
	size_t tlen;
	int closed; /* 0, or 1 + why */
	int err;
} limits[] = {
	/* inmax is 100. */
	{ { .prefix = 1 }, BYTES("\143"), 99, BYTES(""), 0, 0 },
	{ { .prefix = 1 }, BYTES("\144"), 0, BYTES(""), 1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 4 }, BYTES("\0\0\0\140"), 96, BYTES(""), 0, 0 },
	{ { .prefix = 4 }, BYTES("\0\0\0\141"), 0, BYTES(""), 1 + KQUAY_TOOLONG,
	    0 },
	{ { .prefix = 4, .max = 10 }, BYTES("\0\0\0\12"), 10, BYTES(""), 0, 0 },
	{ { .prefix = 4, .max = 10 }, BYTES("\0\0\0\13"), 0, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 4, .max = 1000 }, BYTES("\0\0\0\141"), 0, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 4 }, BYTES("\377\377\377\377"), 0, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 8 }, BYTES("\377\377\377\377\377\377\377\377"), 0,
	    BYTES(""), 1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 8 }, BYTES("\377\377\377\377\377\377\377\370"), 0,
	    BYTES(""), 1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 8, .flags = KQUAY_LITTLE },
	    BYTES("\374\377\377\377\377\377\377\377"), 0, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 8, .flags = KQUAY_COUNTSELF },
	    BYTES("\377\377\377\377\377\377\377\377"), 0, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .prefix = 8, .flags = KQUAY_COUNTSELF },
	    BYTES("\0\0\0\0\0\0\0\144"), 92, BYTES(""), 0, 0 },
	{ { .prefix = 8, .flags = KQUAY_COUNTSELF }, BYTES("\0\0\0\0\0\0\0\7"),
	    0, BYTES(""), 1 + KQUAY_ERROR, EPROTO },
	{ { .prefix = 4, .flags = KQUAY_COUNTSELF }, BYTES("\0\0\0\0"), 0,
	    BYTES(""), 1 + KQUAY_ERROR, EPROTO },
	{ { .prefix = 9 }, BYTES("x"), 0, BYTES(""), 1 + KQUAY_ERROR, EPROTO },
	{ { .delim = ";" }, BYTES(""), 99, BYTES(";"), 0, 0 },
	{ { .delim = ";" }, BYTES(""), 100, BYTES(";"), 1 + KQUAY_TOOLONG, 0 },
	{ { .delim = ";" }, BYTES(""), 100, BYTES(""), 1 + KQUAY_TOOLONG, 0 },
	{ { .delim = "\r\n" }, BYTES(""), 98, BYTES("\r\n"), 0, 0 },
	{ { .delim = "\r\n" }, BYTES(""), 99, BYTES("\r\n"), 1 + KQUAY_TOOLONG,
	    0 },
	{ { .delim = "\r\n", .max = 5 }, BYTES(""), 5, BYTES("\r\n"), 0, 0 },
	{ { .delim = "\r\n", .max = 5 }, BYTES(""), 6, BYTES("\r\n"),
	    1 + KQUAY_TOOLONG, 0 },
	{ { .delim = "\r\n", .max = 5 }, BYTES(""), 7, BYTES(""),
	    1 + KQUAY_TOOLONG, 0 },
};

static void
try_limit(const struct limit *l, size_t step, size_t row)
{
	struct kquay_ops ops = { .frame = hear,
		.close = kit_on_close,
		.framing = l->framing };
	struct kquay_conf conf = { .maxconn = 8, .inmax = 100 };
	char wire[256], want[256];
	size_t len = 0;
	int fd;

	memcpy(wire, l->head, l->hlen);
	memset(wire + l->hlen, 'x', l->body);
	memcpy(wire + l->hlen + l->body, l->tail, l->tlen);
	len = l->hlen + l->body + l->tlen;
	memset(want, 'x', l->body);
	memcpy(want + l->body, "|", 2);
	heard[0] = '\0';
	kit_start(&ops, &conf);
	fd = kit_join();
	/* The peer may be gone before it has sent all. */
	for (; len > 0 && kit_closed.n == 0; len -= step) {
		if (step > len)
			step = len;
		send(fd, wire + (l->hlen + l->body + l->tlen - len), step,
		    MSG_NOSIGNAL);
		kit_step();
	}
	if (l->closed == 0) {
		UNTIL(heard[0] != '\0');
		ck_assert_msg(strcmp(heard, want) == 0, "row %zu", row);
		kit_settle();
		ck_assert_msg(kit_closed.n == 0, "row %zu", row);
	} else {
		UNTIL(kit_closed.n == 1);
		ck_assert_msg((int)kit_closed.why == l->closed - 1 &&
			kit_closed.err == l->err && heard[0] == '\0',
		    "row %zu: %s", row, kquay_whystr(kit_closed.why));
	}
	kit_stop();
	close(fd);
}

START_TEST(limits_hold_in_all_pieces)
{
	size_t i;

	for (i = 0; i < COUNT(limits); i++) {
		try_limit(&limits[i], sizeof(heard), i);
		try_limit(&limits[i], 1, i);
	}
}
END_TEST

START_TEST(what_cannot_be_sent_is_not)
{
	static char large[70000];
	static const struct kquay_conf conf = { .maxconn = 8, .outmax = 66000 };
	static const struct refused {
		struct kquay_framing framing;
		const char *data;
		size_t len;
		int err;
	} rows[] = {
		{ { .prefix = 1 }, large, 255, 0 },
		{ { .prefix = 1 }, large, 256, EMSGSIZE },
		{ { .prefix = 1, .flags = KQUAY_COUNTSELF }, large, 254, 0 },
		{ { .prefix = 1, .flags = KQUAY_COUNTSELF }, large, 255,
		    EMSGSIZE },
		{ { .prefix = 2 }, large, 65535, 0 },
		{ { .prefix = 2 }, large, 65536, EMSGSIZE },
		{ { .prefix = 4 }, large, 65996, 0 },
		{ { .prefix = 4 }, large, 65997, EMSGSIZE },
		{ { .prefix = 8, .max = 3 }, large, 3, 0 },
		{ { .prefix = 8, .max = 3 }, large, 4, EMSGSIZE },
		{ { .prefix = 9 }, large, 4, EINVAL },
		{ { .delim = NULL }, large, 65999, 0 },
		{ { .delim = NULL }, large, 66000, EMSGSIZE },
		{ { .delim = NULL }, "a\nb", 3, EINVAL },
		{ { .delim = "\r\n" }, "a\nb\r", 4, 0 },
		{ { .delim = "\r\n" }, "a\r\nb", 4, EINVAL },
		{ { .delim = "aba" }, "xab", 3, EINVAL },
		{ { .delim = "aba" }, "ab", 2, EINVAL },
		{ { .delim = "aba" }, "xba", 3, 0 },
		{ { .delim = "" }, "x\0y", 3, EINVAL },
	};
	struct kquay_ops ops = { .close = kit_on_close };
	struct kquay_conn *c;
	size_t i;
	int fd;

	for (i = 0; i < COUNT(rows); i++) {
		ops.framing = rows[i].framing;
		kit_start(&ops, &conf);
		fd = kit_join();
		c = kit_conn();
		errno = 0;
		ck_assert_msg(kquay_frame(c, rows[i].data, rows[i].len) ==
			    (rows[i].err == 0 ? 0 : -1) &&
			(rows[i].err == 0 || errno == rows[i].err),
		    "row %zu: %s", i, strerror(errno));
		ck_assert_int_eq(kit_closed.n, 0);
		if (rows[i].err != 0)
			ck_assert_uint_eq(kquay_pending(c), 0);
		kquay_close(c);
		errno = 0;
		ck_assert_int_eq(kquay_frame(c, "x", 1), -1);
		if (rows[i].err != EINVAL || rows[i].len == 3)
			ck_assert_int_eq(errno, EPIPE);
		kit_stop();
		close(fd);
	}
}
END_TEST

static size_t shortest_write;

static ssize_t
measure_write(int fd, const void *buf, size_t len)
{
	ssize_t n = send(fd, buf, len, MSG_NOSIGNAL);

	if (n > 0 && (size_t)n < shortest_write)
		shortest_write = (size_t)n;
	return n;
}

/* No part of it goes as a packet of few bytes. */
START_TEST(large_frames_are_cut_well)
{
	static const struct kquay_sys sys = { .write = measure_write };
	static const struct kquay_conf conf = { .maxconn = 8, .sys = &sys };
	static const struct kquay_framing kinds[] = { { .prefix = 4 },
		{ .delim = "\r\n" } };
	static const size_t sizes[] = { 65530, 65532, 65533, 65536, 69633,
		131072, 200000 };
	static char data[200000], got[200016];
	struct kquay_ops ops = { .close = kit_on_close };
	size_t i, k, n, whole;
	int fd, rc;

	memset(data, 'x', sizeof(data));
	for (i = 0; i < COUNT(kinds); i++)
		for (k = 0; k < COUNT(sizes); k++) {
			ops.framing = kinds[i];
			kit_start(&ops, &conf);
			fd = kit_join();
			shortest_write = SIZE_MAX;
			rc = kquay_frame(kit_conn(), data, sizes[k]);
			ck_assert_int_eq(rc, 0);
			whole = sizes[k] + (i == 0 ? 4 : 2);
			for (n = 0; n<whole; n += rc> 0 ? (size_t)rc : 0)
				UNTIL((rc = (int)recv(fd, got + n, whole - n,
					   0)) > 0);
			if (i == 0)
				ck_assert_uint_eq((unsigned char)got[1] << 16 |
					(unsigned char)got[2] << 8 |
					(unsigned char)got[3],
				    sizes[k]);
			else
				ck_assert(
				    memcmp(got + sizes[k], "\r\n", 2) == 0);
			ck_assert(memcmp(got + (i == 0 ? 4 : 0), data,
				      sizes[k]) == 0);
			ck_assert_msg(shortest_write > 2000, "%zu of %zu",
			    shortest_write, whole);
			kit_stop();
			close(fd);
		}
}
END_TEST

/* -- a service that changes its mind --------------------------------------- */

static void
hear_and_pause(struct kquay_conn *c, char *data, size_t len)
{
	hear(c, data, len);
	kquay_pause(c, 1);
}

START_TEST(pause_holds_the_next_frame)
{
	static const struct kquay_ops ops = { .frame = hear_and_pause,
		.framing = { .prefix = 1 } };
	int fd;

	heard[0] = '\0';
	kit_start(&ops, NULL);
	fd = kit_join();
	send_all(fd, BYTES("\3one\3two\5thr"), 100);
	UNTIL(strcmp(heard, "one|") == 0);
	kit_settle();
	ck_assert_str_eq(heard, "one|");
	kquay_pause(kit_conn(), 0);
	UNTIL(strcmp(heard, "one|two|") == 0);
	kquay_pause(kit_conn(), 0);
	send_all(fd, BYTES("ee"), 100);
	UNTIL(strcmp(heard, "one|two|three|") == 0);
	close(fd);
	kit_stop();
}
END_TEST

static void
hear_and_close(struct kquay_conn *c, char *data, size_t len)
{
	hear(c, data, len);
	kquay_frame(c, "bye", 3);
	kquay_close(c);
}

START_TEST(close_is_the_end_of_frames)
{
	static const struct kquay_ops ops = { .frame = hear_and_close,
		.close = kit_on_close,
		.framing = { .delim = ";" } };
	int fd;

	heard[0] = '\0';
	kit_start(&ops, NULL);
	fd = kit_join();
	send_all(fd, BYTES("one;two;three;"), 100);
	kit_expect_end(fd, "bye;");
	close(fd);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_str_eq(heard, "one|");
	kit_stop();
}
END_TEST

static const struct kquay_ops by_length, by_two, by_line;

/* Each protocol switches to the next one. */
static void
next_protocol(struct kquay_conn *c, char *data, size_t len)
{
	hear(c, data, len);
	if (strstr(heard, "three|") != NULL)
		kquay_setops(c, &by_line);
	else if (strstr(heard, "two|") != NULL)
		kquay_setops(c, &by_two);
	else
		kquay_setops(c, &by_length);
}

static const struct kquay_ops by_semicolon = { .frame = next_protocol,
	.framing = { .delim = ";" } };
static const struct kquay_ops by_length = { .frame = next_protocol,
	.framing = { .prefix = 2, .flags = KQUAY_LITTLE } };
static const struct kquay_ops by_two = { .frame = next_protocol,
	.framing = { .delim = ";;" } };
static const struct kquay_ops by_line = { .line = hear };

START_TEST(setops_changes_the_framing)
{
	static const char wire[] = "one;\3\0twothree;;four\nfi;ve\n";
	size_t k;
	int fd;

	kit_start(&by_semicolon, NULL);
	for (k = 0; k < COUNT(steps); k++) {
		heard[0] = '\0';
		fd = kit_join();
		send_all(fd, wire, sizeof(wire) - 1, steps[k]);
		UNTIL(strcmp(heard, "one|two|three|four|fi;ve|") == 0);
		close(fd);
	}
	kit_stop();
}
END_TEST

/* What was searched for one end is searched anew for another. */
START_TEST(setops_in_the_middle_of_a_frame)
{
	static const struct kquay_ops lines = { .line = hear };
	static const struct kquay_ops ends = { .frame = hear,
		.framing = { .delim = "END" } };
	static const struct kquay_ops bars = { .frame = hear,
		.framing = { .delim = "/" } };
	int fd;

	heard[0] = '\0';
	kit_start(&lines, NULL);
	fd = kit_join();
	send_all(fd, BYTES("aENDb/cE"), 100);
	kit_settle();
	ck_assert_str_eq(heard, "");
	kquay_setops(kit_conn(), &ends);
	UNTIL(strcmp(heard, "a|") == 0);
	kit_settle();
	kquay_setops(kit_conn(), &bars);
	UNTIL(strcmp(heard, "a|b|") == 0);
	kit_settle();
	kquay_setops(kit_conn(), &ends);
	send_all(fd, BYTES("N"), 100);
	kit_settle();
	send_all(fd, BYTES("D\nd"), 100);
	UNTIL(strcmp(heard, "a|b|c|") == 0);
	kit_settle();
	kquay_setops(kit_conn(), &lines);
	UNTIL(strcmp(heard, "a|b|c||") == 0);
	close(fd);
	kit_stop();
}
END_TEST

START_TEST(end_of_file_cuts_a_frame_off)
{
	static const struct kquay_ops ops = { .frame = hear,
		.close = kit_on_close };
	int fd;

	heard[0] = '\0';
	kit_start(&ops, NULL);
	fd = kit_join();
	send_all(fd, BYTES("one\ntwo"), 100);
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	ck_assert_str_eq(heard, "one|");
	close(fd);
	kit_stop();
}
END_TEST

/* -- what is large --------------------------------------------------------- */

static const size_t large_sizes[] = { 3000000, 10, 100000, 65536, 0, 70000,
	200000, 5, 65532, 1000000, 65535, 65537 };
static size_t large_next;
static enum { TAKE, PAUSE, CLOSE } large_mode;

static void
check_large(struct kquay_conn *c, char *data, size_t len)
{
	size_t i;

	ck_assert_uint_eq(len, large_sizes[large_next]);
	for (i = 0; i < len; i++)
		if (data[i] != (char)('a' + (large_next + i) % 26))
			ck_abort_msg("frame %zu, byte %zu", large_next, i);
	memset(data, '#', len);
	large_next++;
	if (large_mode == PAUSE)
		kquay_pause(c, 1);
	else if (large_mode == CLOSE && large_next == 2)
		kquay_close(c);
}

/* All of them in the framing, in a buffer of the caller's to be freed. */
static char *
large_wire(const struct kquay_framing *f, size_t *len)
{
	size_t i, k, n, all = 0;
	char *wire, *p;

	for (i = 0; i < COUNT(large_sizes); i++)
		all += large_sizes[i] + 4;
	p = wire = malloc(all);
	for (i = 0; i < COUNT(large_sizes); i++) {
		n = large_sizes[i];
		for (k = 0; f->prefix != 0 && k < 4; k++)
			*p++ = (char)(n >> (8 * (3 - k)));
		for (k = 0; k < n; k++)
			*p++ = (char)('a' + (i + k) % 26);
		if (f->prefix == 0)
			*p++ = ';';
	}
	*len = (size_t)(p - wire);
	return wire;
}

START_TEST(large_frames_in_small_pieces)
{
	static const struct kquay_framing kinds[] = { { .prefix = 4 },
		{ .delim = ";" } };
	static const size_t pieces[] = { 3001, 70000 };
	struct kquay_conf conf = { .maxconn = 8, .inmax = 4000000 };
	struct kquay_ops ops = { .frame = check_large, .close = kit_on_close };
	size_t kind, k, len, at;
	char *wire;
	ssize_t n;
	int fd, mode;

	for (kind = 0; kind < COUNT(kinds); kind++)
		for (k = 0; k < COUNT(pieces); k++)
			for (mode = TAKE; mode <= CLOSE; mode++) {
				ops.framing = kinds[kind];
				large_mode = mode;
				large_next = 0;
				kit_start(&ops, &conf);
				wire = large_wire(&ops.framing, &len);
				fd = kit_join();
				for (at = 0; at < len && kit_closed.n == 0;) {
					n = send(fd, wire + at,
					    len - at < pieces[k] ? len - at :
								   pieces[k],
					    MSG_NOSIGNAL);
					at += n > 0 ? (size_t)n : 0;
					kit_step();
					if (mode == PAUSE)
						kquay_pause(kit_conn(), 0);
				}
				if (mode == CLOSE) {
					UNTIL(kit_closed.n == 1);
					ck_assert_uint_eq(large_next, 2);
				} else
					UNTIL((mode != PAUSE ||
						  (kquay_pause(kit_conn(), 0),
						      1)) &&
					    large_next == COUNT(large_sizes));
				kit_stop();
				close(fd);
				free(wire);
			}
}
END_TEST

enum { STREAM = 2000000 };

static size_t sipped;

static char
byte_at(size_t i)
{
	return (char)(i * 31 + i / 251);
}

/* Waits for much, and takes some of it. */
static ssize_t
sip(struct kquay_conn *c, char *data, size_t len)
{
	size_t i, n = sipped + len == STREAM ? len : 100001;

	(void)c;
	if (len < 300000 && sipped + len < STREAM)
		return 0;
	for (i = 0; i < n; i++)
		if (data[i] != byte_at(sipped + i))
			ck_abort_msg("byte %zu", sipped + i);
	sipped += n;
	return (ssize_t)n;
}

START_TEST(large_input_is_used_in_parts)
{
	static const struct kquay_ops ops = { .input = sip,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 8, .inmax = 400000 };
	char *wire = malloc(STREAM);
	size_t at = 0, i;
	ssize_t n;
	int fd;

	for (i = 0; i < STREAM; i++)
		wire[i] = byte_at(i);
	kit_start(&ops, &conf);
	fd = kit_join();
	while (at < STREAM) {
		n = send(fd, wire + at, STREAM - at, MSG_NOSIGNAL);
		at += n > 0 ? (size_t)n : 0;
		kit_step();
	}
	UNTIL(sipped == STREAM);
	ck_assert_int_eq(kit_closed.n, 0);
	kit_stop();
	close(fd);
	free(wire);
}
END_TEST

/* -- the cutter alone ------------------------------------------------------ */

/* A search that begins where the last one ended looks at each byte once. */
START_TEST(no_byte_is_searched_twice)
{
	static const struct kquay_framing f = { .delim = "END" };
	struct frame frame;
	char buf[1000];
	size_t n, seen = 0;

	memset(buf, 'E', sizeof(buf));
	for (n = 1; n < sizeof(buf) - 3; n++) {
		ck_assert_int_eq(kquay_frame_cut(&f, 2000, buf, n, &seen,
				     &frame),
		    FRAME_PART);
		ck_assert_uint_eq(seen, n < 3 ? 0 : n - 2);
	}
	memcpy(buf + n - 1, "END", 3);
	ck_assert_int_eq(kquay_frame_cut(&f, 2000, buf, n + 2, &seen, &frame),
	    FRAME_WHOLE);
	ck_assert_uint_eq(frame.len, n - 1);
	ck_assert_uint_eq(frame.whole, n + 2);
	ck_assert_ptr_eq(frame.body, buf);
	ck_assert_int_eq(buf[n - 1], '\0');
}
END_TEST

static const TTest **const tests[] = { &every_shape_in_all_pieces,
	&what_is_sent_is_of_the_same_shape, &limits_hold_in_all_pieces,
	&what_cannot_be_sent_is_not, &large_frames_are_cut_well,
	&pause_holds_the_next_frame, &close_is_the_end_of_frames,
	&setops_changes_the_framing, &setops_in_the_middle_of_a_frame,
	&end_of_file_cuts_a_frame_off, &no_byte_is_searched_twice,
	&large_frames_in_small_pieces, &large_input_is_used_in_parts };
KIT_MAIN("frame", tests)
