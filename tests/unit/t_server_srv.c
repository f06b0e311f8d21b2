/*
 * SRV records, with a name server of our own: in order, cut off, aliases, none,
 * and what no name server should say.
 */
#include "t_server_dns.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RAW(s) .raw = s, .rawlen = sizeof(s) - 1

static struct dns_name table[] = {
	{ .name = "_one._tcp.test", .srv = "1 2 8080 a.test", .ttl = 30 },
	{ .name = "_many._tcp.test",
	    .srv = "20 0 1 last.test 10 5 2 first.test 10 60 3 second.test "
		   "0 65535 65535 zero.test",
	    .ttl = 600 },
	{ .name = "_alias._tcp.test", .cname = "_one._tcp.test", .ttl = 7 },
	{ .name = "_long._tcp.test", .cname = "_many._tcp.test", .ttl = 900 },
	{ .name = "_cut._tcp.test",
	    .srv = "1 2 3 by-tcp.test",
	    .cut = true,
	    .ttl = 5 },
	/* There is none, of RFC 2782; and one all the same. */
	{ .name = "_no._tcp.test", .srv = "0 0 0 ." },
	{ .name = "_some._tcp.test", .srv = "0 0 0 . 1 1 1 a.test" },
	{ .name = "_other._tcp.test", .a = "192.0.2.1" },
	{ .name = "_fail._tcp.test", .rcode = 2 },
	{ .name = "_deaf._tcp.test", .a_ms = DNS_NEVER, .aaaa_ms = DNS_NEVER },
	{ .name = "_late._tcp.test", .srv = "1 2 3 late.test", .aaaa_ms = 30 },
	/* A host in the name that was asked for: "_tcp.test" behind "x". */
	{ .name = "_ptr._tcp.test", RAW("\0\1\0\2\0\3\1x\300\21") },
	{ .name = "_empty._tcp.test", RAW("") },
	{ .name = "_short._tcp.test", RAW("\0\1\0\2\0") },
	{ .name = "_nameless._tcp.test", RAW("\0\1\0\2\0\3") },
	{ .name = "_open._tcp.test", RAW("\0\1\0\2\0\3\1x") },
	{ .name = "_over._tcp.test", RAW("\0\1\0\2\0\3\77x") },
	{ .name = "_more._tcp.test", RAW("\0\1\0\2\0\3\1x\0\0") },
	{ .name = "_nul._tcp.test", RAW("\0\1\0\2\0\3\3a\0b\0") },
	{ .name = "_odd._tcp.test", RAW("\0\1\0\2\0\3\3a/b\0") },
	{ .name = "_kind._tcp.test",
	    RAW("\0\1\0\2\0\3\101aaaaabbbbbaaaaabbbbbaaaaabbbbbaaaaa"
		"bbbbbaaaaabbbbbaaaaabbbbbaaaaa\0") },
	/* Pointers: half of one, to themselves, and forward. */
	{ .name = "_half._tcp.test", RAW("\0\1\0\2\0\3\300") },
	{ .name = "_loop._tcp.test", RAW("\0\1\0\2\0\3\1x\300\62") },
	{ .name = "_ahead._tcp.test", RAW("\0\1\0\2\0\3\301\0") },
	{ .name = "_fuzz._tcp.test" },
	{ .name = NULL },
};

/* What was called back, as text: "1 2 8080 a.test; ". */
static struct {
	int n, err;
	uint32_t ttl;
	char text[1024];
} result;

static void
told(struct kquay *loop, int err, const struct kquay_srv *list, size_t n,
    uint32_t ttl, void *arg)
{
	size_t i, len = 0;

	ck_assert_ptr_eq(loop, q);
	ck_assert_ptr_eq(arg, &result);
	ck_assert((list == NULL) == (err != 0));
	ck_assert((n == 0) == (err != 0));
	result.n++;
	result.err = err;
	result.ttl = ttl;
	result.text[0] = '\0';
	for (i = 0; i < n && len < sizeof(result.text); i++)
		len += (size_t)snprintf(result.text + len,
		    sizeof(result.text) - len, "%s%u %u %u %s",
		    i == 0 ? "" : "; ", list[i].priority, list[i].weight,
		    list[i].port, list[i].name);
}

static void
begin(void)
{
	struct kquay_conf conf = { .maxconn = 8,
		.nameservers = dns_open(table) };

	memset(&result, 0, sizeof(result));
	kit_start(&(struct kquay_ops){ .open = NULL }, &conf);
	dns_serve();
}

static void
end(void)
{
	kit_stop();
	dns_close();
}

static void
ask(const char *name)
{
	int before = result.n;

	ck_assert_int_eq(kquay_resolve_srv(q, name, told, &result), 0);
	ck_assert_int_eq(result.n, before);
	UNTIL(result.n != before);
	ck_assert_int_eq(result.n, before + 1);
}

static void
expect(const char *name, const char *text, uint32_t ttl)
{
	ask(name);
	ck_assert_int_eq(result.err, 0);
	ck_assert_str_eq(result.text, text);
	ck_assert_uint_eq(result.ttl, ttl);
}

static void
expect_none(const char *name, int err)
{
	ask(name);
	ck_assert_int_eq(result.err, err);
}

START_TEST(in_order)
{
	begin();
	expect("_one._tcp.test", "1 2 8080 a.test", 30);
	expect("_ONE._tcp.Test.", "1 2 8080 a.test", 30);
	expect("_many._tcp.test",
	    "0 65535 65535 zero.test; 10 5 2 first.test; 10 60 3 second.test; "
	    "20 0 1 last.test",
	    600);
	expect("_ptr._tcp.test", "1 2 3 x._tcp.test", 0);
	ck_assert_uint_eq(dns_srv, 4);
	ck_assert_uint_eq(dns_a + dns_aaaa + dns_tcp, 0);
	end();
}
END_TEST

/* An answer holds no longer than the shortest part of it. */
START_TEST(by_another_name)
{
	begin();
	expect("_alias._tcp.test", "1 2 8080 a.test", 7);
	ask("_long._tcp.test");
	ck_assert_uint_eq(result.ttl, 600);
	end();
}
END_TEST

START_TEST(too_long_for_udp)
{
	begin();
	expect("_cut._tcp.test", "1 2 3 by-tcp.test", 5);
	ck_assert_uint_eq(dns_tcp, 1);
	end();
}
END_TEST

START_TEST(none)
{
	begin();
	expect_none("_no._tcp.test", ENOENT);
	expect_none("_other._tcp.test", ENOENT);
	expect_none("_nobody._tcp.test", ENOENT);
	expect_none("_fail._tcp.test", EAGAIN);
	expect("_some._tcp.test", "1 1 1 a.test", 0);
	end();
}
END_TEST

START_TEST(what_makes_no_sense)
{
	static const char *const names[] = { "_empty", "_short", "_nameless",
		"_open", "_over", "_more", "_nul", "_odd", "_kind", "_half",
		"_loop", "_ahead" };
	char name[64];
	size_t i;

	begin();
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		snprintf(name, sizeof(name), "%s._tcp.test", names[i]);
		ask(name);
		ck_assert_msg(result.err == EAGAIN, "%s: %s \"%s\"", name,
		    strerror(result.err), result.text);
	}
	/* Nor does the name itself. */
	ask("a..b");
	ck_assert_int_eq(result.err, ENOENT);
	end();
}
END_TEST

/* Bytes of all kinds: an answer or none, and nothing else happens. */
START_TEST(anything)
{
	static unsigned char raw[64];
	struct dns_name *fuzz = table;
	int i, good = 0, bad = 0;
	size_t k;

	begin();
	while (strcmp(fuzz->name, "_fuzz._tcp.test") != 0)
		fuzz++;
	fuzz->raw = raw;
	srand(1);
	for (i = 0; i < 2000; i++) {
		fuzz->rawlen = (size_t)rand() % sizeof(raw);
		/* Mostly short labels and pointers. */
		for (k = 0; k < fuzz->rawlen; k++)
			raw[k] = (unsigned char)(rand() % 3 == 0 ? 0xc0 :
				rand() % 2 == 0                  ? rand() % 64 :
						  'a' + rand() % 4);
		ask("_fuzz._tcp.test");
		ck_assert(result.err == 0 || result.err == EAGAIN ||
		    result.err == ENOENT);
		good += result.err == 0;
		bad += result.err == EAGAIN;
	}
	ck_assert_int_gt(good, 0);
	ck_assert_int_gt(bad, 0);
	end();
}
END_TEST

static int chained;

static void
ask_again(struct kquay *loop, int err, const struct kquay_srv *list, size_t n,
    uint32_t ttl, void *arg)
{
	(void)list, (void)n, (void)ttl;
	if (err == ECANCELED)
		ck_assert_int_eq(kquay_resolve_srv(loop, "_one._tcp.test",
				     ask_again, arg),
		    -1);
	else if (++chained < 5)
		ck_assert_int_eq(kquay_resolve_srv(loop, "_one._tcp.test",
				     ask_again, arg),
		    0);
}

START_TEST(from_its_callback)
{
	begin();
	chained = 0;
	ck_assert_int_eq(kquay_resolve_srv(q, "_one._tcp.test", ask_again,
			     NULL),
	    0);
	UNTIL(chained == 5);
	/* And when the loop goes, with that. */
	ck_assert_int_eq(kquay_resolve_srv(q, "_deaf._tcp.test", ask_again,
			     NULL),
	    0);
	end();
}
END_TEST

/* Whoever waits is told; one that has come already, too. */
START_TEST(the_loop_is_freed)
{
	int i;

	begin();
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(kquay_resolve_srv(q,
				     i == 0     ? "_deaf._tcp.test" :
					 i == 1 ? "_late._tcp.test" :
						  "a..b",
				     told, &result),
		    0);
	end();
	ck_assert_int_eq(result.n, 3);
	ck_assert_int_eq(result.err, ECANCELED);
	begin();
	kquay_stop(q);
	ck_assert_int_eq(kquay_resolve_srv(q, "_one._tcp.test", told, &result),
	    -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	end();
	ck_assert_int_eq(result.n, 0);
}
END_TEST

static const TTest **const tests[] = {
	&in_order,
	&by_another_name,
	&too_long_for_udp,
	&none,
	&what_makes_no_sense,
	&anything,
	&from_its_callback,
	&the_loop_is_freed,
};

KIT_MAIN("server_srv", tests)
