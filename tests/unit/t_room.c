/*
 * Rooms: random comings and goings against a simple model, and what becomes of
 * them where there is no memory.
 */
#include <sys/types.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "t_unit.h"

/* Every allocation of room.c; `fails' of them from now on. */
static int fails;

static void *
maybe_malloc(size_t size)
{
	return fails > 0 && fails-- > 0 ? NULL : malloc(size);
}

static void *
maybe_calloc(size_t n, size_t size)
{
	return fails > 0 && fails-- > 0 ? NULL : calloc(n, size);
}

#define malloc maybe_malloc
#define calloc maybe_calloc
#include "room.c"
#undef malloc
#undef calloc

enum { MEMBERS = 20, NAMES = 12, ROUNDS = 50000, LINES = 5, KEPT = 2000 };

static struct rooms rooms;
static struct room_member members[MEMBERS];

static const char *const names[NAMES] = { "a", "b", "B", "c", "lobby", "Lobby",
	"long-name.of_room", "d", "e", "f", "g", "h" };

static void
setup(void)
{
	fails = 0;
	memset(members, 0, sizeof(members));
	rooms_init(&rooms, LINES, KEPT);
}

static void
teardown(void)
{
	int i;

	fails = 0;
	for (i = 0; i < MEMBERS; i++)
		if (members[i].room != NULL)
			room_leave(&rooms, &members[i]);
	ck_assert_uint_eq(rooms.lobby.nmembers, 0);
	rooms_fini(&rooms);
	ck_assert_uint_eq(rooms.kept, 0);
	ck_assert(RB_EMPTY(&rooms.names));
	/* All others have gone with their last member. */
	ck_assert_ptr_eq(RB_ROOT(&rooms.tree), &rooms.lobby);
}

static uint32_t
members_of(const struct room *room)
{
	uint32_t n = 0;
	int i;

	for (i = 0; i < MEMBERS; i++)
		n += members[i].room == room;
	return n;
}

/* Do the lists say the same as the members, and keep to the limits? */
static void
check_all(void)
{
	const struct room_member *m;
	const struct room_line *line;
	struct room *room;
	size_t kept = 0, nlines = 0;
	uint32_t n;
	int i, j;

	RB_FOREACH(room, room_tree, &rooms.tree) {
		n = 0;
		TAILQ_FOREACH(m, &room->members, next) {
			ck_assert_ptr_eq(m->room, room);
			n++;
		}
		ck_assert_uint_eq(n, room->nmembers);
		ck_assert_uint_eq(n, members_of(room));
		ck_assert(n > 0 || room == &rooms.lobby);
		n = 0;
		TAILQ_FOREACH(line, &room->lines, next) {
			ck_assert_ptr_eq(line->room, room);
			n++;
		}
		ck_assert_uint_eq(n, room->nlines);
		ck_assert_uint_le(n, LINES);
		nlines += n;
	}
	TAILQ_FOREACH(line, &rooms.lines, all) {
		kept += sizeof(*line) + line->len;
		nlines--;
	}
	ck_assert_uint_eq(nlines, 0);
	ck_assert_uint_eq(kept, rooms.kept);
	ck_assert_uint_le(kept, KEPT);
	for (i = 0; i < MEMBERS; i++)
		for (j = 0; j < i; j++)
			ck_assert(*members[i].name == '\0' ||
			    strcasecmp(members[i].name, members[j].name) != 0);
}

static int
is_taken(const struct room_member *me, const char *name)
{
	int i;

	for (i = 0; i < MEMBERS; i++)
		if (&members[i] != me && strcasecmp(members[i].name, name) == 0)
			return 1;
	return 0;
}

/* One of them does something, with or without memory. */
static void
one_step(void)
{
	struct room_member *m = &members[random() % MEMBERS];
	const char *name = names[random() % NAMES];
	struct room *before = m->room;
	static char text[KEPT];
	int rc, taken;

	fails = random() % 4 == 0;
	switch (before == NULL ? 0 : random() % 8) {
	case 0:
		rc = room_enter(&rooms, m, name);
		if (rc == -1)
			ck_assert_ptr_eq(m->room, before);
		else
			ck_assert(strcasecmp(m->room->name, name) == 0);
		break;
	case 1:
		room_leave(&rooms, m);
		ck_assert_ptr_null(m->room);
		break;
	case 2:
	case 3:
		taken = is_taken(m, name);
		rc = room_rename(&rooms, m, name);
		ck_assert_int_eq(rc, taken ? -1 : 0);
		ck_assert(taken || strcmp(m->name, name) == 0);
		break;
	default:
		room_keep(&rooms, m->room, text,
		    (size_t)random() % (random() % 50 == 0 ? KEPT : 200));
		break;
	}
	fails = 0;
}

START_TEST(anything_at_all)
{
	int i;

	srandom(1);
	for (i = 0; i < ROUNDS; i++) {
		one_step();
		if (i < 2000 || i % 100 == 0)
			check_all();
	}
	check_all();
}
END_TEST

START_TEST(without_memory_one_stays)
{
	ck_assert_int_eq(room_enter(&rooms, &members[0], ROOM_LOBBY), 0);
	fails = 1;
	ck_assert_int_eq(room_enter(&rooms, &members[0], "a"), -1);
	ck_assert_ptr_eq(members[0].room, &rooms.lobby);
	fails = 1;
	room_keep(&rooms, &rooms.lobby, "x", 1);
	ck_assert_uint_eq(rooms.lobby.nlines, 0);
	check_all();
}
END_TEST

/* The newest that have place are shown, the oldest of them first. */
START_TEST(recall)
{
	const struct room_line *line;
	char text[2];
	int i;

	ck_assert_ptr_null(room_recall(&rooms.lobby, 1000));
	for (i = 0; i < 2 * LINES; i++) {
		snprintf(text, sizeof(text), "%d", i);
		room_keep(&rooms, &rooms.lobby, text, 1);
	}
	for (i = 1; i <= LINES; i++) {
		line = room_recall(&rooms.lobby, (size_t)i);
		ck_assert_int_eq(line->text[0], '0' + 2 * LINES - i);
	}
	line = room_recall(&rooms.lobby, 1000);
	ck_assert_int_eq(line->text[0], '0' + LINES);
	ck_assert_ptr_null(room_recall(&rooms.lobby, 0));
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("room");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, anything_at_all);
	tcase_add_test(tc, without_memory_one_stays);
	tcase_add_test(tc, recall);
	return unit_end();
}
