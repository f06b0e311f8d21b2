/*
 * collect.c: wait, and gather what is to be returned.
 *
 *	FIFO ----> events[] <---- epoll_wait
 *		      |
 *		data and fflags, unlocked
 *
 * One turn: what stands in the FIFO, then what epoll has, which may bring more
 * into the FIFO (a timer, a signal, a trigger).  No knote is returned twice in
 * a turn.  When events[] is full and the FIFO has more, the next call goes on
 * with the same turn, and who has had his is passed over until all have: so
 * neither source starves the other (R-ORD-02).  A turn whose knotes all prove
 * to have nothing is followed by another: kevent() does not return early
 * (R-MODE-02).
 *
 * Until its data is filled in, the event of a descriptor carries in `data` the
 * kernel's mask and the descriptor's type, in fflags those of the knote.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "process.h"

#define BATCH 256 /* of epoll_wait */
#define VAIN 4    /* rounds without an event before we look at the time */
#define HINT(mask, type, forced)                                               \
	((int64_t)((uint64_t)(mask) | (uint64_t)(type) << 32 |                 \
	    (uint64_t)(forced) << 40))
#define HINT_FORCED ((int64_t)1 << 40)

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
	uint32_t t_onced; /* q_onced when the wait began */
};

static const int16_t
    filters[] = { [FN_READ] = EVFILT_READ, [FN_WRITE] = EVFILT_WRITE };

/* -- one event ------------------------------------------------------------- */

static struct kevent *
store(struct turn *t, const struct knote *kn, uintptr_t ident, int filter,
    const uint64_t *ext)
{
	struct kevent *ev = &t->t_events[t->t_stored++];

	ev->ident = ident;
	ev->filter = (short)filter;
	ev->flags = kn->kn_flags;
	ev->fflags = kn->kn_fflags;
	ev->data = 0;
	ev->udata = kn->kn_udata;
	if (ext != NULL)
		memcpy(ev->ext, ext, sizeof(ev->ext));
	else
		memset(ev->ext, 0, sizeof(ev->ext));
	return ev;
}

/* Returned in this turn, or in this call by the turn that ended in it. */
static bool
had_turn(struct turn *t, const struct knote *kn, uintptr_t ident, int filter)
{
	const struct kevent *ev = t->t_events;
	bool had = kn->kn_turn == t->t_number;
	int i;

	for (i = 0; i < t->t_earlier && !had; i++)
		had = ev[i].ident == ident && ev[i].filter == filter;
	t->t_skipped |= had;
	return had;
}

/* Its modes at work: true if the knote is enabled still. */
static bool
returned(struct turn *t, struct knote *kn)
{
	kn->kn_turn = t->t_number;
	if (kn->kn_flags & EV_DISPATCH)
		kn->kn_status |= KN_DISABLED;
	return (kn->kn_flags & (EV_ONESHOT | EV_DISPATCH)) == 0;
}

/* -- READ and WRITE -------------------------------------------------------- */

/* The kernel will report it again and again, and the FIFO does not. */
static bool
is_plain(const struct fdnote *fn, const struct knote *kn)
{
	return (kn->kn_flags & EV_CLEAR) == 0 &&
	    (kn->kn_status & (KN_GATED | KN_QUEUED)) == 0 &&
	    (fn->fn_kernel & (FK_ONCE | FK_WONCE)) == 0;
}

/*
 * An edge of what is in events[] already, from the FIFO: that event's data, not
 * filled in yet, will include it.
 */
static bool
merge(struct turn *t, uintptr_t ident, int filter, enum verdict verdict,
    uint32_t mask)
{
	struct kevent *ev = t->t_events, *end = ev + t->t_stored;

	for (; ev < end; ev++)
		if (ev->ident == ident && ev->filter == filter) {
			ev->data |= mask;
			if (verdict == REPORT_EOF)
				ev->flags |= EV_EOF;
			return true;
		}
	return false;
}

/* It goes into events[] if there is room, else it waits in the FIFO. */
static void
report_descriptor(struct turn *t, int fd, struct fdnote *fn, int which,
    enum verdict verdict, uint32_t mask)
{
	struct kqueue *q = t->t_queue;
	struct knote *kn = &fn->fn_knote[which];
	bool forced = (kn->kn_status & (KN_FORCED | KN_GATED)) != 0;
	struct kevent *ev;

	if (had_turn(t, kn, (uintptr_t)fd, filters[which])) {
		/* A level is there to be found again; an edge is not. */
		if (((kn->kn_flags & EV_CLEAR) || (kn->kn_status & KN_GATED)) &&
		    !merge(t, (uintptr_t)fd, filters[which], verdict, mask))
			descriptor_push(q, fd, fn, which);
		return;
	}
	if (t->t_counts && is_plain(fn, kn)) {
		t->t_stored++;
		return;
	}
	if (t->t_stored == t->t_room || t->t_counts) {
		if (t->t_all && is_plain(fn, kn))
			t->t_passed = true;
		else
			descriptor_push(q, fd, fn, which);
		return;
	}
	ev = store(t, kn, (uintptr_t)fd, filters[which],
	    fn->fn_extra != NULL ? fn->fn_extra->fx_ext[which] : NULL);
	if (verdict == REPORT_EOF)
		ev->flags |= EV_EOF;
	ev->data = HINT(mask, fn->fn_type, forced);
	kn->kn_status &= (uint8_t) ~(KN_ACTIVE | KN_FORCED);
	if (returned(t, kn) && (kn->kn_status & KN_GATED) != 0 &&
	    (kn->kn_flags & EV_CLEAR) == 0)
		descriptor_push(q, fd, fn, which);
	else if (kn->kn_flags & EV_ONESHOT)
		descriptor_detach(q, fd, fn, which);
}

/* The other knote may go to the other epoll, and is to be found there. */
static void
narrow(struct turn *t, int fd, struct fdnote *fn)
{
	descriptor_narrow(t->t_queue, fd, fn);
	t->t_moved = true;
}

static enum verdict
ask(struct turn *t, int fd, struct fdnote *fn, int which, uint32_t mask)
{
	struct knote *kn = &fn->fn_knote[which];
	uint8_t before = kn->kn_status;
	enum verdict verdict;

	verdict = source_verdict(fd, fn, which, mask);
	if (verdict == SILENT && which == FN_WRITE &&
	    (kn->kn_status & KN_GATED) && (kn->kn_fflags & NOTE_LOWAT))
		recheck_later(t->t_queue);
	/* Gated now, or no longer: the kernel must watch it another way. */
	if ((before ^ kn->kn_status) & (KN_GATED | KN_NEVER))
		narrow(t, fd, fn);
	return verdict;
}

/*
 * The mask was true when the kernel said so.  Another thread may have been told
 * the same, have read all there was, and have enabled or added the knote again;
 * EPOLLONESHOT alone excludes that, if the registration had it when the wait
 * began.
 */
static uint32_t
still_true(struct turn *t, int fd, const struct fdnote *fn, int which,
    uint32_t mask)
{
	const uint16_t once = which == FN_READ ? FK_ONCE : FK_ONCE | FK_WONCE;
	const uint16_t modes = EV_ONESHOT | EV_DISPATCH;
	const struct kqueue *q = t->t_queue;

	if ((fn->fn_knote[which].kn_flags & modes) == 0 ||
	    !__atomic_load_n(&q->q_shared, __ATOMIC_RELAXED) ||
	    ((fn->fn_kernel & once) != 0 && t->t_onced == q->q_onced))
		return mask;
	return mask & source_poll(fd, mask);
}

/* The kernel says so: is there a knote that wants it? */
static bool
offer(struct turn *t, int fd, struct fdnote *fn, int which, uint32_t mask)
{
	struct knote *kn = &fn->fn_knote[which];
	enum verdict verdict;

	if (!knote_enabled(kn) || (kn->kn_status & KN_NEVER))
		return false;
	mask = still_true(t, fd, fn, which, mask);
	verdict = ask(t, fd, fn, which, mask);
	if (verdict != SILENT)
		report_descriptor(t, fd, fn, which, verdict, mask);
	return true;
}

/*
 * A tag of former times.  Once, and it was on its way while its number was
 * closed; the same one again, and it will come for ever.
 */
static SELDOM void
lost(struct kqueue *q, uint64_t tag)
{
	bool again = q->q_lost == tag;

	q->q_lost = tag;
	if (again)
		repair(q);
}

static void
take_descriptor(struct turn *t, const struct epoll_event *e, bool writer)
{
	const uint32_t unasked = EPOLLHUP | EPOLLERR;
	int fd = (int)TAG_INDEX(e->data.u64);
	struct fdnote *fn;
	bool wanted = false, once;

	if (process_strict)
		descriptor_verify(t->t_queue, fd);
	fn = descriptor_tagged(t->t_queue, fd, TAG_GEN(e->data.u64));
	if (fn == NULL) {
		lost(t->t_queue, e->data.u64);
		return;
	}
	if (writer) {
		if ((once = (fn->fn_kernel & FK_WONCE) != 0))
			fn->fn_kernel &= (uint16_t)~FK_WOUT;
		wanted = offer(t, fd, fn, FN_WRITE, e->events);
	} else {
		uint16_t kernel = fn->fn_kernel;

		if ((once = (kernel & FK_ONCE) != 0))
			fn->fn_kernel &= (uint16_t) ~(FK_IN | FK_OUT);
		if (e->events & (EPOLLIN | EPOLLRDHUP | unasked))
			wanted = offer(t, fd, fn, FN_READ, e->events);
		if ((kernel & FK_OUT) && (e->events & (EPOLLOUT | unasked)))
			wanted |= offer(t, fd, fn, FN_WRITE, e->events);
	}
	if (!wanted) {
		narrow(t, fd, fn);
	} else if (once) {
		/* The kernel has let go of what is waited for still, too. */
		descriptor_relook(t->t_queue, fd, fn, FN_READ);
		descriptor_relook(t->t_queue, fd, fn, FN_WRITE);
	}
}

static enum verdict
unpollable_verdict(int fd, const struct fdnote *fn, int which)
{
	if (which == FN_WRITE || fn->fn_type == FD_DEVICE ||
	    (fn->fn_knote[which].kn_fflags & (NOTE_FILE_POLL | NOTE_EOF)))
		return REPORT;
	return source_file(fd) != 0 ? REPORT : SILENT;
}

/* A knote that stood in the FIFO: nothing is known of it but that it may be. */
static void
ready_descriptor(struct turn *t, int fd, struct fdnote *fn, int which)
{
	struct kqueue *q = t->t_queue;
	struct knote *kn = &fn->fn_knote[which];
	bool unpollable = fn->fn_type == FD_FILE || fn->fn_type == FD_DEVICE;
	enum verdict verdict;
	uint32_t mask = 0;

	/* The place of one that has gone, or the kernel was asked again. */
	if ((kn->kn_status & (KN_ACTIVE | KN_FORCED)) == 0)
		return;
	kn->kn_status &= (uint8_t)~KN_ACTIVE;
	if (!knote_enabled(kn))
		return;
	if (unpollable) {
		verdict = unpollable_verdict(fd, fn, which);
	} else {
		mask = source_poll(fd,
		    which == FN_READ ? EPOLLIN | EPOLLRDHUP : EPOLLOUT);
		verdict = ask(t, fd, fn, which, mask);
	}
	if (kn->kn_status & KN_FORCED)
		verdict = verdict == SILENT ? REPORT : verdict;
	if (verdict != SILENT)
		report_descriptor(t, fd, fn, which, verdict, mask);
	if (!knote_enabled(kn) || (kn->kn_flags & EV_CLEAR))
		return;
	/* Level: its next event comes from here, or from the kernel. */
	if (verdict != SILENT && (unpollable || mask == 0))
		descriptor_push(q, fd, fn, which);
	else if (!unpollable)
		descriptor_relook(q, fd, fn, which);
}

/* -- the other filters ----------------------------------------------------- */

static void
ready_object(struct turn *t, struct object *o)
{
	struct knote *kn = &o->o_knote;
	const struct filter *f = object_filter(o->o_filter);
	struct kqueue *q = t->t_queue;
	struct kevent *ev;

	if (!knote_enabled(kn) ||
	    (kn->kn_status & (KN_ACTIVE | KN_FORCED)) == 0)
		return;
	if (f->f_isfd && descriptor_suspect((int)o->o_ident) &&
	    !f->f_same(q, o)) {
		object_free(q, o);
		return;
	}
	if (had_turn(t, kn, o->o_ident, o->o_filter)) {
		object_activate(q, o);
		return;
	}
	ev = store(t, kn, o->o_ident, o->o_filter, o->o_ext);
	if (!f->f_report(q, o, ev) && (kn->kn_status & KN_FORCED) == 0) {
		kn->kn_status &= (uint8_t)~KN_ACTIVE;
		t->t_stored--;
		return;
	}
	kn->kn_status &= (uint8_t)~KN_FORCED;
	if ((kn->kn_flags | ev->flags) & EV_ONESHOT)
		object_free(q, o);
	else if (returned(t, kn) && (kn->kn_status & KN_ACTIVE))
		object_activate(q, o);
}

static void
take_ready(struct turn *t)
{
	struct kqueue *q = t->t_queue;
	uint32_t mark = q->q_ready.f_tail;
	struct ready r;

	while (t->t_stored < t->t_room && ready_pop(q, mark, &r) != NULL) {
		if (r.r_filter == EVFILT_READ || r.r_filter == EVFILT_WRITE)
			ready_descriptor(t, (int)r.r_index,
			    descriptor_find(q, (int)r.r_index),
			    r.r_filter == EVFILT_WRITE);
		else
			ready_object(t, object_at(q, r.r_index));
	}
}

/* -- what epoll has -------------------------------------------------------- */

static int
poll_epoll(int epfd, struct epoll_event *buf, int max, int timeout_ms)
{
	return (int)syscall(SYS_epoll_pwait, epfd, buf, max, timeout_ms, NULL,
	    _NSIG / 8);
}

static void
take_writers(struct turn *t)
{
	struct epoll_event buf[BATCH];
	int max = t->t_room - t->t_stored, n, i;

	if (t->t_all || max > BATCH)
		max = BATCH;
	else if (max < 1)
		max = 1;
	n = poll_epoll(t->t_queue->q_writer, buf, max, 0);
	t->t_more |= n == max;
	for (i = 0; i < n; i++)
		take_descriptor(t, &buf[i], true);
}

static void
take_event(struct turn *t, const struct epoll_event *e)
{
	struct kqueue *q = t->t_queue;

	switch (TAG_KIND(e->data.u64)) {
	case TAG_FD:
		take_descriptor(t, e, false);
		return;
	case TAG_WRITER:
		take_writers(t);
		return;
	case TAG_WAKE:
		q->q_armed = false;
		break;
	case TAG_TIMER:
		timer_expire(q, (enum kqclock)TAG_INDEX(e->data.u64));
		break;
	case TAG_SIGNAL:
		signal_pending(q, (int)TAG_INDEX(e->data.u64));
		break;
	case TAG_INOTIFY:
		inotify_collect(q);
		break;
	case TAG_OBJECT:
		object_event(q, e->data.u64);
		break;
	}
	t->t_again = true;
}

/* -- waiting --------------------------------------------------------------- */

/* How long is left until the end; 0 if it has passed. */
static const struct timespec *
time_left(const struct timespec *deadline, struct timespec *left)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	left->tv_sec = deadline->tv_sec - now.tv_sec;
	left->tv_nsec = deadline->tv_nsec - now.tv_nsec;
	if (left->tv_nsec < 0) {
		left->tv_sec--;
		left->tv_nsec += 1000000000;
	}
	if (left->tv_sec < 0)
		*left = (struct timespec){ .tv_sec = 0 };
	return left;
}

/* Whole milliseconds, rounded up: never too early. */
static int
to_ms(const struct timespec *ts)
{
	if (ts->tv_sec >= INT_MAX / 1000)
		return INT_MAX;
	return (int)(ts->tv_sec * 1000 + (ts->tv_nsec + 999999) / 1000000);
}

/*
 * Events that the kernel has written into buf while the thread was cancelled
 * are nobody's: UNTOUCHED, which is no tag, tells.
 */
#define UNTOUCHED UINT64_MAX

struct wait {
	const struct turn *w_turn;
	struct epoll_event *w_buf;
};

static SELDOM void
cancelled(void *arg)
{
	struct wait *w = arg;
	struct kqueue *q = w->w_turn->t_queue;

	if (w->w_buf[0].data.u64 != UNTOUCHED &&
	    queue_lock(q, w->w_turn->t_life) == 0) {
		repair_edges(q);
		queue_unlock(q);
	}
	queue_leave(q, true);
}

/* A cancellation point; nobody else can cancel the only thread there is. */
static int
wait_cancel(const struct turn *t, struct epoll_event *buf, int max, int ms)
{
	int epfd = t->t_queue->q_epoll, n;
	struct wait w = { .w_turn = t, .w_buf = buf };

	if (process_single_threaded())
		return epoll_wait(epfd, buf, max, ms);
	buf[0].data.u64 = UNTOUCHED;
	pthread_cleanup_push(cancelled, &w);
	n = epoll_wait(epfd, buf, max, ms);
	pthread_cleanup_pop(0);
	return n;
}

/* epoll_wait() to the nanosecond where Linux has it (5.11). */
static int
wait_epoll(const struct turn *t, struct epoll_event *buf, int max,
    const struct timespec *left)
{
	int epfd = t->t_queue->q_epoll, n;

	if (left == NULL)
		return t->t_cancel ? wait_cancel(t, buf, max, -1) :
				     poll_epoll(epfd, buf, max, -1);
	if (left->tv_sec == 0 && left->tv_nsec == 0)
		return poll_epoll(epfd, buf, max, 0);
#ifdef SYS_epoll_pwait2
	if (left->tv_nsec % 1000000 != 0 || !t->t_cancel) {
		n = (int)syscall(SYS_epoll_pwait2, epfd, buf, max, left, NULL,
		    _NSIG / 8);
		if (n != -1 || errno != ENOSYS)
			return n;
	}
#endif
	return t->t_cancel ? wait_cancel(t, buf, max, to_ms(left)) :
			     poll_epoll(epfd, buf, max, to_ms(left));
}

/* Block, or not, among the threads that may be blocked in this queue. */
static int
enter_wait(struct turn *t, struct epoll_event *buf, int max,
    const struct timespec *left)
{
	struct kqueue *q = t->t_queue;
	bool entered;
	int n;

	entered = queue_enter(q);
	if (__atomic_load_n(&q->q_life, __ATOMIC_SEQ_CST) != t->t_life) {
		n = -1;
		errno = EBADF;
	} else {
		t->t_onced = __atomic_load_n(&q->q_onced, __ATOMIC_ACQUIRE);
		n = wait_epoll(t, buf, max, left);
	}
	queue_leave(q, entered);
	return n;
}

/* -- a turn ---------------------------------------------------------------- */

/* A new turn begins. */
static void
number(struct turn *t)
{
	if (++t->t_queue->q_turn == 0)
		++t->t_queue->q_turn;
	t->t_number = t->t_queue->q_turn;
	t->t_earlier = t->t_stored;
	t->t_skipped = false;
}

/* With no room left, those that had no turn have it in the next call. */
static void
set_continues(struct turn *t)
{
	bool more = t->t_passed || !ready_empty(t->t_queue);

	__atomic_store_n(&t->t_queue->q_continues,
	    t->t_stored == t->t_room && more, __ATOMIC_RELAXED);
}

/* The FIFO's part at the beginning. */
static SELDOM int
begin_ready(struct turn *t)
{
	struct kqueue *q = t->t_queue;
	int error;

	if ((error = queue_lock(q, t->t_life)) != 0)
		return error;
	if ((t->t_inherited = q->q_continues))
		t->t_number = q->q_turn;
	else
		number(t);
	if (queue_signals(q) != 0)
		signal_collect(q);
	t->t_again = t->t_all = true;
	take_ready(t);
	set_continues(t);
	if (t->t_stored == 0 || t->t_stored == t->t_room)
		queue_unlock(q);
	else
		queue_unlock_owing(q);
	return 0;
}

/* With nothing in the FIFO not even a lock is taken. */
static int
begin_turn(struct turn *t)
{
	t->t_stored = t->t_earlier = t->t_number = 0;
	t->t_again = t->t_skipped = t->t_passed = t->t_all = t->t_inherited =
	    false;
	if (ready_empty(t->t_queue) && queue_signals(t->t_queue) == 0 &&
	    !__atomic_load_n(&t->t_queue->q_continues, __ATOMIC_RELAXED))
		return 0;
	return begin_ready(t);
}

/* True in *more: there may be some that epoll did not get to tell of. */
static int
end_turn(struct turn *t, const struct epoll_event *buf, int n, bool *more)
{
	struct kqueue *q = t->t_queue;
	int error, i;

	*more = false;
	if ((error = queue_lock(q, t->t_life)) != 0)
		return error;
	if (t->t_number == 0)
		number(t);
	for (i = 0; i < n; i++)
		take_event(t, &buf[i]);
	if (t->t_again) {
		if (queue_signals(q) != 0)
			signal_collect(q);
		take_ready(t);
	}
	/* All have had their turn: the next one begins within this call. */
	if (t->t_stored < t->t_room && t->t_skipped && t->t_inherited) {
		number(t);
		t->t_inherited = false;
		take_ready(t);
		*more = true;
	}
	set_continues(t);
	queue_unlock(q);
	return 0;
}

/*
 * Fill in what each event has to say.  Those that have nothing after all go:
 * another thread was faster.
 */
static void
fill(struct turn *t)
{
	struct kevent *ev = t->t_events, *to = ev;
	int64_t hint;
	int i;

	for (i = 0; i < t->t_stored; i++, ev++) {
		if (ev->filter == EVFILT_READ || ev->filter == EVFILT_WRITE) {
			hint = ev->data;
			if (!source_data(ev, (enum fdtype)(hint >> 32 & 0xff),
				(uint32_t)hint) &&
			    (hint & HINT_FORCED) == 0)
				continue;
		}
		if (to != ev)
			*to = *ev;
		to++;
	}
	t->t_stored = (int)(to - t->t_events);
}

/*
 * Is there more in epoll?  If all that was asked for came, unless its list has
 * gone round and has come to those that had their turn.  If nothing came that
 * anybody wanted, but not for ever: then we look at the time first.
 */
static bool
goes_on(const struct turn *t, int before, int *vain)
{
	if (t->t_stored > before)
		return t->t_more || t->t_moved;
	if (!t->t_moved && (t->t_skipped || (t->t_stored > 0 && !t->t_more)))
		return false;
	return ++*vain < VAIN;
}

/*
 * Until events[] is full or epoll has no more: an event that nobody wanted
 * makes room for one that somebody does.  While there are knotes to pass over,
 * epoll is asked for all it has, not for as many as there is room.
 */
static int
turn(struct turn *t, const struct timespec *left)
{
	static const struct timespec now;
	struct epoll_event buf[BATCH];
	int max, n, before, error, vain = 0;
	bool more;

	if ((error = begin_turn(t)) != 0)
		return error;
	do {
		max = t->t_room - t->t_stored;
		max = max < BATCH && !t->t_all ? max : BATCH;
		if (t->t_stored > 0 || t->t_skipped)
			left = &now;
		if ((before = t->t_stored) == t->t_room)
			break;
		n = enter_wait(t, buf, max, left);
		t->t_more = n == max;
		t->t_moved = false;
		if (n == -1 && t->t_stored == 0)
			return errno;
		more = false;
		if ((n > 0 || t->t_again) &&
		    (error = end_turn(t, buf, n, &more)) != 0)
			return error;
		left = &now;
		t->t_all = true;
	} while (n > 0 && (more || goes_on(t, before, &vain)));
	fill(t);
	return 0;
}

/*
 * A signal came while nothing was found.  What its handler did, and the signal
 * itself if it is watched, may be an event: look without waiting.
 */
static SELDOM int
interrupted(struct turn *t)
{
	static const struct timespec now;
	bool ignored = signal_only_ignored();
	int error;

	error = turn(t, &now);
	if (error != 0 || t->t_stored > 0)
		return error;
	return ignored ? 0 : EINTR;
}

/* The end of a wait on the monotonic clock; false: it never ends. */
static bool
deadline_of(const struct timespec *timeout, struct timespec *end)
{
	if (timeout == NULL || timeout->tv_sec >= INT_MAX)
		return false;
	clock_gettime(CLOCK_MONOTONIC, end);
	end->tv_sec += timeout->tv_sec;
	end->tv_nsec += timeout->tv_nsec;
	if (end->tv_nsec >= 1000000000) {
		end->tv_sec++;
		end->tv_nsec -= 1000000000;
	}
	return true;
}

int
collect(struct kqueue *q, uint32_t life, struct kevent *events, int nevents,
    const struct timespec *timeout, bool cancel, int *stored)
{
	struct turn t = { .t_queue = q,
		.t_life = life,
		.t_events = events,
		.t_room = nevents,
		.t_cancel = cancel };
	bool poll_only =
	    timeout != NULL && (timeout->tv_sec | timeout->tv_nsec) == 0;
	bool ends = !poll_only && timeout != NULL;
	struct timespec end, left;
	const struct timespec *wait = timeout;
	int error;

	if (queue_signals(q) != 0)
		signal_wait_begin();
	if (ends && !(ends = deadline_of(timeout, &end)))
		wait = NULL;
	for (;;) {
		error = turn(&t, wait);
		if (error == EINTR)
			error = interrupted(&t);
		if (error != 0 || t.t_stored > 0 || poll_only)
			break;
		if (!ends)
			continue;
		wait = time_left(&end, &left);
		if ((left.tv_sec | left.tv_nsec) == 0)
			break;
	}
	*stored = t.t_stored;
	return error;
}

/* -- for a queue that watches this one ------------------------------------- */

/*
 * How many events there are only epoll knows, and it tells by handing them
 * out.  What is level there is there again the next time; the rest goes into
 * the FIFO, as if nobody had had room.
 *
 * That makes the queue readable anew, which a knote with EV_CLEAR would take
 * for news, so for such a one the FIFO alone is counted, and at least one.
 */
int
collect_count(struct kqueue *q, bool look)
{
	struct turn t = { .t_queue = q, .t_counts = true };
	struct epoll_event buf[BATCH];
	int n = 0, i;

	t.t_life = __atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE);
	if (look)
		n = poll_epoll(q->q_epoll, buf, BATCH, 0);
	if (queue_lock(q, t.t_life) != 0)
		return 0;
	number(&t);
	for (i = 0; i < n; i++)
		take_event(&t, &buf[i]);
	if (queue_signals(q) != 0)
		signal_collect(q);
	n = t.t_stored + (int)ready_count(q);
	queue_unlock(q);
	return n != 0 || look ? n : 1;
}
