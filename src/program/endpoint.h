/*
 * The state of a service's targets, which upstream.c and endpoint.c share: the
 * one chooses among the endpoints, the other keeps the list of them.
 */
#ifndef KQUAY_ENDPOINT_H
#define KQUAY_ENDPOINT_H

#include <sys/types.h>
#include <sys/queue.h>

#include <pthread.h>
#include <stdint.h>

#include <kquay.h>

#include "upstream.h"

TAILQ_HEAD(endpoint_list, endpoint);
TAILQ_HEAD(attempt_list, attempt);

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

/*
 * -- endpoint.c
 *
 * Have the list filled, now and whenever a name has another address.
 * 0, or -1: what there is of it is endpoints_free()'s.
 */
int endpoints_begin(struct upstream *up);
void endpoints_retire(struct upstream *up); /* as upstream_retire() */
void endpoints_free(struct upstream *up);

/* One reference less; with the lock held. */
void endpoint_unref(struct endpoint *endpoint);

/*
 * It has failed: addresses of the other family come first from now on, if all
 * of its own fail and those do not.  Returns whether the host may answer there;
 * with the lock held.
 */
int endpoint_yield(struct endpoint *endpoint);

/*
 * -- upstream.c; with the lock held
 *
 * Something has changed: whom of those who wait does that help?
 */
void upstream_serve_queue(struct upstream *up);

/* It may be chosen as any other.  1 if it had a mark. */
int upstream_unmark(struct endpoint *endpoint);

#endif
