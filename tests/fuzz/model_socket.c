/*
 * UNIX stream sockets under numbers that are closed, duplicated and used
 * again: READ, WRITE and EMPTY (R-READ-01 to 05, 17, R-WRITE-01, 05, 08,
 * R-EMPTY-01, R-MODE-04, R-FD-01 to 04).
 */
#include <sys/socket.h>
#include <sys/syscall.h>

#include <err.h>
#include <fcntl.h>
#include <unistd.h>

#include "model.h"

#define NUMBERS 4
#define MOST 8 /* sends that the peer has not taken: always room for more */

/* A socket, whatever numbers it has, and the other end of it. */
struct sock {
	int peer; /* -1: closed */
	int names;
	int64_t bytes; /* to be read */
	int puts;      /* in so many pieces, at most */
	int sent;      /* pieces that the peer has to read */
	bool shut, peer_shut;
};

/* A number, which names a socket. */
struct number {
	int fd;
	int copy; /* another number, not watched, or -1 */
	struct sock *sock;
	struct sock *copied; /* what the copy names */
	int64_t lowat;       /* of NOTE_LOWAT; -1: none */
	bool nodata;
	struct knote read, write, empty;
};

static struct number numbers[NUMBERS];

static bool
has_ended(const struct sock *s)
{
	return s->peer == -1 || s->peer_shut;
}

static enum truth
read_truth(const struct knote *k)
{
	const struct number *n = k->k_of;

	if (has_ended(n->sock))
		return YES;
	if (n->sock->bytes > 0)
		return n->sock->bytes >= n->lowat ? YES : NO;
	if (n->lowat != 0)
		return NO;
	/* What came has been read, and there is no edge any more. */
	return k->k_flags & EV_CLEAR ? MAYBE : YES;
}

static void
read_check(struct knote *k, const struct kevent *ev)
{
	const struct number *n = k->k_of;
	int64_t data = n->sock->bytes;

	if (((ev->flags & EV_EOF) != 0) != has_ended(n->sock))
		fail("READ: EV_EOF is wrong");
	if (n->nodata)
		data = 1;
	if (ev->data != data)
		fail("READ: data %jd, expected %jd", (intmax_t)ev->data,
		    (intmax_t)data);
}

static enum truth
write_truth(const struct knote *k)
{
	return YES;
}

static void
write_check(struct knote *k, const struct kevent *ev)
{
	const struct number *n = k->k_of;
	bool ended = n->sock->peer == -1 || n->sock->shut;

	if (((ev->flags & EV_EOF) != 0) != ended)
		fail("WRITE: EV_EOF is wrong");
	if (!ended && ev->data <= 0)
		fail("WRITE: data %jd", (intmax_t)ev->data);
}

static enum truth
empty_truth(const struct knote *k)
{
	const struct number *n = k->k_of;

	if (n->sock->peer == -1)
		return MAYBE;
	return n->sock->sent == 0 ? YES : NO;
}

static void
empty_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data != 0 && !k->k_forced)
		fail("EMPTY: data %jd", (intmax_t)ev->data);
}

static const struct kind kind_read = { EVFILT_READ, 0, 0, EDGES, false,
	read_truth, read_check };
static const struct kind kind_write = { EVFILT_WRITE, 0, 0, EDGES, false,
	write_truth, write_check };
static const struct kind kind_empty = { EVFILT_EMPTY, 0, 0, EDGES_OFTEN, false,
	empty_truth, empty_check };

/* -- sockets and numbers --------------------------------------------------- */

static void
unname(struct sock *s)
{
	if (--s->names > 0)
		return;
	if (s->peer != -1)
		close(s->peer);
	free(s);
}

static void
name(struct number *n, struct sock *s)
{
	n->sock = s;
	n->lowat = -1;
	n->nodata = false;
	s->names++;
	n->read.k_ident = n->write.k_ident = n->empty.k_ident =
	    (uintptr_t)n->fd;
	forget(&n->read);
	forget(&n->write);
	forget(&n->empty);
}

static void
open_number(struct number *n)
{
	struct sock *s = calloc(1, sizeof(*s));
	int fds[2];

	if (s == NULL ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0,
		fds) == -1)
		err(1, "socketpair");
	s->peer = fds[1];
	n->fd = fds[0];
	name(n, s);
}

static void
drop_copy(struct number *n)
{
	if (n->copy == -1)
		return;
	close(n->copy);
	unname(n->copied);
	n->copy = -1;
}

static void
duplicate(struct number *n)
{
	drop_copy(n);
	if ((n->copy = dup(n->fd)) == -1)
		err(1, "dup");
	n->copied = n->sock;
	n->sock->names++;
}

/* Every way there is to make a number name nothing. */
static void
close_number(const struct number *n)
{
	const int fd = n->fd;
	int over;

	switch (choose(6)) {
	case 0:
		over = open("/dev/null", O_RDONLY | O_CLOEXEC);
		dup2(over, fd);
		close(over);
		close(fd);
		break;
	case 1:
		close_range((unsigned int)fd, (unsigned int)fd, 0);
		break;
	case 2:
		if (strict) {
			syscall(SYS_close, fd);
			repaired |= n->sock->names > 1;
			break;
		}
		/* FALLTHROUGH */
	default:
		close(fd);
	}
}

/* R-FD-01: the knotes go with the number, whatever copies there are. */
static void
replace(struct number *n)
{
	struct sock *old = n->sock;

	close_number(n);
	open_number(n);
	unname(old);
	drop_copy(n);
}

/* R-FD-03 */
static void
dup_over(struct number *from, struct number *to)
{
	struct sock *old = to->sock;
	int r;

	if (from == to)
		return;
	r = choose(2) == 0 ? dup2(from->fd, to->fd) :
			     dup3(from->fd, to->fd, O_CLOEXEC);
	if (r != to->fd)
		fail("dup2: %d", r);
	name(to, from->sock);
	unname(old);
}

/* -- what happens to a socket ---------------------------------------------- */

#define EACH(n, s)                                                             \
	for (n = numbers; n < numbers + NUMBERS; n++)                          \
		if (n->sock == (s))

static void
put(struct sock *s)
{
	static const char text[32];
	unsigned int len = 1 + choose(20);
	struct number *n;

	if (has_ended(s) || s->puts > 100)
		return;
	if (write(s->peer, text, len) != (ssize_t)len)
		fail("cannot write %u bytes", len);
	s->bytes += len;
	s->puts++;
	EACH(n, s)
	edge(&n->read);
}

static void
take(struct sock *s, int fd)
{
	char text[32];
	ssize_t len = read(fd, text, 1 + choose(20));

	if (len > 0)
		s->bytes -= len;
	if (s->bytes == 0)
		s->puts = 0;
}

static void
send_one(struct sock *s, int fd)
{
	struct number *n;

	if (s->sent >= MOST || s->shut || s->peer == -1)
		return;
	if (send(fd, "x", 1, MSG_NOSIGNAL) != 1)
		fail("cannot send");
	s->sent++;
	EACH(n, s)
	n->empty.k_pending = false;
}

/* The peer takes all: there is space, of which an edge may tell. */
static void
drain(struct sock *s)
{
	char text[MOST];
	struct number *n;

	if (s->peer == -1 || s->sent == 0)
		return;
	if (read(s->peer, text, sizeof(text)) != s->sent)
		fail("the peer did not get what was sent");
	s->sent = 0;
	EACH(n, s)
	{
		rumour(&n->write);
		edge(&n->empty);
	}
}

static void
close_peer(struct sock *s)
{
	struct number *n;

	if (s->peer == -1)
		return;
	close(s->peer);
	s->peer = -1;
	EACH(n, s)
	{
		edge(&n->read);
		edge(&n->write);
	}
}

static void
shut(struct sock *s, int fd)
{
	struct number *n;

	if (s->shut || s->peer == -1)
		return;
	if (shutdown(fd, SHUT_WR) == -1)
		fail("shutdown");
	s->shut = true;
	EACH(n, s)
	{
		rumour(&n->read);
		rumour(&n->write);
	}
}

static void
shut_peer(struct sock *s)
{
	struct number *n;

	if (has_ended(s))
		return;
	if (shutdown(s->peer, SHUT_WR) == -1)
		fail("shutdown");
	s->peer_shut = true;
	EACH(n, s)
	{
		edge(&n->read);
		rumour(&n->write);
	}
}

/* -- changes --------------------------------------------------------------- */

static void
change_read(struct number *n)
{
	unsigned int flags = choose_flags(), fflags = 0;
	int64_t data = 0;

	switch (choose(8)) {
	case 0:
		fflags = NOTE_LOWAT;
		data = choose(24);
		break;
	case 1:
		fflags = NOTE_NODATA;
		break;
	}
	switch (change(&n->read, flags, fflags, data, 0)) {
	case ADDED:
	case TOUCHED:
		n->lowat = fflags & NOTE_LOWAT ? data : -1;
		n->nodata = (fflags & NOTE_NODATA) != 0;
		/* R-REG-02, R-REG-03, R-REG-17: the filter runs at once. */
		if (n->read.k_enabled && read_truth(&n->read) == YES)
			edge(&n->read);
		/* The library looks itself, and has the kernel look. */
		if (n->lowat >= 0)
			rumour(&n->read);
		break;
	case REFUSED:
	case DELETED:
		break;
	}
}

static void
change_other(struct knote *k)
{
	switch (change(k, choose_flags(), 0, 0, 0)) {
	case ADDED:
	case TOUCHED:
		if (k->k_enabled && k->k_kind->k_truth(k) == YES)
			edge(k);
		break;
	case REFUSED:
	case DELETED:
		break;
	}
}

static void
socket_operate(void)
{
	struct number *n = &numbers[choose(NUMBERS)];
	unsigned int what = choose(18);

	say("socket: %u of %d", what, n->fd);
	switch (what) {
	case 0:
	case 1:
	case 2:
		change_read(n);
		break;
	case 3:
	case 4:
		change_other(&n->write);
		break;
	case 5:
		change_other(&n->empty);
		break;
	case 6:
	case 7:
	case 8:
		put(n->sock);
		break;
	case 9:
		take(n->sock, n->fd);
		break;
	case 10:
		send_one(n->sock, n->fd);
		break;
	case 11:
		drain(n->sock);
		break;
	case 12:
		if (choose(4) == 0)
			close_peer(n->sock);
		break;
	case 13:
		if (choose(4) == 0)
			shut(n->sock, n->fd);
		else if (choose(4) == 0)
			shut_peer(n->sock);
		break;
	case 14:
	case 15:
		replace(n);
		break;
	case 16:
		duplicate(n);
		break;
	case 17:
		dup_over(&numbers[choose(NUMBERS)], n);
		break;
	}
}

static void
socket_open(void)
{
	struct number *n;

	for (n = numbers; n < numbers + NUMBERS; n++) {
		know(&n->read, &kind_read, kq, 0, n);
		know(&n->write, &kind_write, kq, 0, n);
		know(&n->empty, &kind_empty, kq, 0, n);
		n->copy = -1;
		open_number(n);
	}
}

static void
socket_close(void)
{
	struct number *n;

	for (n = numbers; n < numbers + NUMBERS; n++) {
		drop_copy(n);
		close(n->fd);
		unname(n->sock);
	}
}

const struct part part_socket = { socket_open, socket_operate, socket_close,
	NULL };
