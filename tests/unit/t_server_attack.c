/*
 * Attacks: peers that do what no honest one would, and services that call back
 * from where it hurts most.
 */
#include "t_server_pair.h"
#include "t_server_tls_kit.h"
#include "tls.h"

#include <sys/socket.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static const struct kquay_ops echoes = { .input = echo, .close = kit_on_close };

/* -- TLS ------------------------------------------------------------------- */

/* A client of TLS by a UNIX socket: what it does not read is EPIPE at once. */
static SSL *
connect_unix(const char *path, int version)
{
	SSL_CTX *ctx = tls_client_ctx(NULL);
	SSL *ssl;

	signal(SIGPIPE, SIG_IGN);
	SSL_CTX_set_max_proto_version(ctx, version);
	ssl = tls_client_at(ctx, NULL, kit_connect_unix(path));
	SSL_CTX_free(ctx);
	tls_shake(ssl);
	return ssl;
}

static SSL *
start_unix(const struct kquay_conf *conf, int version)
{
	const char *path;

	tls_start("host", NULL, &echoes, conf);
	path = kit_path("tls.s");
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	return connect_unix(path, version);
}

/* What it says has to be answered, and it has gone. */
START_TEST(an_answer_to_who_has_gone_ends_it_once)
{
	static const struct kquay_sys sys = { .now = kit_now };
	const struct kquay_conf conf = { .maxconn = 8,
		.idle = 2000000000,
		.sys = &sys };
	static const char rubbish[64] = "\x17\x03\x03\x00\x20";
	int way;
	SSL *ssl, *other;

	for (way = 0; way < 3; way++) {
		ssl = start_unix(&conf, TLS1_3_VERSION);
		other = tls_connect(NULL);
		/* A number that is none of a slot. */
		kit_clock += 100000000;
		tls_send(other, "x");
		tls_expect(other, "x");
		if (way > 0)
			tls_send(ssl, "words that nobody reads");
		if (way == 1)
			ck_assert_int_eq(SSL_key_update(ssl,
					     SSL_KEY_UPDATE_REQUESTED),
			    1);
		if (way == 1)
			tls_send(ssl, "more");
		else
			ck_assert_int_eq(send(SSL_get_fd(ssl), rubbish,
					     sizeof(rubbish), 0),
			    sizeof(rubbish));
		tls_close(ssl);
		UNTIL(kit_closed.n == 1);
		tls_send(other, "still here");
		tls_expect(other, "still here");
		tls_close(other);
		tls_stop();
	}
}
END_TEST

/* Ask for new keys until nobody listens.  How often. */
static int
ask_on(SSL *ssl)
{
	int n;

	for (n = 0; n < 100000; n++) {
		ck_assert_int_eq(SSL_key_update(ssl, SSL_KEY_UPDATE_REQUESTED),
		    1);
		if (SSL_do_handshake(ssl) != 1)
			break;
		kit_step();
	}
	return n;
}

/* Each time that it asks it is to get an answer, and takes none. */
static void
ask_and_do_not_read(SSL *ssl, struct kquay_conn *c)
{
	char buf[65536];

	ck_assert_int_lt(ask_on(ssl), 100000);
	ck_assert_uint_le(kquay_pending(c), 65536 + TLSREAD + TLSRECORD);
	ck_assert_uint_gt(kquay_pending(c), 65536);
	UNTIL((recv(SSL_get_fd(ssl), buf, sizeof(buf), 0),
	    kquay_pending(c) == 0));
	ck_assert_int_eq(kit_closed.n, 0);
}

START_TEST(who_does_not_read_answers_is_not_asked_for_more)
{
	SSL *ssl;

	ssl = start_unix(NULL, TLS1_3_VERSION);
	UNTIL(kquay_next(q, NULL) != NULL);
	ask_and_do_not_read(ssl, kit_conn());
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* -- services that call at the wrong time ---------------------------------- */

static int redials;
static const struct kquay_ops redialler;

static void
redial(struct kquay_conn *c, enum kquay_why why)
{
	ck_assert_int_lt(redials, 1000);
	redials++;
	(void)kquay_dial(kquay_of(c), "/nonexistent/socket", NULL, &redialler,
	    0);
}

static const struct kquay_ops redialler = { .close = redial };

/* Who dials again at once, and fails at once, does not stop the loop. */
START_TEST(the_loop_turns_between_dials_that_fail_at_once)
{
	int fd;

	redials = 0;
	kit_start(&echoes, NULL);
	fd = kit_join();
	ck_assert_ptr_nonnull(
	    kquay_dial(q, "/nonexistent/socket", NULL, &redialler, 0));
	kit_send(fd, "hello");
	kit_expect(fd, "hello");
	ck_assert_int_gt(redials, 0);
	close(fd);
	kit_stop();
}
END_TEST

static int detached;

static int
detach_at_end(struct kquay_conn *c)
{
	detached = kquay_detach(c);
	ck_assert_int_eq(errno, EINVAL);
	return 0;
}

START_TEST(what_has_ended_is_not_detached)
{
	static const struct kquay_ops ops = { .eof = detach_at_end,
		.close = kit_on_close };
	int fd;

	detached = 0;
	kit_start(&ops, NULL);
	fd = kit_join();
	close(fd);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	ck_assert_int_eq(detached, -1);
	kit_stop();
}
END_TEST

static int
pause_it(struct kquay_conn *c)
{
	kquay_pause(c, 1);
	return 0;
}

/* More changes than a list holds, and each is taken back. */
START_TEST(changes_keep_their_order)
{
	enum { MANY = 3 * NEVENTS };
	static const struct kquay_ops ops = { .open = pause_it,
		.input = echo,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = MANY };
	struct kquay_conn *c;
	int fd[MANY], i;

	kit_start(&ops, &conf);
	for (i = 0; i < MANY; i++)
		fd[i] = kit_join();
	KQUAY_FOREACH(c, q)
		kquay_pause(c, 0);
	KQUAY_FOREACH(c, q)
		kquay_pause(c, 1);
	KQUAY_FOREACH(c, q)
		kquay_pause(c, 0);
	for (i = 0; i < MANY; i++) {
		kit_send(fd[i], "hello");
		kit_expect(fd[i], "hello");
	}
	ck_assert_int_eq(kit_closed.n, 0);
	kit_stop();
}
END_TEST

/* -- splices --------------------------------------------------------------- */

static ssize_t
join_at_end(struct kquay_conn *c, char *data, size_t len)
{
	/* Called for what was kept once its end is there. */
	if (c->flags & C_EOF)
		ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	return 0;
}

/* The receiver has room again in the batch in which the two are joined. */
START_TEST(what_was_kept_goes_before_the_end)
{
	static const struct kquay_ops ops = { .open = pair_on_open,
		.input = join_at_end,
		.close = pair_on_close };
	static char flood[8 << 20], buf[1 << 20];
	struct kquay_conf conf = { .maxconn = 8, .outmax = sizeof(flood) };
	size_t got = 0, want = 0;
	ssize_t n;

	pair_start(&ops, NULL, &conf);
	kit_send(peers[0], "kept");
	kit_settle();
	/* All that is written to the other, but for a bit that is queued. */
	while (kquay_pending(ends[1]) == 0) {
		ck_assert_int_eq(kquay_write(ends[1], flood, 65536), 0);
		want += 65536;
		kit_step();
	}
	shutdown(peers[0], SHUT_WR);
	while (got < want) {
		n = recv(peers[1], buf, sizeof(buf), 0);
		ck_assert(n > 0);
		got += (size_t)n;
		if (n == -1)
			break;
		if (got + 65536 >= want)
			kit_step();
	}
	kit_expect_end(peers[1], "kept");
	pair_end();
}
END_TEST

/* What a peer does not take in time is lost, and it is to know that. */
START_TEST(a_stalled_splice_is_reset)
{
	static const struct kquay_sys sys = { .now = kit_now };
	struct stream s = { .total = UINT64_MAX };
	int64_t i;

	pair_start(&pair_service, &sys, NULL);
	kquay_timeout(ends[1], 1000, -1);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
	s.from = peers[0];
	s.to = peers[1];
	stream_jam(&s);
	for (i = 0; i < 200 && ended[1].n == 0; i++) {
		kit_clock += 16;
		kit_step();
	}
	pair_ends_with(KQUAY_DONE, KQUAY_IDLE);
	kit_expect_reset(peers[1]);
	pair_end();
}
END_TEST

static const TTest **const tests[] = {
	&an_answer_to_who_has_gone_ends_it_once,
	&who_does_not_read_answers_is_not_asked_for_more,
	&the_loop_turns_between_dials_that_fail_at_once,
	&what_has_ended_is_not_detached,
	&changes_keep_their_order,
	&what_was_kept_goes_before_the_end,
	&a_stalled_splice_is_reset,
};

TLS_MAIN("server_attack", tests)
