/*
 * USER (R-USER-01 to R-USER-16), in the queue and in one that the queue
 * watches (R-FD-13).
 */
#include <err.h>
#include <unistd.h>

#include "model.h"

#define USERS 3

struct user {
	bool triggered;
	unsigned int fflags;
	int64_t data;
	struct knote knote;
};

static struct user users[USERS], inner_users[USERS];
static struct knote queue; /* READ of the inner queue */
static int inner;

static enum truth
user_truth(const struct knote *k)
{
	const struct user *u = k->k_of;

	return u->triggered ? YES : NO;
}

static void
user_check(struct knote *k, const struct kevent *ev)
{
	struct user *u = k->k_of;

	if (ev->data != u->data || ev->fflags != u->fflags)
		fail("user %ju: data %jd, fflags %#x; expected %jd, %#x",
		    (uintmax_t)k->k_ident, (intmax_t)ev->data, ev->fflags,
		    (intmax_t)u->data, u->fflags);
	if (k->k_flags & EV_CLEAR)
		u->triggered = false;
}

static const struct kind kind_user = { EVFILT_USER, 0, 0, STATE, false,
	user_truth, user_check };

/* R-USER-06, R-USER-07 */
static unsigned int
combined(unsigned int stored, unsigned int given, bool fresh)
{
	unsigned int bits = given & NOTE_FFLAGSMASK;

	if (fresh)
		return bits;
	switch (given & NOTE_FFCTRLMASK) {
	case NOTE_FFAND:
		return stored & bits;
	case NOTE_FFOR:
		return stored | bits;
	case NOTE_FFCOPY:
		return bits;
	}
	return stored;
}

static void
change_user(struct user *u)
{
	static const unsigned int how[] = { NOTE_FFNOP, NOTE_FFAND, NOTE_FFOR,
		NOTE_FFCOPY };
	unsigned int flags = choose_flags(), fflags;
	int64_t data = choose(100);
	enum outcome outcome;

	fflags = how[choose(COUNT(how))] | choose(256);
	if (choose(2) == 0)
		fflags |= NOTE_TRIGGER;
	outcome = change(&u->knote, flags, fflags, data, 0);
	if (outcome != ADDED && outcome != TOUCHED)
		return;
	if (outcome == ADDED)
		u->triggered = false;
	u->triggered |= (fflags & NOTE_TRIGGER) != 0;
	if (outcome == TOUCHED && (flags & EV_CLEAR))
		u->triggered = false; /* R-USER-10 */
	u->fflags = combined(u->fflags, fflags, outcome == ADDED);
	u->data = data;
}

static void
user_operate(void)
{
	change_user(&users[choose(USERS)]);
}

static void
user_open(void)
{
	int i;

	for (i = 0; i < USERS; i++)
		know(&users[i].knote, &kind_user, kq, (uintptr_t)i, &users[i]);
}

static void
user_close(void)
{
}

const struct part part_user = { user_open, user_operate, user_close, NULL };

/* -- a queue in the queue -------------------------------------------------- */

static enum truth
queue_truth(const struct knote *k)
{
	const unsigned int modes = EV_CLEAR | EV_ONESHOT | EV_DISPATCH;

	if (how_many_must(inner) > 0)
		return YES;
	/* Told when it became active, whatever is left of that. */
	return k->k_flags & modes ? MAYBE : NO;
}

/* With EV_CLEAR it is counted without looking: see collect_count(). */
static void
queue_check(struct knote *k, const struct kevent *ev)
{
	int n = how_many_must(inner);

	if (ev->data != n && (k->k_flags & EV_CLEAR) == 0)
		fail("a queue with %d events has %jd", n, (intmax_t)ev->data);
}

static const struct kind kind_queue = { EVFILT_READ, 0, 0, EDGES_OFTEN, true,
	queue_truth, queue_check };

/* R-FD-10: a copy is the queue; the knotes on the number go (R-FD-01). */
static void
rename_queue(void)
{
	int copy = dup(inner), i;

	if (copy == -1)
		err(1, "dup");
	close(inner);
	inner = copy;
	forget(&queue);
	queue.k_ident = (uintptr_t)inner;
	for (i = 0; i < USERS; i++)
		inner_users[i].knote.k_queue = inner;
}

static void
queue_operate(void)
{
	enum outcome outcome;

	switch (choose(4)) {
	case 0:
		change_user(&inner_users[choose(USERS)]);
		break;
	case 1:
		outcome = change(&queue, choose_flags(), 0, 0, 0);
		if ((outcome == ADDED || outcome == TOUCHED) &&
		    queue.k_enabled && queue_truth(&queue) == YES)
			edge(&queue);
		break;
	case 2:
		gather(inner, 1 + (int)choose(4), NOW);
		break;
	case 3:
		rename_queue();
		break;
	}
}

static void
queue_open(void)
{
	int i;

	if ((inner = kqueue()) == -1)
		err(1, "kqueue");
	know(&queue, &kind_queue, kq, (uintptr_t)inner, NULL);
	for (i = 0; i < USERS; i++)
		know(&inner_users[i].knote, &kind_user, inner, (uintptr_t)i,
		    &inner_users[i]);
}

static void
queue_close(void)
{
	close(inner);
}

const struct part part_queue = { queue_open, queue_operate, queue_close, NULL };
