/*
 * proc.h: what a knote of EVFILT_PROC knows of its process, for the filter and
 * for track.c, which sees forks and execs.
 *
 *	proc_new() --> watched by its pidfd --> proc_end() --> returned, freed
 */
#ifndef KQ_PROC_H
#define KQ_PROC_H

#include "kq.h"

struct proc {
	int p_fd;         /* pidfd; -1: there is none, or it has ended */
	int p_status;     /* as wait(2) encodes it */
	uint32_t p_notes; /* NOTE_* to be returned */
	int p_parent;     /* data of NOTE_CHILD */
	uint8_t p_modes;  /* of EV_ONESHOT and EV_DISPATCH: after NOTE_CHILD */
	bool p_ended;
};

/* These happened, whether they are wanted or not. */
void proc_note(struct kqueue *, struct object *, uint32_t notes);

/* It has ended; the knote goes if it has nothing to report. */
void proc_end(struct kqueue *, struct object *, int status);

#endif
