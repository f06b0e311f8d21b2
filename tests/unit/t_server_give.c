/*
 * White box: listeners that go from one loop to another, out of the process,
 * and that were another process's.
 */
#include "t_server_tls_kit.h"
#include "server.h"

#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* q, of the kit, gives; this one takes. */
static struct kquay *to;

/* Each says who it is. */
static int
on_open(struct kquay_conn *c)
{
	return kquay_puts(c, kquay_of(c) == to ? "new\n" : "old\n");
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	(void)len;
	kquay_printf(c, "%s!\n", text);
}

static const struct kquay_ops ops = { .open = on_open,
	.line = on_line,
	.close = kit_on_close };

static void
step_to(struct kquay *loop, const struct kevent *ev, void *arg)
{
	(void)loop, (void)ev, (void)arg;
	ck_assert_int_ne(kquay_step(to, 0), -1);
}

/* Another loop, which is stepped with the kit's: its queue is watched there. */
static void
make_to(const struct kquay_conf *conf)
{
	struct kquay_conf k = { .maxconn = 64 };
	struct kevent ev;

	if (conf != NULL)
		k = *conf;
	k.flags |= KQUAY_NOSIGNAL;
	to = kquay_new(&ops, &k);
	ck_assert_ptr_nonnull(to);
	EV_SET(&ev, kquay_fd(to), EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kquay_watch(q, &ev, step_to, NULL), 0);
}

static void
start(const struct kquay_conf *conf)
{
	kit_start(&ops, NULL);
	make_to(conf);
}

static void
stop(void)
{
	kquay_free(to);
	to = NULL;
	kit_stop();
}

/* -- from one to the other ------------------------------------------------- */

START_TEST(who_waits_is_served_by_the_new_one)
{
	enum { N = 20 };
	int fd[N], old, i;
	char name[32];

	start(NULL);
	old = kit_connect();
	kit_expect(old, "old\n");
	snprintf(name, sizeof(name), "%s", kquay_listening(q, 0));
	for (i = 0; i < N; i++) {
		fd[i] = kit_connect();
		kit_send(fd[i], "early\n");
	}
	i = kquay_listener(q, 0);
	ck_assert_int_ge(i, 0);
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	ck_assert_ptr_null(kquay_listening(q, 0));
	ck_assert_int_eq(kquay_listener(q, 0), -1);
	ck_assert_str_eq(kquay_listening(to, 0), name);
	ck_assert_int_eq(kquay_listener(to, 0), i);
	for (i = 0; i < N; i++)
		kit_expect(fd[i], "new\nearly!\n");
	ck_assert_uint_eq(q->stat.accepted, 1);
	/* The one before stays where it is. */
	kit_send(old, "line\n");
	kit_expect(old, "line!\n");
	/* The old one may go now. */
	kquay_stop(q);
	kit_expect_end(old, "");
	UNTIL(kquay_done(q));
	kit_expect(kit_connect(), "new\n");
	stop();
}
END_TEST

/* There and back for each caller: nobody is lost, none is served twice. */
START_TEST(there_and_back)
{
	enum { N = 200 };
	const char *want;
	int fd, i;

	start(NULL);
	for (i = 0; i < N; i++) {
		fd = kit_connect();
		if (i % 3 == 0)
			kit_step();
		want = i % 3 == 0 ? (i % 2 ? "new\n" : "old\n") :
				    (i % 2 ? "old\n" : "new\n");
		ck_assert_int_eq(i % 2 ? kquay_give(to, 0, q) :
					 kquay_give(q, 0, to),
		    0);
		kit_expect(fd, want);
		close(fd);
	}
	ck_assert_uint_eq(q->stat.accepted + to->stat.accepted, N);
	stop();
}
END_TEST

START_TEST(those_behind_it_move_up)
{
	int i, fd[3];

	start(NULL);
	for (i = 0; i < 2; i++)
		ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	for (i = 0; i < 3; i++)
		fd[i] = kquay_listener(q, (unsigned)i);
	ck_assert_int_eq(kquay_give(q, 1, to), 0);
	ck_assert_int_eq(kquay_listener(q, 0), fd[0]);
	ck_assert_int_eq(kquay_listener(q, 1), fd[2]);
	ck_assert_int_eq(kquay_listener(to, 0), fd[1]);
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	ck_assert_int_eq(kquay_listener(to, 1), fd[0]);
	stop();
}
END_TEST

START_TEST(what_cannot_be_given)
{
	start(NULL);
	ck_assert_int_eq(kquay_give(q, 1, to), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(kquay_give(q, 0, q), -1);
	ck_assert_int_eq(errno, EINVAL);
	kquay_retire(to);
	ck_assert_int_eq(kquay_give(q, 0, to), -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	kit_expect(kit_connect(), "old\n");
	kquay_stop(q);
	ck_assert_int_eq(kquay_give(q, 0, to), -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	ck_assert_int_eq(kquay_give(q, 0, NULL), -1);
	ck_assert_int_eq(errno, ESHUTDOWN);
	stop();
}
END_TEST

/* Whether the one or the other is full, or rests. */
START_TEST(a_full_loop)
{
	struct kquay_conf conf = { .maxconn = 1, .flags = KQUAY_FULLWAIT };
	int a, b, fd;

	start(&conf);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	ck_assert_int_eq(kquay_give(q, 1, to), 0);
	/* Fill it by a listener of its own. */
	fd = atoi(kit_port);
	snprintf(kit_port, sizeof(kit_port), "%s",
	    strrchr(kquay_listening(to, 0), ':') + 1);
	kit_expect(a = kit_connect(), "new\n");
	b = kit_connect();
	UNTIL(to->full);
	/* What it gets now it leaves alone, and what it gives is served. */
	snprintf(kit_port, sizeof(kit_port), "%d", fd);
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	fd = kit_connect();
	kit_settle();
	ck_assert_uint_eq(to->stat.accepted, 1);
	ck_assert_int_eq(kquay_give(to, 0, q), 0);
	kit_expect(b, "old\n");
	close(a);
	kit_expect(fd, "new\n");
	stop();
}
END_TEST

static int
give_in_open(struct kquay_conn *c)
{
	struct kquay *loop = kquay_of(c);

	ck_assert_int_eq(kquay_give(loop, 0, loop == q ? to : q), 0);
	return kquay_puts(c, loop == q ? "old\n" : "new\n");
}

/* A callback gives the very listener whose callers are being taken. */
START_TEST(from_a_callback)
{
	static const struct kquay_ops giving = { .open = give_in_open };
	enum { N = 50 };
	int fd[N], i;

	start(NULL);
	q->ops = giving;
	to->ops = giving;
	for (i = 0; i < N; i++)
		fd[i] = kit_connect();
	STAILQ_FIRST(&q->listeners)->last = q->stat.batches;
	STAILQ_FIRST(&q->listeners)->burst = N;
	for (i = 0; i < N; i++)
		kit_expect(fd[i], i % 2 ? "new\n" : "old\n");
	ck_assert_uint_eq(q->stat.accepted, N / 2);
	ck_assert_uint_eq(to->stat.accepted, N / 2);
	stop();
}
END_TEST

static int
close_in_admit(struct kquay_conn *c)
{
	/* The last who knows of the listener's TLS is the connection. */
	ck_assert_int_eq(kquay_tls(kquay_of(c), NULL), 0);
	return kquay_give(kquay_of(c), 0, NULL);
}

START_TEST(from_admit_with_tls)
{
	static const struct kquay_ops closing = { .admit = close_in_admit,
		.open = on_open };
	SSL *ssl;

	tls_start("host", NULL, &closing, NULL);
	kquay_tls_free(tls_made);
	tls_made = NULL;
	ssl = tls_connect("host.example");
	tls_expect(ssl, "old\n");
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* -- what the callers meet ------------------------------------------------- */

START_TEST(the_new_ones_tls_is_used)
{
	struct kquay_tls *tls;
	SSL_CTX *ctx;
	SSL *ssl;
	int fd;

	tls = tls_new("host", NULL);
	start(NULL);
	ck_assert_int_eq(kquay_tls(to, tls), 0);
	fd = kit_connect(); /* it waits, and speaks TLS only then */
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	ctx = tls_client_ctx(NULL);
	ssl = tls_client_at(ctx, "host.example", fd);
	SSL_CTX_free(ctx);
	tls_shake(ssl);
	tls_expect(ssl, "new\n");
	tls_close(ssl);
	/* And none where the next has none. */
	ck_assert_int_eq(kquay_give(to, 0, q), 0);
	kit_expect(kit_connect(), "old\n");
	kquay_tls_free(tls);
	stop();
}
END_TEST

START_TEST(the_new_ones_proxy_is_believed)
{
	int fd;

	start(NULL);
	kquay_proxy(to, 1);
	fd = kit_connect();
	ck_assert_int_eq(kquay_give(q, 0, to), 0);
	kit_send(fd, "PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n");
	kit_expect(fd, "new\n");
	ck_assert_str_eq(kquay_peer(kquay_next(to, NULL)), "192.0.2.1:4711");
	ck_assert_int_eq(kquay_give(to, 0, q), 0);
	kit_expect(kit_connect(), "old\n");
	stop();
}
END_TEST

/* -- UNIX sockets and their files ------------------------------------------ */

START_TEST(the_file_goes_with_it)
{
	char path[128];
	struct stat st;
	int fd;

	start(NULL);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	fd = kit_connect_unix(path);
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(kquay_give(q, 1, to), 0);
	kit_expect(fd, "new\n");
	/* The old one's end leaves it. */
	kquay_stop(q);
	UNTIL(kquay_done(q));
	ck_assert_int_eq(lstat(path, &st), 0);
	fd = kit_connect_unix(path);
	ck_assert_int_ne(fd, -1);
	kit_expect(fd, "new\n");
	kquay_free(to);
	to = NULL;
	close(fd);
	ck_assert_int_eq(lstat(path, &st), -1);
	stop();
}
END_TEST

/* Another process has the socket: it goes on, and so does the file. */
START_TEST(out_of_the_process)
{
	char path[128];
	struct stat st;
	int copy, fd, status;
	pid_t child;

	start(NULL);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	copy = dup(kquay_listener(q, 1));
	ck_assert_int_ne(copy, -1);
	fd = kit_connect_unix(path);
	ck_assert_int_eq(kquay_give(q, 1, NULL), 0);
	ck_assert_ptr_null(kquay_listening(q, 1));
	kit_settle();
	ck_assert_uint_eq(q->stat.accepted, 0);
	ck_assert_int_eq(lstat(path, &st), 0);
	child = fork();
	if (child == 0) {
		/* It takes the socket over, and the file. */
		q = to = kquay_new(&ops, NULL);
		if (q == NULL || kquay_listen_fd(q, copy) != 1 ||
		    kquay_claim(q, 0) == -1)
			_exit(1);
		kit_expect(fd, "new\n");
		kquay_free(q);
		_exit(lstat(path, &st) == 0 ? 2 : 0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(lstat(path, &st), -1);
	close(copy);
	close(fd);
	stop();
}
END_TEST

/* A UNIX socket as another process would have left it to us. */
static int
inherit(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(sun.sun_path, path);
	ck_assert_int_eq(bind(fd, (void *)&sun, sizeof(sun)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(kquay_listen_fd(q, fd), 1);
	return fd;
}

START_TEST(a_file_is_claimed)
{
	char path[128], dir[128];
	struct stat st;

	start(NULL);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	inherit(path);
	/* Unclaimed it is left alone. */
	ck_assert_int_eq(kquay_give(q, 1, to), 0);
	kquay_free(to);
	ck_assert_int_eq(lstat(path, &st), 0);
	ck_assert_int_eq(unlink(path), 0);
	make_to(NULL);
	/* By a relative name, and from another directory at the end. */
	ck_assert_ptr_nonnull(getcwd(dir, sizeof(dir)));
	*strrchr(path, '/') = '\0';
	ck_assert_int_eq(chdir(path), 0);
	path[strlen(path)] = '/';
	inherit("s");
	ck_assert_int_eq(kquay_claim(q, 1), 0);
	ck_assert_int_eq(kquay_claim(q, 1), 0);
	ck_assert_int_eq(chdir("/"), 0);
	ck_assert_int_eq(kquay_give(q, 1, to), 0);
	kquay_free(to);
	to = NULL;
	ck_assert_int_eq(lstat(path, &st), -1);
	ck_assert_int_eq(chdir(dir), 0);
	stop();
}
END_TEST

START_TEST(what_cannot_be_claimed)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	char path[128];
	struct stat st;
	int fd;

	start(NULL);
	snprintf(path, sizeof(path), "%s", kit_path("s"));
	ck_assert_int_eq(kquay_claim(q, 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(kquay_claim(q, 1), -1);
	ck_assert_int_eq(errno, ENOENT);
	inherit(path);
	/* Its file has gone, or is no socket any more. */
	ck_assert_int_eq(unlink(path), 0);
	ck_assert_int_eq(kquay_claim(q, 1), -1);
	ck_assert_int_eq(errno, ENOENT);
	fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	ck_assert_int_ne(fd, -1);
	close(fd);
	ck_assert_int_eq(kquay_claim(q, 1), -1);
	ck_assert_int_eq(errno, ENOENT);
	/* One without a file. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(fd, (void *)&sun, sizeof(sa_family_t)), 0);
	ck_assert_int_eq(listen(fd, 8), 0);
	ck_assert_int_eq(kquay_listen_fd(q, fd), 1);
	ck_assert_int_eq(kquay_claim(q, 2), -1);
	ck_assert_int_eq(errno, EINVAL);
	kquay_stop(q);
	UNTIL(kquay_done(q));
	ck_assert_int_eq(kquay_claim(q, 1), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(lstat(path, &st), 0);
	stop();
}
END_TEST

static const TTest **const tests[] = {
	&who_waits_is_served_by_the_new_one,
	&there_and_back,
	&those_behind_it_move_up,
	&what_cannot_be_given,
	&a_full_loop,
	&from_a_callback,
	&from_admit_with_tls,
	&the_new_ones_tls_is_used,
	&the_new_ones_proxy_is_believed,
	&the_file_goes_with_it,
	&out_of_the_process,
	&a_file_is_claimed,
	&what_cannot_be_claimed,
};

TLS_MAIN("server_give", tests)
