/*
 * loop.c: the loop of a server.  Of 64 connections some have a request of 64
 * bytes; they are awaited, dispatched through the pointer registered with
 * them, read, and answered.  The clients' side is in the same thread and not
 * timed.  "wait" neither reads nor answers: it shows the bare call, which no
 * server makes.
 */
#include "bench.h"

#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <err.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#define NCONNS 64
#define MSG 64

enum work { WAIT, READ, ECHO };

struct loop {
	int domain; /* AF_INET or AF_UNIX */
	enum work work;
	int batch; /* connections with a request at a time */
	int turns; /* of the loop in one piece */
};

struct conn {
	void (*ready)(struct conn *c, int64_t data);
	int fd, peer;
};

/*
 * TCP and UNIX; those that answer, and those that never do: the kernel learns
 * which is which and acknowledges late or at once, and it must not waver.
 */
static struct conn conns[2][2][NCONNS];
static volatile int64_t sink;

static void
ready_wait(struct conn *c, int64_t data)
{
	sink += data;
}

static void
ready_read(struct conn *c, int64_t data)
{
	char buf[256];

	if (read(c->fd, buf, sizeof(buf)) != MSG)
		err(1, "read");
}

static void
ready_echo(struct conn *c, int64_t data)
{
	char buf[256];

	if (read(c->fd, buf, sizeof(buf)) != MSG ||
	    write(c->fd, buf, MSG) != MSG)
		err(1, "echo");
}

static struct conn *
prepare(const struct loop *l)
{
	static void (*const ready[])(struct conn *, int64_t) = {
		[WAIT] = ready_wait,
		[READ] = ready_read,
		[ECHO] = ready_echo,
	};
	struct conn *c = conns[l->domain == AF_UNIX][l->work == ECHO];
	int fds[2], i;

	for (i = 0; i < NCONNS; i++) {
		if (c[i].ready == NULL) {
			bench_pair(l->domain, fds);
			c[i].fd = fds[0];
			c[i].peer = fds[1];
		}
		c[i].ready = ready[l->work];
	}
	return c;
}

static struct conn *
client(const struct loop *l, struct conn *c, int turn, int j)
{
	return &c[(turn * 7 + j * (NCONNS / l->batch)) % NCONNS];
}

static void
clients_send(const struct loop *l, struct conn *c, int turn)
{
	static const char msg[MSG];
	int j;

	for (j = 0; j < l->batch; j++)
		if (write(client(l, c, turn, j)->peer, msg, MSG) != MSG)
			err(1, "write");
}

static void
clients_recv(const struct loop *l, struct conn *c, int turn)
{
	struct conn *k;
	char buf[256];
	int j, fd;

	for (j = 0; j < l->batch; j++) {
		k = client(l, c, turn, j);
		fd = l->work == ECHO ? k->peer : k->fd;
		if (read(fd, buf, sizeof(buf)) != MSG)
			err(1, "read");
	}
}

static int
turn_epoll(int ep)
{
	struct epoll_event evs[NCONNS];
	struct conn *c;
	int i, n;

	n = epoll_wait(ep, evs, NCONNS, -1);
	for (i = 0; i < n; i++) {
		c = evs[i].data.ptr;
		c->ready(c, 1);
	}
	return n;
}

static int
turn_kqueue(int kq)
{
	struct kevent evs[NCONNS];
	struct conn *c;
	int i, n;

	n = kevent(kq, NULL, 0, evs, NCONNS, NULL);
	for (i = 0; i < n; i++) {
		c = evs[i].udata;
		c->ready(c, evs[i].data);
	}
	return n;
}

static double
run(const struct loop *l, struct conn *c, int fd, int (*turn)(int))
{
	double start, total = 0;
	int i, n, got;

	for (i = 0; i < l->turns; i++) {
		if (l->work != WAIT || i == 0)
			clients_send(l, c, i);
		start = bench_cpu();
		for (got = 0; got < l->batch; got += n) {
			n = turn(fd);
			if (n <= 0)
				err(1, "wait: %d", n);
		}
		total += bench_took(start);
		if (l->work == ECHO)
			clients_recv(l, c, i);
	}
	if (l->work == WAIT)
		clients_recv(l, c, 0);
	close(fd);
	return total * 1e9 / (l->turns * l->batch);
}

static double
run_epoll(const void *arg)
{
	const struct loop *l = arg;
	struct conn *c = prepare(l);
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP };
	int ep, i;

	ep = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < NCONNS; i++) {
		ev.data.ptr = &c[i];
		if (epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev) == -1)
			err(1, "epoll_ctl");
	}
	return run(l, c, ep, turn_epoll);
}

static double
run_kqueue(const struct loop *l, unsigned int fflags)
{
	struct conn *c = prepare(l);
	struct kevent ev;
	int kq, i;

	kq = kqueue();
	for (i = 0; i < NCONNS; i++) {
		EV_SET(&ev, c[i].fd, EVFILT_READ, EV_ADD, fflags, 0, &c[i]);
		if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
			err(1, "kevent");
	}
	return run(l, c, kq, turn_kqueue);
}

static double
run_nodata(const void *arg)
{
	return run_kqueue(arg, NOTE_NODATA);
}

static double
run_data(const void *arg)
{
	return run_kqueue(arg, 0);
}

void
bench_loop(void)
{
	static const char *const works[] = { "wait", "read", "echo" };
	static const int batches[] = { 1, 8, 64 };
	struct bench_side sides[] = {
		{ .name = "epoll", .run = run_epoll },
		{ .name = "no data", .run = run_nodata },
		{ .name = "data", .run = run_data },
	};
	struct loop l;
	char name[64];
	int b, tcp, w;

	for (tcp = 1; tcp >= 0; tcp--)
		for (w = ECHO; w >= WAIT; w--)
			for (b = 0; b < 3; b++) {
				l.domain = tcp ? AF_INET : AF_UNIX;
				l.work = (enum work)w;
				l.batch = batches[b];
				l.turns = 320 / l.batch;
				sides[1].max_ratio = w == WAIT ? 0 : 1.02;
				sides[2].max_ratio = w == WAIT || !tcp ? 0 :
				    l.batch == 64                      ? 1.05 :
									 1.08;
				snprintf(name, sizeof(name),
				    "%s %s, %d at a time", tcp ? "TCP" : "UNIX",
				    works[w], l.batch);
				bench_compare(name, sides, 3, &l, 160);
			}
}
