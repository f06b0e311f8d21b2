/*
 * Active checks: is a target up?  Each endpoint of an upstream is connected to
 * every so often, through TLS where its callers are, and may have to give an
 * answer; or a command is run that finds out.
 *
 *	        first                     check-fall in a row
 *	UNKNOWN ------> UP or DOWN     UP <-----------------> DOWN
 *	         check                    check-rise in a row
 *
 * What hinders us (no descriptors, no memory) says nothing about a target.
 */
#ifndef KQUAY_CHECK_H
#define KQUAY_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "words.h"

struct kquay;
struct kquay_target;
struct endpoint;
struct upstream;
struct checks;

/* The settings check, check-timeout and so on, of a handler with targets. */
struct check_conf {
	int interval_ms; /* from the begin of one to that of the next; -1: none
	                  */
	int timeout_ms;  /* for all of one */
	uint32_t rise, fall;
	char *send, *expect;  /* "": nothing */
	struct words command; /* instead of connecting */
};

#define CHECK_UDATA (2 * sizeof(void *)) /* the loop's udatasz, at least */

/* Do they agree with each other?  0, or -1 and why. */
int check_valid(const struct check_conf *conf, char *why, size_t whysz);

/* The most connections that checks have at a time, for the loop's maxdial. */
uint32_t check_slots(const struct check_conf *conf);

/* Where a caller of endpoint would be connected to: fill in *to, all zeros. */
typedef void check_target_fn(const struct endpoint *endpoint,
    struct kquay_target *to, void *arg);

/*
 * Begin, with all endpoints that up has and gets, in the loop home: the one of
 * upstream_new().  *conf and the service's name must stay.  NULL with errno.
 * Where no checks are wanted nobody calls this.
 */
struct checks *check_start(const struct check_conf *conf, const char *service,
    struct upstream *up, struct kquay *home, check_target_fn *fill, void *arg);

/*
 * End what is under way, and begin no more: the service is being replaced.  In
 * the thread of the home loop.  When that is stopped the checks end by
 * themselves.
 */
void check_stop(struct checks *checks);

/* The home loop has been freed, and up is about to be.  It may be NULL. */
void check_free(struct checks *checks);

#endif
