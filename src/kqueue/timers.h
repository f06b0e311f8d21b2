/*
 * timers.h: deadlines in order, a 4-ary heap that is behind the times.
 *
 * An owner is an index, a small number.  What deadline it has stands in its
 * slot, and that alone counts; an entry of the heap is a reason to look at a
 * slot, not later than its deadline.  To take a deadline back or to put it off,
 * which is what becomes of most timers, is therefore one write to the slot:
 *
 *	slot		heap			when it is the first entry
 *	----		----			--------------------------
 *	at = entry	(entry, index)		it is the first deadline
 *	at > entry	(entry, index)		it sinks to where at belongs
 *	NEVER, entry	(entry, index)		it goes
 *			one that is not `entry'	it goes: an earlier one came
 *
 * Before there are twice as many entries as owners, all that say nothing go at
 * once.  So each step costs O(log n) in the long run, and a change mostly one
 * cache miss.  A struct of zeroes is an empty heap.
 */
#ifndef KQ_TIMERS_H
#define KQ_TIMERS_H

#include <stdbool.h>
#include <stdint.h>

#define TIMER_NEVER	UINT64_MAX	/* later than any deadline */

struct deadline {
	_Alignas(8) uint64_t d_at;	/* ns of the heap's clock */
	uint32_t	 d_index;	/* the owner's */
};

struct timer_slot {
	uint64_t	 s_at;		/* its deadline, or TIMER_NEVER */
	uint64_t	 s_entry;	/* d_at of its entry, or TIMER_NEVER */
};

struct timers {
	struct deadline	*t_heap;
	struct timer_slot *t_slots;	/* by index */
	uint32_t	 t_entries;	/* in t_heap */
	uint32_t	 t_count;	/* deadlines; t_count <= t_held */
	uint32_t	 t_held;	/* owners */
	uint32_t	 t_size;	/* room in t_heap; 2 * t_held <= t_size */
	uint32_t	 t_indexes;	/* room in t_slots */
};

/*
 * Make an index an owner, so that timers_set() cannot fail for it; 0 or ENOMEM,
 * and then nothing has changed.  timers_release() takes that back, and its
 * deadline if it has one.
 */
int	timers_hold(struct timers *, uint32_t index);
void	timers_release(struct timers *, uint32_t index);

/* Give an owner a deadline, or another one. */
void	timers_set(struct timers *, uint64_t at, uint32_t index);

/* Take its deadline back, if it has one; it is an owner still. */
void	timers_unset(struct timers *, uint32_t index);

/* The owner of the earliest deadline, which is taken back. */
uint32_t timers_pop(struct timers *);

/* Give all memory back; the heap is empty afterwards and may be used again. */
void	timers_fini(struct timers *);

/* Bring the heap up to the times as far as its first entry is concerned. */
uint64_t timers_settle(struct timers *);

/* The earliest deadline, TIMER_NEVER if there is none. */
static inline uint64_t
timers_first(struct timers *t)
{
	const struct deadline *d = t->t_heap;
	const struct timer_slot *s;

	if (t->t_entries == 0)
		return TIMER_NEVER;
	s = &t->t_slots[d->d_index];
	return s->s_at == d->d_at && s->s_entry == d->d_at ? d->d_at :
	    timers_settle(t);
}

/* It will be asked for soon: have the processor fetch its slot. */
static inline void
timers_fetch(const struct timers *t, uint32_t index)
{
	if (index < t->t_indexes)
		__builtin_prefetch(&t->t_slots[index], 1);
}

static inline bool
timers_has(const struct timers *t, uint32_t index)
{
	return index < t->t_indexes && t->t_slots[index].s_at != TIMER_NEVER;
}

#endif
