/*
 * Rooms of a chat.  What was said is in two lists, of its room and of all, so
 * that the oldest line of either is at hand.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "room.h"

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define OTHERS "0123456789-_."

static int compare_rooms(const struct room *, const struct room *);
static int compare_members(const struct room_member *,
    const struct room_member *);
static void init_room(struct rooms *, struct room *, const char *);
static void step_out(struct rooms *, struct room_member *);
static void forget(struct rooms *, struct room_line *);

#define UNUSED __attribute__((__unused__)) static
RB_GENERATE_INTERNAL(room_tree, room, node, compare_rooms, UNUSED)
RB_GENERATE_INTERNAL(room_name_tree, room_member, named, compare_members,
    UNUSED)

static int
compare_rooms(const struct room *a, const struct room *b)
{
	return strcasecmp(a->name, b->name);
}

static int
compare_members(const struct room_member *a, const struct room_member *b)
{
	return strcasecmp(a->name, b->name);
}

void
rooms_init(struct rooms *rooms, uint32_t max_lines, size_t max_kept)
{
	memset(rooms, 0, sizeof(*rooms));
	RB_INIT(&rooms->tree);
	RB_INIT(&rooms->names);
	TAILQ_INIT(&rooms->lines);
	rooms->max_lines = max_lines;
	rooms->max_kept = max_kept;
	init_room(rooms, &rooms->lobby, ROOM_LOBBY);
}

void
rooms_fini(struct rooms *rooms)
{
	struct room_line *line;

	while ((line = TAILQ_FIRST(&rooms->lines)) != NULL)
		forget(rooms, line);
}

int
room_name_valid(const char *name)
{
	return strspn(name, LETTERS) > 0 &&
	    strspn(name, LETTERS OTHERS) == strlen(name) &&
	    strlen(name) <= ROOM_NAME_MAX;
}

int
room_enter(struct rooms *rooms, struct room_member *m, const char *name)
{
	struct room wanted, *room;

	strlcpy(wanted.name, name, sizeof(wanted.name));
	room = RB_FIND(room_tree, &rooms->tree, &wanted);
	if (room == NULL) {
		room = calloc(1, sizeof(*room));
		if (room == NULL)
			return -1;
		init_room(rooms, room, name);
	}
	/* First in, then out: the room may be the one where it is. */
	room->nmembers++;
	if (m->room != NULL)
		step_out(rooms, m);
	m->room = room;
	TAILQ_INSERT_TAIL(&room->members, m, next);
	return 0;
}

void
room_leave(struct rooms *rooms, struct room_member *m)
{
	step_out(rooms, m);
	if (*m->name != '\0')
		RB_REMOVE(room_name_tree, &rooms->names, m);
	*m->name = '\0';
	m->room = NULL;
}

int
room_rename(struct rooms *rooms, struct room_member *m, const char *name)
{
	struct room_member wanted, *other;

	strlcpy(wanted.name, name, sizeof(wanted.name));
	other = RB_FIND(room_name_tree, &rooms->names, &wanted);
	if (other != NULL && other != m)
		return -1;
	if (*m->name != '\0')
		RB_REMOVE(room_name_tree, &rooms->names, m);
	strlcpy(m->name, name, sizeof(m->name));
	RB_INSERT(room_name_tree, &rooms->names, m);
	return 0;
}

void
room_keep(struct rooms *rooms, struct room *room, const char *text, size_t len)
{
	struct room_line *line;
	size_t size = sizeof(*line) + len;

	if (rooms->max_lines == 0 || size > rooms->max_kept)
		return;
	if (room->nlines == rooms->max_lines)
		forget(rooms, TAILQ_FIRST(&room->lines));
	while (rooms->kept + size > rooms->max_kept)
		forget(rooms, TAILQ_FIRST(&rooms->lines));
	line = malloc(size);
	if (line == NULL)
		return;
	line->room = room;
	line->len = len;
	memcpy(line->text, text, len);
	TAILQ_INSERT_TAIL(&room->lines, line, next);
	TAILQ_INSERT_TAIL(&rooms->lines, line, all);
	room->nlines++;
	rooms->kept += size;
}

const struct room_line *
room_recall(const struct room *room, size_t size)
{
	const struct room_line *line, *oldest = NULL;

	TAILQ_FOREACH_REVERSE(line, &room->lines, room_line_list, next)
	{
		if (line->len > size)
			break;
		size -= line->len;
		oldest = line;
	}
	return oldest;
}

static void
init_room(struct rooms *rooms, struct room *room, const char *name)
{
	strlcpy(room->name, name, sizeof(room->name));
	TAILQ_INIT(&room->members);
	TAILQ_INIT(&room->lines);
	RB_INSERT(room_tree, &rooms->tree, room);
}

/* Out of the room, which goes if that was the last. */
static void
step_out(struct rooms *rooms, struct room_member *m)
{
	struct room *room = m->room;
	struct room_line *line;

	TAILQ_REMOVE(&room->members, m, next);
	if (--room->nmembers > 0 || room == &rooms->lobby)
		return;
	while ((line = TAILQ_FIRST(&room->lines)) != NULL)
		forget(rooms, line);
	RB_REMOVE(room_tree, &rooms->tree, room);
	free(room);
}

static void
forget(struct rooms *rooms, struct room_line *line)
{
	TAILQ_REMOVE(&line->room->lines, line, next);
	TAILQ_REMOVE(&rooms->lines, line, all);
	line->room->nlines--;
	rooms->kept -= sizeof(*line) + line->len;
	free(line);
}
