/*
 * Sessions: what every caller of a service has in front of what the handler
 * keeps for it.  They stand between the loop and the handler: who may come and
 * how often is decided here, and here is what is told of a connection when it
 * has ended.
 *
 * An accepted connection keeps the callbacks that it began with: a handler
 * does not use kquay_setops() on it.  What a handler dials has no session.
 */
#ifndef KQUAY_SESSION_H
#define KQUAY_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include <kquay.h>

/* Small, as every connection has one. */
struct session {
	uint64_t id : 48;    /* no other of the process has it */
	uint64_t error : 12; /* an errno value, why it ended */
	uint64_t why : 4;    /* and the reason */
	uint64_t ms : 43;    /* when it began, of session_now_ms(); before it
	                        is open: by how much it came too early */
	uint64_t blamed : 1; /* why and error are so, whatever the loop says */
	uint64_t opened : 1; /* the handler knows it */
};

/* What follows is aligned for any type. */
_Static_assert(sizeof(struct session) == 16 &&
	sizeof(struct session) % _Alignof(max_align_t) == 0,
    "small, and nothing lies askew behind it");

/* The callbacks of a service with that handler's. */
void session_ops(struct kquay_ops *ops, const struct kquay_ops *handler);

/* Of an accepted connection. */
struct session *session_of(struct kquay_conn *c);

/* The handler's own bytes of an accepted connection. */
void *session_data(struct kquay_conn *c);

/* Where it is relayed to, as its handler says; NULL: nowhere. */
const char *session_to(struct kquay_conn *c);

/*
 * It is about to end for this reason, which the loop does not know: another
 * connection's.
 */
void session_why(struct kquay_conn *c, enum kquay_why why, int error);

/* Milliseconds of a clock that does not go back, to a few of them. */
int64_t session_now_ms(void);

#endif
