/*
 * memory.c: what a registered descriptor costs in this process: the growth of
 * its resident memory over the number of descriptors registered, as many as
 * the limit allows.  The kernel's own part is the same for epoll.
 */
#include "bench.h"

#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <err.h>
#include <malloc.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST 100000
#define SPARE 64

/* Resident bytes, exact (statm is counted in batches); -1 if unknown. */
static long
resident(void)
{
	char line[128];
	long kib = -1;
	FILE *f;

	f = fopen("/proc/self/smaps_rollup", "re");
	if (f == NULL)
		return -1;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Rss: %ld kB", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static int
register_all(int kq, const int *fds, int n, short filter)
{
	struct kevent ev;
	int i;

	for (i = 0; i < n; i++) {
		EV_SET(&ev, fds[i], filter, EV_ADD, 0, 0, NULL);
		if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
			return -1;
	}
	return 0;
}

/* Bytes for each of n descriptors: [0] READ, [1] READ and WRITE. */
static int
measure(double bytes[2])
{
	int *fds, i, kq, n;
	long before;

	n = bench_nofile() - SPARE;
	if (n > MOST)
		n = MOST;
	kq = kqueue();
	fds = malloc((size_t)n * sizeof(*fds));
	if (kq == -1 || fds == NULL)
		return -1;
	for (i = 0; i + 1 < n; i += 2)
		if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds + i) == -1)
			break;
	n = i;
#ifdef __GLIBC__
	malloc_trim(0); /* nor what the other groups have given back */
#endif
	resident(); /* what reading it costs is there beforehand */
	before = resident();
	if (n == 0 || before == -1 ||
	    register_all(kq, fds, n, EVFILT_READ) == -1)
		return -1;
	bytes[0] = (double)(resident() - before) / n;
	if (register_all(kq, fds, n, EVFILT_WRITE) == -1)
		return -1;
	bytes[1] = (double)(resident() - before) / n;
	return n;
}

/* In a child, whose memory holds nothing of the other groups'. */
void
bench_memory(void)
{
	struct {
		double bytes[2];
		int n;
	} result = { { NAN, NAN }, -1 };
	char name[64];
	int p[2];
	pid_t pid;

	if (pipe(p) == -1)
		err(1, "pipe");
	fflush(stdout);
	pid = fork();
	if (pid == -1)
		err(1, "fork");
	if (pid == 0) {
		result.n = measure(result.bytes);
		_exit(write(p[1], &result, sizeof(result)) == -1);
	}
	close(p[1]);
	if (read(p[0], &result, sizeof(result)) != sizeof(result))
		result.n = -1;
	close(p[0]);
	waitpid(pid, NULL, 0);
	snprintf(name, sizeof(name), "a descriptor, of %d", result.n);
	bench_value(name, "READ", "B", result.bytes[0], 64);
	bench_value(name, "and WRITE", "B", result.bytes[1], 64);
}
