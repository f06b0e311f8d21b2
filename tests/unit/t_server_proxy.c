/*
 * Connections that begin with a PROXY header: who the peer is then, what is
 * refused, and that not a byte is taken that is not the header's.
 */
#include "t_server_kit.h"
#include "server.h"
#include "proxy_header.h"

#include <arpa/inet.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BYTES(s) s, sizeof(s) - 1
#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define ADDRS4 "\300\0\2\1\300\0\2\2\22\147\0\120"

static struct refusal {
	int n, err;
	char who[INET6_ADDRSTRLEN];
} refusal;
static int opened;

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	refusal.n++;
	refusal.err = errno;
	ck_assert_ptr_eq(loop, q);
	if (sa->sa_family == AF_INET)
		inet_ntop(AF_INET,
		    &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
		    refusal.who, sizeof(refusal.who));
	(void)salen;
}

/* The addresses of both ends. */
static int
tell(struct kquay_conn *c)
{
	struct sockaddr_storage ss;
	char text[ADDR_TEXT] = "-";
	socklen_t salen;

	opened++;
	salen = kquay_localaddr(c, &ss);
	if (salen > 0)
		kquay_addr_text((void *)&ss, salen, text, sizeof(text));
	return kquay_printf(c, "%s to %s\n", kquay_peer(c), text);
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	kquay_write(c, data, len);
	return (ssize_t)len;
}

static const struct kquay_ops ops = { .open = tell,
	.input = echo,
	.refused = on_refused,
	.close = kit_on_close };

/* Behind the listener of the kit, another whose callers have headers. */
static void
start(const struct kquay_conf *conf)
{
	memset(&refusal, 0, sizeof(refusal));
	opened = 0;
	kit_start(&ops, conf);
	kquay_proxy(q, 1);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	kquay_proxy(q, 0);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 1), ':') + 1);
}

static void
send_all(int fd, const char *data, size_t len, size_t step)
{
	size_t n;

	for (; len > 0; data += n, len -= n) {
		n = len < step ? len : step;
		ck_assert_int_eq(send(fd, data, n, MSG_NOSIGNAL), n);
		if (step < 100)
			kit_settle();
	}
}

/* -- who it is ------------------------------------------------------------- */

static const struct header {
	const char *buf;
	size_t len;
	const char *says;
} headers[] = {
	{ BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"),
	    "192.0.2.1:4711 to 192.0.2.2:80\n" },
	{ BYTES("PROXY TCP6 2001:db8::1 2001:db8::2 4711 80\r\n"),
	    "[2001:db8::1]:4711 to [2001:db8::2]:80\n" },
	{ BYTES(V2 "\41\21\0\14" ADDRS4), "192.0.2.1:4711 to 192.0.2.2:80\n" },
	{ BYTES(V2 "\41\41\0\44"
		   "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\1"
		   "\40\1\15\270\0\0\0\0\0\0\0\0\0\0\0\2"
		   "\0\1\0\2"),
	    "[2001:db8::1]:1 to [2001:db8::2]:2\n" },
};

START_TEST(the_peer_is_the_client)
{
	static const size_t steps[] = { 1000, 1, 5 };
	char wire[256];
	size_t i, k;
	int fd;

	start(NULL);
	for (i = 0; i < COUNT(headers); i++)
		for (k = 0; k < COUNT(steps); k++) {
			memcpy(wire, headers[i].buf, headers[i].len);
			memcpy(wire + headers[i].len, "and\0more", 8);
			fd = kit_connect();
			send_all(fd, wire, headers[i].len + 8, steps[k]);
			kit_expect(fd, headers[i].says);
			kit_expect(fd, "and");
			UNTIL(recv(fd, wire, 1, 0) == 1);
			ck_assert_int_eq(wire[0], '\0');
			kit_expect(fd, "more");
			close(fd);
		}
	UNTIL(kit_closed.n == opened);
	ck_assert_int_eq(refusal.n, 0);
	kit_stop();
}
END_TEST

/* The proxy's own connections, and those of whom it does not know. */
START_TEST(without_a_client_the_peer_is_the_proxy)
{
	static const struct header own[] = {
		{ BYTES("PROXY UNKNOWN\r\n"), NULL },
		{ BYTES("PROXY UNKNOWN 192.0.2.1 192.0.2.2 1 2\r\n"), NULL },
		{ BYTES(V2 "\40\0\0\0"), NULL },
		{ BYTES(V2 "\40\21\0\14" ADDRS4), NULL },
		{ BYTES(V2 "\41\0\0\0"), NULL },
	};
	struct sockaddr_in sin;
	socklen_t len;
	char want[128];
	size_t i;
	int fd;

	start(NULL);
	for (i = 0; i < COUNT(own); i++) {
		fd = kit_connect();
		len = sizeof(sin);
		getsockname(fd, (void *)&sin, &len);
		send_all(fd, own[i].buf, own[i].len, 1000);
		snprintf(want, sizeof(want), "127.0.0.1:%u to 127.0.0.1:%s\n",
		    ntohs(sin.sin_port), kit_port);
		kit_expect(fd, want);
		close(fd);
	}
	kit_stop();
}
END_TEST

/* A header on a listener that asks for none is input like any other. */
START_TEST(only_where_it_is_asked_for)
{
	int fd;

	start(NULL);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 0), ':') + 1);
	fd = kit_join();
	ck_assert_int_eq(opened, 1);
	kit_send(fd, "PROXY UNKNOWN\r\n");
	UNTIL(recv(fd, (char[1]){ 0 }, 1, MSG_PEEK) == 1);
	while (recv(fd, (char[1]){ 0 }, 1, 0) == 1)
		;
	kit_send(fd, "PROXY UNKNOWN\r\n");
	kit_settle();
	ck_assert_int_eq(opened, 1);
	close(fd);
	kit_stop();
}
END_TEST

static void
check_tlv(struct kquay_conn *c, int type, const char *want)
{
	const void *value;
	size_t len = 99;

	value = kquay_proxytlv(c, type, &len);
	if (want == NULL) {
		ck_assert_ptr_null(value);
		return;
	}
	ck_assert_ptr_nonnull(value);
	ck_assert_uint_eq(len, strlen(want));
	ck_assert(memcmp(value, want, len) == 0);
}

START_TEST(fields_are_told)
{
	union proxy_addr src = { .in4 = { .sin_family = AF_INET } }, dst = src;
	char wire[512];
	struct proxy_out o = { .buf = wire, .size = sizeof(wire) };
	size_t ssl;
	int fd;

	kquay_proxy_begin(&o, &src.sa, &dst.sa);
	kquay_proxy_put(&o, KQUAY_TLV_AUTHORITY, "example.org", 11);
	ssl = kquay_proxy_begin_ssl(&o, 1, 0);
	kquay_proxy_put(&o, KQUAY_TLV_SSL_CN, "somebody", 8);
	kquay_proxy_end_ssl(&o, ssl);
	kquay_proxy_end(&o);
	start(NULL);
	fd = kit_connect();
	send_all(fd, wire, o.len, 1000);
	UNTIL(opened == 1);
	check_tlv(kit_conn(), KQUAY_TLV_AUTHORITY, "example.org");
	check_tlv(kit_conn(), KQUAY_TLV_SSL_CN, "somebody");
	check_tlv(kit_conn(), KQUAY_TLV_ALPN, NULL);
	close(fd);

	/* One byte turned, and the sum is wrong. */
	wire[40] ^= 1;
	fd = kit_connect();
	send_all(fd, wire, o.len, 1000);
	kit_expect_reset(fd);
	UNTIL(refusal.n == 1);
	ck_assert_int_eq(refusal.err, EPROTO);
	close(fd);
	kit_stop();
}
END_TEST

/* -- who it is, on a UNIX socket ------------------------------------------- */

START_TEST(credentials_of_a_unix_client)
{
	union proxy_addr addr = { .un = { .sun_family = AF_UNIX,
				      .sun_path = "/run/x" } };
	uint32_t cred[3] = { htonl(1000), htonl(100), htonl(4242) };
	char wire[512], want[128];
	struct proxy_out o = { .buf = wire, .size = sizeof(wire) };
	const char *path;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int fd;

	start(NULL);
	/* As the system tells. */
	path = kit_path("plain");
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	snprintf(want, sizeof(want), "unix:%u/%d to unix:%s\n",
	    (unsigned)getuid(), (int)getpid(), path);
	kit_expect(fd, want);
	ck_assert_int_eq(kquay_peercred(kit_conn(), &uid, &gid, &pid), 0);
	ck_assert_uint_eq(uid, getuid());
	ck_assert_uint_eq(gid, getgid());
	ck_assert_int_eq(pid, getpid());
	close(fd);
	UNTIL(kit_closed.n == 1);

	/* As the header tells. */
	kquay_proxy_begin(&o, &addr.sa, &addr.sa);
	kquay_proxy_put(&o, KQUAY_TLV_CRED, cred, sizeof(cred));
	kquay_proxy_end(&o);
	fd = kit_connect();
	send_all(fd, wire, o.len, 1000);
	kit_expect(fd, "unix:1000/4242 to unix:/run/x\n");
	ck_assert_int_eq(kquay_peercred(kit_conn(), &uid, &gid, &pid), 0);
	ck_assert_uint_eq(uid, 1000);
	ck_assert_uint_eq(gid, 100);
	ck_assert_int_eq(pid, 4242);
	close(fd);
	UNTIL(kit_closed.n == 2);

	/* What it does not tell is not that of the proxy. */
	o = (struct proxy_out){ .buf = wire, .size = sizeof(wire) };
	kquay_proxy_begin(&o, &addr.sa, &addr.sa);
	kquay_proxy_end(&o);
	path = kit_path("proxied");
	kquay_proxy(q, 1);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	send_all(fd, wire, o.len, 1000);
	kit_expect(fd, "unix: to unix:/run/x\n");
	ck_assert_int_eq(kquay_peercred(kit_conn(), &uid, &gid, &pid), -1);
	ck_assert_int_eq(errno, EOPNOTSUPP);
	close(fd);
	UNTIL(kit_closed.n == 3);

	fd = kit_connect_unix(path);
	send_all(fd, BYTES("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n"), 1000);
	kit_expect(fd, headers[0].says);
	ck_assert_int_eq(kquay_peercred(kit_conn(), &uid, &gid, &pid), -1);
	ck_assert_int_eq(errno, EOPNOTSUPP);
	close(fd);
	kit_stop();
}
END_TEST

/* A TCP client behind a UNIX socket, whose reads are short for any reason. */
START_TEST(a_unix_socket_is_read_to_its_end)
{
	static char data[300000], got[sizeof(data)];
	const char *path;
	size_t sent = 0, n = 0;
	ssize_t rc;
	int fd;

	memset(data, 'x', sizeof(data));
	start(NULL);
	path = kit_path("s");
	kquay_proxy(q, 1);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	send_all(fd, headers[0].buf, headers[0].len, 1000);
	/* In pieces, so that none of the reads is a whole READSIZE. */
	while (sent < sizeof(data)) {
		rc = send(fd, data,
		    sizeof(data) - sent < 1000 ? sizeof(data) - sent : 1000,
		    MSG_NOSIGNAL);
		if (rc > 0)
			sent += (size_t)rc;
		else
			kit_step();
		rc = recv(fd, got + n, sizeof(got) - n, 0);
		if (rc > 0)
			n += (size_t)rc;
	}
	ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
	while (n < sizeof(data)) {
		UNTIL((rc = recv(fd, got + n, sizeof(got) - n, 0)) != -1);
		ck_assert_int_gt(rc, 0);
		n += (size_t)rc;
	}
	close(fd);
	kit_stop();
}
END_TEST

/* -- who is refused -------------------------------------------------------- */

START_TEST(what_is_no_header_is_refused)
{
	static const struct header bad[] = {
		{ BYTES("GET / HTTP/1.0\r\n\r\n"), NULL },
		{ BYTES("\n"), NULL },
		{ BYTES("PROXY TCP4 1.2.3.4\r\n"), NULL },
		{ BYTES("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n"), NULL },
		{ BYTES(V2 "\61\21\0\0"), NULL },
		{ BYTES(V2 "\41\21\0\1\0"), NULL },
		{ BYTES(V2 "\40\21\377\377"), NULL },
	};
	struct kquay_stat st;
	char scrap[64];
	size_t i;
	int fd;

	start(NULL);
	for (i = 0; i < COUNT(bad); i++) {
		fd = kit_connect();
		send_all(fd, bad[i].buf, bad[i].len, 1000);
		UNTIL(refusal.n == (int)i + 1);
		ck_assert_int_eq(refusal.err, EPROTO);
		ck_assert_str_eq(refusal.who, "127.0.0.1");
		UNTIL(
		    recv(fd, scrap, sizeof(scrap), 0) <= 0 && errno != EAGAIN);
		close(fd);
	}
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.refused, i);
	ck_assert_uint_eq(st.conns, 0);
	ck_assert_int_eq(opened, 0);
	ck_assert_int_eq(kit_closed.n, 0);
	kit_stop();
}
END_TEST

START_TEST(who_hangs_up_first_is_nobody)
{
	struct kquay_stat st;
	int fd;

	start(NULL);
	fd = kit_connect();
	kit_send(fd, "PROXY TCP4 ");
	kit_settle();
	close(fd);
	UNTIL((kquay_stats(q, &st), st.closed == 1));
	ck_assert_int_eq(opened + refusal.n + kit_closed.n, 0);
	fd = kit_connect();
	close(fd);
	UNTIL((kquay_stats(q, &st), st.closed == 2));
	ck_assert_int_eq(opened + refusal.n + kit_closed.n, 0);
	kit_stop();
}
END_TEST

static void
try_slow(int handshake, int ms)
{
	static const struct kquay_sys sys = { .now = kit_now };
	struct kquay_conf conf = { .maxconn = 8,
		.handshake = handshake,
		.sys = &sys };
	struct kquay_stat st;
	int fd;

	start(&conf);
	fd = kit_connect();
	kit_send(fd, "PROXY TCP4 192");
	UNTIL((kquay_stats(q, &st), st.conns == 1 && st.in == 14));
	kit_clock += ms - 20;
	kit_settle();
	/* A byte now and then is no excuse. */
	kit_send(fd, ".");
	UNTIL((kquay_stats(q, &st), st.in == 15));
	ck_assert_int_eq(refusal.n, 0);
	kit_clock += 60;
	UNTIL(refusal.n == 1);
	ck_assert_int_eq(refusal.err, ETIMEDOUT);
	ck_assert_int_eq(opened, 0);
	kit_expect_end(fd, "");
	close(fd);
	kit_stop();
}

START_TEST(a_slow_header_is_refused)
{
	try_slow(0, 10000);
	try_slow(500, 500);
}
END_TEST

/* A part of a header does not keep the loop busy. */
START_TEST(who_waits_costs_nothing)
{
	struct kquay_stat before, after;
	int fd, i;

	start(NULL);
	fd = kit_connect();
	kit_send(fd, "PROXY TCP4 192");
	kit_settle();
	kquay_stats(q, &before);
	for (i = 0; i < 20; i++)
		kquay_step(q, 1);
	kquay_stats(q, &after);
	ck_assert_uint_eq(after.batches, before.batches);
	close(fd);
	kit_stop();
}
END_TEST

START_TEST(maxperaddr_counts_clients)
{
	struct kquay_conf conf = { .maxconn = 16,
		.maxperaddr = 2,
		.refusal = "too many\n" };
	char line[128], want[64];
	int fd[6], i;

	start(&conf);
	for (i = 0; i < 6; i++) {
		fd[i] = kit_connect();
		snprintf(line, sizeof(line),
		    "PROXY TCP4 192.0.2.%d 1.2.3.4 %d "
		    "1\r\nx",
		    i / 2, 1000 + i);
		kit_send(fd[i], line);
		snprintf(want, sizeof(want), "192.0.2.%d:%d to 1.2.3.4:1\nx",
		    i / 2, 1000 + i);
		kit_expect(fd[i], want);
	}
	i = kit_connect();
	kit_send(i, "PROXY TCP4 192.0.2.1 1.2.3.4 9 9\r\nhello");
	kit_expect_end(i, "too many\n");
	ck_assert_int_eq(refusal.n, 1);
	ck_assert_int_eq(refusal.err, EUSERS);
	ck_assert_str_eq(refusal.who, "192.0.2.1");
	close(i);
	/* One leaves, and there is room for one. */
	close(fd[2]);
	UNTIL(kit_closed.n == 1);
	i = kit_connect();
	kit_send(i, "PROXY TCP4 192.0.2.1 1.2.3.4 9 9\r\n");
	kit_expect(i, "192.0.2.1:9 to 1.2.3.4:9\n");
	close(i);
	kit_stop();
}
END_TEST

START_TEST(stopping_ends_who_waits)
{
	int fd;

	start(NULL);
	fd = kit_connect();
	kit_send(fd, "PROXY TC");
	kit_settle();
	kquay_stop(q);
	ck_assert_int_eq(kquay_run(q), 0);
	ck_assert_int_eq(opened + kit_closed.n, 0);
	close(fd);
	kit_stop();
}
END_TEST

/* -- what the kernel may do ------------------------------------------------ */

static int turn, fails;

static int
fail_now(void)
{
	static const int errors[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM };

	if (turn++ % 3 != 0)
		return 0;
	fails++;
	errno = errors[fails % COUNT(errors)];
	return -1;
}

static ssize_t
poor_peek(int fd, void *buf, size_t len)
{
	return fail_now() == -1 ? -1 :
				  recv(fd, buf, len > 7 ? 7 : len, MSG_PEEK);
}

static ssize_t
poor_read(int fd, void *buf, size_t len)
{
	return fail_now() == -1 ? -1 : recv(fd, buf, len > 3 ? 3 : len, 0);
}

START_TEST(a_poor_kernel_is_enough)
{
	static const struct kquay_sys sys = { .peek = poor_peek,
		.read = poor_read };
	struct kquay_conf conf = { .maxconn = 8, .sys = &sys };
	size_t i;
	int fd;

	start(&conf);
	for (i = 0; i < COUNT(headers); i++) {
		fd = kit_connect();
		send_all(fd, headers[i].buf, headers[i].len, 1000);
		kit_send(fd, "hello");
		kit_expect(fd, headers[i].says);
		kit_expect(fd, "hello");
		close(fd);
	}
	ck_assert_int_gt(fails, 20);
	kit_stop();
}
END_TEST

static ssize_t
reset_peek(int fd, void *buf, size_t len)
{
	(void)fd, (void)buf, (void)len;
	errno = ECONNRESET;
	return -1;
}

START_TEST(a_reset_is_a_refusal)
{
	static const struct kquay_sys sys = { .peek = reset_peek };
	struct kquay_conf conf = { .maxconn = 8, .sys = &sys };
	int fd;

	start(&conf);
	fd = kit_connect();
	kit_send(fd, "PROXY");
	UNTIL(refusal.n == 1);
	ck_assert_int_eq(refusal.err, ECONNRESET);
	close(fd);
	kit_stop();
}
END_TEST

/* -- sent ------------------------------------------------------------------ */

/* A dialled connection with a header about client comes to be over a pair. */
static struct kquay_conn *
dial(int version, const struct kquay_conn *client, int *peer)
{
	static const struct kquay_ops quiet = { .input = echo };
	struct sockaddr sa = { .sa_family = AF_UNIX };
	struct kquay_conn *c;
	int sv[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0,
			     sv),
	    0);
	c = kquay_conn_dial(q, &quiet, 0);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(kquay_proxy_prepare(c, version, client), 0);
	kquay_puts(c, "first\n");
	kquay_conn_connected(c, sv[0], &sa, sizeof(sa.sa_family));
	*peer = sv[1];
	return c;
}

/* What arrives, header and all, goes to our own listener. */
static void
relay(int peer, const char *want)
{
	char buf[4096];
	size_t n = 0;
	ssize_t rc;
	int fd;

	while (n < 6 || memcmp(buf + n - 6, "first\n", 6) != 0) {
		UNTIL((rc = recv(peer, buf + n, sizeof(buf) - n, 0)) > 0);
		n += (size_t)rc;
	}
	fd = kit_connect();
	send_all(fd, buf, n, sizeof(buf));
	kit_expect(fd, want);
	kit_expect(fd, "first\n");
	close(fd);
}

START_TEST(a_header_for_the_next_server)
{
	struct kquay_conn *client, *c;
	char want[300];
	const char *path;
	int fd, peer, version;

	start(NULL);
	/* Of a TCP client, plain and behind a proxy; of a UNIX client. */
	for (version = 1; version <= 2; version++) {
		fd = kit_connect();
		send_all(fd, headers[0].buf, headers[0].len, 1000);
		kit_expect(fd, headers[0].says);
		client = kit_conn();
		c = dial(version, client, &peer);
		relay(peer, headers[0].says);
		kquay_abort(c);
		close(peer);
		close(fd);
		UNTIL(kquay_next(q, NULL) == NULL);
	}
	path = kit_path("u");
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	snprintf(want, sizeof(want), "unix:%u/%d to unix:%s\n",
	    (unsigned)getuid(), (int)getpid(), path);
	kit_expect(fd, want);
	client = kit_conn();
	c = dial(2, client, &peer);
	relay(peer, want);
	kquay_abort(c);
	close(peer);
	/* Of nobody. */
	for (version = 1; version <= 2; version++) {
		c = dial(version, NULL, &peer);
		UNTIL(recv(peer, want, sizeof(want), 0) > 0);
		ck_assert(
		    memcmp(want, version == 1 ? "PROXY UNKNOWN" : V2, 12) == 0);
		if (version == 2)
			ck_assert_int_eq(want[12], 0x20);
		kquay_abort(c);
		close(peer);
	}
	close(fd);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = { &the_peer_is_the_client,
	&without_a_client_the_peer_is_the_proxy, &only_where_it_is_asked_for,
	&fields_are_told, &credentials_of_a_unix_client,
	&a_unix_socket_is_read_to_its_end, &what_is_no_header_is_refused,
	&who_hangs_up_first_is_nobody, &a_slow_header_is_refused,
	&who_waits_costs_nothing, &maxperaddr_counts_clients,
	&stopping_ends_who_waits, &a_poor_kernel_is_enough,
	&a_reset_is_a_refusal, &a_header_for_the_next_server };
KIT_MAIN("proxy", tests)
