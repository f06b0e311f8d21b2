/*
 * EXCEPT: urgent data of TCP (R-EXC-01, R-EXC-02, R-FD-01).  Whether there is
 * any, and whether its mark is next, the socket itself is asked.
 */
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <linux/sockios.h>
#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "model.h"

static struct urgent {
	int fd, peer; /* -1: not there yet */
	bool wanted;  /* NOTE_OOB */
	bool quiet;   /* read since: to come upon the mark makes no edge */
	int sent;
	struct knote knote;
} urgent;

static enum truth
urgent_truth(const struct knote *k)
{
	struct pollfd p = { .fd = urgent.fd, .events = POLLPRI };
	int at = 0;

	if (!urgent.wanted || urgent.fd == -1)
		return NO;
	if (poll(&p, 1, 0) == 0 &&
	    (ioctl(urgent.fd, SIOCATMARK, &at) == -1 || at == 0))
		return NO;
	return urgent.quiet ? MAYBE : YES;
}

static void
urgent_check(struct knote *k, const struct kevent *ev)
{
	if (ev->fflags != NOTE_OOB && !k->k_forced)
		fail("EXCEPT: fflags %#x", ev->fflags);
}

static const struct kind kind_except = { EVFILT_EXCEPT, 0, 0, EDGES_OFTEN,
	false, urgent_truth, urgent_check };

static void
disconnect(void)
{
	const struct linger hard = { .l_onoff = 1 };

	if (urgent.fd == -1)
		return;
	setsockopt(urgent.peer, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
	close(urgent.peer);
	close(urgent.fd);
	urgent.fd = urgent.peer = -1;
	forget(&urgent.knote);
}

static void
reconnect(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
		.sin_addr = { htonl(INADDR_LOOPBACK) } };
	socklen_t len = sizeof(at);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	disconnect();
	if (listener == -1 || fd == -1 ||
	    bind(listener, (const void *)&at, len) == -1 ||
	    listen(listener, 1) == -1 ||
	    getsockname(listener, (void *)&at, &len) == -1 ||
	    connect(fd, (const void *)&at, len) == -1 ||
	    (urgent.peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC)) == -1)
		err(1, "tcp");
	close(listener);
	urgent.fd = fd;
	urgent.sent = 0;
	urgent.knote.k_ident = (uintptr_t)fd;
}

/* Until the peer has it all: the rest follows from what is there. */
static void
push(int flags)
{
	int queued;

	if (urgent.sent++ > 100)
		return;
	if (send(urgent.peer, "abc", 1 + choose(3), flags) == -1)
		err(1, "send");
	do {
		if (ioctl(urgent.peer, SIOCOUTQ, &queued) == -1)
			err(1, "SIOCOUTQ");
	} while (queued != 0);
	if (flags & MSG_OOB) {
		urgent.quiet = false;
		edge(&urgent.knote);
	}
}

static void
take(int flags)
{
	char text[8];

	if (recv(urgent.fd, text, 1 + choose(3), flags | MSG_DONTWAIT) == -1 &&
	    errno != EAGAIN && errno != EINVAL)
		err(1, "recv");
	urgent.quiet = true;
	rumour(&urgent.knote);
}

static void
change_urgent(void)
{
	unsigned int fflags = choose(4) != 0 ? NOTE_OOB : 0;
	unsigned int flags = choose_flags();
	enum outcome outcome;

	outcome = change(&urgent.knote, flags, fflags, 0, 0);
	if (outcome != ADDED && outcome != TOUCHED)
		return;
	urgent.wanted = fflags != 0;
	if (urgent.knote.k_enabled)
		urgent.quiet = false;
	if (urgent.knote.k_enabled && urgent_truth(&urgent.knote) == YES)
		edge(&urgent.knote);
}

static void
urgent_operate(void)
{
	unsigned int what = choose(16);

	if (urgent.fd == -1)
		reconnect();
	say("urgent: %u of %d", what, urgent.fd);
	if (what < 5)
		change_urgent();
	else if (what < 9)
		push(MSG_OOB);
	else if (what < 11)
		push(0);
	else if (what < 13)
		take(0);
	else if (what < 15)
		take(MSG_OOB);
	else
		reconnect();
}

static void
urgent_open(void)
{
	urgent.fd = urgent.peer = -1;
	urgent.wanted = urgent.quiet = false;
	know(&urgent.knote, &kind_except, kq, 1 << 20, NULL);
}

static void
urgent_close(void)
{
	disconnect();
}

const struct part part_urgent = { urgent_open, urgent_operate, urgent_close,
	NULL };
