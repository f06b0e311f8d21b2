/*
 * timers.h: deadlines in order, a 4-ary heap.
 *
 * An entry is (deadline, index), where the index is its owner's: a small
 * number, unique in the heap, by which the entry is moved and taken out
 * without a search.  A place is held for each owner beforehand, so that
 * nothing fails later.  A struct of zeroes is an empty heap.
 */
#ifndef KQ_TIMERS_H
#define KQ_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMER_NOWHERE	UINT32_MAX
#define TIMER_NEVER	UINT64_MAX	/* later than any deadline */

struct deadline {
	_Alignas(8) uint64_t d_at;	/* ns of the heap's clock */
	uint32_t	 d_index;	/* the owner's */
};

struct timers {
	struct deadline	*t_heap;
	uint32_t	*t_place;	/* by index: in t_heap, or TIMER_NOWHERE */
	uint32_t	 t_count;	/* entries in t_heap */
	uint32_t	 t_held;	/* places promised; t_count <= t_held */
	uint32_t	 t_size;	/* room in t_heap; t_held <= t_size */
	uint32_t	 t_indexes;	/* room in t_place */
};

/*
 * Promise a place to an index that has none yet, so that timers_set() cannot
 * fail for it; 0 or ENOMEM, and then nothing has changed.  timers_release()
 * takes the promise back, and the entry out if there is one.
 */
int	timers_hold(struct timers *, uint32_t index);
void	timers_release(struct timers *, uint32_t index);

/* Enter an index that holds a place, or move its entry to another time. */
void	timers_set(struct timers *, uint64_t at, uint32_t index);

/* Take its entry out, if there is one; the place stays held. */
void	timers_unset(struct timers *, uint32_t index);

/* Give all memory back; the heap is empty afterwards and may be used again. */
void	timers_fini(struct timers *);

/* The earliest deadline, TIMER_NEVER if there is none. */
static inline uint64_t
timers_first(const struct timers *t)
{
	return t->t_count != 0 ? t->t_heap[0].d_at : TIMER_NEVER;
}

/* Its entry will be asked for soon: have the processor fetch where it is. */
static inline void
timers_fetch(const struct timers *t, uint32_t index)
{
	if (index < t->t_indexes)
		__builtin_prefetch(&t->t_place[index], 1);
}

static inline bool
timers_has(const struct timers *t, uint32_t index)
{
	return index < t->t_indexes && t->t_place[index] != TIMER_NOWHERE;
}

#endif
