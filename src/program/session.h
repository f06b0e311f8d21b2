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

struct session {
	_Alignas(max_align_t) int64_t began_ms; /* of session_now_ms() */
	const char *to; /* where it was relayed to, or NULL */
	int delay_ms;   /* it came too early by this */
	int opened;     /* the handler knows it */
};

/* The callbacks of a service with that handler's. */
void session_ops(struct kquay_ops *ops, const struct kquay_ops *handler);

/* The handler's own bytes of an accepted connection. */
void *session_data(struct kquay_conn *c);

/*
 * Where it is relayed to, for the log and the list of connections.  The text
 * must stay until the connection's close.
 */
void session_to(struct kquay_conn *c, const char *text);

/* Milliseconds of a clock that does not go back, to a few of them. */
int64_t session_now_ms(void);

#endif
