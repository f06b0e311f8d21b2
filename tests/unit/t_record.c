/*
 * Records: each form of each kind of member, and bytes that would like to be
 * something else.
 */
#include "log.h"
#include "record.h"
#include "utf8.h"
#include "t_unit.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static char buf[RECORD_MAX + 1];

/* Written, without its end; checked to be the only one. */
static const char *
written(enum record_form form, const struct member *members, size_t count)
{
	char end = record_end(form);
	size_t len;

	memset(buf, 'x', sizeof(buf));
	len = record_write(buf, form, LEVEL_INFO, members, count);
	ck_assert_uint_ge(len, 1);
	ck_assert_uint_le(len, RECORD_MAX);
	ck_assert_ptr_eq(memchr(buf, end, len), buf + len - 1);
	ck_assert_int_eq(buf[len], 'x');
	buf[len - 1] = '\0';
	ck_assert_uint_eq(strlen(buf), len - 1);
	return buf;
}

/* After `time=2026-11-22T23:12:03.123Z level=info '. */
static const char *
after_time(const char *text)
{
	int n = 0;

	sscanf(text, "time=%*4d-%*2d-%*2dT%*2d:%*2d:%*2d.%*3dZ level=info %n",
	    &n);
	ck_assert_msg(n == 41, "%s", text);
	return text + n;
}

static const struct {
	const char *text, *logfmt, *plain, *json;
} values[] = {
	{ "", "\"\"", "", "" },
	{ "chat", "chat", "chat", "chat" },
	{ "127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80", "127.0.0.1:80" },
	{ "two words", "\"two words\"", "two words", "two words" },
	{ "a=b", "\"a=b\"", "a=b", "a=b" },
	{ "\"", "\"\\\"\"", "\"", "\\\"" },
	{ "\\", "\"\\\\\"", "\\\\", "\\\\" },
	{ "\n", "\"\\n\"", "\\n", "\\n" },
	{ "\r\t", "\"\\r\\t\"", "\\r\\t", "\\r\\t" },
	{ "\001\033[1m", "\"\\x01\\x1b[1m\"", "\\x01\\x1b[1m",
	    "\\u0001\\u001b[1m" },
	{ "\177", "\"\\x7f\"", "\\x7f", "\\u007f" },
	{ "caf\303\251", "\"caf\303\251\"", "caf\303\251", "caf\303\251" },
	{ "\342\202\254", "\"\342\202\254\"", "\342\202\254", "\342\202\254" },
	{ "\360\237\230\200", "\"\360\237\230\200\"", "\360\237\230\200",
	    "\360\237\230\200" },
	/* No UTF-8: alone, cut off, too long, half of a pair, too large. */
	{ "\377", "\"\\xff\"", "\\xff", "\\ufffd" },
	{ "\251", "\"\\xa9\"", "\\xa9", "\\ufffd" },
	{ "\303", "\"\\xc3\"", "\\xc3", "\\ufffd" },
	{ "\303n", "\"\\xc3n\"", "\\xc3n", "\\ufffdn" },
	{ "\300\257", "\"\\xc0\\xaf\"", "\\xc0\\xaf", "\\ufffd\\ufffd" },
	{ "\340\200\257", "\"\\xe0\\x80\\xaf\"", "\\xe0\\x80\\xaf",
	    "\\ufffd\\ufffd\\ufffd" },
	{ "\355\240\200", "\"\\xed\\xa0\\x80\"", "\\xed\\xa0\\x80",
	    "\\ufffd\\ufffd\\ufffd" },
	{ "\364\220\200\200", "\"\\xf4\\x90\\x80\\x80\"",
	    "\\xf4\\x90\\x80\\x80", "\\ufffd\\ufffd\\ufffd\\ufffd" },
	/*
	 * UTF-8, but for a terminal: CSI, right to left, a line's end, a tag.
	 */
	{ "\302\233", "\"\\xc2\\x9b\"", "\\xc2\\x9b", "\\u009b" },
	{ "\342\200\256", "\"\\xe2\\x80\\xae\"", "\\xe2\\x80\\xae", "\\u202e" },
	{ "\342\200\250", "\"\\xe2\\x80\\xa8\"", "\\xe2\\x80\\xa8", "\\u2028" },
	{ "\363\240\201\201", "\"\\xf3\\xa0\\x81\\x81\"",
	    "\\xf3\\xa0\\x81\\x81", "\\udb40\\udc41" },
};

START_TEST(values_are_escaped)
{
	const struct member m = { .name = "peer", .text = values[_i].text };
	const struct member event = { .name = "msg", .text = values[_i].text };
	char wanted[256], *text;

	snprintf(wanted, sizeof(wanted), "peer=%s", values[_i].logfmt);
	ck_assert_str_eq(after_time(written(RECORD_LOGFMT, &m, 1)), wanted);

	snprintf(wanted, sizeof(wanted),
	    "\",\"level\":\"info\",\"peer\":\"%s\"}", values[_i].json);
	text = strstr(written(RECORD_JSON, &m, 1), "\",\"level\"");
	ck_assert_ptr_nonnull(text);
	ck_assert_str_eq(text, wanted);

	snprintf(wanted, sizeof(wanted), "]: %s", values[_i].plain);
	text = strstr(written(RECORD_SYSLOG, &event, 1), "]: ");
	ck_assert_ptr_nonnull(text);
	ck_assert_str_eq(text, wanted);

	snprintf(wanted, sizeof(wanted),
	    "PRIORITY=6\nSYSLOG_IDENTIFIER="
	    "t_record\nMESSAGE=peer=%s\nKQUAY_PEER=%s\n",
	    values[_i].logfmt, values[_i].plain);
	ck_assert_str_eq(written(RECORD_JOURNAL, &m, 1), wanted);
}
END_TEST

static const struct member all[] = {
	{ .name = "service", .text = "chat" },
	{ .name = "to", .text = NULL },
	{ .name = "seconds", .kind = MEMBER_SECONDS, .number = 12005 },
	{ .name = "in", .kind = MEMBER_NUMBER, .number = UINT64_MAX },
	{ .name = "why", .text = "closed by us" },
};

static const struct member event[] = {
	{ .name = "service", .text = "chat" },
	{ .name = "msg", .text = "target \"x\" is down" },
};

START_TEST(members_in_each_form)
{
	char line[512];
	int n = 0;

	ck_assert_str_eq(after_time(written(RECORD_LOGFMT, all, COUNT(all))),
	    "service=chat seconds=12.005 in=18446744073709551615 "
	    "why=\"closed by us\"");
	ck_assert_ptr_nonnull(strstr(written(RECORD_JSON, all, COUNT(all)),
	    ",\"service\":\"chat\",\"seconds\":12.005,"
	    "\"in\":18446744073709551615,\"why\":\"closed by us\"}"));
	snprintf(line, sizeof(line), "t_record[%ld]: service=chat",
	    (long)getpid());
	written(RECORD_SYSLOG, all, COUNT(all));
	sscanf(buf, "<30>%*3s %*2d %*2d:%*2d:%*2d %n", &n);
	ck_assert_msg(n == 20, "%s", buf);
	ck_assert_int_eq(strncmp(buf + n, line, strlen(line)), 0);
	written(RECORD_JSONLOG, all, COUNT(all));
	ck_assert_int_eq(strncmp(buf, "<30>", 4), 0);
	ck_assert_ptr_nonnull(strstr(buf, "]: {\"time\":\""));
	ck_assert_str_eq(written(RECORD_JOURNAL, all, COUNT(all)),
	    "PRIORITY=6\nSYSLOG_IDENTIFIER=t_record\n"
	    "MESSAGE=service=chat seconds=12.005 in=18446744073709551615 "
	    "why=\"closed by us\"\n"
	    "KQUAY_SERVICE=chat\nKQUAY_SECONDS=12.005\n"
	    "KQUAY_IN=18446744073709551615\nKQUAY_WHY=closed by us\n");
}
END_TEST

START_TEST(events_in_each_form)
{
	ck_assert_str_eq(after_time(written(RECORD_LOGFMT, event, 2)),
	    "service=chat msg=\"target \\\"x\\\" is down\"");
	ck_assert_str_eq(after_time(written(RECORD_LOGFMT, event + 1, 1)),
	    "msg=\"target \\\"x\\\" is down\"");
	ck_assert_ptr_nonnull(strstr(written(RECORD_SYSLOG, event, 2),
	    "]: chat: target \"x\" is down"));
	ck_assert_ptr_nonnull(strstr(written(RECORD_SYSLOG, event + 1, 1),
	    "]: target \"x\" is down"));
	ck_assert_str_eq(written(RECORD_JOURNAL, event, 2),
	    "PRIORITY=6\nSYSLOG_IDENTIFIER=t_record\n"
	    "MESSAGE=chat: target \"x\" is down\nKQUAY_SERVICE=chat\n");
}
END_TEST

static const struct {
	enum log_level level;
	const char *name;
	int priority;
} levels[] = {
	{ LEVEL_ERROR, "error", 27 },
	{ LEVEL_WARNING, "warning", 28 },
	{ LEVEL_NOTICE, "notice", 29 },
	{ LEVEL_INFO, "info", 30 },
	{ LEVEL_DEBUG, "debug", 31 },
};

START_TEST(levels_have_names_and_priorities)
{
	char wanted[64];

	record_write(buf, RECORD_SYSLOG, levels[_i].level, event, 2);
	snprintf(wanted, sizeof(wanted), "<%d>", levels[_i].priority);
	ck_assert_int_eq(strncmp(buf, wanted, strlen(wanted)), 0);
	record_write(buf, RECORD_JOURNAL, levels[_i].level, event, 2);
	snprintf(wanted, sizeof(wanted), "PRIORITY=%d\n",
	    levels[_i].priority - 24);
	ck_assert_int_eq(strncmp(buf, wanted, strlen(wanted)), 0);
	record_write(buf, RECORD_LOGFMT, levels[_i].level, event, 2);
	snprintf(wanted, sizeof(wanted), " level=%s ", levels[_i].name);
	ck_assert_ptr_nonnull(strstr(buf, wanted));
}
END_TEST

/* What is JSON, and no more of it than a record has: NULL, or its end. */
static const char *json_value(const char *);

static const char *
json_string(const char *p)
{
	uint32_t code;
	int n;

	if (*p++ != '"')
		return NULL;
	while (*p != '"') {
		n = utf8_next(p, &code);
		if (n == 0 || code < 0x20)
			return NULL;
		if (*p != '\\') {
			p += n;
			continue;
		}
		p++;
		if (*p == 'u') {
			for (n = 1; n <= 4; n++)
				if (!isxdigit((unsigned char)p[n]))
					return NULL;
			p += 5;
		} else if (*p != '\0' && strchr("\"\\/bfnrt", *p) != NULL)
			p++;
		else
			return NULL;
	}
	return p + 1;
}

static const char *
json_value(const char *p)
{
	size_t digits;

	if (*p == '"')
		return json_string(p);
	digits = strspn(p, "0123456789");
	if (digits == 0 || (*p == '0' && digits > 1))
		return NULL;
	p += digits;
	if (*p != '.')
		return p;
	digits = strspn(p + 1, "0123456789");
	return digits == 0 ? NULL : p + 1 + digits;
}

static int
is_json(const char *p)
{
	if (*p != '{')
		return 0;
	do {
		p = json_string(p + 1);
		if (p == NULL || *p != ':')
			return 0;
		p = json_value(p + 1);
		if (p == NULL)
			return 0;
	} while (*p == ',');
	return strcmp(p, "}") == 0;
}

/* Runs of any bytes, some of them longer than a record. */
static void
fill(char *text, size_t size)
{
	static const char nasty[] = "\"\\\n\r\t =\033\177\303\251\342\200\256";
	size_t i, len = (size_t)rand() % size;
	int kind = rand() % 4;

	for (i = 0; i < len; i++)
		text[i] = kind == 0 ? (char)(1 + rand() % 255) :
		    kind == 1 ? nasty[(size_t)rand() % (sizeof(nasty) - 1)] :
		    kind == 2 ? '\377' :
				'\001';
	text[len] = '\0';
}

START_TEST(no_bytes_get_out_of_a_record)
{
	static char text[9][3 * RECORD_MAX];
	struct member members[9];
	const char *p;
	int i, form, turn;

	srand((unsigned)_i + 1);
	for (turn = 0; turn < 300; turn++) {
		for (i = 0; i < 9; i++) {
			fill(text[i], turn % 2 ? 64 : sizeof(text[i]));
			members[i] = (struct member){ .name = "seconds",
				.text = text[i] };
		}
		if (turn % 3 == 0) {
			members[1].name = "msg";
			for (form = RECORD_LOGFMT; form <= RECORD_JOURNAL;
			     form++)
				written(form, members, 2);
			members[1].name = "seconds";
		}
		written(RECORD_JSON, members, 9);
		ck_assert_msg(is_json(buf), "%.1000s", buf);
		/* Nine members, and no byte that acts on anything. */
		written(RECORD_LOGFMT, members, 9);
		for (p = buf; *p != '\0'; p++)
			if ((unsigned char)*p < ' ' || *p == 0x7f)
				break;
		ck_assert_int_eq(*p, '\0');
		for (i = 0, p = after_time(buf); *p != '\0'; i++) {
			ck_assert_int_eq(strncmp(p, "seconds=", 8), 0);
			p += 8;
			if (*p == '"') {
				for (p++; *p != '"'; p++)
					p += *p == '\\';
				p++;
			} else
				p += strcspn(p, " \"");
			p += *p == ' ';
		}
		ck_assert_int_eq(i, 9);
	}
}
END_TEST

START_TEST(what_is_too_long_is_cut)
{
	char text[3 * RECORD_MAX];
	struct member m = { .name = "peer", .text = text };

	memset(text, 'a', sizeof(text));
	text[RECORD_VALUE - 3] = '\0';
	ck_assert_uint_eq(strlen(after_time(written(RECORD_LOGFMT, &m, 1))),
	    5 + RECORD_VALUE - 3);
	text[RECORD_VALUE - 3] = 'a';
	text[sizeof(text) - 1] = '\0';
	written(RECORD_LOGFMT, &m, 1);
	ck_assert_uint_eq(strlen(after_time(buf)), 5 + RECORD_VALUE);
	ck_assert_str_eq(buf + strlen(buf) - 4, "a...");
	/* Between characters, also of escapes. */
	memset(text, '\n', sizeof(text) - 1);
	m.name = "msg";
	written(RECORD_JSON, &m, 1);
	ck_assert(is_json(buf));
	ck_assert_str_eq(buf + strlen(buf) - 7, "\\n...\"}");
}
END_TEST

/* The bytes of a code, as RFC 3629 has them; returns their number. */
static int
encode(char *text, uint32_t code)
{
	int i,
	    len = code < 0x80 ? 1 :
	    code < 0x800      ? 2 :
	    code < 0x10000    ? 3 :
				4;

	memset(text, 0, 8);
	if (len == 1) {
		text[0] = (char)code;
		return 1;
	}
	text[0] = (char)(0xf00 >> len | code >> 6 * (len - 1));
	for (i = 1; i < len; i++)
		text[i] = (char)(0x80 | (code >> 6 * (len - 1 - i) & 0x3f));
	return len;
}

/* Every code there and back, and none of what is one no more when cut. */
START_TEST(utf8_is_read)
{
	uint32_t code, found = 0, wrong = 0;
	char text[8];
	int len, none;

	for (code = 1; code < 0x120000; code++) {
		len = encode(text, code);
		none = (code >= 0xd800 && code < 0xe000) || code > 0x10ffff;
		if (none ? utf8_next(text, &found) != 0 :
			   utf8_next(text, &found) != len || found != code)
			wrong++;
		for (; len > 1; len--) {
			text[len - 1] = '\0';
			wrong += utf8_next(text, &found) != 0;
		}
	}
	ck_assert_uint_eq(wrong, 0);
	ck_assert_int_eq(utf8_next("", &found), 0);
}
END_TEST

int
main(void)
{
	static const TTest **const tests[] = { &members_in_each_form,
		&events_in_each_form, &what_is_too_long_is_cut, &utf8_is_read };
	TCase *tc = unit_begin("record");
	size_t i;

	tcase_add_loop_test(tc, values_are_escaped, 0, COUNT(values));
	tcase_add_loop_test(tc, levels_have_names_and_priorities, 0,
	    COUNT(levels));
	tcase_add_loop_test(tc, no_bytes_get_out_of_a_record, 0, 4);
	for (i = 0; i < COUNT(tests); i++)
		tcase_add_test(tc, *tests[i]);
	tcase_set_timeout(tc, 60);
	return unit_end();
}
