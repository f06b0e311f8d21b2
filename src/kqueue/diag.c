/*
 * diag.c: what sockets tell only to sock_diag(7) and tcp(7): how many
 * connections wait, and whether a UNIX socket was shut down.
 */
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "wire.h"

/* One socket by its inode, with the length of its queue. */
struct unix_request {
	struct nlmsghdr header;
	struct unix_diag_req unix_socket;
};

static int
ask_unix(int netlink, ino_t inode)
{
	struct unix_request rq = {
		.header = { .nlmsg_len = sizeof(rq),
		    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		    .nlmsg_flags = NLM_F_REQUEST },
		.unix_socket = { .sdiag_family = AF_UNIX,
		    .udiag_states = ~0u,
		    .udiag_ino = (uint32_t)inode,
		    .udiag_show = UDIAG_SHOW_RQLEN,
		    .udiag_cookie = { ~0u, ~0u } },
	};

	return syscall(SYS_sendto, netlink, &rq, sizeof(rq), 0, NULL, 0) ==
		sizeof(rq) ?
	    0 :
	    -1;
}

/* Copy an attribute of a UNIX socket; false: there is no answer. */
static bool
unix_diag(int fd, int type, void *value, size_t size)
{
	char answer[512];
	bool told = false;
	struct stat st;
	ssize_t n;
	int netlink;

	netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    NETLINK_SOCK_DIAG);
	if (netlink == -1)
		return false;
	if (fstat(fd, &st) == 0 && ask_unix(netlink, st.st_ino) == 0 &&
	    (n = syscall(SYS_recvfrom, netlink, answer, sizeof(answer), 0, NULL,
		 NULL)) > 0)
		told = wire_attribute(answer, (size_t)n, type, value, size);
	fd_close(netlink);
	return told;
}

/*
 * TCP keeps the count in tcpi_unacked of a listening socket; -1: not a TCP
 * socket.  Where nobody tells, at least one waits, for the socket is readable.
 */
int64_t
diag_tcp_backlog(int fd)
{
	socklen_t len = offsetof(struct tcp_info, tcpi_sacked);
	struct tcp_info ti;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == -1 ||
	    ti.tcpi_state != TCP_LISTEN)
		return -1;
	return len >= offsetof(struct tcp_info, tcpi_sacked) ? ti.tcpi_unacked :
							       1;
}

int64_t
diag_unix_backlog(int fd)
{
	struct unix_diag_rqlen rqlen;

	if (unix_diag(fd, UNIX_DIAG_RQLEN, &rqlen, sizeof(rqlen)))
		return rqlen.udiag_rqueue;
	return 1;
}

bool
diag_is_shut_wr(int fd)
{
	uint8_t how; /* the kernel's bits: 1 for reading, 2 for writing */

	return unix_diag(fd, UNIX_DIAG_SHUTDOWN, &how, sizeof(how)) &&
	    (how & 2) != 0;
}
