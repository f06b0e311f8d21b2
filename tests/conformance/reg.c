/*
 * Registering, changing and deleting knotes.  docs/kqueue-rules.md, section 3.
 */
#include "t.h"

#include <limits.h>

#define HOUR 3600000

static void
trigger(uintptr_t ident)
{
	t_change(ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

/* R-REG-01: once per key, however often it is added. */
START_TEST(a_key_has_one_knote)
{
	struct kevent got[4];
	int p[2], i;

	t_pipe(p);
	t_put(p[1], 1);
	for (i = 0; i < 3; i++) {
		t_add(p[0], EVFILT_READ, 0);
		t_change(7, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
	}
	trigger(7);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 2);
	t_delete(p[0], EVFILT_READ);
	t_delete(7, EVFILT_USER);
	t_gone(p[0], EVFILT_READ);
	t_none();
}
END_TEST

/* R-REG-01: two numbers of one open file are two keys. */
START_TEST(the_key_is_the_number)
{
	struct kevent got[4];
	int p[2], copy;

	t_pipe(p);
	copy = dup(p[0]);
	t_change(p[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(1));
	t_change(copy, EVFILT_READ, EV_ADD, 0, 0, t_ptr(2));
	t_put(p[1], 1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 2);
	ck_assert_uint_eq(got[0].ident + got[1].ident, p[0] + copy);
	t_delete(p[0], EVFILT_READ);
	t_expect(&got[0], copy, EVFILT_READ);
	ck_assert_ptr_eq(got[0].udata, t_ptr(2));
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
}
END_TEST

/* R-REG-02: what is already true is reported. */
START_TEST(add_asks_the_filter)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 3);
	t_add(p[0], EVFILT_READ, EV_CLEAR);
	ck_assert_int_eq(t_poll(&got), 1);
	ck_assert_int_eq(got.data, 3);
	t_add(p[1], EVFILT_WRITE, EV_CLEAR);
	ck_assert_int_eq(t_poll(&got), 1);
	ck_assert_int_eq(got.filter, EVFILT_WRITE);
}
END_TEST

/* R-REG-03: new udata, new data, asked again, and still one knote. */
START_TEST(add_again_replaces)
{
	struct kevent got[4];
	int p[2];

	t_pipe(p);
	t_put(p[1], 2);
	t_change(p[0], EVFILT_READ, EV_ADD | EV_CLEAR, 0, 0, t_ptr(1));
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 0);
	t_change(p[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(2));
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_ptr_eq(got[0].udata, t_ptr(2));
	ck_assert_int_eq(got[0].data, 2);

	t_change(1, EVFILT_USER, EV_ADD, 0, 5, t_ptr(3));
	t_change(1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 6, t_ptr(4));
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_ptr_eq(got[0].udata, t_ptr(4));
	ck_assert_int_eq(got[0].data, 6);
}
END_TEST

/* R-REG-03: NOTE_LOWAT of the first EV_ADD is replaced by the second's. */
START_TEST(add_again_replaces_fflags)
{
	struct kevent got;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 10);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 20, NULL);
	t_quiet();
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 10, NULL);
	t_expect(&got, s[0], EVFILT_READ);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 11, NULL);
	t_quiet();
	t_add(s[0], EVFILT_READ, 0);
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 10);
}
END_TEST

static const unsigned int modes[] = { 0, EV_CLEAR, EV_ONESHOT, EV_DISPATCH,
	EV_CLEAR | EV_DISPATCH };

/* R-REG-04: every mode, added again with every mode, keeps the first. */
START_TEST(add_again_keeps_the_mode)
{
	unsigned int mode = modes[_i], again;
	struct kevent got;
	size_t i;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	for (i = 0; i < T_COUNT(modes); i++) {
		again = modes[i];
		t_add(p[0], EVFILT_READ, mode);
		t_add(p[0], EVFILT_READ, again);
		t_expect(&got, p[0], EVFILT_READ);
		ck_assert_uint_eq(got.flags & T_MODES, mode);
		ck_assert_int_eq(t_poll(&got), mode == 0);
		t_try(p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);

		t_add(1, EVFILT_USER, mode);
		t_add(1, EVFILT_USER, again);
		trigger(1);
		t_expect(&got, 1, EVFILT_USER);
		ck_assert_uint_eq(got.flags & T_MODES, mode);
		ck_assert_int_eq(t_poll(&got), mode == 0);
		t_try(1, EVFILT_USER, EV_DELETE, 0, 0, NULL);
	}
}
END_TEST

/* R-REG-05 */
START_TEST(add_leaves_a_disabled_knote_disabled)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, 0);
	t_change(p[0], EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	t_add(p[0], EVFILT_READ, 0);
	t_quiet();
	t_add(p[0], EVFILT_READ, EV_ENABLE);
	t_expect(&got, p[0], EVFILT_READ);

	t_add(1, EVFILT_USER, EV_DISABLE);
	t_change(1, EVFILT_USER, EV_ADD, NOTE_TRIGGER, 0, NULL);
	t_delete(p[0], EVFILT_READ);
	t_none();
}
END_TEST

static const unsigned int touches[] = { EV_ENABLE, EV_DISABLE, 0 };

/* R-REG-06: each change without EV_ADD overwrites; EV_ENABLE shows it. */
START_TEST(a_change_overwrites)
{
#ifdef __OpenBSD__
	t_skip("only the enabled state changes");
#else
	struct kevent got;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 5);
	t_change(s[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 50, t_ptr(1));
	t_quiet();
	t_change(s[0], EVFILT_READ, touches[_i], 0, 0, t_ptr(2));
	t_change(s[0], EVFILT_READ, EV_ENABLE, 0, 0, t_ptr(2));
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(2));
	ck_assert_int_eq(got.data, 5);

	t_change(s[0], EVFILT_READ, touches[_i], NOTE_LOWAT, 6, NULL);
	t_change(s[0], EVFILT_READ, EV_ENABLE, NOTE_LOWAT, 6, NULL);
	t_quiet();
	t_put(s[1], 1);
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_ptr_null(got.udata);
	ck_assert_int_eq(got.data, 6);
#endif
}
END_TEST

/* R-REG-06: of EVFILT_USER data and udata too. */
START_TEST(a_change_overwrites_user)
{
	struct kevent got;

	t_change(1, EVFILT_USER, EV_ADD, 0, 5, t_ptr(1));
	t_change(1, EVFILT_USER, touches[_i], NOTE_TRIGGER, 6, t_ptr(2));
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 7, t_ptr(3));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_int_eq(got.data, 7);
	ck_assert_ptr_eq(got.udata, t_ptr(3));
}
END_TEST

/* R-REG-07 */
START_TEST(keepudata_keeps_udata_only)
{
#ifdef EV_KEEPUDATA
	struct kevent got;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 5);
	t_change(s[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(1));
	t_change(s[0], EVFILT_READ, touches[_i] | EV_KEEPUDATA, NOTE_LOWAT, 6,
	    t_ptr(2));
	t_change(s[0], EVFILT_READ, EV_ENABLE | EV_KEEPUDATA, NOTE_LOWAT, 6,
	    NULL);
	t_quiet();
	t_put(s[1], 1);
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(1));
	t_change(s[0], EVFILT_READ, 0, 0, 0, t_ptr(2));
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(2));
#else
	t_skip("no EV_KEEPUDATA");
#endif
}
END_TEST

/* R-REG-08: the period of 20 ms is neither changed nor begun anew. */
START_TEST(a_change_leaves_a_timer_running)
{
	struct kevent got;
	int64_t start = t_now();

	t_change(1, EVFILT_TIMER, EV_ADD, 0, 20, t_ptr(1));
	t_change(1, EVFILT_TIMER, touches[_i], 0, HOUR, t_ptr(2));
	t_change(1, EVFILT_TIMER, EV_ENABLE, 0, HOUR, t_ptr(3));
	while (t_poll(&got) == 0)
		t_change(1, EVFILT_TIMER, 0, 0, HOUR, t_ptr(4));
	ck_assert_int_ge(t_now() - start, 20000000);
	ck_assert_int_lt(t_now() - start, 4000000000);
	ck_assert_int_eq(t_wait(&got), 1);
#ifndef __OpenBSD__
	ck_assert(got.udata == t_ptr(3) || got.udata == t_ptr(4));
#endif
}
END_TEST

/* R-REG-09 */
START_TEST(an_unknown_key_is_enoent)
{
	static const unsigned int flags[] = { 0, EV_ENABLE, EV_DISABLE,
		EV_DELETE, EV_CLEAR, EV_ONESHOT, EV_RECEIPT };
	size_t i;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	for (i = 0; i < T_COUNT(flags); i++) {
		t_fails(ENOENT, p[0], EVFILT_WRITE, flags[i], 0, 0, NULL);
		t_fails(ENOENT, p[1], EVFILT_READ, flags[i], 0, 0, NULL);
		t_fails(ENOENT, 1, EVFILT_TIMER, flags[i], 0, 10, NULL);
		t_fails(ENOENT, SIGUSR1, EVFILT_SIGNAL, flags[i], 0, 0, NULL);
		t_fails(ENOENT, 1, EVFILT_USER, flags[i], NOTE_TRIGGER, 0,
		    NULL);
	}
	t_quiet();
}
END_TEST

/* Those of 64 bits. */
#if UINTPTR_MAX > UINT_MAX
#define WIDE_IDENTS UINT_MAX, UINTPTR_MAX - UINT_MAX,
#else
#define WIDE_IDENTS
#endif

/* R-REG-10: some rows have the bits of an open descriptor. */
START_TEST(a_closed_ident_is_ebadf)
{
	static const uintptr_t bad[] = { 999, INT_MAX, (uintptr_t)INT_MAX + 1,
		WIDE_IDENTS UINTPTR_MAX, (UINTPTR_MAX >> 1) + 1 };
	static const unsigned int flags[] = { EV_ADD, EV_ADD | EV_DISABLE,
		EV_DELETE, EV_ENABLE, EV_DISABLE, 0 };
	size_t i, j;

	for (i = 0; i < T_COUNT(bad); i++)
		for (j = 0; j < T_COUNT(flags); j++) {
			t_fails(EBADF, bad[i], EVFILT_READ, flags[j], 0, 0,
			    NULL);
			t_fails(EBADF, bad[i], EVFILT_WRITE, flags[j], 0, 0,
			    NULL);
#ifdef EVFILT_VNODE
			t_fails(EBADF, bad[i], EVFILT_VNODE, flags[j], 1, 0,
			    NULL);
#endif
		}
}
END_TEST

/* R-REG-11 */
START_TEST(delete_after_close_fails)
{
	int p[2], q[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	close(p[0]);
	t_fails(EBADF, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	t_pipe(q);
	ck_assert_int_eq(q[0], p[0]);
	t_fails(ENOENT, q[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* R-REG-12 */
START_TEST(a_failed_add_leaves_nothing)
{
	int p[2];

#ifdef T_FREEBSD
	t_fails(EINVAL, 1, EVFILT_TIMER, EV_ADD, 0, -1, NULL);
	t_gone(1, EVFILT_TIMER);
#endif
	t_fails(EINVAL, t_kq, EVFILT_READ, EV_ADD, 0, 0, NULL);
	t_gone(t_kq, EVFILT_READ);
	t_pipe(p);
	close(p[0]);
	if (t_try(p[1], EVFILT_WRITE, EV_ADD, 0, 0, NULL) != 0)
		t_gone(p[1], EVFILT_WRITE);
	t_add(1, EVFILT_USER, 0);
	t_fails(EINVAL, 1, 99, EV_ADD, 0, 0, NULL);
	t_delete(1, EVFILT_USER);
}
END_TEST

/* R-REG-13 */
START_TEST(delete_removes_what_is_pending)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, 0);
	t_delete(p[0], EVFILT_READ);
	t_add(1, EVFILT_USER, 0);
	trigger(1);
	t_delete(1, EVFILT_USER);
	t_change(1, EVFILT_TIMER, EV_ADD, 0, 1, NULL);
	t_pause(5);
	t_delete(1, EVFILT_TIMER);
	t_quiet();

	t_change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, t_ptr(9));
	t_change(1, EVFILT_TIMER, EV_ADD, 0, HOUR, NULL);
	t_quiet();
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, t_ptr(9));
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_uint_eq(got.flags & T_MODES, EV_CLEAR);
	ck_assert_ptr_eq(got.udata, t_ptr(9));
}
END_TEST

/* R-REG-14 */
START_TEST(add_with_delete_toggles)
{
#ifdef T_FREEBSD
	t_add(1, EVFILT_USER, EV_DELETE);
	t_delete(1, EVFILT_USER);
	t_add(1, EVFILT_USER, 0);
	t_add(1, EVFILT_USER, EV_DELETE);
	t_gone(1, EVFILT_USER);
#else
	t_skip("one of the two wins");
#endif
}
END_TEST

/* R-REG-15 */
START_TEST(add_with_disable_is_silent)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, EV_DISABLE);
	t_add(1, EVFILT_USER, EV_DISABLE);
	trigger(1);
	t_change(1, EVFILT_TIMER, EV_ADD | EV_DISABLE, 0, 1, NULL);
	t_quiet();
	t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, p[0], EVFILT_READ);
	t_delete(p[0], EVFILT_READ);
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, 1, EVFILT_USER);
	t_delete(1, EVFILT_USER);
	t_change(1, EVFILT_TIMER, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, 1, EVFILT_TIMER);
}
END_TEST

/* R-REG-16, R-REG-17: pending, withheld, and returned in the end. */
START_TEST(disable_withholds_and_records)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, EV_CLEAR);
	t_add(1, EVFILT_USER, EV_CLEAR);
	t_put(p[1], 1);
	trigger(1);
	t_change(p[0], EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	t_change(1, EVFILT_USER, EV_DISABLE, 0, 0, NULL);
	t_put(p[1], 1);
	t_quiet();
	t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 2);
	t_change(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, 1, EVFILT_USER);
	t_none();
}
END_TEST

/* R-REG-17: the condition of a level knote went while it was disabled. */
START_TEST(enable_asks_anew)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, 0);
	t_change(p[0], EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	t_take(p[0], 1);
	t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_quiet();
	t_put(p[1], 4);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(got.data, 4);
}
END_TEST

/* R-REG-18 */
START_TEST(enable_and_disable_may_be_repeated)
{
	struct kevent got;
	int p[2], i;

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, EV_ENABLE);
	for (i = 0; i < 3; i++)
		t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, p[0], EVFILT_READ);
	for (i = 0; i < 3; i++)
		t_change(p[0], EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	t_quiet();
	t_change(p[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
	t_expect(&got, p[0], EVFILT_READ);
}
END_TEST

/* -- two filters, several queues ------------------------------------------- */

static const struct {
	unsigned int read, write;
} pairs[] = {
	{ 0, 0 },
	{ 0, EV_CLEAR },
	{ EV_CLEAR, 0 },
	{ EV_CLEAR, EV_CLEAR },
	{ EV_ONESHOT, 0 },
	{ 0, EV_ONESHOT },
	{ EV_ONESHOT, EV_ONESHOT },
	{ EV_DISPATCH, 0 },
	{ 0, EV_DISPATCH },
	{ EV_DISPATCH, EV_DISPATCH },
	{ EV_CLEAR, EV_DISPATCH },
	{ EV_DISPATCH, EV_CLEAR },
	{ EV_ONESHOT, EV_CLEAR },
	{ EV_CLEAR, EV_ONESHOT },
	{ EV_DISABLE, EV_CLEAR },
	{ EV_CLEAR, EV_DISABLE },
	{ EV_DISABLE, 0 },
	{ 0, EV_DISABLE },
};

static int
returns_of(unsigned int mode, int rounds)
{
	if (mode == EV_DISABLE)
		return 0;
	return mode == 0 ? rounds : 1;
}

/*
 * R-REG-19: each pair of modes on the two filters of one socket, collected
 * several times with few slots and with many.  udata tells them apart.
 */
START_TEST(read_and_write_are_independent)
{
	enum { ROUNDS = 4 };
	int s[2], slots, round, i, n, count[2];
	struct kevent got[4];

	for (slots = 1; slots <= 2; slots++) {
		count[0] = count[1] = 0;
		t_tcp(s);
		t_put(s[1], 1);
		t_readable(s[0]);
		t_change(s[0], EVFILT_READ, EV_ADD | pairs[_i].read, 0, 0,
		    t_ptr(0));
		t_change(s[0], EVFILT_WRITE, EV_ADD | pairs[_i].write, 0, 0,
		    t_ptr(1));
		for (round = 0; round < ROUNDS * (3 - slots); round++) {
			n = t_get(t_kq, got, slots, 0);
			for (i = 0; i < n; i++) {
				count[(uintptr_t)got[i].udata & 1]++;
				ck_assert_int_eq(got[i].filter,
				    got[i].udata ? EVFILT_WRITE : EVFILT_READ);
			}
		}
		if (slots == 2 ||
		    (pairs[_i].read == 0) == (pairs[_i].write == 0)) {
			ck_assert_int_eq(count[0],
			    returns_of(pairs[_i].read, ROUNDS));
			ck_assert_int_eq(count[1],
			    returns_of(pairs[_i].write, ROUNDS));
		}
		close(s[0]);
		close(s[1]);
	}
}
END_TEST

/* R-REG-19: deleting or disabling one leaves the other, both ways. */
START_TEST(deleting_one_filter_leaves_the_other)
{
	struct kevent got[4];
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 1);
	t_add(s[0], EVFILT_READ, 0);
	t_add(s[0], EVFILT_WRITE, 0);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 2);
	t_delete(s[0], EVFILT_READ);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_int_eq(got[0].filter, EVFILT_WRITE);
	t_add(s[0], EVFILT_READ, 0);
	t_delete(s[0], EVFILT_WRITE);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_int_eq(got[0].filter, EVFILT_READ);
	t_gone(s[0], EVFILT_WRITE);
	t_add(s[0], EVFILT_WRITE, 0);
	t_change(s[0], EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	ck_assert_int_eq(t_get(t_kq, got, 4, 0), 1);
	ck_assert_int_eq(got[0].filter, EVFILT_WRITE);
}
END_TEST

/* R-REG-19: EV_CLEAR WRITE stays silent while READ sees arrivals. */
START_TEST(arrivals_do_not_fire_write)
{
	struct kevent got[4];
	int s[2], i;

	t_tcp(s);
	t_add(s[0], EVFILT_READ, EV_CLEAR);
	t_add(s[0], EVFILT_WRITE, EV_CLEAR);
	ck_assert_int_eq(t_get(t_kq, got, 4, T_DEADLINE_MS), 1);
	ck_assert_int_eq(got[0].filter, EVFILT_WRITE);
	for (i = 1; i <= 20; i++) {
		t_put(s[1], 1);
		ck_assert_int_eq(t_get(t_kq, got, 4, T_DEADLINE_MS), 1);
		ck_assert_int_eq(got[0].filter, EVFILT_READ);
		ck_assert_int_eq(got[0].data, i);
	}
}
END_TEST

/* R-REG-20: each queue with its own mode, udata and life. */
START_TEST(a_descriptor_may_be_in_many_queues)
{
	enum { N = 4 };
	int kq[N], p[2], i;
	struct kevent got;

	t_pipe(p);
	for (i = 0; i < N; i++) {
		kq[i] = kqueue();
		t_change_on(kq[i], p[0], EVFILT_READ, EV_ADD | modes[i], 0, 0,
		    t_ptr(i));
	}
	t_put(p[1], 2);
	for (i = 0; i < N; i++) {
		t_expect_on(kq[i], &got, p[0], EVFILT_READ);
		ck_assert_ptr_eq(got.udata, t_ptr(i));
		ck_assert_int_eq(t_get(kq[i], &got, 1, 0), modes[i] == 0);
	}
	t_change_on(kq[1], p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	close(kq[3]);
	t_expect_on(kq[0], &got, p[0], EVFILT_READ);
	t_none();
}
END_TEST

/* R-REG-21: also of a level that had its turn, and goes. */
START_TEST(forceoneshot_fires_in_its_turn)
{
#ifdef EV_FORCEONESHOT
	struct kevent got;
	uintptr_t first;
	int a[2], b[2];

	t_pipe(a);
	t_pipe(b);
	t_add(a[0], EVFILT_READ, 0);
	t_add(b[0], EVFILT_READ, 0);
	t_add(1, EVFILT_USER, EV_ONESHOT);
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	t_put(a[1], 1);
	t_put(b[1], 1);
	t_expect(&got, 1, EVFILT_USER);
	ck_assert_int_eq(t_poll(&got), 1);
	first = got.ident;
	t_change(first, EVFILT_READ, EV_FORCEONESHOT, 0, 0, NULL);
	ck_assert_int_eq(t_poll(&got), 1);
	ck_assert_uint_ne(got.ident, first);
	t_take(a[0], 1);
	t_take(b[0], 1);
	t_expect(&got, first, EVFILT_READ);
	ck_assert_int_eq(got.data, 0);
	t_gone(first, EVFILT_READ);
	t_quiet();
#else
	t_skip("no EV_FORCEONESHOT");
#endif
}
END_TEST

/* R-REG-21 */
START_TEST(forceoneshot_fires_at_once)
{
#ifdef EV_FORCEONESHOT
	static const short filters[] = { EVFILT_READ, EVFILT_TIMER, EVFILT_USER,
		EVFILT_SIGNAL };
	uintptr_t ident;
	struct kevent got;
	size_t i;
	int p[2];

	t_pipe(p);
	for (i = 0; i < T_COUNT(filters); i++) {
		ident = filters[i] == EVFILT_SIGNAL ? SIGUSR1 : (uintptr_t)p[0];
		t_change(ident, filters[i], EV_ADD | EV_FORCEONESHOT, 0, HOUR,
		    t_ptr(i));
		t_none();
		t_change(ident, filters[i], EV_FORCEONESHOT, 0, 0, t_ptr(i));
		ck_assert_int_eq(t_poll(&got), 1);
		ck_assert_int_eq(got.filter, filters[i]);
		ck_assert_ptr_eq(got.udata, t_ptr(i));
		ck_assert(got.flags & EV_ONESHOT);
		t_gone(ident, filters[i]);
	}
	t_quiet();
#else
	t_skip("no EV_FORCEONESHOT");
#endif
}
END_TEST

/* R-REG-22 */
START_TEST(any_number_is_an_ident)
{
	static const uintptr_t idents[] = { 0, 1, INT_MAX,
		(uintptr_t)INT_MAX + 1, WIDE_IDENTS UINTPTR_MAX - 1,
		UINTPTR_MAX };
	struct kevent got;
	size_t i;

	for (i = 0; i < T_COUNT(idents); i++) {
		t_change(idents[i], EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0,
		    t_ptr(i));
		t_change(idents[i], EVFILT_TIMER, EV_ADD, 0, HOUR, t_ptr(i));
	}
	for (i = 0; i < T_COUNT(idents); i++) {
		t_change(idents[i], EVFILT_USER, 0, NOTE_TRIGGER, 0, t_ptr(i));
		t_expect(&got, idents[i], EVFILT_USER);
		ck_assert_ptr_eq(got.udata, t_ptr(i));
		t_change(idents[i], EVFILT_TIMER, EV_ADD, 0, 1, t_ptr(i));
		t_expect(&got, idents[i], EVFILT_TIMER);
		ck_assert_ptr_eq(got.udata, t_ptr(i));
		t_delete(idents[i], EVFILT_USER);
		t_delete(idents[i], EVFILT_TIMER);
	}
	t_none();
}
END_TEST

static void
add_changes(TCase *tc)
{
	int n = (int)T_COUNT(touches);

	tcase_add_loop_test(tc, add_again_keeps_the_mode, 0,
	    (int)T_COUNT(modes));
	tcase_add_test(tc, add_leaves_a_disabled_knote_disabled);
	tcase_add_loop_test(tc, a_change_overwrites, 0, n);
	tcase_add_loop_test(tc, a_change_overwrites_user, 0, n);
	tcase_add_loop_test(tc, keepudata_keeps_udata_only, 0, n);
	tcase_add_loop_test(tc, a_change_leaves_a_timer_running, 0, n);
	tcase_add_test(tc, an_unknown_key_is_enoent);
	tcase_add_test(tc, a_closed_ident_is_ebadf);
	tcase_add_test(tc, delete_after_close_fails);
	tcase_add_test(tc, a_failed_add_leaves_nothing);
	tcase_add_test(tc, delete_removes_what_is_pending);
	tcase_add_test(tc, add_with_delete_toggles);
	tcase_add_test(tc, add_with_disable_is_silent);
	tcase_add_test(tc, disable_withholds_and_records);
	tcase_add_test(tc, enable_asks_anew);
	tcase_add_test(tc, enable_and_disable_may_be_repeated);
}

int
main(void)
{
	TCase *tc = t_begin("reg");

	tcase_add_test(tc, a_key_has_one_knote);
	tcase_add_test(tc, the_key_is_the_number);
	tcase_add_test(tc, add_asks_the_filter);
	tcase_add_test(tc, add_again_replaces);
	tcase_add_test(tc, add_again_replaces_fflags);
	add_changes(tc);
	tcase_add_loop_test(tc, read_and_write_are_independent, 0,
	    (int)T_COUNT(pairs));
	tcase_add_test(tc, deleting_one_filter_leaves_the_other);
	tcase_add_test(tc, arrivals_do_not_fire_write);
	tcase_add_test(tc, a_descriptor_may_be_in_many_queues);
	tcase_add_test(tc, forceoneshot_fires_at_once);
	tcase_add_test(tc, forceoneshot_fires_in_its_turn);
	tcase_add_test(tc, any_number_is_an_ident);
	return t_end();
}
