/*
 * The addresses of a target, now and later: a name is looked up again when the
 * answer is too old.
 */
#ifndef KQUAY_LOOKUP_H
#define KQUAY_LOOKUP_H

#include <sys/types.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <stddef.h>
#include <stdint.h>

#include <kquay.h>

#include "target.h"

struct lookup;

/* One address. */
struct found {
	union {
		struct sockaddr sa;
		struct sockaddr_in in4;
		struct sockaddr_in6 in6;
	} addr;
	const char *name; /* of the host */
	uint32_t weight;
	uint32_t rank; /* the lowest that is up is used */
};

/*
 * The addresses of target are these n from now on; 0: it has none, for why.
 * They are gone when it returns.
 */
typedef void lookup_fn(const struct target *target, const struct found *list,
    size_t n, const char *why, void *arg);

/* Is there anything to look up? */
int lookup_needed(const struct target *target);

/*
 * Have fn called with the addresses of target, and again whenever they have
 * been asked for again; not if nobody can tell at the moment, unless that is
 * the first answer.  NULL with errno.
 */
struct lookup *lookup_new(struct kquay *q, const struct target *target,
    lookup_fn *fn, void *arg);

/* What is under way is the last; in the thread of its loop. */
void lookup_stop(struct lookup *l);

/* Its loop has been freed.  It may be NULL. */
void lookup_free(struct lookup *l);

#endif
