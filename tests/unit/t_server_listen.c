/*
 * Listening: names with several addresses, UNIX sockets dead and alive,
 * inherited descriptors, and running out of descriptors.
 */
#include "t_server_kit.h"

#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int
greet(struct kquay_conn *c)
{
	return kquay_printf(c, "welcome %s\n", kquay_peer(c));
}

static const struct kquay_ops greeter = { .open = greet,
	.close = kit_on_close };

static bool
has_ipv6(void)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
		.sin6_addr = in6addr_loopback };
	int fd = socket(AF_INET6, SOCK_STREAM, 0);
	bool yes;

	yes = fd != -1 && bind(fd, (void *)&sin6, sizeof(sin6)) == 0;
	if (fd != -1)
		close(fd);
	return yes;
}

/* -- names ----------------------------------------------------------------- */

START_TEST(every_address_of_the_machine_on_one_port)
{
	const char *v4, *v6;

	kit_start(&greeter, NULL);
	if (!has_ipv6()) {
		ck_assert_int_eq(kquay_listen(q, NULL, "0"), 1);
		kit_stop();
		return;
	}
	ck_assert_int_eq(kquay_listen(q, NULL, "0"), 2);
	v4 = kquay_listening(q, 1);
	v6 = kquay_listening(q, 2);
	if (v4[0] == '[') {
		v6 = v4;
		v4 = kquay_listening(q, 2);
	}
	ck_assert_int_eq(strncmp(v4, "0.0.0.0:", 8), 0);
	ck_assert_int_eq(strncmp(v6, "[::]:", 5), 0);
	ck_assert_str_eq(strrchr(v4, ':'), strrchr(v6, ':'));
	ck_assert_ptr_null(kquay_listening(q, 3));
	kit_stop();
}
END_TEST

START_TEST(an_ipv6_peer_has_its_brackets)
{
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6,
		.sin6_addr = in6addr_loopback };
	const struct sockaddr *sa;
	socklen_t len;
	char want[80];
	int fd;

	if (!has_ipv6())
		return;
	kit_start(&greeter, NULL);
	ck_assert_int_eq(kquay_listen(q, "::1", "0"), 1);
	sin6.sin6_port =
	    htons((in_port_t)atoi(strrchr(kquay_listening(q, 1), ':') + 1));
	fd = socket(AF_INET6, SOCK_STREAM, 0);
	ck_assert_int_eq(connect(fd, (void *)&sin6, sizeof(sin6)), 0);
	len = sizeof(sin6);
	ck_assert_int_eq(getsockname(fd, (void *)&sin6, &len), 0);
	ck_assert_int_eq(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	sprintf(want, "welcome [::1]:%d\n", ntohs(sin6.sin6_port));
	kit_expect(fd, want);
	sa = kquay_peeraddr(kit_conn(), &len);
	ck_assert_uint_eq(len, sizeof(sin6));
	ck_assert_mem_eq(sa, &sin6, sizeof(sin6));
	kit_stop();
}
END_TEST

START_TEST(an_address_in_use_leaves_nothing)
{
	char want[128];

	kit_start(&greeter, NULL);
	/* On IPv6 the port is free, on IPv4 it is taken. */
	ck_assert_int_eq(kquay_listen(q, NULL, kit_port), -1);
	ck_assert_int_eq(errno, EADDRINUSE);
	ck_assert_ptr_null(kquay_listening(q, 1));
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", kit_port), -1);
	sprintf(want, "127.0.0.1:%s: %s", kit_port, strerror(EADDRINUSE));
	ck_assert_str_eq(kquay_error(q), want);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "no such port"), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(strncmp(kquay_error(q),
			     "127.0.0.1:no such port: ", 24),
	    0);
	ck_assert_int_eq(kquay_listen(q, "192.0.2.1", "0"), -1);
	ck_assert_int_eq(errno, EADDRNOTAVAIL);
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	ck_assert_str_eq(kquay_error(q), "");
	kit_stop();
}
END_TEST

START_TEST(reuseport_lets_two_loops_share)
{
	struct kquay_conf conf = { .maxconn = 8,
		.flags = KQUAY_REUSEPORT | KQUAY_NOSIGNAL };
	struct kquay *other;

	kit_start(&greeter, &conf);
	other = kquay_new(&greeter, &conf);
	ck_assert_ptr_nonnull(other);
	ck_assert_int_eq(kquay_listen(other, "127.0.0.1", kit_port), 1);
	kquay_free(other);
	kit_stop();
}
END_TEST

START_TEST(an_inherited_socket_is_taken_over)
{
	struct sockaddr_in sin = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(int);
	int fd, p[2], at_once = 0;

	kit_start(&greeter, NULL);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	ck_assert_int_eq(bind(fd, (void *)&sin, sizeof(sin)), 0);
	ck_assert_int_eq(kquay_listen_fd(q, fd), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(listen(fd, 5), 0);
	ck_assert_int_eq(kquay_listen_fd(q, fd), 1);
	ck_assert_int_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &at_once, &len);
	ck_assert_int_eq(at_once, 1);
	strcpy(kit_port, strrchr(kquay_listening(q, 1), ':') + 1);
	kit_expect(kit_connect(), "welcome 127.0.0.1:");
	ck_assert_int_eq(kquay_listen_fd(q, -1), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(pipe(p), 0);
	ck_assert_int_eq(kquay_listen_fd(q, p[0]), -1);
	ck_assert_int_eq(errno, ENOTSOCK);
	ck_assert_int_eq(fcntl(p[0], F_GETFD), 0);
	kit_stop();
	ck_assert_int_eq(fcntl(fd, F_GETFD), -1);
}
END_TEST

/* -- UNIX sockets ---------------------------------------------------------- */

START_TEST(unix_socket_has_mode_peer_and_end)
{
	const char *path = kit_path("s");
	char want[128];
	struct stat st;
	mode_t mask;
	int fd;

	kit_start(&greeter, NULL);
	mask = umask(077);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0622), 1);
	umask(mask);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, 0622);
	sprintf(want, "unix:%s", path);
	ck_assert_str_eq(kquay_listening(q, 1), want);
	fd = kit_connect_unix(path);
	sprintf(want, "welcome unix:%d/%d\n", (int)getuid(), (int)getpid());
	kit_expect(fd, want);
	kit_stop();
	ck_assert_int_eq(stat(path, &st), -1);
}
END_TEST

START_TEST(a_live_unix_socket_is_not_stolen)
{
	const char *path = kit_path("s");
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };
	struct kquay *other;
	char want[256];

	kit_start(&greeter, NULL);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	other = kquay_new(&greeter, &conf);
	ck_assert_int_eq(kquay_listen_unix(other, path, 0600), -1);
	ck_assert_int_eq(errno, EADDRINUSE);
	sprintf(want, "unix:%s: %s", path, strerror(EADDRINUSE));
	ck_assert_str_eq(kquay_error(other), want);
	kquay_free(other);
	kit_expect(kit_connect_unix(path), "welcome unix:");
	kit_stop();
}
END_TEST

/* Leave a socket file behind as a server that was killed does. */
static void
leave_dead(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	strcpy(sun.sun_path, path);
	ck_assert_int_eq(bind(fd, (void *)&sun, sizeof(sun)), 0);
	ck_assert_int_eq(listen(fd, 1), 0);
	close(fd);
	ck_assert_int_eq(kit_connect_unix(path), -1);
	ck_assert_int_eq(errno, ECONNREFUSED);
}

START_TEST(a_dead_unix_socket_is_replaced)
{
	const char *path = kit_path("s");

	leave_dead(path);
	kit_start(&greeter, NULL);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	kit_expect(kit_connect_unix(path), "welcome unix:");
	kit_stop();
}
END_TEST

START_TEST(two_that_find_it_dead_are_not_both_served)
{
	enum { N = 8 };
	const char *path = kit_path("s");
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };
	struct kquay *loop;
	int go[2], up[2], i, status, winners = 0;
	pid_t pid[N];
	char byte;

	leave_dead(path);
	ck_assert_int_eq(pipe(go), 0);
	ck_assert_int_eq(pipe(up), 0);
	for (i = 0; i < N; i++) {
		pid[i] = fork();
		ck_assert_int_ne(pid[i], -1);
		if (pid[i] != 0)
			continue;
		close(go[1]);
		loop = kquay_new(&greeter, &conf);
		if (read(go[0], &byte, 1) != 0)
			_exit(3);
		byte = loop != NULL && kquay_listen_unix(loop, path, 0600) == 1;
		if (write(up[1], &byte, 1) != 1)
			_exit(3);
		/* Hold it until all have tried. */
		while (kquay_step(loop, 10) != -1 && getppid() != 1)
			;
		_exit(0);
	}
	close(go[1]);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(read(up[0], &byte, 1), 1);
		winners += byte;
	}
	ck_assert_int_ne(kit_connect_unix(path), -1);
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(kill(pid[i], SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid[i], &status, 0), pid[i]);
	}
	ck_assert_int_eq(winners, 1);
	kit_start(&greeter, NULL);
	kit_stop();
}
END_TEST

/* That only one wins rests on the lock; here it is in the test's hand. */
START_TEST(the_directory_is_locked_meanwhile)
{
	const char *path = kit_path("s");
	int dir;

	leave_dead(path);
	kit_start(&greeter, NULL);
	dir = open(kit_path("."), O_RDONLY | O_DIRECTORY);
	ck_assert_int_eq(flock(dir, LOCK_EX), 0);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), -1);
	ck_assert_int_eq(errno, EBUSY);
	ck_assert_int_eq(flock(dir, LOCK_UN), 0);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	ck_assert_int_eq(flock(dir, LOCK_EX | LOCK_NB), 0);
	close(dir);
	kit_stop();
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
	const char *path = kit_path("file");
	char dir[128], deep[256];
	struct stat st;
	int fd;

	fd = open(path, O_CREAT | O_WRONLY, 0600);
	ck_assert_int_ne(fd, -1);
	close(fd);
	kit_start(&greeter, NULL);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), -1);
	ck_assert_int_eq(errno, EEXIST);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert(S_ISREG(st.st_mode));
	memset(deep, 'x', sizeof(deep));
	deep[sizeof(deep) - 1] = '\0';
	ck_assert_int_eq(kquay_listen_unix(q, deep, 0600), -1);
	ck_assert_int_eq(errno, ENAMETOOLONG);
	strcpy(dir, kit_path("none"));
	strcat(dir, "/s");
	ck_assert_int_eq(kquay_listen_unix(q, dir, 0600), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_ptr_null(kquay_listening(q, 1));
	kit_stop();
}
END_TEST

START_TEST(only_its_own_file_is_removed)
{
	const char *path = kit_path("s");
	struct kquay_conf conf = { .maxconn = 8, .flags = KQUAY_NOSIGNAL };
	struct kquay *other;
	struct stat st;
	char here[256];
	pid_t pid;

	/* Somebody else has put theirs in the place of ours. */
	kit_start(&greeter, NULL);
	ck_assert_int_eq(kquay_listen_unix(q, path, 0600), 1);
	ck_assert_int_eq(unlink(path), 0);
	other = kquay_new(&greeter, &conf);
	ck_assert_int_eq(kquay_listen_unix(other, path, 0600), 1);
	kquay_stop(q);
	ck_assert_int_eq(stat(path, &st), 0);

	/* A child's copy of the loop is not the one that made it. */
	pid = fork();
	if (pid == 0) {
		kquay_free(other);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	ck_assert_int_eq(stat(path, &st), 0);

	/* A relative path is still found after a chdir. */
	kquay_free(other);
	ck_assert_int_eq(stat(path, &st), -1);
	other = kquay_new(&greeter, &conf);
	ck_assert_ptr_nonnull(getcwd(here, sizeof(here)));
	ck_assert_int_eq(chdir(kit_path(".")), 0);
	ck_assert_int_eq(kquay_listen_unix(other, "s", 0600), 1);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(chdir("/"), 0);
	kquay_free(other);
	ck_assert_int_eq(stat(path, &st), -1);
	ck_assert_int_eq(chdir(here), 0);
	kit_stop();
}
END_TEST

/* -- out of descriptors ---------------------------------------------------- */

enum { CALLERS = 60, LIMIT = 24 };

/* Connect CALLERS times, tell how many, and wait for the end. */
static void
call_many(int report, int end)
{
	int i, fd;
	char byte;

	for (i = 0; i < CALLERS; i++) {
		fd = kit_connect();
		if (write(report, &fd, sizeof(fd)) != sizeof(fd))
			_exit(1);
	}
	/* Callers leave when told to. */
	if (read(end, &byte, 1) != 0)
		_exit(1);
	_exit(0);
}

static double
cpu_seconds(void)
{
	struct rusage ru;

	getrusage(RUSAGE_SELF, &ru);
	return (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) +
	    (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
}

static void
out_of_descriptors(int flags)
{
	struct kquay_conf conf = { .maxconn = 100, .flags = flags };
	struct rlimit rl = { LIMIT, LIMIT };
	int report[2], end[2], fd, i;
	struct kquay_stat st;
	double cpu;
	int64_t t0;
	pid_t pid;

	kit_start(&greeter, &conf);
	ck_assert_int_eq(pipe(report), 0);
	ck_assert_int_eq(pipe(end), 0);
	pid = fork();
	if (pid == 0) {
		close(end[1]);
		call_many(report[1], end[0]);
	}
	close(end[0]);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
	for (i = 0; i < CALLERS; i++)
		ck_assert_int_eq(read(report[0], &fd, sizeof(fd)), sizeof(fd));
	kquay_stats(q, &st);
	UNTIL((kquay_stats(q, &st),
	    st.conns > 0 &&
		(flags != 0 || st.accepted + st.refused == CALLERS)));
	if (flags == 0)
		ck_assert_uint_gt(st.refused, CALLERS - LIMIT);
	else
		ck_assert_uint_eq(st.refused, 0);

	/* Whoever waits costs nothing. */
	cpu = cpu_seconds();
	for (t0 = kit_ms(); kit_ms() < t0 + 1000;)
		ck_assert_int_ne(kquay_step(q, 100), -1);
	ck_assert_double_lt(cpu_seconds() - cpu, 0.05);

	/* And all is well when there are descriptors again. */
	close(end[1]);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	UNTIL((kquay_stats(q, &st), st.conns == 0));
	close(report[0]);
	close(report[1]);
	kit_expect(kit_connect(), "welcome ");
	kit_stop();
}

START_TEST(out_of_descriptors_callers_are_shed)
{
	out_of_descriptors(0);
}
END_TEST

START_TEST(out_of_descriptors_callers_can_wait)
{
	out_of_descriptors(KQUAY_FULLWAIT);
}
END_TEST

static const TTest **const tests[] = {
	&every_address_of_the_machine_on_one_port,
	&an_ipv6_peer_has_its_brackets,
	&an_address_in_use_leaves_nothing,
	&reuseport_lets_two_loops_share,
	&an_inherited_socket_is_taken_over,
	&unix_socket_has_mode_peer_and_end,
	&a_live_unix_socket_is_not_stolen,
	&a_dead_unix_socket_is_replaced,
	&two_that_find_it_dead_are_not_both_served,
	&the_directory_is_locked_meanwhile,
	&what_is_no_socket_is_left_alone,
	&only_its_own_file_is_removed,
	&out_of_descriptors_callers_are_shed,
	&out_of_descriptors_callers_can_wait,
};

KIT_MAIN("server_listen", tests)
