/*
 * EVFILT_PROC: the end of a process.  docs/kqueue-rules.md, section 11.
 * Forks and execs are in proc_track.c.
 */
#include "t.h"

#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sched.h>
#include <stdio.h>

/* A child that waits for t_let_go() and ends in one of these ways. */
enum way { EXITS, KILLED, DUMPED, FORKS };

struct child {
	pid_t pid;
	int hold; /* writing here, or closing it, lets it go */
};

static void
end_as(enum way way, int arg)
{
	struct rlimit none = { 0, 0 };

	switch (way) {
	case EXITS:
		_exit(arg);
	case KILLED:
		signal(arg, SIG_DFL);
		raise(arg);
		_exit(99);
	case DUMPED:
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		raise(SIGABRT);
		_exit(99);
	case FORKS:
		_exit(0);
	}
}

static struct child
t_held(enum way way, int arg)
{
	struct child c;
	int hold[2];
	char byte;

	ck_assert_int_eq(pipe(hold), 0);
	fflush(NULL);
	c.pid = fork();
	ck_assert_int_ne(c.pid, -1);
	if (c.pid == 0) {
		close(hold[1]);
		if (read(hold[0], &byte, 1) == -1)
			_exit(98);
		end_as(way, arg);
	}
	close(hold[0]);
	c.hold = hold[1];
	return c;
}

static void
t_let_go(struct child *c)
{
	close(c->hold);
}

/* Wait for the end without reaping. */
static void
t_ended(pid_t pid)
{
	siginfo_t si;

	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WEXITED | WNOWAIT), 0);
}

static int
t_reap(pid_t pid)
{
	int status;

	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

#define t_watch(pid, flags, notes)                                             \
	t_change((uintptr_t)(pid), EVFILT_PROC, EV_ADD | (flags), notes, 0,    \
	    NULL)

/* The event of the end, and that it is the last one. */
static void
t_expect_exit(struct kevent *got, pid_t pid)
{
	t_expect(got, pid, EVFILT_PROC);
	ck_assert_uint_eq(got->fflags, NOTE_EXIT);
	ck_assert_uint_eq(got->flags & (EV_EOF | EV_ONESHOT),
	    EV_EOF | EV_ONESHOT);
	t_gone(pid, EVFILT_PROC);
}

static const struct {
	enum way way;
	int arg;
} ways[] = { { EXITS, 0 }, { EXITS, 7 }, { EXITS, 255 }, { KILLED, SIGTERM },
	{ KILLED, SIGKILL }, { DUMPED, 0 } };

/* R-PROC-05, R-PROC-06: the status is that which waitpid() gives afterwards. */
START_TEST(exit_of_a_child)
{
	struct child c = t_held(ways[_i].way, ways[_i].arg);
	struct kevent got;

	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, t_ptr(9));
	t_quiet();
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	ck_assert_ptr_eq(got.udata, t_ptr(9));
	ck_assert_int_eq(got.data, t_reap(c.pid));
	t_quiet();
}
END_TEST

/* R-PROC-06: who reaps before the queue is asked takes nothing from it. */
START_TEST(exit_of_a_child_that_was_reaped)
{
	struct child c = t_held(EXITS, 7);
	struct kevent got;
	int status;

	t_watch(c.pid, 0, NOTE_EXIT);
	t_let_go(&c);
	status = t_reap(c.pid);
	t_expect_exit(&got, c.pid);
	if (got.data != status)
		t_skip("the status of a reaped process: Linux before 6.15");
	else
		ck_assert_int_eq(got.data, 7 << 8);
}
END_TEST

/* R-PROC-06: the same when the kernel reaps it. */
START_TEST(exit_of_a_child_that_nobody_wants)
{
	struct kevent got;
	struct child c;

	signal(SIGCHLD, SIG_IGN);
	c = t_held(EXITS, 7);
	t_watch(c.pid, 0, NOTE_EXIT);
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	if (got.data != 7 << 8)
		t_skip("the status of a reaped process: Linux before 6.15");
}
END_TEST

/* R-PROC-01: each end once, whatever the mode asked for. */
START_TEST(clear_is_implied)
{
	struct child c = t_held(EXITS, 0);
	struct kevent got;

	t_watch(c.pid, 0, NOTE_EXIT);
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	ck_assert_uint_eq(got.flags & EV_CLEAR, EV_CLEAR);
	t_reap(c.pid);
}
END_TEST

/* R-PROC-01: itself, and init, which is no child. */
START_TEST(any_process)
{
	t_watch(getpid(), 0, NOTE_EXIT);
	t_watch(getppid(), 0, NOTE_EXIT);
	t_watch(1, 0, NOTE_EXIT);
	t_quiet();
	t_delete(getpid(), EVFILT_PROC);
	t_delete(getppid(), EVFILT_PROC);
	t_delete(1, EVFILT_PROC);
}
END_TEST

#ifdef __linux__
/* Says its own id, and lives until that is taken. */
static void *
tell_id(void *arg)
{
	int *tid = arg;

	__atomic_store_n(tid, (int)syscall(SYS_gettid), __ATOMIC_RELEASE);
	while (__atomic_load_n(tid, __ATOMIC_ACQUIRE) != 0)
		t_pause(1);
	return NULL;
}
#endif

/* R-PROC-02: a thread is no process either. */
START_TEST(no_such_process)
{
#ifdef __linux__
	pthread_t thread;
	int tid;
#endif
	struct child c = t_held(EXITS, 0);
	const uintptr_t idents[] = { 0, (uintptr_t)-1, (uintptr_t)1 << 31,
		INT32_MAX, (uintptr_t)c.pid };
	size_t i;

	t_let_go(&c);
	t_reap(c.pid);
	for (i = 0; i < T_COUNT(idents); i++) {
		t_fails(ESRCH, idents[i], EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		    NULL);
		t_gone(idents[i], EVFILT_PROC);
	}
#ifdef __linux__
	tid = 0;
	thread = t_thread(tell_id, &tid);
	t_until(__atomic_load_n(&tid, __ATOMIC_ACQUIRE) != 0);
	t_fails(ESRCH, (uintptr_t)tid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	__atomic_store_n(&tid, 0, __ATOMIC_RELEASE);
	t_join(thread);
#endif
}
END_TEST

#ifdef __linux__
/* In a namespace of process ids of its own, others are not to be seen. */
static int
sees_only_its_own(int pid)
{
	int kq = kqueue();

	if (kq == -1 ||
	    t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		NULL) != 0)
		return 1;
	return t_try_on(kq, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		   NULL) == ESRCH ?
	    0 :
	    2;
}

static int
in_a_namespace(int pid)
{
	if (unshare(CLONE_NEWUSER | CLONE_NEWPID) == -1)
		return 77;
	return t_child(sees_only_its_own, pid);
}
#endif

/* R-PROC-03 */
START_TEST(not_to_be_seen)
{
#ifdef __linux__
	int result = t_child(in_a_namespace, getpid());

	if (result == 77)
		t_skip("no namespaces");
	else
		ck_assert_int_eq(result, 0);
#endif
}
END_TEST

/* R-PROC-04 */
START_TEST(a_zombie)
{
	struct child c = t_held(ways[_i].way, ways[_i].arg);
	struct kevent got;

	t_let_go(&c);
	t_ended(c.pid);
	t_fails(ESRCH, (uintptr_t)c.pid, EVFILT_PROC, EV_ADD, 0, 0, NULL);
	t_gone(c.pid, EVFILT_PROC);
	t_watch(c.pid, 0, NOTE_EXIT);
	ck_assert_int_eq(t_poll(&got), 1);
	ck_assert_uint_eq(got.ident, (uintptr_t)c.pid);
	ck_assert_uint_eq(got.fflags, NOTE_EXIT);
	ck_assert_int_eq(got.data, t_reap(c.pid));
	t_gone(c.pid, EVFILT_PROC);
}
END_TEST

/*
 * A grandchild, held in the same way; its parent reaps it when hold[1] of the
 * parent is let go, and passes its status on.
 */
struct grandchild {
	struct child child; /* its parent */
	struct child self;
};

static struct grandchild
t_grandchild(enum way way, int arg)
{
	struct grandchild g;
	int tell[2], hold[2], own[2], status;
	char byte;
	pid_t pid;

	ck_assert_int_eq(pipe(tell) | pipe(hold) | pipe(own), 0);
	fflush(NULL);
	g.child.pid = fork();
	ck_assert_int_ne(g.child.pid, -1);
	if (g.child.pid == 0) {
		pid = fork();
		if (pid == 0) {
			close(own[1]);
			close(hold[1]);
			if (read(own[0], &byte, 1) == -1)
				_exit(98);
			end_as(way, arg);
		}
		close(hold[1]);
		close(own[1]);
		if (write(tell[1], &pid, sizeof(pid)) != sizeof(pid) ||
		    read(hold[0], &byte, 1) == -1 ||
		    waitpid(pid, &status, 0) != pid)
			_exit(98);
		_exit(0);
	}
	close(hold[0]);
	close(own[0]);
	ck_assert_int_eq(read(tell[0], &g.self.pid, sizeof(pid)), sizeof(pid));
	g.self.hold = own[1];
	g.child.hold = hold[1];
	return g;
}

/* R-PROC-06, R-PROC-07: not a child, and its parent does not reap it. */
START_TEST(exit_of_another)
{
	struct grandchild g = t_grandchild(EXITS, 7);
	struct kevent got;

	t_watch(g.self.pid, 0, NOTE_EXIT);
	t_quiet();
	t_let_go(&g.self);
	t_expect_exit(&got, g.self.pid);
	ck_assert_int_eq(got.data, 7 << 8);
	t_let_go(&g.child);
	ck_assert_int_eq(t_reap(g.child.pid), 0);
}
END_TEST

/* R-PROC-07: not a child, and reaped before the queue is asked. */
START_TEST(exit_of_another_that_was_reaped)
{
	struct grandchild g = t_grandchild(KILLED, SIGTERM);
	struct kevent got;

	t_watch(g.self.pid, 0, NOTE_EXIT);
	t_let_go(&g.self);
	t_let_go(&g.child);
	ck_assert_int_eq(t_reap(g.child.pid), 0);
	t_expect_exit(&got, g.self.pid);
	if (got.data == 0)
		t_skip("the status of a reaped process: Linux before 6.15");
	else
		ck_assert_int_eq(got.data, SIGTERM);
}
END_TEST

/* As a user who may not know how a process of root's ended. */
static int
asks_as_nobody(int pid)
{
	struct kevent got;
	int kq;

	if (setgid(65534) == -1 || setuid(65534) == -1 ||
	    (kq = kqueue()) == -1 ||
	    t_try_on(kq, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		NULL) != 0)
		return 1;
	if (t_get(kq, &got, 1, T_DEADLINE_MS) != 1)
		return 2;
	return got.fflags == NOTE_EXIT && got.data == 0 ? 0 : 3;
}

/* R-PROC-07: whose status the system keeps to itself. */
START_TEST(exit_of_another_user_s)
{
#ifdef __linux__
	struct child c;

	if (getuid() != 0) {
		t_skip("takes two users");
		return;
	}
	c = t_held(EXITS, 7);
	t_let_go(&c);
	t_ended(c.pid);
	ck_assert_int_eq(t_child(asks_as_nobody, c.pid), 0);
	t_reap(c.pid);
#endif
}
END_TEST

/* R-PROC-08: nothing is returned, and the knote has gone. */
START_TEST(exit_not_wanted)
{
	struct child c = t_held(EXITS, 0);

	t_watch(c.pid, 0, 0);
	t_let_go(&c);
	t_ended(c.pid);
	t_quiet();
	t_gone(c.pid, EVFILT_PROC);
	t_reap(c.pid);
}
END_TEST

/* R-PROC-08: asked for in vain while disabled, too. */
START_TEST(exit_not_wanted_while_disabled)
{
	struct child c = t_held(EXITS, 0);

	t_watch(c.pid, EV_DISABLE, 0);
	t_let_go(&c);
	t_ended(c.pid);
	t_quiet();
	t_gone(c.pid, EVFILT_PROC);
	t_reap(c.pid);
}
END_TEST

/* R-PROC-09: reaped, so that its number is free; the event is still its own. */
START_TEST(the_knote_holds_the_process)
{
	struct child c = t_held(EXITS, 3);
	struct kevent got;
	pid_t next;
	int i;

	t_watch(c.pid, EV_DISABLE, NOTE_EXIT);
	t_let_go(&c);
	t_ended(c.pid);
	t_none();
	t_reap(c.pid);
	for (i = 0; i < 20; i++) {
		if ((next = fork()) == 0)
			_exit(44);
		t_reap(next);
	}
	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ENABLE, NOTE_EXIT, 0, NULL);
	t_expect_exit(&got, c.pid);
	ck_assert_int_eq(got.data, 3 << 8);
}
END_TEST

/* R-PROC-15 */
START_TEST(exitstatus_is_returned_if_asked_for)
{
#ifdef NOTE_EXITSTATUS
	struct child c = t_held(EXITS, 5);
	struct kevent got;

	t_watch(c.pid, 0, NOTE_EXIT | NOTE_EXITSTATUS);
	t_let_go(&c);
	t_expect(&got, c.pid, EVFILT_PROC);
	ck_assert_uint_eq(got.fflags, NOTE_EXIT | NOTE_EXITSTATUS);
	ck_assert_int_eq(got.data, 5 << 8);
	t_reap(c.pid);
#endif
}
END_TEST

/* R-PROC-16, R-PEND-03 */
START_TEST(add_again_replaces_the_notes)
{
	struct child c = t_held(EXITS, 5);
	struct kevent got;

	t_watch(c.pid, 0, 0);
	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, t_ptr(1));
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	ck_assert_ptr_eq(got.udata, t_ptr(1));
	t_reap(c.pid);

	c = t_held(EXITS, 5);
	t_watch(c.pid, 0, NOTE_EXIT);
	t_watch(c.pid, 0, 0);
	t_let_go(&c);
	t_ended(c.pid);
	t_quiet();
	t_gone(c.pid, EVFILT_PROC);
	t_reap(c.pid);
}
END_TEST

/* R-PEND-03: what happens while disabled is kept, deleted it is gone. */
START_TEST(disabled_keeps_it)
{
	struct child c = t_held(EXITS, 5);
	struct kevent got;

	t_watch(c.pid, 0, NOTE_EXIT);
	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_DISABLE, NOTE_EXIT, 0, NULL);
	t_let_go(&c);
	t_ended(c.pid);
	t_quiet();
	if (_i == 1) {
		t_delete(c.pid, EVFILT_PROC);
		t_quiet();
	} else {
		t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ENABLE, NOTE_EXIT, 0,
		    NULL);
		t_expect_exit(&got, c.pid);
		ck_assert_int_eq(got.data, 5 << 8);
	}
	t_reap(c.pid);
}
END_TEST

static void
stop_and_go(pid_t pid)
{
	siginfo_t si;

	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WSTOPPED), 0);
	t_quiet();
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)pid, &si, WCONTINUED), 0);
	t_quiet();
}

/* R-PROC-17 */
START_TEST(stopped_and_traced)
{
	struct child c = t_held(EXITS, 5);
	struct kevent got;
	int status;

	t_watch(c.pid, 0, NOTE_EXIT);
	stop_and_go(c.pid);
#ifdef __linux__
	if (ptrace(PTRACE_ATTACH, c.pid, NULL, NULL) == 0) {
		ck_assert_int_eq(waitpid(c.pid, &status, 0), c.pid);
		t_quiet();
		ptrace(PTRACE_DETACH, c.pid, NULL, NULL);
		t_quiet();
	}
#endif
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	ck_assert_int_eq(got.data, 5 << 8);
	t_reap(c.pid);
}
END_TEST

/* R-PROC-05: every queue that watches gets it. */
START_TEST(two_queues)
{
	struct child c = t_held(EXITS, 6);
	struct kevent got;
	int other = kqueue();

	t_watch(c.pid, 0, NOTE_EXIT);
	t_change_on(other, (uintptr_t)c.pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
	    NULL);
	t_let_go(&c);
	t_expect_exit(&got, c.pid);
	t_expect_on(other, &got, c.pid, EVFILT_PROC);
	ck_assert_int_eq(got.data, 6 << 8);
	t_reap(c.pid);
}
END_TEST

/* R-PROC-05: many end at once, each is told once. */
START_TEST(many)
{
	enum { MANY = 100 };
	struct kevent got[7];
	struct child c[MANY];
	int i, n, total = 0;

	for (i = 0; i < MANY; i++) {
		c[i] = t_held(EXITS, i);
		t_change((uintptr_t)c[i].pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		    t_ptr(i));
	}
	for (i = 0; i < MANY; i++)
		t_let_go(&c[i]);
	while (total < MANY) {
		n = t_get(t_kq, got, 7, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++)
			ck_assert_int_eq(got[i].data,
			    (intptr_t)got[i].udata << 8);
		total += n;
	}
	t_quiet();
	for (i = 0; i < MANY; i++)
		t_reap(c[i].pid);
}
END_TEST

static void *
ends_later(void *arg)
{
	char byte;

	if (read(STDIN_FILENO, &byte, 1) == -1)
		_exit(98);
	_exit(11);
}

/* R-PROC-05: of several threads, the first may end long before the last. */
START_TEST(the_last_thread_ends_it)
{
	struct kevent got;
	pthread_t thread;
	int hold[2];
	pid_t pid;

	ck_assert_int_eq(pipe(hold), 0);
	if ((pid = fork()) == 0) {
		close(hold[1]);
		dup2(hold[0], STDIN_FILENO);
		pthread_create(&thread, NULL, ends_later, NULL);
		pthread_exit(NULL);
	}
	t_watch(pid, 0, NOTE_EXIT);
	t_quiet();
	close(hold[1]);
	t_expect_exit(&got, pid);
	ck_assert_int_eq(got.data, 11 << 8);
	t_reap(pid);
}
END_TEST

/* How many descriptors a child finds open. */
static int
count_open(int unused)
{
	int fd, n = 0;

	for (fd = 0; fd < 2048; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/* R-FD-06: nothing of the knotes is left in a child. */
START_TEST(not_in_a_child)
{
	struct child c = t_held(EXITS, 0);
	int before = t_child(count_open, 0);

	t_watch(c.pid, 0, NOTE_EXIT);
	t_watch(getpid(), 0, NOTE_EXIT);
	ck_assert_int_eq(t_child(count_open, 0), before);
	t_let_go(&c);
	t_reap(c.pid);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("proc");

	tcase_add_loop_test(tc, exit_of_a_child, 0, T_COUNT(ways));
	tcase_add_test(tc, exit_of_a_child_that_was_reaped);
	tcase_add_test(tc, exit_of_a_child_that_nobody_wants);
	tcase_add_test(tc, clear_is_implied);
	tcase_add_test(tc, any_process);
	tcase_add_test(tc, no_such_process);
	tcase_add_test(tc, not_to_be_seen);
	tcase_add_loop_test(tc, a_zombie, 0, T_COUNT(ways));
	tcase_add_test(tc, exit_of_another);
	tcase_add_test(tc, exit_of_another_that_was_reaped);
	tcase_add_test(tc, exit_of_another_user_s);
	tcase_add_test(tc, exit_not_wanted);
	tcase_add_test(tc, exit_not_wanted_while_disabled);
	tcase_add_test(tc, the_knote_holds_the_process);
	tcase_add_test(tc, exitstatus_is_returned_if_asked_for);
	tcase_add_test(tc, add_again_replaces_the_notes);
	tcase_add_loop_test(tc, disabled_keeps_it, 0, 2);
	tcase_add_test(tc, stopped_and_traced);
	tcase_add_test(tc, two_queues);
	tcase_add_test(tc, many);
	tcase_add_test(tc, the_last_thread_ends_it);
	tcase_add_test(tc, not_in_a_child);
	return t_end();
}
