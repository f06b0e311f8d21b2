/*
 * libc.h: how a wrapper reaches the function of libc that it wraps.
 *
 * A shared library asks dlsym(), as soon as it is loaded.  Before, and in a
 * program linked statically, the second names of glibc serve.  musl has no
 * such names: there the wrapper makes the system call, and those that do more
 * than a system call are wrapped in the shared library alone (meson.build).
 *
 * The names begin with libc_, whatever a header makes of fcntl or lseek by
 * _FILE_OFFSET_BITS.
 */
#ifndef KQ_LIBC_H
#define KQ_LIBC_H

#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

typedef int libc_spawn_fn(pid_t *, const char *,
    const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
    char *const *, char *const *);

#ifdef __GLIBC__

typedef __off_t libc_off;

extern int libc_close(int) __asm__("__close");
extern int libc_connect(int, const struct sockaddr *, socklen_t) __asm__(
    "__connect");
extern int libc_dup2(int, int) __asm__("__dup2");
extern int libc_fclose(FILE *) __asm__("_IO_fclose");
extern int libc_fcntl(int, int, ...) __asm__("__fcntl");
extern libc_off libc_lseek(int, libc_off, int) __asm__("__lseek");
extern int libc_pclose(FILE *) __asm__("_IO_fclose");
extern FILE *libc_popen(const char *, const char *) __asm__("_IO_popen");
extern int libc_sigaction(int, const struct sigaction *,
    struct sigaction *) __asm__("__sigaction");
/* Not in the shared one. */
extern libc_spawn_fn libc_spawn __asm__("__posix_spawn") __attribute__((weak));

/* SIGCANCEL and SIGSETXID, which it keeps to itself. */
#define LIBC_SIGNALS (signal_bit(32) | signal_bit(33))

#else

/* musl declares few of those that it does not have. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"

typedef off_t libc_off;

extern int libc_fclose(FILE *) __asm__("fclose");
extern int libc_pclose(FILE *) __asm__("pclose");
extern FILE *libc_popen(const char *, const char *) __asm__("popen");
extern libc_spawn_fn libc_spawn __asm__("posix_spawn");
/*
 * Not in the shared one.  In the static one it lies beside what posix_spawn()
 * needs, which makes the linker take it.
 */
extern int libc_sigaction(int, const struct sigaction *,
    struct sigaction *) __asm__("__sigaction") __attribute__((weak));
static libc_spawn_fn *const libc_anchor __attribute__((used)) = libc_spawn;

#define epoll_pwait libkq_epoll_pwait /* one object file with epoll_wait() */
#define execvp libkq_execvp /* libc's come to our execve() */
#define execvpe libkq_execvpe
#define fclose libkq_fclose
#define pclose libkq_pclose
#define popen libkq_popen
#define posix_spawn libkq_posix_spawn
#define posix_spawnp libkq_posix_spawnp

#ifdef SYS_fcntl64
#define LIBC_FCNTL SYS_fcntl64
#else
#define LIBC_FCNTL SYS_fcntl
#endif

/* SIGTIMER, SIGCANCEL and SIGSYNCCALL. */
#define LIBC_SIGNALS (signal_bit(32) | signal_bit(33) | signal_bit(34))

#define W_EXITCODE(status, signo) ((status) << 8 | (signo))

static inline int
libc_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static inline int
libc_connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	return (int)syscall(SYS_connect, fd, addr, len);
}

static inline int
libc_dup2(int from, int to)
{
	if (from == to)
		return syscall(LIBC_FCNTL, from, F_GETFD) == -1 ? -1 : to;
	return (int)syscall(SYS_dup3, from, to, 0);
}

static inline int
libc_fcntl(int fd, int cmd, ...)
{
	__builtin_va_list ap;
	void *arg;

	__builtin_va_start(ap, cmd);
	arg = __builtin_va_arg(ap, void *);
	__builtin_va_end(ap);
	return (int)syscall(LIBC_FCNTL, fd, cmd, arg);
}

#endif

static inline int64_t
libc_lseek64(int fd, int64_t offset, int whence)
{
#ifdef SYS__llseek
	int64_t at;

	return syscall(SYS__llseek, fd, (long)(offset >> 32), (long)offset, &at,
		   whence) == -1 ?
	    -1 :
	    at;
#else
	return syscall(SYS_lseek, fd, offset, whence);
#endif
}

#ifndef __GLIBC__
static inline libc_off
libc_lseek(int fd, libc_off offset, int whence)
{
	return libc_lseek64(fd, offset, whence);
}
#endif

#endif
