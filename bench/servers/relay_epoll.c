/*
 * A relay on raw epoll that copies, to a port of this machine: the reference.
 * -n: by splice(2), through a pipe for each direction of each connection.
 *
 *	relay_epoll PORT [-n] ADDRESS
 */
#include "echo.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NEVENTS 256
#define PIPESIZE (256 * 1024)

struct end {
	struct pair *pair;
	int fd;
	uint32_t events; /* that it waits for */
	int eof;         /* it sends no more */
	int pipe[2];
	char *rest; /* what the other has not taken yet, unless in the pipe */
	size_t off, held;
};

struct pair {
	struct end end[2];
	struct pair *next; /* of those that are gone */
};

static struct sockaddr_in backend;
static struct pair *gone; /* in this batch, whose events may name them */
static int ep;

static struct end *
mate(struct end *e)
{
	return &e->pair->end[e == e->pair->end];
}

static void
hang_up(struct pair *p)
{
	int i;

	for (i = 0; i < 2; i++) {
		close(p->end[i].fd);
		p->end[i].fd = -1;
		free(p->end[i].rest);
		if (!echo_flag_n)
			continue;
		close(p->end[i].pipe[0]);
		close(p->end[i].pipe[1]);
	}
	p->next = gone;
	gone = p;
}

static void
bury(void)
{
	struct pair *p;

	while ((p = gone) != NULL) {
		gone = p->next;
		free(p);
	}
}

/* An end is read from while nothing of it waits for the other. */
static void
wait_for(struct end *e, int op)
{
	struct epoll_event ev = { .data.ptr = e };

	if (e->held == 0 && !e->eof)
		ev.events |= EPOLLIN | EPOLLRDHUP;
	if (mate(e)->held != 0)
		ev.events |= EPOLLOUT;
	if (op == EPOLL_CTL_MOD && ev.events == e->events)
		return;
	if (epoll_ctl(ep, op, e->fd, &ev) == -1)
		err(1, "epoll_ctl");
	e->events = ev.events;
}

/* Receive, and by copy send what goes at once; the rest is kept. */
static ssize_t
receive(struct end *e)
{
	ssize_t n, sent;

	if (echo_flag_n) {
		n = splice(e->fd, NULL, e->pipe[1], NULL, PIPESIZE,
		    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		if (n > 0)
			e->held = (size_t)n;
		return n;
	}
	n = read(e->fd, echo_buf, sizeof(echo_buf));
	if (n <= 0)
		return n;
	sent = write(mate(e)->fd, echo_buf, (size_t)n);
	if (sent == n)
		return n;
	if (sent == -1 && errno != EAGAIN)
		return 0;
	e->off = 0;
	e->held = (size_t)n - (size_t)(sent == -1 ? 0 : sent);
	e->rest = malloc(e->held);
	if (e->rest == NULL)
		err(1, "malloc");
	memcpy(e->rest, echo_buf + ((size_t)n - e->held), e->held);
	return n;
}

/* Send what e has received.  0, or -1: it cannot be. */
static int
push(struct end *e)
{
	ssize_t n;

	while (e->held != 0) {
		if (echo_flag_n)
			n = splice(e->pipe[0], NULL, mate(e)->fd, NULL, e->held,
			    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
		else
			n = write(mate(e)->fd, e->rest + e->off, e->held);
		if (n == -1)
			return errno == EAGAIN ? 0 : -1;
		e->off += (size_t)n;
		e->held -= (size_t)n;
	}
	free(e->rest);
	e->rest = NULL;
	if (e->eof)
		shutdown(mate(e)->fd, SHUT_WR);
	return 0;
}

static void
serve(struct end *e, uint32_t events)
{
	struct end *to = mate(e);
	ssize_t n;

	if (e->fd == -1)
		return;
	if ((events & EPOLLOUT) && push(to) == -1) {
		hang_up(e->pair);
		return;
	}
	if ((events & ~(uint32_t)EPOLLOUT) && e->held == 0 && !e->eof) {
		n = receive(e);
		if (n == 0)
			e->eof = 1;
		if ((n == -1 && errno != EAGAIN) ||
		    (n >= 0 && (echo_flag_n || n == 0) && push(e) == -1)) {
			hang_up(e->pair);
			return;
		}
	}
	if (e->eof && to->eof && e->held == 0 && to->held == 0) {
		hang_up(e->pair);
		return;
	}
	wait_for(e, EPOLL_CTL_MOD);
	wait_for(to, EPOLL_CTL_MOD);
}

/* connect(2) to the same machine does not wait. */
static void
welcome(int listener)
{
	struct pair *p;
	int fd, i;

	fd = echo_accept(listener);
	if (fd == -1)
		return;
	p = calloc(1, sizeof(*p));
	if (p == NULL)
		err(1, "calloc");
	p->end[0].fd = fd;
	p->end[1].fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->end[1].fd == -1 ||
	    connect(p->end[1].fd, (struct sockaddr *)&backend,
		sizeof(backend)) == -1 ||
	    fcntl(p->end[1].fd, F_SETFL, O_NONBLOCK) == -1)
		err(1, "connect");
	for (i = 0; i < 2; i++) {
		p->end[i].pair = p;
		if (echo_flag_n &&
		    (pipe2(p->end[i].pipe, O_CLOEXEC | O_NONBLOCK) == -1 ||
			fcntl(p->end[i].pipe[1], F_SETPIPE_SZ, PIPESIZE) == -1))
			err(1, "pipe");
		wait_for(&p->end[i], EPOLL_CTL_ADD);
	}
}

int
main(int argc, char *argv[])
{
	struct epoll_event evs[NEVENTS];
	struct epoll_event ev = { .events = EPOLLIN };
	int i, listener, n;

	if (argc < 3)
		errx(64, "usage: relay_epoll PORT [-n] ADDRESS");
	backend.sin_family = AF_INET;
	backend.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	backend.sin_port = htons((uint16_t)atoi(argv[1]));
	listener = echo_listen(argc - 1, argv + 1);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep == -1 || epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev) == -1)
		err(1, "epoll");
	echo_ready();
	for (;;) {
		n = epoll_wait(ep, evs, NEVENTS, -1);
		if (n == -1 && errno != EINTR)
			err(1, "epoll_wait");
		for (i = 0; i < n; i++)
			if (evs[i].data.ptr == NULL)
				welcome(listener);
			else
				serve(evs[i].data.ptr, evs[i].events);
		bury();
	}
}
