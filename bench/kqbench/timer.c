/*
 * timer.c: a million timers in one queue; a hundred thousand where a process
 * may have 256 descriptors.  The raw side is the one that epoll has, a
 * timerfd for each, with as many resident as the limit allows.
 */
#include "bench.h"

#include <sys/types.h>
#include <sys/epoll.h>
#include <sys/event.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <sys/wait.h>

#include <err.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define RESIDENT 1000000
#define SOME 2048 /* operations in one piece */
#define LIST 64
#define MANY 100000
#define FEW_FILES 256

static int kq, ep;
static int timerfds[SOME];
static uint64_t seed = 88172645463325252ULL;

static uint64_t
any(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

/* From one minute to an hour, so that none expires meanwhile. */
static int64_t
any_time(void)
{
	return 60000 + (int64_t)(any() % 3540000);
}

/* Apply flags to SOME timers from first on, list of them in a call. */
static double
apply(const uint32_t *idents, int flags, int list)
{
	struct kevent evs[LIST];
	double total = 0, t;
	int i, j;

	for (i = 0; i < SOME; i += list) {
		for (j = 0; j < list; j++)
			EV_SET(&evs[j], idents[i + j], EVFILT_TIMER, flags, 0,
			    flags & EV_ADD ? any_time() : 0, NULL);
		t = bench_cpu();
		if (kevent(kq, evs, list, NULL, 0, NULL) == -1)
			err(1, "kevent");
		total += bench_took(t);
	}
	return total * 1e9 / SOME;
}

/* As apply(), one in a call, without the clock in between. */
static double
apply_singly(const uint32_t *idents, int flags)
{
	static struct kevent evs[SOME];
	double t;
	int i;

	for (i = 0; i < SOME; i++)
		EV_SET(&evs[i], idents[i], EVFILT_TIMER, flags, 0,
		    flags & EV_ADD ? any_time() : 0, NULL);
	t = bench_cpu();
	for (i = 0; i < SOME; i++)
		if (kevent(kq, &evs[i], 1, NULL, 0, NULL) == -1)
			err(1, "kevent");
	return bench_took(t) * 1e9 / SOME;
}

static double
change(const uint32_t *idents, int flags, int list)
{
	return list == 1 ? apply_singly(idents, flags) :
			   apply(idents, flags, list);
}

/* New ones beside the residents, and away again. */
static double
add_kqueue(const void *arg)
{
	static uint32_t idents[SOME];
	double ns;
	int i;

	for (i = 0; i < SOME; i++)
		idents[i] = RESIDENT + (uint32_t)i;
	ns = change(idents, EV_ADD, *(const int *)arg);
	change(idents, EV_DELETE, LIST);
	return ns;
}

/* Some of the residents, and back again. */
static double
cancel_kqueue(const void *arg)
{
	static uint32_t idents[SOME];
	uint32_t first = (uint32_t)(any() % RESIDENT), i;
	double ns;

	/* 500,009 is prime and far: no two neighbours, no two the same. */
	for (i = 0; i < SOME; i++)
		idents[i] = (first + i * 500009U) % RESIDENT;
	ns = change(idents, EV_DELETE, *(const int *)arg);
	change(idents, EV_ADD, LIST);
	return ns;
}

/* Residents that get a new time: what an idle timeout does. */
static double
again_kqueue(const void *arg)
{
	static uint32_t idents[SOME];
	uint32_t i;

	for (i = 0; i < SOME; i++)
		idents[i] = (uint32_t)(any() % RESIDENT);
	return change(idents, EV_ADD, *(const int *)arg);
}

static void
arm(int fd)
{
	struct itimerspec its = { .it_value = { .tv_sec = any_time() / 1000 } };

	if (timerfd_settime(fd, 0, &its, NULL) == -1)
		err(1, "timerfd_settime");
}

static int
add_timerfd(void)
{
	struct epoll_event ev = { .events = EPOLLIN };
	int fd;

	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	if (fd == -1)
		err(1, "timerfd_create");
	arm(fd);
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev) == -1)
		err(1, "epoll_ctl");
	return fd;
}

static double
add_epoll(const void *arg)
{
	double t;
	int i;

	t = bench_cpu();
	for (i = 0; i < SOME; i++)
		timerfds[i] = add_timerfd();
	t = bench_took(t);
	for (i = 0; i < SOME; i++)
		close(timerfds[i]);
	return t * 1e9 / SOME;
}

static double
cancel_epoll(const void *arg)
{
	double t;
	int i;

	for (i = 0; i < SOME; i++)
		timerfds[i] = add_timerfd();
	t = bench_cpu();
	for (i = 0; i < SOME; i++)
		close(timerfds[i]);
	return bench_took(t) * 1e9 / SOME;
}

static double
again_epoll(const void *arg)
{
	double t;
	int i;

	for (i = 0; i < SOME; i++)
		timerfds[i] = add_timerfd();
	t = bench_cpu();
	for (i = 0; i < SOME; i++)
		arm(timerfds[i]);
	t = bench_took(t);
	for (i = 0; i < SOME; i++)
		close(timerfds[i]);
	return t * 1e9 / SOME;
}

/* How many of MANY one-shot timers fire where descriptors are few. */
static int
fire_many(double *cpu)
{
	struct rlimit rl = { FEW_FILES, FEW_FILES };
	struct timespec patience = { 5, 0 };
	struct kevent evs[LIST];
	int fired = 0, i, n;
	double t;

	if (setrlimit(RLIMIT_NOFILE, &rl) == -1 || (kq = kqueue()) == -1)
		return -1;
	t = bench_cpu();
	for (i = 0; i < MANY; i++) {
		EV_SET(&evs[0], i, EVFILT_TIMER, EV_ADD | EV_ONESHOT,
		    NOTE_USECONDS, 1 + (int64_t)(any() % 200000), NULL);
		if (kevent(kq, evs, 1, NULL, 0, NULL) == -1)
			break;
	}
	while (fired < MANY) {
		n = kevent(kq, NULL, 0, evs, LIST, &patience);
		if (n <= 0)
			break;
		fired += n;
	}
	*cpu = bench_took(t);
	return fired;
}

/* In a child, since a lowered limit cannot be raised again. */
static void
many_under_few_files(void)
{
	struct {
		double cpu;
		int fired;
	} result = { NAN, -1 };
	int p[2];
	pid_t pid;

	if (pipe(p) == -1)
		err(1, "pipe");
	fflush(stdout);
	pid = fork();
	if (pid == -1)
		err(1, "fork");
	if (pid == 0) {
		/* What the other groups hold open is not to count. */
		if (dup2(p[1], STDERR_FILENO + 1) == -1 ||
		    close_range(STDERR_FILENO + 2, ~0U, 0) == -1)
			_exit(1);
		result.fired = fire_many(&result.cpu);
		_exit(write(STDERR_FILENO + 1, &result, sizeof(result)) == -1);
	}
	close(p[1]);
	if (read(p[0], &result, sizeof(result)) != sizeof(result))
		result.fired = -1;
	close(p[0]);
	waitpid(pid, NULL, 0);
	bench_value("100,000 under 256 descriptors", "missing", "",
	    result.fired < 0 ? NAN : MANY - result.fired, 0.5);
	bench_value("  add, fire and report one", "", "ns",
	    result.cpu * 1e9 / MANY, 0);
}

void
bench_timer(void)
{
	static const struct {
		const char *name;
		bench_fn *epoll, *kqueue;
	} rows[] = {
		{ "add beside 1,000,000", add_epoll, add_kqueue },
		{ "cancel one of them", cancel_epoll, cancel_kqueue },
		{ "give one a new time", again_epoll, again_kqueue },
	};
	static const int lists[] = { 1, LIST };
	struct bench_side sides[2] = {
		{ .name = "timerfd" },
		{ .max_value = 100 },
	};
	struct kevent ev;
	size_t i, l;

	many_under_few_files();
	kq = kqueue();
	ep = epoll_create1(EPOLL_CLOEXEC);
	for (i = 0; i < RESIDENT; i++) {
		EV_SET(&ev, i, EVFILT_TIMER, EV_ADD, 0, any_time(), NULL);
		if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
			err(1, "kevent");
	}
	for (i = 0; i < 3; i++)
		for (l = 0; l < 2; l++) {
			sides[0].run = rows[i].epoll;
			sides[1].run = rows[i].kqueue;
			sides[1].name =
			    lists[l] == 1 ? "1 a call" : "64 a call";
			bench_compare(rows[i].name, sides, 2, &lists[l], 40);
		}
	close(kq);
	close(ep);
}
