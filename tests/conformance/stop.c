/*
 * A process that is stopped while it waits, and goes on: one that catches no
 * signal need not look for EINTR.  It is a program of its own, since Check has
 * handlers.  docs/kqueue-rules.md, section 2.
 */
#include "t.h"

#include <stdbool.h>
#include <stdio.h>
#include <sys/wait.h>

#define ROUNDS 10
#define ANSWER 42

static char *self;

/* The program: ANSWER if it got the byte, else the errno value. */
static int
wait_for_a_byte(bool for_ever)
{
	struct timespec limit = { T_DEADLINE_MS / 1000, 0 };
	struct kevent kev;
	int kq = kqueue(), n;

	EV_SET(&kev, STDIN_FILENO, EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kq == -1 || kevent(kq, &kev, 1, NULL, 0, NULL) == -1)
		return 1;
	putchar('w');
	fflush(stdout);
	n = kevent(kq, NULL, 0, &kev, 1, for_ever ? NULL : &limit);
	return n == 1 ? ANSWER : n == -1 ? errno : 0;
}

static pid_t
start(const char *how, int in, int out)
{
	pid_t pid = fork();

	ck_assert_int_ne(pid, -1);
	if (pid != 0)
		return pid;
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	execl(self, self, how, (char *)NULL);
	_exit(127);
}

/* R-CALL-20 */
START_TEST(stopped_and_continued)
{
	int in[2], out[2], status, i;
	char ready;
	pid_t pid;

	ck_assert_int_eq(pipe(in) | pipe(out), 0);
	pid = start(_i == 0 ? "for-ever" : "limit", in[0], out[1]);
	close(out[1]);
	if (read(out[0], &ready, 1) != 1) {
		t_skip("cannot execute itself");
		return;
	}
	for (i = 0; i < ROUNDS; i++) {
		t_pause(1);
		ck_assert_int_eq(kill(pid, SIGSTOP), 0);
		ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
		ck_assert_msg(WIFSTOPPED(status), "ended with %x", status);
		ck_assert_int_eq(kill(pid, SIGCONT), 0);
	}
	t_put(in[1], 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), ANSWER);
}
END_TEST

int
main(int argc, char **argv)
{
	TCase *tc;

	if (argc == 2)
		return wait_for_a_byte(strcmp(argv[1], "for-ever") == 0);
	self = argv[0];
	tc = t_begin("stop");
	tcase_add_loop_test(tc, stopped_and_continued, 0, 2);
	return t_end();
}
