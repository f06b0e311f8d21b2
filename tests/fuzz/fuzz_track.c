/*
 * What the proc connector says, true or not: forks, execs and ends of processes
 * that are, were and never have been, lost messages, and bytes that are no
 * message.  The kernel's side of the socket is here: the linker puts our
 * syscall() and readlink() in the place of libc's.
 *
 * Of whatever they say: every event is of a process that was asked for or said
 * to be the child of one, and in the end there is no knote of any that is not.
 */
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "driver.h"

#define REAL 2    /* that live, or are zombies */
#define UNREAL 90 /* beyond all numbers of Linux */
#define FIRST_UNREAL (1 << 23)

static pid_t pids[REAL + UNREAL];
static bool known[REAL + UNREAL]; /* there may be a knote */
static int kq, kernel = -1, library = -1;
static bool ended[REAL];

static const uint8_t *input;
static size_t left;

static unsigned int
choose(unsigned int n)
{
	if (left == 0)
		return 0;
	left--;
	return *input++ % n;
}

/* -- the kernel ------------------------------------------------------------ */

struct message {
	struct nlmsghdr header;
	char payload[sizeof(struct cn_msg) + sizeof(struct proc_event)];
};

static void
tell(const struct proc_event *e, uint32_t ack)
{
	struct message m = { .header = { .nlmsg_len = sizeof(m),
				 .nlmsg_type = NLMSG_DONE } };
	struct cn_msg head = { .id = { CN_IDX_PROC, CN_VAL_PROC },
		.ack = ack,
		.len = sizeof(*e) };

	memcpy(m.payload, &head, sizeof(head));
	memcpy(m.payload + sizeof(head), e, sizeof(*e));
	if (kernel != -1)
		send(kernel, &m, sizeof(m), MSG_DONTWAIT);
}

/* A message of a byte stands for those that found no room. */
static void
lose(void)
{
	if (kernel != -1)
		send(kernel, "", 1, MSG_DONTWAIT);
}

static long
take_message(int fd, void *bytes, size_t size)
{
	ssize_t n = recv(fd, bytes, size, MSG_DONTWAIT);

	if (n != 1)
		return n;
	errno = ENOBUFS;
	return -1;
}

static long
open_connector(void)
{
	int fds[2];

	if (kernel != -1)
		close(kernel);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
		0, fds) == -1)
		return -1;
	kernel = fds[1];
	return fds[0];
}

/* Whoever begins to listen is told so. */
static long
take_request(const void *bytes, size_t n)
{
	struct proc_event e = { .what = PROC_EVENT_NONE };
	struct cn_msg head;

	memcpy(&head, (const char *)bytes + NLMSG_HDRLEN, sizeof(head));
	if (head.len == sizeof(uint32_t) && head.ack != 0)
		tell(&e, head.ack + 1);
	return (long)n;
}

long __real_syscall(long, ...);
long __wrap_syscall(long, ...);

/*
 * Six are passed on, however many there are, as the real one does; what lies
 * where the others would be is no concern of AddressSanitizer's.
 */
__attribute__((no_sanitize_address)) long
__wrap_syscall(long number, ...)
{
	va_list ap;
	long a[6];
	int i;

	va_start(ap, number);
	for (i = 0; i < 6; i++)
		a[i] = va_arg(ap, long);
	va_end(ap);
	if (number == SYS_socket && a[0] == AF_NETLINK &&
	    a[2] == NETLINK_CONNECTOR)
		return open_connector();
	if (number == SYS_bind) {
		library = (int)a[0];
		return 0;
	}
	if (number == SYS_sendto && a[0] == library)
		return take_request((const void *)a[1], (size_t)a[2]);
	if (number == SYS_recvfrom && a[0] == library)
		return take_message(library, (void *)a[1], (size_t)a[2]);
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

ssize_t __real_readlink(const char *, char *, size_t);
ssize_t __wrap_readlink(const char *, char *, size_t);

ssize_t
__wrap_readlink(const char *path, char *name, size_t size)
{
	static const char first[] = "pid:[4026531836]";

	if (strcmp(path, "/proc/self/ns/pid") != 0)
		return __real_readlink(path, name, size);
	memcpy(name, first, sizeof(first) - 1);
	return sizeof(first) - 1;
}

/* -- what it says ---------------------------------------------------------- */

static unsigned int
which(void)
{
	return choose(2) == 0 ? choose(REAL) : choose(REAL + UNREAL);
}

static void
say_fork(unsigned int parent, unsigned int child)
{
	struct proc_event e = { .what = PROC_EVENT_FORK };

	e.event_data.fork.parent_pid = e.event_data.fork.parent_tgid =
	    pids[parent];
	e.event_data.fork.child_pid = e.event_data.fork.child_tgid =
	    pids[child];
	known[child] |= known[parent];
	tell(&e, 0);
}

static void
say_exec(unsigned int who)
{
	struct proc_event e = { .what = PROC_EVENT_EXEC };

	e.event_data.exec.process_pid = e.event_data.exec.process_tgid =
	    pids[who];
	tell(&e, 0);
}

/* It is a zombie when that returns. */
static void
kill_real(unsigned int who)
{
	siginfo_t si;

	kill(pids[who], SIGKILL);
	while (waitid(P_PID, (id_t)pids[who], &si, WEXITED | WNOWAIT) == -1)
		if (errno != EINTR)
			abort();
	ended[who] = true;
}

static void
say_exit(unsigned int who)
{
	struct proc_event e = { .what = PROC_EVENT_EXIT };

	e.event_data.exit.process_pid = e.event_data.exit.process_tgid =
	    pids[who];
	e.event_data.exit.exit_code = choose(64) << 8;
	if (who < REAL && choose(4) == 0)
		kill_real(who);
	tell(&e, 0);
}

/* A message in whose midst there are other bytes, or that is cut off. */
static void
say_nonsense(void)
{
	struct message m = { .header = { .nlmsg_len = sizeof(m) } };
	size_t at = choose(sizeof(m)), n = 1 + choose(sizeof(m)), i;

	for (i = at; i < sizeof(m) && i < at + 8; i++)
		((uint8_t *)&m)[i] = (uint8_t)choose(256);
	if (kernel != -1)
		send(kernel, &m, n < sizeof(m) ? n : sizeof(m), MSG_DONTWAIT);
}

/* -- the program ----------------------------------------------------------- */

static int
change(unsigned int who, unsigned int flags, unsigned int fflags)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)pids[who], EVFILT_PROC, flags, fflags, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL) == -1 ? errno : 0;
}

static void
change_one(void)
{
	static const unsigned int flags[] = { EV_ADD, EV_ADD,
		EV_ADD | EV_ONESHOT, EV_ADD | EV_DISPATCH, EV_ENABLE,
		EV_DISABLE, EV_DELETE };
	static const unsigned int fflags[] = { NOTE_TRACK, NOTE_FORK, NOTE_EXEC,
		NOTE_EXIT, NOTE_TRACK | NOTE_EXIT, NOTE_TRACK | NOTE_FORK, 0,
		NOTE_TRACK | NOTE_FORK | NOTE_EXEC | NOTE_EXIT };
	unsigned int who = which(), how = flags[choose(7)];

	if (change(who, how, fflags[choose(8)]) == 0)
		known[who] = true;
}

static int
collect(int slots)
{
	static const struct timespec now;
	struct kevent events[128];
	int n = kevent(kq, NULL, 0, events, slots, &now), i, k;

	if (n == -1)
		fail("kevent: %s", strerror(errno));
	for (i = 0; i < n; i++) {
		for (k = 0; k < REAL + UNREAL; k++)
			if (events[i].ident == (uintptr_t)pids[k])
				break;
		if (events[i].filter != EVFILT_PROC || k == REAL + UNREAL ||
		    !known[k])
			fail("filter %d of %ju", events[i].filter,
			    (uintmax_t)events[i].ident);
		if (events[i].fflags == 0)
			fail("an event of nothing");
	}
	return n;
}

static void
operate(void)
{
	unsigned int i;

	switch (choose(10)) {
	case 0:
	case 1:
	case 2:
		change_one();
		break;
	case 3:
	case 4:
		say_fork(which(), which());
		break;
	case 5:
		for (i = choose(UNREAL); i < UNREAL; i++) /* all at once */
			say_fork(choose(REAL), REAL + i);
		break;
	case 6:
		say_exec(which());
		break;
	case 7:
		say_exit(which());
		break;
	case 8:
		if (choose(2) == 0)
			lose();
		else
			say_nonsense();
		break;
	case 9:
		collect(1 + (int)choose(128));
		break;
	}
}

static void
enable_all(void)
{
	unsigned int i;

	for (i = 0; i < REAL + UNREAL; i++)
		change(i, EV_ENABLE, NOTE_EXIT);
}

/* They wait for nothing, and end with us. */
static void
bear(int who)
{
	static int fds[2];
	char none;

	if (fds[1] == 0 && pipe2(fds, O_CLOEXEC) == -1)
		abort();
	if ((pids[who] = fork()) == -1)
		abort();
	if (pids[who] == 0) {
		close(fds[1]);
		_exit((int)read(fds[0], &none, 1));
	}
	ended[who] = false;
}

static void
begin(void)
{
	int i;

	for (i = 0; i < REAL; i++) {
		if (ended[i] && waitpid(pids[i], NULL, 0) == -1)
			abort();
		if (ended[i] || pids[i] == 0)
			bear(i);
	}
	for (i = 0; i < UNREAL; i++)
		pids[REAL + i] = FIRST_UNREAL + i;
	memset(known, 0, sizeof(known));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int i, error;

	begin();
	input = data;
	left = size;
	if ((kq = kqueue()) == -1)
		abort();
	while (left > 0)
		operate();
	/* NOTE_CHILD, then the end, with EV_DISPATCH one at a time. */
	for (i = 0; i < 3; i++) {
		enable_all();
		while (collect(128) > 0)
			continue;
	}
	for (i = REAL; i < REAL + UNREAL; i++)
		if ((error = change((unsigned int)i, EV_DELETE, 0)) != ENOENT)
			fail("a knote of a process that never was: %d", error);
	close(kq);
	return 0;
}
