/*
 * A queue at both edges of a program's life: made by the first constructor,
 * asked in main(), by a function of atexit() and by the last destructor.
 */
#include <sys/event.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int kq, fds[2];

/* A byte comes through the pipe each time. */
static void
ask(const char *where)
{
	struct timespec deadline = { .tv_sec = 20 };
	struct kevent ev;
	char byte;

	if (write(fds[1], "x", 1) == 1 &&
	    kevent(kq, NULL, 0, &ev, 1, &deadline) == 1 &&
	    ev.ident == (uintptr_t)fds[0] && ev.data == 1 &&
	    read(fds[0], &byte, 1) == 1)
		return;
	fprintf(stderr, "no event %s\n", where);
	_exit(1);
}

/* As early as a program may, and as late. */
#define FIRST 101

static __attribute__((constructor(FIRST))) void
begin(void)
{
	struct kevent ev;

	if (pipe(fds) == -1 || (kq = kqueue()) == -1)
		_exit(1);
	EV_SET(&ev, fds[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kevent(kq, &ev, 1, NULL, 0, NULL) == -1)
		_exit(1);
	ask("in a constructor");
}

static void
at_exit(void)
{
	ask("in a function of atexit()");
}

/* The knote goes with the descriptor, the queue with its own. */
static __attribute__((destructor(FIRST))) void
end(void)
{
	struct timespec now = { 0 };
	struct kevent ev;

	ask("in a destructor");
	if (close(fds[0]) == -1 || kevent(kq, NULL, 0, &ev, 1, &now) != 0 ||
	    close(kq) == -1 || kevent(kq, NULL, 0, &ev, 1, &now) != -1) {
		fprintf(stderr, "no end\n");
		_exit(1);
	}
}

int
main(void)
{
	ask("in main()");
	return atexit(at_exit) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
