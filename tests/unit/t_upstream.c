/*
 * The state of targets: who gets what, the queue, failures; and all of it by
 * threads at the same time.
 */
#include "endpoint.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "log.h"
#include "t_unit.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { THREADS = 4, CALLERS = 4000, AT_ONCE = 16, MAX = 3 };

static const struct kquay_ops no_ops = { .open = NULL };
static struct target_list targets;
static struct kquay *home;
static struct upstream *up;

/* What went to the log. */
static char told[4096];

void
log_service(enum log_level level, const char *service, const char *format, ...)
{
	va_list ap;
	size_t len;

	len = strlen(told);
	snprintf(told + len, sizeof(told) - len, "%s: ", service);
	len = strlen(told);
	va_start(ap, format);
	vsnprintf(told + len, sizeof(told) - len, format, ap);
	va_end(ap);
	strlcat(told, "\n", sizeof(told));
}

static struct kquay *
new_loop(void)
{
	const struct kquay_conf conf = { .maxconn = 4,
		.flags = KQUAY_NOSIGNAL };
	struct kquay *q = kquay_new(&no_ops, &conf);

	ck_assert_ptr_ne(q, NULL);
	return q;
}

/* With these targets, the last followed by NULL. */
static void
begin(struct upstream_conf conf, ...)
{
	const char *text;
	char why[256];
	va_list ap;

	*told = '\0';
	va_start(ap, conf);
	while ((text = va_arg(ap, const char *)) != NULL)
		ck_assert_msg(target_kind.parse(&targets, text, why,
				  sizeof(why)) == 0,
		    "%s", why);
	va_end(ap);
	conf.name = "s";
	conf.targets = &targets;
	if (conf.fail_ms == 0)
		conf.fail_ms = 60000;
	home = new_loop();
	up = upstream_new(&conf, home);
	ck_assert_ptr_ne(up, NULL);
}

static void
teardown(void)
{
	kquay_free(home);
	upstream_free(up);
	target_kind.free(&targets);
}

struct sum {
	uint64_t active, opened, failed;
	unsigned up, n;
};

static void
add(const struct endpoint *e, void *arg)
{
	struct sum *sum = arg;

	sum->active += e->active;
	sum->opened += e->opened;
	sum->failed += e->failed;
	sum->up += (unsigned)endpoint_is_up(e);
	sum->n++;
}

static struct sum
sum_up(void)
{
	struct sum sum = { .n = 0 };

	upstream_each(up, add, &sum);
	return sum;
}

/* A caller that has no time to wait. */
static struct endpoint *
picked(const char *name)
{
	struct attempt a = { .q = home, .name = name };

	return upstream_pick(up, &a) == UPSTREAM_PICKED ? a.endpoint : NULL;
}

/* The same, and it is done at once. */
static struct endpoint *
peek(const char *name)
{
	struct endpoint *e = picked(name);

	if (e != NULL)
		upstream_done(e);
	return e;
}

/* -- one thread ------------------------------------------------------------ */

static struct attempt *woken[8];
static unsigned nwoken;

static void
wake(struct kquay *q, void *arg)
{
	ck_assert_ptr_eq(q, home);
	woken[nwoken++] = arg;
}

START_TEST(each_once)
{
	struct attempt a = { .q = home };
	struct endpoint *first;

	begin((struct upstream_conf){ .queue = 0 }, "127.0.0.1:1",
	    "127.0.0.1:2", NULL);
	ck_assert_int_eq(upstream_pick(up, &a), UPSTREAM_PICKED);
	first = a.endpoint;
	upstream_failed(first, ECONNREFUSED);
	ck_assert_int_eq(upstream_pick(up, &a), UPSTREAM_PICKED);
	ck_assert_ptr_ne(a.endpoint, first);
	upstream_failed(a.endpoint, ECONNREFUSED);
	ck_assert_int_eq(upstream_pick(up, &a), UPSTREAM_NONE);
	ck_assert_ptr_eq(a.endpoint, NULL);
	ck_assert_uint_eq(sum_up().failed, 2);
	ck_assert_uint_eq(sum_up().active, 0);
}
END_TEST

START_TEST(queue)
{
	struct attempt a[4] = { { .ntried = 0 } };
	struct endpoint *e;
	unsigned i;

	begin((struct upstream_conf){ .queue = 2 }, "127.0.0.1:1 max=1", NULL);
	for (i = 0; i < 4; i++) {
		a[i].q = home;
		a[i].wake = wake;
	}
	nwoken = 0;
	ck_assert_int_eq(upstream_pick(up, &a[0]), UPSTREAM_PICKED);
	ck_assert_int_eq(upstream_pick(up, &a[1]), UPSTREAM_WAIT);
	ck_assert_int_eq(upstream_pick(up, &a[2]), UPSTREAM_WAIT);
	ck_assert_int_eq(upstream_pick(up, &a[3]), UPSTREAM_FULL);
	ck_assert_uint_eq(up->waiting, 2);
	e = a[0].endpoint;
	upstream_done(e);
	/* It is taken already, by who is woken in the next step. */
	ck_assert_int_eq(upstream_pick(up, &a[3]), UPSTREAM_WAIT);
	ck_assert_int_eq(upstream_leave(up, &a[1]), 0);
	ck_assert_int_eq(upstream_leave(up, &a[2]), 1);
	ck_assert_uint_eq(nwoken, 0);
	kquay_step(home, 0);
	ck_assert_uint_eq(nwoken, 1);
	ck_assert_ptr_eq(woken[0], &a[1]);
	ck_assert_ptr_eq(a[1].endpoint, e);
	/* Who waits in vain is told. */
	upstream_set_health(e, HEALTH_DOWN, "test");
	kquay_step(home, 0);
	ck_assert_uint_eq(nwoken, 2);
	ck_assert_ptr_eq(woken[1], &a[3]);
	ck_assert_ptr_eq(a[3].endpoint, NULL);
	upstream_done(e);
	ck_assert_uint_eq(sum_up().active, 0);
	ck_assert_str_eq(told, "s: target 127.0.0.1:1 is down: test\n");
}
END_TEST

START_TEST(health)
{
	struct endpoint *one, *two;

	begin((struct upstream_conf){ .queue = 0 }, "127.0.0.1:1",
	    "127.0.0.1:2", "127.0.0.1:3 backup", NULL);
	one = peek(NULL);
	two = peek(NULL);
	ck_assert_ptr_ne(one, two);
	upstream_set_health(one, HEALTH_DOWN, "test");
	ck_assert_uint_eq(sum_up().up, 2);
	ck_assert_ptr_eq(peek(NULL), two);
	ck_assert_ptr_eq(peek(NULL), two);
	upstream_set_health(two, HEALTH_DOWN, "test");
	ck_assert_str_eq(peek(NULL)->text, "127.0.0.1:3");
	upstream_set_health(one, HEALTH_UP, NULL);
	ck_assert_ptr_eq(peek(NULL), one);
}
END_TEST

/* The first of two is left alone after two failures, but for one try a time. */
START_TEST(failures)
{
	struct endpoint *one, *two;
	unsigned i;

	begin(
	    (struct upstream_conf){
		.balance = BALANCE_FIRST,
		.fail_limit = 2,
		.fail_ms = 1,
	    },
	    "127.0.0.1:1", "127.0.0.1:2", NULL);
	one = picked(NULL);
	upstream_failed(one, EMFILE); /* ours, not its */
	upstream_failed(picked(NULL), EMFILE);
	ck_assert_str_eq(told, "");
	/* A millisecond may pass between two, which forgives the first. */
	for (i = 0; *told == '\0' && i < 1000; i++)
		upstream_failed(picked(NULL), ECONNREFUSED);
	ck_assert_str_eq(told,
	    "s: target 127.0.0.1:1 is left alone: "
	    "Connection refused\n");
	while ((two = picked(NULL)) != one) {
		ck_assert_str_eq(two->text, "127.0.0.1:2");
		upstream_done(two);
	}
	*told = '\0';
	upstream_opened(one);
	ck_assert_str_eq(told, "s: target 127.0.0.1:1 is back\n");
	upstream_done(one);
	ck_assert_ptr_eq(peek(NULL), one);
}
END_TEST

START_TEST(names)
{
	static const struct {
		const char *name, *text;
	} rows[] = {
		{ NULL, "127.0.0.1:1" },
		{ "other.test", "127.0.0.1:1" },
		{ "a.test", "127.0.0.1:2" },
		{ "x.b.test", "127.0.0.1:3" },
		{ "y.x.b.test", "127.0.0.1:4" },
		{ "b.test", "127.0.0.1:1" },
		{ "xb.test", "127.0.0.1:1" },
	};
	size_t i, turn;

	begin((struct upstream_conf){ .queue = 0 }, "127.0.0.1:1",
	    "127.0.0.1:2 sni=a.test,c.test", "127.0.0.1:3 sni=*.b.test",
	    "127.0.0.1:4 sni=*.x.b.test", NULL);
	ck_assert_int_eq(upstream_by_name(up), 1);
	for (turn = 0; turn < 3; turn++)
		for (i = 0; i < COUNT(rows); i++)
			ck_assert_str_eq(peek(rows[i].name)->text,
			    rows[i].text);
}
END_TEST

/* -- many threads ---------------------------------------------------------- */

struct caller {
	struct attempt attempt; /* the first member */
	struct endpoint *endpoint;
	int waits, gone;
};

struct worker {
	pthread_t thread;
	struct kquay *q;
	struct caller callers[AT_ONCE];
	uint32_t seed;
	unsigned begun, ended, left;
};

static atomic_int busy[4]; /* of each endpoint, by the last digit of its text */

static uint32_t
random_of(struct worker *w, uint32_t n)
{
	w->seed = w->seed * 1664525 + 1013904223;
	return (w->seed >> 8) % n;
}

static void
use(struct caller *c, struct endpoint *e)
{
	atomic_int *counter = &busy[e->text[strlen(e->text) - 1] - '1'];

	ck_assert_int_lt(atomic_fetch_add(counter, 1), MAX);
	c->endpoint = e;
	upstream_opened(e);
}

static void
on_wake(struct kquay *q, void *arg)
{
	struct caller *c = arg;

	c->waits = 0;
	if (c->gone && c->attempt.endpoint != NULL)
		upstream_done(c->attempt.endpoint);
	else if (c->attempt.endpoint != NULL)
		use(c, c->attempt.endpoint);
	c->gone = 0;
}

static void
come(struct worker *w, struct caller *c)
{
	memset(c, 0, sizeof(*c));
	c->attempt.q = w->q;
	c->attempt.wake = on_wake;
	switch (upstream_pick(up, &c->attempt)) {
	case UPSTREAM_PICKED:
		use(c, c->attempt.endpoint);
		break;
	case UPSTREAM_WAIT:
		c->waits = 1;
		break;
	case UPSTREAM_FULL:
	case UPSTREAM_NONE:
		return;
	}
	w->begun++;
}

static void
go(struct worker *w, struct caller *c)
{
	struct endpoint *e = c->endpoint;

	c->endpoint = NULL;
	atomic_fetch_sub(&busy[e->text[strlen(e->text) - 1] - '1'], 1);
	if (random_of(w, 4) == 0)
		upstream_failed(e, ECONNREFUSED);
	else
		upstream_done(e);
	w->ended++;
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct caller *c;
	unsigned i, idle = 0;

	while (!idle) {
		c = &w->callers[random_of(w, AT_ONCE)];
		if (c->endpoint != NULL)
			go(w, c);
		else if (!c->waits && w->begun < CALLERS)
			come(w, c);
		else if (c->waits && !c->gone && random_of(w, 8) == 0) {
			c->gone = 1;
			if (upstream_leave(up, &c->attempt))
				c->waits = c->gone = 0;
			w->left++;
		}
		if (kquay_step(w->q, 0) == -1)
			abort();
		idle = w->begun == CALLERS;
		for (i = 0; i < AT_ONCE; i++)
			if (w->callers[i].waits ||
			    w->callers[i].endpoint != NULL)
				idle = 0;
	}
	return NULL;
}

static void
poke(const struct endpoint *e, void *arg)
{
	*(unsigned *)arg += e->active;
}

START_TEST(threads)
{
	static struct worker workers[THREADS];
	unsigned i, ended = 0, left = 0, seen = 0;

	begin(
	    (struct upstream_conf){
		.queue = 8,
		.max_per_target = MAX,
		.balance = BALANCE_LEAST,
		.fail_limit = 3,
		.fail_ms = 1,
	    },
	    "127.0.0.1:1", "127.0.0.1:2 weight=2", "127.0.0.1:3",
	    "127.0.0.1:4 backup", NULL);
	memset(workers, 0, sizeof(workers));
	for (i = 0; i < THREADS; i++) {
		workers[i].seed = i + 1;
		workers[i].q = new_loop();
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work,
				     &workers[i]),
		    0);
	}
	for (i = 0; i < 1000; i++)
		upstream_each(up, poke, &seen);
	for (i = 0; i < THREADS; i++)
		pthread_join(workers[i].thread, NULL);
	for (i = 0; i < THREADS; i++) {
		kquay_free(workers[i].q);
		ended += workers[i].ended;
		left += workers[i].left;
	}
	/* Whoever waited, and did not leave, has been served. */
	ck_assert_uint_eq(ended + left, THREADS * CALLERS);
	ck_assert_uint_gt(ended, THREADS * CALLERS / 20);
	ck_assert_uint_gt(left, 0);
	ck_assert_uint_eq(sum_up().active, 0);
	ck_assert_uint_eq(up->waiting, 0);
	ck_assert_uint_ge(sum_up().opened, ended);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("upstream");

	tcase_add_checked_fixture(tc, NULL, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, each_once);
	tcase_add_test(tc, queue);
	tcase_add_test(tc, health);
	tcase_add_test(tc, failures);
	tcase_add_test(tc, names);
	tcase_add_test(tc, threads);
	return unit_end();
}
