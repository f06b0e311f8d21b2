/*
 * pthread_cancel(): kevent() is a cancellation point where R-API-08 says so
 * and nowhere else, and a wait that is cancelled takes no event with it.
 */
#include <sys/event.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include "t_unit.h"

#define DEADLINE_S 20
#define ROUNDS 2000

static int kq;

static void
setup(void)
{
	kq = kqueue();
	ck_assert_int_ne(kq, -1);
}

static int
change(int fd, short filter, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)fd, filter, flags, 0, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL);
}

static int
next(struct kevent *ev, time_t seconds)
{
	struct timespec ts = { .tv_sec = seconds };

	return kevent(kq, NULL, 0, ev, 1, &ts);
}

/* -- no cancellation point ------------------------------------------------- */

/* One of each kind that the library asks in a way of its own. */
static int
open_kind(int kind)
{
	char path[] = "/tmp/t_cancel.XXXXXX";
	int fds[2] = { -1, -1 };

	switch (kind) {
	case 0:
		return eventfd(1, EFD_NONBLOCK);
	case 1:
		ck_assert_int_eq(pipe(fds), 0);
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		return fds[0];
	case 2:
		ck_assert_int_eq(pipe(fds), 0);
		return fds[1];
	case 3:
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
		ck_assert_int_eq(write(fds[1], "x", 1), 1);
		return fds[0];
	case 4:
		ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds),
		    0);
		return fds[0];
	case 5:
		return socket(AF_INET, SOCK_STREAM, 0);
	default:
		fds[0] = mkstemp(path);
		unlink(path);
		return fds[0];
	}
}
#define KINDS 7

/* What the thread does with a request to cancel it pending. */
struct job {
	int j_fd;
	short j_filter;
	bool j_done;
};

static void *
work(void *arg)
{
	struct job *j = arg;
	struct kevent ev;

	pthread_cancel(pthread_self());
	change(j->j_fd, j->j_filter, EV_ADD);
	next(&ev, 0);
	change(j->j_fd, j->j_filter, EV_DELETE);
	j->j_done = true;
	return NULL;
}

START_TEST(only_a_wait_is_cancelled)
{
	struct job j = { .j_fd = open_kind(_i / 2),
		.j_filter = _i % 2 ? EVFILT_WRITE : EVFILT_READ };
	pthread_t thread;

	ck_assert_int_ne(j.j_fd, -1);
	ck_assert_int_eq(pthread_create(&thread, NULL, work, &j), 0);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
	ck_assert(j.j_done);
	/* And it left no lock behind. */
	ck_assert_int_eq(change(j.j_fd, EVFILT_READ, EV_ADD), 0);
}
END_TEST

/* -- a wait that is cancelled ---------------------------------------------- */

static bool waiting;
static int found; /* events that a thread returned with */

static void *
wait_once(void *arg)
{
	struct kevent ev;

	__atomic_store_n(&waiting, true, __ATOMIC_SEQ_CST);
	if (kevent(kq, NULL, 0, &ev, 1, NULL) == 1)
		__atomic_add_fetch(&found, 1, __ATOMIC_SEQ_CST);
	return NULL;
}

/* Start a thread that waits, or is just about to. */
static pthread_t
waiter(void)
{
	pthread_t thread;

	__atomic_store_n(&waiting, false, __ATOMIC_SEQ_CST);
	ck_assert_int_eq(pthread_create(&thread, NULL, wait_once, NULL), 0);
	while (!__atomic_load_n(&waiting, __ATOMIC_SEQ_CST))
		sched_yield();
	return thread;
}

START_TEST(a_cancelled_wait_leaves_nothing)
{
	int before = unit_descriptors(), i;
	pthread_t thread;

	for (i = 0; i < 50; i++) {
		close(kq);
		setup();
		thread = waiter();
		pthread_cancel(thread);
		ck_assert_int_eq(pthread_join(thread, NULL), 0);
	}
	ck_assert_int_eq(unit_descriptors(), before);
}
END_TEST

/* The event and the cancellation come at the same time: one of them is seen. */
static void
race(short filter, int fd)
{
	pthread_t thread = waiter();
	uint64_t one = 1;
	struct kevent ev;
	int spin;

	for (spin = rand() % 2000; spin > 0; spin--)
		__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (filter == EVFILT_USER) {
		EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
		ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
	} else if (filter == EVFILT_TIMER) {
		EV_SET(&ev, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_USECONDS,
		    1, NULL);
		ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
	} else {
		ck_assert_int_eq(write(fd, &one, sizeof(one)), sizeof(one));
	}
	pthread_cancel(thread);
	ck_assert_int_eq(pthread_join(thread, NULL), 0);
}

static const struct {
	short filter;
	unsigned short flags;
} modes[] = {
	{ EVFILT_READ, EV_CLEAR },
	{ EVFILT_READ, EV_DISPATCH },
	{ EVFILT_USER, EV_CLEAR },
	{ EVFILT_TIMER, EV_ONESHOT },
};

START_TEST(a_cancelled_wait_loses_no_event)
{
	short filter = modes[_i].filter;
	int fd = eventfd(0, EFD_NONBLOCK), i, seen;
	uint64_t n;
	struct kevent ev;

	/* So that the queue knows that it is shared. */
	pthread_cancel(waiter());
	pthread_cancel(waiter());
	if (filter == EVFILT_READ)
		ck_assert_int_eq(change(fd, filter, EV_ADD | modes[_i].flags),
		    0);
	else if (filter == EVFILT_USER)
		ck_assert_int_eq(change(1, filter, EV_ADD | modes[_i].flags),
		    0);
	for (i = 0; i < ROUNDS; i++) {
		found = 0;
		race(filter, fd);
		seen = found;
		if (seen == 0)
			seen = next(&ev, DEADLINE_S);
		ck_assert_msg(seen == 1, "round %d: no event", i);
		if (filter != EVFILT_READ)
			continue;
		ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
		ck_assert_int_eq(change(fd, filter, EV_ENABLE), 0);
	}
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("cancel");

	tcase_add_checked_fixture(tc, setup, NULL);
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, only_a_wait_is_cancelled, 0, 2 * KINDS);
	tcase_add_test(tc, a_cancelled_wait_leaves_nothing);
	tcase_add_loop_test(tc, a_cancelled_wait_loses_no_event, 0,
	    sizeof(modes) / sizeof(modes[0]));
	return unit_end();
}
