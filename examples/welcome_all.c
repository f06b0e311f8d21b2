/*
 * welcome_all: the server of welcome.c on every address of a host and on a
 * UNIX socket, after the later sections of "Handling TCP Connections with
 * Kqueue Event Notification".
 *
 *	cc -D_GNU_SOURCE welcome_all.c $(pkg-config --cflags --libs kq)
 *	welcome_all [host [port [path]]]	then: nc -U local.s
 *
 * Host "*" is every address that the machine has.
 *
 * With several listening sockets a descriptor no longer says what an event is
 * about.  So udata does: it points to the source of the event, which knows
 * what to do, and nothing is searched for.
 *
 * "Mend:" marks what the text as printed would get wrong; see welcome.c for
 * those that are not repeated here.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NUSERS 10
#define NLISTENERS 8
#define NEVENTS 32
#define MSG_SIZE 4096

/* What udata points to: the first member of everything that has events. */
struct source {
	void (*ready)(struct source *src, const struct kevent *ev);
	int fd; /* -1: free */
};

struct listener {
	struct source src;
	const char *name; /* of its kind, for messages */
};

struct client {
	struct source src;
	const char *name; /* where it came in */
	int eof;          /* it has sent all that it will send */
	int blocked;      /* not read from until out[] is empty */
	size_t outlen;    /* bytes of out[] that are still to be sent */
	char out[MSG_SIZE];
};

static struct listener listeners[NLISTENERS];
static struct client clients[NUSERS];
static struct source quitter;
static int kq;
static int resting; /* some listener, out of descriptors */
static int quitting;

static void listen_tcp(const char *host, const char *port);
static void listen_unix(const char *path);
static void listener_add(int fd, const char *name);
static void listeners_wake(void);
static void listener_ready(struct source *src, const struct kevent *ev);
static void client_ready(struct source *src, const struct kevent *ev);
static int client_read(struct client *c);
static int client_write(struct client *c);
static void client_end(struct client *c);
static void quit(struct source *src, const struct kevent *ev);
static int change(struct source *src, int ident, short filter, int flags);

int
main(int argc, char *argv[])
{
	const char *path = argc > 3 ? argv[3] : "local.s";
	static const struct timespec second = { 1, 0 };
	struct kevent evlist[NEVENTS];
	struct source *src;
	int i, nev;

	for (i = 0; i < NUSERS; i++)
		clients[i].src.fd = -1;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);

	kq = kqueue();
	if (kq == -1)
		err(1, "kqueue");
	quitter.ready = quit;
	if (change(&quitter, SIGTERM, EVFILT_SIGNAL, EV_ADD) == -1 ||
	    change(&quitter, SIGINT, EVFILT_SIGNAL, EV_ADD) == -1)
		err(1, "kevent");
	listen_tcp(argc > 1 ? argv[1] : "localhost",
	    argc > 2 ? argv[2] : "8080");
	listen_unix(path);

	while (!quitting) {
		nev = kevent(kq, NULL, 0, evlist, NEVENTS,
		    resting ? &second : NULL);
		if (nev == -1 && errno != EINTR)
			err(1, "kevent");
		if (resting)
			listeners_wake();
		for (i = 0; i < nev; i++) {
			src = evlist[i].udata;
			src->ready(src, &evlist[i]);
		}
	}
	unlink(path);
	return 0;
}

/* Mend: every address of the name, not the first one only. */
static void
listen_tcp(const char *host, const char *port)
{
	struct addrinfo hints, *addr, *a;
	int error, fd, n = 0, on = 1;

	memset(&hints, 0, sizeof(hints));
	hints.ai_family = PF_UNSPEC;
	hints.ai_flags = AI_PASSIVE;
	hints.ai_socktype = SOCK_STREAM;
	error = getaddrinfo(strcmp(host, "*") == 0 ? NULL : host, port, &hints,
	    &addr);
	if (error != 0)
		errx(1, "%s: %s", host, gai_strerror(error));
	for (a = addr; a != NULL; a = a->ai_next) {
		fd = socket(a->ai_family,
		    a->ai_socktype | SOCK_NONBLOCK | SOCK_CLOEXEC,
		    a->ai_protocol);
		if (fd == -1)
			continue; /* a family that this host has not */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
		/* Mend: or the IPv6 socket takes the IPv4 port as well. */
		if (a->ai_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on,
			    sizeof(on));
		if (bind(fd, a->ai_addr, a->ai_addrlen) == -1 ||
		    listen(fd, SOMAXCONN) == -1) {
			warn("%s", a->ai_family == AF_INET6 ? "IPv6" : "IPv4");
			close(fd);
			continue;
		}
		listener_add(fd, a->ai_family == AF_INET6 ? "IPv6" : "IPv4");
		n++;
	}
	freeaddrinfo(addr);
	if (n == 0)
		errx(1, "%s port %s: no address to listen on", host, port);
}

static void
listen_unix(const char *path)
{
	struct sockaddr_un sun;
	int fd;

	memset(&sun, 0, sizeof(sun));
	sun.sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(sun.sun_path))
		errx(1, "%s: too long", path);
	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		err(1, "socket");
	/*
	 * Mend: the file of a server that has died is in the way and is
	 * removed; that of a living one answers and is left alone.
	 */
	if (connect(fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		errx(1, "%s: in use", path);
	if (errno == ECONNREFUSED)
		unlink(path);
	if (bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    chmod(path, 0600) == -1 || listen(fd, SOMAXCONN) == -1)
		err(1, "%s", path);
	listener_add(fd, "local");
}

static void
listener_add(int fd, const char *name)
{
	struct listener *l = listeners;

	while (l < listeners + NLISTENERS && l->name != NULL)
		l++;
	if (l == listeners + NLISTENERS)
		errx(1, "more than %d addresses", NLISTENERS);
	l->src.ready = listener_ready;
	l->src.fd = fd;
	l->name = name;
	if (change(&l->src, fd, EVFILT_READ, EV_ADD) == -1)
		err(1, "kevent");
}

/* Whoever was out of descriptors tries again. */
static void
listeners_wake(void)
{
	struct listener *l = listeners;

	resting = 0;
	for (; l < listeners + NLISTENERS && l->name != NULL; l++)
		change(&l->src, l->src.fd, EVFILT_READ, EV_ENABLE);
}

static void
listener_ready(struct source *src, const struct kevent *ev)
{
	static const char refusal[] = "connection refused\n";
	static int warned; /* once is enough */
	struct listener *l = (struct listener *)src;
	struct client *c = clients;
	int fd;

	fd = accept4(src->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1 && (errno == EMFILE || errno == ENFILE)) {
		if (!warned)
			warn("accept");
		warned = 1;
		change(src, src->fd, EVFILT_READ, EV_DISABLE);
		resting = 1;
	}
	if (fd == -1)
		return;
	while (c < clients + NUSERS && c->src.fd != -1)
		c++;
	if (c == clients + NUSERS) {
		printf("%s: connection refused\n", l->name);
		(void)!write(fd, refusal, sizeof(refusal) - 1);
		close(fd);
		return;
	}
	c->src.ready = client_ready;
	c->src.fd = fd;
	c->name = l->name;
	c->eof = c->blocked = 0;
	c->outlen = (size_t)snprintf(c->out, sizeof(c->out), "welcome!\n");
	printf("%s: connected: %d\n", c->name, fd);
	if (change(&c->src, fd, EVFILT_READ, EV_ADD) == -1 ||
	    client_write(c) == -1)
		client_end(c);
}

static void
client_ready(struct source *src, const struct kevent *ev)
{
	struct client *c = (struct client *)src;
	int rc;

	/* Deleted by an earlier event of this batch. */
	if (src->fd == -1)
		return;
	rc = ev->filter == EVFILT_READ ? client_read(c) : client_write(c);
	if (rc == -1)
		client_end(c);
}

/* Closing the descriptor takes it out of the queue. */
static void
client_end(struct client *c)
{
	printf("%s: disconnected: %d\n", c->name, c->src.fd);
	close(c->src.fd);
	c->src.fd = -1;
}

/* Print what has come and send it back.  -1 to hang up. */
static int
client_read(struct client *c)
{
	char *buf = c->out + c->outlen;
	ssize_t n;

	if (c->outlen == sizeof(c->out))
		return 0;
	n = recv(c->src.fd, buf, sizeof(c->out) - c->outlen, 0);
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		c->eof = 1;
	fwrite(buf, 1, (size_t)n, stdout);
	c->outlen += (size_t)n;
	return client_write(c);
}

/* Send what out[] holds, or wait until it can be sent.  -1 to hang up. */
static int
client_write(struct client *c)
{
	struct source *src = &c->src;
	ssize_t n = 0;

	if (c->outlen > 0)
		n = send(src->fd, c->out, c->outlen, 0);
	if (n == -1 && errno != EAGAIN && errno != EINTR)
		return -1;
	if (n > 0) {
		c->outlen -= (size_t)n;
		memmove(c->out, c->out + n, c->outlen);
	}
	if (c->outlen > 0) {
		c->blocked = 1;
		if (change(src, src->fd, EVFILT_READ, EV_DISABLE) == -1)
			return -1;
		return change(src, src->fd, EVFILT_WRITE, EV_ADD | EV_ONESHOT);
	}
	if (c->eof)
		return -1;
	if (!c->blocked)
		return 0;
	c->blocked = 0;
	return change(src, src->fd, EVFILT_READ, EV_ENABLE);
}

static void
quit(struct source *src, const struct kevent *ev)
{
	quitting = 1;
}

static int
change(struct source *src, int ident, short filter, int flags)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, flags, 0, 0, src);
	return kevent(kq, &ev, 1, NULL, 0, NULL);
}
