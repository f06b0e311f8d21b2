/*
 * filter_signal.c: EVFILT_SIGNAL.
 *
 * A knote keeps in o_data the total that it has returned; what signals.c has
 * counted since is its data.  So each queue gets the full count, and a knote
 * that is disabled goes on counting.  Two descriptors in the queue's epoll
 * say that there may be something: the eventfd of each signal, written when
 * it is counted, and a signalfd for signals that every thread blocks, which
 * nobody delivers.  It is never read.
 */
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>

#include <errno.h>
#include <unistd.h>

#include "kq.h"
#include "signals.h"

static void
set_signals(struct kqueue *q, uint64_t set)
{
	__atomic_store_n(&q->q_signals, set, __ATOMIC_RELAXED);
}

/* Make the queue's signalfd show the signals that it watches. */
static int
set_signalfd(struct kqueue *q)
{
	int fd, error;

	fd = (int)syscall(SYS_signalfd4, q->q_signalfd, &q->q_signals,
	    KERNEL_SIGSET, SFD_NONBLOCK | SFD_CLOEXEC);
	if (fd == -1)
		return errno;
	if (q->q_signalfd != -1)
		return 0;
	fd = fd_move_high(fd);
	error =
	    queue_watch(q, fd, EPOLLIN | EPOLLET, tag_make(TAG_SIGNAL, 0, 0));
	if (error != 0)
		fd_close(fd);
	else
		q->q_signalfd = fd;
	return error;
}

static void
signal_detach(struct kqueue *q, struct object *o)
{
	int signo = (int)o->o_ident;

	set_signals(q, q->q_signals & ~signal_bit(signo));
	if (q->q_signalfd != -1)
		set_signalfd(q);
	epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, signal_wake(signo), NULL);
	signal_unwatch(signo);
}

static int
signal_attach(struct kqueue *q, struct object *o, const struct kevent *change)
{
	int signo = (int)change->ident, error;

	if (change->ident < 1 || change->ident > LAST_SIGNAL)
		return EINVAL;
	if ((error = signal_watch(signo)) != 0)
		return error;
	set_signals(q, q->q_signals | signal_bit(signo));
	error = queue_watch(q, signal_wake(signo), EPOLLIN | EPOLLET,
	    tag_make(TAG_SIGNAL, 0, (uint32_t)signo));
	if (error == 0)
		error = set_signalfd(q);
	if (error != 0)
		signal_detach(q, o);
	else
		o->o_data = (int64_t)signal_total(signo);
	return error;
}

/* fflags and data of a change mean nothing here; the count goes on. */
static int
signal_touch(struct kqueue *q, struct object *o, const struct kevent *change)
{
	(void)q;
	(void)change;
	o->o_knote.kn_fflags = 0;
	return 0;
}

static bool
signal_active(struct kqueue *q, struct object *o)
{
	(void)q;
	return signal_total((int)o->o_ident) != (uint64_t)o->o_data;
}

static bool
signal_report(struct kqueue *q, struct object *o, struct kevent *event)
{
	uint64_t total = signal_total((int)o->o_ident);

	(void)q;
	event->fflags = 0;
	event->data = (int64_t)(total - (uint64_t)o->o_data);
	o->o_data = (int64_t)total;
	o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	return event->data != 0;
}

const struct filter filter_signal = {
	.f_attach = signal_attach,
	.f_detach = signal_detach,
	.f_touch = signal_touch,
	.f_active = signal_active,
	.f_report = signal_report,
	.f_forced = EV_CLEAR,
};

/* One by one: the order of the edges is that of the signals. */
static void
activate(struct kqueue *q, uint64_t set)
{
	struct object *o;

	for (; set != 0; set &= set - 1) {
		o = object_find(q, EVFILT_SIGNAL, (uintptr_t)signal_first(set));
		if (o != NULL && signal_active(q, o))
			object_activate(q, o);
	}
}

void
signal_collect(struct kqueue *q)
{
	bool unsure = pending_unsure(), held = signals_held() & q->q_signals;

	if (unsure)
		pending_look(q->q_signals);
	if (held)
		pending_verify(q->q_signals);
	if (unsure || held)
		activate(q, q->q_signals);
}

bool
signal_blind(const struct kqueue *q)
{
	return (pending_blind() & queue_signals(q)) != 0;
}

void
signal_pending(struct kqueue *q, int signo)
{
	uint64_t set = signo == 0 ? q->q_signals : signal_bit(signo);

	pending_look(set);
	activate(q, set);
}
