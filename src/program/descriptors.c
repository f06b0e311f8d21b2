/*
 * The limit of descriptors.
 */
#include <sys/types.h>
#include <sys/resource.h>

#include <err.h>
#include <stdint.h>
#include <stdio.h>

#include "descriptors.h"

/* What is open besides: for the program, a service, an address of it. */
#define OF_PROGRAM 16
#define OF_SERVICE 8
#define OF_ADDRESS 4
#define OF_DESK 16 /* the control socket, the status page */

static uint64_t each(const struct service_conf *);
static void tell(uintmax_t, uintmax_t, uintmax_t, uintmax_t);

int
descriptors_raise(const struct program_conf *program)
{
	const struct service_conf *conf;
	const struct address *a;
	struct rlimit limit;
	uint64_t connections = 0, theirs = 0, others = OF_PROGRAM, n;

	if (*program->control != '\0')
		others += OF_DESK;
	if (*program->status != '\0')
		others += OF_DESK;
	TAILQ_FOREACH(conf, &program->services, next) {
		n = conf->max_connections;
		if (conf->handler->max_dial != NULL)
			n += conf->handler->max_dial(conf);
		connections += n;
		theirs += n * each(conf);
		others += OF_SERVICE;
		TAILQ_FOREACH(a, &conf->listen, next)
			others += OF_ADDRESS;
	}
	if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
		warn("RLIMIT_NOFILE");
		return -1;
	}
	if (limit.rlim_cur != limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		/* What matters is what it is then. */
		(void)setrlimit(RLIMIT_NOFILE, &limit);
		if (getrlimit(RLIMIT_NOFILE, &limit) == -1) {
			warn("RLIMIT_NOFILE");
			return -1;
		}
	}
	if (limit.rlim_cur == RLIM_INFINITY ||
	    theirs + others <= limit.rlim_cur)
		return 0;
	tell(connections, theirs, others, limit.rlim_cur);
	return -1;
}

/* How many descriptors a connection has. */
static uint64_t
each(const struct service_conf *conf)
{
	return 1 +
	    (conf->handler->descriptors != NULL ?
		    conf->handler->descriptors(conf) :
		    0);
}

static void
tell(uintmax_t connections, uintmax_t theirs, uintmax_t others, uintmax_t limit)
{
	char lower[64] = "";

	if (limit > others)
		snprintf(lower, sizeof(lower),
		    "lower max-connections to %ju "
		    "in all, or ",
		    connections * (limit - others) / theirs);
	warnx("%ju connections take %ju descriptors, and the limit is %ju: "
	      "%sraise the limit (ulimit -n %ju)",
	    connections, theirs + others, limit, lower, theirs + others);
}
