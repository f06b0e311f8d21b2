/*
 * kq.h: the queue, its knotes, and who may touch them.
 *
 * A queue is an epoll descriptor plus the knotes in user memory.  Whatever the
 * kernel can watch is watched by epoll and found again through a tag, never
 * through a pointer.  Whatever it cannot (a user event, a timer, a signal, a
 * regular file, a threshold) becomes active here and stands in the ready FIFO,
 * which announces itself through one eventfd in the same epoll.
 *
 *	     change list			     events
 *		  |				       ^
 *	      change.c				   collect.c
 *	  _______|_______________		 ______|______
 *	 |			 |		|	      |
 *   descriptor.c	     object.c	     epoll_wait    ready.c
 *   READ, WRITE	  TIMER, USER, ...     (tags)	   (FIFO)
 *	 |			 |		^	      ^
 *	epoll		      filter_*.c ------- | ----------- |
 *
 * Invariants
 *  1 No pointer in epoll.  A tag counts only if its generation is that of the
 *    slot it names, compared with the lock held.
 *  2 A slot's generation changes whenever what it names may be another file.
 *  3 The kernel watches at least what the enabled knotes want.  It may watch
 *    more: interest is narrowed when an unwanted event shows, not before.
 *  4 If the FIFO is not empty when the lock is dropped, an edge of the eventfd
 *    stands in the epoll that nobody has consumed (q_armed).
 *  5 No lock is held across anything that blocks.
 *  6 A descriptor's watch bit (watch.h) is set before its EPOLL_CTL_ADD, and
 *    stays while any registration is left in the epoll, also that of a knote
 *    which is gone.
 *  7 A new knote makes one epoll_ctl(): the kernel, not our memory, says what
 *    the number names.
 *  8 Nothing that the program could see is consumed: no byte, no socket error,
 *    no pending signal, no zombie.
 *
 * Functions inside return 0 or an errno value.  Queues are type-stable: closed
 * ones are used again, never freed, so a thread that comes back late from the
 * kernel may look at q_life to learn that its queue has gone.
 */
#ifndef KQ_H
#define KQ_H

#include <sys/epoll.h>
#include <sys/event.h>

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "inotify.h"
#include "lock.h"
#include "timers.h"
#include "watch.h"

/* Not on the way of a common event: kept out of the code that is. */
#define SELDOM __attribute__((cold))
#define RARELY(x) __builtin_expect(x, 0)

/* -- a knote: one registration --------------------------------------------- */

struct knote {
	void *kn_udata;
	uint32_t kn_fflags; /* as given: NOTE_* wanted */
	uint8_t kn_flags;   /* EV_ONESHOT, CLEAR, RECEIPT, DISPATCH */
	uint8_t kn_status;  /* KN_* */
	uint16_t kn_turn;   /* collection that returned it last */
};

#define KN_ATTACHED 0x01 /* it exists */
#define KN_DISABLED 0x02
#define KN_ACTIVE 0x04 /* there is something to report */
#define KN_QUEUED 0x08 /* it stands in the FIFO */
#define KN_FORCED 0x10 /* EV_FORCEONESHOT: report unasked */
#define KN_GATED 0x20  /* epoll's word is not enough: edge, then ask */
#define KN_NEVER 0x40  /* cannot fire: write end of a pipe for READ */
#define KN_PLACED 0x80 /* it has a place reserved in the FIFO */

#define KN_MODES (EV_ONESHOT | EV_CLEAR | EV_RECEIPT | EV_DISPATCH)

static inline bool
knote_enabled(const struct knote *kn)
{
	return (kn->kn_status & (KN_ATTACHED | KN_DISABLED)) == KN_ATTACHED;
}

/*
 * Returned once, it is not wanted any more.  A gated one may have to be asked
 * many times before, and an edge is told to one thread only.
 */
static inline bool
knote_is_once(const struct knote *kn)
{
	return (kn->kn_flags & (EV_ONESHOT | EV_DISPATCH)) != 0 &&
	    (kn->kn_status & KN_GATED) == 0;
}

/* -- knotes of a descriptor: EVFILT_READ and EVFILT_WRITE ------------------ */

enum fdtype {
	FD_UNKNOWN, /* not asked yet */
	FD_STREAM,  /* connection-oriented socket, listening or not */
	FD_DGRAM,
	FD_PIPE_READ, /* pipe or FIFO, by access mode */
	FD_PIPE_WRITE,
	FD_PIPE_BOTH,
	FD_TTY,
	FD_EVENTFD,
	FD_KQUEUE,
	FD_FILE,   /* regular file or directory: epoll refuses */
	FD_DEVICE, /* other that epoll refuses */
	FD_OTHER   /* other that epoll takes */
};

/* What does not fit in a slot because almost nobody uses it. */
struct fdextra {
	int64_t fx_lowat[2]; /* data of NOTE_LOWAT, READ and WRITE */
	uint64_t fx_ext[2][4];
	struct observer fx_observer; /* READ of a file */
};

struct fdnote {
	struct knote fn_knote[2]; /* FN_READ, FN_WRITE */
	struct fdextra *fn_extra; /* or NULL */
	uint32_t fn_gen;          /* 28 bits, part of the tag */
	uint16_t fn_kernel;       /* FK_*: what the kernel watches */
	uint8_t fn_type;          /* enum fdtype */
	uint8_t fn_flags;         /* FN_* bits */
};

#define FN_READ 0
#define FN_WRITE 1

static inline int
fn_filter(int which)
{
	return which == FN_WRITE ? EVFILT_WRITE : EVFILT_READ;
}

#define FDPAGE 256 /* slots in a page, see q_pages */

#define FK_IN 0x01   /* the main epoll: readable */
#define FK_OUT 0x02  /* writable */
#define FK_EDGE 0x04 /* EPOLLET */
#define FK_ONCE 0x08 /* EPOLLONESHOT */
#define FK_MAIN 0x10 /* is registered there */
#define FK_WOUT 0x20 /* the epoll for WRITE beside it: writable */
#define FK_WEDGE 0x40
#define FK_WONCE 0x80
#define FK_WRITER 0x100 /* is registered there */

#define FN_SHUT_WR 0x01 /* shutdown(SHUT_WR) was called on it */
#define FN_OBJECTS 0x02 /* there are objects of it, or were: see f_isfd */
#define FN_SHUT_ASKED 0x04 /* it is known whether that was so before */

/* -- knotes of the other filters ------------------------------------------- */

/*
 * An object is a knote found by (filter, ident) in the queue's hash, and by
 * its index, which does not change while it lives.
 */
struct object {
	struct knote o_knote;
	union {
		uintptr_t o_ident;
		uint32_t o_before; /* in the free list */
	};
	int64_t o_data; /* USER: data; SIGNAL: count already returned;
	                   TIMER: period in ns, 0 if it fires once */
	union {
		uint64_t o_deadline; /* TIMER: next expiry, ns of its clock */
		void *o_state;       /* what another filter keeps of it */
	};
	uint64_t *o_ext; /* four words, or NULL */
	uint32_t o_gen;  /* 28 bits */
	uint32_t o_index;
	uint32_t o_next; /* in the hash chain, or free list */
	int16_t o_filter;
	uint8_t o_clock; /* TIMER: enum kqclock */
} __attribute__((aligned(64)));

enum kqclock { CLOCK_UPTIME, CLOCK_WALL }; /* MONOTONIC, REALTIME */

/* -- tags: what epoll gives back ------------------------------------------- */

enum tagkind {
	TAG_FD,     /* index: descriptor number */
	TAG_OBJECT, /* index: object */
	TAG_WAKE,   /* the eventfd of the ready FIFO */
	TAG_TIMER,  /* index: enum kqclock */
	TAG_WRITER, /* the epoll for WRITE */
	TAG_SIGNAL, /* a signal was counted, or may be pending */
	TAG_INOTIFY
};

#define GEN_MASK 0x0fffffffu

static inline uint64_t
tag_make(enum tagkind kind, uint32_t gen, uint32_t index)
{
	return (uint64_t)kind << 60 | (uint64_t)(gen & GEN_MASK) << 32 | index;
}

#define TAG_KIND(tag) ((enum tagkind)((tag) >> 60))
#define TAG_GEN(tag) ((uint32_t)((tag) >> 32) & GEN_MASK)
#define TAG_INDEX(tag) ((uint32_t)(tag))

/* -- the ready FIFO -------------------------------------------------------- */

struct ready {            /* a knote that stands in it */
	uint32_t r_index; /* descriptor number or object */
	uint32_t r_gen;
	int16_t r_filter;
};

struct fifo {
	uint32_t f_head, f_tail; /* run freely; tail - head entries */
	struct ready *f_ring;
	uint32_t f_size;     /* a power of two, or 0 */
	uint32_t f_reserved; /* knotes that have a place reserved */
};

/* -- the queue ------------------------------------------------------------- */

/* What each call needs comes first and is one line of the cache. */
struct kqueue {
	struct lock q_lock;
	uint32_t q_life;         /* odd: open; grows at open and close */
	int q_epoll;             /* epoll, by a number of our own */
	uint32_t q_deferred;     /* changes kept by defer.c */
	struct fdnote **q_pages; /* by descriptor / FDPAGE */
	uint32_t q_npages;
	uint32_t q_waiters; /* threads in epoll_wait, while threaded */
	uint64_t q_signals; /* signals watched: bit (signo - 1) */
	uint16_t q_turn;    /* numbers the collections */
	bool q_armed;       /* invariant 4 */
	bool q_shared;      /* two threads have waited at once */
	bool q_continues;   /* the turn did not end with the call */
	struct fifo q_ready;

	struct object **q_slabs; /* by index / OBJSLAB */
	uint32_t q_nslabs, q_nobjects, q_freeobject;
	uint32_t *q_hash;    /* heads of chains, NO_OBJECT: empty */
	uint32_t q_hashsize; /* a power of two, or 0 */
	uint32_t q_hashed;   /* objects in it: those that are not at home */

	struct timers q_timers[2]; /* by enum kqclock */
	uint64_t q_timer_at[2];    /* what the timerfd is set to, or NEVER */
	uint64_t q_now[2];         /* in a list: its time, 0 until asked for */
	bool q_in_list;            /* changes are made that have one time */

	struct inode **q_inodes; /* chains by watch descriptor */
	uint32_t q_inodechains;  /* a power of two, or 0 */
	uint32_t q_ninodes;

	int q_wake;              /* eventfd */
	int q_writer;            /* second epoll, for WRITE; -1 until needed */
	int q_timerfd[2];        /* by enum kqclock; -1 until needed */
	int q_signalfd;          /* -1 until needed */
	int q_inotify;           /* -1 until needed */
	uint32_t q_slot;         /* its place in queues[] */
	uint32_t q_names;        /* descriptors that name it */
	uint64_t q_lost;         /* a tag that named nothing, see repair.c */
	bool q_rechecking;       /* recheck.c: its timer runs */
	uint16_t q_recheck_turn; /* when it fired last */
	uint32_t q_recheck_ns;   /* and how long it ran */
	struct empty *q_empties; /* EMPTY knotes that recheck.c looks at */
} __attribute__((aligned(64)));

#define NO_OBJECT UINT32_MAX

/* -- filters of objects ---------------------------------------------------- */

/*
 * All functions are called with the lock held.
 */
struct filter {
	/*
	 * A new knote; o_knote, o_ident and o_filter are set, the rest is 0.
	 * An errno value refuses it; then nothing may be left behind.
	 */
	int (
	    *f_attach)(struct kqueue *, struct object *, const struct kevent *);
	/* The knote goes: EV_DELETE, one-shot, or the queue closes. */
	void (*f_detach)(struct kqueue *, struct object *);
	/*
	 * EV_ADD or another change of a knote that exists; udata has been
	 * dealt with, the rest of the change is the filter's.  An errno value
	 * refuses the change.
	 */
	int (*f_touch)(struct kqueue *, struct object *, const struct kevent *);
	/* Is there something to report?  Asked after attach, touch, enable. */
	bool (*f_active)(struct kqueue *, struct object *);
	/*
	 * Fill in fflags, data and flags (EV_EOF, EV_ONESHOT; the stored modes
	 * are there already) of an active knote; false: there is nothing after
	 * all.  Afterwards, with EV_CLEAR, the state starts anew, and
	 * KN_ACTIVE is cleared by the filter; without it stays.
	 */
	bool (*f_report)(struct kqueue *, struct object *, struct kevent *);
	/*
	 * With f_isfd: does the number still name what the knote was made for?
	 * Asked when a close() may have been missed.
	 */
	bool (*f_same)(struct kqueue *, struct object *);
	/*
	 * The epoll reported a descriptor that has the knote's TAG_OBJECT.  The
	 * filter may free the knote.  NULL: it registers no descriptor.
	 */
	void (*f_event)(struct kqueue *, struct object *);
	/* Register it: the queue has a new epoll.  0 or an errno value. */
	int (*f_watch)(struct kqueue *, struct object *);
	uint8_t f_forced; /* EV_CLEAR where the filter implies it */
	/*
	 * The ident is a descriptor: the knote goes when that is closed.  Then
	 * f_attach returns EBADF for one that is not open, and f_detach does
	 * not use the number, which may be closed already.
	 */
	bool f_isfd;
};

extern const struct filter filter_empty;   /* filter_empty.c */
extern const struct filter filter_except;  /* filter_except.c */
extern const struct filter filter_fs;      /* filter_fs.c */
extern const struct filter filter_proc;    /* filter_proc.c */
extern const struct filter filter_procdesc;
extern const struct filter filter_timer;   /* filter_timer.c */
extern const struct filter filter_user;    /* filter_user.c */
extern const struct filter filter_signal;  /* filter_signal.c */
extern const struct filter filter_vnode;   /* filter_vnode.c */
extern const struct filter filter_recheck; /* recheck.c */
extern const struct filter filter_side;    /* side.c */
extern const struct filter filter_track;   /* track.c */

/* Filters of our own objects, which no program can name. */
#define FILTER_RECHECK 0
#define FILTER_SIDE 1
#define FILTER_TRACK 2

/* -- kqueue.c: queues and their names -------------------------------------- */

/* By descriptor number: the queue that it names, or NULL. */
extern struct kqueue **kqueue_names;
extern uint32_t kqueue_nnames; /* numbers there can be */

/*
 * The open queue that the number names, and its life; or NULL.  The name is
 * read twice: closed in between, the queue may be open again by another one.
 */
static inline struct kqueue *
kqueue_named(int fd, uint32_t *life)
{
	struct kqueue *q;

	if ((uint32_t)fd >= __atomic_load_n(&kqueue_nnames, __ATOMIC_ACQUIRE))
		return NULL;
	if ((q = __atomic_load_n(&kqueue_names[fd], __ATOMIC_ACQUIRE)) == NULL)
		return NULL;
	*life = __atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE);
	if (__atomic_load_n(&kqueue_names[fd], __ATOMIC_RELAXED) != q)
		return NULL;
	return *life & 1 ? q : NULL;
}

/*
 * The queue that the descriptor names, a dup of one included.  NULL with
 * errno: EBADF (not open), EINVAL (no queue of this process).
 */
SELDOM struct kqueue *kqueue_find_slow(int fd);

static inline struct kqueue *
kqueue_find(int fd, uint32_t *life)
{
	struct kqueue *q;

	if (process_is_owner() && (q = kqueue_named(fd, life)) != NULL)
		return q;
	return kqueue_find_slow(fd);
}

/* The open queue in a slot of the table of all queues, or NULL. */
struct kqueue *kqueue_at(uint32_t slot);
uint32_t kqueue_slots(void); /* slots in use are below this */

bool kqueue_is_name(int fd);

/* from was copied to to: if it names a queue, to does as well. */
void kqueue_name(int from, int to);
/* The number is about to be closed: if it names a queue, no longer. */
void kqueue_unname(int fd);
/* The same in a child that has memory of its own, and no queue yet. */
void kqueue_forget(int fd);
/* Every number that names the queue names the file of fd now. */
void kqueue_replace(struct kqueue *, int fd);
/* In a forked child: no queue of the parent's is ours. */
void kqueue_fork_child(void);

/* A thread enters and leaves epoll_wait; alone, it is not counted. */
void queue_enter_slow(struct kqueue *);
void queue_leave_slow(struct kqueue *);

static inline bool
queue_enter(struct kqueue *q)
{
	if (process_single_threaded())
		return false;
	queue_enter_slow(q);
	return true;
}

static inline void
queue_leave(struct kqueue *q, bool entered)
{
	if (entered)
		queue_leave_slow(q);
}

/*
 * Put a descriptor of the library's own in the main epoll.  All of them are
 * close-on-exec and closed with the queue.  0, or ENOMEM.
 */
int queue_watch(struct kqueue *, int fd, uint32_t events, uint64_t tag);

/*
 * A number out of the way of the program's, which expects to see few.
 * Consumes fd; -1 stays -1 with errno.
 */
int fd_move_high(int fd);
/* close() without being noticed: the library's own descriptors. */
void fd_close(int fd);

/* -- change.c: one entry of a change list ---------------------------------- */

/* With the lock held. */
int change_apply(struct kqueue *, const struct kevent *);

/* -- collect.c: what to return, see turn.h as well ------------------------- */

/* Events that the queue of a descriptor holds, for a queue that watches it. */
int collect_count(int fd, bool look);

/* -- ready.c --------------------------------------------------------------- */

/* Room for one more knote that may stand in the FIFO; 0 or ENOMEM. */
int ready_reserve(struct kqueue *);
void ready_release(struct kqueue *);

enum place {
	PLACE_RESERVED, /* by ready_reserve(): cannot fail */
	PLACE_SPARE     /* ENOMEM is possible */
};

/* Mark the knote active and put it in the FIFO, unless it stands there. */
int ready_push(struct kqueue *, struct knote *, int filter, uint32_t index,
    uint32_t gen, enum place);
/* Take the next entry that is still a knote's; NULL: none before the mark. */
struct knote *ready_pop(struct kqueue *, uint32_t mark, struct ready *);
/* Knotes that stand in it, are enabled and, as far as known, active. */
uint32_t ready_count(struct kqueue *);
void ready_fini(struct kqueue *);

static inline bool
ready_empty(const struct kqueue *q)
{
	return __atomic_load_n(&q->q_ready.f_tail, __ATOMIC_RELAXED) ==
	    __atomic_load_n(&q->q_ready.f_head, __ATOMIC_RELAXED);
}

/* Read without the lock as well, which alone changes it. */
static inline uint64_t
queue_signals(const struct kqueue *q)
{
	return __atomic_load_n(&q->q_signals, __ATOMIC_RELAXED);
}

/* -- the lock of a queue --------------------------------------------------- */

/*
 * A handler that interrupted its own thread inside a queue must not wait for
 * another one: who holds that may be waiting for this one in the same way.
 */
lock_may_wait_fn queue_may_wait;

/*
 * Take the lock of a queue that is still in the given life.  EBADF: it has
 * been closed; EDEADLK: this thread holds the lock, or that of another queue
 * and may not wait: we are in a handler.
 */
static inline int
queue_lock(struct kqueue *q, uint32_t life)
{
	if (lock_take_if(&q->q_lock, queue_may_wait) != LOCK_TAKEN)
		return EDEADLK;
	if (q->q_life == life)
		return 0;
	lock_drop(&q->q_lock);
	return EBADF;
}

/* Drop the lock, owing invariant 4: whoever calls comes back at once. */
static inline void
queue_unlock_owing(struct kqueue *q)
{
	lock_drop(&q->q_lock);
}

static inline bool
queue_has_deferred(const struct kqueue *q)
{
	return __atomic_load_n(&q->q_deferred, __ATOMIC_SEQ_CST) != 0;
}

/* Drop the lock; first see to invariant 4 and to what handlers deferred. */
SELDOM void queue_unlock_slow(struct kqueue *);

static inline void
queue_unlock(struct kqueue *q)
{
	if (queue_has_deferred(q) || (!ready_empty(q) && !q->q_armed)) {
		queue_unlock_slow(q);
		return;
	}
	lock_drop(&q->q_lock);
	/*
	 * A handler came between the look and the drop.  Who has the lock now
	 * will look, too.
	 */
	if (queue_has_deferred(q) &&
	    lock_take_if(&q->q_lock, queue_may_wait) == LOCK_TAKEN)
		queue_unlock_slow(q);
}

/* -- object.c -------------------------------------------------------------- */

/* The filter's functions, or NULL if there is no such filter. */
const struct filter *object_filter(int filter);

struct object *object_find(struct kqueue *, int filter, uintptr_t ident);
struct object *object_at(struct kqueue *, uint32_t index);
int object_new(struct kqueue *, int filter, uintptr_t ident, struct object **);
/*
 * A change of this key comes soon, and sooner: have the processor fetch what
 * will be looked at.  With a million of them each look is a cache miss.
 */
void object_fetch_early(const struct kqueue *, int filter, uintptr_t ident);
void object_fetch(const struct kqueue *, int filter, uintptr_t ident);
/* Free it; the filter never had it, or has let go of it. */
void object_discard(struct kqueue *, struct object *);
/* Detach it from its filter and free it. */
void object_free(struct kqueue *, struct object *);
void object_free_all(struct kqueue *);

/* Free those of a descriptor: all, or those it is no more the same for. */
void object_purge(struct kqueue *, int fd);
void object_verify(struct kqueue *, int fd);

/*
 * The filter saw something happen: mark the knote active and, if it is
 * enabled, put it in the FIFO.
 */
void object_activate(struct kqueue *, struct object *);

/* The epoll reported a descriptor with the tag of an object. */
void object_event(struct kqueue *, uint64_t tag);
/* After the epoll was replaced by an empty one. */
void object_watch_all(struct kqueue *);

/* -- descriptor.c: READ and WRITE knotes, what the kernel watches for them - */

/* The slot of a descriptor; NULL if there has never been a knote. */
static inline struct fdnote *
descriptor_find(const struct kqueue *q, int fd)
{
	uint32_t page = (uint32_t)fd / FDPAGE;

	if (page >= q->q_npages || q->q_pages[page] == NULL)
		return NULL;
	return &q->q_pages[page][(uint32_t)fd % FDPAGE];
}

/* The next slot at or after *fd, which becomes its number; NULL: no more. */
struct fdnote *descriptor_next(struct kqueue *, int *fd);
/* The same for a tag or FIFO entry: NULL if the generation is another. */
struct fdnote *descriptor_tagged(struct kqueue *, int fd, uint32_t gen);

/* There will be an object of it; 0, EBADF or ENOMEM. */
int descriptor_mark(struct kqueue *, int fd);
/* EV_ADD of a new knote.  On failure nothing is left of it. */
int descriptor_attach(struct kqueue *, int fd, int which,
    const struct kevent *);
/* Replace fflags and data by those of a change. */
int descriptor_set(struct kqueue *, struct fdnote *, int which,
    const struct kevent *);
/* The knote was changed or enabled: look again. */
int descriptor_touch(struct kqueue *, int fd, struct fdnote *, int which);
/* EV_FORCEONESHOT: it is active whatever the filter says. */
int descriptor_force(struct kqueue *, struct fdnote *, int which);
/* See to it that the kernel watches what it wants. */
SELDOM void descriptor_relook(struct kqueue *, int fd, struct fdnote *,
    int which);
/*
 * Put it in the FIFO, which will ask the filter; if need be, the kernel will.
 */
SELDOM void descriptor_push(struct kqueue *, int fd, struct fdnote *,
    int which);
void descriptor_detach(struct kqueue *, int fd, struct fdnote *, int which);
/* The kernel reported a mask no knote wants: watch only what they want. */
SELDOM void descriptor_narrow(struct kqueue *, int fd, struct fdnote *,
    uint32_t mask);
/* The number is about to name something else. */
void descriptor_purge(struct kqueue *, int fd);
/* The program did something to it that the kernel tells nobody. */
void descriptor_event(struct kqueue *, int fd, enum watch_event);
/* After the epolls were replaced by empty ones. */
void descriptor_register_all(struct kqueue *);
/* Let the kernel look again at all that it watches. */
void descriptor_rearm_all(struct kqueue *);
/* Purge if the kernel says that the number names something else already. */
SELDOM void descriptor_verify(struct kqueue *, int fd);
/* A close() of it may have been missed: verify before trusting a knote. */
bool descriptor_suspect_slow(int fd);

static inline bool
descriptor_suspect(int fd)
{
	return __atomic_load_n(&watch_suspicious, __ATOMIC_RELAXED) &&
	    descriptor_suspect_slow(fd);
}

/*
 * The kernel watches it as it should, level-triggered: what nearly every change
 * finds.
 */
static inline bool
descriptor_is_level(const struct kqueue *q, const struct fdnote *fn, int which)
{
	const struct knote *kn = &fn->fn_knote[which];
	uint16_t bit = which == FN_READ ? FK_IN : FK_OUT;

	return (fn->fn_kernel & (bit | FK_EDGE | FK_ONCE)) == bit &&
	    (kn->kn_flags & EV_CLEAR) == 0 &&
	    (kn->kn_status & (KN_GATED | KN_NEVER | KN_FORCED)) == 0 &&
	    !(knote_is_once(kn) &&
		__atomic_load_n(&q->q_shared, __ATOMIC_RELAXED)) &&
	    !process_strict;
}
void descriptor_free_all(struct kqueue *);

/* -- source.c: what a descriptor is, and what it has to say ---------------- */

/*
 * Of one that epoll takes, and of one that it refuses.  The mode alone does not
 * tell: message queues and some files of /proc are regular, and are taken.
 */
enum fdtype source_type(int fd);
enum fdtype source_type_refused(int fd);
/* What poll() says of it now, as epoll would: EPOLL* bits are POLL* bits. */
uint32_t source_poll(int fd, uint32_t events);

/*
 * A new or changed knote: what is the descriptor, must it be gated, can it ever
 * fire?
 */
void source_attach(int fd, struct fdnote *, int which);
/* May a new one be attached to what that has found?  0 or an errno value. */
int source_refuses(int fd, const struct fdnote *, int which);

/*
 * What to return of a READ or WRITE knote, given the kernel's event mask.
 * Sets KN_GATED and KN_NEVER as the descriptor turns out to be.
 */
enum verdict {
	SILENT, /* nothing to report */
	REPORT,
	REPORT_EOF
};
enum verdict source_verdict(int fd, struct fdnote *, int which, uint32_t mask);

/*
 * Fill in data and fflags of n events that are about to be returned, with the
 * lock not held.  Those that have nothing to report after all go: somebody else
 * was faster.  Returns how many are left.
 */
int source_fill(struct kevent *, int n);

int64_t source_file(int fd); /* size - offset */
/* What is wrong with it, as far as can be told without taking the error. */
unsigned int source_error(int fd, enum fdtype);

/* -- diag.c ---------------------------------------------------------------- */

/* Connections that wait to be accepted; TCP: -1 if it is none that listens. */
int64_t diag_tcp_backlog(int fd);
int64_t diag_unix_backlog(int fd);
bool diag_is_shut_wr(int fd); /* a UNIX socket */

/* -- defer.c: changes made in a handler that interrupted its own thread ---- */

/* Keep a change until the queue's lock is dropped; 0 or ENOMEM. */
int defer_change(struct kqueue *, const struct kevent *);
/* Apply what has been kept; with the lock held. */
void defer_apply(struct kqueue *);
/* Drop what has been kept for the queue of that memory before this one. */
void defer_forget(struct kqueue *);

/* -- file.c: regular files and directories, which epoll refuses ------------ */

int file_attach(struct kqueue *, int fd, struct fdnote *);
void file_detach(struct kqueue *, struct fdnote *);
void file_changed(struct kqueue *, int fd);

/* -- filter_vnode.c -------------------------------------------------------- */

struct stat;

/* Is this what fstat() says of the file that it watches? */
bool vnode_is(const struct object *, const struct stat *);
/* For a moment nobody watched it. */
void vnode_watched_again(struct kqueue *, struct object *);
/* named: it happened to a name in the directory. */
void vnode_event(struct kqueue *, struct object *, uint32_t event, bool named);
/* A directory may have been removed. */
void vnode_parent_event(struct kqueue *, struct object *);
/* Events were lost: look what has changed. */
void vnode_rescan(struct kqueue *, struct object *);

/* -- filter_timer.c -------------------------------------------------------- */

/* A clock's timerfd fired: activate what is due, set it again. */
void timer_expire(struct kqueue *, enum kqclock);
void timer_close(struct kqueue *);

/* An object of another filter that wants to be activated after some time. */
int timer_hold(struct kqueue *, struct object *);
void timer_release(struct kqueue *, struct object *);
void timer_start(struct kqueue *, struct object *, uint64_t ns);

/* -- repair.c: registrations that nobody can remove any more --------------- */

/* Give the queue a new epoll, with what is known and nothing else. */
SELDOM void repair(struct kqueue *);
/* Edges were taken from the epoll and are lost: have them reported again. */
void repair_edges(struct kqueue *);

/* -- filter_empty.c -------------------------------------------------------- */

/* Look again at those that no edge tells of. */
void empty_recheck(struct kqueue *);

/* -- recheck.c: conditions of which the kernel sends no edge --------------- */

/* Before there is a knote that may need it. */
int recheck_open(struct kqueue *);
/* A WRITE knote with NOTE_LOWAT was found with too little space. */
SELDOM void recheck_later(struct kqueue *);

/* -- filter_signal.c and signals.c ----------------------------------------- */

/*
 * The handler that counts signals takes no lock: it adds to a total and writes
 * to an eventfd of the signal's own, which stands in the epoll of each queue
 * that watches.
 */
/* With every turn of a queue whose q_signals is not 0. */
void signal_collect(struct kqueue *);
/*
 * An edge: a signal was counted, or one that all threads block is pending (0).
 */
void signal_pending(struct kqueue *, int signo);
/*
 * epoll_wait() was interrupted in this thread: true if, since the wait began,
 * nothing but signals that the program ignores was caught, so that the caller
 * waits on.
 */
void signal_wait_begin(void);
bool signal_only_ignored(void);
/* The program may have caught a signal: it has a handler for one, or had. */
bool signal_has_handlers(void);
/* There may be signals that could not be looked for: wait for a moment only. */
bool signal_blind(const struct kqueue *);
/* In a forked child: the program's own dispositions again, nothing watched. */
void signal_fork_child(void);

#endif
