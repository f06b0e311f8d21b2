/*
 * interpose.c: close() and its relatives, as the program sees them.
 *
 * Linux tells nobody that a descriptor is closed, so the library defines the
 * functions that close one or make it name another file, tells watch.c, and
 * calls libc's.  Those that copy a descriptor are here because a copy of a
 * queue is the queue; those that change what can be read or written without an
 * event of epoll's, because a knote must look again.
 *
 * Until there is a queue a wrapper costs a load.  All are as safe in a signal
 * handler as what they wrap, keep errno, and stay cancellation points.  A
 * thread that is cancelled inside, after the knotes have gone, leaves a
 * close() begun for ever: each EV_ADD and close() of that number then asks the
 * kernel once more, that is all.
 *
 * libc's functions are found when the library is loaded.  Before, and in a
 * program linked statically, the private names serve, or the system call.
 * freopen() and closedir(), which have no other name, are in
 * interpose_shared.c.  fcloseall() closes no descriptor in glibc.
 *
 * DIVERGES: what does not pass through these names is not noticed at once:
 * syscall(SYS_close), io_uring, libraries loaded so that they do not see ours.
 * kqueue(2), CAVEATS.
 */
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mqueue.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "export.h"
#include "interpose.h"
#include "kq.h"
#include "libc.h"
#include "own.h"
#include "process.h"
#include "watch.h"

/* -- libc's functions ------------------------------------------------------ */

#pragma weak dlsym

static int
raw_dup(int fd)
{
	return (int)syscall(SYS_dup, fd);
}

static int
raw_dup3(int from, int to, int flags)
{
	return (int)syscall(SYS_dup3, from, to, flags);
}

static int
raw_close_range(unsigned int first, unsigned int last, int flags)
{
	return (int)syscall(SYS_close_range, first, last, flags);
}

static int
raw_shutdown(int fd, int how)
{
	return (int)syscall(SYS_shutdown, fd, how);
}

static int
raw_listen(int fd, int backlog)
{
	return (int)syscall(SYS_listen, fd, backlog);
}

static struct {
	int (*close)(int);
	int (*close_range)(unsigned int, unsigned int, int);
	int (*connect)(int, const struct sockaddr *, socklen_t);
	int (*dup)(int);
	int (*dup2)(int, int);
	int (*dup3)(int, int, int);
	int (*fclose)(FILE *);
	int (*fcntl_any)(int, int, ...);
	int (*fcntl_large)(int, int, ...);
	int (*listen)(int, int);
	libc_off (*lseek_any)(int, libc_off, int);
	int64_t (*lseek_large)(int, int64_t, int);
	int (*pclose)(FILE *);
	int (*shutdown)(int, int);
} real = {
	.close = libc_close,
	.close_range = raw_close_range,
	.connect = libc_connect,
	.dup = raw_dup,
	.dup2 = libc_dup2,
	.dup3 = raw_dup3,
	.fclose = libc_fclose,
	.fcntl_any = libc_fcntl,
	.fcntl_large = libc_fcntl,
	.listen = raw_listen,
	.lseek_any = libc_lseek,
	.lseek_large = libc_lseek64,
	.pclose = libc_pclose,
	.shutdown = raw_shutdown,
};

void
interpose_find(const char *name, void *slot)
{
	void *found;

	if (dlsym == NULL)
		return;
	if ((found = dlsym(RTLD_NEXT, name)) != NULL)
		memcpy(slot, &found, sizeof(found));
}

static __attribute__((constructor)) void
find_all(void)
{
	interpose_find("close", &real.close);
	interpose_find("close_range", &real.close_range);
	interpose_find("connect", &real.connect);
	interpose_find("dup", &real.dup);
	interpose_find("dup2", &real.dup2);
	interpose_find("dup3", &real.dup3);
	interpose_find("fclose", &real.fclose);
	interpose_find("fcntl", &real.fcntl_any);
	interpose_find("fcntl64", &real.fcntl_large);
	interpose_find("listen", &real.listen);
	interpose_find("lseek", &real.lseek_any);
	interpose_find("lseek64", &real.lseek_large);
	interpose_find("pclose", &real.pclose);
	interpose_find("shutdown", &real.shutdown);
}

/* -- the descriptor goes --------------------------------------------------- */

/* close(PROBE) fails wherever it ends up; here it is counted. */
#define PROBE INT_MIN

static unsigned int probes;

KQ_EXPORT int
close(int fd)
{
	int r;

	if (fd == PROBE)
		__atomic_fetch_add(&probes, 1, __ATOMIC_RELAXED);
	if (!interpose_on())
		return real.close(fd);
	if (own_guards(fd)) {
		errno = EBADF;
		return -1;
	}
	if (watch_idle(fd))
		return real.close(fd);
	pthread_testcancel();
	watch_close_begin(fd);
	r = real.close(fd);
	watch_close_end(fd);
	return r;
}

KQ_EXPORT int
mq_close(mqd_t queue)
{
	return close(queue);
}

static int
close_stream(int (*call)(FILE *), FILE *fp)
{
	int fd, r, saved = errno;

	if (!interpose_on() || (fd = fileno(fp)) == -1) {
		errno = saved;
		return call(fp);
	}
	pthread_testcancel();
	watch_close_begin(fd);
	r = call(fp);
	watch_close_end(fd);
	return r;
}

KQ_EXPORT int
fclose(FILE *fp)
{
	return close_stream(real.fclose, fp);
}

KQ_EXPORT int
pclose(FILE *fp)
{
	return close_stream(real.pclose, fp);
}

/* Close those that are watched one by one, then the rest, but not our own. */
static int
close_all(unsigned int first, unsigned int last)
{
	int fd, own;

	for (fd = watch_next((int)first); fd != -1 && (unsigned int)fd <= last;
	     fd = watch_next(fd + 1))
		close(fd);
	for (own = own_next((int)first); own != -1 && (unsigned int)own <= last;
	     own = own_next(own + 1)) {
		if ((unsigned int)own > first)
			real.close_range(first, (unsigned int)own - 1, 0);
		first = (unsigned int)own + 1;
	}
	return first <= last ? real.close_range(first, last, 0) : 0;
}

/* A child of the process that has the queues closed what it inherited. */
static void
forget_all(unsigned int first, unsigned int last)
{
	int fd;

	for (fd = watch_next((int)first); fd != -1 && (unsigned int)fd <= last;
	     fd = watch_next(fd + 1))
		if (kqueue_is_name(fd))
			kqueue_forget(fd);
	for (fd = own_next((int)first); fd != -1 && (unsigned int)fd <= last;
	     fd = own_next(fd + 1))
		own_remove(fd);
}

/*
 * A range beyond all descriptors closes nothing, but fails where the system
 * call would, and unshares the table if that is asked for.  Of several threads
 * the caller then has a table of its own, and the others keep their
 * descriptors and the knotes.
 */
KQ_EXPORT int
close_range(unsigned int first, unsigned int last, int flags)
{
	const int unshare = (int)CLOSE_RANGE_UNSHARE;
	int r;

	if (interpose_on() && !process_is_owner()) {
		r = real.close_range(first, last, flags);
		if (r == 0 && first <= INT_MAX && (flags & ~unshare) == 0)
			forget_all(first, last);
		return r;
	}
	if (!interpose_on() || first > INT_MAX || first > last ||
	    (flags & ~unshare) != 0 || !process_is_self() ||
	    (flags == unshare && !process_single_threaded()))
		return real.close_range(first, last, flags);
	if (real.close_range(UINT_MAX, UINT_MAX, flags) == -1)
		return -1;
	return close_all(first, last);
}

KQ_EXPORT void
closefrom(int low)
{
	struct rlimit rl;
	int fd, saved = errno;

	if (low < 0)
		low = 0;
	if (close_range((unsigned int)low, UINT_MAX, 0) == -1 &&
	    getrlimit(RLIMIT_NOFILE, &rl) == 0)
		for (fd = low; (rlim_t)fd < rl.rlim_cur; fd++)
			close(fd);
	errno = saved;
}

/* -- the number names another file, or the file another number ------------- */

KQ_EXPORT int
dup(int fd)
{
	int copy = real.dup(fd);

	if (copy != -1)
		watch_dup(fd, copy);
	return copy;
}

/*
 * from will be copied over to, as far as can be known; if not, to keeps its
 * knotes.  The kernel is asked only if there is something to lose.
 */
static bool
will_replace(int from, int to)
{
	struct rlimit rl;
	int saved = errno;
	bool will;

	if (!interpose_on() || from == to)
		return false;
	if (!watch_has(to) && !kqueue_is_name(to))
		return true;
	will = real.fcntl_any(from, F_GETFD) != -1 &&
	    getrlimit(RLIMIT_NOFILE, &rl) == 0 && (rlim_t)to < rl.rlim_cur;
	errno = saved;
	return will;
}

/*
 * A number that the library uses is taken for the program: the error is the
 * one that Linux has for a number that is just being opened.
 */
static bool
is_ours(int to)
{
	if (!interpose_on() || !own_guards(to))
		return false;
	errno = EBUSY;
	return true;
}

KQ_EXPORT int
dup2(int from, int to)
{
	int r;

	if (is_ours(to))
		return -1;
	if (!will_replace(from, to))
		return real.dup2(from, to);
	watch_close_begin(to);
	r = real.dup2(from, to);
	watch_close_end(to);
	if (r != -1)
		watch_dup(from, to);
	return r;
}

KQ_EXPORT int
dup3(int from, int to, int flags)
{
	int r;

	/* As the kernel has it; musl would go on. */
	if ((flags & ~O_CLOEXEC) != 0) {
		errno = EINVAL;
		return -1;
	}
	if (is_ours(to))
		return -1;
	if (!will_replace(from, to))
		return real.dup3(from, to, flags);
	watch_close_begin(to);
	r = real.dup3(from, to, flags);
	watch_close_end(to);
	if (r != -1)
		watch_dup(from, to);
	return r;
}

static int
copied(int fd, int cmd, int r)
{
	if ((cmd == F_DUPFD || cmd == F_DUPFD_CLOEXEC) && r != -1)
		watch_dup(fd, r);
	return r;
}

/*
 * Names of our own, for a header may make fcntl() and lseek() those of 64
 * bits.  Like libc, which does not know either which type the argument has.
 */
KQ_EXPORT int fcntl_any(int fd, int cmd, ...) __asm__("fcntl");
KQ_EXPORT int fcntl_large(int fd, int cmd, ...) __asm__("fcntl64");

KQ_EXPORT int
fcntl_any(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return copied(fd, cmd, real.fcntl_any(fd, cmd, arg));
}

KQ_EXPORT int
fcntl_large(int fd, int cmd, ...)
{
	va_list ap;
	void *arg;

	va_start(ap, cmd);
	arg = va_arg(ap, void *);
	va_end(ap);
	return copied(fd, cmd, real.fcntl_large(fd, cmd, arg));
}

/* -- what epoll does not tell ---------------------------------------------- */

KQ_EXPORT int
shutdown(int fd, int how)
{
	int r = real.shutdown(fd, how);

	if (r == 0 && (how == SHUT_WR || how == SHUT_RDWR))
		watch_event(fd, WATCH_SHUT_WR);
	return r;
}

/* glibc's header has a union for the address. */
KQ_EXPORT int connect_any(int fd, const struct sockaddr *addr,
    socklen_t len) __asm__("connect");

/*
 * Whatever it returns: a connection may be on its way.  If it is, the socket
 * is no datagram one.
 */
KQ_EXPORT int
connect_any(int fd, const struct sockaddr *addr, socklen_t len)
{
	int r = real.connect(fd, addr, len);

	if (r == -1 && errno == EINPROGRESS)
		watch_stream(fd);
	watch_event(fd, WATCH_CONNECT);
	return r;
}

KQ_EXPORT int
listen(int fd, int backlog)
{
	int r = real.listen(fd, backlog);

	if (r == 0)
		watch_event(fd, WATCH_CONNECT);
	return r;
}

KQ_EXPORT libc_off lseek_any(int fd, libc_off offset, int whence) __asm__(
    "lseek");
KQ_EXPORT int64_t lseek_large(int fd, int64_t offset, int whence) __asm__(
    "lseek64");

KQ_EXPORT libc_off
lseek_any(int fd, libc_off offset, int whence)
{
	libc_off r = real.lseek_any(fd, offset, whence);

	if (r != -1 && (offset != 0 || whence != SEEK_CUR))
		watch_event(fd, WATCH_SEEK);
	return r;
}

KQ_EXPORT int64_t
lseek_large(int fd, int64_t offset, int whence)
{
	int64_t r = real.lseek_large(fd, offset, whence);

	if (r != -1 && (offset != 0 || whence != SEEK_CUR))
		watch_event(fd, WATCH_SEEK);
	return r;
}

/* -- do they reach us? ----------------------------------------------------- */

/*
 * Try it, rather than compare addresses: under a sanitizer, or another library
 * of this kind, close() is theirs and calls ours.
 */
bool
interpose_effective(void)
{
	unsigned int before = __atomic_load_n(&probes, __ATOMIC_RELAXED);
	int (*call)(int) = NULL;
	void *found = NULL;
	int saved = errno;

	if (dlsym != NULL)
		found = dlsym(RTLD_DEFAULT, "close");
	if (found == NULL)
		return true; /* linked statically: there is but one */
	memcpy(&call, &found, sizeof(call));
	call(PROBE);
	errno = saved;
	return __atomic_load_n(&probes, __ATOMIC_RELAXED) != before;
}
