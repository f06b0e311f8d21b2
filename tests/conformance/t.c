/*
 * The common part of the conformance tests: the runner, one change, one
 * collection, and descriptors of every kind.  t.h has the contracts.
 */
#include "t.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>

/* Seconds that one test may take before the runner ends it. */
#define T_LIMIT 20

int t_kq = -1;

/* AddressSanitizer takes a cancelled thread's stack for a fault of ours. */
const char *__asan_default_options(void);

static Suite *t_suite;
static char t_folder[64];

static void t_open(void);
static void t_close(void);
static void t_nonblock(int fd);

const char *
__asan_default_options(void)
{
	return "use_sigaltstack=0";
}

/* -- runner ---------------------------------------------------------------- */

TCase *
t_begin(const char *name)
{
	TCase *tc = tcase_create(name);

	t_suite = suite_create(name);
	tcase_add_checked_fixture(tc, t_open, t_close);
	tcase_set_timeout(tc, T_LIMIT);
	suite_add_tcase(t_suite, tc);
	return tc;
}

int
t_end(void)
{
	SRunner *runner = srunner_create(t_suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}

static void
t_open(void)
{
	signal(SIGPIPE, SIG_IGN);
	t_kq = kqueue();
	ck_assert_int_ne(t_kq, -1);
}

static void
t_close(void)
{
	struct dirent *entry;
	DIR *dir;

	close(t_kq);
	if (t_folder[0] == '\0')
		return;
	dir = opendir(t_folder);
	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (unlinkat(dirfd(dir), entry->d_name, 0) == -1)
			unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	if (dir != NULL)
		closedir(dir);
	rmdir(t_folder);
}

void
t_skip(const char *reason)
{
	printf("skipped: %s\n", reason);
}

/* -- the two halves of kevent() -------------------------------------------- */

int
t_try_on(int kq, uintptr_t ident, int filter, unsigned int flags,
    unsigned int fflags, int64_t data, const void *udata)
{
	struct kevent change;

	EV_SET(&change, ident, filter, flags, fflags, data,
	    (void *)(uintptr_t)udata);
	return kevent(kq, &change, 1, NULL, 0, NULL) == -1 ? errno : 0;
}

int
t_get(int kq, struct kevent *ev, int n, int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	memset(ev, 0xa5, (size_t)n * sizeof(*ev));
	return kevent(kq, NULL, 0, ev, n, &ts);
}

/* -- descriptors ----------------------------------------------------------- */

static void
t_nonblock(int fd)
{
	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK),
	    0);
}

void
t_pipe(int p[2])
{
	ck_assert_int_eq(pipe(p), 0);
	t_nonblock(p[0]);
	t_nonblock(p[1]);
}

void
t_unix(int type, int s[2])
{
	ck_assert_int_eq(socketpair(AF_UNIX, type, 0, s), 0);
	t_nonblock(s[0]);
	t_nonblock(s[1]);
}

static int
t_bound(int type, struct sockaddr_in *sin)
{
	socklen_t len = sizeof(*sin);
	int fd = socket(AF_INET, type, 0);

	ck_assert_int_ne(fd, -1);
	memset(sin, 0, sizeof(*sin));
	sin->sin_family = AF_INET;
	sin->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)sin, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)sin, &len), 0);
	return fd;
}

int
t_listen(struct sockaddr_in *sin, int backlog)
{
	int fd = t_bound(SOCK_STREAM, sin);

	ck_assert_int_eq(listen(fd, backlog), 0);
	t_nonblock(fd);
	return fd;
}

/* Blocking, to t_listen(). */
static int
t_connect(const struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(connect(fd, (const struct sockaddr *)sin,
			     sizeof(*sin)),
	    0);
	t_nonblock(fd);
	return fd;
}

void
t_tcp(int s[2])
{
	struct sockaddr_in sin;
	int listener = t_listen(&sin, 1);

	s[0] = t_connect(&sin);
	t_until((s[1] = accept(listener, NULL, NULL)) != -1);
	t_nonblock(s[1]);
	close(listener);
}

void
t_udp(int s[2])
{
	struct sockaddr_in a, b;

	s[0] = t_bound(SOCK_DGRAM, &a);
	s[1] = t_bound(SOCK_DGRAM, &b);
	ck_assert_int_eq(connect(s[0], (struct sockaddr *)&b, sizeof(b)), 0);
	ck_assert_int_eq(connect(s[1], (struct sockaddr *)&a, sizeof(a)), 0);
	t_nonblock(s[0]);
	t_nonblock(s[1]);
}

int
t_file(const char *text)
{
	char path[] = "/tmp/kq-file.XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ne(fd, -1);
	unlink(path);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
	return fd;
}

char *
t_dir(void)
{
	strcpy(t_folder, "/tmp/kq-dir.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(t_folder));
	return t_folder;
}

void
t_put(int fd, size_t n)
{
	char *buf = calloc(1, n + 1);

	ck_assert_ptr_nonnull(buf);
	ck_assert_int_eq(write(fd, buf, n), (ssize_t)n);
	free(buf);
}

void
t_take(int fd, size_t n)
{
	char buf[4096];
	ssize_t got;

	while (n > 0) {
		got = read(fd, buf, n < sizeof(buf) ? n : sizeof(buf));
		ck_assert_int_gt(got, 0);
		n -= (size_t)got;
	}
}

size_t
t_fill(int fd)
{
	static const char zeros[4096];
	size_t total = 0, piece = sizeof(zeros);
	ssize_t n;

	while (piece > 0) {
		n = write(fd, zeros, piece);
		if (n > 0)
			total += (size_t)n;
		else
			piece /= 2;
	}
	ck_assert(errno == EAGAIN || errno == EWOULDBLOCK);
	return total;
}

size_t
t_drain(int fd)
{
	size_t total = 0;
	char buf[4096];
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0)
		total += (size_t)n;
	return total;
}

void
t_readable(int fd)
{
	struct pollfd pfd = { fd, POLLIN, 0 };

	ck_assert_int_eq(poll(&pfd, 1, T_DEADLINE_MS), 1);
}

void
t_reset(int fd)
{
	struct linger now = { 1, 0 };

	ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_LINGER, &now,
			     sizeof(now)),
	    0);
	ck_assert_int_eq(close(fd), 0);
}

/* -- time, threads, processes ---------------------------------------------- */

int64_t
t_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

void
t_pause(int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	nanosleep(&ts, NULL);
}

pthread_t
t_thread(void *(*body)(void *), void *arg)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, body, arg), 0);
	return thread;
}

void *
t_join(pthread_t thread)
{
	void *result;

	ck_assert_int_eq(pthread_join(thread, &result), 0);
	return result;
}

int
t_child(int (*body)(int), int arg)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ne(pid, -1);
	if (pid == 0)
		_exit(body(arg));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}
