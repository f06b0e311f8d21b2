/*
 * The 4-ary heap of timers.h.
 *
 * A deadline stands in its entry, so that comparing follows no pointer.  Entry
 * n has its children at 4n + 1 to 4n + 4: four entries of 16 bytes, which fill
 * one cache line because the array starts 16 bytes before the end of one.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "huge.h"
#include "timers.h"

#define PER_LINE 4 /* entries, and children of one */
#define LEAD 3     /* unused entries before t_heap[0] */
#define MAX_HELD (1u << 28)

_Static_assert(sizeof(struct deadline) * PER_LINE == CACHE_LINE,
    "children fill a cache line");

static int grow_heap(struct timers *);
static int grow_slots(struct timers *, uint32_t);
static void tidy(struct timers *);
static void drop_first(struct timers *);
static void sift_up(struct timers *, uint32_t, struct deadline);
static void sift_down(struct timers *, uint32_t, struct deadline);

int
timers_hold(struct timers *t, uint32_t index)
{
	if (2 * (t->t_held + 1) > t->t_size && grow_heap(t) != 0)
		return ENOMEM;
	if (index >= t->t_indexes && grow_slots(t, index) != 0)
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
	struct timer_slot *s = &t->t_slots[index];
	struct deadline d = { .d_at = at, .d_index = index };

	t->t_count += s->s_at == TIMER_NEVER;
	s->s_at = at;
	if (s->s_entry <= at)
		return;
	if (t->t_entries == t->t_size)
		tidy(t);
	if (s->s_entry == at) /* tidy() has seen to it */
		return;
	s->s_entry = at;
	sift_up(t, t->t_entries++, d);
}

void
timers_unset(struct timers *t, uint32_t index)
{
	struct timer_slot *s = &t->t_slots[index];

	t->t_count -= s->s_at != TIMER_NEVER;
	s->s_at = TIMER_NEVER;
}

uint32_t
timers_pop(struct timers *t)
{
	uint32_t index = t->t_heap[0].d_index;

	timers_unset(t, index);
	t->t_slots[index].s_entry = TIMER_NEVER;
	drop_first(t);
	return index;
}

uint64_t
timers_settle(struct timers *t)
{
	struct timer_slot *s;
	struct deadline d;

	while (t->t_entries != 0) {
		d = t->t_heap[0];
		s = &t->t_slots[d.d_index];
		if (s->s_entry != d.d_at) {
			drop_first(t);
		} else if (s->s_at == d.d_at) {
			return d.d_at;
		} else {
			s->s_entry = d.d_at = s->s_at;
			if (d.d_at == TIMER_NEVER)
				drop_first(t);
			else
				sift_down(t, 0, d);
		}
	}
	return TIMER_NEVER;
}

void
timers_fini(struct timers *t)
{
	if (t->t_heap != NULL)
		free(t->t_heap - LEAD);
	free(t->t_slots);
	memset(t, 0, sizeof(*t));
}

static int
grow_heap(struct timers *t)
{
	struct deadline *heap;
	uint32_t size;

	if (t->t_held >= MAX_HELD)
		return ENOMEM;
	/* With the lead, a whole number of lines. */
	size = t->t_size == 0 ? 4 * PER_LINE - LEAD : 2 * t->t_size + LEAD;
	heap = huge_alloc(((size_t)size + LEAD) * sizeof(*heap));
	if (heap == NULL)
		return ENOMEM;
	heap += LEAD;
	if (t->t_heap != NULL) {
		memcpy(heap, t->t_heap, t->t_entries * sizeof(*heap));
		free(t->t_heap - LEAD);
	}
	t->t_heap = heap;
	t->t_size = size;
	return 0;
}

static int
grow_slots(struct timers *t, uint32_t index)
{
	struct timer_slot *slots;
	size_t size;

	size = t->t_indexes == 0 ? 16 : t->t_indexes;
	while (size <= index)
		size *= 2;
	if (size > UINT32_MAX)
		return ENOMEM;
	slots = huge_alloc(size * sizeof(*slots));
	if (slots == NULL)
		return ENOMEM;
	/* All bits set is TIMER_NEVER. */
	memset(slots + t->t_indexes, 0xff,
	    (size - t->t_indexes) * sizeof(*slots));
	if (t->t_slots != NULL)
		memcpy(slots, t->t_slots, t->t_indexes * sizeof(*slots));
	free(t->t_slots);
	t->t_slots = slots;
	t->t_indexes = (uint32_t)size;
	return 0;
}

/*
 * Leave one entry for each deadline that has one, and none else: s_entry is
 * NEVER from when the entry is kept until all have been looked at, so that no
 * second one like it is kept.
 */
static void
tidy(struct timers *t)
{
	struct timer_slot *s;
	uint32_t i, kept = 0;

	for (i = 0; i < t->t_entries; i++) {
		s = &t->t_slots[t->t_heap[i].d_index];
		if (s->s_entry != t->t_heap[i].d_at)
			continue;
		s->s_entry = TIMER_NEVER;
		if (s->s_at == TIMER_NEVER)
			continue;
		t->t_heap[kept].d_index = t->t_heap[i].d_index;
		t->t_heap[kept++].d_at = s->s_at;
	}
	t->t_entries = kept;
	for (i = 0; i < kept; i++)
		t->t_slots[t->t_heap[i].d_index].s_entry = t->t_heap[i].d_at;
	for (i = kept / PER_LINE + 1; i-- > 0;)
		if (i < kept)
			sift_down(t, i, t->t_heap[i]);
}

static void
drop_first(struct timers *t)
{
	if (--t->t_entries != 0)
		sift_down(t, 0, t->t_heap[t->t_entries]);
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
		t->t_heap[place] = t->t_heap[parent];
		place = parent;
	}
	t->t_heap[place] = d;
}

/*
 * Whichever of the four siblings wins, its children are next: ask for all
 * four lines at once.  Taking the first of 1,000,000 then costs a third.
 * Inline, because GCC drops calls of a function that does nothing but prefetch.
 */
static inline __attribute__((always_inline)) void
fetch_nephews(const struct timers *t, uint32_t sibling)
{
	uint32_t child = sibling * PER_LINE + 1;
	int i;

	for (i = 0; i < PER_LINE && child < t->t_entries; i++) {
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
		if (best >= t->t_entries)
			break;
		fetch_nephews(t, best);
		end = best + PER_LINE;
		if (end > t->t_entries)
			end = t->t_entries;
		for (child = best + 1; child < end; child++)
			if (t->t_heap[child].d_at < t->t_heap[best].d_at)
				best = child;
		if (t->t_heap[best].d_at >= d.d_at)
			break;
		t->t_heap[place] = t->t_heap[best];
		place = best;
	}
	t->t_heap[place] = d;
}
