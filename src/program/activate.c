/*
 * The protocols of sd_listen_fds(3) and sd_notify(3), which systemd promises
 * to keep as they are.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "activate.h"

#define FIRST_FD 3

static int number_of(const char *);
static int has_name(int, const char *);

int
activate_next(int fd, const char *name)
{
	int n;

	if (number_of("LISTEN_PID") != getpid())
		return -1;
	n = number_of("LISTEN_FDS");
	for (fd = fd == -1 ? FIRST_FD : fd + 1; fd < FIRST_FD + n; fd++)
		if (name == NULL || has_name(fd - FIRST_FD, name))
			return fd;
	return -1;
}

/* Of a variable of the environment; -1: it is none. */
static int
number_of(const char *variable)
{
	const char *text = getenv(variable);
	char *end;
	long n;

	if (text == NULL || *text < '0' || *text > '9')
		return -1;
	errno = 0;
	n = strtol(text, &end, 10);
	return errno != 0 || *end != '\0' || n > 1 << 24 ? -1 : (int)n;
}

/* LISTEN_FDNAMES is "NAME:NAME:...". */
static int
has_name(int i, const char *name)
{
	const char *p = getenv("LISTEN_FDNAMES");

	for (; p != NULL; i--) {
		if (i == 0)
			return strncmp(p, name, strlen(name)) == 0 &&
			    (p[strlen(name)] == ':' || p[strlen(name)] == '\0');
		p = strchr(p, ':');
		if (p != NULL)
			p++;
	}
	return 0;
}

void
activate_notify(const char *state)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	const char *path = getenv("NOTIFY_SOCKET");
	socklen_t len;
	int fd;

	if (path == NULL || (*path != '/' && *path != '@') ||
	    strlcpy(sun.sun_path, path, sizeof(sun.sun_path)) >=
		sizeof(sun.sun_path))
		return;
	len =
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	if (*path == '@')
		sun.sun_path[0] = '\0'; /* an abstract name */
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return;
	(void)sendto(fd, state, strlen(state), MSG_DONTWAIT | MSG_NOSIGNAL,
	    (const struct sockaddr *)&sun, len);
	close(fd);
}
