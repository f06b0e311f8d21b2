/*
 * filter_vnode.c: EVFILT_VNODE, what happens to a file or directory.
 *
 * inotify tells that something happened to an inode; which notes that makes
 * often takes fstat() and what it said before:
 *
 *	IN_MODIFY	WRITE; the size grew: EXTEND; it shrank: ATTRIB
 *	IN_ATTRIB	the links are more: LINK; fewer: DELETE; else ATTRIB
 *	IN_MOVE_SELF	RENAME
 *	names in a directory	WRITE; it has more or fewer directories: LINK
 *
 * So DELETE comes with unlink(), though the file is open.  To a directory that
 * is removed while it is open inotify says nothing, so one of which DELETE is
 * wanted has its parent watched as well.
 *
 * A field of v_seen is brought up to date by the events that are about it,
 * and by no others: the rest of what has changed is still to be told.
 */
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <errno.h>
#include <stdlib.h>

#include "kq.h"

#define IN_NAMES (IN_CREATE | IN_DELETE | IN_MOVE)
#define PERMISSIONS (S_ISUID | S_ISGID | S_ISVTX | 0777)

struct vnode {
	struct observer v_self, v_parent;
	struct stat v_seen;
	uint32_t v_notes; /* that happened */
	bool v_revoked;
};

/* What inotify is asked for; IN_UNMOUNT comes unasked. */
static const struct {
	uint32_t note, file, directory;
} masks[] = {
	{ NOTE_DELETE, IN_ATTRIB, IN_ATTRIB | IN_MOVE_SELF },
	{ NOTE_WRITE, IN_MODIFY, IN_NAMES },
	{ NOTE_EXTEND, IN_MODIFY, 0 },
	{ NOTE_ATTRIB, IN_ATTRIB | IN_MODIFY, IN_ATTRIB },
	{ NOTE_LINK, IN_ATTRIB, IN_NAMES },
	{ NOTE_RENAME, IN_MOVE_SELF, IN_MOVE_SELF },
	{ NOTE_OPEN, IN_OPEN, IN_OPEN },
	{ NOTE_CLOSE, IN_CLOSE_NOWRITE, IN_CLOSE_NOWRITE },
	{ NOTE_CLOSE_WRITE, IN_CLOSE_WRITE, IN_CLOSE_WRITE },
	{ NOTE_READ, IN_ACCESS, IN_ACCESS },
};

/* Events that are a note whatever else is the case. */
static const struct {
	uint32_t event, note;
} plain_notes[] = {
	{ IN_MOVE_SELF, NOTE_RENAME },
	{ IN_OPEN, NOTE_OPEN },
	{ IN_CLOSE_NOWRITE, NOTE_CLOSE },
	{ IN_CLOSE_WRITE, NOTE_CLOSE_WRITE },
	{ IN_ACCESS, NOTE_READ },
	{ IN_UNMOUNT, NOTE_REVOKE },
	{ IN_DELETE_SELF, NOTE_DELETE },
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct vnode *
vnode_of(const struct object *o)
{
	return o->o_state;
}

static bool
is_directory(const struct vnode *v)
{
	return S_ISDIR(v->v_seen.st_mode);
}

/* Something happened of which the notes are wanted, or revoked it. */
static void
record(struct kqueue *q, struct object *o, uint32_t notes)
{
	struct vnode *v = vnode_of(o);

	v->v_notes |= notes & o->o_knote.kn_fflags;
	if (v->v_revoked || (notes & o->o_knote.kn_fflags) != 0)
		object_activate(q, o);
}

bool
vnode_is(const struct object *o, const struct stat *st)
{
	const struct stat *seen = &vnode_of(o)->v_seen;

	return st->st_dev == seen->st_dev && st->st_ino == seen->st_ino;
}

/*
 * 0 or an errno value.  EBADF: the number names another file by now, closed
 * behind our back.  On an overlay a file that is written to may get another
 * inode and be the same.
 */
static int
stat_same(struct kqueue *q, const struct object *o, struct stat *now)
{
	struct vnode *v = vnode_of(o);

	if (fstat((int)o->o_ident, now) == -1)
		return errno;
	if (vnode_is(o, now))
		return 0;
	if (!inotify_same(q, &v->v_self))
		return EBADF;
	v->v_seen.st_dev = now->st_dev;
	v->v_seen.st_ino = now->st_ino;
	return 0;
}

/* -- what changed ---------------------------------------------------------- */

static uint32_t
resized(struct vnode *v, const struct stat *now)
{
	off_t before = v->v_seen.st_size;

	v->v_seen.st_size = now->st_size;
	v->v_seen.st_mtim = now->st_mtim;
	if (now->st_size == before)
		return 0;
	return now->st_size > before ? NOTE_EXTEND : NOTE_ATTRIB;
}

static uint32_t
relinked(struct vnode *v, const struct stat *now)
{
	nlink_t before = v->v_seen.st_nlink;

	v->v_seen.st_nlink = now->st_nlink;
	if (now->st_nlink == before)
		return 0;
	if (is_directory(v) && now->st_nlink != 0)
		return NOTE_LINK;
	return now->st_nlink > before ? NOTE_LINK : NOTE_DELETE;
}

static uint32_t
reowned(struct vnode *v, const struct stat *now)
{
	struct stat *seen = &v->v_seen;
	bool same = seen->st_uid == now->st_uid &&
	    seen->st_gid == now->st_gid &&
	    ((seen->st_mode ^ now->st_mode) & PERMISSIONS) == 0;

	seen->st_uid = now->st_uid;
	seen->st_gid = now->st_gid;
	seen->st_mode = now->st_mode;
	seen->st_ctim = now->st_ctim;
	return same ? 0 : NOTE_ATTRIB;
}

/* IN_ATTRIB also stands for a change of the links, and for both. */
static uint32_t
attributes(struct vnode *v, const struct stat *now)
{
	uint32_t notes = reowned(v, now);

	if (!is_directory(v) || now->st_nlink == 0)
		notes |= relinked(v, now);
	return notes != 0 ? notes : NOTE_ATTRIB;
}

/* A name came or went; mkdir() and rmdir() are a link of the directory. */
static uint32_t
name_notes(struct vnode *v, const struct stat *now, uint32_t event)
{
	uint32_t notes = NOTE_WRITE;

	v->v_seen.st_mtim = now->st_mtim;
	if (event & IN_ISDIR)
		notes |= relinked(v, now);
	if ((event & IN_ISDIR) && (event & (IN_CREATE | IN_DELETE)))
		notes |= NOTE_LINK;
	return notes;
}

/* -- inotify --------------------------------------------------------------- */

static uint32_t
mask_of(const struct vnode *v, uint32_t wanted)
{
	uint32_t mask = IN_DELETE_SELF;
	size_t i;

	for (i = 0; i < COUNT(masks); i++)
		if (wanted & masks[i].note)
			mask |= is_directory(v) ? masks[i].directory :
						  masks[i].file;
	return mask;
}

/* The parent, if DELETE is wanted; after a move it is another. */
static int
observe_parent(struct kqueue *q, struct object *o, uint32_t wanted)
{
	struct vnode *v = vnode_of(o);

	if (is_directory(v) && (wanted & NOTE_DELETE) != 0)
		return inotify_observe(q, &v->v_parent, IN_DELETE);
	return 0;
}

/* Stop to observe what only others than the wanted notes take. */
static void
observe_less(struct kqueue *q, struct object *o, uint32_t mask, uint32_t wanted)
{
	struct vnode *v = vnode_of(o);

	if (mask != 0 && mask != v->v_self.ob_mask)
		inotify_observe(q, &v->v_self, mask);
	if ((wanted & NOTE_DELETE) == 0)
		inotify_forget(q, &v->v_parent);
}

/*
 * Observe what the wanted notes take.  What has been observed before is as it
 * was seen; the rest is news from now on.  On failure it is as before.
 */
static int
observe(struct kqueue *q, struct object *o, uint32_t wanted)
{
	struct vnode *v = vnode_of(o);
	uint32_t had = v->v_self.ob_mask, mask = mask_of(v, wanted);
	uint32_t more = mask & ~had;
	struct stat now;
	int error;

	inotify_collect(q);
	if ((error = inotify_observe(q, &v->v_self, had | mask)) != 0)
		return error;
	if ((error = observe_parent(q, o, wanted)) != 0 ||
	    (error = stat_same(q, o, &now)) != 0) {
		observe_less(q, o, had, o->o_knote.kn_fflags);
		return error;
	}
	observe_less(q, o, mask, wanted);
	if (more & (IN_MODIFY | IN_NAMES))
		resized(v, &now);
	if (more & IN_ATTRIB)
		reowned(v, &now);
	if (more & (IN_ATTRIB | IN_NAMES))
		relinked(v, &now);
	return 0;
}

static void
moved(struct kqueue *q, struct object *o)
{
	struct stat now;

	observe_parent(q, o, o->o_knote.kn_fflags);
	/* It may have been removed before there was anybody to see. */
	if (is_directory(vnode_of(o)) && stat_same(q, o, &now) == 0 &&
	    now.st_nlink == 0)
		record(q, o, relinked(vnode_of(o), &now));
}

/* The notes of an event that fstat() has to explain, if it can. */
static uint32_t
stat_notes(struct kqueue *q, struct object *o, uint32_t event)
{
	struct vnode *v = vnode_of(o);
	uint32_t notes = 0;
	struct stat now;
	int error;

	if ((event & (IN_MODIFY | IN_ATTRIB | IN_NAMES)) == 0 ||
	    (error = stat_same(q, o, &now)) == EBADF)
		return 0;
	if (event & IN_MODIFY)
		notes |= NOTE_WRITE | (error == 0 ? resized(v, &now) : 0);
	if (event & IN_ATTRIB)
		notes |= error == 0 ? attributes(v, &now) : NOTE_ATTRIB;
	if (event & IN_NAMES)
		notes |= error == 0 ? name_notes(v, &now, event) : NOTE_WRITE;
	return notes;
}

void
vnode_event(struct kqueue *q, struct object *o, uint32_t event, bool named)
{
	struct vnode *v = vnode_of(o);
	uint32_t notes = 0;
	size_t i;

	/* What is done to a file is no news of its directory. */
	if (named && (event & IN_NAMES) == 0)
		return;
	for (i = 0; i < COUNT(plain_notes); i++)
		if (event & plain_notes[i].event)
			notes |= plain_notes[i].note;
	if (event & IN_UNMOUNT)
		v->v_revoked = true;
	notes |= stat_notes(q, o, event);
	record(q, o, notes);
	if (event & IN_MOVE_SELF)
		moved(q, o);
}

void
vnode_parent_event(struct kqueue *q, struct object *o)
{
	struct stat now;

	switch (stat_same(q, o, &now)) {
	case 0:
		if (now.st_nlink == 0)
			record(q, o, relinked(vnode_of(o), &now));
		break;
	case EBADF:
		break;
	default:
		/* The file system does not tell if it was this one. */
		record(q, o, NOTE_DELETE);
	}
}

static bool
differs(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec != b->tv_sec || a->tv_nsec != b->tv_nsec;
}

/* What happened since it was last looked at, as far as can be seen. */
static uint32_t
found(struct vnode *v, const struct stat *now)
{
	bool written = differs(&now->st_mtim, &v->v_seen.st_mtim);
	uint32_t notes = relinked(v, now) | reowned(v, now);

	if (!is_directory(v))
		notes |= resized(v, now);
	v->v_seen.st_mtim = now->st_mtim;
	return written ? notes | NOTE_WRITE : notes;
}

void
vnode_watched_again(struct kqueue *q, struct object *o)
{
	struct stat now;

	if (stat_same(q, o, &now) == 0)
		record(q, o, found(vnode_of(o), &now));
}

/* Events were lost.  A change that nothing else explains may be of the name. */
void
vnode_rescan(struct kqueue *q, struct object *o)
{
	struct vnode *v = vnode_of(o);
	struct stat now;
	uint32_t notes;
	bool changed;

	if (stat_same(q, o, &now) != 0)
		return;
	if (now.st_nlink == 0)
		inotify_observe(q, &v->v_self, v->v_self.ob_mask);
	changed = differs(&now.st_ctim, &v->v_seen.st_ctim);
	notes = found(v, &now);
	if (changed && notes == 0)
		notes |= NOTE_ATTRIB | NOTE_RENAME;
	record(q, o, notes);
	moved(q, o);
}

/* -- the filter ------------------------------------------------------------ */

/*
 * A socket, a pipe without a name, an eventfd, a queue: no files.  Nor is a
 * process, whose descriptor passes for a regular one.
 */
static int
check_type(int fd, const struct stat *st)
{
	static const unsigned long nameless[] = {
		0x50495045, /* PIPEFS_MAGIC */
		0x534f434b, /* SOCKFS_MAGIC */
		0x09041934, /* ANON_INODE_FS_MAGIC */
		0x50494446  /* PID_FS_MAGIC */
	};
	struct statfs fs;
	size_t i;

	if (S_ISDIR(st->st_mode))
		return 0;
	if (fstatfs(fd, &fs) == -1)
		return errno;
	for (i = 0; i < COUNT(nameless); i++)
		if ((unsigned long)fs.f_type == nameless[i])
			return EINVAL;
	return 0;
}

static void
vnode_detach(struct kqueue *q, struct object *o)
{
	struct vnode *v = vnode_of(o);

	inotify_forget(q, &v->v_self);
	inotify_forget(q, &v->v_parent);
	free(v);
}

enum { ATTACH_TRIES = 8 };

/* EBADF also if the number names another file by the end: then once more. */
static int
attach(struct kqueue *q, struct object *o, uint32_t wanted)
{
	struct vnode *v = vnode_of(o);
	int fd = (int)o->o_ident, error;

	if (fstat(fd, &v->v_seen) == -1)
		return errno;
	if ((error = check_type(fd, &v->v_seen)) != 0)
		return error;
	v->v_self = (struct observer){ .ob_fd = fd,
		.ob_object = o->o_index,
		.ob_kind = OBSERVER_VNODE };
	v->v_parent = v->v_self;
	v->v_parent.ob_kind = OBSERVER_PARENT;
	if ((error = observe(q, o, wanted)) != 0) {
		inotify_forget(q, &v->v_self);
		inotify_forget(q, &v->v_parent);
	}
	return error;
}

static int
vnode_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	int tries = ATTACH_TRIES, error;

	if ((o->o_state = calloc(1, sizeof(struct vnode))) == NULL)
		return ENOMEM;
	do
		error = attach(q, o, kev->fflags);
	while (error == EBADF && --tries > 0);
	if (error != 0)
		free(o->o_state);
	else
		o->o_knote.kn_fflags = kev->fflags;
	return error;
}

/* What happened until now is judged by what was wanted until now. */
static int
vnode_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	int error = 0;

	if (kev->fflags != o->o_knote.kn_fflags)
		error = observe(q, o, kev->fflags);
	if (error == 0)
		o->o_knote.kn_fflags = kev->fflags;
	return error;
}

static bool
vnode_active(struct kqueue *q, struct object *o)
{
	return (o->o_knote.kn_status & KN_ACTIVE) != 0;
}

static bool
vnode_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	struct vnode *v = vnode_of(o);
	bool level = (o->o_knote.kn_flags & EV_CLEAR) == 0;

	/* It may have stood here since it was last returned. */
	if (level)
		inotify_collect(q);
	ev->fflags = v->v_notes;
	if (v->v_revoked)
		ev->flags |= EV_EOF;
	if (level)
		return v->v_revoked || v->v_notes != 0;
	v->v_notes = 0;
	o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	return true;
}

static bool
vnode_same(struct kqueue *q, struct object *o)
{
	const struct observer *ob = &vnode_of(o)->v_self;

	if (inotify_same(q, ob))
		return true;
	/* The kernel may have let go of it, and that is still to be read. */
	inotify_collect(q);
	return inotify_same(q, ob);
}

const struct filter filter_vnode = {
	.f_attach = vnode_attach,
	.f_detach = vnode_detach,
	.f_touch = vnode_touch,
	.f_active = vnode_active,
	.f_report = vnode_report,
	.f_same = vnode_same,
	.f_isfd = true,
};
