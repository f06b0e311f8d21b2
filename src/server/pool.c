/*
 * The connection table: a slot of one cache line each, allocated once, and
 * beside it tables of what not every connection has.
 *
 * The memory comes from calloc(3), so what was never written costs no page.
 * The slot freed last is taken first, while it is in the cache.  A slot's id
 * is its number and the generation, which goes up when the slot is given
 * back: an id names one connection for ever, and looking it up touches the
 * slot alone.
 *
 * The table has maxconn slots and maxdial; any may become either's, as only
 * their numbers are limited.
 *
 * With maxperaddr the connections of each peer address are counted by a hash
 * table of chains through the slots.  Its seed is random, so that callers
 * cannot choose addresses that fall into one chain.
 */
#include "server.h"

#include <stdlib.h>
#include <string.h>

#define GENERATION ((uint64_t)1 << 24)

static int init_addresses(struct kquay *q, size_t n);
static uint32_t *chain_of(struct kquay *q, const struct sockaddr *sa);
static int same_address(const struct sockaddr *a, const struct sockaddr *b);
static void uncount(struct kquay_conn *c);

int
kquay_pool_init(struct kquay *q)
{
	size_t n = (size_t)q->conf.maxconn + q->conf.maxdial + 1;

	q->udata_stride = ((size_t)q->conf.udatasz + 15) / 16 * 16;
	/* A slot is one cache line only if it begins on one. */
	q->slots_mem = calloc(n + 1, sizeof(*q->slots));
	q->joints = calloc(n, sizeof(*q->joints));
	q->more = calloc(n, sizeof(*q->more));
	q->wheel.prev = calloc(n, sizeof(*q->wheel.prev));
	q->live = calloc(n / 64 + 1, sizeof(*q->live));
	if (q->slots_mem == NULL || q->joints == NULL || q->more == NULL ||
	    q->wheel.prev == NULL || q->live == NULL)
		return -1;
	q->slots = (void *)((char *)q->slots_mem +
	    (sizeof(*q->slots) - (uintptr_t)q->slots_mem % sizeof(*q->slots)));
	q->slots[0].loop = q;
	if (q->conf.flags & KQUAY_TRAFFIC) {
		q->traffic = calloc(n, sizeof(*q->traffic));
		if (q->traffic == NULL)
			return -1;
	}
	if (q->udata_stride != 0) {
		q->udata = calloc(n, q->udata_stride);
		if (q->udata == NULL)
			return -1;
	}
	return q->conf.maxperaddr == 0 ? 0 : init_addresses(q, n);
}

/* The table of peer addresses, for n slots. */
static int
init_addresses(struct kquay *q, size_t n)
{
	size_t buckets = 16;

	while (buckets < n)
		buckets *= 2;
	q->addrs = calloc(buckets, sizeof(*q->addrs));
	q->addr_next = calloc(n, sizeof(*q->addr_next));
	q->addrs_mask = (uint32_t)buckets - 1;
	arc4random_buf(q->addrs_seed, sizeof(q->addrs_seed));
	return q->addrs == NULL || q->addr_next == NULL ? -1 : 0;
}

void
kquay_pool_fini(struct kquay *q)
{
	free(q->slots_mem);
	free(q->joints);
	free(q->more);
	free(q->traffic);
	free(q->wheel.prev);
	free(q->udata);
	free(q->live);
	free(q->addrs);
	free(q->addr_next);
}

/* Whether a slot of this kind is one of maxdial's. */
static inline int
is_beside(const struct kquay *q, unsigned kind)
{
	return q->conf.maxdial != 0 && (kind & C_CLIENT);
}

/*
 * A slot, zeroed but for its id and its flags, which are kind: C_CLIENT or 0.
 * NULL if there are as many as may be.
 */
struct kquay_conn *
kquay_pool_take(struct kquay *q, unsigned kind)
{
	int beside = is_beside(q, kind);
	struct kquay_conn *c;
	uint32_t slot = q->free;
	uint64_t id;

	if (beside ? q->ndials == q->conf.maxdial :
		     kquay_pool_callers(q) == q->conf.maxconn)
		return NULL;
	if (q->team != NULL) {
		if (beside ? kquay_team_take(q, 1) == -1 :
			     !kquay_pool_reserve(q))
			return NULL;
		if (!beside)
			q->reserved = 0;
		kquay_team_load(q, 1);
	}
	if (slot != 0) {
		c = kquay_pool_at(q, slot);
		q->free = c->next;
		id = c->id;
		memset(c, 0, sizeof(*c));
		if (q->udata != NULL)
			memset(q->udata + slot * q->udata_stride, 0,
			    q->udata_stride);
		if (q->traffic != NULL)
			q->traffic[slot] = (struct traffic){ 0 };
	} else {
		slot = ++q->used;
		c = kquay_pool_at(q, slot);
		id = GENERATION | slot;
	}
	c->id = id;
	c->flags = kind;
	q->live[slot / 64] |= (uint64_t)1 << (slot % 64);
	q->nconn++;
	q->ndials += kind != 0;
	if (q->nconn > q->stat.peak)
		q->stat.peak = q->nconn;
	return c;
}

/* c has ended: kquay_pool_next() must not find it any more. */
void
kquay_pool_ended(struct kquay_conn *c)
{
	uint32_t slot = kquay_pool_link(c);

	kquay_pool_loop(c)->live[slot / 64] &= ~((uint64_t)1 << (slot % 64));
}

/* Give a slot back. */
void
kquay_pool_give(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t slot = kquay_pool_link(c);

	if (c->flags & C_COUNTED)
		uncount(c);
	kquay_pool_ended(c);
	c->state = CONN_FREE;
	c->id += GENERATION;
	c->next = q->free;
	q->free = slot;
	q->nconn--;
	q->ndials -= (c->flags & C_CLIENT) != 0;
	if (q->team != NULL) {
		kquay_team_load(q, -1);
		kquay_team_give(q, is_beside(q, c->flags));
	}
}

/* Make sure of a slot for the next caller.  0 if there is none. */
int
kquay_pool_reserve(struct kquay *q)
{
	if (q->team == NULL)
		return !kquay_pool_full(q);
	if (!q->reserved)
		q->reserved = kquay_team_take(q, 0) == 0;
	return q->reserved;
}

void
kquay_pool_unreserve(struct kquay *q)
{
	if (q->reserved) {
		q->reserved = 0;
		kquay_team_give(q, 0);
	}
}

/* The connection with this udata, if it has not ended. */
struct kquay_conn *
kquay_pool_tagged(struct kquay *q, uintptr_t tag)
{
	uint32_t slot = (uint32_t)(tag & 0xffffff);
	struct kquay_conn *c;

	if (slot == 0 || slot > q->used)
		return NULL;
	c = kquay_pool_at(q, slot);
	if ((uintptr_t)c->id != tag || c->state == CONN_FREE ||
	    c->state == CONN_DEAD)
		return NULL;
	return c;
}

struct kquay_conn *
kquay_find(struct kquay *q, uint64_t id)
{
	struct kquay_conn *c;

	c = kquay_pool_tagged(q, (uintptr_t)id);
	return c != NULL && c->id == id ? c : NULL;
}

/* Those before open() are not shown. */
struct kquay_conn *
kquay_next(struct kquay *q, const struct kquay_conn *c)
{
	struct kquay_conn *next;

	do
		c = next = kquay_pool_next(q, c);
	while (c != NULL && (c->state == CONN_DIAL || c->state == CONN_SHAKE));
	return next;
}

/* As kquay_next(), of all that have not ended. */
struct kquay_conn *
kquay_pool_next(struct kquay *q, const struct kquay_conn *c)
{
	uint32_t slot = c == NULL ? 1 : kquay_pool_link(c) + 1;
	uint32_t word = slot / 64, last = q->used / 64;
	uint64_t map;

	if (word > last)
		return NULL;
	map = q->live[word] & (~(uint64_t)0 << (slot % 64));
	while (map == 0) {
		if (word == last)
			return NULL;
		map = q->live[++word];
	}
	return kquay_pool_at(q, word * 64 + (uint32_t)__builtin_ctzll(map));
}

void *
kquay_udata(struct kquay_conn *c)
{
	const struct kquay *q = kquay_pool_loop(c);

	return q->udata == NULL ?
	    NULL :
	    q->udata + kquay_pool_link(c) * q->udata_stride;
}

void
kquay_traffic(const struct kquay_conn *c, uint64_t *in, uint64_t *out)
{
	const struct traffic *table = kquay_pool_loop(c)->traffic;

	*in = table != NULL ? table[kquay_pool_link(c)].in : 0;
	*out = table != NULL ? table[kquay_pool_link(c)].out : 0;
}

struct kquay *
kquay_of(const struct kquay_conn *c)
{
	return kquay_pool_loop(c);
}

int
kquay_dialled(const struct kquay_conn *c)
{
	return (c->flags & C_CLIENT) != 0;
}

uint64_t
kquay_id(const struct kquay_conn *c)
{
	return c->id;
}

/* Whether this address has as many connections as it may, of the loop's. */
int
kquay_pool_crowded(struct kquay *q, const struct sockaddr *sa)
{
	const struct kquay_conn *o;
	uint32_t *chain, link, n = 0;

	if (q->addrs == NULL || q->team != NULL ||
	    (chain = chain_of(q, sa)) == NULL)
		return 0;
	for (link = *chain; link != 0; link = q->addr_next[link]) {
		o = kquay_pool_at(q, link);
		if (same_address(&o->peer.sa, sa) && ++n >= q->conf.maxperaddr)
			return 1;
	}
	return 0;
}

/*
 * Count c, whose peer is known, until it is given back.  -1 if all loops of
 * its team have max of that address already.
 */
int
kquay_pool_count(struct kquay_conn *c, uint32_t max)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t *chain;

	if (q->addrs == NULL || (chain = chain_of(q, &c->peer.sa)) == NULL)
		return 0;
	if (q->team != NULL) {
		if (kquay_team_count(q, &c->peer.sa, max) == -1)
			return -1;
		c->flags |= C_COUNTED;
		return 0;
	}
	q->addr_next[kquay_pool_link(c)] = *chain;
	*chain = kquay_pool_link(c);
	c->flags |= C_COUNTED;
	return 0;
}

static void
uncount(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t *link;

	c->flags &= ~C_COUNTED;
	if (q->team != NULL) {
		kquay_team_uncount(q, &c->peer.sa);
		return;
	}
	link = chain_of(q, &c->peer.sa);
	while (*link != kquay_pool_link(c))
		link = &q->addr_next[*link];
	*link = q->addr_next[*link];
}

static uint32_t *
chain_of(struct kquay *q, const struct sockaddr *sa)
{
	uint64_t key[2], h;

	if (!kquay_pool_address(sa, key))
		return NULL;
	h = (key[0] ^ q->addrs_seed[0]) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 32 ^ key[1] ^ q->addrs_seed[1]) * 0xd6e8feb86659fd93u;
	return &q->addrs[(h >> 32) & q->addrs_mask];
}

static int
same_address(const struct sockaddr *a, const struct sockaddr *b)
{
	uint64_t ka[2], kb[2];

	return a->sa_family == b->sa_family && kquay_pool_address(a, ka) &&
	    kquay_pool_address(b, kb) && ka[0] == kb[0] && ka[1] == kb[1];
}

/* An IP address as two numbers; 0 if it is something else. */
int
kquay_pool_address(const struct sockaddr *sa, uint64_t key[2])
{
	key[0] = key[1] = 0;
	switch (sa->sa_family) {
	case AF_INET:
		memcpy(key,
		    &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
		    sizeof(struct in_addr));
		return 1;
	case AF_INET6:
		memcpy(key,
		    &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr,
		    sizeof(struct in6_addr));
		return 1;
	default:
		return 0;
	}
}
