/*
 * Teams whose loops are stepped by threads of the program's own, beside other
 * loops; and teams that take over from each other while callers come.
 */
#include "t_server_kit.h"

#include <sys/un.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WORKERS = 3, TEAMS = 8, CALLERS = 3, ROUNDS = 20 };

/* A thread, which leads its loops by one of its own. */
static struct worker {
	pthread_t thread;
	unsigned n;
	struct kquay *lead;
	struct kquay *loops[TEAMS]; /* a member of each team that lives */
} workers[WORKERS];

/* How many workers have seen their loop of a team to its end. */
static atomic_int ended[TEAMS];
static struct kquay_team *teams[TEAMS];
static atomic_int opened, closed;
static char port[8];

static int
on_open(struct kquay_conn *c)
{
	(void)c;
	atomic_fetch_add(&opened, 1);
	return 0;
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	(void)c, (void)why;
	atomic_fetch_add(&closed, 1);
}

static const struct kquay_ops ops = { .open = on_open,
	.input = echo,
	.close = on_close };

/* -- a worker -------------------------------------------------------------- */

static void
awake(struct kquay *lead, const struct kevent *ev, void *arg)
{
	(void)lead, (void)ev, (void)arg;
}

/* One of its loops has come to its end; its team's others may not have. */
static void
forget(struct worker *w, int slot)
{
	struct kevent ev;

	EV_SET(&ev, kquay_fd(w->loops[slot]), EVFILT_READ, EV_DELETE, 0, 0,
	    NULL);
	ck_assert_int_eq(kquay_watch(w->lead, &ev, NULL, NULL), 0);
	w->loops[slot] = NULL;
	atomic_fetch_add(&ended[slot], 1);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct kquay *loop;
	int i, due, ms;

	while (!kquay_done(w->lead)) {
		due = -1;
		for (i = 0; i < TEAMS; i++) {
			ms = w->loops[i] != NULL ? kquay_due(w->loops[i]) : -1;
			if (ms >= 0 && (due < 0 || ms < due))
				due = ms;
		}
		ck_assert_int_ne(kquay_step(w->lead, due), -1);
		for (i = 0; i < TEAMS; i++) {
			loop = w->loops[i];
			if (loop == NULL)
				continue;
			ck_assert_int_ne(kquay_step(loop, 0), -1);
			if (kquay_done(loop))
				forget(w, i);
		}
	}
	return NULL;
}

/* Posted: a new team has come.  arg is its slot. */
static void
join(struct kquay *lead, void *arg)
{
	struct worker *w = kquay_arg(lead);
	int slot = (int)(intptr_t)arg;
	struct kevent ev;

	w->loops[slot] = kquay_team_loop(teams[slot], w->n);
	EV_SET(&ev, kquay_fd(w->loops[slot]), EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(lead, &ev, awake, NULL), 0);
}

/* Posted: it takes over from the one before. */
static void
take_over(struct kquay *lead, void *arg)
{
	struct worker *w = kquay_arg(lead);
	int slot = (int)(intptr_t)arg;
	struct kquay *old = w->loops[(slot + TEAMS - 1) % TEAMS];

	join(lead, arg);
	while (kquay_listener(old, 0) != -1)
		ck_assert_int_eq(kquay_give(old, 0, w->loops[slot]), 0);
	kquay_retire(old);
}

static void
stop(struct kquay *lead, void *arg)
{
	(void)arg;
	kquay_stop(lead);
}

/* Have it called by each worker. */
static void
post(kquay_post_fn *fn, int slot)
{
	int i;

	for (i = 0; i < WORKERS; i++)
		ck_assert_int_eq(kquay_post(workers[i].lead, fn,
				     (void *)(intptr_t)slot),
		    0);
}

static void
make_team(int slot, int flags)
{
	struct kquay_conf conf = { .maxconn = 64,
		.flags = KQUAY_NOSIGNAL | flags };

	atomic_store(&ended[slot], 0);
	teams[slot] = kquay_team_new(&ops, &conf, WORKERS);
	ck_assert_ptr_nonnull(teams[slot]);
}

static void
start(int flags)
{
	struct kquay_conf conf = { .maxconn = 1, .flags = KQUAY_NOSIGNAL };
	struct kquay *first;
	int i;

	make_team(0, flags);
	first = kquay_team_loop(teams[0], 0);
	ck_assert_int_eq(kquay_team_listen(teams[0], "127.0.0.1", "0"), 1);
	snprintf(port, sizeof(port), "%s",
	    strrchr(kquay_listening(first, 0), ':') + 1);
	ck_assert_int_eq(kquay_team_listen_unix(teams[0], kit_path("s"), 0600),
	    1);
	memset(workers, 0, sizeof(workers));
	for (i = 0; i < WORKERS; i++) {
		conf.arg = &workers[i];
		workers[i].n = (unsigned)i;
		workers[i].lead = kquay_new(&ops, &conf);
		ck_assert_ptr_nonnull(workers[i].lead);
		ck_assert_int_eq(pthread_create(&workers[i].thread, NULL, work,
				     &workers[i]),
		    0);
	}
	post(join, 0);
}

static void
end_team(int slot)
{
	AWAIT(atomic_load(&ended[slot]) == WORKERS);
	ck_assert_uint_eq(kquay_team_conns(teams[slot]), 0);
	kquay_team_free(teams[slot]);
}

static void
stop_workers(void)
{
	int i;

	post(stop, 0);
	for (i = 0; i < WORKERS; i++) {
		pthread_join(workers[i].thread, NULL);
		kquay_free(workers[i].lead);
	}
	kit_stop();
}

/* -- callers --------------------------------------------------------------- */

/* Blocking, with a limit. */
static int
call(const char *path)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_port = htons((in_port_t)atoi(port)),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = KIT_DEADLINE / 1000 };
	int fd, rc;

	fd = socket(path != NULL ? AF_UNIX : AF_INET,
	    SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_ne(fd, -1);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	if (path != NULL)
		strcpy(sun.sun_path, path);
	rc = path != NULL ? connect(fd, (void *)&sun, sizeof(sun)) :
			    connect(fd, (void *)&sin, sizeof(sin));
	if (rc == 0)
		return fd;
	close(fd);
	return -1;
}

static int
answers(int fd)
{
	char buf[8];
	size_t n;
	ssize_t rc;

	if (send(fd, "hello", 5, MSG_NOSIGNAL) != 5)
		return 0;
	for (n = 0; n < 5; n += (size_t)rc) {
		rc = recv(fd, buf + n, 5 - n, 0);
		if (rc <= 0)
			return 0;
	}
	return memcmp(buf, "hello", 5) == 0;
}

static atomic_bool enough;
static atomic_int served, lost;

/* One call after the other, each of a few words. */
static void *
keep_calling(void *arg)
{
	const char *path = arg;
	int fd;

	while (!atomic_load(&enough)) {
		fd = call(path);
		if (fd != -1 && answers(fd) && answers(fd))
			atomic_fetch_add(&served, 1);
		else
			atomic_fetch_add(&lost, 1);
		if (fd != -1)
			close(fd);
	}
	return NULL;
}

/* -- tests ----------------------------------------------------------------- */

static void
serve_and_end(int flags)
{
	int fd[16], i;

	opened = closed = 0;
	start(flags);
	for (i = 0; i < 16; i++) {
		fd[i] = call(i % 2 ? kit_path("s") : NULL);
		ck_assert_int_ne(fd[i], -1);
	}
	for (i = 0; i < 16; i++)
		ck_assert(answers(fd[i]));
	ck_assert_uint_eq(kquay_team_conns(teams[0]), 16);
	/* One stop is a stop of all, as with threads of the team's own. */
	kquay_team_stop(teams[0]);
	for (i = 0; i < 16; i++) {
		ck_assert(!answers(fd[i]));
		close(fd[i]);
	}
	end_team(0);
	ck_assert_int_eq(opened, 16);
	ck_assert_int_eq(closed, 16);
	stop_workers();
}

START_TEST(the_kernel_spreads)
{
	serve_and_end(0);
}
END_TEST

START_TEST(the_first_deals)
{
	serve_and_end(KQUAY_DEAL);
}
END_TEST

/*
 * A new team for the old, again and again, while callers come by TCP and by a
 * UNIX socket: everybody is served, and who is connected stays so.
 */
static void
replace(int flags)
{
	char path[128];
	pthread_t callers[CALLERS];
	int fd[2], i, now = 0, before;

	opened = closed = served = lost = 0;
	enough = false;
	start(flags);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	for (i = 0; i < CALLERS; i++)
		ck_assert_int_eq(pthread_create(&callers[i], NULL, keep_calling,
				     i % 2 ? path : NULL),
		    0);
	for (i = 1; i <= ROUNDS; i++) {
		fd[0] = call(NULL);
		fd[1] = call(path);
		ck_assert_int_ne(fd[0], -1);
		ck_assert_int_ne(fd[1], -1);
		ck_assert(answers(fd[0]) && answers(fd[1]));
		now = i % TEAMS;
		make_team(now, flags);
		post(take_over, now);
		before = (now + TEAMS - 1) % TEAMS;
		/* The old one goes on for these two. */
		ck_assert(answers(fd[0]) && answers(fd[1]));
		ck_assert_int_lt(atomic_load(&ended[before]), WORKERS);
		close(fd[0]);
		close(fd[1]);
		end_team(before);
	}
	AWAIT(served > ROUNDS);
	enough = true;
	for (i = 0; i < CALLERS; i++)
		pthread_join(callers[i], NULL);
	ck_assert_int_eq(lost, 0);
	kquay_team_stop(teams[now]);
	end_team(now);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(opened, closed);
	ck_assert_int_ge(opened, served + 2 * ROUNDS);
	stop_workers();
}

START_TEST(one_team_after_the_other)
{
	replace(0);
}
END_TEST

START_TEST(one_that_deals_after_the_other)
{
	replace(KQUAY_DEAL);
}
END_TEST

static const TTest **const tests[] = {
	&the_kernel_spreads,
	&the_first_deals,
	&one_team_after_the_other,
	&one_that_deals_after_the_other,
};

KIT_MAIN("server_workers", tests)
