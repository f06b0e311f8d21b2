/*
 * recheck.c: conditions of which the kernel sends no edge.
 *
 * A WRITE knote with NOTE_LOWAT waits for more free space than epoll waits
 * for, and an EMPTY knote for what TCP's peer acknowledges; no edge comes when
 * that is reached.  While there is such a knote that waits, an internal timer
 * has it looked at again: after 1 ms, then after twice as long each time, up to
 * 64 ms.  A queue that never had such a knote has no such timer.
 */
#include "kq.h"

#define FIRST_NS 1000000u
#define LAST_NS 64000000u

static int
recheck_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	return timer_hold(q, o);
}

static void
recheck_detach(struct kqueue *q, struct object *o)
{
	timer_release(q, o);
}

static int
recheck_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	return 0;
}

static bool
recheck_active(struct kqueue *q, struct object *o)
{
	return false;
}

/* Never an event of its own: those that it puts into the FIFO are. */
static bool
recheck_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	struct fdnote *fn;
	int fd;

	q->q_recheck_turn = q->q_turn;
	q->q_rechecking = false;
	for (fd = 0; (fn = descriptor_next(q, &fd)) != NULL; fd++)
		if (knote_enabled(&fn->fn_knote[FN_WRITE]) &&
		    (fn->fn_knote[FN_WRITE].kn_fflags & NOTE_LOWAT))
			descriptor_push(q, fd, fn, FN_WRITE);
	empty_recheck(q);
	return false;
}

const struct filter filter_recheck = {
	.f_attach = recheck_attach,
	.f_detach = recheck_detach,
	.f_touch = recheck_touch,
	.f_active = recheck_active,
	.f_report = recheck_report,
};

int
recheck_open(struct kqueue *q)
{
	struct object *o;
	int error;

	if (object_find(q, FILTER_RECHECK, 0) != NULL)
		return 0;
	if ((error = object_new(q, FILTER_RECHECK, 0, &o)) != 0)
		return error;
	if ((error = recheck_attach(q, o, NULL)) != 0)
		object_discard(q, o);
	return error;
}

/* Found too full again right after the timer: twice the time. */
void
recheck_later(struct kqueue *q)
{
	if (q->q_rechecking)
		return;
	if (q->q_turn != q->q_recheck_turn)
		q->q_recheck_ns = FIRST_NS;
	else if (q->q_recheck_ns < LAST_NS)
		q->q_recheck_ns *= 2;
	q->q_rechecking = true;
	timer_start(q, object_find(q, FILTER_RECHECK, 0), q->q_recheck_ns);
}
