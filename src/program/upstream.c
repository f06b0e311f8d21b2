/*
 * Who gets which endpoint, and what becomes of it.
 *
 * Invariants:
 *  1. active counts what was picked and has not been given back.
 *  2. A caller waits only while nobody has room for it, or while a name is
 *     looked up for the first time.  Whoever makes room gives it to those who
 *     wait (upstream_serve_queue), in the order in which they came; so a later
 *     caller does not overtake.
 *  3. Of an endpoint that has failed too often one caller at a time finds out
 *     whether it is back (marked).
 */
#include <sys/types.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balance.h"
#include "endpoint.h"
#include "log.h"

/* What there is to choose from. */
struct choice {
	struct endpoint *first, **end;
	uint32_t rank;
	int up; /* somebody is, even if there is no room */
};

static enum upstream_answer choose(struct upstream *, struct attempt *);
static void look(struct upstream *, const struct attempt *, int, int64_t,
    struct choice *);
static int usable(const struct upstream *, const struct endpoint *,
    const struct attempt *);
static int expected(const struct upstream *, const struct attempt *);
static void take(struct upstream *, struct attempt *, struct endpoint *);
static void give(struct endpoint *);
static int is_ours(int);
static int blame(struct endpoint *);
static int64_t now_ms(void);

/* -- its life -------------------------------------------------------------- */

struct upstream *
upstream_new(const struct upstream_conf *conf, struct kquay *home)
{
	const struct target *t;
	struct upstream *up;

	up = calloc(1, sizeof(*up));
	if (up == NULL)
		return NULL;
	up->conf = *conf;
	up->home = home;
	pthread_mutex_init(&up->lock, NULL);
	TAILQ_INIT(&up->endpoints);
	TAILQ_INIT(&up->queue);
	TAILQ_FOREACH(t, conf->targets, next)
		up->by_name |= t->sni.count > 0;
	if (endpoints_begin(up) == 0)
		return up;
	upstream_free(up);
	errno = ENOMEM;
	return NULL;
}

void
upstream_retire(struct upstream *up)
{
	endpoints_retire(up);
}

void
upstream_free(struct upstream *up)
{
	if (up == NULL)
		return;
	endpoints_free(up);
	pthread_mutex_destroy(&up->lock);
	free(up);
}

/* -- who gets which -------------------------------------------------------- */

enum upstream_answer
upstream_pick(struct upstream *up, struct attempt *a)
{
	enum upstream_answer answer;

	pthread_mutex_lock(&up->lock);
	answer = choose(up, a);
	if (answer == UPSTREAM_FULL && up->waiting < up->conf.queue)
		answer = UPSTREAM_WAIT;
	if (answer == UPSTREAM_WAIT) {
		TAILQ_INSERT_TAIL(&up->queue, a, next);
		up->waiting++;
		a->waiting = 1;
	}
	pthread_mutex_unlock(&up->lock);
	return answer;
}

/* UPSTREAM_WAIT is for an answer of a name server, FULL for room. */
static enum upstream_answer
choose(struct upstream *up, struct attempt *a)
{
	const struct target *t;
	struct choice c;
	int64_t now = 0;
	size_t serves;

	a->endpoint = NULL;
	if (up->by_name && a->serving == 0) {
		TAILQ_FOREACH(t, up->conf.targets, next) {
			serves = target_serves(t, a->name);
			if (serves > a->serving)
				a->serving = serves;
		}
		if (a->serving == 0)
			return UPSTREAM_NONE;
	}
	if (up->nmarked > 0)
		now = now_ms();
	look(up, a, 0, now, &c);
	if (!c.up && up->nmarked > 0)
		look(up, a, 1, now, &c);
	if (c.first != NULL) {
		take(up, a,
		    balance_choose((enum upstream_balance)up->conf.balance,
			c.first, a->source));
		return UPSTREAM_PICKED;
	}
	if (c.up)
		return UPSTREAM_FULL;
	return expected(up, a) ? UPSTREAM_WAIT : UPSTREAM_NONE;
}

/* Who can be chosen; whoever has a mark only if nobody else is up. */
static void
look(struct upstream *up, const struct attempt *a, int marked, int64_t now,
    struct choice *c)
{
	struct endpoint *e;
	uint32_t rank;

	c->first = NULL;
	c->end = &c->first;
	c->up = 0;
	TAILQ_FOREACH(e, &up->endpoints, next) {
		rank = 2 * e->rank + e->spare;
		if (!usable(up, e, a) || (now < e->marked && !marked) ||
		    (c->up && rank > c->rank))
			continue;
		if (!c->up || rank < c->rank) {
			c->up = 1;
			c->rank = rank;
			c->end = &c->first;
		}
		if (e->max != 0 && e->active >= e->max)
			continue;
		*c->end = e;
		c->end = &e->also;
	}
	*c->end = NULL;
}

static int
usable(const struct upstream *up, const struct endpoint *e,
    const struct attempt *a)
{
	unsigned i;

	if (e->health == HEALTH_DOWN)
		return 0;
	for (i = 0; i < a->ntried; i++)
		if (a->tried[i] == e->id)
			return 0;
	return !up->by_name || target_serves(e->target, a->name) == a->serving;
}

/* Is a target of this attempt's being looked up for the first time? */
static int
expected(const struct upstream *up, const struct attempt *a)
{
	const struct named *n;
	size_t i;

	if (up->unknown == 0)
		return 0;
	for (i = 0; i < up->nnamed; i++) {
		n = &up->named[i];
		if (!n->known &&
		    (!up->by_name ||
			target_serves(n->target, a->name) == a->serving))
			return 1;
	}
	return 0;
}

static void
take(struct upstream *up, struct attempt *a, struct endpoint *e)
{
	e->active++;
	e->refs++;
	if (e->marked != 0)
		e->marked = now_ms() + up->conf.fail_ms;
	if (a->ntried < UPSTREAM_TRIES_MAX)
		a->tried[a->ntried++] = e->id;
	a->endpoint = e;
}

static void
give(struct endpoint *e)
{
	e->active--;
	endpoint_unref(e);
}

void
upstream_serve_queue(struct upstream *up)
{
	enum upstream_answer answer;
	struct attempt *a, *next;

	TAILQ_FOREACH_SAFE(a, &up->queue, next, next) {
		answer = choose(up, a);
		if (answer == UPSTREAM_FULL || answer == UPSTREAM_WAIT) {
			if (!up->by_name && a->ntried == 0)
				break; /* nor would the others get any */
			continue;
		}
		TAILQ_REMOVE(&up->queue, a, next);
		up->waiting--;
		a->waiting = 0;
		if (kquay_post(a->q, a->wake, a) == 0)
			continue; /* a is its owner's from here on */
		if (a->endpoint != NULL) {
			a->ntried--;
			give(a->endpoint);
		}
		if (next == NULL)
			TAILQ_INSERT_TAIL(&up->queue, a, next);
		else
			TAILQ_INSERT_BEFORE(next, a, next);
		up->waiting++;
		a->waiting = 1;
		break;
	}
}

int
upstream_by_name(const struct upstream *up)
{
	return up->by_name;
}

int
upstream_leave(struct upstream *up, struct attempt *a)
{
	int was;

	pthread_mutex_lock(&up->lock);
	was = a->waiting;
	if (was) {
		TAILQ_REMOVE(&up->queue, a, next);
		up->waiting--;
		a->waiting = 0;
	}
	pthread_mutex_unlock(&up->lock);
	return was;
}

/* -- how it went ----------------------------------------------------------- */

void
upstream_done(struct endpoint *e)
{
	struct upstream *up = e->upstream;

	pthread_mutex_lock(&up->lock);
	give(e);
	if (up->waiting > 0)
		upstream_serve_queue(up);
	pthread_mutex_unlock(&up->lock);
}

void
upstream_done_keep(struct endpoint *e)
{
	struct upstream *up = e->upstream;

	pthread_mutex_lock(&up->lock);
	e->active--;
	if (up->waiting > 0)
		upstream_serve_queue(up);
	pthread_mutex_unlock(&up->lock);
}

void
upstream_forget(struct endpoint *e)
{
	struct upstream *up = e->upstream;

	pthread_mutex_lock(&up->lock);
	endpoint_unref(e);
	pthread_mutex_unlock(&up->lock);
}

void
upstream_opened(struct endpoint *e)
{
	struct upstream *up = e->upstream;
	int back;

	pthread_mutex_lock(&up->lock);
	e->opened++;
	e->failures = 0;
	e->failing = 0;
	back = upstream_unmark(e);
	if (back && up->waiting > 0)
		upstream_serve_queue(up);
	pthread_mutex_unlock(&up->lock);
	if (back)
		log_service(LEVEL_NOTICE, up->conf.name, "target %s is back",
		    e->text);
}

void
upstream_failed(struct endpoint *e, int err)
{
	struct upstream *up = e->upstream;
	int marked;

	pthread_mutex_lock(&up->lock);
	e->failed++;
	if (!is_ours(err)) {
		e->failing = 1;
		(void)endpoint_yield(e);
	}
	marked = up->conf.fail_limit > 0 && !is_ours(err) && blame(e);
	pthread_mutex_unlock(&up->lock);
	if (marked)
		log_service(LEVEL_WARNING, up->conf.name,
		    "target %s is left alone: %s", e->text, strerror(err));
	upstream_done(e);
}

/* Is it this machine that fails, rather than who was dialled? */
static int
is_ours(int err)
{
	return err == EMFILE || err == ENFILE || err == ENOMEM ||
	    err == ENOBUFS || err == EADDRNOTAVAIL || err == ESHUTDOWN;
}

/* It has failed.  1 if it has a mark now, and had none. */
static int
blame(struct endpoint *e)
{
	const struct upstream_conf *conf = &e->upstream->conf;
	int64_t now = now_ms();

	if (!e->listed)
		return 0;
	if (e->marked != 0) {
		e->marked = now + conf->fail_ms;
		return 0;
	}
	if (e->failures == 0 || now - e->failed_at > conf->fail_ms) {
		e->failures = 0;
		e->failed_at = now;
	}
	if (++e->failures < conf->fail_limit)
		return 0;
	e->marked = now + conf->fail_ms;
	e->upstream->nmarked++;
	return 1;
}

int
upstream_unmark(struct endpoint *e)
{
	if (e->marked == 0)
		return 0;
	e->marked = 0;
	e->upstream->nmarked--;
	return 1;
}

/* -- who checks, and who looks on ------------------------------------------ */

void
upstream_observe(struct upstream *up, const struct upstream_observer *observer)
{
	struct endpoint *e;

	up->observer = *observer;
	TAILQ_FOREACH(e, &up->endpoints, next)
		observer->came(e, observer->arg);
}

void
upstream_set_health(struct endpoint *e, enum health health, const char *why)
{
	struct upstream *up = e->upstream;
	enum health was;
	int vacant = 0;

	pthread_mutex_lock(&up->lock);
	was = e->health;
	e->health = health;
	if (health == HEALTH_UP) {
		e->failures = 0;
		e->failing = 0;
		(void)upstream_unmark(e);
	} else if (health == HEALTH_DOWN)
		vacant = endpoint_yield(e) && was == HEALTH_UNKNOWN;
	if (was != health && up->waiting > 0)
		upstream_serve_queue(up);
	pthread_mutex_unlock(&up->lock);
	if (was == health || (was == HEALTH_UNKNOWN && health == HEALTH_UP))
		return;
	if (health == HEALTH_DOWN)
		log_service(vacant ? LEVEL_INFO : LEVEL_WARNING, up->conf.name,
		    "target %s is down: %s", e->text, why);
	else
		log_service(LEVEL_NOTICE, up->conf.name, "target %s is up",
		    e->text);
}

int
endpoint_is_up(const struct endpoint *e)
{
	return e->health != HEALTH_DOWN &&
	    (e->marked == 0 || e->marked <= now_ms());
}

void
upstream_each(struct upstream *up, upstream_each_fn *fn, void *arg)
{
	const struct endpoint *e;

	pthread_mutex_lock(&up->lock);
	TAILQ_FOREACH(e, &up->endpoints, next)
		fn(e, arg);
	pthread_mutex_unlock(&up->lock);
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
