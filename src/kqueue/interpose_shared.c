/*
 * interpose_shared.c: wrappers that only the shared library can have.
 *
 * In libc.a these functions have no second name by which ours could call them,
 * so here ours have another name, and only the shared library is linked with
 * closedir=libkq_closedir and so on.  A program that is linked with libkq.a
 * has libc's own, and what they close is noticed as late as what
 * syscall(SYS_close) closes.
 */
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "export.h"
#include "interpose.h"

static struct {
	int (*closedir)(DIR *);
	FILE *(*freopen_any)(const char *, const char *, FILE *);
	FILE *(*freopen_large)(const char *, const char *, FILE *);
} real_shared;

int libkq_closedir(DIR *dir);
FILE *libkq_freopen(const char *restrict path, const char *restrict mode,
    FILE *restrict fp);
FILE *libkq_freopen_large(const char *restrict path, const char *restrict mode,
    FILE *restrict fp) __asm__("libkq_freopen64");

static __attribute__((constructor)) void
find_shared(void)
{
	interpose_find("closedir", &real_shared.closedir);
	interpose_find("freopen", &real_shared.freopen_any);
	interpose_find("freopen64", &real_shared.freopen_large);
}

KQ_EXPORT int
libkq_closedir(DIR *dir)
{
	int fd, r;

	if (real_shared.closedir == NULL)
		find_shared();
	if (!interpose_on())
		return real_shared.closedir(dir);
	fd = dirfd(dir);
	watch_close_begin(fd);
	r = real_shared.closedir(dir);
	watch_close_end(fd);
	return r;
}

/*
 * The old file is closed whether the new one can be opened or not, and a new
 * one gets its number if it can.  Without a path as well: Linux opens it anew.
 */
static FILE *
reopen(FILE *(*call)(const char *, const char *, FILE *), const char *path,
    const char *mode, FILE *fp)
{
	int fd, saved = errno;
	FILE *r;

	if (!interpose_on() || (fd = fileno(fp)) == -1) {
		errno = saved;
		return call(path, mode, fp);
	}
	pthread_testcancel();
	watch_close_begin(fd);
	r = call(path, mode, fp);
	watch_close_end(fd);
	return r;
}

KQ_EXPORT FILE *
libkq_freopen(const char *restrict path, const char *restrict mode,
    FILE *restrict fp)
{
	if (real_shared.freopen_any == NULL)
		find_shared();
	return reopen(real_shared.freopen_any, path, mode, fp);
}

KQ_EXPORT FILE *
libkq_freopen_large(const char *restrict path, const char *restrict mode,
    FILE *restrict fp)
{
	if (real_shared.freopen_large == NULL)
		find_shared();
	return reopen(real_shared.freopen_large, path, mode, fp);
}
