/*
 * kqueue.c: queues, the descriptors that name them, and their locks.
 *
 *		       kqueue()
 *	   (unused) ------------> open <---- dup(): one more name
 *	       ^		   |
 *	       |	   close() of the last name
 *	       |		   v
 *	       +------------- dying, until the last thread has left epoll_wait
 *
 * queues[] holds every queue there has been; a slot is used again but never
 * freed.  kqueue_names[] says which queue a descriptor number names.  Both are
 * read without a lock and written under table_lock, which is taken before a
 * queue's own lock, never after it.
 *
 * The program's names are duplicates of q_epoll, the library's own: a queue
 * never depends on a number that the program may close at any moment.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump.h"
#include "export.h"
#include "kq.h"
#include "own.h"
#include "process.h"
#include "watch.h"

#define MAXQUEUES 65535

static struct kqueue *queues[MAXQUEUES];
static uint32_t nqueues;  /* slots ever used */
static uint32_t namesend; /* all names there have been are below this */
static struct lock table_lock;

struct kqueue **kqueue_names;
uint32_t kqueue_nnames;

/* Where the library's own descriptors begin, if the limit allows. */
#define HIGH_FD 960

static int
dup_above(int fd, int lowest)
{
	return (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, lowest);
}

int
fd_move_high(int fd)
{
	int high, saved = errno;

	if (fd == -1)
		return -1;
	if ((high = dup_above(fd, HIGH_FD)) != -1) {
		fd_close(fd);
		fd = high;
	}
	own_add(fd);
	errno = saved;
	return fd;
}

void
fd_close(int fd)
{
	if (fd >= 0) {
		own_remove(fd);
		syscall(SYS_close, fd);
	}
}

/* -- the table ------------------------------------------------------------- */

struct kqueue *
kqueue_at(uint32_t slot)
{
	struct kqueue *q;

	q = __atomic_load_n(&queues[slot], __ATOMIC_ACQUIRE);
	if (q == NULL ||
	    (__atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE) & 1) == 0)
		return NULL;
	return q;
}

uint32_t
kqueue_slots(void)
{
	return __atomic_load_n(&nqueues, __ATOMIC_ACQUIRE);
}

bool
kqueue_is_name(int fd)
{
	uint32_t life;

	return kqueue_named(fd, &life) != NULL;
}

struct kqueue *
kqueue_find_slow(int fd)
{
	bool closing;

	process_check();
	/* One that is just being closed is open, but no queue any more. */
	closing = watch_closing(fd);
	errno =
	    syscall(SYS_fcntl, fd, F_GETFD) == -1 || closing ? EBADF : EINVAL;
	return NULL;
}

/* A slot that is free, or a new one; with the table lock held. */
static struct kqueue *
take_slot(void)
{
	struct kqueue *q;
	uint32_t i;

	for (i = 0; i < nqueues; i++) {
		q = queues[i];
		if ((q->q_life & 1) == 0 &&
		    __atomic_load_n(&q->q_waiters, __ATOMIC_ACQUIRE) == 0 &&
		    q->q_wake == -1)
			return q;
	}
	if (nqueues == MAXQUEUES ||
	    (q = aligned_alloc(_Alignof(struct kqueue), sizeof(*q))) == NULL)
		return NULL;
	memset(q, 0, sizeof(*q));
	q->q_slot = nqueues;
	q->q_epoll = q->q_wake = -1;
	__atomic_store_n(&queues[nqueues], q, __ATOMIC_RELEASE);
	__atomic_store_n(&nqueues, nqueues + 1, __ATOMIC_RELEASE);
	return q;
}

/* -- opening --------------------------------------------------------------- */

int
queue_watch(struct kqueue *q, int fd, uint32_t events, uint64_t tag)
{
	struct epoll_event ev = { .events = events, .data.u64 = tag };

	if (epoll_ctl(q->q_epoll, EPOLL_CTL_ADD, fd, &ev) == 0)
		return 0;
	return errno == ENOSPC ? ENOMEM : errno;
}

/* With the table lock. */
static void
name_set(int fd, struct kqueue *q)
{
	watch_reach(fd);
	if ((uint32_t)fd >= namesend)
		namesend = (uint32_t)fd + 1;
	__atomic_store_n(&kqueue_names[fd], q, __ATOMIC_RELEASE);
}

/* Make q a whole queue that name names; with the table lock. */
static void
queue_init(struct kqueue *q, int name, int epfd, int wake)
{
	q->q_epoll = epfd;
	q->q_wake = wake;
	q->q_writer = q->q_signalfd = q->q_inotify = -1;
	q->q_timerfd[0] = q->q_timerfd[1] = -1;
	q->q_names = 1;
	q->q_armed = q->q_shared = q->q_continues = false;
	q->q_rechecking = false;
	defer_forget(q);
	q->q_lost = 0;
	__atomic_store_n(&q->q_signals, 0, __ATOMIC_RELAXED);
	q->q_freeobject = NO_OBJECT;
	__atomic_store_n(&q->q_life, q->q_life + 1, __ATOMIC_RELEASE);
	name_set(name, q);
}

/* The arrays that are indexed by descriptor, for as many as there can be. */
static int
tables_open(void)
{
	uint32_t limit;
	void *map;

	if (kqueue_names != NULL)
		return 0;
	if ((limit = watch_open()) == 0)
		return ENOMEM;
	map = mmap(NULL, limit * sizeof(*kqueue_names), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return ENOMEM;
	kqueue_names = map;
	__atomic_store_n(&kqueue_nnames, limit, __ATOMIC_RELEASE);
	return 0;
}

/* Join three descriptors to a queue; on failure they are still the caller's. */
static int
queue_join(int name, int epfd, int wake)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET,
		.data.u64 = tag_make(TAG_WAKE, 0, 0) };
	struct kqueue *q;
	int error;

	if (epoll_ctl(epfd, EPOLL_CTL_ADD, wake, &ev) == -1)
		return errno == ENOSPC ? ENOMEM : errno;
	lock_take(&table_lock);
	if ((error = tables_open()) == 0) {
		if ((uint32_t)name >= kqueue_nnames)
			error = EMFILE;
		else if ((q = take_slot()) == NULL)
			error = ENOMEM;
		else
			queue_init(q, name, epfd, wake);
	}
	lock_drop(&table_lock);
	return error;
}

/* The rest of a queue behind the epoll descriptor that is its first name. */
static int
queue_open(int name)
{
	int epfd, wake = -1, error;

	if ((epfd = dup_above(name, HIGH_FD)) == -1 &&
	    (epfd = dup_above(name, 0)) == -1)
		return errno;
	own_add(epfd);
	wake = fd_move_high(
	    (int)syscall(SYS_eventfd2, 0, EFD_NONBLOCK | EFD_CLOEXEC));
	error = wake == -1 ? errno : queue_join(name, epfd, wake);
	if (error != 0) {
		fd_close(epfd);
		fd_close(wake);
	}
	return error;
}

static int
kqueue_create(int flags)
{
	int name, error;

	if ((error = process_own()) != 0) {
		errno = error;
		return -1;
	}
	if ((name = epoll_create1(flags & O_CLOEXEC)) == -1)
		return -1;
	if ((flags & O_NONBLOCK) && fcntl(name, F_SETFL, O_NONBLOCK) == -1)
		error = errno;
	if (error == 0)
		error = queue_open(name);
	if (error == 0)
		return name;
	fd_close(name);
	errno = error;
	return -1;
}

KQ_EXPORT int
kqueue(void)
{
	return kqueue_create(0);
}

KQ_EXPORT int
kqueue1(int flags)
{
	if (flags & ~(O_CLOEXEC | O_NONBLOCK)) {
		errno = EINVAL;
		return -1;
	}
	return kqueue_create(flags);
}

KQ_EXPORT int
kqueuex(unsigned int flags)
{
	if (flags & ~KQUEUE_CLOEXEC) {
		errno = EINVAL;
		return -1;
	}
	return kqueue_create(flags & KQUEUE_CLOEXEC ? O_CLOEXEC : 0);
}

/* -- closing --------------------------------------------------------------- */

/*
 * Nobody is in epoll_wait and nobody needs to be woken any more: the slot may
 * be used again.  With the table lock, under which alone it is.
 */
static void
queue_bury(struct kqueue *q)
{
	fd_close(q->q_epoll);
	fd_close(q->q_wake);
	q->q_epoll = q->q_wake = -1;
}

/*
 * Let go of all but q_epoll and q_wake.  With threads in epoll_wait the eventfd
 * becomes level-triggered: each of them sees it and finds another life.  We
 * count as one of them meanwhile, so that none of them is the last.
 */
static void
queue_close(struct kqueue *q)
{
	struct epoll_event ev = { .events = EPOLLIN,
		.data.u64 = tag_make(TAG_WAKE, 0, 0) };
	uint64_t one = 1;
	int i;

	__atomic_store_n(&q->q_life, q->q_life + 1, __ATOMIC_SEQ_CST);
	if (__atomic_add_fetch(&q->q_waiters, 1, __ATOMIC_SEQ_CST) > 1) {
		epoll_ctl(q->q_epoll, EPOLL_CTL_MOD, q->q_wake, &ev);
		syscall(SYS_write, q->q_wake, &one, sizeof(one));
	}
	inotify_close(q);
	object_free_all(q);
	descriptor_free_all(q);
	ready_fini(q);
	for (i = 0; i < 2; i++)
		fd_close(q->q_timerfd[i]);
	fd_close(q->q_writer);
	fd_close(q->q_signalfd);
	if (__atomic_sub_fetch(&q->q_waiters, 1, __ATOMIC_SEQ_CST) == 0)
		queue_bury(q);
}

/*
 * In a handler that interrupted its own thread inside the queue, or while it
 * made one, the lock is not to be had: the name stays, until the number names
 * another queue.
 */
void
kqueue_unname(int fd)
{
	struct kqueue *q;
	uint32_t life;

	if (!kqueue_is_name(fd))
		return;
	if (lock_take(&table_lock) != LOCK_TAKEN)
		return;
	if ((q = kqueue_named(fd, &life)) != NULL &&
	    lock_take(&q->q_lock) == LOCK_TAKEN) {
		if (dump_path != NULL && q->q_names == 1)
			dump_closing(q);
		__atomic_store_n(&kqueue_names[fd], NULL, __ATOMIC_RELEASE);
		if (--q->q_names == 0)
			queue_close(q);
		lock_drop(&q->q_lock);
	}
	lock_drop(&table_lock);
}

void
kqueue_name(int from, int to)
{
	struct kqueue *q;
	uint32_t life;

	if (!kqueue_is_name(from))
		return;
	if (lock_take(&table_lock) != LOCK_TAKEN)
		return;
	if ((q = kqueue_named(from, &life)) != NULL &&
	    (uint32_t)to < kqueue_nnames) {
		q->q_names++;
		name_set(to, q);
	}
	lock_drop(&table_lock);
}

void
kqueue_forget(int fd)
{
	__atomic_store_n(&kqueue_names[fd], NULL, __ATOMIC_RELEASE);
}

void
kqueue_replace(struct kqueue *q, int fd)
{
	int flags;
	uint32_t i;

	for (i = 0; i < namesend; i++) {
		if (__atomic_load_n(&kqueue_names[i], __ATOMIC_ACQUIRE) != q)
			continue;
		flags = (int)syscall(SYS_fcntl, i, F_GETFD);
		syscall(SYS_dup3, fd, i, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	}
}

/*
 * The child shares the parent's epoll files; closing its copies does not harm
 * the parent.  Another thread may have been at work on a queue at the fork, so
 * its memory is left as it is.
 */
void
kqueue_fork_child(void)
{
	uint32_t i;
	int fd;

	for (i = 0; i < nqueues; i++)
		queues[i] = NULL;
	nqueues = 0;
	for (i = 0; i < namesend; i++)
		if (kqueue_names[i] != NULL) {
			fd_close((int)i);
			kqueue_names[i] = NULL;
		}
	for (fd = own_next(0); fd != -1; fd = own_next(fd + 1))
		fd_close(fd);
	table_lock.l_word = 0;
}

/* -- the lock of a queue --------------------------------------------------- */

/*
 * A handler that found the lock held by its own thread left its changes
 * behind.  It may come between the last look and the drop: look once more.
 */
void
queue_unlock_slow(struct kqueue *q)
{
	uint64_t one = 1;

	do {
		while (queue_has_deferred(q))
			defer_apply(q);
		if (!ready_empty(q) && !q->q_armed) {
			q->q_armed = true;
			syscall(SYS_write, q->q_wake, &one, sizeof(one));
		}
		lock_drop(&q->q_lock);
	} while (queue_has_deferred(q) &&
	    lock_take_if(&q->q_lock, queue_may_wait) == LOCK_TAKEN);
}

bool
queue_may_wait(uint32_t tid)
{
	const struct kqueue *q;
	uint32_t i, n = kqueue_slots();

	for (i = 0; i < n; i++) {
		q = __atomic_load_n(&queues[i], __ATOMIC_ACQUIRE);
		if (q != NULL &&
		    (__atomic_load_n(&q->q_lock.l_word, __ATOMIC_RELAXED) &
			~LOCK_WAITERS) == tid)
			return false;
	}
	return true;
}

/* -- threads in epoll_wait ------------------------------------------------- */

void
queue_enter_slow(struct kqueue *q)
{
	if (__atomic_add_fetch(&q->q_waiters, 1, __ATOMIC_SEQ_CST) > 1)
		__atomic_store_n(&q->q_shared, true, __ATOMIC_RELAXED);
}

void
queue_leave_slow(struct kqueue *q)
{
	if (__atomic_sub_fetch(&q->q_waiters, 1, __ATOMIC_SEQ_CST) != 0 ||
	    (__atomic_load_n(&q->q_life, __ATOMIC_SEQ_CST) & 1) != 0)
		return;
	/* The last one out of a closed queue, unless another was faster. */
	if (lock_take(&table_lock) != LOCK_TAKEN)
		return;
	if ((q->q_life & 1) == 0 && q->q_wake != -1 &&
	    __atomic_load_n(&q->q_waiters, __ATOMIC_SEQ_CST) == 0)
		queue_bury(q);
	lock_drop(&table_lock);
}
