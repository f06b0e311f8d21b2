/* Raw kqueue.  -n: without the bytes in data (NOTE_NODATA). */
#include "echo.h"

#include <sys/types.h>
#include <sys/event.h>

#include <err.h>
#include <errno.h>
#include <unistd.h>

#define NEVENTS 256

#ifndef NOTE_NODATA
#define NOTE_NODATA 0
#endif

static int kq;

static void
control(int fd, short filter, int flags)
{
	struct kevent ev;

	EV_SET(&ev, fd, filter, flags, echo_flag_n ? NOTE_NODATA : 0, 0, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		err(1, "kevent");
}

int
main(int argc, char *argv[])
{
	struct kevent evs[NEVENTS];
	int fd, i, listener, n;
	enum want want;

	listener = echo_listen(argc, argv);
	kq = kqueue();
	if (kq == -1)
		err(1, "kqueue");
	control(listener, EVFILT_READ, EV_ADD);
	echo_ready();
	for (;;) {
		n = kevent(kq, NULL, 0, evs, NEVENTS, NULL);
		if (n == -1 && errno != EINTR)
			err(1, "kevent");
		for (i = 0; i < n; i++) {
			fd = (int)evs[i].ident;
			if (fd == listener) {
				fd = echo_accept(listener);
				if (fd != -1)
					control(fd, EVFILT_READ, EV_ADD);
				continue;
			}
			want = echo_serve(fd);
			if (want == WANT_CLOSE)
				close(fd);
			else if (want == WANT_WRITE) {
				control(fd, EVFILT_READ, EV_DISABLE);
				control(fd, EVFILT_WRITE, EV_ADD | EV_ONESHOT);
			} else if (evs[i].filter == EVFILT_WRITE)
				control(fd, EVFILT_READ, EV_ENABLE);
		}
	}
}
