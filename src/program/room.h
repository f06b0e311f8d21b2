/*
 * Rooms of a chat: who is in which, under what name, and what was said there.
 * Nothing here knows of connections.
 *
 *	enter --> member of the lobby --> enter another, as often as it likes
 *	                                    |
 *	          (gone) <-- room_leave <---+
 *
 * Invariants:
 *  1. A member is in exactly one room.
 *  2. A room other than the lobby exists as long as somebody is in it; what
 *     was said there goes with it.
 *  3. No two members have the same name, whatever the case of its letters.
 *  4. What is kept of all rooms takes at most max_kept bytes: the oldest line
 *     of all makes place for the newest.
 */
#ifndef KQUAY_ROOM_H
#define KQUAY_ROOM_H

#include <sys/types.h>
#include <sys/queue.h>
#include <sys/tree.h>

#include <stddef.h>
#include <stdint.h>

/* The longest name of a room or a member. */
enum { ROOM_NAME_MAX = 24 };

#define ROOM_LOBBY "lobby"

/* Somebody; the memory is the caller's, zeroed before room_enter(). */
struct room_member {
	TAILQ_ENTRY(room_member) next; /* of the room */
	RB_ENTRY(room_member) named;   /* if it has a name */
	struct room *room;
	char name[ROOM_NAME_MAX + 1]; /* "": none */
};

/* What was said. */
struct room_line {
	TAILQ_ENTRY(room_line) next; /* of the room */
	TAILQ_ENTRY(room_line) all;  /* of all rooms */
	struct room *room;
	size_t len;
	char text[];
};

TAILQ_HEAD(room_line_list, room_line);
TAILQ_HEAD(room_member_list, room_member);
RB_HEAD(room_name_tree, room_member);
RB_HEAD(room_tree, room);

struct room {
	RB_ENTRY(room) node;
	char name[ROOM_NAME_MAX + 1];
	struct room_member_list members;
	uint32_t nmembers;
	struct room_line_list lines; /* the oldest first */
	uint32_t nlines;
};

struct rooms {
	struct room lobby;
	struct room_tree tree; /* with the lobby */
	struct room_name_tree names;
	struct room_line_list lines; /* of all rooms, the oldest first */
	uint32_t max_lines;          /* kept of each room */
	size_t kept, max_kept;       /* bytes, with what a line takes itself */
};

void rooms_init(struct rooms *rooms, uint32_t max_lines, size_t max_kept);

/* All members must have left. */
void rooms_fini(struct rooms *rooms);

/* Letters, digits, - _ . of ASCII, the first a letter, and not too many. */
int room_name_valid(const char *name);

/*
 * Go from the room where m is, if it is in one, to the one of this valid name,
 * which is made if need be.  0; or -1 without memory, and m is where it was.
 */
int room_enter(struct rooms *rooms, struct room_member *m, const char *name);

/* Leave for good; the name is free again. */
void room_leave(struct rooms *rooms, struct room_member *m);

/* Have this valid name.  0, or -1 if somebody else has it. */
int room_rename(struct rooms *rooms, struct room_member *m, const char *name);

/* Keep what was said, as far as the limits let; without memory it is not. */
void room_keep(struct rooms *rooms, struct room *room, const char *text,
    size_t len);

/*
 * The oldest of the lines that are to be shown to somebody with place for
 * size bytes; NULL if there are none.
 */
const struct room_line *room_recall(const struct room *room, size_t size);

#endif
