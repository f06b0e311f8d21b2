/*
 * A program that runs for a connection: what it complains of, and its end.
 *
 * It may outlast its connection, and even its service, which a reload can take
 * away: then it has been told to end, and is watched by its worker's own loop.
 */
#ifndef KQUAY_CHILD_H
#define KQUAY_CHILD_H

#include <sys/types.h>
#include <sys/queue.h>

#include <stdatomic.h>
#include <stddef.h>

struct kquay_conn;
struct launch;

/* How many there are of a service, and one for the service itself. */
struct crowd {
	atomic_uint n;
	unsigned max; /* children */
	void (*ended)(struct kquay_conn *c);
};

struct child {
	LIST_ENTRY(child) next; /* of those whose connection has gone */
	struct kquay *q;      /* watches it */
	struct kquay_conn *c; /* NULL: that has gone */
	struct crowd *crowd;
	pid_t pid;
	int errors;     /* a pipe from its standard error, or -1 */
	size_t nline;   /* of a line that has not ended */
	char line[512]; /* what is longer is several lines of the log */
	char peer[160];
	char service[]; /* its name */
};

/*
 * At most max children, and ended is called with the connection of one that has
 * ended, if that has not gone first.  NULL without memory.
 */
struct crowd *crowd_new(unsigned max, void (*ended)(struct kquay_conn *c));

/* The service has gone. */
void crowd_leave(struct crowd *crowd);

/*
 * Start a program for c.  If log is 1 its standard error goes to the log, line
 * by line, instead of to l->err.  NULL, having told the log why.
 */
struct child *child_new(struct kquay_conn *c, struct crowd *crowd,
    const struct launch *l, int log);

/*
 * Its connection goes: tell it to end, and after linger_ms make it; -1: not at
 * all.
 */
void child_leave(struct child *child, int linger_ms);

/* And everything else: make it end at once. */
void child_kill(struct child *child);

#endif
