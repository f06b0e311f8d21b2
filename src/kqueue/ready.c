/*
 * ready.c: the FIFO of active knotes that epoll does not know to be active.
 *
 * An entry names a knote; KN_QUEUED in the knote says that the entry counts.
 * The entry of a knote that has gone stays behind until it is met or until
 * room is needed.  A READ or WRITE knote leaves its KN_QUEUED in the slot when
 * it goes, and the next knote in the slot inherits the place, so a slot never
 * has
 * two entries that count.
 */
#include <errno.h>
#include <stdlib.h>

#include "kq.h"

#define MINRING 16

/* The knote that an entry stands for, if it still does. */
static struct knote *
knote_of(struct kqueue *q, const struct ready *r)
{
	struct knote *kn = NULL;
	struct fdnote *fn;
	struct object *o;

	if (r->r_filter == EVFILT_READ || r->r_filter == EVFILT_WRITE) {
		fn = descriptor_tagged(q, (int)r->r_index, r->r_gen);
		if (fn != NULL)
			kn = &fn->fn_knote[r->r_filter == EVFILT_WRITE];
	} else {
		o = object_at(q, r->r_index);
		if (o != NULL && o->o_gen == r->r_gen)
			kn = &o->o_knote;
	}
	return kn != NULL && (kn->kn_status & KN_QUEUED) != 0 ? kn : NULL;
}

static struct ready *
entry(struct fifo *f, uint32_t place)
{
	return &f->f_ring[place & (f->f_size - 1)];
}

/* Drop the entries that count no more; the others keep their order. */
static void
compact(struct kqueue *q)
{
	struct fifo *f = &q->q_ready;
	uint32_t from, to = f->f_head;

	for (from = f->f_head; from != f->f_tail; from++)
		if (knote_of(q, entry(f, from)) != NULL)
			*entry(f, to++) = *entry(f, from);
	__atomic_store_n(&f->f_tail, to, __ATOMIC_RELAXED);
}

static int
grow(struct fifo *f)
{
	uint32_t size = f->f_size == 0 ? MINRING : 2 * f->f_size, i;
	struct ready *ring;

	if (size == 0 || (ring = malloc(size * sizeof(*ring))) == NULL)
		return ENOMEM;
	for (i = f->f_head; i != f->f_tail; i++)
		ring[i & (size - 1)] = *entry(f, i);
	free(f->f_ring);
	f->f_ring = ring;
	f->f_size = size;
	return 0;
}

/* Room for n more entries than there are; 0 or ENOMEM. */
static int
make_room(struct kqueue *q, uint32_t n)
{
	struct fifo *f = &q->q_ready;

	if (f->f_tail - f->f_head + n <= f->f_size)
		return 0;
	compact(q);
	/* More than half full: to compact again soon would cost too much. */
	if (f->f_tail - f->f_head + n > f->f_size / 2 && grow(f) != 0 &&
	    f->f_tail - f->f_head + n > f->f_size)
		return ENOMEM;
	return 0;
}

int
ready_reserve(struct kqueue *q)
{
	if (make_room(q, q->q_ready.f_reserved + 1) != 0)
		return ENOMEM;
	q->q_ready.f_reserved++;
	return 0;
}

void
ready_release(struct kqueue *q)
{
	q->q_ready.f_reserved--;
}

int
ready_push(struct kqueue *q, struct knote *kn, int filter, uint32_t index,
    uint32_t gen, enum place place)
{
	struct fifo *f = &q->q_ready;
	uint32_t room = place == PLACE_RESERVED ? 1 : f->f_reserved + 1;

	kn->kn_status |= KN_ACTIVE;
	if (kn->kn_status & KN_QUEUED)
		return 0;
	if (make_room(q, room) != 0)
		return ENOMEM;
	*entry(f, f->f_tail) = (struct ready){ .r_index = index,
		.r_gen = gen,
		.r_filter = (int16_t)filter };
	__atomic_store_n(&f->f_tail, f->f_tail + 1, __ATOMIC_RELAXED);
	kn->kn_status |= KN_QUEUED;
	return 0;
}

struct knote *
ready_pop(struct kqueue *q, uint32_t mark, struct ready *r)
{
	struct fifo *f = &q->q_ready;
	struct knote *kn = NULL;

	/* The mark lies beyond the end if room was made since it was set. */
	while (kn == NULL && f->f_head != mark && f->f_head != f->f_tail) {
		*r = *entry(f, f->f_head);
		__atomic_store_n(&f->f_head, f->f_head + 1, __ATOMIC_RELAXED);
		if ((kn = knote_of(q, r)) != NULL)
			kn->kn_status &= (uint8_t)~KN_QUEUED;
	}
	return kn;
}

uint32_t
ready_count(struct kqueue *q)
{
	struct fifo *f = &q->q_ready;
	const struct knote *kn;
	uint32_t i, n = 0;

	for (i = f->f_head; i != f->f_tail; i++) {
		kn = knote_of(q, entry(f, i));
		if (kn != NULL && knote_enabled(kn) &&
		    (kn->kn_status & (KN_ACTIVE | KN_FORCED)) != 0)
			n++;
	}
	return n;
}

void
ready_fini(struct kqueue *q)
{
	struct fifo *f = &q->q_ready;

	free(f->f_ring);
	f->f_ring = NULL;
	f->f_size = f->f_reserved = 0;
	/* A thread that comes late looks at these without the lock. */
	__atomic_store_n(&f->f_head, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&f->f_tail, 0, __ATOMIC_RELAXED);
}
