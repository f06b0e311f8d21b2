/*
 * Lookups: ask, tell, and wait for as long as the answer holds.
 *
 *	lookup_new --> ask ---------------------> on_addresses --> tell
 *	                | \                        ^       |        |
 *	                |  +--> on_srv --> ask_host +-------+        |
 *	                |       (SRV: the addresses of each host)   |
 *	                +------ on_timer <------- later <-----------+
 *
 * Whoever cannot tell does not take an address away: the last answer holds
 * until there is another one.  That there is no such name is an answer.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <arpa/inet.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lookup.h"

#define NO_SUCH_NAME "there is no such name"

enum {
	HOLD_MIN_MS = 1000, /* between two questions, whatever the TTL */
	HOLD_MAX_MS = 3600 * 1000,
	AGAIN_MAX_MS = 30 * 1000 /* when nobody could tell */
};

/* A host, and what all of its addresses have in common. */
struct host {
	char *name;
	char port[sizeof("65535")];
	uint32_t weight, rank;
};

struct lookup {
	struct kquay *q;
	const struct target *target;
	lookup_fn *fn;
	void *arg;
	int told;     /* there was a first answer */
	int stopped;  /* nothing is asked again */
	int again_ms; /* until the next question, if this has no answer */

	/* The answer so far, and the hosts that are asked for. */
	struct host *hosts;
	size_t nhosts, asked;
	struct found *found;
	size_t nfound;
	uint32_t ttl; /* the least */
	int err;      /* nobody could tell about one of the hosts */
};

static kquay_srv_fn on_srv;
static kquay_resolve_fn on_addresses;
static kquay_watch_fn on_timer;
static void ask(struct lookup *);
static int add_host(struct lookup *, const char *, const char *, uint32_t,
    uint32_t);
static void ask_host(struct lookup *);
static int add_addresses(struct lookup *, const struct addrinfo *);
static void answered(struct lookup *);
static void tell(struct lookup *, const char *);
static void failed(struct lookup *, int);
static void later(struct lookup *, int64_t);
static void forget(struct lookup *);

int
lookup_needed(const struct target *target)
{
	unsigned char number[sizeof(struct in6_addr)];

	return target->srv ||
	    (target->port != NULL &&
		inet_pton(AF_INET, target->host, number) != 1 &&
		inet_pton(AF_INET6, target->host, number) != 1);
}

struct lookup *
lookup_new(struct kquay *q, const struct target *target, lookup_fn *fn,
    void *arg)
{
	struct lookup *l;

	l = calloc(1, sizeof(*l));
	if (l == NULL)
		return NULL;
	l->q = q;
	l->target = target;
	l->fn = fn;
	l->arg = arg;
	l->again_ms = HOLD_MIN_MS;
	ask(l);
	return l;
}

void
lookup_stop(struct lookup *l)
{
	l->stopped = 1;
}

void
lookup_free(struct lookup *l)
{
	if (l == NULL)
		return;
	forget(l);
	free(l);
}

/* -- questions ------------------------------------------------------------- */

static void
ask(struct lookup *l)
{
	const struct target *t = l->target;

	forget(l);
	l->ttl = UINT32_MAX;
	if (t->srv) {
		if (kquay_resolve_srv(l->q, t->host, on_srv, l) == -1)
			failed(l, errno);
	} else if (add_host(l, t->host, t->port, t->weight, 0) == -1)
		failed(l, errno);
	else
		ask_host(l);
}

static int
add_host(struct lookup *l, const char *name, const char *port, uint32_t weight,
    uint32_t rank)
{
	struct host *grown, *h;

	grown = reallocarray(l->hosts, l->nhosts + 1, sizeof(*grown));
	if (grown == NULL)
		return -1;
	l->hosts = grown;
	h = &grown[l->nhosts];
	h->name = strdup(name);
	if (h->name == NULL)
		return -1;
	l->nhosts++;
	strlcpy(h->port, port, sizeof(h->port));
	h->weight = weight;
	h->rank = rank;
	return 0;
}

/* Each priority is a rank of its own. */
static void
on_srv(struct kquay *q, int err, const struct kquay_srv *list, size_t n,
    uint32_t ttl, void *arg)
{
	struct lookup *l = arg;
	uint32_t rank = 0;
	char port[8];
	size_t i;

	if (err == ECANCELED) /* the loop ends */
		return;
	if (err != 0 && err != ENOENT) {
		failed(l, err);
		return;
	}
	l->ttl = ttl;
	for (i = 0; i < n; i++) {
		if (i > 0 && list[i].priority != list[i - 1].priority)
			rank++;
		snprintf(port, sizeof(port), "%u", (unsigned)list[i].port);
		if (add_host(l, list[i].name, port,
			l->target->weight *
			    (list[i].weight != 0 ? list[i].weight : 1),
			rank) == -1) {
			failed(l, errno);
			return;
		}
	}
	ask_host(l);
}

/* The next host's addresses, or all have been asked for. */
static void
ask_host(struct lookup *l)
{
	const struct host *h;

	if (l->asked == l->nhosts) {
		answered(l);
		return;
	}
	h = &l->hosts[l->asked];
	if (kquay_resolve(l->q, h->name, h->port, on_addresses, l) == -1)
		failed(l, errno);
}

static void
on_addresses(struct kquay *q, int err, const struct addrinfo *list,
    uint32_t ttl, void *arg)
{
	struct lookup *l = arg;

	if (err == ECANCELED)
		return;
	if (err == 0 && add_addresses(l, list) == -1)
		err = ENOMEM;
	if (err != 0 && err != ENOENT)
		l->err = err;
	if (ttl < l->ttl)
		l->ttl = ttl;
	l->asked++;
	ask_host(l);
}

static int
add_addresses(struct lookup *l, const struct addrinfo *list)
{
	const struct host *h = &l->hosts[l->asked];
	const struct addrinfo *ai;
	struct found *grown, *f;
	size_t n = 0;

	for (ai = list; ai != NULL; ai = ai->ai_next)
		n++;
	grown = reallocarray(l->found, l->nfound + n, sizeof(*grown));
	if (grown == NULL)
		return -1;
	l->found = grown;
	for (ai = list; ai != NULL; ai = ai->ai_next) {
		f = &grown[l->nfound];
		if (ai->ai_addrlen > sizeof(f->addr))
			continue;
		memcpy(&f->addr, ai->ai_addr, ai->ai_addrlen);
		f->name = h->name;
		f->weight = h->weight;
		f->rank = h->rank;
		l->nfound++;
	}
	return 0;
}

/* -- answers --------------------------------------------------------------- */

/* All hosts have been asked for.  Part of an answer is better than none. */
static void
answered(struct lookup *l)
{
	if (l->err != 0 && (l->told || l->nfound == 0)) {
		failed(l, l->err);
		return;
	}
	l->again_ms = HOLD_MIN_MS;
	tell(l, NO_SUCH_NAME);
	if (l->err != 0)
		later(l, l->again_ms);
	else if (l->ttl != UINT32_MAX)
		later(l, (int64_t)l->ttl * 1000);
}

/* Nobody can tell.  Ask again, less and less often. */
static void
failed(struct lookup *l, int err)
{
	l->nfound = 0;
	if (!l->told)
		tell(l, strerror(err));
	later(l, l->again_ms);
	if (l->again_ms < AGAIN_MAX_MS)
		l->again_ms *= 2;
}

static void
tell(struct lookup *l, const char *why)
{
	l->told = 1;
	l->fn(l->target, l->found, l->nfound, why, l->arg);
}

static void
later(struct lookup *l, int64_t ms)
{
	struct kevent ev;

	if (ms < HOLD_MIN_MS)
		ms = HOLD_MIN_MS;
	if (ms > HOLD_MAX_MS)
		ms = HOLD_MAX_MS;
	EV_SET(&ev, (uintptr_t)l, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	(void)kquay_watch(l->q, &ev, on_timer, l);
}

static void
on_timer(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct lookup *l = arg;

	if (!l->stopped)
		ask(l);
}

/* The last answer. */
static void
forget(struct lookup *l)
{
	while (l->nhosts > 0)
		free(l->hosts[--l->nhosts].name);
	free(l->hosts);
	free(l->found);
	l->hosts = NULL;
	l->found = NULL;
	l->asked = l->nfound = 0;
	l->err = 0;
}
