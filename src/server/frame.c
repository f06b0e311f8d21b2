/*
 * Frames: messages that a length goes before, or a delimiter ends.
 *
 * A frame is passed on when all of it has come; what is there of one that has
 * not stays with the connection as any input does (input.c).  A length that
 * is over the limits is refused at once, before its frame is waited for.
 *
 * Where a delimiter was not found is remembered (*seen), so a frame that
 * comes byte by byte is searched once and not once for each byte.
 */
#include "server.h"

#include <errno.h>
#include <string.h>

enum { PREFIXMAX = 8, TAIL = 4096 };

static enum frame_cut cut_prefixed(const struct kquay_framing *f, size_t most,
    char *buf, size_t len, struct frame *frame);
static enum frame_cut cut_delimited(const struct kquay_framing *f, size_t most,
    char *buf, size_t len, size_t *seen, struct frame *frame);
static const char *delimiter(const struct kquay_framing *f, size_t *len);
static size_t longest(const struct kquay_framing *f, size_t most, size_t extra);
static uint64_t get_length(const struct kquay_framing *f, const char *buf);
static int put_length(const struct kquay_framing *f, uint64_t n, char *buf);
static int send_prefixed(struct kquay_conn *c, const struct kquay_framing *f,
    const char *data, size_t len);
static int send_delimited(struct kquay_conn *c, const struct kquay_framing *f,
    const char *data, size_t len);
static int holds(const char *data, size_t len, const char *delim, size_t dlen);

/*
 * The frame at the begin of buf.  most is what a whole one may have; in the
 * first *seen bytes no delimiter begins, and if there is none in the others
 * *seen says so afterwards.
 */
enum frame_cut
kquay_frame_cut(const struct kquay_framing *f, size_t most, char *buf,
    size_t len, size_t *seen, struct frame *frame)
{
	if (f->prefix > PREFIXMAX)
		return FRAME_BAD;
	if (f->prefix > 0)
		return cut_prefixed(f, most, buf, len, frame);
	return cut_delimited(f, most, buf, len, seen, frame);
}

/*
 * Pass on frames until c does not want them or the callbacks change.  The
 * number of bytes that are used up.
 */
size_t
kquay_frame_pass(struct kquay_conn *c, char *buf, size_t len, size_t *seen)
{
	size_t pos = 0, most = kquay_pool_loop(c)->conf.inmax;
	const struct kquay_ops *ops = c->ops;
	struct frame frame;

	while (pos < len && kquay_input_wanted(c) && c->ops == ops) {
		switch (kquay_frame_cut(&ops->framing, most, buf + pos,
		    len - pos, seen, &frame)) {
		case FRAME_PART:
			return pos;
		case FRAME_LONG:
			kquay_conn_hangup(c, KQUAY_TOOLONG);
			return pos;
		case FRAME_BAD:
			kquay_conn_end(c, KQUAY_ERROR, EPROTO);
			return pos;
		case FRAME_WHOLE:
			*seen = 0;
			pos += frame.whole;
			ops->frame(c, frame.body, frame.len);
		}
	}
	return pos;
}

static enum frame_cut
cut_prefixed(const struct kquay_framing *f, size_t most, char *buf, size_t len,
    struct frame *frame)
{
	uint64_t n;

	if (len < f->prefix)
		return FRAME_PART;
	n = get_length(f, buf);
	if (f->flags & KQUAY_COUNTSELF) {
		if (n < f->prefix)
			return FRAME_BAD;
		n -= f->prefix;
	}
	if (most < f->prefix || n > longest(f, most, f->prefix))
		return FRAME_LONG;
	if (n > len - f->prefix)
		return FRAME_PART;
	frame->body = buf + f->prefix;
	frame->len = (size_t)n;
	frame->whole = f->prefix + frame->len;
	return FRAME_WHOLE;
}

static enum frame_cut
cut_delimited(const struct kquay_framing *f, size_t most, char *buf, size_t len,
    size_t *seen, struct frame *frame)
{
	size_t dlen, max;
	const char *delim = delimiter(f, &dlen);
	char *end;

	if (most < dlen)
		return FRAME_LONG;
	max = longest(f, most, dlen);
	end = dlen == 1 ? memchr(buf + *seen, *delim, len - *seen) :
			  memmem(buf + *seen, len - *seen, delim, dlen);
	if (end == NULL) {
		*seen = len < dlen ? 0 : len - (dlen - 1);
		return *seen > max ? FRAME_LONG : FRAME_PART;
	}
	if ((size_t)(end - buf) > max)
		return FRAME_LONG;
	*end = '\0';
	frame->body = buf;
	frame->len = (size_t)(end - buf);
	frame->whole = frame->len + dlen;
	return FRAME_WHOLE;
}

static const char *
delimiter(const struct kquay_framing *f, size_t *len)
{
	if (f->delim == NULL) {
		*len = 1;
		return "\n";
	}
	*len = f->delimlen != 0 ? f->delimlen : strlen(f->delim);
	if (*len == 0)
		*len = 1; /* "" is its NUL */
	return f->delim;
}

/* The longest body, where most bytes are left for it and the extra ones. */
static size_t
longest(const struct kquay_framing *f, size_t most, size_t extra)
{
	most -= extra;
	return f->max != 0 && f->max < most ? f->max : most;
}

static uint64_t
get_length(const struct kquay_framing *f, const char *buf)
{
	const unsigned char *p = (const void *)buf;
	uint64_t n = 0;
	unsigned i;

	for (i = 0; i < f->prefix; i++)
		n = n << 8 |
		    p[f->flags & KQUAY_LITTLE ? f->prefix - 1u - i : i];
	return n;
}

/* 0, or -1 if n does not fit. */
static int
put_length(const struct kquay_framing *f, uint64_t n, char *buf)
{
	unsigned i;

	for (i = 0; i < f->prefix; i++) {
		buf[f->flags & KQUAY_LITTLE ? i : f->prefix - 1u - i] = (char)n;
		n >>= 8;
	}
	return n == 0 ? 0 : -1;
}

/* -- what the service calls ------------------------------------------------ */

int
kquay_frame(struct kquay_conn *c, const void *data, size_t len)
{
	const struct kquay_framing *f = &c->ops->framing;

	if (f->prefix > PREFIXMAX) {
		errno = EINVAL;
		return -1;
	}
	return (
	    f->prefix > 0 ? send_prefixed : send_delimited)(c, f, data, len);
}

/*
 * The parts of a frame gather in the cork, and go out in one send(2).  Once
 * the first is taken, another fails only if the connection ends.  A frame
 * that is longer than the cork is cut so that no part of it is a packet of
 * few bytes.
 */
static int
send_prefixed(struct kquay_conn *c, const struct kquay_framing *f,
    const char *data, size_t len)
{
	size_t plen = f->prefix, outmax = kquay_pool_loop(c)->conf.outmax;
	size_t head = len <= CORKSIZE - plen ? len : CORKSIZE - TAIL;
	char prefix[PREFIXMAX];

	if (outmax < plen || len > longest(f, outmax, plen) ||
	    put_length(f, len + (f->flags & KQUAY_COUNTSELF ? plen : 0),
		prefix) == -1) {
		errno = EMSGSIZE;
		return -1;
	}
	if (kquay_write(c, prefix, plen) == -1 ||
	    kquay_write(c, data, head) == -1)
		return -1;
	return kquay_write(c, data + head, len - head);
}

static int
send_delimited(struct kquay_conn *c, const struct kquay_framing *f,
    const char *data, size_t len)
{
	size_t dlen, outmax = kquay_pool_loop(c)->conf.outmax;
	const char *delim = delimiter(f, &dlen);
	size_t head = len + dlen <= CORKSIZE ? 0 : len - TAIL;

	if (outmax < dlen || len > longest(f, outmax, dlen)) {
		errno = EMSGSIZE;
		return -1;
	}
	if (holds(data, len, delim, dlen)) {
		errno = EINVAL;
		return -1;
	}
	if (head > 0) {
		if (kquay_write(c, data, head) == -1)
			return -1;
		kquay_output_uncork(kquay_pool_loop(c));
	}
	if (kquay_write(c, data + head, len - head) == -1)
		return -1;
	return kquay_write(c, delim, dlen);
}

/* Whether data with the delimiter after it would end before its end. */
static int
holds(const char *data, size_t len, const char *delim, size_t dlen)
{
	size_t n;

	if (len == 0)
		return 0;
	if (memmem(data, len, delim, dlen) != NULL)
		return 1;
	/* One that begins within data and ends within the delimiter. */
	for (n = 1; n < dlen && n <= len; n++)
		if (memcmp(data + len - n, delim, n) == 0 &&
		    memcmp(delim, delim + n, dlen - n) == 0)
			return 1;
	return 0;
}
