/*
 * Records: from members to bytes.
 */
#include <sys/types.h>

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "log.h"
#include "record.h"
#include "utf8.h"

#define FACILITY_DAEMON (3 << 3)
#define CUT "..."

struct text {
	char *buf;
	size_t len; /* less than RECORD_MAX: there is an end */
};

/* What must not be as it is. */
enum escape {
	ESCAPE_PLAIN,  /* \n and the like, and \ itself */
	ESCAPE_QUOTED, /* and " */
	ESCAPE_JSON
};

static void put_time(struct text *);
static void put_syslog_header(struct text *, int);
static void put_logfmt(struct text *, const struct member *, size_t);
static void put_json(struct text *, int, const struct member *, size_t);
static void put_plain(struct text *, const struct member *, size_t);
static void put_journal(struct text *, int, const struct member *, size_t);
static int is_event(const struct member *, size_t);
static void put_value(struct text *, const struct member *, enum escape);
static int is_bare(const char *);
static void put_escaped(struct text *, const char *, enum escape, size_t);
static size_t escape(char *, const char *, size_t, uint32_t, enum escape);
static void put(struct text *, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void put_bytes(struct text *, const char *, size_t);

/* Of syslog(3), by enum log_level. */
static const int priorities[] = { [LEVEL_ERROR] = 3,
	[LEVEL_WARNING] = 4,
	[LEVEL_NOTICE] = 5,
	[LEVEL_INFO] = 6,
	[LEVEL_DEBUG] = 7 };

size_t
record_write(char *buf, enum record_form form, int level,
    const struct member *members, size_t count)
{
	struct text t = { .buf = buf };

	switch (form) {
	case RECORD_LOGFMT:
		put(&t, "time=");
		put_time(&t);
		put(&t, " level=%s ", log_level_names[level]);
		put_logfmt(&t, members, count);
		break;
	case RECORD_JSON:
		put_json(&t, level, members, count);
		break;
	case RECORD_SYSLOG:
		put_syslog_header(&t, level);
		put_plain(&t, members, count);
		break;
	case RECORD_JSONLOG:
		put_syslog_header(&t, level);
		put_json(&t, level, members, count);
		break;
	case RECORD_JOURNAL:
		put_journal(&t, level, members, count);
		break;
	}
	buf[t.len++] = record_end(form);
	return t.len;
}

char
record_end(enum record_form form)
{
	return form == RECORD_LOGFMT || form == RECORD_JSON ? '\n' : '\0';
}

static void
put_time(struct text *t)
{
	struct timespec now;
	struct tm tm;
	char text[32];

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
	put(t, "%s.%03dZ", text, (int)(now.tv_nsec / 1000000));
}

/* As syslog(3) of most systems sends it, with the local time. */
static void
put_syslog_header(struct text *t, int level)
{
	time_t now = time(NULL);
	struct tm tm;
	char text[32];

	localtime_r(&now, &tm);
	strftime(text, sizeof(text), "%b %e %H:%M:%S", &tm);
	put(t, "<%d>%s %.32s[%ld]: ", FACILITY_DAEMON + priorities[level], text,
	    getprogname(), (long)getpid());
}

static void
put_logfmt(struct text *t, const struct member *members, size_t count)
{
	const char *between = "";
	const struct member *m;
	int quoted;

	for (m = members; m < members + count; m++) {
		if (m->kind == MEMBER_TEXT && m->text == NULL)
			continue;
		quoted = m->kind == MEMBER_TEXT && !is_bare(m->text);
		put(t, "%s%s=%s", between, m->name, quoted ? "\"" : "");
		put_value(t, m, ESCAPE_QUOTED);
		if (quoted)
			put(t, "\"");
		between = " ";
	}
}

static void
put_json(struct text *t, int level, const struct member *members, size_t count)
{
	const struct member *m;
	const char *quote;

	put(t, "{\"time\":\"");
	put_time(t);
	put(t, "\",\"level\":\"%s\"", log_level_names[level]);
	for (m = members; m < members + count; m++) {
		if (m->kind == MEMBER_TEXT && m->text == NULL)
			continue;
		quote = m->kind == MEMBER_TEXT ? "\"" : "";
		put(t, ",\"%s\":%s", m->name, quote);
		put_value(t, m, ESCAPE_JSON);
		put(t, "%s", quote);
	}
	put(t, "}");
}

/* Of an event its text, after the name of its service. */
static void
put_plain(struct text *t, const struct member *members, size_t count)
{
	const struct member *m;

	if (!is_event(members, count)) {
		put_logfmt(t, members, count);
		return;
	}
	for (m = members; m < members + count - 1; m++)
		if (m->text != NULL) {
			put_value(t, m, ESCAPE_PLAIN);
			put(t, ": ");
		}
	put_value(t, m, ESCAPE_PLAIN);
}

/*
 * The journal's own protocol: fields, a line each.  A value that is escaped
 * has no newline, so none takes the form for binary ones.
 */
static void
put_journal(struct text *t, int level, const struct member *members,
    size_t count)
{
	const struct member *m;
	const char *p;
	char letter;

	put(t,
	    "PRIORITY=%d\nSYSLOG_IDENTIFIER=%.32s\nMESSAGE=", priorities[level],
	    getprogname());
	put_plain(t, members, count);
	put(t, "\n");
	if (is_event(members, count))
		count--;
	for (m = members; m < members + count; m++) {
		if (m->kind == MEMBER_TEXT && m->text == NULL)
			continue;
		put(t, "KQUAY_");
		for (p = m->name; *p != '\0'; p++) {
			letter = (char)toupper((unsigned char)*p);
			put_bytes(t, &letter, 1);
		}
		put(t, "=");
		put_value(t, m, ESCAPE_PLAIN);
		put(t, "\n");
	}
}

static int
is_event(const struct member *members, size_t count)
{
	return count > 0 && strcmp(members[count - 1].name, "msg") == 0;
}

static void
put_value(struct text *t, const struct member *m, enum escape how)
{
	switch (m->kind) {
	case MEMBER_TEXT:
		put_escaped(t, m->text, how,
		    strcmp(m->name, "msg") == 0 ? RECORD_TEXT : RECORD_VALUE);
		break;
	case MEMBER_NUMBER:
		put(t, "%" PRIu64, m->number);
		break;
	case MEMBER_SECONDS:
		put(t, "%" PRIu64 ".%03d", m->number / 1000,
		    (int)(m->number % 1000));
		break;
	}
}

/* Does it need no quotes in logfmt? */
static int
is_bare(const char *text)
{
	const char *p;

	for (p = text; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~' || *p == '"' || *p == '=' ||
		    *p == '\\')
			return 0;
	return p > text;
}

/* No more than max bytes of it, as they are written. */
static void
put_escaped(struct text *t, const char *text, enum escape how, size_t max)
{
	char one[4 * 4 + 1]; /* four bytes as \xff */
	uint32_t code;
	size_t len, used = 0;
	int n;

	while (*text != '\0') {
		n = utf8_next(text, &code);
		if (n == 0)
			code = UINT32_MAX;
		len = escape(one, text, (size_t)n, code, how);
		if (used + len > max - strlen(CUT)) {
			put(t, CUT);
			return;
		}
		put_bytes(t, one, len);
		used += len;
		text += n == 0 ? 1 : n;
	}
}

/* One character of n bytes; n is 0: a byte that is part of none. */
static size_t
escape(char *one, const char *text, size_t n, uint32_t code, enum escape how)
{
	static const char names[] = "\nn\rr\tt";
	const char *name;
	size_t i, len = 0;

	if (code == '\\' || (code == '"' && how != ESCAPE_PLAIN))
		return (size_t)sprintf(one, "\\%c", (int)code);
	if (n > 0 && utf8_printable(code)) {
		memcpy(one, text, n);
		return n;
	}
	for (name = names; *name != '\0'; name += 2)
		if (code == (uint32_t)*name)
			return (size_t)sprintf(one, "\\%c", name[1]);
	if (how == ESCAPE_JSON && n == 0)
		return (size_t)sprintf(one, "\\ufffd");
	if (how == ESCAPE_JSON && code > 0xffff)
		return (size_t)sprintf(one, "\\u%04x\\u%04x",
		    0xd800 + ((code - 0x10000) >> 10), 0xdc00 + (code & 0x3ff));
	if (how == ESCAPE_JSON)
		return (size_t)sprintf(one, "\\u%04x", code);
	for (i = 0; i < (n == 0 ? 1 : n); i++)
		len += (size_t)sprintf(one + len, "\\x%02x",
		    (unsigned char)text[i]);
	return len;
}

static void
put(struct text *t, const char *format, ...)
{
	char text[128];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (n > 0)
		put_bytes(t, text,
		    (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1);
}

/* All members at their longest are less than RECORD_MAX together. */
static void
put_bytes(struct text *t, const char *bytes, size_t n)
{
	if (n > RECORD_MAX - 1 - t->len)
		n = RECORD_MAX - 1 - t->len;
	memcpy(t->buf + t->len, bytes, n);
	t->len += n;
}
