/*
 * file.c: READ of regular files and directories, which epoll refuses.
 *
 * Such a knote stands in the FIFO while the file's offset is not at its end.
 * At the end it is out of the FIFO; one inotify descriptor a queue brings it
 * back when the file changes, and lseek() does (watch_event()).  All knotes of
 * one inode share a watch.
 */
#include <sys/inotify.h>
#include <sys/syscall.h>

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kq.h"

#define CHANGES (IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVE)

static int
inotify_open(struct kqueue *q)
{
	int fd, error;

	if (q->q_inotify != -1)
		return 0;
	fd = fd_move_high(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	if (fd == -1)
		return errno;
	if ((error =
		    queue_watch(q, fd, EPOLLIN, tag_make(TAG_INOTIFY, 0, 0)))) {
		fd_close(fd);
		return error;
	}
	q->q_inotify = fd;
	return 0;
}

/* The next READ knote of a file at or after *fd, or NULL. */
static struct fdnote *
next_file(struct kqueue *q, int *fd)
{
	struct fdnote *fn;

	for (; (fn = descriptor_next(q, fd)) != NULL; ++*fd)
		if (fn->fn_type == FD_FILE && fn->fn_extra != NULL &&
		    fn->fn_extra->fx_inotify != -1)
			return fn;
	return NULL;
}

int
file_attach(struct kqueue *q, int fd, struct fdnote *fn)
{
	char path[32];
	int wd, error;

	if ((error = inotify_open(q)) != 0)
		return error;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	wd = inotify_add_watch(q->q_inotify, path, CHANGES);
	if (wd == -1)
		return errno == ENOSPC ? ENOMEM : errno;
	fn->fn_extra->fx_inotify = wd;
	return 0;
}

void
file_detach(struct kqueue *q, int fd, struct fdnote *fn)
{
	struct fdnote *other;
	int wd, i = 0;

	if (fn->fn_extra == NULL || (wd = fn->fn_extra->fx_inotify) == -1)
		return;
	fn->fn_extra->fx_inotify = -1;
	while ((other = next_file(q, &i)) != NULL) {
		if (other->fn_extra->fx_inotify == wd)
			return;
		i++;
	}
	inotify_rm_watch(q->q_inotify, wd);
}

/*
 * Which file it was is not looked at: the knotes that stand at the end of
 * theirs are asked again, and those that still do leave the FIFO again.
 */
void
file_changed(struct kqueue *q)
{
	char events[4096];
	struct fdnote *fn;
	int fd;

	while (syscall(SYS_read, q->q_inotify, events, sizeof(events)) > 0)
		continue;
	for (fd = 0; (fn = next_file(q, &fd)) != NULL; fd++)
		if (knote_enabled(&fn->fn_knote[FN_READ]))
			descriptor_push(q, fd, fn, FN_READ);
}
