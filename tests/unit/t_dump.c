/*
 * KQ_DUMP from the inside: each knote is a line that says all of it, at exit,
 * when the queue closes, and when a debugger asks.
 */
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump.h"
#include "kq.h"
#include "t_unit.h"

/* What the child expects, in memory that the parent sees. */
static char *expected;
static char path[] = "/tmp/kquay-dump.XXXXXX";

static void
setup(void)
{
	int fd = mkstemp(path);

	ck_assert_int_ne(fd, -1);
	close(fd);
	expected = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(expected, MAP_FAILED);
}

static void
teardown(void)
{
	unlink(path);
}

static __attribute__((format(printf, 1, 2))) void
expect(const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsprintf(expected + strlen(expected), format, ap);
	va_end(ap);
}

static const char *
contents(void)
{
	static char text[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = read(fd, text, sizeof(text) - 1);

	ck_assert_int_ge(n, 0);
	text[n] = '\0';
	close(fd);
	return text;
}

/* The lines that are expected, in any order, and no other. */
static void
compare_lines(void)
{
	const char *found = contents();
	char *line = expected, *end, after;

	ck_assert_msg(strlen(found) == strlen(expected), "%s\ninstead of %s",
	    found, expected);
	for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		after = end[1];
		end[1] = '\0';
		ck_assert_msg(strstr(found, line) != NULL, "%s\nwithout %s",
		    found, line);
		end[1] = after;
	}
}

static void
change(int kq, uintptr_t ident, int filter, int flags, unsigned int fflags,
    int64_t data, void *udata)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, flags, fflags, data, udata);
	ck_assert_int_eq(kevent(kq, &ev, 1, NULL, 0, NULL), 0);
}

/* A process of its own, in which KQ_DUMP is value. */
static void
in_child(void (*body)(void), const char *value)
{
	pid_t pid = fork();
	int status;

	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		setenv("KQ_DUMP", value, 1);
		setenv("KQ_STRICT", "0", 1);
		body();
		exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* -- what a line says ------------------------------------------------------ */

static void
every_filter(void)
{
	const struct timespec now = { 0, 0 };
	int kq = kqueue(), s[2], p[2], file, pidfd;
	struct kevent ev;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	ck_assert_int_eq(pipe(p), 0);
	expect("kqueue %d, process %d\n", kq, (int)getpid());

	change(kq, (uintptr_t)s[0], EVFILT_READ, EV_ADD | EV_CLEAR, NOTE_LOWAT,
	    12, &s);
	change(kq, (uintptr_t)s[0], EVFILT_WRITE,
	    EV_ADD | EV_DISABLE | EV_DISPATCH, 0, 0, NULL);
	expect("  READ ident=%d flags=EV_CLEAR fflags=NOTE_LOWAT udata=%p"
	       " state=waiting data=12 epoll=in|edge\n",
	    s[0], (void *)&s);
	expect("  WRITE ident=%d flags=EV_DISPATCH fflags=0 udata=0x0"
	       " state=disabled epoll=in|edge\n",
	    s[0]);
	change(kq, (uintptr_t)p[1], EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	expect("  READ ident=%d flags=0 fflags=NOTE_NODATA udata=0x0"
	       " state=waiting epoll=in\n",
	    p[1]);

	/* Until it was asked, a knote may be active that is not. */
	ck_assert_int_eq(kevent(kq, NULL, 0, &ev, 1, &now), 0);

	change(kq, 7, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 3600, NULL);
	expect("  TIMER ident=7 flags=EV_CLEAR fflags=NOTE_SECONDS udata=0x0"
	       " state=waiting data=3600000000000ns\n");
	change(kq, UINTPTR_MAX, EVFILT_USER, EV_ADD, 0x81, -5, NULL);
	change(kq, UINTPTR_MAX, EVFILT_USER, 0, NOTE_TRIGGER, -5, NULL);
	expect("  USER ident=%ju flags=0 fflags=0x81 udata=0x0"
	       " state=active|queued data=-5\n",
	    (uintmax_t)UINTPTR_MAX);
	change(kq, SIGUSR1, EVFILT_SIGNAL, EV_ADD | EV_ONESHOT, 0, 0, NULL);
	expect("  SIGNAL ident=%d flags=EV_ONESHOT|EV_CLEAR fflags=0 udata=0x0"
	       " state=waiting\n",
	    SIGUSR1);
	change(kq, (uintptr_t)getppid(), EVFILT_PROC, EV_ADD, NOTE_EXIT, 0,
	    NULL);
	expect("  PROC ident=%d flags=EV_CLEAR fflags=NOTE_EXIT udata=0x0"
	       " state=waiting\n",
	    (int)getppid());
	change(kq, (uintptr_t)open(path, O_RDONLY), EVFILT_VNODE,
	    EV_ADD | EV_CLEAR, NOTE_DELETE | NOTE_CLOSE_WRITE, 0, NULL);
	file = p[1] + 1;
	expect("  VNODE ident=%d flags=EV_CLEAR"
	       " fflags=NOTE_DELETE|NOTE_CLOSE_WRITE udata=0x0"
	       " state=waiting\n",
	    file);
	change(kq, (uintptr_t)s[1], EVFILT_EMPTY, EV_ADD | EV_CLEAR, 0, 0,
	    NULL);
	expect("  EMPTY ident=%d flags=EV_CLEAR fflags=0 udata=0x0"
	       " state=active|queued\n",
	    s[1]);
	change(kq, (uintptr_t)s[1], EVFILT_EXCEPT, EV_ADD, NOTE_OOB, 0, NULL);
	expect("  EXCEPT ident=%d flags=0 fflags=NOTE_OOB udata=0x0"
	       " state=waiting\n",
	    s[1]);
	pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
	ck_assert_int_ne(pidfd, -1);
	change(kq, (uintptr_t)pidfd, EVFILT_PROCDESC, EV_ADD, NOTE_EXIT, 0,
	    NULL);
	expect("  PROCDESC ident=%d flags=EV_CLEAR fflags=NOTE_EXIT udata=0x0"
	       " state=waiting\n",
	    pidfd);
	change(kq, 1, EVFILT_FS, EV_ADD, VQ_MOUNT, 0, NULL);
	expect("  FS ident=1 flags=EV_CLEAR fflags=VQ_MOUNT udata=0x0"
	       " state=waiting\n");
}

/* At exit, of a process whose queue is open. */
START_TEST(a_line_for_each_knote)
{
	in_child(every_filter, path);
	compare_lines();
}
END_TEST

/* -- when ------------------------------------------------------------------ */

static void
close_one(void)
{
	int kq = kqueue(), copy = dup(kq);

	change(kq, 1, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0, NULL);
	close(kq);
	ck_assert_str_eq(contents(), "");
	expect("kqueue %d, process %d, closes\n"
	       "  USER ident=1 flags=EV_CLEAR fflags=0 udata=0x0"
	       " state=waiting data=0\n",
	    copy, (int)getpid());
	close(copy);
	ck_assert_str_eq(contents(), expected);
}

/* When its last descriptor closes; then there is nothing left for the exit. */
START_TEST(a_queue_that_closes)
{
	in_child(close_one, path);
	ck_assert_str_eq(contents(), expected);
}
END_TEST

/* Two queues of one knote, dumped while the process runs, KQ_DUMP or not. */
START_TEST(a_debugger_asks)
{
	int kq[2] = { kqueue(), kqueue() }, fd = open(path, O_WRONLY), i;

	for (i = 0; i < 2; i++) {
		change(kq[i], 3, EVFILT_USER, EV_ADD | EV_DISABLE, 0, 0, NULL);
		change(kq[i], 3, EVFILT_USER, 0, NOTE_TRIGGER, 0, NULL);
		expect("kqueue %d, process %d\n"
		       "  USER ident=3 flags=0 fflags=0 udata=0x0"
		       " state=disabled|active data=0\n",
		    kq[i], (int)getpid());
	}
	errno = 1234;
	kqueue_dump(fd);
	ck_assert_int_eq(errno, 1234);
	ck_assert_str_eq(contents(), expected);
	ck_assert_ptr_null(dump_path);
}
END_TEST

static void
to_stderr(void)
{
	int kq = kqueue();

	ck_assert_int_eq(dup2(open(path, O_WRONLY), STDERR_FILENO),
	    STDERR_FILENO);
	expect("kqueue %d, process %d\n", kq, (int)getpid());
}

START_TEST(to_standard_error)
{
	in_child(to_stderr, "stderr");
	ck_assert_str_eq(contents(), expected);
}
END_TEST

static void
fork_once(void)
{
	int kq = kqueue();

	if (fork() == 0)
		exit(0);
	wait(NULL);
	expect("kqueue %d, process %d\n", kq, (int)getpid());
}

/* A child that has no queue of its own says nothing of its parent's. */
START_TEST(a_forked_child_is_silent)
{
	in_child(fork_once, path);
	ck_assert_str_eq(contents(), expected);
}
END_TEST

static void
three_hundred(void)
{
	int kq = kqueue(), i;

	expect("kqueue %d, process %d\n", kq, (int)getpid());
	for (i = 0; i < 300; i++) {
		change(kq, (uintptr_t)i, EVFILT_USER, EV_ADD, 0, 0, NULL);
		expect("  USER ident=%d flags=0 fflags=0 udata=0x0"
		       " state=waiting data=0\n",
		    i);
	}
}

/* More than is written at once. */
START_TEST(many_knotes)
{
	in_child(three_hundred, path);
	ck_assert_str_eq(contents(), expected);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("dump");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_test(tc, a_line_for_each_knote);
	tcase_add_test(tc, a_queue_that_closes);
	tcase_add_test(tc, a_debugger_asks);
	tcase_add_test(tc, to_standard_error);
	tcase_add_test(tc, a_forked_child_is_silent);
	tcase_add_test(tc, many_knotes);
	return unit_end();
}
