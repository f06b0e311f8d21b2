/*
 * Starting a program: in a process group of its own, with every signal as it
 * is by default and none blocked.
 */
#ifndef KQUAY_LAUNCH_H
#define KQUAY_LAUNCH_H

#include <sys/types.h>

#include <limits.h>

struct launch {
	const char *path;
	char *const *argv;
	char *const *envp;
	const char *directory; /* to work in; NULL: ours */
	int in, out, err;      /* become 0, 1 and 2; -1: ours */
	const int *keep;       /* descriptors that it has under their numbers */
	size_t nkeep;          /* only where it stays who we are */
	/* To be somebody else, as root; groups is NULL: stay who we are. */
	uid_t uid;
	gid_t gid;
	const gid_t *groups;
	size_t ngroups;
};

/* 0 and *pid, or an errno value and there is no child. */
int launch(const struct launch *s, pid_t *pid);

/* The path of a command, looked up as a shell does.  0, or -1 with errno. */
int launch_find(const char *name, char path[PATH_MAX]);

#endif
