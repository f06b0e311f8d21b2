/*
 * watch.h: which descriptors have a registration, and what happens to those
 * when the program closes or changes them.
 *
 * The wrappers in interpose.c call these around the real thing.  All of them
 * preserve errno, may be called from any thread and from a signal handler, and
 * do nothing in a process that is not the owner of the queues (a forked or
 * vforked child).
 */
#ifndef KQ_WATCH_H
#define KQ_WATCH_H

#include <stdbool.h>
#include <stdint.h>

struct kqueue;

/* There has been a queue in this process; until then there is nothing to do. */
extern bool watch_on;

/* A registration of this descriptor may exist in some queue. */
bool watch_has(int fd);

/*
 * To close fd concerns nobody: it is not watched, names no queue, and there is
 * no other thread that could register it meanwhile.
 */
bool watch_idle(int fd);

/*
 * Around everything that makes the number name another file or none: removes
 * its knotes in all queues; if it names a queue, that name goes.
 * To be called only if the real thing cannot fail for a reason that is known
 * beforehand: a dup2() that fails keeps the knotes.
 */
void watch_close_begin(int fd);
void watch_close_end(int fd);
/* Some thread is between the two. */
bool watch_closing(int fd);

/*
 * from was copied to to (dup, dup2, F_DUPFD): a second name if from is a queue.
 */
void watch_dup(int from, int to);

enum watch_event {
	WATCH_SHUT_WR, /* shutdown(SHUT_WR or SHUT_RDWR) succeeded */
	WATCH_CONNECT, /* connect() or listen() was called */
	WATCH_SEEK     /* lseek() moved the offset */
};

/* Something happened of which the kernel tells no epoll: look again. */
void watch_event(int fd, enum watch_event);

/* It is a connection-oriented socket that can be written to, or will be. */
void watch_stream(int fd);

/*
 * The first descriptor, not below fd, that watch_has() or that names a queue;
 * -1: none.
 */
int watch_next(int fd);

/* -- for the queues -------------------------------------------------------- */

/* Start watching; how many descriptors there can be, 0 without memory. */
uint32_t watch_open(void);
bool watch_possible(int fd);
/* A number that watch_next() may have to find. */
void watch_reach(int fd);
void watch_fork_child(void);

/*
 * Around the EPOLL_CTL_ADD of a new knote, with the queue's lock held.  If it
 * raced, a close() overlapped: verify what the number names.
 */
struct watch_add {
	uint16_t wa_start, wa_end;
};
struct watch_add watch_add_begin(struct kqueue *, int fd);
bool watch_add_raced(int fd, struct watch_add);

/* It was copied, or is a copy, by dup() or so, and both may be open. */
bool watch_duped(int fd);

/*
 * watch_stream() has been called of it, and it was neither shut down for
 * writing nor copied since.  Said once only, so that a close() which nobody
 * saw is not believed in for long.
 */
bool watch_take_stream(int fd);

/* watch_suspect() has been true of some descriptor, or all are suspect. */
extern bool watch_suspicious;
/*
 * A close() could not take some queue's lock: verify before trusting a knote.
 */
bool watch_suspect(int fd);

#endif
