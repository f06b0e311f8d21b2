/*
 * EVFILT_TIMER: a heap and a timerfd for each clock, none for each timer.
 *
 *			 timer_expire()
 *	in the heap ----------------------> due (KN_ACTIVE, not in the heap)
 *	    ^  ^	deadline has passed	|  |
 *	    |  +--------------------------------+  | returned, fires once
 *	    |	  returned, periodic: deadline	   v
 *	    |	  moves on by whole periods	 spent
 *	attach, EV_ADD again
 *
 * A due timer costs nothing, however many periods pass: they are counted when
 * it is returned, by division.  So does one that is due while disabled.  As
 * the deadline moves on a fixed grid, handling time causes no drift.
 *
 * The timerfd is set only when the earliest deadline gets earlier.  When that
 * deadline goes or moves away, the timerfd fires once in vain and is set anew
 * then, for a deadline that counts: timers_first() passes over all others.  It
 *is watched edge-triggered and never read.
 */
#include <sys/timerfd.h>

#include <errno.h>

#include "kq.h"

#define UNITS (NOTE_SECONDS | NOTE_MSECONDS | NOTE_USECONDS | NOTE_NSECONDS)
#define FIXED (NOTE_ABSTIME | NOTE_ABSOLUTE)
#define NS 1000000000u /* in a second */

/* What a change asks for. */
struct plan {
	uint64_t p_now;      /* by its clock */
	uint64_t p_deadline; /* TIMER_NEVER: does not fire */
	uint64_t p_period;   /* 0: fires once */
	enum kqclock p_clock;
};

static int plan(struct kqueue *, const struct object *, const struct kevent *,
    struct plan *);
static int clock_open(struct kqueue *, enum kqclock);
static uint64_t clock_now(enum kqclock);
static void clock_set(struct kqueue *, enum kqclock);
static void start(struct kqueue *, struct object *, const struct plan *);
static int64_t expirations(const struct object *, uint64_t now);

static int
timer_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct plan p;
	int error;

	if ((kev->fflags & FIXED) == 0)
		o->o_knote.kn_flags |= EV_CLEAR;
	if (kev->fflags & NOTE_ABSOLUTE)
		o->o_knote.kn_flags |= EV_ONESHOT;
	if ((error = plan(q, o, kev, &p)) != 0 ||
	    (error = clock_open(q, p.p_clock)) != 0 ||
	    (error = timers_hold(&q->q_timers[p.p_clock], o->o_index)) != 0)
		return error;
	o->o_clock = (uint8_t)p.p_clock;
	o->o_knote.kn_fflags = kev->fflags;
	start(q, o, &p);
	return 0;
}

static void
timer_detach(struct kqueue *q, struct object *o)
{
	timers_release(&q->q_timers[o->o_clock], o->o_index);
}

/*
 * Only EV_ADD touches the timer, which then starts anew.  NOTE_ABSOLUTE is
 * macOS's, and so is the rule that it stays as it was (R-TIMER-15): it implies
 * EV_ONESHOT, which a change does not change.
 */
static int
timer_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct plan p;
	int error;

	if ((kev->flags & EV_ADD) == 0)
		return 0;
	if ((kev->fflags ^ o->o_knote.kn_fflags) & NOTE_ABSOLUTE)
		return EINVAL;
	if ((error = plan(q, o, kev, &p)) != 0)
		return error;
	if (p.p_clock != o->o_clock) {
		if ((error = clock_open(q, p.p_clock)) != 0 ||
		    (error = timers_hold(&q->q_timers[p.p_clock],
			 o->o_index)) != 0)
			return error;
		timers_release(&q->q_timers[o->o_clock], o->o_index);
		o->o_clock = (uint8_t)p.p_clock;
	}
	o->o_knote.kn_fflags = kev->fflags;
	start(q, o, &p);
	return 0;
}

static bool
timer_active(struct kqueue *q, struct object *o)
{
	return (o->o_knote.kn_status & KN_ACTIVE) != 0;
}

static bool
timer_report(struct kqueue *q, struct object *o, struct kevent *kev)
{
	struct knote *kn = &o->o_knote;
	enum kqclock clock = (enum kqclock)o->o_clock;

	if ((kn->kn_status & (KN_ACTIVE | KN_FORCED)) == 0)
		return false;
	kev->fflags = 0;
	kev->data = expirations(o, clock_now(clock));
	if ((kn->kn_flags & EV_CLEAR) == 0)
		return true;
	kn->kn_status &= (uint8_t)~KN_ACTIVE;
	if (o->o_data == 0)
		return true;
	o->o_deadline += (uint64_t)kev->data * (uint64_t)o->o_data;
	timers_set(&q->q_timers[clock], o->o_deadline, o->o_index);
	clock_set(q, clock);
	return true;
}

const struct filter filter_timer = {
	.f_attach = timer_attach,
	.f_detach = timer_detach,
	.f_touch = timer_touch,
	.f_active = timer_active,
	.f_report = timer_report,
};

void
timer_expire(struct kqueue *q, enum kqclock clock)
{
	struct timers *t = &q->q_timers[clock];
	uint64_t now = clock_now(clock);

	q->q_timer_at[clock] = TIMER_NEVER;
	while (timers_first(t) <= now)
		object_activate(q, object_at(q, timers_pop(t)));
	clock_set(q, clock);
}

int
timer_hold(struct kqueue *q, struct object *o)
{
	int error;

	if ((error = clock_open(q, CLOCK_UPTIME)) != 0)
		return error;
	return timers_hold(&q->q_timers[CLOCK_UPTIME], o->o_index);
}

void
timer_release(struct kqueue *q, struct object *o)
{
	timers_release(&q->q_timers[CLOCK_UPTIME], o->o_index);
}

void
timer_start(struct kqueue *q, struct object *o, uint64_t ns)
{
	timers_set(&q->q_timers[CLOCK_UPTIME], clock_now(CLOCK_UPTIME) + ns,
	    o->o_index);
	clock_set(q, CLOCK_UPTIME);
}

void
timer_close(struct kqueue *q)
{
	timers_fini(&q->q_timers[CLOCK_UPTIME]);
	timers_fini(&q->q_timers[CLOCK_WALL]);
}

/* -- what a change asks for ------------------------------------------------ */

static uint64_t
unit(uint32_t fflags)
{
	switch (fflags & UNITS) {
	case NOTE_SECONDS:
		return NS;
	case NOTE_USECONDS:
		return 1000;
	case NOTE_NSECONDS:
		return 1;
	}
	return 1000000;
}

/* Changes of one list are made at the same time, that of the first. */
static uint64_t
time_of_change(struct kqueue *q, enum kqclock clock)
{
	if (!q->q_in_list)
		return clock_now(clock);
	if (q->q_now[clock] == 0)
		q->q_now[clock] = clock_now(clock);
	return q->q_now[clock];
}

/*
 * What is too far for the clock never comes (R-TIMER-09).  No sum overflows:
 * the time of either clock is below INT64_MAX as well.
 */
static int
plan(struct kqueue *q, const struct object *o, const struct kevent *kev,
    struct plan *p)
{
	uint32_t units = kev->fflags & UNITS;
	bool fixed = (kev->fflags & FIXED) != 0;
	bool once = fixed || (o->o_knote.kn_flags & EV_ONESHOT) != 0;
	uint64_t ns;

	if ((kev->fflags & ~(uint32_t)(UNITS | FIXED)) != 0 ||
	    (units & (units - 1)) != 0 || kev->data < 0)
		return EINVAL;
	ns = (uint64_t)kev->data;
	if (ns == 0 && !once)
		ns = 1;
	if (__builtin_mul_overflow(ns, unit(units), &ns) || ns > INT64_MAX)
		ns = INT64_MAX;
	p->p_clock = fixed ? CLOCK_WALL : CLOCK_UPTIME;
	p->p_now = time_of_change(q, p->p_clock);
	p->p_period = once ? 0 : ns;
	p->p_deadline = fixed ? ns : p->p_now + ns;
	if (ns == INT64_MAX)
		p->p_deadline = TIMER_NEVER;
	return 0;
}

/* -- the clocks ------------------------------------------------------------ */

static const clockid_t clock_ids[] = {
	[CLOCK_UPTIME] = CLOCK_MONOTONIC,
	[CLOCK_WALL] = CLOCK_REALTIME,
};

static uint64_t
clock_now(enum kqclock clock)
{
	struct timespec ts;

	clock_gettime(clock_ids[clock], &ts);
	return (uint64_t)ts.tv_sec * NS + (uint64_t)ts.tv_nsec;
}

/* Have a timerfd for the clock; 0 or an errno value. */
static int
clock_open(struct kqueue *q, enum kqclock clock)
{
	int fd, error;

	if (q->q_timerfd[clock] != -1)
		return 0;
	fd = fd_move_high(
	    timerfd_create(clock_ids[clock], TFD_NONBLOCK | TFD_CLOEXEC));
	if (fd == -1)
		return errno;
	error = queue_watch(q, fd, EPOLLIN | EPOLLET,
	    tag_make(TAG_TIMER, 0, (uint32_t)clock));
	if (error != 0) {
		fd_close(fd);
		return error;
	}
	q->q_timerfd[clock] = fd;
	q->q_timer_at[clock] = TIMER_NEVER;
	return 0;
}

/*
 * See that the timerfd fires at the earliest deadline or before.  It follows
 * the wall clock by itself when that is set.
 */
static void
clock_set(struct kqueue *q, enum kqclock clock)
{
	uint64_t first = timers_first(&q->q_timers[clock]);
	struct itimerspec at = { .it_value = { .tv_sec = (time_t)(first / NS),
				     .tv_nsec = (long)(first % NS) } };

	if (first >= q->q_timer_at[clock])
		return;
	timerfd_settime(q->q_timerfd[clock], TFD_TIMER_ABSTIME, &at, NULL);
	q->q_timer_at[clock] = first;
}

/* -- one timer ------------------------------------------------------------- */

/* Let it run; what it has counted so far is thrown away. */
static void
start(struct kqueue *q, struct object *o, const struct plan *p)
{
	struct timers *t = &q->q_timers[p->p_clock];

	o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	o->o_deadline = p->p_deadline;
	o->o_data = (int64_t)p->p_period;
	if (p->p_deadline == TIMER_NEVER) {
		timers_unset(t, o->o_index);
	} else if (p->p_deadline <= p->p_now) {
		timers_unset(t, o->o_index);
		o->o_knote.kn_status |= KN_ACTIVE;
	} else {
		timers_set(t, p->p_deadline, o->o_index);
		clock_set(q, p->p_clock);
	}
}

/*
 * How often it has fired since it was returned.  Before its time: not at all
 * if it is returned by force, else once, as the wall clock was set back.
 */
static int64_t
expirations(const struct object *o, uint64_t now)
{
	if (now < o->o_deadline)
		return (o->o_knote.kn_status & KN_FORCED) ? 0 : 1;
	if (o->o_data == 0)
		return 1;
	return 1 + (int64_t)((now - o->o_deadline) / (uint64_t)o->o_data);
}
