/*
 * kquay_finish(): our half ends, theirs goes on; over TCP, UNIX sockets and
 * TLS.
 */
#include "t_server_tls_kit.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

static char lines[256]; /* those that came, with a | each */
static int ends;

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	strcat(strcat(lines, text), "|");
}

static int
stay(struct kquay_conn *c)
{
	ends++;
	return 1;
}

static const struct kquay_ops ops = { .line = on_line,
	.eof = stay,
	.close = kit_on_close };

/* The peer has its end, and is heard until it ends too. */
static void
goes_on(int fd)
{
	struct kquay_conn *c = kit_conn();

	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	ck_assert_int_eq(kquay_puts(c, "more"), -1);
	ck_assert_int_eq(errno, EPIPE);
	ck_assert_int_eq(kquay_finish(c), 0);
	kit_send(fd, "two\n");
	UNTIL(strcmp(lines, "one|two|") == 0);
	shutdown(fd, SHUT_WR);
	UNTIL(ends == 1);
	ck_assert_int_eq(kquay_finish(c), 0);
	kquay_close(c);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_int_eq(kquay_finish(c), -1);
	ck_assert_int_eq(errno, EPIPE);
	close(fd);
}

START_TEST(our_half_ends_alone)
{
	static const struct kquay_conf conf = { .linger = 100 };
	const char *path;
	int fd;

	kit_start(&ops, &conf);
	if (_i == 0)
		fd = kit_join();
	else {
		path = kit_path("s");
		ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
		fd = kit_connect_unix(path);
		ck_assert_int_ne(fd, -1);
	}
	kit_send(fd, "one\n");
	UNTIL(strcmp(lines, "one|") == 0);
	ck_assert_int_eq(kquay_puts(kit_conn(), "all of it"), 0);
	ck_assert_int_eq(kquay_finish(kit_conn()), 0);
	kit_expect_end(fd, "all of it");
	goes_on(fd);
	kit_stop();
}
END_TEST

enum { MUCH = 4 * 1024 * 1024, PIECE = 64 * 1024 };

/* The end comes behind what is queued. */
START_TEST(what_is_queued_goes_first)
{
	static const struct kquay_conf conf = { .outmax = MUCH };
	static char piece[PIECE], in[PIECE];
	size_t sent = 0, got = 0;
	ssize_t n;
	int fd;

	kit_start(&ops, &conf);
	fd = kit_join();
	kit_send(fd, "one\n");
	UNTIL(strcmp(lines, "one|") == 0);
	memset(piece, 'x', sizeof(piece));
	while (kquay_pending(kit_conn()) < 4 * PIECE) {
		ck_assert_int_eq(kquay_write(kit_conn(), piece, PIECE), 0);
		sent += PIECE;
	}
	ck_assert_int_eq(kquay_finish(kit_conn()), 0);
	ck_assert_uint_gt(kquay_pending(kit_conn()), 0);
	ck_assert_int_eq(kquay_puts(kit_conn(), "more"), -1);
	ck_assert_int_eq(errno, EPIPE);
	do {
		UNTIL((n = recv(fd, in, sizeof(in), 0)) != -1);
		got += (size_t)n;
	} while (n > 0);
	ck_assert_uint_eq(got, sent);
	goes_on(fd);
	kit_stop();
}
END_TEST

START_TEST(of_tls_too)
{
	SSL *ssl;
	char byte;
	size_t n;

	tls_start("host", NULL, &ops, NULL);
	ssl = tls_connect("host.example");
	tls_send(ssl, "one\n");
	UNTIL(strcmp(lines, "one|") == 0);
	ck_assert_int_eq(kquay_puts(kit_conn(), "all of it"), 0);
	ck_assert_int_eq(kquay_finish(kit_conn()), 0);
	tls_expect(ssl, "all of it");
	tls_expect_end(ssl);
	ck_assert_int_eq(kquay_puts(kit_conn(), "more"), -1);
	ck_assert_int_eq(errno, EPIPE);
	tls_send(ssl, "two\n");
	UNTIL(strcmp(lines, "one|two|") == 0);
	ck_assert_int_eq(tls_read(ssl, &byte, 1, &n), SSL_ERROR_ZERO_RETURN);
	SSL_shutdown(ssl);
	UNTIL(ends == 1);
	kquay_close(kit_conn());
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	tls_close(ssl);
	tls_stop();
}
END_TEST

START_TEST(what_cannot_be_finished)
{
	static const struct kquay_ops none = { .close = kit_on_close };
	struct kquay_conn *c, *other;
	int fd[2], sv[2];

	kit_start(&none, NULL);
	ck_assert_int_eq(pipe(fd), 0);
	c = kquay_adopt(q, fd[0], NULL);
	ck_assert_int_eq(kquay_finish(c), -1);
	ck_assert_int_eq(errno, EOPNOTSUPP);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	other = kquay_adopt(q, sv[0], NULL);
	ck_assert_int_eq(kquay_finish(other), 0);
	ck_assert_int_eq(kquay_splice(c, other), -1);
	ck_assert_int_eq(errno, ENOTCONN);
	kquay_abort(c);
	ck_assert_int_eq(kquay_finish(c), -1);
	ck_assert_int_eq(errno, EPIPE);
	c = kquay_dial(q, "127.0.0.1", kit_port, NULL, 0);
	ck_assert_int_eq(kquay_finish(c), -1);
	ck_assert_int_eq(errno, ENOTCONN);
	kit_stop();
	close(fd[1]);
	close(sv[1]);
}
END_TEST

static const TTest **const tests[] = {
	&our_half_ends_alone,
	&what_is_queued_goes_first,
	&of_tls_too,
	&what_cannot_be_finished,
};

int
main(void)
{
	kit_times = 2;
	return tls_main("server_finish", tests, 4);
}
