/*
 * filter_proc.c: EVFILT_PROC, the end of a process.
 *
 * Each knote has a pidfd in the queue's epoll, which is closed when the end has
 * been seen.  The status is read then, before the program can have learned of
 * the end from us and reap it.
 */
#include <sys/epoll.h>

#include <errno.h>
#include <stdlib.h>

#include "kq.h"
#include "pidfd.h"
#include "proc.h"

#define TRACKING (NOTE_FORK | NOTE_EXEC | NOTE_TRACK)

static void
let_go(struct kqueue *q, struct proc *p)
{
	if (p->p_fd == -1)
		return;
	/* A child that is being forked may have a copy. */
	epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, p->p_fd, NULL);
	fd_close(p->p_fd);
	p->p_fd = -1;
}

static int
proc_watch(struct kqueue *q, struct object *o)
{
	const struct proc *p = o->o_state;

	if (p->p_fd == -1)
		return 0;
	return queue_watch(q, p->p_fd, EPOLLIN,
	    tag_make(TAG_OBJECT, o->o_gen, o->o_index));
}

int
proc_new(struct object *o)
{
	struct proc *p;

	if ((p = calloc(1, sizeof(*p))) == NULL)
		return ENOMEM;
	p->p_fd = -1;
	o->o_state = p;
	return 0;
}

void
proc_free(struct kqueue *q, struct object *o)
{
	let_go(q, o->o_state);
	free(o->o_state);
	o->o_state = NULL;
}

static int
proc_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct proc *p;
	int error;

	if (kev->fflags & TRACKING)
		return ENOTSUP;
	if ((error = proc_new(o)) != 0)
		return error;
	p = o->o_state;
	o->o_knote.kn_fflags = kev->fflags;
	error = pidfd_open_own(kev->ident, &p->p_fd);
	if (error == 0 && (kev->fflags & NOTE_EXIT) == 0 &&
	    pidfd_has_ended(p->p_fd))
		error = ESRCH;
	if (error == 0)
		error = proc_watch(q, o);
	if (error != 0)
		proc_free(q, o);
	return error == ENOSPC ? ENOMEM : error;
}

static int
proc_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	if (kev->fflags & TRACKING)
		return ENOTSUP;
	o->o_knote.kn_fflags = kev->fflags;
	return 0;
}

bool
proc_active(struct kqueue *q, struct object *o)
{
	const struct proc *p = o->o_state;

	return p->p_notes != 0;
}

/* NOTE_CHILD alone: it means another thing by data than NOTE_EXIT does. */
static bool
report_child(struct object *o, struct kevent *ev)
{
	struct proc *p = o->o_state;

	ev->fflags = NOTE_CHILD;
	ev->data = p->p_parent;
	p->p_notes &= ~(uint32_t)NOTE_CHILD;
	return true;
}

bool
proc_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	struct proc *p = o->o_state;
	bool any = p->p_notes != 0;

	if (p->p_notes & NOTE_CHILD) {
		report_child(o, ev);
	} else {
		ev->flags |= p->p_modes;
		o->o_knote.kn_flags |= p->p_modes;
		p->p_modes = 0;
		ev->fflags = p->p_notes;
		ev->data = p->p_notes & NOTE_EXIT ? p->p_status : 0;
		p->p_notes = 0;
	}
	if (p->p_notes == 0) {
		o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
		if (p->p_ended)
			ev->flags |= EV_EOF | EV_ONESHOT;
	}
	return any;
}

/* The pidfd polls as readable. */
static void
proc_event(struct kqueue *q, struct object *o)
{
	struct proc *p = o->o_state;
	int status;

	if (p->p_ended || !pidfd_has_ended(p->p_fd))
		return;
	pidfd_status(p->p_fd, &status);
	proc_end(q, o, status);
}

const struct filter filter_proc = {
	.f_attach = proc_attach,
	.f_detach = proc_free,
	.f_touch = proc_touch,
	.f_active = proc_active,
	.f_report = proc_report,
	.f_event = proc_event,
	.f_watch = proc_watch,
	.f_forced = EV_CLEAR,
};

void
proc_note(struct kqueue *q, struct object *o, uint32_t notes)
{
	struct proc *p = o->o_state;

	p->p_notes |= notes;
	if (p->p_notes != 0)
		object_activate(q, o);
}

void
proc_end(struct kqueue *q, struct object *o, int status)
{
	uint32_t wanted = o->o_knote.kn_fflags;
	struct proc *p = o->o_state;

	let_go(q, p);
	p->p_ended = true;
	p->p_status = status;
	if (wanted & NOTE_EXIT)
		p->p_notes |= wanted & (NOTE_EXIT | NOTE_EXITSTATUS);
	if (p->p_notes != 0)
		object_activate(q, o);
	else
		object_free(q, o);
}
