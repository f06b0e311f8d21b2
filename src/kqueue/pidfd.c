/*
 * pidfd.c: how a process ended, in four places that know it in turn.
 *
 *	who asks	before it is reaped	afterwards
 *	the parent	waitid(WNOWAIT)		ioctl on the pidfd
 *	others		/proc/PID/stat		ioctl on the pidfd
 *
 * The ioctl knows since Linux 6.15.  /proc tells a status of 0 to those who
 * may not know, so who may is asked first.
 */
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "pidfd.h"
#include "wire.h"

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

#define ID_PIDFD 3 /* P_PIDFD, which glibc has since 2.36 */

/* PIDFD_GET_INFO in its first size; later kernels take it, too. */
struct info {
	uint64_t i_mask, i_cgroup;
	uint32_t i_pid, i_tgid, i_ppid, i_ids[8];
	int32_t i_status;
};

#define GET_INFO _IOWR(0xff, 11, struct info)
#define INFO_EXIT 0x08

int
pidfd_open_own(uintptr_t pid, int *fd)
{
	if (pid == 0 || pid > INT_MAX)
		return ESRCH;
	*fd = fd_move_high((int)syscall(SYS_pidfd_open, (int)pid, 0));
	if (*fd != -1)
		return 0;
	switch (errno) {
	case ENOSYS:
	case EPERM:
		return ENOTSUP;
	case EINVAL: /* a thread that is no process */
	case ENOENT:
		return ESRCH;
	default:
		return errno;
	}
}

/* The whole of a small file; its length, or -1. */
static ssize_t
read_small(const char *path, char *text, size_t size)
{
	ssize_t n;
	int fd, error;

	fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC, 0);
	if (fd == -1)
		return -1;
	n = syscall(SYS_read, fd, text, size - 1);
	error = errno;
	syscall(SYS_close, fd);
	errno = error;
	if (n >= 0)
		text[n] = '\0';
	return n;
}

/* Its process id, -1 if it has been reaped; 0 with errno. */
static int
pid_of(int fd)
{
	char path[48], text[1024];
	int pid;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	if (read_small(path, text, sizeof(text)) == -1)
		return 0;
	errno = EINVAL; /* no pidfd */
	return wire_pid(text, &pid) ? pid : 0;
}

int
pidfd_check(int fd)
{
	struct info info = { .i_mask = 0 };

	/* Known since Linux 6.13; /proc knows it before. */
	if (syscall(SYS_ioctl, fd, GET_INFO, &info) == 0 || pid_of(fd) != 0)
		return 0;
	return errno == ENOENT ? ENOTSUP : errno;
}

bool
pidfd_has_ended(int fd)
{
	return (source_poll(fd, EPOLLIN) & EPOLLIN) != 0;
}

/* -- the status ------------------------------------------------------------ */

bool
pidfd_of_child(int fd, int *status)
{
	siginfo_t si = { .si_pid = 0 };

	if (syscall(SYS_waitid, ID_PIDFD, fd, &si,
		WEXITED | WNOWAIT | WNOHANG | __WALL, NULL) == -1 ||
	    si.si_pid == 0)
		return false;
	switch (si.si_code) {
	case CLD_EXITED:
		*status = (si.si_status & 0xff) << 8;
		break;
	case CLD_DUMPED:
		*status = si.si_status | 0x80;
		break;
	default:
		*status = si.si_status;
	}
	return true;
}

static bool
status_of_reaped(int fd, int *status)
{
	struct info info = { .i_mask = INFO_EXIT };

	if (syscall(SYS_ioctl, fd, GET_INFO, &info) == -1 ||
	    (info.i_mask & INFO_EXIT) == 0)
		return false;
	*status = info.i_status;
	return true;
}

/* Asked of another file of /proc that follows the same rule. */
static bool
may_know(int pid)
{
	char path[48], name[32];

	snprintf(path, sizeof(path), "/proc/%d/ns/user", pid);
	return readlink(path, name, sizeof(name)) != -1 ||
	    (errno != EACCES && errno != EPERM);
}

static bool
status_of_zombie(int fd, int *status)
{
	char path[48], text[2048];
	int pid = pid_of(fd), ended;

	if (pid <= 0 || !may_know(pid))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (read_small(path, text, sizeof(text)) <= 0 ||
	    !wire_status(text, &ended))
		return false;
	/* The number was its own all the time. */
	if (pid_of(fd) != pid)
		return false;
	*status = ended;
	return true;
}

bool
pidfd_status(int fd, int *status)
{
	if (pidfd_of_child(fd, status) || status_of_zombie(fd, status) ||
	    status_of_reaped(fd, status))
		return true;
	*status = 0;
	return false;
}
