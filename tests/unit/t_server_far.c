/* Far ends of streams; t_server_far.h has the contracts. */
#include "t_server_far.h"

#include <sys/socket.h>

#include <openssl/err.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 64 * 1024 };

static unsigned char
byte_at(unsigned mark, uint64_t at)
{
	return (unsigned char)(at ^ at >> 8 ^ at >> 16 ^ mark);
}

void
far_begin(struct far *f, int fd, SSL_CTX *ctx, unsigned mark, unsigned expects)
{
	memset(f, 0, sizeof(*f));
	f->fd = fd;
	f->mark = mark;
	f->expects = expects;
	if (ctx == NULL)
		return;
	f->ssl = SSL_new(ctx);
	if (f->ssl == NULL || SSL_set_fd(f->ssl, fd) != 1) {
		f->broken = true;
		return;
	}
	SSL_set_mode(f->ssl,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_set_connect_state(f->ssl);
}

/* What OpenSSL did not do: either later, or never. */
static void
not_done(struct far *f, int rc)
{
	int err = SSL_get_error(f->ssl, rc);

	if (err == SSL_ERROR_ZERO_RETURN)
		f->ended = true;
	else if (err != SSL_ERROR_WANT_READ && err != SSL_ERROR_WANT_WRITE)
		f->broken = true;
	ERR_clear_error();
}

static size_t
put(struct far *f, const unsigned char *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;
	int rc;

	if (f->ssl != NULL) {
		ERR_clear_error();
		rc = SSL_write_ex(f->ssl, buf, len, &done);
		f->again = rc == 1 ? 0 : len;
		if (rc != 1)
			not_done(f, rc);
		return rc == 1 ? done : 0;
	}
	n = send(f->fd, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == -1 && errno != EAGAIN)
		f->broken = true;
	return n > 0 ? (size_t)n : 0;
}

size_t
far_send(struct far *f, size_t max)
{
	unsigned char buf[MOST];
	size_t n, i;

	if (f->fd == -1 || f->shut || f->broken)
		return 0;
	n = f->again != 0 ? f->again : max < MOST ? max : MOST;
	if (n == 0)
		return 0;
	for (i = 0; i < n; i++)
		buf[i] = byte_at(f->mark, f->sent + i);
	n = put(f, buf, n);
	f->sent += n;
	return n;
}

static size_t
take(struct far *f, unsigned char *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;
	int rc;

	if (f->ssl != NULL) {
		ERR_clear_error();
		rc = SSL_read_ex(f->ssl, buf, len, &done);
		if (rc != 1)
			not_done(f, rc);
		return rc == 1 ? done : 0;
	}
	n = recv(f->fd, buf, len, MSG_DONTWAIT);
	if (n == 0)
		f->ended = true;
	else if (n == -1 && errno != EAGAIN)
		f->broken = true;
	return n > 0 ? (size_t)n : 0;
}

size_t
far_receive(struct far *f, size_t max)
{
	unsigned char buf[MOST];
	size_t n, i;

	if (f->fd == -1 || f->ended || f->broken || max == 0)
		return 0;
	n = take(f, buf, max < MOST ? max : MOST);
	for (i = 0; i < n; i++)
		if (buf[i] != byte_at(f->expects, f->got + i))
			f->wrong = true;
	f->got += n;
	return n;
}

void
far_shut(struct far *f)
{
	if (f->fd == -1 || f->shut || f->broken || f->again != 0)
		return;
	if (f->ssl == NULL) {
		f->shut = true;
		(void)shutdown(f->fd, SHUT_WR);
		return;
	}
	/* In the handshake there is nothing to be shut yet. */
	if (!SSL_is_init_finished(f->ssl))
		return;
	ERR_clear_error();
	/* 0 and 1: it is sent. */
	f->shut = SSL_shutdown(f->ssl) >= 0;
	ERR_clear_error();
}

void
far_end(struct far *f, bool reset)
{
	static const struct linger now = { .l_onoff = 1 };

	if (f->fd == -1)
		return;
	if (reset)
		setsockopt(f->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(f->fd);
	SSL_free(f->ssl);
	f->fd = -1;
	f->ssl = NULL;
}
