/*
 * PROXY headers, read and written.
 *
 * What the specification does not allow is no header: a server that guesses
 * would let its callers say who they are.  A header that is not complete is
 * told from a wrong one by its first bytes, so that nobody waits for more of
 * what can never become one.
 */
#include "proxy_header.h"

#include <arpa/inet.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Version 2 begins so, then come command, family and length. */
static const char magic1[] = "PROXY ", magic2[] = "\r\n\r\n\0\r\nQUIT\n";

enum {
	MAGIC1 = sizeof(magic1) - 1,
	MAGIC2 = sizeof(magic2) - 1,
	COMMAND = MAGIC2,
	FAMILY,
	LENGTH,
	HEAD = LENGTH + 2, /* all before the addresses */
	LOCAL = 0x20,
	PROXY = 0x21,
	UNIX_LEN = 108,
	FIELD_HEAD = 3,  /* type and length */
	SSL_HEAD = 5,    /* client, verify */
	SSL_LAST = 0x2f, /* of the types of its fields */
	TLV_CRC32C = 0x03,
	UNIQUE_ID_MAX = 128
};

/* The only families that may be. */
static const struct family {
	unsigned char code;
	sa_family_t family;
	size_t addr, all; /* bytes of one address, and of both with ports */
} families[] = {
	{ 0x00, AF_UNSPEC, 0, 0 },
	{ 0x11, AF_INET, 4, 12 },
	{ 0x21, AF_INET6, 16, 36 },
	{ 0x31, AF_UNIX, UNIX_LEN, 2 * (size_t)UNIX_LEN },
	{ 0x12, AF_INET, 4, 12 }, /* and these came as datagrams */
	{ 0x22, AF_INET6, 16, 36 },
	{ 0x32, AF_UNIX, UNIX_LEN, 2 * (size_t)UNIX_LEN },
};
enum { NFAMILIES = sizeof(families) / sizeof(families[0]) };

struct field {
	int type;
	const char *data;
	size_t len;
};

static ssize_t read1(const char *buf, size_t len, struct proxy *p);
static int line1(char *line, struct proxy *p);
static int address1(sa_family_t family, const char *host, const char *port,
    union proxy_addr *addr);
static int port1(const char *text, in_port_t *port);
static ssize_t read2(const char *buf, size_t len, struct proxy *p);
static int contents2(const char *header, size_t hlen, const struct family *f,
    struct proxy *p);
static void address2(const struct family *f, const char *addr, const char *port,
    union proxy_addr *to);
static int good_field(const char *header, size_t hlen, const struct field *f);
static int good_fields(const char *at, size_t len);
static int next_field(const char **at, size_t *len, struct field *f);
static void append(struct proxy_out *o, const void *data, size_t len);
static void set_length(struct proxy_out *o, size_t at, size_t from);
static uint32_t crc32c(const char *data, size_t len, const char *hole);

ssize_t
kquay_proxy_read(const char *buf, size_t len, struct proxy *p)
{
	size_t n;

	memset(p, 0, sizeof(*p));
	n = len < MAGIC1 ? len : MAGIC1;
	if (memcmp(buf, magic1, n) == 0)
		return n < MAGIC1 ? 0 : read1(buf, len, p);
	n = len < MAGIC2 ? len : MAGIC2;
	if (memcmp(buf, magic2, n) == 0)
		return read2(buf, len, p);
	return -1;
}

/* -- version 1 ------------------------------------------------------------- */

static ssize_t
read1(const char *buf, size_t len, struct proxy *p)
{
	size_t n = len < PROXY_V1_MAX ? len : PROXY_V1_MAX;
	char line[PROXY_V1_MAX];
	const char *end;

	end = memchr(buf, '\n', n);
	if (end == NULL)
		return n < PROXY_V1_MAX ? 0 : -1;
	n = (size_t)(end - buf) + 1;
	if (end[-1] != '\r' || memchr(buf, '\0', n) != NULL)
		return -1;
	memcpy(line, buf, n - 2);
	line[n - 2] = '\0';
	p->version = 1;
	return line1(line + MAGIC1, p) == -1 ? -1 : (ssize_t)n;
}

/* After "PROXY ": "TCP4 192.0.2.1 192.0.2.2 4711 80". */
static int
line1(char *line, struct proxy *p)
{
	enum { PROTO, SRC, DST, SPORT, DPORT, WORDS };
	char *word[WORDS], *rest = line;
	sa_family_t family;
	int n;

	if (strncmp(line, "UNKNOWN", 7) == 0 &&
	    (line[7] == '\0' || line[7] == ' ')) /* the rest says nothing */
		return 0;
	for (n = 0; n < WORDS; n++) {
		word[n] = strsep(&rest, " ");
		if (word[n] == NULL)
			return -1;
	}
	if (rest != NULL)
		return -1;
	if (strcmp(word[PROTO], "TCP4") == 0)
		family = AF_INET;
	else if (strcmp(word[PROTO], "TCP6") == 0)
		family = AF_INET6;
	else
		return -1;
	if (address1(family, word[SRC], word[SPORT], &p->src) == -1)
		return -1;
	return address1(family, word[DST], word[DPORT], &p->dst);
}

static int
address1(sa_family_t family, const char *host, const char *port,
    union proxy_addr *addr)
{
	void *to = family == AF_INET ? (void *)&addr->in4.sin_addr :
				       (void *)&addr->in6.sin6_addr;

	addr->sa.sa_family = family;
	if (inet_pton(family, host, to) != 1)
		return -1;
	return port1(port,
	    family == AF_INET ? &addr->in4.sin_port : &addr->in6.sin6_port);
}

/* A decimal number without a sign or a leading zero. */
static int
port1(const char *text, in_port_t *port)
{
	char again[24];
	unsigned long n;

	n = strtoul(text, NULL, 10);
	snprintf(again, sizeof(again), "%lu", n);
	if (n > UINT16_MAX || strcmp(text, again) != 0)
		return -1;
	*port = htons((in_port_t)n);
	return 0;
}

/* -- version 2 ------------------------------------------------------------- */

static size_t
get16(const char *p)
{
	return (size_t)(unsigned char)p[0] << 8 | (unsigned char)p[1];
}

static uint32_t
get32(const char *p)
{
	return (uint32_t)get16(p) << 16 | (uint32_t)get16(p + 2);
}

static ssize_t
read2(const char *buf, size_t len, struct proxy *p)
{
	const struct family *f = families;
	size_t hlen;

	if (len > COMMAND && buf[COMMAND] != LOCAL && buf[COMMAND] != PROXY)
		return -1;
	if (len < HEAD)
		return 0;
	hlen = HEAD + get16(buf + LENGTH);
	if (hlen > PROXY_MAX)
		return -1;
	p->version = 2;
	p->local = buf[COMMAND] == LOCAL;
	if (p->local) /* what follows is not looked at, not even the family */
		return len < hlen ? 0 : (ssize_t)hlen;
	while (f->code != (unsigned char)buf[FAMILY])
		if (++f == families + NFAMILIES)
			return -1;
	if (hlen < HEAD + f->all)
		return -1;
	if (len < hlen)
		return 0;
	return contents2(buf, hlen, f, p) == -1 ? -1 : (ssize_t)hlen;
}

/* Addresses and fields. */
static int
contents2(const char *header, size_t hlen, const struct family *f,
    struct proxy *p)
{
	const char *at = header + HEAD;
	struct field field;
	size_t len;

	address2(f, at, at + 2 * f->addr, &p->src);
	address2(f, at + f->addr, at + 2 * f->addr + 2, &p->dst);
	p->tlvs = at = header + HEAD + f->all;
	p->tlvslen = len = hlen - HEAD - f->all;
	while (len > 0)
		if (next_field(&at, &len, &field) == -1 ||
		    !good_field(header, hlen, &field))
			return -1;
	return 0;
}

static void
address2(const struct family *f, const char *addr, const char *port,
    union proxy_addr *to)
{
	to->sa.sa_family = f->family;
	switch (f->family) {
	case AF_INET:
		memcpy(&to->in4.sin_addr, addr, f->addr);
		memcpy(&to->in4.sin_port, port, sizeof(to->in4.sin_port));
		break;
	case AF_INET6:
		memcpy(&to->in6.sin6_addr, addr, f->addr);
		memcpy(&to->in6.sin6_port, port, sizeof(to->in6.sin6_port));
		break;
	case AF_UNIX:
		memcpy(to->un.sun_path, addr,
		    f->addr < sizeof(to->un.sun_path) ?
			f->addr :
			sizeof(to->un.sun_path));
	}
}

/* Whether what the specification says about this type holds. */
static int
good_field(const char *header, size_t hlen, const struct field *f)
{
	switch (f->type) {
	case TLV_CRC32C:
		return f->len == 4 &&
		    get32(f->data) == crc32c(header, hlen, f->data);
	case KQUAY_TLV_UNIQUE_ID:
		return f->len <= UNIQUE_ID_MAX;
	case KQUAY_TLV_CRED:
		return f->len == PROXY_CRED_LEN;
	case KQUAY_TLV_SSL:
		return f->len >= SSL_HEAD &&
		    good_fields(f->data + SSL_HEAD, f->len - SSL_HEAD);
	}
	return 1;
}

static int
good_fields(const char *at, size_t len)
{
	struct field f;

	while (len > 0)
		if (next_field(&at, &len, &f) == -1)
			return 0;
	return 1;
}

/* Take the next of at least one byte.  0, or -1 if it is cut off. */
static int
next_field(const char **at, size_t *len, struct field *f)
{
	if (*len < FIELD_HEAD)
		return -1;
	f->type = (unsigned char)(*at)[0];
	f->len = get16(*at + 1);
	f->data = *at + FIELD_HEAD;
	if (f->len > *len - FIELD_HEAD)
		return -1;
	*at = f->data + f->len;
	*len -= FIELD_HEAD + f->len;
	return 0;
}

/* The first of this type.  0 if there is none. */
static int
find(const char *at, size_t len, int type, struct field *f)
{
	while (len > 0 && next_field(&at, &len, f) == 0)
		if (f->type == type)
			return 1;
	return 0;
}

/* A type is either one of an SSL field or one of the header. */
const char *
kquay_proxy_tlv(const char *tlvs, size_t tlvslen, int type, size_t *len)
{
	struct field f;

	if (type > KQUAY_TLV_SSL && type <= SSL_LAST) {
		if (!find(tlvs, tlvslen, KQUAY_TLV_SSL, &f))
			return NULL;
		tlvs = f.data + SSL_HEAD;
		tlvslen = f.len - SSL_HEAD;
	}
	if (!find(tlvs, tlvslen, type, &f))
		return NULL;
	*len = f.len;
	return f.data;
}

/* -- written --------------------------------------------------------------- */

/* The parts of an address as they go over the wire. */
static const char *
address_of(const struct sockaddr *sa, in_port_t *port)
{
	const union proxy_addr *addr = (const void *)sa;

	switch (sa->sa_family) {
	case AF_INET:
		*port = addr->in4.sin_port;
		return (const char *)&addr->in4.sin_addr;
	case AF_INET6:
		*port = addr->in6.sin6_port;
		return (const char *)&addr->in6.sin6_addr;
	default:
		return addr->un.sun_path;
	}
}

void
kquay_proxy_write1(struct proxy_out *o, const struct sockaddr *src,
    const struct sockaddr *dst)
{
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];
	char line[128] = "PROXY UNKNOWN\r\n";
	in_port_t sport, dport;

	if (src != NULL && dst != NULL && src->sa_family == dst->sa_family &&
	    inet_ntop(src->sa_family, address_of(src, &sport), from,
		sizeof(from)) != NULL &&
	    inet_ntop(dst->sa_family, address_of(dst, &dport), to,
		sizeof(to)) != NULL)
		snprintf(line, sizeof(line), "PROXY TCP%c %s %s %u %u\r\n",
		    src->sa_family == AF_INET ? '4' : '6', from, to,
		    ntohs(sport), ntohs(dport));
	append(o, line, strlen(line));
}

void
kquay_proxy_begin(struct proxy_out *o, const struct sockaddr *src,
    const struct sockaddr *dst)
{
	const struct family *f = families;
	in_port_t sport = 0, dport = 0;
	char head[HEAD] = { 0 };

	if (src != NULL && dst != NULL && src->sa_family == dst->sa_family)
		while (f->family != src->sa_family)
			if (++f == families + NFAMILIES)
				f = families;
	memcpy(head, magic2, MAGIC2);
	head[COMMAND] = src == NULL ? LOCAL : PROXY;
	head[FAMILY] = (char)f->code;
	append(o, head, sizeof(head));
	if (f->all == 0)
		return;
	append(o, address_of(src, &sport), f->addr);
	append(o, address_of(dst, &dport), f->addr);
	if (f->family == AF_UNIX)
		return;
	append(o, &sport, sizeof(sport));
	append(o, &dport, sizeof(dport));
}

void
kquay_proxy_put(struct proxy_out *o, int type, const void *data, size_t len)
{
	size_t at = o->len;

	append(o, (const char[FIELD_HEAD]){ (char)type }, FIELD_HEAD);
	append(o, data, len);
	set_length(o, at + 1, at + FIELD_HEAD);
}

size_t
kquay_proxy_begin_ssl(struct proxy_out *o, int client, uint32_t verify)
{
	size_t at = o->len;

	append(o, (const char[FIELD_HEAD]){ KQUAY_TLV_SSL }, FIELD_HEAD);
	append(o, (const char[1]){ (char)client }, 1);
	verify = htonl(verify);
	append(o, &verify, sizeof(verify));
	return at;
}

void
kquay_proxy_end_ssl(struct proxy_out *o, size_t begin)
{
	set_length(o, begin + 1, begin + FIELD_HEAD);
}

/* The sum is that of the whole header with zeros in its place. */
void
kquay_proxy_end(struct proxy_out *o)
{
	uint32_t sum = 0;

	kquay_proxy_put(o, TLV_CRC32C, &sum, sizeof(sum));
	set_length(o, LENGTH, HEAD);
	if (o->full)
		return;
	sum = htonl(crc32c(o->buf, o->len, NULL));
	memcpy(o->buf + o->len - sizeof(sum), &sum, sizeof(sum));
}

static void
append(struct proxy_out *o, const void *data, size_t len)
{
	if (o->full || len > o->size - o->len) {
		o->full = 1;
		return;
	}
	memcpy(o->buf + o->len, data, len);
	o->len += len;
}

/* At at: how many bytes there are from from on. */
static void
set_length(struct proxy_out *o, size_t at, size_t from)
{
	size_t n = o->len - from;

	if (o->full)
		return;
	if (n > UINT16_MAX) {
		o->full = 1;
		return;
	}
	o->buf[at] = (char)(n >> 8);
	o->buf[at + 1] = (char)n;
}

/* CRC-32C of data, as if the four bytes at hole were zero. */
static uint32_t
crc32c(const char *data, size_t len, const char *hole)
{
	uint32_t crc = ~(uint32_t)0;
	const char *p;
	int bit;

	for (p = data; p < data + len; p++) {
		if (hole == NULL || p < hole || p >= hole + sizeof(crc))
			crc ^= (unsigned char)*p;
		for (bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}
