/*
 * Asking the loops of all workers, each in its own thread.  Called from the
 * main thread, which also gets the answer, later; nobody waits.
 *
 * At most GATHER_MAX questions are open at a time.  Lists of connections are
 * made one after the other, a turn of the loops between them: each takes its
 * time, and callers do not wait for all of them.
 */
#ifndef KQUAY_GATHER_H
#define KQUAY_GATHER_H

#include <sys/types.h>

#include <stdint.h>

#include "access.h"
#include "connections.h"
#include "status.h"

#define GATHER_MAX 1024

/* The process begins now. */
void gather_begin(void);

/* Which connections; all must hold.  What it points to is copied. */
struct selection {
	uint64_t id;         /* 0: any */
	const char *service; /* NULL: any */
	const char *peer;    /* as in the setting allow; NULL: any */
};

/*
 * Each has fn called once with the answer, which is fn's to free.  Returns 0;
 * or -1 with the reason in why, and fn is not called.
 */
typedef void gather_status_fn(struct status *st, void *arg);
int gather_status(gather_status_fn *fn, void *arg, char *why, size_t whysz);

/* The first so many of them whose ids are larger than after, by their ids. */
typedef void gather_connections_fn(struct connections *list, void *arg);
int gather_connections(const struct selection *which, uint64_t after,
    uint32_t limit, gather_connections_fn *fn, void *arg, char *why,
    size_t whysz);

/* Close them; the answer is how many. */
typedef void gather_closed_fn(uint64_t closed, void *arg);
int gather_close(const struct selection *which, gather_closed_fn *fn, void *arg,
    char *why, size_t whysz);

#endif
