/*
 * Elsewhere than on Linux: who somebody is is a matter of each process.
 */
#include <sys/types.h>

#include <grp.h>
#include <unistd.h>

#include "account.h"

int
account_become_alone(const struct account *a)
{
	if (a->ngroups == 0)
		return 0;
	if (setgroups(a->ngroups, a->groups) == -1 ||
	    setresgid(a->gid, a->gid, a->gid) == -1)
		return -1;
	return setresuid(a->uid, a->uid, a->uid);
}
