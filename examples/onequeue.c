/*
 * onequeue: one queue for everything.  A descriptor, a timer, a signal and
 * another thread's message, all awaited in a single kevent() call.
 *
 *	onequeue [milliseconds]		type lines, kill -USR1 it, end with ^D
 *
 * What needs a self-pipe, a signal handler, a timer wheel and a mutex
 * elsewhere is four entries of one change list here.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <err.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICK = 1, WORK = 2 }; /* our own numbers for timer and message */

static int kq;

/*
 * The worker: computes something slowly and tells the queue when it is done.
 * EVFILT_USER carries 24 bits; the rest is memory that both may see.
 */
static void *
work(void *arg)
{
	struct kevent ev;
	unsigned int *answer = arg;
	unsigned int n;

	*answer = 0;
	for (n = 1; n <= 1000; n++)
		*answer += n;
	EV_SET(&ev, WORK, EVFILT_USER, 0, NOTE_TRIGGER | NOTE_FFCOPY | 42, 0,
	    answer);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		err(1, "kevent");
	return NULL;
}

/* Print what was typed; 0 at the end of the input. */
static int
got_input(const struct kevent *ev)
{
	char buf[512];
	ssize_t n;

	n = read((int)ev->ident, buf, sizeof(buf));
	if (n == -1)
		return errno == EINTR || errno == EAGAIN;
	if (n > 0)
		printf("input: %.*s%s", (int)n, buf,
		    buf[n - 1] == '\n' ? "" : "\n");
	return n > 0;
}

/* 0 when it is time to go. */
static int
got_event(const struct kevent *ev)
{
	switch (ev->filter) {
	case EVFILT_READ:
		return got_input(ev);
	case EVFILT_TIMER:
		/* data: how often it has expired since the last report */
		printf("timer: %" PRId64 "\n", (int64_t)ev->data);
		return 1;
	case EVFILT_SIGNAL:
		printf("signal: %s, %" PRId64 "\n", strsignal((int)ev->ident),
		    (int64_t)ev->data);
		return ev->ident == SIGUSR1;
	case EVFILT_USER:
		printf("worker: %u, note %u\n", *(unsigned int *)ev->udata,
		    ev->fflags);
		return 1;
	}
	return 1;
}

int
main(int argc, char *argv[])
{
	struct kevent ev[5];
	unsigned int answer;
	pthread_t thread;
	int i, n, period;

	setvbuf(stdout, NULL, _IOLBF, 0);
	period = argc > 1 ? atoi(argv[1]) : 1000;
	/*
	 * Ignored is what they are to everyone else; the queue still sees them.
	 */
	signal(SIGUSR1, SIG_IGN);
	signal(SIGTERM, SIG_IGN);

	kq = kqueue();
	if (kq == -1)
		err(1, "kqueue");
	EV_SET(&ev[0], STDIN_FILENO, EVFILT_READ, EV_ADD, 0, 0, NULL);
	EV_SET(&ev[1], TICK, EVFILT_TIMER, EV_ADD, 0, period, NULL);
	EV_SET(&ev[2], SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	EV_SET(&ev[3], SIGTERM, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	EV_SET(&ev[4], WORK, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	if (kevent(kq, ev, 5, NULL, 0, NULL) == -1)
		err(1, "kevent");
	if (pthread_create(&thread, NULL, work, &answer) != 0)
		errx(1, "pthread_create");

	for (;;) {
		n = kevent(kq, NULL, 0, ev, 5, NULL);
		if (n == -1 && errno != EINTR)
			err(1, "kevent");
		for (i = 0; i < n; i++)
			if (!got_event(&ev[i])) {
				pthread_join(thread, NULL);
				return 0;
			}
	}
}
