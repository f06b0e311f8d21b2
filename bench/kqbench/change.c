/*
 * change.c: changing what is watched.  A change that tells the kernel nothing
 * new, or only less, needs no system call; the raw side makes the epoll_ctl
 * that a program without that knowledge makes.
 */
#include "bench.h"

#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <err.h>
#include <unistd.h>

#define NFDS 512
#define LIST 64

static int fds[NFDS][2];

/* The flags of two changes made in turn, the second undoing the first. */
struct change {
	short filter;
	int timed, untimed; /* EV_*; untimed 0: none */
};

static int
new_epoll(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep, i;

	ep = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < NFDS; i++)
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i][0], &ev) == -1)
			err(1, "epoll_ctl");
	return ep;
}

static void
change(int kq, int fd, short filter, int flags)
{
	struct kevent ev;

	EV_SET(&ev, fd, filter, flags, 0, 0, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		err(1, "kevent");
}

static double
change_epoll(const void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep, i;
	double t;

	ep = new_epoll();
	t = bench_cpu();
	for (i = 0; i < NFDS; i++)
		if (epoll_ctl(ep, EPOLL_CTL_MOD, fds[i][0], &ev) == -1)
			err(1, "epoll_ctl");
	t = bench_took(t);
	close(ep);
	return t * 1e9 / NFDS;
}

static double
change_kqueue(const void *arg)
{
	const struct change *c = arg;
	int i, kq;
	double t;

	kq = kqueue();
	for (i = 0; i < NFDS; i++) {
		change(kq, fds[i][0], EVFILT_READ, EV_ADD);
		if (c->untimed != 0)
			change(kq, fds[i][0], c->filter, c->untimed);
	}
	t = bench_cpu();
	for (i = 0; i < NFDS; i++)
		change(kq, fds[i][0], c->filter, c->timed);
	t = bench_took(t);
	close(kq);
	return t * 1e9 / NFDS;
}

static double
list_epoll(const void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep, i;
	double t;

	ep = epoll_create1(EPOLL_CLOEXEC);
	t = bench_cpu();
	for (i = 0; i < NFDS; i++)
		if (epoll_ctl(ep, EPOLL_CTL_ADD, fds[i][0], &ev) == -1)
			err(1, "epoll_ctl");
	t = bench_took(t);
	close(ep);
	return t * 1e9 / NFDS;
}

static double
list_kqueue(const void *arg)
{
	struct kevent evs[LIST];
	int i, j, kq, list = *(const int *)arg;
	double t;

	kq = kqueue();
	t = bench_cpu();
	for (i = 0; i < NFDS; i += list) {
		for (j = 0; j < list; j++)
			EV_SET(&evs[j], fds[i + j][0], EVFILT_READ, EV_ADD, 0,
			    0, NULL);
		if (kevent(kq, evs, list, NULL, 0, NULL) == -1)
			err(1, "kevent");
	}
	t = bench_took(t);
	close(kq);
	return t * 1e9 / NFDS;
}

void
bench_change(void)
{
	static const struct {
		const char *name;
		struct change change;
	} rows[] = {
		{ "EV_ADD of what is there", { EVFILT_READ, EV_ADD, 0 } },
		{ "EV_DISABLE", { EVFILT_READ, EV_DISABLE, 0 } },
		{ "EV_ENABLE after it",
		    { EVFILT_READ, EV_ENABLE, EV_DISABLE } },
		{ "EV_DELETE", { EVFILT_READ, EV_DELETE, 0 } },
		{ "EV_DELETE of WRITE beside READ",
		    { EVFILT_WRITE, EV_DELETE, EV_ADD } },
	};
	static const int lists[] = { 1, LIST };
	struct bench_side sides[] = {
		{ .name = "MOD", .run = change_epoll },
		{ .name = "", .run = change_kqueue, .max_value = 10 },
	};
	size_t i;

	for (i = 0; i < NFDS; i++)
		bench_pair(AF_UNIX, fds[i]);
	for (i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		bench_compare(rows[i].name, sides, 2, &rows[i].change, 60);

	sides[0].run = list_epoll;
	sides[1].run = list_kqueue;
	sides[1].max_value = 0;
	bench_compare("first EV_ADD, 1 in a call", sides, 2, &lists[0], 60);
	sides[1].max_ratio = 0.75;
	bench_compare("first EV_ADD, 64 in a call", sides, 2, &lists[1], 60);
	for (i = 0; i < NFDS; i++) {
		close(fds[i][0]);
		close(fds[i][1]);
	}
}
