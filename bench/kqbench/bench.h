/*
 * kqbench: what kevent() costs beside raw epoll, in one process.
 *
 * A comparison has several sides that do the same work; side 0 is raw epoll.
 * Each side is run in turn, in short pieces, many times over, and each piece
 * is timed with the CPU clock of the thread: what else the machine does
 * meanwhile hits all sides alike and waiting is not counted.  The figure of a
 * side is the lower quartile of its pieces, and a ratio is one of quartiles.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stddef.h>

/* One piece of work: its CPU time in ns per operation, or NAN if impossible. */
typedef double bench_fn(const void *arg);

struct bench_side {
	const char *name; /* side 0: of the raw way */
	bench_fn *run;
	double max_ratio; /* target, to side 0; 0: none */
	double max_value; /* target, in the row's own unit; 0: none */
};

#define BENCH_SIDES 4

/* CPU seconds of this thread; less the clock's own cost: bench_took(). */
double bench_cpu(void);
double bench_took(double since);

/* Run and print one comparison of nsides (at most BENCH_SIDES) sides. */
void bench_compare(const char *name, const struct bench_side *sides,
    size_t nsides, const void *arg, int pieces);

/* Print one figure that has no other side; value NAN is not met. */
void bench_value(const char *name, const char *side, const char *unit,
    double value, double max_value);

/* A connected pair, [0] the server's end and non-blocking; exits on failure. */
void bench_pair(int domain, int fds[2]);

/* The soft limit of descriptors, raised to the hard one. */
int bench_nofile(void);

/* The groups of workloads, one file each. */
void bench_loop(void);
void bench_change(void);
void bench_life(void);
void bench_timer(void);
void bench_memory(void);

#endif
