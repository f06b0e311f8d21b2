/*
 * EVFILT_TIMER.  Machines that run tests are slow: a timer must never fire
 * before its time and never count what has not passed, and may be late.
 */
#include "t.h"

#include <poll.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define MS 1000000LL /* nanoseconds */
#define SEC 1000000000LL
#define LONG_AWAY 1000000 /* milliseconds: not in this test */

/* The units, as many of each as one second has. */
static const struct {
	unsigned int note;
	int64_t per_second;
} units[] = {
	{ 0, 1000 },
	{ NOTE_MSECONDS, 1000 },
	{ NOTE_USECONDS, 1000000 },
	{ NOTE_NSECONDS, SEC },
	{ NOTE_SECONDS, 1 },
};
#define UNITS 5
#define FINE_UNITS 4 /* those in which 20 ms can be said */

static int64_t
wall_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec;
}

static void
set_timer(uintptr_t id, unsigned int flags, unsigned int note, int64_t data)
{
	t_change(id, EVFILT_TIMER, EV_ADD | flags, note, data, NULL);
}

/*
 * A periodic timer was set between before and after, and total expirations
 * have been collected, the last in a call made at asked: no more than periods
 * have passed by now, and at most one fewer than had when we asked.
 */
static void
check_grid(int64_t total, int64_t period, int64_t before, int64_t after,
    int64_t asked)
{
	ck_assert_int_le(total, (t_now() - before) / period);
	ck_assert_int_ge(total, (asked - after) / period - 1);
}

/* -- units and periods ----------------------------------------------------- */

/* R-TIMER-01, R-TIMER-13, R-TIMER-21: each unit, never before its time. */
START_TEST(oneshot_in_every_unit)
{
	int64_t start, wait;
	struct kevent ev;

	wait = units[_i].note == NOTE_SECONDS ? SEC : 20 * MS;
	start = t_now();
	set_timer(7, EV_ONESHOT, units[_i].note,
	    wait / (SEC / units[_i].per_second));
	t_expect(&ev, 7, EVFILT_TIMER);
	ck_assert_int_ge(t_now() - start, wait);
	ck_assert_int_eq(ev.data, 1);
	ck_assert_uint_eq(ev.fflags, 0);
	t_fails(ENOENT, 7, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-TIMER-02, R-TIMER-03: periodic, in every unit; the event is complete. */
START_TEST(periodic_in_every_unit)
{
	int64_t before, after, asked, total = 0;
	struct kevent ev;
	int tag, i;

	before = t_now();
	t_change(7, EVFILT_TIMER, EV_ADD, units[_i].note,
	    20 * MS / (SEC / units[_i].per_second), &tag);
	after = t_now();
	for (i = 0; i < 4; i++) {
		asked = t_now();
		t_expect(&ev, 7, EVFILT_TIMER);
		ck_assert_int_ge(ev.data, 1);
		ck_assert_uint_eq(ev.fflags, 0);
		ck_assert_int_eq(ev.flags & T_MODES, EV_CLEAR);
		ck_assert_ptr_eq(ev.udata, &tag);
		total += ev.data;
		check_grid(total, 20 * MS, before, after, asked);
	}
}
END_TEST

/* R-TIMER-02: the grid stands still, however long an event is handled. */
START_TEST(handling_time_does_not_drift)
{
	int64_t before, after, asked, total = 0;
	struct kevent ev;
	int i;

	before = t_now();
	set_timer(1, 0, NOTE_MSECONDS, 10);
	after = t_now();
	for (i = 0; i < 6; i++) {
		asked = t_now();
		t_expect(&ev, 1, EVFILT_TIMER);
		total += ev.data;
		check_grid(total, 10 * MS, before, after, asked);
		t_pause(i * 7);
	}
}
END_TEST

/* R-TIMER-04: what nobody collected is counted, in one event. */
START_TEST(missed_periods_are_counted)
{
	int64_t before, after, asked, total;
	struct kevent ev;

	before = t_now();
	set_timer(1, 0, NOTE_MSECONDS, 5);
	after = t_now();
	t_pause(40);
	asked = t_now();
	t_expect(&ev, 1, EVFILT_TIMER);
	total = ev.data;
	ck_assert_int_ge(total, 7);
	check_grid(total, 5 * MS, before, after, asked);
	asked = t_now();
	t_expect(&ev, 1, EVFILT_TIMER);
	check_grid(total + ev.data, 5 * MS, before, after, asked);
}
END_TEST

/* R-TIMER-21: microseconds are neither milliseconds nor nothing. */
START_TEST(fine_periods)
{
	int64_t before, after, asked, total = 0;
	struct kevent ev;

	before = t_now();
	set_timer(1, 0, _i == 0 ? NOTE_USECONDS : NOTE_NSECONDS,
	    _i == 0 ? 300 : 300000);
	after = t_now();
	do {
		asked = t_now();
		t_expect(&ev, 1, EVFILT_TIMER);
		total += ev.data;
		check_grid(total, 300000, before, after, asked);
	} while (asked < before + 30 * MS);
}
END_TEST

/* R-TIMER-21: a wait of part of a millisecond is not cut to nothing. */
START_TEST(fine_oneshots)
{
	struct kevent ev;
	int64_t start;
	int i;

	for (i = 1; i < 2000; i += 67) {
		start = t_now();
		set_timer(1, EV_ONESHOT, NOTE_USECONDS, i);
		t_expect(&ev, 1, EVFILT_TIMER);
		ck_assert_int_ge(t_now() - start, i * 1000);
	}
}
END_TEST

/* R-TIMER-21: a timer that is soon after another is not taken with it. */
START_TEST(close_neighbours)
{
	enum { MANY = 200 };
	struct kevent ev[MANY];
	int64_t start[MANY];
	int i, n, got;

	for (i = 0; i < MANY; i++) {
		start[i] = t_now();
		set_timer((uintptr_t)i, EV_ONESHOT, NOTE_USECONDS,
		    5000 + i * 100);
	}
	for (got = 0; got < MANY; got += n) {
		n = t_get(t_kq, ev, MANY, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++)
			ck_assert_int_ge(t_now() - start[ev[i].ident],
			    (5000 + (int64_t)ev[i].ident * 100) * 1000);
	}
}
END_TEST

/* -- what is refused, and the ends of the range ---------------------------- */

/* R-TIMER-05: more than one unit, or an unknown bit. */
START_TEST(unknown_notes_are_refused)
{
	static const unsigned int bad[] = { NOTE_SECONDS | NOTE_MSECONDS,
		NOTE_MSECONDS | NOTE_USECONDS, NOTE_USECONDS | NOTE_NSECONDS,
		NOTE_SECONDS | NOTE_NSECONDS | NOTE_ABSTIME, 0x80, 0x8000,
		0x01000000, 0x80000000 };
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, bad[i], 1, NULL);
		t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	}
}
END_TEST

/* R-TIMER-06: a negative time. */
START_TEST(negative_is_refused)
{
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, 0, -1, NULL);
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, -1, NULL);
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, NOTE_NSECONDS, INT64_MIN,
	    NULL);
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-TIMER-07: a period of 0 is one unit. */
START_TEST(period_of_zero_is_one_unit)
{
	int64_t before, after, asked;
	struct kevent ev;

	before = t_now();
	set_timer(1, 0, 0, 0);
	after = t_now();
	asked = t_now();
	t_expect(&ev, 1, EVFILT_TIMER);
	check_grid(ev.data, MS, before, after, asked);
	t_delete(1, EVFILT_TIMER);
	set_timer(1, 0, NOTE_SECONDS, 0);
	t_quiet();
}
END_TEST

/* R-TIMER-08: a single shot after 0 fires at once. */
START_TEST(oneshot_of_zero_fires_at_once)
{
	struct kevent ev;

	set_timer(1, EV_ONESHOT, units[_i].note, 0);
	ck_assert_int_eq(t_poll(&ev), 1);
	ck_assert_int_eq(ev.data, 1);
	t_none();
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-TIMER-09: what is beyond the clock is accepted and never comes. */
START_TEST(huge_values_never_fire)
{
	static const int64_t huge[] = { INT64_MAX, INT64_MAX - 1,
		INT64_MAX / 1000, INT64_MAX / 1000000 + 1, INT64_MAX / 2 };
	struct kevent ev;
	size_t i;

	for (i = 0; i < sizeof(huge) / sizeof(huge[0]); i++) {
		set_timer(i, EV_ONESHOT, units[_i].note, huge[i]);
		set_timer(100 + i, 0, units[_i].note, huge[i]);
		if (huge[i] >= INT64_MAX / 2)
			set_timer(200 + i, 0, units[_i].note | NOTE_ABSTIME,
			    huge[i]);
	}
	t_quiet();
	set_timer(1000, EV_ONESHOT, NOTE_MSECONDS, 1);
	t_expect(&ev, 1000, EVFILT_TIMER);
}
END_TEST

/* R-TIMER-01, R-REG-22: any number will do as the ident. */
START_TEST(any_ident)
{
	static const uintptr_t idents[] = { 0, 1, UINTPTR_MAX,
		UINTPTR_MAX / 2 + 1, 0x7fffffff };
	struct kevent ev[8];
	size_t i;

	for (i = 0; i < 5; i++)
		set_timer(idents[i], EV_ONESHOT, 0, 0);
	ck_assert_int_eq(t_get(t_kq, ev, 8, T_DEADLINE_MS), 5);
	for (i = 0; i < 5; i++)
		ck_assert_uint_eq(ev[i].ident, idents[i]);
}
END_TEST

/* -- absolute time --------------------------------------------------------- */

/* R-TIMER-10, R-TIMER-21: at that time of the wall clock, not before. */
START_TEST(absolute_in_every_unit)
{
	int64_t unit, when;
	struct kevent ev;

	unit = SEC / units[_i].per_second;
	when = (wall_now() + 20 * MS) / unit + 1;
	set_timer(1, EV_ONESHOT, units[_i].note | NOTE_ABSTIME, when);
	t_expect(&ev, 1, EVFILT_TIMER);
	ck_assert_int_ge(wall_now(), when * unit);
	ck_assert_int_eq(ev.data, 1);
	t_none();
}
END_TEST

/* R-TIMER-10: a time that has passed fires at once. */
START_TEST(absolute_in_the_past)
{
	struct kevent ev;

	set_timer(1, EV_ONESHOT, NOTE_ABSTIME, wall_now() / MS - 1000);
	ck_assert_int_eq(t_poll(&ev), 1);
	ck_assert_int_eq(ev.data, 1);
	set_timer(1, EV_ONESHOT, NOTE_ABSTIME | NOTE_SECONDS, 0);
	ck_assert_int_eq(t_poll(&ev), 1);
	ck_assert_int_eq(ev.data, 1);
	t_none();
}
END_TEST

/* R-TIMER-11: without EV_CLEAR or EV_ONESHOT it stays active. */
START_TEST(absolute_stays_active)
{
	struct kevent ev;
	int i;

	set_timer(1, 0, NOTE_ABSTIME, 1);
	for (i = 0; i < 3; i++) {
		t_expect(&ev, 1, EVFILT_TIMER);
		ck_assert_int_eq(ev.data, 1);
		ck_assert_int_eq(ev.flags & T_MODES, 0);
	}
	t_delete(1, EVFILT_TIMER);
	t_none();
}
END_TEST

/* R-TIMER-11, R-TIMER-10: with EV_CLEAR it comes once, and stays known. */
START_TEST(absolute_with_clear)
{
	set_timer(1, EV_CLEAR, NOTE_ABSTIME | NOTE_NSECONDS,
	    wall_now() + 5 * MS);
	t_expect_data(1, EVFILT_TIMER, 1);
	t_quiet();
	t_delete(1, EVFILT_TIMER);
}
END_TEST

#ifdef NOTE_ABSOLUTE
/* R-TIMER-11: NOTE_ABSOLUTE is absolute and one-shot. */
START_TEST(note_absolute)
{
	int64_t when = wall_now() / MS + 20;
	struct kevent ev;

	set_timer(1, 0, NOTE_ABSOLUTE, when);
	t_expect(&ev, 1, EVFILT_TIMER);
	ck_assert_int_ge(wall_now(), when * MS);
	ck_assert_int_eq(ev.data, 1);
	t_none();
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
}
END_TEST
#endif

/* -- changes --------------------------------------------------------------- */

/* R-TIMER-14: a new EV_ADD throws away what had expired, and starts anew. */
START_TEST(readd_starts_anew)
{
	struct kevent ev;
	int64_t start;

	set_timer(1, 0, NOTE_MSECONDS, 1);
	t_expect(&ev, 1, EVFILT_TIMER);
	t_pause(10);
	set_timer(1, 0, NOTE_SECONDS, 1000);
	t_quiet();
	start = t_now();
	set_timer(1, 0, NOTE_USECONDS, 20000);
	t_expect(&ev, 1, EVFILT_TIMER);
	ck_assert_int_ge(t_now() - start, 20 * MS);
	ck_assert_int_le(ev.data, (t_now() - start) / (20 * MS));
	start = t_now();
	set_timer(1, 0, NOTE_MSECONDS, 10);
	t_expect(&ev, 1, EVFILT_TIMER);
	ck_assert_int_ge(t_now() - start, 10 * MS);
}
END_TEST

/* R-TIMER-14: ... also what it has noticed already, but not returned. */
START_TEST(readd_forgets_what_is_pending)
{
	set_timer(1, EV_DISABLE, NOTE_MSECONDS, 1);
	t_pause(5);
	t_none();
	set_timer(1, EV_ENABLE, NOTE_SECONDS, 1000);
	t_quiet();
}
END_TEST

/* R-TIMER-15: ... and leaves the mode as it was, either way. */
START_TEST(readd_keeps_the_mode)
{
	struct kevent ev;

	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	set_timer(1, 0, 0, 1);
	t_expect_data(1, EVFILT_TIMER, 1);
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);

	set_timer(2, 0, 0, LONG_AWAY);
	set_timer(2, EV_ONESHOT, 0, 1);
	t_expect(&ev, 2, EVFILT_TIMER);
	t_expect(&ev, 2, EVFILT_TIMER);
	t_delete(2, EVFILT_TIMER);
}
END_TEST

/* R-TIMER-16: a bad change fails. */
START_TEST(readd_with_bad_data_fails)
{
	set_timer(1, 0, 0, LONG_AWAY);
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, 0, -1, NULL);
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, 0x8000, 1, NULL);
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS | NOTE_MSECONDS,
	    1, NULL);
	t_none();
}
END_TEST

/* R-TIMER-14, R-TIMER-11: from relative to absolute and back. */
START_TEST(readd_changes_the_clock)
{
	struct kevent ev;
	int64_t start;

	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	set_timer(1, 0, NOTE_ABSTIME | NOTE_NSECONDS, wall_now() + 10 * MS);
	t_expect(&ev, 1, EVFILT_TIMER);

	set_timer(2, EV_ONESHOT, NOTE_ABSTIME, wall_now() / MS + LONG_AWAY);
	start = t_now();
	set_timer(2, 0, 0, 10);
	t_expect(&ev, 2, EVFILT_TIMER);
	ck_assert_int_ge(t_now() - start, 10 * MS);
}
END_TEST

/* R-TIMER-17: a disabled timer runs and counts; EV_ENABLE restarts nothing. */
START_TEST(disabled_goes_on_counting)
{
	int64_t before, after, asked;
	struct kevent ev;

	before = t_now();
	set_timer(1, EV_DISABLE, NOTE_MSECONDS, 5);
	after = t_now();
	t_pause(40);
	t_none();
	asked = t_now();
	t_change(1, EVFILT_TIMER, EV_ENABLE, 0, 0, NULL);
	t_expect(&ev, 1, EVFILT_TIMER);
	ck_assert_int_ge(ev.data, 7);
	check_grid(ev.data, 5 * MS, before, after, asked);
}
END_TEST

/* R-TIMER-17: also when it was disabled with expirations already pending. */
START_TEST(disabled_keeps_what_has_expired)
{
	struct kevent ev;

	set_timer(1, EV_ONESHOT, NOTE_MSECONDS, 1);
	t_pause(5);
	t_change(1, EVFILT_TIMER, EV_DISABLE, 0, 0, NULL);
	t_quiet();
	t_change(1, EVFILT_TIMER, EV_ENABLE, 0, 0, NULL);
	ck_assert_int_eq(t_poll(&ev), 1);
	ck_assert_int_eq(ev.data, 1);
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-TIMER-17, R-MODE-10: EV_DISPATCH disables, and the clock runs on. */
START_TEST(dispatch_goes_on_counting)
{
	int64_t before, after, asked, total;
	struct kevent ev;

	before = t_now();
	set_timer(1, EV_DISPATCH, NOTE_MSECONDS, 5);
	after = t_now();
	t_expect(&ev, 1, EVFILT_TIMER);
	total = ev.data;
	t_quiet();
	asked = t_now();
	t_change(1, EVFILT_TIMER, EV_ENABLE, 0, 0, NULL);
	t_expect(&ev, 1, EVFILT_TIMER);
	check_grid(total + ev.data, 5 * MS, before, after, asked);
}
END_TEST

/* R-TIMER-18: after EV_DELETE nothing comes, pending or not. */
START_TEST(deleted_does_not_fire)
{
	set_timer(1, 0, 0, 1);
	set_timer(2, EV_ONESHOT, 0, 10);
	t_pause(5);
	t_delete(1, EVFILT_TIMER);
	t_delete(2, EVFILT_TIMER);
	t_quiet();
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	t_quiet();
}
END_TEST

/* R-TIMER-19: another filter or queue with that ident is something else. */
START_TEST(idents_are_independent)
{
	struct kevent ev;
	int other;

	other = kqueue();
	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	t_change(1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	t_change_on(other, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, 1, NULL);
	t_expect_on(other, &ev, 1, EVFILT_TIMER);
	t_quiet();
	t_delete(1, EVFILT_USER);
	set_timer(1, 0, 0, 1);
	t_expect(&ev, 1, EVFILT_TIMER);
}
END_TEST

/* -- waiting --------------------------------------------------------------- */

/* R-TIMER-02, R-ORD-01: they come in the order in which they expire. */
START_TEST(order_of_expiry)
{
	static const int order[] = { 3, 1, 4, 0, 2 };
	struct kevent ev[8];
	int64_t first;
	int i, n = 0;

	do {
		first = wall_now() + 20 * MS;
		for (i = 0; i < 5; i++)
			set_timer((uintptr_t)i, EV_ONESHOT,
			    NOTE_ABSTIME | NOTE_NSECONDS,
			    first + order[i] * MS);
	} while (wall_now() >= first);
	if (_i == 1)
		t_pause(40);
	while (n < 5) {
		i = t_get(t_kq, &ev[n], 8 - n, T_DEADLINE_MS);
		ck_assert_int_gt(i, 0);
		n += i;
	}
	for (i = 0; i < 5; i++)
		ck_assert_int_eq(order[ev[i].ident], i);
}
END_TEST

static void *
set_sooner(void *arg)
{
	t_pause(10);
	set_timer(2, EV_ONESHOT, 0, 1);
	return arg;
}

/* R-ORD-04, R-TIMER-02: a timer set by another thread ends a wait. */
START_TEST(set_by_another_thread)
{
	pthread_t thread;
	struct kevent ev;

	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	thread = t_thread(set_sooner, NULL);
	t_expect(&ev, 2, EVFILT_TIMER);
	t_join(thread);
}
END_TEST

/* R-FD-12, R-TIMER-02: the queue polls readable when a timer has expired. */
START_TEST(queue_polls)
{
	struct pollfd p = { .fd = t_kq, .events = POLLIN };
	struct kevent ev;
	int64_t start;

	start = t_now();
	set_timer(1, EV_ONESHOT, 0, 20);
	ck_assert_int_eq(poll(&p, 1, T_DEADLINE_MS), 1);
	ck_assert_int_ne(p.revents & POLLIN, 0);
	ck_assert_int_ge(t_now() - start, 20 * MS);
	ck_assert_int_eq(t_poll(&ev), 1);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
}
END_TEST

/* R-CALL-11, R-TIMER-02: a timer that is far does not lengthen a time-out. */
START_TEST(far_timer_and_short_timeout)
{
	struct kevent ev;
	int64_t start;

	set_timer(1, EV_ONESHOT, 0, LONG_AWAY);
	start = t_now();
	ck_assert_int_eq(t_get(t_kq, &ev, 1, 20), 0);
	ck_assert_int_ge(t_now() - start, 20 * MS);
}
END_TEST

/* -- many ------------------------------------------------------------------ */

static int
open_descriptors(void)
{
	int n = 0, fd;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/*
 * R-TIMER-20: a hundred thousand timers with 256 descriptors, and each
 * comes once.
 */
START_TEST(hundred_thousand_timers)
{
	enum { MANY = 100000 };
	struct rlimit limit = { 256, 256 };
	struct kevent ev[512];
	int i, n, got, before;
	char *seen;

	ck_assert_int_eq(close(t_kq), 0);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
	t_kq = kqueue();
	seen = calloc(MANY, 1);
	set_timer(MANY, 0, 0, LONG_AWAY);
	before = open_descriptors();
	for (i = 0; i < MANY; i++)
		set_timer((uintptr_t)i, EV_ONESHOT, NOTE_MSECONDS,
		    i % 3 == 0 ? LONG_AWAY + i : 1 + i % 50);
	ck_assert_int_eq(open_descriptors(), before);

	for (got = 0; got < MANY - (MANY + 2) / 3; got += n) {
		n = t_get(t_kq, ev, 512, T_DEADLINE_MS);
		ck_assert_int_gt(n, 0);
		for (i = 0; i < n; i++) {
			ck_assert_uint_lt(ev[i].ident, MANY);
			ck_assert_uint_ne(ev[i].ident % 3, 0);
			ck_assert_int_eq(ev[i].data, 1);
			ck_assert_int_eq(seen[ev[i].ident]++, 0);
		}
	}
	t_none();
	for (i = 0; i < MANY; i += 3)
		t_delete(i, EVFILT_TIMER);
	t_fails(ENOENT, 1, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	t_delete(MANY, EVFILT_TIMER);
	t_none();
	free(seen);
}
END_TEST

/* -- stopped processes and the machine's clock ----------------------------- */

/* R-TIMER-23: the timer of a stopped process is there when it continues. */
START_TEST(stopped_process)
{
	struct kevent ev;
	int status;
	pid_t pid;

	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		t_kq = kqueue();
		set_timer(1, 0, NOTE_MSECONDS, 5);
		set_timer(2, EV_ONESHOT, NOTE_MSECONDS, 5);
		raise(SIGSTOP);
		while (t_wait(&ev) == 1 && ev.ident != 2)
			;
		_exit(ev.ident == 2 && ev.data == 1 && t_wait(&ev) == 1 &&
			    ev.ident == 1 ?
			0 :
			1);
	}
	ck_assert_int_eq(waitpid(pid, &status, WUNTRACED), pid);
	ck_assert(WIFSTOPPED(status));
	t_pause(20);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
}
END_TEST

/*
 * R-TIMER-22: a step of the wall clock does not move a relative timer.  It
 * steps the machine's clock, so it must be asked for.
 */
START_TEST(clock_step)
{
	struct timespec ts;
	struct kevent ev;
	int64_t start;

	if (getenv("KQ_TEST_STEPS_CLOCK") == NULL) {
		t_skip("KQ_TEST_STEPS_CLOCK is not set");
		return;
	}
	start = t_now();
	set_timer(1, EV_ONESHOT, NOTE_MSECONDS, 200);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec += 3600;
	ck_assert_int_eq(clock_settime(CLOCK_REALTIME, &ts), 0);
	t_quiet();
	t_expect(&ev, 1, EVFILT_TIMER);
	clock_gettime(CLOCK_REALTIME, &ts);
	ts.tv_sec -= 3600;
	ck_assert_int_eq(clock_settime(CLOCK_REALTIME, &ts), 0);
	ck_assert_int_ge(t_now() - start, 200 * MS);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("timer");

	tcase_add_loop_test(tc, oneshot_in_every_unit, 0, UNITS);
	tcase_add_loop_test(tc, periodic_in_every_unit, 0, FINE_UNITS);
	tcase_add_test(tc, handling_time_does_not_drift);
	tcase_add_test(tc, missed_periods_are_counted);
	tcase_add_loop_test(tc, fine_periods, 0, 2);
	tcase_add_test(tc, fine_oneshots);
	tcase_add_test(tc, close_neighbours);

	tcase_add_test(tc, unknown_notes_are_refused);
	tcase_add_test(tc, negative_is_refused);
	tcase_add_test(tc, period_of_zero_is_one_unit);
	tcase_add_loop_test(tc, oneshot_of_zero_fires_at_once, 0, UNITS);
	tcase_add_loop_test(tc, huge_values_never_fire, 0, UNITS);
	tcase_add_test(tc, any_ident);

	tcase_add_loop_test(tc, absolute_in_every_unit, 0, UNITS);
	tcase_add_test(tc, absolute_in_the_past);
	tcase_add_test(tc, absolute_stays_active);
	tcase_add_test(tc, absolute_with_clear);
#ifdef NOTE_ABSOLUTE
	tcase_add_test(tc, note_absolute);
#endif

	tcase_add_test(tc, readd_starts_anew);
	tcase_add_test(tc, readd_forgets_what_is_pending);
	tcase_add_test(tc, readd_keeps_the_mode);
	tcase_add_test(tc, readd_with_bad_data_fails);
	tcase_add_test(tc, readd_changes_the_clock);
	tcase_add_test(tc, disabled_goes_on_counting);
	tcase_add_test(tc, disabled_keeps_what_has_expired);
	tcase_add_test(tc, dispatch_goes_on_counting);
	tcase_add_test(tc, deleted_does_not_fire);
	tcase_add_test(tc, idents_are_independent);

	tcase_add_loop_test(tc, order_of_expiry, 0, 2);
	tcase_add_test(tc, set_by_another_thread);
	tcase_add_test(tc, queue_polls);
	tcase_add_test(tc, far_timer_and_short_timeout);
	tcase_add_test(tc, hundred_thousand_timers);
	tcase_add_test(tc, stopped_process);
	tcase_add_test(tc, clock_step);
	return t_end();
}
