/*
 * SIGNAL: caught, ignored and blocked ones (R-SIG-01 to 03, 05, 08, 10).
 */
#include <signal.h>
#include <unistd.h>

#include "model.h"

static const int signos[] = { SIGUSR1, SIGUSR2 };

static struct watched {
	int signo;
	bool blocked, waits; /* blocked and sent: it is pending */
	int64_t sent;        /* and not returned: more there cannot be */
	int64_t sure;        /* since the last return: fewer there cannot be */
	struct knote knote;
} watched[COUNT(signos)];

static enum truth
signal_truth(const struct knote *k)
{
	const struct watched *w = k->k_of;

	if (w->sent == 0)
		return NO;
	return w->sure > 0 ? YES : MAYBE;
}

static void
signal_check(struct knote *k, const struct kevent *ev)
{
	struct watched *w = k->k_of;
	int64_t least = w->sure > 0 ? w->sure : 1;

	if (k->k_forced)
		least = 0;
	if (ev->data < least || ev->data > w->sent || ev->fflags != 0)
		fail("signal: data %jd of %jd to %jd", (intmax_t)ev->data,
		    (intmax_t)least, (intmax_t)w->sent);
	w->sent -= ev->data;
	w->sure = 0;
}

static const struct kind kind_signal = { EVFILT_SIGNAL, EV_CLEAR, 0, STATE,
	false, signal_truth, signal_check };

static void
caught(int signo)
{
	(void)signo;
}

static void
mask(struct watched *w, int how)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, w->signo);
	sigprocmask(how, &set, NULL);
	w->blocked = how == SIG_BLOCK;
	if (!w->blocked)
		w->waits = false;
}

/*
 * One that is pending already may merge with it (R-SIG-05); a blocked one may
 * be counted after those that were not are returned.
 */
static void
send_signal(struct watched *w)
{
	kill(getpid(), w->signo);
	w->sent++;
	if (!w->blocked || (w->sure == 0 && !w->waits))
		w->sure++;
	w->waits = w->blocked;
}

static void
change_signal(struct watched *w)
{
	if (change(&w->knote, choose_flags(), 0, 0, 0) == ADDED)
		w->sent = w->sure = 0;
}

static void
signal_operate(void)
{
	struct watched *w = &watched[choose(COUNT(signos))];

	unsigned int what = choose(10);

	say("signal: %u of %d", what, w->signo);
	switch (what) {
	case 0:
	case 1:
	case 2:
		change_signal(w);
		break;
	case 3:
	case 4:
	case 5:
	case 6:
		send_signal(w);
		break;
	case 7:
		signal(w->signo, w->waits || choose(2) == 0 ? caught : SIG_IGN);
		break;
	case 8:
		mask(w, SIG_BLOCK);
		break;
	case 9:
		mask(w, SIG_UNBLOCK);
		break;
	}
}

static void
signal_open(void)
{
	struct watched *w;

	for (w = watched; w < watched + COUNT(signos); w++) {
		*w = (struct watched){ .signo = signos[w - watched] };
		signal(w->signo, caught);
		know(&w->knote, &kind_signal, kq, (uintptr_t)w->signo, w);
	}
}

static void
signal_close(void)
{
	struct watched *w;

	for (w = watched; w < watched + COUNT(signos); w++)
		mask(w, SIG_UNBLOCK);
}

const struct part part_signal = { signal_open, signal_operate, signal_close,
	NULL };
