/*
 * Accounts: who a process is to be, by the names of a user and a group.
 */
#ifndef KQUAY_ACCOUNT_H
#define KQUAY_ACCOUNT_H

#include <sys/types.h>

#include <stddef.h>

#define ACCOUNT_GROUPS 64

struct account {
	uid_t uid;
	gid_t gid;
	gid_t groups[ACCOUNT_GROUPS];
	int ngroups; /* 0: as we are */
};

/*
 * The user with all groups of it; or with this group alone; or who we are with
 * this group alone; or as we are, if both are "".  0; or -1 and why, which
 * begins with the name of the setting, "user" or "group": there is none.
 */
int account_find(struct account *a, const char *user, const char *group,
    char *why, size_t whysz);

/*
 * May we become it?  0, and who is it already is as we are; or -1 and why,
 * which begins with "user".
 */
int account_may(struct account *a, char *why, size_t whysz);

/*
 * Let it own the UNIX socket path, so that it may call, remove and replace it
 * once we are it.  0, or -1 with errno.
 */
int account_give(const struct account *a, const char *path);

/*
 * Become it, for good: all threads, and no way back.  0; or -1 and why, and
 * then nobody knows who we are: end the process.
 */
int account_become(const struct account *a, char *why, size_t whysz);

/*
 * Become it in a child of vfork(2), and in that alone; our memory is its, so
 * from here on Linux lets no debugger into it that is not root's, and writes it
 * to no core file.  0, or -1 with errno, and then it must not go on.
 */
int account_become_alone(const struct account *a);

#endif
