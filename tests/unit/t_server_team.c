/*
 * Loops in threads: what they share, and that it is shared exactly.
 */
#include "t_server_kit.h"
#include "server.h"

#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

enum { MEMBERS = 4, CALLERS = 64 };

static struct kquay_team *team;
static pthread_t runner;
static char port[8];
static char path[64];

static atomic_int opened, closed, refused, most, now;
static atomic_int per_loop[MEMBERS];

static int
on_open(struct kquay_conn *c)
{
	int n = atomic_fetch_add(&now, 1) + 1, seen = atomic_load(&most);
	unsigned member;

	ck_assert_ptr_eq(kquay_team_of(kquay_of(c), &member), team);
	atomic_fetch_add(&per_loop[member], 1);
	atomic_fetch_add(&opened, 1);
	while (seen < n && !atomic_compare_exchange_weak(&most, &seen, n))
		;
	return 0;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	(void)why;
	(void)c;
	atomic_fetch_sub(&now, 1);
	atomic_fetch_add(&closed, 1);
}

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	(void)loop, (void)sa, (void)salen;
	atomic_fetch_add(&refused, 1);
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static const struct kquay_ops ops = { .open = on_open,
	.input = echo,
	.close = on_close,
	.refused = on_refused };

static void *
run(void *arg)
{
	(void)arg;
	ck_assert_int_eq(kquay_team_run(team), 0);
	return NULL;
}

static void
start(struct kquay_conf conf, unsigned n)
{
	int i;

	conf.flags |= KQUAY_NOSIGNAL;
	team = kquay_team_new(&ops, &conf, n);
	ck_assert_ptr_nonnull(team);
	for (i = 0; i < MEMBERS; i++)
		atomic_store(&per_loop[i], 0);
	opened = closed = refused = most = now = 0;
	ck_assert_int_eq(kquay_team_listen(team, "127.0.0.1", "0"), 1);
	snprintf(port, sizeof(port), "%s",
	    strrchr(kquay_listening(kquay_team_loop(team, 0), 0), ':') + 1);
	snprintf(path, sizeof(path), "/tmp/t_team.%d", (int)getpid());
	ck_assert_int_eq(kquay_team_listen_unix(team, path, 0600), 1);
	ck_assert_int_eq(pthread_create(&runner, NULL, run, NULL), 0);
}

static void
stop(void)
{
	kquay_team_stop(team);
	ck_assert_int_eq(pthread_join(runner, NULL), 0);
	ck_assert_uint_eq(kquay_team_conns(team), 0);
	ck_assert_int_eq(opened, closed);
	kquay_team_free(team);
}

/* Blocking, with a limit; of both families by turns. */
static int
call(int by_unix)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = KIT_DEADLINE / 1000 };
	int fd, rc;

	fd = socket(by_unix ? AF_UNIX : AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	strcpy(sun.sun_path, path);
	rc = by_unix ? connect(fd, (void *)&sun, sizeof(sun)) :
		       connect(fd, (void *)&sin, sizeof(sin));
	ck_assert_int_eq(rc, 0);
	return fd;
}

/* 1 if the loop answers, 0 if it has hung up. */
static int
answers(int fd, const char *text)
{
	char buf[64];
	size_t len = strlen(text), n = 0;
	ssize_t rc;

	if (send(fd, text, len, MSG_NOSIGNAL) != (ssize_t)len)
		return 0;
	for (; n < len; n += (size_t)rc) {
		rc = recv(fd, buf + n, len - n, 0);
		if (rc == 0 || (rc == -1 && errno == ECONNRESET))
			return 0;
		ck_assert_int_gt(rc, 0);
	}
	ck_assert(memcmp(buf, text, len) == 0);
	return 1;
}

/* -- who is served by whom ------------------------------------------------- */

static void
talk_to_all(int flags)
{
	struct kquay_conf conf = { .maxconn = 2 * CALLERS, .flags = flags };
	int fd[CALLERS], i, round, used = 0;

	start(conf, MEMBERS);
	for (i = 0; i < CALLERS; i++)
		fd[i] = call(i % 2);
	for (round = 0; round < 20; round++)
		for (i = 0; i < CALLERS; i++)
			ck_assert(answers(fd[i], "hello, team"));
	ck_assert_int_eq(opened, CALLERS);
	ck_assert_uint_eq(kquay_team_conns(team), CALLERS);
	for (i = 0; i < MEMBERS; i++) {
		used += per_loop[i] > 0;
		if (flags & KQUAY_DEAL) /* as even as can be */
			ck_assert_int_eq(per_loop[i], CALLERS / MEMBERS);
	}
	/* The kernel's choice of TCP callers; the dealt ones fill the gaps. */
	ck_assert_int_eq(used, MEMBERS);
	for (i = 0; i < CALLERS; i++)
		close(fd[i]);
	AWAIT(closed == CALLERS);
	stop();
}

START_TEST(the_kernel_spreads)
{
	talk_to_all(0);
}
END_TEST

START_TEST(the_first_deals)
{
	talk_to_all(KQUAY_DEAL);
}
END_TEST

/* Every caller that leaves makes room where it was. */
START_TEST(the_least_busy_is_dealt_to)
{
	struct kquay_conf conf = { .maxconn = 64, .flags = KQUAY_DEAL };
	int fd[12], i;

	start(conf, 3);
	for (i = 0; i < 12; i++) {
		fd[i] = call(i % 2);
		ck_assert(answers(fd[i], "x"));
	}
	/* Those of one loop: each third, as they were dealt by turns. */
	for (i = 1; i < 12; i += 3)
		close(fd[i]);
	AWAIT(closed == 4);
	for (i = 1; i < 12; i += 3) {
		fd[i] = call(0);
		ck_assert(answers(fd[i], "x"));
	}
	ck_assert_int_eq(per_loop[0] + per_loop[1] + per_loop[2], 16);
	ck_assert_int_eq(per_loop[0], 4);
	ck_assert_int_eq(per_loop[1], 8);
	ck_assert_int_eq(per_loop[2], 4);
	for (i = 0; i < 12; i++)
		close(fd[i]);
	stop();
}
END_TEST

/* -- limits ---------------------------------------------------------------- */

static int storm_over;

/* Callers come and go, and each says whether it was served. */
static void *
storm(void *arg)
{
	int *served = arg, i, fd;

	for (i = 0; i < 100; i++) {
		fd = call(i % 2);
		*served += answers(fd, "y");
		close(fd);
	}
	return NULL;
}

static void
try_maxconn(int flags)
{
	struct kquay_conf conf = { .maxconn = 5, .flags = flags };
	pthread_t threads[8];
	int served[8] = { 0 }, i, all = 0;

	start(conf, MEMBERS);
	for (i = 0; i < 8; i++)
		pthread_create(&threads[i], NULL, storm, &served[i]);
	for (i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		all += served[i];
	}
	AWAIT(opened == closed);
	ck_assert_int_le(most, 5);
	AWAIT(all + refused == 800);
	ck_assert_int_ge(opened, all);
	if (flags & KQUAY_FULLWAIT) {
		ck_assert_int_eq(refused, 0);
		ck_assert_int_eq(most, 5);
	}
	stop();
}

START_TEST(maxconn_holds_over_all)
{
	try_maxconn(0);
	try_maxconn(KQUAY_DEAL);
}
END_TEST

/* Who waits in the backlog is served when any of the loops has room. */
START_TEST(fullwait_over_all)
{
	try_maxconn(KQUAY_FULLWAIT);
	try_maxconn(KQUAY_FULLWAIT | KQUAY_DEAL);
}
END_TEST

/* One slot, and callers at every loop: each is served in its turn. */
static void
try_turns(int flags)
{
	struct kquay_conf conf = { .maxconn = 1,
		.flags = flags | KQUAY_FULLWAIT };
	struct pollfd fds[17];
	int i, served, first;

	start(conf, MEMBERS);
	for (i = 0; i < 17; i++) {
		fds[i].fd = call(i % 4 == 3);
		fds[i].events = POLLIN;
		ck_assert_int_eq(send(fds[i].fd, "z", 1, MSG_NOSIGNAL), 1);
	}
	for (served = 0; served < 17; served++) {
		ck_assert_int_gt(poll(fds, 17, KIT_DEADLINE), 0);
		for (first = 0; !(fds[first].revents & POLLIN); first++)
			ck_assert_int_lt(first, 16);
		for (i = first + 1; i < 17; i++)
			ck_assert(!(fds[i].revents & POLLIN));
		close(fds[first].fd);
		fds[first].fd = -1;
	}
	ck_assert_int_eq(most, 1);
	stop();
}

START_TEST(a_slot_wakes_who_waits_elsewhere)
{
	try_turns(0);
	try_turns(KQUAY_DEAL);
}
END_TEST

START_TEST(maxconn_is_reached_exactly)
{
	struct kquay_conf conf = { .maxconn = 10 };
	int fd[16], i, round;

	start(conf, MEMBERS);
	for (round = 0; round < 3; round++) {
		for (i = 0; i < 10; i++) {
			fd[i] = call(i % 2);
			ck_assert(answers(fd[i], "z"));
		}
		for (i = 10; i < 16; i++) {
			fd[i] = call(i % 2);
			ck_assert(!answers(fd[i], "z"));
			close(fd[i]);
		}
		AWAIT(refused == 6 * (round + 1));
		ck_assert_uint_eq(kquay_team_conns(team), 10);
		for (i = 0; i < 10; i++)
			close(fd[i]);
		AWAIT(kquay_team_conns(team) == 0);
	}
	stop();
}
END_TEST

static void
try_maxperaddr(int flags)
{
	struct kquay_conf conf = { .maxconn = 64,
		.maxperaddr = 3,
		.flags = flags };
	int fd[8], unix_fd, i, round;

	start(conf, MEMBERS);
	for (round = 0; round < 20; round++) {
		for (i = 0; i < 3; i++) {
			fd[i] = call(0);
			ck_assert(answers(fd[i], "z"));
		}
		for (i = 3; i < 8; i++) {
			fd[i] = call(0);
			ck_assert(!answers(fd[i], "z"));
			close(fd[i]);
		}
		unix_fd = call(1);
		ck_assert(answers(unix_fd, "z"));
		close(unix_fd);
		for (i = 0; i < 3; i++)
			close(fd[i]);
		AWAIT(kquay_team_conns(team) == 0);
	}
	AWAIT(refused == 5 * 20);
	stop();
}

START_TEST(maxperaddr_holds_over_all)
{
	try_maxperaddr(0);
	try_maxperaddr(KQUAY_DEAL);
}
END_TEST

/* -- the end --------------------------------------------------------------- */

static void *
keep_calling(void *arg)
{
	int fd, *odd = arg;
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char byte;

	strcpy(sun.sun_path, path);
	while (!__atomic_load_n(&storm_over, __ATOMIC_ACQUIRE)) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(fd, (void *)&sun, sizeof(sun)) == 0 &&
		    send(fd, "x", 1, MSG_NOSIGNAL) == 1 &&
		    recv(fd, &byte, 1, 0) == -1 && errno != ECONNRESET)
			(*odd)++;
		close(fd);
	}
	return NULL;
}

/* In the middle of a storm of callers, again and again. */
START_TEST(a_stop_loses_nobody)
{
	struct kquay_conf conf = { .maxconn = 64 };
	pthread_t caller[2];
	int odd[2] = { 0 }, round, i, before;

	for (round = 0; round < 30; round++) {
		conf.flags = round % 2 ? KQUAY_DEAL : 0;
		storm_over = 0;
		start(conf, MEMBERS);
		for (i = 0; i < 2; i++)
			pthread_create(&caller[i], NULL, keep_calling, &odd[i]);
		before = 20 + round;
		AWAIT(opened > before);
		stop();
		__atomic_store_n(&storm_over, 1, __ATOMIC_RELEASE);
		for (i = 0; i < 2; i++)
			pthread_join(caller[i], NULL);
	}
	ck_assert_int_eq(odd[0] + odd[1], 0);
}
END_TEST

static void
fill(struct kquay *loop, void *arg)
{
	struct kquay_conn *c;

	(void)arg;
	KQUAY_FOREACH(c, loop)
		kquay_printf(c, "%0100000d", 1);
}

/* What was queued before the stop is delivered by each loop. */
START_TEST(a_stop_delivers)
{
	struct kquay_conf conf = { .maxconn = 64 };
	static char buf[65536];
	int fd[8], i;
	ssize_t rc;
	size_t n;

	start(conf, MEMBERS);
	for (i = 0; i < 8; i++) {
		fd[i] = call(i % 2);
		ck_assert(answers(fd[i], "x"));
	}
	ck_assert_int_eq(kquay_team_post(team, fill, NULL), 0);
	kquay_team_stop(team);
	for (i = 0; i < 8; i++) {
		for (n = 0; (rc = recv(fd[i], buf, sizeof(buf), 0)) > 0;)
			n += (size_t)rc;
		ck_assert_int_eq(rc, 0);
		ck_assert_uint_eq(n, 100000);
		close(fd[i]);
	}
	ck_assert_int_eq(pthread_join(runner, NULL), 0);
	ck_assert_int_eq(closed, 8);
	kquay_team_free(team);
}
END_TEST

static void
stop_all(struct kquay *loop, void *arg)
{
	(void)arg;
	kquay_stop(loop);
}

/* From any loop, once; from all of them at once it is still but one stop. */
START_TEST(a_loop_stops_the_others)
{
	struct kquay_conf conf = { .maxconn = 64 };
	int fd[2], i;
	char byte;

	for (i = 0; i < 2; i++) {
		start(conf, MEMBERS);
		fd[0] = call(0);
		fd[1] = call(1);
		ck_assert(answers(fd[0], "x") && answers(fd[1], "x"));
		if (i == 0)
			kquay_post(kquay_team_loop(team, 2), stop_all, NULL);
		else
			kquay_team_post(team, stop_all, NULL);
		ck_assert_int_eq(recv(fd[0], &byte, 1, 0), 0);
		ck_assert_int_eq(recv(fd[1], &byte, 1, 0), 0);
		close(fd[0]);
		close(fd[1]);
		ck_assert_int_eq(pthread_join(runner, NULL), 0);
		ck_assert_int_eq(closed, 2);
		kquay_team_free(team);
	}
}
END_TEST

/* A peer that takes nothing keeps its loop, until the second stop. */
START_TEST(a_second_stop_aborts)
{
	struct kquay_conf conf = { .maxconn = 64,
		.linger = -1,
		.outmax = 32 << 20 };
	int fd, i;

	start(conf, MEMBERS);
	fd = call(1);
	ck_assert(answers(fd, "x"));
	for (i = 0; i < 30; i++)
		kquay_team_post(team, fill, NULL);
	kquay_team_stop(team);
	poll(NULL, 0, 50);
	ck_assert_uint_eq(kquay_team_conns(team), 1);
	kquay_team_stop(team);
	ck_assert_int_eq(pthread_join(runner, NULL), 0);
	ck_assert_int_eq(closed, 1);
	kquay_team_free(team);
	close(fd);
}
END_TEST

START_TEST(sigterm_stops_all)
{
	struct kquay_conf conf = { .maxconn = 64 };
	int fd;
	char byte;

	signal(SIGTERM, SIG_DFL); /* Check has a handler */
	team = kquay_team_new(&ops, &conf, MEMBERS);
	ck_assert_ptr_nonnull(team);
	snprintf(path, sizeof(path), "/tmp/t_team.%d", (int)getpid());
	ck_assert_int_eq(kquay_team_listen_unix(team, path, 0600), 1);
	ck_assert_int_eq(pthread_create(&runner, NULL, run, NULL), 0);
	fd = call(1);
	ck_assert(answers(fd, "x"));
	kill(getpid(), SIGTERM);
	ck_assert_int_eq(recv(fd, &byte, 1, 0), 0);
	close(fd);
	ck_assert_int_eq(pthread_join(runner, NULL), 0);
	kquay_team_free(team);
}
END_TEST

/* -- posts ----------------------------------------------------------------- */

enum { POSTERS = 8, POSTS = 20000 };

static int next_of[POSTERS];
static int disorder;
static atomic_int posted;

static void
on_post(struct kquay *loop, void *arg)
{
	int poster = (int)((uintptr_t)arg >> 32),
	    n = (int)((uintptr_t)arg & 0xffffffff);

	(void)loop;
	if (next_of[poster] != n)
		disorder++;
	next_of[poster] = n + 1;
	atomic_fetch_add(&posted, 1);
}

static void *
post_many(void *arg)
{
	uintptr_t poster = (uintptr_t)arg;
	int i;

	for (i = 0; i < POSTS; i++)
		while (kquay_post(kquay_team_loop(team, 1), on_post,
			   (void *)(poster << 32 | (unsigned)i)) == -1)
			;
	return NULL;
}

START_TEST(posts_come_in_order)
{
	struct kquay_conf conf = { .maxconn = 8 };
	pthread_t threads[POSTERS];
	struct kquay_stat st;
	uintptr_t i;

	start(conf, 2);
	for (i = 0; i < POSTERS; i++)
		pthread_create(&threads[i], NULL, post_many, (void *)i);
	for (i = 0; i < POSTERS; i++)
		pthread_join(threads[i], NULL);
	AWAIT(posted == POSTERS * POSTS);
	kquay_team_stop(team);
	ck_assert_int_eq(pthread_join(runner, NULL), 0);
	ck_assert_int_eq(disorder, 0);
	/* Many of them by one event. */
	kquay_stats(kquay_team_loop(team, 1), &st);
	ck_assert_uint_lt(st.batches, POSTERS * POSTS);
	kquay_team_free(team);
}
END_TEST

/* What nobody has run is called by kquay_team_free(). */
START_TEST(posts_before_and_after)
{
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };

	team = kquay_team_new(&ops, &conf, 3);
	ck_assert_ptr_nonnull(team);
	posted = 0;
	next_of[0] = 0;
	ck_assert_int_eq(kquay_team_post(team, on_post, NULL), 0);
	ck_assert_int_eq(posted, 0);
	kquay_team_free(team);
	ck_assert_int_eq(posted, 3);
}
END_TEST

/* -- what cannot be -------------------------------------------------------- */

START_TEST(all_or_none_listen)
{
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };
	struct kquay_team *other;
	char text[32];
	unsigned i;

	start(conf, MEMBERS);
	/* Another team is not let in by SO_REUSEPORT. */
	other = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(other);
	errno = 0;
	ck_assert_int_eq(kquay_team_listen(other, "127.0.0.1", port), -1);
	ck_assert_int_eq(errno, EADDRINUSE);
	snprintf(text, sizeof(text), "127.0.0.1:%s", port);
	ck_assert_int_eq(strncmp(kquay_error(kquay_team_loop(other, 0)), text,
			     strlen(text)),
	    0);
	for (i = 0; i < 2; i++)
		ck_assert_ptr_null(
		    kquay_listening(kquay_team_loop(other, i), 0));
	ck_assert_int_eq(kquay_team_listen_unix(other, path, 0600), -1);
	ck_assert_int_eq(errno, EADDRINUSE);
	kquay_team_free(other);
	for (i = 0; i < MEMBERS; i++) {
		ck_assert_str_eq(kquay_listening(kquay_team_loop(team, i), 0),
		    text);
	}
	ck_assert_ptr_null(kquay_team_loop(team, MEMBERS));
	stop();

	ck_assert_ptr_null(kquay_team_new(&ops, &conf, 2000));
	ck_assert_int_eq(errno, EINVAL);
	conf.outlo = 1 << 30;
	ck_assert_ptr_null(kquay_team_new(&ops, &conf, 2));
	ck_assert_int_eq(errno, EINVAL);
	kquay_team_free(NULL);
}
END_TEST

/* 0 is one for each processor; a team of one is a loop. */
START_TEST(of_any_number)
{
	struct kquay_conf conf = { .maxconn = 8 };
	unsigned n = 0;
	int fd;

	start(conf, 0);
	while (kquay_team_loop(team, n) != NULL)
		n++;
	ck_assert_uint_ge(n, 1);
	stop();
	start(conf, 1);
	fd = call(1);
	ck_assert(answers(fd, "x"));
	close(fd);
	stop();
}
END_TEST

static const TTest **const tests[] = { &the_kernel_spreads, &the_first_deals,
	&the_least_busy_is_dealt_to, &maxconn_holds_over_all,
	&fullwait_over_all, &a_slot_wakes_who_waits_elsewhere,
	&maxconn_is_reached_exactly, &maxperaddr_holds_over_all,
	&a_stop_loses_nobody, &a_stop_delivers, &a_loop_stops_the_others,
	&a_second_stop_aborts, &sigterm_stops_all, &posts_come_in_order,
	&posts_before_and_after, &all_or_none_listen, &of_any_number };
KIT_MAIN("team", tests)
