/*
 * The ground under the stress tests.
 */
#include "t_stress_kit.h"

#include <sys/time.h>

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/*
 * ThreadSanitizer takes a descriptor for memory that close() and whatever opens
 * one write to.  Here threads use numbers that others close, on purpose; none
 * of these calls touches memory of the library's.
 */
const char *__tsan_default_suppressions(void);
const char *
__tsan_default_suppressions(void)
{
	return "race_top:__interceptor_close\nrace_top:__interceptor_dup\n"
	       "race_top:__interceptor_socketpair\n"
	       "race_top:__interceptor_pipe\nrace_top:__interceptor_eventfd\n"
	       "race_top:__interceptor_epoll_create\n"
	       "race_top:__interceptor_epoll_ctl\n";
}

int seconds = 10;
int queues[QUEUES];
uint32_t alarms;
static bool stop;

const unsigned short modes[MODES] = { 0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH,
	EV_CLEAR | EV_DISPATCH };

bool
stopped(void)
{
	return __atomic_load_n(&stop, __ATOMIC_SEQ_CST);
}

void
stop_all(void)
{
	__atomic_store_n(&stop, true, __ATOMIC_SEQ_CST);
}

static void
setup(void)
{
	struct kevent ev;
	int i;

	for (i = 0; i < QUEUES; i++) {
		queues[i] = kqueue();
		ck_assert_int_ne(queues[i], -1);
		EV_SET(&ev, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
		ck_assert_int_eq(kevent(queues[i], &ev, 1, NULL, 0, NULL), 0);
	}
	signal(SIGUSR1, SIG_IGN);
	stop = false;
}

/* kevent() in a handler, whatever the thread is just doing. */
static void
on_alarm(int signo)
{
	int saved = errno, r;
	struct kevent ev;

	(void)signo;
	EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	r = kevent(queues[__atomic_add_fetch(&alarms, 1, __ATOMIC_SEQ_CST) %
		       QUEUES],
	    &ev, 1, NULL, 0, NULL);
	if (r == -1 && errno != ENOMEM)
		abort();
	errno = saved;
}

void
storm(long usec)
{
	struct itimerval it = { .it_interval.tv_usec = usec,
		.it_value.tv_usec = usec };
	struct sigaction action = { .sa_handler = on_alarm };

	ck_assert_int_eq(sigaction(SIGALRM, &action, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &it, NULL), 0);
}

double
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

void
pass(double length)
{
	const struct timespec time = { .tv_sec = (time_t)length,
		.tv_nsec = (long)((length - (time_t)length) * 1e9) };
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	nanosleep(&time, NULL);
	stop_all();
}

void
start(pthread_t *thread, void *(*function)(void *), void *arg)
{
	ck_assert_int_eq(pthread_create(thread, NULL, function, arg), 0);
}

void
join(pthread_t thread)
{
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

int
stress_run(const char *name, void (*add)(TCase *))
{
	const char *asked = getenv("KQ_STRESS_S");
	const char *preload = getenv("LD_PRELOAD");
	TCase *tc = unit_begin(name);

	if (preload != NULL && strstr(preload, "vgpreload") != NULL)
		seconds = 3;
	if (asked != NULL)
		seconds = atoi(asked);
	tcase_add_checked_fixture(tc, setup, NULL);
	/* Under a sanitizer, and beside other work, all takes longer. */
	tcase_set_timeout(tc,
	    (4 * seconds + 2 * DEADLINE_S) *
		(getenv("KQUAY_SANITIZE") != NULL ? 4 : 1));
	add(tc);
	return unit_end();
}
