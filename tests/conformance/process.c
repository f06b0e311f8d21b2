/*
 * Queues and child processes.  docs/kqueue-rules.md, section 6, R-FD-06 to
 * R-FD-09.
 */
#include "t.h"

#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>

extern char **environ;

/* In a child: the number is not open, and a new queue works. */
static int
child_has_no_queue(int depth)
{
	struct kevent got;
	int p[2], kq, copy;

	if (fcntl(t_kq, F_GETFD) != -1 || errno != EBADF)
		return 1;
	if (t_try(1, EVFILT_USER, EV_ADD, 0, 0, NULL) != EBADF)
		return 2;
	kq = kqueue();
	if (kq == -1 || pipe(p) == -1 || write(p[1], "abc", 3) != 3)
		return 3;
	if (t_try_on(kq, p[0], EVFILT_READ, EV_ADD, 0, 0, NULL) != 0 ||
	    t_get(kq, &got, 1, T_DEADLINE_MS) != 1 || got.data != 3)
		return 4;
	copy = dup(p[0]);
	close(p[0]);
	if (copy == -1 || t_get(kq, &got, 1, T_QUIET_MS) != 0)
		return 5;
	if (t_try_on(kq, 1, EVFILT_TIMER, EV_ADD, 0, 1, NULL) != 0 ||
	    t_get(kq, &got, 1, T_DEADLINE_MS) != 1)
		return 6;
	t_kq = kq;
	return depth == 0 ? 0 : t_child(child_has_no_queue, depth - 1);
}

/* R-FD-06: a child and its grandchild; the parent's queue goes on. */
START_TEST(a_child_has_no_queue)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	t_add(1, EVFILT_USER, EV_CLEAR);
	t_put(p[1], 7);
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	ck_assert_int_eq(t_child(child_has_no_queue, 1), 0);
	ck_assert_int_eq(t_poll(&got) + t_poll(&got), 2);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 7);
	t_take(p[0], 7);
	t_quiet();
}
END_TEST

static int
child_closes_all(int unused)
{
	int fd;

	for (fd = 3; fd < 64; fd++)
		close(fd);
	return 0;
}

static int
child_replaces(int fd)
{
	return dup2(STDIN_FILENO, fd) == fd ? 0 : 1;
}

static void
run_spawned(int fd, int replace)
{
	char name[] = "true", *argv[] = { name, NULL };
	posix_spawn_file_actions_t actions;
	int status;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	if (replace)
		posix_spawn_file_actions_adddup2(&actions, 0, fd);
	else
		posix_spawn_file_actions_addclose(&actions, fd);
	ck_assert_int_eq(posix_spawnp(&pid, name, &actions, NULL, argv,
			     environ),
	    0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	posix_spawn_file_actions_destroy(&actions);
}

/* The child shares our memory until it exits, and closes in it. */
static void
run_vforked(int fd)
{
	int status;
	pid_t pid;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"
	pid = vfork();
#pragma GCC diagnostic pop
	if (pid == 0) {
		close(fd);
		dup2(STDIN_FILENO, fd);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
}

/* R-FD-07: whatever a child does with its copies, ours are watched. */
START_TEST(a_child_s_closes_are_its_own)
{
	struct kevent got;
	int s[2];

	t_tcp(s);
	t_change(s[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(3));
	if (_i == 0)
		ck_assert_int_eq(t_child(child_closes_all, 0), 0);
	else if (_i == 1)
		ck_assert_int_eq(t_child(child_replaces, s[0]), 0);
	else if (_i == 2 || _i == 3)
		run_spawned(s[0], _i == 3);
	else if (_i == 4)
		run_vforked(s[0]);
	else if (_i == 5)
		ck_assert_int_eq(system("exec 3>&- 4>&- 5>&- 6>&-"), 0);
	else
		pclose(popen("exec 3>&- 4>&- 5>&- 6>&-", "r"));
	t_none();
	t_put(s[1], 1);
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(3));
	t_take(s[0], 1);
	t_quiet();
	t_delete(s[0], EVFILT_READ);
}
END_TEST

/* R-FD-07: a child that lives on with its copy when we close ours. */
START_TEST(a_child_s_copy_does_not_keep_the_knote)
{
	int s[2], hold[2], status;
	pid_t pid;
	char c;

	t_tcp(s);
	ck_assert_int_eq(pipe(hold), 0);
	t_add(s[0], EVFILT_READ, 0);
	pid = fork();
	if (pid == 0) {
		close(hold[1]);
		_exit(read(hold[0], &c, 1) == 0 ? 0 : 1);
	}
	close(s[0]);
	t_put(s[1], 1);
	t_quiet();
	close(hold[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("process");

	tcase_add_test(tc, a_child_has_no_queue);
	tcase_add_loop_test(tc, a_child_s_closes_are_its_own, 0, 7);
	tcase_add_test(tc, a_child_s_copy_does_not_keep_the_knote);
	return t_end();
}
