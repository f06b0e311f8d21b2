/*
 * Signals.  EVFILT_SIGNAL observes and does not take: the default action of
 * SIGTERM would still end the process.  So while a loop exists, SIGTERM,
 * SIGINT and SIGPIPE have a handler that does nothing, where they had their
 * default.  Not SIG_IGN, which a program started with exec(3) would inherit.
 * What the program ignores or handles itself is left alone.
 *
 * The dispositions belong to the process: the first of several loops sets
 * them, the last puts them back.
 */
#include "server.h"

#include <signal.h>

static const int caught[] = { SIGTERM, SIGINT, SIGPIPE };
enum { NCAUGHT = sizeof(caught) / sizeof(caught[0]) };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned holders; /* under lock */
static unsigned ours;    /* bit per signal that has our handler */

static void
nothing(int sig)
{
	(void)sig;
}

static void
set(unsigned i, void (*handler)(int))
{
	struct sigaction sa = { .sa_flags = SA_RESTART };

	sigemptyset(&sa.sa_mask);
	sa.sa_handler = handler;
	sigaction(caught[i], &sa, NULL);
}

static void
let_go(void)
{
	struct sigaction now;
	unsigned i;

	pthread_mutex_lock(&lock);
	if (--holders == 0) {
		for (i = 0; i < NCAUGHT; i++)
			if ((ours & 1u << i) &&
			    sigaction(caught[i], NULL, &now) == 0 &&
			    now.sa_handler == nothing)
				set(i, SIG_DFL);
		ours = 0;
	}
	pthread_mutex_unlock(&lock);
}

/* Let SIGTERM and SIGINT stop q.  0, or -1 with errno and nothing changed. */
int
kquay_signal_hold(struct kquay *q)
{
	struct sigaction old;
	struct kevent ev;
	unsigned i;

	pthread_mutex_lock(&lock);
	for (i = 0; i < NCAUGHT && holders == 0; i++)
		if (sigaction(caught[i], NULL, &old) == 0 &&
		    !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_DFL) {
			set(i, nothing);
			ours |= 1u << i;
		}
	holders++;
	pthread_mutex_unlock(&lock);

	for (i = 0; i < 2; i++) {
		/* As of one started with nohup(1) or in the background. */
		if (sigaction(caught[i], NULL, &old) == 0 &&
		    !(old.sa_flags & SA_SIGINFO) && old.sa_handler == SIG_IGN)
			continue;
		EV_SET(&ev, caught[i], EVFILT_SIGNAL, EV_ADD, 0, 0,
		    (void *)(uintptr_t)TAG_SIGNAL);
		if (kquay_loop_apply(q, &ev) == -1) {
			let_go();
			return -1;
		}
	}
	q->signals = 1;
	return 0;
}

void
kquay_signal_release(struct kquay *q)
{
	if (q->signals)
		let_go();
	q->signals = 0;
}
