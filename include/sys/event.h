/*
 * <sys/event.h>: kqueue(2) and kevent(2), the kernel event queue of the BSDs.
 *
 * Layout and values are those of FreeBSD 12 and later (R-LAY-01, R-VAL-01).
 * A macro is defined only for what works (R-API-09), so that a program may
 * choose with #ifdef; EVFILT_AIO alone is there for those that only name it.
 * The complete reference is kqueue(2); the rules in brackets are numbered in
 * docs/kqueue-rules.md.
 *
 * This header needs nothing included before it (R-API-07).
 */
#ifndef _SYS_EVENT_H_
#define _SYS_EVENT_H_

#include <stddef.h>
#include <stdint.h>

#if defined(__USE_TIME_BITS64) && defined(__TIMESIZE) && __TIMESIZE == 32
#error "libkq has the time_t of 32 bits on this machine, not that of _TIME_BITS=64"
#endif

/* -- filters: what is watched ---------------------------------------------- */

#define EVFILT_READ	(-1)	/* ident: descriptor, something can be read */
#define EVFILT_WRITE	(-2)	/* ident: descriptor, something can be written */
#define EVFILT_AIO	(-3)	/* a name only, EINVAL: programs ask if it is one */
#define EVFILT_VNODE	(-4)	/* ident: descriptor of a file or directory */
#define EVFILT_PROC	(-5)	/* ident: process id */
#define EVFILT_SIGNAL	(-6)	/* ident: signal number, observed, not taken */
#define EVFILT_TIMER	(-7)	/* ident: the caller's own number */
#define EVFILT_PROCDESC	(-8)	/* ident: process descriptor, a pidfd */
#define EVFILT_FS	(-9)	/* ident: the caller's own number; mounts */
#define EVFILT_USER	(-11)	/* ident: the caller's own number */
#define EVFILT_EMPTY	(-13)	/* ident: socket, nothing is left to send */
#define EVFILT_EXCEPT	(-32)	/* ident: socket, urgent data */

/* -- the event ------------------------------------------------------------- */

struct kevent {
	uintptr_t	ident;		/* what is watched, by the filter's meaning */
	short		filter;		/* EVFILT_* */
	unsigned short	flags;		/* EV_* */
	unsigned int	fflags;		/* NOTE_*, by the filter's meaning */
	int64_t		data;		/* by the filter's meaning */
	void		*udata;		/* the caller's, returned as it was given */
	uint64_t	ext[4];		/* [2] and [3]: as udata, kept from the first EV_ADD */
};

/*
 * Fill in *kevp, which is evaluated once; ext[] is zeroed (R-API-06).
 * One statement, usable wherever a function call is.
 */
#define EV_SET(kevp, ident_, filter_, flags_, fflags_, data_, udata_) do { \
	struct kevent *kevp__ = (kevp);					\
									\
	kevp__->ident = (uintptr_t)(ident_);				\
	kevp__->filter = (short)(filter_);				\
	kevp__->flags = (unsigned short)(flags_);			\
	kevp__->fflags = (unsigned int)(fflags_);			\
	kevp__->data = (int64_t)(data_);				\
	kevp__->udata = (udata_);					\
	kevp__->ext[0] = kevp__->ext[1] = 0;				\
	kevp__->ext[2] = kevp__->ext[3] = 0;				\
} while (0)

/* -- flags: what to do (given), how it is registered (returned) ------------ */

#define EV_ADD		0x0001	/* add, or change what is there */
#define EV_DELETE	0x0002	/* remove, with what is pending */
#define EV_ENABLE	0x0004	/* report again, and look at once */
#define EV_DISABLE	0x0008	/* keep, go on recording, do not report */
#define EV_ONESHOT	0x0010	/* report once, then remove */
#define EV_CLEAR	0x0020	/* report each change of state once */
#define EV_RECEIPT	0x0040	/* answer each change with an EV_ERROR entry */
#define EV_DISPATCH	0x0080	/* report once, then disable */
#define EV_FORCEONESHOT	0x0100	/* report now, whatever the filter says, then remove */
#define EV_KEEPUDATA	0x0200	/* a change leaves udata as it is */

#define EV_SYSFLAGS	0xf000	/* ignored in what is given */
#define EV_DROP		0x1000
#define EV_FLAG1	0x2000
#define EV_FLAG2	0x4000

#define EV_ERROR	0x4000	/* returned: data is an errno value */
#define EV_EOF		0x8000	/* returned: end of file, fflags may say why */

/* -- fflags of EVFILT_READ and EVFILT_WRITE -------------------------------- */

#define NOTE_LOWAT	0x00000001	/* data of the change is the threshold */
#define NOTE_FILE_POLL	0x00000002	/* READ of a file: always active */
#define NOTE_EOF	0x00000100	/* READ of a file: active at its end too */
#define NOTE_NODATA	0x00000200	/* Linux: data is not needed and will be 1;
					   saves a system call per event */

/* -- fflags of EVFILT_EXCEPT ----------------------------------------------- */

#define NOTE_OOB	0x00000004

/* -- fflags of EVFILT_PROC; of EVFILT_PROCDESC: NOTE_EXIT ------------------ */

#define NOTE_EXIT	0x80000000	/* data is the status, see wait(2) */
#define NOTE_FORK	0x40000000
#define NOTE_EXEC	0x20000000
#define NOTE_EXITSTATUS	0x04000000	/* macOS: returned with NOTE_EXIT */
#define NOTE_TRACK	0x00000001	/* give its children such knotes, too */
#define NOTE_TRACKERR	0x00000002	/* returned: one child got none */
#define NOTE_CHILD	0x00000004	/* returned: a child's, data is its parent */
#define NOTE_PCTRLMASK	0xf0000000
#define NOTE_PDATAMASK	0x000fffff

/* -- fflags of EVFILT_VNODE: wanted; returned: happened -------------------- */

#define NOTE_DELETE	0x00000001	/* a name of it was removed or replaced */
#define NOTE_WRITE	0x00000002	/* written to; a name came or went in it */
#define NOTE_EXTEND	0x00000004	/* it grew */
#define NOTE_ATTRIB	0x00000008	/* mode, owner, times; it shrank */
#define NOTE_LINK	0x00000010	/* it has another name; mkdir, rmdir in it */
#define NOTE_RENAME	0x00000020	/* it was renamed */
#define NOTE_REVOKE	0x00000040	/* its file system was unmounted */
#define NOTE_OPEN	0x00000080	/* it was opened */
#define NOTE_CLOSE	0x00000100	/* closed, and was open for reading */
#define NOTE_CLOSE_WRITE 0x00000200	/* closed, and was open for writing */
#define NOTE_READ	0x00000400	/* it was read */

/* -- fflags of EVFILT_FS: wanted; returned: happened ----------------------- */

#define VQ_MOUNT	0x00000008	/* a file system was mounted */
#define VQ_UNMOUNT	0x00000010	/* one was unmounted */

/* -- fflags of EVFILT_TIMER: at most one unit; none is milliseconds -------- */

#define NOTE_SECONDS	0x00000001
#define NOTE_MSECONDS	0x00000002
#define NOTE_USECONDS	0x00000004
#define NOTE_NSECONDS	0x00000008
#define NOTE_ABSTIME	0x00000010	/* data is a time of the wall clock */
#define NOTE_ABSOLUTE	0x00000040	/* macOS: NOTE_ABSTIME and one-shot */

/* -- fflags of EVFILT_USER ------------------------------------------------- */

#define NOTE_FFNOP	0x00000000	/* leave the stored bits */
#define NOTE_FFAND	0x40000000	/* stored bits &= given bits */
#define NOTE_FFOR	0x80000000	/* stored bits |= given bits */
#define NOTE_FFCOPY	0xc0000000	/* stored bits = given bits */
#define NOTE_FFCTRLMASK	0xc0000000
#define NOTE_FFLAGSMASK	0x00ffffff
#define NOTE_TRIGGER	0x01000000	/* make it active */

/* -- flags of kqueuex() ---------------------------------------------------- */

#define KQUEUE_CLOEXEC	0x00000001

struct timespec;

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A new queue: the lowest free descriptor, readable and writable, which polls
 * as readable while events are pending and may itself be watched with
 * EVFILT_READ.  The caller closes it with close(2).  It is not inherited by a
 * child of fork(2) (R-FD-06).
 *
 * kqueue1() takes O_CLOEXEC and O_NONBLOCK, kqueuex() KQUEUE_CLOEXEC.
 *
 * -1 with errno: EMFILE, ENFILE, ENOMEM; EINVAL for another flag.
 * Any thread; not from a signal handler.  (R-API-01 to R-API-04)
 */
int	kqueue(void);
int	kqueue1(int flags);
int	kqueuex(unsigned int flags);

/*
 * Apply changes[0..nchanges) in order, then wait until at least one event is
 * pending or *timeout has passed (NULL: for ever; {0, 0}: do not wait), and
 * store up to nevents events.  With nevents 0 it never waits.  The two arrays
 * may be the same.  Nothing is kept of either after the call.
 *
 * Returns the number of entries stored, 0 on time-out.  If a change fails and
 * there is room, its entry has EV_ERROR in flags and the errno value in data,
 * and the call returns such entries only; if there is no room: -1.
 *
 * -1 with errno: EBADF (kq is not open), EINVAL (kq is not a kqueue; a count
 * or the timeout is invalid; a change is), EFAULT, EINTR (a signal was caught
 * before an event was found; all changes have been applied), ENOENT, EBADF,
 * ESRCH, EPIPE, ENOMEM (of a change that failed).
 *
 * Any thread.  From a signal handler only with nevents 0; see kqueue(2).
 * A cancellation point only while it waits.  (R-CALL-01 to R-CALL-32)
 */
int	kevent(int kq, const struct kevent *changes, int nchanges,
	    struct kevent *events, int nevents,
	    const struct timespec *timeout);

#ifdef __cplusplus
}
#endif

#endif
