/*
 * The state of the program in its three forms, lists of connections, and what
 * they are made of: tables, JSON, numbers for people.
 */
#include "connections.h"
#include "human.h"
#include "json.h"
#include "status.h"
#include "table.h"
#include "t_unit.h"

#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* A stream, and then what was written to it. */
static struct {
	FILE *out;
	char *text;
	size_t len;
} memory;

static FILE *
begin(void)
{
	free(memory.text);
	memory.out = open_memstream(&memory.text, &memory.len);
	ck_assert_ptr_ne(memory.out, NULL);
	return memory.out;
}

static const char *
end(void)
{
	ck_assert_int_eq(fclose(memory.out), 0);
	return memory.text;
}

static void
has(const char *text)
{
	ck_assert_msg(strstr(memory.text, text) != NULL, "no %s in:\n%s", text,
	    memory.text);
}

static void
has_not(const char *text)
{
	ck_assert_msg(strstr(memory.text, text) == NULL, "%s in:\n%s", text,
	    memory.text);
}

/* -- numbers --------------------------------------------------------------- */

START_TEST(sizes_and_times)
{
	static const struct {
		uint64_t bytes;
		const char *text;
	} sizes[] = { { 0, "0" }, { 1023, "1023" }, { 1024, "1.0k" },
		{ 1536, "1.5k" }, { 102399, "99.9k" }, { 102400, "100k" },
		{ 1048575, "1023k" }, { 1 << 20, "1.0M" },
		{ UINT64_MAX, "15.9E" } };
	static const struct {
		int64_t ms;
		const char *text;
	} times[] = { { 0, "0.00s" }, { 257, "0.25s" }, { 9999, "9.99s" },
		{ 10000, "10s" }, { 59999, "59s" }, { 187000, "3m07s" },
		{ 3600000, "1h00m" }, { 100800000, "1d04h" } };
	char buf[HUMAN_MAX];
	size_t i;

	for (i = 0; i < COUNT(sizes); i++)
		ck_assert_str_eq(human_size(buf, sizes[i].bytes),
		    sizes[i].text);
	for (i = 0; i < COUNT(times); i++)
		ck_assert_str_eq(human_time(buf, times[i].ms), times[i].text);
}
END_TEST

/* -- tables ---------------------------------------------------------------- */

START_TEST(columns_are_as_wide_as_they_must)
{
	static const char *const headings[] = { "NAME", ">N", "REST", NULL };
	struct table *t = table_new(headings);

	table_cell(t, "%s", "a");
	table_cell(t, "%d", 12345);
	table_cell(t, "x");
	table_more(t, ", %s", "y");
	table_cell(t, "%s",
	    "gr\xc3\xb6\xc3\x9f"
	    "er");
	table_cell(t, "%d", 1);
	table_cell(t, "%s", "tab\there\x1b[2J\xff");
	ck_assert_int_eq(table_print(t, begin()), 0);
	ck_assert_str_eq(end(),
	    "NAME        N  REST\n"
	    "a       12345  x, y\n"
	    "gr\xc3\xb6\xc3\x9f"
	    "er      1  tab?here?[2J?\n");
	table_free(t);
}
END_TEST

/* -- JSON ------------------------------------------------------------------ */

START_TEST(json_is_json)
{
	struct json j = { .out = begin() };

	json_object(&j, NULL);
	json_array(&j, "a");
	json_number(&j, NULL, UINT64_MAX);
	json_truth(&j, NULL, 1);
	json_null(&j, NULL);
	json_array(&j, NULL);
	json_end(&j);
	json_end(&j);
	json_seconds(&j, "s", 61007);
	json_object(&j, "o");
	json_end(&j);
	json_text(&j, "t",
	    "a\"\\\n\x7f\xc3\xa4\xc3\xf0\x9f\x9a\xa2\xed\xa0\x80");
	json_end(&j);
	ck_assert_str_eq(end(),
	    "{\"a\":[18446744073709551615,true,null,[]],\"s\":61.007,"
	    "\"o\":{},\"t\":\"a\\\"\\\\\\u000a\\u007f\xc3\xa4\\ufffd"
	    "\xf0\x9f\x9a\xa2\\ufffd\\ufffd\\ufffd\"}");
}
END_TEST

/* -- the state ------------------------------------------------------------- */

/* Two services, one of two workers, with a target. */
static struct status *
make_status(void)
{
	struct kquay_stat stat = { .accepted = 10,
		.dialled = 4,
		.closed = 7,
		.in = 3048,
		.out = 4196,
		.dialled_in = 1000,
		.dialled_out = 100,
		.conns = 5,
		.dials = 2 };
	struct tally tally = { .refused = { [REFUSAL_RATE] = 2 },
		.ended = { [KQUAY_EOF] = 6, [KQUAY_ERROR] = 1 },
		.peak = 5 };
	struct status *st = status_new();
	struct status_service *s;
	struct status_target *t;

	st->pid = 42;
	st->started = 1000;
	st->uptime_ms = 61500;
	st->generation = 2;
	st->workers = 2;
	s = status_service(st, "a \"b\"\\", "relay");
	words_add(&s->listening, "127.0.0.1:80");
	words_add(&s->listening, "unix:/s");
	s->max_connections = 1000;
	status_count(s, &stat, &tally);
	tally.refused[REFUSAL_FULL] = 1;
	status_count(s, &stat, &tally);
	t = status_target(st, s, "x:80 backup", "192.0.2.1:80");
	t->health = HEALTH_DOWN;
	t->weight = 1;
	t->backup = 1;
	t->failures = 9;
	ck_assert_ptr_eq(status_target(st, s, "x:80 backup", "192.0.2.1:80"),
	    t);
	ck_assert_ptr_eq(status_service(st, "a \"b\"\\", "relay"), s);
	s = status_service(st, "quiet\n\xff", "echo");
	s->max_connections = 5;
	s->max_per_source = 2;
	ck_assert_uint_eq(st->nservices, 2);
	ck_assert_int_eq(st->failed, 0);
	return st;
}

START_TEST(state_as_a_table)
{
	struct status *st = make_status();

	ck_assert_int_eq(status_print_table(st, begin()), 0);
	end();
	has("kquay " KQUAY_VERSION
	    ", pid 42, up 1m01s, 2 workers, configuration 2\n");
	has("\na \"b\"\\   relay      6   1000    10        20        5       "
	    "2  4.0k  8.0k  127.0.0.1:80, unix:/s\n");
	has("\nquiet??  echo       0      5     0         0        0       0  "
	    "   0     0  -\n");
	has("\nRefused\n");
	has("\nEnded\n");
	has("\nTargets\n");
	has("\na \"b\"\\   x:80 backup  192.0.2.1:80  down, backup       1    "
	    "0      -        0         9\n");
	status_free(st);
}
END_TEST

START_TEST(state_as_json)
{
	struct status *st = make_status();

	ck_assert_int_eq(status_print_json(st, begin()), 0);
	end();
	has("{\"version\":\"" KQUAY_VERSION
	    "\",\"pid\":42,\"started\":1000,\"uptime\":61.500,"
	    "\"generation\":2,\"workers\":2,\"log_lost\":0,\"services\":[{"
	    "\"name\":\"a \\\"b\\\"\\\\\",\"handler\":\"relay\","
	    "\"listening\":[\"127.0.0.1:80\",\"unix:/s\"],"
	    "\"limits\":{\"max_connections\":1000,\"max_per_source\":null},"
	    "\"connections\":{\"now\":6,\"peak\":10,\"draining\":0},"
	    "\"accepted\":20,\"dialled\":8,\"closed\":14,"
	    "\"bytes\":{\"in\":4096,\"out\":8192},"
	    "\"refused\":{\"total\":5,\"full\":1,\"descriptors\":0,"
	    "\"source\":0,\"access\":0,\"rate\":4,");
	has("\"ended\":{\"done\":0,\"eof\":12,\"error\":2,");
	has("\"targets\":[{\"name\":\"x:80 backup\","
	    "\"address\":\"192.0.2.1:80\",\"health\":\"down\",\"up\":false,"
	    "\"backup\":true,\"weight\":1,\"connections\":0,"
	    "\"max_connections\":null,\"dialled\":0,\"failures\":9}]},");
	has("\"name\":\"quiet\\u000a\\ufffd\"");
	has("\"max_per_source\":2}");
	status_free(st);
}
END_TEST

START_TEST(state_as_metrics)
{
	struct status *st = make_status();

	ck_assert_int_eq(status_print_metrics(st, begin()), 0);
	end();
	has("# TYPE kquay_connections gauge\n"
	    "kquay_connections{service=\"a \\\"b\\\"\\\\\"} 6\n"
	    "kquay_connections{service=\"quiet\\n\xef\xbf\xbd\"} 0\n");
	has("\nkquay_start_time_seconds 1000\n");
	has("\nkquay_refused_total{service=\"a \\\"b\\\"\\\\\","
	    "reason=\"rate\"} 4\n");
	has("\nkquay_closed_total{service=\"a \\\"b\\\"\\\\\",why=\"eof\"} "
	    "12\n");
	has("\nkquay_target_up{service=\"a \\\"b\\\"\\\\\","
	    "target=\"x:80 backup\",address=\"192.0.2.1:80\"} 0\n");
	status_free(st);
	st = status_new();
	ck_assert_int_eq(status_print_metrics(st, begin()), 0);
	end();
	has("kquay_info");
	has_not("service=");
	has_not("kquay_connections");
	has_not("kquay_target");
	status_free(st);
}
END_TEST

START_TEST(health_is_what_it_is)
{
	static const struct {
		enum health health;
		int up;
		const char *text;
	} rows[] = { { HEALTH_UNKNOWN, 1, "unchecked" },
		{ HEALTH_UNKNOWN, 0, "failing" }, { HEALTH_UP, 1, "up" },
		{ HEALTH_UP, 0, "failing" }, { HEALTH_DOWN, 0, "down" } };
	struct status_target t = { .name = NULL };
	size_t i;

	for (i = 0; i < COUNT(rows); i++) {
		t.health = rows[i].health;
		t.up = rows[i].up;
		ck_assert_str_eq(status_health(&t), rows[i].text);
	}
}
END_TEST

/* -- connections
 * --------------------------------------------------------------- */

/* 1000 in an order of their own, and so many of them at a time. */
START_TEST(pages_of_connections)
{
	static char service[] = "s", peer[] = "p";
	struct connection one = { .service = service, .peer = peer };
	uint64_t after = 0, expected = 1, id, k;
	struct connections *c;
	size_t i;

	do {
		c = connections_new((size_t)_i);
		for (k = 0; k < 1000; k++) {
			id = k * 617 % 1000 + 1;
			if (id <= after || !connections_wants(c, id))
				continue;
			one.id = id;
			connections_add(c, &one);
			ck_assert_uint_le(c->count, 2 * (size_t)_i);
		}
		connections_end(c);
		ck_assert_uint_eq(c->matched, 1000 - after);
		ck_assert_uint_le(c->count, (size_t)_i);
		for (i = 0; i < c->count; i++)
			ck_assert_uint_eq(c->list[i].id, expected++);
		after = connections_next(c);
		ck_assert_uint_eq(after, expected == 1001 ? 0 : expected - 1);
		connections_free(c);
	} while (after != 0);
	ck_assert_uint_eq(expected, 1001);
}
END_TEST

START_TEST(connections_in_both_forms)
{
	static char service[] = "s\n", peer[] = "[::1]:80", to[] = "unix:/s";
	struct connection one = { .id = 7,
		.service = service,
		.peer = peer,
		.age_ms = 1500,
		.idle_ms = 250,
		.in = 1024,
		.out = 1 };
	struct connections *c = connections_new(2);

	for (; one.id < 10; one.id++) {
		one.to = one.id == 7 ? NULL : to;
		if (connections_wants(c, one.id))
			connections_add(c, &one);
	}
	connections_end(c);
	ck_assert_int_eq(connections_print_table(c, begin()), 0);
	ck_assert_str_eq(end(),
	    "ID  SERVICE  PEER      TO         AGE   IDLE    IN  OUT\n"
	    " 7  s?       [::1]:80  -        1.50s  0.25s  1.0k    1\n"
	    " 8  s?       [::1]:80  unix:/s  1.50s  0.25s  1.0k    1\n"
	    "1 more: --after 8, or --limit N\n");
	ck_assert_int_eq(connections_print_json(c, begin()), 0);
	ck_assert_str_eq(end(),
	    "{\"connections\":["
	    "{\"id\":7,\"service\":\"s\\u000a\",\"peer\":\"[::1]:80\","
	    "\"to\":null,\"age\":1.500,\"idle\":0.250,\"in\":1024,\"out\":1},"
	    "{\"id\":8,\"service\":\"s\\u000a\",\"peer\":\"[::1]:80\","
	    "\"to\":\"unix:/s\",\"age\":1.500,\"idle\":0.250,\"in\":1024,"
	    "\"out\":1}],\"matched\":3,\"next\":8}\n");
	connections_free(c);
}
END_TEST

int
main(void)
{
	static const int limits[] = { 1, 3, 64, 100, 999, 1000, 1001 };
	TCase *t = unit_begin("status");
	size_t i;

	tcase_add_test(t, sizes_and_times);
	tcase_add_test(t, columns_are_as_wide_as_they_must);
	tcase_add_test(t, json_is_json);
	tcase_add_test(t, state_as_a_table);
	tcase_add_test(t, state_as_json);
	tcase_add_test(t, state_as_metrics);
	tcase_add_test(t, health_is_what_it_is);
	for (i = 0; i < COUNT(limits); i++)
		tcase_add_loop_test(t, pages_of_connections, limits[i],
		    limits[i] + 1);
	tcase_add_test(t, connections_in_both_forms);
	return unit_end();
}
