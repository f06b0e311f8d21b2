/*
 * Names to addresses, with a name server of our own: answers that come late,
 * in part, cut off, or not at all.
 */
#include "dial.h"
#include "t_server_dns.h"

#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

static const struct dns_name table[] = {
	{ .name = "both.test",
	    .a = "192.0.2.1 192.0.2.2",
	    .aaaa = "2001:db8::1 2001:db8::2 2001:db8::3",
	    .ttl = 300 },
	{ .name = "four.test", .a = "192.0.2.4", .ttl = 60 },
	{ .name = "six.test", .aaaa = "2001:db8::6", .ttl = 61 },
	{ .name = "none.test" },
	{ .name = "late.test",
	    .a = "192.0.2.5",
	    .aaaa = "2001:db8::5",
	    .a_ms = 30,
	    .aaaa_ms = 1 },
	{ .name = "deaf.test", .a_ms = DNS_NEVER, .aaaa_ms = DNS_NEVER },
	{ .name = "half.test",
	    .a = "192.0.2.9",
	    .aaaa_ms = DNS_NEVER,
	    .ttl = 5 },
	{ .name = "fail.test", .rcode = 2 },
	{ .name = "refuse.test", .rcode = 5 },
	{ .name = "cut.test",
	    .a = "192.0.2.7",
	    .aaaa = "2001:db8::7",
	    .cut = true,
	    .ttl = 7 },
	{ .name = "alias.test", .cname = "short.test", .ttl = 900 },
	{ .name = "short.test", .a = "192.0.2.8", .ttl = 20 },
	{ .name = NULL },
};

/* What was called back, as text: "192.0.2.1:80 [2001:db8::1]:80". */
static struct result {
	int n, err;
	uint32_t ttl;
	char text[1024];
} result;

static void
resolved(struct kquay *loop, int err, const struct addrinfo *list, uint32_t ttl,
    void *arg)
{
	struct result *r = arg;
	char one[ADDR_TEXT];
	size_t len = 0;

	ck_assert_ptr_eq(loop, q);
	ck_assert((list == NULL) == (err != 0));
	r->n++;
	r->err = err;
	r->ttl = ttl;
	r->text[0] = '\0';
	for (; list != NULL; list = list->ai_next) {
		kquay_addr_text(list->ai_addr, list->ai_addrlen, one,
		    sizeof(one));
		len += (size_t)snprintf(r->text + len, sizeof(r->text) - len,
		    "%s%s", len == 0 ? "" : " ", one);
	}
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
ask(const char *host, const char *port)
{
	int before = result.n;

	ck_assert_int_eq(kquay_resolve(q, host, port, resolved, &result), 0);
	ck_assert_int_eq(result.n, before);
	UNTIL(result.n != before);
}

#define EXPECT(host, want)                                                     \
	do {                                                                   \
		ask(host, "80");                                               \
		ck_assert_int_eq(result.err, 0);                               \
		ck_assert_str_eq(result.text, want);                           \
	} while (0)

/* Numbers and the loopback are known; nobody is asked. */
START_TEST(known_without_asking)
{
	begin();
	EXPECT("192.0.2.77", "192.0.2.77:80");
	ck_assert_uint_eq(result.ttl, UINT32_MAX);
	EXPECT("2001:db8::77", "[2001:db8::77]:80");
	EXPECT("::1", "[::1]:80");
	EXPECT("localhost", "[::1]:80 127.0.0.1:80");
	EXPECT("LocalHost.", "[::1]:80 127.0.0.1:80");
	EXPECT("www.localhost", "[::1]:80 127.0.0.1:80");
	ck_assert_uint_eq(result.ttl, UINT32_MAX);
	ck_assert_uint_eq(dns_udp + dns_tcp, 0);
	ask("", "80");
	ck_assert_int_eq(result.err, ENOENT);
	ck_assert_uint_eq(dns_udp + dns_tcp, 0);
	ask("notlocalhost", "80");
	ck_assert_int_eq(result.err, ENOENT);
	ck_assert_uint_ne(dns_udp, 0);
	end();
}
END_TEST

START_TEST(ports_and_services)
{
	static const char *const bad[] = { "", "-1", "65536", "80x", " 80",
		"no-such-service" };
	size_t i;

	begin();
	ask("192.0.2.1", "0");
	ck_assert_str_eq(result.text, "192.0.2.1:0");
	ask("192.0.2.1", "65535");
	ck_assert_str_eq(result.text, "192.0.2.1:65535");
	ask("::1", "https");
	ck_assert_str_eq(result.text, "[::1]:443");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		errno = 0;
		ck_assert_int_eq(kquay_resolve(q, "::1", bad[i], resolved,
				     &result),
		    -1);
		ck_assert_int_eq(errno, ENOENT);
	}
	kit_settle();
	ck_assert_int_eq(result.n, 3);
	end();
}
END_TEST

START_TEST(names)
{
	begin();
	EXPECT("both.test",
	    "[2001:db8::1]:80 192.0.2.1:80 [2001:db8::2]:80 192.0.2.2:80 "
	    "[2001:db8::3]:80");
	ck_assert_uint_eq(result.ttl, 300);
	EXPECT("four.test", "192.0.2.4:80");
	ck_assert_uint_eq(result.ttl, 60);
	EXPECT("SIX.test", "[2001:db8::6]:80");
	ck_assert_uint_eq(result.ttl, 61);
	EXPECT("late.test", "[2001:db8::5]:80 192.0.2.5:80");
	ck_assert_uint_eq(result.ttl, 0);
	EXPECT("alias.test", "192.0.2.8:80");
	ck_assert_uint_eq(result.ttl, 20);
	end();
}
END_TEST

/* Each way in which there can be no address. */
START_TEST(no_address)
{
	begin();
	ask("none.test", "80");
	ck_assert_int_eq(result.err, ENOENT);
	ask("nxdomain.test", "80");
	ck_assert_int_eq(result.err, ENOENT);
	ask("fail.test", "80");
	ck_assert_int_eq(result.err, EAGAIN);
	ask("refuse.test", "80");
	ck_assert_int_eq(result.err, EAGAIN);
	ask("a..b", "80");
	ck_assert_int_eq(result.err, ENOENT);
	ck_assert_uint_eq(result.ttl, 0);
	end();
}
END_TEST

/* A name server that does not answer is asked again, and then given up. */
START_TEST(no_answer)
{
	begin();
	ck_assert_int_eq(kquay_resolve_patience(q, 20, 2), 0);
	ask("deaf.test", "80");
	ck_assert_int_eq(result.err, ETIMEDOUT);
	ck_assert_uint_eq(dns_a, 2);
	ck_assert_uint_eq(dns_aaaa, 2);
	EXPECT("half.test", "192.0.2.9:80");
	ck_assert_uint_eq(result.ttl, 5);
	end();
}
END_TEST

/* Nobody is there at all. */
START_TEST(no_name_server)
{
	begin();
	dns_close();
	ck_assert_int_eq(kquay_resolve_patience(q, 20, 2), 0);
	ask("both.test", "80");
	ck_assert_int_eq(result.err, EAGAIN);
	kit_stop();
}
END_TEST

/* What did not fit is asked for again by TCP. */
START_TEST(cut_off)
{
	begin();
	EXPECT("cut.test", "[2001:db8::7]:80 192.0.2.7:80");
	ck_assert_uint_eq(dns_udp, 2);
	ck_assert_uint_eq(dns_tcp, 2);
	ck_assert_uint_eq(result.ttl, 7);
	end();
}
END_TEST

/* Many who ask for one name at a time are one for the name server. */
START_TEST(asked_once)
{
	int i;

	begin();
	for (i = 0; i < 1000; i++)
		ck_assert_int_eq(kquay_resolve(q, "late.test", "80", resolved,
				     &result),
		    0);
	UNTIL(result.n == 1000);
	ck_assert_str_eq(result.text, "[2001:db8::5]:80 192.0.2.5:80");
	ck_assert_uint_eq(dns_udp, 2);
	EXPECT("late.test", "[2001:db8::5]:80 192.0.2.5:80");
	ck_assert_uint_eq(dns_udp, 4);
	end();
}
END_TEST

static struct half_seen {
	struct query query;
	int n;
	enum family family[2];
	uint32_t addresses[2];
} half_seen;

static void
half(struct query *query, enum family family, const struct answer *answer)
{
	struct half_seen *h = (void *)query;

	ck_assert_int_lt(h->n, 2);
	h->family[h->n] = family;
	h->addresses[h->n++] = answer->n;
}

/* Each half of an answer is told when it comes, also to who comes between. */
START_TEST(halves)
{
	struct half_seen second = { .query = { .fn = half } };

	begin();
	memset(&half_seen, 0, sizeof(half_seen));
	half_seen.query.fn = half;
	ck_assert_int_eq(kquay_resolve_ask(q, "late.test", &half_seen.query),
	    0);
	ck_assert_int_eq(half_seen.n, 0);
	UNTIL(half_seen.n == 1);
	ck_assert_int_eq(half_seen.family[0], FAMILY_6);
	ck_assert_int_eq(kquay_resolve_ask(q, "late.test", &second.query), 0);
	ck_assert_int_eq(second.n, 1);
	ck_assert_int_eq(second.family[0], FAMILY_6);
	UNTIL(half_seen.n == 2);
	ck_assert_int_eq(half_seen.family[1], FAMILY_4);
	ck_assert_uint_eq(half_seen.addresses[1], 1);
	ck_assert_int_eq(second.n, 2);
	ck_assert_ptr_null(half_seen.query.lookup);
	ck_assert_uint_eq(dns_udp, 2);
	end();
}
END_TEST

/* Who has left is not told; the others are. */
START_TEST(cancelled)
{
	begin();
	memset(&half_seen, 0, sizeof(half_seen));
	half_seen.query.fn = half;
	ck_assert_int_eq(kquay_resolve_ask(q, "late.test", &half_seen.query),
	    0);
	kquay_resolve_cancel(&half_seen.query);
	kquay_resolve_cancel(&half_seen.query);
	EXPECT("late.test", "[2001:db8::5]:80 192.0.2.5:80");
	ck_assert_int_eq(half_seen.n, 0);
	end();
}
END_TEST

/* The loop's end calls back who waits still. */
START_TEST(freed_while_asking)
{
	begin();
	ck_assert_int_eq(kquay_resolve(q, "deaf.test", "80", resolved, &result),
	    0);
	ck_assert_int_eq(kquay_resolve(q, "192.0.2.1", "80", resolved, &result),
	    0);
	kit_step();
	ck_assert_int_eq(result.n, 1);
	kquay_stop(q);
	errno = 0;
	ck_assert_int_eq(kquay_resolve(q, "192.0.2.1", "80", resolved, &result),
	    -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	end();
	ck_assert_int_eq(result.n, 2);
	ck_assert_int_eq(result.err, ECANCELED);
}
END_TEST

/* A name of /etc/hosts is not asked for. */
START_TEST(hosts_first)
{
	char line[512], addr[64], name[256], want[128];
	struct in_addr in;
	FILE *hosts;

	name[0] = '\0';
	hosts = fopen("/etc/hosts", "r");
	while (hosts != NULL && fgets(line, sizeof(line), hosts) != NULL)
		if (sscanf(line, "%63s %255s", addr, name) == 2 &&
		    inet_pton(AF_INET, addr, &in) == 1 &&
		    strstr(name, "localhost") == NULL)
			break;
		else
			name[0] = '\0';
	if (hosts != NULL)
		fclose(hosts);
	if (name[0] == '\0')
		return;
	begin();
	ask(name, "80");
	ck_assert_int_eq(result.err, 0);
	snprintf(want, sizeof(want), "%s:80", addr);
	ck_assert_ptr_nonnull(strstr(result.text, want));
	ck_assert_uint_eq(result.ttl, 0);
	ck_assert_uint_eq(dns_udp, 0);
	end();
}
END_TEST

START_TEST(bad_name_servers)
{
	struct kquay_conf conf = { .maxconn = 8, .nameservers = "nowhere" };
	struct kquay_ops ops = { .open = NULL };

	errno = 0;
	ck_assert_ptr_null(kquay_new(&ops, &conf));
	ck_assert_int_eq(errno, EINVAL);
}
END_TEST

/* c-ares closes its sockets when there is nothing to ask. */
START_TEST(no_descriptor_stays)
{
	int before, i;

	begin();
	EXPECT("both.test",
	    "[2001:db8::1]:80 192.0.2.1:80 [2001:db8::2]:80 192.0.2.2:80 "
	    "[2001:db8::3]:80");
	before = unit_descriptors();
	for (i = 0; i < 20; i++)
		EXPECT("six.test", "[2001:db8::6]:80");
	ck_assert_int_eq(unit_descriptors(), before);
	end();
}
END_TEST

static const TTest **const tests[] = { &known_without_asking,
	&ports_and_services, &names, &no_address, &no_answer, &no_name_server,
	&cut_off, &asked_once, &halves, &cancelled, &freed_while_asking,
	&hosts_first, &bad_name_servers, &no_descriptor_stays };

KIT_MAIN("resolve", tests)
