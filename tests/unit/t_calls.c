/*
 * How many system calls each operation makes, to the last one.
 *
 * A row prepares, acts, and names the calls that acting makes.  In all rows kq
 * is a queue that has been used before, tcp[0] and local[0] are sockets with a
 * peer, and nothing is watched.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "t_calls_kit.h"

#define NPAIRS 8

static pid_t self, child;
static int file, kq, tcp[2], local[2], many[NPAIRS][2], listener;
static struct sockaddr_in address;
static struct kevent evs[NPAIRS];
static const struct timespec at_once, long_time = { .tv_sec = 10 };

static void
change(uintptr_t ident, int filter, int flags, unsigned int fflags,
    int64_t data)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, flags, fflags, data, NULL);
	calls_must(kevent(kq, &ev, 1, NULL, 0, NULL) == 0);
}

static void
read_of(int fd, int flags, unsigned int fflags)
{
	change((uintptr_t)fd, EVFILT_READ, flags, fflags, 0);
}

static void
write_of(int fd, int flags)
{
	change((uintptr_t)fd, EVFILT_WRITE, flags, NOTE_NODATA, 0);
}

static void
expect(int n, const struct timespec *timeout)
{
	calls_must(kevent(kq, NULL, 0, evs, NPAIRS, timeout) == n);
}

static void
say(int fd)
{
	calls_must(write(fd, "hello", 5) == 5);
}

static int
connect_to_listener(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	calls_must(
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0);
	return fd;
}

/* -- preparations ---------------------------------------------------------- */

static void
nothing(void)
{
}

static void
add_tcp(void)
{
	read_of(tcp[0], EV_ADD, NOTE_NODATA);
}

/* As libev does, for whom NOTE_EOF asks for the end of files. */
static void
add_tcp_as_file(void)
{
	read_of(tcp[0], EV_ADD | EV_ENABLE, NOTE_EOF);
}

static void
add_tcp_disabled(void)
{
	read_of(tcp[0], EV_ADD | EV_DISABLE, NOTE_NODATA);
}

static void
add_and_delete_tcp(void)
{
	add_tcp();
	read_of(tcp[0], EV_DELETE, 0);
}

static void
tcp_has_data(void)
{
	say(tcp[1]);
}

static void
tcp_is_ready(void)
{
	add_tcp();
	say(tcp[1]);
}

static void
tcp_is_ready_with_data(void)
{
	read_of(tcp[0], EV_ADD, 0);
	say(tcp[1]);
}

static void
local_is_ready_with_data(void)
{
	read_of(local[0], EV_ADD, 0);
	say(local[1]);
}

static void
many_are_ready(void)
{
	int i;

	for (i = 0; i < NPAIRS; i++) {
		read_of(many[i][0], EV_ADD, NOTE_NODATA);
		say(many[i][1]);
	}
}

static void
many_are_ready_with_data(void)
{
	int i;

	for (i = 0; i < NPAIRS; i++) {
		read_of(many[i][0], EV_ADD, 0);
		say(many[i][1]);
	}
}

static void
dispatch_is_ready(void)
{
	read_of(tcp[0], EV_ADD | EV_DISPATCH, NOTE_NODATA);
	say(tcp[1]);
}

static void
dispatch_was_returned(void)
{
	char buf[8];

	dispatch_is_ready();
	expect(1, NULL);
	calls_must(read(tcp[0], buf, sizeof(buf)) == 5);
}

static void
oneshot_is_ready(void)
{
	read_of(tcp[0], EV_ADD | EV_ONESHOT, NOTE_NODATA);
	say(tcp[1]);
}

static void
ready_and_disabled(void)
{
	tcp_is_ready();
	read_of(tcp[0], EV_DISABLE, NOTE_NODATA);
}

static void
ready_and_deleted(void)
{
	tcp_is_ready();
	read_of(tcp[0], EV_DELETE, 0);
}

static void
add_write(void)
{
	write_of(tcp[0], EV_ADD);
}

static void
add_and_delete_write(void)
{
	add_tcp();
	write_of(tcp[0], EV_ADD);
	write_of(tcp[0], EV_DELETE);
}

/* The kernel has told of it when nobody wanted to know. */
static void
drop_write(void)
{
	write_of(tcp[0], EV_ADD);
	write_of(tcp[0], EV_DELETE);
	expect(0, &at_once);
}

static void
somebody_calls(void)
{
	read_of(listener, EV_ADD, 0);
	many[0][1] = connect_to_listener();
}

static void
somebody_called(void)
{
	somebody_calls();
	expect(1, NULL);
}

/* In the place of tcp[0], which the cases end with. */
static void
connection_is_on_its_way(void)
{
	close(tcp[0]);
	tcp[0] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	calls_must(connect(tcp[0], (struct sockaddr *)&address,
		       sizeof(address)) == -1 &&
	    errno == EINPROGRESS);
}

static void
connection_was_shut_down(void)
{
	connection_is_on_its_way();
	calls_must(shutdown(tcp[0], SHUT_WR) == 0);
}

static void
connection_was_copied(void)
{
	connection_is_on_its_way();
	calls_must(close(dup(tcp[0])) == 0);
}

/*
 * tcp[0] has the number of one that listened, and whose callers were counted.
 */
static void
one_listened_here(void)
{
	somebody_called();
	dup2(local[0], listener);
	read_of(listener, EV_ADD, 0);
	say(local[1]);
}

static void
tcp_has_ended(void)
{
	read_of(tcp[0], EV_ADD, 0);
	shutdown(tcp[1], SHUT_WR);
	shutdown(tcp[0], SHUT_WR);
}

static void
add_timer(void)
{
	change(1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 100);
}

static void
timer_is_due(void)
{
	change(1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_NSECONDS, 1);
}

static void
add_user(void)
{
	change(1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0);
}

static void
trigger(void)
{
	change(1, EVFILT_USER, 0, NOTE_TRIGGER, 0);
}

static void
user_is_triggered(void)
{
	add_user();
	trigger();
}

static void
add_signal(void)
{
	change(SIGUSR1, EVFILT_SIGNAL, EV_ADD, 0, 0);
}

static void
signal_was_caught(void)
{
	add_signal();
	kill(self, SIGUSR1);
}

static void
add_file(void)
{
	change((uintptr_t)file, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_WRITE | NOTE_DELETE, 0);
}

static void
file_was_written(void)
{
	add_file();
	say(file);
}

static void
add_child(void)
{
	change((uintptr_t)child, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0);
}

static void
child_is_dead(void)
{
	siginfo_t si;

	add_child();
	kill(child, SIGKILL);
	calls_must(waitid(P_PID, (id_t)child, &si, WEXITED | WNOWAIT) == 0);
}

/* -- acts ------------------------------------------------------------------ */

static void
new_queue(void)
{
	many[0][0] = kqueue();
}

static void
close_queue(void)
{
	close(kq);
}

static void
add_many(void)
{
	struct kevent list[NPAIRS];
	int i;

	for (i = 0; i < NPAIRS; i++)
		EV_SET(&list[i], many[i][0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	calls_must(kevent(kq, list, NPAIRS, NULL, 0, NULL) == 0);
}

static void
add_local(void)
{
	read_of(local[0], EV_ADD, NOTE_NODATA);
}

static void
add_tcp_edge(void)
{
	read_of(tcp[0], EV_ADD | EV_CLEAR, NOTE_NODATA);
}

static void
disable(void)
{
	read_of(tcp[0], EV_DISABLE, NOTE_NODATA);
}

static void
enable(void)
{
	read_of(tcp[0], EV_ENABLE, NOTE_NODATA);
}

static void delete (void)
{
	read_of(tcp[0], EV_DELETE, 0);
}

static void
delete_unknown(void)
{
	struct kevent ev;

	EV_SET(&ev, tcp[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	calls_must(kevent(kq, &ev, 1, NULL, 0, NULL) == -1);
}

static void
enable_write(void)
{
	write_of(tcp[0], EV_ENABLE);
}

static void
delete_write(void)
{
	write_of(tcp[0], EV_DELETE);
}

static void
wait_one(void)
{
	expect(1, NULL);
}

static void
wait_one_long(void)
{
	expect(1, &long_time);
}

static void
wait_many(void)
{
	expect(NPAIRS, NULL);
}

static void
look(void)
{
	expect(0, &at_once);
}

static void
look_twice(void)
{
	expect(0, &at_once);
	expect(0, &at_once);
}

static void
add_and_wait(void)
{
	struct kevent ev;

	EV_SET(&ev, tcp[0], EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	calls_must(kevent(kq, &ev, 1, evs, NPAIRS, NULL) == 1);
}

static void
add_is_refused(void)
{
	struct kevent ev;

	EV_SET(&ev, 9999, EVFILT_READ, EV_ADD, 0, 0, NULL);
	calls_must(kevent(kq, &ev, 1, NULL, 0, NULL) == -1);
}

static void
close_tcp(void)
{
	close(tcp[0]);
}

static void
timer_later(void)
{
	change(2, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 200);
}

static void
timer_earlier(void)
{
	change(2, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 50);
}

static void
timer_again(void)
{
	change(1, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 300);
}

static void
timer_cancel(void)
{
	change(1, EVFILT_TIMER, EV_DELETE, 0, 0);
}

static void
trigger_twice(void)
{
	trigger();
	trigger();
}

static void
trigger_and_wait(void)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
	calls_must(kevent(kq, &ev, 1, evs, NPAIRS, NULL) == 1);
}

static void
delete_user(void)
{
	change(1, EVFILT_USER, EV_DELETE, 0, 0);
}

static void
delete_signal(void)
{
	change(SIGUSR1, EVFILT_SIGNAL, EV_DELETE, 0, 0);
}

static void
delete_file(void)
{
	change((uintptr_t)file, EVFILT_VNODE, EV_DELETE, 0, 0);
}

static void
caught(void)
{
	kill(self, SIGUSR1);
}

/*
 * What a server does with a caller; its own are accept4(), read() and close().
 */
static void
serve(void)
{
	char buf[8];
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);

	read_of(fd, EV_ADD, NOTE_NODATA);
	expect(1, NULL);
	calls_must(read((int)evs[0].ident, buf, sizeof(buf)) == 5);
	close(fd);
}

static void
caller_speaks(void)
{
	many[0][1] = connect_to_listener();
	say(many[0][1]);
}

static const struct row {
	const char *what;
	void (*prepare)(void), (*act)(void);
	const char *calls;
} rows[] = {
	{ "kqueue()", nothing, new_queue,
	    "epoll_create1 fcntl eventfd fcntl close epoll_ctl" },
	{ "close() of a queue", nothing, close_queue, "close close close" },

	{ "EV_ADD of READ, TCP", nothing, add_tcp, "epoll_ctl" },
	{ "EV_ADD of READ, UNIX", nothing, add_local, "epoll_ctl" },
	{ "EV_ADD of READ, NOTE_EOF", nothing, add_tcp_as_file, "epoll_ctl" },
	{ "EV_ADD again, NOTE_EOF", add_tcp_as_file, add_tcp_as_file, "" },
	{ "8 EV_ADD in a list", nothing, add_many,
	    "epoll_ctl epoll_ctl epoll_ctl epoll_ctl "
	    "epoll_ctl epoll_ctl epoll_ctl epoll_ctl" },
	{ "EV_ADD of what is there", add_tcp, add_tcp, "" },
	{ "EV_ADD with EV_CLEAR", nothing, add_tcp_edge, "epoll_ctl" },
	{ "EV_ADD with EV_CLEAR again: an edge", add_tcp_edge, add_tcp_edge,
	    "epoll_ctl" },
	{ "EV_ADD after EV_DELETE", add_and_delete_tcp, add_tcp, "epoll_ctl" },
	{ "EV_DISABLE", add_tcp, disable, "" },
	{ "EV_ENABLE", add_tcp_disabled, enable, "epoll_ctl" },
	{ "EV_ENABLE of what was returned", dispatch_was_returned, enable, "" },
	{ "EV_DELETE", add_tcp, delete, "" },
	{ "EV_DELETE of what is not there", nothing, delete_unknown, "fcntl" },
	{ "EV_DELETE of what is not there, beside WRITE", add_write,
	    delete_unknown, "" },
	{ "EV_ADD of a number that is not open", nothing, add_is_refused,
	    "epoll_ctl" },

	{ "EV_ADD of WRITE, TCP", nothing, add_write, "getsockopt epoll_ctl" },
	{ "EV_ADD of WRITE beside READ", add_tcp, add_write,
	    "getsockopt epoll_ctl" },
	{ "EV_ADD of WRITE after connect()", connection_is_on_its_way,
	    add_write, "epoll_ctl" },
	{ "EV_ADD of WRITE after connect() and shutdown()",
	    connection_was_shut_down, add_write, "getsockopt epoll_ctl" },
	{ "EV_ADD of WRITE after connect() and dup()", connection_was_copied,
	    add_write, "getsockopt epoll_ctl" },
	{ "EV_ADD of WRITE that is there", add_write, add_write, "" },
	{ "EV_ENABLE of WRITE", add_write, enable_write, "" },
	{ "EV_DELETE of WRITE", add_write, delete_write, "" },
	{ "EV_ADD of WRITE after EV_DELETE", add_and_delete_write, add_write,
	    "epoll_ctl" },

	{ "EV_ADD of WRITE after EV_DELETE and a look", drop_write, add_write,
	    "epoll_ctl" },

	{ "wait, no data", tcp_is_ready, wait_one, "epoll_wait" },
	{ "wait, no data, with a limit of time", tcp_is_ready, wait_one_long,
	    "epoll_wait" },
	{ "wait for 8, no data", many_are_ready, wait_many, "epoll_wait" },
	{ "wait, data of TCP", tcp_is_ready_with_data, wait_one,
	    "epoll_wait ioctl" },
	{ "wait, data of UNIX", local_is_ready_with_data, wait_one,
	    "epoll_wait ioctl" },
	{ "wait for 8, data", many_are_ready_with_data, wait_many,
	    "epoll_wait ioctl ioctl ioctl ioctl ioctl ioctl ioctl ioctl" },
	{ "wait, EV_DISPATCH", dispatch_is_ready, wait_one, "epoll_wait" },
	{ "wait, EV_ONESHOT", oneshot_is_ready, wait_one, "epoll_wait" },
	{ "wait, a caller", somebody_calls, wait_one,
	    "epoll_wait ioctl getsockopt" },
	{ "wait, WRITE", add_write, wait_one, "epoll_wait" },
	{ "wait, a caller again", somebody_called, wait_one,
	    "epoll_wait getsockopt" },
	{ "wait, data where one listened", one_listened_here, wait_one,
	    "epoll_wait getsockopt ioctl" },
	{ "wait, the end of both sides", tcp_has_ended, wait_one,
	    "epoll_wait ioctl" },
	{ "EV_ADD and wait in one call", tcp_has_data, add_and_wait,
	    "epoll_ctl epoll_wait" },
	{ "look, nothing there", add_tcp, look, "epoll_wait" },
	{ "look, ready but disabled", ready_and_disabled, look_twice,
	    "epoll_wait epoll_ctl epoll_wait" },
	{ "look, ready but deleted", ready_and_deleted, look_twice,
	    "epoll_wait epoll_ctl epoll_wait" },

	{ "close() of what is not watched", nothing, close_tcp, "close" },
	{ "close() of what is watched", add_tcp, close_tcp, "epoll_ctl close" },
	{ "a caller's life", caller_speaks, serve,
	    "accept4 epoll_ctl epoll_wait read epoll_ctl close" },

	{ "first timer of a queue", nothing, add_timer,
	    "timerfd_create fcntl close epoll_ctl timerfd_settime" },
	{ "timer, not the earliest", add_timer, timer_later, "" },
	{ "timer, the earliest", add_timer, timer_earlier, "timerfd_settime" },
	{ "timer, later", add_timer, timer_again, "" },
	{ "timer, cancelled", add_timer, timer_cancel, "" },
	{ "wait, a timer", timer_is_due, wait_one, "epoll_wait" },

	{ "EV_ADD of USER", nothing, add_user, "" },
	{ "NOTE_TRIGGER", add_user, trigger, "write" },
	{ "NOTE_TRIGGER twice", add_user, trigger_twice, "write" },
	{ "wait, USER", user_is_triggered, wait_one, "epoll_wait" },
	{ "NOTE_TRIGGER and wait in one call", add_user, trigger_and_wait,
	    "write epoll_wait" },
	{ "EV_DELETE of USER", add_user, delete_user, "" },

	{ "EV_ADD of SIGNAL", nothing, add_signal,
	    "sigprocmask eventfd fcntl close getpid sigaction sigaction "
	    "sigprocmask sigpending epoll_ctl "
	    "signalfd fcntl close epoll_ctl" },
	{ "a signal", add_signal, caught, "kill getpid write sigreturn" },
	{ "wait, SIGNAL", signal_was_caught, wait_one,
	    "epoll_wait sigpending" },
	{ "EV_DELETE of SIGNAL", add_signal, delete_signal,
	    "signalfd epoll_ctl sigprocmask sigaction sigaction sigprocmask" },

	{ "EV_ADD of PROC", nothing, add_child,
	    "pidfd_open fcntl close epoll_ctl" },
	{ "wait, PROC", child_is_dead, wait_one,
	    "epoll_wait waitid epoll_ctl close" },
	{ "EV_ADD of VNODE", nothing, add_file,
	    "fstat fstatfs inotify_init fcntl close epoll_ctl "
	    "inotify_add_watch "
	    "fstat" },
	{ "wait, VNODE", file_was_written, wait_one, "epoll_wait read fstat" },
	{ "EV_DELETE of VNODE", add_file, delete_file, "inotify_rm_watch" },
};

#define NROWS (int)(sizeof(rows) / sizeof(rows[0]))

static void
start_listening(void)
{
	socklen_t len = sizeof(address);

	listener = socket(AF_INET, SOCK_STREAM, 0);
	memset(&address, 0, sizeof(address));
	address.sin_family = AF_INET;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	ck_assert(bind(listener, (struct sockaddr *)&address, len) == 0 &&
	    listen(listener, 8) == 0 &&
	    getsockname(listener, (struct sockaddr *)&address, &len) == 0);
}

static void
setup(void)
{
	int i;

	self = getpid();
	kq = kqueue();
	ck_assert_int_ne(kq, -1);
	expect(0, &at_once);
	start_listening();
	tcp[1] = connect_to_listener();
	tcp[0] = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
	socketpair(AF_UNIX, SOCK_STREAM, 0, local);
	for (i = 0; i < NPAIRS; i++)
		socketpair(AF_UNIX, SOCK_STREAM, 0, many[i]);
	signal(SIGUSR1, SIG_IGN);
	file = fileno(tmpfile());
	if ((child = fork()) == 0) {
		pause();
		_exit(0);
	}
}

static void
teardown(void)
{
	int i;

	close(tcp[0]);
	close(tcp[1]);
	close(local[0]);
	close(local[1]);
	for (i = 0; i < NPAIRS; i++) {
		close(many[i][0]);
		close(many[i][1]);
	}
	close(file);
	close(listener);
	close(kq);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

START_TEST(an_operation_makes_the_calls_it_needs)
{
	const struct row *r = &rows[_i];

	r->prepare();
	calls_begin();
	r->act();
	calls_expect(r->what, r->calls);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("calls");
	TCase *tc = tcase_create("calls");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, an_operation_makes_the_calls_it_needs, 0,
	    NROWS);
	suite_add_tcase(suite, tc);
	return calls_run(suite);
}
