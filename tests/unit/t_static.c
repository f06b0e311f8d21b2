/*
 * A program that is linked statically, libc and all: a knote goes with its
 * descriptor there as well, and libc's own functions still do what they do.
 */
#include <sys/event.h>
#include <sys/socket.h>

#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

static int kq, fds[2];

static void
watch(int fd)
{
	struct kevent ev;

	EV_SET(&ev, fd, EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		err(1, "EV_ADD");
}

static void
expect(int events, const char *when)
{
	static const struct timespec now;
	struct kevent ev;
	int n;

	n = kevent(kq, NULL, 0, &ev, 1, &now);
	if (n != events)
		errx(1, "%s: %d events instead of %d", when, n, events);
}

int
main(void)
{
	struct kevent ev;
	int copies[2], i;
	FILE *fp;

	kq = kqueue();
	if (kq == -1 || socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == -1)
		err(1, "kqueue, socketpair");
	for (i = 0; i < 2; i++)
		if ((copies[i] = dup(fds[0])) == -1)
			err(1, "dup");
	watch(fds[0]);
	if (write(fds[1], "x", 1) != 1)
		err(1, "write");
	expect(1, "a byte came");
	close(fds[0]);
	expect(0, "close()");
	watch(copies[0]);
	if ((fp = fdopen(copies[0], "r+")) == NULL || fclose(fp) != 0)
		err(1, "fdopen, fclose");
	expect(0, "fclose()");
	watch(copies[1]);
	if (dup2(fds[1], copies[1]) == -1)
		err(1, "dup2");
	expect(0, "dup2()");
	if (closedir(opendir("/")) == -1 ||
	    freopen("/dev/null", "r", stdin) == NULL ||
	    lseek(open("/dev/null", O_RDONLY), 0, SEEK_SET) != 0)
		err(1, "closedir, freopen, lseek");
	EV_SET(&ev, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL);
	if (kevent(kq, &ev, 1, &ev, 1, NULL) != 1)
		errx(1, "no timer");
	closefrom(3);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) != -1)
		errx(1, "a queue outlived closefrom()");
	return 0;
}
