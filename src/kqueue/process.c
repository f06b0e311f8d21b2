/*
 * process.c: fork, and what a child must not inherit.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "interpose.h"
#include "kq.h"
#include "process.h"
#include "watch.h"

volatile int *process_word;
bool process_strict;
static pid_t process_id;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void
become_owner(void)
{
	process_id = (pid_t)syscall(SYS_getpid);
	*process_word = 1;
}

static void
child(void)
{
	if (process_word == NULL)
		return;
	lock_forget_tid();
	signal_fork_child();
	kqueue_fork_child();
	watch_fork_child();
	become_owner();
}

static bool
is_strict(void)
{
	const char *asked = getenv("KQ_STRICT");

	if (asked != NULL && asked[0] != '\0')
		return strcmp(asked, "0") != 0;
	return !interpose_effective();
}

/*
 * Where memory cannot be wiped (Linux before 4.14) a child made by fork() is
 * still told by pthread_atfork(), only a raw clone() is not.
 */
static void
first_time(void)
{
	static int fallback;
	void *page;

	page = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		page = &fallback;
	else
		madvise(page, sizeof(int), MADV_WIPEONFORK);
	process_word = page;
	become_owner();
	pthread_atfork(NULL, NULL, child);
	process_strict = is_strict();
	if (process_strict)
		watch_suspicious = true;
}

bool
process_is_self(void)
{
	if (!process_is_owner())
		return false;
	if (!process_vforked && !process_vforks_unseen)
		return true;
	if (syscall(SYS_getpid) != process_id)
		return false;
	process_vforked = 0;
	return true;
}

void
process_check(void)
{
	pthread_once(&once, first_time);
	if (*process_word == 0)
		child();
}
