/*
 * The call kevent() itself: its arguments, its errors, receipts, time-outs,
 * signals, and what an event carries.  docs/kqueue-rules.md, section 2.
 */
#include "t.h"

#include <sys/time.h>

#ifdef __linux__
#include <sys/epoll.h>
#include <sys/eventfd.h>
#endif

#define BAD_FD 999

static const struct timespec zero = { 0, 0 };

/* A change of EVFILT_USER, the filter that needs nothing outside. */
static struct kevent
user(uintptr_t ident, unsigned int flags)
{
	struct kevent change;

	EV_SET(&change, ident, EVFILT_USER, flags, 0, 0, NULL);
	return change;
}

/* A change that fails with EBADF. */
static struct kevent
failing(void)
{
	struct kevent change;

	EV_SET(&change, BAD_FD, EVFILT_READ, EV_ADD, 0, 0, NULL);
	return change;
}

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

static void *
trigger_soon(void *arg)
{
	t_pause(20);
	trigger(1);
	return arg;
}

/* -- arguments ------------------------------------------------------------- */

#define GOOD_LIST 1
#define NULL_LIST 0

static const struct call {
	const char *what;
	int nchanges, changes, nevents, events;
	struct timespec timeout;
	int error, unchanged;
} calls[] = {
	{ "all is well", 1, GOOD_LIST, 1, GOOD_LIST, { 0, 0 }, 0, 0 },
	{ "nchanges -1", -1, GOOD_LIST, 0, NULL_LIST, { 0, 0 }, EINVAL, 1 },
	{ "nchanges INT_MIN", INT32_MIN, GOOD_LIST, 1, GOOD_LIST, { 0, 0 },
	    EINVAL, 1 },
	{ "nevents -1", 1, GOOD_LIST, -1, GOOD_LIST, { 0, 0 }, EINVAL, 1 },
	{ "nevents INT_MIN", 1, GOOD_LIST, INT32_MIN, GOOD_LIST, { 0, 0 },
	    EINVAL, 1 },
	{ "no changes", 1, NULL_LIST, 0, NULL_LIST, { 0, 0 }, EFAULT, 1 },
	{ "no events", 1, GOOD_LIST, 1, NULL_LIST, { 0, 0 }, EFAULT, 1 },
	{ "tv_sec -1", 1, GOOD_LIST, 1, GOOD_LIST, { -1, 0 }, EINVAL, 0 },
	{ "tv_nsec -1", 1, GOOD_LIST, 1, GOOD_LIST, { 0, -1 }, EINVAL, 0 },
	{ "tv_nsec 10^9", 1, GOOD_LIST, 1, GOOD_LIST, { 0, 1000000000 }, EINVAL,
	    0 },
	{ "tv_nsec INT_MAX", 0, NULL_LIST, 1, GOOD_LIST, { 0, INT32_MAX },
	    EINVAL, 0 },
};

/* R-CALL-01, R-CALL-04, R-CALL-05, R-CALL-06, R-CALL-07, R-CALL-09 */
START_TEST(bad_arguments_fail)
{
	const struct call *c = &calls[_i];
	struct kevent change = user(7, EV_ADD), events[1];
	int n;

	n = kevent(t_kq, c->changes == GOOD_LIST ? &change : NULL, c->nchanges,
	    c->events == GOOD_LIST ? events : NULL, c->nevents, &c->timeout);
	ck_assert_msg((n == -1 ? errno : 0) == c->error && n <= 0,
	    "%s: returned %d, errno %d", c->what, n, errno);
#ifdef __linux__
	if (c->unchanged)
		t_gone(7, EVFILT_USER);
#endif
}
END_TEST

/* R-CALL-01, R-CALL-02 */
START_TEST(no_descriptor_is_ebadf)
{
	static const int numbers[] = { -1, BAD_FD, INT32_MAX, INT32_MIN };
	struct kevent change = user(1, EV_ADD), event;
	int closed = kqueue();
	size_t i;

	close(closed);
	ck_assert_int_eq(t_try_on(closed, 1, EVFILT_USER, EV_ADD, 0, 0, NULL),
	    EBADF);
	ck_assert_int_eq(kevent(closed, NULL, 0, &event, 1, NULL), -1);
	ck_assert_int_eq(errno, EBADF);
	for (i = 0; i < T_COUNT(numbers); i++) {
		ck_assert_int_eq(kevent(numbers[i], &change, 1, &event, 1,
				     NULL),
		    -1);
		ck_assert_int_eq(errno, EBADF);
	}
}
END_TEST

static void
is_no_queue(int fd)
{
	struct kevent change = user(1, EV_ADD), event;

	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(kevent(fd, &change, 1, &event, 1, NULL), -1);
	ck_assert(errno == EINVAL || errno == EBADF);
	ck_assert_int_eq(kevent(fd, NULL, 0, NULL, 0, &zero), -1);
	ck_assert(errno == EINVAL || errno == EBADF);
}

/* R-CALL-03: also descriptors of the kind that a queue is made of. */
START_TEST(another_descriptor_is_no_queue)
{
	int p[2], s[2], kq;

	t_pipe(p);
	t_tcp(s);
	is_no_queue(p[0]);
	is_no_queue(p[1]);
	is_no_queue(s[0]);
	is_no_queue(t_file("text"));
	is_no_queue(open("/dev/null", O_RDWR));
#ifdef __linux__
	is_no_queue(epoll_create1(0));
	is_no_queue(eventfd(1, 0));
	ck_assert_int_eq(kevent(p[0], NULL, 0, NULL, 0, &zero), -1);
	ck_assert_int_eq(errno, EINVAL);
#endif
	kq = kqueue();
	ck_assert_int_eq(dup2(p[0], kq), kq);
	is_no_queue(kq);
}
END_TEST

/* -- waiting --------------------------------------------------------------- */

/* R-CALL-08 */
START_TEST(a_zero_timeout_never_waits)
{
	struct kevent events[4];

	t_add(1, EVFILT_USER, 0);
	ck_assert_int_eq(kevent(t_kq, NULL, 0, events, 4, &zero), 0);
	trigger(1);
	ck_assert_int_eq(kevent(t_kq, NULL, 0, events, 4, &zero), 1);
}
END_TEST

static const struct timespec long_timeouts[] = {
	{ 60, 0 },
	{ INT32_MAX, 0 },
	{ INT32_MAX, 999999999 },
#if defined(__LP64__)
	{ (time_t)INT32_MAX + 1, 0 },
	{ (time_t)9223372036, 854775807 },
	{ (time_t)9223372036, 854775808 },
	{ (time_t)(INT64_MAX / 1000), 999999999 },
	{ (time_t)INT64_MAX, 0 },
	{ (time_t)INT64_MAX, 999999999 },
#endif
};

/* R-CALL-08, R-CALL-10: row 0 is a null timeout, the rest huge ones. */
START_TEST(a_long_timeout_waits)
{
	pthread_t thread;
	struct kevent event;
	int n;

	t_add(1, EVFILT_USER, 0);
	thread = t_thread(trigger_soon, NULL);
	n = kevent(t_kq, NULL, 0, &event, 1,
	    _i == 0 ? NULL : &long_timeouts[_i - 1]);
	ck_assert_int_eq(n, 1);
	ck_assert_uint_eq(event.ident, 1);
	t_join(thread);
}
END_TEST

static const struct timespec short_timeouts[] = { { 0, 1 }, { 0, 999 },
	{ 0, 1000 }, { 0, 999999 }, { 0, 1000000 }, { 0, 1500000 },
	{ 0, 10000001 }, { 0, 25000000 } };

/* R-CALL-11 */
START_TEST(a_timeout_is_not_early)
{
	const struct timespec *ts = &short_timeouts[_i];
	struct kevent event;
	int64_t start = t_now();

	ck_assert_int_eq(kevent(t_kq, NULL, 0, &event, 1, ts), 0);
	ck_assert_int_ge(t_now() - start, ts->tv_nsec);
}
END_TEST

/* R-CALL-11: what had woken the call before, and was returned, is no matter. */
START_TEST(a_timeout_after_an_event_is_not_early)
{
	const struct timespec now = { 0, 0 }, ts = { 0, 10000000 };
	struct kevent change = user(1, 0), event;
	int64_t start;
	int i;

	t_add(1, EVFILT_USER, EV_CLEAR);
	change.fflags = NOTE_TRIGGER;
	for (i = 0; i < 10; i++) {
		ck_assert_int_eq(kevent(t_kq, &change, 1, &event, 1, &now), 1);
		start = t_now();
		ck_assert_int_eq(kevent(t_kq, NULL, 0, &event, 1, &ts), 0);
		ck_assert_int_ge(t_now() - start, ts.tv_nsec);
	}
}
END_TEST

/* R-CALL-12: a null timeout that waited would run into the time limit. */
START_TEST(without_slots_it_never_waits)
{
	struct kevent change = user(1, EV_ADD), event;
	struct timespec hour = { 3600, 0 };

	ck_assert_int_eq(kevent(t_kq, NULL, 0, NULL, 0, NULL), 0);
	ck_assert_int_eq(kevent(t_kq, NULL, 0, &event, 0, &hour), 0);
	ck_assert_int_eq(kevent(t_kq, &change, 1, NULL, 0, NULL), 0);
	ck_assert_int_eq(kevent(t_kq, &change, 1, &event, 0, &hour), 0);
	t_delete(1, EVFILT_USER);
}
END_TEST

/* R-CALL-13: added and triggered, collected, all in one call. */
START_TEST(a_change_is_seen_by_the_same_call)
{
	struct kevent list[3], event;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	list[0] = user(1, EV_ADD | EV_CLEAR);
	list[1] = user(1, 0);
	list[1].fflags = NOTE_TRIGGER;
	ck_assert_int_eq(kevent(t_kq, list, 2, &event, 1, NULL), 1);
	ck_assert_uint_eq(event.ident, 1);

	EV_SET(&list[0], p[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kevent(t_kq, list, 1, &event, 1, NULL), 1);
	ck_assert_uint_eq(event.ident, p[0]);
}
END_TEST

/* R-CALL-29 */
START_TEST(it_does_not_wait_to_fill_the_slots)
{
	struct kevent events[8];

	t_add(1, EVFILT_USER, 0);
	t_add(2, EVFILT_USER, 0);
	trigger(2);
	ck_assert_int_eq(kevent(t_kq, NULL, 0, events, 8, NULL), 1);
	ck_assert_uint_eq(events[0].ident, 2);
}
END_TEST

/* -- changes that fail ----------------------------------------------------- */

static const struct failure {
	uintptr_t ident;
	short filter;
	unsigned short flags;
	int error;
} failures[] = {
	{ BAD_FD, EVFILT_READ, EV_ADD | EV_CLEAR, EBADF },
	{ BAD_FD, EVFILT_WRITE, EV_DELETE, EBADF },
	{ 42, EVFILT_USER, EV_DELETE, ENOENT },
	{ 42, EVFILT_USER, EV_ENABLE, ENOENT },
	{ 42, EVFILT_TIMER, 0, ENOENT },
	{ 1, 9, EV_ADD, EINVAL },
	{ 1, -999, EV_ADD | EV_ONESHOT, EINVAL },
};

/* R-CALL-14: each failure an entry, what comes after is still done. */
START_TEST(a_failed_change_is_an_entry)
{
	struct kevent list[T_COUNT(failures) + 1], got[T_COUNT(failures) + 1];
	size_t i, n = T_COUNT(failures);

	for (i = 0; i < n; i++) {
		EV_SET(&list[i], failures[i].ident, failures[i].filter,
		    failures[i].flags, 5, 6, t_ptr(100 + i));
#ifdef __linux__
		list[i].ext[3] = 200 + i;
#endif
	}
	list[n] = user(1, EV_ADD);
	ck_assert_int_eq(kevent(t_kq, list, (int)n + 1, got, (int)n + 1, NULL),
	    (int)n);
	for (i = 0; i < n; i++) {
		ck_assert_uint_eq(got[i].ident, failures[i].ident);
		ck_assert_int_eq(got[i].filter, failures[i].filter);
		ck_assert(got[i].flags & EV_ERROR);
		ck_assert_int_eq(got[i].data, failures[i].error);
		ck_assert_ptr_eq(got[i].udata, t_ptr(100 + i));
#ifdef __linux__
		ck_assert_uint_eq(got[i].flags, EV_ERROR);
		ck_assert_uint_eq(got[i].ext[3], 200 + i);
#endif
	}
	t_delete(1, EVFILT_USER);
}
END_TEST

/* R-CALL-15: nothing else with it, no wait, and from the first slot on. */
START_TEST(error_entries_come_alone)
{
	struct kevent list[3], got[8];

	t_add(1, EVFILT_USER, 0);
	trigger(1);
	list[0] = user(2, EV_ADD);
	list[1] = failing();
	list[2] = user(3, EV_ADD);
	ck_assert_int_eq(kevent(t_kq, list, 3, got, 8, NULL), 1);
	ck_assert_uint_eq(got[0].ident, BAD_FD);
	ck_assert_int_eq(got[0].data, EBADF);
	t_delete(2, EVFILT_USER);
	t_delete(3, EVFILT_USER);
	t_expect(&got[0], 1, EVFILT_USER);
}
END_TEST

/* R-CALL-16: no slot at all, then one slot for two failures. */
START_TEST(a_failure_without_room_stops)
{
	struct kevent list[4], got;

	list[0] = user(1, EV_ADD);
	list[1] = failing();
	list[2] = user(2, EV_ADD);
	ck_assert_int_eq(kevent(t_kq, list, 3, NULL, 0, NULL), -1);
	ck_assert_int_eq(errno, EBADF);
	t_delete(1, EVFILT_USER);
	t_gone(2, EVFILT_USER);

	list[0] = failing();
	list[1] = user(3, EV_ADD);
	list[2] = user(4, EV_DELETE);
	list[3] = user(5, EV_ADD);
	ck_assert_int_eq(kevent(t_kq, list, 4, &got, 1, NULL), -1);
	ck_assert_int_eq(errno, ENOENT);
	t_delete(3, EVFILT_USER);
	t_gone(5, EVFILT_USER);
}
END_TEST

/* R-CALL-17, R-CALL-15 */
START_TEST(a_receipt_is_an_entry)
{
	struct kevent list[3], got[4];

	t_add(1, EVFILT_USER, 0);
	trigger(1);
	list[0] = user(2, EV_ADD | EV_RECEIPT);
	list[1] = user(3, EV_ADD);
	list[2] = user(4, EV_ADD | EV_RECEIPT);
	list[2].udata = t_ptr(77);
	ck_assert_int_eq(kevent(t_kq, list, 3, got, 4, NULL), 2);
	ck_assert_uint_eq(got[0].ident, 2);
	ck_assert_uint_eq(got[1].ident, 4);
	ck_assert(got[0].flags & got[1].flags & EV_ERROR);
	ck_assert_int_eq(got[0].data | got[1].data, 0);
	ck_assert_ptr_eq(got[1].udata, t_ptr(77));
#ifdef __linux__
	ck_assert_uint_eq(got[1].flags, EV_ERROR);
#endif
	t_delete(3, EVFILT_USER);
	t_expect(&got[0], 1, EVFILT_USER);
}
END_TEST

/* R-CALL-18 */
START_TEST(a_receipt_without_room_stops)
{
	struct kevent list[3], got;
	int n;

	list[0] = user(1, EV_ADD | EV_RECEIPT);
	list[1] = user(2, EV_ADD | EV_RECEIPT);
	list[2] = user(3, EV_ADD);
	n = kevent(t_kq, list, 3, &got, 1, NULL);
#ifdef __linux__
	ck_assert_int_eq(n, 1);
	ck_assert_uint_eq(got.ident, 1);
#endif
	ck_assert(n == 0 || n == 1);
	t_delete(2, EVFILT_USER);
#ifndef __APPLE__
	t_gone(3, EVFILT_USER);
	ck_assert_int_eq(kevent(t_kq, list + 1, 2, NULL, 0, NULL), 0);
	t_delete(2, EVFILT_USER);
	t_gone(3, EVFILT_USER);
#endif
}
END_TEST

/* R-CALL-19: receipts and failures over the list they answer. */
START_TEST(changes_and_events_may_be_one_array)
{
	struct kevent list[40];
	uintptr_t i;

	for (i = 0; i < T_COUNT(list); i++) {
		list[i] = i % 3 == 0 ? failing() : user(i, EV_ADD | EV_RECEIPT);
		list[i].udata = t_ptr(i);
	}
	ck_assert_int_eq(kevent(t_kq, list, T_COUNT(list), list, T_COUNT(list),
			     NULL),
	    T_COUNT(list));
	for (i = 0; i < T_COUNT(list); i++) {
		ck_assert_ptr_eq(list[i].udata, t_ptr(i));
		ck_assert(list[i].flags & EV_ERROR);
		ck_assert_int_eq(list[i].data, i % 3 == 0 ? EBADF : 0);
		if (i % 3 != 0)
			t_delete(i, EVFILT_USER);
	}
}
END_TEST

/* R-CALL-19: the first failure is written where the second change stood. */
START_TEST(no_unread_change_is_overwritten)
{
	struct kevent list[12];
	uintptr_t i;

	for (i = 0; i < 11; i++)
		list[i] = user(i + 1, EV_ADD);
	list[11] = failing();
	ck_assert_int_eq(kevent(t_kq, list, 12, list, 12, NULL), 1);
	ck_assert_uint_eq(list[0].ident, BAD_FD);
	for (i = 1; i <= 11; i++)
		t_delete(i, EVFILT_USER);
}
END_TEST

/* -- signals --------------------------------------------------------------- */

static volatile sig_atomic_t caught;

static void
on_signal(int signo)
{
	(void)signo;
	caught++;
}

/* SIGALRM every so many microseconds, with SA_RESTART. */
static void
signals_every(long us)
{
	struct itimerval every = { { 0, us }, { 0, us } };
	struct sigaction act;

	memset(&act, 0, sizeof(act));
	act.sa_handler = on_signal;
	act.sa_flags = SA_RESTART;
	ck_assert_int_eq(sigaction(SIGALRM, &act, NULL), 0);
	ck_assert_int_eq(setitimer(ITIMER_REAL, &every, NULL), 0);
}

/* R-CALL-20 */
START_TEST(a_caught_signal_ends_the_wait)
{
	struct kevent change = user(1, EV_ADD), event;

	signals_every(10000);
	ck_assert_int_eq(kevent(t_kq, &change, 1, &event, 1, NULL), -1);
	ck_assert_int_eq(errno, EINTR);
	signals_every(0);
	ck_assert_int_gt(caught, 0);
	t_delete(1, EVFILT_USER);
}
END_TEST

/* R-CALL-21: under a storm of signals, with nothing and with one ready. */
START_TEST(no_eintr_without_waiting)
{
	struct kevent event;
	int i;

	t_add(1, EVFILT_USER, 0);
	signals_every(100);
	for (i = 0; i < 3000 || caught < 20; i++)
		ck_assert_int_eq(kevent(t_kq, NULL, 0, &event, 1, &zero), 0);
	trigger(1);
	for (i = 0; i < 3000 || caught < 40; i++)
		ck_assert_int_eq(kevent(t_kq, NULL, 0, &event, 1, NULL), 1);
	signals_every(0);
}
END_TEST

/* -- single changes -------------------------------------------------------- */

/* R-CALL-22 */
START_TEST(filter_zero_is_skipped)
{
#ifdef __NetBSD__
	t_skip("0 is EVFILT_READ");
#else
	struct kevent list[3], got[3];

	EV_SET(&list[0], BAD_FD, 0, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	EV_SET(&list[1], 1, 0, EV_DELETE, 0, 0, NULL);
	list[2] = user(1, EV_ADD);
	ck_assert_int_eq(kevent(t_kq, list, 3, got, 3, &zero), 0);
	t_delete(1, EVFILT_USER);
	ck_assert_int_eq(kevent(t_kq, list, 2, NULL, 0, NULL), 0);
#endif
}
END_TEST

/* R-CALL-23 */
START_TEST(an_unknown_filter_is_einval)
{
	static const short bad[] = { 1, 2, 11, 255, INT16_MAX, -100, -1000,
		INT16_MIN };
	int p[2];
	size_t i;

	t_pipe(p);
	for (i = 0; i < T_COUNT(bad); i++) {
		t_fails(EINVAL, p[0], bad[i], EV_ADD, 0, 0, NULL);
		t_fails(EINVAL, p[0], bad[i], EV_DELETE, 0, 0, NULL);
	}
}
END_TEST

/* R-CALL-24: each of them alone, and all. */
START_TEST(system_flags_are_ignored)
{
	static const unsigned int bits[] = { 0x1000, 0x2000, 0x4000, 0x8000,
		EV_SYSFLAGS };
	struct kevent event;
	size_t i;

	for (i = 0; i < T_COUNT(bits); i++) {
		t_add(1, EVFILT_USER, EV_CLEAR | (bits[i] & EV_SYSFLAGS));
		t_change(1, EVFILT_USER, bits[i] & EV_SYSFLAGS, NOTE_TRIGGER, 0,
		    NULL);
		t_expect(&event, 1, EVFILT_USER);
		ck_assert_uint_eq(event.flags & EV_SYSFLAGS, 0);
		t_change(1, EVFILT_USER, EV_DELETE | (bits[i] & EV_SYSFLAGS), 0,
		    0, NULL);
		t_gone(1, EVFILT_USER);
	}
}
END_TEST

/* R-CALL-25 */
START_TEST(enable_with_disable_is_einval)
{
#ifdef T_FREEBSD
	struct kevent event;

	t_fails(EINVAL, 1, EVFILT_USER, EV_ADD | EV_ENABLE | EV_DISABLE, 0, 0,
	    NULL);
	t_gone(1, EVFILT_USER);
	t_add(1, EVFILT_USER, 0);
	t_fails(EINVAL, 1, EVFILT_USER, EV_ENABLE | EV_DISABLE, 0, 0, NULL);
	trigger(1);
	t_expect(&event, 1, EVFILT_USER);
#else
	t_skip("one of the two wins");
#endif
}
END_TEST

/* R-CALL-26 */
START_TEST(add_with_keepudata_is_einval)
{
#ifdef EV_KEEPUDATA
	t_fails(EINVAL, 1, EVFILT_USER, EV_ADD | EV_KEEPUDATA, 0, 0, NULL);
	t_gone(1, EVFILT_USER);
	t_add(1, EVFILT_USER, 0);
	t_fails(EINVAL, 1, EVFILT_USER, EV_ADD | EV_KEEPUDATA, 0, 0, NULL);
	t_delete(1, EVFILT_USER);
#else
	t_skip("no EV_KEEPUDATA");
#endif
}
END_TEST

/* R-CALL-27 */
START_TEST(changes_act_in_list_order)
{
	struct kevent list[3], event;

	list[0] = user(1, EV_ADD);
	list[1] = user(1, EV_DELETE);
	ck_assert_int_eq(kevent(t_kq, list, 2, NULL, 0, NULL), 0);
	t_gone(1, EVFILT_USER);

	t_change(1, EVFILT_USER, EV_ADD, 0, 0, t_ptr(1));
	trigger(1);
	list[0] = user(1, EV_DELETE);
	list[1] = user(1, EV_ADD | EV_ONESHOT);
	list[1].udata = t_ptr(2);
	ck_assert_int_eq(kevent(t_kq, list, 2, &event, 1, &zero), 0);
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, t_ptr(2));
	t_expect(&event, 1, EVFILT_USER);
	ck_assert_ptr_eq(event.udata, t_ptr(2));
	t_gone(1, EVFILT_USER);
}
END_TEST

/* R-CALL-28, R-CALL-30 */
START_TEST(long_lists_work)
{
	enum { N = 3000 };
	static struct kevent list[2 * N], got[2 * N];
	static unsigned char seen[N];
	uintptr_t i;

	for (i = 0; i < N; i++) {
		list[2 * i] = user(i, EV_ADD);
		list[2 * i + 1] = user(i, 0);
		list[2 * i + 1].fflags = NOTE_TRIGGER;
	}
	ck_assert_int_eq(kevent(t_kq, list, 2 * N, got, 2 * N, NULL), N);
	for (i = 0; i < N; i++)
		seen[got[i].ident]++;
	for (i = 0; i < N; i++) {
		ck_assert_int_eq(seen[i], 1);
		list[i] = user(i, EV_DELETE);
	}
	ck_assert_int_eq(kevent(t_kq, list, N, got, 2 * N, &zero), 0);
}
END_TEST

/* -- events ---------------------------------------------------------------- */

/* R-CALL-30: level knotes, among them two of one descriptor. */
START_TEST(each_knote_comes_once_per_call)
{
	struct kevent got[16];
	int s[2], round;

	t_tcp(s);
	t_put(s[1], 3);
	t_add(s[0], EVFILT_READ, 0);
	t_add(s[0], EVFILT_WRITE, 0);
	t_add(1, EVFILT_USER, 0);
	trigger(1);
	t_expect(&got[0], 1, EVFILT_USER);
	t_until(t_get(t_kq, got, 16, 0) == 3);
	for (round = 0; round < 5; round++)
		ck_assert_int_eq(t_get(t_kq, got, 16, 0), 3);
}
END_TEST

static const unsigned int modes[] = { 0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH,
	EV_RECEIPT, EV_CLEAR | EV_DISPATCH, EV_CLEAR | EV_ONESHOT,
	EV_CLEAR | EV_DISPATCH | EV_RECEIPT };

/* Does a knote added with this mode return it and nothing more? */
static void
returns_mode(uintptr_t ident, int filter, unsigned int mode, int64_t data,
    unsigned int forced)
{
	struct kevent got;

	t_change(ident, filter, EV_ADD | EV_ENABLE | mode, 0, data, t_ptr(7));
	if (filter == EVFILT_USER)
		t_change(ident, filter, 0, NOTE_TRIGGER, 0, t_ptr(7));
	t_expect(&got, ident, filter);
	ck_assert_ptr_eq(got.udata, t_ptr(7));
	ck_assert_uint_eq(got.flags & T_MODES, mode | forced);
#ifdef T_FREEBSD
	ck_assert_uint_eq(got.flags, mode | forced);
#endif
	t_try(ident, filter, EV_DELETE, 0, 0, NULL);
}

/* R-CALL-31, R-MODE-07 */
START_TEST(an_event_carries_its_registration)
{
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	returns_mode((uintptr_t)p[0], EVFILT_READ, modes[_i], 0, 0);
	returns_mode((uintptr_t)p[1], EVFILT_WRITE, modes[_i], 0, 0);
	returns_mode(UINTPTR_MAX, EVFILT_TIMER, modes[_i], 1, EV_CLEAR);
	returns_mode(5, EVFILT_USER, modes[_i], 0, 0);
}
END_TEST

/* R-CALL-32 */
START_TEST(slots_beyond_the_count_are_untouched)
{
	struct kevent got[4], before;

	memset(&before, 0xa5, sizeof(before));
	t_add(1, EVFILT_USER, 0);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 0);
	ck_assert_mem_eq(&got[0], &before, sizeof(before));
	trigger(1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_mem_eq(&got[1], &before, sizeof(before));
	ck_assert_mem_eq(&got[3], &before, sizeof(before));
}
END_TEST

static void
add_tests(TCase *tc)
{
	tcase_add_loop_test(tc, bad_arguments_fail, 0, (int)T_COUNT(calls));
	tcase_add_test(tc, no_descriptor_is_ebadf);
	tcase_add_test(tc, another_descriptor_is_no_queue);
	tcase_add_test(tc, a_zero_timeout_never_waits);
	tcase_add_loop_test(tc, a_long_timeout_waits, 0,
	    (int)T_COUNT(long_timeouts) + 1);
	tcase_add_loop_test(tc, a_timeout_is_not_early, 0,
	    (int)T_COUNT(short_timeouts));
	tcase_add_test(tc, a_timeout_after_an_event_is_not_early);
	tcase_add_test(tc, without_slots_it_never_waits);
	tcase_add_test(tc, a_change_is_seen_by_the_same_call);
	tcase_add_test(tc, it_does_not_wait_to_fill_the_slots);
	tcase_add_test(tc, a_failed_change_is_an_entry);
	tcase_add_test(tc, error_entries_come_alone);
	tcase_add_test(tc, a_failure_without_room_stops);
	tcase_add_test(tc, a_receipt_is_an_entry);
	tcase_add_test(tc, a_receipt_without_room_stops);
	tcase_add_test(tc, changes_and_events_may_be_one_array);
	tcase_add_test(tc, no_unread_change_is_overwritten);
	tcase_add_test(tc, a_caught_signal_ends_the_wait);
	tcase_add_test(tc, no_eintr_without_waiting);
}

int
main(void)
{
	TCase *tc = t_begin("call");

	add_tests(tc);
	tcase_add_test(tc, filter_zero_is_skipped);
	tcase_add_test(tc, an_unknown_filter_is_einval);
	tcase_add_test(tc, system_flags_are_ignored);
	tcase_add_test(tc, enable_with_disable_is_einval);
	tcase_add_test(tc, add_with_keepudata_is_einval);
	tcase_add_test(tc, changes_act_in_list_order);
	tcase_add_test(tc, long_lists_work);
	tcase_add_test(tc, each_knote_comes_once_per_call);
	tcase_add_loop_test(tc, an_event_carries_its_registration, 0,
	    (int)T_COUNT(modes));
	tcase_add_test(tc, slots_beyond_the_count_are_untouched);
	return t_end();
}
