/*
 * The PROXY protocol, as the first thing on a connection: read from a proxy
 * whose listener asks for it, sent to a server that was dialled with it.
 *
 * In what the kernel holds the end of the header is looked for first (peek),
 * and then no byte more than the header is taken: whatever comes next, TLS or
 * a splice, finds the stream at its true begin.  What is there of a header
 * that is not complete is taken at once, or the descriptor would stay
 * readable and the loop would turn for nothing.
 *
 * The header stays with the connection (more->header), as it came, and is
 * read again when somebody asks.
 */
#include "server.h"
#include "proxy_header.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t take(struct kquay_conn *c, char *buf, size_t size, int peek);
static int add(struct kquay_conn *c, const char *buf, size_t len);
static int failed(struct kquay_conn *c, ssize_t n);
static int known(struct kquay_conn *c, const struct proxy *p);
static void turn_away(struct kquay_conn *c, int err);
static uint32_t number(const char *p);
static void write1(struct proxy_out *o, const struct kquay_conn *client);
static void write2(struct proxy_out *o, const struct kquay_conn *client);
static void ends_of(const struct kquay_conn *c, union proxy_addr *src,
    union proxy_addr *dst);
static void put_cred(struct proxy_out *o, const struct kquay_conn *client);
static int put_tls(struct proxy_out *o, const struct kquay_conn *client);
static void put_text(struct proxy_out *o, int type, const char *text);
static size_t common_name(const char *subject, char *name, size_t size);
static void put_told(struct proxy_out *o, const struct kquay_conn *client,
    int tls);

void
kquay_proxy(struct kquay *q, int on)
{
	if (on)
		q->layers |= C_PROXY;
	else
		q->layers &= ~(unsigned)C_PROXY;
}

/*
 * SHAKE with C_PROXY, and input may be there.  1 once the header is read, and
 * then C_PROXY is off; else 0, and c waits for more or has ended.
 */
int
kquay_proxy_read_header(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	struct more *more = kquay_pool_more(c);
	size_t had, want;
	struct proxy p;
	ssize_t n, whole;

	for (;;) {
		had = more->header == NULL ? 0 : more->header->len;
		if (had > 0)
			memcpy(q->inbuf, more->header->data, had);
		n = take(c, q->inbuf + had, PROXY_MAX - had, 1);
		if (n <= 0)
			return failed(c, n);
		whole = kquay_proxy_read(q->inbuf, had + (size_t)n, &p);
		if (whole == -1) {
			kquay_conn_end(c, KQUAY_ERROR, EPROTO);
			return 0;
		}
		want = whole == 0 ? (size_t)n : (size_t)whole - had;
		/* The kernel might give less than it has shown. */
		n = take(c, q->inbuf + had, want, 0);
		if (n <= 0)
			return failed(c, n);
		kquay_pool_got(q, c, n);
		if (add(c, q->inbuf + had, (size_t)n) == -1) {
			kquay_conn_end(c, KQUAY_ERROR, ENOMEM);
			return 0;
		}
		if (whole != 0 && (size_t)n == want)
			return known(c, &p);
	}
}

/* Take or peek at input, beneath every layer. */
static ssize_t
take(struct kquay_conn *c, char *buf, size_t size, int peek)
{
	const struct kquay_sys *sys = &kquay_pool_loop(c)->sys;
	ssize_t n;

	do {
		if (peek && sys->peek != NULL)
			n = sys->peek(c->fd, buf, size);
		else if (!peek && sys->read != NULL)
			n = sys->read(c->fd, buf, size);
		else
			n = recv(c->fd, buf, size, peek ? MSG_PEEK : 0);
	} while (n == -1 && errno == EINTR);
	return n;
}

/* What take() has said is no more input.  0. */
static int
failed(struct kquay_conn *c, ssize_t n)
{
	if (n == 0)
		kquay_conn_end(c, KQUAY_EOF, 0);
	else if (errno == ENOBUFS || errno == ENOMEM)
		kquay_conn_starve(c);
	else if (errno != EAGAIN)
		kquay_conn_end(c, KQUAY_ERROR, errno);
	return 0;
}

/* Append to the header.  0, or -1 without memory. */
static int
add(struct kquay_conn *c, const char *buf, size_t len)
{
	struct more *more = kquay_pool_more(c);
	size_t had = more->header == NULL ? 0 : more->header->len;
	struct kept *header;

	header = realloc(more->header, sizeof(*header) + had + len);
	if (header == NULL)
		return -1;
	memcpy(header->data + had, buf, len);
	header->len = header->size = (uint32_t)(had + len);
	more->header = header;
	return 0;
}

/* c knows now who its peer is.  0 if that is not let in. */
static int
known(struct kquay_conn *c, const struct proxy *p)
{
	struct kquay *q = kquay_pool_loop(c);
	int err;

	c->flags &= ~C_PROXY;
	switch (p->src.sa.sa_family) {
	case AF_INET:
		c->peer.in4 = p->src.in4;
		break;
	case AF_INET6:
		c->peer.in6 = p->src.in6;
		break;
	case AF_UNIX:
		c->peer.sa.sa_family = AF_UNIX;
	}
	if (kquay_pool_crowded(q, &c->peer.sa) ||
	    kquay_pool_count(c, q->conf.maxperaddr) == -1)
		err = EUSERS;
	else
		err = kquay_listen_ask(c);
	if (err != 0)
		turn_away(c, err);
	return c->state != CONN_DEAD;
}

/* As one that is not accepted for the same reason; in TLS there is no word. */
static void
turn_away(struct kquay_conn *c, int err)
{
	struct kquay *q = kquay_pool_loop(c);

	if (c->state == CONN_DEAD)
		return;
	if (q->refusal_len > 0 && !(c->flags & C_TLS) &&
	    kquay_output_raw(c, q->refusal, q->refusal_len) == 0) {
		/* Unread input would turn the close into a reset. */
		(void)shutdown(c->fd, SHUT_WR);
		(void)kquay_input_waste(c);
	}
	kquay_conn_end(c, KQUAY_ERROR, err);
}

void
kquay_proxy_drop(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);

	if (more->header == NULL)
		return;
	free(more->header);
	more->header = NULL;
}

/* -- what a header has told ------------------------------------------------ */

/* Whether c has a header that says who the client is; *p is what it says. */
int
kquay_proxy_told(const struct kquay_conn *c, struct proxy *p)
{
	const struct kept *header = kquay_pool_more(c)->header;

	return header != NULL && !(c->flags & (C_PROXY | C_CLIENT)) &&
	    kquay_proxy_read(header->data, header->len, p) > 0 &&
	    p->src.sa.sa_family != AF_UNSPEC;
}

const void *
kquay_proxytlv(const struct kquay_conn *c, int type, size_t *len)
{
	const struct kept *header = kquay_pool_more(c)->header;
	struct proxy p;

	if (header == NULL || (c->flags & (C_PROXY | C_CLIENT)) ||
	    kquay_proxy_read(header->data, header->len, &p) <= 0)
		return NULL;
	return kquay_proxy_tlv(p.tlvs, p.tlvslen, type, len);
}

/* As kquay_peercred(), of a client that *p tells of. */
int
kquay_proxy_cred(const struct proxy *p, uid_t *uid, gid_t *gid, pid_t *pid)
{
	const char *cred;
	size_t len;

	cred = kquay_proxy_tlv(p->tlvs, p->tlvslen, KQUAY_TLV_CRED, &len);
	if (cred == NULL) {
		errno = EOPNOTSUPP;
		return -1;
	}
	*uid = (uid_t)number(cred);
	*gid = (gid_t)number(cred + 4);
	*pid = (pid_t)number(cred + 8);
	return 0;
}

static uint32_t
number(const char *p)
{
	uint32_t n;

	memcpy(&n, p, sizeof(n));
	return ntohl(n);
}

/* -- sent ------------------------------------------------------------------ */

/*
 * Make the header that c, which is about to dial, will begin with: of this
 * version, about client, or about nobody if that is NULL.  0, or -1 with
 * errno ENOMEM.
 */
int
kquay_proxy_prepare(struct kquay_conn *c, int version,
    const struct kquay_conn *client)
{
	char buf[PROXY_MAX];
	struct proxy_out o = { .buf = buf, .size = sizeof(buf) };

	if (version == 1)
		write1(&o, client);
	else
		write2(&o, client);
	if (add(c, buf, o.len) == -1) {
		errno = ENOMEM;
		return -1;
	}
	c->flags |= C_PROXY;
	return 0;
}

/* c is connected: send the header.  1, or 0 and c has ended. */
int
kquay_proxy_send_header(struct kquay_conn *c)
{
	const struct kept *header = kquay_pool_more(c)->header;
	int rc;

	c->flags &= ~C_PROXY;
	rc = kquay_output_raw(c, header->data, header->len);
	kquay_proxy_drop(c);
	return rc == 0;
}

static void
write1(struct proxy_out *o, const struct kquay_conn *client)
{
	union proxy_addr src, dst;

	if (client == NULL)
		kquay_proxy_write1(o, NULL, NULL);
	else {
		ends_of(client, &src, &dst);
		kquay_proxy_write1(o, &src.sa, &dst.sa);
	}
}

static void
write2(struct proxy_out *o, const struct kquay_conn *client)
{
	union proxy_addr src, dst;

	if (client == NULL) {
		kquay_proxy_begin(o, NULL, NULL);
		kquay_proxy_end(o);
		return;
	}
	ends_of(client, &src, &dst);
	kquay_proxy_begin(o, &src.sa, &dst.sa);
	put_cred(o, client);
	put_told(o, client, put_tls(o, client));
	kquay_proxy_end(o);
}

/* The addresses of a connection that was accepted. */
static void
ends_of(const struct kquay_conn *c, union proxy_addr *src,
    union proxy_addr *dst)
{
	struct sockaddr_storage ss;
	struct proxy p;

	memset(src, 0, sizeof(*src));
	memset(dst, 0, sizeof(*dst));
	if (kquay_proxy_told(c, &p)) {
		*src = p.src;
		*dst = p.dst;
		return;
	}
	memcpy(src, &c->peer, sizeof(c->peer));
	if (kquay_localaddr(c, &ss) > 0)
		memcpy(dst, &ss, sizeof(*dst));
}

static void
put_cred(struct proxy_out *o, const struct kquay_conn *client)
{
	uint32_t cred[PROXY_CRED_LEN / sizeof(uint32_t)];
	uid_t uid;
	gid_t gid;
	pid_t pid;

	if (kquay_peercred(client, &uid, &gid, &pid) == -1)
		return;
	cred[0] = htonl((uint32_t)uid);
	cred[1] = htonl((uint32_t)gid);
	cred[2] = htonl((uint32_t)pid);
	kquay_proxy_put(o, KQUAY_TLV_CRED, cred, sizeof(cred));
}

/* How the client speaks TLS to us.  0 if it does not. */
static int
put_tls(struct proxy_out *o, const struct kquay_conn *client)
{
	enum { SSL = 1, CERT_CONN = 2, CERT_SESS = 4 };
	struct kquay *q = kquay_pool_loop(client);
	struct kquay_tlsinfo info;
	char cn[256];
	size_t ssl;
	int flags = SSL;

	if (kquay_tlsinfo(kquay_pool_at(q, kquay_pool_link(client)), &info) ==
		-1 ||
	    info.version == NULL)
		return 0;
	put_text(o, KQUAY_TLV_ALPN, info.alpn);
	put_text(o, KQUAY_TLV_AUTHORITY, info.servername);
	if (info.subject != NULL)
		flags |= info.resumed ? CERT_SESS : CERT_SESS | CERT_CONN;
	ssl = kquay_proxy_begin_ssl(o, flags,
	    info.subject != NULL && !info.verified);
	put_text(o, KQUAY_TLV_SSL_VERSION, info.version);
	put_text(o, KQUAY_TLV_SSL_CIPHER, info.cipher);
	if (info.subject != NULL)
		kquay_proxy_put(o, KQUAY_TLV_SSL_CN, cn,
		    common_name(info.subject, cn, sizeof(cn)));
	kquay_proxy_end_ssl(o, ssl);
	return 1;
}

static void
put_text(struct proxy_out *o, int type, const char *text)
{
	if (text != NULL)
		kquay_proxy_put(o, type, text, strlen(text));
}

/* The first CN of "CN=alice,O=Example" (RFC 4514); its length. */
static size_t
common_name(const char *subject, char *name, size_t size)
{
	const char *p = subject;
	size_t n = 0;
	char hex[3] = "";

	while (strncmp(p, "CN=", 3) != 0) {
		for (; *p != '\0' && *p != ',' && *p != '+'; p++)
			if (p[0] == '\\' && p[1] != '\0')
				p++;
		if (*p++ == '\0')
			return 0;
	}
	for (p += 3; *p != '\0' && *p != ',' && *p != '+' && n < size; p++) {
		if (p[0] == '\\' && isxdigit((unsigned char)p[1]) &&
		    isxdigit((unsigned char)p[2])) {
			memcpy(hex, p + 1, 2);
			name[n++] = (char)strtol(hex, NULL, 16);
			p += 2;
		} else {
			if (p[0] == '\\' && p[1] != '\0')
				p++;
			name[n++] = *p;
		}
	}
	return n;
}

/* What a proxy before us has told of the client is passed on. */
static void
put_told(struct proxy_out *o, const struct kquay_conn *client, int tls)
{
	static const int types[] = { KQUAY_TLV_UNIQUE_ID, KQUAY_TLV_NETNS,
		/* unless we know better: */
		KQUAY_TLV_ALPN, KQUAY_TLV_AUTHORITY, KQUAY_TLV_SSL };
	size_t i, n = tls ? 2 : sizeof(types) / sizeof(types[0]), len;
	const void *value;

	for (i = 0; i < n; i++) {
		value = kquay_proxytlv(client, types[i], &len);
		if (value != NULL)
			kquay_proxy_put(o, types[i], value, len);
	}
}
