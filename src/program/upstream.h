/*
 * The targets of a service while it runs: which addresses there are, how they
 * are, and who is to be connected to which.
 *
 * One struct upstream belongs to a generation of a service; all of its workers
 * use it at the same time.  Its lock covers all that changes; no function calls
 * back with it held, except upstream_each().
 *
 *	               +--> connected --> upstream_opened()
 *	upstream_pick()|                         |
 *	  |  ^         |                         v
 *	  |  |         +--> failed  ----> upstream_failed()   upstream_done()
 *	  |  +------------------------------------+
 *	  v
 *	waits, until there is room, then attempt->wake()
 *
 * An address of a target is an endpoint.  Those of names are looked up again
 * when the answer is too old (lookup.c), so endpoints come and go.
 * One that has gone stays in memory as long as a connection has it.
 */
#ifndef KQUAY_UPSTREAM_H
#define KQUAY_UPSTREAM_H

#include <sys/types.h>
#include <sys/queue.h>

#include <stdint.h>

#include <kquay.h>

#include "target.h"

#define UPSTREAM_TRIES_MAX 16 /* targets that one caller is tried with */

enum upstream_balance {
	BALANCE_ROUND_ROBIN,
	BALANCE_LEAST, /* fewest connections for its weight */
	BALANCE_HASH,  /* by the source, always the same */
	BALANCE_FIRST  /* in their order, as far as their max goes */
};

struct upstream_conf {
	const char *name; /* of the service */
	const struct target_list *targets;
	int balance;             /* enum upstream_balance */
	uint32_t max_per_target; /* of those without a max; 0: no limit */
	uint32_t queue;          /* callers that may wait */
	uint32_t fail_limit;     /* failures that mark an endpoint; 0: none */
	int fail_ms;             /* within this, and for so long */
};

/* What checks say.  Without them it is UNKNOWN, which counts as up. */
enum health { HEALTH_UNKNOWN, HEALTH_UP, HEALTH_DOWN };

struct upstream;

struct endpoint {
	/* These never change. */
	struct upstream *upstream;
	const struct target *target;
	const char *host; /* a number, or a path */
	const char *port; /* NULL: UNIX */
	const char *text; /* "192.0.2.1:80", "unix:PATH" */
	const char *name; /* of the host: whom a certificate is for */
	uint64_t key;     /* of its address, the same in every process */
	uint64_t id;      /* its own, of all that this upstream ever had */

	/* Under the lock. */
	TAILQ_ENTRY(endpoint) next;
	struct endpoint *also; /* the next that may be used, of one choice */
	uint32_t refs;         /* connections, and the list */
	uint32_t weight;
	uint32_t max;            /* connections; 0: no limit */
	uint32_t rank;           /* the lowest that is up is used */
	int64_t current;         /* of round-robin */
	uint32_t active;         /* connections, also those on their way */
	uint32_t failures;       /* since the first of them */
	int64_t failed_at;       /* the first of them, ms */
	int64_t marked;          /* not to be used before, ms; 0: no mark */
	uint64_t opened, failed; /* ever */
	enum health health;
	uint8_t spare;   /* of its host there are addresses that come first */
	uint8_t failing; /* the last dial did not open */
	uint8_t listed;  /* 0: it is no address of its target any more */
	uint8_t seen;    /* in the answer that is looked at */

	void *check; /* of who checks; of the home loop's thread */
};

/* One caller that is to be connected. */
struct attempt {
	/* Filled in by who asks. */
	struct kquay *q;     /* of the caller */
	kquay_post_fn *wake; /* called there, with the attempt, if it waited */
	uint64_t source;     /* hash of the caller's address */
	const char *name;    /* server name it asks for, or NULL */

	/* The answer; or NULL: there is none. */
	struct endpoint *endpoint;

	/* upstream.c's. */
	uint64_t tried[UPSTREAM_TRIES_MAX]; /* ids of endpoints */
	unsigned ntried;
	size_t serving; /* target_serves() of the best target */
	TAILQ_ENTRY(attempt) next;
	int waiting;
};

enum upstream_answer {
	UPSTREAM_PICKED, /* attempt->endpoint */
	UPSTREAM_WAIT,   /* wake will be called, unless upstream_leave() is */
	UPSTREAM_FULL,   /* nobody has room, nor has the queue */
	UPSTREAM_NONE    /* nobody is up that has not been tried */
};

/* Told of endpoints that come and go, in the thread of the home loop. */
struct upstream_observer {
	void (*came)(struct endpoint *endpoint, void *arg);
	void (*goes)(struct endpoint *endpoint, void *arg);
	void *arg;
};

/*
 * Begin to look up the names, in the loop home, which must outlast it.
 * *conf is copied, what it points to is not.  NULL with errno.
 */
struct upstream *upstream_new(const struct upstream_conf *conf,
    struct kquay *home);

/*
 * Its connections go on, and there will be no others: names are not looked up
 * again.  In the thread of the home loop.
 */
void upstream_retire(struct upstream *up);

/* Nobody uses it any more, and its loops have been freed.  It may be NULL. */
void upstream_free(struct upstream *up);

/*
 * -- who relays; any thread
 *
 * An attempt that was picked ends with upstream_done(), or upstream_failed()
 * before it was open; and opens with upstream_opened() in between.
 */
enum upstream_answer upstream_pick(struct upstream *up, struct attempt *a);
void upstream_opened(struct endpoint *endpoint);
void upstream_failed(struct endpoint *endpoint, int err);
void upstream_done(struct endpoint *endpoint);

/*
 * As upstream_done(), but *endpoint, whose text is in use, stays until
 * upstream_forget().
 */
void upstream_done_keep(struct endpoint *endpoint);
void upstream_forget(struct endpoint *endpoint);

/* Does it matter which server name a caller asks for? */
int upstream_by_name(const struct upstream *up);

/*
 * The caller of an attempt that waits has gone.  Returns 1 if wake will not be
 * called; 0 if it will, and is to give what it gets back.
 */
int upstream_leave(struct upstream *up, struct attempt *a);

/*
 * -- who checks; the thread of the home loop
 *
 * came is called for all that there are before upstream_observe() returns.
 */
void upstream_observe(struct upstream *up,
    const struct upstream_observer *observer);
void upstream_set_health(struct endpoint *endpoint, enum health health,
    const char *why);

/* -- who looks on; any thread */

/* With the lock held: look, do not stay. */
typedef void upstream_each_fn(const struct endpoint *endpoint, void *arg);
void upstream_each(struct upstream *up, upstream_each_fn *fn, void *arg);

/* Would it be picked, but for its max?  For upstream_each_fn. */
int endpoint_is_up(const struct endpoint *endpoint);

/*
 * Is its host at an address of the other family, and never was at this one?
 * Then it is no fault that nobody answers.  For upstream_each_fn.
 */
int endpoint_is_vacant(const struct endpoint *endpoint);

#endif
