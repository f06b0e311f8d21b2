/*
 * side.c: an epoll beside the queue's, for one filter.
 *
 * Such an epoll is an object of FILTER_SIDE, named by the number of the filter
 * that it is for.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "kq.h"
#include "side.h"

#define SIDE_EVENTS 64

static int
side_watch(struct kqueue *q, struct object *o)
{
	return queue_watch(q, (int)o->o_data, EPOLLIN,
	    tag_make(TAG_OBJECT, o->o_gen, o->o_index));
}

static int
side_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	int fd, error;

	if ((fd = fd_move_high(epoll_create1(EPOLL_CLOEXEC))) == -1)
		return errno;
	o->o_data = fd;
	if ((error = side_watch(q, o)) != 0)
		fd_close(fd);
	return error;
}

static void
side_detach(struct kqueue *q, struct object *o)
{
	fd_close((int)o->o_data);
	o->o_data = -1;
}

static int
side_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	return 0;
}

static bool
side_active(struct kqueue *q, struct object *o)
{
	return false;
}

static bool
side_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	return false;
}

static void
side_event(struct kqueue *q, struct object *o)
{
	struct epoll_event ev[SIDE_EVENTS];
	int n, i;

	do {
		n = (int)syscall(SYS_epoll_pwait, (int)o->o_data, ev,
		    SIDE_EVENTS, 0, NULL, _NSIG / 8);
		for (i = 0; i < n; i++)
			object_event(q, ev[i].data.u64);
	} while (n == SIDE_EVENTS);
}

const struct filter filter_side = {
	.f_attach = side_attach,
	.f_detach = side_detach,
	.f_touch = side_touch,
	.f_active = side_active,
	.f_report = side_report,
	.f_event = side_event,
	.f_watch = side_watch,
};

static struct object *
side_find(struct kqueue *q, const struct object *o)
{
	return object_find(q, FILTER_SIDE, (uintptr_t)-o->o_filter);
}

/* The epoll for the filter of o, -1 if there is none. */
static int
side_of(struct kqueue *q, const struct object *o)
{
	struct object *side = side_find(q, o);

	return side != NULL ? (int)side->o_data : -1;
}

static int
side_open(struct kqueue *q, const struct object *o)
{
	struct object *side;
	int error;

	if (side_of(q, o) != -1)
		return 0;
	error = object_new(q, FILTER_SIDE, (uintptr_t)-o->o_filter, &side);
	if (error != 0)
		return error;
	if ((error = side_attach(q, side, NULL)) != 0)
		object_discard(q, side);
	return error;
}

int
side_add(struct kqueue *q, struct object *o, uint32_t events)
{
	struct epoll_event ev = { .events = events | EPOLLET,
		.data.u64 = tag_make(TAG_OBJECT, o->o_gen, o->o_index) };
	int fd = (int)o->o_ident, error;

	if ((error = side_open(q, o)) != 0)
		return error;
	if (epoll_ctl(side_of(q, o), EPOLL_CTL_ADD, fd, &ev) == 0 ||
	    /* Left from before the number was closed behind our back. */
	    (errno == EEXIST &&
		epoll_ctl(side_of(q, o), EPOLL_CTL_MOD, fd, &ev) == 0))
		return 0;
	return errno == ENOSPC ? ENOMEM : errno;
}

void
side_settle(struct kqueue *q, const struct object *o)
{
	side_event(q, side_find(q, o));
}

void
side_remove(struct kqueue *q, struct object *o)
{
	epoll_ctl(side_of(q, o), EPOLL_CTL_DEL, (int)o->o_ident, NULL);
}

/* To add what is there already fails, and disturbs nothing. */
bool
side_same(struct kqueue *q, struct object *o)
{
	struct epoll_event ev = { .events = EPOLLET };
	int fd = (int)o->o_ident;

	if (epoll_ctl(side_of(q, o), EPOLL_CTL_ADD, fd, &ev) == -1)
		return errno == EEXIST;
	epoll_ctl(side_of(q, o), EPOLL_CTL_DEL, fd, NULL);
	return false;
}
