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
 * With the old one go the registrations that others have of it: the program's
 * own epolls, and the queues that watch this one.  Those of this process stand
 * in /proc, and are made again.
 *
 * And edges that nobody will see: a thread was cancelled with them in hand.  To
 * modify a registration makes the kernel look again, so they come once more.
 */
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "signals.h"
#include "wire.h"

/* -- the library's own descriptors ----------------------------------------- */

static bool
own(int epfd, int op, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };

	return epoll_ctl(epfd, op, fd, &ev) == 0;
}

/* Each as it was registered when it was made; false: not all. */
static bool
register_own(const struct kqueue *q, int epfd, int op)
{
	const uint32_t edge = EPOLLIN | EPOLLET;
	uint64_t set;
	uint32_t i;
	bool all;

	all = own(epfd, op, q->q_wake, edge, tag_make(TAG_WAKE, 0, 0));
	for (i = 0; i < 2; i++)
		if (q->q_timerfd[i] != -1)
			all &= own(epfd, op, q->q_timerfd[i], edge,
			    tag_make(TAG_TIMER, 0, i));
	if (q->q_inotify != -1)
		all &= own(epfd, op, q->q_inotify, EPOLLIN,
		    tag_make(TAG_INOTIFY, 0, 0));
	if (q->q_signalfd != -1)
		all &= own(epfd, op, q->q_signalfd, edge,
		    tag_make(TAG_SIGNAL, 0, 0));
	for (set = q->q_signals; set != 0; set &= set - 1)
		all &= own(epfd, op, signal_wake(signal_first(set)), edge,
		    tag_make(TAG_SIGNAL, 0, (uint32_t)signal_first(set)));
	return all;
}

/* -- registrations of the queue itself ------------------------------------- */

struct outer {
	int o_epoll, o_name; /* numbers: of who watches, and of the queue */
	struct epoll_event o_event;
};

struct outers {
	struct outer *list;
	size_t number;
};

/* Without memory it is lost. */
static void
outer_note(struct outers *all, int epfd, int name, const struct epoll_event *ev)
{
	struct outer *list;

	list = realloc(all->list, (all->number + 1) * sizeof(*list));
	if (list == NULL)
		return;
	list[all->number++] = (struct outer){ epfd, name, *ev };
	all->list = list;
}

/* A line of the fdinfo of an epoll: is it of this queue, and not of old? */
static void
outer_line(const struct kqueue *q, struct outers *all, int epfd,
    const char *line)
{
	struct epoll_event ev;
	uint32_t life, events;
	uint64_t data;
	int name;

	if (!wire_registration(line, &name, &events, &data) ||
	    kqueue_named(name, &life) != q)
		return;
	ev = (struct epoll_event){ .events = events, .data.u64 = data };
	if (epoll_ctl(epfd, EPOLL_CTL_ADD, name, &ev) == 0)
		epoll_ctl(epfd, EPOLL_CTL_DEL, name, NULL);
	else if (errno == EEXIST)
		outer_note(all, epfd, name, &ev);
}

/* An epoll with many descriptors has a long file: line by line. */
static void
outer_file(const struct kqueue *q, struct outers *all, int epfd, int info)
{
	char text[4096], *line, *end;
	size_t left = 0;
	ssize_t n;

	while ((n = syscall(SYS_read, info, text + left,
		    sizeof(text) - 1 - left)) > 0) {
		left += (size_t)n;
		text[left] = '\0';
		for (line = text; (end = strchr(line, '\n')) != NULL;
		     line = end + 1) {
			*end = '\0';
			outer_line(q, all, epfd, line);
		}
		left -= (size_t)(line - text);
		memmove(text, line, left);
		if (left == sizeof(text) - 1)
			return; /* a line like no other */
	}
}

static void
outer_find(const struct kqueue *q, struct outers *all, int dir,
    const char *name)
{
	int epfd = atoi(name), info;
	uint32_t life;

	if (name[0] == '.' || epfd == q->q_epoll ||
	    kqueue_named(epfd, &life) == q)
		return;
	info = (int)syscall(SYS_openat, dir, name, O_RDONLY | O_CLOEXEC);
	if (info == -1)
		return;
	outer_file(q, all, epfd, info);
	syscall(SYS_close, info);
}

static void
outers_find(const struct kqueue *q, struct outers *all)
{
	_Alignas(struct entry) char buffer[1024];
	const struct entry *entry;
	size_t at;
	long n;
	int dir;

	dir = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/fdinfo",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir == -1)
		return;
	while ((n = syscall(SYS_getdents64, dir, buffer, sizeof(buffer))) > 0)
		for (at = 0;
		     (entry = wire_entry(buffer, (size_t)n, &at)) != NULL;)
			outer_find(q, all, dir, entry->d_name);
	syscall(SYS_close, dir);
}

static void
outers_restore(struct outers *all)
{
	struct outer *o;
	size_t i;

	for (i = 0; i < all->number; i++) {
		o = &all->list[i];
		epoll_ctl(o->o_epoll, EPOLL_CTL_ADD, o->o_name, &o->o_event);
	}
	free(all->list);
}

/* -- another epoll
 * ------------------------------------------------------------- */

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

/* A number that names another file by now is not to be registered for it. */
static void
verify_all(struct kqueue *q)
{
	int fd;

	for (fd = 0; descriptor_next(q, &fd) != NULL; fd++)
		descriptor_verify(q, fd);
}

void
repair(struct kqueue *q)
{
	struct outers outers = { .list = NULL };
	int fd;

	if ((fd = fd_move_high(epoll_create1(EPOLL_CLOEXEC))) == -1)
		return;
	/* What cannot be done now is tried again when the tag comes again. */
	if (!register_own(q, fd, EPOLL_CTL_ADD)) {
		fd_close(fd);
		return;
	}
	outers_find(q, &outers);
	verify_all(q);
	wake_all(q);
	syscall(SYS_dup3, fd, q->q_epoll, O_CLOEXEC);
	kqueue_replace(q, fd);
	fd_close(fd);
	outers_restore(&outers);
	fd_close(q->q_writer);
	q->q_writer = -1;
	object_watch_all(q);
	descriptor_register_all(q);
}

/*
 * Whatever else is the library's, the epolls of filters and pidfds, is level-
 * triggered in this one.
 */
void
repair_edges(struct kqueue *q)
{
	register_own(q, q->q_epoll, EPOLL_CTL_MOD);
	descriptor_rearm_all(q);
}
