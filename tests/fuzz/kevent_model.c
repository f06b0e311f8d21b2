/*
 * Random calls against a model of the rules.
 *
 * The input is a list of operations: change a knote, put or take bytes, close,
 * duplicate, trigger, collect with few slots or many.  A model beside it, a
 * page of plain state, says after each collection which knotes must have been
 * returned, which may have been, and what each of them must say (R-REG, R-MODE,
 * R-FD, R-READ-01 to 05, R-WRITE, R-USER).
 *
 *	kevent_model [-s seed] [-t seconds]	random input; a failure names
 *its seed kevent_model FILE...			each file is an input
 *
 * With libFuzzer (-DLIBFUZZER, clang -fsanitize=fuzzer) the input is its own.
 */
#include <sys/event.h>
#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define PAIRS 4
#define USERS 3
#define SLOTS 16
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A knote as the rules have it. */
struct model {
	bool exists, enabled;
	bool pending; /* EV_CLEAR: not returned since it last became true */
	/*
	 * EV_CLEAR: it was passed over for want of slots, so libkq may hold the
	 * edge; if another came then, both may be returned, one after the
	 * other.
	 */
	bool held, doubled;
	bool maybe;     /* the second of two such may still come */
	bool triggered; /* USER */
	unsigned int flags;
	uintptr_t udata;
	int64_t data; /* USER */
};

/* A watched socket, and the other end of it. */
struct pair {
	int fd, peer; /* peer -1: closed */
	int copy;     /* a duplicate of fd, or -1 */
	int64_t bytes;
	struct model read, write;
};

static struct pair pairs[PAIRS];
static struct model users[USERS];
static int kq;
static uintptr_t serial;
static uint64_t seed;
static size_t step;

static const uint8_t *input;
static size_t left;

#define fail(...)                                                              \
	do {                                                                   \
		fprintf(stderr,                                                \
		    "seed %llu, step %zu: ", (unsigned long long)seed, step);  \
		fprintf(stderr, __VA_ARGS__);                                  \
		fputc('\n', stderr);                                           \
		abort();                                                       \
	} while (0)

static unsigned int
choose(unsigned int n)
{
	if (left == 0)
		return 0;
	left--;
	return *input++ % n;
}

/* -- the world ------------------------------------------------------------- */

static void
open_pair(struct pair *p)
{
	int s[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		s) == -1)
		err(1, "socketpair");
	*p = (struct pair){ .fd = s[0], .peer = s[1], .copy = -1 };
}

static bool
is_true(const struct pair *p, int filter)
{
	return filter == EVFILT_WRITE || p->bytes > 0 || p->peer == -1;
}

/* The knote's condition came true, or true once more. */
static void
edge(struct model *m)
{
	m->pending = true;
	m->doubled |= m->held;
}

static void
put(struct pair *p)
{
	unsigned int n = 1 + choose(20);
	static const char text[32];

	if (p->peer == -1)
		return;
	if (write(p->peer, text, n) != (ssize_t)n)
		fail("cannot write %u bytes", n);
	p->bytes += n;
	edge(&p->read);
}

static void
take(struct pair *p)
{
	char text[32];
	ssize_t n = read(p->fd, text, 1 + choose(20));

	if (n > 0)
		p->bytes -= n;
}

static void
close_peer(struct pair *p)
{
	if (p->peer == -1)
		return;
	close(p->peer);
	p->peer = -1;
	edge(&p->read);
	edge(&p->write);
}

static void
drop_copy(struct pair *p)
{
	if (p->copy != -1)
		close(p->copy);
	p->copy = -1;
}

/* R-FD-01: the knotes go with the number, whatever copies there are. */
static void
close_pair(struct pair *p)
{
	int copy = p->copy, peer = p->peer, over;

	if (choose(2) == 0) {
		close(p->fd);
	} else {
		over = open("/dev/null", O_RDONLY | O_CLOEXEC);
		dup2(over, p->fd);
		close(over);
		close(p->fd);
	}
	open_pair(p);
	if (copy != -1)
		close(copy);
	if (peer != -1)
		close(peer);
}

static void
duplicate(struct pair *p)
{
	drop_copy(p);
	p->copy = dup(p->fd);
}

/* -- changes -----------------------------------------------------------------
 */

static int
apply(uintptr_t ident, int filter, unsigned int flags, unsigned int fflags,
    int64_t data, uintptr_t udata)
{
	struct kevent change;

	EV_SET(&change, ident, filter, flags, fflags, data, (void *)udata);
	return kevent(kq, &change, 1, NULL, 0, NULL) == -1 ? errno : 0;
}

static const unsigned int modes[] = { 0, 0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH,
	EV_CLEAR | EV_DISPATCH, EV_CLEAR | EV_ONESHOT };

/* What every kind of knote does with a change; true if it is new. */
static bool
change_model(struct model *m, unsigned int flags)
{
	bool fresh = !m->exists;

	if (fresh) {
		*m = (struct model){ .exists = true,
			.enabled = (flags & EV_DISABLE) == 0,
			.flags =
			    flags & (EV_CLEAR | EV_ONESHOT | EV_DISPATCH) };
	} else if (flags & EV_ENABLE) {
		m->enabled = true;
	} else if (flags & EV_DISABLE) {
		m->enabled = false;
	}
	m->udata = serial;
	return fresh;
}

static unsigned int
choose_flags(void)
{
	static const unsigned int what[] = { EV_ADD, EV_ADD, EV_ADD, EV_ENABLE,
		EV_DISABLE, EV_ADD | EV_DISABLE, EV_DELETE, 0 };
	unsigned int flags = what[choose(COUNT(what))];

	return flags & EV_ADD ? flags | modes[choose(COUNT(modes))] : flags;
}

static void
change_pair(struct pair *p)
{
	int filter = choose(2) == 0 ? EVFILT_READ : EVFILT_WRITE, error;
	struct model *m = filter == EVFILT_READ ? &p->read : &p->write;
	unsigned int flags = choose_flags();
	int expected = m->exists || (flags & EV_ADD) ? 0 : ENOENT;

	error = apply((uintptr_t)p->fd, filter, flags, 0, 0, ++serial);
	if (error != expected)
		fail("change %#x of %d: error %d, expected %d", flags, filter,
		    error, expected);
	if (error != 0)
		return;
	if (flags & EV_DELETE) {
		*m = (struct model){ .exists = false };
		return;
	}
	change_model(m, flags);
	/* R-REG-02, R-REG-03, R-REG-17: the filter runs at once. */
	if (m->enabled && is_true(p, filter))
		edge(m);
}

static void
change_user(int i)
{
	struct model *m = &users[i];
	unsigned int flags = choose_flags();
	bool trigger = choose(2) == 0;
	int64_t data = choose(100);
	int expected = m->exists || (flags & EV_ADD) ? 0 : ENOENT, error;

	error = apply((uintptr_t)i, EVFILT_USER, flags,
	    trigger ? NOTE_TRIGGER : 0, data, ++serial);
	if (error != expected)
		fail("change %#x of user %d: error %d", flags, i, error);
	if (error != 0)
		return;
	if (flags & EV_DELETE) {
		*m = (struct model){ .exists = false };
		return;
	}
	m->triggered = (m->exists && m->triggered) || trigger;
	trigger = m->triggered;
	if (!change_model(m, flags) && (flags & EV_CLEAR))
		trigger = false; /* R-USER-10 */
	m->triggered = trigger;
	m->data = data;
}

/* -- collecting
 * ---------------------------------------------------------------- */

static bool
may_come(const struct model *m, bool condition)
{
	return m->exists && m->enabled && condition;
}

static bool
must_come(const struct model *m, bool condition)
{
	return may_come(m, condition) &&
	    ((m->flags & EV_CLEAR) == 0 || m->pending);
}

static int
how_many_must(void)
{
	const struct pair *p;
	int n = 0, i;

	for (p = pairs; p < pairs + PAIRS; p++) {
		n += must_come(&p->read, is_true(p, EVFILT_READ));
		n += must_come(&p->write, true);
	}
	for (i = 0; i < USERS; i++)
		n += may_come(&users[i], users[i].triggered);
	return n;
}

/* An event was returned: its modes at work. */
static void
returned(struct model *m)
{
	m->maybe = m->doubled;
	m->pending = m->held = m->doubled = false;
	if (m->flags & EV_CLEAR)
		m->triggered = false;
	if (m->flags & EV_ONESHOT)
		m->exists = false;
	else if (m->flags & EV_DISPATCH)
		m->enabled = false;
}

static void
check_common(const struct kevent *ev, const struct model *m)
{
	if (!m->exists || !m->enabled)
		fail("filter %d of %ju came, but is %s", ev->filter,
		    (uintmax_t)ev->ident, m->exists ? "disabled" : "gone");
	if ((uintptr_t)ev->udata != m->udata)
		fail("filter %d: udata %p, expected %ju", ev->filter, ev->udata,
		    (uintmax_t)m->udata);
	if ((ev->flags & ~EV_EOF) != m->flags)
		fail("filter %d: flags %#x, expected %#x", ev->filter,
		    ev->flags, m->flags);
}

static void
check_pair(const struct kevent *ev, struct pair *p)
{
	struct model *m = ev->filter == EVFILT_READ ? &p->read : &p->write;

	check_common(ev, m);
	if (((ev->flags & EV_EOF) != 0) != (p->peer == -1))
		fail("filter %d: EV_EOF is wrong", ev->filter);
	if (ev->filter == EVFILT_READ) {
		if (ev->data != p->bytes)
			fail("data %jd, expected %jd", (intmax_t)ev->data,
			    (intmax_t)p->bytes);
		if (!is_true(p, EVFILT_READ))
			fail("nothing to read");
		if ((m->flags & EV_CLEAR) && !m->pending && !m->maybe)
			fail("READ with EV_CLEAR came without an arrival");
	} else if ((m->flags & EV_CLEAR) && !m->pending && !m->maybe) {
		fail("WRITE with EV_CLEAR came again");
	}
	returned(m);
}

static void
check_user(const struct kevent *ev, struct model *m)
{
	check_common(ev, m);
	if (!m->triggered || ev->data != m->data)
		fail("user %ju: triggered %d, data %jd", (uintmax_t)ev->ident,
		    m->triggered, (intmax_t)ev->data);
	returned(m);
}

static void
check_event(const struct kevent *ev)
{
	struct pair *p;

	if (ev->filter == EVFILT_USER && ev->ident < USERS) {
		check_user(ev, &users[ev->ident]);
		return;
	}
	for (p = pairs; p < pairs + PAIRS; p++)
		if (ev->ident == (uintptr_t)p->fd &&
		    (ev->filter == EVFILT_READ || ev->filter == EVFILT_WRITE)) {
			check_pair(ev, p);
			return;
		}
	fail("an event of %ju, filter %d, of nobody", (uintmax_t)ev->ident,
	    ev->filter);
}

/* An edge whose condition has gone is no event any more. */
static void
forget_untrue(void)
{
	struct pair *p;

	for (p = pairs; p < pairs + PAIRS; p++)
		if (!is_true(p, EVFILT_READ))
			p->read.pending = p->read.maybe = p->read.held = false;
}

/* There were not slots enough for all. */
static void
hold_pending(void)
{
	struct pair *p;

	for (p = pairs; p < pairs + PAIRS; p++) {
		p->read.held |= p->read.pending;
		p->write.held |= p->write.pending;
	}
}

static void
collect(int slots)
{
	static const struct timespec now;
	struct kevent events[SLOTS];
	int must = how_many_must(), n, i, j;

	n = kevent(kq, NULL, 0, events, slots, &now);
	if (n < (must < slots ? must : slots))
		fail("%d of at least %d events came, with %d slots", n, must,
		    slots);
	for (i = 0; i < n; i++) {
		for (j = 0; j < i; j++)
			if (events[i].ident == events[j].ident &&
			    events[i].filter == events[j].filter)
				fail("filter %d came twice", events[i].filter);
		check_event(&events[i]);
	}
	if (n < slots)
		forget_untrue();
	else
		hold_pending();
}

/* -- one input
 * ------------------------------------------------------------------- */

static void
operate(void)
{
	struct pair *p = &pairs[choose(PAIRS)];
	static const int slots[] = { 1, 2, 3, SLOTS };

	switch (choose(16)) {
	case 0:
	case 1:
	case 2:
	case 3:
	case 4:
		change_pair(p);
		break;
	case 5:
	case 6:
		change_user((int)choose(USERS));
		break;
	case 7:
	case 8:
		put(p);
		break;
	case 9:
		take(p);
		break;
	case 10:
		if (choose(4) == 0)
			close_peer(p);
		break;
	case 11:
		close_pair(p);
		break;
	case 12:
		duplicate(p);
		break;
	default:
		collect(slots[choose(COUNT(slots))]);
	}
}

static void
run(const uint8_t *data, size_t size)
{
	int i;

	input = data;
	left = size;
	memset(users, 0, sizeof(users));
	if ((kq = kqueue()) == -1)
		err(1, "kqueue");
	for (i = 0; i < PAIRS; i++)
		open_pair(&pairs[i]);
	for (step = 0; left > 0; step++)
		operate();
	collect(SLOTS);
	for (i = 0; i < PAIRS; i++) {
		drop_copy(&pairs[i]);
		close(pairs[i].fd);
		if (pairs[i].peer != -1)
			close(pairs[i].peer);
	}
	close(kq);
}

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size);
	return 0;
}

#else

static uint64_t
random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void
run_seed(void)
{
	static uint8_t data[4096];
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
	size_t i, size = 64 + random_word(&state) % (sizeof(data) - 64);

	for (i = 0; i < size; i++)
		data[i] = (uint8_t)(random_word(&state) >> 32);
	run(data, size);
}

static void
run_file(const char *path)
{
	static uint8_t data[1 << 20];
	FILE *f = fopen(path, "rb");

	if (f == NULL)
		err(1, "%s", path);
	run(data, fread(data, 1, sizeof(data), f));
	fclose(f);
}

int
main(int argc, char **argv)
{
	time_t end;
	int seconds = 5, c;

	seed = 1;
	while ((c = getopt(argc, argv, "s:t:")) != -1) {
		if (c == 's') {
			seed = strtoull(optarg, NULL, 10);
			seconds = 0;
		} else if (c == 't') {
			seconds = atoi(optarg);
		} else {
			errx(64,
			    "usage: kevent_model [-s seed] [-t seconds] [file "
			    "...]");
		}
	}
	for (; optind < argc; optind++, seconds = -1)
		run_file(argv[optind]);
	if (seconds < 0)
		return 0;
	end = time(NULL) + seconds;
	do {
		run_seed();
		seed++;
	} while (time(NULL) < end);
	printf("%llu inputs\n", (unsigned long long)(seed - 1));
	return 0;
}

#endif
