/*
 * Outgoing connections: to numbers, names and UNIX sockets; that fail in every
 * way, are given up in every state, or come a thousand at a time.
 */
#include "dial.h"
#include "t_server_dns.h"

#include <sys/un.h>

#include <arpa/inet.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct dns_name table[] = {
	{ .name = "four.test", .a = "127.0.0.1" },
	{ .name = "both.test", .a = "127.0.0.1", .aaaa = "2001:db8::1" },
	{ .name = "late.test", .a = "127.0.0.1", .a_ms = 30 },
	{ .name = "deaf.test", .a_ms = DNS_NEVER, .aaaa_ms = DNS_NEVER },
	{ .name = "fail.test", .rcode = 2 },
	{ .name = "many.test",
	    .a = "198.51.100.1 198.51.100.2 198.51.100.3 198.51.100.4 "
		 "198.51.100.5 198.51.100.6 198.51.100.7 198.51.100.8 "
		 "198.51.100.9 198.51.100.10 198.51.100.11 198.51.100.12" },
	{ .name = NULL },
};

/* -- the service ----------------------------------------------------------- */

static int opened; /* dialled connections that were opened */

static int
on_open(struct kquay_conn *c)
{
	opened++;
	return 0;
}

static char got[256];

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	ck_assert_uint_lt(strlen(got) + len + 1, sizeof(got));
	strcat(strcat(got, text), ";");
}

static char at_close[128]; /* kquay_peer() */

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	int saved = errno;

	snprintf(at_close, sizeof(at_close), "%s", kquay_peer(c));
	errno = saved;
	kit_on_close(c, why);
}

static const struct kquay_ops client = { .open = on_open,
	.line = on_line,
	.close = on_close };

static char caller[128]; /* the last whom the server has accepted */

static int
server_open(struct kquay_conn *c)
{
	snprintf(caller, sizeof(caller), "%s", kquay_peer(c));
	return 0;
}

static void
server_line(struct kquay_conn *c, char *text, size_t len)
{
	kquay_printf(c, "%s\n", text);
}

static const struct kquay_ops server = { .open = server_open,
	.line = server_line };

/* -- system calls ---------------------------------------------------------- */

static int sockets_fail;   /* errno of socket(2) */
static int six_fails;      /* errno of connect(2) by IPv6 */
static bool four_is_deaf;  /* connect(2) by IPv4 never ends */
static bool self_connects; /* to the very port that it comes from */
static int connects;

static int
hooked_socket(int domain, int type, int protocol)
{
	if (sockets_fail != 0) {
		errno = sockets_fail;
		return -1;
	}
	return socket(domain, type, protocol);
}

/* A socket that nobody has connected looks like one that never is. */
static int
hooked_connect(int fd, const struct sockaddr *sa, socklen_t salen)
{
	connects++;
	if (sa->sa_family == AF_INET6 && six_fails != 0) {
		errno = six_fails;
		return -1;
	}
	if (sa->sa_family == AF_INET && four_is_deaf) {
		errno = EINPROGRESS;
		return -1;
	}
	if (self_connects)
		ck_assert_int_eq(bind(fd, sa, salen), 0);
	return connect(fd, sa, salen);
}

static const struct kquay_sys hooked = { .socket = hooked_socket,
	.connect = hooked_connect };
static const struct kquay_sys hooked_clock = { .socket = hooked_socket,
	.connect = hooked_connect,
	.now = kit_now };

static void
begin(const struct kquay_sys *sys)
{
	struct kquay_conf conf = { .maxconn = 64,
		.sys = sys,
		.nameservers = dns_open(table) };

	opened = connects = 0;
	sockets_fail = six_fails = 0;
	four_is_deaf = self_connects = false;
	got[0] = at_close[0] = caller[0] = '\0';
	kit_start(&server, &conf);
	dns_serve();
}

static void
end(void)
{
	kit_stop();
	dns_close();
}

static struct kquay_conn *
dial(const char *host, const char *port, int ms)
{
	struct kquay_conn *c;

	c = kquay_dial(q, host, port, &client, ms);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(opened, 0);
	return c;
}

/* It never opens, and closes once with this errno. */
static void
fails(int err)
{
	UNTIL(kit_closed.n > 0);
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, err);
	ck_assert_int_eq(opened, 0);
}

/* A port of 127.0.0.1 where nobody listens. */
static const char *
free_port(void)
{
	static char text[8];
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int fd;

	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (void *)&sin, len), 0);
	ck_assert_int_eq(getsockname(fd, (void *)&sin, &len), 0);
	close(fd);
	snprintf(text, sizeof(text), "%d", ntohs(sin.sin_port));
	return text;
}

/* -- it connects ----------------------------------------------------------- */

/* What is written before is sent first; the peer is whom it has reached. */
START_TEST(writes_before_open)
{
	struct kquay_conn *c, *o;
	struct kquay_stat st;
	char want[64];
	uint64_t id;

	begin(NULL);
	c = dial("four.test", kit_port, 0);
	id = kquay_id(c);
	ck_assert_ptr_eq(kquay_find(q, id), c);
	KQUAY_FOREACH(o, q)
		ck_abort_msg("shown before it is open");
	snprintf(want, sizeof(want), "four.test:%s", kit_port);
	ck_assert_str_eq(kquay_peer(c), want);
	ck_assert_int_eq(kquay_puts(c, "one\n"), 0);
	ck_assert_int_eq(kquay_puts(c, "two\n"), 0);
	ck_assert_uint_eq(kquay_pending(c), 8);
	UNTIL(strcmp(got, "one;two;") == 0);
	ck_assert_int_eq(opened, 1);
	snprintf(want, sizeof(want), "127.0.0.1:%s", kit_port);
	ck_assert_str_eq(kquay_peer(c), want);
	ck_assert_ptr_eq(kquay_find(q, id), c);
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.dialled, 1);
	ck_assert_uint_eq(st.accepted, 1);
	kquay_close(c);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	end();
}
END_TEST

/* A number needs no name server, and localhost none of both families. */
START_TEST(numbers_and_localhost)
{
	static const char *const hosts[] = { "127.0.0.1", "localhost" };
	int i;

	begin(NULL);
	for (i = 0; i < 2; i++) {
		opened = 0;
		dial(hosts[i], kit_port, 0);
		UNTIL(opened == 1);
	}
	ck_assert_uint_eq(dns_udp, 0);
	end();
}
END_TEST

START_TEST(from_a_source)
{
	struct kquay_target target = { .host = "127.0.0.1",
		.port = kit_port,
		.source = "127.0.0.3" };

	begin(NULL);
	ck_assert_ptr_nonnull(kquay_dialto(q, &target, &client));
	UNTIL(opened == 1 && caller[0] != '\0');
	ck_assert_int_eq(strncmp(caller, "127.0.0.3:", 10), 0);

	/* Not of this machine, and not of the family. */
	opened = 0;
	target.source = "192.0.2.1";
	ck_assert_ptr_nonnull(kquay_dialto(q, &target, &client));
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.err, EADDRNOTAVAIL);
	target.source = "::1";
	ck_assert_ptr_nonnull(kquay_dialto(q, &target, &client));
	UNTIL(kit_closed.n == 2);
	ck_assert_int_eq(kit_closed.err, EADDRNOTAVAIL);
	ck_assert_int_eq(opened, 0);
	end();
}
END_TEST

START_TEST(unix_socket)
{
	const char *path;
	char want[160];

	begin(NULL);
	path = kit_path("socket");
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	dial(path, NULL, 0);
	UNTIL(opened == 1);
	snprintf(want, sizeof(want), "unix:%u/%d", getuid(), getpid());
	ck_assert_str_eq(caller, want);

	opened = 0;
	dial(kit_path("nothing"), NULL, 0);
	fails(ENOENT);
	snprintf(want, sizeof(want), "unix:%s", kit_path("nothing"));
	ck_assert_str_eq(at_close, want);
	end();
}
END_TEST

/* A UNIX socket whose backlog is full is asked again until it has room. */
START_TEST(unix_backlog_full)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int lfd, fd;

	begin(NULL);
	strcpy(sun.sun_path, kit_path("full"));
	lfd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(lfd, (void *)&sun, sizeof(sun)), 0);
	ck_assert_int_eq(listen(lfd, 0), 0);
	fd = kit_connect_unix(sun.sun_path);
	ck_assert_int_ne(fd, -1);
	dial(sun.sun_path, NULL, 0);
	kit_settle();
	ck_assert_int_eq(opened + kit_closed.n, 0);
	close(accept(lfd, NULL, NULL));
	UNTIL(opened == 1);
	close(fd);

	opened = 0;
	dial(sun.sun_path, NULL, 40);
	fails(ETIMEDOUT);
	close(lfd);
	end();
}
END_TEST

/* A server that is told of a client, in its first bytes; then the early. */
START_TEST(with_a_proxy_header)
{
	struct kquay_target target = { .host = "127.0.0.1",
		.port = kit_port,
		.proxy = 1 };
	char want[128], mine[8];
	struct kquay_conn *c;
	int fd;

	begin(NULL);
	fd = kit_join();
	snprintf(mine, sizeof(mine), "%s", strrchr(caller, ':') + 1);
	target.client = kit_conn();
	c = kquay_dialto(q, &target, &client);
	ck_assert_ptr_nonnull(c);
	ck_assert_int_eq(kquay_puts(c, "early\n"), 0);
	snprintf(want, sizeof(want),
	    "PROXY TCP4 127.0.0.1 127.0.0.1 %s %s;early;", mine, kit_port);
	UNTIL(strlen(got) >= strlen(want));
	ck_assert_str_eq(got, want);
	ck_assert_int_eq(opened, 1);
	close(fd);
	end();
}
END_TEST

/* -- it does not ----------------------------------------------------------- */

START_TEST(refused)
{
	int before;

	begin(NULL);
	before = unit_descriptors();
	dial("127.0.0.1", free_port(), 0);
	fails(ECONNREFUSED);
	ck_assert_ptr_nonnull(strstr(at_close, "127.0.0.1:"));
	ck_assert_int_eq(unit_descriptors(), before);
	end();
}
END_TEST

START_TEST(no_such_name)
{
	begin(NULL);
	dial("nowhere.test", "80", 0);
	fails(ENOENT);
	ck_assert_str_eq(at_close, "nowhere.test:80");
	end();
}
END_TEST

START_TEST(name_server_fails)
{
	begin(NULL);
	dial("fail.test", "80", 0);
	fails(EAGAIN);
	end();
}
END_TEST

/* The limit holds for the name, too. */
START_TEST(name_takes_too_long)
{
	int64_t start;

	begin(NULL);
	start = kit_ms();
	dial("deaf.test", "80", 50);
	fails(ETIMEDOUT);
	ck_assert_int_ge(kit_ms() - start, 50);
	end();
}
END_TEST

/* A real listener that takes nobody any more. */
START_TEST(black_hole)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(sin);
	int lfd, fds[4], i, before;
	char port[8];

	begin(NULL);
	lfd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(lfd, (void *)&sin, len), 0);
	ck_assert_int_eq(listen(lfd, 0), 0);
	ck_assert_int_eq(getsockname(lfd, (void *)&sin, &len), 0);
	for (i = 0; i < 4; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		(void)connect(fds[i], (void *)&sin, len);
	}
	snprintf(port, sizeof(port), "%d", ntohs(sin.sin_port));
	before = unit_descriptors();
	dial("127.0.0.1", port, 60);
	fails(ETIMEDOUT);
	ck_assert_int_eq(unit_descriptors(), before);
	for (i = 0; i < 4; i++)
		close(fds[i]);
	close(lfd);
	end();
}
END_TEST

START_TEST(no_descriptor_left)
{
	begin(&hooked);
	sockets_fail = EMFILE;
	dial("both.test", kit_port, 0);
	fails(EMFILE);
	end();
}
END_TEST

START_TEST(connected_to_itself)
{
	begin(&hooked);
	self_connects = true;
	dial("127.0.0.1", free_port(), 0);
	fails(ECONNREFUSED);
	end();
}
END_TEST

START_TEST(wrong_arguments)
{
	struct kquay_target target = { .host = "127.0.0.1", .port = "80" };
	struct kquay_stat st;
	char longpath[200];

	begin(NULL);
	memset(longpath, 'x', sizeof(longpath) - 1);
	longpath[sizeof(longpath) - 1] = '\0';
#define REFUSED(call, err)                                                     \
	do {                                                                   \
		errno = 0;                                                     \
		ck_assert_ptr_null(call);                                      \
		ck_assert_int_eq(errno, err);                                  \
	} while (0)
	REFUSED(kquay_dial(q, NULL, "80", &client, 0), EINVAL);
	REFUSED(kquay_dial(q, "127.0.0.1", "80", &client, -2), EINVAL);
	REFUSED(kquay_dial(q, "127.0.0.1", "nosuch", &client, 0), ENOENT);
	REFUSED(kquay_dial(q, longpath, NULL, &client, 0), ENAMETOOLONG);
	target.source = "example.org";
	REFUSED(kquay_dialto(q, &target, &client), EINVAL);
	target.source = NULL;
	target.proxy = 3;
	REFUSED(kquay_dialto(q, &target, &client), EINVAL);
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.conns, 0);
	ck_assert_uint_eq(st.dialled, 0);
	kquay_stop(q);
	REFUSED(kquay_dial(q, "127.0.0.1", "80", &client, 0), ESHUTDOWN);
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	end();
}
END_TEST

START_TEST(table_is_full)
{
	struct kquay_conf conf = { .maxconn = 2 };

	opened = 0;
	kit_start(&server, &conf);
	dial("127.0.0.1", kit_port, 0);
	UNTIL(opened == 1);
	REFUSED(kquay_dial(q, "127.0.0.1", kit_port, &client, 0), ENOBUFS);
	kit_stop();
}
END_TEST

/* -- the race -------------------------------------------------------------- */

/* No way by IPv6: IPv4 follows at once. */
START_TEST(six_unreachable)
{
	begin(&hooked_clock);
	six_fails = ENETUNREACH;
	dial("both.test", kit_port, 0);
	UNTIL(opened == 1);
	ck_assert_int_eq(connects, 2);
	end();
}
END_TEST

/* IPv6 leads nowhere: IPv4 follows after 250 ms, and the loser is closed. */
START_TEST(six_is_dead)
{
	int before;

	begin(&hooked_clock);
	before = unit_descriptors();
	six_fails = EINPROGRESS;
	dial("both.test", kit_port, 0);
	UNTIL(connects == 1);
	kit_clock += 240;
	kit_settle();
	ck_assert_int_eq(connects, 1);
	kit_clock += 50;
	UNTIL(opened == 1);
	ck_assert_int_eq(connects, 2);
	UNTIL(caller[0] != '\0');
	ck_assert_int_eq(unit_descriptors(), before + 2);
	end();
}
END_TEST

/* Both fail: what the host has said, not that there is no way to the other. */
START_TEST(most_telling)
{
	begin(&hooked);
	six_fails = ENETUNREACH;
	dial("both.test", free_port(), 0);
	fails(ECONNREFUSED);
	end();
}
END_TEST

/* Of many that do not answer, the oldest attempts are given up. */
START_TEST(attempts_are_bounded)
{
	int before, i;

	begin(&hooked_clock);
	before = unit_descriptors();
	four_is_deaf = true;
	dial("many.test", "80", 20000);
	for (i = 1; i <= 12; i++) {
		UNTIL(connects == i);
		kit_clock += 300;
	}
	kit_settle();
	ck_assert_int_eq(connects, 12);
	ck_assert_int_le(unit_descriptors(), before + RACE_MAX);
	ck_assert_int_eq(kit_closed.n, 0);
	kit_clock += 20000;
	fails(ETIMEDOUT);
	ck_assert_int_eq(unit_descriptors(), before);
	end();
}
END_TEST

/* -- it is given up -------------------------------------------------------- */

/* Hosts that keep a dial in the look-up, and in connect(2). */
static const char *const slow[] = { "deaf.test", "many.test" };

static struct kquay_conn *
dial_slow(int i)
{
	struct kquay_conn *c;

	begin(&hooked);
	four_is_deaf = true;
	c = dial(slow[i], "80", -1);
	ck_assert_int_eq(kquay_puts(c, "never sent\n"), 0);
	UNTIL(i == 0 ? dns_a == 1 : connects == 1);
	return c;
}

static void
ends(enum kquay_why why)
{
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, why);
	ck_assert_int_eq(opened, 0);
	end();
	ck_assert_int_eq(kit_closed.n, 1);
}

#define EACH_SLOW(i) for ((i) = 0; (i) < 2; (i)++)

START_TEST(closed_while_dialling)
{
	struct kquay_conn *c;
	int i;

	EACH_SLOW(i)
	{
		c = dial_slow(i);
		kquay_close(c);
		ck_assert_int_eq(kquay_puts(c, "too late"), -1);
		ck_assert_int_eq(errno, EPIPE);
		ends(KQUAY_DONE);
	}
}
END_TEST

START_TEST(aborted_while_dialling)
{
	int i;

	EACH_SLOW(i)
	{
		kquay_abort(dial_slow(i));
		ends(KQUAY_DONE);
	}
}
END_TEST

START_TEST(stopped_while_dialling)
{
	int i;

	EACH_SLOW(i)
	{
		dial_slow(i);
		kquay_stop(q);
		UNTIL(kquay_done(q));
		ends(KQUAY_SHUTDOWN);
	}
}
END_TEST

START_TEST(freed_while_dialling)
{
	int i;

	EACH_SLOW(i)
	{
		dial_slow(i);
		end();
		ck_assert_int_eq(kit_closed.n, 1);
		ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	}
}
END_TEST

/* From the close callback of one the next is dialled, and so on. */
static int redials;

static void
redial(struct kquay_conn *c, enum kquay_why why)
{
	static struct kquay_ops again = { .close = redial };

	if (--redials > 0)
		ck_assert_ptr_nonnull(kquay_dial(kquay_of(c), "127.0.0.1",
		    free_port(), &again, 0));
}

START_TEST(dial_again_from_close)
{
	struct kquay_ops first = { .close = redial };
	struct kquay_stat st;

	begin(NULL);
	redials = 50;
	ck_assert_ptr_nonnull(
	    kquay_dial(q, "127.0.0.1", free_port(), &first, 0));
	UNTIL(redials == 0);
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.dialled, 50);
	UNTIL((kquay_stats(q, &st), st.conns == 0));
	end();
}
END_TEST

/* -- a thousand ------------------------------------------------------------ */

static int wrong, right;

static void
storm_close(struct kquay_conn *c, enum kquay_why why)
{
	wrong += why != KQUAY_ERROR || errno != ECONNREFUSED;
	right++;
}

/* All at once, by one name; a third to where nobody is, a third given up. */
START_TEST(storm)
{
	struct kquay_conf conf = { .maxconn = 2100,
		.nameservers = dns_open(table) };
	static const struct kquay_ops refuses = { .open = on_open,
		.close = storm_close };
	struct kquay_conn *c;
	struct kquay_stat st;
	char nobody[8];
	int before, i;

	opened = right = wrong = 0;
	kit_start(&server, &conf);
	dns_serve();
	snprintf(nobody, sizeof(nobody), "%s", free_port());
	/* What the queue opens for its first such knotes stays. */
	c = kquay_dial(q, "late.test", kit_port, &refuses, 0);
	UNTIL(opened == 1);
	kquay_abort(c);
	UNTIL((kquay_stats(q, &st), st.conns == 0));
	opened = right = wrong = 0;
	before = unit_descriptors();
	for (i = 0; i < 1000; i++) {
		c = kquay_dial(q, "late.test", i % 3 == 0 ? nobody : kit_port,
		    i % 3 == 0 ? &refuses : &client, 0);
		ck_assert_ptr_nonnull(c);
		if (i % 3 == 2)
			kquay_abort(c);
	}
	UNTIL(opened == 333 && right == 334);
	ck_assert_int_eq(wrong, 0);
	ck_assert_int_eq(kit_closed.n, 333);
	ck_assert_uint_eq(dns_udp, 4);
	UNTIL((kquay_stats(q, &st), st.accepted == 334));
	ck_assert_int_eq(unit_descriptors(), before + 2 * 333);
	while ((c = kquay_next(q, NULL)) != NULL) {
		kquay_abort(c);
		kit_step();
	}
	kit_settle();
	ck_assert_int_eq(unit_descriptors(), before);
	end();
}
END_TEST

static const TTest **const tests[] = { &writes_before_open,
	&numbers_and_localhost, &with_a_proxy_header, &from_a_source,
	&unix_socket, &unix_backlog_full, &refused, &no_such_name,
	&name_server_fails, &name_takes_too_long, &black_hole,
	&no_descriptor_left, &connected_to_itself, &wrong_arguments,
	&table_is_full, &six_unreachable, &six_is_dead, &most_telling,
	&attempts_are_bounded, &closed_while_dialling, &aborted_while_dialling,
	&stopped_while_dialling, &freed_while_dialling, &dial_again_from_close,
	&storm };

KIT_MAIN("dial", tests)
