/*
 * process.c: fork, and what a child must not inherit.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump.h"
#include "interpose.h"
#include "kq.h"
#include "process.h"
#include "watch.h"

volatile int *process_word;
bool process_strict;
static pid_t process_id;
static struct lock first_lock;

static void
become_owner(volatile int *word)
{
	process_id = (pid_t)syscall(SYS_getpid);
	*word = 1;
	__atomic_store_n(&process_word, word, __ATOMIC_RELEASE);
}

static void
child(void)
{
	lock_forget_tid();
	first_lock.l_word = 0;
	if (process_word == NULL)
		return;
	signal_fork_child();
	kqueue_fork_child();
	watch_fork_child();
	become_owner(process_word);
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
static int
first_time(void)
{
	void *page;

	page = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page == MAP_FAILED)
		return ENOMEM;
	if (pthread_atfork(NULL, NULL, child) != 0) {
		munmap(page, sizeof(int));
		return ENOMEM;
	}
	madvise(page, sizeof(int), MADV_WIPEONFORK);
	process_strict = is_strict();
	dump_init();
	if (process_strict)
		watch_suspicious = true;
	become_owner(page);
	return 0;
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

/* Of a signal's path, where the thread sanitizer has no say. */
__attribute__((no_sanitize("thread"))) bool
process_is_vforked(void)
{
	if (process_word == NULL || *process_word == 0)
		return false;
	if (!process_vforked && !process_vforks_unseen)
		return false;
	return syscall(SYS_getpid) != process_id;
}

void
process_check(void)
{
	if (process_word != NULL && *process_word == 0)
		child();
}

int
process_own(void)
{
	int error = 0;

	if (lock_take(&first_lock) != LOCK_TAKEN)
		return EDEADLK;
	if (process_word == NULL)
		error = first_time();
	lock_drop(&first_lock);
	process_check();
	return error;
}
