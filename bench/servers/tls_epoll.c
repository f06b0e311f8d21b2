/*
 * OpenSSL on raw epoll, an echo server: the reference for TLS.  It reads
 * ahead, which saves a recv(2) for each record, and gives back the buffers of
 * who is idle.  -n: as OpenSSL is without being told.
 *
 *	tls_epoll CERTIFICATE [-n] ADDRESS
 */
#include "echo.h"

#include <sys/epoll.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEVENTS 256
#define RECORD 16384

struct conn {
	SSL *ssl;
	char *rest; /* what is not sent yet; NULL: nothing */
	int len;
	int writing; /* waits for EPOLLOUT */
};

static SSL_CTX *ctx;
static int ep;

static void
control(int op, int fd, uint32_t events, struct conn *c)
{
	struct epoll_event ev = { .events = events, .data.ptr = c };

	if (epoll_ctl(ep, op, fd, &ev) == -1)
		err(1, "epoll_ctl");
}

static void
hang_up(struct conn *c)
{
	close(SSL_get_fd(c->ssl));
	SSL_free(c->ssl);
	free(c->rest);
	free(c);
}

static void
wait_for(struct conn *c, int writing)
{
	if (writing == c->writing)
		return;
	c->writing = writing;
	control(EPOLL_CTL_MOD, SSL_get_fd(c->ssl),
	    writing ? EPOLLOUT : EPOLLIN | EPOLLRDHUP, c);
}

/* What OpenSSL did not do: wait for what it wants, or it is the end. */
static void
stalled(struct conn *c, int rc)
{
	int why = SSL_get_error(c->ssl, rc);

	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		wait_for(c, why == SSL_ERROR_WANT_WRITE);
		return;
	}
	if (why == SSL_ERROR_ZERO_RETURN)
		SSL_shutdown(c->ssl);
	hang_up(c);
}

static void
keep(struct conn *c, const char *data, int len)
{
	c->rest = malloc((size_t)len);
	if (c->rest == NULL)
		err(1, "malloc");
	memcpy(c->rest, data, (size_t)len);
	c->len = len;
}

/* Read a record and answer it.  0, or -1: it waits, or is gone. */
static int
receive(struct conn *c)
{
	int n, sent;

	n = SSL_read(c->ssl, echo_buf, RECORD);
	if (n <= 0) {
		stalled(c, n);
		return -1;
	}
	sent = SSL_write(c->ssl, echo_buf, n);
	if (sent > 0)
		return 0;
	keep(c, echo_buf, n);
	stalled(c, sent);
	return -1;
}

static void
serve(struct conn *c)
{
	int n;

	ERR_clear_error();
	if (!SSL_is_init_finished(c->ssl)) {
		n = SSL_do_handshake(c->ssl);
		if (n != 1) {
			stalled(c, n);
			return;
		}
	} else if (c->rest != NULL) {
		n = SSL_write(c->ssl, c->rest, c->len);
		if (n <= 0) {
			stalled(c, n);
			return;
		}
		free(c->rest);
		c->rest = NULL;
	} else if (receive(c) == -1)
		return;
	while (SSL_has_pending(c->ssl))
		if (receive(c) == -1)
			return;
	wait_for(c, 0);
}

static void
welcome(int listener)
{
	struct conn *c;
	int fd = echo_accept(listener);

	if (fd == -1)
		return;
	c = calloc(1, sizeof(*c));
	if (c == NULL || (c->ssl = SSL_new(ctx)) == NULL ||
	    SSL_set_fd(c->ssl, fd) != 1)
		errx(1, "SSL_new");
	SSL_set_accept_state(c->ssl);
	control(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLRDHUP, c);
}

static void
prepare(const char *certificate)
{
	ctx = SSL_CTX_new(TLS_server_method());
	if (ctx == NULL ||
	    SSL_CTX_use_certificate_chain_file(ctx, certificate) != 1 ||
	    SSL_CTX_use_PrivateKey_file(ctx, certificate, SSL_FILETYPE_PEM) !=
		1)
		errx(1, "%s: no certificate with its key", certificate);
	SSL_CTX_set_mode(ctx, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	if (echo_flag_n)
		return;
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
}

int
main(int argc, char *argv[])
{
	struct epoll_event evs[NEVENTS];
	int i, listener, n;

	if (argc < 3)
		errx(64, "usage: tls_epoll CERTIFICATE [-n] ADDRESS");
	listener = echo_listen(argc - 1, argv + 1);
	prepare(argv[1]);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep == -1)
		err(1, "epoll_create1");
	control(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
	echo_ready();
	for (;;) {
		n = epoll_wait(ep, evs, NEVENTS, -1);
		if (n == -1 && errno != EINTR)
			err(1, "epoll_wait");
		for (i = 0; i < n; i++)
			if (evs[i].data.ptr == NULL)
				welcome(listener);
			else
				serve(evs[i].data.ptr);
	}
}
