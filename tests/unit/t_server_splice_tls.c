/* Joined connections of which one has TLS. */
#include "server.h"
#include "t_server_pair.h"

#include <openssl/pem.h>
#include <openssl/x509.h>

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A certificate of our own with its key, in one file. */
static const char *
certificate(void)
{
	const char *path = kit_path("cert.pem");
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name = X509_get_subject_name(cert);
	FILE *f = fopen(path, "w");

	ck_assert_ptr_nonnull(key);
	ck_assert_ptr_nonnull(f);
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
	X509_set_pubkey(cert, key);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
	    (const unsigned char *)"test", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	ck_assert_int_ne(X509_sign(cert, key, EVP_sha256()), 0);
	ck_assert_int_eq(PEM_write_X509(f, cert), 1);
	ck_assert_int_eq(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL,
			     NULL),
	    1);
	fclose(f);
	X509_free(cert);
	EVP_PKEY_free(key);
	return path;
}

/*
 * peers[0] - plain, spliced - TLS - spliced, plain - peers[1]; all in one
 * loop.  The connections in between, in that order.
 */
static struct kquay_conn *hops[4];
static enum kquay_why hops_why[4];
static unsigned hops_closed;
static struct kquay_tls *dial_tls;
static char tls_port[8];

static void
hop_close(struct kquay_conn *c, enum kquay_why why)
{
	int i;

	for (i = 0; hops[i] != c; i++)
		ck_assert_int_lt(i, 3);
	hops_why[i] = why;
	hops_closed++;
}

static int
hop_connected(struct kquay_conn *c)
{
	hops[1] = c;
	ck_assert_int_eq(kquay_splice(hops[0], c), 0);
	kquay_pause(hops[0], 0);
	return 0;
}

static const struct kquay_ops hop_out = { .open = hop_connected,
	.close = hop_close };
static const struct kquay_ops hop_last = { .close = hop_close };

static int
hop_called(struct kquay_conn *c)
{
	struct kquay_target target = { .host = "127.0.0.1",
		.port = tls_port,
		.tls = dial_tls };
	int sv[2];

	if (!(c->flags & C_TLS)) {
		hops[0] = c;
		kquay_pause(c, 1);
		ck_assert_ptr_nonnull(kquay_dialto(q, &target, &hop_out));
		return 0;
	}
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv),
	    0);
	peers[1] = sv[1];
	hops[2] = c;
	hops[3] = kquay_adopt(q, sv[0], &hop_last);
	ck_assert_ptr_nonnull(hops[3]);
	ck_assert_int_eq(kquay_splice(c, hops[3]), 0);
	return 0;
}

static const struct kquay_ops hop_in = { .open = hop_called,
	.close = hop_close };

static void
begin_tls(const struct kquay_sys *sys)
{
	struct kquay_conf k = { .maxconn = 16, .outmax = 4096, .sys = sys };
	struct kquay_cert cert = { .chain = certificate() };
	struct kquay_tls_conf ours = { .certs = &cert, .ncerts = 1 };
	struct kquay_tls_conf anybody = { .flags = KQUAY_TLS_ANYBODY };
	struct kquay_tls *tls;

	memset(hops, 0, sizeof(hops));
	hops_closed = 0;
	signal(SIGPIPE, SIG_IGN);
	kit_start(&hop_in, &k);
	tls = kquay_tls_new(&ours, NULL, 0);
	dial_tls = kquay_tls_new(&anybody, NULL, 0);
	ck_assert_ptr_nonnull(tls);
	ck_assert_ptr_nonnull(dial_tls);
	ck_assert_int_eq(kquay_tls(q, tls), 0);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(tls_port, sizeof(tls_port), "%s",
	    strrchr(kquay_listening(q, 1), ':') + 1);
	peers[0] = kit_connect();
	kit_send(peers[0], "early");
	UNTIL(hops[3] != NULL);
	ck_assert_int_eq(fcntl(peers[1], F_SETFL, O_NONBLOCK), 0);
	kit_expect(peers[1], "early");
	kquay_tls_free(tls);
	kquay_tls_free(dial_tls);
}

static void
end_tls(void)
{
	close(peers[0]);
	close(peers[1]);
	UNTIL(hops_closed == 4);
	kit_stop();
}

/* Every byte both ways, half-close, and a reader that is slow. */
START_TEST(tls_in_between)
{
	struct stream there, back = { .ended = true };
	struct kquay_stat st;
	const struct mode *m;
	int i;

	EACH_MODE(m)
	{
		mode_most = m->most;
		begin_tls(m->sys);
		kit_send(peers[1], "answer");
		kit_expect(peers[0], "answer");
		there = (struct stream){ .from = peers[0],
			.to = peers[1],
			.total = 32 << 20 };
		if (m->most != 1) {
			stream_jam(&there);
			ck_assert_uint_lt(there.sent, there.total);
			kquay_stats(q, &st);
			ck_assert_uint_le(st.in - st.out, 1 << 20);
		}
		there.total = there.sent + m->bytes / 8;
		stream_pump(&there, &back);
		ck_assert_uint_eq(hops_closed, 0);
		back = (struct stream){ .from = peers[1],
			.to = peers[0],
			.total = m->bytes / 8 };
		stream_pump(&back, &there);
		end_tls();
		for (i = 0; i < 4; i++)
			ck_assert_int_eq(hops_why[i], KQUAY_EOF);
	}
}
END_TEST

/* A TLS stream that breaks is no end: the other side is reset. */
START_TEST(tls_breaks)
{
	begin_tls(NULL);
	kquay_abort(hops[3]);
	kit_expect_reset(peers[0]);
	UNTIL(hops_closed == 4);
	ck_assert_int_eq(hops_why[1], KQUAY_ERROR);
	ck_assert_int_eq(hops_why[0], KQUAY_DONE);
	end_tls();
}
END_TEST

static const TTest **const tests[] = { &tls_in_between, &tls_breaks };

KIT_MAIN("splice_tls", tests)
