/*
 * The interface as such: the functions that make a queue, the header's
 * layout and values, and the filters that are not there.
 * docs/kqueue-rules.md, sections 1 and 16.
 */
#include <sys/event.h> /* first, on purpose: R-API-07 */

#include "t.h"

#include <stddef.h>
#include <sys/resource.h>

static size_t
open_descriptors(void)
{
	size_t n = 0;
	int fd;

	for (fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) != -1;
	return n;
}

/* R-API-01 */
START_TEST(kqueue_takes_the_lowest_descriptor)
{
	int low = dup(t_kq), kq;

	close(low);
	kq = kqueue();
	ck_assert_int_eq(kq, low);
	ck_assert_int_eq(fcntl(kq, F_GETFL) & O_ACCMODE, O_RDWR);
#ifndef __APPLE__
	ck_assert_int_eq(fcntl(kq, F_GETFD), 0);
#endif
}
END_TEST

/* R-API-02, R-FD-08: no flag beyond KQUEUE_CLOEXEC. */
START_TEST(kqueuex_takes_cloexec_only)
{
#ifdef KQUEUE_CLOEXEC
	unsigned int bit;
	int kq = kqueuex(0);

	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(fcntl(kq, F_GETFD), 0);
	kq = kqueuex(KQUEUE_CLOEXEC);
	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(fcntl(kq, F_GETFD), FD_CLOEXEC);
	t_add_on(kq, 1, EVFILT_USER, 0);

	for (bit = 2; bit != 0; bit <<= 1) {
#ifdef KQUEUE_CPONFORK
		if (bit == KQUEUE_CPONFORK)
			continue;
#endif
		ck_assert_int_eq(kqueuex(bit), -1);
		ck_assert_int_eq(errno, EINVAL);
	}
#else
	t_skip("no kqueuex()");
#endif
}
END_TEST

/* R-API-03 */
START_TEST(kqueue1_takes_descriptor_flags)
{
#if defined(__linux__) || defined(__OpenBSD__)
	static const int bad[] = { O_APPEND, O_RDWR, O_CREAT, 1 << 30,
		O_CLOEXEC | O_TRUNC };
	size_t i;
	int kq = kqueue1(0);

	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(fcntl(kq, F_GETFD), 0);
	kq = kqueue1(O_CLOEXEC);
	ck_assert_int_ne(kq, -1);
	ck_assert_int_eq(fcntl(kq, F_GETFD), FD_CLOEXEC);
	ck_assert_int_ne(kqueue1(O_NONBLOCK), -1);
	kq = kqueue1(O_CLOEXEC | O_NONBLOCK);
	ck_assert_int_eq(fcntl(kq, F_GETFD), FD_CLOEXEC);
	t_add_on(kq, 1, EVFILT_USER, 0);
	for (i = 0; i < T_COUNT(bad); i++) {
		ck_assert_int_eq(kqueue1(bad[i]), -1);
		ck_assert_int_eq(errno, EINVAL);
	}
#else
	t_skip("kqueue1() is missing or takes other flags");
#endif
}
END_TEST

/*
 * R-API-04: with too few descriptors left it fails as a whole and leaves
 * nothing open, however many are left.
 */
START_TEST(kqueue_fails_with_emfile)
{
	struct rlimit limit;
	size_t before = open_descriptors();
	int low = dup(t_kq), room, kq;

	close(low);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	for (room = 0; room < 16; room++) {
		limit.rlim_cur = (rlim_t)(low + room);
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
		kq = kqueue();
		if (kq != -1)
			break;
		ck_assert_int_eq(errno, EMFILE);
		ck_assert_uint_eq(open_descriptors(), before);
	}
	ck_assert_int_gt(room, 0);
	ck_assert_int_eq(kq, low);
	t_add_on(kq, 1, EVFILT_USER, 0);
	close(kq);
	ck_assert_uint_eq(open_descriptors(), before);
}
END_TEST

/* R-API-01, R-FD-10: a queue that was closed has left nothing open. */
START_TEST(a_closed_queue_leaves_no_descriptor)
{
	size_t before = open_descriptors();
	int i, kq, p[2];

	t_pipe(p);
	for (i = 0; i < 300; i++) {
		kq = kqueue();
		ck_assert_int_ne(kq, -1);
		t_add_on(kq, p[0], EVFILT_READ, 0);
		t_change_on(kq, 1, EVFILT_TIMER, EV_ADD, 0, 1000, NULL);
		t_add_on(kq, 1, EVFILT_USER, 0);
		close(kq);
	}
	ck_assert_uint_eq(open_descriptors(), before + 2);
}
END_TEST

#ifdef __NetBSD__
typedef size_t count_t;
#else
typedef int count_t;
#endif
typedef int kevent_fn(int, const struct kevent *, count_t, struct kevent *,
    count_t, const struct timespec *);

/* R-API-05 */
START_TEST(kevent_has_its_prototype)
{
	struct timespec zero = { 0, 0 };
	struct kevent ev;

	ck_assert(_Generic(&kevent, kevent_fn * : 1, default : 0));
	ck_assert(_Generic(&kqueue, int (*)(void) : 1, default : 0));
	ck_assert_int_eq(kevent(t_kq, NULL, 0, &ev, 1, &zero), 0);
}
END_TEST

/* R-API-06, R-LAY-02 */
START_TEST(ev_set_is_one_statement)
{
	struct kevent list[2], *next = list;
	uint32_t filter = (uint32_t)EVFILT_WRITE;
	int i;

	memset(list, 0xff, sizeof(list));
	for (i = 0; i < 2; i++)
		if (i == 0)
			EV_SET(next++, 7, filter, EV_ADD | EV_CLEAR, 3, -5, &i);
		else
			EV_SET(next++, UINTPTR_MAX, EVFILT_USER, EV_DELETE, 0,
			    INT64_MAX, NULL);
	ck_assert_ptr_eq(next, list + 2);
	ck_assert_uint_eq(list[0].ident, 7);
	ck_assert_int_eq(list[0].filter, EVFILT_WRITE);
	ck_assert_uint_eq(list[0].flags, EV_ADD | EV_CLEAR);
	ck_assert_uint_eq(list[0].fflags, 3);
	ck_assert_int_eq(list[0].data, -5);
	ck_assert_ptr_eq(list[0].udata, &i);
	ck_assert_uint_eq(list[1].ident, UINTPTR_MAX);
	ck_assert_int_eq(list[1].data, INT64_MAX);
	ck_assert_ptr_null(list[1].udata);
#ifdef __linux__
	for (i = 0; i < 4; i++)
		ck_assert_uint_eq(list[0].ext[i] | list[1].ext[i], 0);
#endif
}
END_TEST

static void *
cancelled_change(void *arg)
{
	struct kevent change;

	EV_SET(&change, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	pthread_cancel(pthread_self());
	if (kevent(t_kq, &change, 1, NULL, 0, NULL) == 0)
		*(int *)arg = 1;
	pthread_testcancel();
	return NULL;
}

/* R-API-08: with nevents 0 it is no cancellation point. */
START_TEST(a_change_is_not_cancelled)
{
	int done = 0;

	ck_assert_ptr_eq(t_join(t_thread(cancelled_change, &done)),
	    PTHREAD_CANCELED);
	ck_assert_int_eq(done, 1);
	t_delete(1, EVFILT_USER);
}
END_TEST

static void *
wait_for_ever(void *arg)
{
	struct kevent ev;

	return kevent(t_kq, NULL, 0, &ev, 1, NULL) == 1 ? arg : NULL;
}

/* R-API-08: a wait without changes is cancelled, and the queue unharmed. */
START_TEST(a_wait_is_cancelled)
{
	struct kevent ev;
	pthread_t thread;
	int round;

	t_add(1, EVFILT_USER, 0);
	for (round = 0; round < 3; round++) {
		thread = t_thread(wait_for_ever, &ev);
		t_pause(round * 10);
		ck_assert_int_eq(pthread_cancel(thread), 0);
		ck_assert_ptr_eq(t_join(thread), PTHREAD_CANCELED);
	}
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	t_expect(&ev, 1, EVFILT_USER);
}
END_TEST

static void *
change_and_wait(void *arg)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
	if (kevent(t_kq, &ev, 1, &ev, 1, NULL) == 1 && ev.ident == 1)
		*(int *)arg = 1;
	pthread_testcancel();
	return NULL;
}

/* R-API-08: a wait that changes were made for is not. */
START_TEST(a_wait_after_a_change_is_not_cancelled)
{
	pthread_t thread;
	int done = 0;

	thread = t_thread(change_and_wait, &done);
	t_until(t_try(1, EVFILT_USER, EV_ENABLE, 0, 0, NULL) == 0);
	t_pause(10);
	ck_assert_int_eq(pthread_cancel(thread), 0);
	t_pause(10);
	t_change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	ck_assert_ptr_eq(t_join(thread), PTHREAD_CANCELED);
	ck_assert_int_eq(done, 1);
}
END_TEST

/* Is there a macro for this filter?  That of EVFILT_AIO is a name only. */
static int
defined_filter(int filter)
{
	static const int have[] = {
		EVFILT_READ,
		EVFILT_WRITE,
		EVFILT_TIMER,
		EVFILT_SIGNAL,
#ifdef EVFILT_VNODE
		EVFILT_VNODE,
#endif
#ifdef EVFILT_PROC
		EVFILT_PROC,
#endif
#ifdef EVFILT_PROCDESC
		EVFILT_PROCDESC,
#endif
#ifdef EVFILT_FS
		EVFILT_FS,
#endif
#ifdef EVFILT_FS
		EVFILT_FS,
#endif
#ifdef EVFILT_LIO
		EVFILT_LIO,
#endif
#ifdef EVFILT_USER
		EVFILT_USER,
#endif
#ifdef EVFILT_SENDFILE
		EVFILT_SENDFILE,
#endif
#ifdef EVFILT_EMPTY
		EVFILT_EMPTY,
#endif
#ifdef EVFILT_EXCEPT
		EVFILT_EXCEPT,
#endif
	};
	size_t i;

	for (i = 0; i < T_COUNT(have); i++)
		if (have[i] == filter)
			return 1;
	return 0;
}

/* R-API-09, R-MISC-01, R-MISC-02, R-MISC-04 */
START_TEST(a_filter_without_macro_fails)
{
#ifdef __linux__
	int filter, s[2];

	t_unix(SOCK_STREAM, s);
	for (filter = -64; filter < 0; filter++) {
		if (defined_filter(filter))
			continue;
		t_fails(EINVAL, s[0], filter, EV_ADD, 1, 0, NULL);
		t_fails(EINVAL, s[0], filter, EV_DELETE, 0, 0, NULL);
	}
	t_quiet();
	ck_assert(!defined_filter(-3) && !defined_filter(-10) &&
	    !defined_filter(-12));
#else
	(void)defined_filter;
	t_skip("which filters there are differs");
#endif
}
END_TEST

/* R-LAY-01 */
START_TEST(struct_kevent_has_freebsd_s_layout)
{
	struct kevent ev = { 3, EVFILT_READ, EV_ADD, 0, 0, t_ptr(5) };

	ck_assert_uint_eq(ev.ident, 3);
	ck_assert_int_eq(ev.filter, EVFILT_READ);
	ck_assert_uint_eq(ev.flags, EV_ADD);
	ck_assert_ptr_eq(ev.udata, t_ptr(5));
#if defined(__LP64__) && defined(T_FREEBSD)
	ck_assert_uint_eq(offsetof(struct kevent, ident), 0);
	ck_assert_uint_eq(offsetof(struct kevent, filter), 8);
	ck_assert_uint_eq(offsetof(struct kevent, flags), 10);
	ck_assert_uint_eq(offsetof(struct kevent, fflags), 12);
	ck_assert_uint_eq(offsetof(struct kevent, data), 16);
	ck_assert_uint_eq(offsetof(struct kevent, udata), 24);
	ck_assert_uint_eq(offsetof(struct kevent, ext), 32);
	ck_assert_uint_eq(sizeof(ev.ext), 32);
	ck_assert_uint_eq(sizeof(ev), 64);
	ck_assert((short)-1 < 0 && sizeof(ev.filter) == sizeof(short));
	ck_assert_uint_eq(sizeof(ev.data), sizeof(int64_t));
#endif
}
END_TEST

/* R-LAY-03, R-MODE-14: what only macOS has is not there. */
START_TEST(macos_extensions_are_not_defined)
{
	int defined_here = 0;

#if !defined(__APPLE__) &&                                                     \
    (defined(EV_SET64) || defined(EV_DISPATCH2) ||                             \
	defined(EV_UDATA_SPECIFIC) || defined(EV_VANISHED) ||                  \
	defined(EVFILT_MACHPORT) || defined(EVFILT_VM))
	defined_here = 1;
#endif
	ck_assert_int_eq(defined_here, 0);
}
END_TEST

#ifdef T_FREEBSD
static void
set_ext(struct kevent *ev, uint64_t first)
{
	int i;

	for (i = 0; i < 4; i++)
		ev->ext[i] = first + (uint64_t)i;
}

/* Add with one ext[], change with another: the first comes back. */
static void
ext_returns(uintptr_t ident, int filter, unsigned int trigger, int64_t data)
{
	struct kevent ev;
	uint64_t i;

	EV_SET(&ev, ident, filter, EV_ADD, 0, data, NULL);
	set_ext(&ev, UINT64_MAX - 4);
	ck_assert_int_eq(kevent(t_kq, &ev, 1, NULL, 0, NULL), 0);
	EV_SET(&ev, ident, filter, EV_ADD, trigger, data, NULL);
	set_ext(&ev, 100);
	ck_assert_int_eq(kevent(t_kq, &ev, 1, NULL, 0, NULL), 0);
	t_expect(&ev, ident, filter);
	for (i = 0; i < 4; i++)
		ck_assert_uint_eq(ev.ext[i], UINT64_MAX - 4 + i);
	t_delete(ident, filter);
}
#endif

/* R-LAY-04 */
START_TEST(ext_returns_as_first_given)
{
#ifdef T_FREEBSD
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	ext_returns((uintptr_t)p[0], EVFILT_READ, 0, 0);
	ext_returns((uintptr_t)p[1], EVFILT_WRITE, 0, 0);
	ext_returns(1, EVFILT_USER, NOTE_TRIGGER, 0);
	ext_returns(1, EVFILT_TIMER, 0, 1);

	t_add(p[0], EVFILT_READ, 0);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_uint_eq(ev.ext[0] | ev.ext[1] | ev.ext[2] | ev.ext[3], 0);
#else
	t_skip("struct kevent has no ext[]");
#endif
}
END_TEST

struct value {
	const char *name;
	int64_t is, freebsd;
};

static const struct value filters[] = {
	{ "EVFILT_READ", EVFILT_READ, -1 },
	{ "EVFILT_WRITE", EVFILT_WRITE, -2 },
	{ "EVFILT_SIGNAL", EVFILT_SIGNAL, -6 },
	{ "EVFILT_TIMER", EVFILT_TIMER, -7 },
#ifdef EVFILT_VNODE
	{ "EVFILT_VNODE", EVFILT_VNODE, -4 },
#endif
#ifdef EVFILT_PROC
	{ "EVFILT_PROC", EVFILT_PROC, -5 },
#endif
#ifdef EVFILT_PROCDESC
	{ "EVFILT_PROCDESC", EVFILT_PROCDESC, -8 },
#endif
#ifdef EVFILT_USER
	{ "EVFILT_USER", EVFILT_USER, -11 },
#endif
#ifdef EVFILT_EMPTY
	{ "EVFILT_EMPTY", EVFILT_EMPTY, -13 },
#endif
};

static const struct value flags[] = {
	{ "EV_ADD", EV_ADD, 0x0001 },
	{ "EV_DELETE", EV_DELETE, 0x0002 },
	{ "EV_ENABLE", EV_ENABLE, 0x0004 },
	{ "EV_DISABLE", EV_DISABLE, 0x0008 },
	{ "EV_ONESHOT", EV_ONESHOT, 0x0010 },
	{ "EV_CLEAR", EV_CLEAR, 0x0020 },
	{ "EV_RECEIPT", EV_RECEIPT, 0x0040 },
	{ "EV_DISPATCH", EV_DISPATCH, 0x0080 },
#ifdef EV_FORCEONESHOT
	{ "EV_FORCEONESHOT", EV_FORCEONESHOT, 0x0100 },
#endif
#ifdef EV_KEEPUDATA
	{ "EV_KEEPUDATA", EV_KEEPUDATA, 0x0200 },
#endif
	{ "EV_ERROR", EV_ERROR, 0x4000 },
	{ "EV_EOF", EV_EOF, 0x8000 },
};

static const struct value notes_io[] = {
	{ "NOTE_LOWAT", NOTE_LOWAT, 1 },
#ifdef NOTE_FILE_POLL
	{ "NOTE_FILE_POLL", NOTE_FILE_POLL, 2 },
#endif
#ifdef NOTE_OOB
	{ "NOTE_OOB", NOTE_OOB, 4 },
#endif
#ifdef NOTE_EOF
	{ "NOTE_EOF", NOTE_EOF, 0x100 },
#endif
#ifdef NOTE_NODATA
	{ "NOTE_NODATA", NOTE_NODATA, 0x200 },
#endif
};

static const struct value notes_timer[] = {
#ifdef NOTE_SECONDS
	{ "NOTE_SECONDS", NOTE_SECONDS, 1 },
	{ "NOTE_MSECONDS", NOTE_MSECONDS, 2 },
	{ "NOTE_USECONDS", NOTE_USECONDS, 4 },
	{ "NOTE_NSECONDS", NOTE_NSECONDS, 8 },
#endif
#ifdef NOTE_ABSTIME
	{ "NOTE_ABSTIME", NOTE_ABSTIME, 0x10 },
#endif
#ifdef NOTE_ABSOLUTE
	{ "NOTE_ABSOLUTE", NOTE_ABSOLUTE, 0x40 },
#endif
};

static const struct value notes_user[] = {
#ifdef EVFILT_USER
	{ "NOTE_FFNOP", NOTE_FFNOP, 0 },
	{ "NOTE_FFAND", NOTE_FFAND, 0x40000000 },
	{ "NOTE_FFOR", NOTE_FFOR, 0x80000000 },
	{ "NOTE_FFCOPY", NOTE_FFCOPY, 0xc0000000 },
	{ "NOTE_TRIGGER", NOTE_TRIGGER, 0x01000000 },
	{ "NOTE_FFLAGSMASK", NOTE_FFLAGSMASK, 0x00ffffff },
#endif
};

static const struct {
	const struct value *rows;
	size_t n;
} groups[] = {
	{ filters, T_COUNT(filters) },
	{ flags, T_COUNT(flags) },
	{ notes_io, T_COUNT(notes_io) },
	{ notes_timer, T_COUNT(notes_timer) },
	{ notes_user, T_COUNT(notes_user) },
};

/* R-VAL-01, R-VAL-02: one group of values a round. */
START_TEST(values_are_distinct)
{
	const struct value *v = groups[_i].rows;
	size_t i, j, n = groups[_i].n;

	for (i = 0; i < n; i++) {
		for (j = 0; j < i; j++)
			ck_assert_msg(v[i].is != v[j].is, "%s equals %s",
			    v[i].name, v[j].name);
		if (v == filters)
			ck_assert(v[i].is < 0 && v[i].is >= INT16_MIN);
#if defined(__linux__)
		ck_assert_msg(v[i].is == v[i].freebsd, "%s is wrong",
		    v[i].name);
#endif
	}
}
END_TEST

/* R-VAL-01: the bits of flags do not overlap. */
START_TEST(flags_are_single_bits)
{
	int64_t all = 0;
	size_t i;

	for (i = 0; i < T_COUNT(flags); i++) {
		ck_assert_int_eq(flags[i].is & (flags[i].is - 1), 0);
		ck_assert_int_eq(flags[i].is & all, 0);
		all |= flags[i].is;
	}
	ck_assert_int_eq(EV_SYSFLAGS & (EV_ERROR | EV_EOF), EV_ERROR | EV_EOF);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("api");

	tcase_add_test(tc, kqueue_takes_the_lowest_descriptor);
	tcase_add_test(tc, kqueuex_takes_cloexec_only);
	tcase_add_test(tc, kqueue1_takes_descriptor_flags);
	tcase_add_test(tc, kqueue_fails_with_emfile);
	tcase_add_test(tc, a_closed_queue_leaves_no_descriptor);
	tcase_add_test(tc, kevent_has_its_prototype);
	tcase_add_test(tc, ev_set_is_one_statement);
	tcase_add_test(tc, a_change_is_not_cancelled);
	tcase_add_test(tc, a_wait_is_cancelled);
	tcase_add_test(tc, a_wait_after_a_change_is_not_cancelled);
	tcase_add_test(tc, a_filter_without_macro_fails);
	tcase_add_test(tc, struct_kevent_has_freebsd_s_layout);
	tcase_add_test(tc, macos_extensions_are_not_defined);
	tcase_add_test(tc, ext_returns_as_first_given);
	tcase_add_loop_test(tc, values_are_distinct, 0, (int)T_COUNT(groups));
	tcase_add_test(tc, flags_are_single_bits);
	return t_end();
}
