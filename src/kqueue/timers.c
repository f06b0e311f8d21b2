/*
 * The 4-ary heap of timers.h.
 *
 * A deadline stands in its entry, so that comparing follows no pointer, and
 * the places of the owners lie together in an array of their own.  Entry n has
 * its children at 4n + 1 to 4n + 4: four entries of 16 bytes, which fill one
 * cache line because the array starts 16 bytes before the end of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "timers.h"

#define LINE 64    /* bytes of a cache line */
#define PER_LINE 4 /* entries, and children of one */
#define LEAD 3     /* unused entries before t_heap[0] */
#define MAX_HELD (1u << 28)

_Static_assert(sizeof(struct deadline) * PER_LINE == LINE,
    "children fill a cache line");

static int grow_heap(struct timers *);
static int grow_places(struct timers *, uint32_t);
static void sift_up(struct timers *, uint32_t, struct deadline);
static void sift_down(struct timers *, uint32_t, struct deadline);

int
timers_hold(struct timers *t, uint32_t index)
{
	if (t->t_held == t->t_size && grow_heap(t) != 0)
		return ENOMEM;
	if (index >= t->t_indexes && grow_places(t, index) != 0)
		return ENOMEM;
	t->t_held++;
	return 0;
}

void
timers_release(struct timers *t, uint32_t index)
{
	timers_unset(t, index);
	t->t_held--;
}

void
timers_set(struct timers *t, uint64_t at, uint32_t index)
{
	struct deadline d = { .d_at = at, .d_index = index };
	uint32_t place = t->t_place[index];

	if (place == TIMER_NOWHERE)
		sift_up(t, t->t_count++, d);
	else if (at < t->t_heap[place].d_at)
		sift_up(t, place, d);
	else
		sift_down(t, place, d);
}

void
timers_unset(struct timers *t, uint32_t index)
{
	uint32_t place = t->t_place[index];
	struct deadline last;

	if (place == TIMER_NOWHERE)
		return;
	t->t_place[index] = TIMER_NOWHERE;
	last = t->t_heap[--t->t_count];
	if (place == t->t_count)
		return;
	if (last.d_at < t->t_heap[place].d_at)
		sift_up(t, place, last);
	else
		sift_down(t, place, last);
}

void
timers_fini(struct timers *t)
{
	if (t->t_heap != NULL)
		free(t->t_heap - LEAD);
	free(t->t_place);
	memset(t, 0, sizeof(*t));
}

static int
grow_heap(struct timers *t)
{
	struct deadline *heap;
	uint32_t size;

	if (t->t_size >= MAX_HELD)
		return ENOMEM;
	/* With the lead, a whole number of lines. */
	size = t->t_size == 0 ? 4 * PER_LINE - LEAD : 2 * t->t_size + LEAD;
	heap = aligned_alloc(LINE, ((size_t)size + LEAD) * sizeof(*heap));
	if (heap == NULL)
		return ENOMEM;
	heap += LEAD;
	if (t->t_heap != NULL) {
		memcpy(heap, t->t_heap, t->t_count * sizeof(*heap));
		free(t->t_heap - LEAD);
	}
	t->t_heap = heap;
	t->t_size = size;
	return 0;
}

static int
grow_places(struct timers *t, uint32_t index)
{
	uint32_t *places;
	size_t size;

	size = t->t_indexes == 0 ? 16 : t->t_indexes;
	while (size <= index)
		size *= 2;
	if (size > UINT32_MAX)
		return ENOMEM;
	places = realloc(t->t_place, size * sizeof(*places));
	if (places == NULL)
		return ENOMEM;
	/* All bits set is TIMER_NOWHERE. */
	memset(places + t->t_indexes, 0xff,
	    (size - t->t_indexes) * sizeof(*places));
	t->t_place = places;
	t->t_indexes = (uint32_t)size;
	return 0;
}

static void
put(struct timers *t, uint32_t place, struct deadline d)
{
	t->t_heap[place] = d;
	t->t_place[d.d_index] = place;
}

/* The place is free: let d sink in from it towards the root. */
static void
sift_up(struct timers *t, uint32_t place, struct deadline d)
{
	uint32_t parent;

	while (place > 0) {
		parent = (place - 1) / PER_LINE;
		if (t->t_heap[parent].d_at <= d.d_at)
			break;
		put(t, place, t->t_heap[parent]);
		place = parent;
	}
	put(t, place, d);
}

/*
 * Whichever of the four siblings wins, its children are next: ask for all
 * four lines at once.  Taking the first of 1,000,000 then costs a third.
 * Inline, because GCC drops calls of a function that does nothing but prefetch.
 */
static inline __attribute__((always_inline)) void
fetch_ahead(const struct timers *t, uint32_t sibling)
{
	uint32_t child = sibling * PER_LINE + 1;
	int i;

	for (i = 0; i < PER_LINE && child < t->t_count; i++) {
		__builtin_prefetch(&t->t_heap[child]);
		child += PER_LINE;
	}
}

/* The place is free: let d sink from it towards the leaves. */
static void
sift_down(struct timers *t, uint32_t place, struct deadline d)
{
	uint32_t child, end, best;

	for (;;) {
		best = place * PER_LINE + 1;
		if (best >= t->t_count)
			break;
		fetch_ahead(t, best);
		end = best + PER_LINE;
		if (end > t->t_count)
			end = t->t_count;
		for (child = best + 1; child < end; child++)
			if (t->t_heap[child].d_at < t->t_heap[best].d_at)
				best = child;
		if (t->t_heap[best].d_at >= d.d_at)
			break;
		put(t, place, t->t_heap[best]);
		place = best;
	}
	put(t, place, d);
}
