/*
 * side.h: an epoll beside the queue's, for one filter.
 *
 * epoll knows a registration by its file and number, so two filters that want
 * different things of one descriptor cannot share an epoll.  A filter whose
 * ident is a descriptor (f_isfd) has one of its own in each queue, made when
 * it is first needed, which hangs level-triggered in the queue's.
 */
#ifndef KQ_SIDE_H
#define KQ_SIDE_H

#include "kq.h"

/*
 * Register the descriptor that is the knote's ident: its filter's f_event is
 * called for the events, which the edge-triggered registration tells once.
 * 0 or an errno value: EBADF, ENOMEM, EMFILE, ENFILE; EPERM if it cannot be
 * polled.
 */
int	side_add(struct kqueue *, struct object *, uint32_t events);
/*
 * Take the edges that there are, the one that a new registration makes, too:
 * from now on an edge is news.
 */
void	side_settle(struct kqueue *, const struct object *);
/* Take it out; the number may be closed, or name another file. */
void	side_remove(struct kqueue *, struct object *);
/* The number names the file that was registered: an f_same. */
bool	side_same(struct kqueue *, struct object *);

#endif
