/*
 * What stays pending over EV_DISABLE, EV_ENABLE and a second EV_ADD: the
 * table of docs/kqueue-rules.md, section 14, a test or two for each row.
 */
#include "t.h"

#ifdef EVFILT_VNODE
#include <sys/stat.h>
#endif

static void
disable(uintptr_t ident, int filter)
{
	t_change(ident, filter, EV_DISABLE, 0, 0, NULL);
}

static void
enable(uintptr_t ident, int filter)
{
	t_change(ident, filter, EV_ENABLE, 0, 0, NULL);
}

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

/* R-PEND-01: withheld, asked again, and gone if the condition has gone. */
START_TEST(read_is_asked_again)
{
	unsigned int mode = _i == 0 ? 0 : EV_CLEAR;
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, mode);
	t_put(p[1], 2);
	disable(p[0], EVFILT_READ);
	t_quiet();
	enable(p[0], EVFILT_READ);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(t_poll(&got), mode == 0);
	t_add(p[0], EVFILT_READ, mode);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 2);

	disable(p[0], EVFILT_READ);
	t_take(p[0], 2);
	enable(p[0], EVFILT_READ);
	t_quiet();
	t_put(p[1], 1);
	t_take(p[0], 1);
	t_add(p[0], EVFILT_READ, mode);
	t_quiet();
	t_put(p[1], 1);
	t_expect(&got, p[0], EVFILT_READ);
}
END_TEST

/* R-PEND-01 */
START_TEST(write_is_asked_again)
{
	unsigned int mode = _i == 0 ? 0 : EV_CLEAR;
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_add(p[1], EVFILT_WRITE, mode);
	disable(p[1], EVFILT_WRITE);
	t_quiet();
	enable(p[1], EVFILT_WRITE);
	t_expect(&got, p[1], EVFILT_WRITE);
	ck_assert_int_eq(t_poll(&got), mode == 0);
	disable(p[1], EVFILT_WRITE);
	t_fill(p[1]);
	enable(p[1], EVFILT_WRITE);
	t_quiet();
	t_drain(p[0]);
	t_expect(&got, p[1], EVFILT_WRITE);
	t_add(p[1], EVFILT_WRITE, mode);
	t_expect(&got, p[1], EVFILT_WRITE);
}
END_TEST

#ifdef EVFILT_VNODE
/* R-PEND-02 */
START_TEST(vnode_keeps_its_notes)
{
	int fd = t_file("text");
	struct kevent got;

	t_change(fd, EVFILT_VNODE, EV_ADD, NOTE_ATTRIB, 0, NULL);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	t_change(fd, EVFILT_VNODE, EV_DISABLE, NOTE_ATTRIB, 0, NULL);
	t_quiet();
	t_change(fd, EVFILT_VNODE, EV_ENABLE, NOTE_ATTRIB, 0, NULL);
	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags, NOTE_ATTRIB);
	t_change(fd, EVFILT_VNODE, EV_ADD, NOTE_WRITE, 0, NULL);
	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags, NOTE_ATTRIB);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	t_until(t_poll(&got) == 1 && got.fflags == (NOTE_ATTRIB | NOTE_WRITE));
	t_delete(fd, EVFILT_VNODE);

	t_change(fd, EVFILT_VNODE, EV_ADD | EV_CLEAR, NOTE_WRITE, 0, NULL);
	ck_assert_int_eq(write(fd, "x", 1), 1);
	t_expect(&got, fd, EVFILT_VNODE);
	t_quiet();
	ck_assert_int_eq(write(fd, "x", 1), 1);
	t_expect(&got, fd, EVFILT_VNODE);
}
END_TEST
#endif

#ifdef EVFILT_PROC
/* R-PEND-03 */
START_TEST(proc_keeps_its_notes)
{
	struct kevent got;
	int hold[2];
	pid_t pid;
	char c;

	ck_assert_int_eq(pipe(hold), 0);
	pid = fork();
	if (pid == 0) {
		close(hold[1]);
		_exit(read(hold[0], &c, 1) == 0 ? 3 : 1);
	}
	t_change(pid, EVFILT_PROC, EV_ADD | EV_DISABLE, NOTE_EXIT, 0, NULL);
	close(hold[1]);
	t_quiet();
	t_change(pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, t_ptr(1));
	t_quiet();
	t_change(pid, EVFILT_PROC, EV_ENABLE, NOTE_EXIT, 0, t_ptr(2));
	t_expect(&got, pid, EVFILT_PROC);
	ck_assert_uint_eq(got.fflags, NOTE_EXIT);
	ck_assert_ptr_eq(got.udata, t_ptr(2));
}
END_TEST
#endif

static void
on_signal(int signo)
{
	(void)signo;
}

/* R-PEND-04 */
START_TEST(signal_keeps_its_count)
{
	struct kevent got;

	signal(SIGUSR1, on_signal);
	t_add(SIGUSR1, EVFILT_SIGNAL, 0);
	raise(SIGUSR1);
	disable(SIGUSR1, EVFILT_SIGNAL);
	raise(SIGUSR1);
	t_quiet();
	t_add(SIGUSR1, EVFILT_SIGNAL, 0);
	t_quiet();
	enable(SIGUSR1, EVFILT_SIGNAL);
	t_expect(&got, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_int_eq(got.data, 2);
	t_quiet();

	raise(SIGUSR1);
	t_add(SIGUSR1, EVFILT_SIGNAL, 0);
	raise(SIGUSR1);
	t_expect(&got, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_int_eq(got.data, 2);
	t_none();
}
END_TEST

/* R-PEND-05: the count is kept and the clock runs on. */
START_TEST(timer_runs_on_while_disabled)
{
	int64_t start = t_now(), sum = 0;
	struct kevent got;

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 5, NULL);
	t_pause(12);
	disable(1, EVFILT_TIMER);
	t_quiet();
	enable(1, EVFILT_TIMER);
	ck_assert_int_eq(t_poll(&got), 1);
	sum = got.data;
	ck_assert_int_ge(sum, 42 / 5 - 1);
	ck_assert_int_le(sum, (t_now() - start) / 5000000);
	t_expect(&got, 1, EVFILT_TIMER);
	ck_assert_int_le(sum + got.data, (t_now() - start) / 5000000);
}
END_TEST

/* R-PEND-05: a second EV_ADD throws away what was not collected. */
START_TEST(timer_restarts_with_add)
{
	struct kevent got;

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 2, NULL);
	t_pause(10);
	t_change(1, EVFILT_TIMER, EV_ADD, 0, 3600000, NULL);
	t_quiet();
	t_change(1, EVFILT_TIMER, EV_ADD, 0, 1, NULL);
	t_expect(&got, 1, EVFILT_TIMER);
}
END_TEST

/* R-PEND-06 */
START_TEST(user_keeps_its_trigger)
{
	struct kevent got;

	t_add(1, EVFILT_USER, 0);
	trigger(1);
	disable(1, EVFILT_USER);
	t_quiet();
	t_add(1, EVFILT_USER, 0);
	t_none();
	enable(1, EVFILT_USER);
	t_expect(&got, 1, EVFILT_USER);
	t_expect(&got, 1, EVFILT_USER);
	t_add(1, EVFILT_USER, 0);
	t_expect(&got, 1, EVFILT_USER);
	t_add(1, EVFILT_USER, EV_CLEAR);
	t_quiet();
	t_delete(1, EVFILT_USER);

	t_add(1, EVFILT_USER, EV_CLEAR);
	trigger(1);
	t_add(1, EVFILT_USER, 0);
	t_expect(&got, 1, EVFILT_USER);
	t_quiet();
	trigger(1);
	t_expect(&got, 1, EVFILT_USER);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("pending");

	tcase_add_loop_test(tc, read_is_asked_again, 0, 2);
	tcase_add_loop_test(tc, write_is_asked_again, 0, 2);
#ifdef EVFILT_VNODE
	tcase_add_test(tc, vnode_keeps_its_notes);
#endif
#ifdef EVFILT_PROC
	tcase_add_test(tc, proc_keeps_its_notes);
#endif
	tcase_add_test(tc, signal_keeps_its_count);
	tcase_add_test(tc, timer_runs_on_while_disabled);
	tcase_add_test(tc, timer_restarts_with_add);
	tcase_add_test(tc, user_keeps_its_trigger);
	return t_end();
}
