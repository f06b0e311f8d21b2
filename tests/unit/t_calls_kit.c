/* The tracer; t_calls_kit.h has the contracts. */
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/ptrace.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "t_calls_kit.h"

#define MARK 0x6b71 /* no option of prctl() */
#define MOST 256

/* Seen by both processes: what the tracer has noted. */
static struct notes {
	int noting;
	int n;
	uint64_t numbers[MOST];
} * notes;

static const struct {
	long number;
	const char *name; /* NULL: does not count */
} names[] = {
	{ SYS_accept4, "accept4" },
	{ SYS_brk, NULL },
	{ SYS_clock_gettime, NULL },
	{ SYS_close, "close" },
	{ SYS_connect, "connect" },
	{ SYS_dup, "dup" },
	{ SYS_dup3, "dup3" },
	{ SYS_epoll_create1, "epoll_create1" },
	{ SYS_epoll_ctl, "epoll_ctl" },
	{ SYS_epoll_pwait, "epoll_wait" },
#ifdef SYS_epoll_wait
	{ SYS_epoll_wait, "epoll_wait" },
	{ SYS_dup2, "dup3" },
#endif
	{ SYS_eventfd2, "eventfd" },
	{ SYS_fcntl, "fcntl" },
	{ SYS_fstat, "fstat" },
	{ SYS_newfstatat, "fstat" },
	{ SYS_fstatfs, "fstatfs" },
	{ SYS_getpeername, "getpeername" },
	{ SYS_getpid, "getpid" },
	{ SYS_getsockname, "getsockname" },
	{ SYS_getsockopt, "getsockopt" },
	{ SYS_gettid, "gettid" },
	{ SYS_inotify_add_watch, "inotify_add_watch" },
	{ SYS_inotify_init1, "inotify_init" },
	{ SYS_inotify_rm_watch, "inotify_rm_watch" },
	{ SYS_ioctl, "ioctl" },
	{ SYS_kill, "kill" },
	{ SYS_lseek, "lseek" },
	{ SYS_madvise, NULL },
	{ SYS_mmap, NULL },
	{ SYS_mprotect, NULL },
	{ SYS_mremap, NULL },
	{ SYS_munmap, NULL },
	{ SYS_openat, "open" },
	{ SYS_pidfd_open, "pidfd_open" },
	{ SYS_pipe2, "pipe" },
	{ SYS_ppoll, "poll" },
	{ SYS_prctl, "prctl" },
	{ SYS_prlimit64, "getrlimit" },
	{ SYS_read, "read" },
	{ SYS_readlinkat, "readlink" },
#ifdef SYS_readlink
	{ SYS_readlink, "readlink" },
#endif
	{ SYS_recvfrom, "recv" },
	{ SYS_recvmsg, "recvmsg" },
	{ SYS_rt_sigaction, "sigaction" },
	{ SYS_rt_sigpending, "sigpending" },
	{ SYS_rt_sigprocmask, "sigprocmask" },
	{ SYS_rt_sigreturn, "sigreturn" },
	{ SYS_sendmsg, "sendmsg" },
	{ SYS_sendto, "send" },
	{ SYS_setsockopt, "setsockopt" },
	{ SYS_shutdown, "shutdown" },
	{ SYS_signalfd4, "signalfd" },
	{ SYS_socket, "socket" },
	{ SYS_splice, "splice" },
	{ SYS_tgkill, "kill" },
	{ SYS_timerfd_create, "timerfd_create" },
	{ SYS_timerfd_settime, "timerfd_settime" },
	{ SYS_waitid, "waitid" },
	{ SYS_write, "write" },
	{ SYS_writev, "writev" },
};

#define NNAMES (sizeof(names) / sizeof(names[0]))

static char text[MOST * 24];

/* -- in the child ---------------------------------------------------------- */

void
calls_begin(void)
{
	text[0] = '\0';
	syscall(SYS_prctl, MARK, 1, 0, 0, 0);
}

static void
append(uint64_t number)
{
	size_t i, len = strlen(text);
	const char *space = len == 0 ? "" : " ";

	for (i = 0; i < NNAMES; i++)
		if ((uint64_t)names[i].number == number)
			break;
	if (i == NNAMES)
		snprintf(text + len, sizeof(text) - len, "%s#%lld", space,
		    (long long)number);
	else if (names[i].name != NULL)
		snprintf(text + len, sizeof(text) - len, "%s%s", space,
		    names[i].name);
}

const char *
calls_end(void)
{
	int i;

	if (!notes->noting)
		return text;
	syscall(SYS_prctl, MARK, 0, 0, 0, 0);
	ck_assert_int_lt(notes->n, MOST);
	for (i = 0; i < notes->n; i++)
		append(notes->numbers[i]);
	return text;
}

static int
run_traced(Suite *suite)
{
	SRunner *runner;
	int failed;

	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) == -1) {
		printf("no process may be traced: %s\n", strerror(errno));
		return 77;
	}
	raise(SIGSTOP);
	runner = srunner_create(suite);
	srunner_set_fork_status(runner, CK_NOFORK);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

/* -- the tracer ------------------------------------------------------------ */

static void
note(const struct ptrace_syscall_info *call)
{
	if (call->op != PTRACE_SYSCALL_INFO_ENTRY)
		return;
	if (call->entry.nr == SYS_prctl && call->entry.args[0] == MARK) {
		notes->noting = (int)call->entry.args[1];
		if (notes->noting)
			notes->n = 0;
	} else if (notes->noting && notes->n < MOST) {
		notes->numbers[notes->n++] = call->entry.nr;
	}
}

/* Returns the child's exit status. */
static int
trace(pid_t pid)
{
	struct ptrace_syscall_info call;
	int status, sig = 0;

	if (waitpid(pid, &status, 0) != pid)
		return 1;
	if (WIFSTOPPED(status) &&
	    ptrace(PTRACE_SETOPTIONS, pid, NULL,
		PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == -1) {
		printf("no tracing of system calls: %s\n", strerror(errno));
		return 77;
	}
	while (WIFSTOPPED(status)) {
		if (ptrace(PTRACE_SYSCALL, pid, NULL, sig) == -1 ||
		    waitpid(pid, &status, 0) != pid)
			return 1;
		sig = 0;
		if (!WIFSTOPPED(status))
			break;
		if (WSTOPSIG(status) != (SIGTRAP | 0x80))
			sig = WSTOPSIG(status);
		else if (ptrace(PTRACE_GET_SYSCALL_INFO, pid, sizeof(call),
			     &call) > 0)
			note(&call);
		else {
			printf(
			    "no PTRACE_GET_SYSCALL_INFO: Linux before 5.3\n");
			return 77;
		}
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int
calls_run(Suite *suite)
{
	pid_t pid;

	notes = mmap(NULL, sizeof(*notes), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (notes == MAP_FAILED || (pid = fork()) == -1)
		return 1;
	if (pid == 0)
		exit(run_traced(suite));
	return trace(pid);
}
