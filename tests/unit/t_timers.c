/*
 * The heap of timers against a model: an array of the deadlines by index, in
 * which the earliest is found by looking at all of them.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "t_unit.h"
#include "timers.h"

#define OWNERS 300

/* -- allocations that fail ------------------------------------------------- */

static int allocations, fail_at;

static int
fails(void)
{
	return ++allocations == fail_at;
}

void *__real_aligned_alloc(size_t alignment, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *
__wrap_aligned_alloc(size_t alignment, size_t size)
{
	return fails() ? NULL : __real_aligned_alloc(alignment, size);
}

void *
__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

/* -- the model ------------------------------------------------------------- */

static struct timers heap;
static uint64_t model[OWNERS]; /* TIMER_NEVER: not in the heap */
static uint64_t seed;

static uint64_t
draw(uint64_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed % below;
}

static void
setup(void)
{
	uint32_t i;

	allocations = fail_at = 0;
	seed = 88172645463325252u;
	for (i = 0; i < OWNERS; i++)
		model[i] = TIMER_NEVER;
}

static void
teardown(void)
{
	timers_fini(&heap);
}

static uint64_t
model_first(void)
{
	uint64_t first = TIMER_NEVER;
	int i;

	for (i = 0; i < OWNERS; i++)
		if (model[i] < first)
			first = model[i];
	return first;
}

/* The entry that stands for a slot is in the heap. */
static bool
has_entry(uint64_t at, uint32_t index)
{
	uint32_t i;

	for (i = 0; i < heap.t_entries; i++)
		if (heap.t_heap[i].d_at == at &&
		    heap.t_heap[i].d_index == index)
			return true;
	return false;
}

/*
 * Every deadline has an entry that is not later, no entry is before its parent,
 * and there is room for an entry of each owner even if none is of any use.
 */
static void
check_shape(void)
{
	const struct timer_slot *s;
	uint32_t i, count = 0;

	for (i = 0; i < OWNERS && i < heap.t_indexes; i++) {
		s = &heap.t_slots[i];
		if (s->s_at != model[i] || s->s_entry > model[i] ||
		    timers_has(&heap, i) != (model[i] != TIMER_NEVER) ||
		    (s->s_entry != TIMER_NEVER && !has_entry(s->s_entry, i)))
			ck_abort_msg("the slot of %u is wrong", i);
		count += model[i] != TIMER_NEVER;
	}
	ck_assert_uint_eq(count, heap.t_count);
	for (i = 1; i < heap.t_entries; i++)
		if (heap.t_heap[(i - 1) / 4].d_at > heap.t_heap[i].d_at)
			ck_abort_msg("entry %u is before its parent", i);
	ck_assert_uint_le(heap.t_entries, heap.t_size);
	ck_assert_uint_le(2 * heap.t_held, heap.t_size);
	ck_assert_uint_eq(timers_first(&heap), model_first());
}

static void
hold_all(void)
{
	uint32_t i;

	for (i = 0; i < OWNERS; i++)
		ck_assert_int_eq(timers_hold(&heap, i), 0);
}

static void
set(uint32_t index, uint64_t at)
{
	timers_set(&heap, at, index);
	model[index] = at;
}

static void
unset(uint32_t index)
{
	timers_unset(&heap, index);
	model[index] = TIMER_NEVER;
}

/* -- tests ----------------------------------------------------------------- */

START_TEST(empty_heap_has_no_deadline)
{
	ck_assert_uint_eq(timers_first(&heap), TIMER_NEVER);
	ck_assert_int_eq(timers_hold(&heap, 0), 0);
	ck_assert_uint_eq(timers_first(&heap), TIMER_NEVER);
	ck_assert(!timers_has(&heap, 0));
	timers_unset(&heap, 0);
	ck_assert_uint_eq(heap.t_count, 0);
	ck_assert_uint_eq(heap.t_entries, 0);
}
END_TEST

START_TEST(random_operations_agree_with_the_model)
{
	uint32_t i, n;
	/* Few different deadlines in the odd rounds: many are equal. */
	uint64_t range = _i % 2 ? 20 : 1000000;

	hold_all();
	for (n = 0; n < 20000; n++) {
		i = (uint32_t)draw(OWNERS);
		if (draw(3) == 0)
			unset(i);
		else
			set(i, draw(range));
		if (n % 64 == 0)
			check_shape();
	}
	check_shape();
}
END_TEST

START_TEST(entries_leave_in_order)
{
	uint64_t last = 0;
	uint32_t i;

	hold_all();
	for (i = 0; i < OWNERS; i++)
		set(i, draw(5000));
	while (heap.t_count != 0) {
		ck_assert_uint_ge(timers_first(&heap), last);
		last = timers_first(&heap);
		i = timers_pop(&heap);
		ck_assert_uint_eq(model[i], last);
		model[i] = TIMER_NEVER;
		check_shape();
	}
	ck_assert_uint_eq(heap.t_entries, 0);
}
END_TEST

/* What was put off or taken back costs no entry, and leaves no room taken. */
START_TEST(a_change_for_later_leaves_the_heap_alone)
{
	uint32_t i, n;

	hold_all();
	for (i = 0; i < OWNERS; i++)
		set(i, 1000 + i);
	for (n = 0; n < 100; n++)
		for (i = 0; i < OWNERS; i++) {
			unset(i);
			set(i, 2000 + n + draw(500));
			ck_assert_uint_eq(heap.t_entries, OWNERS);
		}
	check_shape();
	ck_assert_uint_eq(heap.t_entries, OWNERS);
}
END_TEST

/* Each change for earlier makes an entry, and the old ones have to go. */
START_TEST(a_change_for_earlier_is_found_room_for)
{
	uint32_t i, n, size;

	hold_all();
	size = heap.t_size;
	for (n = 1000; n > 0; n--) {
		for (i = 0; i < OWNERS; i++)
			set(i, n * 1000 + draw(1000));
		ck_assert_uint_eq(heap.t_size, size);
		ck_assert_uint_eq(timers_first(&heap), model_first());
	}
	check_shape();
	for (i = 0; i < OWNERS; i++)
		unset(i);
	check_shape();
	ck_assert_uint_eq(heap.t_entries, 0);
}
END_TEST

START_TEST(extreme_deadlines_keep_their_order)
{
	hold_all();
	set(1, TIMER_NEVER - 1);
	set(2, 0);
	set(3, (uint64_t)INT64_MAX);
	set(4, (uint64_t)INT64_MAX + 1);
	check_shape();
	unset(2);
	ck_assert_uint_eq(timers_first(&heap), (uint64_t)INT64_MAX);
	unset(3);
	ck_assert_uint_eq(timers_first(&heap), (uint64_t)INT64_MAX + 1);
	unset(4);
	ck_assert_uint_eq(timers_first(&heap), TIMER_NEVER - 1);
}
END_TEST

START_TEST(release_takes_the_entry_out_and_gives_the_place_back)
{
	uint32_t i, size;

	hold_all();
	size = heap.t_size;
	for (i = 0; i < OWNERS; i++)
		set(i, draw(5000));
	for (i = 0; i < OWNERS; i += 2) {
		timers_release(&heap, i);
		model[i] = TIMER_NEVER;
	}
	check_shape();
	ck_assert_uint_eq(heap.t_held, OWNERS / 2);
	for (i = 0; i < OWNERS; i += 2)
		ck_assert_int_eq(timers_hold(&heap, i), 0);
	ck_assert_uint_eq(heap.t_size, size);
}
END_TEST

START_TEST(indexes_need_not_be_dense)
{
	ck_assert_int_eq(timers_hold(&heap, 100000), 0);
	ck_assert_int_eq(timers_hold(&heap, 7), 0);
	timers_set(&heap, 5, 100000);
	timers_set(&heap, 3, 7);
	ck_assert_uint_eq(timers_first(&heap), 3);
	timers_release(&heap, 7);
	ck_assert_uint_eq(timers_first(&heap), 5);
	ck_assert(!timers_has(&heap, 99999));
}
END_TEST

START_TEST(siblings_share_a_cache_line)
{
	hold_all();
	ck_assert_uint_eq((uintptr_t)&heap.t_heap[1] % 64, 0);
}
END_TEST

/* However often memory runs out, what was in the heap stays, and in order. */
START_TEST(a_failed_allocation_changes_nothing)
{
	uint32_t i, refused = 0;
	int nth, error;

	for (i = 0; i < OWNERS; i++) {
		for (nth = 1;; nth++) {
			allocations = 0;
			fail_at = nth;
			error = timers_hold(&heap, i);
			if (error == 0)
				break;
			ck_assert_int_eq(error, ENOMEM);
			ck_assert_uint_eq(heap.t_held, i);
			check_shape();
			refused++;
		}
		fail_at = 0;
		set(i, draw(5000));
		check_shape();
	}
	ck_assert_uint_gt(refused, 8);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("timers");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, empty_heap_has_no_deadline);
	tcase_add_loop_test(tc, random_operations_agree_with_the_model, 0, 2);
	tcase_add_test(tc, entries_leave_in_order);
	tcase_add_test(tc, a_change_for_later_leaves_the_heap_alone);
	tcase_add_test(tc, a_change_for_earlier_is_found_room_for);
	tcase_add_test(tc, extreme_deadlines_keep_their_order);
	tcase_add_test(tc,
	    release_takes_the_entry_out_and_gives_the_place_back);
	tcase_add_test(tc, indexes_need_not_be_dense);
	tcase_add_test(tc, siblings_share_a_cache_line);
	tcase_add_test(tc, a_failed_allocation_changes_nothing);
	return unit_end();
}
