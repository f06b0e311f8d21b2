/*
 * change.c: one entry of a change list.
 *
 *	key unknown	EV_ADD: attach		otherwise: ENOENT
 *	key known	EV_DELETE: detach	otherwise: touch
 *
 * To touch a knote replaces fflags, data and udata, whichever flag asked for
 * it, and leaves the modes that it was added with (R-REG-03 to R-REG-08).
 */
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "watch.h"

/* What touching does to every kind of knote. */
static void
touch(struct knote *kn, const struct kevent *kev)
{
	if ((kev->flags & EV_KEEPUDATA) == 0)
		kn->kn_udata = kev->udata;
	if (kev->flags & EV_ENABLE)
		kn->kn_status &= (uint8_t)~KN_DISABLED;
	else if (kev->flags & EV_DISABLE)
		kn->kn_status |= KN_DISABLED;
}

/* What is registered still has not been closed, and need not be asked for. */
static int
unknown_descriptor(const struct kqueue *q, int fd)
{
	const struct fdnote *fn = descriptor_find(q, fd);

	if (fn != NULL && fn->fn_kernel != 0)
		return ENOENT;
	return syscall(SYS_fcntl, fd, F_GETFD) == -1 ? EBADF : ENOENT;
}

/* -- READ and WRITE -------------------------------------------------------- */

/*
 * What most changes are: of a knote that is there and of which nothing has to
 * be asked, and it goes, or the kernel watches it already as it is to be.
 * False: it is of another kind, and nothing was done.
 */
static inline bool
change_plain(const struct kqueue *q, struct fdnote *fn, int which,
    const struct kevent *kev)
{
	struct knote *kn = &fn->fn_knote[which];

	if ((kn->kn_status & (uint8_t)~KN_DISABLED) != KN_ATTACHED ||
	    fn->fn_extra != NULL || (kev->fflags & NOTE_LOWAT) != 0)
		return false;
	if (kev->flags & EV_DELETE) {
		kn->kn_status = 0;
		return true;
	}
	if ((kev->flags & EV_FORCEONESHOT) != 0 ||
	    (which == FN_WRITE && fn->fn_type != FD_STREAM) ||
	    !descriptor_is_level(q, fn, which))
		return false;
	kn->kn_fflags = kev->fflags;
	touch(kn, kev);
	return true;
}

/* Whatever is not plain. */
static __attribute__((noinline)) int
descriptor_change(struct kqueue *q, const struct kevent *kev)
{
	int fd = (int)kev->ident, which = kev->filter == EVFILT_WRITE, error;
	struct fdnote *fn;
	struct knote *kn;

	if (kev->ident > INT_MAX)
		return EBADF;
	fn = descriptor_find(q, fd);
	if (fn != NULL && descriptor_suspect(fd))
		descriptor_verify(q, fd);
	if (fn == NULL || (fn->fn_knote[which].kn_status & KN_ATTACHED) == 0) {
		if ((kev->flags & EV_ADD) == 0)
			return unknown_descriptor(q, fd);
		return descriptor_attach(q, fd, which, kev);
	}
	if (kev->flags & EV_DELETE) {
		descriptor_detach(q, fd, fn, which);
		return 0;
	}
	kn = &fn->fn_knote[which];
	if ((kev->flags & EV_FORCEONESHOT) &&
	    (error = descriptor_force(q, fn, which)) != 0)
		return error;
	if ((error = descriptor_set(q, fn, which, kev)) != 0)
		return error;
	touch(kn, kev);
	return descriptor_touch(q, fd, fn, which);
}

/* -- the other filters ----------------------------------------------------- */

static int
object_keep_ext(struct object *o, const struct kevent *kev)
{
	if ((kev->ext[0] | kev->ext[1] | kev->ext[2] | kev->ext[3]) == 0)
		return 0;
	if ((o->o_ext = malloc(sizeof(kev->ext))) == NULL)
		return ENOMEM;
	memcpy(o->o_ext, kev->ext, sizeof(kev->ext));
	return 0;
}

/* The filter looks; what is active already was recorded while disabled. */
static void
look(struct kqueue *q, struct object *o, const struct filter *f)
{
	if (knote_enabled(&o->o_knote) &&
	    ((o->o_knote.kn_status & (KN_ACTIVE | KN_FORCED)) != 0 ||
		f->f_active(q, o)))
		object_activate(q, o);
}

static int
object_attach(struct kqueue *q, const struct filter *f,
    const struct kevent *kev)
{
	struct watch_add seen = { 0 };
	int fd = (int)kev->ident, error;
	struct object *o;

	if (f->f_isfd && (error = descriptor_mark(q, fd)) != 0)
		return error;
	if ((error = object_new(q, kev->filter, kev->ident, &o)) != 0)
		return error;
	o->o_knote.kn_udata = kev->udata;
	o->o_knote.kn_flags = (kev->flags & KN_MODES) | f->f_forced;
	if (kev->flags & EV_DISABLE)
		o->o_knote.kn_status |= KN_DISABLED;
	if (f->f_isfd)
		seen = watch_add_begin(q, fd);
	if ((error = object_keep_ext(o, kev)) != 0 ||
	    (error = f->f_attach(q, o, kev)) != 0) {
		object_discard(q, o);
		return error;
	}
	look(q, o, f);
	if (f->f_isfd && watch_add_raced(fd, seen))
		descriptor_verify(q, fd);
	return 0;
}

static __attribute__((noinline)) int
object_change(struct kqueue *q, const struct kevent *kev)
{
	const struct filter *f = object_filter(kev->filter);
	struct object *o;
	int error;

	if (f == NULL || kev->filter >= 0)
		return EINVAL;
	if (f->f_isfd && kev->ident > INT_MAX)
		return EBADF;
	if (f->f_isfd && descriptor_suspect((int)kev->ident))
		descriptor_verify(q, (int)kev->ident);
	if ((o = object_find(q, kev->filter, kev->ident)) == NULL) {
		if (kev->flags & EV_ADD)
			return object_attach(q, f, kev);
		return f->f_isfd ? unknown_descriptor(q, (int)kev->ident) :
				   ENOENT;
	}
	if (kev->flags & EV_DELETE) {
		object_free(q, o);
		return 0;
	}
	if ((error = f->f_touch(q, o, kev)) != 0)
		return error;
	touch(&o->o_knote, kev);
	if (kev->flags & EV_FORCEONESHOT) {
		o->o_knote.kn_flags |= EV_ONESHOT;
		o->o_knote.kn_status |= KN_FORCED;
	}
	look(q, o, f);
	return 0;
}

/* -- all of them ----------------------------------------------------------- */

/* Of flags, what is not looked at here is ignored: EV_SYSFLAGS, R-CALL-24. */
int
change_apply(struct kqueue *q, const struct kevent *kev)
{
	struct fdnote *fn;

	if ((kev->flags & (EV_ENABLE | EV_DISABLE)) == (EV_ENABLE | EV_DISABLE))
		return EINVAL;
	if ((kev->flags & (EV_ADD | EV_KEEPUDATA)) == (EV_ADD | EV_KEEPUDATA))
		return EINVAL;
	if (kev->filter != EVFILT_READ && kev->filter != EVFILT_WRITE)
		return object_change(q, kev);
	if (kev->ident <= INT_MAX && !descriptor_suspect((int)kev->ident) &&
	    (fn = descriptor_find(q, (int)kev->ident)) != NULL &&
	    change_plain(q, fn, kev->filter == EVFILT_WRITE, kev))
		return 0;
	return descriptor_change(q, kev);
}
