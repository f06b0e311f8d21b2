/*
 * Lookups: ask, tell, and wait for as long as the answer holds.
 *
 *	lookup_new --> ask --> answered --> later --> (timer) --> ask
 *
 * Whoever cannot tell does not take an address away: the last answer holds
 * until there is another one.  That there is no such name is an answer.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <arpa/inet.h>

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "lookup.h"

enum {
	HOLD_MIN_MS = 1000, /* between two questions, whatever the TTL */
	HOLD_MAX_MS = 3600 * 1000,
	AGAIN_MAX_MS = 30 * 1000 /* when nobody could tell */
};

struct lookup {
	struct kquay *q;
	const struct target *target;
	lookup_fn *fn;
	void *arg;
	int told;     /* there was a first answer */
	int again_ms; /* until the next question, if this has no answer */
};

static kquay_resolve_fn answered;
static kquay_watch_fn on_timer;
static int ask(struct lookup *);
static void failed(struct lookup *, int);
static void tell(struct lookup *, const struct addrinfo *);
static void later(struct lookup *, int64_t);

int
lookup_needed(const struct target *target)
{
	unsigned char number[sizeof(struct in6_addr)];

	return target->port != NULL &&
	    inet_pton(AF_INET, target->host, number) != 1 &&
	    inet_pton(AF_INET6, target->host, number) != 1;
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
	if (ask(l) == 0)
		return l;
	free(l);
	return NULL;
}

void
lookup_free(struct lookup *l)
{
	free(l);
}

static int
ask(struct lookup *l)
{
	return kquay_resolve(l->q, l->target->host, l->target->port, answered,
	    l);
}

static void
answered(struct kquay *q, int err, const struct addrinfo *list, uint32_t ttl,
    void *arg)
{
	struct lookup *l = arg;

	if (err == ECANCELED) /* the loop ends */
		return;
	if (err != 0 && err != ENOENT) {
		failed(l, err);
		return;
	}
	l->again_ms = HOLD_MIN_MS;
	l->told = 1;
	if (err == ENOENT)
		l->fn(l->target, NULL, 0, "there is no such name", l->arg);
	else
		tell(l, list);
	if (ttl != UINT32_MAX)
		later(l, (int64_t)ttl * 1000);
}

/* Nobody can tell.  Ask again, less and less often. */
static void
failed(struct lookup *l, int err)
{
	if (!l->told) {
		l->told = 1;
		l->fn(l->target, NULL, 0, strerror(err), l->arg);
	}
	later(l, l->again_ms);
	if (l->again_ms < AGAIN_MAX_MS)
		l->again_ms *= 2;
}

static void
tell(struct lookup *l, const struct addrinfo *list)
{
	const struct addrinfo *ai;
	struct found *found;
	size_t n = 0;

	for (ai = list; ai != NULL; ai = ai->ai_next)
		n++;
	found = calloc(n, sizeof(*found));
	if (found == NULL) {
		failed(l, ENOMEM);
		return;
	}
	for (n = 0, ai = list; ai != NULL; ai = ai->ai_next) {
		if (ai->ai_addrlen > sizeof(found[n].addr))
			continue;
		memcpy(&found[n].addr, ai->ai_addr, ai->ai_addrlen);
		found[n].name = l->target->host;
		found[n].weight = l->target->weight;
		n++;
	}
	l->fn(l->target, found, n, NULL, l->arg);
	free(found);
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

	if (ask(l) == -1)
		failed(l, errno);
}
