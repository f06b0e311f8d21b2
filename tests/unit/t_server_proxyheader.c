/*
 * PROXY headers as bytes: what is one, what is none, and that what is written
 * is read again.
 */
#include "proxy_header.h"
#include "t_unit.h"

#include <arpa/inet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES(s) s, sizeof(s) - 1
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define ADDRS4 "\300\0\2\1\300\0\2\2\22\147\0\120"
#define CRC "\147\371\271\162"

static const char *
text(const union proxy_addr *addr)
{
	static char turn[4][INET6_ADDRSTRLEN + 8];
	static unsigned n;
	char host[INET6_ADDRSTRLEN], *to = turn[n++ % 4];

	if (addr->sa.sa_family == AF_INET)
		snprintf(to, sizeof(turn[0]), "%s %u",
		    inet_ntop(AF_INET, &addr->in4.sin_addr, host, sizeof(host)),
		    ntohs(addr->in4.sin_port));
	else if (addr->sa.sa_family == AF_INET6)
		snprintf(to, sizeof(turn[0]), "%s %u",
		    inet_ntop(AF_INET6, &addr->in6.sin6_addr, host,
			sizeof(host)),
		    ntohs(addr->in6.sin6_port));
	else if (addr->sa.sa_family == AF_UNIX)
		snprintf(to, sizeof(turn[0]), "%.40s", addr->un.sun_path);
	else
		snprintf(to, sizeof(turn[0]), "-");
	return to;
}

/* Reads a copy that ends where it must, for a sanitizer to watch. */
static ssize_t
read_exactly(const char *buf, size_t len, struct proxy *p)
{
	char *copy = malloc(len == 0 ? 1 : len);
	ssize_t rc;

	if (len > 0)
		memcpy(copy, buf, len);
	rc = kquay_proxy_read(copy, len, p);
	free(copy);
	return rc;
}

/* Of every part of a good header more is needed, whatever follows it. */
static void
check_parts(const char *buf, size_t len)
{
	struct proxy p;
	size_t n;

	for (n = 0; n < len; n++)
		ck_assert_msg(read_exactly(buf, n, &p) == 0, "%zu of %zu", n,
		    len);
}

/* -- version 1 ------------------------------------------------------------- */

static const struct v1 {
	const char *line, *src, *dst; /* src NULL: bad */
} v1[] = {
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", "192.0.2.1 4711",
	    "192.0.2.2 80" },
	{ "PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0 0",
	    "255.255.255.255 65535" },
	{ "PROXY TCP6 2001:db8::1 ::1 4711 80\r\n", "2001:db8::1 4711",
	    "::1 80" },
	{ "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535",
	    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535" },
	{ "PROXY UNKNOWN\r\n", "-", "-" },
	{ "PROXY UNKNOWN whatever  there is\t\r\n", "-", "-" },
	/* 107 bytes are the most. */
	{ "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
	    "-", "-" },
	{ "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
	  "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 655350\r\n",
	    NULL, NULL },
	{ "PROXY UNKNOWNS\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80 \r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\r\n", NULL, NULL },
	{ "PROXY TCP4  192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY  TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80 1\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 99999999999999999999999\r\n",
	    NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 04711 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 -1 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 +1 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.1 192.0.2.2 4711 \r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.01 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2.256 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP4 192.0.2 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP4 ::1 ::1 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP6 192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP6 1::2::3 ::1 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP6 ::1%lo ::1 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP5 192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY tcp4 192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY TCP4\t192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "PROXY \r\n", NULL, NULL },
	{ "proxy TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", NULL, NULL },
	{ "GET / HTTP/1.0\r\n", NULL, NULL },
	{ "P\r\n", NULL, NULL },
};

START_TEST(lines_of_version_1)
{
	const struct v1 *row;
	char buf[256];
	struct proxy p;
	ssize_t rc;

	for (row = v1; row < v1 + COUNT(v1); row++) {
		snprintf(buf, sizeof(buf), "%sand more", row->line);
		rc = read_exactly(buf, strlen(buf), &p);
		if (row->src == NULL) {
			ck_assert_msg(rc == -1, "%s: %zd", row->line, rc);
			continue;
		}
		ck_assert_msg(rc == (ssize_t)strlen(row->line), "%s: %zd",
		    row->line, rc);
		ck_assert_int_eq(p.version, 1);
		ck_assert_int_eq(p.local, 0);
		ck_assert_str_eq(text(&p.src), row->src);
		ck_assert_str_eq(text(&p.dst), row->dst);
		ck_assert_uint_eq(p.tlvslen, 0);
		check_parts(row->line, strlen(row->line));
	}
	/* A NUL does not hide what follows. */
	ck_assert_int_eq(read_exactly(BYTES("PROXY UNKNOWN\0 x\r\n"), &p), -1);
	/* 107 bytes without an end are wrong, and 106 may become right. */
	memset(buf, 'x', sizeof(buf));
	memcpy(buf, "PROXY UNKNOWN ", 14);
	ck_assert_int_eq(read_exactly(buf, 106, &p), 0);
	ck_assert_int_eq(read_exactly(buf, 107, &p), -1);
}
END_TEST

/* -- version 2 ------------------------------------------------------------- */

static const struct v2 {
	const char *buf;
	size_t len;
	ssize_t rc;
	const char *src, *dst;
} v2[] = {
	/* LOCAL: whatever follows, it is skipped. */
	{ BYTES(SIGNATURE "\40\0\0\0"), 16, "-", "-" },
	{ BYTES(SIGNATURE "\40\377\0\3abc"), 19, "-", "-" },
	{ BYTES(SIGNATURE "\40\21\0\14" ADDRS4), 28, "-", "-" },
	/* TCP and UDP over IPv4. */
	{ BYTES(SIGNATURE "\41\21\0\14" ADDRS4), 28, "192.0.2.1 4711",
	    "192.0.2.2 80" },
	{ BYTES(SIGNATURE "\41\22\0\14" ADDRS4), 28, "192.0.2.1 4711",
	    "192.0.2.2 80" },
	{ BYTES(SIGNATURE "\41\41\0\44"
			  "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1"
			  "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\2"
			  "\0\1\0\2"),
	    52, "2001:db8::1 1", "2001:db8::2 2" },
	{ BYTES(SIGNATURE "\41\0\0\0"), 16, "-", "-" },
	/* Fields: empty, of a type of nobody, of no more than 128 bytes. */
	{ BYTES(SIGNATURE "\41\21\0\17" ADDRS4 "\4\0\0"), 31, "192.0.2.1 4711",
	    "192.0.2.2 80" },
	{ BYTES(SIGNATURE "\41\21\0\21" ADDRS4 "\352\0\2ab"), 33,
	    "192.0.2.1 4711", "192.0.2.2 80" },
	/* The sum of all, computed elsewhere. */
	{ BYTES(SIGNATURE "\41\21\0\30" ADDRS4 "\1\0\2h2\3\0\4" CRC), 40,
	    "192.0.2.1 4711", "192.0.2.2 80" },
	{ BYTES(SIGNATURE "\41\21\0\30" ADDRS4 "\1\0\2h3\3\0\4" CRC), -1, NULL,
	    NULL },
	{ BYTES(SIGNATURE "\41\21\0\22" ADDRS4 "\3\0\3abc"), -1, NULL, NULL },
	/* A field that is cut off by the end of the header. */
	{ BYTES(SIGNATURE "\41\21\0\15" ADDRS4 "\4"), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\21\0\17" ADDRS4 "\4\0\1"), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\21\0\17" ADDRS4 "\4\377\377"), -1, NULL, NULL },
	/* SSL: too short, an inner field cut off, complete. */
	{ BYTES(SIGNATURE "\41\21\0\23" ADDRS4 "\40\0\4\1\0\0\0"), -1, NULL,
	    NULL },
	{ BYTES(SIGNATURE "\41\21\0\27" ADDRS4 "\40\0\10\1\0\0\0\0\41\0\1"), -1,
	    NULL, NULL },
	{ BYTES(SIGNATURE "\41\21\0\27" ADDRS4 "\40\0\10\1\0\0\0\0\41\0\0"), 39,
	    "192.0.2.1 4711", "192.0.2.2 80" },
	/* No room for the addresses; a wrong family, command or version. */
	{ BYTES(SIGNATURE "\41\21\0\13" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\41\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\20\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\23\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\41\101\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\42\21\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\21\21\0\14" ADDRS4), -1, NULL, NULL },
	{ BYTES(SIGNATURE "\61"), -1, NULL, NULL },
	/* Longer than anybody would send. */
	{ BYTES(SIGNATURE "\40\0\377\377"), -1, NULL, NULL },
	{ BYTES("\r\n\r\n\0\r\nQUIT\r"), -1, NULL, NULL },
	{ BYTES("\r\n\r\n\1"), -1, NULL, NULL },
	{ BYTES("\n"), -1, NULL, NULL },
};

START_TEST(headers_of_version_2)
{
	const struct v2 *row;
	char buf[256];
	struct proxy p;
	ssize_t rc;

	for (row = v2; row < v2 + COUNT(v2); row++) {
		memcpy(buf, row->buf, row->len);
		memcpy(buf + row->len, "more", 4);
		rc = row->rc == -1 ? read_exactly(row->buf, row->len, &p) :
				     read_exactly(buf, row->len + 4, &p);
		ck_assert_msg(rc == row->rc, "row %zu: %zd", (size_t)(row - v2),
		    rc);
		if (rc == -1)
			continue;
		ck_assert_int_eq(p.version, 2);
		ck_assert_int_eq(p.local, row->buf[12] == ' ');
		ck_assert_str_eq(text(&p.src), row->src);
		ck_assert_str_eq(text(&p.dst), row->dst);
		check_parts(row->buf, row->len);
	}
}
END_TEST

/* -- what is written is read ----------------------------------------------- */

static char wire[4096];

static void
address(union proxy_addr *addr, int family, const char *host, int port)
{
	memset(addr, 0, sizeof(*addr));
	addr->sa.sa_family = (sa_family_t)family;
	if (family == AF_INET) {
		addr->in4.sin_port = htons((in_port_t)port);
		inet_pton(family, host, &addr->in4.sin_addr);
	} else if (family == AF_INET6) {
		addr->in6.sin6_port = htons((in_port_t)port);
		inet_pton(family, host, &addr->in6.sin6_addr);
	} else if (family == AF_UNIX)
		strcpy(addr->un.sun_path, host);
}

static const struct pair {
	int family;
	const char *src, *dst;
	const char *line;        /* version 1 */
	const char *asrc, *adst; /* as version 2 tells them */
} pairs[] = {
	{ AF_INET, "192.0.2.1", "192.0.2.2",
	    "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n", "192.0.2.1 4711",
	    "192.0.2.2 80" },
	{ AF_INET6, "2001:db8::1", "2001:db8::2",
	    "PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n",
	    "2001:db8::1 4711", "2001:db8::2 80" },
	{ AF_UNIX, "", "/run/socket", "PROXY UNKNOWN\r\n", "", "/run/socket" },
	{ AF_UNSPEC, "", "", "PROXY UNKNOWN\r\n", "-", "-" },
};

START_TEST(addresses_come_back)
{
	struct proxy_out o;
	const struct pair *row;
	union proxy_addr src, dst;
	struct proxy p;

	for (row = pairs; row < pairs + COUNT(pairs); row++) {
		address(&src, row->family, row->src, 4711);
		address(&dst, row->family, row->dst, 80);
		o = (struct proxy_out){ .buf = wire, .size = sizeof(wire) };
		kquay_proxy_write1(&o, &src.sa, &dst.sa);
		ck_assert_uint_eq(o.len, strlen(row->line));
		ck_assert(memcmp(wire, row->line, o.len) == 0);

		o = (struct proxy_out){ .buf = wire, .size = sizeof(wire) };
		kquay_proxy_begin(&o, &src.sa, &dst.sa);
		kquay_proxy_end(&o);
		ck_assert_int_eq(o.full, 0);
		ck_assert_int_eq(read_exactly(wire, o.len, &p), o.len);
		ck_assert_int_eq(p.local, 0);
		ck_assert_str_eq(text(&p.src), row->asrc);
		ck_assert_str_eq(text(&p.dst), row->adst);
		check_parts(wire, o.len);
	}
	/* Of two families there is nothing to tell. */
	address(&src, AF_INET, "192.0.2.1", 1);
	o = (struct proxy_out){ .buf = wire, .size = sizeof(wire) };
	kquay_proxy_begin(&o, &src.sa, &dst.sa);
	kquay_proxy_end(&o);
	ck_assert_int_eq(kquay_proxy_read(wire, o.len, &p), o.len);
	ck_assert_str_eq(text(&p.src), "-");
	o = (struct proxy_out){ .buf = wire, .size = sizeof(wire) };
	kquay_proxy_begin(&o, NULL, NULL);
	kquay_proxy_end(&o);
	ck_assert_int_eq(kquay_proxy_read(wire, o.len, &p), o.len);
	ck_assert_int_eq(p.local, 1);
}
END_TEST

static void
check_field(const struct proxy *p, int type, const char *want)
{
	const char *got;
	size_t len;

	got = kquay_proxy_tlv(p->tlvs, p->tlvslen, type, &len);
	if (want == NULL) {
		ck_assert_ptr_null(got);
		return;
	}
	ck_assert_msg(got != NULL, "type %d", type);
	ck_assert_uint_eq(len, strlen(want));
	ck_assert(memcmp(got, want, len) == 0);
}

START_TEST(fields_come_back)
{
	union proxy_addr src, dst;
	struct proxy_out o = { .buf = wire, .size = sizeof(wire) };
	struct proxy p;
	size_t ssl, len;
	const char *got;
	int bit;

	address(&src, AF_INET, "192.0.2.1", 1);
	address(&dst, AF_INET, "192.0.2.2", 2);
	kquay_proxy_begin(&o, &src.sa, &dst.sa);
	kquay_proxy_put(&o, KQUAY_TLV_ALPN, "h2", 2);
	kquay_proxy_put(&o, KQUAY_TLV_AUTHORITY, "example.org", 11);
	ssl = kquay_proxy_begin_ssl(&o, 3, 18);
	kquay_proxy_put(&o, KQUAY_TLV_SSL_VERSION, "TLSv1.3", 7);
	kquay_proxy_put(&o, KQUAY_TLV_SSL_CN, "", 0);
	kquay_proxy_end_ssl(&o, ssl);
	kquay_proxy_put(&o, KQUAY_TLV_UNIQUE_ID, "0123456789", 10);
	kquay_proxy_end(&o);
	ck_assert_int_eq(read_exactly(wire, o.len, &p), o.len);
	check_parts(wire, o.len);

	ck_assert_int_eq(kquay_proxy_read(wire, o.len, &p), o.len);
	check_field(&p, KQUAY_TLV_ALPN, "h2");
	check_field(&p, KQUAY_TLV_AUTHORITY, "example.org");
	check_field(&p, KQUAY_TLV_SSL_VERSION, "TLSv1.3");
	check_field(&p, KQUAY_TLV_SSL_CN, "");
	check_field(&p, KQUAY_TLV_SSL_CIPHER, NULL);
	check_field(&p, KQUAY_TLV_UNIQUE_ID, "0123456789");
	check_field(&p, KQUAY_TLV_NETNS, NULL);
	got = kquay_proxy_tlv(p.tlvs, p.tlvslen, KQUAY_TLV_SSL, &len);
	ck_assert_uint_eq(len, 5 + 3 + 7 + 3);
	ck_assert(memcmp(got, "\3\0\0\0\22\41\0\7", 8) == 0);

	/* The sum finds every bit that was turned. */
	for (bit = 16 * 8; bit < (int)o.len * 8; bit++) {
		wire[bit / 8] ^= (char)(1 << bit % 8);
		ck_assert_msg(read_exactly(wire, o.len, &p) == -1 ||
			(unsigned)bit / 8 >= o.len - 7,
		    "bit %d", bit);
		wire[bit / 8] ^= (char)(1 << bit % 8);
	}
}
END_TEST

START_TEST(what_has_no_room_is_not_cut)
{
	union proxy_addr src, dst;
	struct proxy_out o;
	size_t room, need;
	struct proxy p;

	address(&src, AF_INET6, "2001:db8::1", 1);
	address(&dst, AF_INET6, "2001:db8::2", 2);
	need = 16 + 36 + 3 + 5 + 3 + 4;
	for (room = 0; room <= need; room++) {
		char *small = malloc(room == 0 ? 1 : room);

		o = (struct proxy_out){ .buf = small, .size = room };
		kquay_proxy_begin(&o, &src.sa, &dst.sa);
		kquay_proxy_put(&o, KQUAY_TLV_AUTHORITY, "there", 5);
		kquay_proxy_end(&o);
		ck_assert_int_eq(o.full, room < need);
		if (room == need)
			ck_assert_int_eq(kquay_proxy_read(small, o.len, &p),
			    need);
		free(small);
	}
}
END_TEST

/* Whatever comes, nothing outside of it is read; a valid one stays bounded. */
START_TEST(random_bytes_do_no_harm)
{
	static const char *const starts[] = { "", "PROXY ",
		"PROXY TCP4 1.2.3.4", "PROXY UNKNOWN" };
	char buf[300];
	struct proxy p;
	unsigned seed;
	size_t len, n, i;
	ssize_t rc;

	for (seed = 0; seed < 20000; seed++) {
		srand(seed);
		len = (size_t)rand() % sizeof(buf);
		for (i = 0; i < len; i++)
			buf[i] = (char)rand();
		n = strlen(starts[seed % 4]);
		memcpy(buf, starts[seed % 4], n < len ? n : len);
		if (seed % 3 == 0 && len > 20) {
			memcpy(buf, SIGNATURE "\41", 13);
			buf[13] = (char)(0x11 + 0x10 * (rand() % 3));
			buf[14] = 0;
		}
		rc = read_exactly(buf, len, &p);
		ck_assert_int_ge(rc, -1);
		ck_assert_int_le(rc, len);
	}
}
END_TEST

int
main(void)
{
	static const TTest **const tests[] = { &lines_of_version_1,
		&headers_of_version_2, &addresses_come_back, &fields_come_back,
		&what_has_no_room_is_not_cut, &random_bytes_do_no_harm };
	TCase *tc = unit_begin("proxyheader");
	size_t i;

	for (i = 0; i < COUNT(tests); i++)
		tcase_add_test(tc, *tests[i]);
	return unit_end();
}
