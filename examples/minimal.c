/*
 * minimal: the smallest server on a kernel queue, after the article "How to
 * write a TCP server with the kqueue API".
 *
 *	minimal [port]			then: nc 127.0.0.1 8080
 *
 * It prints what its clients send.  One queue, one event at a time, and no
 * state of its own: the queue knows who is there.
 * "Mend:" marks each place where the text as printed would go wrong.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
listen_on(int port)
{
	struct sockaddr_in sin;
	int fd, on = 1;

	/* Mend: non-blocking, for who has hung up before accept(2). */
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (fd == -1)
		err(1, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	memset(&sin, 0, sizeof(sin));
	sin.sin_family = AF_INET;
	sin.sin_port = htons((uint16_t)port);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) == -1 ||
	    listen(fd, SOMAXCONN) == -1)
		err(1, "port %d", port);
	return fd;
}

static int
change(int kq, int fd, int flags)
{
	struct kevent ev;

	EV_SET(&ev, fd, EVFILT_READ, flags, 0, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL);
}

static void
got_connection(int kq, int listener)
{
	int fd;

	fd = accept(listener, NULL, NULL);
	if (fd == -1) {
		/* Mend: out of descriptors; rest until a client leaves. */
		if (errno == EMFILE)
			change(kq, listener, EV_DISABLE);
		return;
	}
	printf("connection\n");
	/* Mend: unwatched it would stay open for ever. */
	if (change(kq, fd, EV_ADD) == -1)
		close(fd);
}

static void
got_data(int kq, int listener, const struct kevent *ev)
{
	char buf[4096];
	ssize_t n;

	/*
	 * Mend: EV_EOF may come with bytes still to read: first data, then EOF.
	 */
	if (ev->data == 0 && ev->flags & EV_EOF) {
		printf("disconnect\n");
		close((int)ev->ident); /* and out of the queue */
		change(kq, listener, EV_ENABLE);
		return;
	}
	n = recv((int)ev->ident, buf, sizeof(buf), MSG_DONTWAIT);
	if (n > 0)
		fwrite(buf, 1, (size_t)n, stdout);
}

int
main(int argc, char *argv[])
{
	struct kevent ev;
	int kq, listener;

	setvbuf(stdout, NULL, _IOLBF, 0);
	listener = listen_on(argc > 1 ? atoi(argv[1]) : 8080);
	kq = kqueue();
	if (kq == -1 || change(kq, listener, EV_ADD) == -1)
		err(1, "kqueue");
	for (;;) {
		if (kevent(kq, NULL, 0, &ev, 1, NULL) != 1) {
			/* Mend: a signal ends the wait; that is no error. */
			if (errno == EINTR)
				continue;
			err(1, "kevent");
		}
		if ((int)ev.ident == listener)
			got_connection(kq, listener);
		else
			got_data(kq, listener, &ev);
	}
}
