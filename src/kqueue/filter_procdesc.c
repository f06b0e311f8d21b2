/*
 * filter_procdesc.c: EVFILT_PROCDESC, the end of the process that a descriptor
 * of the program's holds, a pidfd.  What is known of it is as with EVFILT_PROC.
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "kq.h"
#include "pidfd.h"
#include "proc.h"
#include "side.h"

/* There is nobody to tell of these. */
#define NOT_TOLD (NOTE_FORK | NOTE_EXEC | NOTE_TRACK)

static int
procdesc_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	int error, fd = (int)kev->ident;

	if (syscall(SYS_fcntl, fd, F_GETFD) == -1)
		return EBADF;
	if ((error = pidfd_check(fd)) != 0)
		return error;
	if (kev->fflags & NOT_TOLD)
		return ENOTSUP;
	if ((error = proc_new(o)) != 0)
		return error;
	o->o_knote.kn_fflags = kev->fflags;
	if ((error = side_add(q, o, EPOLLIN)) != 0)
		proc_free(q, o);
	return error;
}

static void
procdesc_detach(struct kqueue *q, struct object *o)
{
	side_remove(q, o);
	proc_free(q, o);
}

static int
procdesc_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	if (kev->fflags & NOT_TOLD)
		return ENOTSUP;
	o->o_knote.kn_fflags = kev->fflags;
	return 0;
}

static void
procdesc_event(struct kqueue *q, struct object *o)
{
	const struct proc *p = o->o_state;
	int status, fd = (int)o->o_ident;

	if (p->p_ended || !pidfd_has_ended(fd))
		return;
	pidfd_status(fd, &status);
	proc_end(q, o, status);
}

const struct filter filter_procdesc = {
	.f_attach = procdesc_attach,
	.f_detach = procdesc_detach,
	.f_touch = procdesc_touch,
	.f_active = proc_active,
	.f_report = proc_report,
	.f_same = side_same,
	.f_event = procdesc_event,
	.f_forced = EV_CLEAR,
	.f_isfd = true,
};
