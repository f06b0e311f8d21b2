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
	uint8_t p_modes;  /* of EV_ONESHOT and EV_DISPATCH: after NOTE_CHILD */
	bool p_ended;
};

/* Its o_state, with nothing in it; ENOMEM.  And the end of that. */
int	proc_new(struct object *);
void	proc_free(struct kqueue *, struct object *);

/* f_active and f_report */
bool	proc_active(struct kqueue *, struct object *);
bool	proc_report(struct kqueue *, struct object *, struct kevent *);

/* These happened, whether they are wanted or not. */
void proc_note(struct kqueue *, struct object *, uint32_t notes);

/* It has ended; the knote goes if it has nothing to report. */
void proc_end(struct kqueue *, struct object *, int status);

#endif
