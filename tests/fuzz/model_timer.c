/*
 * TIMER, by the real clock: never before its time, with the right count, and
 * within a generous time after it (R-TIMER-01 to 03, 05 to 08, 10, 11, 13, 14,
 * 17, 18, 21).
 */
#include <errno.h>
#include <time.h>

#include "model.h"

#define TIMERS 3
#define NS 1000000000
#define LATE (NS / 2) /* so long after its time it must have come */

struct timer {
	/* Set between the two; there may be no end of it. */
	int64_t deadline, latest;
	int64_t period; /* ns; 0: it fires once */
	bool spent;
	struct knote knote;
};

static struct timer timers[TIMERS];

static int64_t
uptime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * NS + ts.tv_nsec;
}

static enum truth
timer_truth(const struct knote *k)
{
	const struct timer *t = k->k_of;
	int64_t now = uptime();

	if (t->spent || now < t->deadline)
		return NO;
	return now >= t->latest ? YES : MAYBE;
}

static void
timer_check(struct knote *k, const struct kevent *ev)
{
	struct timer *t = k->k_of;
	int64_t now = uptime(), most = 1;

	if (t->period != 0 && now > t->deadline)
		most = 1 + (now - t->deadline) / t->period;
	if (ev->data < (k->k_forced ? 0 : 1) || ev->data > most ||
	    ev->fflags != 0)
		fail("timer: data %jd of at most %jd, fflags %#x",
		    (intmax_t)ev->data, (intmax_t)most, ev->fflags);
	if ((k->k_flags & EV_CLEAR) == 0)
		return;
	if (t->period == 0) {
		t->spent = true;
		return;
	}
	t->deadline += ev->data * t->period;
	t->latest += ev->data * t->period;
}

static const struct kind kind_absolute = { EVFILT_TIMER, 0, 0, STATE, false,
	timer_truth, timer_check };
static const struct kind kind_relative = { EVFILT_TIMER, EV_CLEAR, 0, STATE,
	false, timer_truth, timer_check };

/* A change that no timer takes: nothing is made of it. */
static void
refuse(struct timer *t)
{
	const unsigned int two = NOTE_SECONDS | NOTE_USECONDS;

	if (t->knote.k_exists)
		return;
	if (choose(2) == 0)
		change(&t->knote, EV_ADD, two, 1, EINVAL);
	else
		change(&t->knote, EV_ADD, 0, -1, EINVAL);
}

struct plan {
	unsigned int fflags;
	int64_t data, ns;
};

/* At once, after some microseconds, or not while we are here. */
static void
choose_plan(struct plan *p)
{
	static const struct plan plans[] = {
		{ NOTE_NSECONDS, 1, 1 },
		{ NOTE_NSECONDS, 0, 1 },
		{ NOTE_USECONDS, 20, 20000 },
		{ NOTE_USECONDS, 700, 700000 },
		{ NOTE_MSECONDS, 2, 2000000 },
		{ 0, 1, 1000000 },
		{ NOTE_SECONDS, 3600, (int64_t)3600 * NS },
		{ NOTE_SECONDS, INT64_MAX, INT64_MAX / 4 },
		{ NOTE_ABSTIME | NOTE_SECONDS, 1, 0 },
		{ NOTE_ABSTIME | NOTE_SECONDS, INT64_MAX, INT64_MAX / 4 },
	};

	*p = plans[choose(COUNT(plans))];
}

static void
start(struct timer *t, const struct plan *p, bool oneshot, int64_t before)
{
	bool once = oneshot || (p->fflags & NOTE_ABSTIME) != 0;
	int64_t ns = p->ns;

	if (once && p->data == 0)
		ns = 0; /* R-TIMER-08 */
	t->spent = false;
	t->period = once ? 0 : ns;
	t->deadline = before + ns;
	t->latest = ns == 0 ? t->deadline : uptime() + ns + LATE;
}

static void
change_timer(struct timer *t)
{
	unsigned int flags = choose_flags();
	int64_t before = uptime();
	enum outcome outcome;
	struct plan p;
	/* As it was: EV_FORCEONESHOT comes after the rest of the change. */
	bool oneshot =
	    (t->knote.k_exists ? t->knote.k_flags : flags) & EV_ONESHOT;

	choose_plan(&p);
	if (!t->knote.k_exists) /* R-MODE-07 */
		t->knote.k_kind =
		    p.fflags & NOTE_ABSTIME ? &kind_absolute : &kind_relative;
	outcome = change(&t->knote, flags, p.fflags, p.data, 0);
	if (outcome == ADDED || (outcome == TOUCHED && (flags & EV_ADD)))
		start(t, &p, oneshot, before);
}

/* If one runs that is due soon, kevent() wakes up for it. */
static void
await(void)
{
	int64_t soon = uptime() + NS / 100;
	const struct timer *t;

	for (t = timers; t < timers + TIMERS; t++)
		if (t->knote.k_exists && t->knote.k_enabled && !t->spent &&
		    t->deadline < soon) {
			gather(kq, 32, WAITING);
			return;
		}
}

static void
timer_operate(void)
{
	struct timer *t = &timers[choose(TIMERS)];
	unsigned int what = choose(8);

	if (what == 0)
		refuse(t);
	else if (what == 1)
		await();
	else
		change_timer(t);
}

static void
timer_open(void)
{
	int i;

	for (i = 0; i < TIMERS; i++)
		know(&timers[i].knote, &kind_relative, kq, (uintptr_t)i,
		    &timers[i]);
}

static void
timer_close(void)
{
}

const struct part part_timer = { timer_open, timer_operate, timer_close, NULL };
