/*
 * file.c: READ of regular files and directories, which epoll refuses.
 *
 * Such a knote stands in the FIFO while the file's offset is not at its end.
 * At the end it is out of the FIFO; inotify brings it back when the file
 * changes, and lseek() does (watch_event()).
 */
#include <sys/inotify.h>

#include "kq.h"

#define CHANGES (IN_MODIFY | IN_CREATE | IN_DELETE | IN_MOVE)

int
file_attach(struct kqueue *q, int fd, struct fdnote *fn)
{
	struct observer *ob = &fn->fn_extra->fx_observer;

	ob->ob_kind = OBSERVER_FILE;
	ob->ob_fd = fd;
	return inotify_observe(q, ob, CHANGES);
}

void
file_detach(struct kqueue *q, struct fdnote *fn)
{
	inotify_forget(q, &fn->fn_extra->fx_observer);
}

void
file_changed(struct kqueue *q, int fd)
{
	struct fdnote *fn = descriptor_find(q, fd);

	if (knote_enabled(&fn->fn_knote[FN_READ]))
		descriptor_push(q, fd, fn, FN_READ);
}
