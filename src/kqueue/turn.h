/*
 * turn.h: one gathering of events, see collect.c.
 */
#ifndef KQ_TURN_H
#define KQ_TURN_H

#include "kq.h"

#define BATCH 256 /* of epoll_wait */

struct turn {
	struct kqueue *t_queue;
	uint32_t t_life;
	uint16_t t_number; /* q_turn: no knote twice in one turn */
	struct kevent *t_events;
	int t_stored, t_room; /* of it, and in all */
	bool t_again;         /* look into the FIFO once more */
	bool t_all;       /* epoll is asked for all it has, not for t_room */
	bool t_inherited; /* the turn began in an earlier call */
	bool t_more;      /* epoll has, or may have, more than it handed out */
	bool t_moved;     /* a knote went from one epoll to the other */
	bool t_skipped;   /* there are knotes that had their turn */
	bool t_passed;    /* there are some that must wait for the next call */
	int t_earlier;    /* stored in the turn before this one */
	bool t_counts;    /* only counts: see collect_count() */
	bool t_cancel;
};

/*
 * Until its data is filled in, the event of a descriptor carries in `data` the
 * kernel's mask and the descriptor's type, in fflags those of the knote.
 */
#define HINT(mask, type, forced)                                               \
	((int64_t)((uint64_t)(mask) | (uint64_t)(type) << 32 |                 \
	    (uint64_t)(forced) << 40))
#define HINT_FORCED ((int64_t)1 << 40)

/* -- take.c: both with the lock held ---------------------------------------- */

/* What stands in the FIFO now, as long as there is room. */
void take_ready(struct turn *);
/* An event of epoll's: a descriptor's, or of what fills the FIFO. */
void take_event(struct turn *, const struct epoll_event *);

/* epoll_wait() that is no cancellation point. */
int poll_epoll(int epfd, struct epoll_event *, int max, int timeout_ms);

#endif
