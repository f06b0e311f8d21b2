/*
 * EVFILT_READ on the descriptors that Linux has and a BSD has not.
 */
#include "t.h"

#include <stdio.h>
#include <sys/wait.h>

#include <mqueue.h>
#include <net/if.h>
#include <netpacket/packet.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

/* R-READ-50: eventfd: data is the counter. */
START_TEST(eventfd_counter)
{
	uint64_t n;
	int fd;

	fd = eventfd(0, EFD_NONBLOCK | (_i == 0 ? 0 : EFD_SEMAPHORE));
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(eventfd_write(fd, 5), 0);
	t_expect_data(fd, EVFILT_READ, 5);
	t_expect_data(fd, EVFILT_READ, 5);
	ck_assert_int_eq(eventfd_read(fd, &n), 0);
	if (_i == 0) {
		ck_assert_uint_eq(n, 5);
		t_none();
	} else {
		t_expect_data(fd, EVFILT_READ, 4);
	}
}
END_TEST

/* R-READ-50: timerfd: active when it has expired; its count stays in it. */
START_TEST(timerfd_expired)
{
	struct itimerspec its = { { 0, 0 }, { 0, 1000000 } };
	struct kevent ev;
	uint64_t n;
	int fd;

	fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(timerfd_settime(fd, 0, &its, NULL), 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ge(ev.data, 1);
	ck_assert_int_eq(read(fd, &n, sizeof(n)), sizeof(n));
	ck_assert_uint_eq(n, 1);
	t_none();
}
END_TEST

/* R-READ-50: signalfd: active while a signal waits in it. */
START_TEST(signalfd_pending)
{
	struct signalfd_siginfo info;
	struct kevent ev;
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	fd = signalfd(-1, &set, SFD_NONBLOCK);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ge(ev.data, 1);
	ck_assert_int_eq(read(fd, &info, sizeof(info)), sizeof(info));
	ck_assert_uint_eq(info.ssi_signo, SIGUSR1);
	t_none();
}
END_TEST

/* R-READ-50: inotify: data is the bytes that read() would return. */
START_TEST(inotify_events)
{
	char buf[4096];
	int fd;

	fd = inotify_init1(IN_NONBLOCK);
	ck_assert_int_ge(inotify_add_watch(fd, "/dev/null", IN_OPEN), 0);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_ge(open("/dev/null", O_RDONLY), 0);
	t_expect_data(fd, EVFILT_READ, read(fd, buf, sizeof(buf)));
}
END_TEST

/* R-READ-50: pidfd: active when the process has ended; it is not reaped. */
START_TEST(pidfd_exit)
{
	int fd, go[2], status;
	pid_t pid;
	char c;

	t_pipe(go);
	ck_assert_int_ne(fcntl(go[0], F_SETFL, 0), -1);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(read(go[0], &c, 1) == 0 ? 7 : 1);
	}
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd == -1) {
		t_skip("no pidfd_open() here");
		return;
	}
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(close(go[1]), 0);
	t_expect_data(fd, EVFILT_READ, 1);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), 7);
}
END_TEST

/* R-READ-50: an epoll instance of the program's own. */
START_TEST(epoll_ready)
{
	struct epoll_event want = { .events = EPOLLIN };
	int fd, p[2];

	t_pipe(p);
	fd = epoll_create1(0);
	ck_assert_int_eq(epoll_ctl(fd, EPOLL_CTL_ADD, p[0], &want), 0);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	t_put(p[1], 1);
	t_expect_data(fd, EVFILT_READ, 1);
	t_take(p[0], 1);
	t_none();
}
END_TEST

/* R-READ-50: a message queue passes for a regular file, but can be full. */
START_TEST(message_queue)
{
	struct mq_attr attr = { .mq_maxmsg = 1, .mq_msgsize = 8 };
	char name[32], message[8];
	struct kevent ev;
	mqd_t mq;

	snprintf(name, sizeof(name), "/kqueue-%d", (int)getpid());
	mq = mq_open(name, O_CREAT | O_EXCL | O_RDWR | O_NONBLOCK, 0600, &attr);
	if (mq == (mqd_t)-1) {
		t_skip("no message queues here");
		return;
	}
	mq_unlink(name);
	t_add(mq, _i == 0 ? EVFILT_READ : EVFILT_WRITE, 0);
	t_add(mq, _i == 0 ? EVFILT_WRITE : EVFILT_READ, 0);
	t_expect(&ev, mq, EVFILT_WRITE);
	t_delete(mq, EVFILT_WRITE);
	t_none();
	t_add(mq, EVFILT_WRITE, 0);
	ck_assert_int_eq(mq_send(mq, "text", 4, 0), 0);
	t_delete(mq, EVFILT_READ);
	t_none();
	t_add(mq, EVFILT_READ, 0);
	t_expect(&ev, mq, EVFILT_READ);
	ck_assert_int_eq(mq_receive(mq, message, sizeof(message), NULL), 4);
	t_expect(&ev, mq, EVFILT_WRITE);
	mq_close(mq);
	t_none();
}
END_TEST

/* R-READ-51, R-READ-14: a packet socket is as a datagram socket. */
START_TEST(packet_socket)
{
	struct sockaddr_ll ll = { .sll_family = AF_PACKET };
	struct kevent ev;
	int fd, s[2];

	fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, htons(0x0800));
	if (fd == -1) {
		t_skip("packet sockets are not allowed here");
		return;
	}
	ll.sll_protocol = htons(0x0800);
	ll.sll_ifindex = (int)if_nametoindex("lo");
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&ll, sizeof(ll)), 0);
	t_drain(fd);
	t_udp(s);
	t_add(fd, EVFILT_READ, 0);
	t_put(s[0], 5);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_gt(ev.data, 0);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("read_linux");

	tcase_add_loop_test(tc, eventfd_counter, 0, 2);
	tcase_add_test(tc, timerfd_expired);
	tcase_add_test(tc, signalfd_pending);
	tcase_add_test(tc, inotify_events);
	tcase_add_test(tc, pidfd_exit);
	tcase_add_test(tc, epoll_ready);
	tcase_add_loop_test(tc, message_queue, 0, 2);
	tcase_add_test(tc, packet_socket);
	return t_end();
}
