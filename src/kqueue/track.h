/*
 * track.h: forks and execs, for EVFILT_PROC.
 */
#ifndef KQ_TRACK_H
#define KQ_TRACK_H

#include "kq.h"

/*
 * From now on the queue hears of forks and execs.  0 or an errno value: ENOTSUP
 * if the system does not tell, ENOMEM, EMFILE, ENFILE.  Each call that has
 * succeeded is ended by one track_close().
 */
int	track_open(struct kqueue *);
void	track_close(struct kqueue *);

/* Take what has been told until now, which may free knotes. */
void	track_collect(struct kqueue *);

#endif
