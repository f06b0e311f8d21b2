/*
 * Output.  What a callback writes gathers in the cork, a buffer that the
 * whole loop shares, and goes out in one send(2) when the callback returns,
 * when another connection is written to, or when the cork is full.  What the
 * kernel does not take goes to the connection's own queue, and only then is
 * there an EVFILT_WRITE.
 *
 * Order: what is in the queue is older than what is in the cork.  So a
 * connection with a queue never has the cork, except under TLS: the queue
 * holds what is encrypted already, and a record for each little write would
 * be dear.
 */
#include "server.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { CHUNKMIN = 4096, CHUNKMAX = 64 * 1024 };

static ssize_t transmit(struct kquay_conn *c, const char *data, size_t len);
static void drop_head(struct chunk **ring);
static int write_behind(struct kquay_conn *c, const char *data, size_t len);
static int queue(struct kquay_conn *c, const char *data, size_t len);
static int write_early(struct kquay_conn *c, const char *data, size_t len);
static int overflow(struct kquay_conn *c, enum kquay_why why, int err);
static int append(struct chunk **ring, uint32_t *total, const char *data,
    size_t len);
static struct chunk *chunk_new(size_t len, size_t queued);

/* Put into the cork, where there is room for it. */
static inline void
cork(struct kquay *q, struct kquay_conn *c, const char *data, size_t len)
{
	if (q->corked != c)
		q->corklen = 0;
	q->corked = c;
	memcpy(q->cork + q->corklen, data, len);
	q->corklen += (uint32_t)len;
}

int
kquay_write(struct kquay_conn *c, const void *data, size_t len)
{
	struct kquay *q = kquay_pool_loop(c);
	const char *p = data;
	ssize_t n;

	if ((c->state != CONN_OPEN && c->state != CONN_HALF) ||
	    (c->flags & C_FINISHED))
		return write_early(c, p, len);
	if (len > q->conf.outmax) {
		errno = EMSGSIZE;
		return -1;
	}
	if (len == 0)
		return 0;
	if (q->corked != c)
		kquay_output_uncork(q);
	else if (len > CORKSIZE - q->corklen) {
		kquay_output_uncork(q);
		if (c->state == CONN_DEAD) {
			errno = (int)kquay_pool_more(c)->err;
			return -1;
		}
	}
	if (c->flags & (C_QUEUED | C_TLS))
		return write_behind(c, p, len);
	if (q->corked == c || len < CORKSIZE) {
		cork(q, c, p, len);
		return 0;
	}
	n = transmit(c, p, len);
	if (n == -1)
		return -1;
	return (size_t)n == len ? 0 : queue(c, p + n, len - (size_t)n);
}

int
kquay_puts(struct kquay_conn *c, const char *s)
{
	return kquay_write(c, s, strlen(s));
}

int
kquay_printf(struct kquay_conn *c, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = kquay_vprintf(c, fmt, ap);
	va_end(ap);
	return rc;
}

int
kquay_vprintf(struct kquay_conn *c, const char *fmt, va_list ap)
{
	char small[1024], *text = small;
	va_list again;
	int n, rc;

	va_copy(again, ap);
	n = vsnprintf(small, sizeof(small), fmt, ap);
	if (n >= (int)sizeof(small)) {
		text = malloc((size_t)n + 1);
		if (text != NULL)
			n = vsnprintf(text, (size_t)n + 1, fmt, again);
	}
	va_end(again);
	if (n < 0 || text == NULL)
		return -1;
	rc = kquay_write(c, text, (size_t)n);
	if (text != small)
		free(text);
	return rc;
}

size_t
kquay_pending(const struct kquay_conn *c)
{
	const struct kquay *q = kquay_pool_loop(c);

	return (c->flags & C_QUEUED ? kquay_pool_more(c)->outlen : 0) +
	    (c->flags & C_EARLY ? kquay_pool_more(c)->earlylen : 0) +
	    (q->corked == c ? q->corklen : 0);
}

int
kquay_finish(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);

	if (c->state == CONN_DIAL || c->state == CONN_SHAKE) {
		errno = ENOTCONN;
		return -1;
	}
	if (c->state != CONN_OPEN && c->state != CONN_HALF) {
		errno = EPIPE;
		return -1;
	}
	if (!(c->flags & C_SOCKET)) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (q->corked == c)
		kquay_output_uncork(q);
	if (c->state != CONN_DEAD && !(c->flags & C_FINISHED)) {
		c->flags |= C_FINISHED;
		if (c->flags & C_TLS)
			kquay_tls_shutdown(c);
		else if (!(c->flags & C_QUEUED))
			(void)shutdown(c->fd, SHUT_WR);
	}
	if (c->state != CONN_DEAD)
		return 0;
	errno = (int)kquay_pool_more(c)->err;
	return -1;
}

/* Send what is in the cork. */
void
kquay_output_uncork(struct kquay *q)
{
	struct kquay_conn *c = q->corked;
	ssize_t n;

	if (c == NULL)
		return;
	q->corked = NULL;
	if (c->flags & C_TLS) {
		(void)kquay_tls_send(c, q->cork, q->corklen);
		return;
	}
	n = transmit(c, q->cork, q->corklen);
	if (n != -1 && (size_t)n < q->corklen)
		queue(c, q->cork + n, q->corklen - (size_t)n);
}

/* Send what is in c's queue, as far as the kernel takes it. */
void
kquay_output_flush(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);
	struct chunk *head;
	size_t len;
	ssize_t n;

	while (c->flags & C_QUEUED) {
		head = more->out->next;
		len = head->len - head->off;
		n = transmit(c, head->data + head->off, len);
		if (n == -1)
			return;
		more->outlen -= (uint32_t)n;
		if ((size_t)n < len) {
			head->off += (uint32_t)n;
			return;
		}
		drop_head(&more->out);
		if (more->out != NULL)
			continue;
		c->flags &= ~C_QUEUED;
		/* TLS has its own farewell, which was in the queue. */
		if ((c->flags & (C_FINISHED | C_TLS)) == C_FINISHED)
			(void)shutdown(c->fd, SHUT_WR);
	}
}

/*
 * Send bytes that are not the service's, as they are and after all that is
 * queued; no limit holds for them.  0, or -1 with errno, and c has ended.
 */
int
kquay_output_raw(struct kquay_conn *c, const void *data, size_t len)
{
	struct more *more = kquay_pool_more(c);
	ssize_t n = 0;

	if (!(c->flags & C_QUEUED)) {
		n = transmit(c, data, len);
		if (n == -1)
			return -1;
		if ((size_t)n == len)
			return 0;
	}
	if (append(&more->out, &more->outlen, (const char *)data + n,
		len - (size_t)n) == -1)
		return overflow(c, KQUAY_ERROR, ENOMEM);
	c->flags |= C_QUEUED;
	kquay_conn_interest(c);
	return 0;
}

/*
 * After output that was queued whatever the limits: hold to them.  0, or -1
 * with errno, and c has ended.
 */
int
kquay_output_limit(struct kquay_conn *c)
{
	const struct kquay *q = kquay_pool_loop(c);
	const struct more *more = kquay_pool_more(c);

	/* Of a spliced one the sender is held back instead. */
	if (!(c->flags & C_QUEUED) || c->state == CONN_SPLICE)
		return 0;
	if (more->outlen > q->conf.outmax)
		return overflow(c, KQUAY_SLOW, ENOBUFS);
	if (more->outlen > q->conf.outhi && !(c->flags & C_CHOKED)) {
		c->flags |= C_CHOKED;
		kquay_conn_interest(c);
	}
	return 0;
}

/* c is open now: write what was written before, as far as c lives on. */
void
kquay_output_early(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);
	struct chunk *ring = more->early, *head;

	more->early = NULL;
	more->earlylen = 0;
	c->flags &= ~C_EARLY;
	while (ring != NULL) {
		head = ring->next;
		(void)kquay_write(c, head->data, head->len);
		drop_head(&ring);
	}
}

void
kquay_output_drop(struct kquay_conn *c)
{
	struct more *more;

	if (!(c->flags & (C_QUEUED | C_EARLY)))
		return;
	more = kquay_pool_more(c);
	while (more->out != NULL)
		drop_head(&more->out);
	while (more->early != NULL)
		drop_head(&more->early);
	more->outlen = more->earlylen = 0;
	c->flags &= ~(C_QUEUED | C_EARLY);
}

/* Free the oldest chunk of a ring. */
static void
drop_head(struct chunk **ring)
{
	struct chunk *head = (*ring)->next;

	if (head != *ring)
		(*ring)->next = head->next;
	else
		*ring = NULL;
	free(head);
}

/*
 * Send.  The number of bytes that the kernel took, 0 if it takes none now;
 * -1 with errno, and c has ended.
 */
static ssize_t
transmit(struct kquay_conn *c, const char *data, size_t len)
{
	struct kquay *q = kquay_pool_loop(c);
	ssize_t n;

	do {
		if (q->sys.write != NULL)
			n = q->sys.write(c->fd, data, len);
		else if (c->flags & C_SOCKET)
			n = send(c->fd, data, len, MSG_NOSIGNAL);
		else
			n = write(c->fd, data, len);
	} while (n == -1 && errno == EINTR);
	if (n > 0) {
		c->flags |= C_SENT;
		c->active = q->tick;
		kquay_pool_sent(q, c, n);
		return n;
	}
	switch (n == 0 ? EAGAIN : errno) {
	case ENOBUFS:
	case ENOMEM:
		kquay_conn_starve(c);
		return 0;
	case EAGAIN:
		return 0;
	default:
		kquay_conn_end(c, KQUAY_ERROR, errno);
		return -1;
	}
}

/* Write where there is a queue, or TLS. */
static int
write_behind(struct kquay_conn *c, const char *data, size_t len)
{
	struct kquay *q = kquay_pool_loop(c);

	if (!(c->flags & C_TLS))
		return queue(c, data, len);
	if ((c->flags & C_QUEUED) && kquay_pending(c) + len > q->conf.outmax)
		return overflow(c, KQUAY_SLOW, ENOBUFS);
	if (q->corked != c && len >= CORKSIZE)
		return kquay_tls_send(c, data, len);
	cork(q, c, data, len);
	return 0;
}

/*
 * Queue what the kernel did not take.  0, or -1 with errno, and c has ended.
 */
static int
queue(struct kquay_conn *c, const char *data, size_t len)
{
	const struct kquay *q = kquay_pool_loop(c);
	struct more *more = kquay_pool_more(c);

	if ((uint64_t)more->outlen + len > q->conf.outmax)
		return overflow(c, KQUAY_SLOW, ENOBUFS);
	if (append(&more->out, &more->outlen, data, len) == -1)
		return overflow(c, KQUAY_ERROR, ENOMEM);
	c->flags |= C_QUEUED;
	if (more->outlen > q->conf.outhi)
		c->flags |= C_CHOKED;
	kquay_conn_interest(c);
	return 0;
}

/* Keep what is written before open(). */
static int
write_early(struct kquay_conn *c, const char *data, size_t len)
{
	const struct kquay *q = kquay_pool_loop(c);
	struct more *more = kquay_pool_more(c);

	if (c->state != CONN_DIAL && c->state != CONN_SHAKE) {
		errno = EPIPE;
		return -1;
	}
	if (len > q->conf.outmax) {
		errno = EMSGSIZE;
		return -1;
	}
	if (len == 0)
		return 0;
	if (len > q->conf.outmax - more->earlylen)
		return overflow(c, KQUAY_SLOW, ENOBUFS);
	if (append(&more->early, &more->earlylen, data, len) == -1)
		return overflow(c, KQUAY_ERROR, ENOMEM);
	c->flags |= C_EARLY;
	return 0;
}

/* What was to be sent cannot even be kept. */
static int
overflow(struct kquay_conn *c, enum kquay_why why, int err)
{
	c->flags |= C_RESET;
	kquay_conn_end(c, why, err);
	errno = err;
	return -1;
}

/*
 * Append to a ring that holds *total bytes.  All of it or nothing: 0, or -1
 * without memory.
 */
static int
append(struct chunk **ring, uint32_t *total, const char *data, size_t len)
{
	struct chunk *tail = *ring, *fresh = NULL;
	size_t room, n;

	room = tail == NULL ? 0 : tail->size - tail->len;
	if (room < len) {
		fresh = chunk_new(len - room, *total);
		if (fresh == NULL)
			return -1;
	}
	n = room < len ? room : len;
	if (n > 0) {
		memcpy(tail->data + tail->len, data, n);
		tail->len += (uint32_t)n;
	}
	if (fresh != NULL) {
		memcpy(fresh->data, data + n, len - n);
		fresh->len = (uint32_t)(len - n);
		fresh->next = tail == NULL ? fresh : tail->next;
		if (tail != NULL)
			tail->next = fresh;
		*ring = fresh;
	}
	*total += (uint32_t)len;
	return 0;
}

/* An empty chunk for len bytes, and more the more is queued already. */
static struct chunk *
chunk_new(size_t len, size_t queued)
{
	struct chunk *k;
	size_t size;

	for (size = CHUNKMIN; size < CHUNKMAX; size *= 2)
		if (size - sizeof(*k) >= len && size >= queued)
			break;
	if (size - sizeof(*k) < len)
		size = sizeof(*k) + len;
	k = malloc(size);
	if (k == NULL)
		return NULL;
	k->off = k->len = 0;
	k->size = (uint32_t)(size - sizeof(*k));
	return k;
}
