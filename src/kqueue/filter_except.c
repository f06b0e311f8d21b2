/*
 * filter_except.c: EVFILT_EXCEPT, urgent data on a socket.
 *
 * Active while there is an urgent byte, or its mark is what is read next.  An
 * edge puts the knote into the FIFO, where it stays as long as that holds.
 */
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>

#include <errno.h>

#include "kq.h"
#include "side.h"

static int
except_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	socklen_t len = sizeof(int);
	int type, error;

	if (getsockopt((int)kev->ident, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
		return errno == EBADF ? EBADF : EINVAL;
	o->o_knote.kn_fflags = kev->fflags;
	if ((error = side_add(q, o, EPOLLPRI | EPOLLRDHUP)) == 0)
		side_settle(q, o);
	return error;
}

static void
except_detach(struct kqueue *q, struct object *o)
{
	side_remove(q, o);
}

static int
except_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	o->o_knote.kn_fflags = kev->fflags;
	return 0;
}

static bool
is_at_mark(int fd)
{
	int at = 0;

	return ioctl(fd, SIOCATMARK, &at) == 0 && at != 0;
}

static bool
except_active(struct kqueue *q, struct object *o)
{
	int fd = (int)o->o_ident;

	return (o->o_knote.kn_fflags & NOTE_OOB) != 0 &&
	    (source_poll(fd, EPOLLPRI | EPOLLRDHUP) != 0 || is_at_mark(fd));
}

static bool
except_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	uint32_t mask;
	int fd = (int)o->o_ident;

	ev->fflags = 0;
	if (!except_active(q, o))
		return false;
	mask = source_poll(fd, EPOLLPRI | EPOLLRDHUP);
	if (mask & EPOLLRDHUP)
		ev->flags |= EV_EOF;
	if (mask & EPOLLERR)
		ev->fflags = source_error(fd, FD_STREAM);
	else if ((mask & EPOLLPRI) || is_at_mark(fd))
		ev->fflags = NOTE_OOB;
	else if ((mask & EPOLLRDHUP) == 0)
		return false;
	if (o->o_knote.kn_flags & EV_CLEAR)
		o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	return true;
}

static void
except_event(struct kqueue *q, struct object *o)
{
	if (o->o_knote.kn_fflags & NOTE_OOB)
		object_activate(q, o);
}

const struct filter filter_except = {
	.f_attach = except_attach,
	.f_detach = except_detach,
	.f_touch = except_touch,
	.f_active = except_active,
	.f_report = except_report,
	.f_same = side_same,
	.f_event = except_event,
	.f_isfd = true,
};
