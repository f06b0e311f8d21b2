/*
 * What the control socket is asked: what is read of it, and what is said of
 * what cannot be.
 */
#include "request.h"
#include "t_unit.h"

#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static int
parse(struct request *r, const char *text, char *why, size_t whysz)
{
	static char line[REQUEST_LINE_MAX];

	ck_assert_uint_lt(strlen(text), sizeof(line));
	strcpy(line, text);
	*why = '\0';
	return request_parse(r, line, why, whysz);
}

static const struct good {
	const char *line;
	struct request request;
} goods[] = {
	{ "status", { .verb = REQUEST_STATUS } },
	{ "  status  json  ", { .verb = REQUEST_STATUS, .json = 1 } },
	{ "connections", { .verb = REQUEST_CONNECTIONS } },
	{ "connections limit 7 json after 18446744073709551615",
	    { .verb = REQUEST_CONNECTIONS,
		.json = 1,
		.after = UINT64_MAX,
		.limit = 7 } },
	{ "connections service \"small chat\" peer 192.0.2.0/24 id 3",
	    { .verb = REQUEST_CONNECTIONS,
		.service = "small chat",
		.peer = "192.0.2.0/24",
		.id = 3 } },
	{ "close id 12", { .verb = REQUEST_CLOSE, .id = 12 } },
	{ "close service \"a \\\"b\\\" \\\\\"",
	    { .verb = REQUEST_CLOSE, .service = "a \"b\" \\" } },
	{ "close service a\\b", { .verb = REQUEST_CLOSE, .service = "a\\b" } },
	{ "drain all", { .verb = REQUEST_DRAIN, .name = "all" } },
	{ "drain json", { .verb = REQUEST_DRAIN, .name = "json" } },
	{ "drain \"\"", { .verb = REQUEST_DRAIN, .name = "" } },
	{ "reload", { .verb = REQUEST_RELOAD } },
	{ "upgrade", { .verb = REQUEST_UPGRADE } },
	{ "help", { .verb = REQUEST_HELP } },
};

static void
same_text(const char *got, const char *want)
{
	if (want == NULL)
		ck_assert_ptr_eq(got, NULL);
	else
		ck_assert_str_eq(got, want);
}

START_TEST(what_is_good)
{
	const struct request *want = &goods[_i].request;
	struct request r;
	char why[256];

	ck_assert_int_eq(parse(&r, goods[_i].line, why, sizeof(why)), 0);
	ck_assert_int_eq(r.verb, want->verb);
	ck_assert_int_eq(r.json, want->json);
	ck_assert_uint_eq(r.id, want->id);
	ck_assert_uint_eq(r.after, want->after);
	ck_assert_uint_eq(r.limit,
	    want->limit == 0 ? REQUEST_LIMIT : want->limit);
	same_text(r.service, want->service);
	same_text(r.peer, want->peer);
	same_text(r.name, want->name);
}
END_TEST

static const struct bad {
	const char *line, *why;
} bads[] = {
	{ "", "an empty request: try help" },
	{ "  ", "an empty request: try help" },
	{ "stat", "stat: no such request: try help" },
	{ "status now", "status: unexpected: now" },
	{ "status limit 3", "status: unexpected: limit" },
	{ "status json json", "json: given twice" },
	{ "reload all", "reload: unexpected: all" },
	{ "connections limit", "limit: a value is missing" },
	{ "connections limit 0", "limit: '0' is no number from 1 to 10000" },
	{ "connections limit 10001",
	    "limit: '10001' is no number from 1 to 10000" },
	{ "connections limit 1x", "limit: '1x' is no number from 1 to 10000" },
	{ "connections id -1",
	    "id: '-1' is no number from 1 to 18446744073709551615" },
	{ "connections id 18446744073709551616",
	    "id: '18446744073709551616' is no number from 1 to "
	    "18446744073709551615" },
	{ "close", "close: say which: id, service or peer" },
	{ "drain", "drain: the name of a service is missing, or all" },
	{ "drain a b", "drain: unexpected: b" },
	{ "drain \"a", "quotes that do not end well" },
	{ "drain \"a\\", "quotes that do not end well" },
	{ "drain \"a\\nb\"", "quotes that do not end well" },
	{ "drain \"a\tb\"", "quotes that do not end well" },
	{ "drain a\tb", "a control character" },
	{ "connections service \"", "quotes that do not end well" },
};

START_TEST(what_is_bad)
{
	struct request r;
	char why[256];

	ck_assert_int_eq(parse(&r, bads[_i].line, why, sizeof(why)), -1);
	ck_assert_str_eq(why, bads[_i].why);
}
END_TEST

/* The reason ends where its place does. */
START_TEST(why_is_cut)
{
	char line[200], why[8];
	struct request r;

	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	ck_assert_int_eq(parse(&r, line, why, sizeof(why)), -1);
	ck_assert_str_eq(why, "xxxxxxx");
}
END_TEST

int
main(void)
{
	TCase *t = unit_begin("request");

	tcase_add_loop_test(t, what_is_good, 0, COUNT(goods));
	tcase_add_loop_test(t, what_is_bad, 0, COUNT(bads));
	tcase_add_test(t, why_is_cut);
	return unit_end();
}
