/*
 * turn.h: one gathering of events, see collect.c.
 */
#ifndef KQ_TURN_H
#define KQ_TURN_H

#include <string.h>

#include "kq.h"
#include "process.h"

#define BATCH 256 /* of epoll_wait */

struct turn {
	struct kqueue *t_queue;
	struct kevent *t_events;
	uint32_t t_life;
	int t_room;    /* events there is room for */
	bool t_counts; /* only counts: see collect_count() */
	bool t_cancel;
	bool t_more;  /* epoll has, or may have, more than it handed out */
	bool t_moved; /* an epoll watches what it did not before */

	/* These are 0 when it begins. */
	int t_stored;      /* of t_room */
	int t_earlier;     /* stored in the turn before this one */
	uint16_t t_number; /* q_turn: no knote twice in one turn */
	bool t_again;      /* look into the FIFO once more */
	bool t_all;        /* epoll is asked for all it has, not for t_room */
	bool t_inherited;  /* the turn began in an earlier call */
	bool t_skipped;    /* there are knotes that had their turn */
	bool t_passed;     /* there are some that must wait for the next call */
	bool t_fill;       /* there are events whose data is to be filled in */
};

/*
 * Until its data is filled in, the event of a descriptor carries in `data` the
 * kernel's mask and the descriptor's type, in fflags those of the knote.
 */
#define HINT(mask, type, forced)                                               \
	((int64_t)((uint64_t)(mask) | (uint64_t)(type) << 32 |                 \
	     (uint64_t)(forced) << 40) |                                       \
	    HINT_MARK)
#define HINT_FORCED ((int64_t)1 << 40)
#define HINT_MARK ((int64_t)1 << 41) /* without it, data is there already */

/* The next turn is a new one, and epoll alone may have something for it. */
static inline bool
turn_is_fresh(const struct kqueue *q)
{
	return ready_empty(q) && queue_signals(q) == 0 &&
	    !__atomic_load_n(&q->q_continues, __ATOMIC_RELAXED);
}

/* With no room left, those that had no turn have it in the next call. */
static inline void
turn_ends(struct kqueue *q, bool full, bool passed)
{
	__atomic_store_n(&q->q_continues, full && (passed || !ready_empty(q)),
	    __ATOMIC_RELAXED);
}

/* A new turn begins: its number. */
static inline uint16_t
turn_next(struct kqueue *q)
{
	if (++q->q_turn == 0)
		++q->q_turn;
	return q->q_turn;
}

/* Input, or its end, which WRITE is not told of, is all that there is. */
static inline bool
is_plain_read(const struct fdnote *fn, uint32_t mask)
{
	return (mask | EPOLLRDHUP) == (EPOLLIN | EPOLLRDHUP) ||
	    (mask == (EPOLLIN | EPOLLRDHUP | EPOLLHUP) &&
		(fn->fn_kernel & FK_OUT) == 0);
}

/* Room for output is, and WRITE has no end that the kernel does not tell. */
static inline bool
is_plain_write(int fd, const struct fdnote *fn, uint32_t mask)
{
	return mask == EPOLLOUT && (fn->fn_kernel & FK_OUT) != 0 &&
	    (fn->fn_flags & FN_SHUT_WR) == 0 && !watch_duped(fd);
}

/*
 * What nearly every event of epoll's is: input, or its end, or room for output,
 * and nothing else, of a knote to which nothing else happens when it is
 * returned.  False: it is not of that kind, and nothing was done.  *fill
 * becomes true if its data is to be filled in.
 */
static inline bool
take_plain(const struct kqueue *q, uint16_t number, const struct epoll_event *e,
    struct kevent *ev, bool *fill)
{
	const uint64_t tag = e->data.u64;
	const uint32_t mask = e->events;
	const int fd = (int)TAG_INDEX(tag);
	struct fdnote *fn = descriptor_find(q, fd);
	struct knote *kn;
	bool read;

	/* TAG_FD is 0, so a tag of another kind has no slot's generation. */
	if (RARELY(fn == NULL || fn->fn_gen != (uint32_t)(tag >> 32) ||
		fn->fn_extra != NULL || (fn->fn_kernel & FK_ONCE) != 0))
		return false;
	read = is_plain_read(fn, mask);
	if (!read && !is_plain_write(fd, fn, mask))
		return false;
	kn = &fn->fn_knote[read ? FN_READ : FN_WRITE];
	if (RARELY(kn->kn_status != KN_ATTACHED || kn->kn_turn == number ||
		(kn->kn_flags & (EV_ONESHOT | EV_DISPATCH)) != 0 ||
		((kn->kn_flags & EV_CLEAR) && fn->fn_type == FD_UNKNOWN)))
		return false;
	kn->kn_turn = number;
	ev->ident = (uintptr_t)fd;
	ev->filter = read ? EVFILT_READ : EVFILT_WRITE;
	ev->flags = kn->kn_flags | (mask & EPOLLRDHUP ? EV_EOF : 0);
	ev->udata = kn->kn_udata;
	memset(ev->ext, 0, sizeof(ev->ext));
	if (kn->kn_fflags & NOTE_NODATA) {
		ev->fflags = 0;
		ev->data = 1;
	} else {
		ev->fflags = kn->kn_fflags;
		ev->data = HINT(mask, fn->fn_type, false);
		*fill = true;
	}
	return true;
}

/* -- collect.c ------------------------------------------------------------- */

/* A wait that has begun well, and goes on otherwise. */
struct begun {
	struct epoll_event *b_buf; /* room for BATCH */
	int b_max, b_n;            /* asked for; what epoll_wait() returned */
	int b_taken;               /* of these, into events[] */
	uint16_t b_number;         /* of the turn, 0: none has begun */
	bool b_fill;
	struct timespec b_since; /* when it began, if there is a limit */
};

/*
 * Wait for events and store up to nevents of them; *stored says how many.
 * timeout NULL is for ever.  cancel: the wait is a cancellation point.  With
 * begun, go on where that ended; if it has a number, the lock is held, and
 * dropped.
 */
int collect(struct kqueue *, uint32_t life, struct kevent *events, int nevents,
    const struct timespec *timeout, bool cancel, const struct begun *,
    int *stored);

/* -- take.c: both with the lock held --------------------------------------- */

/* What stands in the FIFO now, as long as there is room. */
void take_ready(struct turn *);
/* An event of epoll's: a descriptor's, or of what fills the FIFO. */
void take_event(struct turn *, const struct epoll_event *);

/* epoll_wait() that is no cancellation point. */
int poll_epoll(int epfd, struct epoll_event *, int max, int timeout_ms);

#endif
