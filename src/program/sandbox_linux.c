/*
 * Linux: Landlock for what is seen of the file system, seccomp for the system
 * calls that there are.  Both are probed for: what an older kernel cannot do
 * is left out.
 *
 * The system calls are a list of what may be done: what libkq, OpenSSL, c-ares,
 * libmicrohttpd and the C library do, for threads, sockets, memory and files.
 * Any other does not exist (ENOSYS), which is what a C library that is newer
 * than this list can cope with; nobody is killed, for a peer that makes us try
 * must not end the service of the others.
 *
 * Programs are run for one purpose: `kquay upgrade' starts the new one.  So
 * what is in the folder of our own program may be run, if Landlock can tell;
 * and nothing otherwise.
 */
#include <sys/types.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <link.h>
#include <sched.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hash.h"
#include "sandbox.h"

/* Of Landlock, by version; a header may be older than the kernel. */
#define RIGHTS_1 ((UINT64_C(1) << 13) - 1)
#define RIGHT_REFER (UINT64_C(1) << 13)
#define RIGHT_TRUNCATE (UINT64_C(1) << 14)
#define RIGHT_IOCTL_DEV (UINT64_C(1) << 15)

#define READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define RUN LANDLOCK_ACCESS_FS_EXECUTE
#define OUTPUT (LANDLOCK_ACCESS_FS_WRITE_FILE | RIGHT_TRUNCATE)
#define MAKE (OUTPUT | LANDLOCK_ACCESS_FS_MAKE_REG)
#define SOCKETS                                                                \
	(LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_MAKE_SOCK |          \
	    LANDLOCK_ACCESS_FS_REMOVE_FILE)
/* Those that a rule for a file, which is no folder, may have. */
#define OF_FILES (LANDLOCK_ACCESS_FS_READ_FILE | RUN | OUTPUT | RIGHT_IOCTL_DEV)

/* Namespaces of its own: clone(2) for a container. */
#define NAMESPACES                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |         \
	    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define BPF_MAX 32769 /* bytes of a filter, and one */

struct ruleset {
	int fd;
	uint64_t handled; /* by this kernel */
};

/* What every process needs of the file system. */
static const struct {
	const char *path;
	uint64_t rights;
} common[] = {
	{ "/lib", READ },
	{ "/lib64", READ },
	{ "/proc", READ }, /* libkq looks for descriptors there */
	{ "/sys/devices/system/cpu", READ },
	{ "/dev/null", READ | OUTPUT },
	{ "/dev/urandom", READ },
	{ "/dev/random", READ },
};

/* Their names, a group in each. */
static const char *const allowed[] = {
	/* descriptors */
	"close close_range dup dup2 dup3 fcntl fcntl64 flock pipe pipe2 "
	"lseek _llseek read readv pread64 preadv preadv2 write writev "
	"pwrite64 pwritev pwritev2 splice sendfile sendfile64",
	/* waiting */
	"poll ppoll ppoll_time64 select _newselect pselect6 "
	"pselect6_time64 epoll_create epoll_create1 epoll_ctl "
	"epoll_wait epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd "
	"signalfd4 timerfd_create timerfd_settime timerfd_settime64 "
	"timerfd_gettime timerfd_gettime64 inotify_init inotify_init1 "
	"inotify_add_watch inotify_rm_watch nanosleep clock_nanosleep "
	"clock_nanosleep_time64 futex futex_time64 pause",
	/* sockets */
	"socketpair bind connect listen accept accept4 getsockname "
	"getpeername getsockopt setsockopt shutdown send sendto sendmsg "
	"sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64",
	/* files, as far as Landlock lets */
	"open openat openat2 creat stat lstat fstat stat64 lstat64 "
	"fstat64 newfstatat fstatat64 statx statfs statfs64 fstatfs "
	"fstatfs64 access faccessat faccessat2 readlink readlinkat "
	"getdents getdents64 getcwd unlink unlinkat rename renameat "
	"renameat2 chmod fchmod fchmodat umask ftruncate ftruncate64 "
	"fallocate fsync fdatasync fadvise64 fadvise64_64",
	/* memory */
	"brk mmap mmap2 munmap mremap mprotect madvise mlock mlock2 "
	"munlock mincore membarrier",
	/* time and chance */
	"clock_gettime clock_gettime64 clock_getres clock_getres_time64 "
	"gettimeofday time times getrandom",
	/* signals */
	"kill tgkill tkill rt_sigaction rt_sigprocmask rt_sigpending "
	"rt_sigreturn sigreturn rt_sigsuspend rt_sigtimedwait "
	"rt_sigtimedwait_time64 rt_sigqueueinfo rt_tgsigqueueinfo "
	"sigaltstack setitimer getitimer alarm pidfd_open "
	"pidfd_send_signal",
	/* the process, its threads and its end */
	"exit exit_group fork vfork wait4 waitid waitpid getpid getppid "
	"gettid getpgid getpgrp getsid setpgid setsid getuid geteuid "
	"getgid getegid getresuid getresgid getgroups getuid32 "
	"geteuid32 getgid32 getegid32 getresuid32 getresgid32 "
	"getgroups32 getrlimit ugetrlimit setrlimit prlimit64 getrusage "
	"sysinfo uname getcpu sched_yield sched_getaffinity "
	"sched_getparam sched_getscheduler set_tid_address "
	"set_robust_list rseq restart_syscall arch_prctl "
	"set_thread_area capget",
	/* to be confined once more, as the new program of an upgrade */
	"seccomp landlock_create_ruleset landlock_add_rule "
	"landlock_restrict_self",
	NULL
};

/* Calls that are allowed with these values of one argument. */
static const struct {
	const char *name;
	unsigned argument;
	uint32_t value;
} with_value[] = {
	{ "socket", 0, AF_UNIX }, { "socket", 0, AF_INET },
	{ "socket", 0, AF_INET6 },
	{ "socket", 0, AF_NETLINK }, /* the machine's own addresses */
	{ "ioctl", 1, FIONREAD }, { "ioctl", 1, FIONBIO },
	{ "ioctl", 1, FIOCLEX }, { "ioctl", 1, SIOCATMARK },
	{ "ioctl", 1, TIOCOUTQ }, /* SIOCOUTQ, too */
	{ "ioctl", 1, TIOCGWINSZ }, { "ioctl", 1, TCGETS },
	{ "prctl", 0, PR_SET_NAME }, { "prctl", 0, PR_GET_NAME },
	{ "prctl", 0, PR_SET_DUMPABLE }, { "prctl", 0, PR_GET_DUMPABLE },
	{ "prctl", 0, PR_SET_NO_NEW_PRIVS },
	{ "prctl", 0, PR_GET_NO_NEW_PRIVS }, { "prctl", 0, PR_GET_SECCOMP },
	{ "prctl", 0, PR_SET_SECCOMP }, { "prctl", 0, PR_CAPBSET_READ },
	{ "prctl", 0, 0x53564d41 }, /* PR_SET_VMA: names of memory */
};

static int see_less(const struct sandbox *);
static int probe(struct ruleset *);
static int fill(const struct ruleset *, const struct sandbox *);
static int allow(const struct ruleset *, const char *, uint64_t);
static int allow_all(const struct ruleset *, const struct words *, uint64_t);
static int allow_folder_of(const struct ruleset *, const char *, uint64_t);
static int allow_object(struct dl_phdr_info *, size_t, void *);
static int do_less(int, uint64_t *);
static int load(scmp_filter_ctx, uint64_t *);
static uint64_t number_of(scmp_filter_ctx);
static int allow_calls(scmp_filter_ctx, int);
static int add_rules(scmp_filter_ctx, const char *);

int
sandbox_confine(struct sandbox *s, char *state, size_t statesz, char *why,
    size_t whysz)
{
	int version, error, complete = 1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == -1) {
		snprintf(why, whysz, "no_new_privs: %s", strerror(errno));
		snprintf(state, statesz, "none: %s", why);
		return -1;
	}
	version = see_less(s);
	if (version < 0) {
		snprintf(why, whysz, "Landlock: %s", strerror(-version));
		complete = 0;
	}
	error = do_less(version > 0, &s->filter);
	if (error != 0) {
		snprintf(why, whysz, "seccomp: %s", strerror(error));
		complete = 0;
	}
	if (version > 0)
		snprintf(state, statesz, "%sLandlock %d",
		    error == 0 ? "seccomp, " : "", version);
	else
		snprintf(state, statesz, "%s",
		    error == 0 ? "seccomp" : "none: not in this kernel");
	return complete ? 0 : -1;
}

void
sandbox_keep_secrets(void)
{
	struct rlimit limit;

	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	if (getrlimit(RLIMIT_CORE, &limit) == -1)
		return;
	limit.rlim_cur = 0;
	(void)setrlimit(RLIMIT_CORE, &limit);
}

/* -- the file system ------------------------------------------------------- */

/*
 * The version of Landlock, or the negative of an errno value.  Each upgrade
 * adds to what it inherits, of which there may be 16: then that is enough.
 */
static int
see_less(const struct sandbox *s)
{
	struct ruleset r;
	int version, error = 0;

	version = probe(&r);
	if (version < 0)
		return version;
	if (fill(&r, s) == -1)
		error = errno;
	else if (syscall(SYS_landlock_restrict_self, r.fd, 0) == -1 &&
	    !(s->heir && errno == E2BIG))
		error = errno;
	close(r.fd);
	return error != 0 ? -error : version;
}

static int
probe(struct ruleset *r)
{
	struct landlock_ruleset_attr attr;
	long version;

	version = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0,
	    LANDLOCK_CREATE_RULESET_VERSION);
	if (version == -1)
		return -errno;
	r->handled = RIGHTS_1;
	if (version >= 2)
		r->handled |= RIGHT_REFER;
	if (version >= 3)
		r->handled |= RIGHT_TRUNCATE;
	if (version >= 5)
		r->handled |= RIGHT_IOCTL_DEV;
	attr =
	    (struct landlock_ruleset_attr){ .handled_access_fs = r->handled };
	r->fd = (int)syscall(SYS_landlock_create_ruleset, &attr,
	    sizeof(attr.handled_access_fs), 0);
	return r->fd == -1 ? -errno : (int)version;
}

static int
fill(const struct ruleset *r, const struct sandbox *s)
{
	char path[PATH_MAX];
	size_t i;

	for (i = 0; i < sizeof(common) / sizeof(common[0]); i++)
		if (allow(r, common[i].path, common[i].rights) == -1)
			return -1;
	/* Of a resolver or of a lease, it often is in a folder of theirs. */
	if (realpath("/etc/resolv.conf", path) != NULL &&
	    allow_folder_of(r, path, READ) == -1)
		return -1;
	if (realpath("/proc/self/exe", path) != NULL &&
	    allow_folder_of(r, path, READ | RUN) == -1)
		return -1;
	/* Wherever the libraries are, a new program needs them, too. */
	if (dl_iterate_phdr(allow_object, (void *)(uintptr_t)r) != 0)
		return -1;
	if (allow_all(r, &s->read, READ) == -1 ||
	    allow_all(r, &s->sockets, SOCKETS) == -1)
		return -1;
	return allow_all(r, &s->write, MAKE | READ);
}

static int
allow_all(const struct ruleset *r, const struct words *words, uint64_t rights)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		if (allow(r, words->word[i], rights) == -1)
			return -1;
	return 0;
}

/* What is not there, or not for us, needs no rule. */
static int
allow(const struct ruleset *r, const char *path, uint64_t rights)
{
	struct landlock_path_beneath_attr rule;
	struct stat st;
	int fd, rc = 0;

	fd = open(path, O_PATH | O_CLOEXEC);
	if (fd == -1)
		return errno == ENOENT || errno == EACCES || errno == ENOTDIR ?
		    0 :
		    -1;
	rule.parent_fd = fd;
	rule.allowed_access = rights & r->handled;
	if (fstat(fd, &st) == 0 && !S_ISDIR(st.st_mode))
		rule.allowed_access &= OF_FILES;
	if (rule.allowed_access != 0)
		rc = (int)syscall(SYS_landlock_add_rule, r->fd,
		    LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
	close(fd);
	return rc;
}

static int
allow_folder_of(const struct ruleset *r, const char *path, uint64_t rights)
{
	char copy[PATH_MAX];

	strlcpy(copy, path, sizeof(copy));
	return allow(r, dirname(copy), rights);
}

/* A library; or the program, which names the loader that it is run by. */
static int
allow_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const struct ruleset *r = arg;
	char path[PATH_MAX];
	int i;

	for (i = 0; i < info->dlpi_phnum; i++) {
		if (info->dlpi_phdr[i].p_type != PT_INTERP)
			continue;
		/* clang-format off */
		if (realpath((const char *)
			(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr),
			path) != NULL && allow_folder_of(r, path,
			READ | RUN) == -1)
			return -1;
		/* clang-format on */
	}
	if (info->dlpi_name == NULL || realpath(info->dlpi_name, path) == NULL)
		return 0;
	return allow_folder_of(r, path, READ);
}

/* -- system calls ---------------------------------------------------------- */

/*
 * 0, or an errno value.  Whether programs may be run is Landlock's to say.
 * *before is the filter that we have already.
 */
static int
do_less(int run, uint64_t *before)
{
	scmp_filter_ctx filter;
	int error;

	filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	if (filter == NULL)
		return ENOMEM;
	/* A tree is faster than a list, and is not known everywhere. */
	(void)seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	if (error == 0)
		error = allow_calls(filter, run);
	if (error == 0)
		error = load(filter, before);
	seccomp_release(filter);
	return -error;
}

/* 0, or the negative of an errno value. */
static int
load(scmp_filter_ctx filter, uint64_t *before)
{
	uint64_t number = number_of(filter);
	int error;

	if (number != 0 && number == *before &&
	    prctl(PR_GET_SECCOMP) == SECCOMP_MODE_FILTER)
		return 0;
	error = seccomp_load(filter);
	*before = error == 0 ? number : 0;
	return error;
}

/* A hash of its program; 0: not known. */
static uint64_t
number_of(scmp_filter_ctx filter)
{
	char text[BPF_MAX];
	int fd[2];
	ssize_t n = -1;

	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) == -1)
		return 0;
	if (seccomp_export_bpf(filter, fd[1]) == 0)
		n = read(fd[0], text, sizeof(text));
	close(fd[0]);
	close(fd[1]);
	return n > 0 && n < BPF_MAX ? hash(text, (size_t)n) : 0;
}

static int
allow_calls(scmp_filter_ctx filter, int run)
{
	size_t i;
	int error = 0, call;

	for (i = 0; allowed[i] != NULL && error == 0; i++)
		error = add_rules(filter, allowed[i]);
	for (i = 0;
	     i < sizeof(with_value) / sizeof(with_value[0]) && error == 0;
	     i++) {
		call = seccomp_syscall_resolve_name(with_value[i].name);
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 1,
		    SCMP_CMP(with_value[i].argument, SCMP_CMP_MASKED_EQ,
			UINT32_MAX, with_value[i].value));
	}
	/* clone3() is ENOSYS: its flags cannot be seen, and clone() does. */
	if (error == 0)
		error =
		    seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
			SCMP_A0(SCMP_CMP_MASKED_EQ, NAMESPACES, 0));
	if (error == 0 && run)
		error = add_rules(filter, "execve");
	return error;
}

/* One that this machine, or libseccomp, does not have is no error. */
static int
add_rules(scmp_filter_ctx filter, const char *names)
{
	char name[32];
	size_t len;
	int call, error = 0;

	for (; *names != '\0' && error == 0; names += len) {
		names += strspn(names, " ");
		len = strcspn(names, " ");
		snprintf(name, sizeof(name), "%.*s", (int)len, names);
		call = seccomp_syscall_resolve_name(name);
		if (call == __NR_SCMP_ERROR)
			continue;
		error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, call, 0);
		if (error == -EDOM)
			error = 0;
	}
	return error;
}
