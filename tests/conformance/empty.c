/*
 * EVFILT_EMPTY: nothing that was sent is left in the socket.
 * docs/kqueue-rules.md, section 9.
 */
#include "t.h"

static void
t_sockets(int kind, int s[2])
{
	if (kind == 0)
		t_tcp(s);
	else
		t_unix(kind == 1 ? SOCK_STREAM : SOCK_DGRAM, s);
}

static void
t_expect_empty(int fd)
{
	struct kevent got;

	t_expect(&got, fd, EVFILT_EMPTY);
	ck_assert_int_eq(got.data, 0);
	ck_assert_uint_eq(got.fflags, 0);
	ck_assert_uint_eq(got.flags & EV_EOF, 0);
}

/* Fill it so that bytes stay on our side: TCP's window is closed, too. */
static void
t_stuff(int fd)
{
	ck_assert_uint_gt(t_fill(fd), 0);
}

/* R-EMPTY-01: TCP, UNIX stream, UNIX datagram. */
START_TEST(active_while_empty)
{
	int s[2];

	t_sockets(_i, s);
	t_add(s[0], EVFILT_EMPTY, 0);
	t_expect_empty(s[0]);
	t_expect_empty(s[0]);
	t_stuff(s[0]);
	t_quiet();
	while (t_drain(s[1]) > 0)
		t_pause(5);
	t_expect_empty(s[0]);
	t_expect_empty(s[0]);
}
END_TEST

static void *
drain_later(void *arg)
{
	int fd = *(int *)arg;

	t_pause(20);
	while (t_drain(fd) > 0)
		t_pause(5);
	return NULL;
}

/* R-EMPTY-01, R-EMPTY-04: whoever waits is woken. */
START_TEST(a_wait_ends)
{
	pthread_t thread;
	int s[2];

	t_sockets(_i, s);
	t_stuff(s[0]);
	t_add(s[0], EVFILT_EMPTY, 0);
	t_quiet();
	thread = t_thread(drain_later, &s[1]);
	t_expect_empty(s[0]);
	t_join(thread);
}
END_TEST

/* R-EMPTY-01, R-EMPTY-04: with EV_CLEAR each time it gets empty. */
START_TEST(cleared)
{
	int s[2], i;

	t_sockets(_i, s);
	t_add(s[0], EVFILT_EMPTY, EV_CLEAR);
	t_expect_empty(s[0]);
	t_quiet();
	for (i = 0; i < 3; i++) {
		t_put(s[0], 10);
		t_readable(s[1]);
		t_take(s[1], 10);
		t_expect_empty(s[0]);
		t_quiet();
	}
	t_stuff(s[0]);
	t_quiet();
	while (t_drain(s[1]) > 0)
		t_pause(5);
	t_expect_empty(s[0]);
	t_quiet();
}
END_TEST

/* R-EMPTY-01: the modes, and a change while it is not empty. */
START_TEST(one_shot_and_dispatch)
{
	int s[2];

	t_sockets(_i, s);
	t_add(s[0], EVFILT_EMPTY, EV_ONESHOT);
	t_expect_empty(s[0]);
	t_quiet();
	t_gone(s[0], EVFILT_EMPTY);
	t_add(s[0], EVFILT_EMPTY, EV_DISPATCH);
	t_expect_empty(s[0]);
	t_quiet();
	t_stuff(s[0]);
	t_change((uintptr_t)s[0], EVFILT_EMPTY, EV_ENABLE, 0, 0, NULL);
	t_quiet();
	while (t_drain(s[1]) > 0)
		t_pause(5);
	t_expect_empty(s[0]);
	t_quiet();
}
END_TEST

/* R-EMPTY-02 */
START_TEST(listening)
{
	struct sockaddr_in sin;
	int fd = t_listen(&sin, 1);

	t_add(fd, EVFILT_EMPTY, 0);
	t_expect_empty(fd);
	t_expect_empty(fd);
}
END_TEST

/* R-EMPTY-03 */
START_TEST(sockets_only)
{
	int fds[5], i;

	t_pipe(&fds[0]);
	fds[2] = t_file("text");
	fds[3] = open("/dev/null", O_RDONLY);
	fds[4] = kqueue();
	for (i = 0; i < 5; i++) {
		t_fails(EINVAL, (uintptr_t)fds[i], EVFILT_EMPTY, EV_ADD, 0, 0,
		    NULL);
		t_gone(fds[i], EVFILT_EMPTY);
	}
	close(fds[0]);
	t_fails(EBADF, (uintptr_t)fds[0], EVFILT_EMPTY, EV_ADD, 0, 0, NULL);
}
END_TEST

/* R-EMPTY-01: READ and WRITE beside it, and EVFILT_EXCEPT, are as ever. */
START_TEST(beside_other_filters)
{
	struct kevent got;
	int s[2];

	t_sockets(_i, s);
	t_add(s[0], EVFILT_READ, EV_CLEAR);
	t_add(s[0], EVFILT_EMPTY, EV_CLEAR);
	t_add(s[0], EVFILT_WRITE, EV_CLEAR);
#ifdef EVFILT_EXCEPT
	t_change((uintptr_t)s[0], EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0, NULL);
#endif
	ck_assert_int_eq(t_wait(&got) + t_wait(&got), 2);
	t_quiet();
	t_put(s[1], 2);
	t_expect(&got, s[0], EVFILT_READ);
	ck_assert_int_eq(got.filter, EVFILT_READ);
	t_delete(s[0], EVFILT_READ);
	t_delete(s[0], EVFILT_WRITE);
	t_put(s[0], 2);
	t_readable(s[1]);
	t_take(s[1], 2);
	t_expect_empty(s[0]);
}
END_TEST

/* R-EMPTY-01, R-FD-01: closed, also where a copy keeps the socket open. */
START_TEST(close_removes_it)
{
	int s[2], copy;

	t_sockets(_i, s);
	copy = dup(s[0]);
	t_add(s[0], EVFILT_EMPTY, 0);
	t_expect_empty(s[0]);
	close(s[0]);
	t_quiet();
	ck_assert_int_eq(dup2(copy, s[0]), s[0]);
	t_gone(s[0], EVFILT_EMPTY);
	t_quiet();
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("empty");

	tcase_add_loop_test(tc, active_while_empty, 0, 3);
	tcase_add_loop_test(tc, a_wait_ends, 0, 3);
	tcase_add_loop_test(tc, cleared, 0, 3);
	tcase_add_loop_test(tc, one_shot_and_dispatch, 0, 3);
	tcase_add_test(tc, listening);
	tcase_add_test(tc, sockets_only);
	tcase_add_loop_test(tc, beside_other_filters, 0, 2);
	tcase_add_loop_test(tc, close_removes_it, 0, 2);
	return t_end();
}
