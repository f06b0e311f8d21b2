/*
 * filter_fs.c: EVFILT_FS, file systems come and go.
 *
 * The kernel says only that the table of mounts is another one: a knote has it
 * open, and compares what it was with what it is.  A mount counts by its place
 * and by what is there; another option is no other mount.
 *
 *	mountinfo --> EPOLLPRI --> read, compare --> VQ_MOUNT, VQ_UNMOUNT
 */
#include <sys/epoll.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"

#define MOUNTINFO "/proc/self/mountinfo"
#define OPTIONS 5 /* the field of a line that does not count */

/* The mounts, each as a hash, in order. */
struct mounts {
	size_t m_count, m_room;
	uint64_t *m_hash;
};

struct fs {
	int f_fd;
	uint32_t f_notes; /* VQ_* to be returned */
	struct mounts f_mounts;
};

/* -- the table ------------------------------------------------------------- */

/* Reading: the fields of a line go into a hash until the line ends. */
struct reader {
	struct mounts *r_mounts;
	uint64_t r_hash;
	unsigned r_field;
};

static bool
add(struct mounts *m, uint64_t hash)
{
	size_t room = m->m_room == 0 ? 64 : 2 * m->m_room;
	uint64_t *bigger;

	if (m->m_count == m->m_room) {
		bigger = realloc(m->m_hash, room * sizeof(*bigger));
		if (bigger == NULL)
			return false;
		m->m_hash = bigger;
		m->m_room = room;
	}
	m->m_hash[m->m_count++] = hash;
	return true;
}

static bool
read_bytes(struct reader *r, const char *at, size_t len)
{
	const char *end = at + len;

	for (; at < end; at++) {
		if (*at == '\n') {
			if (!add(r->r_mounts, r->r_hash))
				return false;
			r->r_hash = 0;
			r->r_field = 0;
			continue;
		}
		r->r_field += *at == ' ';
		if (r->r_field != OPTIONS)
			r->r_hash =
			    (r->r_hash ^ (unsigned char)*at) * 0x100000001b3u;
	}
	return true;
}

static int
by_hash(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

/* The table as it is now; 0 or an errno value, and then *m is empty. */
static int
mounts_read(int fd, struct mounts *m)
{
	struct reader r = { .r_mounts = m };
	char buf[4096];
	int error = 0;
	ssize_t n;

	memset(m, 0, sizeof(*m));
	if (syscall(SYS_lseek, fd, 0, SEEK_SET) == -1)
		return errno;
	while (
	    error == 0 && (n = syscall(SYS_read, fd, buf, sizeof(buf))) != 0) {
		if (n == -1)
			error = errno == EINTR ? 0 : errno;
		else if (!read_bytes(&r, buf, (size_t)n))
			error = ENOMEM;
	}
	if (error != 0) {
		free(m->m_hash);
		memset(m, 0, sizeof(*m));
		return error;
	}
	qsort(m->m_hash, m->m_count, sizeof(*m->m_hash), by_hash);
	return 0;
}

/* VQ_MOUNT if one is there that was not, VQ_UNMOUNT the other way round. */
static uint32_t
mounts_compare(const struct mounts *old, const struct mounts *now)
{
	size_t i = 0, j = 0;
	uint32_t notes = 0;

	while (i < old->m_count || j < now->m_count) {
		if (j == now->m_count ||
		    (i < old->m_count && old->m_hash[i] < now->m_hash[j])) {
			notes |= VQ_UNMOUNT;
			i++;
		} else if (i == old->m_count ||
		    old->m_hash[i] > now->m_hash[j]) {
			notes |= VQ_MOUNT;
			j++;
		} else {
			i++;
			j++;
		}
	}
	return notes;
}

/* -- the filter ------------------------------------------------------------ */

static int
fs_watch(struct kqueue *q, struct object *o)
{
	const struct fs *f = o->o_state;

	return queue_watch(q, f->f_fd, EPOLLPRI,
	    tag_make(TAG_OBJECT, o->o_gen, o->o_index));
}

static int
mountinfo_open(int *fd)
{
	*fd = fd_move_high((
	    int)syscall(SYS_openat, AT_FDCWD, MOUNTINFO, O_RDONLY | O_CLOEXEC));
	if (*fd != -1)
		return 0;
	return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? errno :
								       ENOTSUP;
}

static int
fs_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct fs *f;
	int error;

	if ((f = calloc(1, sizeof(*f))) == NULL)
		return ENOMEM;
	o->o_state = f;
	o->o_knote.kn_fflags = kev->fflags;
	if ((error = mountinfo_open(&f->f_fd)) != 0)
		goto no_file;
	if ((error = mounts_read(f->f_fd, &f->f_mounts)) != 0)
		goto no_mounts;
	if ((error = fs_watch(q, o)) == 0)
		return 0;
	free(f->f_mounts.m_hash);
no_mounts:
	fd_close(f->f_fd);
no_file:
	free(f);
	o->o_state = NULL;
	return error == ENOSPC ? ENOMEM : error;
}

static void
fs_detach(struct kqueue *q, struct object *o)
{
	struct fs *f = o->o_state;

	epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, f->f_fd, NULL);
	fd_close(f->f_fd);
	free(f->f_mounts.m_hash);
	free(f);
	o->o_state = NULL;
}

static int
fs_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	o->o_knote.kn_fflags = kev->fflags;
	return 0;
}

static bool
fs_active(struct kqueue *q, struct object *o)
{
	const struct fs *f = o->o_state;

	return f->f_notes != 0;
}

static bool
fs_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	struct fs *f = o->o_state;

	ev->fflags = f->f_notes;
	f->f_notes = 0;
	o->o_knote.kn_status &= (uint8_t)~KN_ACTIVE;
	return ev->fflags != 0;
}

/* Without memory for the table anything may have happened. */
static void
fs_event(struct kqueue *q, struct object *o)
{
	uint32_t notes = VQ_MOUNT | VQ_UNMOUNT;
	struct fs *f = o->o_state;
	struct mounts now;

	if (mounts_read(f->f_fd, &now) == 0) {
		notes = mounts_compare(&f->f_mounts, &now);
		free(f->f_mounts.m_hash);
		f->f_mounts = now;
	}
	f->f_notes |= notes & o->o_knote.kn_fflags;
	if (f->f_notes != 0)
		object_activate(q, o);
}

const struct filter filter_fs = {
	.f_attach = fs_attach,
	.f_detach = fs_detach,
	.f_touch = fs_touch,
	.f_active = fs_active,
	.f_report = fs_report,
	.f_event = fs_event,
	.f_watch = fs_watch,
	.f_forced = EV_CLEAR,
};
