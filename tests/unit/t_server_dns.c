/* The name server; t_server_dns.h has the contracts. */
#include "t_server_dns.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum {
	HEADER = 12,
	TYPE_A = 1,
	TYPE_CNAME = 5,
	TYPE_AAAA = 28,
	TYPE_SRV = 33,
	TC = 2
};

/* A message with room for its length before it, and who gets it. */
struct message {
	int fd;
	bool tcp;
	struct sockaddr_in to;
	size_t len;
	unsigned char bytes[1024];
};

unsigned dns_udp, dns_tcp, dns_a, dns_aaaa, dns_srv;

static const struct dns_name *names;
static int udp = -1, tcp = -1, calls[16];
static unsigned ncalls;
static uintptr_t timers;

static const struct dns_name *
find(const char *name)
{
	const struct dns_name *n;

	for (n = names; n->name != NULL; n++)
		if (strcasecmp(n->name, name) == 0)
			return n;
	return NULL;
}

/* The name of the question as text; where its type is. */
static size_t
question(const struct message *m, char *name)
{
	size_t at = HEADER, len;

	while ((len = m->bytes[at++]) != 0) {
		ck_assert_uint_lt(at + len, m->len);
		memcpy(name, m->bytes + at, len);
		name += len;
		*name++ = '.';
		at += len;
	}
	name[-1] = '\0';
	return at;
}

static void
put(struct message *m, const void *bytes, size_t len)
{
	ck_assert_uint_le(m->len + len, sizeof(m->bytes));
	memcpy(m->bytes + m->len, bytes, len);
	m->len += len;
}

static void
put16(struct message *m, unsigned n)
{
	uint16_t be = htons((uint16_t)n);

	put(m, &be, 2);
}

/* A record for the name at this place of the message. */
static void
record(struct message *m, size_t owner, unsigned type, unsigned ttl,
    const void *data, size_t len)
{
	put16(m, 0xc000 | (unsigned)owner);
	put16(m, type);
	put16(m, 1);
	put16(m, ttl >> 16);
	put16(m, ttl & 0xffff);
	put16(m, (unsigned)len);
	put(m, data, len);
	m->bytes[7]++;
}

/* name in the form of the wire. */
static size_t
encode(const char *name, unsigned char *wire)
{
	size_t len, at = 0;

	while (*name != '\0') {
		len = strcspn(name, ".");
		wire[at++] = (unsigned char)len;
		memcpy(wire + at, name, len);
		at += len;
		name += len + (name[len] == '.');
	}
	wire[at++] = 0;
	return at;
}

static void
addresses(struct message *m, size_t owner, const struct dns_name *n, int type)
{
	char text[512], *list, *word;
	unsigned char addr[16];
	const char *all = type == TYPE_A ? n->a : n->aaaa;

	if (all == NULL)
		return;
	snprintf(text, sizeof(text), "%s", all);
	for (list = text; (word = strtok(list, " ")) != NULL; list = NULL) {
		ck_assert_int_eq(inet_pton(type == TYPE_A ? AF_INET : AF_INET6,
				     word, addr),
		    1);
		record(m, owner, (unsigned)type, n->ttl, addr,
		    type == TYPE_A ? 4 : 16);
	}
}

static void
services(struct message *m, size_t owner, const struct dns_name *n)
{
	unsigned priority, weight, port;
	unsigned char data[256 + 6];
	const char *p = n->srv;
	char name[256];
	int used;

	if (n->raw != NULL)
		record(m, owner, TYPE_SRV, n->ttl, n->raw, n->rawlen);
	for (; p != NULL &&
	     sscanf(p, "%u %u %u %255s%n", &priority, &weight, &port, name,
		 &used) == 4;
	     p += used) {
		data[0] = (unsigned char)(priority >> 8);
		data[1] = (unsigned char)priority;
		data[2] = (unsigned char)(weight >> 8);
		data[3] = (unsigned char)weight;
		data[4] = (unsigned char)(port >> 8);
		data[5] = (unsigned char)port;
		record(m, owner, TYPE_SRV, n->ttl, data,
		    6 + encode(strcmp(name, ".") == 0 ? "" : name, data + 6));
	}
}

/* Records of this type, for the name at owner. */
static void
records(struct message *m, size_t owner, const struct dns_name *n, int type)
{
	if (type == TYPE_SRV)
		services(m, owner, n);
	else
		addresses(m, owner, n, type);
}

static void
transmit(struct message *m)
{
	unsigned char framed[2 + sizeof(m->bytes)];

	if (!m->tcp) {
		sendto(m->fd, m->bytes, m->len, 0, (void *)&m->to,
		    sizeof(m->to));
		return;
	}
	framed[0] = (unsigned char)(m->len >> 8);
	framed[1] = (unsigned char)m->len;
	memcpy(framed + 2, m->bytes, m->len);
	send(m->fd, framed, m->len + 2, MSG_NOSIGNAL);
}

static void
later(struct kquay *loop, const struct kevent *ev, void *arg)
{
	transmit(arg);
	free(arg);
}

/* Make the answer of a question, and send it when it is time. */
static void
answer(struct message *m)
{
	unsigned char wire[256];
	const struct dns_name *n;
	struct message *copy;
	size_t at, owner = HEADER;
	char name[256];
	struct kevent ev;
	int type, ms;

	at = question(m, name);
	type = m->bytes[at] << 8 | m->bytes[at + 1];
	m->tcp ? dns_tcp++ : dns_udp++;
	dns_a += type == TYPE_A;
	dns_aaaa += type == TYPE_AAAA;
	dns_srv += type == TYPE_SRV;
	m->len = at + 4;
	memset(m->bytes + 6, 0, 6);
	m->bytes[2] = 0x84;
	m->bytes[3] = 0x80;
	n = find(name);
	if (n == NULL) {
		m->bytes[3] |= 3;
		transmit(m);
		return;
	}
	m->bytes[3] |= (unsigned char)n->rcode;
	if (n->cut && !m->tcp)
		m->bytes[2] |= TC;
	else if (n->cname != NULL) {
		at = encode(n->cname, wire);
		record(m, HEADER, TYPE_CNAME, n->ttl, wire, at);
		owner = m->len - at;
		records(m, owner, find(n->cname), type);
	} else
		records(m, owner, n, type);
	ms = type == TYPE_A ? n->a_ms : n->aaaa_ms;
	if (ms == 0)
		transmit(m);
	if (ms <= 0)
		return;
	copy = malloc(sizeof(*copy));
	ck_assert_ptr_nonnull(copy);
	*copy = *m;
	EV_SET(&ev, 0xd15ea5e + timers++, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0,
	    ms, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, later, copy), 0);
}

static void
asked_udp(struct kquay *loop, const struct kevent *ev, void *arg)
{
	struct message m = { .fd = udp };
	socklen_t len = sizeof(m.to);
	ssize_t n;

	n = recvfrom(udp, m.bytes, sizeof(m.bytes), 0, (void *)&m.to, &len);
	if (n <= HEADER)
		return;
	m.len = (size_t)n;
	answer(&m);
}

static void
watch_fd(int fd, kquay_watch_fn *fn)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)fd, EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, fn, NULL), 0);
}

static void
unwatch_fd(int fd)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, NULL, NULL), 0);
}

/* Questions come in one piece on the loopback. */
static void
asked_tcp(struct kquay *loop, const struct kevent *ev, void *arg)
{
	struct message m = { .fd = (int)ev->ident, .tcp = true };
	unsigned char in[4096];
	ssize_t n;
	size_t at, len;

	n = recv(m.fd, in, sizeof(in), 0);
	if (n <= 0) {
		unwatch_fd(m.fd);
		return;
	}
	for (at = 0; at + 2 < (size_t)n; at += 2 + len) {
		len = (size_t)in[at] << 8 | in[at + 1];
		ck_assert_uint_le(at + 2 + len, n);
		m.len = 0;
		put(&m, in + at + 2, len);
		answer(&m);
	}
}

static void
called(struct kquay *loop, const struct kevent *ev, void *arg)
{
	int fd;

	fd = accept4(tcp, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd == -1)
		return;
	ck_assert_uint_lt(ncalls, sizeof(calls) / sizeof(calls[0]));
	calls[ncalls++] = fd;
	watch_fd(fd, asked_tcp);
}

const char *
dns_open(const struct dns_name *table)
{
	static char text[32];
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);

	names = table;
	ncalls = dns_udp = dns_tcp = dns_a = dns_aaaa = dns_srv = 0;
	udp = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(tcp, (void *)&sin, len), 0);
	ck_assert_int_eq(listen(tcp, 16), 0);
	ck_assert_int_eq(getsockname(tcp, (void *)&sin, &len), 0);
	ck_assert_int_eq(bind(udp, (void *)&sin, len), 0);
	snprintf(text, sizeof(text), "127.0.0.1:%d", ntohs(sin.sin_port));
	return text;
}

void
dns_serve(void)
{
	watch_fd(udp, asked_udp);
	watch_fd(tcp, called);
}

/* After the loop was freed. */
void
dns_close(void)
{
	while (ncalls > 0)
		close(calls[--ncalls]);
	close(udp);
	close(tcp);
}
