/*
 * interpose_exec.c: programs that this one starts inherit its dispositions.
 *
 * A new program ignores what its parent ignored, and a watched signal is only
 * ignored here by a handler of ours, which exec resets to the default.  So the
 * signals that the program ignores are really ignored, for the time of the
 * call, in the process that execs: signals_exec_begin() in that one, or, where
 * libc makes the child, signals_plain_begin() in this one.
 *
 * Nothing here allocates: the caller may be a vforked child.
 *
 * DIVERGES: an ignored signal that is sent while posix_spawn(), system() or
 * popen() makes a process is not counted.  kqueue(2), EVFILT_SIGNAL.
 */
#include <sys/syscall.h>
#include <sys/wait.h>

#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "export.h"
#include "kq.h"
#include "libc.h"
#include "signals.h"

/* What a static program has instead of dlsym(). */
extern void *dlsym(void *, const char *) __attribute__((weak));

static libc_spawn_fn *real_spawn, *real_spawnp;
static FILE *(*real_popen)(const char *, const char *) = libc_popen;

__attribute__((constructor)) static void
find_spawn(void)
{
	void *found;

	real_spawn = libc_spawn;
	if (dlsym == NULL)
		return;
	if ((found = dlsym(RTLD_NEXT, "posix_spawn")) != NULL)
		memcpy(&real_spawn, &found, sizeof(found));
	if ((found = dlsym(RTLD_NEXT, "posix_spawnp")) != NULL)
		memcpy(&real_spawnp, &found, sizeof(found));
	if ((found = dlsym(RTLD_NEXT, "popen")) != NULL)
		memcpy(&real_popen, &found, sizeof(found));
}

/* -- exec ------------------------------------------------------------------ */

static int
exec_at(int dir, const char *path, char *const argv[], char *const envp[],
    int flags)
{
	int saved;

	signals_exec_begin();
	if (dir == AT_FDCWD && flags == 0)
		syscall(SYS_execve, path, argv, envp);
	else
		syscall(SYS_execveat, dir, path, argv, envp, flags);
	saved = errno;
	signals_exec_failed();
	errno = saved;
	return -1;
}

KQ_EXPORT int
execve(const char *path, char *const argv[], char *const envp[])
{
	return exec_at(AT_FDCWD, path, argv, envp, 0);
}

KQ_EXPORT int
execv(const char *path, char *const argv[])
{
	return execve(path, argv, environ);
}

KQ_EXPORT int
execveat(int dir, const char *path, char *const argv[], char *const envp[],
    int flags)
{
	return exec_at(dir, path, argv, envp, flags);
}

KQ_EXPORT int
fexecve(int fd, char *const argv[], char *const envp[])
{
	if (fd < 0) {
		errno = EINVAL;
		return -1;
	}
	return exec_at(fd, "", argv, envp, AT_EMPTY_PATH);
}

/* A file without "#!" is a script of the shell's. */
static int
exec_or_script(const char *path, char *const argv[], char *const envp[])
{
	char **script;
	size_t n;

	execve(path, argv, envp);
	if (errno != ENOEXEC)
		return -1;
	for (n = 0; argv[n] != NULL; n++)
		continue;
	script = alloca((n + 3) * sizeof(*script));
	script[0] = (char *)(uintptr_t)_PATH_BSHELL;
	script[1] = (char *)(uintptr_t)path;
	script[2] = NULL;
	if (n > 1)
		memcpy(&script[2], &argv[1], n * sizeof(*script));
	return execve(_PATH_BSHELL, script, envp);
}

/* The next folder of a PATH with the file's name behind it; 0: no room. */
static size_t
candidate(char *path, const char **rest, const char *file)
{
	const char *end = strchrnul(*rest, ':');
	size_t n = (size_t)(end - *rest), length = strlen(file);
	size_t slash = n != 0;

	if (n + slash + length + 1 > PATH_MAX)
		n = 0;
	else {
		memcpy(path, *rest, n);
		path[n] = '/';
		memcpy(path + n + slash, file, length + 1);
		n += slash + length;
	}
	*rest = *end == ':' ? end + 1 : NULL;
	return n;
}

/* Whether to try the next folder after this error. */
static bool
not_there(int error)
{
	switch (error) {
	case EACCES:
	case ENOENT:
	case ENOTDIR:
	case ESTALE:
	case ENODEV:
	case ETIMEDOUT:
		return true;
	default:
		return false;
	}
}

static const char *
search_path(void)
{
	const char *path = getenv("PATH");

	return path != NULL ? path : "/bin:/usr/bin";
}

KQ_EXPORT int
execvpe(const char *file, char *const argv[], char *const envp[])
{
	const char *rest = search_path();
	char path[PATH_MAX];
	bool denied = false;

	if (file[0] == '\0') {
		errno = ENOENT;
		return -1;
	}
	if (strchr(file, '/') != NULL)
		return exec_or_script(file, argv, envp);
	if (strnlen(file, NAME_MAX + 1) > NAME_MAX) {
		errno = ENAMETOOLONG;
		return -1;
	}
	errno = ENOENT;
	while (rest != NULL) {
		if (candidate(path, &rest, file) == 0)
			continue;
		exec_or_script(path, argv, envp);
		if (!not_there(errno))
			return -1;
		denied = denied || errno == EACCES;
	}
	if (denied)
		errno = EACCES;
	return -1;
}

KQ_EXPORT int
execvp(const char *file, char *const argv[])
{
	return execvpe(file, argv, environ);
}

/* The arguments of execl() and its like as an array, on the caller's stack. */
#define COLLECT(argv, ap, first)                                               \
	do {                                                                   \
		size_t n_ = 1, i_;                                             \
		va_start(ap, first);                                           \
		while (va_arg(ap, char *) != NULL)                             \
			n_++;                                                  \
		va_end(ap);                                                    \
		argv = alloca((n_ + 1) * sizeof(*argv));                       \
		argv[0] = (char *)(uintptr_t)first;                            \
		va_start(ap, first);                                           \
		for (i_ = 1; i_ <= n_; i_++)                                   \
			argv[i_] = va_arg(ap, char *);                         \
	} while (0)

KQ_EXPORT int
execl(const char *path, const char *first, ...)
{
	char **argv;
	va_list ap;

	COLLECT(argv, ap, first);
	va_end(ap);
	return execve(path, argv, environ);
}

KQ_EXPORT int
execlp(const char *file, const char *first, ...)
{
	char **argv;
	va_list ap;

	COLLECT(argv, ap, first);
	va_end(ap);
	return execvpe(file, argv, environ);
}

KQ_EXPORT int
execle(const char *path, const char *first, ...)
{
	char **argv, *const *envp;
	va_list ap;

	COLLECT(argv, ap, first);
	envp = va_arg(ap, char *const *);
	va_end(ap);
	return execve(path, argv, envp);
}

/* -- libc makes the child -------------------------------------------------- */

static bool
plain_begin(void)
{
	if (signals_watched() == 0)
		return false;
	signals_plain_begin();
	return true;
}

KQ_EXPORT int
posix_spawn(pid_t *restrict pid, const char *restrict path,
    const posix_spawn_file_actions_t *restrict actions,
    const posix_spawnattr_t *restrict attr, char *const argv[restrict],
    char *const envp[restrict])
{
	bool plain;
	int error;

	if (real_spawn == NULL)
		return ENOSYS;
	plain = plain_begin();
	error = real_spawn(pid, path, actions, attr, argv, envp);
	if (plain)
		signals_plain_end();
	return error;
}

/* A static program has no other posix_spawnp() than this one. */
static int
spawn_along_path(pid_t *pid, const char *file,
    const posix_spawn_file_actions_t *actions, const posix_spawnattr_t *attr,
    char *const argv[], char *const envp[])
{
	const char *rest = search_path();
	char path[PATH_MAX];
	int error = ENOENT, denied = 0;

	if (strchr(file, '/') != NULL)
		return real_spawn(pid, file, actions, attr, argv, envp);
	while (rest != NULL && file[0] != '\0' && not_there(error)) {
		if (candidate(path, &rest, file) == 0)
			continue;
		error = real_spawn(pid, path, actions, attr, argv, envp);
		if (error == EACCES)
			denied = EACCES;
	}
	return error != 0 && not_there(error) && denied ? denied : error;
}

KQ_EXPORT int
posix_spawnp(pid_t *restrict pid, const char *restrict file,
    const posix_spawn_file_actions_t *restrict actions,
    const posix_spawnattr_t *restrict attr, char *const argv[restrict],
    char *const envp[restrict])
{
	libc_spawn_fn *spawn =
	    real_spawnp != NULL ? real_spawnp : spawn_along_path;
	bool plain;
	int error;

	if (real_spawn == NULL)
		return ENOSYS;
	plain = plain_begin();
	error = spawn(pid, file, actions, attr, argv, envp);
	if (plain)
		signals_plain_end();
	return error;
}

KQ_EXPORT FILE *
popen(const char *command, const char *mode)
{
	bool plain = plain_begin();
	FILE *file = real_popen(command, mode);
	int saved = errno;

	if (plain)
		signals_plain_end();
	errno = saved;
	return file;
}

/* -- system(3) ------------------------------------------------------------- */

/*
 * libc's own would keep signals plainly ignored until the command ends, so it
 * is made anew.  Several threads may be in it: the first one ignores SIGINT
 * and SIGQUIT, the last one ends that.
 */
static pthread_mutex_t system_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned int systems;
static struct sigaction system_was[2];

static const int system_ignores[2] = { SIGINT, SIGQUIT };

/* Ignore them; *reset is what the command shall have by default. */
static void
system_begin(sigset_t *reset, sigset_t *mask)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t child;
	int i;

	sigemptyset(reset);
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	pthread_mutex_lock(&system_lock);
	for (i = 0; i < 2; i++) {
		if (systems == 0)
			signal_action(system_ignores[i], &ignore,
			    &system_was[i]);
		if (system_was[i].sa_handler != SIG_IGN)
			sigaddset(reset, system_ignores[i]);
	}
	systems++;
	pthread_mutex_unlock(&system_lock);
	pthread_sigmask(SIG_BLOCK, &child, mask);
}

static void
system_end(const sigset_t *mask)
{
	int i;

	pthread_mutex_lock(&system_lock);
	if (--systems == 0)
		for (i = 0; i < 2; i++)
			signal_action(system_ignores[i], &system_was[i], NULL);
	pthread_mutex_unlock(&system_lock);
	pthread_sigmask(SIG_SETMASK, mask, NULL);
}

struct command {
	pid_t c_pid; /* or -1 */
	sigset_t c_mask;
};

/* The thread is cancelled: so is the command. */
static void
system_cancelled(void *arg)
{
	struct command *c = arg;
	int state;

	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	if (c->c_pid > 0) {
		kill(c->c_pid, SIGKILL);
		while (waitpid(c->c_pid, NULL, 0) == -1 && errno == EINTR)
			continue;
	}
	system_end(&c->c_mask);
	pthread_setcancelstate(state, NULL);
}

static int
system_spawn(struct command *c, const char *command, const sigset_t *reset)
{
	char *argv[] = { (char *)(uintptr_t) "sh", (char *)(uintptr_t) "-c",
		(char *)(uintptr_t)command, NULL };
	posix_spawnattr_t attr;
	int error;

	posix_spawnattr_init(&attr);
	posix_spawnattr_setsigmask(&attr, &c->c_mask);
	posix_spawnattr_setsigdefault(&attr, reset);
	posix_spawnattr_setflags(&attr,
	    POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
	error =
	    posix_spawn(&c->c_pid, _PATH_BSHELL, NULL, &attr, argv, environ);
	posix_spawnattr_destroy(&attr);
	return error;
}

/* Its status, or -1 with errno. */
static int
system_wait(struct command *c)
{
	int status;
	pid_t r;

	pthread_cleanup_push(system_cancelled, c);
	do
		r = waitpid(c->c_pid, &status, 0);
	while (r == -1 && errno == EINTR);
	pthread_cleanup_pop(0);
	return r == -1 ? -1 : status;
}

KQ_EXPORT int
system(const char *command)
{
	struct command c = { .c_pid = -1 };
	sigset_t reset;
	int status, saved;

	if (command == NULL)
		return system("exit 0") == 0;
	system_begin(&reset, &c.c_mask);
	errno = system_spawn(&c, command, &reset);
	if (errno == 0)
		status = system_wait(&c);
	else if (errno == EAGAIN || errno == ENOMEM)
		status = -1;
	else
		status = W_EXITCODE(127, 0);
	saved = errno;
	system_end(&c.c_mask);
	errno = saved;
	return status;
}
