/*
 * Linux: who somebody is is a matter of each thread.  The C library sees to it
 * that all have the same, and would take ours for those of a vforked child; the
 * system calls change the one that calls.
 */
#include <sys/types.h>
#include <sys/syscall.h>

#include <unistd.h>

#include "account.h"

/* Those of the first 32-bit machines have numbers of 16 bits. */
#ifdef SYS_setresuid32
#define SETGROUPS SYS_setgroups32
#define SETRESGID SYS_setresgid32
#define SETRESUID SYS_setresuid32
#else
#define SETGROUPS SYS_setgroups
#define SETRESGID SYS_setresgid
#define SETRESUID SYS_setresuid
#endif

int
account_become_alone(const struct account *a)
{
	if (a->ngroups == 0)
		return 0;
	if (syscall(SETGROUPS, a->ngroups, a->groups) == -1 ||
	    syscall(SETRESGID, a->gid, a->gid, a->gid) == -1)
		return -1;
	return (int)syscall(SETRESUID, a->uid, a->uid, a->uid);
}
