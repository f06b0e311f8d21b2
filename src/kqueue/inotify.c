/*
 * inotify.c: one inotify descriptor a queue, one watch an inode.
 *
 *	q_inodes, by watch descriptor
 *	    |
 *	 inode ----> observer ----> observer	a READ knote of a file,
 *	    |					a VNODE knote, or one
 *	 inode ----> observer			that watches its parent
 *
 * The kernel gives all descriptors of an inode the same watch, so its mask is
 * what any observer wants and its events go to all of them.  An observer lives
 * in the knote that it is of.  A watch descriptor is not used again before two
 * thousand million others have been, so the events of a watch that has been
 * removed find nobody.
 *
 * "/proc/self/fd/N" leads to the inode of a descriptor whether it still has a
 * name or not, and to a symbolic link itself that was opened with O_NOFOLLOW.
 */
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kq.h"
#include "wire.h"

#define MININODES 16
#define EVENT_BYTES 8192 /* bytes of events */
#define LARGEST (sizeof(struct inotify_event) + NAME_MAX + 1)

struct inode {
	struct inode *i_next; /* in its chain */
	struct observer *i_observers;
	uint32_t i_mask; /* that the kernel has */
	int i_wd;
	bool i_gone; /* the kernel has removed it */
};

/* -- inodes by watch descriptor -------------------------------------------- */

static struct inode **
inode_chain(const struct kqueue *q, int wd)
{
	return &q->q_inodes[(uint32_t)wd & (q->q_inodechains - 1)];
}

static struct inode *
inode_find(const struct kqueue *q, int wd)
{
	struct inode *in;

	if (q->q_inodechains == 0)
		return NULL;
	for (in = *inode_chain(q, wd); in != NULL && in->i_wd != wd;)
		in = in->i_next;
	return in;
}

/* Twice as many chains.  Without memory the old ones grow longer. */
static void
chains_grow(struct kqueue *q)
{
	uint32_t n = q->q_inodechains, i;
	struct inode **old = q->q_inodes, *in, **to, **grown;

	grown = calloc(n == 0 ? MININODES : 2 * (size_t)n, sizeof(*grown));
	if (grown == NULL)
		return;
	q->q_inodes = grown;
	q->q_inodechains = n == 0 ? MININODES : 2 * n;
	for (i = 0; i < n; i++)
		while ((in = old[i]) != NULL) {
			old[i] = in->i_next;
			to = inode_chain(q, in->i_wd);
			in->i_next = *to;
			*to = in;
		}
	free(old);
}

/* NULL: no memory. */
static struct inode *
inode_new(struct kqueue *q, int wd)
{
	struct inode *in, **to;

	if (q->q_ninodes == q->q_inodechains)
		chains_grow(q);
	if (q->q_inodechains == 0 || (in = calloc(1, sizeof(*in))) == NULL)
		return NULL;
	in->i_wd = wd;
	to = inode_chain(q, wd);
	in->i_next = *to;
	*to = in;
	q->q_ninodes++;
	return in;
}

static void
inode_unlink(struct kqueue *q, struct inode *in)
{
	struct inode **link = inode_chain(q, in->i_wd);

	while (*link != in)
		link = &(*link)->i_next;
	*link = in->i_next;
	q->q_ninodes--;
}

/* -- what the kernel watches ----------------------------------------------- */

static int
instance_open(struct kqueue *q)
{
	int fd, error;

	if (q->q_inotify != -1)
		return 0;
	fd = fd_move_high(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	if (fd == -1)
		return errno;
	error = queue_watch(q, fd, EPOLLIN, tag_make(TAG_INOTIFY, 0, 0));
	if (error != 0) {
		fd_close(fd);
		return error;
	}
	q->q_inotify = fd;
	return 0;
}

/* The watch descriptor, or -1 with errno. */
static int
watch(struct kqueue *q, const struct observer *ob, uint32_t mask)
{
	char path[40];

	snprintf(path, sizeof(path), "/proc/self/fd/%d%s", ob->ob_fd,
	    ob->ob_kind == OBSERVER_PARENT ? "/.." : "");
	return inotify_add_watch(q->q_inotify, path, mask);
}

static uint32_t
wanted(const struct inode *in)
{
	const struct observer *ob;
	uint32_t mask = 0;

	for (ob = in->i_observers; ob != NULL; ob = ob->ob_next)
		mask |= ob->ob_mask;
	return mask;
}

/* The observer's number names another inode by now: let that be as it was. */
static void
put_right(struct kqueue *q, const struct observer *ob, int wd)
{
	const struct inode *other = inode_find(q, wd);

	if (other != NULL)
		watch(q, ob, other->i_mask);
	else
		inotify_rm_watch(q->q_inotify, wd);
}

/* One observer wants less or has gone: so may the kernel. */
static void
narrow_mask(struct kqueue *q, struct inode *in)
{
	const struct observer *ob = in->i_observers;
	int wd;

	if (in->i_gone || wanted(in) == in->i_mask)
		return;
	if ((wd = watch(q, ob, wanted(in))) == in->i_wd)
		in->i_mask = wanted(in);
	else if (wd != -1)
		put_right(q, ob, wd);
}

/* -- observers ------------------------------------------------------------- */

static void
leave(struct kqueue *q, struct observer *ob)
{
	struct inode *in = ob->ob_inode;
	struct observer **link = &in->i_observers;

	while (*link != ob)
		link = &(*link)->ob_next;
	*link = ob->ob_next;
	ob->ob_inode = NULL;
	if (in->i_observers != NULL) {
		narrow_mask(q, in);
		return;
	}
	if (!in->i_gone)
		inotify_rm_watch(q->q_inotify, in->i_wd);
	inode_unlink(q, in);
	free(in);
}

/* What inotify_add_watch() says in the words of kevent(). */
static int
watch_error(int fd)
{
	if (errno == ENOSPC)
		return ENOMEM;
	if (errno != ENOENT)
		return errno;
	/* Not open, or there is no /proc here. */
	return syscall(SYS_fcntl, fd, F_GETFD) == -1 ? EBADF : ENOTSUP;
}

int
inotify_observe(struct kqueue *q, struct observer *ob, uint32_t mask)
{
	struct inode *in;
	int wd, error;

	if ((error = instance_open(q)) != 0)
		return error;
	if ((wd = watch(q, ob, mask | IN_MASK_ADD)) == -1)
		return watch_error(ob->ob_fd);
	if ((in = inode_find(q, wd)) == NULL &&
	    (in = inode_new(q, wd)) == NULL) {
		inotify_rm_watch(q->q_inotify, wd);
		return ENOMEM;
	}
	in->i_mask |= mask;
	ob->ob_mask = mask;
	if (ob->ob_inode == in) {
		narrow_mask(q, in);
		return 0;
	}
	if (ob->ob_inode != NULL)
		leave(q, ob);
	ob->ob_inode = in;
	ob->ob_next = in->i_observers;
	in->i_observers = ob;
	return 0;
}

void
inotify_forget(struct kqueue *q, struct observer *ob)
{
	if (ob->ob_inode != NULL && q->q_inotify != -1)
		leave(q, ob);
	ob->ob_inode = NULL;
}

bool
inotify_same(struct kqueue *q, const struct observer *ob)
{
	struct inode *in = ob->ob_inode;
	int wd;

	if (in == NULL || in->i_gone)
		return false;
	if ((wd = watch(q, ob, ob->ob_mask | IN_MASK_ADD)) == in->i_wd)
		return true;
	/* One more watch is for another inode; else in doubt it is the same. */
	if (wd == -1)
		return errno != ENOSPC && watch_error(ob->ob_fd) != EBADF;
	put_right(q, ob, wd);
	return false;
}

/* -- events ---------------------------------------------------------------- */

static void
tell(struct kqueue *q, const struct observer *ob,
    const struct inotify_event *event)
{
	switch (ob->ob_kind) {
	case OBSERVER_FILE:
		file_changed(q, ob->ob_fd);
		break;
	case OBSERVER_VNODE:
		vnode_event(q, object_at(q, ob->ob_object), event->mask,
		    event->len != 0);
		break;
	case OBSERVER_PARENT:
		vnode_parent_event(q, object_at(q, ob->ob_object));
		break;
	}
}

/*
 * With the last name of a file goes the watch, even if the file is open still,
 * by a name that went before.  Unless the number names another by now, what
 * observes it goes on.
 */
static bool
is_nameless(struct kqueue *q, const struct observer *ob)
{
	struct stat st;

	if (ob->ob_kind == OBSERVER_PARENT || fstat(ob->ob_fd, &st) == -1 ||
	    st.st_nlink != 0)
		return false;
	return ob->ob_kind == OBSERVER_FILE ||
	    vnode_is(object_at(q, ob->ob_object), &st);
}

/* What happened while nobody watched is looked for. */
static void
observe_nameless(struct kqueue *q, struct observer *ob)
{
	if (!is_nameless(q, ob) || inotify_observe(q, ob, ob->ob_mask) != 0)
		return;
	if (ob->ob_kind == OBSERVER_FILE)
		file_changed(q, ob->ob_fd);
	else
		vnode_watched_again(q, object_at(q, ob->ob_object));
}

static void
ignored(struct kqueue *q, struct inode *in)
{
	struct observer *ob, *next;

	in->i_gone = true;
	for (ob = in->i_observers; ob != NULL; ob = next) {
		next = ob->ob_next;
		observe_nameless(q, ob);
	}
}

/*
 * Events were lost, the ends of watches among them: whoever observes looks for
 * himself.
 */
static void
overflow(struct kqueue *q)
{
	struct fdnote *fn;
	struct object *o;
	uint32_t i;
	int fd;

	for (fd = 0; (fn = descriptor_next(q, &fd)) != NULL; fd++)
		if (fn->fn_extra != NULL &&
		    fn->fn_extra->fx_observer.ob_inode != NULL) {
			observe_nameless(q, &fn->fn_extra->fx_observer);
			file_changed(q, fd);
		}
	for (i = 0; (o = object_at(q, i)) != NULL; i++)
		if (o->o_filter == EVFILT_VNODE &&
		    (o->o_knote.kn_status & KN_ATTACHED))
			vnode_rescan(q, o);
}

static void
tell_event(struct kqueue *q, const struct inotify_event *event)
{
	struct observer *ob, *next;
	struct inode *in;

	if (event->mask & IN_Q_OVERFLOW)
		overflow(q);
	if ((in = inode_find(q, event->wd)) == NULL)
		return;
	if (event->mask & IN_IGNORED) {
		ignored(q, in);
		return;
	}
	for (ob = in->i_observers; ob != NULL; ob = next) {
		next = ob->ob_next;
		tell(q, ob, event);
	}
}

/* One batch; how many bytes it had, 0 if there was none. */
static int
take_batch(struct kqueue *q)
{
	_Alignas(struct inotify_event) char events[EVENT_BYTES];
	const struct inotify_event *event;
	size_t at = 0;
	int n;

	n = (int)syscall(SYS_read, q->q_inotify, events, sizeof(events));
	if (n <= 0)
		return 0;
	while ((event = wire_inotify(events, (size_t)n, &at)) != NULL)
		tell_event(q, event);
	return n;
}

/* Not for as long as others go on: what there is after the first batch. */
void
inotify_collect(struct kqueue *q)
{
	int n, left = 0;

	if (q->q_inotify == -1)
		return;
	/* If there was room for one more, there was no more. */
	if (take_batch(q) <= EVENT_BYTES - (int)LARGEST ||
	    ioctl(q->q_inotify, FIONREAD, &left) == -1)
		return;
	for (; left > 0 && (n = take_batch(q)) > 0; left -= n)
		continue;
}

void
inotify_close(struct kqueue *q)
{
	struct inode *in;
	uint32_t i;

	fd_close(q->q_inotify);
	q->q_inotify = -1;
	for (i = 0; i < q->q_inodechains; i++)
		while ((in = q->q_inodes[i]) != NULL) {
			q->q_inodes[i] = in->i_next;
			free(in);
		}
	free(q->q_inodes);
	q->q_inodes = NULL;
	q->q_inodechains = q->q_ninodes = 0;
}
