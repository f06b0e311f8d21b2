/*
 * What one loop of a service counts beside its struct kquay_stat: why callers
 * were turned away, and why connections have ended.  The loop's thread alone
 * touches it.
 */
#ifndef KQUAY_TALLY_H
#define KQUAY_TALLY_H

#include <stdint.h>

#include <kquay.h>

enum refusal {
	REFUSAL_FULL,        /* no slot is free: max-connections */
	REFUSAL_DESCRIPTORS, /* no descriptor is free */
	REFUSAL_SOURCE,      /* max-per-source */
	REFUSAL_ACCESS,      /* allow and deny; a certificate not believed */
	REFUSAL_RATE,        /* rate */
	REFUSAL_TIMEOUT,     /* PROXY header or TLS handshake not in time */
	REFUSAL_PROTOCOL,    /* a wrong one of these */
	REFUSAL_OTHER
};
#define NREFUSALS (REFUSAL_OTHER + 1)
#define NENDS (KQUAY_SHUTDOWN + 1)

struct tally {
	uint64_t refused[NREFUSALS];
	uint64_t ended[NENDS]; /* by enum kquay_why */
	uint32_t now, peak;    /* callers that are served, and at most */
};

/* The kind of refusal that errno stands for in a refused callback. */
enum refusal tally_refusal(int error);

/* Its name: "full", "descriptors", ... */
const char *tally_refusal_name(enum refusal refusal);

#endif
