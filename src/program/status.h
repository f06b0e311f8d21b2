/*
 * What the program does, as a picture of one moment: gathered from the loops
 * of all workers, printed as a table, as JSON or as metrics.
 */
#ifndef KQUAY_STATUS_H
#define KQUAY_STATUS_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "tally.h"
#include "upstream.h"
#include "words.h"

/* An address of a target. */
struct status_target {
	char *name; /* the target, as it was written */
	char *address;
	enum health health;
	int up; /* it gets new connections */
	int backup;
	uint32_t weight;
	uint32_t conns;
	uint32_t max; /* 0: no limit */
	uint64_t dialled, failures;
};

/* The sums over all workers, and over the settings that drain. */
struct status_service {
	char *name;
	const char *handler;
	struct words listening;
	uint32_t max_connections;
	uint32_t max_per_source; /* 0: no limit */
	uint32_t conns; /* callers */
	uint32_t peak;  /* the sum of each loop's */
	uint32_t draining; /* of conns: under settings that are gone */
	uint64_t accepted, dialled, closed;
	uint64_t in, out; /* bytes from callers, and to them */
	struct tally tally;
	struct status_target *targets;
	size_t ntargets;
};

struct status {
	pid_t pid;
	int64_t started;   /* seconds since 1970 */
	int64_t uptime_ms; /* since then, by a clock that nobody sets */
	uint32_t generation;
	uint32_t workers;
	uint64_t log_lost; /* lines */
	const char *sandbox; /* what it is, or "none" and why; NULL: unknown */
	struct status_service *services;
	size_t nservices;
	int failed; /* memory has run out: it is not whole */
};

/* An empty one, or NULL. */
struct status *status_new(void);
void status_free(struct status *st);

/*
 * The service of that name, added at the end if it is new; valid until the
 * next call.  NULL if memory has run out, which failed says, too.
 */
struct status_service *status_service(struct status *st, const char *name,
    const char *handler);

/* Add what one loop has counted. */
void status_count(struct status_service *s, const struct kquay_stat *stat,
    const struct tally *tally);

/* As status_service(), the address of a target. */
struct status_target *status_target(struct status *st, struct status_service *s,
    const char *name, const char *address);

/* All of a service's refusals, and the name of a target's health. */
uint64_t status_refused(const struct status_service *s);
const char *status_health(const struct status_target *target);

/* Each writes *st; 0, or -1 if memory has run out before. */
int status_print_table(const struct status *st, FILE *out);
int status_print_json(const struct status *st, FILE *out);
int status_print_metrics(const struct status *st, FILE *out);

#endif
