/*
 * The state of a service's targets.
 *
 * Invariants:
 *  1. An endpoint has a reference for each connection, and one for the list;
 *     it is freed with the last.  What it points to belongs to the upstream's
 *     configuration, or is in the same piece of memory.
 *  2. active counts what was picked and has not been given back.
 *  3. A caller waits only while nobody has room for it, or while a name is
 *     looked up for the first time.  Whoever makes room gives it to those who
 *     wait (serve_queue), in the order in which they came; so a later caller
 *     does not overtake.
 *  4. Of an endpoint that has failed too often one caller at a time finds out
 *     whether it is back (marked).
 */
#include <sys/types.h>

#include <errno.h>
#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "balance.h"
#include "log.h"
#include "lookup.h"
#include "upstream.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define RANK_BACKUP 0x10000 /* and what SRV records say, which is less */

TAILQ_HEAD(endpoint_list, endpoint);
TAILQ_HEAD(attempt_list, attempt);

/* What became of an endpoint in an answer. */
enum { SEEN_NOT, SEEN_AGAIN, SEEN_NEW };

/* A target whose addresses are looked up. */
struct named {
	const struct target *target;
	struct upstream *up;
	struct lookup *lookup;
	int known; /* there was an answer */
};

struct upstream {
	struct upstream_conf conf;
	struct kquay *home;
	pthread_mutex_t lock;
	struct endpoint_list endpoints; /* in the order of their targets */
	uint64_t last_id;
	int by_name;      /* server names matter */
	uint32_t nmarked; /* endpoints with a mark */
	struct attempt_list queue;
	uint32_t waiting;
	struct named *named;
	size_t nnamed;
	size_t unknown;                    /* of these have no answer yet */
	struct upstream_observer observer; /* of the home loop's thread */
};

/* What there is to choose from. */
struct choice {
	struct endpoint *first, **end;
	uint32_t rank;
	int up; /* somebody is, even if there is no room */
};

static int add_static(struct upstream *, const struct target *);
static int begin_lookups(struct upstream *);
static lookup_fn on_addresses;
static struct endpoint *keep_address(struct upstream *, const struct target *,
    const struct found *);
static void address_text(const struct found *, char[NI_MAXHOST],
    char[NI_MAXSERV], char *, size_t);
static void tell_changes(struct upstream *, const struct target *,
    struct endpoint_list *, int);
static struct endpoint *endpoint_new(struct upstream *, const struct target *,
    const char *, const char *, const char *, const char *);
static struct endpoint *endpoint_find(const struct upstream *,
    const struct target *, const char *);
static void endpoint_insert(struct upstream *, struct endpoint *);
static void endpoint_unlist(struct upstream *, struct endpoint *);
static void endpoint_unref(struct endpoint *);
static enum upstream_answer choose(struct upstream *, struct attempt *);
static void look(struct upstream *, const struct attempt *, int, int64_t,
    struct choice *);
static int usable(const struct upstream *, const struct endpoint *,
    const struct attempt *);
static int expected(const struct upstream *, const struct attempt *);
static void take(struct upstream *, struct attempt *, struct endpoint *);
static void give(struct endpoint *);
static void serve_queue(struct upstream *);
static int is_ours(int);
static int blame(struct endpoint *);
static int unmark(struct endpoint *);
static int64_t now_ms(void);

/* -- its life -------------------------------------------------------------- */

struct upstream *
upstream_new(const struct upstream_conf *conf, struct kquay *home)
{
	const struct target *t;
	struct upstream *up;
	size_t n = 0;

	TAILQ_FOREACH(t, conf->targets, next)
		n++;
	up = calloc(1, sizeof(*up));
	if (up == NULL)
		return NULL;
	up->conf = *conf;
	up->home = home;
	pthread_mutex_init(&up->lock, NULL);
	TAILQ_INIT(&up->endpoints);
	TAILQ_INIT(&up->queue);
	up->named = calloc(n + 1, sizeof(*up->named));
	if (up->named == NULL)
		goto fail;
	TAILQ_FOREACH(t, conf->targets, next) {
		up->by_name |= t->sni.count > 0;
		if (lookup_needed(t)) {
			up->named[up->nnamed].target = t;
			up->named[up->nnamed++].up = up;
		} else if (add_static(up, t) == -1)
			goto fail;
	}
	up->unknown = up->nnamed;
	if (begin_lookups(up) == 0)
		return up;
fail:
	upstream_free(up);
	errno = ENOMEM;
	return NULL;
}

/* An address that is as it is. */
static int
add_static(struct upstream *up, const struct target *t)
{
	const char *text = TAILQ_FIRST(&t->address)->text;
	struct endpoint *e;

	e = endpoint_new(up, t, t->host, t->host, t->port, text);
	if (e == NULL)
		return -1;
	e->rank = t->backup ? RANK_BACKUP : 0;
	endpoint_insert(up, e);
	return 0;
}

static int
begin_lookups(struct upstream *up)
{
	struct named *n;
	size_t i;

	for (i = 0; i < up->nnamed; i++) {
		n = &up->named[i];
		n->lookup = lookup_new(up->home, n->target, on_addresses, n);
		if (n->lookup == NULL)
			return -1;
	}
	return 0;
}

void
upstream_retire(struct upstream *up)
{
	size_t i;

	for (i = 0; i < up->nnamed; i++)
		lookup_stop(up->named[i].lookup);
}

void
upstream_free(struct upstream *up)
{
	struct endpoint *e;
	size_t i;

	if (up == NULL)
		return;
	for (i = 0; i < up->nnamed; i++)
		lookup_free(up->named[i].lookup);
	free(up->named);
	while ((e = TAILQ_FIRST(&up->endpoints)) != NULL) {
		TAILQ_REMOVE(&up->endpoints, e, next);
		endpoint_unref(e);
	}
	pthread_mutex_destroy(&up->lock);
	free(up);
}

/* -- endpoints ------------------------------------------------------------- */

/* With no reference yet; port may be NULL.  NULL with errno. */
static struct endpoint *
endpoint_new(struct upstream *up, const struct target *t, const char *name,
    const char *host, const char *port, const char *text)
{
	const char *const from[] = { name, host, text, port };
	char *to[COUNT(from)] = { NULL }, *strings;
	size_t size = 0, i;
	struct endpoint *e;

	for (i = 0; i < COUNT(from); i++)
		size += from[i] != NULL ? strlen(from[i]) + 1 : 0;
	e = calloc(1, sizeof(*e) + size);
	if (e == NULL)
		return NULL;
	strings = (char *)(e + 1);
	for (i = 0; i < COUNT(from); i++) {
		if (from[i] == NULL)
			continue;
		to[i] = strings;
		strings = stpcpy(strings, from[i]) + 1;
	}
	e->upstream = up;
	e->target = t;
	e->name = to[0];
	e->host = to[1];
	e->text = to[2];
	e->port = to[3];
	e->key = balance_hash(text, strlen(text));
	e->id = ++up->last_id;
	e->weight = t->weight;
	e->max = t->max != 0 ? t->max : up->conf.max_per_target;
	return e;
}

/* That of t with this address, or NULL. */
static struct endpoint *
endpoint_find(const struct upstream *up, const struct target *t,
    const char *text)
{
	struct endpoint *e;

	TAILQ_FOREACH(e, &up->endpoints, next)
		if (e->target == t && strcmp(e->text, text) == 0)
			return e;
	return NULL;
}

/* Behind those of its target and of the targets before it. */
static void
endpoint_insert(struct upstream *up, struct endpoint *e)
{
	struct endpoint *after = NULL, *other;
	const struct target *t;

	TAILQ_FOREACH(t, up->conf.targets, next) {
		TAILQ_FOREACH(other, &up->endpoints, next)
			if (other->target == t)
				after = other;
		if (t == e->target)
			break;
	}
	if (after == NULL)
		TAILQ_INSERT_HEAD(&up->endpoints, e, next);
	else
		TAILQ_INSERT_AFTER(&up->endpoints, after, e, next);
	e->listed = 1;
	e->refs++;
}

/* It is not chosen any more, and its reference is the caller's. */
static void
endpoint_unlist(struct upstream *up, struct endpoint *e)
{
	TAILQ_REMOVE(&up->endpoints, e, next);
	e->listed = 0;
	(void)unmark(e);
}

static void
endpoint_unref(struct endpoint *e)
{
	if (--e->refs == 0)
		free(e);
}

/* -- what names resolve to --------------------------------------------------
 */

static void
address_text(const struct found *f, char host[NI_MAXHOST],
    char port[NI_MAXSERV], char *text, size_t textsz)
{
	int v6 = f->addr.sa.sa_family == AF_INET6;

	if (getnameinfo(&f->addr.sa,
		v6 ? sizeof(f->addr.in6) : sizeof(f->addr.in4), host,
		NI_MAXHOST, port, NI_MAXSERV,
		NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		*host = *port = '\0';
	snprintf(text, textsz, v6 ? "[%s]:%s" : "%s:%s", host, port);
}

/* The endpoint of t at *f, old or new; NULL without memory. */
static struct endpoint *
keep_address(struct upstream *up, const struct target *t, const struct found *f)
{
	char host[NI_MAXHOST], port[NI_MAXSERV], text[NI_MAXHOST + NI_MAXSERV];
	struct endpoint *e;

	address_text(f, host, port, text, sizeof(text));
	e = endpoint_find(up, t, text);
	if (e == NULL) {
		e = endpoint_new(up, t, f->name, host, port, text);
		if (e == NULL)
			return NULL;
		endpoint_insert(up, e);
		e->seen = SEEN_NEW;
	} else if (e->seen == SEEN_NOT)
		e->seen = SEEN_AGAIN;
	e->weight = f->weight;
	e->rank = f->rank + (t->backup ? RANK_BACKUP : 0);
	return e;
}

/*
 * The addresses of a target are the n of list.  Only this thread changes the
 * list of endpoints, so it may also walk it without the lock.
 */
static void
on_addresses(const struct target *t, const struct found *list, size_t n,
    const char *why, void *arg)
{
	struct endpoint_list gone = TAILQ_HEAD_INITIALIZER(gone);
	struct named *named = arg;
	struct upstream *up = named->up;
	struct endpoint *e, *next;
	int first = !named->known, short_of_memory = 0;
	size_t i;

	pthread_mutex_lock(&up->lock);
	TAILQ_FOREACH(e, &up->endpoints, next)
		e->seen = SEEN_NOT;
	for (i = 0; i < n; i++)
		if (keep_address(up, t, &list[i]) == NULL)
			short_of_memory = 1;
	TAILQ_FOREACH_SAFE(e, &up->endpoints, next, next) {
		if (e->target != t || e->seen != SEEN_NOT || short_of_memory)
			continue;
		endpoint_unlist(up, e);
		TAILQ_INSERT_TAIL(&gone, e, next);
	}
	if (first) {
		named->known = 1;
		up->unknown--;
	}
	serve_queue(up);
	pthread_mutex_unlock(&up->lock);

	if (n == 0)
		log_service(LEVEL_WARNING, up->conf.name, "target %s: %s",
		    t->text, why);
	tell_changes(up, t, &gone, first);
}

/* Those that are new, and those that are no more. */
static void
tell_changes(struct upstream *up, const struct target *t,
    struct endpoint_list *gone, int quiet)
{
	const struct upstream_observer *o = &up->observer;
	struct endpoint *e;

	TAILQ_FOREACH(e, &up->endpoints, next) {
		if (e->target != t || e->seen != SEEN_NEW)
			continue;
		e->seen = SEEN_AGAIN;
		if (!quiet)
			log_service(LEVEL_NOTICE, up->conf.name,
			    "target %s: %s is new", t->text, e->text);
		if (o->came != NULL)
			o->came(e, o->arg);
	}
	while ((e = TAILQ_FIRST(gone)) != NULL) {
		TAILQ_REMOVE(gone, e, next);
		log_service(LEVEL_NOTICE, up->conf.name,
		    "target %s: %s is gone", t->text, e->text);
		if (o->goes != NULL)
			o->goes(e, o->arg);
		pthread_mutex_lock(&up->lock);
		endpoint_unref(e);
		pthread_mutex_unlock(&up->lock);
	}
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

	c->first = NULL;
	c->end = &c->first;
	c->up = 0;
	TAILQ_FOREACH(e, &up->endpoints, next) {
		if (!usable(up, e, a) || (now < e->marked && !marked) ||
		    (c->up && e->rank > c->rank))
			continue;
		if (!c->up || e->rank < c->rank) {
			c->up = 1;
			c->rank = e->rank;
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

	if (e->health == HEALTH_DOWN || e->drained)
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

/* Something has changed: whom does that help? */
static void
serve_queue(struct upstream *up)
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
		serve_queue(up);
	pthread_mutex_unlock(&up->lock);
}

void
upstream_done_keep(struct endpoint *e)
{
	struct upstream *up = e->upstream;

	pthread_mutex_lock(&up->lock);
	e->active--;
	if (up->waiting > 0)
		serve_queue(up);
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
	back = unmark(e);
	if (back && up->waiting > 0)
		serve_queue(up);
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

/* 1 if it had a mark. */
static int
unmark(struct endpoint *e)
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

	pthread_mutex_lock(&up->lock);
	was = e->health;
	e->health = health;
	if (health == HEALTH_UP) {
		e->failures = 0;
		(void)unmark(e);
	}
	if (was != health && up->waiting > 0)
		serve_queue(up);
	pthread_mutex_unlock(&up->lock);
	if (was == health || (was == HEALTH_UNKNOWN && health == HEALTH_UP))
		return;
	if (health == HEALTH_DOWN)
		log_service(LEVEL_WARNING, up->conf.name,
		    "target %s is down: %s", e->text, why);
	else
		log_service(LEVEL_NOTICE, up->conf.name, "target %s is up",
		    e->text);
}

int
endpoint_is_up(const struct endpoint *e)
{
	return e->health != HEALTH_DOWN && !e->drained &&
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

uint32_t
upstream_waiting(struct upstream *up)
{
	uint32_t n;

	pthread_mutex_lock(&up->lock);
	n = up->waiting;
	pthread_mutex_unlock(&up->lock);
	return n;
}

unsigned
upstream_drain(struct upstream *up, const char *text, int on)
{
	struct endpoint *e;
	unsigned n = 0;

	pthread_mutex_lock(&up->lock);
	TAILQ_FOREACH(e, &up->endpoints, next) {
		if (strcmp(e->text, text) != 0 &&
		    strcmp(e->target->text, text) != 0)
			continue;
		e->drained = (uint8_t)on;
		n++;
	}
	serve_queue(up);
	pthread_mutex_unlock(&up->lock);
	return n;
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
