/*
 * scaling: what an event costs as the number of watched descriptors grows, for
 * select, poll, epoll, kqueue, and kqueue with NOTE_NODATA.  Of N descriptors
 * one, or one in ten, has a byte; a turn of the loop waits, finds them and
 * reads them.
 *
 *	scaling [--quick]
 *
 * N goes to 100,000, or as far as the limit of descriptors allows.  Prints the
 * columns that scaling.gp plots: N, and for each way the CPU time per event in
 * ns, first with one active, then with one in ten.
 */
#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>

#include <err.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST 100000
#define SPARE 64 /* descriptors for other things */
#define NEVENTS 256
#define MAX_PIECES 64
#define WORD (8 * sizeof(unsigned long))
#define WORDS (2 * MOST / WORD + 8)

/* One way of waiting: prepare for n descriptors, take turns, clean up. */
struct way {
	const char *name;
	void (*open)(int n);
	int (*turn)(int n); /* descriptors read */
	void (*close)(void);
};

static int fds[MOST];   /* what is watched */
static int peers[MOST]; /* -1: idle for ever */
static int highest, queue;
static struct pollfd table[MOST];
static unsigned long wanted[WORDS], ready[WORDS];

static void
take(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		err(1, "read");
}

static void
open_select(int n)
{
	int i;

	memset(wanted, 0, sizeof(wanted));
	highest = 0;
	for (i = 0; i < n; i++) {
		wanted[(size_t)fds[i] / WORD] |= 1UL << (size_t)fds[i] % WORD;
		if (fds[i] > highest)
			highest = fds[i];
	}
}

/* fd_set ends at 1024; the kernel does not, and takes plain words. */
static int
turn_select(int n)
{
	size_t bytes = ((size_t)highest / WORD + 1) * sizeof(*ready);
	int fd, found, left;

	memcpy(ready, wanted, bytes);
	found = select(highest + 1, (fd_set *)(void *)ready, NULL, NULL, NULL);
	left = found;
	for (fd = 0; left > 0 && fd <= highest; fd++)
		if (ready[(size_t)fd / WORD] & 1UL << (size_t)fd % WORD) {
			take(fd);
			left--;
		}
	return found;
}

static void
close_nothing(void)
{
}

static void
open_poll(int n)
{
	int i;

	for (i = 0; i < n; i++) {
		table[i].fd = fds[i];
		table[i].events = POLLIN;
	}
}

static int
turn_poll(int n)
{
	int found, i, left;

	found = poll(table, (nfds_t)n, -1);
	left = found;
	for (i = 0; left > 0 && i < n; i++)
		if (table[i].revents != 0) {
			take(table[i].fd);
			left--;
		}
	return found;
}

static void
open_epoll(int n)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int i;

	queue = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < n; i++) {
		ev.data.fd = fds[i];
		if (epoll_ctl(queue, EPOLL_CTL_ADD, fds[i], &ev) == -1)
			err(1, "epoll_ctl");
	}
}

static int
turn_epoll(int n)
{
	struct epoll_event evs[NEVENTS];
	int found, i;

	found = epoll_wait(queue, evs, NEVENTS, -1);
	for (i = 0; i < found; i++)
		take(evs[i].data.fd);
	return found;
}

static void
open_with(int n, unsigned int fflags)
{
	struct kevent ev;
	int i;

	queue = kqueue();
	for (i = 0; i < n; i++) {
		EV_SET(&ev, fds[i], EVFILT_READ, EV_ADD, fflags, 0, NULL);
		if (kevent(queue, &ev, 1, NULL, 0, NULL) == -1)
			err(1, "kevent");
	}
}

static void
open_kqueue(int n)
{
	open_with(n, 0);
}

static void
open_nodata(int n)
{
	open_with(n, NOTE_NODATA);
}

static int
turn_kqueue(int n)
{
	struct kevent evs[NEVENTS];
	int found, i;

	found = kevent(queue, NULL, 0, evs, NEVENTS, NULL);
	for (i = 0; i < found; i++)
		take((int)evs[i].ident);
	return found;
}

static void
close_queue(void)
{
	close(queue);
}

static const struct way ways[] = {
	{ "select", open_select, turn_select, close_nothing },
	{ "poll", open_poll, turn_poll, close_nothing },
	{ "epoll", open_epoll, turn_epoll, close_queue },
	{ "kqueue", open_kqueue, turn_kqueue, close_queue },
	{ "nodata", open_nodata, turn_kqueue, close_queue },
};

#define NWAYS (sizeof(ways) / sizeof(ways[0]))

static double
cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/*
 * n descriptors, one in every n / active of them with a peer that can write
 * to it.  The idle ones are datagram sockets, which need no peer: with a pair
 * each, the usual limit of 20,000 descriptors would end at 10,000.
 */
static void
open_descriptors(int n, int active)
{
	int i, pair[2];

	for (i = 0; i < n; i++) {
		peers[i] = -1;
		if (i % (n / active) == 0 && i / (n / active) < active) {
			if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == -1)
				err(1, "socketpair");
			fds[i] = pair[0];
			peers[i] = pair[1];
		} else {
			fds[i] = socket(AF_INET, SOCK_DGRAM, 0);
			if (fds[i] == -1)
				err(1, "socket");
		}
	}
}

static void
close_descriptors(int n)
{
	int i;

	for (i = 0; i < n; i++) {
		close(fds[i]);
		if (peers[i] != -1)
			close(peers[i]);
	}
}

/* CPU per event, ns. */
static double
piece(const struct way *way, int n, int active, int turns)
{
	double start, total = 0;
	int got, i, t;

	for (t = 0; t < turns; t++) {
		for (i = 0; i < n; i++)
			if (peers[i] != -1 && write(peers[i], "x", 1) != 1)
				err(1, "write");
		start = cpu();
		for (got = 0; got < active;)
			got += way->turn(n);
		total += cpu() - start;
	}
	return total / turns / active;
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* The lower quartile of interleaved pieces of each way. */
static void
measure(int n, int active, int pieces, double result[NWAYS])
{
	static double ns[NWAYS][MAX_PIECES];
	int p, turns;
	size_t w;

	turns = 20000 / n < 4 ? 4 : 20000 / n > 200 ? 200 : 20000 / n;
	open_descriptors(n, active);
	for (p = 0; p < pieces; p++)
		for (w = 0; w < NWAYS; w++) {
			ways[w].open(n);
			piece(&ways[w], n, active, 1); /* warm */
			ns[w][p] = piece(&ways[w], n, active, turns);
			ways[w].close();
		}
	close_descriptors(n);
	for (w = 0; w < NWAYS; w++) {
		qsort(ns[w], (size_t)pieces, sizeof(double), by_value);
		result[w] = ns[w][pieces / 4];
	}
}

/* Descriptors that can be watched when one in ten of them has a peer. */
static int
possible(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	rl.rlim_cur = rl.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "setrlimit");
	if (rl.rlim_cur >= MOST + MOST / 10 + SPARE)
		return MOST;
	return (int)((rl.rlim_cur - SPARE) * 10 / 11 / 1000 * 1000);
}

static void
print_head(void)
{
	size_t c, w;

	printf("# CPU per event, ns\n#%7s", "N");
	for (c = 0; c < 2; c++)
		for (w = 0; w < NWAYS; w++)
			printf(" %*s%s", 8 - (int)strlen(ways[w].name),
			    c == 0 ? "1:" : "10%:", ways[w].name);
	printf("\n");
}

static void
print_row(int n, int pieces)
{
	double one[NWAYS], tenth[NWAYS];
	size_t w;

	fprintf(stderr, "scaling: %d descriptors\n", n);
	measure(n, 1, pieces, one);
	measure(n, n / 10, pieces, tenth);
	printf("%8d", n);
	for (w = 0; w < NWAYS; w++)
		printf(" %9.0f", one[w]);
	for (w = 0; w < NWAYS; w++)
		printf(" %9.0f", tenth[w]);
	printf("\n");
	fflush(stdout);
}

int
main(int argc, char *argv[])
{
	static const int counts[] = { 10, 20, 50, 100, 200, 500, 1000, 2000,
		5000, 10000, 20000, 50000, MOST };
	int most = possible(), pieces = 21;
	size_t c;

	if (argc > 1 && strcmp(argv[1], "--quick") == 0)
		pieces = 5;
	print_head();
	for (c = 0; counts[c] < most; c++)
		print_row(counts[c], pieces);
	print_row(most, pieces);
	if (most < MOST)
		fprintf(stderr, "scaling: the limit of descriptors ends it\n");
	return 0;
}
