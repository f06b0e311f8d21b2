/* What the BSDs have in common; see os.h. */
#include "os.h"

#include <sys/filio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <time.h>
#include <unistd.h>

int
kquay_os_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid)
{
	*pid = -1;
	return getpeereid(fd, uid, gid);
}

uint32_t
kquay_os_unsent(int fd)
{
	int n;

	return ioctl(fd, FIONWRITE, &n) == -1 ? 0 : (uint32_t)n;
}

/* They choose it at bind(2). */
void
kquay_os_late_port(int fd)
{
	(void)fd;
}

int
kquay_os_connected(int fd)
{
	(void)fd;
	return 0;
}

/* How long they ask, and how often, some let nobody say. */
void
kquay_os_keepalive(int fd, int seconds)
{
	int on = seconds > 0;

	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	if (!on)
		return;
#if defined(TCP_KEEPIDLE) && defined(TCP_KEEPINTVL) && defined(TCP_KEEPCNT)
	int times = 4, apart = seconds < times ? 1 : seconds / times;

	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds,
	    sizeof(seconds));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &apart, sizeof(apart));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
#endif
}

/* They have no splice(2); what is relayed is copied. */
int
kquay_os_pipe(int fd[2], size_t *size)
{
	(void)fd;
	(void)size;
	errno = EOPNOTSUPP;
	return -1;
}

ssize_t
kquay_os_splice(int from, int to, size_t len)
{
	(void)from;
	(void)to;
	(void)len;
	errno = EOPNOTSUPP;
	return -1;
}

int64_t
kquay_os_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int
kquay_os_spreads(void)
{
	return 0;
}

unsigned
kquay_os_cpus(void)
{
	long n = sysconf(_SC_NPROCESSORS_ONLN);

	return n < 1 ? 1 : (unsigned)n;
}
