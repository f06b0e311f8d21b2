/*
 * Listeners, and the callers that come in.
 *
 * To be told how many callers wait would cost a system call or more for each
 * event, and so would a last accept that finds nobody.  One caller an event
 * costs neither; the listener's next event brings the next.  Only where
 * events come in one batch after the other, more are taken at a time, twice
 * as many each time, until nobody is left (l->burst).
 *
 * Who finds no slot, or has too many connections already, gets the refusal
 * and is closed.  With KQUAY_FULLWAIT the listeners are switched off until a
 * slot is free.
 *
 * Out of descriptors, the reserve is given up to accept a caller, turn it
 * away and take the reserve back: the backlog empties and nothing spins.
 * Where that does not help, or the kernel has no memory, the listeners rest
 * until a connection ends or REST_MS have passed.
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	ACCEPTMAX = 256, /* per event, for the sake of the others */
	LASTMAX = 4096 /* at the end: a usual backlog, not all who ever come */
};

enum outcome { ACCEPTED, NOBODY, GONE, NO_DESCRIPTOR, NO_MEMORY };

static int admit(struct kquay *q, struct listener *l);
static enum outcome take(struct kquay *q, int lfd, int *fd,
    union peer_addr *peer, socklen_t *salen);
static int shed(struct kquay *q, struct listener *l);
static void refuse(struct kquay *q, int fd, const struct kquay_tls *tls,
    const struct sockaddr *sa, socklen_t salen, int err);
static int admit_one(struct kquay *q, struct listener *l, int may_wait);
static void full(struct kquay *q);
static int let_in(struct kquay_conn *c);
static int look(struct kquay_conn *c);
static void rest(struct kquay *q);
static void enable(struct kquay *q, int flags);
static void remove_file(struct listener *l);
static void disown(struct listener *l);

int
kquay_listen(struct kquay *q, const char *host, const char *port)
{
	q->error[0] = '\0';
	return kquay_bind_name(q, host, port);
}

int
kquay_listen_unix(struct kquay *q, const char *path, mode_t mode)
{
	q->error[0] = '\0';
	return kquay_bind_unix(q, path, mode);
}

int
kquay_listen_fd(struct kquay *q, int fd)
{
	q->error[0] = '\0';
	return kquay_bind_fd(q, fd);
}

const char *
kquay_listening(const struct kquay *q, unsigned n)
{
	const struct listener *l = kquay_listener_at(q, n);

	return l != NULL ? l->text : NULL;
}

/* The n-th listener, or NULL. */
struct listener *
kquay_listener_at(const struct kquay *q, unsigned n)
{
	struct listener *l;

	STAILQ_FOREACH(l, &q->listeners, next)
		if (n-- == 0)
			return l;
	return NULL;
}

/*
 * A listener for fd, a non-blocking socket that listens, which belongs to the
 * loop from now on.  NULL with errno: fd is still the caller's.
 */
struct listener *
kquay_listener_new(struct kquay *q, int fd, const char *text)
{
	struct listener *l;

	l = calloc(1, sizeof(*l));
	if (l == NULL || (l->text = strdup(text)) == NULL ||
	    kquay_listener_watch(q, fd) == -1) {
		if (l != NULL)
			free(l->text);
		free(l);
		return NULL;
	}
	l->fd = fd;
	kquay_listener_join(q, l);
	return l;
}

/* Have q's queue tell of callers at fd.  0, or -1 with errno. */
int
kquay_listener_watch(struct kquay *q, int fd)
{
	struct kevent ev;

	EV_SET(&ev, fd, EVFILT_READ,
	    EV_ADD | (q->full || q->resting ? EV_DISABLE : 0), KNOTE_NODATA, 0,
	    (void *)(uintptr_t)TAG_LISTEN);
	return kquay_loop_apply(q, &ev);
}

/* l, which q's queue watches, is q's from now on. */
void
kquay_listener_join(struct kquay *q, struct listener *l)
{
	kquay_tls_free(l->tls);
	l->layers = q->layers;
	l->tls = kquay_tls_hold(q->tls);
	l->burst = 1;
	l->last = 0;
	STAILQ_INSERT_TAIL(&q->listeners, l, next);
}

/* And no more, though the queue may watch it still. */
void
kquay_listener_part(struct kquay *q, struct listener *l)
{
	STAILQ_REMOVE(&q->listeners, l, listener, next);
	kquay_loop_forget(q, TAG_LISTEN, l->fd);
	if (q->taking == l)
		q->taking = NULL;
}

/* Close and free l, and remove its file. */
void
kquay_listener_free(struct listener *l)
{
	disown(l);
	kquay_tls_free(l->tls);
	free(l->path);
	free(l->text);
	free(l);
}

/* Undo what was added after the listener last, or all if last is NULL. */
void
kquay_listener_undo(struct kquay *q, struct listener *last)
{
	struct listener *l;

	for (;;) {
		l = last == NULL ? STAILQ_FIRST(&q->listeners) :
				   STAILQ_NEXT(last, next);
		if (l == NULL)
			return;
		kquay_listener_part(q, l);
		kquay_listener_free(l);
	}
}

/* Callers wait. */
void
kquay_listen_event(struct kquay *q, const struct kevent *ev)
{
	struct listener *l;
	int n;

	STAILQ_FOREACH(l, &q->listeners, next)
		if (l->fd == (int)ev->ident)
			break;
	if (l == NULL)
		return;
	if (l->last + 1 != q->stat.batches)
		l->burst = 1;
	else if (l->burst < ACCEPTMAX)
		l->burst *= 2;
	l->last = q->stat.batches;
	/* A callback may close it, or give it away. */
	q->taking = l;
	for (n = l->burst; n > 0 && !q->full && !q->resting; n--)
		if (admit(q, l) == -1 || q->taking != l || l->fd == -1)
			break;
	q->taking = NULL;
}

/* A slot or a descriptor may be free again, or the rest is over. */
void
kquay_listen_resume(struct kquay *q)
{
	if (q->full && kquay_pool_full(q))
		return;
	if (q->full && q->team != NULL)
		kquay_team_wait(q, 0);
	q->full = q->resting = 0;
	enable(q, EV_ENABLE);
}

/*
 * The batch in which the loop was stopped or retired is over: a close would
 * reset those who wait, so they are let in and get what there is for them,
 * then the listeners close.
 */
void
kquay_listen_last(struct kquay *q)
{
	struct listener *l;
	int n;

	STAILQ_FOREACH(l, &q->listeners, next) {
		remove_file(l);
		for (n = LASTMAX; n > 0 && l->fd != -1; n--) {
			if (kquay_pool_full(q) && q->dead != 0)
				kquay_conn_reap(q);
			if (admit(q, l) == -1)
				break;
		}
	}
	kquay_listen_close(q);
	if (q->dead != 0)
		kquay_conn_reap(q);
}

/* Stop listening. */
void
kquay_listen_close(struct kquay *q)
{
	struct listener *l;

	STAILQ_FOREACH(l, &q->listeners, next)
		disown(l);
	q->full = q->resting = q->last_call = 0;
	if (q->team != NULL) {
		kquay_team_wait(q, 0);
		kquay_team_deaf(q);
	}
}

void
kquay_listen_fini(struct kquay *q)
{
	kquay_listener_undo(q, NULL);
}

/* One caller.  -1 if the others of this event had better wait. */
static int
admit(struct kquay *q, struct listener *l)
{
	int may_wait = (q->conf.flags & KQUAY_FULLWAIT) && !q->retired, rc;

	if (may_wait && !kquay_pool_reserve(q)) {
		full(q);
		return -1;
	}
	rc = admit_one(q, l, may_wait);
	kquay_pool_unreserve(q);
	return rc;
}

/* No slot is free: leave the callers waiting until one is. */
static void
full(struct kquay *q)
{
	q->full = 1;
	enable(q, EV_DISABLE);
	if (q->team == NULL)
		return;
	kquay_team_wait(q, 1);
	/* Another loop may have given one back before it knew that we wait. */
	kquay_listen_resume(q);
}

static int
admit_one(struct kquay *q, struct listener *l, int may_wait)
{
	struct kquay_tls *tls;
	union peer_addr peer;
	socklen_t salen;
	int fd;

	switch (take(q, l->fd, &fd, &peer, &salen)) {
	case ACCEPTED:
		/* A callback may give l away, and with it what l holds. */
		tls = kquay_tls_hold(l->tls);
		if (!l->deals ||
		    !kquay_team_deal(q, fd, l->layers, tls, &peer.sa, salen))
			kquay_listen_begin(q, fd, l->layers, tls, &peer.sa,
			    salen);
		kquay_tls_free(tls);
		return 0;
	case GONE:
		return 0;
	case NOBODY:
		l->burst = 1;
		return -1;
	case NO_DESCRIPTOR:
		if (!may_wait && shed(q, l) == 0)
			return 0;
		/* FALLTHROUGH */
	case NO_MEMORY:
		rest(q);
		return -1;
	}
	return -1;
}

static enum outcome
take(struct kquay *q, int lfd, int *fd, union peer_addr *peer, socklen_t *salen)
{
	*salen = sizeof(*peer);
	memset(&peer->sa, 0, sizeof(peer->sa));
	if (q->sys.accept != NULL)
		*fd = q->sys.accept(lfd, &peer->sa, salen);
	else
		*fd = accept4(lfd, &peer->sa, salen,
		    SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (*fd != -1)
		return ACCEPTED;
	switch (errno) {
	case EAGAIN:
		return NOBODY;
	case EMFILE:
	case ENFILE:
		return NO_DESCRIPTOR;
	case ENOBUFS:
	case ENOMEM:
	case EBADF:
	case EINVAL:
	case ENOTSOCK:
		return NO_MEMORY;
	default:
		/* A signal, or what befell the caller while it waited. */
		return GONE;
	}
}

/* Turn a caller away at the price of the reserve.  -1 if that fails. */
static int
shed(struct kquay *q, struct listener *l)
{
	union peer_addr peer;
	socklen_t salen;
	int fd = -1;

	if (q->reserve == -1)
		q->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (q->reserve == -1)
		return -1;
	close(q->reserve);
	if (take(q, l->fd, &fd, &peer, &salen) == ACCEPTED)
		refuse(q, fd, l->tls, &peer.sa, salen, EMFILE);
	q->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	return fd == -1 || q->reserve == -1 ? -1 : 0;
}

/* Send fd away; err says why.  In TLS there is no word. */
static void
refuse(struct kquay *q, int fd, const struct kquay_tls *tls,
    const struct sockaddr *sa, socklen_t salen, int err)
{
	char scrap[512];

	if (q->refusal_len > 0 && tls == NULL) {
		send(fd, q->refusal, q->refusal_len,
		    MSG_NOSIGNAL | MSG_DONTWAIT);
		/* Unread input would turn the close into a reset. */
		shutdown(fd, SHUT_WR);
		while (recv(fd, scrap, sizeof(scrap), MSG_DONTWAIT) ==
		    (ssize_t)sizeof(scrap))
			;
	}
	close(fd);
	kquay_listen_refused(q, sa, salen, err, NULL);
}

/* Tell the service of a caller that was turned away; text NULL is errno's. */
void
kquay_listen_refused(struct kquay *q, const struct sockaddr *sa,
    socklen_t salen, int err, const char *text)
{
	q->stat.refused++;
	if (q->ops.refused == NULL)
		return;
	snprintf(q->error, sizeof(q->error), "%s",
	    text != NULL ? text : strerror(err));
	errno = err;
	q->ops.refused(q, sa, salen);
}

/*
 * Make fd a connection, or refuse it.  Its READ knote is one of the changes
 * of the next kevent(2).  Where input has usually been there already when a
 * caller was accepted, look for it at once: that saves a turn of the loop.
 */
void
kquay_listen_begin(struct kquay *q, int fd, unsigned layers,
    struct kquay_tls *tls, const struct sockaddr *sa, socklen_t salen)
{
	struct kquay_conn *c;
	int err;

	/* Who comes through a proxy is known once its header is read. */
	if (!(layers & C_PROXY) && kquay_pool_crowded(q, sa)) {
		refuse(q, fd, tls, sa, salen, EUSERS);
		return;
	}
	c = kquay_conn_new(q, fd, layers, sa, salen);
	if (c == NULL) {
		refuse(q, fd, tls, sa, salen, ENOBUFS);
		return;
	}
	err = !(layers & C_PROXY) ? let_in(c) : 0;
	if (c->state == CONN_DEAD) {
		/* In admit(), by the service. */
		q->stat.accepted++;
		return;
	}
	if (err == 0 && tls != NULL && kquay_tls_attach(c, tls, NULL) == -1)
		err = ENOMEM;
	if (err != 0) {
		kquay_output_drop(c);
		kquay_pool_give(c);
		refuse(q, fd, tls, sa, salen, err);
		return;
	}
	kquay_conn_start(c);
	kquay_conn_interest(c);
	if ((c->state == CONN_OPEN || c->state == CONN_SHAKE) &&
	    (c->flags & C_READ) &&
	    (q->stopping || q->eager > 0 || q->eager_turn++ % 16 == 0)) {
		kquay_output_uncork(q);
		if (look(c))
			q->eager = 8;
		else if (q->eager > 0)
			q->eager--;
	}
	kquay_output_uncork(q);
	if (q->stopping)
		kquay_conn_hangup(c, KQUAY_SHUTDOWN);
}

/* Count c, whose peer is known, and ask the service.  0, or an errno. */
static int
let_in(struct kquay_conn *c)
{
	if (kquay_pool_count(c, kquay_pool_loop(c)->conf.maxperaddr) == -1)
		return EUSERS;
	return kquay_listen_ask(c);
}

/*
 * Whether the service wants c, which is known and counted.  0, or an errno; c
 * may have ended meanwhile.
 */
int
kquay_listen_ask(struct kquay_conn *c)
{
	const struct kquay *q = kquay_pool_loop(c);
	int err;

	if (q->ops.admit == NULL)
		return 0;
	c->state = CONN_SHAKE;
	errno = 0;
	if (q->ops.admit(c) == 0)
		return 0;
	err = errno != 0 ? errno : EACCES;
	if (c->state == CONN_DEAD) {
		c->why = KQUAY_ERROR;
		kquay_pool_more(c)->err = (uint32_t)err;
	}
	return err;
}

/* Whether input was there already. */
static int
look(struct kquay_conn *c)
{
	if (c->state == CONN_SHAKE)
		return kquay_conn_shake(c);
	if (c->state == CONN_OPEN && (c->flags & C_READ))
		return kquay_input_read(c, NULL);
	return 0;
}

/* No descriptor or no memory for more: leave the callers waiting a while. */
static void
rest(struct kquay *q)
{
	kquay_loop_clock(q);
	q->resting = 1;
	q->rest_end = q->tick + kquay_wheel_ticks(REST_MS);
	enable(q, EV_DISABLE);
}

static void
enable(struct kquay *q, int flags)
{
	struct listener *l;
	struct kevent ev;

	STAILQ_FOREACH(l, &q->listeners, next) {
		if (l->fd == -1)
			continue;
		EV_SET(&ev, l->fd, EVFILT_READ, flags, KNOTE_NODATA, 0,
		    (void *)(uintptr_t)TAG_LISTEN);
		(void)kquay_loop_change(q, &ev);
	}
}

/* Close a listener, and remove its file. */
static void
disown(struct listener *l)
{
	if (l->fd == -1)
		return;
	remove_file(l);
	close(l->fd);
	l->fd = -1;
}

/*
 * Remove the listener's socket file if we made it and it is still the same.
 * A child of fork(2) has not made it.
 */
static void
remove_file(struct listener *l)
{
	struct stat st;

	if (l->fd == -1 || l->path == NULL)
		return;
	if (l->pid == getpid() && lstat(l->path, &st) == 0 &&
	    st.st_dev == l->dev && st.st_ino == l->ino)
		unlink(l->path);
	free(l->path);
	l->path = NULL;
}
