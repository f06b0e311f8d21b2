/*
 * EVFILT_TIMER with clocks that the tests set, and a queue that is a heap and
 * little else: how often does the timerfd have to be set, and is the arithmetic
 * right at the edges?
 */
#include <sys/timerfd.h>

#include <errno.h>
#include <string.h>

#include "kq.h"
#include "t_unit.h"

#define OBJECTS 64
#define SECOND 1000000000u

static struct kqueue queue;
static struct object objects[OBJECTS];
static uint64_t clocks[2]; /* by enum kqclock, ns */
static uint64_t set_to;    /* what the timerfd was set to last, ns */
static int settings, activations, creation_errno, watch_error, closes;

/* -- what filter_timer.c calls --------------------------------------------- */

int __wrap_clock_gettime(clockid_t id, struct timespec *ts);
int __wrap_timerfd_create(int id, int flags);
int __wrap_timerfd_settime(int fd, int flags, const struct itimerspec *at,
    struct itimerspec *old);

int
__wrap_clock_gettime(clockid_t id, struct timespec *ts)
{
	uint64_t ns = clocks[id == CLOCK_REALTIME ? CLOCK_WALL : CLOCK_UPTIME];

	ts->tv_sec = (time_t)(ns / SECOND);
	ts->tv_nsec = (long)(ns % SECOND);
	return 0;
}

int
__wrap_timerfd_create(int id, int flags)
{
	ck_assert_int_eq(flags, TFD_NONBLOCK | TFD_CLOEXEC);
	if (creation_errno == 0)
		return id == CLOCK_REALTIME ? 101 : 100;
	errno = creation_errno;
	return -1;
}

int
__wrap_timerfd_settime(int fd, int flags, const struct itimerspec *at,
    struct itimerspec *old)
{
	ck_assert_int_eq(flags, TFD_TIMER_ABSTIME);
	ck_assert_int_eq(at->it_interval.tv_sec, 0);
	ck_assert_int_eq(at->it_interval.tv_nsec, 0);
	set_to = (uint64_t)at->it_value.tv_sec * SECOND +
	    (uint64_t)at->it_value.tv_nsec;
	settings++;
	return 0;
}

int
fd_move_high(int fd)
{
	return fd;
}

void
fd_close(int fd)
{
	closes++;
}

int
queue_watch(struct kqueue *q, int fd, uint32_t events, uint64_t tag)
{
	ck_assert_uint_eq(events, EPOLLIN | EPOLLET);
	ck_assert_int_eq(TAG_KIND(tag), TAG_TIMER);
	ck_assert_int_eq((int)TAG_INDEX(tag), fd - 100);
	return watch_error;
}

struct object *
object_at(struct kqueue *q, uint32_t index)
{
	return &objects[index];
}

void
object_activate(struct kqueue *q, struct object *o)
{
	o->o_knote.kn_status |= KN_ACTIVE;
	activations++;
}

/* -- the tests' own words -------------------------------------------------- */

static void
setup(void)
{
	memset(&queue, 0, sizeof(queue));
	memset(objects, 0, sizeof(objects));
	queue.q_timerfd[0] = queue.q_timerfd[1] = -1;
	clocks[CLOCK_UPTIME] = 1000 * (uint64_t)SECOND;
	clocks[CLOCK_WALL] = 1700000000 * (uint64_t)SECOND;
	settings = activations = creation_errno = watch_error = closes = 0;
}

static void
teardown(void)
{
	timer_close(&queue);
}

static int
add(uint32_t index, unsigned int flags, unsigned int fflags, int64_t data)
{
	struct object *o = &objects[index];
	struct kevent kev;

	EV_SET(&kev, index, EVFILT_TIMER, EV_ADD | flags, fflags, data, NULL);
	o->o_index = index;
	if (o->o_knote.kn_status & KN_ATTACHED)
		return filter_timer.f_touch(&queue, o, &kev);
	memset(o, 0, sizeof(*o));
	o->o_index = index;
	o->o_knote.kn_status = KN_ATTACHED;
	o->o_knote.kn_flags = (uint8_t)(flags & KN_MODES);
	return filter_timer.f_attach(&queue, o, &kev);
}

static void
must_add(uint32_t index, unsigned int flags, unsigned int fflags, int64_t data)
{
	ck_assert_int_eq(add(index, flags, fflags, data), 0);
}

static void delete (uint32_t index)
{
	filter_timer.f_detach(&queue, &objects[index]);
	objects[index].o_knote.kn_status = 0;
}

static bool
active(uint32_t index)
{
	return filter_timer.f_active(&queue, &objects[index]);
}

static int64_t
report(uint32_t index)
{
	struct kevent kev = { .fflags = 99, .data = -1 };

	ck_assert(filter_timer.f_report(&queue, &objects[index], &kev));
	ck_assert_uint_eq(kev.fflags, 0);
	return kev.data;
}

static void
pass(uint64_t ns)
{
	clocks[CLOCK_UPTIME] += ns;
	clocks[CLOCK_WALL] += ns;
}

/* Time goes on; the timerfd is seen to fire if it does. */
static void
wait_ns(uint64_t ns)
{
	int clock;

	pass(ns);
	for (clock = 0; clock < 2; clock++)
		if (queue.q_timerfd[clock] != -1 &&
		    queue.q_timer_at[clock] <= clocks[clock])
			timer_expire(&queue, (enum kqclock)clock);
}

static uint64_t
up(uint64_t ns)
{
	return 1000 * (uint64_t)SECOND + ns;
}

/* -- periods --------------------------------------------------------------- */

START_TEST(units)
{
	static const struct {
		unsigned int note;
		uint64_t ns;
	} table[] = { { 0, 1000000 }, { NOTE_SECONDS, SECOND },
		{ NOTE_MSECONDS, 1000000 }, { NOTE_USECONDS, 1000 },
		{ NOTE_NSECONDS, 1 } };

	must_add(0, 0, table[_i].note, 7);
	ck_assert_uint_eq(set_to, up(7 * table[_i].ns));
	wait_ns(7 * table[_i].ns - 1);
	ck_assert(!active(0));
	wait_ns(1);
	ck_assert(active(0));
	ck_assert_int_eq(report(0), 1);
	ck_assert(!active(0));
	/* Zero is one unit (R-TIMER-07). */
	must_add(1, 0, table[_i].note, 0);
	ck_assert_uint_eq(objects[1].o_deadline,
	    clocks[CLOCK_UPTIME] + table[_i].ns);
}
END_TEST

START_TEST(what_cannot_be_is_refused)
{
	ck_assert_int_eq(add(0, 0, NOTE_SECONDS | NOTE_MSECONDS, 1), EINVAL);
	ck_assert_int_eq(add(0, 0, 0x20, 1), EINVAL);
	ck_assert_int_eq(add(0, 0, 0, -1), EINVAL);
	ck_assert_int_eq(add(0, 0, NOTE_ABSTIME, INT64_MIN), EINVAL);
	ck_assert_uint_eq(queue.q_timers[0].t_held, 0);
	ck_assert_uint_eq(queue.q_timers[1].t_held, 0);
}
END_TEST

/* R-TIMER-02, R-TIMER-04: missed periods are counted, and the grid stays. */
START_TEST(periods_lie_on_a_grid)
{
	must_add(0, 0, NOTE_NSECONDS, 100);
	wait_ns(100);
	pass(749);
	ck_assert_int_eq(report(0), 8);
	ck_assert_uint_eq(set_to, up(900));
	wait_ns(50);
	ck_assert(!active(0));
	wait_ns(1);
	ck_assert_int_eq(report(0), 1);
	ck_assert_uint_eq(set_to, up(1000));
}
END_TEST

START_TEST(uncollected_timer_costs_nothing)
{
	int i;

	must_add(0, 0, NOTE_NSECONDS, 10);
	objects[0].o_knote.kn_status |= KN_DISABLED;
	for (i = 0; i < 1000; i++)
		wait_ns(10);
	ck_assert_int_eq(settings, 1);
	ck_assert_int_eq(activations, 1);
	ck_assert_int_eq(report(0), 1000);
	ck_assert_int_eq(settings, 2);
}
END_TEST

START_TEST(shortest_period_for_the_longest_time)
{
	must_add(0, 0, NOTE_NSECONDS, 1);
	wait_ns(1);
	clocks[CLOCK_UPTIME] = INT64_MAX;
	ck_assert_int_eq(report(0), INT64_MAX - (int64_t)up(0));
	ck_assert_uint_eq(objects[0].o_deadline, (uint64_t)INT64_MAX + 1);
}
END_TEST

/* R-TIMER-09: the clock has no such time. */
START_TEST(beyond_the_clock_is_never)
{
	static const struct {
		unsigned int note;
		int64_t data;
	} table[] = { { 0, INT64_MAX }, { NOTE_SECONDS, INT64_MAX },
		{ NOTE_USECONDS, INT64_MAX }, { NOTE_NSECONDS, INT64_MAX },
		{ NOTE_SECONDS, INT64_MAX / SECOND + 1 },
		{ NOTE_ABSTIME, INT64_MAX },
		{ NOTE_ABSTIME | NOTE_NSECONDS, INT64_MAX },
		{ NOTE_ABSOLUTE | NOTE_SECONDS, INT64_MAX } };

	must_add(0, 0, table[_i].note, table[_i].data);
	must_add(1, EV_ONESHOT, table[_i].note, table[_i].data);
	ck_assert_uint_eq(queue.q_timers[0].t_count, 0);
	ck_assert_uint_eq(queue.q_timers[1].t_count, 0);
	clocks[0] = clocks[1] = INT64_MAX;
	wait_ns(0);
	ck_assert(!active(0) && !active(1));
	if ((table[_i].note & NOTE_ABSOLUTE) == 0)
		must_add(0, 0, NOTE_SECONDS, 1);
	else
		must_add(2, 0, NOTE_SECONDS, 1);
	ck_assert_uint_eq(queue.q_timers[0].t_count, 1);
}
END_TEST

START_TEST(the_last_time_of_the_clock_is_a_time)
{
	must_add(0, 0, NOTE_SECONDS, INT64_MAX / SECOND);
	ck_assert_uint_eq(set_to, up(INT64_MAX / SECOND * SECOND));
	must_add(1, EV_ONESHOT, NOTE_NSECONDS, INT64_MAX - 1);
	ck_assert_uint_eq(objects[1].o_deadline, up(INT64_MAX - 1));
}
END_TEST

START_TEST(one_shot)
{
	must_add(0, EV_ONESHOT, 0, 0);
	ck_assert(active(0));
	ck_assert_int_eq(report(0), 1);
	must_add(1, EV_ONESHOT, NOTE_NSECONDS, 5);
	wait_ns(5000);
	ck_assert_int_eq(report(1), 1);
	ck_assert_uint_eq(queue.q_timers[0].t_count, 0);
}
END_TEST

/* -- the wall clock -------------------------------------------------------- */

/* R-TIMER-11: without EV_CLEAR it is reported until it is deleted. */
START_TEST(a_time_of_the_wall_clock_stays)
{
	must_add(0, 0, NOTE_ABSTIME | NOTE_SECONDS, 1700000001);
	ck_assert_int_eq(queue.q_timerfd[CLOCK_UPTIME], -1);
	ck_assert_uint_eq(set_to, 1700000001 * (uint64_t)SECOND);
	wait_ns(SECOND - 1);
	ck_assert(!active(0));
	wait_ns(1);
	ck_assert_int_eq(report(0), 1);
	ck_assert(active(0));
	wait_ns(10 * (uint64_t)SECOND);
	ck_assert_int_eq(report(0), 1);
	ck_assert(active(0));
}
END_TEST

START_TEST(a_time_past_fires_at_once)
{
	must_add(0, EV_CLEAR, NOTE_ABSTIME | NOTE_SECONDS, 1);
	must_add(1, EV_ONESHOT, NOTE_ABSTIME, 0);
	ck_assert(active(0) && active(1));
	ck_assert_int_eq(report(0), 1);
	ck_assert(!active(0));
	ck_assert_int_eq(settings, 0);
}
END_TEST

START_TEST(the_clock_is_set_back_while_due)
{
	must_add(0, 0, NOTE_ABSTIME | NOTE_SECONDS, 1700000001);
	wait_ns(SECOND);
	clocks[CLOCK_WALL] -= 500;
	ck_assert_int_eq(report(0), 1);
}
END_TEST

START_TEST(the_clock_is_set_back_before_it_is_due)
{
	must_add(0, 0, NOTE_ABSTIME | NOTE_SECONDS, 1700000001);
	timer_expire(&queue, CLOCK_WALL);
	ck_assert(!active(0));
	ck_assert_int_eq(settings, 2);
	ck_assert_uint_eq(set_to, 1700000001 * (uint64_t)SECOND);
}
END_TEST

START_TEST(note_absolute_is_one_shot_and_stays_so)
{
	must_add(0, 0, NOTE_ABSOLUTE | NOTE_SECONDS, 1700000001);
	ck_assert_uint_eq(objects[0].o_knote.kn_flags, EV_ONESHOT);
	ck_assert_int_eq(add(0, 0, NOTE_SECONDS, 1), EINVAL);
	must_add(0, 0, NOTE_ABSOLUTE | NOTE_SECONDS, 1700000002);
	must_add(1, 0, NOTE_ABSTIME | NOTE_SECONDS, 1700000001);
	ck_assert_uint_eq(objects[1].o_knote.kn_flags, 0);
	ck_assert_int_eq(add(1, 0, NOTE_ABSOLUTE, 1), EINVAL);
}
END_TEST

/* -- changes --------------------------------------------------------------- */

/* R-TIMER-14: what was counted is thrown away. */
START_TEST(adding_again_starts_anew)
{
	must_add(0, 0, NOTE_NSECONDS, 10);
	wait_ns(55);
	ck_assert(active(0));
	must_add(0, 0, NOTE_USECONDS, 1);
	ck_assert(!active(0));
	ck_assert_uint_eq(set_to, up(1055));
	wait_ns(999);
	ck_assert(!active(0));
	wait_ns(1);
	ck_assert_int_eq(report(0), 1);
}
END_TEST

START_TEST(adding_again_with_the_other_clock)
{
	must_add(0, 0, 0, 10);
	must_add(0, 0, NOTE_ABSTIME | NOTE_SECONDS, 1700000001);
	ck_assert_uint_eq(queue.q_timers[CLOCK_UPTIME].t_held, 0);
	ck_assert_uint_eq(queue.q_timers[CLOCK_WALL].t_held, 1);
	wait_ns(10000000);
	ck_assert(!active(0));
	must_add(0, 0, NOTE_NSECONDS, 1);
	ck_assert_uint_eq(queue.q_timers[CLOCK_WALL].t_held, 0);
	wait_ns(1);
	ck_assert(active(0));
}
END_TEST

START_TEST(a_change_that_fails_changes_nothing)
{
	must_add(0, 0, NOTE_NSECONDS, 10);
	ck_assert_int_eq(add(0, 0, NOTE_NSECONDS, -1), EINVAL);
	creation_errno = EMFILE;
	ck_assert_int_eq(add(0, 0, NOTE_ABSTIME, 1), EMFILE);
	wait_ns(35);
	ck_assert_int_eq(report(0), 3);
}
END_TEST

/* R-REG-08 */
START_TEST(a_change_without_ev_add_leaves_the_timer_alone)
{
	struct kevent kev;

	must_add(0, 0, NOTE_NSECONDS, 10);
	EV_SET(&kev, 0, EVFILT_TIMER, EV_ENABLE, 0x20, -5, NULL);
	ck_assert_int_eq(filter_timer.f_touch(&queue, &objects[0], &kev), 0);
	wait_ns(35);
	ck_assert_int_eq(report(0), 3);
}
END_TEST

START_TEST(a_forced_timer_has_not_fired)
{
	must_add(0, 0, NOTE_NSECONDS, 10);
	objects[0].o_knote.kn_status |= KN_FORCED;
	ck_assert_int_eq(report(0), 0);
	delete (0);
	ck_assert_uint_eq(queue.q_timers[0].t_count, 0);
}
END_TEST

START_TEST(a_refused_timer_leaves_nothing)
{
	creation_errno = EMFILE;
	ck_assert_int_eq(add(0, 0, 0, 1), EMFILE);
	creation_errno = 0;
	watch_error = ENOMEM;
	objects[0].o_knote.kn_status = 0;
	ck_assert_int_eq(add(0, 0, 0, 1), ENOMEM);
	ck_assert_int_eq(closes, 1);
	ck_assert_int_eq(queue.q_timerfd[0], -1);
	ck_assert_uint_eq(queue.q_timers[0].t_held, 0);
}
END_TEST

/* -- the timerfd ----------------------------------------------------------- */

START_TEST(only_an_earlier_deadline_sets_the_timerfd)
{
	uint32_t i;

	for (i = 0; i < OBJECTS; i++)
		must_add(i, 0, 0, 1000 + (int64_t)i);
	ck_assert_int_eq(settings, 1);
	must_add(5, 0, 0, 999);
	ck_assert_int_eq(settings, 2);
	/* The earliest goes, is put off: nothing happens until it is seen. */
	delete (5);
	must_add(0, 0, 0, 5000);
	ck_assert_int_eq(settings, 2);
	wait_ns(999000000);
	ck_assert_int_eq(activations, 0);
	ck_assert_int_eq(settings, 3);
	ck_assert_uint_eq(set_to, up(1001000000));
}
END_TEST

START_TEST(all_that_are_due_fire_together)
{
	uint32_t i;

	for (i = 0; i < OBJECTS; i++)
		must_add(i, 0, NOTE_NSECONDS, 10 + i % 10);
	wait_ns(20);
	ck_assert_int_eq(activations, OBJECTS);
	ck_assert_int_eq(settings, 1);
	for (i = 0; i < OBJECTS; i++)
		ck_assert_int_eq(report(i), i % 10 == 0 ? 2 : 1);
	ck_assert_uint_eq(queue.q_timers[0].t_count, OBJECTS);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("filter_timer");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, units, 0, 5);
	tcase_add_test(tc, what_cannot_be_is_refused);
	tcase_add_test(tc, periods_lie_on_a_grid);
	tcase_add_test(tc, uncollected_timer_costs_nothing);
	tcase_add_test(tc, shortest_period_for_the_longest_time);
	tcase_add_loop_test(tc, beyond_the_clock_is_never, 0, 8);
	tcase_add_test(tc, the_last_time_of_the_clock_is_a_time);
	tcase_add_test(tc, one_shot);
	tcase_add_test(tc, a_time_of_the_wall_clock_stays);
	tcase_add_test(tc, a_time_past_fires_at_once);
	tcase_add_test(tc, the_clock_is_set_back_while_due);
	tcase_add_test(tc, the_clock_is_set_back_before_it_is_due);
	tcase_add_test(tc, note_absolute_is_one_shot_and_stays_so);
	tcase_add_test(tc, adding_again_starts_anew);
	tcase_add_test(tc, adding_again_with_the_other_clock);
	tcase_add_test(tc, a_change_that_fails_changes_nothing);
	tcase_add_test(tc, a_change_without_ev_add_leaves_the_timer_alone);
	tcase_add_test(tc, a_forced_timer_has_not_fired);
	tcase_add_test(tc, a_refused_timer_leaves_nothing);
	tcase_add_test(tc, only_an_earlier_deadline_sets_the_timerfd);
	tcase_add_test(tc, all_that_are_due_fire_together);
	return unit_end();
}
