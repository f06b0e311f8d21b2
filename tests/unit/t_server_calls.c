/*
 * How many system calls the loop makes: one wait for all that is ready, one
 * recv and one send for each request, and nothing else.
 */
#include "t_server_kit.h"

#include <string.h>
#include <unistd.h>

static struct {
	int read, write, accept, kevent;
} calls;

static ssize_t
counted_read(int fd, void *buf, size_t len)
{
	calls.read++;
	return recv(fd, buf, len, 0);
}

static ssize_t
counted_write(int fd, const void *buf, size_t len)
{
	calls.write++;
	return send(fd, buf, len, MSG_NOSIGNAL);
}

static int
counted_accept(int fd, struct sockaddr *sa, socklen_t *salen)
{
	calls.accept++;
	return accept4(fd, sa, salen, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int
counted_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	calls.kevent += nevents > 0; /* kquay_step() also only changes */
	return kevent(kq, changes, nchanges, events, nevents, timeout);
}

static const struct kquay_sys counted = { .read = counted_read,
	.write = counted_write,
	.accept = counted_accept,
	.kevent = counted_kevent };

/* What one answer is made of goes out in one send. */
static void
answer(struct kquay_conn *c, char *line, size_t len)
{
	kquay_write(c, line, len);
	kquay_puts(c, "!");
	kquay_puts(c, "\n");
}

static void
answer_once(struct kquay_conn *c, char *line, size_t len)
{
	answer(c, line, len);
	kquay_close(c);
}

static const struct kquay_ops answers = { .line = answer,
	.close = kit_on_close };
static const struct kquay_ops single = { .line = answer_once,
	.close = kit_on_close };

static void
expect_calls(int accepts, int reads, int writes)
{
	ck_assert_int_eq(calls.accept, accepts);
	ck_assert_int_eq(calls.read, reads);
	ck_assert_int_eq(calls.write, writes);
	ck_assert_int_eq(calls.kevent, 1);
	memset(&calls, 0, sizeof(calls));
}

START_TEST(a_request_is_three_calls)
{
	struct kquay_conf conf = { .maxconn = 8, .sys = &counted };
	int fd, i;

	kit_start(&answers, &conf);
	fd = kit_join();
	kit_settle();
	for (i = 0; i < 100; i++) {
		memset(&calls, 0, sizeof(calls));
		kit_send(fd, "one\ntwo\n");
		ck_assert_int_eq(kquay_step(q, 5000), 1);
		expect_calls(0, 1, 1);
		kit_expect(fd, "one!\ntwo!\n");
	}
	kit_stop();
}
END_TEST

START_TEST(a_batch_has_one_wait)
{
	enum { N = 50 };
	struct kquay_conf conf = { .maxconn = N, .sys = &counted };
	int fd[N], i, turn;

	kit_start(&answers, &conf);
	for (i = 0; i < N; i++)
		fd[i] = kit_join();
	kit_settle();
	for (turn = 0; turn < 10; turn++) {
		for (i = 0; i < N; i++)
			kit_send(fd[i], "hello\n");
		memset(&calls, 0, sizeof(calls));
		ck_assert_int_eq(kquay_step(q, 5000), N);
		expect_calls(0, N, N);
		for (i = 0; i < N; i++)
			kit_expect(fd[i], "hello!\n");
	}
	kit_stop();
}
END_TEST

/*
 * Accepted in one step and answered and closed in the next; the knote is made
 * by the wait itself.  Before the close one more read looks for input that
 * would make it a reset.
 */
START_TEST(a_short_connection_is_two_waits)
{
	struct kquay_conf conf = { .maxconn = 8, .sys = &counted };
	int fd, i;

	kit_start(&single, &conf);
	/* The first few look whether input comes with the caller. */
	for (i = 0; i < 15; i++) {
		fd = kit_connect();
		memset(&calls, 0, sizeof(calls));
		ck_assert_int_eq(kquay_step(q, 5000), 1);
		if (i > 0)
			expect_calls(1, 0, 0);
		memset(&calls, 0, sizeof(calls));
		kit_send(fd, "hello\n");
		ck_assert_int_eq(kquay_step(q, 5000), 1);
		expect_calls(0, 2, 1);
		ck_assert_int_eq(kit_closed.n, i + 1);
		kit_expect_end(fd, "hello!\n");
		close(fd);
	}
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&a_request_is_three_calls,
	&a_batch_has_one_wait,
	&a_short_connection_is_two_waits,
};

KIT_MAIN("server_calls", tests)
