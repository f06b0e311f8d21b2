/*
 * model.c: the engine: changes and collections against what the parts say.
 *
 * After each collection it is known which knotes must have been returned, which
 * may have been, and what each of them must say.
 */
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <stdarg.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

#define SLOTS 32
#define MODES ((unsigned int)(EV_CLEAR | EV_ONESHOT | EV_DISPATCH | EV_RECEIPT))

int kq;
bool strict, repaired;

static const struct part *const parts[] = { &part_socket, &part_socket,
	&part_socket, &part_user, &part_file, &part_file, &part_timer,
	&part_signal, &part_queue, &part_urgent, &part_proc, &part_pipe,
	&part_pipe };

/* Some stand there more often than once, and are chosen more often. */
static bool
is_first(size_t i)
{
	return i == 0 || parts[i] != parts[i - 1];
}

static struct knote *known[96];
static size_t nknown;
static uintptr_t serial;
bool verbose;
uint64_t seed;
static size_t step;

static const uint8_t *input;
static size_t left;

void
fail(const char *format, ...)
{
	va_list ap;

	fprintf(stderr, "seed %llu, step %zu: ", (unsigned long long)seed,
	    step);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	abort();
}

void
say(const char *format, ...)
{
	va_list ap;

	if (!verbose)
		return;
	fprintf(stderr, "%zu: ", step);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

unsigned int
choose(unsigned int n)
{
	if (left == 0)
		return 0;
	left--;
	return *input++ % n;
}

/* -- changes --------------------------------------------------------------- */

unsigned int
choose_flags(void)
{
	static const unsigned int what[] = { EV_ADD, EV_ADD, EV_ADD, EV_ADD,
		EV_ENABLE, EV_DISABLE, EV_ADD | EV_DISABLE, EV_DELETE, 0,
		EV_ADD | EV_ENABLE, EV_ENABLE | EV_KEEPUDATA, EV_KEEPUDATA,
		EV_ADD | EV_DELETE, EV_FORCEONESHOT, EV_ADD | EV_FORCEONESHOT,
		EV_ENABLE | EV_DISABLE, EV_ADD | EV_KEEPUDATA };
	static const unsigned int modes[] = { 0, 0, EV_CLEAR, EV_ONESHOT,
		EV_DISPATCH, EV_CLEAR | EV_DISPATCH, EV_CLEAR | EV_ONESHOT,
		EV_RECEIPT, EV_RECEIPT | EV_CLEAR, EV_ONESHOT | EV_DISPATCH };
	unsigned int flags = what[choose(COUNT(what))];

	return flags & EV_ADD ? flags | modes[choose(COUNT(modes))] : flags;
}

void
know(struct knote *k, const struct kind *kind, int queue, uintptr_t ident,
    void *of)
{
	if (nknown == COUNT(known))
		abort();
	*k = (struct knote){ .k_kind = kind,
		.k_queue = queue,
		.k_ident = ident,
		.k_of = of };
	known[nknown++] = k;
}

void
forget(struct knote *k)
{
	know(k, k->k_kind, k->k_queue, k->k_ident, k->k_of);
	nknown--;
}

/* One change, with room for an answer if there is to be one (R-CALL-17). */
static int
give(const struct knote *k, unsigned int flags, unsigned int fflags,
    int64_t data, uintptr_t udata)
{
	const int room = (flags & EV_RECEIPT) != 0;
	struct kevent given, answer;
	int n;

	EV_SET(&given, k->k_ident, k->k_kind->k_filter, flags, fflags, data,
	    (void *)udata);
	n = kevent(k->k_queue, &given, 1, &answer, room, NULL);
	if (n == -1)
		return errno;
	if (n != room)
		fail("%d answers, with room for %d", n, room);
	if (n == 0)
		return 0;
	if (answer.flags != EV_ERROR || answer.ident != k->k_ident ||
	    answer.filter != given.filter || answer.udata != given.udata)
		fail("the answer of filter %d is of another", given.filter);
	return (int)answer.data;
}

static int
expected_error(const struct knote *k, unsigned int flags, int error)
{
	if ((flags & (EV_ENABLE | EV_DISABLE)) == (EV_ENABLE | EV_DISABLE))
		return EINVAL; /* R-CALL-25 */
	if ((flags & (EV_ADD | EV_KEEPUDATA)) == (EV_ADD | EV_KEEPUDATA))
		return EINVAL; /* R-CALL-26 */
	if (k->k_exists)
		return flags & EV_DELETE ? 0 : error;
	return flags & EV_ADD ? error : ENOENT; /* R-REG-09 */
}

enum outcome
change(struct knote *k, unsigned int flags, unsigned int fflags, int64_t data,
    int error)
{
	int expected = expected_error(k, flags, error), result;
	uintptr_t udata = ++serial;

	result = give(k, flags, fflags, data, udata);
	say("change %d of %ju: flags %#x, fflags %#x, data %jd, udata %ju: %d",
	    k->k_kind->k_filter, (uintmax_t)k->k_ident, flags, fflags,
	    (intmax_t)data, (uintmax_t)udata, result);
	if (result != expected)
		fail("change %#x %#x of filter %d, ident %ju: error %d, "
		     "expected %d",
		    flags, fflags, k->k_kind->k_filter, (uintmax_t)k->k_ident,
		    result, expected);
	if (result != 0)
		return REFUSED;
	if (k->k_exists && (flags & EV_DELETE)) {
		forget(k);
		return DELETED;
	}
	if (!k->k_exists) {
		forget(k);
		k->k_exists = true;
		k->k_enabled = (flags & EV_DISABLE) == 0;
		k->k_flags = (flags & MODES) | k->k_kind->k_flags;
		k->k_udata = udata;
		return ADDED;
	}
	if ((flags & EV_KEEPUDATA) == 0)
		k->k_udata = udata;
	if (flags & EV_ENABLE)
		k->k_enabled = true;
	else if (flags & EV_DISABLE)
		k->k_enabled = false;
	if (flags & EV_FORCEONESHOT) { /* R-REG-21 */
		k->k_flags |= EV_ONESHOT;
		k->k_forced = true;
	}
	return TOUCHED;
}

void
edge(struct knote *k)
{
	k->k_pending = true;
	k->k_doubled |= k->k_held;
}

void
rumour(struct knote *k)
{
	k->k_maybe = k->k_doubled = true;
}

/* -- collecting ------------------------------------------------------------ */

static bool
may_come(const struct knote *k)
{
	return k->k_exists && k->k_enabled &&
	    (k->k_forced || k->k_kind->k_truth(k) != NO);
}

static bool
must_come(const struct knote *k)
{
	if (!k->k_exists || !k->k_enabled)
		return false;
	if (k->k_forced)
		return true;
	return k->k_kind->k_truth(k) == YES &&
	    ((k->k_flags & EV_CLEAR) == 0 || k->k_pending ||
		k->k_kind->k_clear == STATE);
}

int
how_many_must(int queue)
{
	size_t i;
	int n = 0;

	for (i = 0; i < nknown; i++)
		n += known[i]->k_queue == queue && must_come(known[i]);
	return n;
}

/* An event was returned: its modes at work. */
static void
returned(struct knote *k)
{
	k->k_maybe = k->k_doubled;
	k->k_pending = k->k_held = k->k_doubled = k->k_forced = false;
	if (k->k_flags & EV_ONESHOT)
		forget(k);
	else if (k->k_flags & EV_DISPATCH)
		k->k_enabled = false;
}

static void
check_event(const struct kevent *ev, struct knote *k)
{
	const unsigned int also = EV_EOF | k->k_kind->k_also;

	if (!k->k_exists || !k->k_enabled)
		fail("filter %d of %ju came, but is %s", ev->filter,
		    (uintmax_t)ev->ident, k->k_exists ? "disabled" : "gone");
	if ((uintptr_t)ev->udata != k->k_udata)
		fail("filter %d: udata %p, expected %ju", ev->filter, ev->udata,
		    (uintmax_t)k->k_udata);
	if (((ev->flags ^ k->k_flags) & ~also) != 0)
		fail("filter %d: flags %#x, expected %#x", ev->filter,
		    ev->flags, k->k_flags);
	if (!may_come(k))
		fail("filter %d of %ju came, but there is nothing", ev->filter,
		    (uintmax_t)ev->ident);
	if ((k->k_flags & EV_CLEAR) && k->k_kind->k_clear == EDGES &&
	    !k->k_forced && !k->k_pending && !k->k_maybe && !repaired)
		fail("filter %d of %ju came again", ev->filter,
		    (uintmax_t)ev->ident);
	k->k_kind->k_check(k, ev);
	returned(k);
}

/* Numbers are used again: the one that exists, or else one that did. */
static struct knote *
knote_of(int queue, const struct kevent *ev)
{
	struct knote *k, *found = NULL;
	size_t i;

	for (i = 0; i < nknown; i++) {
		k = known[i];
		if (k->k_queue == queue && k->k_ident == ev->ident &&
		    k->k_kind->k_filter == ev->filter &&
		    (found == NULL || k->k_exists))
			found = k;
	}
	if (found == NULL)
		fail("an event of %ju, filter %d, of nobody",
		    (uintmax_t)ev->ident, ev->filter);
	return found;
}

/* An edge whose condition has gone is no event any more. */
static void
forget_untrue(int queue)
{
	struct knote *k;
	size_t i;

	for (i = 0; i < nknown; i++) {
		k = known[i];
		if (k->k_queue == queue && k->k_kind->k_truth(k) == NO)
			k->k_pending = k->k_maybe = k->k_held = false;
	}
}

/* There were not slots enough for all. */
static void
hold_pending(int queue)
{
	size_t i;

	for (i = 0; i < nknown; i++)
		if (known[i]->k_queue == queue)
			known[i]->k_held |=
			    known[i]->k_pending || known[i]->k_maybe;
}

/* Slots that are left for knotes that must come. */
static int
slots_for(int queue, int slots)
{
	size_t i;

	for (i = 0; i < nknown; i++)
		slots -= known[i]->k_queue == queue && known[i]->k_exists &&
		    known[i]->k_kind->k_vain;
	return slots;
}

/* What came out of the queue, of which so many had to come. */
static void
check_all(int queue, const struct kevent *events, int n, int must, int slots)
{
	int i, j, least = slots_for(queue, slots);
	bool room = n < least;

	if (n == -1)
		fail("kevent: %s", strerror(errno));
	say("%d events, at least %d, from %d with %d slots", n, must, queue,
	    slots);
	for (i = 0; i < n; i++)
		say("event %d of %ju: flags %#x, fflags %#x, data %jd, udata "
		    "%ju",
		    events[i].filter, (uintmax_t)events[i].ident,
		    events[i].flags, events[i].fflags, (intmax_t)events[i].data,
		    (uintmax_t)(uintptr_t)events[i].udata);
	for (i = 0; i < (int)nknown; i++)
		if (known[i]->k_queue == queue && must_come(known[i]))
			say("%d of %ju must come", known[i]->k_kind->k_filter,
			    (uintmax_t)known[i]->k_ident);
	if (n < (must < least ? must : least))
		fail("%d of at least %d events came, with %d slots", n, must,
		    slots);
	for (i = 0; i < n; i++) {
		for (j = 0; j < i; j++)
			if (events[i].ident == events[j].ident &&
			    events[i].filter == events[j].filter)
				fail("filter %d came twice", events[i].filter);
		check_event(&events[i], knote_of(queue, &events[i]));
	}
	if (room)
		forget_untrue(queue);
	else
		hold_pending(queue);
	for (i = 0; queue == kq && i < (int)COUNT(parts); i++)
		if (is_first((size_t)i) && parts[i]->p_gathered != NULL)
			parts[i]->p_gathered(room);
}

void
gather(int queue, int slots, enum patience patience)
{
	static const struct timespec now, deadline = { .tv_sec = 20 };
	struct kevent events[SLOTS];
	int must = how_many_must(queue), n;

	do {
		n = kevent(queue, NULL, 0, events, slots,
		    patience == WAITING ? &deadline : &now);
	} while (n == -1 && errno == EINTR);
	if (patience == WAITING && n == 0)
		fail("nothing came within the deadline");
	check_all(queue, events, n, must, slots);
}

/* -- a second thread ------------------------------------------------------- */

struct second {
	struct kevent s_events[SLOTS];
	int s_slots, s_n;
	pid_t s_tid;
	sem_t s_go;
	const struct timespec *s_timeout;
};

static void *
second(void *arg)
{
	struct second *s = arg;

	s->s_tid = gettid();
	sem_wait(&s->s_go);
	do {
		s->s_n =
		    kevent(kq, NULL, 0, s->s_events, s->s_slots, s->s_timeout);
	} while (s->s_n == -1 && errno == EINTR);
	return NULL;
}

/*
 * While libc starts a thread, and while one ends, it blocks all signals for a
 * moment, in which the library puts off whom a blocked signal is for.
 */
static void
start(pthread_t *thread, struct second *s)
{
	sem_init(&s->s_go, 0, 0);
	if (pthread_create(thread, NULL, second, s) != 0)
		fail("pthread_create: %s", strerror(errno));
	sem_post(&s->s_go);
}

static void
join(pthread_t thread, struct second *s)
{
	char path[48];

	pthread_join(thread, NULL);
	sem_destroy(&s->s_go);
	snprintf(path, sizeof(path), "/proc/self/task/%d", (int)s->s_tid);
	while (access(path, F_OK) == 0)
		sched_yield();
}

/* Another thread collects, while this one stands still. */
static void
gather_elsewhere(int slots)
{
	static const struct timespec now;
	struct second s = { .s_slots = slots, .s_timeout = &now };
	int must = how_many_must(kq);
	pthread_t thread;

	start(&thread, &s);
	join(thread, &s);
	check_all(kq, s.s_events, s.s_n, must, slots);
}

static const struct kevent alarm_off = { .ident = 1 << 20,
	.filter = EVFILT_USER,
	.flags = EV_ADD | EV_ONESHOT };

/*
 * While there is no knote yet, let a thread wait, look beside it until the
 * library has seen the two, and wake it.  From then on the queue is a shared
 * one.
 */
static void
share(void)
{
	static const struct timespec now;
	struct second s = { .s_slots = SLOTS };
	struct kevent ev = alarm_off;
	pthread_t thread;
	int i;

	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		fail("cannot share: %s", strerror(errno));
	start(&thread, &s);
	for (i = 0; i < 20; i++)
		if (kevent(kq, NULL, 0, &ev, 1, &now) != 0)
			fail("an event came out of nothing");
	ev = alarm_off;
	ev.flags = 0;
	ev.fflags = NOTE_TRIGGER;
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		fail("cannot wake: %s", strerror(errno));
	join(thread, &s);
	if (s.s_n != 1 || s.s_events[0].ident != alarm_off.ident)
		fail("the thread that waited got %d events", s.s_n);
}

/* -- one input ------------------------------------------------------------- */

static void
operate(void)
{
	static const int slots[] = { 1, 2, 3, SLOTS };
	unsigned int what = choose(COUNT(parts) + 3);

	if (what < COUNT(parts)) {
		say("part %u, %u", what, left > 1 ? input[1] : 0);
		parts[what]->p_operate();
	} else if (choose(32) != 31)
		gather(kq, slots[choose(COUNT(slots))], NOW);
	else
		gather_elsewhere(slots[choose(COUNT(slots))]);
}

void
run(const uint8_t *data, size_t size)
{
	size_t i;

	input = data;
	left = size;
	nknown = 0;
	serial = 0;
	repaired = false;
	strict = getenv("KQ_STRICT") != NULL;
	if ((kq = kqueue()) == -1)
		err(1, "kqueue");
	for (i = 0; i < COUNT(parts); i++)
		if (is_first(i))
			parts[i]->p_open();
	if (choose(4) == 3)
		share();
	for (step = 0; left > 0; step++)
		operate();
	gather(kq, SLOTS, NOW);
	for (i = 0; i < COUNT(parts); i++)
		if (is_first(i))
			parts[i]->p_close();
	close(kq);
}
