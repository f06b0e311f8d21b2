/*
 * timers.h: deadlines in order, a 4-ary heap.
 *
 * The heap holds (deadline, index); whoever owns an entry is told where it
 * stands, so that it can be taken out or moved without a search.
 */
#ifndef KQ_TIMERS_H
#define KQ_TIMERS_H

#include <stdint.h>

#define TIMER_NOWHERE	UINT32_MAX

struct deadline {
	uint64_t	 d_at;		/* ns of the heap's clock */
	uint32_t	 d_index;	/* the owner's */
};

struct timers {
	struct deadline	*t_heap;
	uint32_t	 t_count, t_size;
	/* Told whenever the entry of an index moves to another place. */
	void		(*t_moved)(void *arg, uint32_t index, uint32_t place);
	void		*t_arg;
};

/* Room for one more, so that timers_insert() cannot fail; 0 or ENOMEM. */
int	timers_reserve(struct timers *);
void	timers_insert(struct timers *, uint64_t at, uint32_t index);
void	timers_remove(struct timers *, uint32_t place);
void	timers_fini(struct timers *);

#endif
