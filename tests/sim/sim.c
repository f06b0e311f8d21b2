/*
 * The server over a simulated kernel: for each seed another world of callers
 * that send, read, stall, half-close and reset, of short reads and writes,
 * of system calls that fail, and of a service that closes, aborts, pauses
 * and changes its callbacks whenever it likes.  After each step:
 *
 *  - each byte out is the echo of a byte in, in order, and none is missing
 *    from a connection that ended in an orderly way;
 *  - open comes once and first, close once and last, nothing while paused or
 *    after the end of input;
 *  - nobody is let in whom the service has turned away;
 *  - the bytes of each connection are counted, to the last;
 *  - limits are kept: of slots, of one address, of queued output, of time;
 *  - once all peers behave, every connection comes to its end.
 *
 *	SIM_SEED=n	this world alone
 *	SIM_WORLDS=n	so many, from 0
 */
#include "kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	WORLDS = 2000,
	SLOW_WORLDS = 500,
	STEPS = 1000,
	LAST_STEPS = 4000,
	SLACK_MS = 3 * 16,
	FLOW = 65536 /* what a spliced one may queue, limit or not */
};

/* What the service knows of a connection, in kquay_udata(). */
struct side {
	struct caller *caller;
	uint64_t in, out; /* bytes: taken; accepted by kquay_write() */
	uint64_t left;    /* offered last and not taken */
	int64_t opened_ms, limited_ms;
	int idle; /* ms, -1: none */
	int idle_before;
	uint8_t opens;
	bool closed, eof, paused, mute, aborted;
	struct deal *deal; /* NULL: it is not spliced */
	unsigned end;      /* which of the two it is */
};

/* Two that were joined, and what had come and gone at each by then. */
struct deal {
	struct caller *caller[2];
	uint64_t in[2], out[2];
	uint64_t owed[2]; /* what goes out at each in all */
	bool known;       /* once both have ended in order */
};

/* What the service left behind, by caller, for the close(2) that follows. */
static struct {
	bool orderly, owes;
	uint64_t out;
	int64_t closing_ms;
} legacy[NCALLERS];

static int64_t closing_ms[NCALLERS], stepped_ms;
static struct kquay *q;
static struct kquay_conf conf;
static bool calm, stopping;
static unsigned opened, closed, posts, posted;
/* By admit: let in, turned away, and closed in it. */
static unsigned admitted, denied, vanished, told_denied;
static uint64_t stale;
enum { NDEALS = 4096 };
static struct deal deals[NDEALS];
static unsigned ndeals;

static const struct kquay_ops by_line, by_input;

static size_t
index_of(const struct side *s)
{
	return (size_t)(s->caller - kernel_callers);
}

/* -- what the service does ------------------------------------------------- */

static void
begin_to_close(struct side *s)
{
	int64_t *since = &closing_ms[index_of(s)];

	if (*since == -1)
		*since = kernel_now_ms();
}

static struct kquay_conn *
anyone(void)
{
	struct kquay_conn *c, *found = NULL;
	uint32_t n = kernel_roll(8);

	KQUAY_FOREACH(c, q) {
		found = c;
		if (n-- == 0)
			break;
	}
	return found;
}

static void
on_post(struct kquay *loop, void *arg)
{
	HOLDS(loop == q);
	HOLDS((uintptr_t)arg == posted);
	posted++;
}

static void
limit(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);
	int idle = (int)kernel_roll(4000) + 1;

	kquay_timeout(c, idle, 0);
	s->idle_before = s->idle;
	s->idle = idle;
	s->limited_ms = kernel_now_ms();
}

/* Splice a and b, as far as they let us. */
static void
join(struct kquay_conn *a, struct kquay_conn *b)
{
	struct kquay_conn *const end[2] = { a, b };
	struct side *s[2];
	unsigned i;

	if (b == NULL || ndeals == NDEALS || kquay_splice(a, b) == -1)
		return;
	for (i = 0; i < 2; i++)
		s[i] = kquay_udata(end[i]);
	for (i = 0; i < 2; i++) {
		HOLDS(s[i]->deal == NULL);
		s[i]->deal = &deals[ndeals];
		s[i]->end = i;
		s[i]->mute = true;
		deals[ndeals].caller[i] = s[i]->caller;
		/* What was left at the end of input is gone. */
		deals[ndeals].in[i] =
		    s[i]->eof ? s[i]->caller->up.sent : s[i]->in;
		deals[ndeals].out[i] = s[i]->out;
		kernel_join(s[i]->caller, s[!i]->caller, s[i]->out, s[!i]->in);
	}
	deals[ndeals++].known = false;
}

/* Something that a service may do at any time to any connection. */
static void
mischief(struct kquay_conn *c)
{
	struct side *s;

	if (calm || kernel_roll(6) != 0)
		return;
	if (kernel_roll(2) && (c = anyone()) == NULL)
		return;
	s = kquay_udata(c);
	switch (kernel_roll(11)) {
	case 0:
		begin_to_close(s);
		kquay_close(c);
		break;
	case 1:
		s->aborted = true;
		kquay_abort(c);
		break;
	case 2:
	case 3:
		kquay_pause(c, 1);
		s->paused = true;
		break;
	case 4:
	case 5:
		s->paused = false;
		kquay_pause(c, 0);
		break;
	case 6:
		kquay_setops(c, kernel_roll(2) ? &by_line : &by_input);
		break;
	case 7:
		limit(c);
		break;
	case 8:
		HOLDS(kquay_find(q, stale) == NULL);
		HOLDS(kquay_of(c) == q);
		break;
	case 9:
		join(c, anyone());
		break;
	default:
		HOLDS(kquay_post(q, on_post, (void *)(uintptr_t)posts) == 0);
		posts++;
	}
}

/* len bytes of input are used, and go back to where they came from. */
static void
echo(struct kquay_conn *c, const char *data, size_t len)
{
	struct side *s = kquay_udata(c);
	size_t i;

	for (i = 0; i < len; i++)
		HOLDS(data[i] == kernel_byte(s->caller->number, s->in + i));
	s->in += len;
	if (s->mute || len == 0)
		return;
	if (kquay_write(c, data, len) == 0) {
		s->out += len;
		return;
	}
	/* A hole in the echo would be taken for a fault of the library. */
	s->mute = true;
	if (errno == EMSGSIZE) {
		HOLDS(len > conf.outmax);
		begin_to_close(s);
		kquay_close(c);
	}
}

static void
wanted(struct kquay_conn *c, size_t len)
{
	const struct side *s = kquay_udata(c);

	HOLDS(s->opens == 1);
	HOLDS(!s->paused && !s->closed && !s->eof && s->deal == NULL);
	HOLDS(s->in + len <= s->caller->up.taken);
}

static int
on_admit(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);
	struct kquay_conn *other;
	socklen_t salen;

	HOLDS(s->caller == NULL && s->opens == 0);
	s->caller = kernel_caller(kquay_peeraddr(c, &salen));
	HOLDS(s->caller->up.taken == 0);
	KQUAY_FOREACH(other, q)
		HOLDS(other != c);
	other = anyone();
	if (other != NULL)
		mischief(other);
	switch (kernel_roll(16)) {
	case 0:
		vanished++;
		if (kernel_roll(2))
			kquay_close(c);
		else
			kquay_abort(c);
		return 0;
	case 1:
	case 2:
		denied++;
		errno = EACCES;
		return -1;
	default:
		admitted++;
		return 0;
	}
}

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	HOLDS(loop == q && sa->sa_family == AF_INET && salen > 0);
	told_denied += errno == EACCES;
}

static int
on_open(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);
	socklen_t salen;

	HOLDS(s->opens++ == 0);
	HOLDS(s->caller == kernel_caller(kquay_peeraddr(c, &salen)));
	s->opened_ms = kernel_now_ms();
	s->idle = s->idle_before = conf.idle;
	closing_ms[index_of(s)] = -1;
	opened++;
	mischief(c);
	if (kernel_roll(40) != 0)
		return 0;
	begin_to_close(s);
	return -1;
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	struct side *s = kquay_udata(c);

	wanted(c, len);
	HOLDS(len <= conf.inmax);
	s->left = 0;
	HOLDS(strlen(text) == len);
	if (s->in + len < s->caller->up.taken &&
	    kernel_byte(s->caller->number, s->in + len) == '\n')
		text[len++] = '\n';
	else
		HOLDS(s->caller->up.fin_arrived);
	echo(c, text, len);
	mischief(c);
}

static ssize_t
on_input(struct kquay_conn *c, char *data, size_t len)
{
	struct side *s = kquay_udata(c);
	size_t used = len;

	wanted(c, len);
	if (kernel_roll(3) == 0)
		used = kernel_roll((uint32_t)len + 1);
	echo(c, data, used);
	s->left = len - used;
	mischief(c);
	if (calm || kernel_roll(200) != 0)
		return (ssize_t)used;
	begin_to_close(s);
	return -1;
}

static int
on_eof(struct kquay_conn *c)
{
	struct side *s = kquay_udata(c);

	wanted(c, 0);
	HOLDS(s->caller->up.fin_arrived);
	HOLDS(s->in + s->left == s->caller->up.sent);
	s->eof = true;
	mischief(c);
	if (s->deal != NULL || kernel_roll(2))
		return 1;
	begin_to_close(s);
	return 0;
}

static void
on_drained(struct kquay_conn *c)
{
	HOLDS(((struct side *)kquay_udata(c))->deal == NULL);
	HOLDS(kquay_pending(c) <= conf.outlo);
	mischief(c);
}

static uint64_t
owed(struct deal *d, unsigned end)
{
	unsigned i;

	for (i = 0; i < 2 && !d->known; i++) {
		HOLDS(d->caller[i]->up.fin_arrived);
		d->owed[i] = d->out[i] + d->caller[!i]->up.sent - d->in[!i];
	}
	d->known = true;
	return d->owed[end];
}

/* What the kernel has given and taken is what was counted. */
static void
check_traffic(struct kquay_conn *c)
{
	const struct side *s = kquay_udata(c);
	uint64_t in, out;

	kquay_traffic(c, &in, &out);
	if (!(conf.flags & KQUAY_TRAFFIC))
		HOLDS(in == 0 && out == 0);
	else
		HOLDS(in == s->caller->up.taken && out == s->caller->down.sent);
}

/* Why it ends, and whether that can be. */
static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	struct side *s = kquay_udata(c);
	size_t k = index_of(s);
	int64_t now = kernel_now_ms(), quiet = now - s->caller->moved_ms;
	/* -1 is never: the largest there is. */
	unsigned idle = (unsigned)s->idle < (unsigned)s->idle_before ?
	    (unsigned)s->idle :
	    (unsigned)s->idle_before;

	HOLDS(s->opens == 1);
	HOLDS(!s->closed);
	check_traffic(c);
	s->closed = true;
	closed++;
	stale = kquay_id(c);
	HOLDS(kquay_find(q, stale) == NULL);
	HOLDS(kquay_write(c, "x", 1) == -1);
	HOLDS(errno == EPIPE);
	if (why == KQUAY_EOF)
		HOLDS(s->caller->up.fin_arrived || s->caller->reset);
	if (why == KQUAY_IDLE)
		HOLDS(quiet >= (int64_t)idle - 16);
	if (why == KQUAY_LIFE)
		HOLDS(now - s->opened_ms >= conf.life - 16);
	if (why == KQUAY_DONE && s->deal == NULL)
		HOLDS(s->aborted || closing_ms[k] != -1);
	if (why == KQUAY_SHUTDOWN)
		HOLDS(stopping);
	legacy[k].owes = true;
	legacy[k].orderly = !s->aborted &&
	    (why == KQUAY_DONE || why == KQUAY_EOF) && !s->caller->reset;
	legacy[k].out = s->out;
	legacy[k].closing_ms = closing_ms[k];
	if (s->deal == NULL)
		return;
	/* Only if both have come to their end is it known what had to pass. */
	if (why == KQUAY_EOF)
		legacy[k].out = owed(s->deal, s->end);
	else
		legacy[k].orderly = false;
}

static const struct kquay_ops by_line = { .admit = on_admit,
	.open = on_open,
	.refused = on_refused,
	.line = on_line,
	.eof = on_eof,
	.drained = on_drained,
	.close = on_close };

static const struct kquay_ops by_input = { .admit = on_admit,
	.open = on_open,
	.refused = on_refused,
	.input = on_input,
	.eof = on_eof,
	.drained = on_drained,
	.close = on_close };

/* -- what must hold -------------------------------------------------------- */

/* The kernel's side of the end: everything is sent, and no reset loses it. */
static void
on_kernel_closed(struct caller *k, bool unread)
{
	size_t i = (size_t)(k - kernel_callers);
	bool in_time;

	if (!legacy[i].owes)
		return; /* it was refused */
	legacy[i].owes = false;
	if (!legacy[i].orderly)
		return;
	in_time = conf.linger == -1 || legacy[i].closing_ms == -1 ||
	    kernel_now_ms() - legacy[i].closing_ms < conf.linger;
	if (in_time && !stopping) {
		HOLDS(!k->hard);
		HOLDS(!unread || k->faulty || k->down.sent == 0);
	}
	if (!k->hard)
		HOLDS(k->down.sent == legacy[i].out);
}

static void
check_one(struct kquay_conn *c, unsigned *of_address)
{
	struct side *s = kquay_udata(c);
	int64_t since = s->caller->moved_ms > s->limited_ms ?
	    s->caller->moved_ms :
	    s->limited_ms;
	int idle = s->idle > s->idle_before ? s->idle : s->idle_before;

	/*
	 * A new limit is looked at in the next step, as is what had no memory
	 * when its time came.
	 */
	if (s->idle == -1 || s->idle_before == -1)
		idle = -1;
	s->idle_before = s->idle;
	HOLDS(s->opens == 1);
	HOLDS(!s->closed && s->caller->used);
	check_traffic(c);
	HOLDS(kquay_pending(c) <= conf.outmax + (s->deal != NULL ? FLOW : 0));
	HOLDS(kquay_find(q, kquay_id(c)) == c);
	of_address[index_of(s) % 4]++;
	if (kquay_write(c, "", 0) == -1)
		return; /* it is on its way out */
	if (idle != -1)
		HOLDS(stepped_ms - since <= idle + SLACK_MS);
	if (conf.life != -1)
		HOLDS(stepped_ms - s->opened_ms <= conf.life + SLACK_MS);
}

static void
check_all(void)
{
	unsigned of_address[4] = { 0 }, i, n = 0;
	struct kquay_conn *c;
	struct kquay_stat st;

	KQUAY_FOREACH(c, q) {
		check_one(c, of_address);
		n++;
	}
	kquay_stats(q, &st);
	HOLDS(st.conns >= n); /* some may have ended since */
	HOLDS(st.conns <= conf.maxconn);
	HOLDS(admitted == opened);
	HOLDS(denied == told_denied);
	HOLDS(st.accepted == opened + vanished);
	HOLDS(st.closed == closed + vanished);
	HOLDS(opened - closed == st.conns);
	for (i = 0; i < 4; i++)
		HOLDS(conf.maxperaddr == 0 || of_address[i] <= conf.maxperaddr);
}

/* -- a world --------------------------------------------------------------- */

static int
some_ms(void)
{
	return kernel_roll(2) ? -1 : (int)kernel_roll(5000) + 1;
}

static void
configure(void)
{
	memset(&conf, 0, sizeof(conf));
	conf.maxconn = 1 + kernel_roll(NCALLERS);
	conf.maxperaddr = kernel_roll(3) ? 0 : 1 + kernel_roll(8);
	conf.udatasz = sizeof(struct side);
	conf.inmax = 200 + kernel_roll(8192);
	conf.outmax = 1u << kernel_roll(21);
	conf.outhi = 1 + kernel_roll(conf.outmax);
	conf.outlo = 1 + kernel_roll(conf.outhi);
	conf.idle = some_ms();
	conf.life = some_ms();
	conf.handshake = some_ms();
	conf.linger = (int)kernel_roll(3000) + 1;
	conf.refusal = kernel_roll(2) ? "no\n" : NULL;
	conf.flags = KQUAY_NOSIGNAL | (kernel_roll(2) ? KQUAY_FULLWAIT : 0) |
	    (kernel_roll(2) ? KQUAY_TRAFFIC : 0);
	conf.sys = &kernel_sys;
}

static void
step(void)
{
	int n;

	stepped_ms = kernel_now_ms();
	n = kquay_step(q, kernel_roll(4) ? -1 : (int)kernel_roll(100));
	HOLDS(n != -1);
	check_all();
}

/*
 * All behave: whoever is left comes to an end.  A loop that was retired has
 * come to its own then.
 */
static void
settle(void)
{
	bool retired = kernel_roll(2);
	struct kquay_conn *c;
	int i;

	if (retired)
		kquay_retire(q);
	HOLDS(!kquay_done(q));
	calm = true;
	kernel_calm();
	KQUAY_FOREACH(c, q) {
		((struct side *)kquay_udata(c))->paused = false;
		kquay_pause(c, 0);
	}
	for (i = 0; opened != closed || i < 100; i++) {
		HOLDS(i < LAST_STEPS);
		step();
		KQUAY_FOREACH(c, q) {
			struct side *s = kquay_udata(c);

			if (s->eof && i > 50) {
				begin_to_close(s);
				kquay_close(c);
			}
		}
	}
	HOLDS(kquay_done(q) == retired);
}

/* None of them has to behave: the end comes all the same, and in time. */
static void
stop(void)
{
	int64_t began = kernel_now_ms(), last = began;

	stopping = true;
	kquay_stop(q);
	while (!kquay_done(q)) {
		HOLDS(last - began <= 16 * (conf.linger + 16) + SLACK_MS);
		last = kernel_now_ms();
		step();
	}
}

static void
run_world(uint64_t seed)
{
	unsigned steps;

	kernel_begin(seed, on_kernel_closed);
	memset(legacy, 0, sizeof(legacy));
	calm = stopping = false;
	opened = closed = posts = posted = 0;
	admitted = denied = vanished = told_denied = 0;
	stale = 0;
	ndeals = 0;
	configure();
	q = kquay_new(kernel_roll(2) ? &by_line : &by_input, &conf);
	HOLDS(q != NULL);
	HOLDS(kquay_listen_fd(q, kernel_listener()) == 1);
	kernel_faults(kernel_roll(2) ? 0 : 20 + kernel_roll(400));
	for (steps = 0; steps < STEPS; steps++)
		step();
	if (kernel_roll(2))
		settle();
	else {
		stop();
	}
	kquay_free(q);
	HOLDS(opened == closed);
	HOLDS(posts == posted);
	HOLDS(kernel_open_fds() == 0);
}

START_TEST(test_world)
{
	const char *seed = getenv("SIM_SEED");

	run_world(seed != NULL ? strtoull(seed, NULL, 0) : (uint64_t)_i);
}
END_TEST

int
main(void)
{
	const char *worlds = getenv("SIM_WORLDS");
	Suite *s = suite_create("sim");
	TCase *tc = tcase_create("world");
	SRunner *sr = srunner_create(s);
	int failed, n = WORLDS;

	if (getenv("SIM_SEED") != NULL)
		n = 1;
	else if (worlds != NULL)
		n = atoi(worlds);
	else if (getenv("KQUAY_SANITIZE") != NULL)
		n = SLOW_WORLDS;
	tcase_add_loop_test(tc, test_world, 0, n);
	suite_add_tcase(s, tc);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return failed != 0;
}
