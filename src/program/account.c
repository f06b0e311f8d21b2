/*
 * Accounts: who a process is to be, by the names of a user and a group.
 */
#include <sys/types.h>
#include <sys/stat.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "account.h"

static int is_us(const struct account *);
static int verify(const struct account *);
static int compare(const void *, const void *);

int
account_find(struct account *a, const char *user, const char *group, char *why,
    size_t whysz)
{
	const struct passwd *pw = NULL;
	const struct group *gr;

	a->uid = geteuid();
	a->gid = getegid();
	a->ngroups = 0;
	if (*user == '\0' && *group == '\0')
		return 0;
	if (*user != '\0') {
		pw = getpwnam(user);
		if (pw == NULL) {
			snprintf(why, whysz, "user: there is no '%s'", user);
			return -1;
		}
		a->uid = pw->pw_uid;
		a->gid = pw->pw_gid;
	}
	if (*group != '\0') {
		gr = getgrnam(group);
		if (gr == NULL) {
			snprintf(why, whysz, "group: there is no '%s'", group);
			return -1;
		}
		a->gid = gr->gr_gid;
	}
	a->ngroups = ACCOUNT_GROUPS;
	if (pw == NULL || *group != '\0') {
		a->groups[0] = a->gid;
		a->ngroups = 1;
	} else if (getgrouplist(user, a->gid, a->groups, &a->ngroups) == -1) {
		snprintf(why, whysz, "user: '%s' is in more than %d groups",
		    user, ACCOUNT_GROUPS);
		return -1;
	}
	return 0;
}

int
account_may(struct account *a, char *why, size_t whysz)
{
	if (a->ngroups == 0 || geteuid() == 0)
		return 0;
	if (is_us(a)) {
		a->ngroups = 0;
		return 0;
	}
	snprintf(why, whysz, "user: only root can become another");
	return -1;
}

/* Whoever we are with more groups is not it. */
static int
is_us(const struct account *a)
{
	return getuid() == a->uid && getgid() == a->gid && verify(a) == 0;
}

int
account_give(const struct account *a, const char *path)
{
	struct stat st;

	if (a->ngroups == 0)
		return 0;
	if (lstat(path, &st) == -1)
		return -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	return lchown(path, a->uid, a->gid);
}

int
account_become(const struct account *a, char *why, size_t whysz)
{
	if (a->ngroups == 0)
		return 0;
	if (setgroups((size_t)a->ngroups, a->groups) == -1 ||
	    setresgid(a->gid, a->gid, a->gid) == -1 ||
	    setresuid(a->uid, a->uid, a->uid) == -1 || verify(a) == -1) {
		snprintf(why, whysz, "user: cannot be changed: %s",
		    strerror(errno));
		return -1;
	}
	return 0;
}

/* We are it, and cannot be root again.  0, or -1 with errno. */
static int
verify(const struct account *a)
{
	gid_t groups[ACCOUNT_GROUPS], wanted[ACCOUNT_GROUPS], gid[3];
	size_t n = (size_t)a->ngroups;
	uid_t uid[3];
	int i;

	if (getresuid(&uid[0], &uid[1], &uid[2]) == -1 ||
	    getresgid(&gid[0], &gid[1], &gid[2]) == -1 ||
	    getgroups(ACCOUNT_GROUPS, groups) != a->ngroups)
		goto fail;
	for (i = 0; i < 3; i++)
		if (uid[i] != a->uid || gid[i] != a->gid)
			goto fail;
	memcpy(wanted, a->groups, n * sizeof(wanted[0]));
	qsort(wanted, n, sizeof(wanted[0]), compare);
	qsort(groups, n, sizeof(groups[0]), compare);
	if (memcmp(wanted, groups, n * sizeof(wanted[0])) != 0)
		goto fail;
	if (a->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		goto fail;
	return 0;

fail:
	errno = EPERM;
	return -1;
}

static int
compare(const void *a, const void *b)
{
	gid_t x = *(const gid_t *)a, y = *(const gid_t *)b;

	return x < y ? -1 : x > y;
}
