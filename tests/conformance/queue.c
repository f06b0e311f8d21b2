/*
 * The queue as a descriptor: copied, sent, polled, watched by other queues.
 * docs/kqueue-rules.md, section 6, R-FD-10 to R-FD-20.
 */
#include "t.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/stat.h>

static void
trigger(int kq, uintptr_t ident)
{
	t_change_on(kq, ident, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
}

/* -- copies of the queue's descriptor -------------------------------------- */

static int
by_dupfd(int kq)
{
	return fcntl(kq, F_DUPFD, 50);
}

static int
by_dupfd_cloexec(int kq)
{
	return fcntl(kq, F_DUPFD_CLOEXEC, 50);
}

static int
by_dup2_of_it(int kq)
{
	return dup2(kq, 60);
}

static int (*const copiers[])(
    int) = { dup, by_dupfd, by_dupfd_cloexec, by_dup2_of_it };

/* R-FD-10: by each way to copy it; the queue lives until the last is closed. */
START_TEST(a_copy_shares_the_queue)
{
	int kq = kqueue(), p[2], copy;
	struct kevent got;

	t_pipe(p);
	t_put(p[1], 1);
	t_change_on(kq, p[0], EVFILT_READ, EV_ADD, 0, 0, t_ptr(1));
	copy = copiers[_i](kq);
	ck_assert_int_ne(copy, -1);
	t_expect_on(copy, &got, p[0], EVFILT_READ);
	ck_assert_ptr_eq(got.udata, t_ptr(1));
	t_change_on(copy, 5, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	t_change_on(copy, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	trigger(kq, 5);
	t_expect_on(kq, &got, 5, EVFILT_USER);

	ck_assert_int_eq(close(kq), 0);
	trigger(copy, 5);
	t_expect_on(copy, &got, 5, EVFILT_USER);
	ck_assert_int_eq(close(copy), 0);
	ck_assert_int_eq(t_try_on(copy, 5, EVFILT_USER, EV_DELETE, 0, 0, NULL),
	    EBADF);
}
END_TEST

/* R-FD-10: a new queue on the number of a closed one is empty. */
START_TEST(a_closed_queue_is_forgotten)
{
	struct kevent got;
	int kq, i, p[2];

	t_pipe(p);
	t_put(p[1], 1);
	for (i = 0; i < 50; i++) {
		kq = kqueue();
		ck_assert_int_eq(t_get(kq, &got, 1, 0), 0);
		ck_assert_int_eq(t_try_on(kq, p[0], EVFILT_READ, EV_DELETE, 0,
				     0, NULL),
		    ENOENT);
		ck_assert_int_eq(t_try_on(kq, 1, EVFILT_USER, EV_DELETE, 0, 0,
				     NULL),
		    ENOENT);
		t_add_on(kq, p[0], EVFILT_READ, 0);
		t_add_on(kq, 1, EVFILT_USER, 0);
		trigger(kq, 1);
		close(kq);
	}
}
END_TEST

static int
send_descriptor(int sock, int fd)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char c = 'x';
	struct iovec iov = { &c, 1 };
	struct msghdr msg;

	memset(&msg, 0, sizeof(msg));
	memset(&control, 0, sizeof(control));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control.room;
	msg.msg_controllen = sizeof(control.room);
	CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
	CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
	CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), &fd, sizeof(fd));
	return sendmsg(sock, &msg, 0) == 1 ? 0 : -1;
}

static int
receive_descriptor(int sock)
{
	union {
		char room[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	char c;
	struct iovec iov = { &c, 1 };
	struct msghdr msg;
	int fd = -1;

	memset(&msg, 0, sizeof(msg));
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	msg.msg_control = control.room;
	msg.msg_controllen = sizeof(control.room);
	if (recvmsg(sock, &msg, 0) == 1 && CMSG_FIRSTHDR(&msg) != NULL)
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(fd));
	return fd;
}

static int
child_uses_received(int sock)
{
	int fd = receive_descriptor(sock), error;

	if (fd == -1)
		return 1;
	error = t_try_on(fd, 1, EVFILT_USER, EV_DELETE, 0, 0, NULL);
	return error == EBADF || error == EINVAL ? 0 : 2;
}

/* R-FD-11 */
START_TEST(a_sent_queue_is_of_no_use)
{
	int s[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	t_add(1, EVFILT_USER, 0);
	if (send_descriptor(s[0], t_kq) == 0)
		ck_assert_int_eq(t_child(child_uses_received, s[1]), 0);
	t_delete(1, EVFILT_USER);
}
END_TEST

/* R-FD-01, R-FD-11: a watched descriptor that is sent and then closed. */
START_TEST(a_descriptor_in_flight_is_not_watched)
{
	struct kevent got;
	int s[2], p[2], back;

	t_unix(SOCK_STREAM, s);
	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	ck_assert_int_eq(send_descriptor(s[0], p[0]), 0);
	close(p[0]);
	t_put(p[1], 1);
	t_quiet();
	back = receive_descriptor(s[1]);
	ck_assert_int_ne(back, -1);
	t_quiet();
	t_gone(back, EVFILT_READ);
	t_add(back, EVFILT_READ, 0);
	t_expect(&got, back, EVFILT_READ);
}
END_TEST

/* -- poll and select ------------------------------------------------------- */

static int
polls(int kq, int ms)
{
	struct pollfd pfd = { kq, POLLIN | POLLRDNORM | POLLOUT, 0 };
	int n = poll(&pfd, 1, ms);

	ck_assert_int_ne(n, -1);
	ck_assert_int_eq(pfd.revents & ~(POLLIN | POLLRDNORM), 0);
	return pfd.revents & POLLIN ? 1 : 0;
}

static int
selects(int kq)
{
	struct timeval zero = { 0, 0 };
	fd_set in, out;

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_SET(kq, &in);
	FD_SET(kq, &out);
	ck_assert_int_ne(select(kq + 1, &in, &out, NULL, &zero), -1);
	ck_assert(!FD_ISSET(kq, &out));
	return FD_ISSET(kq, &in) ? 1 : 0;
}

static void
on_signal(int signo)
{
	(void)signo;
}

static const short polled[] = { EVFILT_READ, EVFILT_WRITE, EVFILT_TIMER,
	EVFILT_USER, EVFILT_SIGNAL };

/* R-FD-12: not before, while pending, not after the event is taken. */
START_TEST(the_queue_polls_while_events_are_pending)
{
	int filter = polled[_i], p[2];
	unsigned int mode = filter == EVFILT_TIMER ? EV_ONESHOT : EV_CLEAR;
	uintptr_t ident;
	struct kevent got;

	t_pipe(p);
	signal(SIGUSR1, on_signal);
	t_fill(p[1]);
	ident = filter == EVFILT_SIGNAL ? SIGUSR1 :
	    filter == EVFILT_WRITE      ? (uintptr_t)p[1] :
					  (uintptr_t)p[0];
	if (filter == EVFILT_READ)
		t_drain(p[0]);
	t_change(ident, filter, EV_ADD | mode, 0, 100, NULL);
	ck_assert_int_eq(polls(t_kq, 0) + selects(t_kq), 0);
	if (filter == EVFILT_READ)
		t_put(p[1], 1);
	if (filter == EVFILT_WRITE)
		t_drain(p[0]);
	if (filter == EVFILT_USER)
		trigger(t_kq, ident);
	if (filter == EVFILT_SIGNAL)
		raise(SIGUSR1);
	ck_assert_int_eq(polls(t_kq, T_DEADLINE_MS), 1);
	ck_assert_int_eq(selects(t_kq), 1);
	ck_assert_int_eq(t_poll(&got), 1);
	t_none();
	ck_assert_int_eq(polls(t_kq, 0) + selects(t_kq), 0);
}
END_TEST

/* R-FD-12: one slot at a time, readable until the last is taken. */
START_TEST(the_queue_polls_until_the_last_event)
{
	struct kevent got;
	int s[2], i;

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 1);
	t_add(s[0], EVFILT_READ, EV_ONESHOT);
	t_add(s[0], EVFILT_WRITE, EV_ONESHOT);
	t_add(1, EVFILT_USER, EV_CLEAR);
	t_add(2, EVFILT_USER, EV_ONESHOT);
	trigger(t_kq, 1);
	trigger(t_kq, 2);
	for (i = 0; i < 4; i++) {
		ck_assert_int_eq(polls(t_kq, 0), 1);
		ck_assert_int_eq(t_poll(&got), 1);
	}
	t_none();
	ck_assert_int_eq(polls(t_kq, 0), 0);
}
END_TEST

/* R-FD-12: a level condition that went; one look may be false, no more. */
START_TEST(the_queue_stops_polling_when_drained)
{
	struct kevent got;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	t_put(p[1], 1);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(polls(t_kq, 0), 1);
	t_take(p[0], 1);
	t_none();
	ck_assert_int_eq(polls(t_kq, 0), 0);
}
END_TEST

/* -- queues in queues ------------------------------------------------------ */

/* R-FD-13: as many USER, READ and TIMER events as are pending. */
START_TEST(a_queue_reads_its_events)
{
	struct kevent got, inner_got[4];
	int inner = kqueue(), p[2];

	t_pipe(p);
	t_add(inner, EVFILT_READ, 0);
	t_quiet();
	t_add_on(inner, p[0], EVFILT_READ, EV_CLEAR);
	t_add_on(inner, 1, EVFILT_USER, EV_CLEAR);
	t_add_on(inner, 2, EVFILT_USER, EV_CLEAR);
	t_quiet();
	trigger(inner, 1);
	t_expect(&got, inner, EVFILT_READ);
	ck_assert_int_eq(got.data, 1);
	trigger(inner, 2);
	t_expect(&got, inner, EVFILT_READ);
	ck_assert_int_eq(got.data, 2);
	t_put(p[1], 1);
	t_expect(&got, inner, EVFILT_READ);
	ck_assert_int_eq(got.data, 3);
	ck_assert_int_eq(t_get(inner, inner_got, 2, 0), 2);
	t_expect(&got, inner, EVFILT_READ);
	ck_assert_int_eq(got.data, 1);
	ck_assert_int_eq(t_get(inner, inner_got, 4, 0), 1);
	t_quiet();
}
END_TEST

/* R-FD-13: what was pending is disabled or deleted, and nothing is. */
START_TEST(a_queue_without_events_is_not_readable)
{
	static const unsigned int ends[] = { EV_DISABLE, EV_DELETE };
	struct kevent got;
	int inner = kqueue();

	t_add(inner, EVFILT_READ, 0);
	t_add_on(inner, 1, EVFILT_USER, 0);
	trigger(inner, 1);
	t_expect(&got, inner, EVFILT_READ);
	t_change_on(inner, 1, EVFILT_USER, ends[_i], 0, 0, NULL);
	t_none();
	t_quiet();
	ck_assert_int_eq(polls(inner, 0), 0);
}
END_TEST

/* R-FD-13: with each mode of the outer knote. */
START_TEST(a_nested_knote_keeps_its_mode)
{
	static const unsigned int modes[] = { 0, EV_CLEAR, EV_ONESHOT,
		EV_DISPATCH };
	struct kevent got;
	int inner = kqueue();
	size_t i;

	t_add_on(inner, 1, EVFILT_USER, EV_CLEAR);
	for (i = 0; i < T_COUNT(modes); i++) {
		t_add(inner, EVFILT_READ, modes[i]);
		trigger(inner, 1);
		t_expect(&got, inner, EVFILT_READ);
		ck_assert_int_eq(t_poll(&got), modes[i] == 0);
		ck_assert_int_eq(t_get(inner, &got, 1, 0), 1);
		t_try(inner, EVFILT_READ, EV_DELETE, 0, 0, NULL);
		t_none();
	}
}
END_TEST

/* R-FD-14 */
START_TEST(other_filters_on_a_queue_fail)
{
	int inner = kqueue();

	t_fails(EINVAL, inner, EVFILT_WRITE, EV_ADD, 0, 0, NULL);
	t_gone(inner, EVFILT_WRITE);
#ifdef EVFILT_VNODE
	t_fails(EINVAL, inner, EVFILT_VNODE, EV_ADD, NOTE_WRITE, 0, NULL);
#endif
#ifdef EVFILT_PROCDESC
	t_fails(EINVAL, inner, EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0, NULL);
#endif
#ifdef EVFILT_EMPTY
	t_fails(EINVAL, inner, EVFILT_EMPTY, EV_ADD, 0, 0, NULL);
#endif
#ifdef EVFILT_EXCEPT
	t_fails(EINVAL, inner, EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0, NULL);
#endif
}
END_TEST

/* R-FD-15: by its own number and by another. */
START_TEST(a_queue_does_not_watch_itself)
{
	int copy = dup(t_kq);

	t_fails(EINVAL, t_kq, EVFILT_READ, EV_ADD, 0, 0, NULL);
	t_fails(EINVAL, copy, EVFILT_READ, EV_ADD, 0, 0, NULL);
	t_gone(t_kq, EVFILT_READ);
	t_gone(copy, EVFILT_READ);
}
END_TEST

/*
 * R-FD-16: an event at the bottom shows at the top.  What went unseen may be
 * counted until the queue that held it has looked (R-FD-12).
 */
START_TEST(four_levels_of_queues_work)
{
	int kq[4], p[2], level;
	struct kevent got;

	t_pipe(p);
	for (level = 0; level < 4; level++) {
		kq[level] = kqueue();
		t_add_on(kq[level], level == 0 ? p[0] : kq[level - 1],
		    EVFILT_READ, 0);
	}
	t_quiet_on(kq[3]);
	t_put(p[1], 1);
	for (level = 3; level > 0; level--)
		t_expect_on(kq[level], &got, kq[level - 1], EVFILT_READ);
	t_expect_on(kq[0], &got, p[0], EVFILT_READ);
	ck_assert_int_eq(polls(kq[3], 0), 1);
	t_take(p[0], 1);
	for (level = 0; level < 4; level++)
		ck_assert_int_eq(t_get(kq[level], &got, 1, 0), 0);
	t_quiet_on(kq[3]);
	t_add_on(kq[0], 1, EVFILT_USER, 0);
	trigger(kq[0], 1);
	t_expect_on(kq[3], &got, kq[2], EVFILT_READ);
}
END_TEST

/* R-FD-16: a cycle of 2 and of 3; without the last link all is as before. */
START_TEST(a_cycle_of_queues_fails)
{
#ifdef __FreeBSD__
	t_skip("cycles are not looked for");
#else
	int a = kqueue(), b = kqueue(), c = kqueue();
	struct kevent got;

	t_add_on(a, b, EVFILT_READ, 0);
	ck_assert_int_eq(t_try_on(b, a, EVFILT_READ, EV_ADD, 0, 0, NULL),
	    EINVAL);
	t_add_on(b, c, EVFILT_READ, 0);
	ck_assert_int_eq(t_try_on(c, a, EVFILT_READ, EV_ADD, 0, 0, NULL),
	    EINVAL);
	ck_assert_int_eq(t_try_on(c, a, EVFILT_READ, EV_DELETE, 0, 0, NULL),
	    ENOENT);
	t_add_on(c, 1, EVFILT_USER, 0);
	trigger(c, 1);
	t_expect_on(a, &got, b, EVFILT_READ);
#endif
}
END_TEST

/* R-FD-01, R-FD-13: closing the inner queue removes its knote. */
START_TEST(closing_an_inner_queue_removes_its_knote)
{
	int inner = kqueue();

	t_add_on(inner, 1, EVFILT_USER, 0);
	t_add(inner, EVFILT_READ, 0);
	trigger(inner, 1);
	close(inner);
	t_quiet();
	ck_assert_int_eq(kqueue(), inner);
	t_gone(inner, EVFILT_READ);
}
END_TEST

/* -- other calls ----------------------------------------------------------- */

/* R-FD-17 */
START_TEST(fstat_succeeds)
{
	struct stat st;

	ck_assert_int_eq(fstat(t_kq, &st), 0);
}
END_TEST

/* R-FD-18 */
START_TEST(read_and_write_fail)
{
	char buf[64] = "";

	t_add(1, EVFILT_USER, 0);
	trigger(t_kq, 1);
	ck_assert_int_eq(read(t_kq, buf, sizeof(buf)), -1);
	ck_assert_int_eq(write(t_kq, buf, sizeof(buf)), -1);
	ck_assert_int_eq(lseek(t_kq, 0, SEEK_SET) == 0 &&
		read(t_kq, buf, 1) == 1,
	    0);
}
END_TEST

/* R-FD-19 */
START_TEST(fcntl_works_and_ioctl_does_not)
{
	struct winsize size;
	int copy;

	ck_assert_int_eq(fcntl(t_kq, F_SETFD, FD_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(t_kq, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(fcntl(t_kq, F_SETFD, 0), 0);
	ck_assert_int_eq(fcntl(t_kq, F_GETFD), 0);
	copy = fcntl(t_kq, F_DUPFD, 40);
	ck_assert_int_ge(copy, 40);
	t_add_on(copy, 1, EVFILT_USER, 0);
	t_delete(1, EVFILT_USER);
	ck_assert_int_eq(ioctl(t_kq, TIOCGWINSZ, &size), -1);
	ck_assert(errno == ENOTTY || errno == EINVAL);
}
END_TEST

/* R-FD-20 */
START_TEST(o_nonblock_does_not_shorten_the_wait)
{
	int64_t start;
	struct kevent got;

	if (fcntl(t_kq, F_SETFL, O_NONBLOCK) == -1) {
		t_skip("O_NONBLOCK cannot be set");
		return;
	}
	start = t_now();
	ck_assert_int_eq(t_get(t_kq, &got, 1, 25), 0);
	ck_assert_int_ge(t_now() - start, 25000000);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("queue");

	tcase_add_loop_test(tc, a_copy_shares_the_queue, 0,
	    (int)T_COUNT(copiers));
	tcase_add_test(tc, a_closed_queue_is_forgotten);
	tcase_add_test(tc, a_sent_queue_is_of_no_use);
	tcase_add_test(tc, a_descriptor_in_flight_is_not_watched);
	tcase_add_loop_test(tc, the_queue_polls_while_events_are_pending, 0,
	    (int)T_COUNT(polled));
	tcase_add_test(tc, the_queue_polls_until_the_last_event);
	tcase_add_test(tc, the_queue_stops_polling_when_drained);
	tcase_add_test(tc, a_queue_reads_its_events);
	tcase_add_loop_test(tc, a_queue_without_events_is_not_readable, 0, 2);
	tcase_add_test(tc, a_nested_knote_keeps_its_mode);
	tcase_add_test(tc, other_filters_on_a_queue_fail);
	tcase_add_test(tc, a_queue_does_not_watch_itself);
	tcase_add_test(tc, four_levels_of_queues_work);
	tcase_add_test(tc, a_cycle_of_queues_fails);
	tcase_add_test(tc, closing_an_inner_queue_removes_its_knote);
	tcase_add_test(tc, fstat_succeeds);
	tcase_add_test(tc, read_and_write_fail);
	tcase_add_test(tc, fcntl_works_and_ioctl_does_not);
	tcase_add_test(tc, o_nonblock_does_not_shorten_the_wait);
	return t_end();
}
