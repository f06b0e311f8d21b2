/*
 * Sockets that listen: on every address of a name, on a file, inherited.
 *
 * Each call makes all of its listeners or none, and leaves a line for
 * kquay_error() if none.
 *
 * A UNIX socket's file outlives its server.  Whether somebody listens is
 * found by connecting; the file of a dead server is removed.  Two servers
 * that start at once must not both find it dead, so all this happens under
 * flock(2) on the directory, until the new socket listens.
 */
#include "server.h"
#include "os.h"

#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

enum { PORT_TRIES = 16, LOCK_TRIES = 100, LOCK_PAUSE_MS = 10 };

static struct addrinfo *look_up(struct kquay *q, const char *host,
    const char *port);
static int bind_all(struct kquay *q, const struct addrinfo *list);
static int bind_one(struct kquay *q, const struct addrinfo *ai,
    in_port_t *port);
static int listen_inet(struct kquay *q, const struct sockaddr *sa,
    socklen_t salen);
static int is_free(const struct sockaddr *sa, socklen_t salen);
static in_port_t *port_of(struct sockaddr *sa);
static int seen_before(const struct addrinfo *list, const struct addrinfo *ai);
static int lock_directory(const char *path, char *dir, size_t size);
static int listen_unix(struct kquay *q, const struct sockaddr_un *sun,
    mode_t mode);
static int remove_dead(const struct sockaddr_un *sun);
static int own(struct listener *l, const char *dir, const char *path);
static int give_up(int fd);
static int complain(struct kquay *q, const char *what);

/* See kquay_listen(). */
int
kquay_bind_name(struct kquay *q, const char *host, const char *port)
{
	struct addrinfo *list;
	struct listener *last;
	int n, tries = PORT_TRIES;

	if (q->retired) {
		errno = ESHUTDOWN;
		return complain(q, port);
	}
	list = look_up(q, host, port);
	if (list == NULL)
		return -1;
	last = STAILQ_LAST(&q->listeners, listener, next);
	/* A port that is free for one family may be taken for the other. */
	do {
		n = bind_all(q, list);
		if (n == -1)
			kquay_listener_undo(q, last);
	} while (n == -1 && errno == EADDRINUSE &&
	    *port_of(list->ai_addr) == 0 && --tries > 0);
	freeaddrinfo(list);
	if (n > 0)
		q->error[0] = '\0';
	return n;
}

static struct addrinfo *
look_up(struct kquay *q, const char *host, const char *port)
{
	struct addrinfo hints = { .ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_PASSIVE };
	struct addrinfo *list = NULL;
	const char *name = host, *text;
	int rc;

	/* Both loopbacks (RFC 6761), also where /etc/hosts has but one. */
	if (host != NULL && strcasecmp(host, "localhost") == 0) {
		name = NULL;
		hints.ai_flags = 0;
	}
	rc = getaddrinfo(name, port, &hints, &list);
	if (rc == 0)
		return list;
	text = rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc);
	snprintf(q->error, sizeof(q->error), "%s:%s: %s",
	    host == NULL ? "*" : host, port, text);
	if (rc == EAI_MEMORY)
		errno = ENOMEM;
	else if (rc != EAI_SYSTEM)
		errno = ENOENT;
	return NULL;
}

/* The number of sockets, or -1; those made so far are in the list then. */
static int
bind_all(struct kquay *q, const struct addrinfo *list)
{
	const struct addrinfo *ai;
	in_port_t port = 0;
	int n = 0, missing = 0;

	for (ai = list; ai != NULL; ai = ai->ai_next) {
		if (seen_before(list, ai))
			continue;
		if (bind_one(q, ai, &port) == 0) {
			n++;
			continue;
		}
		if (errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL &&
		    errno != EPROTONOSUPPORT)
			return -1;
		missing = errno;
	}
	if (n == 0) {
		errno = missing;
		return -1;
	}
	return n;
}

/* *port is what the system picked for the addresses before, or 0. */
static int
bind_one(struct kquay *q, const struct addrinfo *ai, in_port_t *port)
{
	struct sockaddr_storage ss;
	struct sockaddr *sa = (struct sockaddr *)&ss;
	socklen_t salen = ai->ai_addrlen;
	char text[ADDR_TEXT];
	int fd;

	memcpy(&ss, ai->ai_addr, salen);
	if (*port_of(sa) == 0)
		*port_of(sa) = *port;
	kquay_addr_text(sa, salen, text, sizeof(text));
	fd = listen_inet(q, sa, salen);
	if (fd == -1)
		return complain(q, text);
	if (getsockname(fd, sa, &salen) == 0) {
		*port = *port_of(sa);
		kquay_addr_text(sa, salen, text, sizeof(text));
	}
	if (kquay_listener_new(q, fd, text) != NULL)
		return 0;
	(void)give_up(fd);
	return complain(q, text);
}

/*
 * A socket that listens on one address, or -1 with errno and nothing open.
 * What accepted sockets inherit is set here once for all: they send at once,
 * as the cork has done what Nagle's algorithm is for.
 */
static int
listen_inet(struct kquay *q, const struct sockaddr *sa, socklen_t salen)
{
	int fd, on = 1;

	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1)
		return -1;
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1)
		return give_up(fd);
	/*
	 * A dual-stack socket would show IPv4 peers as mapped addresses,
	 * and every access rule would need two forms.  One family, one socket.
	 */
	if (sa->sa_family == AF_INET6 &&
	    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on)) == -1)
		return give_up(fd);
	/* The first of a team's finds out whether others listen there. */
	if ((q->conf.flags & KQUAY_REUSEPORT) &&
	    ((q->team != NULL && q->member == 0 && !is_free(sa, salen)) ||
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)) ==
		    -1))
		return give_up(fd);
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		return give_up(fd);
	if (q->conf.keepalive != 0)
		kquay_os_keepalive(fd, q->conf.keepalive);
	if (bind(fd, sa, salen) == -1 || listen(fd, q->conf.backlog) == -1)
		return give_up(fd);
	return fd;
}

/* Whether an address can be bound by who does not share it.  0 with errno. */
static int
is_free(const struct sockaddr *sa, socklen_t salen)
{
	int fd, on = 1, rc;

	fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return 0;
	rc = setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (rc == 0 && sa->sa_family == AF_INET6)
		rc = setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (rc == 0)
		rc = bind(fd, sa, salen);
	(void)give_up(fd);
	return rc == 0;
}

static in_port_t *
port_of(struct sockaddr *sa)
{
	if (sa->sa_family == AF_INET6)
		return &((struct sockaddr_in6 *)(void *)sa)->sin6_port;
	return &((struct sockaddr_in *)(void *)sa)->sin_port;
}

/* A resolver may give an address twice, as when /etc/hosts does. */
static int
seen_before(const struct addrinfo *list, const struct addrinfo *ai)
{
	for (; list != ai; list = list->ai_next)
		if (list->ai_addrlen == ai->ai_addrlen &&
		    memcmp(list->ai_addr, ai->ai_addr, ai->ai_addrlen) == 0)
			return 1;
	return 0;
}

/* See kquay_listen_fd(). */
int
kquay_bind_fd(struct kquay *q, int fd)
{
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	struct sockaddr *sa = (struct sockaddr *)&ss;
	socklen_t salen = sizeof(ss), len = sizeof(int);
	char text[ADDR_TEXT];
	int listens = 0, type = 0, on = 1, fl, fdfl;

	snprintf(text, sizeof(text), "fd:%d", fd);
	if (q->retired) {
		errno = ESHUTDOWN;
		return complain(q, text);
	}
	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == -1)
		return complain(q, text);
	if (type != SOCK_STREAM || !listens) {
		errno = EINVAL;
		return complain(q, text);
	}
	fl = fcntl(fd, F_GETFL);
	fdfl = fcntl(fd, F_GETFD);
	if (fl == -1 || fdfl == -1 || fcntl(fd, F_SETFL, fl | O_NONBLOCK) == -1)
		return complain(q, text);
	fcntl(fd, F_SETFD, fdfl | FD_CLOEXEC);
	if (getsockname(fd, sa, &salen) == 0)
		kquay_addr_text(sa, salen, text, sizeof(text));
	if (kquay_listener_new(q, fd, text) != NULL) {
		/* A UNIX socket has no such thing. */
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
		if (q->conf.keepalive != 0)
			kquay_os_keepalive(fd, q->conf.keepalive);
		return 1;
	}
	complain(q, text);
	fcntl(fd, F_SETFL, fl);
	fcntl(fd, F_SETFD, fdfl);
	return -1;
}

/* See kquay_listen_unix(). */
int
kquay_bind_unix(struct kquay *q, const char *path, mode_t mode)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char dir[PATH_MAX], text[ADDR_TEXT];
	struct listener *l = NULL;
	int fd = -1, lock = -1, saved;

	snprintf(text, sizeof(text), "unix:%s", path);
	if (q->retired) {
		errno = ESHUTDOWN;
		goto out;
	}
	if (strlcpy(sun.sun_path, path, sizeof(sun.sun_path)) >=
	    sizeof(sun.sun_path)) {
		errno = ENAMETOOLONG;
		goto out;
	}
	lock = lock_directory(path, dir, sizeof(dir));
	if (lock == -1)
		goto out;
	fd = listen_unix(q, &sun, mode);
	if (fd == -1)
		goto out;
	l = kquay_listener_new(q, fd, text);
	if (l != NULL)
		(void)own(l, dir, path);
out:
	saved = errno;
	if (l == NULL && fd != -1) {
		unlink(path);
		close(fd);
	}
	if (lock != -1)
		close(lock);
	errno = saved;
	return l != NULL ? 1 : complain(q, text);
}

/*
 * The file at path, in the directory dir, is l's, made by this process.  0, or
 * -1 with errno, and it is not.
 */
static int
own(struct listener *l, const char *dir, const char *path)
{
	const char *slash = strrchr(path, '/');
	struct stat st;

	if (lstat(path, &st) == -1)
		return -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOENT;
		return -1;
	}
	/* The path must still lead there after a chdir(2). */
	if (asprintf(&l->path, "%s/%s", dir,
		slash == NULL ? path : slash + 1) == -1) {
		l->path = NULL;
		errno = ENOMEM;
		return -1;
	}
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	l->pid = getpid();
	return 0;
}

/* See kquay_claim(). */
int
kquay_bind_claim(struct listener *l)
{
	struct sockaddr_un sun = { .sun_family = AF_UNSPEC };
	socklen_t salen = sizeof(sun) - 1; /* the path may lack its NUL */
	char copy[sizeof(sun.sun_path) + 1], *dir;
	int rc, saved;

	if (getsockname(l->fd, (void *)&sun, &salen) == -1)
		return -1;
	if (sun.sun_family != AF_UNIX || sun.sun_path[0] == '\0') {
		errno = EINVAL;
		return -1;
	}
	strlcpy(copy, sun.sun_path, sizeof(copy));
	dir = realpath(dirname(copy), NULL);
	if (dir == NULL)
		return -1;
	rc = own(l, dir, sun.sun_path);
	saved = errno;
	free(dir);
	errno = saved;
	return rc;
}

/*
 * Lock the directory of path against other servers and put its absolute name
 * into dir.  A descriptor whose close unlocks it, or -1 with errno.
 */
static int
lock_directory(const char *path, char *dir, size_t size)
{
	static const struct timespec pause = { 0, LOCK_PAUSE_MS * 1000000L };
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)], *real;
	int fd, tries;

	strlcpy(copy, path, sizeof(copy));
	real = realpath(dirname(copy), NULL);
	if (real == NULL)
		return -1;
	tries = strlcpy(dir, real, size) < size ? LOCK_TRIES : 0;
	free(real);
	fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd == -1)
		return -1;
	for (; tries > 0; tries--) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		/* A file system without locks: do without. */
		if (errno != EWOULDBLOCK && errno != EINTR)
			return fd;
		nanosleep(&pause, NULL);
	}
	close(fd);
	errno = EBUSY;
	return -1;
}

/* The directory is locked.  A listening socket, or -1 with errno. */
static int
listen_unix(struct kquay *q, const struct sockaddr_un *sun, mode_t mode)
{
	const struct sockaddr *sa = (const void *)sun;
	int fd, rc, saved;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	rc = bind(fd, sa, sizeof(*sun));
	if (rc == -1 && errno == EADDRINUSE && remove_dead(sun) == 0)
		rc = bind(fd, sa, sizeof(*sun));
	if (rc == -1)
		return give_up(fd);
	/* Until it listens nobody can connect, whatever the umask left. */
	if (chmod(sun->sun_path, mode) == -1 ||
	    listen(fd, q->conf.backlog) == -1) {
		saved = errno;
		unlink(sun->sun_path);
		errno = saved;
		return give_up(fd);
	}
	return fd;
}

/* Remove a socket that nobody listens on.  0, or -1 with errno. */
static int
remove_dead(const struct sockaddr_un *sun)
{
	struct stat st;
	int fd, rc, err;

	if (lstat(sun->sun_path, &st) == -1)
		return errno == ENOENT ? 0 : -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = EEXIST;
		return -1;
	}
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	rc = connect(fd, (const void *)sun, sizeof(*sun));
	err = errno;
	close(fd);
	if (rc == -1 && err == ECONNREFUSED)
		return unlink(sun->sun_path);
	/* Connected, or it was too busy to be, or it is of another type. */
	errno = rc == -1 && err == EACCES ? EACCES : EADDRINUSE;
	return -1;
}

/* Close fd.  -1, with errno as it was. */
static int
give_up(int fd)
{
	int saved = errno;

	close(fd);
	errno = saved;
	return -1;
}

/* Leave a line about errno for kquay_error().  -1. */
static int
complain(struct kquay *q, const char *what)
{
	int saved = errno;

	snprintf(q->error, sizeof(q->error), "%s: %s", what, strerror(saved));
	errno = saved;
	return -1;
}
