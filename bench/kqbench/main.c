/* main.c: the table, the options and the method; see bench.h. */
#include "bench.h"

#include <sys/types.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include <err.h>
#include <getopt.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_PIECES 400

struct row {
	const char *group, *name, *side, *unit;
	double value, raw;       /* ours, raw epoll's or NAN */
	double ratio, low, high; /* of quartiles; middle half of the pieces */
	double max_ratio, max_value;
};

static const struct {
	const char *name;
	const char *what;
	void (*run)(void);
} groups[] = {
	{ "loop", "wait, dispatch, read, answer", bench_loop },
	{ "change", "changes to what is watched", bench_change },
	{ "life", "a server connection from accept to close", bench_life },
	{ "timer", "timers", bench_timer },
	{ "memory", "memory", bench_memory },
};

#define NGROUPS (sizeof(groups) / sizeof(groups[0]))

static int quick; /* fewer pieces: a look, not a figure */
static int json, rows, met, missed;
static const char *group;
static double clock_cost;

static void usage(void) __attribute__((noreturn));
static void print_head(void);
static void print_row(const struct row *r);
static void print_json(const struct row *r);

static double
cpu(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

double
bench_cpu(void)
{
	return cpu();
}

double
bench_took(double since)
{
	return cpu() - since - clock_cost;
}

static void
measure_clock(void)
{
	double best = 1, t;
	int i;

	for (i = 0; i < 1000; i++) {
		t = cpu();
		t = cpu() - t;
		if (t < best)
			best = t;
	}
	clock_cost = best;
}

int
bench_nofile(void)
{
	struct rlimit rl;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "getrlimit");
	rl.rlim_cur = rl.rlim_max < 1048576 ? rl.rlim_max : 1048576;
	if (setrlimit(RLIMIT_NOFILE, &rl) == -1)
		err(1, "setrlimit");
	return (int)rl.rlim_cur;
}

void
bench_pair(int domain, int fds[2])
{
	static struct sockaddr_in sin;
	static int listener = -1;
	socklen_t len = sizeof(sin);
	int on = 1;

	if (domain == AF_UNIX) {
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) ==
		    -1)
			err(1, "socketpair");
		return;
	}
	if (listener == -1) {
		listener = socket(AF_INET, SOCK_STREAM, 0);
		sin.sin_family = AF_INET;
		sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		if (listener == -1 ||
		    bind(listener, (struct sockaddr *)&sin, len) == -1 ||
		    listen(listener, 128) == -1 ||
		    getsockname(listener, (struct sockaddr *)&sin, &len) == -1)
			err(1, "listen");
	}
	fds[1] = socket(AF_INET, SOCK_STREAM, 0);
	if (fds[1] == -1 ||
	    connect(fds[1], (struct sockaddr *)&sin, sizeof(sin)) == -1)
		err(1, "connect");
	fds[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	if (fds[0] == -1)
		err(1, "accept");
	setsockopt(fds[0], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fds[1], IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

static int
by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

/* Sorts v; q of 0.25 is the lower quartile. */
static double
quantile(double *v, int n, double q)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[(int)((double)(n - 1) * q)];
}

void
bench_compare(const char *name, const struct bench_side *sides, size_t nsides,
    const void *arg, int pieces)
{
	static double ns[BENCH_SIDES][MAX_PIECES], part[MAX_PIECES];
	struct row r = { .group = group, .name = name, .unit = "ns" };
	double typical[BENCH_SIDES];
	size_t s, turn;
	int p;

	if (quick)
		pieces = pieces / 8 > 5 ? pieces / 8 : 5;
	if (pieces > MAX_PIECES)
		pieces = MAX_PIECES;
	for (s = 0; s < nsides; s++)
		sides[s].run(arg); /* warm */
	for (p = 0; p < pieces; p++)
		for (s = 0; s < nsides; s++) {
			/* Whoever goes first changes from turn to turn. */
			turn = (s + (size_t)p) % nsides;
			ns[turn][p] = sides[turn].run(arg);
		}
	for (s = 0; s < nsides; s++) {
		memcpy(part, ns[s], sizeof(part));
		typical[s] = quantile(part, pieces, 0.25);
	}
	for (s = 1; s < nsides; s++) {
		for (p = 0; p < pieces; p++)
			part[p] = ns[s][p] / ns[0][p];
		r.side = sides[s].name;
		r.value = typical[s];
		r.raw = typical[0];
		r.ratio = typical[s] / typical[0];
		r.low = quantile(part, pieces, 0.25);
		r.high = quantile(part, pieces, 0.75);
		r.max_ratio = sides[s].max_ratio;
		r.max_value = sides[s].max_value;
		print_row(&r);
	}
}

void
bench_value(const char *name, const char *side, const char *unit, double value,
    double max_value)
{
	struct row r = { .group = group,
		.name = name,
		.side = side,
		.unit = unit,
		.value = value,
		.raw = NAN,
		.ratio = NAN,
		.low = NAN,
		.high = NAN,
		.max_value = max_value };

	print_row(&r);
}

/* "met", "not met", or "" where there is no target. */
static const char *
verdict(const struct row *r)
{
	if (r->max_ratio == 0 && r->max_value == 0)
		return "";
	/* Two decimals are what the table shows and what the noise allows. */
	if (r->max_ratio != 0 && !(round(r->ratio * 100) <= r->max_ratio * 100))
		return "not met";
	if (r->max_value != 0 && !(round(r->value) <= r->max_value))
		return "not met";
	return "met";
}

static void
print_head(void)
{
	struct utsname u;

	if (json) {
		printf("[");
		return;
	}
	if (uname(&u) == 0)
		printf("%s %s %s, %ld CPUs%s\n", u.sysname, u.release,
		    u.machine, sysconf(_SC_NPROCESSORS_ONLN),
		    quick ? ", quick: not for quoting" : "");
	printf("Figures: CPU of the calling thread, lower quartile.  Ratio to "
	       "raw epoll,\nin brackets the middle half of the pairs.\n");
}

static void
print_row(const struct row *r)
{
	const char *v = verdict(r);
	char target[32] = "", ratio[32] = "", raw[32] = "-", value[32];

	rows++;
	met += strcmp(v, "met") == 0;
	missed += strcmp(v, "not met") == 0;
	if (json) {
		print_json(r);
		return;
	}
	snprintf(value, sizeof(value), isnan(r->value) ? "-" : "%.0f %s",
	    r->value, r->unit);
	if (!isnan(r->raw))
		snprintf(raw, sizeof(raw), "%.0f", r->raw);
	if (!isnan(r->ratio))
		snprintf(ratio, sizeof(ratio), "%.2f [%.2f-%.2f]", r->ratio,
		    r->low, r->high);
	if (r->max_ratio != 0)
		snprintf(target, sizeof(target), "%.2f", r->max_ratio);
	else if (r->max_value != 0)
		snprintf(target, sizeof(target), "%.0f %s", r->max_value,
		    r->unit);
	printf("  %-31s %-9s %9s %6s  %-17s %7s %s\n", r->name, r->side, value,
	    raw, ratio, target, v);
	fflush(stdout);
}

static void
print_number(const char *key, double value)
{
	if (isnan(value))
		printf(", \"%s\": null", key);
	else
		printf(", \"%s\": %.6g", key, value);
}

static void
print_json(const struct row *r)
{
	const char *v = verdict(r);

	printf("%s\n{\"group\": \"%s\", \"name\": \"%s\", \"side\": \"%s\", "
	       "\"unit\": \"%s\"",
	    rows > 1 ? "," : "", r->group, r->name, r->side, r->unit);
	print_number("kquay", r->value);
	print_number("epoll", r->raw);
	print_number("ratio", r->ratio);
	print_number("ratio_low", r->low);
	print_number("ratio_high", r->high);
	print_number("target_ratio", r->max_ratio == 0 ? NAN : r->max_ratio);
	print_number("target", r->max_value == 0 ? NAN : r->max_value);
	printf(", \"met\": %s}",
	    *v == '\0'                ? "null" :
		strcmp(v, "met") == 0 ? "true" :
					"false");
	fflush(stdout);
}

static void
usage(void)
{
	size_t i;

	fprintf(stderr,
	    "usage: kqbench [--quick] [--json] [GROUP ...]\n\ngroups:\n");
	for (i = 0; i < NGROUPS; i++)
		fprintf(stderr, "  %-8s %s\n", groups[i].name, groups[i].what);
	exit(64);
}

static int
known(const char *name)
{
	size_t i;

	for (i = 0; i < NGROUPS; i++)
		if (strcmp(name, groups[i].name) == 0)
			return 1;
	return 0;
}

/* Nothing named is everything wanted. */
static int
wanted(const char *name, int argc, char *argv[])
{
	int i;

	for (i = 0; i < argc; i++)
		if (strcmp(name, argv[i]) == 0)
			return 1;
	return argc == 0;
}

int
main(int argc, char *argv[])
{
	static const struct option options[] = {
		{ "quick", no_argument, &quick, 1 },
		{ "json", no_argument, &json, 1 },
		{ NULL, 0, NULL, 0 },
	};
	size_t i;
	int ch;

	while ((ch = getopt_long(argc, argv, "", options, NULL)) != -1)
		if (ch != 0)
			usage();
	argc -= optind;
	argv += optind;
	for (ch = 0; ch < argc; ch++)
		if (!known(argv[ch]))
			usage();
	bench_nofile();
	measure_clock();
	print_head();
	for (i = 0; i < NGROUPS; i++) {
		if (!wanted(groups[i].name, argc, argv))
			continue;
		group = groups[i].name;
		if (!json)
			printf("\n%-33s %-9s %9s %6s  %-17s %7s\n",
			    groups[i].what, "", "kquay", "epoll", "ratio",
			    "target");
		groups[i].run();
	}
	if (json)
		printf("\n]\n");
	else
		printf("\n%d of %d targets met\n", met, met + missed);
	return 0;
}
