/*
 * t_signals_inherit.c: default actions act, and processes that the program
 * makes have its dispositions.
 */
#include <sys/event.h>
#include <sys/wait.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "t_signals_kit.h"

/* The argument with which this program is only a child that looks. */
#define CHILD "--is-ignored"

static char self[4096];

/* -- defaults -------------------------------------------------------------- */

START_TEST(default_kills)
{
	int status;
	pid_t pid;

	/* The test runner has handlers for it and for SIGINT. */
	signal(SIGTERM, SIG_DFL);
	if ((pid = fork()) == 0) {
		watch(SIGTERM);
		/*
		 * Blocked, counted, taken: and it kills when it is unblocked.
		 */
		if (_i == 1)
			take_one(SIGTERM, 1);
		else
			kill(getpid(), SIGTERM);
		mask(SIG_UNBLOCK, SIGTERM);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGTERM);
}
END_TEST

START_TEST(default_stops)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0) {
		watch(SIGTSTP);
		kill(getpid(), SIGTSTP);
		if (counted(SIGTSTP) != 1)
			_exit(1);
		kill(getpid(), SIGTSTP);
		_exit(counted(SIGTSTP) == 1 ? 0 : 2);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	kill(pid, SIGCONT);
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(WSTOPSIG(status), SIGTSTP);
	kill(pid, SIGCONT);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

START_TEST(ignored_children_leave_no_zombie)
{
	pid_t pid;
	int status;

	signal(SIGCHLD, _i == 0 ? SIG_IGN : SIG_DFL);
	watch(SIGCHLD);
	if ((pid = fork()) == 0)
		_exit(3);
	ck_assert_int_eq(counted(SIGCHLD), 1);
	if (_i == 0) {
		ck_assert_int_eq(waitpid(pid, &status, 0), -1);
		ck_assert_int_eq(errno, ECHILD);
	} else {
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_int_eq(WEXITSTATUS(status), 3);
	}
}
END_TEST

/* -- processes inherit ----------------------------------------------------- */

static char *const child_argv[] = { self, (char *)(uintptr_t)CHILD, NULL };

static void
exec_by(int way)
{
	switch (way) {
	case 0:
		execl(self, self, CHILD, NULL);
		break;
	case 1:
		execv(self, child_argv);
		break;
	case 2:
		execve(self, child_argv, environ);
		break;
	case 3:
		execvp(self, child_argv);
		break;
	case 4:
		execlp(self, self, CHILD, NULL);
		break;
	case 5:
		execle(self, self, CHILD, NULL, environ);
		break;
	case 6:
		execvpe(self, child_argv, environ);
		break;
	case 7:
		fexecve(open(self, O_RDONLY | O_CLOEXEC), child_argv, environ);
		break;
	case 8:
		execveat(AT_FDCWD, self, child_argv, environ, 0);
		break;
	}
}

#define EXEC_WAYS 9

static pid_t
vfork_exec(void)
{
	pid_t pid = vfork();

	if (pid == 0) {
		execve(self, child_argv, environ);
		_exit(99);
	}
	return pid;
}

/* What a started program says of SIGUSR1: its exit status. */
static int
start(int way)
{
	char command[sizeof(self) + 32];
	int status;
	pid_t pid = -1;

	snprintf(command, sizeof(command), "%s %s", self, CHILD);
	switch (way) {
	case EXEC_WAYS:
		ck_assert_int_eq(posix_spawn(&pid, self, NULL, NULL, child_argv,
				     environ),
		    0);
		break;
	case EXEC_WAYS + 1:
		ck_assert_int_eq(posix_spawnp(&pid, self, NULL, NULL,
				     child_argv, environ),
		    0);
		break;
	case EXEC_WAYS + 2:
		return system(command);
	case EXEC_WAYS + 3:
		return pclose(popen(command, "w"));
	case EXEC_WAYS + 4:
		pid = vfork_exec();
		break;
	default:
		/* In the process itself, without a fork that unhooks. */
		if ((pid = fork()) == 0) {
			kq = -1;
			watch(SIGUSR1);
			if (!caught_by_kernel(SIGUSR1))
				_exit(98);
			exec_by(way);
			_exit(99);
		}
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

START_TEST(programs_inherit)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	ck_assert_int_eq(start(_i), 0);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	signal(SIGUSR1, plain_handler);
	ck_assert_int_eq(WEXITSTATUS(start(_i)), 1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 1);
}
END_TEST

/* A sanitizer's vfork() is fork(): what the child sees then stays there. */
static struct sigaction seen_by_child;
static volatile int shared_with_child;

/* A vforked child that changes what it does with SIGUSR1, and then starts. */
static int
vfork_set_exec(void (*handler)(int))
{
	struct sigaction action = { .sa_handler = handler };
	int status;
	pid_t pid;

	pid = vfork();
	if (pid == 0) {
		shared_with_child = 1;
		if (sigaction(SIGUSR1, &action, &seen_by_child) == -1)
			_exit(98);
		execve(self, child_argv, environ);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return WEXITSTATUS(status);
}

/* It has our memory, and signals of its own: ours are watched as before. */
START_TEST(a_vforked_child_has_its_own)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	/* The libc of musl resets it by itself: what is ignored stays so. */
	vfork_set_exec(SIG_DFL);
	ck_assert(!shared_with_child || seen_by_child.sa_handler == SIG_IGN);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	signal(SIGUSR1, plain_handler);
	ck_assert_int_eq(vfork_set_exec(SIG_IGN), 0);
	ck_assert(
	    !shared_with_child || seen_by_child.sa_handler == plain_handler);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 1);
	ck_assert_int_eq(vfork_set_exec(SIG_DFL), 1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
	ck_assert_int_eq(ran(), 2);
}
END_TEST

START_TEST(exec_that_fails_changes_nothing)
{
	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	ck_assert_int_eq(execl("/nonexistent", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execlp("no such program", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execlp("", "x", NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(execvp("/", child_argv), -1);
	ck_assert_int_eq(errno, EACCES);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

/* A pending signal stays pending across exec. */
START_TEST(pending_across_exec)
{
	int status;
	pid_t pid;

	if ((pid = fork()) == 0) {
		kq = -1;
		take_one(SIGUSR1, 1);
		execl(self, self, CHILD, "pending", NULL);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 2);
}
END_TEST

START_TEST(system_is_libcs)
{
	sigset_t before, after;

	signal(SIGINT, SIG_DFL);
	watch(SIGCHLD);
	watch(SIGINT);
	sigprocmask(SIG_BLOCK, NULL, &before);
	ck_assert_int_eq(system(NULL), 1);
	ck_assert_int_eq(WEXITSTATUS(system("exit 7")), 7);
	ck_assert_int_eq(WTERMSIG(system("kill -TERM $$")), SIGTERM);
	ck_assert_int_eq(WTERMSIG(system("kill -INT $$")), SIGINT);
	sigprocmask(SIG_BLOCK, NULL, &after);
	ck_assert_int_eq(sigismember(&before, SIGCHLD),
	    sigismember(&after, SIGCHLD));
	ck_assert(signal(SIGINT, SIG_DFL) == SIG_DFL);
}
END_TEST

START_TEST(path_is_searched)
{
	int status;
	pid_t pid;

	watch(SIGUSR1);
	if ((pid = fork()) == 0) {
		setenv("PATH", "/nonexistent::/etc/passwd:/bin:/usr/bin", 1);
		execlp("sh", "sh", "-c", "exit 5", NULL);
		_exit(99);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 5);
}
END_TEST

START_TEST(forked_child_has_its_own)
{
	int status;
	pid_t pid;

	signal(SIGUSR1, SIG_IGN);
	watch(SIGUSR1);
	if ((pid = fork()) == 0) {
		if (caught_by_kernel(SIGUSR1))
			_exit(1);
		kill(getpid(), SIGUSR1);
		if (signal(SIGUSR1, plain_handler) != SIG_IGN)
			_exit(2);
		kill(getpid(), SIGUSR1);
		if (ran() != 1)
			_exit(3);
		/* It may have queues of its own. */
		kq = -1;
		watch(SIGUSR1);
		kill(getpid(), SIGUSR1);
		_exit(look(kq, SIGUSR1, DEADLINE_S) == 1 && ran() == 2 ? 0 : 4);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	none(SIGUSR1);
	kill(getpid(), SIGUSR1);
	ck_assert_int_eq(counted(SIGUSR1), 1);
}
END_TEST

static void
add(TCase *tc)
{
	tcase_add_loop_test(tc, default_kills, 0, 2);
	tcase_add_test(tc, default_stops);
	tcase_add_loop_test(tc, ignored_children_leave_no_zombie, 0, 2);
	tcase_add_loop_test(tc, programs_inherit, 0, EXEC_WAYS + 5);
	tcase_add_test(tc, a_vforked_child_has_its_own);
	tcase_add_test(tc, exec_that_fails_changes_nothing);
	tcase_add_test(tc, pending_across_exec);
	tcase_add_test(tc, system_is_libcs);
	tcase_add_test(tc, path_is_searched);
	tcase_add_test(tc, forked_child_has_its_own);
}

/* 0: SIGUSR1 is ignored; 2: it is pending; 1: neither. */
static int
child_main(int argc)
{
	struct sigaction now;
	sigset_t set;

	if (argc > 2)
		return sigpending(&set) == 0 && sigismember(&set, SIGUSR1) ? 2 :
									     1;
	return sigaction(SIGUSR1, NULL, &now) == 0 &&
		now.sa_handler == SIG_IGN ?
	    0 :
	    1;
}

int
main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], CHILD) == 0)
		return child_main(argc);
	if (readlink("/proc/self/exe", self, sizeof(self) - 1) == -1)
		return EXIT_FAILURE;
	return kit_run("signals_inherit", add);
}
