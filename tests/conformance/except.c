/*
 * EVFILT_EXCEPT: urgent data.  docs/kqueue-rules.md, section 9.
 */
#include "t.h"

#define t_watch(fd, flags)                                                     \
	t_change((uintptr_t)(fd), EVFILT_EXCEPT, EV_ADD | (flags), NOTE_OOB,   \
	    0, t_ptr(5))

/* The urgent byte is sent to and has arrived at the other side of s[0]. */
static void
t_urge(int s[2])
{
	char byte;

	ck_assert_int_eq(send(s[0], "!", 1, MSG_OOB), 1);
	t_until(recv(s[1], &byte, 1, MSG_OOB | MSG_PEEK) == 1);
}

static void
t_take_urgent(int fd)
{
	char byte;

	ck_assert_int_eq(recv(fd, &byte, 1, MSG_OOB), 1);
}

static void
t_expect_urgent(int fd)
{
	struct kevent got;

	t_expect(&got, fd, EVFILT_EXCEPT);
	ck_assert_uint_eq(got.fflags, NOTE_OOB);
	ck_assert_uint_eq(got.flags & EV_EOF, 0);
	ck_assert_ptr_eq(got.udata, t_ptr(5));
}

/* R-EXC-01: until the byte has been taken and its mark read past. */
START_TEST(urgent_data)
{
	int s[2];

	t_tcp(s);
	t_watch(s[1], 0);
	t_quiet();
	t_put(s[0], 3);
	t_readable(s[1]);
	t_quiet();
	t_urge(s);
	t_expect_urgent(s[1]);
	t_expect_urgent(s[1]);
	t_take(s[1], 3);
	t_expect_urgent(s[1]);
	t_take_urgent(s[1]);
	t_put(s[0], 1);
	t_readable(s[1]);
	t_take(s[1], 1);
	t_quiet();
	t_urge(s);
	t_expect_urgent(s[1]);
}
END_TEST

/* R-EXC-01: it is there when the knote is made. */
START_TEST(urgent_data_before)
{
	int s[2];

	t_tcp(s);
	t_urge(s);
	t_watch(s[1], 0);
	t_expect_urgent(s[1]);
	t_change((uintptr_t)s[1], EVFILT_EXCEPT, EV_DISABLE, NOTE_OOB, 0,
	    t_ptr(5));
	t_none();
	t_change((uintptr_t)s[1], EVFILT_EXCEPT, EV_ENABLE, NOTE_OOB, 0,
	    t_ptr(5));
	t_expect_urgent(s[1]);
	t_delete(s[1], EVFILT_EXCEPT);
	t_none();
}
END_TEST

/* R-EXC-01: the mark alone, with the byte taken, until it is read past. */
START_TEST(the_mark)
{
	int s[2];

	t_tcp(s);
	t_watch(s[1], 0);
	t_urge(s);
	t_expect_urgent(s[1]);
	t_take_urgent(s[1]);
	t_expect_urgent(s[1]);
	t_put(s[0], 1);
	t_readable(s[1]);
	t_expect_urgent(s[1]);
	t_take(s[1], 1);
	t_quiet();
}
END_TEST

/* R-EXC-01, R-MODE-05: each once. */
START_TEST(urgent_data_cleared)
{
	int s[2];

	t_tcp(s);
	t_watch(s[1], EV_CLEAR);
	t_urge(s);
	t_expect_urgent(s[1]);
	t_quiet();
	t_take_urgent(s[1]);
	t_urge(s);
	t_expect_urgent(s[1]);
	t_quiet();
	t_delete(s[1], EVFILT_EXCEPT);
	t_watch(s[1], EV_CLEAR);
	t_expect_urgent(s[1]);
	t_quiet();
}
END_TEST

/* R-EXC-01: the other filters of the descriptor see what they always see. */
START_TEST(beside_read_and_write)
{
	struct kevent got;
	int s[2];

	t_tcp(s);
	t_add(s[1], EVFILT_READ, EV_CLEAR);
	t_watch(s[1], 0);
	t_add(s[1], EVFILT_WRITE, EV_CLEAR);
	t_expect(&got, s[1], EVFILT_WRITE);
	t_quiet();
	t_put(s[0], 2);
	t_expect(&got, s[1], EVFILT_READ);
	t_quiet();
	t_delete(s[1], EVFILT_READ);
	t_urge(s);
	t_expect_urgent(s[1]);
	t_delete(s[1], EVFILT_EXCEPT);
	t_add(s[1], EVFILT_READ, 0);
	t_expect(&got, s[1], EVFILT_READ);
}
END_TEST

/* R-EXC-02 */
START_TEST(silent_without_the_note)
{
	int s[2];

	t_tcp(s);
	t_add(s[1], EVFILT_EXCEPT, 0);
	t_urge(s);
	t_quiet();
	t_delete(s[1], EVFILT_EXCEPT);
	t_add(s[1], EVFILT_EXCEPT, 0);
	t_quiet();
	shutdown(s[0], SHUT_WR);
	t_readable(s[1]);
	t_quiet();
	t_change((uintptr_t)s[1], EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0, NULL);
	ck_assert_int_eq(t_poll((&(struct kevent){ 0 })), 1);
}
END_TEST

/* R-EXC-03 */
START_TEST(end_of_file)
{
	struct kevent got;
	int s[2];

	t_tcp(s);
	t_watch(s[1], 0);
	t_quiet();
	if (_i == 0)
		shutdown(s[0], SHUT_WR);
	else
		t_reset(s[0]);
	t_expect(&got, s[1], EVFILT_EXCEPT);
	ck_assert_uint_eq(got.flags & EV_EOF, EV_EOF);
	ck_assert_uint_eq(got.fflags, _i == 0 ? 0 : ECONNRESET);
}
END_TEST

/* R-EXC-04 */
START_TEST(sockets_only)
{
	int fds[5], i;

	t_pipe(&fds[0]);
	fds[2] = t_file("text");
	fds[3] = open("/dev/null", O_RDONLY);
	fds[4] = kqueue();
	for (i = 0; i < 5; i++) {
		t_fails(EINVAL, (uintptr_t)fds[i], EVFILT_EXCEPT, EV_ADD,
		    NOTE_OOB, 0, NULL);
		t_gone(fds[i], EVFILT_EXCEPT);
	}
	close(fds[0]);
	t_fails(EBADF, (uintptr_t)fds[0], EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0,
	    NULL);
}
END_TEST

/* R-EXC-01, R-FD-01: closed, also where a copy keeps the socket open. */
START_TEST(close_removes_it)
{
	int s[2], copy, fd;

	t_tcp(s);
	fd = s[1];
	copy = dup(fd);
	t_watch(fd, 0);
	t_urge(s);
	t_expect_urgent(fd);
	close(fd);
	t_quiet();
	ck_assert_int_eq(dup2(copy, fd), fd);
	t_gone(fd, EVFILT_EXCEPT);
	t_watch(fd, 0);
	t_expect_urgent(fd);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("except");

	tcase_add_test(tc, urgent_data);
	tcase_add_test(tc, urgent_data_before);
	tcase_add_test(tc, the_mark);
	tcase_add_test(tc, urgent_data_cleared);
	tcase_add_test(tc, beside_read_and_write);
	tcase_add_test(tc, silent_without_the_note);
	tcase_add_loop_test(tc, end_of_file, 0, 2);
	tcase_add_test(tc, sockets_only);
	tcase_add_test(tc, close_removes_it);
	return t_end();
}
