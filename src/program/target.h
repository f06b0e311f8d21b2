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

#include "address.h"
#include "setting.h"
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
	    sni;    /* names, in lower case; none: for all other callers */
	char *text; /* as it was written */
	/* What host and port point into. */
	struct address_list address;
	char number[sizeof("65535")]; /* of a port that is a name */
	char *srv_name;
};

TAILQ_HEAD(target_list, target);

/*
 * A setting that is a struct target_list.  Names are not looked up, ports are.
 */
extern const struct setting_kind target_kind;

/*
 * How well a target serves callers for a server name, which is in lower case:
 * 0: not at all, else the more the higher.  One without sni serves the rest,
 * the least.  NULL: the caller has told no name.
 */
size_t target_serves(const struct target *target, const char *name);

#endif
