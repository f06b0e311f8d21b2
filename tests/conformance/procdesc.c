/*
 * EVFILT_PROCDESC: the end of the process that a descriptor holds.
 * docs/kqueue-rules.md, section 11.
 */
#include "t.h"

#include <sys/wait.h>
#include <stdio.h>
#ifdef __linux__
#include <sys/syscall.h>
#else
#include <sys/procdesc.h>
#endif

struct child {
	pid_t pid;
	int pd;   /* the descriptor */
	int hold; /* closing it lets the child go */
};

static struct child
t_held(int status)
{
	struct child c;
	int hold[2];
	char byte;

	ck_assert_int_eq(pipe(hold), 0);
	fflush(NULL);
#ifdef __linux__
	c.pid = fork();
#else
	c.pid = pdfork(&c.pd, 0);
#endif
	ck_assert_int_ne(c.pid, -1);
	if (c.pid == 0) {
		close(hold[1]);
		_exit(read(hold[0], &byte, 1) == 0 ? status : 98);
	}
#ifdef __linux__
	c.pd = (int)syscall(SYS_pidfd_open, c.pid, 0);
	ck_assert_int_ne(c.pd, -1);
#endif
	close(hold[0]);
	c.hold = hold[1];
	return c;
}

static void
t_let_go(struct child *c)
{
	siginfo_t si;

	close(c->hold);
	ck_assert_int_eq(waitid(P_PID, (id_t)c->pid, &si, WEXITED | WNOWAIT),
	    0);
}

static void
t_reap(struct child *c, int status)
{
	int got;

	ck_assert_int_eq(waitpid(c->pid, &got, 0), c->pid);
	ck_assert_int_eq(got, status << 8);
}

static void
t_expect_exit(struct child *c, int status)
{
	struct kevent got;

	t_expect(&got, c->pd, EVFILT_PROCDESC);
	ck_assert_uint_eq(got.fflags, NOTE_EXIT);
	ck_assert_uint_eq(got.flags & (EV_EOF | EV_ONESHOT),
	    EV_EOF | EV_ONESHOT);
	ck_assert_int_eq(got.data, status << 8);
	ck_assert_ptr_eq(got.udata, t_ptr(4));
	t_gone(c->pd, EVFILT_PROCDESC);
}

#define t_watch(c, flags, notes)                                               \
	t_change((uintptr_t)(c)->pd, EVFILT_PROCDESC, EV_ADD | (flags), notes, \
	    0, t_ptr(4))

/* R-PDESC-01: while it is watched, and for one that has ended already. */
START_TEST(exit_is_reported)
{
	struct child c = t_held(7);

	if (_i == 0) {
		t_watch(&c, 0, NOTE_EXIT);
		t_quiet();
		t_let_go(&c);
	} else {
		t_let_go(&c);
		t_watch(&c, 0, NOTE_EXIT);
	}
	t_expect_exit(&c, 7);
	t_quiet();
	t_reap(&c, 7);
}
END_TEST

/* R-PDESC-01: kept while disabled. */
START_TEST(exit_while_disabled)
{
	struct child c = t_held(7);

	t_watch(&c, EV_DISABLE, NOTE_EXIT);
	t_let_go(&c);
	t_quiet();
	t_change((uintptr_t)c.pd, EVFILT_PROCDESC, EV_ENABLE, NOTE_EXIT, 0,
	    t_ptr(4));
	t_expect_exit(&c, 7);
	t_reap(&c, 7);
}
END_TEST

/* R-PDESC-01: beside READ of the same descriptor. */
START_TEST(beside_other_filters)
{
#ifdef __linux__
	struct child c = t_held(7);
	struct kevent got[2];

	t_add(c.pd, EVFILT_READ, EV_CLEAR);
	t_watch(&c, 0, NOTE_EXIT);
	t_change((uintptr_t)c.pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	t_quiet();
	t_let_go(&c);
	t_until(t_get(t_kq, got, 1, 0) == 1);
	t_until(t_get(t_kq, got, 1, 0) == 1);
	t_until(t_get(t_kq, got, 1, 0) == 1);
	t_quiet();
	t_gone(c.pd, EVFILT_PROCDESC);
	t_gone(c.pid, EVFILT_PROC);
	t_delete(c.pd, EVFILT_READ);
	t_reap(&c, 7);
#endif
}
END_TEST

/* R-PDESC-02 */
START_TEST(exit_not_wanted)
{
	struct child c = t_held(7);

	t_watch(&c, 0, 0);
	t_let_go(&c);
	t_quiet();
	t_gone(c.pd, EVFILT_PROCDESC);
	t_reap(&c, 7);
}
END_TEST

/* R-PDESC-03 */
START_TEST(other_descriptors)
{
	int fds[6], s[2], i;

	t_pipe(&fds[0]);
	t_tcp(s);
	fds[2] = s[0];
	fds[3] = t_file("text");
	fds[4] = open("/dev/null", O_RDONLY);
	fds[5] = kqueue();
	for (i = 0; i < 6; i++) {
		t_fails(EINVAL, (uintptr_t)fds[i], EVFILT_PROCDESC, EV_ADD,
		    NOTE_EXIT, 0, NULL);
		t_gone(fds[i], EVFILT_PROCDESC);
	}
	close(fds[0]);
	t_fails(EBADF, (uintptr_t)fds[0], EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0,
	    NULL);
	t_fails(EBADF, (uintptr_t)-1, EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0,
	    NULL);
}
END_TEST

/* R-PDESC-03: a process is neither a file nor a socket. */
START_TEST(other_filters)
{
	struct child c = t_held(7);

	t_fails(EINVAL, (uintptr_t)c.pd, EVFILT_VNODE, EV_ADD, NOTE_ATTRIB, 0,
	    NULL);
	t_gone(c.pd, EVFILT_VNODE);
#ifdef EVFILT_EMPTY
	t_fails(EINVAL, (uintptr_t)c.pd, EVFILT_EMPTY, EV_ADD, 0, 0, NULL);
#endif
#ifdef EVFILT_EXCEPT
	t_fails(EINVAL, (uintptr_t)c.pd, EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0,
	    NULL);
#endif
	t_let_go(&c);
	t_reap(&c, 7);
}
END_TEST

/* R-PDESC-04: never silence. */
START_TEST(forks_are_not_told)
{
#ifdef __linux__
	struct child c = t_held(7);

	t_fails(ENOTSUP, (uintptr_t)c.pd, EVFILT_PROCDESC, EV_ADD,
	    NOTE_EXIT | NOTE_FORK, 0, NULL);
	t_gone(c.pd, EVFILT_PROCDESC);
	t_let_go(&c);
	t_reap(&c, 7);
#endif
}
END_TEST

/* R-PDESC-01, R-FD-01: closed, also where a copy keeps the process held. */
START_TEST(close_removes_it)
{
#ifdef __linux__
	struct child c = t_held(7);
	int copy = dup(c.pd);

	t_watch(&c, 0, NOTE_EXIT);
	close(c.pd);
	t_fails(EBADF, (uintptr_t)c.pd, EVFILT_PROCDESC, EV_DELETE, 0, 0, NULL);
	t_let_go(&c);
	t_quiet();
	c.pd = copy;
	t_watch(&c, 0, NOTE_EXIT);
	t_expect_exit(&c, 7);
	t_reap(&c, 7);
#endif
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("procdesc");

	tcase_add_loop_test(tc, exit_is_reported, 0, 2);
	tcase_add_test(tc, exit_while_disabled);
	tcase_add_test(tc, beside_other_filters);
	tcase_add_test(tc, exit_not_wanted);
	tcase_add_test(tc, other_descriptors);
	tcase_add_test(tc, other_filters);
	tcase_add_test(tc, forks_are_not_told);
	tcase_add_test(tc, close_removes_it);
	return t_end();
}
