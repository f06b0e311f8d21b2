/*
 * Eight threads that add, delete, close, replace and wait at once: no event is
 * one of a registration that had ended.
 *
 * Which event may come is known by stamps of one clock that counts operations.
 * udata is the serial of a registration; the table keeps when its EV_ADD had
 * returned.  Each key (queue, number, filter) keeps when the last operation
 * that ends its registrations (close(), dup2() over it, EV_DELETE, another
 * EV_ADD) began and ended.  An event is stale if the operation began after the
 * EV_ADD had returned, and had returned before the kevent() began that returned
 * the event.
 */
#include "t_stress_kit.h"

#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NUMBERS 1024       /* descriptor numbers that are followed */
#define SERIALS (1u << 18) /* registrations that are remembered */
#define OWNED 12           /* files of a thread */

/* -- the clock, the registrations, and what ends them ---------------------- */

static uint32_t stamps;

static uint32_t
stamp(void)
{
	return __atomic_add_fetch(&stamps, 1, __ATOMIC_SEQ_CST);
}

struct registration {
	uint32_t r_serial; /* whose it is now; 0: it is being changed */
	uint32_t r_added;  /* when EV_ADD had returned; 0: not yet */
	int32_t r_number;
	int16_t r_filter;
	int16_t r_queue;
};

static struct registration registrations[SERIALS];
static uint32_t serials;

/* Begin and end of the last operation, in one word. */
static uint64_t ended[QUEUES][NUMBERS][2];

static void
ended_by(int queue, int number, int which, uint32_t begin, uint32_t end)
{
	uint64_t *word, old, new = (uint64_t)begin << 32 | end;

	if (number < 0 || number >= NUMBERS)
		return;
	word = &ended[queue][number][which];
	old = __atomic_load_n(word, __ATOMIC_SEQ_CST);
	while ((uint32_t)old < end &&
	    !__atomic_compare_exchange_n(word, &old, new, 0, __ATOMIC_SEQ_CST,
		__ATOMIC_SEQ_CST))
		continue;
}

/* close(), or dup2(): everything that is registered for the number. */
static void
all_ended(int number, uint32_t begin)
{
	uint32_t end = stamp();
	int queue, which;

	for (queue = 0; queue < QUEUES; queue++)
		for (which = 0; which < 2; which++)
			ended_by(queue, number, which, begin, end);
}

static int
which_of(short filter)
{
	return filter == EVFILT_WRITE;
}

static uint32_t
new_serial(int queue, int number, short filter)
{
	uint32_t serial = __atomic_add_fetch(&serials, 1, __ATOMIC_SEQ_CST);
	struct registration *r = &registrations[serial % SERIALS];

	__atomic_store_n(&r->r_serial, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->r_added, 0, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->r_number, number, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->r_filter, filter, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->r_queue, (int16_t)queue, __ATOMIC_SEQ_CST);
	__atomic_store_n(&r->r_serial, serial, __ATOMIC_SEQ_CST);
	return serial;
}

/* The event of a descriptor, returned by a kevent() that began at `begin`. */
static void
check_identity(int queue, const struct kevent *ev, uint32_t begin)
{
	uint32_t serial = (uint32_t)(uintptr_t)ev->udata, added;
	struct registration *r = &registrations[serial % SERIALS], was;
	uint64_t word;

	was.r_number = __atomic_load_n(&r->r_number, __ATOMIC_SEQ_CST);
	was.r_filter = __atomic_load_n(&r->r_filter, __ATOMIC_SEQ_CST);
	was.r_queue = __atomic_load_n(&r->r_queue, __ATOMIC_SEQ_CST);
	added = get(&r->r_added);
	if (get(&r->r_serial) != serial)
		return; /* too long ago to tell */
	ck_assert_uint_ne(serial, 0);
	ck_assert_int_eq(was.r_number, (int)ev->ident);
	ck_assert_int_eq(was.r_filter, ev->filter);
	ck_assert_int_eq(was.r_queue, queue);
	if (added == 0)
		return;
	word =
	    __atomic_load_n(&ended[queue][was.r_number][which_of(ev->filter)],
		__ATOMIC_SEQ_CST);
	ck_assert_msg(word >> 32 <= added || (uint32_t)word >= begin,
	    "stale event: %d filter %d flags %x, added %u, ended %u to %u, "
	    "waited from %u",
	    was.r_number, ev->filter, ev->flags, added, (uint32_t)(word >> 32),
	    (uint32_t)word, begin);
}

/* -- the operations -------------------------------------------------------- */

struct worker {
	pthread_t w_thread;
	uint32_t w_seed;
	int w_fds[OWNED]; /* or -1 */
	int w_copies[OWNED];
	uint64_t w_ops, w_events;
};

/* A number of some thread's, for those who meddle. */
static int shared[THREADS * OWNED];

static void
add(int queue, int number, short filter, unsigned short mode)
{
	uint32_t serial, begin;
	struct kevent ev;

	if (number < 0 || number >= NUMBERS)
		return;
	serial = new_serial(queue, number, filter);
	EV_SET(&ev, (uintptr_t)number, filter, EV_ADD | mode, 0, 0,
	    (void *)(uintptr_t)serial);
	begin = stamp();
	if (kevent(queues[queue], &ev, 1, NULL, 0, NULL) == 0) {
		ended_by(queue, number, which_of(filter), begin, stamp());
		__atomic_store_n(&registrations[serial % SERIALS].r_added,
		    stamp(), __ATOMIC_SEQ_CST);
		return;
	}
	ck_assert_msg(errno == EBADF || errno == EPIPE || errno == EINVAL ||
		errno == EPERM || errno == ENOENT,
	    "EV_ADD: %s", strerror(errno));
}

static void
change(int queue, int number, short filter, unsigned short flags)
{
	uint32_t begin = stamp();
	struct kevent ev;
	int r;

	EV_SET(&ev, (uintptr_t)number, filter, flags, 0, 0, NULL);
	r = kevent(queues[queue], &ev, 1, NULL, 0, NULL);
	if (flags == EV_DELETE && (r == 0 || errno == ENOENT))
		ended_by(queue, number, which_of(filter), begin, stamp());
	ck_assert_msg(r == 0 || errno == EBADF || errno == ENOENT, "change: %s",
	    strerror(errno));
}

/* A file of some kind, with something to read or not. */
static int
open_some(struct worker *w)
{
	uint64_t one = 1;
	int fds[2] = { -1, -1 }, kept;

	switch (dice(&w->w_seed, 6)) {
	case 0:
		fds[0] =
		    eventfd((unsigned int)dice(&w->w_seed, 2), EFD_NONBLOCK);
		break;
	case 1:
		if (pipe2(fds, O_NONBLOCK) == 0)
			(void)!write(fds[1], &one, dice(&w->w_seed, 2));
		break;
	case 2:
		fds[0] = memfd_create("t_stress", 0);
		(void)!write(fds[0], &one, 1);
		(void)lseek(fds[0], 0, SEEK_SET);
		break;
	case 3:
		fds[0] = kqueue();
		break;
	default:
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) ==
		    0)
			(void)!write(fds[1], &one, dice(&w->w_seed, 2));
		break;
	}
	kept = dice(&w->w_seed, 2);
	if (fds[1] == -1)
		return fds[0];
	/* The other end goes, or was written to and goes. */
	close(fds[!kept]);
	return fds[kept];
}

/* ThreadSanitizer changes it when it looks up a suppression. */
static void
check_errno(int expected)
{
#ifndef __SANITIZE_THREAD__
	ck_assert_int_eq(errno, expected);
#endif
}

static void
close_number(int number)
{
	uint32_t begin = stamp();

	errno = 12345;
	ck_assert_int_eq(close(number), 0);
	check_errno(12345);
	all_ended(number, begin);
}

static void
replace(struct worker *w, int number)
{
	int fd = open_some(w);
	uint32_t begin = stamp();

	if (fd == -1)
		return;
	ck_assert_int_eq(dup2(fd, number), number);
	all_ended(number, begin);
	close_number(fd);
}

/*
 * A number that one thread closes and another hands to the kernel is a race to
 * ThreadSanitizer, and what this test is about.  Its report, suppressed or not,
 * closes files itself, with its own lock held: by libkq's close().
 */
#ifdef __SANITIZE_THREAD__
const char *__tsan_default_options(void);

const char *
__tsan_default_options(void)
{
	return "ignore_interceptors_accesses=1";
}
#endif

/*
 * Anybody's file may be read, even if it is another by now.  But while one
 * thread reads from a number that another closes, ThreadSanitizer's runtime
 * uses what it has freed, and the number may be its own next.
 */
static bool
may_read(const struct worker *w, int number)
{
#ifdef __SANITIZE_THREAD__
	int i;

	for (i = 0; i < OWNED; i++)
		if (w->w_fds[i] == number)
			return true;
	return false;
#else
	(void)w;
	(void)number;
	return true;
#endif
}

static void
collect_some(struct worker *w)
{
	int queue =
	    dice(&w->w_seed, 4) == 0 ? 1 + dice(&w->w_seed, QUEUES - 1) : 0;
	struct timespec ts = { .tv_nsec = dice(&w->w_seed, 2) * 300000 };
	struct kevent evs[8];
	uint32_t begin = stamp();
	char buf[16];
	int n, i;

	n = kevent(queues[queue], NULL, 0, evs, 1 + (int)dice(&w->w_seed, 8),
	    &ts);
	ck_assert_msg(n >= 0 || errno == EINTR, "kevent: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		ck_assert_uint_eq(evs[i].flags & EV_ERROR, 0);
		w->w_events++;
		if (evs[i].filter != EVFILT_READ &&
		    evs[i].filter != EVFILT_WRITE)
			continue;
		check_identity(queue, &evs[i], begin);
		if (evs[i].filter == EVFILT_READ && dice(&w->w_seed, 2) &&
		    may_read(w, (int)evs[i].ident))
			(void)!read((int)evs[i].ident, buf, sizeof(buf));
	}
}

static void
object(struct worker *w, int queue)
{
	uintptr_t ident = 2 + dice(&w->w_seed, 40);
	struct kevent ev;

	switch (dice(&w->w_seed, 4)) {
	case 0:
		EV_SET(&ev, ident, EVFILT_TIMER,
		    EV_ADD | modes[dice(&w->w_seed, 5)], NOTE_USECONDS,
		    dice(&w->w_seed, 2000), NULL);
		break;
	case 1:
		EV_SET(&ev, ident, EVFILT_USER,
		    EV_ADD | modes[dice(&w->w_seed, 5)], NOTE_TRIGGER, 0, NULL);
		break;
	case 2:
		EV_SET(&ev, SIGUSR1, EVFILT_SIGNAL,
		    dice(&w->w_seed, 2) ? EV_ADD : EV_DELETE, 0, 0, NULL);
		break;
	default:
		EV_SET(&ev, ident,
		    dice(&w->w_seed, 2) ? EVFILT_TIMER : EVFILT_USER, EV_DELETE,
		    0, 0, NULL);
		break;
	}
	if (kevent(queues[queue], &ev, 1, NULL, 0, NULL) == -1)
		ck_assert_int_eq(errno, ENOENT);
}

/* Give up a file: it alone, or with a copy that keeps it open for a while. */
static void
give_up(struct worker *w, int i, int *slot)
{
	if (w->w_copies[i] != -1)
		close_number(w->w_copies[i]);
	w->w_copies[i] = dice(&w->w_seed, 2) ? dup(w->w_fds[i]) : -1;
	__atomic_store_n(slot, -1, __ATOMIC_SEQ_CST);
	close_number(w->w_fds[i]);
	w->w_fds[i] = -1;
}

/* One operation on one of its own files, or on one of another thread. */
static void
operate(struct worker *w, int me)
{
	int i = (int)dice(&w->w_seed, OWNED), *slot = &shared[me * OWNED + i];
	int queue = dice(&w->w_seed, 3) ? 0 : (int)dice(&w->w_seed, QUEUES);
	short filter = dice(&w->w_seed, 3) ? EVFILT_READ : EVFILT_WRITE;
	unsigned short mode = modes[dice(&w->w_seed, 5)];
	int other = __atomic_load_n(&shared[dice(&w->w_seed, THREADS * OWNED)],
	    __ATOMIC_SEQ_CST);

	if (w->w_fds[i] == -1) {
		w->w_fds[i] = open_some(w);
		__atomic_store_n(slot, w->w_fds[i], __ATOMIC_SEQ_CST);
		return;
	}
	switch (dice(&w->w_seed, 12)) {
	case 0:
		give_up(w, i, slot);
		break;
	case 1:
		replace(w, w->w_fds[i]);
		break;
	case 2:
	case 3:
		add(queue, w->w_fds[i], filter, mode);
		break;
	case 4:
		if (other != -1)
			add(queue, other, filter, mode);
		break;
	case 5:
		change(queue, w->w_fds[i], filter, EV_DELETE);
		break;
	case 6:
		if (other != -1)
			change(queue, other, filter, EV_DELETE);
		break;
	case 7:
		change(queue, w->w_fds[i], filter,
		    EV_KEEPUDATA |
			(dice(&w->w_seed, 2) ? EV_ENABLE : EV_DISABLE));
		break;
	case 8:
		object(w, queue);
		break;
	default:
		collect_some(w);
		break;
	}
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	int me = (int)(w->w_seed & 0xff), i;

	w->w_seed = w->w_seed * 2654435761u | 1;
	while (!stopped()) {
		operate(w, me);
		w->w_ops++;
	}
	for (i = 0; i < OWNED; i++) {
		if (w->w_fds[i] != -1)
			give_up(w, i, &shared[me * OWNED + i]);
		if (w->w_copies[i] != -1)
			close_number(w->w_copies[i]);
	}
	return NULL;
}

/* -- chaos ----------------------------------------------------------------- */

static struct worker workers[THREADS];

START_TEST(no_stale_event)
{
	struct worker rest = { .w_seed = 1 };
	uint64_t ops = 0, events = 0;
	int i, j;

	for (i = 0; i < THREADS * OWNED; i++)
		shared[i] = -1;
	storm(200);
	for (i = 0; i < THREADS; i++) {
		workers[i].w_seed = (uint32_t)i;
		for (j = 0; j < OWNED; j++)
			workers[i].w_fds[j] = workers[i].w_copies[j] = -1;
		start(&workers[i].w_thread, work, &workers[i]);
	}
	pass(seconds);
	for (i = 0; i < THREADS; i++) {
		join(workers[i].w_thread);
		ops += workers[i].w_ops;
		events += workers[i].w_events;
	}
	storm(0);
	/* All is closed: what comes now of a descriptor is stale. */
	for (i = 0; i < 1000; i++)
		collect_some(&rest);
	ck_assert_uint_gt(events, 0);
	if (getenv("KQ_STRESS_TELL") != NULL)
		fprintf(stderr, "%ju operations, %ju events, %u alarms\n",
		    (uintmax_t)ops, (uintmax_t)events, alarms);
}
END_TEST

static void
add_tests(TCase *tc)
{
	tcase_add_test(tc, no_stale_event);
}

int
main(void)
{
	return stress_run("stress_stale", add_tests);
}
