/*
 * The ground under the tests of EVFILT_SIGNAL.
 */
#include <sys/event.h>

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "t_signals_kit.h"

int kq;

void
change(int queue, int signo, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)signo, EVFILT_SIGNAL, flags, 0, 0, NULL);
	ck_assert_int_eq(kevent(queue, &ev, 1, NULL, 0, NULL), 0);
}

void
watch(int signo)
{
	if (kq == -1)
		kq = kqueue();
	ck_assert_int_ne(kq, -1);
	change(kq, signo, EV_ADD);
}

int
look(int queue, int signo, time_t seconds)
{
	struct timespec ts = { .tv_sec = seconds };
	struct kevent ev;
	int n;

	do
		n = kevent(queue, NULL, 0, &ev, 1, &ts);
	while (n == -1 && errno == EINTR);
	ck_assert_int_ge(n, 0);
	if (n == 0)
		return 0;
	ck_assert_uint_eq(ev.ident, (uintptr_t)signo);
	ck_assert_int_eq((short)ev.filter, EVFILT_SIGNAL);
	ck_assert_uint_eq(ev.fflags, 0);
	return (int)ev.data;
}

static int calls; /* of a handler, by any thread */
siginfo_t last;

int
ran(void)
{
	return __atomic_load_n(&calls, __ATOMIC_SEQ_CST);
}

int
run(void)
{
	return __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
}

void
plain_handler(int signo)
{
	(void)signo;
	run();
}

void
info_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)context;
	run();
	last = *info;
}

/* Of whatever thread. */
void
storm_handler(int signo, siginfo_t *info, void *context)
{
	(void)signo;
	(void)info;
	(void)context;
	run();
}

void
handle(int signo, void (*handler)(int, siginfo_t *, void *), int flags)
{
	struct sigaction action = { .sa_sigaction = handler,
		.sa_flags = flags | SA_SIGINFO };

	ck_assert_int_eq(sigaction(signo, &action, NULL), 0);
}

sigset_t
only(int signo)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signo);
	return set;
}

void
mask(int how, int signo)
{
	sigset_t set = only(signo);

	ck_assert_int_eq(sigprocmask(how, &set, NULL), 0);
}

void
send_value(int signo, int value)
{
	ck_assert_int_eq(sigqueue(getpid(), signo,
			     (union sigval){ .sival_int = value }),
	    0);
}

void
check_info(const siginfo_t *info, int value)
{
	ck_assert_int_eq(info->si_code, SI_QUEUE);
	ck_assert_int_eq(info->si_pid, getpid());
	ck_assert_int_eq(info->si_value.sival_int, value);
}

bool
caught_by_kernel(int signo)
{
	char line[256];
	unsigned long long set = 0;
	FILE *f = fopen("/proc/self/status", "r");

	ck_assert_ptr_nonnull(f);
	while (fgets(line, sizeof(line), f) != NULL)
		if (strncmp(line, "SigCgt:", 7) == 0)
			set = strtoull(line + 7, NULL, 16);
	fclose(f);
	return (set >> (signo - 1) & 1) != 0;
}

void
take_one(int signo, int value)
{
	mask(SIG_BLOCK, signo);
	watch(signo);
	send_value(signo, value);
	ck_assert_int_eq(counted(signo), 1);
}

static void
fresh(void)
{
	kq = -1;
}

int
kit_run(const char *name, void (*add)(TCase *))
{
	TCase *tc = unit_begin(name);

	tcase_add_checked_fixture(tc, fresh, NULL);
	tcase_set_timeout(tc, 60);
	add(tc);
	return unit_end();
}
