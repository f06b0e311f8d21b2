/*
 * kinds.c: descriptors, processes and signals to be watched.
 */
#include "kinds.h"
#include "inject.h"

#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <check.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

uintptr_t kind_ident;
int kind_kq;

static int fds[2] = { -1, -1 };
static pid_t child = -1;
static char parent[32], directory[40];
static sigset_t old_mask;
static bool masked;

static bool
watch(int fd)
{
	NEED(fd != -1);
	kind_ident = (uintptr_t)fd;
	return true;
}

void
kind_close(void)
{
	char path[64];
	int i;

	for (i = 0; i < 2; i++)
		if (fds[i] != -1)
			close(fds[i]);
	fds[0] = fds[1] = -1;
	if (child != -1) {
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
		child = -1;
	}
	if (parent[0] != '\0') {
		snprintf(path, sizeof(path), "%s/new", directory);
		rmdir(path);
		rmdir(directory);
		rmdir(parent);
		parent[0] = '\0';
	}
	if (masked) {
		sigset_t set;
		static const struct timespec now;

		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		sigtimedwait(&set, NULL, &now);
		sigprocmask(SIG_SETMASK, &old_mask, NULL);
		masked = false;
	}
	signal(SIGUSR1, SIG_DFL);
	inject_old_pidfds = false;
}

/* -- pipes, sockets -------------------------------------------------------- */

static bool
open_pipe(void)
{
	NEED(pipe2(fds, O_NONBLOCK) == 0);
	return watch(fds[0]);
}

static bool
open_pipe_write(void)
{
	NEED(pipe2(fds, O_NONBLOCK) == 0);
	return watch(fds[1]);
}

static bool
open_stream(void)
{
	NEED(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds) == 0);
	return watch(fds[0]);
}

static bool
open_seqpacket(void)
{
	NEED(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, fds) == 0);
	return watch(fds[0]);
}

static bool
open_dgram(void)
{
	NEED(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds) == 0);
	return watch(fds[0]);
}

/* Nothing more can be written. */
static bool
open_full(void)
{
	static char bytes[65536];

	open_stream();
	while (write(fds[0], bytes, sizeof(bytes)) > 0)
		continue;
	return true;
}

static void
make_room(void)
{
	static char bytes[65536];

	while (read(fds[1], bytes, sizeof(bytes)) > 0)
		continue;
}

static int
tcp_listener(struct sockaddr_in *sin)
{
	socklen_t size = sizeof(*sin);
	int fd;

	*sin = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	fd = socket(AF_INET, SOCK_STREAM, 0);
	NEED(fd != -1);
	NEED(bind(fd, (struct sockaddr *)sin, size) == 0);
	NEED(listen(fd, 8) == 0);
	NEED(getsockname(fd, (struct sockaddr *)sin, &size) == 0);
	return fd;
}

static int
tcp_connected(const struct sockaddr_in *sin)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	NEED(fd != -1);
	NEED(connect(fd, (const struct sockaddr *)sin, sizeof(*sin)) == 0);
	return fd;
}

static bool
open_tcp(void)
{
	struct linger reset = { .l_onoff = 1 };
	struct sockaddr_in sin;
	int listener = tcp_listener(&sin);

	fds[1] = tcp_connected(&sin);
	fds[0] = accept(listener, NULL, NULL);
	close(listener);
	/* No port waits for its time to be over. */
	NEED(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) ==
	    0);
	return watch(fds[0]);
}

static bool
open_listener(void)
{
	struct sockaddr_in sin;

	return watch(fds[0] = tcp_listener(&sin));
}

static void
connect_to_it(void)
{
	struct linger reset = { .l_onoff = 1 };
	socklen_t size = sizeof(struct sockaddr_in);
	struct sockaddr_in sin;

	NEED(getsockname(fds[0], (struct sockaddr *)&sin, &size) == 0);
	fds[1] = tcp_connected(&sin);
	NEED(setsockopt(fds[1], SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) ==
	    0);
}

static bool
open_unix_listener(void)
{
	struct sockaddr_un_ {
		sa_family_t family;
	} any = { AF_UNIX };

	fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(fds[0] != -1);
	/* An address that the kernel chooses. */
	NEED(bind(fds[0], (struct sockaddr *)&any, sizeof(any)) == 0);
	NEED(listen(fds[0], 8) == 0);
	return watch(fds[0]);
}

static void
connect_to_unix(void)
{
	struct sockaddr_storage sa;
	socklen_t size = sizeof(sa);

	NEED(getsockname(fds[0], (struct sockaddr *)&sa, &size) == 0);
	fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
	NEED(fds[1] != -1);
	NEED(connect(fds[1], (struct sockaddr *)&sa, size) == 0);
}

static void
send_byte(void)
{
	NEED(write(fds[1], "x", 1) == 1);
}

static void
hang_up(void)
{
	NEED(close(fds[1]) == 0);
	fds[1] = -1;
}

static void
send_urgent(void)
{
	NEED(send(fds[1], "!", 1, MSG_OOB) == 1);
}

/* -- other descriptors ----------------------------------------------------- */

static bool
open_eventfd(void)
{
	fds[1] = fcntl(fds[0] = eventfd(0, EFD_NONBLOCK), F_DUPFD_CLOEXEC, 0);
	return watch(fds[0]);
}

static void
count_up(void)
{
	uint64_t one = 1;

	NEED(write(fds[1], &one, sizeof(one)) == sizeof(one));
}

static bool
open_device(void)
{
	return watch(fds[0] = open("/dev/null", O_RDWR));
}

static bool
open_terminal(void)
{
	char name[64];

	fds[1] = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
	if (fds[1] == -1 || grantpt(fds[1]) == -1 || unlockpt(fds[1]) == -1 ||
	    ptsname_r(fds[1], name, sizeof(name)) != 0)
		return false;
	return watch(fds[0] = open(name, O_RDWR | O_NOCTTY | O_NONBLOCK));
}

static void
type_line(void)
{
	NEED(write(fds[1], "x\n", 2) == 2);
}

static void
queue_user(int kq, unsigned int fflags, unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_USER, flags, fflags, 0, NULL);
	NEED(kevent(kq, &ev, 1, NULL, 0, NULL) == 0);
}

static bool
open_queue(void)
{
	fds[0] = kqueue();
	NEED(fds[0] != -1);
	queue_user(fds[0], 0, EV_ADD);
	return watch(fds[0]);
}

static void
trigger_inside(void)
{
	queue_user(fds[0], NOTE_TRIGGER, 0);
}

/* -- files ----------------------------------------------------------------- */

static bool
open_file(void)
{
	char path[] = "/tmp/kq-fault-XXXXXX";

	fds[0] = mkstemp(path);
	NEED(fds[0] != -1);
	fds[1] = open(path, O_WRONLY | O_APPEND);
	unlink(path);
	return watch(fds[0]);
}

static bool
open_directory(void)
{
	strcpy(parent, "/tmp/kq-fault-XXXXXX");
	NEED(mkdtemp(parent) != NULL);
	snprintf(directory, sizeof(directory), "%s/it", parent);
	NEED(mkdir(directory, 0700) == 0);
	return watch(fds[0] = open(directory, O_RDONLY));
}

static void
make_directory(void)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/new", directory);
	NEED(mkdir(path, 0700) == 0);
}

static void
remove_it(void)
{
	NEED(rmdir(directory) == 0);
}

/* -- processes ------------------------------------------------------------- */

static bool
open_child(void)
{
	/* Not fork(), which tells the library: there is nothing to be told. */
	child = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	NEED(child != -1);
	if (child == 0)
		for (;;)
			syscall(SYS_pause);
	kind_ident = (uintptr_t)child;
	return true;
}

static void
end_child(void)
{
	siginfo_t si;

	NEED(kill(child, SIGKILL) == 0);
	NEED(waitid(P_PID, (id_t)child, &si, WEXITED | WNOWAIT) == 0);
}

static bool
can_track(void)
{
	struct kevent ev;
	int kq = kqueue(), r;

	EV_SET(&ev, child, EVFILT_PROC, EV_ADD, NOTE_FORK, 0, NULL);
	r = kevent(kq, &ev, 1, NULL, 0, NULL);
	close(kq);
	return r == 0;
}

static bool
open_tracked(void)
{
	static int can = -1;

	open_child();
	if (can == -1)
		can = can_track();
	return can;
}

static bool
open_pidfd(void)
{
	open_child();
	fds[0] = (int)syscall(SYS_pidfd_open, child, 0);
	return fds[0] != -1 && watch(fds[0]);
}

static bool
open_old_pidfd(void)
{
	inject_old_pidfds = true;
	return open_pidfd();
}

/* -- signals, timers, the program's own ------------------------------------ */

static void
caught(int signo)
{
}

static bool
open_caught(void)
{
	signal(SIGUSR1, caught);
	kind_ident = SIGUSR1;
	return true;
}

static bool
open_ignored(void)
{
	signal(SIGUSR1, SIG_IGN);
	kind_ident = SIGUSR1;
	return true;
}

static void
send_signal(void)
{
	NEED(kill(getpid(), (int)kind_ident) == 0);
}

static bool
open_blocked(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, &old_mask);
	masked = true;
	kind_ident = SIGUSR2;
	return true;
}

static bool
open_number(void)
{
	kind_ident = 7;
	return true;
}

static void
trigger(void)
{
	struct kevent ev;

	EV_SET(&ev, kind_ident, EVFILT_USER, EV_KEEPUDATA, NOTE_TRIGGER, 0,
	    NULL);
	NEED(kevent(kind_kq, &ev, 1, NULL, 0, NULL) == 0);
}

/* -- all of them ----------------------------------------------------------- */

#define FILTER(filter_) .k_filter = EVFILT_##filter_
#define FD_FILTER(filter_) FILTER(filter_), .k_isfd = true
#define LOWAT .k_fflags = NOTE_LOWAT, .k_data = 1
#define CHANGES NOTE_WRITE | NOTE_DELETE | NOTE_LINK

const struct kind kinds[] = {
	{ "READ pipe", open_pipe, send_byte, FD_FILTER(READ),
	    .k_other = NOTE_LOWAT },
	{ "READ pipe, ext", open_pipe, send_byte, FD_FILTER(READ),
	    .k_ext = true },
	{ "READ stream", open_stream, send_byte, FD_FILTER(READ) },
	{ "READ stream, clear", open_stream, send_byte, FD_FILTER(READ),
	    .k_other = NOTE_LOWAT, .k_flags = EV_CLEAR },
	{ "READ stream, dispatch", open_stream, send_byte, FD_FILTER(READ),
	    .k_flags = EV_DISPATCH },
	{ "READ stream, once", open_stream, send_byte, FD_FILTER(READ),
	    .k_flags = EV_ONESHOT },
	{ "READ stream, its end", open_stream, hang_up, FD_FILTER(READ) },
	{ "READ stream, lowat", open_stream, send_byte, FD_FILTER(READ),
	    LOWAT },
	{ "READ seqpacket", open_seqpacket, send_byte, FD_FILTER(READ) },
	{ "READ dgram, lowat", open_dgram, send_byte, FD_FILTER(READ), LOWAT },
	{ "READ tcp", open_tcp, send_byte, FD_FILTER(READ),
	    .k_other = NOTE_LOWAT },
	{ "READ tcp, reset", open_tcp, hang_up, FD_FILTER(READ) },
	{ "READ listener", open_listener, connect_to_it, FD_FILTER(READ) },
	{ "READ unix listener", open_unix_listener, connect_to_unix,
	    FD_FILTER(READ) },
	{ "READ eventfd", open_eventfd, count_up, FD_FILTER(READ),
	    .k_other = NOTE_LOWAT },
	{ "READ terminal", open_terminal, type_line, FD_FILTER(READ) },
	{ "READ queue", open_queue, trigger_inside, FD_FILTER(READ) },
	{ "READ queue, clear", open_queue, trigger_inside, FD_FILTER(READ),
	    .k_flags = EV_CLEAR },
	{ "READ device", open_device, NULL, FD_FILTER(READ) },
	{ "READ file", open_file, send_byte, FD_FILTER(READ), .k_slow = true,
	    .k_other = NOTE_LOWAT },
	{ "READ file, clear", open_file, send_byte, FD_FILTER(READ),
	    .k_slow = true, .k_flags = EV_CLEAR },
	{ "READ directory", open_directory, NULL, FD_FILTER(READ),
	    .k_slow = true, .k_fflags = NOTE_FILE_POLL },
	{ "WRITE pipe", open_pipe_write, NULL, FD_FILTER(WRITE) },
	{ "WRITE stream", open_full, make_room, FD_FILTER(WRITE),
	    .k_other = NOTE_LOWAT },
	{ "WRITE stream, clear", open_full, make_room, FD_FILTER(WRITE),
	    .k_other = NOTE_LOWAT, .k_flags = EV_CLEAR },
	{ "WRITE stream, lowat", open_full, make_room, FD_FILTER(WRITE),
	    LOWAT },
	{ "WRITE seqpacket", open_seqpacket, NULL, FD_FILTER(WRITE) },
	{ "WRITE tcp", open_tcp, NULL, FD_FILTER(WRITE) },
	{ "WRITE eventfd", open_eventfd, NULL, FD_FILTER(WRITE) },
	{ "WRITE terminal", open_terminal, NULL, FD_FILTER(WRITE) },
	{ "WRITE file", open_file, NULL, FD_FILTER(WRITE) },
	{ "VNODE file", open_file, send_byte, FD_FILTER(VNODE), .k_slow = true,
	    .k_fflags = CHANGES, .k_other = NOTE_ATTRIB },
	{ "VNODE directory", open_directory, make_directory, FD_FILTER(VNODE),
	    .k_slow = true, .k_fflags = CHANGES, .k_other = NOTE_ATTRIB,
	    .k_flags = EV_CLEAR, .k_ext = true },
	{ "VNODE directory, removed", open_directory, remove_it,
	    FD_FILTER(VNODE), .k_slow = true, .k_fflags = NOTE_DELETE,
	    .k_other = NOTE_WRITE },
	{ "EXCEPT tcp", open_tcp, send_urgent, FD_FILTER(EXCEPT),
	    .k_fflags = NOTE_OOB },
	{ "EMPTY stream", open_full, make_room, FD_FILTER(EMPTY) },
	{ "EMPTY tcp", open_tcp, NULL, FD_FILTER(EMPTY),
	    .k_flags = EV_ONESHOT },
	{ "PROCDESC", open_pidfd, end_child, FD_FILTER(PROCDESC),
	    .k_fflags = NOTE_EXIT },
	{ "PROCDESC, old", open_old_pidfd, end_child, FD_FILTER(PROCDESC),
	    .k_fflags = NOTE_EXIT },
	{ "PROC", open_child, end_child, FILTER(PROC),
	    .k_fflags = NOTE_EXIT | NOTE_EXITSTATUS,
	    .k_other = NOTE_EXIT | NOTE_FORK },
	{ "PROC track", open_tracked, end_child, FILTER(PROC),
	    .k_fflags = NOTE_EXIT | NOTE_FORK | NOTE_TRACK },
	{ "SIGNAL caught", open_caught, send_signal, FILTER(SIGNAL) },
	{ "SIGNAL ignored", open_ignored, send_signal, FILTER(SIGNAL),
	    .k_ext = true },
	{ "SIGNAL blocked", open_blocked, send_signal, FILTER(SIGNAL) },
	{ "TIMER", open_number, NULL, FILTER(TIMER), .k_data = 1,
	    .k_fflags = NOTE_USECONDS },
	{ "TIMER, wall clock", open_number, NULL, FILTER(TIMER), .k_data = 1,
	    .k_fflags = NOTE_ABSTIME, .k_flags = EV_ONESHOT },
	{ "USER", open_number, trigger, FILTER(USER), .k_flags = EV_CLEAR,
	    .k_ext = true },
};

const int nkinds = sizeof(kinds) / sizeof(kinds[0]);
