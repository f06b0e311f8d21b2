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

/* -- each action, in each callback --------------------------------------- */

enum place { OPEN, LINE, INPUT, END, DRAINED, CLOSE, REFUSED, POST, PLACES };

static struct {
	enum place place;
	int action, left; /* what to do there, and how often */
	bool other;       /* to another one than that which is called */
	int known, closed;
} drill;

static const struct kquay_ops drilled, drilled_raw;
static const char drill_flood[1000 * 1024];

static void
post_again(struct kquay *loop, void *arg)
{
}

/* Whatever may be called in a callback.  Whether there is such an action. */
static bool
do_it(int action, struct kquay_conn *c, struct kquay_conn *o)
{
	struct kquay_conn *d;
	int fd, sv[2];

	switch (action) {
	case 0:
		kquay_close(c);
		return true;
	case 1:
		kquay_abort(c);
		return true;
	case 2:
		kquay_pause(c, 1);
		kquay_pause(c, 0);
		return true;
	case 3:
		kquay_setops(c, &drilled_raw);
		return true;
	case 4:
		(void)kquay_splice(c, o);
		return true;
	case 5:
		fd = kquay_detach(c);
		if (fd != -1)
			close(fd);
		return true;
	case 6:
	case 7:
		d = kquay_dial(q, action == 6 ? "127.0.0.1" : "/nonexistent",
		    action == 6 ? kit_port : NULL, &drilled, 1000);
		drill.known += d != NULL;
		return true;
	case 8:
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0) {
			if (kquay_adopt(q, sv[0], NULL) == NULL)
				close(sv[0]);
			close(sv[1]);
		}
		return true;
	case 9:
		kquay_stop(q);
		return true;
	case 10:
		kquay_stop(q);
		kquay_stop(q);
		return true;
	case 11:
		kquay_timeout(c, 16, 16);
		return true;
	case 12:
		(void)kquay_write(c, drill_flood, sizeof(drill_flood));
		kquay_close(c);
		return true;
	case 13:
		(void)kquay_splice(c, o);
		kquay_abort(o);
		return true;
	case 14:
		(void)kquay_splice(c, o);
		kquay_close(c);
		return true;
	case 15:
		(void)kquay_post(q, post_again, NULL);
		(void)kquay_step(q, 0);
		return true;
	default:
		return false;
	}
}

/* The place is reached, by c or, if that is NULL, by nobody. */
static void
reach(enum place place, struct kquay_conn *c)
{
	struct kquay_conn *o = kquay_next(q, NULL);

	if (o == c)
		o = o != NULL ? kquay_next(q, o) : NULL;
	if (o == NULL)
		o = c;
	if (c == NULL)
		c = o;
	if (place != drill.place || drill.left == 0 || c == NULL)
		return;
	drill.left--;
	(void)do_it(drill.action, drill.other ? o : c, drill.other ? c : o);
}

static int
drill_open(struct kquay_conn *c)
{
	drill.known += (c->flags & C_CLIENT) == 0;
	reach(OPEN, c);
	return 0;
}

static void
drill_line(struct kquay_conn *c, char *text, size_t len)
{
	int i;

	(void)kquay_printf(c, "%s\n", text);
	reach(LINE, c);
	if (strcmp(text, "raw") == 0)
		kquay_setops(c, &drilled_raw);
	if (drill.place == DRAINED && strcmp(text, "two") == 0)
		for (i = 0; i < 8; i++)
			(void)kquay_write(c, drill_flood, sizeof(drill_flood));
}

static ssize_t
drill_input(struct kquay_conn *c, char *data, size_t len)
{
	reach(INPUT, c);
	return len > 1 ? (ssize_t)len / 2 : (ssize_t)len;
}

static int
drill_eof(struct kquay_conn *c)
{
	reach(END, c);
	return 0;
}

static void
drill_drained(struct kquay_conn *c)
{
	reach(DRAINED, c);
}

static void
drill_close(struct kquay_conn *c, enum kquay_why why)
{
	drill.closed++;
	reach(CLOSE, c);
}

static void
drill_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	reach(REFUSED, NULL);
}

static void
drill_post(struct kquay *loop, void *arg)
{
	reach(POST, NULL);
}

static const struct kquay_ops drilled = { .open = drill_open,
	.line = drill_line,
	.eof = drill_eof,
	.drained = drill_drained,
	.close = drill_close,
	.refused = drill_refused };
static const struct kquay_ops drilled_raw = { .open = drill_open,
	.input = drill_input,
	.eof = drill_eof,
	.drained = drill_drained,
	.close = drill_close };

static void
drill_talk(int fd, SSL *ssl, const char *text)
{
	if (ssl != NULL)
		(void)SSL_write(ssl, text, (int)strlen(text));
	else
		(void)send(fd, text, strlen(text), MSG_NOSIGNAL);
}

/* A caller that is plain, one that speaks TLS, and one that cannot. */
static void
drill_once(SSL_CTX *ctx, bool tls)
{
	static char buf[1 << 20];
	int fd[3], i, turn;
	SSL *ssl = NULL;

	for (i = 0; i < 3; i++) {
		fd[i] = kit_connect();
		(void)send(fd[i], "\n", tls && i == 2, 0);
	}
	if (tls) {
		ssl = tls_client_at(ctx, NULL, fd[0]);
		for (turn = 0; turn < 20 && SSL_do_handshake(ssl) != 1; turn++)
			(void)kquay_step(q, 1);
	}
	for (turn = 0; turn < (drill.place == DRAINED ? 40 : 12); turn++) {
		if (turn == 2)
			drill_talk(fd[0], ssl, "one\ntwo\n");
		if (turn == 4)
			drill_talk(fd[1], NULL, "one\ntwo\nraw\nabc");
		if (turn == 9)
			for (i = 0; i < 3; i++)
				(void)shutdown(fd[i], SHUT_WR);
		if (turn == 6)
			(void)kquay_post(q, drill_post, NULL);
		(void)kquay_step(q, 0);
		for (i = 0; turn > 5 && i < 3; i++)
			(void)recv(fd[i], buf, sizeof(buf), MSG_DONTWAIT);
	}
	for (i = 0; i < 3; i++)
		close(fd[i]);
	SSL_free(ssl);
	for (turn = 0; turn < 6; turn++)
		(void)kquay_step(q, 0);
}

START_TEST(each_action_in_each_callback)
{
	SSL_CTX *ctx = tls_client_ctx(NULL);
	struct kquay_conf conf = { .maxconn = 16, .outmax = 16 << 20 };
	int before = unit_descriptors(), i;
	unsigned reached[PLACES] = { 0 };

	signal(SIGPIPE, SIG_IGN);
	for (i = 0; i < 16 * PLACES * 4; i++) {
		memset(&drill, 0, sizeof(drill));
		drill.action = i % 16;
		drill.place = (enum place)(i / 16 % PLACES);
		drill.other = i / 16 / PLACES & 1;
		drill.left = 3;
		if (i / 16 / PLACES & 2)
			tls_start("host", NULL, &drilled, &conf);
		else
			kit_start(&drilled, &conf);
		drill_once(ctx, i / 16 / PLACES & 2);
		tls_stop();
		reached[drill.place] += drill.left < 3;
		ck_assert_msg(drill.known == drill.closed,
		    "action %d, place %d: %d opened or dialled, %d closed",
		    drill.action, (int)drill.place, drill.known, drill.closed);
		ck_assert_int_eq(unit_descriptors(), before);
	}
	for (i = 0; i < PLACES; i++)
		ck_assert_msg(reached[i] > 0, "place %d is not reached", i);
	SSL_CTX_free(ctx);
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
		n = recv(peers[1], buf,
		    want - got < sizeof(buf) ? want - got : sizeof(buf), 0);
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
	&each_action_in_each_callback,
	&what_was_kept_goes_before_the_end,
	&a_stalled_splice_is_reset,
};

TLS_MAIN("server_attack", tests)
