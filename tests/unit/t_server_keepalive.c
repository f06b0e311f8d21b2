/*
 * White box: what the system was asked to look after, for all ways in and out.
 */
#include "t_server_kit.h"
#include "server.h"

#include <netinet/tcp.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const struct kquay_ops ops = { .close = kit_on_close };

static int
option(int fd, int level, int name)
{
	socklen_t len = sizeof(int);
	int value;

	ck_assert_int_eq(getsockopt(fd, level, name, &value, &len), 0);
	return value;
}

static void
expect(int fd, int seconds, int apart)
{
	ck_assert_int_eq(option(fd, SOL_SOCKET, SO_KEEPALIVE), seconds > 0);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
	    2000 * seconds);
	if (seconds == 0)
		return;
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPIDLE), seconds);
	ck_assert_int_eq(option(fd, IPPROTO_TCP, TCP_KEEPINTVL), apart);
}

/* Of the two connections that q has now, the one that was dialled or not. */
static int
fd_of(int dialled)
{
	struct kquay_conn *c;

	KQUAY_FOREACH(c, q)
		if (((c->flags & C_CLIENT) != 0) == dialled)
			return c->fd;
	ck_abort_msg("no such connection");
}

static void
expect_both(int seconds, int apart)
{
	struct kquay_conf conf = { .maxconn = 8, .keepalive = seconds };

	kit_start(&ops, &conf);
	ck_assert_ptr_nonnull(kquay_dial(q, "127.0.0.1", kit_port, NULL, 0));
	kit_settle();
	ck_assert_uint_eq(q->nconn, 2);
	expect(kquay_listener(q, 0), seconds, apart);
	expect(fd_of(0), seconds, apart);
	expect(fd_of(1), seconds, apart);
	kit_stop();
}

START_TEST(callers_and_dials)
{
	expect_both(60, 15);
	expect_both(3, 1);
	expect_both(1, 1);
	expect_both(32767, 8191);
	expect_both(0, 0);
}
END_TEST

/* What others have set up stays, if we are not asked to do better. */
START_TEST(inherited)
{
	struct kquay_conf conf = { .maxconn = 8 };
	int fd[2], i, on = 1, idle = 77;

	for (i = 0; i < 2; i++) {
		kit_start(&ops, &conf);
		fd[0] = dup(kquay_listener(q, 0));
		ck_assert_int_ne(fd[0], -1);
		kit_stop();
		ck_assert_int_eq(setsockopt(fd[0], SOL_SOCKET, SO_KEEPALIVE,
				     &on, sizeof(on)),
		    0);
		ck_assert_int_eq(setsockopt(fd[0], IPPROTO_TCP, TCP_KEEPIDLE,
				     &idle, sizeof(idle)),
		    0);
		conf.keepalive = i * 40;
		kit_start(&ops, &conf);
		ck_assert_int_eq(kquay_listen_fd(q, fd[0]), 1);
		if (i == 1)
			expect(fd[0], 40, 10);
		ck_assert_int_eq(option(fd[0], SOL_SOCKET, SO_KEEPALIVE), 1);
		ck_assert_int_eq(option(fd[0], IPPROTO_TCP, TCP_KEEPIDLE),
		    i == 1 ? 40 : 77);
		kit_stop();
		conf.keepalive = 0;
	}
}
END_TEST

START_TEST(unix_sockets_have_none)
{
	struct kquay_conf conf = { .maxconn = 8, .keepalive = 40 };
	const char *path = kit_path("s");
	int fd;

	kit_start(&ops, &conf);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	ck_assert_int_ne(fd, -1);
	UNTIL(q->nconn == 1);
	ck_assert_ptr_nonnull(kquay_dial(q, path, NULL, NULL, 0));
	UNTIL(q->nconn == 3);
	ck_assert_int_eq(kit_closed.n, 0);
	close(fd);
	kit_stop();
}
END_TEST

/* The next owner's word holds for who comes from then on. */
START_TEST(given_on)
{
	struct kquay_conf conf = { .maxconn = 8,
		.keepalive = 40,
		.flags = KQUAY_NOSIGNAL };
	struct kquay *to, *never;
	int fd;

	kit_start(&ops, NULL);
	to = kquay_new(&ops, &conf);
	conf.keepalive = 0;
	never = kquay_new(&ops, &conf);
	ck_assert_ptr_nonnull(to);
	ck_assert_ptr_nonnull(never);
	fd = kquay_listener(q, 0);
	expect(fd, 0, 0);
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	expect(fd, 40, 10);
	ck_assert_int_eq(kquay_give(to, 0, never), 0);
	expect(fd, 0, 0);
	kquay_free(to);
	kquay_free(never);
	kit_stop();
}
END_TEST

START_TEST(what_makes_no_sense)
{
	static const int bad[] = { -1, -2, 32768, INT_MAX };
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		conf.keepalive = bad[i];
		errno = 0;
		ck_assert_ptr_null(kquay_new(&ops, &conf));
		ck_assert_int_eq(errno, EINVAL);
	}
}
END_TEST

static const TTest **const tests[] = {
	&callers_and_dials,
	&inherited,
	&unix_sockets_have_none,
	&given_on,
	&what_makes_no_sense,
};

KIT_MAIN("server_keepalive", tests)
