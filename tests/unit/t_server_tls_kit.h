/*
 * What the tests of TLS share: certificates, and OpenSSL as a client that is
 * stepped along with the loop.
 */
#ifndef T_SERVER_TLS_KIT_H
#define T_SERVER_TLS_KIT_H

#include "t_server_kit.h"

#include <openssl/err.h>
#include <openssl/ssl.h>

/* A file that tests/certs has made, such as "host.pem".  Valid for ever. */
const char	*tls_file(const char *name);

/* A struct kquay_tls with the certificates named, "host rsa"; *more may be
   NULL, its certs are not looked at. */
struct kquay_tls	*tls_new(const char *certs,
			    const struct kquay_tls_conf *more);

/* As kit_start(), with TLS by such certificates. */
void	tls_start(const char *certs, const struct kquay_tls_conf *more,
	    const struct kquay_ops *ops, const struct kquay_conf *conf);
/* As kit_stop(), and it gives up what tls_start() has made. */
void	tls_stop(void);
/* What tls_start() has made. */
extern struct kquay_tls *tls_made;

/* A client's policy: believes ca.  The certificate it shows is cert, or none
   if that is NULL. */
SSL_CTX	*tls_client_ctx(const char *cert);

/* A client that is connected to the loop and has not said a word. */
SSL	*tls_client(SSL_CTX *ctx, const char *servername);
/* As it, by this socket. */
SSL	*tls_client_at(SSL_CTX *ctx, const char *servername, int fd);
/* Step until its handshake is done. */
void	tls_shake(SSL *ssl);
/* Step until its handshake has failed; OpenSSL's reason for that. */
int	tls_shake_fails(SSL *ssl);
/* All of it, as a client of its own policy. */
SSL	*tls_connect(const char *servername);

/* Step until all of it is sent. */
void	tls_send(SSL *ssl, const char *text);
void	tls_send_bytes(SSL *ssl, const void *data, size_t len);
/* Step until the client has got want. */
void	tls_expect(SSL *ssl, const char *want);
void	tls_expect_bytes(SSL *ssl, const void *want, size_t len);
/* Step until the client has got a close_notify, and nothing before it. */
void	tls_expect_end(SSL *ssl);
/* Step until OpenSSL would wait, or fails; SSL_get_error() of it. */
int	tls_read(SSL *ssl, void *buf, size_t size, size_t *n);

/* The name in the certificate that the server has shown. */
const char	*tls_shown(SSL *ssl);
/* Close its socket and free it. */
void	tls_close(SSL *ssl);

int	tls_main(const char *name, const TTest **const tests[], int n);
#define TLS_MAIN(name, tests) \
	int								\
	main(void)							\
	{								\
		return tls_main(name, tests,				\
		    (int)(sizeof(tests) / sizeof((tests)[0])));		\
	}

#endif
