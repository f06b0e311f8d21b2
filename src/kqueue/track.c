/*
 * track.c: forks and execs, as the proc connector of Linux tells them.
 *
 * That is a netlink socket on which the kernel multicasts each fork, exec and
 * exit of the whole system, in order.  A queue opens one when a knote asks for
 * NOTE_FORK, NOTE_EXEC or NOTE_TRACK, and closes it with the last such knote.
 * It is an object of FILTER_TRACK.
 *
 *	fork of a tracked process --> child's knote, known by the socket alone
 *	socket read to its end    --> pidfd_open(): known by its pidfd
 *				      no such process: its exit has been told
 *
 * A child may have ended, and another process have its number, by the time we
 * read of its birth.  So a pidfd is opened only for a child of whose end the
 * socket, read to its end, knows nothing or just now, and the number counts as
 * used again when a fork says so.
 *
 * The kernel gives the numbers of its first namespace; we must be in it.
 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include <linux/connector.h>
#include <linux/netlink.h>
#include <linux/cn_proc.h>

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "pidfd.h"
#include "proc.h"
#include "track.h"
#include "wire.h"

#define BUFFER (1 << 20) /* of the socket: some 2,500 messages */
#define MAXNEW 64
#define FIRST_NAMESPACE "pid:[4026531836]"

struct track {
	int t_fd;
	uint32_t t_users; /* knotes that need it */
	bool t_busy;      /* in track_collect() */
	uint32_t t_nnew;
	struct {
		uint32_t n_index, n_gen;
	} t_new[MAXNEW]; /* to be settled */
};

/*
 * What is sent: the message is a struct cn_msg, whose data follow.  From Linux
 * 6.6 on they may say which events are wanted.
 */
struct request {
	struct nlmsghdr r_header;
	struct {
		struct cb_id m_id;
		uint32_t m_seq, m_ack;
		uint16_t m_len, m_flags;
	} r_message;
	uint32_t r_op, r_events;
};

static struct object *
track_find(struct kqueue *q)
{
	return object_find(q, FILTER_TRACK, 0);
}

/* -- the socket ------------------------------------------------------------ */

/* What is missing, if it may be there another time. */
static int
refusal(int error)
{
	switch (error) {
	case EMFILE:
	case ENFILE:
	case ENOMEM:
		return error;
	case ENOBUFS:
		return ENOMEM;
	default:
		return ENOTSUP;
	}
}

static int
check_namespace(void)
{
	char name[32] = "";

	if (readlink("/proc/self/ns/pid", name, sizeof(name) - 1) == -1)
		return refusal(errno);
	return strcmp(name, FIRST_NAMESPACE) == 0 ? 0 : ENOTSUP;
}

/* words: 1 for the operation alone, 2 with the events that are wanted. */
static int
request(int fd, enum proc_cn_mcast_op op, size_t words, uint32_t ack)
{
	size_t len = offsetof(struct request, r_op) + words * sizeof(uint32_t);
	struct request r = {
		.r_header = { .nlmsg_len = (uint32_t)len,
		    .nlmsg_type = NLMSG_DONE },
		.r_message = { .m_id = { .idx = CN_IDX_PROC,
				   .val = CN_VAL_PROC },
		    .m_ack = ack,
		    .m_len = (uint16_t)(words * sizeof(uint32_t)) },
		.r_op = op,
		.r_events = PROC_EVENT_FORK | PROC_EVENT_EXEC | PROC_EVENT_EXIT,
	};

	return syscall(SYS_sendto, fd, &r, len, MSG_NOSIGNAL, NULL, 0) == -1 ?
	    errno :
	    0;
}

struct buffer {
	char bytes[8192];
};

static ssize_t
receive(int fd, struct buffer *b)
{
	return syscall(SYS_recvfrom, fd, b, sizeof(*b), MSG_DONTWAIT, NULL,
	    NULL);
}

/* The answer to our request is there when that returns. */
static int
take_answer(int fd, uint32_t ack)
{
	struct proc_event e;
	struct buffer b;
	uint32_t acked;
	int error = ENOTSUP;
	ssize_t n;

	while ((n = receive(fd, &b)) > 0 || errno == ENOBUFS)
		if (n <= 0)
			error = ENOMEM; /* it may have been among the lost */
		else if (wire_process(&b, (size_t)n, &e, &acked) &&
		    e.what == PROC_EVENT_NONE && acked == ack + 1)
			return e.event_data.ack.err == 0 ? 0 : ENOTSUP;
	return error;
}

static int
listen_to_kernel(int fd)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK,
		.nl_groups = CN_IDX_PROC };
	static uint32_t last;
	uint32_t ack;
	int size = BUFFER, error;

	ack = (uint32_t)syscall(SYS_gettid) << 8 ^
	    __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) ==
	    -1)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	if (syscall(SYS_bind, fd, &address, sizeof(address)) == -1)
		return refusal(errno);
	if ((error = request(fd, PROC_CN_MCAST_LISTEN, 1, ack)) != 0)
		return refusal(error);
	if ((error = take_answer(fd, ack)) != 0)
		return error;
	request(fd, PROC_CN_MCAST_LISTEN, 2, ack);
	return 0;
}

static int
socket_open(int *fd)
{
	int error;

	if ((error = check_namespace()) != 0)
		return error;
	*fd = fd_move_high((int)syscall(SYS_socket, AF_NETLINK,
	    SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_CONNECTOR));
	if (*fd == -1)
		return refusal(errno);
	if ((error = listen_to_kernel(*fd)) != 0)
		fd_close(*fd);
	return error;
}

/* -- what it says ---------------------------------------------------------- */

static struct object *
find(struct kqueue *q, int pid)
{
	struct object *o = object_find(q, EVFILT_PROC, (uintptr_t)pid);

	/* It may be in the making. */
	return o != NULL && o->o_state != NULL ? o : NULL;
}

/* If it is known by the socket alone, see if there is a process to hold. */
static void
settle_one(struct kqueue *q, struct object *o)
{
	struct proc *p = o->o_state;

	if (p->p_ended)
		return;
	if (p->p_fd == -1 && proc_hold(q, o) == ESRCH)
		proc_end(q, o, p->p_told);
	else
		proc_look(q, o);
}

static void
settle(struct kqueue *q, struct track *t)
{
	struct object *o;
	uint32_t i, n = t->t_nnew;

	t->t_nnew = 0;
	for (i = 0; i < n; i++) {
		o = object_at(q, t->t_new[i].n_index);
		if (o->o_gen == t->t_new[i].n_gen)
			settle_one(q, o);
	}
}

static void
to_be_settled(struct kqueue *q, struct track *t, const struct object *o)
{
	uint32_t gen = o->o_gen; /* with the others it may go */

	if (t->t_nnew == MAXNEW)
		settle(q, t);
	t->t_new[t->t_nnew].n_index = o->o_index;
	t->t_new[t->t_nnew++].n_gen = gen;
}

static void
forked(struct kqueue *q, struct track *t, int parent, int child)
{
	struct object *o = find(q, child);
	struct proc *p;

	/* A number is free again only when its process has been reaped. */
	if (o != NULL && (p = o->o_state)->p_gone && !p->p_ended)
		proc_end(q, o, p->p_told);
	if ((o = find(q, parent)) == NULL)
		return;
	proc_note(q, o, NOTE_FORK);
	if ((o->o_knote.kn_fflags & NOTE_TRACK) == 0)
		return;
	if (proc_child(q, o, child) != 0)
		proc_note(q, o, NOTE_TRACKERR);
	else
		to_be_settled(q, t, find(q, child));
}

static void
exited(struct kqueue *q, struct track *t, int pid, uint32_t status)
{
	struct object *o = find(q, pid);
	struct proc *p;

	if (o == NULL)
		return;
	p = o->o_state;
	p->p_gone = true;
	p->p_told = (int)status;
	if (!p->p_ended)
		to_be_settled(q, t, o);
}

static void
told(struct kqueue *q, struct track *t, const struct proc_event *e)
{
	const struct fork_proc_event *f = &e->event_data.fork;
	const struct exec_proc_event *x = &e->event_data.exec;
	const struct exit_proc_event *g = &e->event_data.exit;
	struct object *o;

	switch (e->what) {
	case PROC_EVENT_FORK:
		if (f->child_pid == f->child_tgid) /* no thread */
			forked(q, t, f->parent_tgid, f->child_tgid);
		break;
	case PROC_EVENT_EXEC:
		if ((o = find(q, x->process_tgid)) != NULL)
			proc_note(q, o, NOTE_EXEC);
		break;
	case PROC_EVENT_EXIT:
		if (g->process_pid == g->process_tgid)
			exited(q, t, g->process_tgid, g->exit_code);
		break;
	default:
		break;
	}
}

/*
 * More happened than the socket holds.  Whatever was wanted may have happened;
 * of children nobody knows.
 */
static void
overrun(struct kqueue *q, struct track *t)
{
	struct object *o;
	uint32_t i;

	for (i = 0; i < q->q_nobjects; i++) {
		o = object_at(q, i);
		if ((o->o_knote.kn_status & KN_ATTACHED) == 0 ||
		    o->o_filter != EVFILT_PROC || o->o_state == NULL)
			continue;
		proc_note(q, o, NOTE_FORK | NOTE_EXEC);
		if (o->o_knote.kn_fflags & NOTE_TRACK)
			proc_note(q, o, NOTE_TRACKERR);
		to_be_settled(q, t, o);
	}
}

/* Read the socket to its end; false: there was nothing. */
static bool
read_all(struct kqueue *q, struct track *t)
{
	struct proc_event e;
	struct buffer b;
	bool any = false;
	uint32_t ack;
	ssize_t n;

	while ((n = receive(t->t_fd, &b)) > 0 || errno == ENOBUFS) {
		any = true;
		if (n <= 0)
			overrun(q, t);
		else if (wire_process(&b, (size_t)n, &e, &ack))
			told(q, t, &e);
	}
	return any;
}

void
track_collect(struct kqueue *q)
{
	struct object *o = track_find(q);
	struct track *t;

	if (o == NULL || (t = o->o_state) == NULL || t->t_busy)
		return;
	t->t_busy = true;
	while (read_all(q, t))
		settle(q, t);
	t->t_busy = false;
	if (t->t_users == 0)
		object_free(q, o);
}

/* -- the object ------------------------------------------------------------ */

static int
track_watch(struct kqueue *q, struct object *o)
{
	const struct track *t = o->o_state;

	return queue_watch(q, t->t_fd, EPOLLIN,
	    tag_make(TAG_OBJECT, o->o_gen, o->o_index));
}

static int
track_attach(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	struct track *t;
	int error;

	if ((t = calloc(1, sizeof(*t))) == NULL)
		return ENOMEM;
	o->o_state = t;
	if ((error = socket_open(&t->t_fd)) == 0 &&
	    (error = track_watch(q, o)) != 0)
		fd_close(t->t_fd);
	if (error != 0) {
		o->o_state = NULL;
		free(t);
	}
	return error;
}

/* Linux before 6.6 goes on with it until it is told not to. */
static void
track_detach(struct kqueue *q, struct object *o)
{
	struct track *t = o->o_state;

	request(t->t_fd, PROC_CN_MCAST_IGNORE, 1, 0);
	epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, t->t_fd, NULL);
	fd_close(t->t_fd);
	free(t);
	o->o_state = NULL;
}

static int
track_touch(struct kqueue *q, struct object *o, const struct kevent *kev)
{
	return 0;
}

static bool
track_active(struct kqueue *q, struct object *o)
{
	return false;
}

static bool
track_report(struct kqueue *q, struct object *o, struct kevent *ev)
{
	return false;
}

static void
track_event(struct kqueue *q, struct object *o)
{
	track_collect(q);
}

const struct filter filter_track = {
	.f_attach = track_attach,
	.f_detach = track_detach,
	.f_touch = track_touch,
	.f_active = track_active,
	.f_report = track_report,
	.f_event = track_event,
	.f_watch = track_watch,
};

int
track_open(struct kqueue *q)
{
	struct object *o = track_find(q);
	struct track *t;
	int error;

	if (o == NULL) {
		if ((error = object_new(q, FILTER_TRACK, 0, &o)) != 0)
			return error;
		if ((error = track_attach(q, o, NULL)) != 0) {
			object_discard(q, o);
			return error;
		}
	}
	t = o->o_state;
	t->t_users++;
	return 0;
}

/* While the queue closes, it may have gone before its users. */
void
track_close(struct kqueue *q)
{
	struct object *o = track_find(q);
	struct track *t;

	if (o == NULL || (t = o->o_state) == NULL)
		return;
	if (--t->t_users == 0 && !t->t_busy)
		object_free(q, o);
}
