/*
 * Sending, handling and blocking signals.
 */
#include "signals.h"

volatile sig_atomic_t handled, handled_value, handled_code;

void
signals_count(int sig)
{
	(void)sig;
	handled++;
}

void
signals_count_info(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	handled++;
	handled_value = info->si_value.sival_int;
	handled_code = info->si_code;
}

void
handle(int sig, void (*handler)(int), int flags)
{
	struct sigaction sa;

	memset(&sa, 0, sizeof(sa));
	sa.sa_handler = handler;
	sa.sa_flags = flags;
	sigemptyset(&sa.sa_mask);
	ck_assert_int_eq(sigaction(sig, &sa, NULL), 0);
}

struct sigaction
disposition(int sig)
{
	struct sigaction sa;

	ck_assert_int_eq(sigaction(sig, NULL, &sa), 0);
	return sa;
}

void
block(int how, int sig)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, sig);
	ck_assert_int_eq(pthread_sigmask(how, &set, NULL), 0);
}

bool
is_pending(int sig)
{
	sigset_t set;

	ck_assert_int_eq(sigpending(&set), 0);
	return sigismember(&set, sig) == 1;
}

void
send_me(int sig)
{
	ck_assert_int_eq(kill(getpid(), sig), 0);
}

void
watch(int sig)
{
	t_add((uintptr_t)sig, EVFILT_SIGNAL, 0);
}
