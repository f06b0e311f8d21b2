/*
 * Input: one recv(2) into the loop's buffer, cut into lines there or passed
 * on as it is.  What is not used is copied to the connection (struct kept),
 * and back in front of the next recv, with how much of it was searched for the
 * end of a line or frame already.
 *
 * The loop's buffer holds inmax + READSIZE + 1 bytes: a connection that is
 * read from keeps at most inmax, and the last byte is for a NUL.  One that is
 * blocked (C_BLOCKED) may keep a whole READSIZE more, and is not read from
 * until that has been passed on.
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t unkeep(const struct kquay_conn *c, size_t *seen);
static void pass(struct kquay_conn *c, size_t len, size_t seen);
static size_t pass_lines(struct kquay_conn *c, char *buf, size_t len,
    size_t *seen);
static size_t pass_raw(struct kquay_conn *c, char *buf, size_t len);
static void last_line(struct kquay_conn *c, char *buf, size_t len);
static void at_end(struct kquay_conn *c);
static void keep(struct kquay_conn *c, const char *buf, size_t len,
    size_t seen);
static void failed(struct kquay_conn *c, int err, const struct kevent *ev);

/*
 * Read from c, which is OPEN, because of *ev, or on suspicion if ev is NULL.
 * Returns 1 if there was something.
 */
int
kquay_input_read(struct kquay_conn *c, const struct kevent *ev)
{
	struct kquay *q = kquay_pool_loop(c);
	size_t kept = 0, seen = 0;
	ssize_t n;

	if (c->flags & C_KEPT)
		kept = unkeep(c, &seen);
	n = kquay_input_receive(c, q->inbuf + kept);
	if (n == -1) {
		failed(c, errno, ev);
		return 0;
	}
	pass(c, kept + (size_t)n, seen);
	return 1;
}

/*
 * What had to come before open() is done; what came behind it is passed on
 * after open().
 */
void
kquay_input_begin(struct kquay_conn *c)
{
	ssize_t n = 0;

	if (c->flags & C_TLS)
		n = kquay_tls_take(c, kquay_pool_loop(c)->inbuf, READSIZE);
	kquay_conn_open(c);
	if (n > 0)
		c->flags &= ~C_FRESH;
	if (n > 0 || (c->flags & C_EOF))
		pass(c, n > 0 ? (size_t)n : 0, 0);
}

/* Pass on what was kept while c was blocked. */
void
kquay_input_again(struct kquay_conn *c)
{
	size_t kept = 0, seen = 0;

	if (c->flags & C_KEPT)
		kept = unkeep(c, &seen);
	pass(c, kept, seen);
}

/* Put what was kept, and stays so, at the begin of the loop's buffer. */
static size_t
unkeep(const struct kquay_conn *c, size_t *seen)
{
	const struct kept *in = kquay_pool_more(c)->in;

	memcpy(kquay_pool_loop(c)->inbuf, in->data, in->len);
	*seen = in->seen;
	return in->len;
}

/* Others will look for the end of what is kept. */
void
kquay_input_unsee(struct kquay_conn *c)
{
	if (c->flags & C_KEPT)
		kquay_pool_more(c)->in->seen = 0;
}

void
kquay_input_drop(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);

	if (!(c->flags & C_KEPT))
		return;
	free(more->in);
	more->in = NULL;
	c->flags &= ~C_KEPT;
}

/*
 * Throw input away.  1 if there was some, 0 at its end, -1 with errno EAGAIN
 * if there is none now, or another error.
 */
int
kquay_input_waste(struct kquay_conn *c)
{
	char scrap[4096];
	int rc = -1, turn;
	ssize_t n;

	errno = EAGAIN;
	for (turn = 0; turn < 16; turn++) {
		n = kquay_input_raw(c, scrap, sizeof(scrap));
		if (n == 0)
			return rc == 1 ? 1 : 0;
		if (n == -1)
			break;
		rc = 1;
		if ((size_t)n < sizeof(scrap))
			break;
	}
	return rc;
}

/*
 * As recv(2) into the loop's buffer, of what is meant for the service; sets
 * C_EOF at the end, or behind the last with TLS.
 */
ssize_t
kquay_input_receive(struct kquay_conn *c, char *buf)
{
	ssize_t n;

	if (c->flags & C_TLS)
		n = kquay_tls_receive(c, buf, READSIZE);
	else
		n = kquay_input_raw(c, buf, READSIZE);
	if (n == -1)
		return -1;
	c->active = kquay_pool_loop(c)->tick;
	if (n == 0)
		c->flags |= C_EOF;
	else
		c->flags &= ~C_FRESH;
	return n;
}

/* As recv(2), what the peer has sent. */
ssize_t
kquay_input_raw(struct kquay_conn *c, void *buf, size_t size)
{
	struct kquay *q = kquay_pool_loop(c);
	ssize_t n;

	do {
		if (q->sys.read != NULL)
			n = q->sys.read(c->fd, buf, size);
		else if (c->flags & C_SOCKET)
			n = recv(c->fd, buf, size, 0);
		else
			n = read(c->fd, buf, size);
	} while (n == -1 && errno == EINTR);
	if (n > 0)
		q->stat.in += (uint64_t)n;
	return n;
}

static void
failed(struct kquay_conn *c, int err, const struct kevent *ev)
{
	switch (err) {
	case EAGAIN:
		break;
	case ENOBUFS:
	case ENOMEM:
		kquay_conn_starve(c);
		break;
	case EIO:
		/* That is how a terminal's master side ends on Linux. */
		if (!(c->flags & C_SOCKET) && ev != NULL &&
		    (ev->flags & EV_EOF)) {
			c->flags |= C_EOF;
			kquay_input_again(c);
			break;
		}
		/* FALLTHROUGH */
	default:
		kquay_conn_end(c, KQUAY_ERROR, err);
	}
}

/*
 * Give the service len bytes of the loop's buffer, as far as it wants them,
 * and keep the rest.  The first seen bytes were searched already.
 */
static void
pass(struct kquay_conn *c, size_t len, size_t seen)
{
	const struct kquay_ops *ops;
	struct kquay *q = kquay_pool_loop(c);
	char *buf = q->inbuf;
	size_t used, pos = 0;

	while (pos < len && kquay_input_wanted(c)) {
		ops = c->ops;
		if (ops->input != NULL)
			used = pass_raw(c, buf + pos, len - pos);
		else if (ops->frame != NULL)
			used = kquay_frame_pass(c, buf + pos, len - pos, &seen);
		else if (ops->line != NULL)
			used = pass_lines(c, buf + pos, len - pos, &seen);
		else
			used = len - pos;
		pos += used;
		if (ops != c->ops)
			seen = 0;
		else if (used == 0)
			break;
	}
	/* What was not used when it was spliced goes the same way. */
	if (c->state == CONN_SPLICE)
		keep(c, buf + pos, len - pos, 0);
	if (c->state != CONN_OPEN)
		return;
	if (kquay_input_wanted(c) && len - pos > q->conf.inmax) {
		kquay_conn_hangup(c, KQUAY_TOOLONG);
		return;
	}
	if (kquay_input_wanted(c) && (c->flags & C_EOF)) {
		if ((c->flags & C_TLS) && kquay_tls_broken(c) != 0) {
			kquay_conn_end(c, KQUAY_ERROR, kquay_tls_broken(c));
			return;
		}
		if (pos < len && c->ops->input == NULL &&
		    c->ops->frame == NULL && c->ops->line != NULL)
			last_line(c, buf + pos, len - pos);
		pos = len;
	}
	keep(c, buf + pos, len - pos, seen);
	if (kquay_input_wanted(c) && (c->flags & C_EOF))
		at_end(c);
	else if (c->flags & C_EOF)
		kquay_conn_interest(c);
}

/* Pass on lines until c does not want them or the callbacks change. */
static size_t
pass_lines(struct kquay_conn *c, char *buf, size_t len, size_t *seen)
{
	const struct kquay_ops *ops = c->ops;
	char *line = buf, *end = buf + len, *nl;
	size_t n;

	while (line < end && kquay_input_wanted(c) && c->ops == ops) {
		nl = memchr(line + *seen, '\n', (size_t)(end - line) - *seen);
		if (nl == NULL) {
			*seen = (size_t)(end - line);
			break;
		}
		*seen = 0;
		n = (size_t)(nl - line);
		if (n > kquay_pool_loop(c)->conf.inmax) {
			kquay_conn_hangup(c, KQUAY_TOOLONG);
			break;
		}
		if (n > 0 && nl[-1] == '\r')
			n--;
		line[n] = '\0';
		ops->line(c, line, n);
		line = nl + 1;
	}
	return (size_t)(line - buf);
}

static size_t
pass_raw(struct kquay_conn *c, char *buf, size_t len)
{
	ssize_t used;

	used = c->ops->input(c, buf, len);
	if (used < 0) {
		kquay_conn_hangup(c, KQUAY_DONE);
		return 0;
	}
	return (size_t)used < len ? (size_t)used : len;
}

/* A last line without \n; there is room for its NUL. */
static void
last_line(struct kquay_conn *c, char *buf, size_t len)
{
	if (buf[len - 1] == '\r')
		len--;
	buf[len] = '\0';
	c->ops->line(c, buf, len);
}

/* Everything the peer has sent was passed on. */
static void
at_end(struct kquay_conn *c)
{
	if (c->ops->eof == NULL || c->ops->eof(c) != 1) {
		kquay_conn_hangup(c, KQUAY_EOF);
		return;
	}
	if (c->state != CONN_OPEN)
		return;
	c->state = CONN_HALF;
	kquay_conn_interest(c);
}

/* Keep len bytes of the loop's buffer until there is more, or it is wanted. */
static void
keep(struct kquay_conn *c, const char *buf, size_t len, size_t seen)
{
	struct more *more = kquay_pool_more(c);
	struct kept *in;
	size_t size;

	if (c->state != CONN_OPEN && c->state != CONN_SPLICE)
		return;
	if (len == 0) {
		kquay_input_drop(c);
		return;
	}
	in = more->in;
	if (in == NULL || in->size < len) {
		for (size = 128 - sizeof(*in); size < len; size *= 2)
			;
		in = realloc(in, sizeof(*in) + size);
		if (in == NULL) {
			kquay_conn_end(c, KQUAY_ERROR, ENOMEM);
			return;
		}
		in->size = (uint32_t)size;
		more->in = in;
		c->flags |= C_KEPT;
	}
	memcpy(in->data, buf, len);
	in->len = (uint32_t)len;
	in->seen = (uint32_t)seen;
}
