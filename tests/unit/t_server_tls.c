/*
 * TLS: handshakes, and what a connection is then.  The clients are OpenSSL's.
 */
#include "t_server_tls_kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct kquay_tlsinfo seen; /* of the last that opened */
static int opened;

static int
on_open(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_tlsinfo(c, &seen), 0);
	opened++;
	return 0;
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static struct {
	int n, err;
	char text[128];
} refused;

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	refused.err = errno;
	snprintf(refused.text, sizeof(refused.text), "%s", kquay_error(loop));
	refused.n++;
}

static const struct kquay_ops echoes = { .open = on_open,
	.input = echo,
	.close = kit_on_close,
	.refused = on_refused };

START_TEST(a_client_is_served)
{
	SSL *ssl;

	tls_start("host", NULL, &echoes, NULL);
	ssl = tls_connect("localhost");
	tls_send(ssl, "hello");
	tls_expect(ssl, "hello");
	ck_assert_int_eq(opened, 1);
	ck_assert_str_eq(seen.version, "TLSv1.3");
	ck_assert_str_eq(seen.cipher, SSL_get_cipher_name(ssl));
	ck_assert_str_eq(seen.servername, "localhost");
	ck_assert_ptr_null(seen.alpn);
	ck_assert_ptr_null(seen.subject);
	ck_assert_ptr_null(seen.error);
	ck_assert_int_eq(seen.verified, 0);
	ck_assert_int_eq(seen.resumed, 0);
	/* The chain was sent: ca alone vouches for it. */
	ck_assert_int_eq(SSL_get_verify_result(ssl), X509_V_OK);
	SSL_shutdown(ssl);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	tls_expect_end(ssl);
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* Of TLS 1.2 what TLS 1.3 has only: ECDHE, and ciphers that authenticate. */
START_TEST(old_versions_and_weak_ciphers_are_refused)
{
	static const struct {
		int version;
		const char *ciphers;
		bool good;
	} rows[] = {
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-GCM-SHA256", true },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-CHACHA20-POLY1305", true },
		{ TLS1_2_VERSION, "ECDHE-RSA-AES256-GCM-SHA384", true },
		{ TLS1_2_VERSION, "ECDHE-ECDSA-AES128-SHA", false },
		{ TLS1_2_VERSION, "ECDHE-RSA-AES256-SHA384", false },
		{ TLS1_2_VERSION, "DHE-RSA-AES128-GCM-SHA256", false },
		{ TLS1_2_VERSION, "AES128-GCM-SHA256", false },
		{ TLS1_1_VERSION, "ALL:@SECLEVEL=0", false },
		{ TLS1_VERSION, "ALL:@SECLEVEL=0", false },
	};
	SSL_CTX *ctx;
	size_t i;
	SSL *ssl;

	tls_start("host rsa", NULL, &echoes, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ctx = tls_client_ctx(NULL);
		ck_assert_int_eq(SSL_CTX_set_cipher_list(ctx, rows[i].ciphers),
		    1);
		SSL_CTX_set_min_proto_version(ctx, rows[i].version);
		SSL_CTX_set_max_proto_version(ctx, rows[i].version);
		ssl = tls_client(ctx, NULL);
		if (rows[i].good) {
			tls_shake(ssl);
			ck_assert_str_eq(SSL_get_cipher_name(ssl),
			    rows[i].ciphers);
			tls_send(ssl, "x");
			tls_expect(ssl, "x");
		} else {
			refused.n = 0;
			ck_assert_int_ne(tls_shake_fails(ssl), 0);
			UNTIL(refused.n == 1);
			ck_assert_int_eq(refused.err, EPROTO);
		}
		tls_close(ssl);
		SSL_CTX_free(ctx);
	}
	tls_stop();
}
END_TEST

START_TEST(a_policy_may_want_more)
{
	static const struct kquay_tls_conf conf = { .minversion = KQUAY_TLS_1_3,
		.suites = "TLS_CHACHA20_POLY1305_SHA256" };
	SSL_CTX *ctx = tls_client_ctx(NULL);
	SSL *ssl;

	tls_start("host", &conf, &echoes, NULL);
	ssl = tls_connect(NULL);
	ck_assert_str_eq(SSL_get_cipher_name(ssl),
	    "TLS_CHACHA20_POLY1305_SHA256");
	tls_close(ssl);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	ssl = tls_client(ctx, NULL);
	ck_assert_int_eq(tls_shake_fails(ssl),
	    SSL_R_TLSV1_ALERT_PROTOCOL_VERSION);
	tls_close(ssl);
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

/* Which certificate whom is shown. */
START_TEST(a_name_gets_its_certificate)
{
	static const struct {
		const char *name, *subject;
	} rows[] = {
		{ NULL, "/CN=localhost" },
		{ "localhost", "/CN=localhost" },
		{ "elsewhere.example.com", "/CN=localhost" },
		{ "two.example.org", "/CN=wild" },
		{ "TWO.EXAMPLE.org", "/CN=wild" },
		{ "one.example.org", "/CN=one" },
		{ "uno.example.org.", "/CN=one" },
		{ "example.org", "/CN=localhost" },
		{ "a.b.example.org", "/CN=localhost" },
		{ "common.example.net", "/CN=common.example.net" },
	};
	size_t i, n = sizeof(rows) / sizeof(rows[0]);
	SSL_CTX *ctx = tls_client_ctx(NULL);
	SSL *ssl;

	tls_start("host wild one cn", NULL, &echoes, NULL);
	for (i = 0; i < 2 * n; i++) {
		SSL_CTX_set_max_proto_version(ctx,
		    i < n ? TLS1_3_VERSION : TLS1_2_VERSION);
		ssl = tls_client(ctx, rows[i % n].name);
		tls_shake(ssl);
		ck_assert_str_eq(tls_shown(ssl), rows[i % n].subject);
		tls_send(ssl, "x");
		tls_expect(ssl, "x");
		ck_assert_pstr_eq(seen.servername, rows[i % n].name);
		tls_close(ssl);
	}
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

/* One name, two kinds of key: the client's abilities choose. */
START_TEST(a_name_may_have_two_keys)
{
	static const char *const orders[] = { "host rsa wild",
		"wild host rsa" };
	/* OpenSSL's macro takes no const. */
	static struct {
		char sigalgs[16];
		int type;
	} rows[] = { { "RSA-PSS+SHA256", EVP_PKEY_RSA },
		{ "ECDSA+SHA256", EVP_PKEY_EC } };
	SSL_CTX *ctx;
	size_t i, k;
	SSL *ssl;

	for (k = 0; k < 2; k++) {
		tls_start(orders[k], NULL, &echoes, NULL);
		for (i = 0; i < 2; i++) {
			ctx = tls_client_ctx(NULL);
			SSL_CTX_set_verify(ctx, SSL_VERIFY_NONE, NULL);
			ck_assert_int_eq(SSL_CTX_set1_sigalgs_list(ctx,
					     rows[i].sigalgs),
			    1);
			ssl = tls_client(ctx, "localhost");
			tls_shake(ssl);
			ck_assert_str_eq(tls_shown(ssl), "/CN=localhost");
			ck_assert_int_eq(EVP_PKEY_get_base_id(X509_get0_pubkey(
					     SSL_get0_peer_certificate(ssl))),
			    rows[i].type);
			tls_close(ssl);
			SSL_CTX_free(ctx);
		}
		/* wild has no RSA key, and must not borrow one. */
		ctx = tls_client_ctx(NULL);
		SSL_CTX_set1_sigalgs_list(ctx, rows[0].sigalgs);
		ssl = tls_client(ctx, "two.example.org");
		ck_assert_int_ne(tls_shake_fails(ssl), 0);
		tls_close(ssl);
		SSL_CTX_free(ctx);
		tls_stop();
	}
}
END_TEST

START_TEST(clients_show_certificates)
{
	static const struct {
		unsigned flags;
		const char *cert;
		bool good, verified;
	} rows[] = {
		{ 0, NULL, true, false },
		{ 0, "alice", true, false },
		{ KQUAY_TLS_ASK, NULL, true, false },
		{ KQUAY_TLS_ASK, "alice", true, true },
		{ KQUAY_TLS_ASK, "mallory", false, false },
		{ KQUAY_TLS_REQUIRE, NULL, false, false },
		{ KQUAY_TLS_REQUIRE, "alice", true, true },
		{ KQUAY_TLS_REQUIRE, "mallory", false, false },
		{ KQUAY_TLS_ASK | KQUAY_TLS_REQUIRE, NULL, false, false },
	};
	struct kquay_tls_conf conf = { .cafile = tls_file("ca.pem") };
	int version;
	SSL_CTX *ctx;
	size_t i;
	SSL *ssl;

	for (i = 0; i < 2 * sizeof(rows) / sizeof(rows[0]); i++) {
		version = i % 2 ? TLS1_2_VERSION : TLS1_3_VERSION;
		conf.flags = rows[i / 2].flags;
		tls_start("host", &conf, &echoes, NULL);
		ctx = tls_client_ctx(rows[i / 2].cert);
		SSL_CTX_set_max_proto_version(ctx, version);
		ssl = tls_client(ctx, NULL);
		opened = refused.n = 0;
		if (rows[i / 2].good) {
			tls_shake(ssl);
			tls_send(ssl, "x");
			tls_expect(ssl, "x");
			ck_assert_int_eq(seen.verified, rows[i / 2].verified);
			if (rows[i / 2].verified)
				ck_assert_str_eq(seen.subject,
				    "CN=alice,O=Example");
			else
				ck_assert_ptr_null(seen.subject);
		} else {
			ck_assert_int_ne(tls_shake_fails(ssl), 0);
			UNTIL(refused.n == 1);
			ck_assert_int_eq(opened, 0);
			ck_assert_int_eq(kit_closed.n, 0);
			if (rows[i / 2].cert != NULL) {
				ck_assert_int_eq(refused.err, EACCES);
				ck_assert_ptr_nonnull(
				    strstr(refused.text, "certificate"));
			}
		}
		tls_close(ssl);
		SSL_CTX_free(ctx);
		tls_stop();
	}
}
END_TEST

START_TEST(a_protocol_is_agreed_on)
{
	static const char *const ours[] = { "h2", "http/1.1", NULL };
	static const struct kquay_tls_conf conf = { .alpn = ours };
	static const struct {
		const char *theirs, *chosen; /* chosen "": refused */
	} rows[] = {
		{ "\x08http/1.1\x02h2", "h2" },
		{ "\x08http/1.1", "http/1.1" },
		{ "\x03"
		  "ftp\x08http/1.1",
		    "http/1.1" },
		{ "\x03"
		  "ftp",
		    "" },
		{ NULL, NULL },
	};
	const char *theirs;
	SSL_CTX *ctx;
	size_t i;
	SSL *ssl;

	tls_start("host", &conf, &echoes, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		ctx = tls_client_ctx(NULL);
		theirs = rows[i].theirs;
		if (theirs != NULL)
			SSL_CTX_set_alpn_protos(ctx, (const void *)theirs,
			    (unsigned)strlen(theirs));
		ssl = tls_client(ctx, NULL);
		if (rows[i].chosen != NULL && *rows[i].chosen == '\0') {
			ck_assert_int_eq(tls_shake_fails(ssl),
			    SSL_R_TLSV1_ALERT_NO_APPLICATION_PROTOCOL);
		} else {
			tls_shake(ssl);
			tls_send(ssl, "x");
			tls_expect(ssl, "x");
			ck_assert_pstr_eq(seen.alpn, rows[i].chosen);
		}
		tls_close(ssl);
		SSL_CTX_free(ctx);
	}
	tls_stop();
}
END_TEST

/* What is no handshake, and what is none in time. */
START_TEST(garbage_is_refused)
{
	static const char *const rows[] = { "GET / HTTP/1.0\r\n\r\n",
		"garbage\n", "\x16\x03\x01\x00\x04\x01\x00\x00\xff\xff" };
	size_t i;
	int fd;

	tls_start("host", NULL, &echoes, NULL);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		refused.n = 0;
		fd = kit_connect();
		ck_assert_int_eq(send(fd, rows[i], i == 2 ? 9 : strlen(rows[i]),
				     0),
		    i == 2 ? 9 : strlen(rows[i]));
		if (i == 2)
			shutdown(fd, SHUT_WR);
		UNTIL(refused.n == 1);
		ck_assert_int_eq(refused.err, i == 2 ? ECONNRESET : EPROTO);
		if (i == 0)
			ck_assert_str_eq(refused.text, "http request");
		close(fd);
	}
	ck_assert_int_eq(opened, 0);
	ck_assert_int_eq(kit_closed.n, 0);
	ck_assert_ptr_null(kquay_next(q, NULL));
	tls_stop();
}
END_TEST

START_TEST(a_handshake_has_its_time)
{
	static const struct kquay_sys sys = { .now = kit_now };
	static const struct {
		int limit, patience;
	} rows[] = { { 0, 10000 }, { 500, 500 }, { -1, 3600 * 1000 } };
	struct kquay_conf conf = { .maxconn = 4, .sys = &sys };
	struct kquay_stat st;
	size_t i;
	int fd;

	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		conf.handshake = rows[i].limit;
		refused.n = 0;
		tls_start("host", NULL, &echoes, &conf);
		fd = kit_join();
		kit_send(fd, "\x16\x03\x01\x01");
		kit_settle();
		ck_assert_ptr_null(kquay_next(q, NULL));
		kit_clock += rows[i].patience;
		kit_settle();
		ck_assert_int_eq(refused.n, 0);
		kit_clock += 100;
		if (rows[i].limit != -1) {
			UNTIL(refused.n == 1);
			ck_assert_int_eq(refused.err, ETIMEDOUT);
		}
		kit_settle();
		kquay_stats(q, &st);
		ck_assert_uint_eq(st.conns, rows[i].limit == -1);
		ck_assert_int_eq(kit_closed.n, 0);
		close(fd);
		tls_stop();
	}
}
END_TEST

/* The handshake's limit is over with it; that of the first byte is conf's. */
START_TEST(the_first_byte_has_its_time)
{
	static const struct kquay_sys sys = { .now = kit_now };
	struct kquay_conf conf = { .maxconn = 4, .sys = &sys };
	SSL *ssl;

	tls_start("host", NULL, &echoes, &conf);
	ssl = tls_connect(NULL);
	UNTIL(opened == 1);
	kit_clock += 60 * 60 * 1000;
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	tls_close(ssl);
	tls_stop();

	conf.handshake = 1000;
	tls_start("host", NULL, &echoes, &conf);
	ssl = tls_connect(NULL);
	UNTIL(opened == 2);
	kit_clock += 1100;
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_HANDSHAKE);
	tls_expect_end(ssl);
	tls_close(ssl);
	tls_stop();
}
END_TEST

START_TEST(plain_and_tls_live_side_by_side)
{
	static const struct kquay_ops ops = { .input = echo,
		.close = kit_on_close };
	SSL_CTX *ctx = tls_client_ctx(NULL);
	struct kquay_tlsinfo info;
	SSL *ssl;
	int fd;

	kit_start(&ops, NULL);
	tls_made = tls_new("host", NULL);
	ck_assert_int_eq(kquay_tls(q, tls_made), 0);
	ck_assert_int_eq(kquay_listen_unix(q, kit_path("tls"), 0600), 1);
	ck_assert_int_eq(kquay_tls(q, NULL), 0);
	ck_assert_int_eq(kquay_listen_unix(q, kit_path("plain"), 0600), 1);
	/* Loop and listener keep it. */
	kquay_tls_free(tls_made);
	tls_made = NULL;
	fd = kit_connect();
	kit_send(fd, "plain");
	kit_expect(fd, "plain");
	ck_assert_int_eq(kquay_tlsinfo(kit_conn(), &info), -1);
	ck_assert_int_eq(errno, EINVAL);
	close(fd);
	ssl = tls_client_at(ctx, NULL, kit_connect_unix(kit_path("tls")));
	SSL_CTX_free(ctx);
	tls_shake(ssl);
	tls_send(ssl, "sealed");
	tls_expect(ssl, "sealed");
	tls_close(ssl);
	fd = kit_connect_unix(kit_path("plain"));
	kit_send(fd, "plain");
	kit_expect(fd, "plain");
	close(fd);
	tls_stop();
}
END_TEST

START_TEST(without_a_certificate_nobody_is_served)
{
	kit_start(&echoes, NULL);
	tls_made = tls_new("", NULL);
	ck_assert_int_eq(kquay_tls(q, tls_made), -1);
	ck_assert_int_eq(errno, EINVAL);
	tls_stop();
}
END_TEST

/* The limits of callers hold for those in their handshake. */
START_TEST(a_handshake_takes_a_slot)
{
	struct kquay_conf conf = { .maxconn = 2 };
	int a, b, c;
	SSL *ssl;

	tls_start("host", NULL, &echoes, &conf);
	a = kit_join();
	b = kit_join();
	c = kit_connect();
	UNTIL(refused.n == 1);
	ck_assert_int_eq(refused.err, ENOBUFS);
	close(a);
	UNTIL(refused.n == 2);
	ck_assert_int_eq(refused.err, ECONNRESET);
	ssl = tls_connect(NULL);
	tls_send(ssl, "x");
	tls_expect(ssl, "x");
	close(b);
	close(c);
	tls_close(ssl);
	tls_stop();
}
END_TEST

static const TTest **const tests[] = {
	&a_client_is_served,
	&old_versions_and_weak_ciphers_are_refused,
	&a_policy_may_want_more,
	&a_name_gets_its_certificate,
	&a_name_may_have_two_keys,
	&clients_show_certificates,
	&a_protocol_is_agreed_on,
	&garbage_is_refused,
	&a_handshake_has_its_time,
	&the_first_byte_has_its_time,
	&plain_and_tls_live_side_by_side,
	&without_a_certificate_nobody_is_served,
	&a_handshake_takes_a_slot,
};

TLS_MAIN("server_tls", tests)
