/*
 * interpose_shared.c: wrappers that only the shared library can have.
 *
 * In libc.a these functions have no second name by which ours could call them,
 * so here ours have another name, and only the shared library is linked with
 * closedir=libkq_closedir and so on.  A program that is linked with libkq.a
 * has libc's own, and what they close is noticed as late as what
 * syscall(SYS_close) closes.
 */
#undef _FILE_OFFSET_BITS /* it would make freopen() another name */

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "export.h"
#include "interpose.h"

static struct {
	int (*closedir)(DIR *);
	FILE *(*freopen)(const char *, const char *, FILE *);
	FILE *(*freopen64)(const char *, const char *, FILE *);
} real;

int libkq_closedir(DIR *dir);
FILE *libkq_freopen(const char *restrict path, const char *restrict mode,
    FILE *restrict fp);
FILE *libkq_freopen64(const char *restrict path, const char *restrict mode,
    FILE *restrict fp);

static __attribute__((constructor)) void
find_all(void)
{
	interpose_find("closedir", &real.closedir);
	interpose_find("freopen", &real.freopen);
	interpose_find("freopen64", &real.freopen64);
}

KQ_EXPORT int
libkq_closedir(DIR *dir)
{
	int fd, r;

	if (real.closedir == NULL)
		find_all();
	if (!interpose_on())
		return real.closedir(dir);
	fd = dirfd(dir);
	watch_close_begin(fd);
	r = real.closedir(dir);
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
	if (real.freopen == NULL)
		find_all();
	return reopen(real.freopen, path, mode, fp);
}

KQ_EXPORT FILE *
libkq_freopen64(const char *restrict path, const char *restrict mode,
    FILE *restrict fp)
{
	if (real.freopen64 == NULL)
		find_all();
	return reopen(real.freopen64, path, mode, fp);
}
