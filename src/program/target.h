/*
 * Targets: where a relay connects to, as one writes them:
 *
 *	ADDRESS [weight=N] [max=N] [backup] [tls] [sni=NAME[,NAME]] [srv]
 *
 * ADDRESS is HOST:PORT, [V6]:PORT or unix:PATH; with srv it is the name of SRV
 * records (RFC 2782), _SERVICE._tcp.NAME.  A NAME of sni may be *.NAME, any
 * name that ends so.
 */
#ifndef KQUAY_TARGET_H
#define KQUAY_TARGET_H

#include <sys/types.h>
#include <sys/queue.h>

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "words.h"

#define TARGET_WEIGHT_MAX 1000
#define TARGET_MAX_MAX 10000000

struct target {
	TAILQ_ENTRY(target) next;
	const char *host; /* name or number; of SRV the name; UNIX: the path */
	const char *port; /* NULL: UNIX, or of SRV records */
	uint32_t weight;
	uint32_t max; /* connections to each address of it; 0: no own limit */
	int backup;   /* only when no other is up */
	int tls;
	int srv;
	struct words
	    sni;     /* names, in lower case; none: for all other callers */
	char *text;  /* as it was written */
	char *parts; /* what host and port point into */
};

TAILQ_HEAD(target_list, target);

/*
 * Parse text and append it.  Returns 0; or -1 with the reason in why and the
 * list as it was.  Names are not looked up here, ports are.
 */
int target_list_add(struct target_list *list, const char *text, char *why,
    size_t whysz);

/* Write the list as the configuration file has it: {"a", "b"}. */
void target_list_print(const struct target_list *list, FILE *out);

void target_list_free(struct target_list *list);

/*
 * How well a target serves callers for a server name, which is in lower case:
 * 0: not at all, else the more the higher.  One without sni serves the rest,
 * the least.  NULL: the caller has told no name.
 */
size_t target_serves(const struct target *target, const char *name);

#endif
