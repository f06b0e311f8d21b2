/*
 * Sockets of every kind, made in one way.
 */
#include "family.h"

#include <stdio.h>

static const struct {
	int domain, type;
} kinds[STREAMS] = {
	[TCP4] = { AF_INET, SOCK_STREAM },
	[TCP6] = { AF_INET6, SOCK_STREAM },
	[UNIX_STREAM] = { AF_UNIX, SOCK_STREAM },
	[UNIX_SEQPACKET] = { AF_UNIX, SOCK_SEQPACKET },
	[PAIR_STREAM] = { AF_UNIX, SOCK_STREAM },
	[PAIR_SEQPACKET] = { AF_UNIX, SOCK_SEQPACKET },
};

static void
set_nonblocking(int fd)
{
	ck_assert_int_ne(fcntl(fd, F_SETFL, O_NONBLOCK), -1);
}

/* A path that is free, in the test's folder. */
static void
any_path(char *path, size_t size)
{
	static char *folder;
	static int serial;

	if (folder == NULL || access(folder, W_OK) == -1)
		folder = t_dir();
	snprintf(path, size, "%s/%d", folder, serial++);
}

/* Loopback with port 0, or a path of its own. */
static void
any_address(int kind, struct family_addr *addr)
{
	struct sockaddr_in *in = (struct sockaddr_in *)&addr->sa;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&addr->sa;
	struct sockaddr_un *un = (struct sockaddr_un *)&addr->sa;

	memset(addr, 0, sizeof(*addr));
	addr->sa.ss_family = (sa_family_t)kinds[kind].domain;
	switch (kinds[kind].domain) {
	case AF_INET:
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		addr->len = sizeof(*in);
		break;
	case AF_INET6:
		in6->sin6_addr = in6addr_loopback;
		addr->len = sizeof(*in6);
		break;
	default:
		any_path(un->sun_path, sizeof(un->sun_path));
		addr->len = sizeof(*un);
	}
}

bool
family_here(int kind)
{
	struct family_addr addr;
	bool here;
	int fd;

	if (kind != TCP6)
		return true;
	any_address(kind, &addr);
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	if (fd == -1)
		return false;
	here = bind(fd, (struct sockaddr *)&addr.sa, addr.len) == 0;
	close(fd);
	return here;
}

int
family_socket(int kind)
{
	int fd;

	fd = socket(kinds[kind].domain, kinds[kind].type, 0);
	ck_assert_int_ge(fd, 0);
	set_nonblocking(fd);
	return fd;
}

void
family_bind(int kind, int fd, struct family_addr *addr)
{
	any_address(kind, addr);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr->sa, addr->len), 0);
	addr->len = sizeof(addr->sa);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&addr->sa,
			     &addr->len),
	    0);
}

int
family_listen(int kind, struct family_addr *addr, int backlog)
{
	int fd;

	fd = family_socket(kind);
	family_bind(kind, fd, addr);
	ck_assert_int_eq(listen(fd, backlog), 0);
	return fd;
}

int
family_connect(int kind, const struct family_addr *addr)
{
	int fd;

	fd = socket(kinds[kind].domain, kinds[kind].type, 0);
	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)&addr->sa,
			     addr->len),
	    0);
	set_nonblocking(fd);
	return fd;
}

void
stream_open(int kind, int s[2])
{
	struct family_addr addr;
	int listener;

	if (kind >= FAMILIES) {
		t_unix(kinds[kind].type, s);
		return;
	}
	listener = family_listen(kind, &addr, 1);
	s[0] = family_connect(kind, &addr);
	t_until((s[1] = accept(listener, NULL, NULL)) != -1);
	set_nonblocking(s[1]);
	ck_assert_int_eq(close(listener), 0);
}

void
family_nobody(int kind, struct family_addr *addr)
{
	int fd;

	fd = family_socket(kind);
	family_bind(kind, fd, addr);
	ck_assert_int_eq(close(fd), 0);
}
