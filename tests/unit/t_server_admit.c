/*
 * White box: callers whom the service itself lets in or turns away, by every
 * way in.
 */
#include "t_server_tls_kit.h"
#include "server.h"

#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HEADER "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"

/* What is answered, and what has been seen. */
static struct {
	int rc, err;
	void (*act)(struct kquay_conn *c); /* in admit, if not NULL */
	int asked, opened, refused;
	int refused_err;
	char who[64], refused_who[64], error[64];
	const struct kquay *of;
	uid_t uid;
} seen;

static int
on_admit(struct kquay_conn *c)
{
	struct kquay_conn *other;
	uid_t uid;
	gid_t gid;
	pid_t pid;

	seen.asked++;
	seen.of = kquay_of(c);
	snprintf(seen.who, sizeof(seen.who), "%s", kquay_peer(c));
	if (kquay_peercred(c, &uid, &gid, &pid) == 0)
		seen.uid = uid;
	if (kquay_udata(c) != NULL) {
		ck_assert_int_eq(*(int *)kquay_udata(c), 0);
		*(int *)kquay_udata(c) = seen.asked;
	}
	ck_assert_ptr_eq(kquay_find(kquay_of(c), kquay_id(c)), c);
	KQUAY_FOREACH(other, kquay_of(c))
		ck_assert_ptr_ne(other, c);
	if (seen.act != NULL)
		seen.act(c);
	errno = seen.err;
	return seen.rc;
}

static int
on_open(struct kquay_conn *c)
{
	seen.opened++;
	if (kquay_udata(c) != NULL && !(c->flags & C_CLIENT))
		ck_assert_int_eq(*(int *)kquay_udata(c), seen.asked);
	return kquay_puts(c, "open\n");
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	(void)len;
	kquay_printf(c, "%s!\n", text);
}

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	seen.refused++;
	seen.refused_err = errno;
	kquay_addr_text(sa, salen, seen.refused_who, sizeof(seen.refused_who));
	snprintf(seen.error, sizeof(seen.error), "%s", kquay_error(loop));
}

static const struct kquay_ops ops = { .admit = on_admit,
	.open = on_open,
	.line = on_line,
	.refused = on_refused,
	.close = kit_on_close };

static void
start(int rc, int err)
{
	struct kquay_conf conf = { .maxconn = 4,
		.maxperaddr = 1,
		.udatasz = sizeof(int),
		.refusal = "no\n" };

	memset(&seen, 0, sizeof(seen));
	seen.rc = rc;
	seen.err = err;
	kit_start(&ops, &conf);
}

static void
expect_turned_away(int err)
{
	ck_assert_int_eq(seen.refused_err, err);
	ck_assert_str_eq(seen.error, strerror(err));
	ck_assert_int_eq(seen.opened, 0);
	ck_assert_int_eq(kit_closed.n, 0);
	ck_assert_uint_eq(q->nconn, 0);
	ck_assert_uint_eq(q->stat.refused, seen.refused);
	ck_assert_int_eq(seen.asked, seen.refused);
}

/* -- who comes as he is ---------------------------------------------------- */

START_TEST(who_is_turned_away)
{
	static const int errs[] = { EACCES, EAGAIN, 0, EPERM };
	int fd, i;

	start(-1, 0);
	for (i = 0; i < 4; i++) {
		seen.err = errs[i];
		fd = kit_connect();
		kit_send(fd, "not a word of which is read\n");
		kit_expect_end(fd, "no\n");
		expect_turned_away(errs[i] != 0 ? errs[i] : EACCES);
		ck_assert_int_eq(seen.refused, i + 1);
		ck_assert_str_eq(seen.refused_who, seen.who);
		ck_assert_ptr_nonnull(strstr(seen.who, "127.0.0.1:"));
		close(fd);
	}
	ck_assert_uint_eq(q->stat.accepted, 0);
	ck_assert_uint_eq(q->stat.closed, 0);
	/* It counts no more: another of its address finds room. */
	seen.rc = 0;
	kit_expect(kit_connect(), "open\n");
	kit_stop();
}
END_TEST

static void
act_write(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_puts(c, "first "), 0);
}

START_TEST(who_is_let_in)
{
	int fd;

	start(0, EPERM);
	seen.act = act_write;
	fd = kit_connect();
	kit_send(fd, "line\n");
	kit_expect(fd, "first open\nline!\n");
	ck_assert_int_eq(seen.asked, 1);
	ck_assert_int_eq(seen.opened, 1);
	ck_assert_int_eq(seen.refused, 0);
	close(fd);
	UNTIL(kit_closed.n == 1);
	/* What was written for one who is not let in is not for the next. */
	seen.rc = -1;
	kit_expect_end(kit_connect(), "no\n");
	seen.rc = 0;
	kit_expect(kit_connect(), "first open\n");
	kit_stop();
}
END_TEST

static void
act_pause(struct kquay_conn *c)
{
	kquay_pause(c, 1);
}

/* A service may let somebody in and have him wait. */
START_TEST(who_has_to_wait)
{
	char byte;
	int fd;

	start(0, 0);
	seen.act = act_pause;
	fd = kit_connect();
	kit_send(fd, "line\n");
	kit_expect(fd, "open\n");
	kit_settle();
	ck_assert_int_eq(recv(fd, &byte, 1, 0), -1);
	kquay_pause(kit_conn(), 0);
	kit_expect(fd, "line!\n");
	kit_stop();
}
END_TEST

START_TEST(of_a_unix_socket_the_user_is_known)
{
	const char *path = kit_path("s");
	int fd;

	start(-1, EACCES);
	seen.uid = (uid_t)-1;
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	ck_assert_int_ne(fd, -1);
	kit_expect_end(fd, "no\n");
	expect_turned_away(EACCES);
	ck_assert_uint_eq(seen.uid, getuid());
	seen.rc = 0;
	close(fd);
	fd = kit_connect_unix(path);
	kit_expect(fd, "open\n");
	close(fd);
	kit_stop();
}
END_TEST

/* -- who comes by a proxy, or with TLS ------------------------------------- */

static void
listen_behind_a_proxy(void)
{
	kquay_proxy(q, 1);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 1), ':') + 1);
}

START_TEST(behind_a_proxy_the_header_says_who)
{
	int fd;

	start(-1, EACCES);
	listen_behind_a_proxy();
	fd = kit_connect();
	kit_send(fd, "PROXY TCP4 ");
	kit_settle();
	ck_assert_int_eq(seen.asked, 0);
	kit_send(fd, &(HEADER "line\n")[strlen("PROXY TCP4 ")]);
	kit_expect_end(fd, "no\n");
	UNTIL(seen.refused == 1);
	expect_turned_away(EACCES);
	ck_assert_str_eq(seen.who, "192.0.2.1:4711");
	ck_assert_str_eq(seen.refused_who, "192.0.2.1:4711");
	close(fd);
	seen.rc = 0;
	fd = kit_connect();
	kit_send(fd, HEADER "line\n");
	kit_expect(fd, "open\nline!\n");
	ck_assert_int_eq(seen.asked, 2);
	close(fd);
	kit_stop();
}
END_TEST

/* Nobody has said a word of TLS yet, and who is turned away hears none. */
static void
expect_before_tls(const char *header)
{
	struct kquay_conf conf = { .maxconn = 4,
		.udatasz = sizeof(int),
		.refusal = "no\n" };
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;

	memset(&seen, 0, sizeof(seen));
	seen.rc = -1;
	seen.err = EAGAIN;
	tls_start("host", NULL, &ops, &conf);
	if (header != NULL)
		listen_behind_a_proxy();
	fd = kit_connect();
	if (header != NULL)
		kit_send(fd, header);
	kit_expect_end(fd, "");
	UNTIL(seen.refused == 1);
	expect_turned_away(EAGAIN);
	close(fd);
	seen.rc = 0;
	fd = kit_connect();
	if (header != NULL)
		kit_send(fd, header);
	UNTIL(seen.asked == 2);
	kit_settle();
	ck_assert_int_eq(seen.opened, 0);
	ctx = tls_client_ctx(NULL);
	ssl = tls_client_at(ctx, "host.example", fd);
	SSL_CTX_free(ctx);
	tls_shake(ssl);
	tls_expect(ssl, "open\n");
	ck_assert_int_eq(seen.asked, 2);
	tls_close(ssl);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(seen.refused, 1);
	tls_stop();
}

START_TEST(before_tls_begins)
{
	expect_before_tls(NULL);
}
END_TEST

START_TEST(between_a_header_and_tls)
{
	expect_before_tls(HEADER);
}
END_TEST

/* -- what else it may do --------------------------------------------------- */

static void
act_close(struct kquay_conn *c)
{
	kquay_close(c);
}

static void
act_abort(struct kquay_conn *c)
{
	kquay_abort(c);
}

static void
act_stop(struct kquay_conn *c)
{
	kquay_stop(kquay_of(c));
}

/* Who is closed in it, by the service or a stop, is gone without a word. */
static void
expect_gone(void (*act)(struct kquay_conn *c), int rc, int proxy)
{
	ssize_t n;
	char byte;
	int fd;

	start(rc, EACCES);
	if (proxy)
		listen_behind_a_proxy();
	seen.act = act;
	fd = kit_connect();
	if (proxy)
		kit_send(fd, HEADER);
	UNTIL((n = recv(fd, &byte, 1, 0)) != -1 || errno != EAGAIN);
	ck_assert_int_le(n, 0);
	kit_settle();
	ck_assert_int_eq(seen.asked, 1);
	ck_assert_int_eq(seen.opened + kit_closed.n, 0);
	ck_assert_int_eq(seen.refused, rc == -1);
	ck_assert_int_eq(seen.refused_err, rc == -1 ? EACCES : 0);
	ck_assert_uint_eq(q->nconn, 0);
	ck_assert_uint_eq(q->stat.accepted, 1);
	ck_assert_uint_eq(q->stat.closed, 1);
	ck_assert_int_eq(kquay_done(q), act == act_stop);
	close(fd);
	kit_stop();
}

START_TEST(a_close_in_it)
{
	static void (*const acts[])(
	    struct kquay_conn *) = { act_close, act_abort, act_stop };
	int i;

	for (i = 0; i < 3; i++) {
		expect_gone(acts[i], 0, 0);
		expect_gone(acts[i], 0, 1);
		expect_gone(acts[i], -1, 0);
		expect_gone(acts[i], -1, 1);
	}
}
END_TEST

START_TEST(only_callers_are_asked_about)
{
	int sv[2];

	start(-1, EACCES);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	ck_assert_int_eq(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	ck_assert_ptr_nonnull(kquay_adopt(q, sv[0], NULL));
	kit_expect(sv[1], "open\n");
	ck_assert_int_eq(seen.asked, 0);
	/* Who dials is not asked about; the caller at the other end is. */
	ck_assert_ptr_nonnull(kquay_dial(q, "127.0.0.1", kit_port, NULL, 0));
	UNTIL(seen.refused == 1);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(seen.asked, 1);
	ck_assert_int_eq(seen.opened, 2);
	kit_stop();
	close(sv[1]);
}
END_TEST

/* The loop that would have the caller is asked, and all is given back. */
START_TEST(in_a_team)
{
	struct kquay_conf conf = { .maxconn = 2,
		.maxperaddr = 2,
		.flags = KQUAY_NOSIGNAL | KQUAY_DEAL };
	struct kquay_team *t;
	int fd[2], i, n = 0;

	memset(&seen, 0, sizeof(seen));
	t = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(t);
	ck_assert_int_eq(kquay_team_listen(t, "127.0.0.1", "0"), 1);
	q = kquay_team_loop(t, 0);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 0), ':') + 1);
	fd[0] = kit_connect();
	UNTIL(seen.opened == 1);
	ck_assert_ptr_eq(seen.of, q);
	/* The next is dealt to the other loop. */
	seen.rc = -1;
	seen.err = EACCES;
	for (i = 0; i < 5; i++) {
		fd[1] = kit_connect();
		UNTIL((n = kquay_step(kquay_team_loop(t, 1), 1), n != -1) &&
		    seen.refused == i + 1);
		ck_assert_int_eq(seen.refused_err, EACCES);
		ck_assert_ptr_eq(seen.of, kquay_team_loop(t, 1));
		ck_assert_uint_eq(kquay_team_conns(t), 1);
		close(fd[1]);
	}
	seen.rc = 0;
	fd[1] = kit_connect();
	UNTIL((n = kquay_step(kquay_team_loop(t, 1), 1), n != -1) &&
	    seen.opened == 2);
	kquay_team_free(t);
	q = NULL;
	close(fd[0]);
	close(fd[1]);
}
END_TEST

static const TTest **const tests[] = {
	&who_is_turned_away,
	&who_is_let_in,
	&who_has_to_wait,
	&of_a_unix_socket_the_user_is_known,
	&behind_a_proxy_the_header_says_who,
	&before_tls_begins,
	&between_a_header_and_tls,
	&a_close_in_it,
	&only_callers_are_asked_about,
	&in_a_team,
};

TLS_MAIN("server_admit", tests)
