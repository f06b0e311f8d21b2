/*
 * filter_proc.c: EVFILT_PROC, what a process does, mostly its end.
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
#include "track.h"

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
	struct proc *p = o->o_state;

	let_go(q, p);
	if (p->p_tracked)
		track_close(q);
	free(p);
	o->o_state = NULL;
}

int
proc_hold(struct kqueue *q, struct object *o)
{
	struct proc *p = o->o_state;
	int error;

	if ((error = pidfd_open_own(o->o_ident, &p->p_fd)) != 0)
		return error;
	if ((error = proc_watch(q, o)) != 0)
		let_go(q, p);
	return error;
}

/* What it takes to see what is wanted. */
static int
provide(struct kqueue *q, struct proc *p, uint32_t wanted)
{
	int error;

	if ((wanted & TRACKING) == 0 || p->p_tracked)
		return 0;
	if ((error = track_open(q)) == 0)
		p->p_tracked = true;
	return error;
}

static int
proc_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct proc *p;
	int error;

	track_collect(q); /* what is known is of a former process */
	if ((error = proc_new(o)) != 0)
		return error;
	p = o->o_state;
	if ((error = provide(q, p, kev->fflags)) == 0 &&
	    (error = proc_hold(q, o)) == 0 && (kev->fflags & NOTE_EXIT) == 0 &&
	    pidfd_has_ended(p->p_fd))
		error = ESRCH;
	if (error != 0)
		proc_free(q, o);
	else
		o->o_knote.kn_fflags = kev->fflags;
	return error;
}

/* What has happened until now happened to the former notes. */
static int
proc_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	uint32_t gen = o->o_gen;
	int error;

	track_collect(q);
	if (o->o_gen != gen)
		return ENOENT;
	if ((error = provide(q, o->o_state, kev->fflags)) == 0)
		o->o_knote.kn_fflags = kev->fflags;
	return error;
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

/* The pidfd polls as readable: what came before its end is told before it. */
static void
proc_event(struct kqueue *q, struct object *o)
{
	uint32_t gen = o->o_gen;

	track_collect(q);
	if (o->o_gen == gen)
		proc_look(q, o);
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
proc_look(struct kqueue *q, struct object *o)
{
	const struct proc *p = o->o_state;
	int status;

	if (p->p_ended || p->p_fd == -1)
		return;
	if (!pidfd_of_child(p->p_fd, &status)) {
		if (!pidfd_has_ended(p->p_fd))
			return;
		if (!pidfd_status(p->p_fd, &status) && p->p_gone)
			status = p->p_told;
	}
	proc_end(q, o, status);
}

void
proc_note(struct kqueue *q, struct object *o, uint32_t notes)
{
	struct proc *p = o->o_state;

	if (p->p_ended)
		return;
	notes &= o->o_knote.kn_fflags | ~(uint32_t)TRACKING;
	p->p_notes |= notes;
	if (notes != 0)
		object_activate(q, o);
}

/*
 * Its modes work on what it reports of itself, so they come with the first
 * event after NOTE_CHILD.
 */
int
proc_child(struct kqueue *q, const struct object *parent, int pid)
{
	const uint8_t late = EV_ONESHOT | EV_DISPATCH;
	const struct knote *kn = &parent->o_knote;
	struct object *o;
	struct proc *p;

	if ((o = object_find(q, EVFILT_PROC, (uintptr_t)pid)) == NULL) {
		if (object_new(q, EVFILT_PROC, (uintptr_t)pid, &o) != 0)
			return ENOMEM;
		if (proc_new(o) != 0 || track_open(q) != 0) {
			free(o->o_state);
			object_discard(q, o);
			return ENOMEM;
		}
		p = o->o_state;
		p->p_tracked = true;
		p->p_modes = kn->kn_flags & late;
		o->o_knote.kn_flags = kn->kn_flags & (uint8_t)~late;
		o->o_knote.kn_fflags = kn->kn_fflags;
		o->o_knote.kn_udata = kn->kn_udata;
	}
	if ((p = o->o_state) == NULL || p->p_ended)
		return EEXIST;
	p->p_parent = (int)parent->o_ident;
	proc_note(q, o, NOTE_CHILD);
	return 0;
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
