/*
 * White box: the bytes of each connection, to the last one, by whatever way
 * they go.
 */
#include "t_server_pair.h"
#include "t_server_tls_kit.h"
#include "server.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* What has ended, as its close callback was told; and all of it together. */
static struct traffic last[2], all;

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	struct traffic t;

	kquay_traffic(c, &t.in, &t.out);
	all.in += t.in;
	all.out += t.out;
	last[ends[1] == c] = t;
	pair_on_close(c, why);
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	(void)len;
	kquay_printf(c, "%s!\n", text);
}

static const struct kquay_ops echo = { .line = on_line, .close = on_close };
static const struct kquay_ops pair = { .open = pair_on_open,
	.close = on_close };
static const struct kquay_conf counted = { .maxconn = 8,
	.flags = KQUAY_TRAFFIC };

static void
expect_traffic(const struct kquay_conn *c, uint64_t in, uint64_t out)
{
	struct traffic t;

	kquay_traffic(c, &t.in, &t.out);
	ck_assert_uint_eq(t.in, in);
	ck_assert_uint_eq(t.out, out);
}

/* Nothing is counted twice, or for nobody. */
static void
expect_sums(void)
{
	struct kquay_stat st;

	kquay_stats(q, &st);
	ck_assert_uint_eq(st.in, all.in);
	ck_assert_uint_eq(st.out, all.out);
}

START_TEST(lines)
{
	int fd, i;

	kit_start(&echo, &counted);
	/* The slot is the same each time, and begins anew. */
	for (i = 0; i < 3; i++) {
		fd = kit_join();
		expect_traffic(kit_conn(), 0, 0);
		kit_send(fd, "one\ntw");
		kit_expect(fd, "one!\n");
		expect_traffic(kit_conn(), 6, 5);
		kit_send(fd, "o\n");
		kit_expect(fd, "two!\n");
		expect_traffic(kit_conn(), 8, 10);
		close(fd);
		UNTIL(q->nconn == 0);
		ck_assert_uint_eq(last[0].in, 8);
		ck_assert_uint_eq(last[0].out, 10);
	}
	ck_assert_uint_eq(all.in, 3 * 8);
	expect_sums();
	kit_stop();
}
END_TEST

START_TEST(nothing_is_counted_unasked)
{
	struct kquay_conf conf = { .maxconn = 8 };
	int fd;

	kit_start(&echo, &conf);
	ck_assert_ptr_null(q->traffic);
	fd = kit_join();
	kit_send(fd, "line\n");
	kit_expect(fd, "line!\n");
	expect_traffic(kit_conn(), 0, 0);
	kit_stop();
	close(fd);
}
END_TEST

/* Both ways, by copy and by pipe. */
START_TEST(what_is_spliced)
{
	const struct mode *m;
	struct stream there, back;

	EACH_MODE(m)
	{
		memset(&all, 0, sizeof(all));
		mode_most = m->most;
		pair_start(&pair, m->sys, &counted);
		ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = m->bytes };
		back = (struct stream){ .from = peers[1],
			.to = peers[0],
			.total = m->bytes / 2 };
		stream_pump(&there, &back);
		ck_assert((q->npipes > 0) == m->splices);
		pair_ends_with(KQUAY_EOF, KQUAY_EOF);
		ck_assert_uint_eq(last[0].in, m->bytes);
		ck_assert_uint_eq(last[0].out, m->bytes / 2);
		ck_assert_uint_eq(last[1].in, m->bytes / 2);
		ck_assert_uint_eq(last[1].out, m->bytes);
		expect_sums();
		pair_end();
	}
}
END_TEST

/* What is under way when the sender is closed is counted once it is sent. */
START_TEST(what_was_in_a_pipe)
{
	const struct mode *m;
	struct stream s;

	EACH_MODE(m)
	{
		if (m->most < READSIZE)
			continue; /* to fill the buffers so takes long */
		memset(&all, 0, sizeof(all));
		mode_most = m->most;
		pair_start(&pair, m->sys, &counted);
		ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
		s = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = UINT64_MAX };
		stream_jam(&s);
		kquay_close(ends[0]);
		while (!s.ended) {
			kit_step();
			while (stream_out(&s))
				;
		}
		shutdown(peers[0], SHUT_WR);
		shutdown(peers[1], SHUT_WR);
		UNTIL(ended[0].n + ended[1].n == 2);
		ck_assert_uint_gt(s.got, 0);
		ck_assert_uint_eq(last[1].out, s.got);
		/* The rest was thrown away while it lingered. */
		ck_assert_uint_ge(last[0].in, s.got);
		ck_assert_uint_eq(last[0].out + last[1].in, 0);
		expect_sums();
		pair_end();
	}
}
END_TEST

/* As the wire has them. */
START_TEST(what_is_encrypted)
{
	struct traffic t;
	SSL *ssl;
	int i;

	tls_start("host", NULL, &echo, &counted);
	ssl = tls_connect("host.example");
	for (i = 0; i < 10; i++) {
		tls_send(ssl, "a line\n");
		tls_expect(ssl, "a line!\n");
	}
	kit_settle();
	kquay_traffic(kit_conn(), &t.in, &t.out);
	ck_assert_uint_gt(t.in, 10 * strlen("a line\n"));
	ck_assert_uint_eq(t.in, BIO_number_written(SSL_get_wbio(ssl)));
	ck_assert_uint_eq(t.out, BIO_number_read(SSL_get_rbio(ssl)));
	tls_close(ssl);
	tls_stop();
}
END_TEST

START_TEST(with_its_header)
{
	static const char header[] =
	    "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n";
	int fd;

	kit_start(&echo, &counted);
	kquay_proxy(q, 1);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 1), ':') + 1);
	fd = kit_connect();
	kit_send(fd, header);
	kit_send(fd, "line\n");
	kit_expect(fd, "line!\n");
	expect_traffic(kit_conn(), strlen(header) + 5, 6);
	close(fd);
	kit_stop();
}
END_TEST

/* The loop calls itself: each byte is one of either end. */
START_TEST(of_who_was_dialled)
{
	static const struct kquay_ops silent = { .close = kit_on_close };
	struct kquay_stat st;
	struct kquay_conn *c;
	unsigned dialled = 0;

	kit_start(&echo, &counted);
	c = kquay_dial(q, "127.0.0.1", kit_port, &silent, 0);
	ck_assert_ptr_ne(c, NULL);
	ck_assert_int_eq(kquay_dialled(c), 1);
	ck_assert_int_eq(kquay_puts(c, "line\n"), 0);
	UNTIL((kquay_stats(q, &st), st.dialled_in == 6));
	ck_assert_uint_eq(st.dialled_out, 5);
	ck_assert_uint_eq(st.in, 5 + 6);
	ck_assert_uint_eq(st.out, 5 + 6);
	KQUAY_FOREACH(c, q)
		dialled += (unsigned)kquay_dialled(c);
	ck_assert_uint_eq(dialled, 1);
	ck_assert_uint_eq(st.conns, 2);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&of_who_was_dialled,
	&lines,
	&nothing_is_counted_unasked,
	&what_is_spliced,
	&what_was_in_a_pipe,
	&what_is_encrypted,
	&with_its_header,
};

TLS_MAIN("server_traffic", tests)
