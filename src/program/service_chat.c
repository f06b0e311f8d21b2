/*
 * chat: greets, and passes each line of one on to everyone else in the same
 * room, on any listener of the service, as "WHO: line".  WHO is the peer until
 * it has taken a name.
 *
 * A line that begins with a slash is a command; what answers it, and what the
 * room is told about others, begins with "* ".  Who uses no command sees the
 * others' lines and nothing else.
 *
 * What one may cost the others is bounded: a line by max-line, what waits for
 * one by max-output, what is kept by max-history, and how much one says by
 * max-rate: over that it is not read from until it is time.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <kquay.h>

#include "rate.h"
#include "room.h"
#include "running.h"
#include "service.h"
#include "session.h"
#include "utf8.h"

enum {
	LABEL_MAX = 128,             /* who somebody is */
	PREFIX_MAX = LABEL_MAX + 32, /* what a line grows by */
	WIDTH = 72                   /* of what /who says */
};

struct chat_conf {
	struct service_conf base;
	char *welcome;
	uint32_t history;
	uint32_t max_history;
	struct rate_limit max_rate;
};

struct chat {
	const struct chat_conf *conf;
	struct rooms rooms;
	char *buffer; /* for the longest line with its prefix */
};

struct chatter {
	struct room_member member; /* the first: a room's members are these */
	struct kquay_conn *c;
	int64_t credit;  /* for lines, of per_ms each */
	int64_t counted; /* when that was so, in ms */
	int waiting;     /* for credit: it is paused, and has a timer */
};

struct chat_command {
	const char *name;
	const char *arg; /* NULL: it takes none */
	void (*run)(struct chat *chat, struct chatter *me, const char *arg);
	const char *help;
};

#define OFFSET(member) offsetof(struct chat_conf, member)

static void command(struct chat *, struct chatter *, char *);
static void say(struct chat *, struct chatter *, const char *, size_t);
static void tell(const struct chatter *, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void tell_others(const struct room *, const struct chatter *,
    const char *, ...) __attribute__((__format__(__printf__, 3, 4)));
static void show_history(const struct chat *, const struct chatter *);
static size_t place_for(const struct chat *, const struct chatter *);
static const char *label(const struct chatter *, char *);
static void tame(char *, size_t);
static int64_t now_ms(void);
static int64_t full_credit(const struct rate_limit *);
static void count_line(const struct rate_limit *, struct chatter *);
static kquay_watch_fn go_on;

/* -- a connection ---------------------------------------------------------- */

static struct chat *
chat_of(struct kquay_conn *c)
{
	return service_of(kquay_of(c))->state;
}

static int
chat_open(struct kquay_conn *c)
{
	struct chat *chat = chat_of(c);
	struct chatter *me = session_data(c);

	me->c = c;
	me->credit = full_credit(&chat->conf->max_rate);
	me->counted = now_ms();
	if (room_enter(&chat->rooms, &me->member, ROOM_LOBBY) == -1)
		return -1;
	if (*chat->conf->welcome != '\0' &&
	    kquay_printf(c, "%s\n", chat->conf->welcome) == -1)
		return -1;
	show_history(chat, me);
	return 0;
}

static void
chat_line(struct kquay_conn *c, char *text, size_t len)
{
	struct chat *chat = chat_of(c);
	struct chatter *me = session_data(c);

	tame(text, len);
	if (text[0] != '/')
		say(chat, me, text, len);
	else if (text[1] == '/')
		say(chat, me, text + 1, len - 1);
	else
		command(chat, me, text + 1);
	count_line(&chat->conf->max_rate, me);
}

static void
chat_close(struct kquay_conn *c, enum kquay_why why)
{
	struct chat *chat = chat_of(c);
	struct chatter *me = session_data(c);
	char name[LABEL_MAX];
	struct kevent ev;

	if (me->member.room == NULL)
		return;
	if (me->waiting) {
		EV_SET(&ev, (uintptr_t)me, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
		(void)kquay_watch(kquay_of(c), &ev, NULL, NULL);
	}
	/* When the service ends, all of them go. */
	if (why != KQUAY_SHUTDOWN && me->member.room != &chat->rooms.lobby)
		tell_others(me->member.room, me, "%s has left",
		    label(me, name));
	room_leave(&chat->rooms, &me->member);
}

/* -- commands -------------------------------------------------------------- */

static int
check_name(const struct chatter *me, const char *name)
{
	if (room_name_valid(name))
		return 0;
	tell(me,
	    "a name is 1 to %d letters, digits, '-', '_' and '.', and begins "
	    "with a letter",
	    ROOM_NAME_MAX);
	return -1;
}

static void
run_nick(struct chat *chat, struct chatter *me, const char *name)
{
	char before[LABEL_MAX];

	if (check_name(me, name) == -1)
		return;
	label(me, before);
	if (room_rename(&chat->rooms, &me->member, name) == -1) {
		tell(me, "%s is taken", name);
		return;
	}
	tell(me, "you are %s", name);
	tell_others(me->member.room, me, "%s is now %s", before, name);
}

static void
run_join(struct chat *chat, struct chatter *me, const char *name)
{
	struct room *before = me->member.room;
	char who[LABEL_MAX];
	int told;

	if (check_name(me, name) == -1)
		return;
	if (strcasecmp(name, before->name) == 0) {
		tell(me, "you are in %s", before->name);
		return;
	}
	/* A room ends with the last who is in it. */
	told = before != &chat->rooms.lobby && before->nmembers > 1;
	if (room_enter(&chat->rooms, &me->member, name) == -1) {
		tell(me, "there is no memory for a room");
		return;
	}
	label(me, who);
	if (told)
		tell_others(before, me, "%s has left", who);
	tell(me, "you are in %s", me->member.room->name);
	if (me->member.room != &chat->rooms.lobby)
		tell_others(me->member.room, me, "%s has come", who);
	show_history(chat, me);
}

static void
run_who(struct chat *chat, struct chatter *me, const char *unused)
{
	const struct room *room = me->member.room;
	const struct room_member *m;
	uint32_t left = room->nmembers;
	size_t place = place_for(chat, me), column = 0, len;
	char name[LABEL_MAX];

	TAILQ_FOREACH(m, &room->members, next) {
		len = strlen(label((const struct chatter *)m, name)) + 1;
		if (column > 0 && column + len > WIDTH) {
			kquay_puts(me->c, "\n");
			column = 0;
		}
		if (place < len + WIDTH)
			break;
		if (column == 0) {
			kquay_printf(me->c, "* in %s:", room->name);
			column = strlen("* in :") + strlen(room->name);
			place -= column + 1;
		}
		kquay_printf(me->c, " %s", name);
		column += len;
		place -= len;
		left--;
	}
	if (column > 0)
		kquay_puts(me->c, "\n");
	if (left > 0)
		tell(me, "and %u more", (unsigned)left);
}

static void
run_quit(struct chat *chat, struct chatter *me, const char *unused)
{
	kquay_close(me->c);
}

static void run_help(struct chat *, struct chatter *, const char *);

static const struct chat_command commands[] = {
	{ "nick", "NAME", run_nick, "be called NAME" },
	{ "join", "ROOM", run_join, "go to ROOM, which is made if need be" },
	{ "who", NULL, run_who, "see who is in this room" },
	{ "quit", NULL, run_quit, "leave" },
	{ "help", NULL, run_help, "see this" },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static void
run_help(struct chat *chat, struct chatter *me, const char *unused)
{
	size_t i;

	for (i = 0; i < NCOMMANDS; i++)
		tell(me, "/%s%s%s: %s", commands[i].name,
		    commands[i].arg != NULL ? " " : "",
		    commands[i].arg != NULL ? commands[i].arg : "",
		    commands[i].help);
	tell(me, "//...: say what begins with a slash");
}

/* text is what follows the slash. */
static void
command(struct chat *chat, struct chatter *me, char *text)
{
	const struct chat_command *cmd;
	char *name, *arg;

	arg = text;
	name = strsep(&arg, " \t");
	if (arg == NULL)
		arg = name + strlen(name);
	arg += strspn(arg, " \t");
	arg[strcspn(arg, " \t")] = '\0';
	for (cmd = commands; cmd < commands + NCOMMANDS; cmd++) {
		if (strcmp(name, cmd->name) != 0)
			continue;
		if (cmd->arg != NULL && *arg == '\0')
			tell(me, "/%s %s: %s", cmd->name, cmd->arg, cmd->help);
		else
			cmd->run(chat, me, arg);
		return;
	}
	tell(me, "no such command; /help lists them");
}

/* -- talk ------------------------------------------------------------------ */

/*
 * Who cannot be written to is ended by that, once this callback has returned.
 */
static void
pass_on(const struct room *room, const struct chatter *me, const char *text,
    size_t len)
{
	const struct room_member *m;

	TAILQ_FOREACH(m, &room->members, next)
		if (m != &me->member)
			kquay_write(((const struct chatter *)m)->c, text, len);
}

static void
say(struct chat *chat, struct chatter *me, const char *text, size_t len)
{
	char name[LABEL_MAX];
	int prefix;

	prefix = snprintf(chat->buffer, PREFIX_MAX, "%s: ", label(me, name));
	memcpy(chat->buffer + prefix, text, len);
	len += (size_t)prefix;
	chat->buffer[len++] = '\n';
	pass_on(me->member.room, me, chat->buffer, len);
	room_keep(&chat->rooms, me->member.room, chat->buffer, len);
}

static void
tell(const struct chatter *me, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	if (kquay_puts(me->c, "* ") == 0 &&
	    kquay_vprintf(me->c, format, ap) == 0)
		kquay_puts(me->c, "\n");
	va_end(ap);
}

static void
tell_others(const struct room *room, const struct chatter *me,
    const char *format, ...)
{
	char text[2 * LABEL_MAX + 32] = "* ";
	va_list ap;

	va_start(ap, format);
	vsnprintf(text + 2, sizeof(text) - 3, format, ap);
	va_end(ap);
	strlcat(text, "\n", sizeof(text));
	pass_on(room, me, text, strlen(text));
}

static void
show_history(const struct chat *chat, const struct chatter *me)
{
	const struct room_line *line;

	line = room_recall(me->member.room, place_for(chat, me));
	for (; line != NULL; line = TAILQ_NEXT(line, next))
		kquay_write(me->c, line->text, line->len);
}

/* So much may be queued at once, and leave as much again for what follows. */
static size_t
place_for(const struct chat *chat, const struct chatter *me)
{
	size_t place = chat->conf->base.max_output / 2;
	size_t pending = kquay_pending(me->c);

	return pending < place ? place - pending : 0;
}

/* Fill in name, of LABEL_MAX bytes, and return it. */
static const char *
label(const struct chatter *who, char *name)
{
	strlcpy(name,
	    *who->member.name != '\0' ? who->member.name : kquay_peer(who->c),
	    LABEL_MAX);
	return name;
}

/* Also what writing needs: the tab, joiners, marks of direction. */
static int
is_harmless(uint32_t code)
{
	return code == '\t' || (code >= 0x200c && code <= 0x200f) ||
	    utf8_printable(code);
}

/*
 * What could act on a terminal becomes question marks.  A byte of no character
 * may be one in a code of 8 bits, where 0x80 to 0x9f are control characters.
 */
static void
tame(char *text, size_t len)
{
	char *p = text, *end = text + len;
	uint32_t code;
	int n;

	while (p < end) {
		n = utf8_next(p, &code);
		if (n == 0) {
			if ((unsigned char)*p < 0xa0)
				*p = '?';
			n = 1;
		} else if (!is_harmless(code))
			memset(p, '?', (size_t)n);
		p += n;
	}
}

/* -- how much one says ----------------------------------------------------- */

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static int64_t
full_credit(const struct rate_limit *limit)
{
	return (int64_t)limit->burst * limit->per_ms;
}

/* One line more; if the next is not due yet, nothing is read until it is. */
static void
count_line(const struct rate_limit *limit, struct chatter *me)
{
	int64_t now, missing;
	struct kevent ev;

	if (limit->tokens == 0)
		return;
	now = now_ms();
	me->credit += (now - me->counted) * limit->tokens;
	me->counted = now;
	if (me->credit > full_credit(limit))
		me->credit = full_credit(limit);
	me->credit -= limit->per_ms;
	missing = limit->per_ms - me->credit;
	if (missing <= 0)
		return;
	EV_SET(&ev, (uintptr_t)me, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0,
	    (missing + limit->tokens - 1) / limit->tokens, NULL);
	if (kquay_watch(kquay_of(me->c), &ev, go_on, me) == -1)
		return;
	me->waiting = 1;
	kquay_pause(me->c, 1);
}

static void
go_on(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct chatter *me = arg;

	me->waiting = 0;
	kquay_pause(me->c, 0);
}

/* -- the settings ---------------------------------------------------------- */

/* What is larger than max-output could never be sent. */
static int
chat_check(struct service_conf *conf, char *why, size_t whysz)
{
	const struct chat_conf *chat = (const struct chat_conf *)conf;

	if (conf->max_output < conf->max_line + PREFIX_MAX) {
		snprintf(why, whysz,
		    "max-output: must be larger than max-line by %d or more",
		    PREFIX_MAX);
		return -1;
	}
	if (conf->max_output <= strlen(chat->welcome)) {
		snprintf(why, whysz, "max-output: must be larger than welcome");
		return -1;
	}
	return 0;
}

static int
chat_start(struct service *service, char *why, size_t whysz)
{
	const struct chat_conf *conf = (const struct chat_conf *)service->conf;
	struct chat *chat;

	chat = calloc(1, sizeof(*chat));
	if (chat == NULL)
		goto fail;
	chat->buffer = malloc(PREFIX_MAX + conf->base.max_line);
	if (chat->buffer == NULL)
		goto fail;
	chat->conf = conf;
	rooms_init(&chat->rooms, conf->history, conf->max_history);
	service->state = chat;
	return 0;

fail:
	free(chat);
	snprintf(why, whysz, "%s", strerror(ENOMEM));
	return -1;
}

static void
chat_end(struct service *service)
{
	struct chat *chat = service->state;

	rooms_fini(&chat->rooms);
	free(chat->buffer);
	free(chat);
}

static const struct kquay_ops chat_ops = {
	.open = chat_open,
	.line = chat_line,
	.close = chat_close,
};

static const struct setting chat_settings[] = {
	{ .name = "welcome",
	    .letter = 'w',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(welcome),
	    .max = TEXT_MAX,
	    .def = "welcome!",
	    .arg = "TEXT",
	    .help = "line for who comes; \"\": none" },
	{ .name = "refusal",
	    .letter = 'r',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(base.refusal),
	    .max = TEXT_MAX,
	    .def = "connection refused",
	    .arg = "TEXT",
	    .help = "line for who is refused; \"\": none" },
	{ .name = "max-line",
	    .type = SETTING_SIZE,
	    .offset = OFFSET(base.max_line),
	    .min = 80,
	    .max = 1 << 24,
	    .def = "8k",
	    .arg = "SIZE",
	    .help = "drop who sends a longer line" },
	{ .name = "max-output",
	    .type = SETTING_SIZE,
	    .offset = OFFSET(base.max_output),
	    .min = 1024,
	    .max = 1 << 30,
	    .def = "1M",
	    .arg = "SIZE",
	    .help = "drop who leaves more than this unread" },
	{ .name = "max-rate",
	    .type = SETTING_OWN,
	    .offset = OFFSET(max_rate),
	    .kind = &rate_kind,
	    .def = "1000/s burst 1000",
	    .arg = "RATE",
	    .help = "let one say so many lines" },
	{ .name = "history",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(history),
	    .max = 100000,
	    .def = "0",
	    .arg = "N",
	    .help = "show who joins the last N lines" },
	{ .name = "max-history",
	    .type = SETTING_SIZE,
	    .offset = OFFSET(max_history),
	    .min = 1024,
	    .max = 1 << 30,
	    .def = "1M",
	    .arg = "SIZE",
	    .help = "keep at most so much of all rooms" },
	{ .name = NULL }
};

const struct service_handler service_chat = {
	.name = "chat",
	.help = "pass each line on to everyone else",
	.ops = &chat_ops,
	.settings = chat_settings,
	.check = chat_check,
	.start = chat_start,
	.end = chat_end,
	.udatasz = sizeof(struct chatter),
	.single = 1,
	.confsz = sizeof(struct chat_conf),
};
