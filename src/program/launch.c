/*
 * posix_spawn(3) costs the same however large we are, and cannot change the
 * user.  So who is to be somebody else is forked, which costs more with each
 * connection that we have.
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <paths.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "launch.h"

static int as_we_are(const struct launch *, pid_t *);
static int as_another(const struct launch *, pid_t *);
static int fill_actions(const struct launch *, posix_spawn_file_actions_t *);
static int fill_attributes(posix_spawnattr_t *);
static void become(const struct launch *, int) __attribute__((__noreturn__));
static int place(int, int);

int
launch(const struct launch *s, pid_t *pid)
{
	return s->groups == NULL ? as_we_are(s, pid) : as_another(s, pid);
}

int
launch_find(const char *name, char path[PATH_MAX])
{
	const char *dir, *end;
	int len, saved = ENOENT;

	if (strchr(name, '/') != NULL) {
		if (strlcpy(path, name, PATH_MAX) >= PATH_MAX) {
			errno = ENAMETOOLONG;
			return -1;
		}
		return access(path, X_OK);
	}
	dir = getenv("PATH");
	if (dir == NULL)
		dir = _PATH_DEFPATH;
	for (;; dir = end + 1) {
		end = dir + strcspn(dir, ":");
		len = snprintf(path, PATH_MAX, "%.*s/%s",
		    end == dir ? 1 : (int)(end - dir), end == dir ? "." : dir,
		    name);
		if (len > 0 && len < PATH_MAX && access(path, X_OK) == 0)
			return 0;
		if (errno == EACCES)
			saved = EACCES;
		if (*end == '\0')
			break;
	}
	errno = saved;
	return -1;
}

static int
as_we_are(const struct launch *s, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	int error;

	if ((error = posix_spawn_file_actions_init(&actions)) != 0)
		return error;
	if ((error = posix_spawnattr_init(&attributes)) != 0) {
		posix_spawn_file_actions_destroy(&actions);
		return error;
	}
	if ((error = fill_actions(s, &actions)) == 0 &&
	    (error = fill_attributes(&attributes)) == 0)
		error = posix_spawn(pid, s->path, &actions, &attributes,
		    s->argv, s->envp);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static int
fill_actions(const struct launch *s, posix_spawn_file_actions_t *actions)
{
	const int from[] = { s->in, s->out, s->err };
	int error = 0, to;
	size_t i;

	/* Onto itself: it is no longer closed by exec. */
	for (i = 0; i < s->nkeep && error == 0; i++)
		error = posix_spawn_file_actions_adddup2(actions, s->keep[i],
		    s->keep[i]);
	if (error != 0)
		return error;
	if (s->directory != NULL)
		error =
		    posix_spawn_file_actions_addchdir_np(actions, s->directory);
	for (to = 0; to <= STDERR_FILENO && error == 0; to++)
		if (from[to] != -1)
			error = posix_spawn_file_actions_adddup2(actions,
			    from[to], to);
	return error;
}

static int
fill_attributes(posix_spawnattr_t *attributes)
{
	sigset_t all, none;
	int error;

	sigfillset(&all);
	sigemptyset(&none);
	if ((error = posix_spawnattr_setsigdefault(attributes, &all)) != 0 ||
	    (error = posix_spawnattr_setsigmask(attributes, &none)) != 0)
		return error;
	return posix_spawnattr_setflags(attributes,
	    POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
		POSIX_SPAWN_SETSIGMASK);
}

/* The child says by the pipe what went wrong, or closes it by exec. */
static int
as_another(const struct launch *s, pid_t *pid)
{
	int report[2], error = 0;
	ssize_t n;

	if (pipe2(report, O_CLOEXEC) == -1)
		return errno;
	*pid = fork();
	if (*pid == 0)
		become(s, report[1]);
	if (*pid == -1)
		error = errno;
	close(report[1]);
	if (*pid != -1) {
		while ((n = read(report[0], &error, sizeof(error))) == -1 &&
		    errno == EINTR)
			;
		if (n != sizeof(error))
			error = 0;
		else
			while (waitpid(*pid, NULL, 0) == -1 && errno == EINTR)
				;
	}
	close(report[0]);
	return error;
}

static void
become(const struct launch *s, int report)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	int signo, error;

	sigemptyset(&none);
	for (signo = 1; signo < NSIG; signo++)
		(void)sigaction(signo, &plain, NULL);
	if (setpgid(0, 0) == -1 || place(s->in, STDIN_FILENO) == -1 ||
	    place(s->out, STDOUT_FILENO) == -1 ||
	    place(s->err, STDERR_FILENO) == -1 ||
	    setgroups(s->ngroups, s->groups) == -1 || setgid(s->gid) == -1 ||
	    setuid(s->uid) == -1 ||
	    (s->directory != NULL && chdir(s->directory) == -1) ||
	    sigprocmask(SIG_SETMASK, &none, NULL) == -1)
		goto fail;
	execve(s->path, s->argv, s->envp);
fail:
	error = errno;
	(void)!write(report, &error, sizeof(error));
	_exit(127);
}

static int
place(int from, int to)
{
	return from == -1 ? 0 : dup2(from, to);
}
