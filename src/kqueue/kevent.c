/*
 * kevent.c: kevent(), the arguments and the change list.
 *
 * The order of things: the arguments, the changes, and only if none of these
 * has left an entry in events[], the wait.
 */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stddef.h>

#include "export.h"
#include "process.h"
#include "turn.h"

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
#define AHEAD_EARLY 16
#define AHEAD 8
#define FEW_OBJECTS 4096 /* so few are in the cache anyway */

static void
fetch_early(const struct kqueue *q, const struct kevent *change)
{
	object_fetch_early(q, change->filter, change->ident);
}

static SELDOM void
fetch_first(const struct kqueue *q, const struct kevent *changes, int n)
{
	int i;

	for (i = 0; i < AHEAD_EARLY && i < n; i++)
		fetch_early(q, &changes[i]);
	for (i = 0; i < AHEAD && i < n; i++)
		object_fetch(q, changes[i].filter, changes[i].ident);
}

static void
fetch_ahead(const struct kqueue *q, const struct kevent *changes, int left)
{
	if (left > AHEAD_EARLY)
		fetch_early(q, &changes[AHEAD_EARLY]);
	if (left > AHEAD)
		object_fetch(q, changes[AHEAD].filter, changes[AHEAD].ident);
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
	bool ahead = nchanges > 1 && q->q_nobjects > FEW_OBJECTS;
	int error, i;

	if (ahead)
		fetch_first(q, changes, nchanges);
	for (i = 0; i < nchanges; i++) {
		change = &changes[i];
		if (change->filter == 0)
			continue;
		if (ahead)
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
	if ((q->q_in_list = nchanges > 1))
		q->q_now[CLOCK_UPTIME] = q->q_now[CLOCK_WALL] = 0;
	error = apply(q, changes, nchanges, events, nevents, stored, full);
	q->q_in_list = false;
	queue_unlock(q);
	return error;
}

/* What a list of changes mostly is: one, and no room for an answer. */
static __attribute__((noinline)) int
change_one(int kq, const struct kevent *change)
{
	struct kqueue *q;
	uint32_t life = 0;
	int error;

	if ((q = kqueue_find(kq, &life)) == NULL)
		return -1;
	if ((error = queue_lock(q, life)) == 0) {
		error = change->filter == 0 ? 0 : change_apply(q, change);
		queue_unlock(q);
	} else if (error == EDEADLK) {
		error = defer(q, life, change, 1);
	}
	if (error == 0)
		return 0;
	errno = error;
	return -1;
}

/* A limit of time that epoll_wait() takes: none, or whole milliseconds. */
static inline bool
limit_of(const struct timespec *timeout, int *ms)
{
	*ms = -1;
	if (timeout == NULL)
		return true;
	if (timeout->tv_sec >= INT_MAX / 1000 ||
	    timeout->tv_nsec % 1000000 != 0)
		return false;
	*ms = (int)timeout->tv_sec * 1000 + (int)(timeout->tv_nsec / 1000000);
	return true;
}

/*
 * What a wait mostly is: for one thread, with nothing in the FIFO, and all that
 * comes is plain.  All of it is in one function, as after a system call the
 * processor has forgotten where calls return to.  If it has to go on it must
 * know when it began, and by the coarse clock it would end too early: that one
 * may be late by more than its tick.
 */
static inline __attribute__((always_inline)) int
wait_plain(struct kqueue *q, uint32_t life, struct kevent *events, int nevents,
    const struct timespec *timeout, int ms, int *stored)
{
	struct epoll_event buf[BATCH];
	struct begun b;
	int max = nevents < BATCH ? nevents : BATCH, n, i = 0, error;
	bool fill = false;
	uint16_t number = 0;

	if (ms > 0)
		clock_gettime(CLOCK_MONOTONIC, &b.b_since);
	if ((n = epoll_wait(q->q_epoll, buf, max, ms)) == 0)
		return 0;
	if (n > 0) {
		if ((error = queue_lock(q, life)) != 0)
			return error;
		number = turn_next(q);
		while (
		    i < n && take_plain(q, number, &buf[i], &events[i], &fill))
			i++;
		if (i == n && (n < max || n == nevents)) {
			turn_ends(q, n == nevents, false);
			queue_unlock(q);
			*stored = fill ? source_fill(events, n) : n;
			if (*stored != 0 || ms == 0)
				return 0;
			n = number = 0;
		}
	}
	b.b_buf = buf;
	b.b_max = max;
	b.b_n = n;
	b.b_taken = i;
	b.b_number = number;
	b.b_fill = fill;
	return collect(q, life, events, nevents, timeout, true, &b, stored);
}

static __attribute__((noinline)) int
whole_call(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	struct kqueue *q;
	uint32_t life = 0;
	bool full = false;
	int error, ms, stored = 0;

	if ((q = kqueue_find(kq, &life)) == NULL)
		return -1;
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
	if (process_single_threaded() && turn_is_fresh(q) && !process_strict &&
	    limit_of(timeout, &ms))
		error =
		    wait_plain(q, life, events, nevents, timeout, ms, &stored);
	else
		error = collect(q, life, events, nevents, timeout,
		    nchanges == 0, NULL, &stored);
	if (error == 0)
		return stored;

fail:
	errno = error;
	return -1;
}

/* Each of the two saves the registers that it needs, and no more. */
KQ_EXPORT int
kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	return nchanges == 1 && nevents == 0 && changes != NULL ?
	    change_one(kq, changes) :
	    whole_call(kq, changes, nchanges, events, nevents, timeout);
}
