/* TLS for the tests; t_server_tls_kit.h has the contracts. */
#include "t_server_tls_kit.h"

#include <openssl/x509.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct kquay_tls *tls_made;

static char files[32];

const char *
tls_file(const char *name)
{
	static char paths[64][64];
	char path[64];
	int i;

	snprintf(path, sizeof(path), "%s/%s", files, name);
	for (i = 0; paths[i][0] != '\0' && strcmp(paths[i], path) != 0; i++)
		ck_assert_int_lt(i, 63);
	return strcpy(paths[i], path);
}

struct kquay_tls *
tls_new(const char *certs, const struct kquay_tls_conf *more)
{
	struct kquay_tls_conf conf = { .flags = 0 };
	struct kquay_cert list[8];
	char name[64], error[256];
	struct kquay_tls *tls;
	unsigned n = 0;
	int used;

	if (more != NULL)
		conf = *more;
	while (sscanf(certs, "%31s%n", name, &used) == 1) {
		certs += used;
		list[n].chain = tls_file(strcat(name, ".pem"));
		strcpy(strrchr(name, '.'), ".key");
		list[n++].key = tls_file(name);
	}
	conf.certs = list;
	conf.ncerts = n;
	tls = kquay_tls_new(&conf, error, sizeof(error));
	ck_assert_msg(tls != NULL, "%s", error);
	return tls;
}

void
tls_start(const char *certs, const struct kquay_tls_conf *more,
    const struct kquay_ops *ops, const struct kquay_conf *conf)
{
	struct kquay_conf k = { .maxconn = 64 };

	if (conf != NULL)
		k = *conf;
	k.flags |= KQUAY_NOSIGNAL;
	memset(&kit_closed, 0, sizeof(kit_closed));
	tls_made = tls_new(certs, more);
	q = kquay_new(ops, &k);
	ck_assert_ptr_nonnull(q);
	ck_assert_int_eq(kquay_tls(q, tls_made), 0);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 0), ':') + 1);
}

void
tls_stop(void)
{
	kit_stop();
	kquay_tls_free(tls_made);
	tls_made = NULL;
}

SSL_CTX *
tls_client_ctx(const char *cert)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	char name[64];

	ck_assert_ptr_nonnull(ctx);
	ck_assert_int_eq(SSL_CTX_load_verify_file(ctx, tls_file("ca.pem")), 1);
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT);
	if (cert == NULL)
		return ctx;
	snprintf(name, sizeof(name), "%s.pem", cert);
	ck_assert_int_eq(SSL_CTX_use_certificate_chain_file(ctx,
			     tls_file(name)),
	    1);
	snprintf(name, sizeof(name), "%s.key", cert);
	ck_assert_int_eq(SSL_CTX_use_PrivateKey_file(ctx, tls_file(name),
			     SSL_FILETYPE_PEM),
	    1);
	return ctx;
}

SSL *
tls_client(SSL_CTX *ctx, const char *servername)
{
	return tls_client_at(ctx, servername, kit_connect());
}

SSL *
tls_client_at(SSL_CTX *ctx, const char *servername, int fd)
{
	SSL *ssl = SSL_new(ctx);
	char name[256]; /* OpenSSL's macro takes no const */
	int on = 1;

	ck_assert_ptr_nonnull(ssl);
	/* Not of a UNIX socket. */
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	ck_assert_int_eq(SSL_set_fd(ssl, fd), 1);
	SSL_set_connect_state(ssl);
	if (servername != NULL) {
		snprintf(name, sizeof(name), "%s", servername);
		SSL_set_tlsext_host_name(ssl, name);
	}
	return ssl;
}

/* Step the handshake: 1 done, -1 failed, 0 to be continued. */
static int
shake(SSL *ssl)
{
	int rc;

	ERR_clear_error();
	rc = SSL_do_handshake(ssl);
	if (rc == 1)
		return 1;
	rc = SSL_get_error(ssl, rc);
	return rc == SSL_ERROR_WANT_READ || rc == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

void
tls_shake(SSL *ssl)
{
	int rc;

	UNTIL((rc = shake(ssl)) != 0);
	ck_assert_msg(rc == 1, "%s", ERR_reason_error_string(ERR_peek_error()));
}

int
tls_shake_fails(SSL *ssl)
{
	size_t n;
	char byte;
	int rc;

	/* A TLS 1.3 client may be done before the server says no. */
	UNTIL((rc = shake(ssl)) != 0);
	if (rc == 1)
		UNTIL(
		    (rc = tls_read(ssl, &byte, 1, &n)) != SSL_ERROR_WANT_READ);
	ck_assert_int_ne(rc, SSL_ERROR_NONE);
	return ERR_GET_REASON(ERR_peek_error());
}

SSL *
tls_connect(const char *servername)
{
	SSL_CTX *ctx = tls_client_ctx(NULL);
	SSL *ssl = tls_client(ctx, servername);

	SSL_CTX_free(ctx);
	tls_shake(ssl);
	return ssl;
}

int
tls_read(SSL *ssl, void *buf, size_t size, size_t *n)
{
	int rc;

	ERR_clear_error();
	rc = SSL_read_ex(ssl, buf, size, n);
	if (rc == 1)
		return SSL_ERROR_NONE;
	*n = 0;
	return SSL_get_error(ssl, rc);
}

void
tls_send_bytes(SSL *ssl, const void *data, size_t len)
{
	const char *p = data;
	size_t n;
	int rc;

	SSL_set_mode(ssl,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (len > 0) {
		ERR_clear_error();
		rc = SSL_write_ex(ssl, p, len, &n);
		if (rc == 1) {
			p += n;
			len -= n;
			continue;
		}
		rc = SSL_get_error(ssl, rc);
		ck_assert(
		    rc == SSL_ERROR_WANT_WRITE || rc == SSL_ERROR_WANT_READ);
		kit_step();
	}
}

void
tls_send(SSL *ssl, const char *text)
{
	tls_send_bytes(ssl, text, strlen(text));
}

void
tls_expect_bytes(SSL *ssl, const void *want, size_t len)
{
	int64_t deadline = kit_ms() + KIT_DEADLINE;
	char *buf = malloc(len + 1);
	size_t got = 0, n;
	int rc;

	ck_assert_ptr_nonnull(buf);
	while (got < len) {
		rc = tls_read(ssl, buf + got, len - got, &n);
		got += n;
		if (rc == SSL_ERROR_WANT_READ)
			kit_step();
		else
			ck_assert_int_eq(rc, SSL_ERROR_NONE);
		ck_assert_msg(kit_ms() < deadline, "%zu of %zu bytes came", got,
		    len);
	}
	ck_assert_mem_eq(buf, want, len);
	free(buf);
}

void
tls_expect(SSL *ssl, const char *want)
{
	tls_expect_bytes(ssl, want, strlen(want));
}

void
tls_expect_end(SSL *ssl)
{
	size_t n;
	char byte;
	int rc;

	UNTIL((rc = tls_read(ssl, &byte, 1, &n)) != SSL_ERROR_WANT_READ);
	ck_assert_msg(rc == SSL_ERROR_ZERO_RETURN, "%s",
	    rc == SSL_ERROR_NONE ? "a byte" :
				   ERR_reason_error_string(ERR_peek_error()));
}

const char *
tls_shown(SSL *ssl)
{
	static char name[256];
	X509 *cert = SSL_get1_peer_certificate(ssl);

	ck_assert_ptr_nonnull(cert);
	X509_NAME_oneline(X509_get_subject_name(cert), name, sizeof(name));
	X509_free(cert);
	return name;
}

void
tls_close(SSL *ssl)
{
	close(SSL_get_fd(ssl));
	SSL_free(ssl);
}

int
tls_main(const char *name, const TTest **const tests[], int n)
{
	char command[256];
	int rc;

	snprintf(files, sizeof(files), "/tmp/t_tls.XXXXXX");
	if (mkdtemp(files) == NULL)
		return 99;
	snprintf(command, sizeof(command), "%s %s", CERTS, files);
	rc = system(command);
	if (rc != 0) {
		fprintf(stderr, "%s: %d\n", command, rc);
		return 99;
	}
	rc = kit_main(name, tests, n);
	snprintf(command, sizeof(command), "rm -rf %s", files);
	return system(command) == 0 ? rc : 99;
}
