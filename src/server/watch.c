/*
 * What else a loop does: events that the service watches with the same queue,
 * and functions that other threads post.
 *
 * A watch is found by (ident, filter), the key that kqueue(2) itself uses, so
 * no pointer is in the knote.  An event of the present batch that is older
 * than the watch belongs to one before it and is dropped.
 */
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>

static int own(const struct kquay *q, const struct kevent *ev);
static int compare(const struct watch *a, const struct watch *b);
static struct watch *find(struct kquay *q, const struct kevent *ev);
static void drop(struct kquay *q, struct watch *w);

RB_GENERATE_INTERNAL(watch_tree, watch, node, compare,
    __attribute__((__unused__)) static)

int
kquay_watch(struct kquay *q, const struct kevent *change, kquay_watch_fn *fn,
    void *arg)
{
	struct kevent ev = *change;
	struct watch *w, *fresh = NULL;

	if (own(q, change)) {
		errno = EEXIST;
		return -1;
	}
	w = find(q, change);
	if (w == NULL && !(change->flags & EV_ADD)) {
		errno = ENOENT;
		return -1;
	}
	if ((change->flags & EV_ADD) && fn == NULL) {
		errno = EINVAL;
		return -1;
	}
	if (w == NULL) {
		w = fresh = calloc(1, sizeof(*w));
		if (w == NULL)
			return -1;
	}
	ev.flags &= (unsigned short)~EV_RECEIPT;
	ev.udata = (void *)(uintptr_t)TAG_WATCH;
	if (kquay_loop_apply(q, &ev) == -1) {
		/* A descriptor that was closed took its knote with it. */
		if ((change->flags & EV_DELETE) && fresh == NULL &&
		    (errno == EBADF || errno == ENOENT)) {
			drop(q, w);
			return 0;
		}
		free(fresh);
		return -1;
	}
	if (change->flags & EV_DELETE) {
		drop(q, w);
		return 0;
	}
	w->udata = change->udata;
	if (change->flags & EV_ADD) {
		w->ident = change->ident;
		w->filter = change->filter;
		w->fn = fn;
		w->arg = arg;
		w->since = q->running ? q->stat.batches : 0;
	}
	if (fresh != NULL)
		RB_INSERT(watch_tree, &q->watches, fresh);
	return 0;
}

/* An event of a watch, unless that has gone. */
void
kquay_watch_event(struct kquay *q, const struct kevent *ev)
{
	struct kevent out = *ev;
	kquay_watch_fn *fn;
	struct watch *w;
	void *arg;

	w = find(q, ev);
	if (w == NULL || w->since == q->stat.batches)
		return;
	out.udata = w->udata;
	fn = w->fn;
	arg = w->arg;
	if (ev->flags & EV_ONESHOT)
		drop(q, w);
	fn(q, &out, arg);
}

void
kquay_watch_fini(struct kquay *q)
{
	struct watch *w;

	while ((w = RB_MIN(watch_tree, &q->watches)) != NULL)
		drop(q, w);
}

int
kquay_post(struct kquay *q, kquay_post_fn *fn, void *arg)
{
	struct post *p;

	p = kquay_post_new(fn, arg);
	if (p == NULL)
		return -1;
	kquay_post_put(q, p);
	return 0;
}

struct post *
kquay_post_new(kquay_post_fn *fn, void *arg)
{
	struct post *p;

	p = malloc(sizeof(*p));
	if (p == NULL)
		return NULL;
	p->fn = fn;
	p->arg = arg;
	return p;
}

/* Post what is the loop's from now on. */
void
kquay_post_put(struct kquay *q, struct post *p)
{
	int first;

	pthread_mutex_lock(&q->post_lock);
	first = STAILQ_EMPTY(&q->posts);
	STAILQ_INSERT_TAIL(&q->posts, p, next);
	/* Under the lock, as the loop's end may follow its last post. */
	if (first)
		kquay_post_wake(q);
	pthread_mutex_unlock(&q->post_lock);
}

/* Have the loop look what has been posted, from any thread. */
void
kquay_post_wake(struct kquay *q)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)q, EVFILT_USER, 0, NOTE_TRIGGER, 0,
	    (void *)(uintptr_t)TAG_POST);
	(void)kquay_loop_apply(q, &ev);
}

/* Call what was posted. */
void
kquay_post_run(struct kquay *q)
{
	struct post_list list = STAILQ_HEAD_INITIALIZER(list);
	struct post *p;

	pthread_mutex_lock(&q->post_lock);
	STAILQ_CONCAT(&list, &q->posts);
	pthread_mutex_unlock(&q->post_lock);
	while ((p = STAILQ_FIRST(&list)) != NULL) {
		STAILQ_REMOVE_HEAD(&list, next);
		p->fn(q, p->arg);
		free(p);
	}
}

/* Whether the loop itself uses the ident and filter. */
static int
own(const struct kquay *q, const struct kevent *ev)
{
	if (ev->filter == EVFILT_USER)
		return ev->ident == (uintptr_t)q;
	if (ev->filter == EVFILT_SIGNAL)
		return q->signals &&
		    (ev->ident == SIGTERM || ev->ident == SIGINT);
	return 0;
}

static int
compare(const struct watch *a, const struct watch *b)
{
	if (a->ident != b->ident)
		return a->ident < b->ident ? -1 : 1;
	return (a->filter > b->filter) - (a->filter < b->filter);
}

static struct watch *
find(struct kquay *q, const struct kevent *ev)
{
	struct watch key;

	key.ident = ev->ident;
	key.filter = ev->filter;
	return RB_FIND(watch_tree, &q->watches, &key);
}

static void
drop(struct kquay *q, struct watch *w)
{
	RB_REMOVE(watch_tree, &q->watches, w);
	free(w);
}
