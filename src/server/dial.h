/*
 * What outgoing connections are made of: names become addresses (resolve.c;
 * the service may ask, too, by request.c), the addresses race (race.c), and the
 * winner is a connection (dial.c).
 */
#ifndef KQUAY_DIAL_H
#define KQUAY_DIAL_H

#include "server.h"

/* The families of addresses, in the order in which they are tried. */
enum family { FAMILY_6, FAMILY_4, FAMILIES };

/* -- names */

/* The addresses of a name in one family. */
struct answer {
	uint8_t known; /* 0: still being asked for */
	int err;       /* errno, if there are none */
	uint32_t ttl;  /* seconds for which it holds; UINT32_MAX: for ever */
	uint32_t n;
	union peer_addr *addrs; /* without a port */
};

/*
 * Somebody who waits for the addresses of a name.  fn is called once for each
 * family, with an answer that is valid until it returns; never again after
 * kquay_resolve_cancel().
 */
struct query {
	LIST_ENTRY(query) link;
	struct lookup *lookup; /* NULL: nothing is being asked for */
	void (*fn)(struct query *query, enum family family,
	    const struct answer *answer);
};

/*
 * Somebody whom the loop will call back, once: by deliver, which frees it, at
 * the end of a batch after kquay_errand_done(), with err 0, or ECANCELED when
 * the loop is freed.
 */
struct errand {
	STAILQ_ENTRY(errand) next; /* of those that are done */
	LIST_ENTRY(errand) link;   /* of all */
	void (*deliver)(struct kquay *q, struct errand *e, int err);
};

int kquay_errand_begin(struct kquay *q, struct errand *e);
void kquay_errand_undo(struct errand *e);
void kquay_errand_done(struct kquay *q, struct errand *e);

/* Who waits for a message with records; err, or the message. */
struct records {
	struct kquay *q;
	void (*fn)(struct records *records, int err,
	    const unsigned char *message, size_t len);
};

int kquay_resolve_records(struct kquay *q, const char *name, int type,
    struct records *records);
int kquay_answer_add(struct answer *answer, const struct sockaddr *sa);
int kquay_resolve_port(const char *port, in_port_t *number);
int kquay_resolve_numeric(const char *host, union peer_addr *addr);
int kquay_resolve_ask(struct kquay *q, const char *host, struct query *query);
void kquay_resolve_cancel(struct query *query);
int kquay_resolve_patience(struct kquay *q, int ms, int tries);

static inline enum family
family_of(const union peer_addr *addr)
{
	return addr->sa.sa_family == AF_INET6 ? FAMILY_6 : FAMILY_4;
}

static inline socklen_t
addr_len(const union peer_addr *addr)
{
	return addr->sa.sa_family == AF_INET6 ? sizeof(addr->in6) :
						sizeof(addr->in4);
}

static inline void
addr_set_port(union peer_addr *addr, in_port_t port)
{
	if (addr->sa.sa_family == AF_INET6)
		addr->in6.sin6_port = port;
	else
		addr->in4.sin_port = port;
}

/* -- the race */

enum {
	RACE_HOLD_MS = 50,   /* for IPv6, once IPv4 is known */
	RACE_APART_MS = 250, /* from one attempt to the next */
	RACE_MAX = 8         /* attempts under way */
};

enum race_step {
	RACE_TRY,  /* begin an attempt at *addr */
	RACE_WAIT, /* for an attempt, an answer, or race->due */
	RACE_LOST  /* nothing is left: race->err says why */
};

/* Times are ticks. */
struct race {
	struct runners {
		union peer_addr *addrs;
		uint32_t n, next; /* addrs[next] is the next to be tried */
		uint8_t known;
	} family[FAMILIES];
	uint8_t begun;      /* an attempt was made */
	uint8_t timed;      /* due is of use */
	uint8_t running;    /* attempts under way */
	enum family turn;   /* whose turn it is */
	int err;            /* the most telling errno so far */
	uint32_t not_until; /* no attempt before, unless it is free */
	uint32_t due;       /* when to look again, even if nothing happens */
};

void kquay_race_init(struct race *r);
void kquay_race_fini(struct race *r);
int kquay_race_answer(struct race *r, enum family family,
    const struct answer *answer, uint32_t now);
enum race_step kquay_race_step(struct race *r, uint32_t now,
    union peer_addr *addr);
void kquay_race_failed(struct race *r, int err, uint32_t now);
void kquay_race_given_up(struct race *r, int err);

#endif
