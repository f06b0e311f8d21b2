/*
 * TLS of connections that are dialled: whom we call is verified, and what is
 * written before is not lost.  Client and server live in one loop.
 */
#include "t_server_tls_kit.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct kquay_tlsinfo served; /* what the server's side knows */
static int serving;

static int
on_serve(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_tlsinfo(c, &served), 0);
	serving++;
	return 0;
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static const struct kquay_ops echoes = { .open = on_serve, .input = echo };

/* What the client's side has seen. */
static struct {
	int opened, closed, err, ended;
	enum kquay_why why;
	struct kquay_tlsinfo info;
	char error[128], came[256], servername[64];
} client;

static int
on_open(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_tlsinfo(c, &client.info), 0);
	client.opened++;
	return 0;
}

static ssize_t
on_input(struct kquay_conn *c, char *data, size_t len)
{
	ck_assert_uint_lt(strlen(client.came) + len, sizeof(client.came));
	strncat(client.came, data, len);
	return (ssize_t)len;
}

static int
on_eof(struct kquay_conn *c)
{
	client.ended++;
	return 0;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	int err = errno;

	if (kquay_tlsinfo(c, &client.info) == 0 && client.info.error != NULL)
		snprintf(client.error, sizeof(client.error), "%s",
		    client.info.error);
	client.err = err;
	client.why = why;
	client.closed++;
}

static const struct kquay_ops calls = { .open = on_open,
	.input = on_input,
	.eof = on_eof,
	.close = on_close };

/* Dial the server of the test as host, or as name at host. */
static struct kquay_conn *
dial(struct kquay_tls *tls, const char *host, const char *name)
{
	struct kquay_target target = { .host = host,
		.port = kit_port,
		.tls = tls,
		.servername = name };

	memset(&client, 0, sizeof(client));
	return kquay_dialto(q, &target, &calls);
}

static struct kquay_tls *
trusting(const char *ca, const char *certs, unsigned flags)
{
	struct kquay_tls_conf conf = { .cafile =
					   ca == NULL ? NULL : tls_file(ca),
		.flags = flags };

	return tls_new(certs, &conf);
}

START_TEST(whom_we_call_is_verified)
{
	static const struct {
		const char *ca, *host, *name;
		unsigned flags;
		int err; /* 0: it works */
		const char *error;
	} rows[] = {
		{ "ca.pem", "localhost", NULL, 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", NULL, 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", "localhost", 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", "localhost.", 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", "a.example.org", 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", "::1", 0, 0, NULL },
		{ "ca.pem", "127.0.0.1", "127.0.0.2", 0, EACCES,
		    "IP address mismatch" },
		{ "ca.pem", "127.0.0.1", "elsewhere.example.com", 0, EACCES,
		    "hostname mismatch" },
		{ "ca.pem", "127.0.0.1", "a.b.example.org", 0, EACCES,
		    "hostname mismatch" },
		{ "ca2.pem", "localhost", NULL, 0, EACCES,
		    "unable to get local issuer certificate" },
		{ NULL, "localhost", NULL, 0, EACCES,
		    "unable to get local issuer certificate" },
		{ "ca2.pem", "localhost", NULL, KQUAY_TLS_ANYBODY, 0, NULL },
		{ "ca2.pem", "127.0.0.1", "elsewhere.example.com",
		    KQUAY_TLS_ANYBODY, 0, NULL },
	};
	struct kquay_conn *c;
	struct kquay_tls *tls;
	size_t i;

	tls_start("host wild", NULL, &echoes, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		tls = trusting(rows[i].ca, "", rows[i].flags);
		c = dial(tls, rows[i].host, rows[i].name);
		kquay_tls_free(tls);
		ck_assert_ptr_nonnull(c);
		kquay_puts(c, "early words");
		if (rows[i].err != 0) {
			UNTIL(client.closed == 1);
			ck_assert_int_eq(client.opened, 0);
			ck_assert_int_eq(client.why, KQUAY_ERROR);
			ck_assert_int_eq(client.err, rows[i].err);
			ck_assert_str_eq(client.error, rows[i].error);
			continue;
		}
		UNTIL(strcmp(client.came, "early words") == 0);
		ck_assert_int_eq(client.opened, 1);
		ck_assert_str_eq(client.info.version, "TLSv1.3");
		ck_assert_int_eq(client.info.verified, rows[i].flags == 0);
		kquay_close(c);
		UNTIL(client.closed == 1);
		ck_assert_int_eq(client.why, KQUAY_DONE);
	}
	tls_stop();
}
END_TEST

/* By its UNIX socket a server has no name; who does not say one believes
   nobody. */
START_TEST(a_unix_socket_has_no_name)
{
	struct kquay_target target = { .host = kit_path("socket") };
	struct kquay_conn *c;

	tls_start("host", NULL, &echoes, NULL);
	ck_assert_int_eq(kquay_listen_unix(q, kit_path("socket"), 0600), 1);
	target.tls = trusting("ca.pem", "", 0);
	ck_assert_ptr_null(kquay_dialto(q, &target, &calls));
	ck_assert_int_eq(errno, EINVAL);
	target.servername = "localhost";
	c = kquay_dialto(q, &target, &calls);
	ck_assert_ptr_nonnull(c);
	kquay_puts(c, "hello");
	UNTIL(strcmp(client.came, "hello") == 0);
	ck_assert_str_eq(served.servername, "localhost");
	kquay_tls_free(target.tls);
	tls_stop();
}
END_TEST

START_TEST(a_client_shows_its_certificate)
{
	struct kquay_tls_conf conf = { .cafile = tls_file("ca.pem"),
		.flags = KQUAY_TLS_REQUIRE };
	static const char *const protocols[] = { "chat", NULL };
	struct kquay_tls *tls;

	conf.alpn = protocols;
	tls_start("host", &conf, &echoes, NULL);
	conf.flags = 0;
	tls = tls_new("alice", &conf);
	kquay_puts(dial(tls, "localhost", NULL), "hello");
	UNTIL(strcmp(client.came, "hello") == 0);
	ck_assert_str_eq(served.subject, "CN=alice,O=Example");
	ck_assert_int_eq(served.verified, 1);
	ck_assert_str_eq(served.alpn, "chat");
	ck_assert_str_eq(client.info.alpn, "chat");
	ck_assert_str_eq(client.info.subject, "CN=localhost");
	kquay_tls_free(tls);

	/* Without one there is only the server's word for it. */
	tls = trusting("ca.pem", "", 0);
	dial(tls, "localhost", NULL);
	UNTIL(client.closed == 1);
	ck_assert_int_eq(client.why, KQUAY_ERROR);
	ck_assert_int_eq(client.err, EPROTO);
	ck_assert_str_eq(client.error, "tlsv13 alert certificate required");
	kquay_tls_free(tls);
	tls_stop();
}
END_TEST

static void
call_and_part(struct kquay_tls *tls, const char *name)
{
	struct kquay_conn *c = dial(tls, "127.0.0.1", name);

	kquay_puts(c, "hello");
	UNTIL(strcmp(client.came, "hello") == 0);
	kquay_close(c);
	UNTIL(client.closed == 1);
}

/* Where we were before; not elsewhere, and not by other certificates. */
START_TEST(a_server_is_called_again)
{
	struct kquay_tls *tls = trusting("ca.pem", "", 0);
	struct kquay_tls *none = trusting("ca.pem", "", KQUAY_TLS_NORESUME);
	int i;

	tls_start("host wild", NULL, &echoes, NULL);
	for (i = 0; i < 4; i++) {
		call_and_part(tls, "localhost");
		ck_assert_int_eq(client.info.resumed, i > 0);
		ck_assert_int_eq(client.info.verified, 1);
		ck_assert_uint_eq(tls->nsessions, 1);
	}
	call_and_part(tls, "a.example.org");
	ck_assert_int_eq(client.info.resumed, 0);
	ck_assert_uint_eq(tls->nsessions, 2);
	call_and_part(tls, "localhost");
	ck_assert_int_eq(client.info.resumed, 1);
	ck_assert_int_eq(kquay_tls_reload(tls, NULL, NULL, 0), 0);
	call_and_part(tls, "localhost");
	ck_assert_int_eq(client.info.resumed, 0);
	call_and_part(none, "localhost");
	call_and_part(none, "localhost");
	ck_assert_int_eq(client.info.resumed, 0);
	kquay_tls_free(tls);
	kquay_tls_free(none);
	tls_stop();
}
END_TEST

/* Not more servers are remembered than there is room for. */
START_TEST(old_sessions_are_forgotten)
{
	struct kquay_tls *tls = trusting("ca.pem", "", KQUAY_TLS_ANYBODY);
	char name[32];
	int i;

	tls_start("host", NULL, &echoes, NULL);
	for (i = 0; i < SESSIONS + 3; i++) {
		snprintf(name, sizeof(name), "host-%d", i);
		call_and_part(tls, name);
	}
	ck_assert_uint_eq(tls->nsessions, SESSIONS);
	call_and_part(tls, "host-3");
	ck_assert_int_eq(client.info.resumed, 1);
	call_and_part(tls, "host-0");
	ck_assert_int_eq(client.info.resumed, 0);
	kquay_tls_free(tls);
	tls_stop();
}
END_TEST

/* A server that says nothing, or something else. */
START_TEST(a_server_may_not_speak_tls)
{
	static const struct kquay_ops mute, plain = { .input = echo };
	struct kquay_target target = { .host = "127.0.0.1", .timeout = 200 };
	struct kquay_tls *tls = trusting("ca.pem", "", 0);

	kit_start(&mute, NULL);
	target.port = kit_port;
	target.tls = tls;
	ck_assert_ptr_nonnull(kquay_dialto(q, &target, &calls));
	UNTIL(client.closed == 1);
	ck_assert_int_eq(client.why, KQUAY_ERROR);
	ck_assert_int_eq(client.err, ETIMEDOUT);
	kit_stop();

	kit_start(&plain, NULL);
	ck_assert_ptr_nonnull(dial(tls, "127.0.0.1", NULL));
	UNTIL(client.closed == 1);
	ck_assert_int_eq(client.why, KQUAY_ERROR);
	ck_assert_int_eq(client.err, EPROTO);
	ck_assert_str_ne(client.error, "");
	kit_stop();
	kquay_tls_free(tls);
}
END_TEST

/* Given up at any time, nothing is left behind. */
START_TEST(a_call_may_be_given_up)
{
	struct kquay_tls *tls = trusting("ca.pem", "", 0);
	struct kquay_conn *c;
	int i, k;

	tls_start("host", NULL, &echoes, NULL);
	for (i = 0; i < 8; i++) {
		c = dial(tls, "127.0.0.1", NULL);
		for (k = 0; k < i && client.opened == 0; k++)
			ck_assert_int_ne(kquay_step(q, 5), -1);
		kquay_puts(c, "unheard");
		if (i % 2)
			kquay_abort(c);
		else
			kquay_close(c);
		UNTIL(client.closed == 1);
		ck_assert_int_eq(client.why, KQUAY_DONE);
		ck_assert_int_eq(client.closed, 1);
	}
	kquay_tls_free(tls);
	tls_stop();
}
END_TEST

static const TTest **const tests[] = {
	&whom_we_call_is_verified,
	&a_unix_socket_has_no_name,
	&a_client_shows_its_certificate,
	&a_server_is_called_again,
	&old_sessions_are_forgotten,
	&a_server_may_not_speak_tls,
	&a_call_may_be_given_up,
};

TLS_MAIN("server_tls_dial", tests)
