/*
 * White box: loops that listen no more, and live as long as their connections.
 */
#include "t_server_kit.h"
#include "server.h"

#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int refused;

static int
on_open(struct kquay_conn *c)
{
	return kquay_puts(c, "hello\n");
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	(void)len;
	kquay_printf(c, "%s!\n", text);
}

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	(void)loop, (void)sa, (void)salen;
	refused++;
	ck_assert_int_eq(errno, ENOBUFS);
}

static const struct kquay_ops ops = { .open = on_open,
	.line = on_line,
	.refused = on_refused,
	.close = kit_on_close };

static void
expect_echo(int fd)
{
	kit_send(fd, "line\n");
	kit_expect(fd, "line!\n");
}

START_TEST(connections_go_on)
{
	struct kquay_stat st;
	int fd[3], i;

	kit_start(&ops, NULL);
	for (i = 0; i < 3; i++)
		kit_expect(fd[i] = kit_connect(), "hello\n");
	kquay_retire(q);
	kquay_retire(q);
	ck_assert_int_eq(kquay_due(q), 0);
	kit_settle();
	ck_assert_int_eq(kquay_listener(q, 0), -1);
	for (i = 0; i < 3; i++) {
		expect_echo(fd[i]);
		ck_assert(!kquay_done(q));
		ck_assert_int_eq(kit_closed.n, i);
		close(fd[i]);
		UNTIL(kit_closed.n == i + 1);
		ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	}
	ck_assert(kquay_done(q));
	ck_assert_int_eq(kquay_run(q), 0);
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.accepted, 3);
	kit_stop();
}
END_TEST

START_TEST(who_waits_is_let_in)
{
	enum { N = 50 };
	int fd[N], i;

	kit_start(&ops, NULL);
	for (i = 0; i < N; i++) {
		fd[i] = kit_connect();
		kit_send(fd[i], "early\n");
	}
	kquay_retire(q);
	ck_assert(!kquay_done(q));
	for (i = 0; i < N; i++)
		kit_expect(fd[i], "hello\nearly!\n");
	for (i = 0; i < N; i++)
		expect_echo(fd[i]);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	ck_assert_int_eq(kit_closed.n, 0);
	for (i = 0; i < N; i++)
		close(fd[i]);
	UNTIL(kquay_done(q));
	kit_stop();
}
END_TEST

/* Who finds no room cannot wait for it any more. */
START_TEST(a_full_loop_sends_away)
{
	struct kquay_conf conf = { .maxconn = 1,
		.refusal = "no\n",
		.flags = KQUAY_FULLWAIT };
	int fd[2];

	kit_start(&ops, &conf);
	kit_expect(fd[0] = kit_connect(), "hello\n");
	fd[1] = kit_connect();
	UNTIL(q->full);
	kquay_retire(q);
	kit_expect_end(fd[1], "no\n");
	ck_assert_int_eq(refused, 1);
	expect_echo(fd[0]);
	close(fd[0]);
	UNTIL(kquay_done(q));
	kit_stop();
	close(fd[1]);
}
END_TEST

START_TEST(what_is_dialled_or_adopted_goes_on)
{
	int sv[2], fd[2];

	kit_start(&ops, NULL);
	kit_expect(fd[0] = kit_connect(), "hello\n");
	ck_assert_ptr_nonnull(kquay_dial(q, "127.0.0.1", kit_port, NULL, 0));
	kquay_retire(q);
	kit_settle();
	ck_assert_uint_eq(q->stat.accepted, 2);
	/* It may be joined by new ones still. */
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	ck_assert_int_eq(fcntl(sv[1], F_SETFL, O_NONBLOCK), 0);
	ck_assert_ptr_nonnull(kquay_adopt(q, sv[0], NULL));
	kit_expect(sv[1], "hello\n");
	expect_echo(sv[1]);
	ck_assert_ptr_nonnull(kquay_dial(q, "127.0.0.1", "1", NULL, 0));
	UNTIL(kit_closed.err == ECONNREFUSED);
	ck_assert(!kquay_done(q));
	/* A stop is the end of all. */
	kquay_stop(q);
	kit_expect_end(sv[1], "");
	close(sv[1]);
	kit_expect_end(fd[0], "");
	close(fd[0]);
	UNTIL(kquay_done(q));
	ck_assert_ptr_null(kquay_dial(q, "127.0.0.1", kit_port, NULL, 0));
	ck_assert_int_eq(errno, ESHUTDOWN);
	kit_stop();
}
END_TEST

START_TEST(an_empty_loop_is_done_at_once)
{
	struct stat st;
	char path[128];

	kit_start(&ops, NULL);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	kquay_retire(q);
	ck_assert(!kquay_done(q));
	ck_assert_int_ne(kquay_step(q, -1), -1);
	ck_assert(kquay_done(q));
	ck_assert_int_eq(lstat(path, &st), -1);
	ck_assert_int_eq(kit_connect_unix(path), -1);
	kit_stop();
}
END_TEST

static int
retire_in_open(struct kquay_conn *c)
{
	kquay_retire(kquay_of(c));
	return kquay_puts(c, "hello\n");
}

START_TEST(from_a_callback)
{
	static const struct kquay_ops retiring = { .open = retire_in_open,
		.line = on_line };
	int fd[3], i;

	kit_start(&retiring, NULL);
	for (i = 0; i < 3; i++)
		fd[i] = kit_connect();
	for (i = 0; i < 3; i++) {
		kit_expect(fd[i], "hello\n");
		expect_echo(fd[i]);
		close(fd[i]);
	}
	UNTIL(kquay_done(q));
	ck_assert_uint_eq(q->stat.accepted, 3);
	kit_stop();
}
END_TEST

/* -- in a team, whose loops are stepped with the kit's: the first one ------ */

static struct kquay_team *team;
static struct kquay *second;
static char path[128];

/* Step both, as the kit steps the first. */
static void
step_second(struct kquay *loop, const struct kevent *ev, void *arg)
{
	(void)loop, (void)ev, (void)arg;
	ck_assert_int_ne(kquay_step(second, 0), -1);
}

static void
team_start(void)
{
	struct kquay_conf conf = { .maxconn = 64, .flags = KQUAY_NOSIGNAL };
	struct kevent ev;

	memset(&kit_closed, 0, sizeof(kit_closed));
	team = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(team);
	q = kquay_team_loop(team, 0);
	second = kquay_team_loop(team, 1);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	ck_assert_int_eq(kquay_team_listen_unix(team, path, 0600), 1);
	EV_SET(&ev, kquay_fd(second), EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, step_second, NULL), 0);
}

static void
team_stop(void)
{
	kquay_team_free(team);
	q = NULL;
	kit_stop();
}

/* The first may be dealing still, to whoever has the fewest. */
START_TEST(the_second_waits_for_the_first)
{
	int fd[2], i;

	team_start();
	kquay_retire(second);
	ck_assert_int_ne(kquay_step(second, 0), -1);
	ck_assert(!kquay_done(second));
	for (i = 0; i < 2; i++)
		kit_expect(fd[i] = kit_connect_unix(path), "hello\n");
	ck_assert_uint_eq(q->stat.accepted, 1);
	ck_assert_uint_eq(second->stat.accepted, 1);
	kquay_retire(q);
	kit_settle();
	ck_assert(!kquay_done(q));
	ck_assert(!kquay_done(second));
	expect_echo(fd[0]);
	expect_echo(fd[1]);
	close(fd[1]);
	UNTIL(kquay_done(second));
	ck_assert(!kquay_done(q));
	close(fd[0]);
	UNTIL(kquay_done(q));
	team_stop();
}
END_TEST

/* Those in the backlog are dealt to both, and all of them are served. */
START_TEST(the_last_are_dealt_too)
{
	enum { N = 20 };
	int fd[N], i;

	team_start();
	for (i = 0; i < N; i++) {
		fd[i] = kit_connect_unix(path);
		ck_assert_int_ne(fd[i], -1);
		kit_send(fd[i], "early\n");
	}
	kquay_retire(q);
	kquay_retire(second);
	for (i = 0; i < N; i++)
		kit_expect(fd[i], "hello\nearly!\n");
	ck_assert_uint_eq(q->stat.accepted, N / 2);
	ck_assert_uint_eq(second->stat.accepted, N / 2);
	for (i = 0; i < N; i++) {
		expect_echo(fd[i]);
		close(fd[i]);
	}
	UNTIL(kquay_done(q) && kquay_done(second));
	ck_assert_uint_eq(kquay_team_conns(team), 0);
	team_stop();
}
END_TEST

/* The next team's first loop deals what this one's has dealt. */
START_TEST(the_next_team_deals)
{
	struct kquay_team *old;
	struct kquay *first;
	int fd[4], i;

	team_start();
	old = team;
	first = q;
	kit_expect(fd[0] = kit_connect_unix(path), "hello\n");
	kit_expect(fd[1] = kit_connect_unix(path), "hello\n");
	/* The kit's loop stays the old first one; it steps all the others. */
	team = kquay_team_new(&ops, NULL, 2);
	ck_assert_ptr_nonnull(team);
	fd[2] = kit_connect_unix(path);
	fd[3] = kit_connect_unix(path);
	ck_assert_int_eq(kquay_give(first, 0, kquay_team_loop(team, 0)), 0);
	kquay_retire(first);
	kquay_retire(second);
	/* So its second must wait until the first has dealt the last. */
	kquay_retire(kquay_team_loop(team, 1));
	ck_assert_int_ne(kquay_step(kquay_team_loop(team, 1), 0), -1);
	ck_assert(!kquay_done(kquay_team_loop(team, 1)));
	while (kquay_team_conns(team) < 2) {
		kit_step();
		for (i = 0; i < 2; i++)
			ck_assert_int_ne(kquay_step(kquay_team_loop(team,
							(unsigned)i),
					     1),
			    -1);
	}
	for (i = 0; i < 2; i++)
		ck_assert_uint_eq(kquay_team_loop(team, (unsigned)i)
				      ->stat.accepted,
		    1);
	expect_echo(fd[0]);
	expect_echo(fd[1]);
	close(fd[0]);
	close(fd[1]);
	UNTIL(kquay_done(first) && kquay_done(second));
	kquay_team_free(old);
	kquay_team_free(team);
	q = NULL;
	kit_stop();
	close(fd[2]);
	close(fd[3]);
}
END_TEST

/* Where each loop has a socket of its own, so has each of the next team. */
START_TEST(the_next_team_spreads)
{
	struct kquay_conf conf = { .maxconn = 64, .flags = KQUAY_NOSIGNAL };
	struct kquay_team *next;
	const struct listener *l;
	unsigned i;

	team_start();
	ck_assert_int_eq(kquay_team_listen(team, "127.0.0.1", "0"), 1);
	next = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(next);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(kquay_give(kquay_team_loop(team, i), 1 - i,
				     kquay_team_loop(next, i)),
		    0);
	for (i = 0; i < 2; i++) {
		l = STAILQ_FIRST(&kquay_team_loop(next, i)->listeners);
		ck_assert(!l->deals);
		ck_assert_str_eq(l->text,
		    kquay_listening(kquay_team_loop(next, 0), 0));
	}
	/* The UNIX socket deals, but from the first loop only. */
	ck_assert_int_eq(kquay_give(q, 0, kquay_team_loop(next, 1)), 0);
	l = STAILQ_LAST(&kquay_team_loop(next, 1)->listeners, listener, next);
	ck_assert(!l->deals);
	ck_assert_int_eq(kquay_give(kquay_team_loop(next, 1), 1,
			     kquay_team_loop(next, 0)),
	    0);
	l = STAILQ_LAST(&kquay_team_loop(next, 0)->listeners, listener, next);
	ck_assert(l->deals);
	ck_assert_int_eq(kquay_give(kquay_team_loop(next, 0), 1, q), 0);
	kquay_team_free(next);
	team_stop();
}
END_TEST

static const TTest **const tests[] = {
	&connections_go_on,
	&who_waits_is_let_in,
	&a_full_loop_sends_away,
	&what_is_dialled_or_adopted_goes_on,
	&an_empty_loop_is_done_at_once,
	&from_a_callback,
	&the_second_waits_for_the_first,
	&the_last_are_dealt_too,
	&the_next_team_deals,
	&the_next_team_spreads,
};

KIT_MAIN("server_retire", tests)
