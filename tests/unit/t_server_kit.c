/* A loop and its peers; t_server_kit.h has the contracts. */
#include "t_server_kit.h"

#include <sys/un.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct kquay *q;
char kit_port[8];
struct kit_closed kit_closed;
int64_t kit_clock = 1000000;
int kit_times = 1;
int kit_limit = 60; /* a sanitizer makes all slow */

static char directory[64];

void
kit_start(const struct kquay_ops *ops, const struct kquay_conf *conf)
{
	struct kquay_conf k = { .maxconn = 64 };

	if (conf != NULL)
		k = *conf;
	k.flags |= KQUAY_NOSIGNAL;
	memset(&kit_closed, 0, sizeof(kit_closed));
	q = kquay_new(ops, &k);
	ck_assert_ptr_nonnull(q);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(q, 0), ':') + 1);
}

void
kit_stop(void)
{
	char command[128];

	kquay_free(q);
	q = NULL;
	if (directory[0] != '\0') {
		snprintf(command, sizeof(command), "rm -rf '%s'", directory);
		ck_assert_int_eq(system(command), 0);
		directory[0] = '\0';
	}
}

void
kit_on_close(struct kquay_conn *c, enum kquay_why why)
{
	kit_closed.err = errno;
	kit_closed.why = why;
	kit_closed.pending = kquay_pending(c);
	kit_closed.n++;
}

int
kit_connect(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(kit_port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(connect(fd, (void *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

int
kit_connect_unix(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, saved;

	strcpy(sun.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	if (connect(fd, (void *)&sun, sizeof(sun)) == -1) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	return fd;
}

int
kit_join(void)
{
	struct kquay_stat st;
	uint64_t before;
	int fd;

	kquay_stats(q, &st);
	before = st.accepted;
	fd = kit_connect();
	UNTIL((kquay_stats(q, &st), st.accepted > before));
	return fd;
}

struct kquay_conn *
kit_conn(void)
{
	struct kquay_conn *c = kquay_next(q, NULL);

	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_null(kquay_next(q, c));
	return c;
}

void
kit_expect(int fd, const char *want)
{
	int64_t deadline = kit_ms() + KIT_DEADLINE;
	size_t len = strlen(want), got = 0;
	char buf[4096];
	ssize_t n;

	ck_assert_uint_lt(len, sizeof(buf));
	while (got < len) {
		n = recv(fd, buf + got, len - got, 0);
		if (n == -1) {
			ck_assert_int_eq(errno, EAGAIN);
			ck_assert_msg(kit_ms() < deadline,
			    "\"%.*s\" came, not \"%s\"", (int)got, buf, want);
			ck_assert_int_ne(kquay_step(q, 5), -1);
			continue;
		}
		ck_assert_int_gt(n, 0);
		got += (size_t)n;
	}
	buf[got] = '\0';
	ck_assert_str_eq(buf, want);
}

void
kit_expect_end(int fd, const char *want)
{
	char byte;
	ssize_t n;

	kit_expect(fd, want);
	UNTIL((n = recv(fd, &byte, 1, 0)) != -1 || errno != EAGAIN);
	ck_assert_int_eq(n, 0);
}

void
kit_expect_reset(int fd)
{
	char buf[4096];
	ssize_t n;

	UNTIL((n = recv(fd, buf, sizeof(buf), 0)) == 0 ||
	    (n == -1 && errno != EAGAIN));
	ck_assert_int_eq(n, -1);
	ck_assert_int_eq(errno, ECONNRESET);
}

void
kit_send(int fd, const char *text)
{
	ck_assert_int_eq(send(fd, text, strlen(text), MSG_NOSIGNAL),
	    strlen(text));
}

void
kit_settle(void)
{
	int quiet = 0, n;

	while (quiet < 3) {
		n = kquay_step(q, 5);
		ck_assert_int_ne(n, -1);
		quiet = n == 0 ? quiet + 1 : 0;
	}
}

void
kit_rest(void)
{
	poll(NULL, 0, 1);
}

void
kit_step(void)
{
	if (kquay_step(q, 5) == -1)
		ck_abort_msg("kquay_step: %s", strerror(errno));
}

int64_t
kit_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t
kit_now(void)
{
	return kit_clock;
}

const char *
kit_path(const char *name)
{
	static char paths[4][128];
	static int turn;
	char *path = paths[turn++ % 4];

	if (directory[0] == '\0') {
		snprintf(directory, sizeof(directory), "%s",
		    "/tmp/t_server.XXXXXX");
		ck_assert_ptr_nonnull(mkdtemp(directory));
	}
	snprintf(path, sizeof(paths[0]), "%s/%s", directory, name);
	return path;
}

int
kit_main(const char *name, const TTest **const tests[], int n)
{
	TCase *tc = unit_begin(name);
	int i;

	tcase_set_timeout(tc, kit_limit);
	/* TEST=name runs that test alone. */
	for (i = 0; i < n; i++)
		if (getenv("TEST") == NULL ||
		    strcmp(getenv("TEST"), (*tests[i])->name) == 0)
			tcase_add_loop_test(tc, *tests[i], 0, kit_times);
	return unit_end();
}
