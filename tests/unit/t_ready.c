/*
 * The ready FIFO from the inside: what is in it comes out once and in order,
 * also when room must be made while it is being emptied.
 */
#include "kq.h"
#include "t_unit.h"

#define OBJECTS 64

/* -- the knotes that it names ---------------------------------------------- */

static struct object objects[OBJECTS];
static struct kqueue queue;

struct object *
object_at(struct kqueue *q, uint32_t index)
{
	(void)q;
	return index < OBJECTS ? &objects[index] : NULL;
}

struct fdnote *
descriptor_tagged(struct kqueue *q, int fd, uint32_t gen)
{
	(void)q;
	(void)fd;
	(void)gen;
	return NULL;
}

static void
setup(void)
{
	uint32_t i;

	ready_fini(&queue);
	for (i = 0; i < OBJECTS; i++)
		objects[i] = (struct object){ .o_index = i,
			.o_filter = EVFILT_USER,
			.o_knote.kn_status = KN_ATTACHED };
}

static void
push(uint32_t i, enum place place)
{
	ck_assert_int_eq(ready_push(&queue, &objects[i].o_knote, EVFILT_USER, i,
			     objects[i].o_gen, place),
	    0);
}

/* The knote goes, its entry stays behind. */
static void
leave(uint32_t i)
{
	objects[i].o_knote.kn_status = KN_ATTACHED;
	objects[i].o_gen++;
}

static void
pop(uint32_t mark, uint32_t expected)
{
	struct ready r;

	ck_assert_ptr_eq(ready_pop(&queue, mark, &r),
	    &objects[expected].o_knote);
	ck_assert_uint_eq(r.r_index, expected);
}

/* -- tests ----------------------------------------------------------------- */

START_TEST(in_order)
{
	struct ready r;
	uint32_t i;

	for (i = 0; i < OBJECTS; i++)
		push(i, PLACE_SPARE);
	for (i = 0; i < OBJECTS; i++)
		push(i, PLACE_SPARE); /* they stand there already */
	leave(3);
	ck_assert_uint_eq(ready_count(&queue), OBJECTS - 1);
	for (i = 0; i < OBJECTS; i++)
		if (i != 3)
			pop(queue.q_ready.f_tail, i);
	ck_assert_ptr_null(ready_pop(&queue, queue.q_ready.f_tail, &r));
	ck_assert(ready_empty(&queue));
}
END_TEST

/* What is pushed while it is emptied up to a mark comes the next time. */
START_TEST(up_to_the_mark)
{
	struct ready r;
	uint32_t mark;

	push(0, PLACE_SPARE);
	push(1, PLACE_SPARE);
	mark = queue.q_ready.f_tail;
	pop(mark, 0);
	push(0, PLACE_SPARE);
	pop(mark, 1);
	ck_assert_ptr_null(ready_pop(&queue, mark, &r));
	pop(queue.q_ready.f_tail, 0);
}
END_TEST

/*
 * Entries that count no more go when there is no room, and the end comes
 * before the mark: nothing is read beyond the end.
 */
START_TEST(room_is_made_meanwhile)
{
	struct ready r;
	uint32_t mark, i, found = 0;

	for (i = 0; i < 16; i++)
		push(i, PLACE_SPARE);
	for (i = 1; i < 16; i++)
		leave(i);
	mark = queue.q_ready.f_tail;
	pop(mark, 0);
	push(20, PLACE_SPARE);
	push(21, PLACE_SPARE);
	ck_assert_uint_lt(queue.q_ready.f_tail, mark);
	while (ready_pop(&queue, mark, &r) != NULL)
		ck_assert_uint_eq(r.r_index, 20 + found++);
	ck_assert_uint_eq(found, 2);
	ck_assert(ready_empty(&queue));
	push(22, PLACE_SPARE);
	pop(queue.q_ready.f_tail, 22);
}
END_TEST

/* A place that is reserved is there, however many others came meanwhile. */
START_TEST(a_reserved_place)
{
	uint32_t i;

	for (i = 0; i < 8; i++)
		ck_assert_int_eq(ready_reserve(&queue), 0);
	for (i = 8; i < 40; i++)
		push(i, PLACE_SPARE);
	ck_assert_uint_ge(queue.q_ready.f_size, 40);
	for (i = 0; i < 8; i++)
		push(i, PLACE_RESERVED);
	for (i = 0; i < 8; i++)
		ready_release(&queue);
	ck_assert_uint_eq(ready_count(&queue), 40);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("ready");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_add_test(tc, in_order);
	tcase_add_test(tc, up_to_the_mark);
	tcase_add_test(tc, room_is_made_meanwhile);
	tcase_add_test(tc, a_reserved_place);
	return unit_end();
}
