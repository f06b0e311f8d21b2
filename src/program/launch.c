/*
 * By vfork(2), which costs the same however much memory we have.  Until the
 * child is another program it has that memory, and this thread waits:
 *
 *  1 No handler of ours runs in it: signals are blocked until they are as by
 *    default.
 *  2 It becomes somebody else alone (account.h).
 *  3 What goes wrong it leaves in a variable of ours.
 *
 * Where vfork(2) is fork(2), as in an emulator or for the thread sanitizer,
 * only the last is lost: then it shows in how the child ends.
 */
#include <sys/types.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account.h"
#include "launch.h"

enum { FAILED = 127 }; /* as of a shell that finds no such command */

/* The signals that are not as by default. */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int changed[NSIG];
static int nchanged;

static void look(void);
static int become(const struct launch *);
static int arrange(const struct launch *);
static void reset_signals(void);
static int place(int, int);

int
launch(const struct launch *l, pid_t *pid)
{
	volatile int error = 0;
	sigset_t all, mask;

	pthread_once(&once, look);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &mask);
	*pid = vfork();
	if (*pid == 0) {
		error = become(l);
		_exit(FAILED);
	}
	if (*pid == -1)
		error = errno;
	pthread_sigmask(SIG_SETMASK, &mask, NULL);
	if (*pid != -1 && error != 0)
		while (waitpid(*pid, NULL, 0) == -1 && errno == EINTR)
			;
	return error;
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

static void
look(void)
{
	struct sigaction now;
	int signo;

	for (signo = 1; signo < NSIG; signo++)
		if (sigaction(signo, NULL, &now) == 0 &&
		    now.sa_handler != SIG_DFL)
			changed[nchanged++] = signo;
}

/* -- the child ------------------------------------------------------------- */

/* An errno value, or no return. */
static int
become(const struct launch *l)
{
	reset_signals();
	if (setpgid(0, 0) == 0 && arrange(l) == 0 &&
	    (l->account == NULL || account_become_alone(l->account) == 0) &&
	    (l->directory == NULL || chdir(l->directory) == 0))
		execve(l->path, l->argv, l->envp);
	return errno;
}

/* The descriptors.  0, or -1 with errno. */
static int
arrange(const struct launch *l)
{
	size_t i;

	for (i = 0; i < l->nkeep; i++)
		if (fcntl(l->keep[i], F_SETFD, 0) == -1)
			return -1;
	if (place(l->in, STDIN_FILENO) == -1 ||
	    place(l->out, STDOUT_FILENO) == -1)
		return -1;
	return place(l->err, STDERR_FILENO);
}

static int
place(int from, int to)
{
	return from == -1 || dup2(from, to) == to ? 0 : -1;
}

static void
reset_signals(void)
{
	struct sigaction plain = { .sa_handler = SIG_DFL };
	sigset_t none;
	int i;

	for (i = 0; i < nchanged; i++)
		(void)sigaction(changed[i], &plain, NULL);
	sigemptyset(&none);
	(void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}
