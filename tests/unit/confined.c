/*
 * What the sandbox allows and what it does not:
 *
 *	confined FOLDER		FOLDER has read/file, other/file, sockets/,
 *write/
 *
 * Confined to the first, third and fourth, it says what confines it, and then
 * of everything that it tries how that went, a line each: "NAME: ok" or
 * "NAME: Permission denied".
 */
#include <sys/types.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <arpa/inet.h>
#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sandbox.h"

static const char *folder;

static const char *
at(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

/* -1 with errno, or not. */
static int
opened(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0600);

	if (fd == -1)
		return -1;
	close(fd);
	return 0;
}

static int
bound(const char *path)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	int fd, rc;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(sun.sun_path, path);
	rc = bind(fd, (struct sockaddr *)&sun, sizeof(sun));
	close(fd);
	return rc;
}

/* -- what is allowed ------------------------------------------------------- */

static int
read_file(void)
{
	return opened(at("read/file"), O_RDONLY);
}

static int
read_again(void)
{
	/* It has been replaced since. */
	return opened(at("read/new"), O_RDONLY);
}

static int
read_hosts(void)
{
	return opened("/etc/hosts", O_RDONLY);
}

static int
make_socket(void)
{
	int fd = open(at("sockets"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd == -1 || flock(fd, LOCK_EX) == -1 || close(fd) == -1 ||
	    bound(at("sockets/s")) == -1 || chmod(at("sockets/s"), 0660) == -1)
		return -1;
	return unlink(at("sockets/s"));
}

static int
write_log(void)
{
	return opened(at("write/log"), O_WRONLY | O_CREAT | O_APPEND);
}

static int
write_null(void)
{
	return opened("/dev/null", O_RDWR);
}

static int
talk_tcp(void)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };
	socklen_t len = sizeof(sin);
	int fd[2], rc;

	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	fd[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	fd[1] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	rc = bind(fd[0], (struct sockaddr *)&sin, len) == -1 ||
	    listen(fd[0], 1) == -1 ||
	    getsockname(fd[0], (struct sockaddr *)&sin, &len) == -1 ||
	    connect(fd[1], (struct sockaddr *)&sin, len) == -1;
	close(fd[0]);
	close(fd[1]);
	return rc ? -1 : 0;
}

static int
find_names(void)
{
	struct addrinfo *list;

	if (getaddrinfo("localhost", "http", NULL, &list) != 0)
		return -1;
	freeaddrinfo(list);
	return getpwuid(0) == NULL ? -1 : 0;
}

static void *
nothing(void *arg)
{
	return arg;
}

static int
start_thread(void)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, nothing, NULL);
	if (errno != 0)
		return -1;
	pthread_join(thread, NULL);
	return 0;
}

static int
see_descriptors(void)
{
	return opened("/proc/self/fdinfo/0", O_RDONLY);
}

static int
watch_file(void)
{
	int fd = inotify_init1(IN_CLOEXEC);

	return inotify_add_watch(fd, at("read/file"), IN_MODIFY);
}

static int
take_memory(void)
{
	return mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED ?
	    -1 :
	    0;
}

static int
wait_for_child(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(7);
	if (pid == -1 || waitpid(pid, &status, 0) == -1)
		return -1;
	return WIFEXITED(status) && WEXITSTATUS(status) == 7 ? 0 : -1;
}

/* The status that a program ends with, 127 with errno if there is none. */
static int
run(const char *path, char *word)
{
	char *argv[] = { word, NULL };
	int report[2], status, error = 0;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) == -1)
		return -1;
	pid = fork();
	if (pid == 0) {
		execv(path, argv);
		error = errno;
		(void)!write(report[1], &error, sizeof(error));
		_exit(127);
	}
	close(report[1]);
	(void)!read(report[0], &error, sizeof(error));
	close(report[0]);
	if (pid == -1 || waitpid(pid, &status, 0) == -1)
		return -1;
	errno = error;
	return error != 0 || !WIFEXITED(status) ? -1 : WEXITSTATUS(status);
}

static int
run_ourselves(void)
{
	char word[] = "again";
	int status = run("/proc/self/exe", word);

	return status == 42 ? 0 : -1;
}

/* -- what is not ----------------------------------------------------------- */

static int
read_other(void)
{
	return opened(at("other/file"), O_RDONLY);
}

static int
read_home(void)
{
	return opened("/root", O_RDONLY | O_DIRECTORY);
}

static int
read_root(void)
{
	return opened("/", O_RDONLY | O_DIRECTORY);
}

static int
change_file(void)
{
	return opened(at("read/file"), O_WRONLY);
}

static int
make_file(void)
{
	return opened(at("sockets/file"), O_WRONLY | O_CREAT);
}

static int
make_file_in_read(void)
{
	return opened(at("read/more"), O_WRONLY | O_CREAT);
}

static int
make_folder(void)
{
	return mkdir(at("write/folder"), 0700);
}

static int
remove_file(void)
{
	return unlink(at("read/file"));
}

static int
remove_log(void)
{
	return unlink(at("write/log"));
}

static int
move_file(void)
{
	char from[4096];

	strlcpy(from, at("read/file"), sizeof(from));
	return rename(from, at("write/file"));
}

static int
make_socket_elsewhere(void)
{
	return bound(at("other/s"));
}

static int
write_proc(void)
{
	return opened("/proc/self/oom_score_adj", O_WRONLY);
}

static int
run_another(void)
{
	char word[] = "true";

	return run("/bin/true", word);
}

static int
run_hidden(void)
{
	char word[] = "x";

	return run(at("read/program"), word);
}

static int
call_ptrace(void)
{
	return (int)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
}

static int
call_mount(void)
{
	return mount("none", at("other"), "tmpfs", 0, NULL);
}

static int
call_unshare(void)
{
	return unshare(CLONE_NEWUSER);
}

static int
call_clone(void)
{
	pid_t pid;

	pid = (pid_t)syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL,
	    NULL, NULL);
	if (pid == 0)
		_exit(0);
	return pid;
}

static int
call_setuid(void)
{
	return setuid(geteuid());
}

static int
call_chroot(void)
{
	return chroot(at("read"));
}

static int
call_bpf(void)
{
	return (int)syscall(SYS_bpf, 0, NULL, 0);
}

static int
call_keyctl(void)
{
	return (int)syscall(SYS_keyctl, 0, 0, 0, 0, 0);
}

static int
call_io_uring(void)
{
	return (int)syscall(SYS_io_uring_setup, 1, NULL);
}

static int
call_reboot(void)
{
	return (int)syscall(SYS_reboot, 0, 0, 0, NULL);
}

static int
call_memfd(void)
{
	return memfd_create("x", 0);
}

static int
raw_socket(void)
{
	return socket(AF_PACKET, SOCK_RAW, 0);
}

static int
type_for_user(void)
{
	return ioctl(STDIN_FILENO, TIOCSTI, "x");
}

static int
nothing_of_it_is_left_out(void)
{
	struct rlimit limit;

	sandbox_keep_secrets();
	errno = EINVAL;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 ||
	    prctl(PR_GET_DUMPABLE, 0, 0, 0, 0) != 0)
		return -1;
	return getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_cur == 0 ? 0 :
									    -1;
}

#define TRY(what)                                                              \
	{                                                                      \
#what, what                                                    \
	}

static const struct {
	const char *name;
	int (*what)(void);
} tries[] = { TRY(read_file), TRY(read_again), TRY(read_hosts),
	TRY(make_socket), TRY(write_log), TRY(write_null), TRY(talk_tcp),
	TRY(find_names), TRY(start_thread), TRY(see_descriptors),
	TRY(watch_file), TRY(take_memory), TRY(wait_for_child),
	TRY(run_ourselves), TRY(read_other), TRY(read_home), TRY(read_root),
	TRY(change_file), TRY(make_file), TRY(make_file_in_read),
	TRY(make_folder), TRY(remove_file), TRY(remove_log), TRY(move_file),
	TRY(make_socket_elsewhere), TRY(write_proc), TRY(run_another),
	TRY(run_hidden), TRY(call_ptrace), TRY(call_mount), TRY(call_unshare),
	TRY(call_clone), TRY(call_setuid), TRY(call_chroot), TRY(call_bpf),
	TRY(call_keyctl), TRY(call_io_uring), TRY(call_reboot), TRY(call_memfd),
	TRY(raw_socket), TRY(type_for_user), TRY(nothing_of_it_is_left_out) };

int
main(int argc, char **argv)
{
	struct sandbox s = { .programs = 0 };
	char why[256], now[4096];
	size_t i;

	/* Whoever tries to run us again has done so. */
	if (argc < 2)
		return 42;
	folder = argv[1];
	if (sandbox_file(&s, at("read/file")) == -1 ||
	    sandbox_socket(&s, at("sockets/s")) == -1 ||
	    sandbox_output(&s, at("write/log")) == -1)
		err(1, "%s", folder);
	if (sandbox_enter(&s, SANDBOX_ON, why, sizeof(why)) == -1)
		errx(1, "%s", why);
	printf("%s\n", sandbox_state());
	/* Unconfined, some of this would really be done. */
	if (strstr(sandbox_state(), "Landlock") == NULL ||
	    strstr(sandbox_state(), "seccomp") == NULL)
		goto done;
	for (i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		fflush(stdout);
		errno = 0;
		printf("%s: %s\n", tries[i].name,
		    tries[i].what() == -1 ? strerror(errno) : "ok");
	}
	/* What a reload asks. */
	strlcpy(now, at("other/file"), sizeof(now));
	if (sandbox_file(&s, now) == -1 ||
	    sandbox_check(&s, why, sizeof(why)) == 0)
		errx(1, "%s is allowed", now);
	printf("%s\n", why);
done:
	sandbox_free(&s);
	return 0;
}
