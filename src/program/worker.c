/*
 * One thread, several loops: the first of them leads.  The worker waits in
 * the leading loop, whose queue also watches the queues of the others; so
 * where there is one service, the usual case, no event costs a second wait.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "log.h"
#include "worker.h"

#define BLIND_MS 20 /* how often to look at a loop that nobody watches */

struct worker {
	unsigned number;
	pthread_t thread;
	int started;
	int leaving; /* to end with its last loop */
	int failed;
	int log_ms; /* when the log is to be flushed again; -1: it is empty */
	TAILQ_HEAD(branch_list, branch) branches; /* the lead comes first */
	struct branch home;
};

static struct worker *workers;
static unsigned nworkers;

static int home_new(struct worker *);
static void *thread_main(void *);
static void work(struct worker *);
static int turn(struct worker *);
static int others_due(struct worker *);
static int step_others(struct worker *);
static void see_off(struct worker *);
static struct branch *find_done(struct worker *);
static void lead_anew(struct worker *);
static void watch(struct branch *lead, struct branch *);
static void unwatch(struct branch *lead, struct branch *);
static kquay_watch_fn on_ready;
static kquay_post_fn leave;
static kquay_post_fn run_errand;
static kquay_post_fn end_errand;

int
workers_new(unsigned n)
{
	workers = calloc(n, sizeof(*workers));
	if (workers == NULL)
		return -1;
	for (nworkers = 0; nworkers < n; nworkers++)
		if (home_new(&workers[nworkers]) == -1)
			return -1;
	return 0;
}

static int
home_new(struct worker *w)
{
	static const struct kquay_ops none;
	const struct kquay_conf conf = { .maxconn = 1,
		.flags = KQUAY_NOSIGNAL,
		.arg = w };

	w->number = nworkers;
	w->log_ms = -1;
	TAILQ_INIT(&w->branches);
	w->home.number = nworkers;
	w->home.q = kquay_new(&none, &conf);
	if (w->home.q == NULL)
		return -1;
	TAILQ_INSERT_HEAD(&w->branches, &w->home, next);
	return 0;
}

void
workers_free(void)
{
	while (nworkers > 0)
		kquay_free(workers[--nworkers].home.q);
	free(workers);
	workers = NULL;
}

unsigned
workers_count(void)
{
	return nworkers;
}

struct kquay *
worker_home(unsigned i)
{
	return workers[i].home.q;
}

void
worker_add(struct branch *b)
{
	struct worker *w = &workers[b->number];

	b->ready = 1;
	/* What serves callers leads rather than what never has an event. */
	if (TAILQ_FIRST(&w->branches) == &w->home) {
		TAILQ_INSERT_HEAD(&w->branches, b, next);
		lead_anew(w);
	} else {
		TAILQ_INSERT_TAIL(&w->branches, b, next);
		watch(TAILQ_FIRST(&w->branches), b);
	}
}

struct branch *
worker_next(unsigned worker, struct branch *b)
{
	b = b == NULL ? TAILQ_FIRST(&workers[worker].branches) :
			TAILQ_NEXT(b, next);
	while (b != NULL && b->service == NULL)
		b = TAILQ_NEXT(b, next);
	return b;
}

int
workers_run(void)
{
	sigset_t all, before;
	unsigned i;
	int error = 0;

	/* Signals are the main thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (i = 1; i < nworkers && error == 0; i++) {
		error = pthread_create(&workers[i].thread, NULL, thread_main,
		    &workers[i]);
		workers[i].started = error == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (error == 0)
		work(&workers[0]);
	else {
		errno = error;
		warn("a worker's thread");
		workers_leave();
	}
	for (i = 1; i < nworkers; i++) {
		if (workers[i].started)
			pthread_join(workers[i].thread, NULL);
		if (workers[i].failed)
			error = 1;
	}
	return error != 0 || workers[0].failed ? -1 : 0;
}

static void *
thread_main(void *arg)
{
	work(arg);
	return NULL;
}

static void
work(struct worker *w)
{
	/* What was told before is not to wait for the first event. */
	w->log_ms = log_flush();
	while (!w->leaving ||
	    TAILQ_NEXT(TAILQ_FIRST(&w->branches), next) != NULL) {
		if (turn(w) == -1) {
			warn("kevent");
			w->failed = 1;
			break;
		}
	}
	(void)log_flush();
}

static int
turn(struct worker *w)
{
	struct branch *lead = TAILQ_FIRST(&w->branches);

	if (kquay_step(lead->q, others_due(w)) == -1 || step_others(w) == -1)
		return -1;
	see_off(w);
	w->log_ms = log_flush();
	return 0;
}

/* In how many ms there is more to do than the lead's; -1: never. */
static int
others_due(struct worker *w)
{
	struct branch *b = TAILQ_FIRST(&w->branches);
	int ms, least = w->log_ms;

	while ((b = TAILQ_NEXT(b, next)) != NULL) {
		ms = kquay_due(b->q);
		if (!b->watched && (ms == -1 || ms > BLIND_MS))
			ms = BLIND_MS;
		if (ms != -1 && (least == -1 || ms < least))
			least = ms;
	}
	return least;
}

static int
step_others(struct worker *w)
{
	struct branch *b = TAILQ_FIRST(&w->branches);

	while ((b = TAILQ_NEXT(b, next)) != NULL) {
		if (b->watched && !b->ready && kquay_due(b->q) != 0)
			continue;
		b->ready = 0;
		if (kquay_step(b->q, 0) == -1)
			return -1;
	}
	return 0;
}

/* Loops that are done go. */
static void
see_off(struct worker *w)
{
	struct branch *b;
	int led;

	while ((b = find_done(w)) != NULL) {
		led = b == TAILQ_FIRST(&w->branches);
		TAILQ_REMOVE(&w->branches, b, next);
		if (led)
			lead_anew(w);
		else if (b->watched)
			unwatch(TAILQ_FIRST(&w->branches), b);
		b->left(b);
	}
}

static struct branch *
find_done(struct worker *w)
{
	struct branch *b;

	TAILQ_FOREACH(b, &w->branches, next)
		if (b != &w->home && kquay_done(b->q))
			return b;
	return NULL;
}

/* The first loop leads from now on. */
static void
lead_anew(struct worker *w)
{
	struct branch *b, *lead = TAILQ_FIRST(&w->branches);

	if (lead == &w->home && TAILQ_NEXT(lead, next) != NULL) {
		TAILQ_REMOVE(&w->branches, lead, next);
		TAILQ_INSERT_TAIL(&w->branches, lead, next);
		lead = TAILQ_FIRST(&w->branches);
	}
	for (b = TAILQ_NEXT(lead, next); b != NULL; b = TAILQ_NEXT(b, next))
		watch(lead, b);
}

static void
watch(struct branch *lead, struct branch *b)
{
	struct kevent ev;

	EV_SET(&ev, kquay_fd(b->q), EVFILT_READ, EV_ADD, 0, 0, NULL);
	b->watched = kquay_watch(lead->q, &ev, on_ready, b) == 0;
	b->ready = 1;
}

static void
unwatch(struct branch *lead, struct branch *b)
{
	struct kevent ev;

	EV_SET(&ev, kquay_fd(b->q), EVFILT_READ, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(lead->q, &ev, NULL, NULL);
}

static void
on_ready(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct branch *b = arg;

	b->ready = 1;
}

void
worker_tell(struct kquay *q, kquay_post_fn *fn, void *arg)
{
	static const struct timespec while_ = { .tv_nsec = 1000000 };

	while (kquay_post(q, fn, arg) == -1)
		nanosleep(&while_, NULL);
}

void
workers_leave(void)
{
	unsigned i;

	for (i = 0; i < nworkers; i++)
		worker_tell(workers[i].home.q, leave, &workers[i]);
}

static void
leave(struct kquay *q, void *arg)
{
	struct worker *w = arg;

	w->leaving = 1;
}

void
workers_each(struct errand *e)
{
	unsigned i;

	atomic_store(&e->left, nworkers);
	for (i = 0; i < nworkers; i++)
		worker_tell(workers[i].home.q, run_errand, e);
}

static void
run_errand(struct kquay *q, void *arg)
{
	const struct worker *w = kquay_arg(q);
	struct errand *e = arg;

	e->fn(w->number, e);
	if (atomic_fetch_sub(&e->left, 1) == 1)
		worker_tell(worker_chief(), end_errand, e);
}

static void
end_errand(struct kquay *q, void *arg)
{
	struct errand *e = arg;

	e->done(e);
}
