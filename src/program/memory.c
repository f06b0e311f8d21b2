/*
 * How much memory the connections can take.
 *
 * What the library keeps is counted by its limits, not by what is usual: input
 * up to the longest line and one read more; output of a handler that answers
 * its own peer up to where that is no longer read from, and one answer more, or
 * else up to max-output.  What the kernel has for sockets and pipes is not
 * counted.
 */
#include <sys/types.h>

#include <stdint.h>
#include <stdlib.h>

#include "human.h"
#include "log.h"
#include "memory.h"
#include "session.h"

enum {
	SLOT = 256,                  /* all tables of the library, rounded up */
	INPUT = 8192,                /* unless max-line says otherwise */
	READ = 65536,                /* that is passed on later */
	OUTPUT = 2 * READ,           /* unless max-output says otherwise */
	TLS = 65536,                 /* OpenSSL's, at most */
	LOOP = 2 * READ + 32 * 1024, /* the loop's own buffers */
	SOURCE = 16                  /* of rate-sources */
};

/*
 * The most that all connections of a service take together: their slots in the
 * loops of that many workers, input that waits for its end, output that is
 * queued, TLS, and what the handler has of each.
 */
static uint64_t
of_service(const struct service_conf *conf, unsigned workers)
{
	const struct service_handler *h = conf->handler;
	uint64_t callers = conf->max_connections, slots = callers, each, all;
	unsigned loops = h->single ? 1 : workers;

	each = (conf->max_line != 0 ? conf->max_line : INPUT) + READ +
	    (conf->max_output != 0 ? conf->max_output : OUTPUT);
	if (conf->tls.certificates.count > 0)
		each += TLS;
	each += h->memory;
	if (h->max_dial != NULL)
		slots += h->max_dial(conf);
	/* One that is dialled is joined to a caller: no more than a read. */
	all = callers * each + (slots - callers) * 2 * READ;
	all += slots * loops * (SLOT + sizeof(struct session) + h->udatasz);
	all += (uint64_t)loops * LOOP;
	if (conf->rate.tokens != 0)
		all += (uint64_t)conf->rate_sources * SOURCE;
	return all;
}

void
memory_print(const struct program_conf *conf, FILE *out)
{
	const struct service_conf *service;
	char text[HUMAN_MAX];
	uint64_t all = 0, one;

	TAILQ_FOREACH(service, &conf->services, next) {
		one = of_service(service, conf->workers);
		all += one;
		fputs("# connections of ", out);
		setting_print_quoted(service->name, out);
		fprintf(out, ": at most %sB of memory\n",
		    human_size(text, one));
	}
	fprintf(out, "# all connections: at most %sB of memory\n",
	    human_size(text, all));
}

void
memory_log(const struct program_conf *conf)
{
	const struct service_conf *service;
	char text[HUMAN_MAX];
	uint64_t all = 0;

	TAILQ_FOREACH(service, &conf->services, next)
		all += of_service(service, conf->workers);
	log_line(LEVEL_INFO, "connections take at most %sB of memory",
	    human_size(text, all));
}
