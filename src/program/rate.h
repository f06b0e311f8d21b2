/*
 * How often one source may call: the setting rate, `10/s burst 20'.
 *
 * Each source has a bucket of `burst' tokens, which fills with 10 a second; a
 * caller takes one.  A source is an IPv4 address, an IPv6 network
 * (rate-v6-prefix), the user at the other end of a UNIX socket, or together
 * all of whom nothing is known.
 *
 * Who finds no token is refused; or else is delayed until its token is there:
 * the token is taken in advance, and the caller keeps its slot in the
 * meantime.  At most `burst' callers of a source wait like that, the last of
 * them as long as an empty bucket takes to fill; more are refused.
 *
 * The buckets are a table of fixed size (rate-sources), which all workers
 * share.  A bucket that is full is like none, and its place is free.  When
 * all places that a new source can have are taken by others, it takes over
 * the fullest bucket there, as it is: so however many sources there are, no
 * place lets through more than the rate, and nobody gets a full bucket for
 * having pushed another one out.  Which sources share places is decided by a
 * hash with a random key (SipHash-2-4), so nobody can choose them.
 */
#ifndef KQUAY_RATE_H
#define KQUAY_RATE_H

#include <sys/types.h>
#include <sys/socket.h>

#include <stdint.h>

#include "setting.h"

/* The member of the setting rate; all zeros: no limit. */
struct rate_limit {
	uint32_t tokens; /* so many ... */
	uint32_t per_ms; /* ... in that time */
	uint32_t burst;
};

enum when_rate { RATE_REFUSE, RATE_DELAY };

/* Of a struct rate_limit. */
extern const struct setting_kind rate_kind;

struct rate_conf {
	struct rate_limit limit;
	uint32_t v6_prefix; /* bits of an IPv6 address that are a source */
	uint32_t sources;   /* buckets; rounded up to a power of two */
	int when;           /* enum when_rate */
};

struct rate;

/* NULL with errno set. */
struct rate *rate_new(const struct rate_conf *conf);

/*
 * The same table for one more user, if it is as conf wants it; or else NULL.
 * So who has no token left gets none by a reload.
 */
struct rate *rate_share(struct rate *rate, const struct rate_conf *conf);

/* Each user frees it. */
void rate_free(struct rate *rate);

/*
 * Take a token for a caller, at a time of a clock that does not go back.  uid
 * is that of a UNIX peer, -1 if it is not known.  Returns 0: it may go on; or
 * in how many milliseconds, its token being taken (RATE_DELAY); or -1: it is
 * to be refused.  Any thread may call this.
 */
int rate_take(struct rate *rate, const struct sockaddr *sa, uid_t uid,
    int64_t now_ms);

#endif
