/*
 * ClientHellos: those of a real client, in one piece and in all others, and
 * what is none.
 */
#include "sni.h"
#include "t_unit.h"

#include <openssl/ssl.h>

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

enum { RECORD_HEAD = 5, HELLO_MAX = SNI_MAX + 4096 };

struct hello {
	uint8_t data[HELLO_MAX];
	size_t len;
};

/* Reads a copy that ends where it must, for a sanitizer to watch. */
static enum sni_found
read_exactly(const uint8_t *data, size_t len, char *name)
{
	uint8_t *copy = calloc(1, len == 0 ? 1 : len);
	enum sni_found found;

	memset(name, 'x', SNI_NAME_MAX + 1);
	if (len > 0)
		memcpy(copy, data, len);
	found = sni_read(copy, len, name);
	free(copy);
	ck_assert_ptr_ne(memchr(name, '\0', SNI_NAME_MAX + 1), NULL);
	if (found != SNI_NAME)
		ck_assert_str_eq(name, "");
	return found;
}

/* -- what a real client sends ---------------------------------------------- */

/* A client of OpenSSL's, as the test wants it; name may be NULL. */
struct client {
	const char *name;
	int version;      /* the newest it speaks; 0: OpenSSL's */
	long fragment;    /* of its records; 0: OpenSSL's */
	size_t protocols; /* bytes of ALPN */
};

static const struct client clients[] = {
	{ "www.example.com", 0, 0, 0 },
	{ "WWW.Example.COM", 0, 0, 0 },
	{ "a", TLS1_2_VERSION, 0, 0 },
	{ "xn--mnchen-3ya.example", TLS1_1_VERSION, 0, 0 },
	{ "_dns.resolver.example", TLS1_VERSION, 0, 12 },
	{ "192.0.2.1", 0, 0, 12 },
	{ NULL, 0, 0, 0 },
	{ NULL, TLS1_2_VERSION, 0, 12 },
	{ "long.example", 0, 512, 2000 },
	{ "longer.example", 0, 0, 9000 },
	{ "longest.example", 0, 512, 15000 },
};

static void
make_hello(const struct client *client, struct hello *hello)
{
	static uint8_t alpn[SNI_MAX];
	char host[SNI_NAME_MAX + 1];
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	size_t i;
	SSL *ssl;
	BIO *in, *out;
	int n;

	SSL_CTX_set_security_level(ctx, 0);
	ck_assert_int_eq(SSL_CTX_set_max_proto_version(ctx, client->version),
	    1);
	ck_assert_int_eq(SSL_CTX_set_min_proto_version(ctx, 0), 1);
	if (client->fragment != 0)
		ck_assert_int_eq(SSL_CTX_set_max_send_fragment(ctx,
				     client->fragment),
		    1);
	ssl = SSL_new(ctx);
	in = BIO_new(BIO_s_mem());
	out = BIO_new(BIO_s_mem());
	ck_assert(ssl != NULL && in != NULL && out != NULL);
	SSL_set_bio(ssl, in, out);
	if (client->name != NULL) {
		/* What the macro is given it takes for its own. */
		snprintf(host, sizeof(host), "%s", client->name);
		ck_assert_int_eq(SSL_set_tlsext_host_name(ssl, host), 1);
	}
	for (i = 0; i < client->protocols; i++)
		alpn[i] = i % 4 == 0 ? 3 : 'a';
	if (client->protocols > 0)
		ck_assert_int_eq(SSL_set_alpn_protos(ssl, alpn,
				     (unsigned)client->protocols),
		    0);
	SSL_set_connect_state(ssl);
	ck_assert_int_eq(SSL_do_handshake(ssl), -1);
	n = BIO_read(out, hello->data, HELLO_MAX);
	ck_assert_int_gt(n, 0);
	hello->len = (size_t)n;
	SSL_free(ssl);
	SSL_CTX_free(ctx);
}

/* What sni_read() is to say about it. */
static enum sni_found
expected(const struct client *client, char *name)
{
	size_t i;

	name[0] = '\0';
	if (client->name == NULL)
		return SNI_NONE;
	for (i = 0; i <= strlen(client->name); i++)
		name[i] =
		    (char)(client->name[i] >= 'A' && client->name[i] <= 'Z' ?
			    client->name[i] + 'a' - 'A' :
			    client->name[i]);
	return SNI_NAME;
}

/* All of it is needed, and nothing after it. */
static void
check_whole(const struct hello *hello, enum sni_found found, const char *name)
{
	static uint8_t more[2 * HELLO_MAX];
	char got[SNI_NAME_MAX + 1];
	size_t n;

	for (n = 0; n < hello->len; n++)
		ck_assert_msg(read_exactly(hello->data, n, got) == SNI_MORE,
		    "%zu of %zu", n, hello->len);
	ck_assert_int_eq(read_exactly(hello->data, hello->len, got), found);
	ck_assert_str_eq(got, name);
	memset(more, 0xff, sizeof(more));
	memcpy(more, hello->data, hello->len);
	ck_assert_int_eq(read_exactly(more, sizeof(more), got), found);
	ck_assert_str_eq(got, name);
}

START_TEST(hellos_of_a_client)
{
	struct hello hello;
	char name[SNI_NAME_MAX + 1];
	enum sni_found found;

	make_hello(&clients[_i], &hello);
	if (clients[_i].fragment != 0) /* it is in several records */
		ck_assert_int_lt((hello.data[3] << 8 | hello.data[4]) +
			RECORD_HEAD,
		    hello.len);
	found = expected(&clients[_i], name);
	check_whole(&hello, found, name);
}
END_TEST

/* The same message, in records that end before byte n, n + step, ... of it. */
static int
split(const struct hello *hello, size_t n, size_t step, struct hello *to)
{
	const uint8_t *at = hello->data + RECORD_HEAD;
	size_t left = hello->len - RECORD_HEAD;

	to->len = 0;
	for (; left > 0; left -= n, at += n, n = step) {
		if (n > left)
			n = left;
		if (to->len + RECORD_HEAD + n > HELLO_MAX)
			return -1;
		memcpy(to->data + to->len, hello->data, 3);
		to->data[to->len + 3] = (uint8_t)(n >> 8);
		to->data[to->len + 4] = (uint8_t)n;
		memcpy(to->data + to->len + RECORD_HEAD, at, n);
		to->len += RECORD_HEAD + n;
	}
	return 0;
}

START_TEST(hellos_in_many_records)
{
	static const struct client client = { "split.example", 0, 0, 12 };
	static struct hello hello, parts;
	char name[SNI_NAME_MAX + 1];
	size_t n;

	make_hello(&client, &hello);
	for (n = 1; n < hello.len - RECORD_HEAD; n++) {
		ck_assert_int_eq(split(&hello, n, hello.len, &parts), 0);
		check_whole(&parts, SNI_NAME, "split.example");
		ck_assert_int_eq(split(&hello, n, n, &parts), 0);
		ck_assert_int_eq(read_exactly(parts.data, parts.len, name),
		    SNI_NAME);
		ck_assert_str_eq(name, "split.example");
	}
	/* Nothing else comes between them. */
	ck_assert_int_eq(split(&hello, 100, hello.len, &parts), 0);
	parts.data[RECORD_HEAD + 100] = 23;
	ck_assert_int_eq(read_exactly(parts.data, parts.len, name), SNI_BAD);
	ck_assert_int_eq(read_exactly(parts.data, RECORD_HEAD + 101, name),
	    SNI_BAD);
	/* A record without a byte would make them endless. */
	ck_assert_int_eq(split(&hello, 100, hello.len, &parts), 0);
	memmove(parts.data + RECORD_HEAD, parts.data, parts.len);
	parts.data[3] = parts.data[4] = 0;
	ck_assert_int_eq(read_exactly(parts.data, parts.len, name), SNI_BAD);
}
END_TEST

/* What is not whole within SNI_MAX bytes is none. */
START_TEST(hellos_have_an_end)
{
	static const struct client client = { "long.example", 0, 0, 9000 };
	static struct hello hello, parts;
	char name[SNI_NAME_MAX + 1];
	size_t n;

	make_hello(&client, &hello);
	for (n = 1; split(&hello, n, n, &parts) == -1; n++)
		continue;
	for (; parts.len > SNI_MAX; n++, split(&hello, n, n, &parts)) {
		ck_assert_int_eq(read_exactly(parts.data, SNI_MAX - 1, name),
		    SNI_MORE);
		ck_assert_int_eq(read_exactly(parts.data, SNI_MAX, name),
		    SNI_BAD);
		ck_assert_int_eq(read_exactly(parts.data, parts.len, name),
		    SNI_BAD);
	}
	ck_assert_int_eq(read_exactly(parts.data, parts.len, name), SNI_NAME);
	/* And what says that it is longer is none as soon as it does. */
	hello.data[RECORD_HEAD + 1] = 0;
	hello.data[RECORD_HEAD + 2] = (SNI_MAX - 9 + 1) >> 8;
	hello.data[RECORD_HEAD + 3] = (SNI_MAX - 9 + 1) & 0xff;
	ck_assert_int_eq(read_exactly(hello.data, RECORD_HEAD + 4, name),
	    SNI_BAD);
	hello.data[RECORD_HEAD + 3]--;
	ck_assert_int_eq(read_exactly(hello.data, RECORD_HEAD + 4, name),
	    SNI_MORE);
}
END_TEST

/* -- what a client may make of it ------------------------------------------ */

static void
put(struct hello *to, const void *data, size_t len)
{
	memcpy(to->data + to->len, data, len);
	to->len += len;
}

static void
put_number(struct hello *to, size_t size, size_t n)
{
	for (; size > 0; size--)
		to->data[to->len++] = (uint8_t)(n >> 8 * (size - 1));
}

/* A string with its length, of size bytes, before it. */
static void
put_vector(struct hello *to, size_t size, const struct hello *from)
{
	put_number(to, size, from->len);
	put(to, from->data, from->len);
}

/* A hello with this body in one record. */
static enum sni_found
read_body(const struct hello *body, char *name)
{
	static struct hello message, record;

	message.len = record.len = 0;
	put_number(&message, 1, 1);
	put_vector(&message, 3, body);
	put(&record, "\26\3\1", 3);
	put_vector(&record, 2, &message);
	return read_exactly(record.data, record.len, name);
}

/* Version, random, session, cipher suites, compressions; no extensions. */
#define RANDOM "0123456789abcdef0123456789abcdef"
#define HELLO "\3\3" RANDOM "\0\0\2\23\1\1\0"

/* A hello with these extensions. */
static enum sni_found
read_extensions(const void *data, size_t len, char *name)
{
	static struct hello body, list;

	body.len = list.len = 0;
	put(&list, data, len);
	put(&body, HELLO, sizeof(HELLO) - 1);
	put_vector(&body, 2, &list);
	return read_body(&body, name);
}

#define BYTES(s) s, sizeof(s) - 1

static const struct row {
	const char *data;
	size_t len;
	enum sni_found found;
	const char *name;
} bodies[] = {
	{ BYTES(HELLO), SNI_NONE, "" },
	{ BYTES(HELLO "\0\0"), SNI_NONE, "" },
	{ BYTES("\3\0" RANDOM "\0\0\2\23\1\1\0"), SNI_NONE, "" },
	{ BYTES("\3\3" RANDOM "\40" RANDOM "\0\2\23\1\1\0"), SNI_NONE, "" },
	{ BYTES(""), SNI_BAD, "" },
	{ BYTES("\3\3"), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM "\0"), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM "\0\0\2\23\1"), SNI_BAD, "" },
	{ BYTES("\2\0" RANDOM "\0\0\2\23\1\1\0"), SNI_BAD, "" },
	/* A session of 33 bytes; no suite, and half a one; no compression. */
	{ BYTES("\3\3" RANDOM "\41" RANDOM "x\0\2\23\1\1\0"), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM "\0\0\0\1\0"), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM "\0\0\3\23\1\1\1\0"), SNI_BAD, "" },
	{ BYTES("\3\3" RANDOM "\0\0\2\23\1\0"), SNI_BAD, "" },
	/* Extensions that are cut off, and with something after them. */
	{ BYTES(HELLO "\0"), SNI_BAD, "" },
	{ BYTES(HELLO "\0\1"), SNI_BAD, "" },
	{ BYTES(HELLO "\0\0\0"), SNI_BAD, "" },
}, lists[] = {
	{ BYTES("\0\0\0\12\0\10\0\0\5ab.cd"), SNI_NAME, "ab.cd" },
	{ BYTES("\0\27\0\0\0\0\0\12\0\10\0\0\5ab.cd\0\43\0\1x"), SNI_NAME,
	    "ab.cd" },
	{ BYTES("\0\0\0\12\0\10\0\0\5AB.cD"), SNI_NAME, "ab.cd" },
	{ BYTES("\0\0\0\12\0\10\0\0\5ab.c."), SNI_NAME, "ab.c" },
	/* No host names. */
	{ BYTES("\0\0\0\10\0\6\0\0\3::1"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3a b"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3a\0b"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3a\nb"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3a\351b"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3*.b"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3.ab"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3ab\0"), SNI_NONE, "" },
	{ BYTES("\0\0\0\11\0\7\0\0\4a..b"), SNI_NONE, "" },
	{ BYTES("\0\0\0\10\0\6\0\0\3a.."), SNI_NONE, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\1."), SNI_NONE, "" },
	/* An empty list, an empty name, another type, two names. */
	{ BYTES("\0\0\0\0"), SNI_BAD, "" },
	{ BYTES("\0\0\0\2\0\0"), SNI_BAD, "" },
	{ BYTES("\0\0\0\5\0\3\0\0\0"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\1\0\1a"), SNI_BAD, "" },
	{ BYTES("\0\0\0\12\0\10\0\0\1a\0\0\1b"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\1a\0\0\0\6\0\4\0\0\1b"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\1a\0\0\0\6\0\4\0\0\1a"), SNI_BAD, "" },
	/* Lengths that do not fit. */
	{ BYTES("\0\0\0\7\0\4\0\0\1ab"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\5\0\0\1a"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\3\0\0\1a"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\2a"), SNI_BAD, "" },
	{ BYTES("\0\0\0\7\0\5\0\0\1ab"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\1a\0"), SNI_BAD, "" },
	{ BYTES("\0\0\0\6\0\4\0\0\1a\0\27\0\1"), SNI_BAD, "" },
};

START_TEST(parts_of_a_hello)
{
	char name[SNI_NAME_MAX + 1];
	struct hello body;
	size_t i;

	for (i = 0; i < COUNT(bodies); i++) {
		body.len = 0;
		put(&body, bodies[i].data, bodies[i].len);
		ck_assert_msg(read_body(&body, name) == bodies[i].found,
		    "body %zu", i);
		ck_assert_str_eq(name, bodies[i].name);
	}
	for (i = 0; i < COUNT(lists); i++) {
		ck_assert_msg(read_extensions(lists[i].data, lists[i].len,
				  name) == lists[i].found,
		    "extensions %zu", i);
		ck_assert_str_eq(name, lists[i].name);
	}
}
END_TEST

START_TEST(names_have_an_end)
{
	struct hello extension;
	char name[SNI_NAME_MAX + 1];
	size_t n;

	for (n = 1; n < 400; n++) {
		extension.len = 0;
		put_number(&extension, 2, 0);
		put_number(&extension, 2, n + 5);
		put_number(&extension, 2, n + 3);
		put_number(&extension, 1, 0);
		put_number(&extension, 2, n);
		memset(extension.data + extension.len, 'a', n);
		extension.len += n;
		ck_assert_int_eq(read_extensions(extension.data, extension.len,
				     name),
		    n <= SNI_NAME_MAX ? SNI_NAME : SNI_NONE);
		ck_assert_uint_eq(strlen(name), n <= SNI_NAME_MAX ? n : 0);
	}
}
END_TEST

/* -- what is no TLS -------------------------------------------------------- */

/* Told from a hello at its last byte, not later. */
START_TEST(what_is_no_hello)
{
	static const struct row others[] = {
		{ BYTES("G"), SNI_BAD, "" },    /* HTTP */
		{ BYTES("\200"), SNI_BAD, "" }, /* SSL 2 */
		{ BYTES("\0"), SNI_BAD, "" },
		{ BYTES("\25"), SNI_BAD, "" },         /* an alert */
		{ BYTES("\26\376"), SNI_BAD, "" },     /* DTLS */
		{ BYTES("\26\3\1\0\0"), SNI_BAD, "" }, /* an empty record */
		{ BYTES("\26\3\1\100\1"), SNI_BAD, "" },
		{ BYTES("\26\3\1\0\4\2"), SNI_BAD, "" }, /* a ServerHello */
		{ BYTES("\26\3\1\2\0\1\1\0\0"), SNI_BAD, "" },
	};
	char name[SNI_NAME_MAX + 1];
	size_t i, n;

	for (i = 0; i < COUNT(others); i++)
		for (n = 0; n <= others[i].len; n++)
			ck_assert_msg(read_exactly((const uint8_t *)others[i]
						       .data,
					  n, name) ==
				(n < others[i].len ? SNI_MORE : SNI_BAD),
			    "%zu of %zu", n, i);
}
END_TEST

int
main(void)
{
	static const TTest **const tests[] = { &hellos_in_many_records,
		&hellos_have_an_end, &parts_of_a_hello, &names_have_an_end,
		&what_is_no_hello };
	TCase *tc = unit_begin("sni");
	size_t i;

	tcase_set_timeout(tc, 30);
	tcase_add_loop_test(tc, hellos_of_a_client, 0, COUNT(clients));
	for (i = 0; i < COUNT(tests); i++)
		tcase_add_test(tc, *tests[i]);
	return unit_end();
}
