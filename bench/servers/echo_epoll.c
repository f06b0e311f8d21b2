/* Raw epoll, level-triggered: the reference. */
#include "echo.h"

#include <sys/epoll.h>

#include <err.h>
#include <errno.h>
#include <unistd.h>

#define NEVENTS 256

static void
control(int ep, int op, int fd, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.fd = fd };

	if (epoll_ctl(ep, op, fd, &ev) == -1)
		err(1, "epoll_ctl");
}

int
main(int argc, char *argv[])
{
	struct epoll_event evs[NEVENTS];
	int ep, fd, i, listener, n;
	enum want want;

	listener = echo_listen(argc, argv);
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (ep == -1)
		err(1, "epoll_create1");
	control(ep, EPOLL_CTL_ADD, listener, EPOLLIN);
	echo_ready();
	for (;;) {
		n = epoll_wait(ep, evs, NEVENTS, -1);
		if (n == -1 && errno != EINTR)
			err(1, "epoll_wait");
		for (i = 0; i < n; i++) {
			fd = evs[i].data.fd;
			if (fd == listener) {
				fd = echo_accept(listener);
				if (fd != -1)
					control(ep, EPOLL_CTL_ADD, fd,
					    EPOLLIN | EPOLLRDHUP);
				continue;
			}
			want = echo_serve(fd);
			if (want == WANT_CLOSE)
				close(fd);
			else if (want == WANT_WRITE)
				control(ep, EPOLL_CTL_MOD, fd, EPOLLOUT);
			else if (evs[i].events & EPOLLOUT)
				control(ep, EPOLL_CTL_MOD, fd,
				    EPOLLIN | EPOLLRDHUP);
		}
	}
}
