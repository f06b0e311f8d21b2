/*
 * life.c: the whole life of a connection as its server sees it: accept, add,
 * wait, read, close.  What kqueue promises at close(2), that the events go
 * with the descriptor, is paid for here.
 */
#include "bench.h"

#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <err.h>
#include <netinet/in.h>
#include <unistd.h>

#define NLIVES 100
#define SLOTS 8

static int listener;
static struct sockaddr_in address;

static int
caller(void)
{
	int fd;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	if (fd == -1 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == -1 ||
	    write(fd, "hello", 5) != 5)
		err(1, "connect");
	return fd;
}

static void
life_epoll(int ep)
{
	struct epoll_event ev, evs[SLOTS];
	char buf[64];
	int fd;

	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	ev.events = EPOLLIN | EPOLLRDHUP;
	ev.data.fd = fd;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == -1 ||
	    epoll_wait(ep, evs, SLOTS, -1) != 1 ||
	    read(evs[0].data.fd, buf, sizeof(buf)) != 5)
		err(1, "epoll");
	/* The plain system call: close() is libkq's in this process. */
	syscall(SYS_close, fd);
}

static void
life_kqueue(int kq, unsigned int fflags)
{
	struct kevent ev, evs[SLOTS];
	char buf[64];
	int fd;

	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	EV_SET(&ev, fd, EVFILT_READ, EV_ADD, fflags, 0, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1 ||
	    kevent(kq, NULL, 0, evs, SLOTS, NULL) != 1 ||
	    read((int)evs[0].ident, buf, sizeof(buf)) != 5)
		err(1, "kqueue");
	close(fd);
}

static void
life_nodata(int kq)
{
	life_kqueue(kq, NOTE_NODATA);
}

static void
life_data(int kq)
{
	life_kqueue(kq, 0);
}

/* Change and wait in one call, as a server with one new caller may. */
static void
life_joined(int kq)
{
	struct kevent ev, evs[SLOTS];
	char buf[64];
	int fd;

	fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	EV_SET(&ev, fd, EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	if (kevent(kq, &ev, 1, evs, SLOTS, NULL) != 1 ||
	    read((int)evs[0].ident, buf, sizeof(buf)) != 5)
		err(1, "kqueue");
	close(fd);
}

static double
run(int queue, void (*life)(int))
{
	double start, total = 0;
	int fd, i;

	for (i = 0; i < NLIVES; i++) {
		fd = caller();
		start = bench_cpu();
		life(queue);
		total += bench_took(start);
		syscall(SYS_close, fd);
	}
	close(queue);
	return total * 1e9 / NLIVES;
}

static double
run_epoll(const void *arg)
{
	return run(epoll_create1(EPOLL_CLOEXEC), life_epoll);
}

static double
run_nodata(const void *arg)
{
	return run(kqueue(), life_nodata);
}

static double
run_data(const void *arg)
{
	return run(kqueue(), life_data);
}

static double
run_joined(const void *arg)
{
	return run(kqueue(), life_joined);
}

void
bench_life(void)
{
	static const struct bench_side sides[] = {
		{ .name = "epoll", .run = run_epoll },
		{ .name = "no data", .run = run_nodata, .max_ratio = 1.04 },
		{ .name = "data", .run = run_data },
		{ .name = "one call", .run = run_joined },
	};
	socklen_t len = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (listener == -1 ||
	    bind(listener, (struct sockaddr *)&address, len) == -1 ||
	    listen(listener, 128) == -1 ||
	    getsockname(listener, (struct sockaddr *)&address, &len) == -1)
		err(1, "listen");
	bench_compare("accept, add, wait, read, close", sides, 4, NULL, 160);
	close(listener);
}
