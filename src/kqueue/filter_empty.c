/*
 * filter_empty.c: EVFILT_EMPTY, nothing that was sent is left in the socket.
 *
 * When the peer of a UNIX socket takes the last byte there is an edge; when
 * TCP's peer acknowledges it there is none, and recheck.c looks again after
 * some time.  With EV_CLEAR the acknowledged bytes are counted, so that what
 * was sent and acknowledged between two looks is news.
 */
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/sockios.h>

#include <errno.h>
#include <stdlib.h>

#include "kq.h"
#include "side.h"

struct empty {
	struct empty *e_next, *e_prev; /* in q_empties, if it has no edges */
	struct object *e_object;
	uint64_t e_acked; /* when it was returned */
	bool e_edges;
	bool e_returned; /* with EV_CLEAR: news is needed */
};

/*
 * Bytes, or the memory that they take.  A UNIX socket has one left over while
 * it is making the edge, and never as few otherwise.
 */
static int
unsent(int fd, const struct empty *e)
{
	int n;

	if (ioctl(fd, SIOCOUTQ, &n) == -1 || (e->e_edges && n == 1))
		return 0;
	return n;
}

/*
 * Bytes that the peer has acknowledged so far; Linux counts them since 4.1.
 * The struct tcp_info of glibc ends before, and that of <linux/tcp.h> cannot
 * stand beside it in one file.
 */
static uint64_t
acked(int fd)
{
	struct {
		unsigned char before[120];
		uint64_t bytes_acked;
	} ti;
	socklen_t len = sizeof(ti);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == -1 ||
	    len < sizeof(ti))
		return 0;
	return ti.bytes_acked;
}

static bool
is_unix(int fd)
{
	socklen_t len = sizeof(int);
	int domain;

	return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 &&
	    domain == AF_UNIX;
}

static void
enlist(struct kqueue *q, struct empty *e)
{
	e->e_prev = NULL;
	e->e_next = q->q_empties;
	if (e->e_next != NULL)
		e->e_next->e_prev = e;
	q->q_empties = e;
}

static void
delist(struct kqueue *q, struct empty *e)
{
	if (e->e_prev != NULL)
		e->e_prev->e_next = e->e_next;
	else
		q->q_empties = e->e_next;
	if (e->e_next != NULL)
		e->e_next->e_prev = e->e_prev;
}

static int
empty_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	socklen_t len = sizeof(int);
	int type, error, fd = (int)kev->ident;
	struct empty *e;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
		return errno == EBADF ? EBADF : EINVAL;
	if ((e = calloc(1, sizeof(*e))) == NULL)
		return ENOMEM;
	e->e_object = o;
	e->e_edges = is_unix(fd);
	if ((error = side_add(q, o, e->e_edges ? EPOLLOUT : 0)) != 0 ||
	    (!e->e_edges && (error = recheck_open(q)) != 0)) {
		side_remove(q, o);
		free(e);
		return error;
	}
	o->o_state = e;
	if (e->e_edges)
		side_settle(q, o);
	else
		enlist(q, e);
	return 0;
}

static void
empty_detach(struct kqueue *q, struct object *o)
{
	struct empty *e = o->o_state;

	side_remove(q, o);
	if (!e->e_edges)
		delist(q, e);
	free(e);
	o->o_state = NULL;
}

static int
empty_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	o->o_knote.kn_fflags = kev->fflags;
	return 0;
}

/* If it is not, somebody has to look again. */
static bool
empty_active(struct kqueue *q, struct object *o)
{
	struct empty *e = o->o_state;
	int fd = (int)o->o_ident;

	if (unsent(fd, e) == 0 && !(e->e_returned && acked(fd) == e->e_acked))
		return true;
	if (!e->e_edges)
		recheck_later(q);
	return false;
}

static bool
empty_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	struct empty *e = o->o_state;
	int fd = (int)o->o_ident;

	ev->fflags = 0;
	ev->data = unsent(fd, e);
	if (!empty_active(q, o))
		return false;
	if ((o->o_knote.kn_flags & EV_CLEAR) == 0)
		return true;
	o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	if (!e->e_edges) {
		e->e_returned = true;
		e->e_acked = acked(fd);
		recheck_later(q);
	}
	return true;
}

static void
empty_event(struct kqueue *q, struct object *o)
{
	const struct empty *e = o->o_state;

	if (e->e_edges && unsent((int)o->o_ident, e) == 0)
		object_activate(q, o);
}

const struct filter filter_empty = {
	.f_attach = empty_attach,
	.f_detach = empty_detach,
	.f_touch = empty_touch,
	.f_active = empty_active,
	.f_report = empty_report,
	.f_same = side_same,
	.f_event = empty_event,
	.f_isfd = true,
};

void
empty_recheck(struct kqueue *q)
{
	struct object *o;
	struct empty *e;

	for (e = q->q_empties; e != NULL; e = e->e_next) {
		o = e->e_object;
		if (knote_enabled(&o->o_knote) && empty_active(q, o))
			object_activate(q, o);
	}
}
