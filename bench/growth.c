/*
 * growth: what one more costs when there are many: timers up to 1,000,000,
 * descriptors up to 100,000 or the limit, queues up to 4,096.
 *
 *	growth [--quick]
 *
 * Each row is of a process of its own: CPU of an item to make it, to change it
 * and to be rid of it, the last two in random order, and the memory of each in
 * this process.  The step is how much dearer the life of an item is, all three,
 * than in the row above, if that were of a tenth as many.  Beyond 4 something
 * grows faster than it should; below, it is the cache, which holds ever less.
 */
#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <err.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_STEP 4
#define SPARE 64 /* descriptors for other things */

struct result {
	double ns[3]; /* make, change, be rid of */
	double bytes;
};

static uint32_t *order; /* of a row's items, shuffled */
static uint64_t seed = 88172645463325252ULL;

static uint64_t
any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static double
cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec * 1e9 + (double)ts.tv_nsec;
}

/* Resident bytes, exact (statm is counted in batches). */
static double
resident(void)
{
	char line[128];
	double kib = NAN;
	FILE *f;

	if ((f = fopen("/proc/self/smaps_rollup", "re")) == NULL)
		return NAN;
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Rss: %lf kB", &kib) == 1)
			break;
	fclose(f);
	return kib * 1024;
}

static void
shuffle(int n)
{
	uint32_t other, kept;
	int i;

	order = malloc((size_t)n * sizeof(*order));
	if (order == NULL)
		err(1, "malloc");
	for (i = 0; i < n; i++)
		order[i] = (uint32_t)i;
	for (i = n - 1; i > 0; i--) {
		other = (uint32_t)(any() % (uint64_t)(i + 1));
		kept = order[i];
		order[i] = order[other];
		order[other] = kept;
	}
}

static void
change(int kq, uintptr_t ident, int filter, int flags, int64_t data)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, flags, 0, data, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		err(1, "kevent");
}

/* -- timers ---------------------------------------------------------------- */

static int64_t
any_time(void)
{
	return 60000 + (int64_t)(any() % 3540000);
}

static void
timers(int n, struct result *r)
{
	int kq = kqueue(), i;
	double before, t;

	before = resident();
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, (uintptr_t)i, EVFILT_TIMER, EV_ADD, any_time());
	r->ns[0] = cpu() - t;
	r->bytes = resident() - before;
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, order[i], EVFILT_TIMER, EV_ADD, any_time());
	r->ns[1] = cpu() - t;
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, order[i], EVFILT_TIMER, EV_DELETE, 0);
	r->ns[2] = cpu() - t;
}

/* All of them come due; to be rid of one is to have it returned. */
static void
firing(int n, struct result *r)
{
	struct timespec later = { .tv_nsec = 1 };
	struct kevent evs[64];
	int kq = kqueue(), i, got;
	double before, t;

	before = resident();
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, (uintptr_t)i, EVFILT_TIMER, EV_ADD | EV_ONESHOT,
		    3600000 + (int64_t)(any() % 1000));
	r->ns[0] = cpu() - t;
	r->bytes = resident() - before;
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, order[i], EVFILT_TIMER, EV_ADD,
		    1 + (int64_t)(any() % 50));
	r->ns[1] = cpu() - t;
	while (nanosleep(&later, NULL) == 0 && later.tv_nsec == 1)
		later.tv_nsec = 100000000; /* till the last of them is due */
	t = cpu();
	for (got = 0; got < n; got += i)
		if ((i = kevent(kq, NULL, 0, evs, 64, NULL)) <= 0)
			err(1, "kevent");
	r->ns[2] = cpu() - t;
}

/* -- descriptors ----------------------------------------------------------- */

static int *
sockets(int n)
{
	int *fds = malloc((size_t)n * sizeof(*fds)), i;

	if (fds == NULL)
		err(1, "malloc");
	for (i = 0; i < n; i++)
		if ((fds[i] = socket(AF_UNIX, SOCK_DGRAM, 0)) == -1)
			err(1, "socket");
	return fds;
}

static void
descriptors(int n, struct result *r)
{
	int kq = kqueue(), *fds = sockets(n), i;
	double before, t;

	before = resident();
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, (uintptr_t)fds[i], EVFILT_READ, EV_ADD, 0);
	r->ns[0] = cpu() - t;
	r->bytes = resident() - before;
	t = cpu();
	for (i = 0; i < n; i++)
		change(kq, (uintptr_t)fds[order[i]], EVFILT_READ, EV_ADD, 0);
	r->ns[1] = cpu() - t;
	t = cpu();
	for (i = 0; i < n; i++)
		close(fds[order[i]]);
	r->ns[2] = cpu() - t;
}

static void
raw(int n, struct result *r)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int ep = epoll_create1(0), *fds = sockets(n), i;
	double before, t;

	before = resident();
	t = cpu();
	for (i = 0; i < n; i++)
		epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev);
	r->ns[0] = cpu() - t;
	r->bytes = resident() - before;
	t = cpu();
	for (i = 0; i < n; i++)
		epoll_ctl(ep, EPOLL_CTL_MOD, fds[order[i]], &ev);
	r->ns[1] = cpu() - t;
	t = cpu();
	for (i = 0; i < n; i++)
		syscall(SYS_close, fds[order[i]]);
	r->ns[2] = cpu() - t;
}

/* -- queues ---------------------------------------------------------------- */

/* Each watches one socket; the change is one of that. */
static void
queues(int n, struct result *r)
{
	int i, *kqs, p[2];
	double before, t;

	kqs = malloc((size_t)n * sizeof(*kqs));
	if (kqs == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, p) == -1)
		err(1, "socketpair");
	close(kqueue()); /* the tables of all queues are there */
	before = resident();
	t = cpu();
	for (i = 0; i < n; i++) {
		if ((kqs[i] = kqueue()) == -1)
			err(1, "kqueue");
		change(kqs[i], (uintptr_t)p[0], EVFILT_READ, EV_ADD, 0);
	}
	r->ns[0] = cpu() - t;
	r->bytes = resident() - before;
	t = cpu();
	for (i = 0; i < n; i++)
		change(kqs[order[i]], (uintptr_t)p[0], EVFILT_READ, EV_ADD, 0);
	r->ns[1] = cpu() - t;
	t = cpu();
	for (i = 0; i < n; i++)
		close(kqs[order[i]]);
	r->ns[2] = cpu() - t;
}

/* -- the table ------------------------------------------------------------- */

static const struct kind {
	const char *name;
	void (*run)(int n, struct result *);
	int first, most, factor;
	int files; /* descriptors that each item takes */
} kinds[] = {
	{ "timers", timers, 1000, 1000000, 10, 0 },
	{ "timers that fire", firing, 1000, 1000000, 10, 0 },
	{ "descriptors", descriptors, 1000, 100000, 10, 1 },
	{ "  with raw epoll", raw, 1000, 100000, 10, 1 },
	{ "queues", queues, 8, 4096, 8, 3 },
};

#define NKINDS (sizeof(kinds) / sizeof(kinds[0]))

static int files; /* descriptors that there may be */

/* In a child, which has memory of its own. */
static struct result
measure(const struct kind *k, int n)
{
	struct result r;
	int p[2], i;
	pid_t pid;

	if (pipe(p) == -1)
		err(1, "pipe");
	fflush(stdout);
	if ((pid = fork()) == -1)
		err(1, "fork");
	if (pid == 0) {
		shuffle(n);
		k->run(n, &r);
		for (i = 0; i < 3; i++)
			r.ns[i] /= n;
		r.bytes /= n;
		_exit(write(p[1], &r, sizeof(r)) != sizeof(r));
	}
	close(p[1]);
	if (read(p[0], &r, sizeof(r)) != sizeof(r))
		errx(1, "%s: failed with %d", k->name, n);
	close(p[0]);
	waitpid(pid, NULL, 0);
	return r;
}

/* The best of some: what else the machine does only adds. */
static struct result
best_of(const struct kind *k, int n, int times)
{
	struct result best, r;
	int i;

	best = measure(k, n);
	while (--times > 0) {
		r = measure(k, n);
		for (i = 0; i < 3; i++)
			best.ns[i] = fmin(best.ns[i], r.ns[i]);
	}
	return best;
}

static double
life(const struct result *r)
{
	return r->ns[0] + r->ns[1] + r->ns[2];
}

/* Returns the worst step. */
static double
print_kind(const struct kind *k, int times)
{
	struct result r, before = { .bytes = NAN };
	int n = k->first, last = 0, most = k->most;
	double step, worst = 0;

	if (k->files != 0 && most > (files - SPARE) / k->files)
		most = (files - SPARE) / k->files;
	for (;; n = n < most / k->factor ? n * k->factor : most) {
		fprintf(stderr, "growth: %d %s\n", n, k->name);
		r = best_of(k, n, times);
		printf("  %-17s %8d %9.0f %9.0f %9.0f %9.0f", k->name, n,
		    r.ns[0], r.ns[1], r.ns[2], r.bytes);
		if (last != 0) {
			step = pow(life(&r) / life(&before),
			    1 / log10((double)n / last));
			worst = fmax(worst, step);
			printf(" %7.1f", step);
		}
		printf("\n");
		fflush(stdout);
		before = r;
		last = n;
		if (n == most)
			return worst;
	}
}

int
main(int argc, char *argv[])
{
	struct rlimit rl;
	double worst = 0;
	int times = 5;
	size_t k;

	if (argc > 1 && strcmp(argv[1], "--quick") == 0)
		times = 1;
	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	rl.rlim_cur = rl.rlim_max < 1048576 ? rl.rlim_max : 1048576;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "setrlimit");
	files = (int)rl.rlim_cur;
	printf("  %-17s %8s %9s %9s %9s %9s %7s\n", "CPU of each, ns", "",
	    "make", "change", "be rid", "bytes", "step");
	for (k = 0; k < NKINDS; k++)
		worst = fmax(worst, print_kind(&kinds[k], times));
	printf("\nworst step %.1f, target %d: %s\n", worst, MAX_STEP,
	    worst <= MAX_STEP ? "met" : "not met");
	return 0;
}
