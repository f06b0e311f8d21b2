/* What the BSDs have in common; see os.h. */
#include "os.h"

#include <sys/socket.h>

#include <time.h>
#include <unistd.h>

int
kquay_os_peer(int fd, uid_t *uid, pid_t *pid)
{
	gid_t gid;

	*pid = -1;
	return getpeereid(fd, uid, &gid);
}

int64_t
kquay_os_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
