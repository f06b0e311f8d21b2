/*
 * EVFILT_SIGNAL: what is counted.
 */
#include "signals.h"

#include <sys/time.h>
#include <sys/wait.h>

/* -- what is counted ------------------------------------------------------- */

/* R-SIG-01, R-SIG-03: an ignored signal is counted; the event is complete. */
START_TEST(ignored_is_counted)
{
	int tag, i;
	struct kevent ev;

	handle(SIGUSR1, SIG_IGN, 0);
	t_change(SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, &tag);
	t_none();
	for (i = 0; i < 3; i++)
		send_me(SIGUSR1);
	t_expect(&ev, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_int_eq(ev.data, 3);
	ck_assert_uint_eq(ev.fflags, 0);
	ck_assert_int_eq(ev.flags & T_MODES, EV_CLEAR);
	ck_assert_ptr_eq(ev.udata, &tag);
	t_none();
}
END_TEST

/* R-SIG-01, R-SIG-02: a handled one is counted, and its handler runs. */
START_TEST(handled_is_counted)
{
	int i;

	handle(SIGUSR1, signals_count, 0);
	watch(SIGUSR1);
	for (i = 0; i < 5; i++)
		send_me(SIGUSR1);
	ck_assert_int_eq(handled, 5);
	expect_count(SIGUSR1, 5);
	t_none();
}
END_TEST

/* R-SIG-02: the handler may be installed and replaced while we watch. */
START_TEST(handler_installed_later)
{
	watch(SIGUSR1);
	handle(SIGUSR1, signals_count, 0);
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 1);
	expect_count(SIGUSR1, 1);
	handle(SIGUSR1, SIG_IGN, 0);
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 1);
	expect_count(SIGUSR1, 1);
	ck_assert(signal(SIGUSR1, signals_count) == SIG_IGN);
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 2);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-03: a blocked signal counts when it is sent, not when unblocked. */
START_TEST(blocked_is_counted_once)
{
	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(handled, 0);
	ck_assert(is_pending(SIGUSR1));
	t_none();
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_quiet();
	ck_assert(!is_pending(SIGUSR1));
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 2);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-03: the same where it is blocked after EV_ADD. */
START_TEST(blocked_later_is_counted)
{
	handle(SIGUSR1, signals_count, 0);
	watch(SIGUSR1);
	block(SIG_BLOCK, SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(handled, 0);
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_quiet();
}
END_TEST

/* R-SIG-03: a blocked signal that is ignored, too, is counted. */
START_TEST(blocked_and_ignored_is_counted)
{
	handle(SIGUSR1, SIG_IGN, 0);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	block(SIG_UNBLOCK, SIGUSR1);
	t_quiet();
}
END_TEST

/* R-SIG-03: each of several paced sends to a blocked signal is an event. */
START_TEST(blocked_and_paced)
{
	int i;

	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	for (i = 0; i < 20; i++) {
		send_me(SIGUSR1);
		expect_count(SIGUSR1, 1);
	}
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_quiet();
}
END_TEST

/*
 * R-SIG-05: of several sends to a blocked signal each counts, as far as the
 * kernel keeps them apart: always for real-time signals, at least one else.
 */
START_TEST(burst_to_a_blocked_signal)
{
	int sig = _i == 0 ? SIGRTMIN : SIGUSR1, i;
	int64_t total;
	struct kevent ev;

	need_prompt_handlers();
	handle(sig, signals_count, 0);
	block(SIG_BLOCK, sig);
	watch(sig);
	for (i = 0; i < 3; i++)
		send_me(sig);
	t_expect(&ev, sig, EVFILT_SIGNAL);
	for (total = ev.data; t_get(t_kq, &ev, 1, T_QUIET_MS) == 1;)
		total += ev.data;
	ck_assert_int_le(total, 3);
	ck_assert_int_ge(total, _i == 0 ? 3 : 1);
	block(SIG_UNBLOCK, sig);
	ck_assert_int_eq(handled, _i == 0 ? 3 : 1);
	t_quiet();
}
END_TEST

/* R-SIG-06: raise() and pthread_kill() count as kill() does. */
START_TEST(thread_directed_is_counted)
{
	handle(SIGUSR1, _i == 0 ? signals_count : SIG_IGN, 0);
	watch(SIGUSR1);
	ck_assert_int_eq(raise(SIGUSR1), 0);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(pthread_kill(pthread_self(), SIGUSR1), 0);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(handled, _i == 0 ? 2 : 0);
}
END_TEST

static int thread_pipe[2];

static void *
wait_for_bytes(void *arg)
{
	char c;

	(void)arg;
	while (read(thread_pipe[0], &c, 1) != 1)
		ck_assert_int_eq(errno, EINTR);
	return NULL;
}

/* R-SIG-06: a thread that is older than the knote takes nothing away. */
START_TEST(older_thread_takes_nothing_away)
{
	pthread_t thread;
	int i;

	need_prompt_handlers();
	ck_assert_int_eq(pipe(thread_pipe), 0);
	thread = t_thread(wait_for_bytes, NULL);
	handle(SIGUSR1, signals_count, SA_RESTART);
	watch(SIGUSR1);
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(pthread_kill(thread, SIGUSR1), 0);
		expect_count(SIGUSR1, 1);
	}
	t_until(handled == 10);
	ck_assert_int_eq(write(thread_pipe[1], "x", 1), 1);
	t_join(thread);
}
END_TEST

/* R-SIG-07: every queue counts for itself, and in its own time. */
START_TEST(every_queue_counts)
{
	struct kevent ev;
	int other;

	handle(SIGUSR1, SIG_IGN, 0);
	other = kqueue();
	watch(SIGUSR1);
	send_me(SIGUSR1);
	t_add_on(other, SIGUSR1, EVFILT_SIGNAL, 0);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 2);
	send_me(SIGUSR1);
	t_expect_on(other, &ev, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_int_eq(ev.data, 2);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(close(other), 0);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-07: a blocked signal reaches all of them, too. */
START_TEST(every_queue_counts_a_blocked_one)
{
	struct kevent ev;
	int other;

	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	other = kqueue();
	watch(SIGUSR1);
	t_add_on(other, SIGUSR1, EVFILT_SIGNAL, 0);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	t_expect_on(other, &ev, SIGUSR1, EVFILT_SIGNAL);
	ck_assert_int_eq(ev.data, 1);
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_quiet();
	t_quiet_on(other);
}
END_TEST

/* R-SIG-08: what was sent before EV_ADD is not counted, ... */
START_TEST(earlier_signals_do_not_count)
{
	handle(SIGUSR1, signals_count, 0);
	send_me(SIGUSR1);
	watch(SIGUSR1);
	t_quiet();
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-08: ... nor when it is still pending then. */
START_TEST(earlier_pending_signal_does_not_count)
{
	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	send_me(SIGUSR1);
	watch(SIGUSR1);
	t_quiet();
	ck_assert(is_pending(SIGUSR1));
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_quiet();
}
END_TEST

/* R-SIG-09: what is no signal is refused; every signal is accepted. */
START_TEST(range)
{
	t_fails(EINVAL, 0, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	t_fails(EINVAL, (uintptr_t)SIGRTMAX + 1, EVFILT_SIGNAL, EV_ADD, 0, 0,
	    NULL);
	t_fails(EINVAL, UINTPTR_MAX, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	t_fails(EINVAL, 0x10000 | SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	watch(SIGHUP);
	watch(SIGTERM);
	watch(SIGRTMIN);
	watch(SIGRTMAX);
	t_none();
}
END_TEST

/* R-SIG-01, R-REG-09: what is not watched cannot be changed. */
START_TEST(unknown_signal)
{
	t_fails(ENOENT, SIGUSR1, EVFILT_SIGNAL, EV_DELETE, 0, 0, NULL);
	t_fails(ENOENT, SIGUSR1, EVFILT_SIGNAL, EV_ENABLE, 0, 0, NULL);
}
END_TEST

/* R-SIG-10: a disabled knote goes on counting. */
START_TEST(disabled_goes_on_counting)
{
	handle(SIGUSR1, SIG_IGN, 0);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	t_change(SIGUSR1, EVFILT_SIGNAL, EV_DISABLE, 0, 0, NULL);
	send_me(SIGUSR1);
	send_me(SIGUSR1);
	t_quiet();
	t_change(SIGUSR1, EVFILT_SIGNAL, EV_ENABLE, 0, 0, NULL);
	expect_count(SIGUSR1, 3);
	t_none();
}
END_TEST

/* R-SIG-01, R-REG-13: EV_DELETE forgets the count; a new knote starts at 0. */
START_TEST(deleted_is_forgotten)
{
	handle(SIGUSR1, signals_count, 0);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	t_delete(SIGUSR1, EVFILT_SIGNAL);
	send_me(SIGUSR1);
	t_quiet();
	watch(SIGUSR1);
	t_none();
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	ck_assert_int_eq(handled, 3);
}
END_TEST

/* R-SIG-01, R-MODE-08, R-MODE-10: one-shot and dispatch act as elsewhere. */
START_TEST(modes)
{
	handle(SIGUSR1, SIG_IGN, 0);
	handle(SIGUSR2, SIG_IGN, 0);
	t_add(SIGUSR1, EVFILT_SIGNAL, EV_ONESHOT);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	send_me(SIGUSR1);
	t_none();
	t_fails(ENOENT, SIGUSR1, EVFILT_SIGNAL, EV_DELETE, 0, 0, NULL);

	t_add(SIGUSR2, EVFILT_SIGNAL, EV_DISPATCH);
	send_me(SIGUSR2);
	expect_count(SIGUSR2, 1);
	send_me(SIGUSR2);
	send_me(SIGUSR2);
	t_none();
	t_change(SIGUSR2, EVFILT_SIGNAL, EV_ENABLE, 0, 0, NULL);
	expect_count(SIGUSR2, 2);
}
END_TEST

/* R-SIG-01: two signals are two knotes. */
START_TEST(signals_are_apart)
{
	struct kevent ev[4];
	int first;

	handle(SIGUSR1, SIG_IGN, 0);
	handle(SIGUSR2, signals_count, 0);
	watch(SIGUSR1);
	watch(SIGUSR2);
	send_me(SIGUSR2);
	send_me(SIGUSR1);
	send_me(SIGUSR2);
	ck_assert_int_eq(t_get(t_kq, ev, 4, T_DEADLINE_MS), 2);
	first = ev[0].ident == SIGUSR1;
	ck_assert_uint_eq(ev[!first].ident, SIGUSR1);
	ck_assert_int_eq(ev[!first].data, 1);
	ck_assert_uint_eq(ev[first].ident, SIGUSR2);
	ck_assert_int_eq(ev[first].data, 2);
}
END_TEST

/* R-ORD-01: they come in the order in which they were sent first. */
START_TEST(order_of_signals)
{
	struct kevent ev[4];

	handle(SIGUSR1, signals_count, 0);
	handle(SIGUSR2, signals_count, 0);
	watch(SIGUSR1);
	watch(SIGUSR2);
	send_me(SIGUSR2);
	send_me(SIGUSR1);
	ck_assert_int_eq(t_get(t_kq, ev, 4, T_DEADLINE_MS), 2);
	ck_assert_uint_eq(ev[0].ident, SIGUSR2);
	ck_assert_uint_eq(ev[1].ident, SIGUSR1);
}
END_TEST

/* R-SIG-01: another process's kill() counts, each that is collected. */
START_TEST(sent_by_another_process)
{
	pid_t parent = getpid(), pid;
	int ack[2], i;
	char c;

	handle(SIGUSR1, SIG_IGN, 0);
	watch(SIGUSR1);
	ck_assert_int_eq(pipe(ack), 0);
	pid = fork();
	if (pid == 0) {
		for (i = 0; i < 50; i++)
			if (kill(parent, SIGUSR1) == -1 ||
			    read(ack[0], &c, 1) != 1)
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < 50; i++) {
		expect_count(SIGUSR1, 1);
		ck_assert_int_eq(write(ack[1], "x", 1), 1);
	}
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	t_none();
}
END_TEST

/* R-SIG-04: a child's end is a SIGCHLD, and the child is still waited for. */
START_TEST(sigchld)
{
	int status;
	pid_t pid;

	if (_i == 1)
		handle(SIGCHLD, signals_count, 0);
	watch(SIGCHLD);
	pid = fork();
	if (pid == 0)
		_exit(3);
	expect_count(SIGCHLD, 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 3);
	ck_assert_int_eq(handled, _i);
}
END_TEST

/* R-SIG-04, R-SIG-02: SIG_IGN for SIGCHLD still leaves no zombies. */
START_TEST(sigchld_ignored)
{
	pid_t pid;

	handle(SIGCHLD, SIG_IGN, 0);
	watch(SIGCHLD);
	pid = fork();
	if (pid == 0)
		_exit(3);
	ck_assert_int_eq(waitpid(pid, NULL, 0), -1);
	ck_assert_int_eq(errno, ECHILD);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("signal");

	tcase_add_test(tc, ignored_is_counted);
	tcase_add_test(tc, handled_is_counted);
	tcase_add_test(tc, handler_installed_later);
	tcase_add_test(tc, blocked_is_counted_once);
	tcase_add_test(tc, blocked_later_is_counted);
	tcase_add_test(tc, blocked_and_ignored_is_counted);
	tcase_add_test(tc, blocked_and_paced);
	tcase_add_loop_test(tc, burst_to_a_blocked_signal, 0, 2);
	tcase_add_loop_test(tc, thread_directed_is_counted, 0, 2);
	tcase_add_test(tc, older_thread_takes_nothing_away);
	tcase_add_test(tc, every_queue_counts);
	tcase_add_test(tc, every_queue_counts_a_blocked_one);
	tcase_add_test(tc, earlier_signals_do_not_count);
	tcase_add_test(tc, earlier_pending_signal_does_not_count);
	tcase_add_test(tc, range);
	tcase_add_test(tc, unknown_signal);
	tcase_add_test(tc, disabled_goes_on_counting);
	tcase_add_test(tc, deleted_is_forgotten);
	tcase_add_test(tc, modes);
	tcase_add_test(tc, signals_are_apart);
	tcase_add_test(tc, order_of_signals);
	tcase_add_test(tc, sent_by_another_process);
	tcase_add_loop_test(tc, sigchld, 0, 2);
	tcase_add_test(tc, sigchld_ignored);
	return t_end();
}
