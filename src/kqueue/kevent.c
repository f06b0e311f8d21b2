/*
 * kevent.c: kevent(), the arguments and the change list.
 *
 * The order of things: the arguments, the changes, and only if none of these
 * has left an entry in events[], the wait.
 */
#include <errno.h>
#include <pthread.h>
#include <stddef.h>

#include "export.h"
#include "kq.h"

static int
check(const struct kevent *changes, int nchanges, const struct kevent *events,
    int nevents, const struct timespec *timeout)
{
	if (nchanges < 0 || nevents < 0)
		return EINVAL;
	if ((nchanges > 0 && changes == NULL) ||
	    (nevents > 0 && events == NULL))
		return EFAULT;
	if (nevents > 0 && timeout != NULL &&
	    (timeout->tv_sec < 0 || timeout->tv_nsec < 0 ||
		timeout->tv_nsec >= 1000000000))
		return EINVAL;
	return 0;
}

/* The answer to a change: an errno value, or 0 for EV_RECEIPT. */
static void
answer(struct kevent *ev, const struct kevent *change, int error)
{
	*ev = *change;
	ev->flags = EV_ERROR;
	ev->fflags = 0;
	ev->data = error;
}

/* How far ahead of its change a key is looked up: see object_fetch(). */
#define AHEAD_CHAIN 8
#define AHEAD_OBJECT 4
#define FEW_OBJECTS 4096 /* so few are in the cache anyway */

static void
fetch_ahead(struct kqueue *q, const struct kevent *changes, int left)
{
	if (left > AHEAD_CHAIN)
		object_fetch_chain(q, changes[AHEAD_CHAIN].filter,
		    changes[AHEAD_CHAIN].ident);
	if (left > AHEAD_OBJECT)
		object_fetch(q, changes[AHEAD_OBJECT].filter,
		    changes[AHEAD_OBJECT].ident);
}

/*
 * Apply the changes in order.  *stored counts the answers in events[], which
 * may be the same array: an answer never overtakes the change it is for.
 * Without room an error ends the call and a receipt ends the list; *full says
 * that the latter happened.
 */
static int
apply(struct kqueue *q, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, int *stored, bool *full)
{
	const struct kevent *change;
	int error, i;

	for (i = 0; i < nchanges; i++) {
		change = &changes[i];
		if (change->filter == 0)
			continue;
		if (nchanges > AHEAD_OBJECT && q->q_nobjects > FEW_OBJECTS)
			fetch_ahead(q, change, nchanges - i);
		error = change_apply(q, change);
		if (error == 0 && (change->flags & EV_RECEIPT) == 0)
			continue;
		if (*stored < nevents) {
			answer(&events[(*stored)++], change, error);
		} else if (error != 0) {
			return error;
		} else {
			*full = true;
			break;
		}
	}
	return 0;
}

/*
 * We are in a signal handler that interrupted this thread while it was busy
 * with this queue, or with another while a second thread is with this one: the
 * changes are made as soon as that is done, and errors of theirs are lost.
 */
static int
defer(struct kqueue *q, uint32_t life, const struct kevent *changes,
    int nchanges)
{
	int error = 0, i;

	for (i = 0; i < nchanges && error == 0; i++)
		error = defer_change(q, &changes[i]);
	/* The second thread may have looked for the last time before. */
	if (queue_lock(q, life) == 0)
		queue_unlock(q);
	return error;
}

static int
change_list(struct kqueue *q, uint32_t life, const struct kevent *changes,
    int nchanges, struct kevent *events, int nevents, int *stored, bool *full)
{
	int error;

	error = queue_lock(q, life);
	if (error == EDEADLK && nevents == 0)
		return defer(q, life, changes, nchanges);
	if (error != 0)
		return error;
	error = apply(q, changes, nchanges, events, nevents, stored, full);
	queue_unlock(q);
	return error;
}

KQ_EXPORT int
kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	struct kqueue *q;
	uint32_t life;
	bool full = false;
	int error, stored = 0;

	if ((q = kqueue_find(kq)) == NULL)
		return -1;
	life = __atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE);
	if ((error = check(changes, nchanges, events, nevents, timeout)) != 0)
		goto fail;
	if (nevents > 0 && nchanges > 0)
		pthread_testcancel();
	if (nchanges > 0 &&
	    (error = change_list(q, life, changes, nchanges, events, nevents,
		 &stored, &full)) != 0)
		goto fail;
	if (stored > 0 || full || nevents == 0)
		return stored;
	error =
	    collect(q, life, events, nevents, timeout, nchanges == 0, &stored);
	if (error == 0)
		return stored;

fail:
	errno = error;
	return -1;
}
