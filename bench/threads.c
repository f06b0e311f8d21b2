/*
 * threads: what an event costs as the number of threads grows, for epoll,
 * kqueue, and kqueue with NOTE_NODATA.
 *
 *	threads [--quick]
 *
 * With a queue for each thread, each has 16 UNIX connections and takes turns:
 * it writes to them, waits, and reads.  With one queue for all, each takes one
 * connection from it, reads, writes to it anew and gives it back, by EV_ENABLE
 * or EPOLL_CTL_MOD: no two may have the same one at a time.
 *
 * Prints the columns that threads.gp plots: the threads, and for each way the
 * CPU time of all of them per event in ns, first with own queues, then with
 *one.
 */
#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <err.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 64     /* threads */
#define NCONNS 16   /* of each thread */
#define EVENTS 4096 /* in a piece, of all threads, or 256 of each */
#define MAX_PIECES 32

enum way { EPOLL, KQUEUE, NODATA, NWAYS };

static const char *const names[] = { "epoll", "kqueue", "nodata" };

struct work {
	pthread_t thread;
	enum way way;
	int queue; /* -1: make one */
	int events;
	double took; /* CPU, ns */
	int fds[NCONNS][2];
};

static struct work works[MOST];
static pthread_barrier_t barrier;

static double
cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

static void
watch(const struct work *w, int queue, int fd, int peer, int once)
{
	struct epoll_event e = { .events = EPOLLIN | (once ? EPOLLONESHOT : 0),
		.data.u64 = (uint64_t)peer << 32 | (uint32_t)fd };
	struct kevent ev;
	int r;

	EV_SET(&ev, fd, EVFILT_READ, EV_ADD | (once ? EV_DISPATCH : 0),
	    w->way == NODATA ? NOTE_NODATA : 0, 0, (void *)(intptr_t)peer);
	r = w->way == EPOLL ? epoll_ctl(queue, EPOLL_CTL_ADD, fd, &e) :
			      kevent(queue, &ev, 1, NULL, 0, NULL);
	if (r == -1)
		err(1, "watch");
}

static void
enable(const struct work *w, int fd, int peer)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLONESHOT,
		.data.u64 = (uint64_t)peer << 32 | (uint32_t)fd };
	struct kevent ev;
	int r;

	EV_SET(&ev, fd, EVFILT_READ, EV_ENABLE,
	    w->way == NODATA ? NOTE_NODATA : 0, 0, (void *)(intptr_t)peer);
	r = w->way == EPOLL ? epoll_ctl(w->queue, EPOLL_CTL_MOD, fd, &e) :
			      kevent(w->queue, &ev, 1, NULL, 0, NULL);
	if (r == -1)
		err(1, "enable");
}

static void
say(int fd)
{
	if (write(fd, "x", 1) != 1)
		err(1, "write");
}

static void
take(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		err(1, "read");
}

/* Wait for most events; what was read from goes to fds, its peer to peers. */
static int
turn(const struct work *w, int queue, int most, int *fds, int *peers)
{
	struct epoll_event e[NCONNS];
	struct kevent ev[NCONNS];
	int i, n;

	if (w->way == EPOLL)
		n = epoll_wait(queue, e, most, -1);
	else
		n = kevent(queue, NULL, 0, ev, most, NULL);
	if (n == -1)
		err(1, "wait");
	for (i = 0; i < n; i++) {
		fds[i] = w->way == EPOLL ? (int)(uint32_t)e[i].data.u64 :
					   (int)ev[i].ident;
		peers[i] = w->way == EPOLL ? (int)(e[i].data.u64 >> 32) :
					     (int)(intptr_t)ev[i].udata;
		take(fds[i]);
	}
	return n;
}

static void
own_queue(struct work *w)
{
	int fds[NCONNS], peers[NCONNS], queue, i, got;
	double since;

	queue = w->way == EPOLL ? epoll_create1(EPOLL_CLOEXEC) : kqueue();
	for (i = 0; i < NCONNS; i++)
		watch(w, queue, w->fds[i][0], w->fds[i][1], 0);
	pthread_barrier_wait(&barrier);
	since = cpu();
	for (got = 0; got < w->events;) {
		for (i = 0; i < NCONNS; i++)
			say(w->fds[i][1]);
		for (i = 0; i < NCONNS;)
			i += turn(w, queue, NCONNS, fds, peers);
		got += NCONNS;
	}
	w->took = cpu() - since;
	pthread_barrier_wait(&barrier);
	close(queue);
}

/* As many connections as threads and more, so nobody waits for long. */
static void
one_queue(struct work *w)
{
	int fds[NCONNS], peers[NCONNS], got;
	double since;

	pthread_barrier_wait(&barrier);
	since = cpu();
	for (got = 0; got < w->events; got++) {
		turn(w, w->queue, 1, fds, peers);
		say(peers[0]);
		enable(w, fds[0], peers[0]);
	}
	w->took = cpu() - since;
	pthread_barrier_wait(&barrier);
}

static void *
run(void *arg)
{
	struct work *w = arg;

	if (w->queue == -1)
		own_queue(w);
	else
		one_queue(w);
	return NULL;
}

/* One queue for all, with the connections of all in it, ready. */
static int
open_shared(enum way way, int nthreads)
{
	int queue, t, i;

	queue = way == EPOLL ? epoll_create1(EPOLL_CLOEXEC) : kqueue();
	works[0].way = way;
	for (t = 0; t < nthreads; t++)
		for (i = 0; i < NCONNS; i++) {
			watch(&works[0], queue, works[t].fds[i][0],
			    works[t].fds[i][1], 1);
			say(works[t].fds[i][1]);
		}
	return queue;
}

static void
close_shared(int queue, int nthreads)
{
	int t, i;

	close(queue);
	for (t = 0; t < nthreads; t++)
		for (i = 0; i < NCONNS; i++)
			take(works[t].fds[i][0]);
}

/* CPU per event, ns. */
static double
piece(enum way way, int nthreads, int shared)
{
	int queue = shared ? open_shared(way, nthreads) : -1, t, events;
	double took = 0;

	events = EVENTS / nthreads < 256 ? 256 : EVENTS / nthreads;
	if (pthread_barrier_init(&barrier, NULL, (unsigned int)nthreads) != 0)
		err(1, "pthread_barrier_init");
	for (t = 0; t < nthreads; t++) {
		works[t].way = way;
		works[t].queue = queue;
		works[t].events = events;
		if (pthread_create(&works[t].thread, NULL, run, &works[t]) != 0)
			err(1, "pthread_create");
	}
	for (t = 0; t < nthreads; t++) {
		pthread_join(works[t].thread, NULL);
		took += works[t].took;
	}
	pthread_barrier_destroy(&barrier);
	if (shared)
		close_shared(queue, nthreads);
	return took / nthreads / events;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The lower quartile of interleaved pieces of each way. */
static void
measure(int nthreads, int shared, int pieces, double result[NWAYS])
{
	static double ns[NWAYS][MAX_PIECES];
	int p, w;

	for (p = -1; p < pieces; p++) /* one to warm up */
		for (w = 0; w < NWAYS; w++)
			ns[w][p < 0 ? 0 : p] =
			    piece((enum way)w, nthreads, shared);
	for (w = 0; w < NWAYS; w++) {
		qsort(ns[w], (size_t)pieces, sizeof(double), by_value);
		result[w] = ns[w][pieces / 4];
	}
}

int
main(int argc, char *argv[])
{
	double own[NWAYS], one[NWAYS];
	int n, t, i, w, pieces = 21;

	if (argc > 1 && strcmp(argv[1], "--quick") == 0)
		pieces = 5;
	for (t = 0; t < MOST; t++)
		for (i = 0; i < NCONNS; i++)
			if (socketpair(AF_UNIX, SOCK_STREAM, 0,
				works[t].fds[i]) == -1)
				err(1, "socketpair");
	printf("# CPU per event, ns\n# threads");
	for (i = 0; i < 2; i++)
		for (w = 0; w < NWAYS; w++)
			printf(" %*s%s", 8 - (int)strlen(names[w]),
			    i == 0 ? "own:" : "one:", names[w]);
	printf("\n");
	for (n = 1; n <= MOST; n *= 2) {
		fprintf(stderr, "threads: %d\n", n);
		measure(n, 0, pieces, own);
		measure(n, 1, pieces, one);
		printf("%9d", n);
		for (w = 0; w < NWAYS; w++)
			printf(" %11.0f", own[w]);
		for (w = 0; w < NWAYS; w++)
			printf(" %11.0f", one[w]);
		printf("\n");
		fflush(stdout);
	}
	return 0;
}
