/*
 * filter_user.c: EVFILT_USER, events that the program makes itself.
 *
 * The knote is active from NOTE_TRIGGER until it is returned (EV_CLEAR) or
 * until a change with EV_CLEAR takes the trigger back.  The smallest filter
 * there is: read it first.
 */
#include "kq.h"

static void
trigger(struct object *o, const struct kevent *kev)
{
	o->o_data = kev->data;
	if (kev->fflags & NOTE_TRIGGER)
		o->o_knote.kn_status |= KN_ACTIVE;
}

static int
user_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	o->o_knote.kn_fflags = kev->fflags & NOTE_FFLAGSMASK;
	trigger(o, kev);
	return 0;
}

static void
user_detach(struct kqueue *q, struct object *o)
{
}

static int
user_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct knote *kn = &o->o_knote;
	uint32_t bits = kev->fflags & NOTE_FFLAGSMASK;

	switch (kev->fflags & NOTE_FFCTRLMASK) {
	case NOTE_FFAND:
		kn->kn_fflags &= bits;
		break;
	case NOTE_FFOR:
		kn->kn_fflags |= bits;
		break;
	case NOTE_FFCOPY:
		kn->kn_fflags = bits;
		break;
	}
	trigger(o, kev);
	if (kev->flags & EV_CLEAR)
		kn->kn_status &= (uint8_t)~KN_ACTIVE;
	return 0;
}

static bool
user_active(struct kqueue *q, struct object *o)
{
	return (o->o_knote.kn_status & KN_ACTIVE) != 0;
}

static bool
user_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	ev->fflags = o->o_knote.kn_fflags;
	ev->data = o->o_data;
	if (o->o_knote.kn_flags & EV_CLEAR)
		o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	return true;
}

const struct filter filter_user = {
	.f_attach = user_attach,
	.f_detach = user_detach,
	.f_touch = user_touch,
	.f_active = user_active,
	.f_report = user_report,
};
