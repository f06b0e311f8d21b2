/*
 * Eight threads and one queue: nothing is lost, what is returned once is
 * returned once, and the queue may go under all of them.
 */
#include "t_stress_kit.h"

#include <sys/eventfd.h>
#include <sys/socket.h>

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* -- nothing is lost ------------------------------------------------------- */

/* A registration and how often it was returned, by whichever thread. */
struct waited {
	int wd_fds[2];
	uint32_t wd_returned;
	unsigned short wd_mode;
};

static void
return_any(void)
{
	struct timespec ts = { .tv_nsec = 1000000 };
	struct kevent evs[4];
	struct waited *wd;
	int n, i;

	n = kevent(queues[0], NULL, 0, evs, 4, &ts);
	ck_assert(n >= 0 || errno == EINTR);
	for (i = 0; i < n; i++) {
		if (evs[i].filter != EVFILT_READ)
			continue;
		wd = evs[i].udata;
		__atomic_add_fetch(&wd->wd_returned, 1, __ATOMIC_SEQ_CST);
	}
}

static void
await(struct waited *wd)
{
	double deadline = now() + DEADLINE_S;

	while (get(&wd->wd_returned) == 0) {
		ck_assert_msg(now() < deadline, "lost: %d mode %x",
		    wd->wd_fds[0], wd->wd_mode);
		return_any();
	}
}

/* By close(), by dup2() over it, with a copy that outlives it. */
static void
end_of(struct waited *wd, uint32_t how)
{
	int copy = -1;

	if (how & 1)
		copy = dup(wd->wd_fds[0]);
	if (how & 2)
		ck_assert_int_eq(dup2(wd->wd_fds[1], wd->wd_fds[0]),
		    wd->wd_fds[0]);
	ck_assert_int_eq(close(wd->wd_fds[0]), 0);
	ck_assert_int_eq(close(wd->wd_fds[1]), 0);
	if (copy != -1)
		ck_assert_int_eq(close(copy), 0);
}

#define ROUND 8 /* registrations at once */

static void *
register_and_wait(void *arg)
{
	struct waited *all = arg, *wd;
	uint32_t seed = (uint32_t)(uintptr_t)arg | 1, round = 0;
	struct kevent ev;

	for (; !stopped(); round++) {
		wd = &all[round % ROUND];
		ck_assert_int_eq(socketpair(AF_UNIX,
				     SOCK_STREAM | SOCK_NONBLOCK, 0,
				     wd->wd_fds),
		    0);
		wd->wd_mode = modes[dice(&seed, 5)];
		__atomic_store_n(&wd->wd_returned, 0, __ATOMIC_SEQ_CST);
		if (dice(&seed, 2))
			ck_assert_int_eq(write(wd->wd_fds[1], "x", 1), 1);
		EV_SET(&ev, (uintptr_t)wd->wd_fds[0], EVFILT_READ,
		    EV_ADD | wd->wd_mode, 0, 0, wd);
		ck_assert_int_eq(kevent(queues[0], &ev, 1, NULL, 0, NULL), 0);
		ck_assert_int_ge(write(wd->wd_fds[1], "y", 1), 0);
		await(wd);
		end_of(wd, dice(&seed, 4));
	}
	return NULL;
}

START_TEST(nothing_is_lost)
{
	static struct waited all[THREADS][ROUND];
	pthread_t threads[THREADS];
	int i;

	storm(1000);
	for (i = 0; i < THREADS; i++)
		start(&threads[i], register_and_wait, all[i]);
	pass(seconds / 3.0);
	for (i = 0; i < THREADS; i++)
		join(threads[i]);
	storm(0);
}
END_TEST

/* -- exactly once ---------------------------------------------------------- */

#define ONCE 512

static uint32_t returned[3][ONCE];
static uint32_t total;

static void *
count_until(void *arg)
{
	uint32_t expected = *(const uint32_t *)arg;
	struct timespec ts = { .tv_nsec = 10000000 };
	double deadline = now() + DEADLINE_S;
	struct kevent evs[3];
	int n, i, kind;

	while (get(&total) < expected && now() < deadline) {
		n = kevent(queues[0], NULL, 0, evs, 3, &ts);
		ck_assert_int_ge(n, 0);
		for (i = 0; i < n; i++) {
			kind = evs[i].filter == EVFILT_READ ? 0 :
			    evs[i].filter == EVFILT_TIMER   ? 1 :
							      2;
			__atomic_add_fetch(&returned[kind]
						    [(uintptr_t)evs[i].udata],
			    1, __ATOMIC_SEQ_CST);
			__atomic_add_fetch(&total, 1, __ATOMIC_SEQ_CST);
		}
	}
	return NULL;
}

/* Files, timers and user events that are returned once each. */
START_TEST(exactly_once)
{
	const unsigned short mode = modes[_i];
	const struct timespec none = { .tv_sec = 0 };
	uint32_t expected = 3 * ONCE, i, kind;
	pthread_t threads[THREADS];
	struct kevent evs[3];
	int fds[ONCE];

	for (i = 0; i < THREADS; i++)
		start(&threads[i], count_until, &expected);
	for (i = 0; i < ONCE; i++) {
		fds[i] = eventfd(1, EFD_NONBLOCK);
		ck_assert_int_ne(fds[i], -1);
		EV_SET(&evs[0], (uintptr_t)fds[i], EVFILT_READ, EV_ADD | mode,
		    0, 0, (void *)(uintptr_t)i);
		EV_SET(&evs[1], i + 10, EVFILT_TIMER,
		    EV_ADD | EV_ONESHOT | mode, NOTE_USECONDS, i % 64 * 100,
		    (void *)(uintptr_t)i);
		EV_SET(&evs[2], i + 10, EVFILT_USER, EV_ADD | mode,
		    NOTE_TRIGGER, 0, (void *)(uintptr_t)i);
		ck_assert_int_eq(kevent(queues[0], evs, 3, NULL, 0, NULL), 0);
	}
	for (i = 0; i < THREADS; i++)
		join(threads[i]);
	/* One more look: there is no second time. */
	ck_assert_int_eq(kevent(queues[0], NULL, 0, evs, 3, &none), 0);
	ck_assert_uint_eq(total, expected);
	for (kind = 0; kind < 3; kind++)
		for (i = 0; i < ONCE; i++)
			ck_assert_uint_eq(returned[kind][i], 1);
}
END_TEST

/* -- each byte once -------------------------------------------------------- */

#define LINES 16

static struct line {
	int l_fds[2];
	unsigned char l_next; /* whoever has its event, nobody else */
	unsigned short l_mode;
} lines[LINES];

static void
line_arm(struct line *l, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)l->l_fds[0], EVFILT_READ, flags, 0, 0, l);
	ck_assert_int_eq(kevent(queues[0], &ev, 1, NULL, 0, NULL), 0);
}

static uint32_t bytes_read, bytes_written;

static void
line_read(struct line *l)
{
	unsigned char byte;

	/* There is one, and nobody else takes it. */
	ck_assert_int_eq(read(l->l_fds[0], &byte, 1), 1);
	ck_assert_uint_eq(byte, l->l_next);
	l->l_next++;
	__atomic_add_fetch(&bytes_read, 1, __ATOMIC_SEQ_CST);
	line_arm(l, l->l_mode == EV_DISPATCH ? EV_ENABLE : EV_ADD | EV_ONESHOT);
}

static void *
read_lines(void *arg)
{
	struct timespec ts = { .tv_nsec = 10000000 };
	double deadline = now() + seconds + DEADLINE_S;
	struct kevent evs[3];
	int n, i;

	while (!stopped() || get(&bytes_read) < get(&bytes_written)) {
		ck_assert_msg(now() < deadline, "%u bytes of %u",
		    get(&bytes_read), get(&bytes_written));
		n = kevent(queues[0], NULL, 0, evs, 3, &ts);
		ck_assert(n >= 0 || errno == EINTR);
		for (i = 0; i < n; i++)
			if (evs[i].filter == EVFILT_READ)
				line_read(evs[i].udata);
	}
	return arg;
}

static void *
write_lines(void *arg)
{
	unsigned char bytes[LINES] = { 0 };
	int i;

	while (!stopped())
		for (i = 0; i < LINES; i++)
			if (write(lines[i].l_fds[1], &bytes[i], 1) == 1) {
				bytes[i]++;
				__atomic_add_fetch(&bytes_written, 1,
				    __ATOMIC_SEQ_CST);
			}
	return arg;
}

START_TEST(each_byte_once)
{
	pthread_t threads[THREADS];
	int i;

	for (i = 0; i < LINES; i++) {
		ck_assert_int_eq(socketpair(AF_UNIX,
				     SOCK_STREAM | SOCK_NONBLOCK, 0,
				     lines[i].l_fds),
		    0);
		lines[i].l_mode = i % 2 ? EV_DISPATCH : EV_ONESHOT;
		line_arm(&lines[i], EV_ADD | lines[i].l_mode);
	}
	storm(1000);
	for (i = 0; i < THREADS; i++)
		start(&threads[i], i == 0 ? write_lines : read_lines, NULL);
	pass(seconds / 3.0);
	for (i = 0; i < THREADS; i++)
		join(threads[i]);
	storm(0);
	ck_assert_uint_eq(bytes_read, bytes_written);
}
END_TEST

/* -- the queue goes -------------------------------------------------------- */

static void *
wait_for_end(void *arg)
{
	int kq = *(const int *)arg, r;
	struct kevent ev;

	do
		r = kevent(kq, NULL, 0, &ev, 1, NULL);
	while (r == 1 || (r == -1 && errno == EINTR));
	ck_assert_int_eq(r, -1);
	ck_assert_int_eq(errno, EBADF);
	return NULL;
}

START_TEST(closed_under_all)
{
	double until = now() + seconds / 3.0;
	pthread_t threads[THREADS];
	struct kevent ev;
	int i, kq;

	storm(1000);
	while (now() < until) {
		kq = kqueue();
		ck_assert_int_ne(kq, -1);
		for (i = 0; i < THREADS; i++)
			start(&threads[i], wait_for_end, &kq);
		EV_SET(&ev, 1, EVFILT_TIMER, EV_ADD, NOTE_USECONDS, 50, NULL);
		ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
		sched_yield();
		ck_assert_int_eq(close(kq), 0);
		for (i = 0; i < THREADS; i++)
			join(threads[i]);
	}
	storm(0);
}
END_TEST

/* -- handlers that interrupt one queue and change another ------------------ */

static void *
change_always(void *arg)
{
	int queue = *(const int *)arg;
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	while (!stopped())
		ck_assert_int_eq(kevent(queue, &ev, 1, NULL, 0, NULL), 0);
	return NULL;
}

START_TEST(handlers_cross)
{
	const struct timespec pause = { .tv_nsec = 10000 };
	double until = now() + seconds / 3.0;
	pthread_t threads[THREADS];
	struct kevent ev;
	int i;

	storm(1000);
	for (i = 0; i < THREADS; i++)
		start(&threads[i], change_always, &queues[i % QUEUES]);
	while (now() < until) {
		for (i = 0; i < THREADS; i++)
			pthread_kill(threads[i], SIGALRM);
		nanosleep(&pause, NULL);
	}
	stop_all();
	for (i = 0; i < THREADS; i++)
		join(threads[i]);
	storm(0);
	/* Nothing that was put off is left. */
	for (i = 0; i < QUEUES; i++) {
		const struct timespec none = { .tv_sec = 0 };

		ck_assert_int_eq(kevent(queues[i], NULL, 0, &ev, 1, &none), 1);
		ck_assert_int_eq(kevent(queues[i], NULL, 0, &ev, 1, &none), 0);
	}
}
END_TEST

static void
add_tests(TCase *tc)
{
	tcase_add_test(tc, nothing_is_lost);
	tcase_add_loop_test(tc, exactly_once, 2, 4);
	tcase_add_test(tc, each_byte_once);
	tcase_add_test(tc, closed_under_all);
	tcase_add_test(tc, handlers_cross);
}

int
main(void)
{
	return stress_run("stress_share", add_tests);
}
