/*
 * Pipes, eventfds, UNIX datagrams and listeners: READ and WRITE (R-READ-10, 11,
 * 15, 30 to 33, R-WRITE-10 to 15, 19, 20, R-MODE-04, 05, R-REG-06).
 *
 * Whether there is space the kernel says: of that the rules promise that the
 * library says the same.
 */
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

#define PAGE 4096
#define LETTERS 4 /* datagrams that wait, at most */
#define CALLERS 6

struct pipe {
	int r, w;
	int copy; /* of w; not watched */
	int64_t bytes;
	struct knote read, write;
	struct knote never[2]; /* READ of w, WRITE of r */
};

struct counter {
	int fd;
	uint64_t n;
	struct knote read, write;
};

struct letters {
	int fd, peer;
	int64_t sizes[LETTERS]; /* the first is the next */
	int number;
	struct knote read, write;
};

struct listener {
	int fd, callers[CALLERS], number; /* that wait, by their own ends */
	struct sockaddr_un name;
	socklen_t len;
	struct knote read, never;
};

static struct pipe line;
static struct counter counter;
static struct letters letters;
static struct listener listener;

static bool
has_space(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };

	return poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT) != 0;
}

static void
change_knote(struct knote *k, unsigned int fflags, int error)
{
	switch (change(k, choose_flags(), fflags, 0, error)) {
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

/* -- a pipe ---------------------------------------------------------------- */

static bool
has_writer(void)
{
	return line.w != -1 || line.copy != -1;
}

static enum truth
pipe_read_truth(const struct knote *k)
{
	return line.bytes > 0 || !has_writer() ? YES : NO;
}

static void
pipe_read_check(struct knote *k, const struct kevent *ev)
{
	if (((ev->flags & EV_EOF) == 0) != has_writer())
		fail("pipe: EV_EOF is wrong");
	if (ev->data != line.bytes || ev->fflags != 0)
		fail("pipe: data %jd, expected %jd; fflags %#x",
		    (intmax_t)ev->data, (intmax_t)line.bytes, ev->fflags);
}

static enum truth
pipe_write_truth(const struct knote *k)
{
	return line.r == -1 || has_space(line.w) ? YES : NO;
}

static void
pipe_write_check(struct knote *k, const struct kevent *ev)
{
	if (((ev->flags & EV_EOF) != 0) != (line.r == -1))
		fail("pipe: EV_EOF of WRITE is wrong");
	if (line.r != -1 && ev->data <= 0 && !k->k_forced)
		fail("pipe: WRITE with data %jd", (intmax_t)ev->data);
}

static enum truth
never_truth(const struct knote *k)
{
	return NO;
}

static void
never_check(struct knote *k, const struct kevent *ev)
{
}

static const struct kind kind_pipe_read = { EVFILT_READ, 0, 0, EDGES, false,
	pipe_read_truth, pipe_read_check };
static const struct kind kind_pipe_write = { EVFILT_WRITE, 0, 0, EDGES, false,
	pipe_write_truth, pipe_write_check };
static const struct kind kind_never[] = { { EVFILT_READ, 0, 0, EDGES, false,
					      never_truth, never_check },
	{ EVFILT_WRITE, 0, 0, EDGES, false, never_truth, never_check } };

/* False: it is closed already. */
static bool
close_one(int *fd)
{
	if (*fd == -1)
		return false;
	close(*fd);
	*fd = -1;
	return true;
}

static void
close_reader(void)
{
	if (!close_one(&line.r))
		return;
	forget(&line.read);
	forget(&line.never[1]);
	if (line.w != -1)
		edge(&line.write);
}

static void
close_writer(void)
{
	if (!close_one(&line.w))
		return;
	forget(&line.write);
	forget(&line.never[0]);
	if (!has_writer())
		edge(&line.read);
}

static void
close_copy(void)
{
	if (close_one(&line.copy) && !has_writer())
		edge(&line.read);
}

static void
open_pipe(void)
{
	int fds[2];

	close_copy();
	close_reader();
	close_writer();
	if (pipe2(fds, O_NONBLOCK | O_CLOEXEC) == -1)
		err(1, "pipe2");
	line.r = fds[0];
	line.w = fds[1];
	line.bytes = 0;
	line.read.k_ident = line.never[1].k_ident = (uintptr_t)line.r;
	line.write.k_ident = line.never[0].k_ident = (uintptr_t)line.w;
}

static void
copy_writer(void)
{
	if (line.w == -1 || line.copy != -1)
		return;
	if ((line.copy = dup(line.w)) == -1)
		err(1, "dup");
}

/* Pieces as large as a page take a place each: it is full before long. */
static void
put(int fd, size_t size, int times)
{
	static const char text[PAGE];
	ssize_t n;

	if (line.r == -1)
		return;
	for (; times > 0 && (n = write(fd, text, size)) > 0; times--) {
		line.bytes += n;
		edge(&line.read);
	}
	/* Linux wakes the reader of a full pipe, too. */
	if (times > 0)
		rumour(&line.read);
}

static void
take(size_t size, int times)
{
	bool had = line.w != -1 && has_space(line.w);
	char text[PAGE];
	ssize_t n;

	for (; times > 0 && (n = read(line.r, text, size)) > 0; times--)
		line.bytes -= n;
	if (line.w == -1)
		return;
	rumour(&line.write);
	if (!had && has_space(line.w))
		edge(&line.write);
}

static void
pipe_operate(unsigned int what)
{
	int to = line.copy != -1 && choose(2) == 0 ? line.copy : line.w;

	switch (what) {
	case 0:
	case 1:
		if (line.r != -1)
			change_knote(&line.read,
			    choose(4) == 0 ? NOTE_LOWAT : 0, 0);
		break;
	case 2:
	case 3:
		if (line.w != -1)
			change_knote(&line.write, 0,
			    line.r == -1 && !line.write.k_exists ? EPIPE : 0);
		break;
	case 4:
		if (line.w != -1)
			change_knote(&line.never[0], 0, 0);
		break;
	case 5:
		if (line.r != -1)
			change_knote(&line.never[1], 0, 0);
		break;
	case 6:
	case 7:
		if (to != -1)
			put(to, 1 + choose(20), 1);
		break;
	case 8:
		if (to != -1)
			put(to, PAGE, 1 + (int)choose(20));
		break;
	case 9:
	case 10:
		if (line.r != -1)
			take(1 + choose(20), 1);
		break;
	case 11:
		if (line.r != -1)
			take(PAGE, 1 + (int)choose(20));
		break;
	case 12:
		copy_writer();
		break;
	case 13:
		if (choose(2) == 0)
			close_copy();
		else if (choose(2) == 0)
			close_writer();
		else if (choose(2) == 0)
			close_reader();
		break;
	default:
		if (line.r == -1 || line.w == -1)
			open_pipe();
	}
}

/* -- an eventfd ------------------------------------------------------------ */

#define FULL (UINT64_MAX - 1)

static enum truth
counter_read_truth(const struct knote *k)
{
	return counter.n > 0 ? YES : NO;
}

static int64_t
clipped(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

static void
counter_read_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data != clipped(counter.n))
		fail("eventfd: data %jd, expected %ju", (intmax_t)ev->data,
		    (uintmax_t)counter.n);
}

static enum truth
counter_write_truth(const struct knote *k)
{
	return counter.n < FULL ? YES : NO;
}

static void
counter_write_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data != clipped(FULL - counter.n))
		fail("eventfd: WRITE with data %jd, expected %ju",
		    (intmax_t)ev->data, (uintmax_t)(FULL - counter.n));
}

static const struct kind kind_counter_read = { EVFILT_READ, 0, 0, EDGES, false,
	counter_read_truth, counter_read_check };
static const struct kind kind_counter_write = { EVFILT_WRITE, 0, 0, EDGES,
	false, counter_write_truth, counter_write_check };

static void
count(uint64_t n)
{
	if (n == 0 || n > FULL - counter.n)
		return;
	if (write(counter.fd, &n, sizeof(n)) != sizeof(n))
		err(1, "eventfd");
	counter.n += n;
	edge(&counter.read);
}

static void
take_count(void)
{
	bool full = counter.n == FULL;
	uint64_t n;

	if (read(counter.fd, &n, sizeof(n)) == -1)
		return;
	if (n != counter.n)
		fail("eventfd: %ju, expected %ju", (uintmax_t)n,
		    (uintmax_t)counter.n);
	counter.n = 0;
	rumour(&counter.write);
	if (full)
		edge(&counter.write);
}

static void
counter_operate(unsigned int what)
{
	switch (what) {
	case 0:
		change_knote(&counter.read, 0, 0);
		break;
	case 1:
		change_knote(&counter.write, 0, 0);
		break;
	case 2:
	case 3:
		count(1 + choose(20));
		break;
	case 4:
		count(FULL - counter.n);
		break;
	default:
		take_count();
	}
}

/* -- datagrams ------------------------------------------------------------- */

static enum truth
letters_read_truth(const struct knote *k)
{
	return letters.number > 0 ? YES : NO;
}

static void
letters_read_check(struct knote *k, const struct kevent *ev)
{
	int64_t size = letters.number > 0 ? letters.sizes[0] : 0;

	if (ev->data != size)
		fail("datagram: data %jd, expected %jd", (intmax_t)ev->data,
		    (intmax_t)size);
}

static enum truth
letters_write_truth(const struct knote *k)
{
	return has_space(letters.fd) ? YES : NO;
}

static void
letters_write_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data <= 0)
		fail("datagram: WRITE with data %jd", (intmax_t)ev->data);
}

static const struct kind kind_letters_read = { EVFILT_READ, 0, 0, EDGES, false,
	letters_read_truth, letters_read_check };
static const struct kind kind_letters_write = { EVFILT_WRITE, 0, 0, EDGES,
	false, letters_write_truth, letters_write_check };

static void
send_letter(size_t size)
{
	static const char text[32];

	if (letters.number == LETTERS)
		return;
	if (send(letters.peer, text, size, 0) != (ssize_t)size)
		err(1, "send");
	letters.sizes[letters.number++] = (int64_t)size;
	edge(&letters.read);
}

static void
take_letter(void)
{
	char text[32];

	if (letters.number == 0)
		return;
	if (recv(letters.fd, text, sizeof(text), 0) != letters.sizes[0])
		fail("datagram: another size");
	letters.number--;
	memmove(letters.sizes, letters.sizes + 1,
	    sizeof(letters.sizes) - sizeof(letters.sizes[0]));
}

/* Until the peer has as many as it may. */
static void
answer(int times)
{
	for (; times > 0; times--)
		if (send(letters.fd, "x", 1, MSG_DONTWAIT) == -1 &&
		    errno != EAGAIN)
			err(1, "send");
}

static void
take_answers(int times)
{
	bool had = has_space(letters.fd);
	char byte;

	for (; times > 0; times--)
		if (recv(letters.peer, &byte, 1, MSG_DONTWAIT) == 1)
			rumour(&letters.write);
	if (!had && has_space(letters.fd))
		edge(&letters.write);
}

static void
letters_operate(unsigned int what)
{
	switch (what) {
	case 0:
	case 1:
		change_knote(&letters.read, 0, 0);
		break;
	case 2:
		change_knote(&letters.write, 0, 0);
		break;
	case 3:
	case 4:
		send_letter(choose(20));
		break;
	case 5:
	case 6:
		take_letter();
		break;
	case 7:
		answer((int)choose(16));
		break;
	default:
		take_answers((int)choose(16));
	}
}

/* -- a listener ------------------------------------------------------------ */

static enum truth
listener_truth(const struct knote *k)
{
	return listener.number > 0 ? YES : NO;
}

static void
listener_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data != listener.number)
		fail("listener: data %jd, expected %d", (intmax_t)ev->data,
		    listener.number);
}

static const struct kind kind_listener = { EVFILT_READ, 0, 0, EDGES, false,
	listener_truth, listener_check };

static void
call(void)
{
	int fd;

	if (listener.number == CALLERS)
		return;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1 ||
	    connect(fd, (struct sockaddr *)&listener.name, listener.len) == -1)
		err(1, "connect");
	listener.callers[listener.number++] = fd;
	edge(&listener.read);
}

static void
answer_call(void)
{
	int fd;

	if (listener.number == 0)
		return;
	if ((fd = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC)) == -1)
		err(1, "accept");
	close(fd);
	close(listener.callers[0]);
	memmove(listener.callers, listener.callers + 1,
	    (size_t)--listener.number * sizeof(listener.callers[0]));
}

/* R-READ-11: but the library looks itself, and has the kernel look. */
static void
change_listener(void)
{
	unsigned int fflags = choose(4) == 0 ? NOTE_LOWAT : 0;

	change_knote(&listener.read, fflags, 0);
	if (fflags != 0 && listener.read.k_exists)
		rumour(&listener.read);
}

static void
listener_operate(unsigned int what)
{
	switch (what) {
	case 0:
	case 1:
		change_listener();
		break;
	case 2:
		change_knote(&listener.never, 0, 0);
		break;
	case 3:
	case 4:
		call();
		break;
	default:
		answer_call();
	}
}

/* A name of the kernel's choice. */
static void
listener_open(void)
{
	listener = (struct listener){ .len = sizeof(listener.name),
		.name = { .sun_family = AF_UNIX },
		.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0) };
	if (listener.fd == -1 ||
	    bind(listener.fd, (struct sockaddr *)&listener.name,
		sizeof(sa_family_t)) == -1 ||
	    getsockname(listener.fd, (struct sockaddr *)&listener.name,
		&listener.len) == -1 ||
	    listen(listener.fd, CALLERS) == -1)
		err(1, "listen");
	know(&listener.read, &kind_listener, kq, (uintptr_t)listener.fd, NULL);
	know(&listener.never, &kind_never[1], kq, (uintptr_t)listener.fd, NULL);
}

static void
listener_close(void)
{
	close(listener.fd);
	while (listener.number > 0)
		close(listener.callers[--listener.number]);
}

/* -- all of them ----------------------------------------------------------- */

static void
pipes_operate(void)
{
	unsigned int which = choose(8), what = choose(16);

	say("pipe: %u, %u", which, what);
	if (which == 6)
		listener_operate(what % 6);
	else if (which % 4 < 2)
		pipe_operate(what);
	else if (which == 2)
		counter_operate(what % 6);
	else
		letters_operate(what % 9);
}

static void
pipes_open(void)
{
	int fds[2], i;

	line = (struct pipe){ .r = -1, .w = -1, .copy = -1 };
	know(&line.read, &kind_pipe_read, kq, 0, NULL);
	know(&line.write, &kind_pipe_write, kq, 0, NULL);
	for (i = 0; i < 2; i++)
		know(&line.never[i], &kind_never[i], kq, 0, NULL);
	open_pipe();
	counter =
	    (struct counter){ .fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) };
	if (counter.fd == -1 ||
	    socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, fds) == -1)
		err(1, "socketpair");
	letters = (struct letters){ .fd = fds[0], .peer = fds[1] };
	know(&counter.read, &kind_counter_read, kq, (uintptr_t)counter.fd,
	    NULL);
	know(&counter.write, &kind_counter_write, kq, (uintptr_t)counter.fd,
	    NULL);
	know(&letters.read, &kind_letters_read, kq, (uintptr_t)fds[0], NULL);
	know(&letters.write, &kind_letters_write, kq, (uintptr_t)fds[0], NULL);
	listener_open();
}

static void
pipes_close(void)
{
	close_one(&line.r);
	close_one(&line.w);
	close_one(&line.copy);
	close(counter.fd);
	close(letters.fd);
	close(letters.peer);
	listener_close();
}

const struct part part_pipe = { pipes_open, pipes_operate, pipes_close, NULL };
