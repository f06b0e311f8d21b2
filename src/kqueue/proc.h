/*
 * proc.h: what a knote of EVFILT_PROC or EVFILT_PROCDESC knows of its process.
 *
 *	proc_new() --> watched by a pidfd --> proc_end() --> returned, freed
 */
#ifndef KQ_PROC_H
#define KQ_PROC_H

#include "kq.h"

struct proc {
	int p_fd;         /* our pidfd; -1: there is none, or it has ended */
	int p_status;     /* as wait(2) encodes it */
	uint32_t p_notes; /* NOTE_* to be returned */
	int p_parent;     /* data of NOTE_CHILD */
	uint8_t p_modes;  /* EV_ONESHOT, EV_DISPATCH: wait for NOTE_CHILD */
	bool p_ended;
	bool p_tracked; /* there is a track_close() to call */
	bool p_gone;    /* track.c heard of its exit */
	int p_told;     /* and of this status */
};

/* Its o_state, with nothing in it; ENOMEM.  And the end of that. */
int	proc_new(struct object *);
void	proc_free(struct kqueue *, struct object *);

/* f_active and f_report */
bool	proc_active(struct kqueue *, struct object *);
bool	proc_report(struct kqueue *, struct object *, struct kevent *);

/*
 * Give it a pidfd that is watched.  0 or an errno value, with ESRCH if there is
 * no such process.
 */
int	proc_hold(struct kqueue *, struct object *);

/*
 * A tracked process has made a child: the child gets a knote that is known by
 * the socket of track.c only.  0, ENOMEM or EEXIST.
 */
int	proc_child(struct kqueue *, const struct object *, int pid);

/* These happened; what is not wanted of NOTE_FORK and NOTE_EXEC is dropped. */
void proc_note(struct kqueue *, struct object *, uint32_t notes);

/* See if it has ended. */
void	proc_look(struct kqueue *, struct object *);

/* It has ended; the knote goes if it has nothing to report. */
void proc_end(struct kqueue *, struct object *, int status);

#endif
