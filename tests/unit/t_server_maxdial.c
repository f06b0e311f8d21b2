/*
 * White box: slots of their own for what is dialled, in one loop and in a
 * team, whose loops are stepped by hand.
 */
#include "t_server_kit.h"
#include "server.h"

#include <sys/resource.h>

#include <arpa/inet.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static struct {
	int n, err;
} refused;

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	(void)loop, (void)sa, (void)salen;
	refused.n++;
	refused.err = errno;
}

static const struct kquay_ops ops = { .close = kit_on_close,
	.refused = on_refused };

/* Somebody who listens, and whose backlog takes all callers. */
static char far_port[8];

static int
far_listen(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t salen = sizeof(sin);
	int fd;

	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(bind(fd, (void *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(listen(fd, 64), 0);
	ck_assert_int_eq(getsockname(fd, (void *)&sin, &salen), 0);
	snprintf(far_port, sizeof(far_port), "%d", ntohs(sin.sin_port));
	return fd;
}

static struct kquay_conn *
far_dial(struct kquay *loop)
{
	return kquay_dial(loop, "127.0.0.1", far_port, NULL, 0);
}

static void
expect_no_dial(struct kquay *loop)
{
	errno = 0;
	ck_assert_ptr_null(far_dial(loop));
	ck_assert_int_eq(errno, ENOBUFS);
}

static void
expect_refused(int fd)
{
	int before = refused.n;

	UNTIL(refused.n == before + 1);
	ck_assert_int_eq(refused.err, ENOBUFS);
	kit_expect_end(fd, "");
	close(fd);
}

START_TEST(neither_takes_the_others_slots)
{
	struct kquay_conf conf = { .maxconn = 2, .maxdial = 2 };
	struct kquay_conn *dialled[2];
	struct kquay_stat st;
	int fd[2], far = far_listen(), i;

	kit_start(&ops, &conf);
	for (i = 0; i < 2; i++) {
		dialled[i] = far_dial(q);
		ck_assert_ptr_nonnull(dialled[i]);
	}
	expect_no_dial(q);
	for (i = 0; i < 2; i++)
		fd[i] = kit_join();
	expect_refused(kit_connect());
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.conns, 4);
	ck_assert_uint_eq(st.peak, 4);
	ck_assert_uint_eq(st.dials, 2);
	/* The end of one of each makes room for that kind alone. */
	close(fd[0]);
	UNTIL(kit_closed.n == 1);
	expect_no_dial(q);
	fd[0] = kit_join();
	kquay_close(dialled[0]);
	UNTIL(kit_closed.n == 2);
	expect_refused(kit_connect());
	ck_assert_ptr_nonnull(far_dial(q));
	expect_no_dial(q);
	/* An adopted one counts as a caller. */
	ck_assert_ptr_null(kquay_adopt(q, far, NULL));
	ck_assert_int_eq(errno, ENOBUFS);
	kit_stop();
	close(fd[0]);
	close(fd[1]);
	close(far);
}
END_TEST

START_TEST(without_maxdial_they_share)
{
	struct kquay_conf conf = { .maxconn = 2 };
	struct kquay_stat st;
	int far = far_listen(), fd;

	kit_start(&ops, &conf);
	ck_assert_ptr_nonnull(far_dial(q));
	fd = kit_join();
	expect_refused(kit_connect());
	expect_no_dial(q);
	kquay_stats(q, &st);
	ck_assert_uint_eq(st.conns, 2);
	ck_assert_uint_eq(st.dials, 1);
	kit_stop();
	close(fd);
	close(far);
}
END_TEST

/* Who waits in the backlog is let in by the end of a caller, not of a dial. */
START_TEST(a_dial_makes_no_room_for_who_waits)
{
	struct kquay_conf conf = { .maxconn = 1,
		.maxdial = 1,
		.flags = KQUAY_FULLWAIT };
	int far = far_listen(), fd, next;
	struct kquay_conn *c;

	kit_start(&ops, &conf);
	fd = kit_join();
	next = kit_connect();
	UNTIL(q->full);
	c = far_dial(q);
	ck_assert_ptr_nonnull(c);
	kit_settle();
	kquay_close(c);
	UNTIL(kit_closed.n == 1);
	kit_settle();
	ck_assert(q->full);
	ck_assert_uint_eq(q->stat.accepted, 1);
	/* The dial's slot is taken again: it would have to be a caller's. */
	ck_assert_ptr_nonnull(far_dial(q));
	close(fd);
	UNTIL(q->stat.accepted == 2);
	ck_assert_int_eq(refused.n, 0);
	kit_stop();
	close(next);
	close(far);
}
END_TEST

static void
step_both(struct kquay_team *t)
{
	ck_assert_int_ne(kquay_step(kquay_team_loop(t, 0), 1), -1);
	ck_assert_int_ne(kquay_step(kquay_team_loop(t, 1), 1), -1);
}

/* Whichever loop dials, and whichever the callers are with. */
START_TEST(a_team_shares_both_limits)
{
	struct kquay_conf conf = { .maxconn = 1,
		.maxdial = 2,
		.flags = KQUAY_NOSIGNAL | KQUAY_DEAL };
	int64_t deadline = kit_ms() + KIT_DEADLINE;
	struct kquay *a, *b;
	struct kquay_team *t;
	int far = far_listen(), fd[2];
	struct kquay_conn *c;

	t = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(t);
	a = kquay_team_loop(t, 0);
	b = kquay_team_loop(t, 1);
	ck_assert_int_eq(kquay_team_listen(t, "127.0.0.1", "0"), 1);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(a, 0), ':') + 1);
	c = far_dial(a);
	ck_assert_ptr_nonnull(c);
	ck_assert_ptr_nonnull(far_dial(b));
	expect_no_dial(a);
	expect_no_dial(b);
	ck_assert_uint_eq(kquay_team_conns(t), 2);
	fd[0] = kit_connect();
	while (a->stat.accepted + b->stat.accepted == 0) {
		ck_assert(kit_ms() < deadline);
		step_both(t);
	}
	ck_assert_uint_eq(kquay_team_conns(t), 3);
	fd[1] = kit_connect();
	while (refused.n == 0) {
		ck_assert(kit_ms() < deadline);
		step_both(t);
	}
	ck_assert_int_eq(refused.err, ENOBUFS);
	expect_no_dial(b);
	/* What a gives back b may take. */
	kquay_abort(c);
	step_both(t);
	ck_assert_uint_eq(kquay_team_conns(t), 2);
	ck_assert_ptr_nonnull(far_dial(b));
	expect_no_dial(a);
	kquay_team_free(t);
	close(fd[0]);
	close(fd[1]);
	close(far);
}
END_TEST

START_TEST(the_table_has_room_for_both)
{
	struct kquay_conf conf = { .maxconn = 1 << 23,
		.maxdial = (1 << 23) - 1,
		.flags = KQUAY_NOSIGNAL };
	struct rlimit rl, low;
	struct kquay *loop;

	ck_assert_ptr_null(kquay_new(&ops, &conf));
	ck_assert_int_eq(errno, EINVAL);
	conf.maxdial = UINT32_MAX;
	ck_assert_ptr_null(kquay_new(&ops, &conf));
	ck_assert_int_eq(errno, EINVAL);
	/* The default leaves descriptors for what is dialled. */
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	low = rl;
	low.rlim_cur = 1000;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &low), 0);
	conf = (struct kquay_conf){ .maxdial = 400, .flags = KQUAY_NOSIGNAL };
	loop = kquay_new(&ops, &conf);
	ck_assert_ptr_nonnull(loop);
	ck_assert_uint_eq(loop->conf.maxconn, 1000 - 400 - 32);
	kquay_free(loop);
	conf.maxdial = 999;
	loop = kquay_new(&ops, &conf);
	ck_assert_ptr_nonnull(loop);
	ck_assert_uint_eq(loop->conf.maxconn, 500);
	kquay_free(loop);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
}
END_TEST

static const TTest **const tests[] = {
	&neither_takes_the_others_slots,
	&without_maxdial_they_share,
	&a_dial_makes_no_room_for_who_waits,
	&a_team_shares_both_limits,
	&the_table_has_room_for_both,
};

KIT_MAIN("server_maxdial", tests)
