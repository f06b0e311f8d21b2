/*
 * What the conformance tests share.  The tests know kqueue(2) only through
 * <sys/event.h>, and use libc and Check, so that they also build on a BSD:
 *
 *	cc -pthread read.c t.c family.c signals.c \
 *	    $(pkg-config --cflags --libs check)
 *
 * The comment right above a START_TEST names the rules of
 * docs/kqueue-rules.md that it checks; tools/rules counts them.
 *
 * Every test runs in a process of its own, with a fresh queue t_kq that
 * t_open() made in that process (a queue does not survive fork(2)).
 */
#ifndef T_H
#define T_H

#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <netinet/in.h>

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How long a wait for something that must come may take. */
#define T_DEADLINE_MS 5000
/* How long we look before we believe that nothing comes. */
#define T_QUIET_MS 30

/* The modes that a test may leave in flags, and what it must not look at. */
#define T_MODES (EV_ONESHOT | EV_CLEAR | EV_DISPATCH | EV_RECEIPT)

#define T_COUNT(array) (sizeof(array) / sizeof((array)[0]))

/*
 * Here FreeBSD's choice holds where the systems differ, struct kevent has
 * ext[], and there are EV_KEEPUDATA and EV_FORCEONESHOT.
 */
#if defined(__linux__) || defined(__FreeBSD__)
#define T_FREEBSD 1
#endif

/* libkq has these where musl has not. */
#if defined(__linux__) && !defined(__GLIBC__)
#define CLOSE_RANGE_CLOEXEC 4
int close_range(unsigned int first, unsigned int last, int flags);
void closefrom(int low);
#endif

extern int t_kq;

/*
 * main() of a test file: tc = t_begin("name"), tcase_add_test(tc, ...) for
 * each test, return t_end().
 */
TCase *t_begin(const char *name);
int t_end(void);

/* One change, nothing collected: 0 or the errno value it failed with. */
int t_try_on(int kq, uintptr_t ident, int filter, unsigned int flags,
    unsigned int fflags, int64_t data, const void *udata);

#define t_try(...) t_try_on(t_kq, __VA_ARGS__)

/* The same, must succeed.  t_add() has no fflags, data and udata. */
#define t_change_on(...) ck_assert_int_eq(t_try_on(__VA_ARGS__), 0)
#define t_change(...) t_change_on(t_kq, __VA_ARGS__)
#define t_add_on(kq, ident, filter, flags)                                     \
	t_change_on(kq, ident, filter, EV_ADD | (flags), 0, 0, NULL)
#define t_add(ident, filter, flags) t_add_on(t_kq, ident, filter, flags)
#define t_delete(ident, filter) t_change(ident, filter, EV_DELETE, 0, 0, NULL)

/* A change must fail with this errno value. */
#define t_fails(error, ...) ck_assert_int_eq(t_try(__VA_ARGS__), error)

/* There is no knote of that key. */
#define t_gone(ident, filter)                                                  \
	t_fails(ENOENT, ident, filter, EV_DELETE, 0, 0, NULL)

/* A number as udata. */
#define t_ptr(n) ((void *)(uintptr_t)(n))

/*
 * Collect up to n events, waiting at most ms for the first: what kevent()
 * returned.  ev[] is filled with a pattern before.
 */
int t_get(int kq, struct kevent *ev, int n, int ms);

/* How many of at most one event there are now, or come until the deadline. */
#define t_poll(ev) t_get(t_kq, ev, 1, 0)
#define t_wait(ev) t_get(t_kq, ev, 1, T_DEADLINE_MS)

/* Exactly one event comes and is the one of (ident, filter). */
#define t_expect_on(kq, ev, id, filt)                                          \
	do {                                                                   \
		ck_assert_int_eq(t_get(kq, ev, 1, T_DEADLINE_MS), 1);          \
		ck_assert_uint_eq((ev)->ident, (uintptr_t)(id));               \
		ck_assert_int_eq((short)(ev)->filter, (filt));                 \
		ck_assert_int_eq(EV_ERROR &(ev)->flags, 0);                    \
	} while (0)
#define t_expect(ev, ident, filter) t_expect_on(t_kq, ev, ident, filter)

/* The same, with that as its data, and no more of it is looked at. */
#define t_expect_data(ident, filter, number)                                   \
	do {                                                                   \
		struct kevent event_;                                          \
		t_expect(&event_, ident, filter);                              \
		ck_assert_int_eq(event_.data, number);                         \
	} while (0)

/* Nothing is pending now / nothing comes while we look. */
#define t_none()                                                               \
	do {                                                                   \
		struct kevent none_;                                           \
		ck_assert_int_eq(t_get(t_kq, &none_, 1, 0), 0);                \
	} while (0)
#define t_quiet_on(kq)                                                         \
	do {                                                                   \
		struct kevent none_;                                           \
		ck_assert_int_eq(t_get(kq, &none_, 1, T_QUIET_MS), 0);         \
	} while (0)
#define t_quiet() t_quiet_on(t_kq)

/*
 * Descriptors.  Each ends the test if it cannot be had; all are closed with
 * the test's process.  Streams and sockets are non-blocking.
 */
void t_pipe(int p[2]);           /* p[0] reads, p[1] writes */
void t_unix(int type, int s[2]); /* socketpair of that type */
void t_tcp(int s[2]);            /* connected over loopback, s[1] accepted */
void t_udp(int s[2]); /* bound to loopback, each connected to the other */
int t_listen(struct sockaddr_in *sin, int backlog); /* TCP, loopback */
int t_file(const char *text); /* unlinked file, offset 0 */
char *t_dir(void); /* a new folder, removed at the end of the test */

/* Write or read exactly n bytes; they must not be refused. */
void t_put(int fd, size_t n);
void t_take(int fd, size_t n);

/* Write until EAGAIN / read until EAGAIN or end: the number of bytes. */
size_t t_fill(int fd);
size_t t_drain(int fd);

/* Wait until poll(2) says readable: what was sent has arrived. */
void t_readable(int fd);

/* Close so that the TCP peer gets a reset. */
void t_reset(int fd);

/* The monotonic clock in nanoseconds. */
int64_t t_now(void);

/* Until the condition holds, at most T_DEADLINE_MS. */
#define t_until(condition)                                                     \
	do {                                                                   \
		int64_t end_ = t_now() + T_DEADLINE_MS * 1000000LL;            \
		while (!(condition)) {                                         \
			ck_assert_msg(t_now() < end_, "never: %s",             \
			    #condition);                                       \
			t_pause(1);                                            \
		}                                                              \
	} while (0)

/* A short rest, for t_until() and to let another thread enter its wait. */
void t_pause(int ms);

/* Start and join a thread; the runner's time limit ends a join that hangs. */
pthread_t t_thread(void *(*body)(void *), void *arg);
void *t_join(pthread_t thread);

/* Fork; the exit status of the child, which is what body(arg) returned. */
int t_child(int (*body)(int), int arg);

/* Say why the rest of a test does not apply here; then return from it. */
void t_skip(const char *reason);

#endif
