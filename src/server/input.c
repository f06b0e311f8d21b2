/*
 * Input: one recv(2) into the loop's buffer, cut into lines there or passed
 * on as it is.  What is not used is copied to the connection (struct kept),
 * and back in front of the next recv, with how much of it was searched for the
 * end of a line or frame already.  What is large is passed on where it is
 * kept, and read into there: a message of some MiB in small packets would
 * otherwise be copied for each of them.
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

enum { LARGE = READSIZE };

static char *unkeep(struct kquay_conn *c, size_t room, size_t *kept,
    size_t *seen);
static struct kept *grow(struct kquay_conn *c, size_t room);
static struct kept *take_large(struct kquay_conn *c);
static void pass(struct kquay_conn *c, struct kept *large, size_t len,
    size_t seen);
static size_t pass_lines(struct kquay_conn *c, char *buf, size_t len,
    size_t *seen);
static size_t pass_raw(struct kquay_conn *c, char *buf, size_t len);
static void last_line(struct kquay_conn *c, char *buf, size_t len);
static void at_end(struct kquay_conn *c);
static void keep(struct kquay_conn *c, const char *buf, size_t len,
    size_t seen);
static void keep_large(struct kquay_conn *c, struct kept *large, size_t pos,
    size_t len, size_t seen);
static void failed(struct kquay_conn *c, int err, const struct kevent *ev);

/*
 * Read from c, which is OPEN, because of *ev, or on suspicion if ev is NULL.
 * Returns 1 if there was something.
 */
int
kquay_input_read(struct kquay_conn *c, const struct kevent *ev)
{
	struct kquay *q = kquay_pool_loop(c);
	char *buf = q->inbuf;
	size_t kept = 0, seen = 0;
	ssize_t n;

	if (c->flags & C_KEPT) {
		buf = unkeep(c, READSIZE, &kept, &seen);
		if (buf == NULL)
			return 0;
	}
	n = kquay_input_receive(c, buf + kept);
	if (n == -1) {
		failed(c, errno, ev);
		return 0;
	}
	pass(c, take_large(c), kept + (size_t)n, seen);
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
	/* To take may need an answer, which may have failed. */
	if (c->state != CONN_SHAKE)
		return;
	if (n > 0)
		c->flags &= ~C_FRESH;
	kquay_conn_open(c);
	if (n > 0 || (c->flags & C_EOF))
		pass(c, NULL, n > 0 ? (size_t)n : 0, 0);
}

/* Pass on what was kept while c was blocked. */
void
kquay_input_again(struct kquay_conn *c)
{
	size_t kept = 0, seen = 0;

	if ((c->flags & C_KEPT) && unkeep(c, 0, &kept, &seen) == NULL)
		return;
	pass(c, take_large(c), kept, seen);
}

/*
 * Where what was kept, and stays so, can be passed on: at the begin of the
 * loop's buffer, or where it is.  Behind it is so much room, and one byte.
 * NULL if there is no memory for that, and c has ended.
 */
static char *
unkeep(struct kquay_conn *c, size_t room, size_t *kept, size_t *seen)
{
	struct kept *in = kquay_pool_more(c)->in;
	char *buf = kquay_pool_loop(c)->inbuf;

	*kept = in->len;
	*seen = in->seen;
	if (in->len < LARGE) {
		memcpy(buf, in->data, in->len);
		return buf;
	}
	if (in->size <= in->len + room) {
		in = grow(c, room);
		if (in == NULL) {
			kquay_conn_end(c, KQUAY_ERROR, ENOMEM);
			return NULL;
		}
	}
	return in->data;
}

/*
 * Make room behind what is kept; twice as much each time, so that what grows
 * is copied now and then and not always.  NULL without memory.
 */
static struct kept *
grow(struct kquay_conn *c, size_t room)
{
	struct more *more = kquay_pool_more(c);
	size_t most = (size_t)kquay_pool_loop(c)->conf.inmax + READSIZE;
	size_t len = more->in->len, size = 2 * len;
	struct kept *in;

	if (size > most)
		size = most;
	if (size < len + room)
		size = len + room;
	in = realloc(more->in, sizeof(*in) + size + 1);
	if (in == NULL)
		return NULL;
	in->size = (uint32_t)size + 1;
	more->in = in;
	return in;
}

/*
 * Take out what will be passed on where it is: the callbacks may end c.  NULL
 * if that is in the loop's buffer.
 */
static struct kept *
take_large(struct kquay_conn *c)
{
	struct more *more = kquay_pool_more(c);
	struct kept *in = more->in;

	if (!(c->flags & C_KEPT) || in->len < LARGE)
		return NULL;
	more->in = NULL;
	c->flags &= ~C_KEPT;
	return in;
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
		kquay_pool_got(q, c, n);
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
 * Give the service len bytes of the loop's buffer, or of large, as far as it
 * wants them, and keep the rest.  The first seen bytes were searched already.
 */
static void
pass(struct kquay_conn *c, struct kept *large, size_t len, size_t seen)
{
	const struct kquay_ops *ops;
	struct kquay *q = kquay_pool_loop(c);
	char *buf = large != NULL ? large->data : q->inbuf;
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
	if (kquay_input_wanted(c) && len - pos > q->conf.inmax)
		kquay_conn_hangup(c, KQUAY_TOOLONG);
	if (kquay_input_wanted(c) && (c->flags & C_EOF)) {
		if ((c->flags & C_TLS) && kquay_tls_broken(c) != 0)
			kquay_conn_end(c, KQUAY_ERROR, kquay_tls_broken(c));
		else if (pos < len && c->ops->input == NULL &&
		    c->ops->frame == NULL && c->ops->line != NULL)
			last_line(c, buf + pos, len - pos);
		pos = len;
	}
	/* What was not used when it was spliced goes the same way. */
	if (large != NULL)
		keep_large(c, large, pos, len, seen);
	else
		keep(c, buf + pos, len - pos, seen);
	if (c->state != CONN_OPEN)
		return;
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

/* As keep(), of the rest of what was taken out. */
static void
keep_large(struct kquay_conn *c, struct kept *large, size_t pos, size_t len,
    size_t seen)
{
	if ((c->state != CONN_OPEN && c->state != CONN_SPLICE) ||
	    len - pos < LARGE) {
		keep(c, large->data + pos, len - pos, seen);
		free(large);
		return;
	}
	if (pos > 0)
		memmove(large->data, large->data + pos, len - pos);
	large->len = (uint32_t)(len - pos);
	large->seen = (uint32_t)seen;
	kquay_pool_more(c)->in = large;
	c->flags |= C_KEPT;
}
