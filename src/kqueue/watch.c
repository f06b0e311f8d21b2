/*
 * watch.c: the bits that say which queues may have registered a descriptor,
 * and the counters by which EV_ADD notices a close() that overlaps it.
 *
 *	close(fd)			EV_ADD of fd, queue locked
 *	---------			--------------------------
 *	start[fd]++			s0, e0 = start, end
 *	bits[fd] taken; each queue:	bits[fd] |= queue
 *	    lock, purge, unlock		EPOLL_CTL_ADD
 *	the real close			s1, e1 = start, end
 *	end[fd]++			s1 != s0 or e1 != e0: verify now
 *	SUSPECT set: verify		s1 != e1: SUSPECT, whoever closes
 *					verifies; verify here if that is over
 *
 * tests/model/close.pml has every interleaving of this checked.
 *
 * To verify is to ask epoll, which keys its registrations on (file, number):
 * EPOLL_CTL_ADD does not fail with EEXIST exactly if the number now names
 * another file, or none.
 *
 * Two words a descriptor: with the 48 bytes of a slot (kq.h) that is what a
 * registration costs.  29 bits name the queues, modulo 29; a bit may be set
 * for a queue that has nothing there, never the other way round.
 */
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <errno.h>
#include <stddef.h>

#include "kq.h"
#include "process.h"
#include "watch.h"

struct watch {
	uint16_t w_start; /* closes begun */
	uint16_t w_end;   /* and done */
	uint32_t w_bits;  /* queues, SUSPECT, DUPED, STREAM */
};

#define SUSPECT 0x80000000u
#define DUPED 0x40000000u  /* another number names the same file, or did */
#define STREAM 0x20000000u /* see watch_stream() */
#define NBITS 29
#define ALL_QUEUES (STREAM - 1)

bool watch_on;
bool watch_suspicious;
static struct watch *watches;
static uint32_t nwatches;
static int highest = -1; /* number ever watched; only grows */

/*
 * At least this many descriptors, whatever the limit is now: it may be raised.
 */
#define MINWATCHES (1u << 20)
#define MAXWATCHES (1u << 24)

uint32_t
watch_open(void)
{
	struct rlimit rl;
	uint32_t n = MINWATCHES;
	void *map;

	if (watches != NULL)
		return nwatches;
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0 && rl.rlim_max > n)
		n = rl.rlim_max < MAXWATCHES ? (uint32_t)rl.rlim_max :
					       MAXWATCHES;
	map = mmap(NULL, n * sizeof(*watches), PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (map == MAP_FAILED)
		return 0;
	watches = map;
	nwatches = n;
	__atomic_store_n(&watch_on, true, __ATOMIC_RELEASE);
	return n;
}

static struct watch *
watch_of(int fd)
{
	if (!__atomic_load_n(&watch_on, __ATOMIC_ACQUIRE) ||
	    (uint32_t)fd >= nwatches)
		return NULL;
	return &watches[fd];
}

/* The number may not name what its knotes were made for. */
static void
suspect(struct watch *w)
{
	__atomic_fetch_or(&w->w_bits, SUSPECT, __ATOMIC_SEQ_CST);
	__atomic_store_n(&watch_suspicious, true, __ATOMIC_RELEASE);
}

bool
watch_possible(int fd)
{
	return (uint32_t)fd < nwatches;
}

void
watch_reach(int fd)
{
	int seen = __atomic_load_n(&highest, __ATOMIC_RELAXED);

	while (seen < fd &&
	    !__atomic_compare_exchange_n(&highest, &seen, fd, true,
		__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		continue;
}

int
watch_next(int fd)
{
	int last = __atomic_load_n(&highest, __ATOMIC_RELAXED);

	for (; fd <= last; fd++)
		if (watch_has(fd) || kqueue_is_name(fd))
			return fd;
	return -1;
}

bool
watch_has(int fd)
{
	struct watch *w = watch_of(fd);

	return w != NULL &&
	    (__atomic_load_n(&w->w_bits, __ATOMIC_RELAXED) &
		~(DUPED | STREAM)) != 0;
}

bool
watch_idle(int fd)
{
	struct watch *w = watch_of(fd);

	return process_single_threaded() &&
	    (w == NULL ||
		(__atomic_load_n(&w->w_bits, __ATOMIC_RELAXED) == 0 &&
		    !kqueue_is_name(fd)));
}

/* Call f for every open queue that one of the bits may mean. */
static void
each_queue(uint32_t bits, int fd, void (*f)(struct kqueue *, int, int), int arg)
{
	struct kqueue *q;
	uint32_t slot, slots = kqueue_slots();

	for (slot = 0; slot < slots; slot++)
		if ((bits & 1u << slot % NBITS) != 0 &&
		    (q = kqueue_at(slot)) != NULL)
			f(q, fd, arg);
}

/* -- close() --------------------------------------------------------------- */

/* The number will, or may, name another file. */
enum forgetting { PURGE, VERIFY };

/*
 * In a signal handler that interrupted its own thread inside this queue the
 * lock is not to be had.  The registration leaves the kernel at once; the
 * knotes are verified before the next change of this number.
 */
static void
forget(struct kqueue *q, int fd, int how)
{
	uint32_t life = __atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE);

	switch (queue_lock(q, life)) {
	case 0:
		if (how == PURGE)
			descriptor_purge(q, fd);
		else
			descriptor_verify(q, fd);
		queue_unlock(q);
		break;
	case EDEADLK:
		if (how == PURGE) {
			epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, fd, NULL);
			if (q->q_writer != -1)
				epoll_ctl(q->q_writer, EPOLL_CTL_DEL, fd, NULL);
		}
		__atomic_fetch_or(&watches[fd].w_bits, 1u << q->q_slot % NBITS,
		    __ATOMIC_SEQ_CST);
		suspect(&watches[fd]);
		break;
	}
}

void
watch_close_begin(int fd)
{
	struct watch *w = watch_of(fd);
	uint32_t bits;
	int saved;

	if (w == NULL)
		return;
	__atomic_fetch_add(&w->w_start, 1, __ATOMIC_SEQ_CST);
	saved = errno;
	if (__atomic_load_n(&w->w_bits, __ATOMIC_SEQ_CST) != 0 &&
	    process_is_self()) {
		bits = __atomic_exchange_n(&w->w_bits, 0, __ATOMIC_SEQ_CST);
		each_queue(bits, fd, forget, PURGE);
	}
	if (kqueue_is_name(fd)) {
		if (process_is_self())
			kqueue_unname(fd);
		else if (!process_is_owner())
			kqueue_forget(fd);
	}
	errno = saved;
}

/*
 * The mark stays until the next close(): if it were taken back before all is
 * verified, an EV_ADD of the number's next user would trust what is to go.
 * While another thread closes the number, too, an EV_ADD may leave its mark
 * only after we looked, or that thread may have taken it.
 */
void
watch_close_end(int fd)
{
	struct watch *w = watch_of(fd);
	uint16_t ended;
	uint32_t bits;
	int saved;

	if (w == NULL)
		return;
	ended = __atomic_add_fetch(&w->w_end, 1, __ATOMIC_SEQ_CST);
	bits = __atomic_load_n(&w->w_bits, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&w->w_start, __ATOMIC_SEQ_CST) != ended)
		bits = SUSPECT | ALL_QUEUES;
	if ((bits & SUSPECT) == 0)
		return;
	saved = errno;
	if (process_is_self())
		each_queue(bits, fd, forget, VERIFY);
	errno = saved;
}

bool
watch_closing(int fd)
{
	struct watch *w = watch_of(fd);

	return w != NULL &&
	    __atomic_load_n(&w->w_start, __ATOMIC_SEQ_CST) !=
	    __atomic_load_n(&w->w_end, __ATOMIC_SEQ_CST);
}

/* -- EV_ADD ---------------------------------------------------------------- */

struct watch_add
watch_add_begin(struct kqueue *q, int fd)
{
	struct watch *w = &watches[fd];
	struct watch_add seen;

	watch_reach(fd);
	seen.wa_start = __atomic_load_n(&w->w_start, __ATOMIC_SEQ_CST);
	seen.wa_end = __atomic_load_n(&w->w_end, __ATOMIC_SEQ_CST);
	__atomic_fetch_or(&w->w_bits, 1u << q->q_slot % NBITS,
	    __ATOMIC_SEQ_CST);
	return seen;
}

bool
watch_add_raced(int fd, struct watch_add seen)
{
	struct watch *w = &watches[fd];
	uint16_t start, end;

	start = __atomic_load_n(&w->w_start, __ATOMIC_SEQ_CST);
	end = __atomic_load_n(&w->w_end, __ATOMIC_SEQ_CST);
	if (start != end) {
		suspect(w);
		return __atomic_load_n(&w->w_end, __ATOMIC_SEQ_CST) != end;
	}
	return start != seen.wa_start || end != seen.wa_end;
}

bool
watch_suspect(int fd)
{
	return (__atomic_load_n(&watches[fd].w_bits, __ATOMIC_RELAXED) &
		   SUSPECT) != 0;
}

/* -- the other wrappers ---------------------------------------------------- */

/* From now on what happens to the one may be news of the other. */
static void
mark_duped(int fd)
{
	struct watch *w = watch_of(fd);

	if (w != NULL)
		__atomic_fetch_or(&w->w_bits, DUPED, __ATOMIC_RELAXED);
}

bool
watch_duped(int fd)
{
	return (__atomic_load_n(&watches[fd].w_bits, __ATOMIC_RELAXED) &
		   DUPED) != 0;
}

void
watch_stream(int fd)
{
	struct watch *w = watch_of(fd);

	if (w != NULL && process_is_self())
		__atomic_fetch_or(&w->w_bits, STREAM, __ATOMIC_RELAXED);
}

bool
watch_take_stream(int fd)
{
	uint32_t *bits = &watches[fd].w_bits;

	if ((__atomic_load_n(bits, __ATOMIC_RELAXED) & (STREAM | DUPED)) !=
		STREAM ||
	    process_strict)
		return false;
	__atomic_fetch_and(bits, ~STREAM, __ATOMIC_RELAXED);
	return true;
}

void
watch_dup(int from, int to)
{
	int saved = errno;

	if (watch_of(from) != NULL && process_is_self()) {
		mark_duped(from);
		mark_duped(to);
		if (kqueue_is_name(from))
			kqueue_name(from, to);
	}
	errno = saved;
}

static bool
is_attached(const struct fdnote *fn)
{
	return ((fn->fn_knote[FN_READ].kn_status |
		    fn->fn_knote[FN_WRITE].kn_status) &
		   KN_ATTACHED) != 0;
}

/*
 * What fd names may have other numbers.  That they name the same file is
 * certain of sockets; a file may have been opened twice.
 */
static void
tell_copies(struct kqueue *q, int fd, enum watch_event event)
{
	struct stat st, other;
	struct fdnote *fn;
	int copy;

	if (fstat(fd, &st) == -1)
		return;
	for (copy = 0; (fn = descriptor_next(q, &copy)) != NULL; copy++)
		if (copy != fd && is_attached(fn) && watch_duped(copy) &&
		    fstat(copy, &other) == 0 && other.st_ino == st.st_ino &&
		    other.st_dev == st.st_dev)
			descriptor_event(q, copy, event);
}

static void
look_again(struct kqueue *q, int fd, int event)
{
	uint32_t life = __atomic_load_n(&q->q_life, __ATOMIC_ACQUIRE);

	if (queue_lock(q, life) != 0)
		return;
	descriptor_event(q, fd, (enum watch_event)event);
	if (watch_duped(fd))
		tell_copies(q, fd, (enum watch_event)event);
	queue_unlock(q);
}

void
watch_event(int fd, enum watch_event event)
{
	struct watch *w = watch_of(fd);
	int saved = errno;
	uint32_t bits;

	if (w == NULL)
		return;
	if (event == WATCH_SHUT_WR)
		watch_take_stream(fd);
	bits = __atomic_load_n(&w->w_bits, __ATOMIC_RELAXED) & ~STREAM;
	if (bits & DUPED)
		bits |= ALL_QUEUES;
	if (bits != 0 && process_is_self())
		each_queue(bits, fd, look_again, (int)event);
	errno = saved;
}

void
watch_fork_child(void)
{
	if (watches != NULL)
		madvise(watches, nwatches * sizeof(*watches), MADV_DONTNEED);
}
