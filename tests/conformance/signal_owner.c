/*
 * EVFILT_SIGNAL: it observes and does not take.  Handlers, masks, default
 * actions, sigwait(2) and new programs are as if nobody watched.
 */
#include "signals.h"

#include <poll.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/wait.h>

#ifdef __linux__
#include <sys/signalfd.h>
#endif

extern char **environ;

/* -- what the program sees ------------------------------------------------- */

/* R-SIG-02: sigaction() shows the program what it installed itself. */
START_TEST(disposition_is_the_programs_own)
{
	struct sigaction sa, old;

	watch(SIGUSR1);
	ck_assert(disposition(SIGUSR1).sa_handler == SIG_DFL);

	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = signals_count_info;
	sa.sa_flags = SA_SIGINFO | SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	ck_assert_int_eq(sigaction(SIGUSR1, &sa, &old), 0);
	ck_assert(old.sa_handler == SIG_DFL);
	old = disposition(SIGUSR1);
	ck_assert(old.sa_sigaction == signals_count_info);
	ck_assert_int_eq(old.sa_flags &
		(SA_SIGINFO | SA_NODEFER | SA_RESTART | SA_RESETHAND |
		    SA_ONSTACK),
	    SA_SIGINFO | SA_NODEFER);
	ck_assert_int_eq(sigismember(&old.sa_mask, SIGUSR2), 1);
	ck_assert_int_eq(sigismember(&old.sa_mask, SIGHUP), 0);

	t_delete(SIGUSR1, EVFILT_SIGNAL);
	ck_assert(disposition(SIGUSR1).sa_sigaction == signals_count_info);
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 1);
	watch(SIGUSR1);
	ck_assert(disposition(SIGUSR1).sa_sigaction == signals_count_info);
	ck_assert(signal(SIGUSR1, SIG_IGN) != SIG_ERR);
	ck_assert(disposition(SIGUSR1).sa_handler == SIG_IGN);
	ck_assert(signal(SIGUSR1, SIG_DFL) == SIG_IGN);
	ck_assert(disposition(SIGUSR1).sa_handler == SIG_DFL);
}
END_TEST

/* R-SIG-02: errors of sigaction() are as ever. */
START_TEST(sigaction_errors)
{
	struct sigaction sa = disposition(SIGUSR1);

	watch(SIGUSR1);
	ck_assert_int_eq(sigaction(SIGKILL, &sa, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(sigaction(1000, &sa, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert(signal(1000, signals_count) == SIG_ERR);
}
END_TEST

/* R-SIG-02: the handler is told who sent, how, and with which value. */
START_TEST(handler_gets_its_siginfo)
{
	union sigval value = { .sival_int = 4711 };
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_sigaction = signals_count_info;
	sa.sa_flags = SA_SIGINFO;
	ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
	if (_i == 1)
		block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	ck_assert_int_eq(sigqueue(getpid(), SIGUSR1, value), 0);
	expect_count(SIGUSR1, 1);
	if (_i == 1)
		block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	ck_assert_int_eq(handled_value, 4711);
	ck_assert_int_eq(handled_code, SI_QUEUE);
	t_quiet();
}
END_TEST

static volatile sig_atomic_t usr2_was_blocked, usr1_was_blocked;

static void
look_at_mask(int sig)
{
	sigset_t set;

	(void)sig;
	pthread_sigmask(SIG_BLOCK, NULL, &set);
	usr1_was_blocked = sigismember(&set, SIGUSR1);
	usr2_was_blocked = sigismember(&set, SIGUSR2);
}

/* R-SIG-02: sa_mask and SA_NODEFER hold while the handler runs. */
START_TEST(handler_runs_with_its_mask)
{
	struct sigaction sa;

	need_prompt_handlers();
	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = look_at_mask;
	sa.sa_flags = _i == 0 ? 0 : SA_NODEFER;
	sigemptyset(&sa.sa_mask);
	sigaddset(&sa.sa_mask, SIGUSR2);
	ck_assert_int_eq(sigaction(SIGUSR1, &sa, NULL), 0);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	ck_assert_int_eq(usr2_was_blocked, 1);
	ck_assert_int_eq(usr1_was_blocked, _i == 0);
	expect_count(SIGUSR1, 1);
	look_at_mask(0);
	ck_assert_int_eq(usr1_was_blocked, 0);
	ck_assert_int_eq(usr2_was_blocked, 0);
}
END_TEST

static uintptr_t stack_seen;

static void
look_at_stack(int sig)
{
	char here;

	(void)sig;
	stack_seen = (uintptr_t)&here;
}

/* R-SIG-02: SA_ONSTACK holds. */
START_TEST(handler_runs_on_its_stack)
{
	static char room[65536];
	stack_t stack = { .ss_sp = room, .ss_size = sizeof(room) };

	ck_assert_int_eq(sigaltstack(&stack, NULL), 0);
	handle(SIGUSR1, look_at_stack, SA_ONSTACK);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	ck_assert(stack_seen - (uintptr_t)room < sizeof(room));
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-02: SA_RESETHAND: the handler runs once, then SIG_DFL is back. */
START_TEST(handler_that_runs_once)
{
	handle(SIGCONT, signals_count, (int)SA_RESETHAND);
	watch(SIGCONT);
	send_me(SIGCONT);
	ck_assert_int_eq(handled, 1);
	ck_assert(disposition(SIGCONT).sa_handler == SIG_DFL);
	expect_count(SIGCONT, 1);
	send_me(SIGCONT);
	ck_assert_int_eq(handled, 1);
	expect_count(SIGCONT, 1);
}
END_TEST

static int feed[2];

static void
feed_reader(int sig)
{
	(void)sig;
	handled++;
	if (write(feed[1], "x", 1) != 1)
		abort();
}

/* R-SIG-02: a handler without SA_RESTART ends read(), with it not. */
START_TEST(handler_interrupts_read_as_asked)
{
	struct itimerval soon = { { 0, 0 }, { 0, 10000 } };
	ssize_t n;
	char c;

	need_prompt_handlers();
	ck_assert_int_eq(pipe(feed), 0);
	handle(SIGALRM, feed_reader, _i == 0 ? 0 : SA_RESTART);
	watch(SIGALRM);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
	n = read(feed[0], &c, 1);
	if (_i == 0) {
		ck_assert_int_eq(n, -1);
		ck_assert_int_eq(errno, EINTR);
	} else {
		ck_assert_int_eq(n, 1);
	}
	ck_assert_int_eq(handled, 1);
	expect_count(SIGALRM, 1);
}
END_TEST

static void *
disturb_then_feed(void *arg)
{
	int i;

	(void)arg;
	for (i = 0; i < 5; i++) {
		t_pause(2);
		send_me(SIGUSR1);
	}
	if (write(feed[1], "x", 1) != 1)
		abort();
	return NULL;
}

/* R-SIG-02: an ignored signal does not end a read(). */
START_TEST(ignored_does_not_interrupt_read)
{
	pthread_t thread;
	char c;

	ck_assert_int_eq(pipe(feed), 0);
	handle(SIGUSR1, SIG_IGN, 0);
	watch(SIGUSR1);
	thread = t_thread(disturb_then_feed, NULL);
	ck_assert_int_eq(read(feed[0], &c, 1), 1);
	t_join(thread);
}
END_TEST

/* R-SIG-02, R-CALL-20: nor a kevent() of a queue that does not watch it. */
START_TEST(ignored_does_not_interrupt_kevent)
{
	pthread_t thread;
	struct kevent ev;
	int other;

	ck_assert_int_eq(pipe(feed), 0);
	other = kqueue();
	t_add_on(other, feed[0], EVFILT_READ, 0);
	handle(SIGUSR1, SIG_IGN, 0);
	watch(SIGUSR1);
	thread = t_thread(disturb_then_feed, NULL);
	t_expect_on(other, &ev, feed[0], EVFILT_READ);
	t_join(thread);
}
END_TEST

/* R-SIG-11: kevent() may end with EINTR then; the event is not lost. */
START_TEST(waiting_kevent_gets_the_signal)
{
	struct itimerval soon = { { 0, 0 }, { 0, 10000 } };
	struct kevent ev;
	int n, i;

	handle(SIGALRM, signals_count, _i == 0 ? 0 : SA_RESTART);
	watch(SIGALRM);
	for (i = 1; i <= 5; i++) {
		ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
		n = t_wait(&ev);
		if (n == -1) {
			ck_assert_int_eq(errno, EINTR);
			n = t_wait(&ev);
		}
		ck_assert_int_eq(n, 1);
		ck_assert_uint_eq(ev.ident, SIGALRM);
		ck_assert_int_eq(ev.data, 1);
		ck_assert_int_eq(handled, i);
	}
}
END_TEST

/* R-SIG-11: ... and an ignored one ends the wait with the event alone. */
START_TEST(waiting_kevent_gets_an_ignored_signal)
{
	struct itimerval soon = { { 0, 0 }, { 0, 10000 } };
	int i;

	handle(SIGALRM, SIG_IGN, 0);
	if (_i == 1)
		block(SIG_BLOCK, SIGALRM);
	watch(SIGALRM);
	for (i = 1; i <= 5; i++) {
		ck_assert_int_eq(setitimer(ITIMER_REAL, &soon, NULL), 0);
		expect_count(SIGALRM, 1);
	}
}
END_TEST

/* -- blocked signals stay the program's ------------------------------------ */

/* R-SIG-02, R-SIG-12: sigwait() still gets a blocked signal, ... */
START_TEST(sigwait_gets_it)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	if (_i == 0)
		expect_count(SIGUSR1, 1);
	ck_assert_int_eq(sigwait(&set, &sig), 0);
	ck_assert_int_eq(sig, SIGUSR1);
	if (_i == 1)
		expect_count(SIGUSR1, 1);
	ck_assert(!is_pending(SIGUSR1));
	t_quiet();
}
END_TEST

/* R-SIG-02: ... sigtimedwait() and sigwaitinfo() with what came with it, ... */
START_TEST(sigtimedwait_gets_it)
{
	union sigval value = { .sival_int = 99 };
	struct timespec limit = { 5, 0 }, none = { 0, 0 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	ck_assert_int_eq(sigtimedwait(&set, &info, &none), -1);
	ck_assert_int_eq(errno, EAGAIN);
	ck_assert_int_eq(sigqueue(getpid(), SIGUSR1, value), 0);
	expect_count(SIGUSR1, 1);
	if (_i == 0)
		ck_assert_int_eq(sigtimedwait(&set, &info, &limit), SIGUSR1);
	else
		ck_assert_int_eq(sigwaitinfo(&set, &info), SIGUSR1);
	ck_assert_int_eq(info.si_signo, SIGUSR1);
	ck_assert_int_eq(info.si_code, SI_QUEUE);
	ck_assert_int_eq(info.si_value.sival_int, 99);
	ck_assert_int_eq(info.si_pid, getpid());
	ck_assert_int_eq(sigtimedwait(&set, &info, &none), -1);
}
END_TEST

/* R-SIG-02: ... sigsuspend() delivers it, ... */
START_TEST(sigsuspend_gets_it)
{
	sigset_t none;

	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	sigemptyset(&none);
	ck_assert_int_eq(sigsuspend(&none), -1);
	ck_assert_int_eq(errno, EINTR);
	ck_assert_int_eq(handled, 1);
	t_quiet();
}
END_TEST

static void *
wait_for_usr1(void *arg)
{
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ck_assert_int_eq(sigwait(&set, &sig), 0);
	*(int *)arg = sig;
	return NULL;
}

/* R-SIG-02: ... a thread that waits in sigwait() already gets it, too. */
START_TEST(waiting_sigwait_gets_it)
{
	pthread_t thread;
	int sig = 0;

	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	thread = t_thread(wait_for_usr1, &sig);
	t_pause(10);
	send_me(SIGUSR1);
	t_join(thread);
	ck_assert_int_eq(sig, SIGUSR1);
}
END_TEST

/* R-SIG-02: queued real-time signals keep their number, order and values. */
START_TEST(queued_signals_stay_queued)
{
	struct timespec none = { 0, 0 };
	struct kevent ev;
	union sigval value;
	siginfo_t info;
	sigset_t set;
	int i;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	block(SIG_BLOCK, SIGRTMIN);
	watch(SIGRTMIN);
	for (i = 1; i <= 3; i++) {
		value.sival_int = i;
		ck_assert_int_eq(sigqueue(getpid(), SIGRTMIN, value), 0);
	}
	t_expect(&ev, SIGRTMIN, EVFILT_SIGNAL);
	ck_assert_int_ge(ev.data, 1);
	for (i = 1; i <= 3; i++) {
		ck_assert_int_eq(sigtimedwait(&set, &info, &none), SIGRTMIN);
		ck_assert_int_eq(info.si_value.sival_int, i);
	}
	ck_assert_int_eq(sigtimedwait(&set, &info, &none), -1);
}
END_TEST

#ifdef __linux__
/* R-SIG-02: ... and so does the program's own signalfd(). */
START_TEST(signalfd_gets_it)
{
	struct signalfd_siginfo info;
	struct pollfd p;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	block(SIG_BLOCK, SIGUSR1);
	if (_i == 0)
		watch(SIGUSR1);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	if (_i == 1)
		watch(SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	p = (struct pollfd){ .fd = fd, .events = POLLIN };
	ck_assert_int_eq(poll(&p, 1, T_DEADLINE_MS), 1);
	ck_assert_int_eq(read(fd, &info, sizeof(info)), sizeof(info));
	ck_assert_uint_eq(info.ssi_signo, SIGUSR1);
	ck_assert_int_eq(read(fd, &info, sizeof(info)), -1);
	t_quiet();
}
END_TEST
#endif

/* -- default actions ------------------------------------------------------- */

/* How a child that runs body ended, as wait(2) encodes it. */
static int
status_of(void (*body)(void))
{
	int status;
	pid_t pid;

	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		body();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static int fatal;

static void
die_watched(void)
{
	signal(fatal, SIG_DFL);
	t_kq = kqueue();
	watch(fatal);
	send_me(fatal);
	t_quiet();
}

/* R-SIG-02: what kills by default, kills. */
START_TEST(default_action_kills)
{
	static const int signals[] = { SIGTERM, SIGUSR1, SIGINT, SIGHUP,
		SIGALRM, SIGPIPE };
	int status;

	fatal = signals[_i];
	status = status_of(die_watched);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), fatal);
}
END_TEST

static void
die_unblocked(void)
{
	signal(SIGTERM, SIG_DFL);
	t_kq = kqueue();
	block(SIG_BLOCK, SIGTERM);
	watch(SIGTERM);
	send_me(SIGTERM);
	expect_count(SIGTERM, 1);
	block(SIG_UNBLOCK, SIGTERM);
}

/* R-SIG-02: also when it was blocked and has been reported. */
START_TEST(unblocked_default_action_kills)
{
	int status = status_of(die_unblocked);

	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGTERM);
}
END_TEST

static void
die_in_child(void)
{
	signal(SIGUSR1, SIG_DFL);
	send_me(SIGUSR1);
}

/* R-SIG-02: a forked child has the program's dispositions, not ours. */
START_TEST(child_has_the_programs_dispositions)
{
	int status;

	watch(SIGUSR1);
	handle(SIGUSR2, SIG_IGN, 0);
	watch(SIGUSR2);
	status = status_of(die_in_child);
	ck_assert(WIFSIGNALED(status));
	ck_assert_int_eq(WTERMSIG(status), SIGUSR1);
	t_quiet();
}
END_TEST

/* R-SIG-02: what stops by default, stops; then it is counted. */
START_TEST(default_action_stops)
{
	int status;
	pid_t pid;

	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		setpgid(0, 0);
		t_kq = kqueue();
		watch(SIGTSTP);
		send_me(SIGTSTP);
		expect_count(SIGTSTP, 1);
		_exit(5);
	}
	/* An orphaned group would not be stopped; ours is our child's. */
	setpgid(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	ck_assert_int_eq(WSTOPSIG(status), SIGTSTP);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status));
	ck_assert_int_eq(WEXITSTATUS(status), 5);
}
END_TEST

/* -- what other programs inherit ------------------------------------------- */

/* Sends itself SIGUSR1, and exits with 7 if that is survived. */
static char *const suicide[] = { (char[]){ "sh" }, (char[]){ "-c" },
	(char[]){ "kill -USR1 $$; exit 7" }, NULL };

enum {
	BY_FORK_EXEC,
	BY_POSIX_SPAWN,
	BY_POSIX_SPAWNP,
	BY_SYSTEM,
	BY_POPEN,
	BY_VFORK,
	WAYS
};

/* How that program ended, started in one of the ways. */
static int
started(int way)
{
	int status = -1;
	pid_t pid = -1;
	FILE *pipe;

	switch (way) {
	case BY_FORK_EXEC:
		pid = fork();
		if (pid == 0) {
			execv("/bin/sh", suicide);
			_exit(99);
		}
		break;
	case BY_POSIX_SPAWN:
		ck_assert_int_eq(posix_spawn(&pid, "/bin/sh", NULL, NULL,
				     suicide, environ),
		    0);
		break;
	case BY_POSIX_SPAWNP:
		ck_assert_int_eq(posix_spawnp(&pid, "sh", NULL, NULL, suicide,
				     environ),
		    0);
		break;
	case BY_SYSTEM:
		return system("kill -USR1 $$; exit 7");
	case BY_POPEN:
		pipe = popen("kill -USR1 $$; exit 7", "r");
		ck_assert_ptr_nonnull(pipe);
		return pclose(pipe);
	default:
		pid = vfork();
		if (pid == 0) {
			execv("/bin/sh", suicide);
			_exit(99);
		}
	}
	ck_assert_int_gt(pid, 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	return status;
}

/* R-SIG-02: SIG_IGN is inherited by a new program. */
START_TEST(ignored_stays_ignored_in_a_new_program)
{
	int status;

	handle(SIGUSR1, SIG_IGN, 0);
	watch(SIGUSR1);
	status = started(_i);
	ck_assert_msg(WIFEXITED(status), "killed by %d", WTERMSIG(status));
	ck_assert_int_eq(WEXITSTATUS(status), 7);
	ck_assert(disposition(SIGUSR1).sa_handler == SIG_IGN);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-02: SIG_DFL and a handler are SIG_DFL there. */
START_TEST(default_stays_default_in_a_new_program)
{
	int status;

	if (_i % 2 == 1)
		handle(SIGUSR1, signals_count, 0);
	watch(SIGUSR1);
	status = started(_i / 2);
	ck_assert_msg(WIFSIGNALED(status), "exited %d", WEXITSTATUS(status));
	ck_assert_int_eq(WTERMSIG(status), SIGUSR1);
	ck_assert_int_eq(handled, 0);
}
END_TEST

/* R-SIG-02: a blocked signal is blocked there, and was not sent to it. */
START_TEST(mask_is_inherited_as_it_is)
{
	int status;

	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	status = started(_i);
	ck_assert_msg(WIFEXITED(status), "killed by %d", WTERMSIG(status));
	ck_assert_int_eq(WEXITSTATUS(status), 7);
	ck_assert(!is_pending(SIGUSR1));
	t_quiet();
}
END_TEST

/* -- the end of a queue ---------------------------------------------------- */

/* R-SIG-02, R-FD-10: after close(kq) all is as it was before. */
START_TEST(closing_the_queue_restores)
{
	handle(SIGUSR1, signals_count, 0);
	watch(SIGUSR1);
	ck_assert_int_eq(close(t_kq), 0);
	send_me(SIGUSR1);
	ck_assert_int_eq(handled, 1);
	ck_assert(disposition(SIGUSR1).sa_handler == signals_count);
	t_kq = kqueue();
	watch(SIGUSR1);
	t_none();
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
}
END_TEST

/* R-SIG-02, R-FD-10: a signal that pends then still pends afterwards. */
START_TEST(closing_the_queue_leaves_what_pends)
{
	handle(SIGUSR1, signals_count, 0);
	block(SIG_BLOCK, SIGUSR1);
	watch(SIGUSR1);
	send_me(SIGUSR1);
	expect_count(SIGUSR1, 1);
	if (_i == 0)
		ck_assert_int_eq(close(t_kq), 0);
	else
		t_delete(SIGUSR1, EVFILT_SIGNAL);
	ck_assert(is_pending(SIGUSR1));
	block(SIG_UNBLOCK, SIGUSR1);
	ck_assert_int_eq(handled, 1);
	t_kq = _i == 0 ? kqueue() : t_kq;
}
END_TEST

static void *
storm(void *arg)
{
	int i;

	for (i = 0; i < 2000; i++)
		pthread_kill(*(pthread_t *)arg, SIGUSR1);
	return NULL;
}

/* R-SIG-02, R-SIG-11: changes and waits go on under a storm of signals. */
START_TEST(storm_of_signals)
{
	pthread_t self = pthread_self(), thread;
	struct kevent ev;
	int64_t total = 0;
	int i;

	need_prompt_handlers();
	handle(SIGUSR1, signals_count, SA_RESTART);
	watch(SIGUSR1);
	thread = t_thread(storm, &self);
	for (i = 0; i < 2000; i++) {
		t_change(1, EVFILT_USER, EV_ADD, 0, 0, NULL);
		if (t_poll(&ev) == 1)
			total += ev.data;
		t_delete(1, EVFILT_USER);
	}
	t_join(thread);
	while (t_poll(&ev) == 1)
		total += ev.data;
	ck_assert_int_eq(total, handled);
	ck_assert_int_gt(total, 0);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("signal_owner");

	tcase_add_test(tc, disposition_is_the_programs_own);
	tcase_add_test(tc, sigaction_errors);
	tcase_add_loop_test(tc, handler_gets_its_siginfo, 0, 2);
	tcase_add_loop_test(tc, handler_runs_with_its_mask, 0, 2);
	tcase_add_test(tc, handler_runs_on_its_stack);
	tcase_add_test(tc, handler_that_runs_once);
	tcase_add_loop_test(tc, handler_interrupts_read_as_asked, 0, 2);
	tcase_add_test(tc, ignored_does_not_interrupt_read);
	tcase_add_test(tc, ignored_does_not_interrupt_kevent);
	tcase_add_loop_test(tc, waiting_kevent_gets_the_signal, 0, 2);
	tcase_add_loop_test(tc, waiting_kevent_gets_an_ignored_signal, 0, 2);

	tcase_add_loop_test(tc, sigwait_gets_it, 0, 2);
	tcase_add_loop_test(tc, sigtimedwait_gets_it, 0, 2);
	tcase_add_test(tc, sigsuspend_gets_it);
	tcase_add_test(tc, waiting_sigwait_gets_it);
	tcase_add_test(tc, queued_signals_stay_queued);
#ifdef __linux__
	tcase_add_loop_test(tc, signalfd_gets_it, 0, 2);
#endif

	tcase_add_loop_test(tc, default_action_kills, 0, 6);
	tcase_add_test(tc, unblocked_default_action_kills);
	tcase_add_test(tc, child_has_the_programs_dispositions);
	tcase_add_test(tc, default_action_stops);

	tcase_add_loop_test(tc, ignored_stays_ignored_in_a_new_program, 0,
	    WAYS);
	tcase_add_loop_test(tc, default_stays_default_in_a_new_program, 0,
	    2 * WAYS);
	tcase_add_loop_test(tc, mask_is_inherited_as_it_is, 0, WAYS);

	tcase_add_test(tc, closing_the_queue_restores);
	tcase_add_loop_test(tc, closing_the_queue_leaves_what_pends, 0, 2);
	tcase_add_test(tc, storm_of_signals);
	return t_end();
}
