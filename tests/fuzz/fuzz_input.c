/*
 * The readers of lines and frames, in a loop of their own whose kernel is
 * this file: what a connection is given, in which pieces, between which
 * changes of its callbacks and pauses, is the input; what its callbacks must
 * get is computed from the whole of it by a model that knows no pieces.
 *
 * The input's first bytes make four protocols, the rest is what comes; the
 * sizes of the pieces are taken from a sum over all of it.  If the first byte
 * says so, each byte comes many times and the limit is large: a length in
 * three bytes is near it then.
 */
#include "driver.h"

#include <kquay.h>

#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum {
	SMALL = 64, /* inmax of most inputs */
	LARGE = 300000,
	STRETCH = 700,
	PROTOCOLS = 4,
	HEARD = 4 << 20
};

/* What has been called: each a byte of its protocol, the text, a NUL. */
struct heard {
	char text[HEARD];
	size_t len;
	int why;
	int err;
};

static size_t inmax;
static struct kquay_ops protocols[PROTOCOLS];
static struct heard model, real;

static const char *stream;
static size_t left;
static uint64_t random_state;
static struct kquay_conn *conn;
static uint64_t conn_id;
static int paused;

static unsigned
choose(unsigned n)
{
	random_state =
	    random_state * 6364136223846793005u + 1442695040888963407u;
	return (unsigned)(random_state >> 33) % n;
}

/* -- what happens after a message depends on that alone -------------------- */

enum action { GO_ON, SWITCH, PAUSE, CLOSE };

static enum action
action_of(const char *data, size_t len, unsigned *to)
{
	unsigned sum = 7;
	size_t i;

	for (i = 0; i < len; i++)
		sum = sum * 31 + (unsigned char)data[i];
	*to = sum / 16 % PROTOCOLS;
	switch (sum % 16) {
	case 0:
	case 1:
	case 2:
		return SWITCH;
	case 3:
		return PAUSE;
	case 4:
		return sum / 64 % 8 == 0 ? CLOSE : GO_ON;
	default:
		return GO_ON;
	}
}

static void
hear(struct heard *h, unsigned protocol, const char *data, size_t len)
{
	if (h->len + len + 2 > sizeof(h->text))
		fail("too much is heard");
	h->text[h->len++] = (char)('0' + protocol);
	memcpy(h->text + h->len, data, len);
	h->len += len;
	h->text[h->len++] = '\0';
}

/* -- the model ------------------------------------------------------------- */

/* The first of a delimiter, by the simplest of ways. */
static size_t
find(const char *data, size_t len, const char *delim, size_t dlen)
{
	size_t i;

	for (i = 0; i + dlen <= len; i++)
		if (memcmp(data + i, delim, dlen) == 0)
			return i;
	return len;
}

/*
 * The message at the begin of data: its length in *n and where it begins in
 * *at; returns how much it takes with what is around it, 0 if it is not
 * complete, -1 if it is too long, -2 if it is wrong.
 */
static ssize_t
model_frame(const struct kquay_framing *f, const char *data, size_t len,
    size_t *at, size_t *n)
{
	size_t max = f->max == 0 ? inmax : f->max, dlen, i;
	uint64_t size = 0;

	if (f->prefix == 0) {
		dlen = f->delim == NULL ? 1 : f->delimlen;
		*at = 0;
		*n = find(data, len, f->delim == NULL ? "\n" : f->delim, dlen);
		if (*n == len) /* it may still end behind the last byte */
			return len < dlen - 1 ||
				(len - (dlen - 1) <= max && len + 1 <= inmax) ?
			    0 :
			    -1;
		return *n > max || *n + dlen > inmax ? -1 :
						       (ssize_t)(*n + dlen);
	}
	if (len < f->prefix)
		return 0;
	for (i = 0; i < f->prefix; i++)
		size |= (uint64_t)(unsigned char)data[i]
		    << 8 * (f->flags & KQUAY_LITTLE ? i : f->prefix - 1 - i);
	if (f->flags & KQUAY_COUNTSELF) {
		if (size < f->prefix)
			return -2;
		size -= f->prefix;
	}
	if (size > max || size > inmax - (uint64_t)f->prefix)
		return -1;
	*at = f->prefix;
	*n = (size_t)size;
	return len - f->prefix < size ? 0 : (ssize_t)(f->prefix + size);
}

/* As model_frame(); at the end of all a line needs no \n. */
static ssize_t
model_line(const char *data, size_t len, size_t *at, size_t *n)
{
	size_t end = find(data, len, "\n", 1);

	if (end > inmax)
		return -1;
	*at = 0;
	*n = end > 0 && data[end - 1] == '\r' ? end - 1 : end;
	return (ssize_t)(end < len ? end + 1 : end);
}

static void
run_model(const char *data, size_t len)
{
	unsigned protocol = 0, to;
	size_t at = 0, n = 0;
	ssize_t rc;

	model.len = 0;
	model.err = 0;
	model.why = KQUAY_EOF;
	while (len > 0) {
		rc = protocols[protocol].frame != NULL ?
		    model_frame(&protocols[protocol].framing, data, len, &at,
			&n) :
		    model_line(data, len, &at, &n);
		if (rc <= 0) {
			model.why = rc == 0 ? KQUAY_EOF :
			    rc == -1        ? KQUAY_TOOLONG :
					      KQUAY_ERROR;
			model.err = rc == -2 ? EPROTO : 0;
			return;
		}
		hear(&model, protocol, data + at, n);
		switch (action_of(data + at, n, &to)) {
		case SWITCH:
			protocol = to;
			break;
		case CLOSE:
			model.why = KQUAY_DONE;
			return;
		case PAUSE:
		case GO_ON:
			break;
		}
		data += rc;
		len -= (size_t)rc;
	}
}

/* -- the real one ---------------------------------------------------------- */

static unsigned current;

static void
on_message(struct kquay_conn *c, char *data, size_t len)
{
	unsigned to;

	hear(&real, current, data, len);
	switch (action_of(data, len, &to)) {
	case SWITCH:
		current = to;
		kquay_setops(c, &protocols[to]);
		break;
	case CLOSE:
		kquay_close(c);
		break;
	case PAUSE:
		paused = 1;
		kquay_pause(c, 1);
		break;
	case GO_ON:
		break;
	}
	memset(data, '#', len); /* it is ours */
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	(void)c;
	real.why = (int)why;
	real.err = errno;
	conn = NULL;
}

static ssize_t
give(int fd, void *buf, size_t len)
{
	size_t n = 1 +
	    (inmax == LARGE        ? choose(100000) :
		    choose(4) == 0 ? choose(200) :
				     choose(5));

	(void)fd;
	if (choose(8) == 0) {
		errno = choose(2) == 0 ? EAGAIN : EINTR;
		return -1;
	}
	n = n > len ? len : n;
	n = n > left ? left : n;
	memcpy(buf, stream, n);
	stream += n;
	left -= n;
	return (ssize_t)n;
}

static int
wake(int kq, const struct kevent *changes, int nchanges, struct kevent *events,
    int nevents, const struct timespec *timeout)
{
	(void)kq, (void)changes, (void)nchanges, (void)timeout;
	if (conn == NULL || nevents == 0)
		return 0;
	EV_SET(events, 0, EVFILT_READ, 0, 0, 1, (void *)(uintptr_t)conn_id);
	return 1;
}

static void
run_real(const char *data, size_t len)
{
	static const struct kquay_sys sys = { .read = give, .kevent = wake };
	struct kquay_conf conf = { .maxconn = 1,
		.inmax = (uint32_t)inmax,
		.flags = KQUAY_NOSIGNAL,
		.sys = &sys };
	struct kquay *q;
	int sv[2];

	stream = data;
	left = len;
	real.len = 0;
	real.err = real.why = -1;
	current = 0;
	paused = 0;
	q = kquay_new(&protocols[0], &conf);
	if (q == NULL ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv) == -1)
		err(1, "cannot begin");
	conn = kquay_adopt(q, sv[0], &protocols[0]);
	if (conn == NULL)
		err(1, "kquay_adopt");
	conn_id = kquay_id(conn);
	while (conn != NULL) {
		if (paused && choose(3) == 0) {
			paused = 0;
			kquay_pause(conn, 0);
		}
		if (conn != NULL && choose(8) == 0) /* looks anew */
			kquay_setops(conn, &protocols[current]);
		if (kquay_step(q, 0) == -1)
			err(1, "kquay_step");
	}
	kquay_free(q);
	close(sv[1]);
}

/* -- one input ------------------------------------------------------------- */

static void
make_protocol(struct kquay_ops *ops, const uint8_t *config)
{
	static const struct {
		const char *text;
		uint16_t len;
	} delims[] = { { NULL, 0 }, { ";", 1 }, { "\r\n", 2 }, { "", 1 },
		{ "aab", 3 }, { "abab", 4 }, { "\n\n", 2 }, { "\0\1", 2 } };

	memset(ops, 0, sizeof(*ops));
	ops->close = on_close;
	if (config[0] % 4 == 0) {
		ops->line = on_message;
		return;
	}
	ops->frame = on_message;
	if (config[0] % 4 == 1) {
		ops->framing.delim = delims[config[1] % 8].text;
		ops->framing.delimlen = delims[config[1] % 8].len;
	} else {
		ops->framing.prefix = config[1] % 8 + 1;
		ops->framing.flags = config[1] / 8 % 4;
	}
	ops->framing.max = config[0] / 4 % 32 * (inmax == LARGE ? 10000 : 2);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char stretched[1024 * STRETCH];
	const char *text;
	size_t i;

	if (size < 2 * (size_t)PROTOCOLS || size > 8192)
		return 0;
	inmax = data[0] & 0x80 && size <= 1024 ? LARGE : SMALL;
	for (i = 0; i < PROTOCOLS; i++)
		make_protocol(&protocols[i], data + 2 * i);
	random_state = 88172645463325252u;
	for (i = 0; i < size; i++)
		random_state = (random_state ^ data[i]) * 1099511628211u;
	data += 2 * (size_t)PROTOCOLS;
	size -= 2 * (size_t)PROTOCOLS;
	text = (const char *)data;
	if (inmax == LARGE) {
		for (i = 0; i < size; i++)
			memset(stretched + i * STRETCH, data[i], STRETCH);
		text = stretched;
		size *= STRETCH;
	}
	run_model(text, size);
	run_real(text, size);
	if (model.len != real.len ||
	    memcmp(model.text, real.text, model.len) != 0)
		fail("heard %zu bytes, not %zu", real.len, model.len);
	if (model.why != real.why || model.err != real.err)
		fail("the end is %d (%d), not %d (%d)", real.why, real.err,
		    model.why, model.err);
	return 0;
}
