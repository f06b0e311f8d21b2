/*
 * inject.c: what libkq calls, each able to fail.
 *
 * The test is linked with libkq.a, and the linker puts a function of this file
 * in the place of each one of libc's that allocates or enters the kernel
 * (--wrap).  calls.py reads the archive's symbols and fails if one is neither
 * wrapped nor known to be harmless; a system call by number that has no line
 * below ends the test.  So none passes by unnoticed.
 *
 * What libkq finds by dlsym() is found here, too.
 */
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "inject.h"

static struct fault fault;
static struct injected injected;
static unsigned int calls;
static bool armed;
bool inject_old_pidfds;
static long blocks;

void
inject_arm(const struct fault *f)
{
	fault = *f;
	injected = (struct injected){ .i_call = NULL };
	calls = 0;
	armed = true;
}

struct injected
inject_disarm(void)
{
	armed = false;
	return injected;
}

long
inject_blocks(void)
{
	return blocks;
}

#define MAXWAYS 8
#define WAYS(...) ((const int[MAXWAYS]){ __VA_ARGS__ })

/* What a process runs out of stays away; other errors come and go. */
static bool
counts(int error)
{
	return error != 0 &&
	    (!fault.f_lasting || error == EMFILE || error == ENOMEM);
}

/* The way'th of the ways that count, or 0. */
static int
choose(const int *ways, int way)
{
	int i;

	for (i = 0; i < MAXWAYS; i++)
		if (counts(ways[i]) && way-- == 0)
			return ways[i];
	return 0;
}

static bool
has_way(const int *ways, int error)
{
	int i;

	for (i = 0; i < MAXWAYS && ways[i] != error; i++)
		continue;
	return i < MAXWAYS;
}

/* One more call that can fail: does it?  Then errno is set. */
static bool
fails(const char *call, const int *ways)
{
	if (!armed || fault.f_nth == 0 || choose(ways, 0) == 0)
		return false;
	if (++calls == fault.f_nth) {
		injected.i_call = call;
		injected.i_error = choose(ways, fault.f_way);
		injected.i_more = choose(ways, fault.f_way + 1) != 0;
	} else if (injected.i_call == NULL || !fault.f_lasting ||
	    !has_way(ways, injected.i_error)) {
		return false;
	}
	if (injected.i_error == 0)
		return false; /* there is no such way here */
	errno = injected.i_error;
	return true;
}

#define DECLARE(type, name, ...)                                               \
	type __real_##name(__VA_ARGS__);                                       \
	type __wrap_##name(__VA_ARGS__)

/* -- memory ---------------------------------------------------------------- */

#define MEMORY WAYS(ENOMEM)

DECLARE(void *, malloc, size_t size);
DECLARE(void *, calloc, size_t n, size_t size);
DECLARE(void *, realloc, void *old, size_t size);
DECLARE(void *, aligned_alloc, size_t align, size_t size);
DECLARE(void, free, void *block);
DECLARE(void *, mmap64, void *at, size_t size, int prot, int flags, int fd,
    off_t offset);
DECLARE(int, madvise, void *at, size_t size, int advice);
DECLARE(int, pthread_atfork, void (*prepare)(void), void (*parent)(void),
    void (*child)(void));

static void *
counted(void *block)
{
	if (block != NULL)
		blocks++;
	return block;
}

void *
__wrap_malloc(size_t size)
{
	return fails("malloc", MEMORY) ? NULL : counted(__real_malloc(size));
}

void *
__wrap_calloc(size_t n, size_t size)
{
	return fails("calloc", MEMORY) ? NULL : counted(__real_calloc(n, size));
}

void *
__wrap_realloc(void *old, size_t size)
{
	void *block;

	if (fails("realloc", MEMORY))
		return NULL;
	block = __real_realloc(old, size);
	return old == NULL ? counted(block) : block;
}

void *
__wrap_aligned_alloc(size_t align, size_t size)
{
	return fails("aligned_alloc", MEMORY) ?
	    NULL :
	    counted(__real_aligned_alloc(align, size));
}

void
__wrap_free(void *block)
{
	if (block != NULL)
		blocks--;
	__real_free(block);
}

void *
__wrap_mmap64(void *at, size_t size, int prot, int flags, int fd, off_t offset)
{
	return fails("mmap", MEMORY) ?
	    MAP_FAILED :
	    __real_mmap64(at, size, prot, flags, fd, offset);
}

/* MADV_WIPEONFORK came with Linux 4.14. */
int
__wrap_madvise(void *at, size_t size, int advice)
{
	return fails("madvise", WAYS(EINVAL)) ?
	    -1 :
	    __real_madvise(at, size, advice);
}

int
__wrap_pthread_atfork(void (*prepare)(void), void (*parent)(void),
    void (*child)(void))
{
	return fails("pthread_atfork", MEMORY) ?
	    ENOMEM :
	    __real_pthread_atfork(prepare, parent, child);
}

/* -- system calls by name -------------------------------------------------- */

#define DESCRIPTOR WAYS(EMFILE, ENFILE, ENOMEM)
#define NO_PROC ENOENT

DECLARE(int, epoll_create1, int flags);
DECLARE(int, epoll_ctl, int epfd, int op, int fd, struct epoll_event *event);
DECLARE(int, epoll_wait, int epfd, struct epoll_event *events, int max, int ms);
DECLARE(int, fstat64, int fd, struct stat *st);
DECLARE(int, fstatfs64, int fd, struct statfs *st);
DECLARE(int, getsockopt, int fd, int level, int name, void *value,
    socklen_t *size);
DECLARE(int, inotify_add_watch, int fd, const char *path, uint32_t mask);
DECLARE(int, inotify_init1, int flags);
DECLARE(int, ioctl, int fd, unsigned long request, ...);
DECLARE(ssize_t, readlink, const char *path, char *text, size_t size);
DECLARE(int, setsockopt, int fd, int level, int name, const void *value,
    socklen_t size);
DECLARE(int, socket, int domain, int type, int protocol);
DECLARE(int, tcgetattr, int fd, struct termios *tio);
DECLARE(int, timerfd_create, int clock, int flags);

int
__wrap_epoll_create1(int flags)
{
	return fails("epoll_create1", DESCRIPTOR) ? -1 :
						    __real_epoll_create1(flags);
}

/*
 * To modify and to remove takes nothing that may be missing, and what cannot
 * be added at all is refused before anything is allocated.
 */
int
__wrap_epoll_ctl(int epfd, int op, int fd, struct epoll_event *event)
{
	int r = __real_epoll_ctl(epfd, op, fd, event);

	if (r == -1 || op != EPOLL_CTL_ADD ||
	    !fails("EPOLL_CTL_ADD", WAYS(ENOMEM, ENOSPC)))
		return r;
	r = errno;
	__real_epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
	errno = r;
	return -1;
}

int
__wrap_epoll_wait(int epfd, struct epoll_event *events, int max, int ms)
{
	return fails("epoll_wait", WAYS(EINTR)) ?
	    -1 :
	    __real_epoll_wait(epfd, events, max, ms);
}

int
__wrap_fstat64(int fd, struct stat *st)
{
	return fails("fstat", WAYS(EIO, ENOMEM)) ? -1 : __real_fstat64(fd, st);
}

int
__wrap_fstatfs64(int fd, struct statfs *st)
{
	return fails("fstatfs", WAYS(EIO, ENOMEM)) ? -1 :
						     __real_fstatfs64(fd, st);
}

/* Of any socket its type, domain and so on are known; the rest is newer. */
int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *size)
{
	bool basic = level == SOL_SOCKET && name != SO_MEMINFO;

	return !basic && fails("getsockopt", WAYS(ENOPROTOOPT)) ?
	    -1 :
	    __real_getsockopt(fd, level, name, value, size);
}

/* What the user has no more of is watches: one that is there can be changed. */
static bool
is_watched(int fd, const char *path, uint32_t mask)
{
	int wd;

	wd = __real_inotify_add_watch(fd, path,
	    (mask & ~(uint32_t)IN_MASK_ADD) | IN_MASK_CREATE);
	if (wd == -1)
		return errno == EEXIST;
	inotify_rm_watch(fd, wd);
	return false;
}

int
__wrap_inotify_add_watch(int fd, const char *path, uint32_t mask)
{
	static const int again[MAXWAYS] = { ENOMEM, EACCES, NO_PROC };
	static const int first[MAXWAYS] = { ENOMEM, EACCES, NO_PROC, ENOSPC };
	bool watched = armed && is_watched(fd, path, mask);

	return fails("inotify_add_watch", watched ? again : first) ?
	    -1 :
	    __real_inotify_add_watch(fd, path, mask);
}

int
__wrap_inotify_init1(int flags)
{
	return fails("inotify_init1", DESCRIPTOR) ? -1 :
						    __real_inotify_init1(flags);
}

#define PIDFDS 0xff /* the kind of request; PIDFD_GET_INFO is of Linux 6.13 */

/* What is asked of a socket or pipe is known of any, or refused by itself. */
static bool
ioctl_fails(unsigned long request)
{
	if (_IOC_TYPE(request) != PIDFDS)
		return false;
	errno = ENOTTY;
	return inject_old_pidfds || fails("ioctl", WAYS(ENOTTY));
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	return ioctl_fails(request) ? -1 : __real_ioctl(fd, request, arg);
}

ssize_t
__wrap_readlink(const char *path, char *text, size_t size)
{
	return fails("readlink", WAYS(NO_PROC, EACCES, ENOMEM)) ?
	    -1 :
	    __real_readlink(path, text, size);
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value,
    socklen_t size)
{
	return fails("setsockopt", WAYS(EPERM)) ?
	    -1 :
	    __real_setsockopt(fd, level, name, value, size);
}

int
__wrap_socket(int domain, int type, int protocol)
{
	return fails("socket",
		   WAYS(EMFILE, ENFILE, ENOMEM, ENOBUFS, EPROTONOSUPPORT)) ?
	    -1 :
	    __real_socket(domain, type, protocol);
}

int
__wrap_tcgetattr(int fd, struct termios *tio)
{
	return fails("tcgetattr", WAYS(EIO)) ? -1 : __real_tcgetattr(fd, tio);
}

int
__wrap_timerfd_create(int clock, int flags)
{
	return fails("timerfd_create", DESCRIPTOR) ?
	    -1 :
	    __real_timerfd_create(clock, flags);
}

/* -- system calls by number ------------------------------------------------ */

#ifndef SYS_epoll_pwait2
#define SYS_epoll_pwait2 441
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

static const struct {
	long number;
	const char *name;
	int ways[MAXWAYS];
} numbered[] = {
	{ SYS_eventfd2, "eventfd2", { EMFILE, ENFILE, ENOMEM } },
	{ SYS_signalfd4, "signalfd4", { EMFILE, ENFILE, ENOMEM } },
	{ SYS_pidfd_open, "pidfd_open",
	    { EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM } },
	{ SYS_openat, "openat", { EMFILE, ENFILE, ENOMEM, NO_PROC } },
	{ SYS_socket, "socket",
	    { EMFILE, ENFILE, ENOMEM, EPROTONOSUPPORT, EPERM } },
	{ SYS_bind, "bind", { EPERM, ENOMEM } },
	{ SYS_sendto, "sendto", { ENOBUFS, ENOMEM } },
	{ SYS_recvfrom, "recvfrom", { ENOBUFS } },
	{ SYS_read, "read", { ENOMEM } },
	{ SYS_getdents64, "getdents64", { ENOMEM } },
	{ SYS_epoll_pwait, "epoll_pwait", { EINTR } },
	{ SYS_epoll_pwait2, "epoll_pwait2", { EINTR, ENOSYS } },
	{ SYS_waitid, "waitid", { ECHILD, EINVAL } },
	{ SYS_rt_sigqueueinfo, "rt_sigqueueinfo", { EAGAIN } },
	{ SYS_dup3, "dup3", { EBUSY } },
	{ SYS_close_range, "close_range", { ENOSYS, ENOMEM } },
	/* Nothing waits, nothing is allocated, no argument is wrong. */
	{ SYS_close, "close", { 0 } }, { SYS_futex, "futex", { 0 } },
	{ SYS_getpid, "getpid", { 0 } }, { SYS_gettid, "gettid", { 0 } },
	{ SYS_ppoll, "ppoll", { 0 } },
	{ SYS_rt_sigpending, "rt_sigpending", { 0 } },
	{ SYS_rt_sigprocmask, "rt_sigprocmask", { 0 } },
	{ SYS_rt_sigtimedwait, "rt_sigtimedwait", { 0 } },
	{ SYS_write, "write", { 0 } }, /* to an eventfd that is never full */
};

static bool
numbered_fails(long number, const long a[6])
{
	size_t i;

	if (number == SYS_fcntl)
		return (a[1] == F_DUPFD || a[1] == F_DUPFD_CLOEXEC) &&
		    fails("F_DUPFD", WAYS(EMFILE, ENOMEM));
	if (number == SYS_ioctl)
		return ioctl_fails((unsigned long)a[1]);
	for (i = 0; i < sizeof(numbered) / sizeof(numbered[0]); i++)
		if (numbered[i].number == number)
			break;
	if (i == sizeof(numbered) / sizeof(numbered[0])) {
		fprintf(stderr, "inject.c has no line for system call %ld\n",
		    number);
		abort();
	}
	/* A signalfd that is there is only given another set. */
	if (number == SYS_signalfd4 && a[0] != -1)
		return false;
	/* Of what was lost it tells once. */
	if (number == SYS_recvfrom && injected.i_call != NULL)
		return false;
	return numbered[i].ways[0] != 0 &&
	    fails(numbered[i].name, numbered[i].ways);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

/*
 * Six are passed on, however many there are, as the real one does; what lies
 * where the others would be is no concern of AddressSanitizer's.
 */
__attribute__((no_sanitize_address)) long
__wrap_syscall(long number, ...)
{
	va_list ap;
	long a[6];
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if ((armed || number == SYS_ioctl) && numbered_fails(number, a))
		return -1;
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* -- what dlsym() finds ---------------------------------------------------- */

DECLARE(void *, dlsym, void *handle, const char *name);

static int (*next_fcntl)(int fd, int cmd, ...);
static int (*next_dup)(int fd);

static int
faulty_fcntl(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) &&
	    fails("F_DUPFD", WAYS(EMFILE, ENOMEM)))
		return -1;
	return next_fcntl(fd, cmd, arg);
}

static int
faulty_dup(int fd)
{
	return fails("dup", WAYS(EMFILE, ENOMEM)) ? -1 : next_dup(fd);
}

void *
__wrap_dlsym(void *handle, const char *name)
{
	int (*as_fcntl)(int, int, ...) = faulty_fcntl;
	int (*as_dup)(int) = faulty_dup;
	void *found = __real_dlsym(handle, name);

	if (handle != RTLD_NEXT || found == NULL)
		return found;
	if (strcmp(name, "fcntl") == 0 || strcmp(name, "fcntl64") == 0) {
		memcpy(&next_fcntl, &found, sizeof(found));
		memcpy(&found, &as_fcntl, sizeof(found));
	} else if (strcmp(name, "dup") == 0) {
		memcpy(&next_dup, &found, sizeof(found));
		memcpy(&found, &as_dup, sizeof(found));
	}
	return found;
}
