/*
 * backlog.c: how many connections wait at a listening socket.
 */
#include <sys/socket.h>
#include <sys/stat.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"

/* One socket by its inode, with the length of its queue. */
struct request {
	struct nlmsghdr header;
	struct unix_diag_req unix_socket;
};

static int
ask(int netlink, ino_t inode)
{
	struct request rq = {
		.header = { .nlmsg_len = sizeof(rq),
		    .nlmsg_type = SOCK_DIAG_BY_FAMILY,
		    .nlmsg_flags = NLM_F_REQUEST },
		.unix_socket = { .sdiag_family = AF_UNIX,
		    .udiag_states = ~0u,
		    .udiag_ino = (uint32_t)inode,
		    .udiag_show = UDIAG_SHOW_RQLEN,
		    .udiag_cookie = { ~0u, ~0u } },
	};

	return send(netlink, &rq, sizeof(rq), 0) == sizeof(rq) ? 0 : -1;
}

/* The length of the queue in the answer, -1 if it is another answer. */
static int64_t
parse(const struct nlmsghdr *h, size_t len)
{
	const struct unix_diag_rqlen *rqlen;
	const struct rtattr *a;
	int left;

	if (!NLMSG_OK(h, len) || h->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return -1;
	a = (const struct rtattr *)((const struct unix_diag_msg *)NLMSG_DATA(
					h) +
	    1);
	left = (int)(h->nlmsg_len - NLMSG_LENGTH(sizeof(struct unix_diag_msg)));
	for (; RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == UNIX_DIAG_RQLEN) {
			rqlen = RTA_DATA(a);
			return rqlen->udiag_rqueue;
		}
	return -1;
}

static int64_t
unix_backlog(int fd)
{
	union {
		struct nlmsghdr header;
		char bytes[512];
	} answer;
	int64_t waiting = -1;
	struct stat st;
	ssize_t n;
	int netlink;

	netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK,
	    NETLINK_SOCK_DIAG);
	if (netlink == -1)
		return -1;
	if (fstat(fd, &st) == 0 && ask(netlink, st.st_ino) == 0 &&
	    (n = recv(netlink, &answer, sizeof(answer), 0)) > 0)
		waiting = parse(&answer.header, (size_t)n);
	fd_close(netlink);
	return waiting;
}

/*
 * TCP keeps the count in tcpi_unacked of a listening socket.  Where neither
 * tells, at least one waits, for the socket is readable.
 */
int64_t
source_backlog(int fd)
{
	socklen_t len = offsetof(struct tcp_info, tcpi_sacked);
	struct tcp_info ti;
	int64_t waiting;

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == 0)
		return ti.tcpi_unacked;
	waiting = unix_backlog(fd);
	return waiting == -1 ? 1 : waiting;
}
