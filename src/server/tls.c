/*
 * TLS connections.
 *
 * OpenSSL never sees a socket.  What one recv(2) brought is in the loop's
 * struct tls_room; OpenSSL takes it from there, all of it, and keeps what is
 * not a whole record yet.  What it wants to send gathers in the same place
 * and goes the way of all output, kquay_output_raw(): one send(2), and what
 * the kernel does not take is queued.  So:
 *  1. A request is one recv and one send, as without TLS.
 *  2. OpenSSL never has to wait in order to send, and never has anything left
 *     that was received: whether a connection waits for the kernel does not
 *     depend on TLS.
 *  3. The queue of a connection holds bytes as they are sent; a reset, a full
 *     queue and a slow peer are what they are without TLS.
 *
 * The end: the peer's close_notify is its end of file, and our half stays
 * open.  Without one, the end of the stream is no end but a break, as anybody
 * on the way can cause it (KQUAY_ERROR, ECONNRESET).  When we close, a
 * close_notify is the last that is queued; from then on what comes is thrown
 * away unread.
 *
 * The memory of a handshake is taken when the peer's first byte is there.
 */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* All that one recv brings must find room in the loop's buffer, together with
   the begin of a record that OpenSSL had already. */
_Static_assert(TLSREAD + TLSRECORD + 512 <= READSIZE, "room for what comes");

static int begin(struct kquay_conn *c, struct tls *t);
static int expect_server(struct tls *t);
static int room_of(struct kquay *q);
static ssize_t fill(struct kquay_conn *c, struct tls_room *room);
static void send_out(struct kquay_conn *c);
static int fail(struct tls *t, int err);
static int on_read(BIO *bio, char *buf, int len);
static int on_write(BIO *bio, const char *data, int len);
static long on_ctrl(BIO *bio, int cmd, long num, void *ptr);
static const char *subject_of(struct tls *t, const X509 *cert);
static const char *alpn_of(struct tls *t);

static BIO_METHOD *method;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
make_method(void)
{
	method =
	    BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "kquay");
	if (method == NULL)
		return;
	BIO_meth_set_read(method, on_read);
	BIO_meth_set_write(method, on_write);
	BIO_meth_set_ctrl(method, on_ctrl);
}

static inline struct tls *
tls_of(const struct kquay_conn *c)
{
	return kquay_pool_more(c)->tls;
}

/* The connection of an SSL, as OpenSSL knows it. */
static inline struct kquay_conn *
conn_of(const SSL *ssl)
{
	return SSL_get_app_data(ssl);
}

struct kquay_tls *
kquay_tls_of(const SSL *ssl)
{
	return tls_of(conn_of(ssl))->tls;
}

/* Which server ssl has dialled, for its sessions; "" if it has not. */
void
kquay_tls_server(const SSL *ssl, char *buf, size_t size)
{
	const struct kquay_conn *c = conn_of(ssl);
	const struct tls *t = tls_of(c);
	const void *sa = &c->peer;
	unsigned port = 0;

	if (c->peer.sa.sa_family == AF_INET)
		port = ((const struct sockaddr_in *)sa)->sin_port;
	else if (c->peer.sa.sa_family == AF_INET6)
		port = ((const struct sockaddr_in6 *)sa)->sin6_port;
	if (t->host[0] == '\0')
		buf[0] = '\0';
	else
		snprintf(buf, size, "%s:%u", t->host, port);
}

int
kquay_tls(struct kquay *q, struct kquay_tls *tls)
{
	if (tls != NULL) {
		if (!kquay_tls_serves(tls)) {
			errno = EINVAL;
			return -1;
		}
		if (room_of(q) == -1)
			return -1;
	}
	kquay_tls_hold(tls);
	kquay_tls_free(q->tls);
	q->tls = tls;
	return 0;
}

/* The loop's buffers, once there is a need for them.  0, or -1. */
static int
room_of(struct kquay *q)
{
	pthread_once(&once, make_method);
	if (method == NULL) {
		errno = ENOMEM;
		return -1;
	}
	if (q->tls_room == NULL)
		q->tls_room = calloc(1, sizeof(*q->tls_room));
	return q->tls_room == NULL ? -1 : 0;
}

/*
 * Put TLS before open() of c, which has not come to SHAKE.  As a client host
 * is whom c calls: a name or an address that the server's certificate must be
 * for.  0, or -1 with errno ENOMEM, or EINVAL: nobody to verify.
 */
int
kquay_tls_attach(struct kquay_conn *c, struct kquay_tls *tls, const char *host)
{
	struct tls *t;

	if ((c->flags & C_CLIENT) && (host == NULL || *host == '\0') &&
	    !kquay_tls_trusts(tls)) {
		errno = EINVAL;
		return -1;
	}
	if (host == NULL)
		host = "";
	if (strlen(host) > 255) {
		errno = EINVAL;
		return -1;
	}
	if (room_of(kquay_pool_loop(c)) == -1)
		return -1;
	t = calloc(1, sizeof(*t) + strlen(host) + 1);
	if (t == NULL)
		return -1;
	strcpy(t->host, host);
	if (*host != '\0' && host[strlen(host) - 1] == '.')
		t->host[strlen(host) - 1] = '\0';
	t->tls = kquay_tls_hold(tls);
	kquay_pool_more(c)->tls = t;
	c->flags |= C_TLS;
	return 0;
}

/*
 * Go on with the handshake: 1 it is done, 0 wait for input, -1 with errno.
 * What came behind it waits for kquay_tls_take(), to be called at once.
 */
int
kquay_tls_shake(struct kquay_conn *c)
{
	struct tls_room *room = kquay_pool_loop(c)->tls_room;
	struct tls *t = tls_of(c);
	ssize_t n;
	int rc, err;

	room->pos = room->len = 0;
	if (t->ssl != NULL || !(c->flags & C_CLIENT)) {
		n = fill(c, room);
		if (n == -1)
			return -1;
		if (n == 0)
			return fail(t, ECONNRESET);
	}
	if (t->ssl == NULL && begin(c, t) == -1) {
		/* What has come is lost: to wait for memory is of no use. */
		kquay_conn_end(c, KQUAY_ERROR, ENOMEM);
		return 0;
	}
	ERR_clear_error();
	rc = SSL_do_handshake(t->ssl);
	if (rc == 1) {
		send_out(c);
		return 1;
	}
	err = SSL_get_error(t->ssl, rc);
	if (err != SSL_ERROR_WANT_READ)
		fail(t, EPROTO);
	send_out(c); /* an alert says why, if it still can */
	if (err == SSL_ERROR_WANT_READ)
		return 0;
	errno = t->err;
	return -1;
}

/* Make the SSL. */
static int
begin(struct kquay_conn *c, struct tls *t)
{
	const struct policy *p;
	BIO *bio;

	t->ssl = kquay_tls_ssl(t->tls, (c->flags & C_CLIENT) != 0);
	bio = BIO_new(method);
	if (t->ssl == NULL || bio == NULL || !SSL_set_app_data(t->ssl, c)) {
		SSL_free(t->ssl);
		BIO_free(bio);
		t->ssl = NULL;
		return -1;
	}
	BIO_set_data(bio, c);
	BIO_set_init(bio, 1);
	SSL_set_bio(t->ssl, bio, bio);
	if (c->flags & C_CLIENT) {
		SSL_set_connect_state(t->ssl);
		return expect_server(t);
	}
	p = kquay_tls_policy(t->ssl);
	SSL_set_accept_state(t->ssl);
	SSL_set_verify(t->ssl, p->verify, NULL);
	return 0;
}

/* Say whom we call, and let nobody else be there. */
static int
expect_server(struct tls *t)
{
	const struct policy *p = kquay_tls_policy(t->ssl);
	X509_VERIFY_PARAM *param = SSL_get0_param(t->ssl);
	unsigned char ip[16];
	int rc = 1, address;

	address = inet_pton(AF_INET, t->host, ip) == 1 ||
	    inet_pton(AF_INET6, t->host, ip) == 1;
	if (t->host[0] != '\0' && !address)
		rc = SSL_set_tlsext_host_name(t->ssl, t->host) == 1;
	if (!(p->flags & KQUAY_TLS_ANYBODY)) {
		SSL_set_verify(t->ssl, SSL_VERIFY_PEER, NULL);
		X509_VERIFY_PARAM_set_hostflags(param,
		    X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
		rc &= address ?
		    X509_VERIFY_PARAM_set1_ip_asc(param, t->host) == 1 :
		    X509_VERIFY_PARAM_set1_host(param, t->host, 0) == 1;
	} else
		SSL_set_verify(t->ssl, SSL_VERIFY_NONE, NULL);
	kquay_resume_offer(t->tls, t->ssl);
	return rc == 1 ? 0 : -1;
}

/* recv(2) into the room.  As that. */
static ssize_t
fill(struct kquay_conn *c, struct tls_room *room)
{
	ssize_t n;

	room->pos = room->len = 0;
	n = kquay_input_raw(c, room->in, sizeof(room->in));
	if (n > 0) {
		room->len = (size_t)n;
		c->active = kquay_pool_loop(c)->tick;
	}
	return n;
}

/* As recv(2), of what the peer has encrypted; sets C_EOF behind the last. */
ssize_t
kquay_tls_receive(struct kquay_conn *c, char *buf, size_t size)
{
	struct tls *t = tls_of(c);
	ssize_t n;

	n = fill(c, kquay_pool_loop(c)->tls_room);
	if (n == -1)
		return -1;
	if (n == 0) {
		t->ended = 1;
		t->err = ECONNRESET;
		return 0;
	}
	return kquay_tls_take(c, buf, size);
}

/* Decrypt what has been received: as kquay_tls_receive(). */
ssize_t
kquay_tls_take(struct kquay_conn *c, char *buf, size_t size)
{
	struct tls *t = tls_of(c);
	size_t got = 0;
	int n, err;

	while (!t->ended && got < size) {
		ERR_clear_error();
		n = SSL_read(t->ssl, buf + got, (int)(size - got));
		if (n > 0) {
			got += (size_t)n;
			continue;
		}
		err = SSL_get_error(t->ssl, n);
		if (err == SSL_ERROR_WANT_READ)
			break;
		t->ended = 1;
		if (err != SSL_ERROR_ZERO_RETURN)
			fail(t, EPROTO);
	}
	/* Who asks and does not take the answers is not read from. */
	send_out(c);
	(void)kquay_output_limit(c);
	if (t->ended)
		c->flags |= C_EOF;
	if (got > 0 || t->ended)
		return (ssize_t)got;
	errno = EAGAIN;
	return -1;
}

/* The errno with which the input of c has ended; 0: as it should. */
int
kquay_tls_broken(const struct kquay_conn *c)
{
	return tls_of(c)->err;
}

/* What went wrong, in words; NULL if errno says all. */
const char *
kquay_tls_reason(const struct kquay_conn *c)
{
	return tls_of(c)->reason;
}

/*
 * Encrypt and send, or queue.  0, or -1 with errno, and c has ended.
 */
int
kquay_tls_send(struct kquay_conn *c, const char *data, size_t len)
{
	struct tls *t = tls_of(c);
	size_t n;

	for (; len > 0; data += n, len -= n) {
		n = len < CORKSIZE ? len : CORKSIZE;
		ERR_clear_error();
		if (t->broken || SSL_write(t->ssl, data, (int)n) != (int)n) {
			fail(t, EPROTO);
			kquay_conn_end(c, KQUAY_ERROR, t->err);
			errno = t->err;
			return -1;
		}
		send_out(c);
		if (c->state == CONN_DEAD) {
			errno = (int)kquay_pool_more(c)->err;
			return -1;
		}
		if (kquay_output_limit(c) == -1)
			return -1;
	}
	return 0;
}

/* Our last: the close_notify. */
void
kquay_tls_shutdown(struct kquay_conn *c)
{
	struct tls *t = tls_of(c);

	if (t->ssl == NULL || t->broken || !SSL_is_init_finished(t->ssl) ||
	    (SSL_get_shutdown(t->ssl) & SSL_SENT_SHUTDOWN))
		return;
	ERR_clear_error();
	if (SSL_shutdown(t->ssl) < 0)
		t->broken = 1;
	send_out(c);
}

/* Give up c's TLS. */
void
kquay_tls_drop(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);
	struct tls *t = more->tls;

	SSL_free(t->ssl);
	kquay_tls_free(t->tls);
	free(t->subject);
	free(t);
	more->tls = NULL;
	c->flags &= ~C_TLS;
}

/* Send what OpenSSL has made. */
static void
send_out(struct kquay_conn *c)
{
	struct tls_room *room = kquay_pool_loop(c)->tls_room;
	size_t len = room->outlen;

	room->outlen = 0;
	if (len > 0)
		(void)kquay_output_raw(c, room->out, len);
}

/* OpenSSL says no: note why.  Always -1, with errno. */
static int
fail(struct tls *t, int err)
{
	unsigned long code = ERR_peek_error();
	long verified;

	t->ended = t->broken = 1;
	if (t->err == 0)
		t->err = err;
	if (t->ssl != NULL && t->reason == NULL) {
		verified = SSL_get_verify_result(t->ssl);
		if (verified != X509_V_OK &&
		    ERR_GET_REASON(code) == SSL_R_CERTIFICATE_VERIFY_FAILED) {
			t->err = EACCES;
			t->reason = X509_verify_cert_error_string(verified);
		} else
			t->reason = ERR_reason_error_string(code);
	}
	ERR_clear_error();
	errno = t->err;
	return -1;
}

/* -- what OpenSSL takes for a socket --------------------------------------- */

static int
on_read(BIO *bio, char *buf, int len)
{
	struct tls_room *room = kquay_pool_loop(BIO_get_data(bio))->tls_room;
	size_t n = room->len - room->pos;

	BIO_clear_retry_flags(bio);
	if (n == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	if ((size_t)len < n)
		n = (size_t)len;
	memcpy(buf, room->in + room->pos, n);
	room->pos += n;
	return (int)n;
}

static int
on_write(BIO *bio, const char *data, int len)
{
	struct kquay_conn *c = BIO_get_data(bio);
	struct tls_room *room = kquay_pool_loop(c)->tls_room;

	BIO_clear_retry_flags(bio);
	if ((size_t)len > sizeof(room->out) - room->outlen)
		send_out(c);
	if ((size_t)len > sizeof(room->out)) {
		(void)kquay_output_raw(c, data, (size_t)len);
		return len;
	}
	memcpy(room->out + room->outlen, data, (size_t)len);
	room->outlen += (size_t)len;
	return len;
}

static long
on_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH;
}

/* -- what is known of a connection
 * --------------------------------------------- */

int
kquay_tlsinfo(struct kquay_conn *c, struct kquay_tlsinfo *info)
{
	const X509 *cert;
	struct tls *t;

	memset(info, 0, sizeof(*info));
	if (!(c->flags & C_TLS)) {
		errno = EINVAL;
		return -1;
	}
	t = tls_of(c);
	info->error = t->reason;
	if (t->ssl == NULL)
		return 0;
	info->servername =
	    SSL_get_servername(t->ssl, TLSEXT_NAMETYPE_host_name);
	if (!SSL_is_init_finished(t->ssl))
		return 0;
	info->version = SSL_get_version(t->ssl);
	info->cipher = SSL_get_cipher_name(t->ssl);
	info->alpn = alpn_of(t);
	info->resumed = SSL_session_reused(t->ssl);
	cert = SSL_get0_peer_certificate(t->ssl);
	if (cert == NULL)
		return 0;
	info->subject = subject_of(t, cert);
	info->verified = SSL_get_verify_mode(t->ssl) != SSL_VERIFY_NONE &&
	    SSL_get_verify_result(t->ssl) == X509_V_OK;
	return 0;
}

/* "CN=alice,O=Example" (RFC 4514); NULL without memory. */
static const char *
subject_of(struct tls *t, const X509 *cert)
{
	char *text;
	long len;
	BIO *mem;

	if (t->subject != NULL || (mem = BIO_new(BIO_s_mem())) == NULL)
		return t->subject;
	if (X509_NAME_print_ex(mem, X509_get_subject_name(cert), 0,
		XN_FLAG_RFC2253 & ~(unsigned long)ASN1_STRFLGS_ESC_MSB) >= 0) {
		len = BIO_get_mem_data(mem, &text);
		t->subject = strndup(text, (size_t)len);
	}
	BIO_free(mem);
	ERR_clear_error();
	return t->subject;
}

static const char *
alpn_of(struct tls *t)
{
	const unsigned char *name;
	unsigned len;

	SSL_get0_alpn_selected(t->ssl, &name, &len);
	if (len == 0)
		return NULL;
	memcpy(t->alpn, name, len);
	t->alpn[len] = '\0';
	return t->alpn;
}
