/*
 * Workers: the threads of the process.  Each steps loops: one of every service
 * that runs, and one of its own, its home, through which it is told what to do.
 * The first worker is the main thread, and its home the chief: signals and all
 * that is decided for the whole process are handled there.
 */
#ifndef KQUAY_WORKER_H
#define KQUAY_WORKER_H

#include <sys/queue.h>

#include <stdatomic.h>

#include <kquay.h>

#include "tally.h"

#define WORKERS_MAX 256

struct service;

/* An address, and how many listeners it makes in a loop. */
struct berth {
	const char *address; /* as written */
	unsigned listeners;
	int file; /* of UNIX sockets, which have one each */
};

/* A loop in a worker. */
struct branch {
	TAILQ_ENTRY(branch) next;
	struct kquay *q;
	unsigned number; /* of the worker */
	int ready;       /* its queue has events */
	int watched;     /* and the leading loop tells so */
	/* It has come to its end and is no longer stepped; in its thread. */
	void (*left)(struct branch *);
	struct service *service; /* whose part it is; NULL: of the program */
	struct berth *berths;    /* the service's addresses, as it listens */
	unsigned nberths;
	struct tally tally; /* of its callers */
	atomic_uint begun;  /* connections, so far */
	int64_t said_ms;    /* when it last told of refusals */
	unsigned unsaid;    /* refusals since */
};

/* Make n workers, none of which runs.  0, or -1 with errno. */
int workers_new(unsigned n);
void workers_free(void);
unsigned workers_count(void);

/* The home of worker number i. */
struct kquay *worker_home(unsigned i);
#define worker_chief() worker_home(0)

/*
 * Have b->q stepped by worker number b->number until it is done, then
 * b->left called.  In that worker's thread, or before workers_run().
 */
void worker_add(struct branch *b);

/*
 * In the thread of a worker: its next loop of a service after b, or the first
 * if b is NULL; NULL at the end.
 */
struct branch *worker_next(unsigned worker, struct branch *b);

/*
 * Start the threads, and be the first worker, until workers_leave() and the
 * end of every loop.  Returns 0, or -1 if a thread could not be started or a
 * loop has failed, which has been said.
 */
int workers_run(void);

/* Each worker ends once it has no loop left; from the main thread. */
void workers_leave(void);

/*
 * As kquay_post(), and it arrives: without memory for it, this waits for some.
 */
void worker_tell(struct kquay *q, kquay_post_fn *fn, void *arg);

/* Something that every worker is to do; its memory is the caller's. */
struct errand {
	void (*fn)(unsigned worker, struct errand *);
	void (*done)(struct errand *);
	void *arg; /* of who asks */
	atomic_uint left;
};

/*
 * Have e->fn called in the thread of every worker, and when all have returned
 * e->done in the main thread.  Any thread may ask; nothing waits.
 */
void workers_each(struct errand *e);

#endif
