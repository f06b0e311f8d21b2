/*
 * The system calls of a server's cycles, as the kernel counts them; what the
 * loop asks for itself is the business of t_server_calls.c.
 */
#include "t_calls_kit.h"
#include "t_server_kit.h"

#include <string.h>
#include <unistd.h>

#define NCONNS 8

static int fds[NCONNS];

static void
answer(struct kquay_conn *c, char *line, size_t len)
{
	kquay_write(c, line, len);
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

/* One step of the loop, in which that many connections have something. */
static void
expect_step(int n, const char *what, const char *calls)
{
	int got;

	calls_begin();
	got = kquay_step(q, 5000);
	calls_expect(what, calls);
	ck_assert_int_eq(got, n);
}

START_TEST(a_request_is_a_wait_a_recv_and_a_send)
{
	struct kquay_conf conf = { .maxconn = NCONNS };
	int i;

	kit_start(&answers, &conf);
	fds[0] = kit_join();
	kit_settle();
	for (i = 0; i < 20; i++) {
		kit_send(fds[0], "hello\n");
		expect_step(1, "a request", "epoll_wait recv send");
		kit_expect(fds[0], "hello\n");
	}
	kit_stop();
}
END_TEST

START_TEST(a_batch_shares_the_wait)
{
	struct kquay_conf conf = { .maxconn = NCONNS };
	int i, turn;

	kit_start(&answers, &conf);
	for (i = 0; i < NCONNS; i++)
		fds[i] = kit_join();
	kit_settle();
	for (turn = 0; turn < 20; turn++) {
		for (i = 0; i < NCONNS; i++)
			kit_send(fds[i], "hello\n");
		expect_step(NCONNS, "8 requests",
		    "epoll_wait recv send recv send recv send recv send "
		    "recv send recv send recv send recv send");
		for (i = 0; i < NCONNS; i++)
			kit_expect(fds[i], "hello\n");
	}
	kit_stop();
}
END_TEST

/*
 * The second recv looks for input that would make the close a reset.  The
 * first callers are left out: with them the loop learns that callers here speak
 * late, and looks again only much later.
 */
START_TEST(a_short_connection)
{
	struct kquay_conf conf = { .maxconn = NCONNS };
	int i;

	kit_start(&single, &conf);
	for (i = 0; i < 12; i++) {
		fds[0] = kit_connect();
		if (i < 2)
			kquay_step(q, 5000);
		else
			expect_step(1, "accept",
			    "epoll_wait accept4 epoll_ctl");
		kit_send(fds[0], "hello\n");
		if (i < 2)
			kquay_step(q, 5000);
		else
			expect_step(1, "exchange and close",
			    "epoll_wait recv send recv epoll_ctl close");
		kit_expect_end(fds[0], "hello\n");
		close(fds[0]);
		kit_settle();
	}
	kit_stop();
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("server_syscalls");
	TCase *tc = tcase_create("cycles");

	tcase_add_test(tc, a_request_is_a_wait_a_recv_and_a_send);
	tcase_add_test(tc, a_batch_shares_the_wait);
	tcase_add_test(tc, a_short_connection);
	suite_add_tcase(suite, tc);
	return calls_run(suite);
}
