/*
 * repair.c: registrations that nobody can remove any more.
 *
 * A descriptor that is closed behind our back (by syscall(), io_uring, or a
 * library whose close() is not ours) while a duplicate keeps its file open
 * leaves a registration in the epoll that only the closed number could name.
 * It is known by its tag: the same old generation comes out of epoll twice.
 * Level-triggered, it would come for ever.
 *
 * The way out is another epoll, in which everything that is known is registered
 * and which takes the place of the old one under every number of the queue.
 *
 * And edges that nobody will see: a thread was cancelled with them in hand.  To
 * modify a registration makes the kernel look again, so they come once more.
 */
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kq.h"
#include "signals.h"

static void
own(struct kqueue *q, int op, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };

	epoll_ctl(q->q_epoll, op, fd, &ev);
}

/* The library's own descriptors, as each was registered when it was made. */
static void
register_own(struct kqueue *q, int op)
{
	const uint32_t edge = EPOLLIN | EPOLLET;
	uint64_t set;
	uint32_t i;

	own(q, op, q->q_wake, edge, tag_make(TAG_WAKE, 0, 0));
	for (i = 0; i < 2; i++)
		if (q->q_timerfd[i] != -1)
			own(q, op, q->q_timerfd[i], edge,
			    tag_make(TAG_TIMER, 0, i));
	if (q->q_inotify != -1)
		own(q, op, q->q_inotify, EPOLLIN, tag_make(TAG_INOTIFY, 0, 0));
	if (q->q_signalfd != -1)
		own(q, op, q->q_signalfd, edge, tag_make(TAG_SIGNAL, 0, 0));
	for (set = q->q_signals; set != 0; set &= set - 1)
		own(q, op, signal_wake(signal_first(set)), edge,
		    tag_make(TAG_SIGNAL, 0, (uint32_t)signal_first(set)));
}

/* Threads that wait in the old epoll shall come and wait in the new one. */
static void
wake_all(struct kqueue *q)
{
	struct epoll_event ev = { .events = EPOLLIN,
		.data.u64 = tag_make(TAG_WAKE, 0, 0) };
	uint64_t one = 1;

	epoll_ctl(q->q_epoll, EPOLL_CTL_MOD, q->q_wake, &ev);
	syscall(SYS_write, q->q_wake, &one, sizeof(one));
}

void
repair(struct kqueue *q)
{
	int fd;

	if ((fd = epoll_create1(EPOLL_CLOEXEC)) == -1)
		return;
	wake_all(q);
	syscall(SYS_dup3, fd, q->q_epoll, O_CLOEXEC);
	kqueue_replace(q, fd);
	fd_close(fd);
	fd_close(q->q_writer);
	q->q_writer = -1;
	register_own(q, EPOLL_CTL_ADD);
	object_watch_all(q);
	descriptor_register_all(q);
}

void
repair_edges(struct kqueue *q)
{
	register_own(q, EPOLL_CTL_MOD);
	descriptor_rearm_all(q);
}
