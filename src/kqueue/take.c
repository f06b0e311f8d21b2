/*
 * take.c: from the FIFO and from epoll into events[], under the lock.
 *
 * Each knote that may have something to report is asked, goes into events[],
 * and its modes do their work.  One for which there is no room waits in the
 * FIFO, or is left to the kernel, which will report it again.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "process.h"
#include "turn.h"

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
	    (kn->kn_status & (KN_GATED | KN_QUEUED | KN_FORCED)) == 0 &&
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
			if (ev->data & HINT_MARK)
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

	if (had_turn(t, kn, (uintptr_t)fd, fn_filter(which))) {
		/*
		 * The kernel finds a level again, but not an edge, nor the
		 * level of a gated knote, which it watches by edges, nor one
		 * that is forced.
		 */
		if (kn->kn_flags & EV_CLEAR ?
			!merge(t, (uintptr_t)fd, fn_filter(which), verdict,
			    mask) :
			forced)
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
	ev = store(t, kn, (uintptr_t)fd, fn_filter(which),
	    fn->fn_extra != NULL ? fn->fn_extra->fx_ext[which] : NULL);
	if (verdict == REPORT_EOF)
		ev->flags |= EV_EOF;
	if ((kn->kn_flags & EV_CLEAR) && fn->fn_type == FD_UNKNOWN)
		fn->fn_type = (uint8_t)source_type(fd);
	ev->data = HINT(mask, fn->fn_type, forced);
	t->t_fill = true;
	kn->kn_status &= (uint8_t) ~(KN_ACTIVE | KN_FORCED);
	if (returned(t, kn) && (kn->kn_status & KN_GATED) != 0 &&
	    (kn->kn_flags & EV_CLEAR) == 0)
		descriptor_push(q, fd, fn, which);
	else if (kn->kn_flags & EV_ONESHOT)
		descriptor_detach(q, fd, fn, which);
}

/*
 * The kernel may watch otherwise than before: a knote that has gone to the
 * other epoll, or is level now, is to be found there.  Less of the same brings
 * nothing new.
 */
static void
note_moved(struct turn *t, const struct fdnote *fn, uint16_t before)
{
	const uint16_t edge = FK_EDGE | FK_WEDGE;

	t->t_moved |= fn->fn_kernel != 0 &&
	    ((fn->fn_kernel ^ edge) & ~(before ^ edge)) != 0;
}

static void
narrow(struct turn *t, int fd, struct fdnote *fn, uint32_t mask)
{
	uint16_t before = fn->fn_kernel;

	descriptor_narrow(t->t_queue, fd, fn, mask);
	note_moved(t, fn, before);
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
		narrow(t, fd, fn, mask);
	return knote_enabled(kn) ? verdict : SILENT;
}

/*
 * The mask was true when the kernel said so.  Another thread may have been told
 * the same, from before the registration was EPOLLONESHOT, or by the FIFO; it
 * may have read all there was, and enabled or added the knote again.
 */
static uint32_t
still_true(struct turn *t, int fd, const struct fdnote *fn, int which,
    uint32_t mask)
{
	const uint16_t modes = EV_ONESHOT | EV_DISPATCH;

	if ((fn->fn_knote[which].kn_flags & modes) == 0 ||
	    !__atomic_load_n(&t->t_queue->q_shared, __ATOMIC_RELAXED))
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
lost(struct turn *t, uint64_t tag)
{
	struct kqueue *q = t->t_queue;
	bool again = q->q_lost == tag;

	q->q_lost = tag;
	if (again) {
		repair(q);
		t->t_moved = true;
	}
}

static void
take_descriptor(struct turn *t, const struct epoll_event *e, bool writer)
{
	const uint32_t unasked = EPOLLHUP | EPOLLERR;
	int fd = (int)TAG_INDEX(e->data.u64);
	struct fdnote *fn;
	bool wanted = false, once;
	uint16_t before;

	if (process_strict)
		descriptor_verify(t->t_queue, fd);
	fn = descriptor_tagged(t->t_queue, fd, TAG_GEN(e->data.u64));
	if (fn == NULL) {
		lost(t, e->data.u64);
		return;
	}
	before = fn->fn_kernel;
	if (writer) {
		if ((once = (fn->fn_kernel & FK_WONCE) != 0))
			fn->fn_kernel &= (uint16_t)~FK_WOUT;
		wanted = offer(t, fd, fn, FN_WRITE, e->events);
	} else {
		if ((once = (before & FK_ONCE) != 0))
			fn->fn_kernel &= (uint16_t) ~(FK_IN | FK_OUT);
		if (e->events & (EPOLLIN | EPOLLRDHUP | unasked))
			wanted = offer(t, fd, fn, FN_READ, e->events);
		if ((before & FK_OUT) && (e->events & (EPOLLOUT | unasked)))
			wanted |= offer(t, fd, fn, FN_WRITE, e->events);
	}
	if (!wanted) {
		narrow(t, fd, fn, e->events);
	} else if (once) {
		/* The kernel has let go of what is waited for still, too. */
		descriptor_relook(t->t_queue, fd, fn, FN_READ);
		descriptor_relook(t->t_queue, fd, fn, FN_WRITE);
		note_moved(t, fn, before);
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
	uint16_t before;

	if (process_strict)
		descriptor_verify(q, fd);
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
	if (verdict != SILENT && (unpollable || mask == 0)) {
		descriptor_push(q, fd, fn, which);
	} else if (!unpollable) {
		before = fn->fn_kernel;
		descriptor_relook(q, fd, fn, which);
		note_moved(t, fn, before);
	}
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

void
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

int
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

void
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
