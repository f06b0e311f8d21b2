/*
 * Balancing.  The lists hold only endpoints that may be used now; what is
 * kept from one choice to the next is an endpoint's current.
 *
 * round-robin is smooth: of weights 5, 1, 1 come a a b a c a a, not five in a
 * row.  Each choice adds to everybody its weight; the one that has most is
 * chosen, and pays what all got together.
 *
 * hash gives every endpoint a number for this source, and the best number
 * wins (rendezvous hashing).  So if an endpoint goes, its own sources are
 * spread over the others, and nobody else moves.  With the numbers -ln(u) / w,
 * u even between 0 and 1, the share of each is as its weight w (Mosharaf and
 * Wang, "Weighted distributed hash tables", have the proof).
 */
#include <sys/types.h>

#include <math.h>

#include "balance.h"
#include "hash.h"

static struct endpoint *round_robin(struct endpoint *);
static struct endpoint *least(struct endpoint *);
static struct endpoint *by_hash(struct endpoint *, uint64_t);

struct endpoint *
balance_choose(enum upstream_balance balance, struct endpoint *first,
    uint64_t source)
{
	if (first->also == NULL)
		return first;
	switch (balance) {
	case BALANCE_ROUND_ROBIN:
		return round_robin(first);
	case BALANCE_LEAST:
		return least(first);
	case BALANCE_HASH:
		return by_hash(first, source);
	case BALANCE_FIRST:
		break;
	}
	return first;
}

static struct endpoint *
round_robin(struct endpoint *first)
{
	struct endpoint *e, *best = first;
	int64_t all = 0;

	for (e = first; e != NULL; e = e->also) {
		e->current += e->weight;
		all += e->weight;
		if (e->current > best->current)
			best = e;
	}
	best->current -= all;
	return best;
}

/* Those that have the least for their weight take turns. */
static struct endpoint *
least(struct endpoint *first)
{
	struct endpoint *e, *next, *low = NULL, **end = &low;
	uint64_t mine, lowest;

	for (e = first; e != NULL; e = next) {
		next = e->also;
		if (low != NULL) {
			mine = (uint64_t)e->active * low->weight;
			lowest = (uint64_t)low->active * e->weight;
			if (mine > lowest)
				continue;
			if (mine < lowest)
				end = &low;
		}
		*end = e;
		end = &e->also;
	}
	*end = NULL;
	return round_robin(low);
}

static struct endpoint *
by_hash(struct endpoint *first, uint64_t source)
{
	struct endpoint *e, *best = NULL;
	double u, number, lowest = 0;

	for (e = first; e != NULL; e = e->also) {
		/* 53 bits of the hash, and never 0 nor 1. */
		u = ((double)(hash_mix(source ^ e->key) >> 11) + 0.5) * 0x1p-53;
		number = -log(u) / e->weight;
		if (best == NULL || number < lowest) {
			best = e;
			lowest = number;
		}
	}
	return best;
}
