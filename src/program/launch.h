/*
 * Starting a program: in a process group of its own, with every signal as it
 * is by default and none blocked.  What we do with signals ourselves must be
 * settled before the first.
 */
#ifndef KQUAY_LAUNCH_H
#define KQUAY_LAUNCH_H

#include <sys/types.h>

#include <limits.h>

struct account;

struct launch {
	const char *path;
	char *const *argv;
	char *const *envp;
	const char *directory; /* to work in; NULL: ours */
	int in, out, err;      /* above 2; become 0, 1 and 2; -1: ours */
	const int *keep;       /* descriptors that it has under their numbers */
	size_t nkeep;
	const struct account *account; /* to be; NULL: as we are */
};

/*
 * 0 and *pid, or an errno value and there is no child.  Where vfork(2) is
 * fork(2) a program that cannot be started is one that ends with status 127.
 */
int launch(const struct launch *l, pid_t *pid);

/* The path of a command, looked up as a shell does.  0, or -1 with errno. */
int launch_find(const char *name, char path[PATH_MAX]);

#endif
