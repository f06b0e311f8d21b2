/*
 * The loop: signals, draining, posts from other threads, watches, stepping
 * from another loop.
 */
#include "t_server_kit.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static int
greet(struct kquay_conn *c)
{
	return kquay_puts(c, "welcome!\n");
}

static const struct kquay_ops greeter = { .open = greet,
	.close = kit_on_close };

static struct kquay_conf plain = { .maxconn = 8 };

/* Check's runner has handlers of its own. */
static void
fresh_signals(void)
{
	signal(SIGTERM, SIG_DFL);
	signal(SIGINT, SIG_DFL);
	signal(SIGPIPE, SIG_DFL);
}

/* A loop that minds signals; kit_start() makes loops that do not. */
static void
start_with_signals(const struct kquay_ops *ops)
{
	kit_start(ops, NULL);
	kquay_free(q);
	q = kquay_new(ops, &plain);
	ck_assert_ptr_nonnull(q);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", kit_port), 1);
}

/* -- signals and draining -------------------------------------------------- */

START_TEST(sigterm_flushes_and_ends)
{
	static char text[500000];
	char buf[65536];
	size_t got = 0;
	ssize_t n;
	int a, b;

	memset(text, '.', sizeof(text));
	fresh_signals();
	start_with_signals(&greeter);
	a = kit_join();
	ck_assert_int_eq(kquay_write(kit_conn(), text, sizeof(text)), 0);
	b = kit_join();
	raise(SIGTERM);
	kit_expect_end(b, "welcome!\n");
	while (got < sizeof(text) + 9) {
		UNTIL((n = recv(a, buf, sizeof(buf), 0)) != -1);
		ck_assert_int_gt(n, 0);
		got += (size_t)n;
	}
	kit_expect_end(a, "");
	ck_assert_int_eq(kquay_run(q), 0);
	ck_assert_int_eq(kit_closed.n, 2);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	ck_assert_int_eq(kquay_done(q), 1);
	ck_assert_int_eq(kquay_listen(q, NULL, "0"), -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	ck_assert_ptr_null(kquay_adopt(q, 0, NULL));
	ck_assert_int_eq(errno, ESHUTDOWN);
	kit_stop();
}
END_TEST

static char flood[32 << 20];
static int refused;

START_TEST(a_second_signal_aborts)
{
	struct kquay_conf conf = { .maxconn = 8,
		.outmax = sizeof(flood),
		.linger = -1 };
	int fd;

	fresh_signals();
	kit_start(&greeter, NULL);
	kquay_free(q);
	q = kquay_new(&greeter, &conf);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", kit_port), 1);
	fd = kit_join();
	ck_assert_int_eq(kquay_write(kit_conn(), flood, sizeof(flood)), 0);
	raise(SIGINT);
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	raise(SIGINT);
	ck_assert_int_eq(kquay_run(q), 0);
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	kit_expect_reset(fd);
	kit_stop();
}
END_TEST

static void
answer(struct kquay_conn *c, char *line, size_t len)
{
	(void)len;
	kquay_printf(c, "%s!\n", line);
}

static void
count_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	(void)loop;
	(void)sa;
	(void)salen;
	refused++;
}

enum { SLOTS = 4, WAITING = 100 };

/* Some wait when the loop is stopped with so many slots taken. */
static void
last_call(int nslow, int flags)
{
	static const struct kquay_ops ops = { .line = answer,
		.close = kit_on_close,
		.refused = count_refused };
	struct kquay_conf conf = { .maxconn = SLOTS,
		.outmax = sizeof(flood),
		.linger = -1,
		.refusal = "no room\n",
		.flags = flags };
	const char *path = kit_path("s");
	int slow[SLOTS], fd[WAITING], i;
	struct kquay_conn *c;

	refused = 0;
	kit_start(&ops, &conf);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	for (i = 0; i < nslow; i++) {
		slow[i] = kit_join();
		KQUAY_FOREACH(c, q)
			if (kquay_pending(c) == 0)
				kquay_write(c, flood, sizeof(flood));
		kit_send(slow[i], "x\n");
		kit_settle();
	}
	for (i = 0; i < WAITING; i++) {
		fd[i] = i % 2 ? kit_connect() : kit_connect_unix(path);
		kit_send(fd[i], "hello\n");
	}
	kquay_stop(q);
	ck_assert_int_eq(kquay_due(q), 0);
	for (i = 0; i < WAITING; i++) {
		kit_expect_end(fd[i],
		    nslow == SLOTS ? "no room\n" : "hello!\n");
		close(fd[i]);
	}
	ck_assert_int_eq(refused, nslow == SLOTS ? WAITING : 0);
	ck_assert_int_eq(access(path, F_OK), -1);
	ck_assert_int_eq(kquay_done(q), nslow == 0);
	kquay_stop(q);
	ck_assert_int_eq(kquay_run(q), 0);
	for (i = 0; i < nslow; i++)
		close(slow[i]);
	kit_stop();
}

/* Who has connected before the end is served or refused, and never reset. */
START_TEST(who_waits_at_the_end_is_let_in)
{
	last_call(0, 0);
	last_call(1, 0);
	last_call(SLOTS, 0);
	last_call(1, KQUAY_FULLWAIT);
	last_call(SLOTS, KQUAY_FULLWAIT);
}
END_TEST

/* The last call may find that there is none, and be ended by a callback. */
static int
stop_again(struct kquay_conn *c)
{
	kquay_stop(kquay_of(c));
	kquay_stop(kquay_of(c));
	return 0;
}

START_TEST(stop_during_the_last_call)
{
	static const struct kquay_ops ops = { .open = stop_again,
		.close = kit_on_close };
	int fd[3], i;

	kit_start(&ops, NULL);
	kquay_stop(q);
	for (i = 0; i < 3; i++)
		fd[i] = kit_connect();
	ck_assert_int_eq(kquay_run(q), 0);
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	for (i = 0; i < 3; i++) {
		kit_expect_reset(fd[i]);
		close(fd[i]);
	}
	kit_stop();

	kit_start(&ops, NULL);
	kquay_stop(q);
	ck_assert_int_eq(kquay_run(q), 0);
	kit_stop();
}
END_TEST

typedef void handler_fn(int);

static handler_fn *
disposition(int sig)
{
	struct sigaction sa;

	sigaction(sig, NULL, &sa);
	return sa.sa_handler;
}

static void
handler(int sig)
{
	(void)sig;
}

START_TEST(dispositions_are_put_back)
{
	struct kquay *other;

	fresh_signals();
	signal(SIGINT, SIG_IGN);
	start_with_signals(&greeter);
	other = kquay_new(&greeter, &plain);
	ck_assert(disposition(SIGTERM) != SIG_DFL);
	ck_assert(disposition(SIGPIPE) != SIG_DFL);
	ck_assert(disposition(SIGINT) == SIG_IGN);
	/* As of a job in the background: not meant for us. */
	raise(SIGINT);
	kit_settle();
	ck_assert_int_eq(kquay_done(q), 0);
	kquay_free(other);
	ck_assert(disposition(SIGTERM) != SIG_DFL);
	kit_stop();
	ck_assert(disposition(SIGTERM) == SIG_DFL);
	ck_assert(disposition(SIGPIPE) == SIG_DFL);

	/* The program's own handler stays, and the loop stops all the same. */
	signal(SIGTERM, handler);
	start_with_signals(&greeter);
	ck_assert(disposition(SIGTERM) == handler);
	raise(SIGTERM);
	ck_assert_int_eq(kquay_run(q), 0);
	kit_stop();
	ck_assert(disposition(SIGTERM) == handler);
}
END_TEST

START_TEST(nosignal_leaves_them_alone)
{
	fresh_signals();
	kit_start(&greeter, NULL);
	ck_assert(disposition(SIGTERM) == SIG_DFL);
	ck_assert(disposition(SIGPIPE) == SIG_DFL);
	kit_stop();
}
END_TEST

static void
stop_it(struct kquay_conn *c, char *text, size_t len)
{
	kquay_puts(c, "good bye\n");
	kquay_stop(kquay_of(c));
}

START_TEST(stop_from_a_callback)
{
	static const struct kquay_ops ops = { .open = greet,
		.line = stop_it,
		.close = kit_on_close };
	int a, b;

	kit_start(&ops, NULL);
	a = kit_join();
	b = kit_join();
	kit_send(a, "stop\nstop\n");
	ck_assert_int_eq(kquay_run(q), 0);
	kit_expect_end(a, "welcome!\ngood bye\n");
	kit_expect_end(b, "welcome!\n");
	ck_assert_int_eq(kit_closed.n, 2);
	ck_assert_ptr_null(kquay_listening(q, 1));
	kit_stop();
}
END_TEST

START_TEST(free_ends_everything)
{
	int fd;

	kit_start(&greeter, NULL);
	fd = kit_join();
	kit_stop();
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	close(fd);
}
END_TEST

/* -- posts ----------------------------------------------------------------- */

enum { THREADS = 4, POSTS = 2000 };
static int posted[THREADS];

static void
on_post(struct kquay *loop, void *arg)
{
	int *n = arg;

	ck_assert_ptr_eq(loop, q);
	(*n)++;
}

static void *
poster(void *arg)
{
	int i;

	for (i = 0; i < POSTS; i++)
		if (kquay_post(q, on_post, arg) == -1)
			return arg;
	return NULL;
}

static int
posted_sum(void)
{
	int i, sum = 0;

	for (i = 0; i < THREADS; i++)
		sum += posted[i];
	return sum;
}

START_TEST(posts_from_threads_all_arrive)
{
	pthread_t t[THREADS];
	void *failed;
	int i;

	kit_start(&greeter, NULL);
	for (i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&t[i], NULL, poster,
				     &posted[i]),
		    0);
	UNTIL(posted_sum() == THREADS * POSTS);
	for (i = 0; i < THREADS; i++) {
		pthread_join(t[i], &failed);
		ck_assert_ptr_null(failed);
	}
	kit_stop();
}
END_TEST

static void
stop_by_post(struct kquay *loop, void *arg)
{
	kquay_stop(loop);
}

static void *
post_stop(void *arg)
{
	return kquay_post(q, stop_by_post, NULL) == 0 ? NULL : arg;
}

START_TEST(a_post_wakes_a_waiting_loop)
{
	pthread_t t;

	kit_start(&greeter, NULL);
	ck_assert_int_eq(pthread_create(&t, NULL, post_stop, q), 0);
	ck_assert_int_eq(kquay_run(q), 0);
	pthread_join(t, NULL);
	kit_stop();
}
END_TEST

static int order[3], norder;

static void
on_order(struct kquay *loop, void *arg)
{
	order[norder++] = (int)(intptr_t)arg;
}

START_TEST(free_calls_what_was_posted)
{
	kit_start(&greeter, NULL);
	kquay_post(q, on_order, (void *)1);
	kquay_post(q, on_order, (void *)2);
	kquay_post(q, on_order, (void *)3);
	kit_stop();
	ck_assert_int_eq(norder, 3);
	ck_assert_int_eq(order[0], 1);
	ck_assert_int_eq(order[1], 2);
	ck_assert_int_eq(order[2], 3);
}
END_TEST

/* -- watches --------------------------------------------------------------- */

static int watched;
static struct kevent last;

static void
on_watch(struct kquay *loop, const struct kevent *ev, void *arg)
{
	ck_assert_ptr_eq(loop, q);
	ck_assert_ptr_eq(arg, &watched);
	last = *ev;
	watched++;
}

static int
watch(uintptr_t ident, int filter, int flags, unsigned fflags, int64_t data)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, flags, fflags, data, &last);
	return kquay_watch(q, &ev, flags & EV_ADD ? on_watch : NULL, &watched);
}

START_TEST(watch_a_timer_a_signal_and_a_user_event)
{
	struct kevent ev;

	kit_start(&greeter, NULL);
	ck_assert_int_eq(watch(7, EVFILT_TIMER, EV_ADD, 0, 5), 0);
	UNTIL(watched >= 3);
	ck_assert_uint_eq(last.ident, 7);
	ck_assert_ptr_eq(last.udata, &last);
	ck_assert_int_eq(watch(7, EVFILT_TIMER, EV_DELETE, 0, 0), 0);
	ck_assert_int_eq(watch(7, EVFILT_TIMER, EV_DELETE, 0, 0), -1);
	ck_assert_int_eq(errno, ENOENT);

	watched = 0;
	ck_assert_int_eq(watch(7, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1), 0);
	UNTIL(watched == 1);
	kit_settle();
	ck_assert_int_eq(watched, 1);
	ck_assert_int_eq(watch(7, EVFILT_TIMER, EV_DELETE, 0, 0), -1);

	signal(SIGHUP, SIG_IGN);
	ck_assert_int_eq(watch(SIGHUP, EVFILT_SIGNAL, EV_ADD, 0, 0), 0);
	raise(SIGHUP);
	UNTIL(watched == 2);
	ck_assert_int_eq(last.data, 1);

	ck_assert_int_eq(watch(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0), 0);
	ck_assert_int_eq(watch(1, EVFILT_USER, 0, NOTE_TRIGGER, 0), 0);
	UNTIL(watched == 3);
	ck_assert_int_eq(last.filter, EVFILT_USER);

	/* What is the loop's own is not to be had. */
	ck_assert_int_eq(watch((uintptr_t)q, EVFILT_USER, EV_ADD, 0, 0), -1);
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_int_eq(watch(9999, EVFILT_READ, EV_ADD, 0, 0), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(watch(9999, EVFILT_READ, EV_DELETE, 0, 0), -1);
	ck_assert_int_eq(errno, ENOENT);
	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, NULL, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	kit_stop();
}
END_TEST

START_TEST(watch_a_pipe_that_is_closed)
{
	int p[2];

	kit_start(&greeter, NULL);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(watch((uintptr_t)p[0], EVFILT_READ, EV_ADD, 0, 0), 0);
	ck_assert_int_eq(write(p[1], "abc", 3), 3);
	UNTIL(watched > 0);
	ck_assert_int_eq(last.data, 3);
	close(p[0]);
	ck_assert_int_eq(watch((uintptr_t)p[0], EVFILT_READ, EV_DELETE, 0, 0),
	    0);
	watched = 0;
	kit_settle();
	ck_assert_int_eq(watched, 0);
	close(p[1]);
	kit_stop();
}
END_TEST

/* Of two that are ready in one batch the first ends the second. */
static void
on_first(struct kquay *loop, const struct kevent *ev, void *arg)
{
	struct kevent other;

	watched++;
	EV_SET(&other, 3 - ev->ident, EVFILT_USER, EV_DELETE, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(loop, &other, NULL, NULL), 0);
}

START_TEST(a_watch_ended_in_its_batch_is_silent)
{
	struct kevent ev;
	int i;

	kit_start(&greeter, NULL);
	for (i = 1; i <= 2; i++) {
		EV_SET(&ev, i, EVFILT_USER, EV_ADD | EV_CLEAR, NOTE_TRIGGER, 0,
		    NULL);
		ck_assert_int_eq(kquay_watch(q, &ev, on_first, NULL), 0);
	}
	UNTIL(watched > 0);
	kit_settle();
	ck_assert_int_eq(watched, 1);
	kit_stop();
}
END_TEST

/* -- inside of another loop ------------------------------------------------ */

static void
step_again(struct kquay_conn *c, char *text, size_t len)
{
	ck_assert_int_eq(kquay_step(kquay_of(c), 0), -1);
	ck_assert_int_eq(errno, EDEADLK);
	kquay_puts(c, "no\n");
}

START_TEST(a_step_within_a_step_is_refused)
{
	static const struct kquay_ops ops = { .line = step_again };
	int fd;

	kit_start(&ops, NULL);
	fd = kit_join();
	kit_send(fd, "go\n");
	kit_expect(fd, "no\n");
	kit_stop();
}
END_TEST

static void
echo_line(struct kquay_conn *c, char *text, size_t len)
{
	kquay_printf(c, "%s\n", text);
}

/* poll(2) on the queue's descriptor tells all there is to do. */
START_TEST(the_queue_can_be_polled)
{
	static const struct kquay_ops ops = { .open = greet,
		.line = echo_line };
	struct pollfd pfd;
	int fd, i;

	kit_start(&ops, NULL);
	pfd.fd = kquay_fd(q);
	pfd.events = POLLIN;
	fd = kit_connect();
	for (i = 0; i < 3; i++) {
		ck_assert_int_eq(poll(&pfd, 1, 5000), 1);
		ck_assert_int_gt(kquay_step(q, 0), 0);
		kit_send(fd, "again\n");
	}
	kit_expect(fd, "welcome!\nagain\nagain\n");
	kit_settle();
	ck_assert_int_eq(poll(&pfd, 1, 0), 0);
	kit_stop();
}
END_TEST

START_TEST(a_step_waits_no_longer_than_asked)
{
	int64_t t0;

	kit_start(&greeter, NULL);
	kit_settle();
	t0 = kit_ms();
	ck_assert_int_eq(kquay_step(q, 30), 0);
	ck_assert_int_ge(kit_ms() - t0, 29);
	ck_assert_int_eq(kquay_step(q, 0), 0);
	kit_stop();
}
END_TEST

START_TEST(every_reason_has_a_name)
{
	int i, j;

	for (i = KQUAY_DONE; i <= KQUAY_SHUTDOWN; i++) {
		ck_assert_str_ne(kquay_whystr(i), "?");
		for (j = KQUAY_DONE; j < i; j++)
			ck_assert_str_ne(kquay_whystr(i), kquay_whystr(j));
	}
	ck_assert_str_eq(kquay_whystr(KQUAY_SHUTDOWN + 1), "?");
	ck_assert_str_eq(kquay_whystr(-1), "?");
}
END_TEST

/* Each loop has a pointer of its own, also those of a team. */
START_TEST(a_loop_has_a_pointer_of_the_services)
{
	struct kquay_conf conf = { .maxconn = 4, .arg = &kit_clock };
	static const struct kquay_ops ops;
	struct kquay_team *t;

	kit_start(&ops, &conf);
	ck_assert_ptr_eq(kquay_arg(q), &kit_clock);
	kquay_setarg(q, &conf);
	ck_assert_ptr_eq(kquay_arg(q), &conf);
	kit_stop();
	kit_start(&ops, NULL);
	ck_assert_ptr_null(kquay_arg(q));
	kit_stop();
	conf.flags = KQUAY_NOSIGNAL;
	t = kquay_team_new(&ops, &conf, 2);
	ck_assert_ptr_nonnull(t);
	ck_assert_ptr_eq(kquay_arg(kquay_team_loop(t, 1)), &kit_clock);
	kquay_setarg(kquay_team_loop(t, 1), t);
	ck_assert_ptr_eq(kquay_arg(kquay_team_loop(t, 1)), t);
	ck_assert_ptr_eq(kquay_arg(kquay_team_loop(t, 0)), &kit_clock);
	kquay_team_free(t);
}
END_TEST

static const TTest **const tests[] = {
	&sigterm_flushes_and_ends,
	&a_second_signal_aborts,
	&who_waits_at_the_end_is_let_in,
	&stop_during_the_last_call,
	&dispositions_are_put_back,
	&nosignal_leaves_them_alone,
	&stop_from_a_callback,
	&free_ends_everything,
	&posts_from_threads_all_arrive,
	&a_post_wakes_a_waiting_loop,
	&free_calls_what_was_posted,
	&watch_a_timer_a_signal_and_a_user_event,
	&watch_a_pipe_that_is_closed,
	&a_watch_ended_in_its_batch_is_silent,
	&a_step_within_a_step_is_refused,
	&a_loop_has_a_pointer_of_the_services,
	&the_queue_can_be_polled,
	&a_step_waits_no_longer_than_asked,
	&every_reason_has_a_name,
};

KIT_MAIN("server_loop", tests)
