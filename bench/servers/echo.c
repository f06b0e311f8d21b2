/* The common part of the servers; echo.h has the contracts. */
#include "echo.h"

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <err.h>
#include <errno.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What the kernel has not taken yet of an answer; NULL is nothing. */
struct rest {
	char *bytes;
	size_t off, len;
};

char echo_buf[ECHO_BUFSIZE];
int echo_flag_n;

static struct rest *rests; /* by descriptor */

static int
listen_unix(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd;

	if (strlen(path) >= sizeof(sun.sun_path))
		errx(64, "%s: too long", path);
	strcpy(sun.sun_path, path);
	unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd == -1 || bind(fd, (struct sockaddr *)&sun, sizeof(sun)) == -1 ||
	    listen(fd, SOMAXCONN) == -1)
		err(1, "%s", path);
	return fd;
}

static int
listen_tcp(char *address)
{
	struct addrinfo hints, *ai;
	char *port;
	int error, fd, on = 1;

	port = strrchr(address, ':');
	if (port == NULL)
		errx(64, "%s: want HOST:PORT or unix:PATH", address);
	*port++ = '\0';
	memset(&hints, 0, sizeof(hints));
	hints.ai_socktype = SOCK_STREAM;
	hints.ai_flags = AI_PASSIVE;
	error = getaddrinfo(address, port, &hints, &ai);
	if (error != 0)
		errx(1, "%s: %s", address, gai_strerror(error));
	fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
	    0);
	if (fd == -1 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == -1 ||
	    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1 ||
	    bind(fd, ai->ai_addr, ai->ai_addrlen) == -1 ||
	    listen(fd, SOMAXCONN) == -1)
		err(1, "port %s", port);
	freeaddrinfo(ai);
	return fd;
}

int
echo_listen(int argc, char *argv[])
{
	struct rlimit rl;

	if (argc > 2 && strcmp(argv[1], "-n") == 0) {
		echo_flag_n = 1;
		argc--;
		argv++;
	}
	if (argc != 2)
		errx(64, "want one address");
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	rl.rlim_cur = rl.rlim_max < 1048576 ? rl.rlim_max : 1048576;
	setrlimit(RLIMIT_NOFILE, &rl);
	rests = calloc(rl.rlim_cur, sizeof(*rests));
	if (rests == NULL)
		err(1, "calloc");
	if (strncmp(argv[1], "unix:", 5) == 0)
		return listen_unix(argv[1] + 5);
	return listen_tcp(argv[1]);
}

void
echo_ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

int
echo_accept(int listener)
{
	return accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static enum want
discard(struct rest *r)
{
	free(r->bytes);
	r->bytes = NULL;
	return WANT_CLOSE;
}

static enum want
flush(int fd, struct rest *r)
{
	ssize_t n;

	n = write(fd, r->bytes + r->off, r->len - r->off);
	if (n == -1)
		return errno == EAGAIN ? WANT_WRITE : discard(r);
	r->off += (size_t)n;
	if (r->off < r->len)
		return WANT_WRITE;
	discard(r);
	return WANT_READ;
}

static enum want
keep(struct rest *r, const char *bytes, size_t len)
{
	r->bytes = malloc(len);
	if (r->bytes == NULL)
		return WANT_CLOSE;
	memcpy(r->bytes, bytes, len);
	r->off = 0;
	r->len = len;
	return WANT_WRITE;
}

enum want
echo_serve(int fd)
{
	struct rest *r = &rests[fd];
	ssize_t n, sent;

	if (r->bytes != NULL)
		return flush(fd, r);
	n = read(fd, echo_buf, sizeof(echo_buf));
	if (n == -1)
		return errno == EAGAIN ? WANT_READ : WANT_CLOSE;
	if (n == 0)
		return WANT_CLOSE;
	sent = write(fd, echo_buf, (size_t)n);
	if (sent == n)
		return WANT_READ;
	if (sent == -1 && errno != EAGAIN)
		return WANT_CLOSE;
	if (sent == -1)
		sent = 0;
	return keep(r, echo_buf + sent, (size_t)(n - sent));
}
