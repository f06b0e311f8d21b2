/* libev: ready or not is its business, bytes are ours. */
#include "echo.h"

#include <err.h>
#include <ev.h>
#include <stdlib.h>
#include <unistd.h>

static void
on_ready(struct ev_loop *loop, ev_io *w, int revents)
{
	enum want want;

	want = echo_serve(w->fd);
	if (want == WANT_CLOSE) {
		ev_io_stop(loop, w);
		close(w->fd);
		free(w);
		return;
	}
	if ((want == WANT_WRITE) == ((w->events & EV_WRITE) != 0))
		return;
	ev_io_stop(loop, w);
	ev_io_set(w, w->fd, want == WANT_WRITE ? EV_WRITE : EV_READ);
	ev_io_start(loop, w);
}

static void
on_caller(struct ev_loop *loop, ev_io *w, int revents)
{
	ev_io *io;
	int fd;

	fd = echo_accept(w->fd);
	if (fd == -1)
		return;
	io = malloc(sizeof(*io));
	if (io == NULL)
		err(1, "malloc");
	ev_io_init(io, on_ready, fd, EV_READ);
	ev_io_start(loop, io);
}

int
main(int argc, char *argv[])
{
	struct ev_loop *loop;
	ev_io io;

	loop = ev_loop_new(EVBACKEND_EPOLL);
	if (loop == NULL)
		errx(1, "ev_loop_new");
	ev_io_init(&io, on_caller, echo_listen(argc, argv), EV_READ);
	ev_io_start(loop, &io);
	echo_ready();
	ev_run(loop, 0);
	return 1;
}
