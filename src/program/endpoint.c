/*
 * Which endpoints there are: those of addresses from the beginning, those of
 * names as long as the answers say so.
 *
 * Invariants:
 *  1. An endpoint has a reference for each connection, and one for the list;
 *     it is freed with the last.  What it points to belongs to the upstream's
 *     configuration, or is in the same piece of memory.
 *  2. Only the thread of the home loop changes the list, and does it under the
 *     lock; so this thread may walk the list without.
 */
#include <sys/types.h>

#include <netdb.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "endpoint.h"
#include "hash.h"
#include "log.h"
#include "lookup.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define RANK_BACKUP 0x10000 /* and what SRV records say, which is less */

/* What became of an endpoint in an answer. */
enum { SEEN_NOT, SEEN_AGAIN, SEEN_NEW };

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
static struct endpoint *next_address(const struct endpoint *, struct endpoint *,
    int);
static int is_v6(const struct endpoint *);
static int comes_second(const struct endpoint *);
static int is_bad(const struct endpoint *);

/* -- all of them ----------------------------------------------------------- */

int
endpoints_begin(struct upstream *up)
{
	const struct target *t;
	size_t n = 0;

	TAILQ_FOREACH(t, up->conf.targets, next)
		n++;
	up->named = calloc(n + 1, sizeof(*up->named));
	if (up->named == NULL)
		return -1;
	TAILQ_FOREACH(t, up->conf.targets, next) {
		if (lookup_needed(t)) {
			up->named[up->nnamed].target = t;
			up->named[up->nnamed++].up = up;
		} else if (add_static(up, t) == -1)
			return -1;
	}
	up->unknown = up->nnamed;
	return begin_lookups(up);
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
endpoints_retire(struct upstream *up)
{
	size_t i;

	for (i = 0; i < up->nnamed; i++)
		lookup_stop(up->named[i].lookup);
}

void
endpoints_free(struct upstream *up)
{
	struct endpoint *e;
	size_t i;

	for (i = 0; i < up->nnamed; i++)
		lookup_free(up->named[i].lookup);
	free(up->named);
	while ((e = TAILQ_FIRST(&up->endpoints)) != NULL) {
		TAILQ_REMOVE(&up->endpoints, e, next);
		endpoint_unref(e);
	}
}

/* -- one of them ----------------------------------------------------------- */

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
	e->key = hash(text, strlen(text));
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
	(void)upstream_unmark(e);
}

void
endpoint_unref(struct endpoint *e)
{
	if (--e->refs == 0)
		free(e);
}

/*
 * -- both families
 *
 * A host with addresses of both is one host, and its server may listen on one
 * of them alone: localhost often is like that.  So those of the family that the
 * answer begins with are used, and the others are spare.
 */

/* After `after', or the first: an address of e's host, e itself included. */
static struct endpoint *
next_address(const struct endpoint *e, struct endpoint *after, int v6)
{
	struct endpoint *o = after != NULL ?
	    TAILQ_NEXT(after, next) :
	    TAILQ_FIRST(&e->upstream->endpoints);

	while (o != NULL &&
	    (o->target != e->target || is_v6(o) != v6 ||
		strcmp(o->name, e->name) != 0))
		o = TAILQ_NEXT(o, next);
	return o;
}

static int
is_v6(const struct endpoint *e)
{
	return e->port != NULL && strchr(e->host, ':') != NULL;
}

static int
comes_second(const struct endpoint *e)
{
	struct endpoint *o = NULL;

	while ((o = next_address(e, o, !is_v6(e))) != NULL)
		if (!o->spare)
			return 1;
	return 0;
}

static int
is_bad(const struct endpoint *e)
{
	return e->failing || e->health == HEALTH_DOWN;
}

int
endpoint_yield(struct endpoint *e)
{
	struct endpoint *o = NULL, *mine = NULL;

	do
		o = next_address(e, o, !is_v6(e));
	while (o != NULL && is_bad(o));
	if (o == NULL)
		return 0;
	while ((mine = next_address(e, mine, is_v6(e))) != NULL)
		if (!is_bad(mine))
			return 1;
	while ((mine = next_address(e, mine, is_v6(e))) != NULL)
		mine->spare = 1;
	for (o = NULL; (o = next_address(e, o, !is_v6(e))) != NULL;)
		o->spare = 0;
	return 1;
}

int
endpoint_is_vacant(const struct endpoint *e)
{
	return e->spare && e->opened == 0 && is_bad(e);
}

/* -- what names resolve to ------------------------------------------------- */

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
		e->spare = (uint8_t)comes_second(e);
		endpoint_insert(up, e);
		e->seen = SEEN_NEW;
	} else if (e->seen == SEEN_NOT)
		e->seen = SEEN_AGAIN;
	e->weight = f->weight;
	e->rank = f->rank + (t->backup ? RANK_BACKUP : 0);
	return e;
}

/* The addresses of a target are the n of list. */
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
	TAILQ_FOREACH(e, &up->endpoints, next)
		if (e->spare && !comes_second(e))
			e->spare = 0;
	if (first) {
		named->known = 1;
		up->unknown--;
	}
	upstream_serve_queue(up);
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
