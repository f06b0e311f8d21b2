/*
 * EVFILT_PROC: forks and execs.  docs/kqueue-rules.md, section 11.
 */
#include "t.h"

#include <sys/wait.h>
#include <sched.h>
#include <stdio.h>

/*
 * A child that does one thing for each byte that it is sent, and answers each
 * with a byte:  f forks a child that exits with 3, k one that lives until x,
 * g one that forks another and exits, e executes cat, which answers as well;
 * t starts a thread; x ends it.
 */
struct child {
	pid_t pid;
	int to, from;
};

static pid_t kept[8];
static int nkept;

static void
answer(const void *data, size_t n)
{
	if (write(STDOUT_FILENO, data, n) != (ssize_t)n)
		_exit(90);
}

static pid_t
forked(char what)
{
	pid_t pid = fork();
	char byte;
	int hold;

	if (pid != 0)
		return pid;
	if (what == 'g' && (pid = fork()) != 0)
		_exit(waitpid(pid, NULL, 0) == pid ? 4 : 5);
	if (what == 'k') {
		hold = dup(STDERR_FILENO);
		_exit(read(hold, &byte, 1) == 0 ? 6 : 7);
	}
	_exit(3);
}

static void *
nothing(void *arg)
{
	return arg;
}

static void
obey(char what)
{
	pthread_t thread;
	pid_t pid = 0;

	switch (what) {
	case 't':
		if (pthread_create(&thread, NULL, nothing, NULL) != 0 ||
		    pthread_join(thread, NULL) != 0)
			_exit(92);
		answer(&pid, sizeof(pid));
		break;
	case 'f':
	case 'g':
		pid = forked(what);
		waitpid(pid, NULL, 0);
		answer(&pid, sizeof(pid));
		break;
	case 'k':
		pid = kept[nkept++] = forked(what);
		answer(&pid, sizeof(pid));
		break;
	case 'e':
		execlp("cat", "cat", (char *)NULL);
		_exit(91);
	case 'x':
		_exit(9);
	}
}

/* Its standard error is the end that the kept children read: hold. */
static struct child
t_obedient(int *hold)
{
	int to[2], from[2], keep[2];
	struct child c;
	char what;

	ck_assert_int_eq(pipe(to) | pipe(from) | pipe(keep), 0);
	fflush(NULL);
	c.pid = fork();
	ck_assert_int_ne(c.pid, -1);
	if (c.pid == 0) {
		dup2(to[0], STDIN_FILENO);
		dup2(from[1], STDOUT_FILENO);
		dup2(keep[0], STDERR_FILENO);
		close(to[1]);
		close(keep[1]);
		while (read(STDIN_FILENO, &what, 1) == 1)
			obey(what);
		_exit(8);
	}
	close(to[0]);
	close(from[1]);
	close(keep[0]);
	c.to = to[1];
	c.from = from[0];
	*hold = keep[1];
	return c;
}

static void
t_order(const struct child *c, char what)
{
	ck_assert_int_eq(write(c->to, &what, 1), 1);
}

/* The child that was forked; it has been reaped, unless it was kept. */
static pid_t
t_forks(const struct child *c, char what)
{
	pid_t pid;

	t_order(c, what);
	ck_assert_int_eq(read(c->from, &pid, sizeof(pid)), sizeof(pid));
	return pid;
}

static void
t_execs(const struct child *c)
{
	char byte;

	t_order(c, 'e');
	t_order(c, '!');
	ck_assert_int_eq(read(c->from, &byte, 1), 1);
}

static void
t_ends(const struct child *c)
{
	siginfo_t si;

	close(c->to);
	ck_assert_int_eq(waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOWAIT),
	    0);
}

static void
t_reap(const struct child *c)
{
	ck_assert_int_eq(waitpid(c->pid, NULL, 0), c->pid);
}

/* False, with the reason, where the system does not tell. */
static int
t_try_watch(pid_t pid, unsigned int flags, unsigned int notes)
{
	int error = t_try((uintptr_t)pid, EVFILT_PROC, EV_ADD | flags, notes, 0,
	    t_ptr(6));

#ifdef __linux__
	if (error == ENOTSUP) {
		t_skip("no proc connector");
		return 0;
	}
#endif
	ck_assert_int_eq(error, 0);
	return 1;
}

#define t_watch(pid, flags, notes)                                             \
	do {                                                                   \
		if (!t_try_watch(pid, flags, notes))                           \
			return;                                                \
	} while (0)

static void
t_expect_notes(pid_t pid, unsigned int notes, int64_t data)
{
	struct kevent got;

	t_expect(&got, pid, EVFILT_PROC);
	ck_assert_uint_eq(got.fflags, notes);
	ck_assert_ptr_eq(got.udata, t_ptr(6));
	if (notes & (NOTE_EXIT | NOTE_CHILD))
		ck_assert_int_eq(got.data, data);
}

/* R-PROC-10, R-PROC-16: each once, and only what was asked for then. */
START_TEST(fork_and_exec)
{
	struct child c;
	int hold;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_FORK | NOTE_EXEC);
	t_quiet();
	t_forks(&c, 'f');
	t_expect_notes(c.pid, NOTE_FORK, 0);
	t_quiet();
	t_forks(&c, 'f');
	t_watch(c.pid, 0, NOTE_EXEC);
	t_expect_notes(c.pid, NOTE_FORK, 0);
	t_forks(&c, 'f');
	t_quiet();
	t_execs(&c);
	t_expect_notes(c.pid, NOTE_EXEC, 0);
	t_quiet();
	t_ends(&c);
	t_quiet();
	t_gone(c.pid, EVFILT_PROC);
	t_reap(&c);
}
END_TEST

/* R-PROC-01, R-PROC-10: of itself; nobody forks who starts a thread. */
START_TEST(fork_of_itself)
{
	struct child c;
	int hold;
	pid_t pid;

	c = t_obedient(&hold);
	t_watch(getpid(), 0, NOTE_FORK | NOTE_EXEC);
	t_join(t_thread(nothing, NULL));
	ck_assert_int_eq(t_forks(&c, 't'), 0);
	t_quiet();
	t_ends(&c);
	t_reap(&c);
	if ((pid = fork()) == 0)
		_exit(0);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	t_expect_notes(getpid(), NOTE_FORK, 0);
	t_quiet();
}
END_TEST

/* R-PROC-11: OR-ed, with NOTE_EXIT among them the status. */
START_TEST(notes_add_up)
{
	struct kevent got;
	struct child c;
	int hold;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_FORK | NOTE_EXEC | NOTE_EXIT);
	t_forks(&c, 'f');
	t_forks(&c, 'f');
	if (_i == 0) {
		t_order(&c, 'x');
		t_ends(&c);
		t_expect_notes(c.pid, NOTE_FORK | NOTE_EXIT, 9 << 8);
	} else {
		t_execs(&c);
		t_expect_notes(c.pid, NOTE_FORK | NOTE_EXEC, 0);
		t_ends(&c);
		t_expect(&got, c.pid, EVFILT_PROC);
		ck_assert_uint_eq(got.fflags, NOTE_EXIT);
	}
	t_gone(c.pid, EVFILT_PROC);
	t_reap(&c);
}
END_TEST

/* R-PROC-08: other notes are still told when the end is not wanted. */
START_TEST(the_end_with_other_notes)
{
	struct kevent got;
	struct child c;
	int hold;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_FORK);
	t_forks(&c, 'f');
	t_ends(&c);
	t_expect(&got, c.pid, EVFILT_PROC);
	ck_assert_uint_eq(got.fflags, NOTE_FORK);
	ck_assert_uint_eq(got.flags & EV_EOF, EV_EOF);
	t_gone(c.pid, EVFILT_PROC);
	t_reap(&c);
}
END_TEST

/* R-PEND-03: what happens while disabled is kept. */
START_TEST(disabled_keeps_notes)
{
	struct child c;
	int hold;

	c = t_obedient(&hold);
	t_watch(c.pid, EV_DISABLE, NOTE_FORK | NOTE_EXEC);
	t_forks(&c, 'f');
	t_quiet();
	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ENABLE, NOTE_EXEC, 0,
	    t_ptr(6));
	t_expect_notes(c.pid, NOTE_FORK, 0);
	t_quiet();
	t_ends(&c);
	t_reap(&c);
}
END_TEST

/* R-PROC-12, R-PROC-13: a child that lives; then what it does is told. */
START_TEST(track_a_child)
{
	struct child c;
	int hold;
	pid_t pid;

	c = t_obedient(&hold);
	t_watch(c.pid, _i == 0 ? 0 : EV_DISPATCH,
	    NOTE_TRACK | NOTE_FORK | NOTE_EXIT);
	pid = t_forks(&c, 'k');
	t_expect_notes(c.pid, NOTE_FORK, 0);
	t_expect_notes(pid, NOTE_CHILD, c.pid);
	t_quiet();
	close(hold);
	t_expect_notes(pid, NOTE_EXIT, 6 << 8);
	t_quiet();
	t_delete(c.pid, EVFILT_PROC);
	t_ends(&c);
	t_reap(&c);
}
END_TEST

/* R-PROC-12: a child that has gone before we look: two events, in order. */
START_TEST(track_a_short_life)
{
	struct child c;
	int hold;
	pid_t pid;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_TRACK | NOTE_EXIT);
	pid = t_forks(&c, 'f');
	t_expect_notes(pid, NOTE_CHILD, c.pid);
	t_expect_notes(pid, NOTE_EXIT, 3 << 8);
	t_gone(pid, EVFILT_PROC);
	t_quiet();
	t_order(&c, 'x');
	t_ends(&c);
	t_expect_notes(c.pid, NOTE_EXIT, 9 << 8);
	t_reap(&c);
}
END_TEST

/* R-PROC-12: grandchildren, too. */
START_TEST(track_all)
{
	struct kevent got[8];
	int hold, n, i, born = 0, gone = 0, of_parent = 0;
	struct child c;
	pid_t pid;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_TRACK | NOTE_EXIT);
	pid = t_forks(&c, 'g');
	while (gone < 2) {
		n = t_get(t_kq, got, 8, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++) {
			ck_assert_uint_eq(got[i].fflags & NOTE_TRACKERR, 0);
			born += got[i].fflags == NOTE_CHILD;
			of_parent +=
			    got[i].fflags == NOTE_CHILD && got[i].data == pid;
			gone += got[i].fflags == NOTE_EXIT;
			if (got[i].fflags == NOTE_EXIT)
				ck_assert_int_eq(got[i].data,
				    ((pid_t)got[i].ident == pid ? 4 : 3) << 8);
		}
	}
	ck_assert_int_eq(born, 2);
	ck_assert_int_eq(of_parent, 1);
	t_ends(&c);
	t_reap(&c);
}
END_TEST

/* R-PROC-12: many short lives; nobody is lost, nobody told twice. */
START_TEST(track_many)
{
	enum { MANY = 150 };
	struct kevent got[16];
	int hold, n, i, born = 0, gone = 0;
	struct child c;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_TRACK | NOTE_EXIT);
	for (i = 0; i < MANY; i++)
		t_forks(&c, 'f');
	while (gone < MANY) {
		n = t_get(t_kq, got, 16, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++) {
			born += got[i].fflags == NOTE_CHILD;
			gone += got[i].fflags == NOTE_EXIT;
			if (got[i].fflags == NOTE_EXIT)
				ck_assert_int_eq(got[i].data, 3 << 8);
		}
	}
	ck_assert_int_eq(born, MANY);
	t_quiet();
	t_ends(&c);
	t_reap(&c);
}
END_TEST

/* R-PROC-12: more than the system keeps for us is an error, not silence. */
START_TEST(too_many_to_track)
{
#ifdef __linux__
	struct kevent got;
	struct child c;
	int hold;

	c = t_obedient(&hold);
	t_watch(c.pid, 0, NOTE_TRACK | NOTE_FORK);
	ck_assert_int_eq(system("i=0; while [ $i -lt 2000 ]; do"
				" (:); i=$((i + 1)); done"),
	    0);
	t_expect(&got, c.pid, EVFILT_PROC);
	ck_assert_uint_eq(got.fflags, NOTE_FORK | NOTE_TRACKERR);
	t_quiet();
	t_forks(&c, 'k');
	t_expect_notes(c.pid, NOTE_FORK, 0);
	t_ends(&c);
	t_reap(&c);
#endif
}
END_TEST

#ifdef __linux__
static int
told_nothing(int unused)
{
	int kq = kqueue();

	if (kq == -1 ||
	    t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
		NULL) != 0)
		return 1;
	if (t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_ADD,
		NOTE_EXIT | NOTE_FORK, 0, NULL) != ENOTSUP)
		return 2;
	if (t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_DELETE, 0, 0,
		NULL) != 0)
		return 3;
	if (t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_ADD, NOTE_TRACK,
		0, NULL) != ENOTSUP)
		return 4;
	if (t_try_on(kq, (uintptr_t)getpid(), EVFILT_PROC, EV_DELETE, 0, 0,
		NULL) != ENOENT)
		return 5;
	return 0;
}

/* Where the connector does not reach: another network, other process ids. */
static int
out_of_reach(int namespace)
{
	if (unshare(namespace) == -1 &&
	    unshare(CLONE_NEWUSER | namespace) == -1)
		return 77;
	return t_child(told_nothing, 0);
}
#endif

/* R-PROC-14 */
START_TEST(not_told)
{
#ifdef __linux__
	int result =
	    t_child(out_of_reach, _i == 0 ? CLONE_NEWNET : CLONE_NEWPID);

	if (result == 77)
		t_skip("no namespaces");
	else
		ck_assert_int_eq(result, 0);
#endif
}
END_TEST

/* R-PROC-09: a number that is used again is another process. */
START_TEST(former_processes)
{
	struct child c, d;
	int hold;
	pid_t pid;

	c = t_obedient(&hold);
	d = t_obedient(&hold);
	t_watch(d.pid, 0, NOTE_FORK);
	pid = t_forks(&c, 'f');
	t_forks(&c, 'f');
	t_watch(c.pid, 0, NOTE_FORK | NOTE_TRACK);
	t_quiet();
	t_fails(ESRCH, (uintptr_t)pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	t_delete(c.pid, EVFILT_PROC);
	t_forks(&c, 'f');
	t_quiet();
	t_ends(&d);
	t_reap(&d);
	t_ends(&c);
	t_reap(&c);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("proc_track");

	tcase_add_test(tc, fork_and_exec);
	tcase_add_test(tc, fork_of_itself);
	tcase_add_loop_test(tc, notes_add_up, 0, 2);
	tcase_add_test(tc, the_end_with_other_notes);
	tcase_add_test(tc, disabled_keeps_notes);
	tcase_add_loop_test(tc, track_a_child, 0, 2);
	tcase_add_test(tc, track_a_short_life);
	tcase_add_test(tc, track_all);
	tcase_add_test(tc, track_many);
	tcase_add_test(tc, too_many_to_track);
	tcase_add_loop_test(tc, not_told, 0, 2);
	tcase_add_test(tc, former_processes);
	return t_end();
}
