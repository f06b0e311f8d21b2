/*
 * The life of a connection.
 *
 *     kquay_conn_dial              kquay_conn_start
 *           |                      |              |
 *           v                      v              |
 *         DIAL ----------------> SHAKE            | neither PROXY header
 *           kquay_conn_connected   |              | nor TLS
 *                                  |              |
 *                           +------+--------------+
 *                           | kquay_conn_open: open()
 *                           v     eof() says 1
 *                         OPEN ------------------> HALF
 *                           |                       |
 *       kquay_conn_hangup   |<----------------------+
 *   (service, eof, limits,  v
 *       stop)             FLUSH  output goes out, input is thrown away
 *                           |
 *                  flushed  |--- the peer may send still -> LINGER
 *                           |                              |
 *                           v                              |
 *                         DEAD  <--------------------------+  kquay_conn_end
 *                           |
 *       kquay_conn_reap     |  end of the batch: close callback, close(2)
 *                           v
 *                         FREE
 *
 * kquay_detach() leads from OPEN to AWAY: the descriptor is the service's, the
 * slot and its limit of life remain until the service closes it.
 *
 * kquay_conn_end() leads to DEAD from every state: errors, resets, aborts,
 * and limits that ran out.  Before open() there is nothing to flush, so
 * whatever ends a connection then ends it at once.
 *
 * LINGER is there because close(2) on a TCP socket with unread input sends a
 * reset, and a reset may overtake the output that the peer has not read.  So
 * our end is shut down, and what comes is thrown away until the peer is done
 * or linger is over.
 *
 * What the knotes must be follows from state and flags alone:
 * kquay_conn_interest() compares that with what is registered.
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static void begin_shake(struct kquay_conn *c);
static void shake_failed(struct kquay_conn *c, int err);
static void change(struct kquay_conn *c, int filter, int flags);
static void end_of_input(struct kquay_conn *c, const struct kevent *ev);
static void writable(struct kquay_conn *c);
static void release(struct kquay_conn *c);
static void flushed(struct kquay_conn *c, int slow);
static void linger(struct kquay_conn *c);
static void give_up(struct kquay_conn *c);
static void wake(struct kquay_conn *c);
static void unready(struct kquay_conn *c);
static void tell(struct kquay_conn *c);
static int adopt_fd(struct kquay_conn *c, int *fl);

/*
 * A slot for fd, which belongs to it from now on; NULL if there is none.  It
 * has not begun: kquay_conn_start() or kquay_pool_give() must follow.  It is
 * not counted yet (kquay_pool_count()).
 */
struct kquay_conn *
kquay_conn_new(struct kquay *q, int fd, unsigned layers,
    const struct sockaddr *sa, socklen_t salen)
{
	struct kquay_conn *c;

	c = kquay_pool_take(q, 0);
	if (c == NULL)
		return NULL;
	c->fd = fd;
	c->ops = &q->ops;
	c->flags |= C_SOCKET | C_FRESH | layers;
	if (salen > sizeof(c->peer))
		salen = offsetof(struct sockaddr, sa_data);
	memcpy(&c->peer, sa, salen);
	return c;
}

/* An accepted or adopted connection begins. */
void
kquay_conn_start(struct kquay_conn *c)
{
	kquay_pool_loop(c)->stat.accepted++;
	if (c->flags & C_LAYERS)
		begin_shake(c);
	else
		kquay_conn_open(c);
}

/*
 * A slot without a descriptor, for one who dials: kquay_conn_connected() or
 * kquay_conn_end() must follow.  NULL if there is none.
 */
struct kquay_conn *
kquay_conn_dial(struct kquay *q, const struct kquay_ops *ops, unsigned layers)
{
	struct kquay_conn *c;

	c = kquay_pool_take(q, C_CLIENT);
	if (c == NULL)
		return NULL;
	c->fd = -1;
	c->ops = ops != NULL ? ops : &q->ops;
	c->flags |= C_KNOWN | layers;
	c->state = CONN_DIAL;
	c->born = c->active = kquay_wheel_now(q);
	return c;
}

/*
 * c, which was dialling, is connected by the non-blocking socket fd, which
 * belongs to it from now on.  open() may be called.
 */
void
kquay_conn_connected(struct kquay_conn *c, int fd, const struct sockaddr *sa,
    socklen_t salen)
{
	c->fd = fd;
	c->flags |= C_SOCKET;
	if (salen > sizeof(c->peer))
		salen = offsetof(struct sockaddr, sa_data);
	memcpy(&c->peer, sa, salen);
	if (c->flags & C_LAYERS) {
		begin_shake(c);
		kquay_conn_shake(c);
		return;
	}
	kquay_conn_open(c);
	kquay_conn_interest(c);
}

static void
begin_shake(struct kquay_conn *c)
{
	c->state = CONN_SHAKE;
	c->born = kquay_wheel_now(kquay_pool_loop(c));
	kquay_wheel_set(c);
}

/*
 * SHAKE, and input may be there, or everything has just begun: go on with what
 * comes before open().  Returns 1 if something was there.
 */
int
kquay_conn_shake(struct kquay_conn *c)
{
	int rc = 1;

	if ((c->flags & C_PROXY) &&
	    !(c->flags & C_CLIENT ? kquay_proxy_send_header(c) :
				    kquay_proxy_read_header(c))) {
		kquay_conn_interest(c);
		return 0;
	}
	if (c->flags & C_TLS)
		rc = kquay_tls_shake(c);
	if (c->state == CONN_DEAD)
		return 1;
	if (rc == 1)
		kquay_input_begin(c);
	else if (rc == -1) {
		shake_failed(c, errno);
		return 0;
	}
	kquay_conn_interest(c);
	return 1;
}

static void
shake_failed(struct kquay_conn *c, int err)
{
	if (err == ENOBUFS || err == ENOMEM)
		kquay_conn_starve(c);
	else if (err != EAGAIN)
		kquay_conn_end(c, KQUAY_ERROR, err);
}

/* Tell the service.  All that had to come before has. */
void
kquay_conn_open(struct kquay_conn *c)
{
	c->state = CONN_OPEN;
	c->flags |= C_KNOWN;
	c->born = c->active = kquay_wheel_now(kquay_pool_loop(c));
	if (c->flags & C_CLIENT)
		kquay_dial_drop(c);
	if (c->flags & C_EARLY)
		kquay_output_early(c);
	if (c->state == CONN_OPEN && c->ops->open != NULL &&
	    c->ops->open(c) == -1)
		kquay_conn_hangup(c, KQUAY_DONE);
	/* Not before: open() may have set other limits. */
	kquay_wheel_set(c);
}

struct kquay_conn *
kquay_adopt(struct kquay *q, int fd, const struct kquay_ops *ops)
{
	union peer_addr peer = { .sa = { .sa_family = AF_UNSPEC } };
	socklen_t salen = sizeof(peer);
	struct kquay_conn *c;
	struct kevent ev;
	int fl, saved;

	if (q->stopping) {
		errno = ESHUTDOWN;
		return NULL;
	}
	if (getpeername(fd, &peer.sa, &salen) == -1)
		salen = sizeof(peer.sa);
	c = kquay_conn_new(q, fd, 0, &peer.sa, salen);
	if (c == NULL) {
		errno = ENOBUFS;
		return NULL;
	}
	if (ops != NULL)
		c->ops = ops;
	if (adopt_fd(c, &fl) == -1)
		goto fail;
	(void)kquay_pool_count(c, UINT32_MAX); /* no limit holds for it */
	EV_SET(&ev, fd, EVFILT_READ, EV_ADD, KNOTE_NODATA, 0,
	    (void *)(uintptr_t)c->id);
	if (kquay_loop_apply(q, &ev) == -1) {
		saved = errno;
		fcntl(fd, F_SETFL, fl);
		errno = saved;
		goto fail;
	}
	c->flags |= C_ADDED | C_READ;
	kquay_conn_start(c);
	return c;

fail:
	kquay_pool_give(c);
	return NULL;
}

/* Make the descriptor non-blocking; *fl is what its flags were. */
static int
adopt_fd(struct kquay_conn *c, int *fl)
{
	socklen_t len = sizeof(int);
	int type;

	*fl = fcntl(c->fd, F_GETFL);
	if (*fl == -1 || fcntl(c->fd, F_SETFL, *fl | O_NONBLOCK) == -1)
		return -1;
	if (getsockopt(c->fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
		c->flags &= ~C_SOCKET;
	return 0;
}

int
kquay_detach(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	struct kevent ev;
	int fd = c->fd;

	if (q->corked == c)
		kquay_output_uncork(q);
	if (c->state != CONN_OPEN || (c->flags & (C_TLS | C_EOF))) {
		errno = EINVAL;
		return -1;
	}
	if (c->flags & (C_KEPT | C_QUEUED)) {
		errno = EBUSY;
		return -1;
	}
	/* Its knotes may exist, or be in the list of changes only. */
	kquay_loop_forget(q, (uintptr_t)c->id, fd);
	EV_SET(&ev, fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	if (c->flags & C_ADDED)
		(void)kquay_loop_apply(q, &ev);
	EV_SET(&ev, fd, EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
	if (c->flags & C_WRITE)
		(void)kquay_loop_apply(q, &ev);
	c->fd = -1;
	c->flags &= ~(unsigned)(C_ADDED | C_READ | C_WRITE | C_FRESH);
	c->state = CONN_AWAY;
	kquay_wheel_set(c);
	return fd;
}

/* Register what state and flags ask for. */
void
kquay_conn_interest(struct kquay_conn *c)
{
	int reading, writing;

	if (c->state == CONN_DEAD || c->state == CONN_DIAL ||
	    c->state == CONN_AWAY)
		return;
	reading = !(c->flags & (C_EOF | C_STARVED)) &&
	    (c->state != CONN_OPEN || !(c->flags & C_BLOCKED));
	writing = (c->flags & (C_QUEUED | C_STARVED)) == C_QUEUED;
	if (c->state == CONN_SPLICE) {
		reading = reading && kquay_splice_reading(c);
		writing = writing ||
		    (!(c->flags & C_STARVED) && kquay_splice_writing(c));
	}
	if (reading && !(c->flags & C_READ)) {
		change(c, EVFILT_READ, c->flags & C_ADDED ? EV_ENABLE : EV_ADD);
		c->flags |= C_ADDED | C_READ;
	} else if (!reading && (c->flags & C_READ)) {
		/* After the end nothing more comes to read. */
		c->flags &= c->flags & C_EOF ? ~(C_ADDED | C_READ) : ~C_READ;
		change(c, EVFILT_READ,
		    c->flags & C_ADDED ? EV_DISABLE : EV_DELETE);
	}
	if (writing && !(c->flags & C_WRITE)) {
		change(c, EVFILT_WRITE, EV_ADD);
		c->flags |= C_WRITE;
	} else if (!writing && (c->flags & C_WRITE)) {
		change(c, EVFILT_WRITE, EV_DELETE);
		c->flags &= ~C_WRITE;
	}
}

static void
change(struct kquay_conn *c, int filter, int flags)
{
	struct kquay *q = kquay_pool_loop(c);
	struct kevent ev;

	EV_SET(&ev, c->fd, filter, flags, KNOTE_NODATA, 0,
	    (void *)(uintptr_t)c->id);
	c->flags = (c->flags & ~C_LIST(0xff)) | C_LIST(q->list);
	if (kquay_loop_change(q, &ev) == -1 && !(flags & EV_DELETE))
		kquay_conn_end(c, KQUAY_ERROR, errno);
}

/* An event for c, which has not ended. */
void
kquay_conn_event(struct kquay_conn *c, const struct kevent *ev)
{
	if ((ev->flags & EV_ERROR) && c->state != CONN_DIAL) {
		/* Only a knote that is not there fails with ENOENT. */
		if (ev->data != ENOENT && ev->data != 0)
			kquay_conn_end(c, KQUAY_ERROR, (int)ev->data);
		return;
	}
	if (c->state == CONN_DIAL)
		kquay_dial_event(c, ev);
	else if (c->state == CONN_SPLICE) {
		if (ev->filter == EVFILT_WRITE)
			kquay_splice_write(c);
		else if ((c->flags & (C_READ | C_READY)) == C_READ)
			kquay_splice_read(c, ev);
	} else if (ev->filter == EVFILT_WRITE)
		writable(c);
	else if (c->state == CONN_OPEN) {
		if ((c->flags & (C_READ | C_READY)) == C_READ)
			kquay_input_read(c, ev);
	} else if (c->state == CONN_FLUSH || c->state == CONN_LINGER)
		end_of_input(c, ev);
	else if (c->state == CONN_SHAKE)
		kquay_conn_shake(c);
}

/* While closing, input is thrown away until its end. */
static void
end_of_input(struct kquay_conn *c, const struct kevent *ev)
{
	int rc;

	rc = kquay_input_waste(c);
	if (rc == 1)
		return;
	if (rc == -1) {
		if (errno != EAGAIN)
			kquay_conn_end(c,
			    c->state == CONN_LINGER ? (enum kquay_why)c->why :
						      KQUAY_ERROR,
			    errno);
		return;
	}
	c->flags |= C_EOF;
	if (c->state == CONN_LINGER)
		kquay_conn_end(c, (enum kquay_why)c->why, 0);
	else
		kquay_conn_interest(c);
}

static void
writable(struct kquay_conn *c)
{
	kquay_output_flush(c);
	if (c->state == CONN_DEAD)
		return;
	if (c->state == CONN_FLUSH && !(c->flags & C_QUEUED)) {
		flushed(c, 1);
		return;
	}
	if ((c->flags & C_CHOKED) &&
	    kquay_pending(c) <= kquay_pool_loop(c)->conf.outlo) {
		c->flags &= ~C_CHOKED;
		wake(c);
		if ((c->state == CONN_OPEN || c->state == CONN_HALF) &&
		    c->ops->drained != NULL)
			c->ops->drained(c);
	}
	kquay_conn_interest(c);
}

/*
 * Begin to close: what is queued goes out first.  why is what the close
 * callback will be told.
 */
void
kquay_conn_hangup(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay *q = kquay_pool_loop(c);

	/* Who is away may finish: kquay_stop() waits for it. */
	if (c->state == CONN_DIAL || c->state == CONN_SHAKE ||
	    (c->state == CONN_AWAY && why != KQUAY_SHUTDOWN))
		kquay_conn_end(c, why, 0);
	if (c->state == CONN_SPLICE)
		kquay_splice_hangup(c, why);
	if (c->state != CONN_OPEN && c->state != CONN_HALF)
		return;
	c->state = CONN_FLUSH;
	c->why = why;
	kquay_input_drop(c);
	if (q->corked == c)
		kquay_output_uncork(q);
	if (c->flags & C_TLS)
		kquay_tls_shutdown(c);
	if (c->state == CONN_DEAD)
		return;
	if (!(c->flags & C_QUEUED)) {
		flushed(c, 0);
		return;
	}
	c->born = kquay_wheel_now(q);
	linger(c);
}

/*
 * FLUSH, and nothing is left to send.  A peer that was slow to read may send
 * still, when we have closed; one that was not is asked only whether it has.
 */
static void
flushed(struct kquay_conn *c, int slow)
{
	if ((c->flags & (C_SOCKET | C_SENT | C_EOF)) != (C_SOCKET | C_SENT) ||
	    (kquay_input_waste(c) != 1 && !slow) ||
	    shutdown(c->fd, SHUT_WR) == -1) {
		kquay_conn_end(c, (enum kquay_why)c->why, 0);
		return;
	}
	c->state = CONN_LINGER;
	c->active = kquay_wheel_now(kquay_pool_loop(c));
	if (!slow)
		c->born = c->active;
	linger(c);
}

/* From now on the peer must not rest for longer than linger. */
static void
linger(struct kquay_conn *c)
{
	kquay_pool_store(&kquay_pool_more(c)->unsent, kquay_os_unsent(c->fd));
	kquay_wheel_set(c);
	kquay_conn_interest(c);
}

/*
 * c has ended.  It goes at the end of the batch; until then it can be read
 * and nothing else.
 */
void
kquay_conn_end(struct kquay_conn *c, enum kquay_why why, int err)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t link = kquay_pool_link(c);
	int spliced;

	if (c->state == CONN_DEAD)
		return;
	if (q->corked == c)
		q->corked = NULL;
	kquay_wheel_clear(c);
	kquay_pool_ended(c);
	spliced = c->state == CONN_SPLICE;
	c->state = CONN_DEAD;
	c->why = why;
	kquay_pool_store(&q->more[link].err, (uint32_t)err);
	c->next = 0;
	if (q->dead == 0)
		q->dead = link;
	else
		kquay_pool_at(q, q->dead_tail)->next = link;
	q->dead_tail = link;
	if (spliced)
		kquay_splice_broken(c, why);
}

/* A limit of c has run out. */
void
kquay_conn_expire(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t now = q->tick, idle, life;

	kquay_wheel_limits(c, &idle, &life);
	if (c->state == CONN_FLUSH || c->state == CONN_LINGER)
		give_up(c);
	else if (kquay_pool_dial(c) != NULL)
		kquay_dial_expire(c);
	else if (c->state == CONN_SHAKE)
		kquay_conn_end(c, KQUAY_HANDSHAKE, ETIMEDOUT);
	else if (life != 0 && (int32_t)(now - c->born - life) > 0)
		kquay_conn_hangup(c, KQUAY_LIFE);
	else if ((c->flags & C_FRESH) && q->handshake != 0 &&
	    (int32_t)(now - c->born - q->handshake) > 0)
		kquay_conn_hangup(c, KQUAY_HANDSHAKE);
	else {
		/* What is queued has not moved all the while. */
		if ((c->flags & C_QUEUED) ||
		    (c->state == CONN_SPLICE && kquay_splice_writing(c)))
			c->flags |= C_RESET;
		kquay_conn_end(c, KQUAY_IDLE, 0);
	}
}

/*
 * The time to deliver is over, unless the peer reads still: what we see is
 * only whether the kernel has less to send than at the last look.
 */
static void
give_up(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	struct more *more = kquay_pool_more(c);
	uint32_t unsent = kquay_os_unsent(c->fd);

	if (unsent != more->unsent &&
	    (int32_t)(q->tick - c->born - q->linger_max) <= 0) {
		more->unsent = unsent;
		c->active = q->tick;
		kquay_wheel_set(c);
		return;
	}
	if (unsent != 0 || (c->flags & C_QUEUED))
		c->flags |= C_RESET;
	kquay_conn_end(c, (enum kquay_why)c->why, 0);
}

/* The kernel has no memory for c now: look again after a tick. */
void
kquay_conn_starve(struct kquay_conn *c)
{
	(void)kquay_wheel_now(kquay_pool_loop(c));
	c->flags |= C_STARVED;
	kquay_wheel_set(c);
	kquay_conn_interest(c);
}

/* It may have some again. */
void
kquay_conn_feed(struct kquay_conn *c)
{
	c->flags &= ~C_STARVED;
	kquay_conn_interest(c);
}

/* c may be read from again: what was kept is passed on when the loop comes to
   it. */
static void
wake(struct kquay_conn *c)
{
	if (c->state == CONN_OPEN && !(c->flags & C_BLOCKED) &&
	    (c->flags & (C_KEPT | C_EOF)))
		kquay_conn_ready(c);
}

/* The loop is to come to c at the end of the batch, or in the next step,
   whatever the kernel says. */
void
kquay_conn_ready(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t link = kquay_pool_link(c);

	if (c->flags & C_READY)
		return;
	c->flags |= C_READY;
	q->joints[link].ready_next = 0;
	if (q->ready == 0)
		q->ready = link;
	else
		q->joints[q->ready_tail].ready_next = link;
	q->ready_tail = link;
}

/* Pass on what was kept by those on the list of the ready. */
void
kquay_conn_resume(struct kquay *q)
{
	uint32_t last = q->ready_tail, link;
	struct kquay_conn *c;

	do {
		link = q->ready;
		c = kquay_pool_at(q, link);
		unready(c);
		if (c->state == CONN_OPEN && !(c->flags & C_BLOCKED))
			kquay_input_again(c);
		else if (c->state == CONN_SPLICE)
			kquay_splice_begin(c);
		else if (c->state == CONN_DIAL)
			kquay_dial_ready(c);
		kquay_output_uncork(q);
	} while (link != last && q->ready != 0);
}

static void
unready(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t *link = &q->ready, prev = 0;

	while (*link != kquay_pool_link(c)) {
		prev = *link;
		link = &q->joints[prev].ready_next;
	}
	*link = kquay_pool_joint(c)->ready_next;
	if (q->ready_tail == kquay_pool_link(c))
		q->ready_tail = prev;
	c->flags &= ~C_READY;
}

/*
 * The end of the batch, and of all that has ended in it.  What ends in a close
 * callback goes at the end of the next: who dials again there, and fails at
 * once, must not keep the loop.
 */
void
kquay_conn_reap(struct kquay *q)
{
	uint32_t last = q->dead_tail, link;
	struct kquay_conn *c;

	do {
		link = q->dead;
		c = kquay_pool_at(q, link);
		if (c->flags & C_READY)
			unready(c);
		tell(c);
		q->dead = c->next;
		release(c);
	} while (link != last);
	kquay_output_uncork(q);
	if (q->full || q->resting)
		kquay_listen_resume(q);
}

/* Tell the service of the end, if it knows of the begin. */
static void
tell(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	const struct sockaddr *sa;
	socklen_t salen;

	if (c->flags & C_KNOWN) {
		if (c->ops->close == NULL)
			return;
		errno = (int)kquay_pool_more(c)->err;
		c->ops->close(c, (enum kquay_why)c->why);
	} else if (c->why == KQUAY_ERROR || c->why == KQUAY_HANDSHAKE) {
		sa = kquay_peeraddr(c, &salen);
		kquay_listen_refused(q, sa, salen, (int)kquay_pool_more(c)->err,
		    c->flags & C_TLS ? kquay_tls_reason(c) : NULL);
	}
}

static void
release(struct kquay_conn *c)
{
	static const struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	struct kquay *q = kquay_pool_loop(c);

	if ((c->flags & C_LIST(0xff)) == C_LIST(q->list))
		kquay_loop_forget(q, (uintptr_t)c->id, c->fd);
	if ((c->flags & (C_RESET | C_SOCKET)) == (C_RESET | C_SOCKET))
		setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	/* Whoever ended it: the peer is to know that this was all. */
	if ((c->flags & (C_TLS | C_RESET | C_QUEUED)) == C_TLS &&
	    c->why != KQUAY_ERROR)
		kquay_tls_shutdown(c);
	if (c->fd != -1)
		close(c->fd);
	if (kquay_pool_dial(c) != NULL)
		kquay_dial_drop(c);
	if (c->flags & C_TLS)
		kquay_tls_drop(c);
	kquay_input_drop(c);
	kquay_output_drop(c);
	kquay_proxy_drop(c);
	q->stat.closed++;
	kquay_pool_give(c);
}

/* -- what the service calls ------------------------------------------------ */

void
kquay_close(struct kquay_conn *c)
{
	kquay_conn_hangup(c, KQUAY_DONE);
}

void
kquay_abort(struct kquay_conn *c)
{
	c->flags |= C_RESET;
	kquay_conn_end(c, KQUAY_DONE, 0);
}

void
kquay_pause(struct kquay_conn *c, int on)
{
	if (on)
		c->flags |= C_PAUSED;
	else
		c->flags &= ~C_PAUSED;
	if (c->state != CONN_OPEN && c->state != CONN_SPLICE)
		return;
	wake(c);
	kquay_conn_interest(c);
}

void
kquay_timeout(struct kquay_conn *c, int idle, int life)
{
	struct kquay *q = kquay_pool_loop(c);
	struct more *more = kquay_pool_more(c);
	uint32_t now = kquay_wheel_now(q);

	/* Without a limit so far nobody may have looked at the clock. */
	if (!kquay_wheel_has(c))
		c->active = now;
	c->flags |= C_LIMITS;
	kquay_pool_store(&more->idle,
	    idle == 0 ? q->idle : kquay_wheel_ticks(idle));
	kquay_pool_store(&more->life,
	    life == 0 ? q->life : kquay_wheel_ticks(life));
	if (c->state == CONN_OPEN || c->state == CONN_HALF ||
	    c->state == CONN_SPLICE)
		kquay_wheel_set(c);
}

void
kquay_setops(struct kquay_conn *c, const struct kquay_ops *ops)
{
	c->ops = ops != NULL ? ops : &kquay_pool_loop(c)->ops;
	kquay_input_unsee(c);
	wake(c); /* what is kept may be enough for them */
}

const char *
kquay_whystr(enum kquay_why why)
{
	static const char *const names[] = {
		[KQUAY_DONE] = "done",
		[KQUAY_EOF] = "eof",
		[KQUAY_ERROR] = "error",
		[KQUAY_IDLE] = "idle",
		[KQUAY_LIFE] = "life",
		[KQUAY_HANDSHAKE] = "handshake",
		[KQUAY_TOOLONG] = "toolong",
		[KQUAY_SLOW] = "slow",
		[KQUAY_SHUTDOWN] = "shutdown",
	};

	if ((size_t)why >= sizeof(names) / sizeof(names[0]))
		return "?";
	return names[why];
}
