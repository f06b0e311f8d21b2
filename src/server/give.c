/*
 * Listeners that change hands: from one loop to another, out of the process
 * that goes on accepting elsewhere, and from the process before this one.
 *
 * The socket stays as it is, and with it the callers in its backlog; only the
 * queue that watches it is another.  A caller that comes in between waits
 * there: the new queue is told of it, as it looks at what is there already.
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <stdlib.h>

static int move(struct listener *l, struct kquay *from, struct kquay *to);

int
kquay_listener(const struct kquay *q, unsigned n)
{
	const struct listener *l = kquay_listener_at(q, n);

	return l != NULL ? l->fd : -1;
}

int
kquay_give(struct kquay *from, unsigned n, struct kquay *to)
{
	struct listener *l = kquay_listener_at(from, n);

	if (from->retired || (to != NULL && to->retired)) {
		errno = ESHUTDOWN;
		return -1;
	}
	if (l == NULL || from == to) {
		errno = l == NULL ? ENOENT : EINVAL;
		return -1;
	}
	if (to != NULL)
		return move(l, from, to);
	kquay_listener_part(from, l);
	/* The file is whose the socket is. */
	free(l->path);
	l->path = NULL;
	kquay_listener_free(l);
	return 0;
}

/* 0, or -1 with errno and nothing has changed. */
static int
move(struct listener *l, struct kquay *from, struct kquay *to)
{
	struct kevent ev;

	if (kquay_listener_watch(to, l->fd) == -1)
		return -1;
	kquay_listener_part(from, l);
	EV_SET(&ev, l->fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	(void)kquay_loop_apply(from, &ev);
	kquay_listener_join(to, l);
	if (to->conf.keepalive != from->conf.keepalive)
		kquay_os_keepalive(l->fd, to->conf.keepalive);
	if (to->team != NULL)
		kquay_team_got(to, l);
	else
		l->deals = l->spread = 0;
	return 0;
}

int
kquay_claim(struct kquay *q, unsigned n)
{
	struct listener *l = kquay_listener_at(q, n);

	if (l == NULL || l->fd == -1) {
		errno = ENOENT;
		return -1;
	}
	return l->path != NULL ? 0 : kquay_bind_claim(l);
}
