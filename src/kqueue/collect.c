/*
 * collect.c: wait, and gather what is to be returned.
 *
 *	FIFO ----> events[] <---- epoll_wait
 *		      |
 *		data and fflags, unlocked
 *
 * One turn: what stands in the FIFO, then what epoll has, which may bring more
 * into the FIFO (a timer, a signal, a trigger).  No knote is returned twice in
 * a turn.  When events[] is full and the FIFO has more, the next call goes on
 * with the same turn, and who has had his is passed over until all have: so
 * neither source starves the other (R-ORD-02).  A turn whose knotes all prove
 * to have nothing is followed by another: kevent() does not return early
 * (R-MODE-02).
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "ktime.h"
#include "turn.h"

#define VAIN 4 /* rounds without an event before we look at the time */

static const struct timespec at_once;

/* -- waiting --------------------------------------------------------------- */

/* How long is left until the end; 0 if it has passed. */
static const struct timespec *
time_left(const struct timespec *deadline, struct timespec *left)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left->tv_sec = deadline->tv_sec - now.tv_sec;
	left->tv_nsec = deadline->tv_nsec - now.tv_nsec;
	if (left->tv_nsec < 0) {
		left->tv_sec--;
		left->tv_nsec += 1000000000;
	}
	if (left->tv_sec < 0)
		*left = (struct timespec){ .tv_sec = 0 };
	return left;
}

/* Whole milliseconds, rounded up: never too early. */
static int
to_ms(const struct timespec *ts)
{
	if (ts->tv_sec >= INT_MAX / 1000)
		return INT_MAX;
	return (int)(ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000);
}

/*
 * Events that the kernel has written into buf while the thread was cancelled
 * are nobody's: UNTOUCHED, which is no tag, tells.
 */
#define UNTOUCHED UINT64_MAX

struct wait {
	const struct turn *w_turn;
	struct epoll_event *w_buf;
};

static SELDOM void
cancelled(void *arg)
{
	struct wait *w = arg;
	struct kqueue *q = w->w_turn->t_queue;

	if (w->w_buf[0].data.u64 != UNTOUCHED &&
	    queue_lock(q, w->w_turn->t_life) == 0) {
		repair_edges(q);
		queue_unlock(q);
	}
	queue_leave(q, true);
}

/* A cancellation point; nobody else can cancel the only thread there is. */
static int
wait_cancel(const struct turn *t, struct epoll_event *buf, int max, int ms)
{
	int epfd = t->t_queue->q_epoll, n;
	struct wait w = { .w_turn = t, .w_buf = buf };

	if (process_single_threaded())
		return epoll_wait(epfd, buf, max, ms);
	buf[0].data.u64 = UNTOUCHED;
	pthread_cleanup_push(cancelled, &w);
	n = epoll_wait(epfd, buf, max, ms);
	pthread_cleanup_pop(0);
	return n;
}

/* epoll_wait() to the nanosecond where Linux has it (5.11). */
static int
wait_epoll(const struct turn *t, struct epoll_event *buf, int max,
    const struct timespec *left)
{
	int epfd = t->t_queue->q_epoll, n;
	struct ktime kt;

	if (left == NULL)
		return t->t_cancel ? wait_cancel(t, buf, max, -1) :
				     poll_epoll(epfd, buf, max, -1);
	if (left->tv_sec == 0 && left->tv_nsec == 0)
		return poll_epoll(epfd, buf, max, 0);
#ifdef SYS_epoll_pwait2
	if (left->tv_nsec % 1000000 != 0 || !t->t_cancel) {
		n = (int)syscall(SYS_epoll_pwait2, epfd, buf, max,
		    ktime_of(&kt, left), NULL, _NSIG / 8);
		if (n != -1 || errno != ENOSYS)
			return n;
	}
#endif
	return t->t_cancel ? wait_cancel(t, buf, max, to_ms(left)) :
			     poll_epoll(epfd, buf, max, to_ms(left));
}

/* Block, or not, among the threads that may be blocked in this queue. */
static int
enter_wait(const struct turn *t, struct epoll_event *buf, int max,
    const struct timespec *left)
{
	struct kqueue *q = t->t_queue;
	bool entered;
	int n;

	entered = queue_enter(q);
	if (__atomic_load_n(&q->q_life, __ATOMIC_SEQ_CST) != t->t_life) {
		n = -1;
		errno = EBADF;
	} else {
		n = wait_epoll(t, buf, max, left);
	}
	queue_leave(q, entered);
	return n;
}

/* -- a turn ---------------------------------------------------------------- */

/* A new turn begins. */
static void
number(struct turn *t)
{
	t->t_number = turn_next(t->t_queue);
	t->t_earlier = t->t_stored;
	t->t_skipped = false;
}

/* The FIFO's part at the beginning. */
static SELDOM int
begin_ready(struct turn *t)
{
	struct kqueue *q = t->t_queue;
	int error;

	if ((error = queue_lock(q, t->t_life)) != 0)
		return error;
	if ((t->t_inherited = q->q_continues))
		t->t_number = q->q_turn;
	else
		number(t);
	if (queue_signals(q) != 0)
		signal_collect(q);
	t->t_again = t->t_all = true;
	take_ready(t);
	turn_ends(q, t->t_stored == t->t_room, t->t_passed);
	if (t->t_stored == 0 || t->t_stored == t->t_room)
		queue_unlock(q);
	else
		queue_unlock_owing(q);
	return 0;
}

static void
take_events(struct turn *t, const struct epoll_event *e, int n)
{
	const struct epoll_event *end = e + n;
	bool plain = t->t_earlier == 0 && !process_strict;

	for (; e < end; e++)
		if (plain && t->t_stored < t->t_room &&
		    take_plain(t->t_queue, t->t_number, e,
			&t->t_events[t->t_stored], &t->t_fill))
			t->t_stored++;
		else
			take_event(t, e);
}

/*
 * Take n events of epoll's, and leave the lock.  True: there may be some that
 * epoll did not get to tell of.
 */
static bool
take_round(struct turn *t, const struct epoll_event *e, int n)
{
	struct kqueue *q = t->t_queue;
	bool more = false;

	take_events(t, e, n);
	if (t->t_again) {
		if (queue_signals(q) != 0)
			signal_collect(q);
		take_ready(t);
	}
	/* All have had their turn: the next one begins within this call. */
	if (t->t_stored < t->t_room && t->t_skipped && t->t_inherited) {
		number(t);
		t->t_inherited = false;
		take_ready(t);
		more = true;
	}
	turn_ends(q, t->t_stored == t->t_room, t->t_passed);
	queue_unlock(q);
	return more;
}

static void
fill(struct turn *t)
{
	if (t->t_fill)
		t->t_stored = source_fill(t->t_events, t->t_stored);
}

/*
 * Is there more in epoll?  If all that was asked for came, unless its list has
 * gone round and has come to those that had their turn; and if it watches what
 * it did not before.  If nobody wants what comes, not for ever: then we look at
 * the time first.
 */
static bool
goes_on(const struct turn *t, int before, int *vain)
{
	if (t->t_stored > before)
		return t->t_more || t->t_moved;
	if (!t->t_moved && (t->t_skipped || !t->t_more))
		return false;
	return ++*vain < VAIN;
}

/*
 * Until events[] is full or epoll has no more: an event that nobody wanted
 * makes room for one that somebody does.  While there are knotes to pass over,
 * epoll is asked for all it has, not for as many as there is room.
 */
static int
rounds(struct turn *t, struct epoll_event *buf, const struct timespec *left,
    int vain)
{
	int max, n, before, error;
	bool more;

	do {
		max = t->t_room - t->t_stored;
		max = max < BATCH && !t->t_all ? max : BATCH;
		if (t->t_stored > 0 || t->t_skipped)
			left = &at_once;
		if ((before = t->t_stored) == t->t_room)
			break;
		n = enter_wait(t, buf, max, left);
		t->t_more = n == max;
		t->t_moved = false;
		if (n == -1 && t->t_stored == 0)
			return errno;
		more = false;
		if (n > 0 || t->t_again) {
			if ((error = queue_lock(t->t_queue, t->t_life)) != 0)
				return error;
			if (t->t_number == 0)
				number(t);
			more = take_round(t, buf, n > 0 ? n : 0);
		}
		left = &at_once;
		t->t_all = true;
	} while (n > 0 && (more || goes_on(t, before, &vain)));
	fill(t);
	return 0;
}

static int
turn(struct turn *t, const struct timespec *left)
{
	struct epoll_event buf[BATCH];
	struct kqueue *q = t->t_queue;
	int error;

	t->t_stored = t->t_earlier = 0;
	t->t_number = 0;
	t->t_again = t->t_all = t->t_inherited = t->t_skipped = t->t_passed =
	    t->t_fill = false;
	/* With nothing in the FIFO not even a lock is taken. */
	if (!turn_is_fresh(q) && (error = begin_ready(t)) != 0)
		return error;
	return rounds(t, buf, left, 0);
}

/* The rest of a turn that has begun. */
static int
turn_begun(struct turn *t, const struct begun *b)
{
	int vain = 0;

	if (b->b_number == 0)
		return b->b_n == -1 ? errno : 0;
	t->t_number = b->b_number;
	t->t_stored = b->b_taken;
	t->t_fill = b->b_fill;
	t->t_more = b->b_n == b->b_max;
	if (take_round(t, b->b_buf + b->b_taken, b->b_n - b->b_taken) ||
	    goes_on(t, 0, &vain)) {
		t->t_all = true;
		return rounds(t, b->b_buf, &at_once, vain);
	}
	fill(t);
	return 0;
}

/*
 * A signal came while nothing was found.  What its handler did, and the signal
 * itself if it is watched, may be an event: look without waiting.  Linux also
 * ends a wait when the process is stopped and goes on, or is traced: nobody
 * expects that who catches nothing.
 */
static SELDOM int
interrupted(struct turn *t)
{
	bool caught = !signal_only_ignored() && signal_has_handlers();
	int error;

	error = turn(t, &at_once);
	if (error != 0 || t->t_stored > 0)
		return error;
	return caught ? EINTR : 0;
}

/* The end of a wait on the monotonic clock; false: it never ends. */
static bool
deadline_of(const struct timespec *timeout, const struct begun *begun,
    struct timespec *end)
{
	if (timeout == NULL || timeout->tv_sec >= INT_MAX)
		return false;
	if (begun != NULL)
		*end = begun->b_since;
	else
		clock_gettime(CLOCK_MONOTONIC, end);
	end->tv_sec += timeout->tv_sec;
	end->tv_nsec += timeout->tv_nsec;
	for (; end->tv_nsec >= 1000000000; end->tv_sec++)
		end->tv_nsec -= 1000000000;
	return true;
}

/*
 * Which signals are pending to all threads could not be found out for want of
 * a descriptor, and nothing will tell when there is one again: look often.
 */
static const struct timespec *
wait_blind(const struct kqueue *q, const struct timespec *wait)
{
	static const struct timespec soon = { .tv_nsec = 10000000 };

	if (queue_signals(q) == 0 || !signal_blind(q) ||
	    (wait != NULL && wait->tv_sec == 0 && wait->tv_nsec < soon.tv_nsec))
		return wait;
	return &soon;
}

int
collect(struct kqueue *q, uint32_t life, struct kevent *events, int nevents,
    const struct timespec *timeout, bool cancel, const struct begun *begun,
    int *stored)
{
	struct turn t = { .t_queue = q,
		.t_life = life,
		.t_events = events,
		.t_room = nevents,
		.t_cancel = cancel };
	bool poll_only =
	    timeout != NULL && (timeout->tv_sec | timeout->tv_nsec) == 0;
	bool ends = !poll_only && timeout != NULL;
	struct timespec end = { .tv_sec = 0 }, left;
	const struct timespec *wait = timeout;
	int error;

	if (queue_signals(q) != 0)
		signal_wait_begin();
	if (ends && !(ends = deadline_of(timeout, begun, &end)))
		wait = NULL;
	for (;;) {
		error = begun != NULL ? turn_begun(&t, begun) :
					turn(&t, wait_blind(q, wait));
		begun = NULL;
		if (error == EINTR)
			error = interrupted(&t);
		if (error != 0 || t.t_stored > 0 || poll_only)
			break;
		if (!ends)
			continue;
		wait = time_left(&end, &left);
		if ((left.tv_sec | left.tv_nsec) == 0)
			break;
	}
	*stored = t.t_stored;
	return error;
}

/* -- for a queue that watches this one ------------------------------------- */

/*
 * How many events there are only epoll knows, and it tells by handing them
 * out.  What is level there is there again the next time; the rest goes into
 * the FIFO, as if nobody had had room.
 *
 * That makes the queue readable anew, which a knote with EV_CLEAR would take
 * for news, so for such a one the FIFO alone is counted, and at least one.
 */
int
collect_count(int fd, bool look)
{
	struct turn t = { .t_counts = true };
	struct epoll_event buf[BATCH];
	struct kqueue *q;
	int n = 0, i;

	if ((q = kqueue_find(fd, &t.t_life)) == NULL)
		return 0;
	t.t_queue = q;
	if (look)
		n = enter_wait(&t, buf, BATCH, &at_once);
	if (queue_lock(q, t.t_life) != 0)
		return 0;
	number(&t);
	for (i = 0; i < n; i++)
		take_event(&t, &buf[i]);
	if (queue_signals(q) != 0)
		signal_collect(q);
	n = t.t_stored + (int)ready_count(q);
	/* What stands there is disabled or has gone, and no reason to wake. */
	if (n == 0) {
		t.t_room = 1;
		take_ready(&t);
	}
	queue_unlock(q);
	return n != 0 || look ? n : 1;
}
