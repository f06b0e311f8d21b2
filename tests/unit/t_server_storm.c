/*
 * A storm: hundreds of peers talk, stall, half-close, hang up and reset, while
 * the service writes, closes, aborts, pauses and changes its callbacks from
 * within any callback, and system calls fail.  Every line is numbered, both
 * ways: none may be lost, doubled or out of order, none of those written
 * before a close may be missing, and each connection is opened and closed
 * once.
 *
 *	STORM=seed	begin with this one
 *	STORM_MS=20000	how long, for each test
 */
#include "t_server_kit.h"

#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NPEERS = 300, SLOTS = 200, BURST = 2000, OUTMAX = 1 << 20 };

/* Our end.  Line n of a peer says "peer n", ours say n. */
struct peer {
	int fd;          /* -1: none */
	unsigned serial; /* which of those that had this place */
	unsigned sent;   /* lines */
	unsigned got;    /* lines */
	unsigned number; /* of the line that comes in, as far as it came */
	bool half;       /* a part of a line was sent */
	bool done;       /* it sends no more */
	unsigned owed;   /* lines it must get if all is known */
	bool owed_known;
};

/* The service's end, in kquay_udata(). */
struct side {
	int peer; /* -1: not known before its first line */
	unsigned serial;
	unsigned in, out; /* lines */
	unsigned opened;
	bool abrupt; /* not to be held to its word */
};

static struct peer peers[NPEERS];
static unsigned rolls, opened, closed, posted, called, adopted;
static int faults; /* one call of so many fails */
static uint64_t stale;
static const char *path;

static unsigned
roll(unsigned n)
{
	rolls = rolls * 1103515245 + 12345;
	return (rolls >> 8) % n;
}

/* -- system calls that fail now and then ----------------------------------- */

static bool
fails(const int *errs, int n)
{
	if (faults == 0 || roll((unsigned)faults) != 0)
		return false;
	errno = errs[roll((unsigned)n)];
	return true;
}

static ssize_t
storm_read(int fd, void *buf, size_t len)
{
	static const int errs[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM };

	if (fails(errs, 4))
		return -1;
	if (faults != 0 && roll(4) == 0)
		len = 1 + roll(100);
	return recv(fd, buf, len, 0);
}

static ssize_t
storm_write(int fd, const void *buf, size_t len)
{
	static const int errs[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM };

	if (fails(errs, 4))
		return -1;
	if (faults != 0 && roll(4) == 0 && len > 100)
		len = 1 + roll(100);
	return send(fd, buf, len, MSG_NOSIGNAL);
}

static int
storm_accept(int fd, struct sockaddr *sa, socklen_t *salen)
{
	static const int errs[] = { EINTR, EAGAIN, EPROTO, ECONNABORTED, EMFILE,
		ENFILE, ENOBUFS, ENOMEM };

	if (fails(errs, 8))
		return -1;
	return accept4(fd, sa, salen, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int
storm_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	static const int errs[] = { EINTR };

	if (!fails(errs, 1))
		return kevent(kq, changes, nchanges, events, nevents, timeout);
	ck_assert_int_eq(kevent(kq, changes, nchanges, NULL, 0, NULL), 0);
	errno = EINTR;
	return -1;
}

static const struct kquay_sys sys = { .read = storm_read,
	.write = storm_write,
	.accept = storm_accept,
	.kevent = storm_kevent };

/* -- the service ----------------------------------------------------------- */

static const struct kquay_ops by_line, by_input;

static struct kquay_conn *
anyone(void)
{
	struct kquay_conn *c, *found = NULL;
	unsigned n = roll(16);

	KQUAY_FOREACH(c, q) {
		found = c;
		if (n-- == 0)
			break;
	}
	return found;
}

static void
say(struct kquay_conn *c, unsigned lines)
{
	struct side *s = kquay_udata(c);

	while (lines-- > 0) {
		if (kquay_printf(c, "%u\n", s->out) == -1) {
			/* Ended, or too slow: then the rest is lost. */
			ck_assert(errno == EPIPE || errno == ENOBUFS ||
			    errno == ECONNRESET || errno == ENOTCONN);
			return;
		}
		s->out++;
	}
}

static void
on_post(struct kquay *loop, void *arg)
{
	(void)loop;
	ck_assert_ptr_eq(arg, &called);
	called++;
}

static void
hang_up(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);

	if (roll(3) != 0) {
		kquay_close(c);
		return;
	}
	s->abrupt = true;
	kquay_abort(c);
}

static void
adopt(void)
{
	struct kquay_conn *c;
	int sv[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) == -1)
		return;
	c = kquay_adopt(q, sv[0], roll(2) ? &by_line : &by_input);
	if (c == NULL)
		close(sv[0]);
	else {
		((struct side *)kquay_udata(c))->abrupt = true;
		adopted++;
	}
	close(sv[1]);
}

static void
act(struct kquay_conn *c)
{
	struct kquay_conn *o = anyone();

	switch (roll(40)) {
	case 0:
		say(c, roll(4) == 0 ? BURST : 10);
		break;
	case 1:
		hang_up(c);
		break;
	case 2:
		kquay_pause(c, 1);
		break;
	case 3:
		kquay_setops(c, roll(2) ? &by_line : &by_input);
		break;
	case 4:
		kquay_timeout(c, (int)roll(2000) + 1000, -1);
		break;
	case 5:
		ck_assert_int_eq(kquay_post(q, on_post, &called), 0);
		posted++;
		break;
	case 6:
		if (o != NULL && roll(2) == 0)
			hang_up(o);
		break;
	case 7:
		if (o != NULL)
			say(o, 1 + roll(20));
		break;
	case 8:
		if (o != NULL)
			kquay_pause(o, (int)roll(2));
		break;
	case 9:
		if (roll(8) == 0)
			adopt();
		break;
	case 10:
		ck_assert_ptr_null(kquay_find(q, stale));
		ck_assert_ptr_nonnull(kquay_peer(c));
		break;
	default:
		say(c, 1 + roll(3));
	}
}

static int
on_open(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);

	ck_assert_uint_eq(s->opened, 0);
	s->opened = 1;
	s->peer = -1;
	opened++;
	act(c);
	return roll(50) == 0 ? -1 : 0;
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	struct side *s = kquay_udata(c);
	unsigned peer, serial, n;

	ck_assert_uint_eq(strlen(text), len);
	/* The last may be cut off by the end. */
	if (sscanf(text, "%u.%u %u.", &peer, &serial, &n) != 3 ||
	    text[len - 1] != '.')
		return;
	ck_assert_uint_lt(peer, NPEERS);
	if (s->peer == -1) {
		s->peer = (int)peer;
		s->serial = serial;
	}
	ck_assert_int_eq(s->peer, (int)peer);
	ck_assert_uint_eq(s->serial, serial);
	ck_assert_uint_eq(s->in, n);
	s->in++;
	act(c);
}

/* The same by hand; sometimes it does not take all that it could. */
static ssize_t
on_input(struct kquay_conn *c, char *data, size_t len)
{
	char *nl = memchr(data, '\n', len);

	if (nl == NULL)
		return 0;
	*nl = '\0';
	on_line(c, data, (size_t)(nl - data));
	return nl - data + 1;
}

static int
on_eof(struct kquay_conn *c)
{
	act(c);
	if (roll(2))
		return 0;
	say(c, 5);
	if (roll(2))
		kquay_close(c);
	return 1;
}

static void
settle(struct peer *p)
{
	if (p->owed_known)
		ck_assert_msg(p->got == p->owed, "%u lines of %u came", p->got,
		    p->owed);
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	struct side *s = kquay_udata(c);
	struct peer *p = s->peer == -1 ? NULL : &peers[s->peer];

	ck_assert_uint_eq(s->opened, 1);
	s->opened = 2;
	closed++;
	stale = kquay_id(c);
	ck_assert_ptr_null(kquay_find(q, stale));
	ck_assert_int_eq(kquay_write(c, "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	kquay_close(c);
	kquay_pause(c, (int)roll(2));
	kquay_setops(c, &by_line);
	if (p != NULL && p->fd != -1 && p->serial == s->serial && !s->abrupt &&
	    (why == KQUAY_DONE || why == KQUAY_EOF)) {
		p->owed = s->out;
		p->owed_known = true;
	}
	if (anyone() != NULL)
		act(anyone());
}

static const struct kquay_ops by_line = { .open = on_open,
	.line = on_line,
	.eof = on_eof,
	.drained = act,
	.close = on_close };
static const struct kquay_ops by_input = { .open = on_open,
	.input = on_input,
	.eof = on_eof,
	.drained = act,
	.close = on_close };

/* -- the peers ------------------------------------------------------------- */

static void
leave(struct peer *p)
{
	close(p->fd);
	p->fd = -1;
}

static void
join(struct peer *p)
{
	unsigned serial = p->serial + 1;

	memset(p, 0, sizeof(*p));
	p->serial = serial;
	p->fd = roll(2) ? kit_connect() : kit_connect_unix(path);
	/* A UNIX socket's backlog may be full. */
	ck_assert(p->fd != -1 || errno == EAGAIN);
}

static void
listen_to(struct peer *p)
{
	static char buf[65536];
	ssize_t n, i;

	n = recv(p->fd, buf, 1 + roll(sizeof(buf)), 0);
	if (n == -1 && errno == EAGAIN)
		return;
	for (i = 0; i < n; i++)
		if (buf[i] != '\n') {
			ck_assert(buf[i] >= '0' && buf[i] <= '9');
			p->number = p->number * 10 + (unsigned)(buf[i] - '0');
		} else {
			ck_assert_uint_eq(p->number, p->got);
			p->got++;
			p->number = 0;
		}
	if (n > 0)
		return;
	/* A reset is the end of those that were not owed anything. */
	settle(p);
	leave(p);
}

static void
talk(struct peer *p)
{
	static const struct linger reset = { .l_onoff = 1 };
	char line[64];
	int len;

	if (roll(60) == 0) {
		if (roll(2))
			setsockopt(p->fd, SOL_SOCKET, SO_LINGER, &reset,
			    sizeof(reset));
		leave(p);
		return;
	}
	if (p->done)
		return;
	len = snprintf(line, sizeof(line), "%u.%u %u.\n", (unsigned)(p - peers),
	    p->serial, p->sent);
	if (p->half) {
		if (send(p->fd, line + 2, (size_t)len - 2, MSG_NOSIGNAL) !=
		    len - 2)
			p->done = true;
		p->half = false;
		p->sent++;
	} else if (roll(8) == 0) {
		p->half = send(p->fd, line, 2, MSG_NOSIGNAL) == 2;
		p->done = !p->half;
	} else {
		if (send(p->fd, line, (size_t)len, MSG_NOSIGNAL) != len)
			p->done = true;
		p->sent++;
	}
	if (roll(100) == 0) {
		p->done = true;
		shutdown(p->fd, SHUT_WR);
	}
}

static void
storm(int one_of, int flags)
{
	struct kquay_conf conf = { .maxconn = SLOTS,
		.udatasz = sizeof(struct side),
		.outmax = OUTMAX,
		.outhi = 32 * 1024,
		.idle = 3000,
		.flags = flags,
		.sys = &sys };
	const char *ms = getenv("STORM_MS");
	int64_t end = kit_ms() + (ms != NULL ? atoi(ms) : 1000);
	int before = unit_descriptors(), i, turns = 0;
	struct kquay_conn *c;
	struct kquay_stat st;

	opened = closed = posted = called = adopted = 0;
	stale = 0;
	faults = one_of;
	kit_start(&by_line, &conf);
	path = kit_path("storm.s");
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	for (i = 0; i < NPEERS; i++)
		peers[i].fd = -1;
	for (; turns++ % 64 != 0 || kit_ms() < end;) {
		struct peer *p = &peers[roll(NPEERS)];

		if (p->fd == -1)
			join(p);
		else if (roll(2))
			talk(p);
		else
			listen_to(p);
		if (turns % 8 == 0)
			ck_assert_int_ne(kquay_step(q, 0), -1);
		if (turns % 32 == 0 && (c = anyone()) != NULL)
			kquay_pause(c, 0);
	}
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.accepted, opened);
	ck_assert_uint_eq(st.closed, closed);
	ck_assert_uint_gt(closed, 10); /* a sanitizer makes all slow */
	for (i = 0; i < NPEERS; i++)
		if (peers[i].fd != -1)
			leave(&peers[i]);
	kit_stop();
	ck_assert_uint_eq(opened, closed);
	ck_assert_uint_eq(posted, called);
	ck_assert_int_eq(unit_descriptors(), before);
	printf("%d turns, %u connections\n", turns, opened);
}

static void
seed(void)
{
	rolls = getenv("STORM") != NULL ? (unsigned)atoi(getenv("STORM")) :
					  (unsigned)kit_ms();
	printf("STORM=%u\n", rolls);
	fflush(stdout);
}

START_TEST(without_faults)
{
	seed();
	storm(0, 0);
}
END_TEST

START_TEST(with_faults)
{
	seed();
	storm(20, 0);
}
END_TEST

START_TEST(with_callers_who_wait)
{
	seed();
	storm(100, KQUAY_FULLWAIT);
}
END_TEST

static const TTest **const tests[] = {
	&without_faults,
	&with_faults,
	&with_callers_who_wait,
};

KIT_MAIN("server_storm", tests)
