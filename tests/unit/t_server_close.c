/*
 * Does close() reach the queue, for a program that links libkquay alone?
 * Both the program's own and the library's, with copies of the descriptors
 * left open, so that Linux itself would go on reporting them.
 *
 * Plain, as it is also built with what pkg-config says (tests/lint/install.sh).
 * Run with KQ_STRICT=0, or the queue makes up for a close() that it missed.
 */
#include <kquay.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int called;

static void
on_event(struct kquay *q, const struct kevent *ev, void *arg)
{
	(void)q;
	(void)ev;
	(void)arg;
	called++;
}

static void
must(int fact, const char *what)
{
	if (fact)
		return;
	fprintf(stderr, "not so: %s\n", what);
	exit(1);
}

static void
the_program_closes(struct kquay *q)
{
	struct kevent ev;
	int fd[2];

	must(pipe(fd) == 0 && dup(fd[0]) != -1, "a pipe and a copy");
	EV_SET(&ev, (uintptr_t)fd[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	must(kquay_watch(q, &ev, on_event, NULL) == 0, "it is watched");
	must(write(fd[1], "x", 1) == 1, "it is written to");
	must(kquay_step(q, 5000) == 1 && called == 1, "an event");
	close(fd[0]);
	must(kquay_step(q, 0) == 0 && called == 1, "none after close()");
	close(fd[1]);
}

static void
the_library_closes(struct kquay *q)
{
	struct kquay_conn *c;
	int sv[2];

	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv) == 0 && dup(sv[0]) != -1,
	    "sockets and a copy");
	c = kquay_adopt(q, sv[0], NULL);
	must(c != NULL, "a connection");
	kquay_abort(c);
	must(kquay_step(q, 0) == 0, "it ends");
	must(write(sv[1], "x", 1) == 1, "the copy is written to");
	must(kquay_step(q, 0) == 0, "no event after the library's close()");
	close(sv[1]);
}

int
main(void)
{
	static const struct kquay_ops ops;
	struct kquay *q = kquay_new(&ops, NULL);

	must(q != NULL, "a loop");
	the_program_closes(q);
	the_library_closes(q);
	kquay_free(q);
	return 0;
}
