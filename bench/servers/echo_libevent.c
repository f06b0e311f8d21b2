/* libevent with its buffers, as its documentation has it. */
#include "echo.h"

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#include <err.h>

static void
on_read(struct bufferevent *bev, void *arg)
{
	evbuffer_add_buffer(bufferevent_get_output(bev),
	    bufferevent_get_input(bev));
}

static void
on_event(struct bufferevent *bev, short events, void *arg)
{
	if (events & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		bufferevent_free(bev);
}

static void
on_caller(struct evconnlistener *l, evutil_socket_t fd, struct sockaddr *sa,
    int len, void *arg)
{
	struct bufferevent *bev;

	bev = bufferevent_socket_new(evconnlistener_get_base(l), fd,
	    BEV_OPT_CLOSE_ON_FREE);
	if (bev == NULL)
		errx(1, "bufferevent_socket_new");
	bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int
main(int argc, char *argv[])
{
	struct evconnlistener *l;
	struct event_base *base;

	base = event_base_new();
	if (base == NULL)
		errx(1, "event_base_new");
	l = evconnlistener_new(base, on_caller, NULL, 0, 0,
	    echo_listen(argc, argv));
	if (l == NULL)
		errx(1, "evconnlistener_new");
	echo_ready();
	return event_base_dispatch(base);
}
