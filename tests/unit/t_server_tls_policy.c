/*
 * A struct kquay_tls: files that are not what they should be, reload, and
 * sessions that are resumed.
 */
#include "t_server_tls_kit.h"
#include "tls.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct kquay_tlsinfo seen;
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

static const struct kquay_ops echoes = { .open = on_open,
	.input = echo,
	.close = kit_on_close };

static void
write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

static void
copy_file(const char *from, const char *to)
{
	char command[512];

	snprintf(command, sizeof(command), "cp '%s' '%s'", from, to);
	ck_assert_int_eq(system(command), 0);
}

/* -- files ----------------------------------------------------------------- */

static const char *const long_name[] = { "x", "", NULL };
static const struct {
	const char *chain, *key, *ca, *ciphers, *suites;
	const char *const *alpn;
	unsigned flags;
	int version, err;
	const char *about, *text;
} wrong[] = {
	{ .chain = "none.pem",
	    .err = ENOENT,
	    .about = "none.pem",
	    .text = "No such file or directory" },
	{ .chain = "host.pem",
	    .key = "none.key",
	    .err = ENOENT,
	    .about = "none.key",
	    .text = "No such file or directory" },
	{ .chain = "host.pem",
	    .key = "one.key",
	    .err = EINVAL,
	    .about = "one.key",
	    .text = "not the key of the certificate" },
	{ .chain = "host.pem",
	    .err = EINVAL,
	    .about = "host.pem",
	    .text = "no private key in it" },
	{ .chain = "host.key",
	    .err = EINVAL,
	    .about = "host.key",
	    .text = "no certificate in it" },
	{ .chain = "host.pem",
	    .key = "locked.key",
	    .err = EINVAL,
	    .about = "locked.key",
	    .text = "the private key has a password" },
	{ .chain = "cut.pem",
	    .key = "host.key",
	    .err = EINVAL,
	    .about = "cut.pem",
	    .text = "bad end line" },
	{ .chain = "both.pem",
	    .ca = "none.pem",
	    .err = ENOENT,
	    .about = "none.pem",
	    .text = "No such file or directory" },
	{ .chain = "both.pem",
	    .ca = "host.key",
	    .err = EINVAL,
	    .about = "host.key",
	    .text = "no certificate or crl found" },
	{ .chain = "both.pem",
	    .ciphers = "NONSENSE",
	    .err = EINVAL,
	    .about = "NONSENSE",
	    .text = "no cipher match" },
	{ .chain = "both.pem",
	    .suites = "NONSENSE",
	    .err = EINVAL,
	    .about = "NONSENSE",
	    .text = "no cipher match" },
	{ .chain = "both.pem",
	    .alpn = long_name,
	    .err = EINVAL,
	    .text = "not a protocol's name" },
	{ .chain = "both.pem",
	    .flags = KQUAY_TLS_ASK,
	    .err = EINVAL,
	    .text = "no file of authorities to verify clients with" },
	{ .chain = "both.pem",
	    .version = 0x302,
	    .err = EINVAL,
	    .text = "no such version: 0x302" },
	{ .chain = NULL, .err = EINVAL, .text = "certificate 1 has no file" },
	{ .chain = "weak.pem",
	    .key = "weak.key",
	    .err = EINVAL,
	    .about = "weak.pem",
	    .text = "ee key too small" },
};

/* What is wrong is said with the file's name; and a reload changes nothing. */
START_TEST(what_is_wrong_is_said)
{
	struct kquay_tls_conf conf;
	struct kquay_cert cert;
	char error[256], want[256];
	struct kquay_tls *good;
	SSL_CTX *before;
	size_t i;

	write_file(tls_file("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n");
	good = tls_new("host", NULL);
	before = good->ctx;
	for (i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		memset(&conf, 0, sizeof(conf));
		cert.chain = wrong[i].chain ? tls_file(wrong[i].chain) : NULL;
		cert.key = wrong[i].key ? tls_file(wrong[i].key) : NULL;
		conf.certs = &cert;
		conf.ncerts = 1;
		conf.cafile = wrong[i].ca ? tls_file(wrong[i].ca) : NULL;
		conf.ciphers = wrong[i].ciphers;
		conf.suites = wrong[i].suites;
		conf.alpn = wrong[i].alpn;
		conf.flags = wrong[i].flags;
		conf.minversion = wrong[i].version;
		error[0] = '\0';
		errno = 0;
		ck_assert_ptr_null(kquay_tls_new(&conf, error, sizeof(error)));
		ck_assert_msg(errno == wrong[i].err, "row %zu: %s", i, error);
		if (wrong[i].about == NULL)
			ck_assert_ptr_nonnull(strstr(error, wrong[i].text));
		else {
			snprintf(want, sizeof(want), "%s: %s",
			    strchr(wrong[i].about, '.') ?
				tls_file(wrong[i].about) :
				wrong[i].about,
			    wrong[i].text);
			ck_assert_str_eq(error, want);
		}
		ck_assert_int_eq(kquay_tls_reload(good, &conf, NULL, 0), -1);
		ck_assert_int_eq(errno, wrong[i].err);
		ck_assert_ptr_eq(good->ctx, before);
		/* Nothing of it is left for the next who asks OpenSSL. */
		ck_assert_uint_eq(ERR_peek_error(), 0);
	}
	kquay_tls_free(good);
	kquay_tls_free(NULL);
}
END_TEST

/* -- reload ---------------------------------------------------------------- */

START_TEST(a_reload_is_for_new_connections)
{
	struct kquay_cert cert = { .chain = kit_path("c.pem"),
		.key = kit_path("c.key") };
	struct kquay_tls_conf conf = { .certs = &cert, .ncerts = 1 };
	char error[256];
	SSL *old, *middle, *fresh;
	SSL_CTX *ctx = tls_client_ctx(NULL);

	copy_file(tls_file("host.pem"), cert.chain);
	copy_file(tls_file("host.key"), cert.key);
	tls_start("one", NULL, &echoes, NULL);
	ck_assert_int_eq(kquay_tls_reload(tls_made, &conf, error,
			     sizeof(error)),
	    0);
	ck_assert_str_eq(error, "");
	old = tls_connect(NULL);
	ck_assert_str_eq(tls_shown(old), "/CN=localhost");
	/* One that has begun when the files change. */
	middle = tls_client(ctx, NULL);
	SSL_set_min_proto_version(middle, TLS1_2_VERSION);
	SSL_set_max_proto_version(middle, TLS1_2_VERSION);
	SSL_do_handshake(middle);
	UNTIL(SSL_do_handshake(middle) == 1 ||
	    SSL_get0_peer_certificate(middle) != NULL);
	copy_file(tls_file("new.pem"), cert.chain);
	/* Half of it is no reload. */
	ck_assert_int_eq(kquay_tls_reload(tls_made, NULL, error, sizeof(error)),
	    -1);
	fresh = tls_connect(NULL);
	ck_assert_str_eq(tls_shown(fresh), "/CN=localhost");
	tls_close(fresh);
	copy_file(tls_file("new.key"), cert.key);
	ck_assert_int_eq(kquay_tls_reload(tls_made, NULL, error, sizeof(error)),
	    0);
	fresh = tls_connect(NULL);
	ck_assert_str_eq(tls_shown(fresh), "/O=new/CN=localhost");
	tls_shake(middle);
	ck_assert_str_eq(tls_shown(middle), "/CN=localhost");
	tls_send(old, "old");
	tls_expect(old, "old");
	tls_send(middle, "middle");
	tls_expect(middle, "middle");
	tls_close(old);
	tls_close(middle);
	tls_close(fresh);
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

/* -- resumption
 * --------------------------------------------------------------------- */

/* Connect with *session, if it is not NULL, and take the new one; whether the
   old one was resumed. */
static bool
visit(SSL_CTX *ctx, SSL_SESSION **session)
{
	SSL *ssl = tls_client(ctx, "localhost");
	bool resumed;

	if (*session != NULL)
		SSL_set_session(ssl, *session);
	tls_shake(ssl);
	tls_send(ssl, "hello");
	tls_expect(ssl, "hello"); /* and the tickets before it */
	resumed = SSL_session_reused(ssl);
	ck_assert_int_eq(seen.resumed, resumed);
	SSL_SESSION_free(*session);
	*session = SSL_get1_session(ssl);
	SSL_shutdown(ssl);
	tls_close(ssl);
	return resumed;
}

static SSL_CTX *
client_of(int version, const char *cert)
{
	SSL_CTX *ctx = tls_client_ctx(cert);

	SSL_CTX_set_max_proto_version(ctx, version);
	return ctx;
}

static void
resume(int version)
{
	SSL_CTX *ctx = client_of(version, NULL);
	SSL_SESSION *session = NULL;
	struct kquay *first;

	tls_start("host", NULL, &echoes, NULL);
	ck_assert(!visit(ctx, &session));
	ck_assert(visit(ctx, &session));
	ck_assert(visit(ctx, &session));
	/* In another loop too, as in another thread. */
	first = q;
	kit_start(&echoes, NULL);
	ck_assert_int_eq(kquay_tls(q, tls_made), 0);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 1), ':') + 1);
	ck_assert(visit(ctx, &session));
	/* And after a reload. */
	ck_assert_int_eq(kquay_tls_reload(tls_made, NULL, NULL, 0), 0);
	ck_assert(visit(ctx, &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	tls_stop();
	kquay_free(first);
}

START_TEST(a_session_is_resumed)
{
	resume(TLS1_2_VERSION);
	resume(TLS1_3_VERSION);
}
END_TEST

/* Whether time has gone by or the key is only said to be older is the same. */
static void
let_pass(int64_t seconds)
{
	int i;

	for (i = 0; i < TICKET_KEYS; i++)
		if (tls_made->keys[i].born != 0)
			tls_made->keys[i].born -= seconds;
}

static void
rotate(int version)
{
	SSL_CTX *ctx = client_of(version, NULL);
	SSL_SESSION *session = NULL, *old = NULL;
	unsigned char name[16];

	tls_start("host", NULL, &echoes, NULL);
	ck_assert(!visit(ctx, &old));
	memcpy(name, tls_made->keys[0].name, sizeof(name));
	/* The key is old: it opens this ticket, and another makes the next. */
	let_pass(TICKET_S + 1);
	ck_assert(visit(ctx, &old));
	ck_assert_mem_ne(name, tls_made->keys[0].name, sizeof(name));
	ck_assert_mem_eq(name, tls_made->keys[1].name, sizeof(name));
	/* Too old: its tickets are, too. */
	ck_assert(!visit(ctx, &session));
	let_pass(TICKET_S + SESSION_S + 1);
	ck_assert(!visit(ctx, &session));
	SSL_SESSION_free(session);
	SSL_SESSION_free(old);
	SSL_CTX_free(ctx);
	tls_stop();
}

START_TEST(keys_of_tickets_rotate)
{
	rotate(TLS1_2_VERSION);
	rotate(TLS1_3_VERSION);
}
END_TEST

static void
switch_off(int version)
{
	static const struct kquay_tls_conf conf = { .flags =
							KQUAY_TLS_NORESUME };
	SSL_CTX *ctx = client_of(version, NULL);
	SSL_SESSION *session = NULL;

	tls_start("host", &conf, &echoes, NULL);
	ck_assert(!visit(ctx, &session));
	ck_assert(!visit(ctx, &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	tls_stop();
}

START_TEST(resumption_can_be_switched_off)
{
	switch_off(TLS1_2_VERSION);
	switch_off(TLS1_3_VERSION);
}
END_TEST

/* Who was verified stays so; but not by others than before. */
static void
verify_again(int version)
{
	struct kquay_tls_conf conf = { .cafile = tls_file("ca.pem"),
		.flags = KQUAY_TLS_REQUIRE };
	SSL_CTX *ctx = client_of(version, "alice");
	SSL_SESSION *session = NULL;
	struct kquay_cert cert = { .chain = tls_file("host.pem"),
		.key = tls_file("host.key") };
	char command[512];

	tls_start("host", &conf, &echoes, NULL);
	ck_assert(!visit(ctx, &session));
	ck_assert(visit(ctx, &session));
	ck_assert_int_eq(seen.verified, 1);
	ck_assert_str_eq(seen.subject, "CN=alice,O=Example");
	/* Both authorities are believed now: alice has to show hers again. */
	snprintf(command, sizeof(command), "cat %s %s >%s", tls_file("ca.pem"),
	    tls_file("ca2.pem"), kit_path("cas"));
	ck_assert_int_eq(system(command), 0);
	conf.cafile = kit_path("cas");
	conf.certs = &cert;
	conf.ncerts = 1;
	ck_assert_int_eq(kquay_tls_reload(tls_made, &conf, NULL, 0), 0);
	ck_assert(!visit(ctx, &session));
	ck_assert_int_eq(seen.verified, 1);
	ck_assert(visit(ctx, &session));
	SSL_SESSION_free(session);
	SSL_CTX_free(ctx);
	tls_stop();
}

START_TEST(a_resumed_client_is_still_verified)
{
	verify_again(TLS1_2_VERSION);
	verify_again(TLS1_3_VERSION);
}
END_TEST

/* -- threads
 * ------------------------------------------------------------------------- */

enum { THREADS = 3, VISITS = 20 };

struct thread {
	pthread_t id;
	struct kquay *loop;
};

static void *
serve(void *arg)
{
	struct thread *t = arg;

	ck_assert_int_eq(kquay_run(t->loop), 0);
	return NULL;
}

static void
stop_loop(struct kquay *loop, void *arg)
{
	kquay_stop(loop);
}

static ssize_t
quiet_echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

/* Loops in threads share it, while it is reloaded. */
START_TEST(threads_share_certificates)
{
	static const struct kquay_ops ops = { .input = quiet_echo };
	static const struct kquay_conf conf = { .maxconn = 16,
		.flags = KQUAY_NOSIGNAL };
	SSL_CTX *ctx = tls_client_ctx(NULL);
	struct thread threads[THREADS];
	char buf[8];
	int i, port;
	SSL *ssl;

	tls_made = tls_new("host wild", NULL);
	for (i = 0; i < THREADS; i++) {
		threads[i].loop = kquay_new(&ops, &conf);
		ck_assert_int_eq(kquay_tls(threads[i].loop, tls_made), 0);
		ck_assert_int_eq(kquay_listen(threads[i].loop, "127.0.0.1",
				     "0"),
		    1);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i].id, NULL, serve,
				     &threads[i]),
		    0);
	for (i = 0; i < VISITS * THREADS; i++) {
		port = i % THREADS;
		snprintf(kit_port, sizeof(kit_port), "%s",
		    strrchr(kquay_listening(threads[port].loop, 0), ':') + 1);
		ssl = tls_client(ctx, i % 2 ? "localhost" : "a.example.org");
		ck_assert_int_eq(fcntl(SSL_get_fd(ssl), F_SETFL, 0), 0);
		ck_assert_int_eq(SSL_do_handshake(ssl), 1);
		ck_assert_int_eq(SSL_write(ssl, "hello", 5), 5);
		ck_assert_int_eq(SSL_read(ssl, buf, 5), 5);
		ck_assert_mem_eq(buf, "hello", 5);
		tls_close(ssl);
		ck_assert_int_eq(kquay_tls_reload(tls_made, NULL, NULL, 0), 0);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(kquay_post(threads[i].loop, stop_loop, NULL),
		    0);
	for (i = 0; i < THREADS; i++) {
		pthread_join(threads[i].id, NULL);
		kquay_free(threads[i].loop);
	}
	kquay_tls_free(tls_made);
	tls_made = NULL;
	SSL_CTX_free(ctx);
}
END_TEST

static const TTest **const tests[] = {
	&what_is_wrong_is_said,
	&a_reload_is_for_new_connections,
	&a_session_is_resumed,
	&keys_of_tickets_rotate,
	&resumption_can_be_switched_off,
	&a_resumed_client_is_still_verified,
	&threads_share_certificates,
};

TLS_MAIN("server_tls_policy", tests)
