/*
 * The system calls of a relay, as the kernel counts them: a connection, a
 * message each way, what is large, and the end of each side.
 *
 * Whether TCP connects at once is the kernel's to say, even on one machine; so
 * of some connections the one with the fewest calls is compared.  All else
 * happens when the test says so.
 */
#include "t_calls_kit.h"
#include "t_server_kit.h"

#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define TRIES 20
#define LARGE (64 * 1024)

static struct {
	int fd; /* listens */
	const char *host, *port;
	char number[8];
} far;

static struct kquay_conn *waiting; /* the caller until it is joined */

static int
join(struct kquay_conn *server)
{
	return kquay_splice(waiting, server);
}

static const struct kquay_ops servers = { .open = join };

static int
dial(struct kquay_conn *c)
{
	waiting = c;
	return kquay_dial(kquay_of(c), far.host, far.port, &servers, 5000) !=
		NULL ?
	    0 :
	    -1;
}

/* It goes to the server once the two are joined. */
static ssize_t
keep(struct kquay_conn *c, char *data, size_t len)
{
	(void)c;
	(void)data;
	(void)len;
	return 0;
}

static const struct kquay_ops callers = { .open = dial, .input = keep };

static void
start(int family)
{
	static const struct kquay_conf conf = { .maxconn = 8, .maxdial = 8 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET };
	socklen_t len = sizeof(in);

	kit_start(&callers, &conf);
	far.fd = socket(family, SOCK_STREAM, 0);
	ck_assert_int_ne(far.fd, -1);
	if (family == AF_UNIX) {
		far.host = kit_path("far");
		far.port = NULL;
		strcpy(un.sun_path, far.host);
		ck_assert_int_eq(bind(far.fd, (void *)&un, sizeof(un)), 0);
	} else {
		in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		ck_assert_int_eq(bind(far.fd, (void *)&in, sizeof(in)), 0);
		ck_assert_int_eq(getsockname(far.fd, (void *)&in, &len), 0);
		snprintf(far.number, sizeof(far.number), "%d",
		    ntohs(in.sin_port));
		far.host = "127.0.0.1";
		far.port = far.number;
	}
	ck_assert_int_eq(listen(far.fd, 8), 0);
}

static void
stop(void)
{
	close(far.fd);
	kit_stop();
}

/* What a step of the loop asks of the kernel; *n: how many events it had. */
static const char *
step_calls(int ms, int *n)
{
	static char calls[2048];

	calls_begin();
	*n = kquay_step(q, ms);
	snprintf(calls, sizeof(calls), "%s", calls_end());
	ck_assert_int_ne(*n, -1);
	return calls;
}

static void
expect_step(const char *what, const char *want)
{
	int n;
	const char *got = step_calls(KIT_DEADLINE, &n);

	ck_assert_msg(strcmp(got, want) == 0, "%s makes [%s], not [%s]", what,
	    got, want);
}

/*
 * A caller who has said something, and the server whom it reached.  Returns
 * what the step made in which it was accepted.
 */
static const char *
reach(int *caller, int *server)
{
	const char *first;
	int n;

	*caller = kit_connect();
	kit_send(*caller, "hello\n");
	first = step_calls(KIT_DEADLINE, &n);
	*server = -1;
	UNTIL(kquay_next(q, kquay_next(q, NULL)) != NULL);
	*server = accept4(far.fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ck_assert_int_ne(*server, -1);
	kit_expect(*server, "hello\n");
	return first;
}

/* What is left of an end that was seen shows once more, and goes. */
static void
end_both(int *first, int *second)
{
	(void)shutdown(*first, SHUT_WR);
	expect_step("the first end", "epoll_wait recv shutdown");
	kit_expect_end(*second, "");
	kit_settle();
	close(*second);
	expect_step("the second end", "epoll_wait recv epoll_ctl close close");
	kit_expect_end(*first, "");
	close(*first);
}

/* -- a connection ---------------------------------------------------------- */

static void
expect_least(int family, const char *want)
{
	char least[1024] = "";
	const char *calls;
	int caller, server, i;

	start(family);
	for (i = 0; i < TRIES; i++) {
		calls = reach(&caller, &server);
		if (i == 0 || strlen(calls) < strlen(least))
			snprintf(least, sizeof(least), "%s", calls);
		kit_send(server, "hi\n");
		expect_step("an answer", "epoll_wait recv send");
		kit_expect(caller, "hi\n");
		end_both(&caller, &server);
	}
	ck_assert_str_eq(least, want);
	stop();
}

START_TEST(a_connection_by_tcp)
{
	expect_least(AF_INET,
	    "epoll_wait accept4 socket setsockopt connect getsockopt recv "
	    "send epoll_ctl epoll_ctl");
}
END_TEST

START_TEST(a_connection_to_a_unix_socket)
{
	expect_least(AF_UNIX,
	    "epoll_wait accept4 socket connect recv send epoll_ctl epoll_ctl");
}
END_TEST

START_TEST(the_server_may_end_first)
{
	int caller, server, i;

	start(AF_INET);
	for (i = 0; i < TRIES; i++) {
		(void)reach(&caller, &server);
		end_both(&server, &caller);
	}
	stop();
}
END_TEST

/* -- what passes ----------------------------------------------------------- */

START_TEST(a_message_is_a_wait_a_recv_and_a_send)
{
	int caller, server, i;

	start(AF_INET);
	(void)reach(&caller, &server);
	for (i = 0; i < 100; i++) {
		kit_send(caller, "question\n");
		expect_step("a question", "epoll_wait recv send");
		kit_expect(server, "question\n");
		kit_send(server, "answer\n");
		expect_step("an answer", "epoll_wait recv send");
		kit_expect(caller, "answer\n");
	}
	close(caller);
	close(server);
	stop();
}
END_TEST

/* One wait does for all that have something. */
START_TEST(messages_share_the_wait)
{
	enum { N = 4 };
	int caller[N], server[N], i, turn;

	start(AF_INET);
	for (i = 0; i < N; i++)
		(void)reach(&caller[i], &server[i]);
	for (turn = 0; turn < 20; turn++) {
		for (i = 0; i < N; i++)
			kit_send(caller[i], "question\n");
		expect_step("4 questions",
		    "epoll_wait recv send recv send recv send recv send");
		for (i = 0; i < N; i++)
			kit_expect(server[i], "question\n");
	}
	for (i = 0; i < N; i++) {
		close(caller[i]);
		close(server[i]);
	}
	stop();
}
END_TEST

/* All that is there to receive. */
static size_t
take(int fd)
{
	static char buf[LARGE];
	size_t sum = 0;
	ssize_t n;

	while ((n = recv(fd, buf, sizeof(buf), 0)) > 0)
		sum += (size_t)n;
	return sum;
}

/*
 * What is large goes through a pipe and is never in our memory: in, out, and a
 * look for more.  Of some turns only one need show that, for the kernel may
 * hand it over in parts.
 */
START_TEST(bulk_is_spliced)
{
	static const char want[] = "epoll_wait splice splice splice";
	static const char data[LARGE];
	const char *calls;
	int caller, server, n, i, exact = 0;
	size_t got;

	signal(SIGPIPE, SIG_IGN); /* or it would not splice */
	start(AF_INET);
	(void)reach(&caller, &server);
	for (i = 0; i < TRIES; i++) {
		ck_assert_int_eq(send(caller, data, LARGE, MSG_NOSIGNAL),
		    LARGE);
		for (got = 0; got < LARGE; got += take(server)) {
			calls = step_calls(5, &n);
			exact += strcmp(calls, want) == 0;
		}
	}
	ck_assert_int_gt(exact, 0);
	close(caller);
	close(server);
	stop();
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("server_relay_calls");
	TCase *tc = tcase_create("relay");

	tcase_add_test(tc, a_connection_by_tcp);
	tcase_add_test(tc, a_connection_to_a_unix_socket);
	tcase_add_test(tc, the_server_may_end_first);
	tcase_add_test(tc, a_message_is_a_wait_a_recv_and_a_send);
	tcase_add_test(tc, messages_share_the_wait);
	tcase_add_test(tc, bulk_is_spliced);
	suite_add_tcase(suite, tc);
	return calls_run(suite);
}
