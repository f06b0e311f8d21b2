/*
 * welcome: a TCP server on one kernel queue, after the article "Handling TCP
 * Connections with Kqueue Event Notification".
 *
 *	cc -D_GNU_SOURCE welcome.c $(pkg-config --cflags --libs kq)
 *	welcome [port]			then: nc 127.0.0.1 8080
 *
 * The queue reports the listening socket and every client.  A client is found
 * in a pool of NUSERS by its descriptor; who comes when the pool is full is
 * refused.  What a client sends is printed and sent back to it.
 *
 * The article shows the parts; this is the whole, and it keeps running.
 * "Mend:" marks each place where the text as printed would go wrong.
 * welcome_all.c is its continuation: every address family, a UNIX socket.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NUSERS 10
#define NEVENTS 32
#define MSG_SIZE 4096

struct client_data {
	int fd;  /* -1: free.  Mend: 0 will not do, it is a descriptor too. */
	int eof; /* it has sent all that it will send */
	int blocked;   /* not read from until out[] is empty */
	size_t outlen; /* bytes of out[] that are still to be sent */
	char out[MSG_SIZE];
};

static struct client_data clients[NUSERS];
static int kq;
static int resting; /* the listener, see accept_conn() */

static int create_socket_and_listen(const char *port);
static void watch_loop(int local_s);
static void accept_conn(int local_s);
static int get_conn(int fd);
static int conn_add(int fd);
static void conn_delete(int fd);
static int recv_msg(int s);
static int send_msg(int s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
static int send_welcome_msg(int s);
static int send_out(struct client_data *c);
static int change(int fd, short filter, int flags);

int
main(int argc, char *argv[])
{
	int i, local_s;

	for (i = 0; i < NUSERS; i++)
		clients[i].fd = -1;
	/* Mend: a client that leaves while we write must not end the server. */
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);

	local_s = create_socket_and_listen(argc > 1 ? argv[1] : "8080");
	kq = kqueue();
	if (kq == -1)
		err(1, "kqueue");
	if (change(local_s, EVFILT_READ, EV_ADD) == -1)
		err(1, "kevent");
	watch_loop(local_s);
}

/* A non-blocking socket that listens on the first address of localhost. */
static int
create_socket_and_listen(const char *port)
{
	struct addrinfo hints, *addr;
	int error, local_s, on = 1;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = PF_UNSPEC;
	hints.ai_flags = AI_PASSIVE;
	hints.ai_socktype = SOCK_STREAM;
	error = getaddrinfo("127.0.0.1", port, &hints, &addr);
	if (error != 0)
		errx(1, "getaddrinfo: %s", gai_strerror(error));

	/*
	 * Mend: non-blocking, since who is reported may have hung up before
	 * accept(2), which would then sleep and stop everyone else.
	 */
	local_s = socket(addr->ai_family,
	    addr->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    addr->ai_protocol);
	if (local_s == -1)
		err(1, "socket");
	/* Mend: or a restart fails while old connections are in TIME_WAIT. */
	if (setsockopt(local_s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ==
	    -1)
		err(1, "setsockopt");
	if (bind(local_s, addr->ai_addr, addr->ai_addrlen) == -1)
		err(1, "bind");
	if (listen(local_s, SOMAXCONN) == -1)
		err(1, "listen");
	freeaddrinfo(addr);
	return local_s;
}

static void
watch_loop(int local_s)
{
	static const struct timespec second = { 1, 0 };
	struct kevent evlist[NEVENTS], *ev;
	int fd, i, nev, rc;

	for (;;) {
		nev = kevent(kq, NULL, 0, evlist, NEVENTS,
		    resting ? &second : NULL);
		if (nev == -1) {
			/* Mend: a signal ends the wait; that is no error. */
			if (errno == EINTR)
				continue;
			err(1, "kevent");
		}
		if (resting) {
			resting = 0;
			change(local_s, EVFILT_READ, EV_ENABLE);
		}
		for (i = 0; i < nev; i++) {
			ev = &evlist[i];
			fd = (int)ev->ident;
			if (fd == local_s) {
				accept_conn(local_s);
				continue;
			}
			/*
			 * An event of this batch may be about a client that
			 * an earlier one has deleted, its number perhaps
			 * taken by a new one.  Nothing here blocks, so such
			 * an event finds nothing to do.
			 */
			if (get_conn(fd) == -1)
				continue;
			/*
			 * Mend: filters are told apart by ev->filter, a number;
			 * "flags == EVFILT_READ" is never true.
			 *
			 * Mend: EV_EOF comes together with the last bytes.
			 * They are read first; recv(2) says when it is over.
			 */
			if (ev->filter == EVFILT_READ)
				rc = recv_msg(fd);
			else
				rc = send_out(&clients[get_conn(fd)]);
			if (rc == -1)
				conn_delete(fd);
		}
	}
}

static void
accept_conn(int local_s)
{
	static const char refusal[] = "connection refused\n";
	static int warned; /* once is enough */
	int fd;

	fd = accept4(local_s, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1) {
		if (errno != EMFILE && errno != ENFILE)
			return; /* Mend: it has gone; not our end. */
		/*
		 * Mend: out of descriptors.  The caller stays in the backlog
		 * and would be reported again at once, and for ever; so the
		 * listener rests until something else happens, or a second.
		 */
		if (!warned)
			warn("accept");
		warned = 1;
		resting = change(local_s, EVFILT_READ, EV_DISABLE) == 0;
		return;
	}
	if (conn_add(fd) == -1) {
		printf("connection refused\n");
		(void)!write(fd, refusal, sizeof(refusal) - 1);
		/* Mend: refused or not, it is ours to close. */
		close(fd);
		return;
	}
	printf("connected: %d\n", fd);
	/* Mend: what cannot be watched is not kept. */
	if (change(fd, EVFILT_READ, EV_ADD) == -1 || send_welcome_msg(fd) == -1)
		conn_delete(fd);
}

/* The index of a client in the pool, or -1. */
static int
get_conn(int fd)
{
	int i;

	for (i = 0; i < NUSERS; i++)
		if (clients[i].fd == fd)
			return i;
	return -1;
}

/* 0, or -1 when the pool is full; then fd is still the caller's. */
static int
conn_add(int fd)
{
	int i;

	i = get_conn(-1);
	if (i == -1)
		return -1;
	clients[i].fd = fd;
	clients[i].eof = 0;
	clients[i].blocked = 0;
	clients[i].outlen = 0;
	return 0;
}

/* Closing the descriptor removes its events; EV_DELETE is not needed. */
static void
conn_delete(int fd)
{
	int i;

	i = get_conn(fd);
	if (i == -1)
		return;
	printf("disconnected: %d\n", fd);
	clients[i].fd = -1;
	close(fd);
}

/* Print what has come and send it back.  -1 to hang up. */
static int
recv_msg(int s)
{
	struct client_data *c = &clients[get_conn(s)];
	char *buf = c->out + c->outlen;
	ssize_t n;

	/* No more than out[] has room for: who does not read, waits. */
	if (c->outlen == sizeof(c->out))
		return 0;
	n = recv(s, buf, sizeof(c->out) - c->outlen, 0);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		c->eof = 1;
	fwrite(buf, 1, (size_t)n, stdout);
	c->outlen += (size_t)n;
	return send_out(c);
}

/* Queue a message, whole or not at all.  -1 to hang up. */
static int
send_msg(int s, const char *fmt, ...)
{
	struct client_data *c = &clients[get_conn(s)];
	size_t room = sizeof(c->out) - c->outlen;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(c->out + c->outlen, room, fmt, ap);
	va_end(ap);
	if (n < 0 || (size_t)n >= room)
		return -1;
	c->outlen += (size_t)n;
	return send_out(c);
}

static int
send_welcome_msg(int s)
{
	return send_msg(s, "welcome!\n");
}

/*
 * Send what out[] holds.  Mend: send(2) may take less than all of it, or
 * block for as long as the client likes; so the rest waits for EVFILT_WRITE,
 * and until then nothing more is read.  -1 to hang up.
 */
static int
send_out(struct client_data *c)
{
	ssize_t n = 0;

	if (c->outlen > 0)
		n = send(c->fd, c->out, c->outlen, 0);
	if (n == -1 && errno != EAGAIN && errno != EINTR)
		return -1;
	if (n > 0) {
		c->outlen -= (size_t)n;
		memmove(c->out, c->out + n, c->outlen);
	}
	if (c->outlen > 0) {
		c->blocked = 1;
		if (change(c->fd, EVFILT_READ, EV_DISABLE) == -1)
			return -1;
		return change(c->fd, EVFILT_WRITE, EV_ADD | EV_ONESHOT);
	}
	if (c->eof)
		return -1;
	if (!c->blocked)
		return 0;
	c->blocked = 0;
	return change(c->fd, EVFILT_READ, EV_ENABLE);
}

static int
change(int fd, short filter, int flags)
{
	struct kevent ev;

	EV_SET(&ev, fd, filter, flags, 0, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL);
}
