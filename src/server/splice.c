/*
 * Two connections joined: what one receives the other sends, both ways, until
 * both have ended.
 *
 * Each way is a flow.  A message is copied, through the loop's buffer: one
 * recv, one send, and nothing to set up.  Where one large read follows the
 * other it is bulk, and goes through a pipe by splice(2), which copies
 * nothing.  Pipes belong to the loop, and a flow has one only while bytes are
 * in it; short reads make it copy again.  An idle pair owns its joints alone.
 *
 * A large pipe saves CPU: each time it is filled and emptied both peers are
 * woken.  But one whose receiver is slow would keep it full, and what a user
 * may have in pipes has a limit.  So there are few large ones, and they go to
 * flows whose last pipeful went out in a few pushes.
 *
 * Invariants:
 *  1. A connection of a pair is CONN_SPLICE and its flow names the mate; when
 *     either ends, neither is any more (part).
 *  2. What could not be sent is in the receiver's queue or in the flow's pipe,
 *     never in both, and the sender is not read from until that has gone: so
 *     no more than READSIZE or a pipe is held for a flow.
 *  3. A flow's end is passed on once all before it has been sent.
 *
 * The service's callbacks may still have the input in hand when they join
 * two: what they leave of it is kept, and a flow begins, with that, when the
 * loop comes to it (kquay_conn_resume).
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	PIPE_LARGE = 1024 * 1024,
	PIPE_SMALL = 64 * 1024,
	PIPES_LARGE = 8, /* of a loop, lent or not */
	PUSHES_MOST = 4, /* for a large one; for a small one it is 1 */
	PIPES_KEPT = 16, /* pipes that wait for the next bulk */
	BULK_AFTER = 2,  /* reads of BULK_MIN that make it bulk */
	BULK_MIN = 16 * 1024,
	BULK_SHORT = 4096,           /* as many of less do not */
	BULK_MOST = 2 * 1024 * 1024, /* in one event, for others' sake */
	ANSWERS_MAX = 4 * READSIZE /* to what TLS asks, not taken by the peer */
};

struct pipe {
	SLIST_ENTRY(pipe) next;
	int out, in; /* to read from, and to write to */
	size_t size;
	size_t held;     /* bytes in it */
	unsigned pushes; /* it took to empty it, so far */
	int large;       /* one of PIPES_LARGE */
};

static void copy(struct kquay_conn *c, const struct kevent *ev);
static int move(struct kquay_conn *c);
static int push(struct pipe *p, struct kquay_conn *to);
static int send_on(struct kquay_conn *to, const char *data, size_t len);
static ssize_t splice_fd(struct kquay *q, int from, int to, size_t len);
static void judge(struct flow *f, int other);
static void failed(struct kquay_conn *c, int err, const struct kevent *ev);
static void at_end(struct kquay_conn *c);
static void drain(struct kquay_conn *c, struct kquay_conn *to);
static struct kquay_conn *part(struct kquay_conn *c);
static int piping(const struct kquay *q);
static struct pipe *take_pipe(struct kquay *q, int large);
static struct pipe *open_pipe(struct kquay *q, int large);
static void give_pipe(struct kquay_conn *c);
static void close_pipe(struct kquay *q, struct pipe *p);

/* The flow from c. */
static inline struct flow *
flow_of(const struct kquay_conn *c)
{
	return &kquay_pool_joint(c)->flow;
}

static inline struct kquay_conn *
mate_of(const struct kquay_conn *c)
{
	return kquay_pool_at(kquay_pool_loop(c), flow_of(c)->mate);
}

/* Whether something that c has received is still to be sent. */
static inline int
held(const struct kquay_conn *c)
{
	return (mate_of(c)->flags & C_QUEUED) ||
	    kquay_pool_joint(c)->pipe != NULL;
}

int
kquay_splice(struct kquay_conn *a, struct kquay_conn *b)
{
	struct kquay_conn *const end[2] = { a, b };
	struct kquay *q = kquay_pool_loop(a);
	int copies, i;

	if (a == b || kquay_pool_loop(b) != q) {
		errno = EINVAL;
		return -1;
	}
	for (i = 0; i < 2; i++)
		if ((end[i]->state != CONN_OPEN &&
			end[i]->state != CONN_HALF) ||
		    (end[i]->flags & C_FINISHED)) {
			errno =
			    end[i]->state == CONN_SPLICE ? EALREADY : ENOTCONN;
			return -1;
		}
	copies = ((a->flags & b->flags & C_SOCKET) == 0) ||
	    ((a->flags | b->flags) & C_TLS) ||
	    ((q->sys.read != NULL || q->sys.write != NULL) &&
		q->sys.splice == NULL);
	if (q->corked == a || q->corked == b)
		kquay_output_uncork(q);
	if (a->state == CONN_DEAD || b->state == CONN_DEAD) {
		errno = ENOTCONN;
		return -1;
	}
	for (i = 0; i < 2; i++) {
		end[i]->state = CONN_SPLICE;
		end[i]->flags &= ~C_CHOKED;
		*flow_of(end[i]) = (struct flow){
			.mate = kquay_pool_link(end[!i]) & 0xffffff,
			.copies = copies != 0,
		};
		kquay_conn_ready(end[i]);
	}
	return 0;
}

/* The loop has come to c: what was kept of its input goes first. */
void
kquay_splice_begin(struct kquay_conn *c)
{
	const struct kept *in = kquay_pool_more(c)->in;

	if ((c->flags & C_KEPT) && send_on(mate_of(c), in->data, in->len) == -1)
		return;
	kquay_input_drop(c);
	if (c->flags & C_EOF)
		at_end(c);
	else
		kquay_conn_interest(c);
}

/* Whether c is to be read from. */
int
kquay_splice_reading(const struct kquay_conn *c)
{
	return !(c->flags & C_PAUSED) && !held(c) &&
	    !((c->flags & C_QUEUED) &&
		kquay_pool_more(c)->outlen > ANSWERS_MAX);
}

/* Whether something for c is in a pipe. */
int
kquay_splice_writing(const struct kquay_conn *c)
{
	return kquay_pool_joint(mate_of(c))->pipe != NULL;
}

/* c has input, or its end. */
void
kquay_splice_read(struct kquay_conn *c, const struct kevent *ev)
{
	if (held(c))
		kquay_conn_interest(c);
	else if (!flow_of(c)->bulk || move(c) == -1)
		copy(c, ev);
}

/* c takes output again. */
void
kquay_splice_write(struct kquay_conn *c)
{
	struct kquay_conn *from = mate_of(c);
	struct pipe *p = kquay_pool_joint(from)->pipe;

	kquay_output_flush(c);
	if (c->state != CONN_SPLICE)
		return;
	if (!(c->flags & C_QUEUED) && p != NULL) {
		if (push(p, c) == -1)
			return;
		if (p->held == 0)
			give_pipe(from);
	}
	if (!(from->flags & C_EOF))
		kquay_conn_interest(from);
	else if (!held(from))
		at_end(from);
	kquay_conn_interest(c);
}

/* -- a flow ---------------------------------------------------------------- */

/* Receive and send as much as the loop's buffer holds. */
static void
copy(struct kquay_conn *c, const struct kevent *ev)
{
	struct kquay_conn *to = mate_of(c);
	struct kquay *q = kquay_pool_loop(c);
	struct flow *f = flow_of(c);
	ssize_t n;

	n = kquay_input_receive(c, q->inbuf);
	if (n == -1) {
		failed(c, errno, ev);
		return;
	}
	if (c->state != CONN_SPLICE ||
	    (n > 0 && send_on(to, q->inbuf, (size_t)n) == -1))
		return;
	if (!f->copies)
		judge(f, n >= BULK_MIN);
	if (c->flags & C_EOF)
		at_end(c);
	else if (to->flags & C_QUEUED)
		kquay_conn_interest(c);
}

/*
 * The same by a pipe.  -1 if there is none, or the kernel does not splice
 * these two, and nothing was moved.
 */
static int
move(struct kquay_conn *c)
{
	struct kquay_conn *to = mate_of(c);
	struct kquay *q = kquay_pool_loop(c);
	struct flow *f = flow_of(c);
	struct pipe *p = take_pipe(q, !f->slow);
	int stuck, err = EAGAIN;
	size_t moved;
	ssize_t n = 0;

	kquay_pool_joint(c)->pipe = p;
	if (p == NULL) {
		f->bulk = 0;
		return -1;
	}
	for (moved = 0; moved < BULK_MOST; moved += (size_t)n) {
		n = splice_fd(q, c->fd, p->in, p->size);
		if (n == -1)
			err = errno;
		if (n <= 0)
			break;
		p->held += (size_t)n;
		p->pushes = 0;
		kquay_pool_got(q, c, n);
		c->active = q->tick;
		c->flags &= ~C_FRESH;
		if (push(p, to) == -1)
			return 0;
		judge(f, n < BULK_SHORT);
		if (p->held != 0 || n < READSIZE)
			break;
	}
	stuck = p->held != 0;
	if (!stuck)
		give_pipe(c);
	if (n == -1 && err == EINVAL) {
		f->bulk = 0;
		f->copies = flow_of(to)->copies = 1;
		return -1;
	}
	if (n == 0) {
		c->active = q->tick;
		c->flags |= C_EOF;
		at_end(c);
	} else if (n == -1)
		failed(c, err, NULL);
	else if (stuck) {
		kquay_conn_interest(c);
		kquay_conn_interest(to);
	}
	return 0;
}

/* Send what is in the pipe, as far as to takes it.  -1: the pair has ended. */
static int
push(struct pipe *p, struct kquay_conn *to)
{
	struct kquay *q = kquay_pool_loop(to);
	ssize_t n;

	p->pushes++;
	while (p->held != 0) {
		n = splice_fd(q, p->out, to->fd, p->held);
		if (n > 0) {
			p->held -= (size_t)n;
			kquay_pool_sent(q, to, n);
			to->active = q->tick;
			to->flags |= C_SENT;
			continue;
		}
		if (n == -1 && errno != EAGAIN && errno != ENOBUFS &&
		    errno != ENOMEM) {
			kquay_conn_end(to, KQUAY_ERROR, errno);
			return -1;
		}
		if (n == -1 && errno != EAGAIN)
			kquay_conn_starve(to);
		break;
	}
	return 0;
}

/* Send, or queue whatever the limits.  -1: the pair has ended. */
static int
send_on(struct kquay_conn *to, const char *data, size_t len)
{
	return to->flags & C_TLS ? kquay_tls_send(to, data, len) :
				   kquay_output_raw(to, data, len);
}

static ssize_t
splice_fd(struct kquay *q, int from, int to, size_t len)
{
	ssize_t n;

	do {
		if (q->sys.splice != NULL)
			n = q->sys.splice(from, to, len);
		else
			n = kquay_os_splice(from, to, len);
	} while (n == -1 && errno == EINTR);
	return n;
}

/* A read that says that the flow is of the other kind, or not. */
static void
judge(struct flow *f, int other)
{
	f->streak = other ? (f->streak + 1) & 3 : 0;
	if (f->streak < BULK_AFTER)
		return;
	f->streak = 0;
	f->bulk = !f->bulk;
}

static void
failed(struct kquay_conn *c, int err, const struct kevent *ev)
{
	if (err == EAGAIN)
		return;
	if (err == ENOBUFS || err == ENOMEM)
		kquay_conn_starve(c);
	else if (err == EIO && !(c->flags & C_SOCKET) && ev != NULL &&
	    (ev->flags & EV_EOF)) {
		/* So ends a terminal's master side on Linux. */
		c->flags |= C_EOF;
		at_end(c);
	} else
		kquay_conn_end(c, KQUAY_ERROR, err);
}

/*
 * c's peer sends no more.  Once all before that is sent the other is told;
 * what is no socket can only be told by a close.
 */
static void
at_end(struct kquay_conn *c)
{
	struct kquay_conn *to = mate_of(c);
	struct flow *f = flow_of(c);

	if ((c->flags & C_TLS) && kquay_tls_broken(c) != 0) {
		kquay_conn_end(c, KQUAY_ERROR, kquay_tls_broken(c));
		return;
	}
	/* If what was kept has not been sent yet, its end comes behind it. */
	if (held(c) || f->done || (c->flags & C_READY)) {
		kquay_conn_interest(c);
		return;
	}
	f->done = 1;
	if (!flow_of(to)->done && (to->flags & C_SOCKET)) {
		if (to->flags & C_TLS)
			kquay_tls_shutdown(to);
		else
			(void)shutdown(to->fd, SHUT_WR);
		kquay_conn_interest(c);
		return;
	}
	part(c);
	kquay_conn_hangup(c, KQUAY_EOF);
	kquay_conn_hangup(to, KQUAY_EOF);
}

/* -- the end of a pair ----------------------------------------------------- */

/* c is about to be closed, in order: so is its mate, after what it is owed. */
void
kquay_splice_hangup(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *mate = part(c);

	kquay_conn_hangup(mate, why == KQUAY_SHUTDOWN ? why : KQUAY_DONE);
}

/*
 * c has ended, at once.  A connection that broke, or was aborted, breaks the
 * other, too; limits end it in order.
 */
void
kquay_splice_broken(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *mate = part(c);

	if (why == KQUAY_IDLE) {
		kquay_conn_hangup(mate, KQUAY_DONE);
		return;
	}
	mate->flags |= C_RESET;
	kquay_conn_end(mate, why == KQUAY_SHUTDOWN ? why : KQUAY_DONE, 0);
}

/* Both are ordinary connections again, and have in their queues what was in
   pipes.  The other one. */
static struct kquay_conn *
part(struct kquay_conn *c)
{
	struct kquay_conn *mate = mate_of(c);

	if (c->state == CONN_SPLICE)
		c->state = CONN_OPEN;
	if (mate->state == CONN_SPLICE)
		mate->state = CONN_OPEN;
	drain(c, mate);
	drain(mate, c);
	return mate;
}

/* Move what is in the pipe of c to the other's queue. */
static void
drain(struct kquay_conn *c, struct kquay_conn *to)
{
	struct pipe *p = kquay_pool_joint(c)->pipe;
	char buf[16 * 1024];
	ssize_t n;

	if (p == NULL)
		return;
	while (p->held != 0 && to->state != CONN_DEAD) {
		n = read(p->out, buf,
		    p->held < sizeof(buf) ? p->held : sizeof(buf));
		if (n <= 0)
			break;
		p->held -= (size_t)n;
		(void)kquay_output_raw(to, buf, (size_t)n);
	}
	give_pipe(c);
}

/* -- pipes ----------------------------------------------------------------- */

/*
 * Whether splice(2) may be used at all: into a connection that broke it
 * raises SIGPIPE, which must not end the process.
 */
static int
piping(const struct kquay *q)
{
	struct sigaction sa;

	return q->sys.splice != NULL ||
	    (sigaction(SIGPIPE, NULL, &sa) == 0 &&
		((sa.sa_flags & SA_SIGINFO) || sa.sa_handler != SIG_DFL));
}

/* An empty pipe, a large one if there is one and it is wanted; or NULL. */
static struct pipe *
take_pipe(struct kquay *q, int large)
{
	struct pipe *p;

	if (large && SLIST_EMPTY(&q->pipes[1]) &&
	    q->nlarge + q->nolarge >= PIPES_LARGE)
		large = 0;
	p = SLIST_FIRST(&q->pipes[large]);
	if (p == NULL)
		return piping(q) ? open_pipe(q, large) : NULL;
	SLIST_REMOVE_HEAD(&q->pipes[large], next);
	q->npipes--;
	return p;
}

/* One that the user's limit leaves small beyond use is none. */
static struct pipe *
open_pipe(struct kquay *q, int large)
{
	struct pipe *p;
	int fd[2];

	p = malloc(sizeof(*p));
	if (p == NULL)
		return NULL;
	p->size = large ? PIPE_LARGE : PIPE_SMALL;
	if (kquay_os_pipe(fd, &p->size) == -1) {
		free(p);
		return NULL;
	}
	p->out = fd[0];
	p->in = fd[1];
	p->held = 0;
	p->pushes = 0;
	p->large = p->size >= PIPE_LARGE;
	q->nlarge += (unsigned)p->large;
	if (large && !p->large)
		q->nolarge = PIPES_LARGE - q->nlarge;
	if (p->size >= PIPE_SMALL)
		return p;
	close_pipe(q, p);
	return NULL;
}

/* c's pipe goes back.  One that is not empty is of no use any more. */
static void
give_pipe(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	struct pipe *p = kquay_pool_joint(c)->pipe;

	kquay_pool_joint(c)->pipe = NULL;
	flow_of(c)->slow = p->pushes > (p->large ? PUSHES_MOST : 1);
	if (p->held != 0 || q->npipes == PIPES_KEPT) {
		close_pipe(q, p);
		return;
	}
	SLIST_INSERT_HEAD(&q->pipes[p->large], p, next);
	q->npipes++;
}

static void
close_pipe(struct kquay *q, struct pipe *p)
{
	q->nlarge -= (unsigned)p->large;
	close(p->out);
	close(p->in);
	free(p);
}

void
kquay_splice_fini(struct kquay *q)
{
	struct pipe *p;
	int large;

	for (large = 0; large < 2; large++)
		while ((p = SLIST_FIRST(&q->pipes[large])) != NULL) {
			SLIST_REMOVE_HEAD(&q->pipes[large], next);
			close_pipe(q, p);
		}
}
