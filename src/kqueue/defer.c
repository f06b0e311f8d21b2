/*
 * defer.c: changes made in a signal handler that interrupted its own thread
 * while that held the queue's lock, or that of another queue when this one's is
 * held by another thread, which may be in the same position.
 *
 * They wait here until the lock is dropped.  The places are shared by all
 * queues and claimed one by one.  No memory is allocated: malloc() is not for
 * handlers.
 */
#include <errno.h>

#include "kq.h"

#define PLACES 64

enum state { FREE, CLAIMED, WAITING };

static struct deferred {
	uint32_t d_state;
	uint32_t d_ticket; /* the order within a queue */
	struct kqueue *d_queue;
	struct kevent d_change;
} places[PLACES];
static uint32_t tickets;

static bool
claim(struct deferred *d)
{
	uint32_t expected = FREE;

	return __atomic_compare_exchange_n(&d->d_state, &expected, CLAIMED, 0,
	    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
}

int
defer_change(struct kqueue *q, const struct kevent *change)
{
	struct deferred *d;

	for (d = places; d < places + PLACES; d++) {
		if (!claim(d))
			continue;
		__atomic_store_n(&d->d_queue, q, __ATOMIC_RELEASE);
		d->d_change = *change;
		d->d_ticket = __atomic_fetch_add(&tickets, 1, __ATOMIC_RELAXED);
		__atomic_store_n(&d->d_state, WAITING, __ATOMIC_RELEASE);
		__atomic_fetch_add(&q->q_deferred, 1, __ATOMIC_SEQ_CST);
		return 0;
	}
	return ENOMEM;
}

/* The oldest that waits for the queue. */
static struct deferred *
next(const struct kqueue *q)
{
	struct deferred *d, *oldest = NULL;

	for (d = places; d < places + PLACES; d++)
		if (__atomic_load_n(&d->d_queue, __ATOMIC_ACQUIRE) == q &&
		    __atomic_load_n(&d->d_state, __ATOMIC_ACQUIRE) == WAITING &&
		    (oldest == NULL ||
			(int32_t)(d->d_ticket - oldest->d_ticket) < 0))
			oldest = d;
	return oldest;
}

void
defer_apply(struct kqueue *q)
{
	struct deferred *d;
	struct kevent change;

	while ((d = next(q)) != NULL) {
		change = d->d_change;
		__atomic_store_n(&d->d_state, FREE, __ATOMIC_RELEASE);
		__atomic_fetch_sub(&q->q_deferred, 1, __ATOMIC_RELAXED);
		if (change.filter != 0)
			change_apply(q, &change);
	}
}

void
defer_forget(struct kqueue *q)
{
	struct deferred *d;

	while ((d = next(q)) != NULL)
		__atomic_store_n(&d->d_state, FREE, __ATOMIC_RELEASE);
	__atomic_store_n(&q->q_deferred, 0, __ATOMIC_RELAXED);
}
