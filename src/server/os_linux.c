/* What Linux does in its own way; see os.h. */
#include "os.h"

#include <sys/ioctl.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <linux/sockios.h>
#include <linux/tcp.h> /* glibc's does not know all of struct tcp_info */

#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

enum { ESTABLISHED = 1 }; /* in tcpi_state */

int
kquay_os_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == -1)
		return -1;
	*uid = cred.uid;
	*gid = cred.gid;
	/* 0 is one of a namespace that we do not see into. */
	*pid = cred.pid > 0 ? cred.pid : -1;
	return 0;
}

uint32_t
kquay_os_unsent(int fd)
{
	int n;

	return ioctl(fd, SIOCOUTQ, &n) == -1 ? 0 : (uint32_t)n;
}

void
kquay_os_late_port(int fd)
{
	int on = 1;

	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on,
	    sizeof(on));
}

/*
 * The first segment that comes is the server's SYN and ACK.  A socket that is
 * connected to itself has been sent its own SYN before.
 */
int
kquay_os_connected(int fd)
{
	struct tcp_info info;
	socklen_t len = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
	    len >= offsetof(struct tcp_info, tcpi_segs_in) +
		sizeof(info.tcpi_segs_in) &&
	    info.tcpi_state == ESTABLISHED && info.tcpi_segs_in == 1;
}

/*
 * The time-out is for the whole of it, and also for what was sent and is not
 * acknowledged; without it that would be for the system's quarter of an hour.
 */
void
kquay_os_keepalive(int fd, int seconds)
{
	int on = seconds > 0, apart = seconds < 4 ? 1 : seconds / 4;
	unsigned ms = 2000 * (unsigned)seconds;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof(ms));
	if (!on)
		return;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds,
	    sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &apart, sizeof(apart));
}

int
kquay_os_pipe(int fd[2], size_t *size)
{
	int n;

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) == -1)
		return -1;
	/* There may be a limit for the user; what it is then does as well. */
	n = fcntl(fd[1], F_SETPIPE_SZ, (int)*size);
	if (n == -1)
		n = fcntl(fd[1], F_GETPIPE_SZ);
	*size = n > 0 ? (size_t)n : 4096;
	return 0;
}

ssize_t
kquay_os_splice(int from, int to, size_t len)
{
	return splice(from, NULL, to, NULL, len,
	    SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
}

int64_t
kquay_os_now(void)
{
	struct timespec ts;

	/* Half the price of CLOCK_MONOTONIC; its grain is that of the tick. */
	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
kquay_os_spreads(void)
{
	return 1;
}

unsigned
kquay_os_cpus(void)
{
	cpu_set_t set;

	/*
	 * Of those that the machine has, a container may have been given few.
	 */
	return sched_getaffinity(0, sizeof(set), &set) == -1 ?
	    1 :
	    (unsigned)CPU_COUNT(&set);
}
