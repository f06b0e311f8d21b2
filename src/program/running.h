/*
 * A running service: its configuration and one loop in each worker.  It is
 * made whole, with its sockets, before any of it is given to the workers.
 *
 * What changes a service makes a new one, which takes over the listening
 * sockets of the old; the old one is retired and lasts as long as its
 * connections.  All of this is the main thread's, but for what says otherwise.
 */
#ifndef KQUAY_RUNNING_H
#define KQUAY_RUNNING_H

#include <sys/queue.h>

#include <kquay.h>

#include "service.h"
#include "worker.h"

TAILQ_HEAD(service_list, service);

struct service {
	TAILQ_ENTRY(service) next;
	struct service_list *listed; /* where it is */
	struct service_conf *conf;
	char *text; /* the configuration written out */
	struct kquay_team *team; /* NULL: one loop */
	struct branch *branches; /* its loops */
	unsigned nbranches;
	unsigned holds;      /* loops that are with their worker, and others */
	unsigned generation; /* of the configuration; counts the reloads */
	int keep;            /* a reload finds it as it is */
	int retired;         /* it has no more callers */
	int stops;           /* how often it was told to stop */
	struct errand errand; /* of its retirement */
	struct rate *rate;   /* NULL: no limit */
	void *state;         /* the handler's own */
};

/* Those that serve callers, and those that are on their way out. */
extern struct service_list services_running, services_retired;

/*
 * A service that does not listen yet; conf belongs to it.  NULL, having said
 * why, and conf is the caller's.
 */
struct service *service_new(struct service_conf *conf);

/* It is with no worker. */
void service_free(struct service *s);

/*
 * Listen on its addresses but for those in old, whose listeners it will take
 * over; old may be NULL.  0, or -1 having said why.
 */
int service_listen(struct service *s, const struct service_list *old);

/*
 * The files of its UNIX sockets, those that it has from an earlier program
 * included, have its mode and are to be removed by it; before it is with a
 * worker's thread.
 */
void service_claim(struct service *s);

/*
 * In the thread of a worker: that one's loop of s takes over what it is to
 * have of the listeners of old.
 */
void service_take(struct service *s, const struct service_list *old,
    unsigned worker);

/* It is in that list, and in no other, from now on. */
void service_list(struct service *s, struct service_list *list);

/* In the thread of a worker: have its loop of s stepped from now on. */
void service_begin(struct service *s, unsigned worker);

/*
 * In the thread of a worker: another process has the sockets of its loop of s,
 * which leaves them, and their files, alone.
 */
void service_abandon(struct service *s, unsigned worker);

/* In the thread of a worker: no more callers for its loop of s. */
void service_retire(struct service *s, unsigned worker);

/*
 * It does not end before it is let go; what asks workers about it holds it, as
 * those that have no loop of it may look at it later than its last loop ends.
 */
void service_hold(struct service *s);
void service_let_go(struct service *s);

/* All its loops are to end, as by kquay_stop(). */
void service_stop(struct service *s);

/* Who is told in the main thread, when the last connection has ended. */
extern void (*service_ended)(struct service *s);

/* How many connections it has now. */
uint32_t service_conns(const struct service *s);

/* The loop of s in a worker, or NULL: of single services. */
struct kquay *service_loop(const struct service *s, unsigned worker);

#endif
