/*
 * pending.c: watched signals that every thread blocks.
 *
 * Nobody delivers such a signal, and the kernel merges the next one with it.
 * So it is taken, counted and held here; to the program it is still pending.
 * The wrappers give it back, as it came, when the program unblocks it, waits
 * for it or makes a signalfd for it:
 *
 *			  take()
 *	pending in the  ----------->  held here
 *	    kernel	<-----------
 *			 give_back(), signal_owe(): it is counted already
 *
 * A thread may unblock a signal without a wrapper, by returning from a handler
 * or by a jump.  Those that we hook give back when they return; for the rest
 * pending_verify() asks again from time to time.
 *
 * Who blocks what stands in /proc/self/task/TID/status, some 20 us a thread;
 * it is read only while a signal is pending that this thread blocks.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "kq.h"
#include "ktime.h"
#include "process.h"
#include "signals.h"
#include "wire.h"

/*
 * How many of one real-time signal are given back; more are counted, and then
 * dropped, as a full queue of the kernel's would refuse them.
 */
#define HELD_MAX 1024

/*
 * libc blocks everything for moments in which it must not be interrupted.  So
 * often we take a thread's word that it blocks all for such a moment, and look
 * again; a thread that goes on is one that never handles signals.
 */
#define MOMENTS 16

/* How often we ask anew whether what we hold is still blocked. */
#define VERIFY_NS 10000000

struct held {
	siginfo_t h_first;
	siginfo_t *h_more; /* HELD_MAX - 1, or NULL: none needed yet */
	unsigned int h_number;
	unsigned int h_claims; /* threads that wait for it themselves */
};

uint64_t signals_held_word;

/* All with the lock of signals.h. */
static struct held held[LAST_SIGNAL + 1];
static uint64_t left;    /* atomic: in a signalfd once, so never taken */
static uint64_t counted; /* atomic: of those left, pending and counted */
static uint64_t blind;   /* atomic: pending, and no descriptor to ask with */
static unsigned int moments;
static uint64_t verified_at; /* atomic: ns */

/* -- who blocks what ------------------------------------------------------- */

/* The set that a thread blocks, by its status file; or an errno value. */
static int
blocked_by(int dir, const char *tid, uint64_t *set)
{
	char path[32], text[4096];
	ssize_t n;
	int fd, error;

	snprintf(path, sizeof(path), "%.16s/status", tid);
	fd = (int)syscall(SYS_openat, dir, path, O_RDONLY | O_CLOEXEC);
	if (fd == -1)
		return errno;
	n = syscall(SYS_read, fd, text, sizeof(text) - 1);
	error = n == -1 ? errno : ESRCH;
	fd_close(fd);
	text[n > 0 ? n : 0] = '\0';
	return wire_blocked(text, set) ? 0 : error;
}

struct survey {
	uint64_t blocked; /* by all that were asked */
	uint64_t moment;  /* but by some as by libc for a moment */
};

/* Whoever could not be asked may block nothing. */
static void
survey_fails(struct survey *s, int error)
{
	if (error == EMFILE || error == ENFILE || error == ENOMEM)
		__atomic_or_fetch(&blind, s->blocked, __ATOMIC_RELAXED);
	s->blocked = 0;
}

static void
survey_thread(struct survey *s, int dir, const char *tid)
{
	uint64_t set = 0;
	int error;

	if (tid[0] == '.' || (uint32_t)atoi(tid) == lock_tid)
		return;
	error = blocked_by(dir, tid, &set);
	if (error == ENOENT || error == ESRCH) /* it has ended */
		return;
	if (error != 0) {
		survey_fails(s, error);
		return;
	}
	if ((set & LIBC_SIGNALS) == LIBC_SIGNALS)
		s->moment |= s->blocked;
	else
		s->moment &= set;
	s->blocked &= set;
}

/*
 * What of a set all other threads block.  Without /proc, nothing, unless there
 * are no other threads.
 */
static struct survey
survey_threads(uint64_t set)
{
	struct survey s = { .blocked = set };
	_Alignas(struct entry) char buffer[1024];
	const struct entry *entry;
	size_t at;
	long n;
	int dir;

	if (process_single_threaded())
		return s;
	dir = (int)syscall(SYS_openat, AT_FDCWD, "/proc/self/task",
	    O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir == -1) {
		survey_fails(&s, errno);
		return s;
	}
	while (s.blocked != 0 &&
	    (n = syscall(SYS_getdents64, dir, buffer, sizeof(buffer))) != 0) {
		if (n == -1)
			survey_fails(&s, errno);
		for (at = 0; n > 0 &&
		     (entry = wire_entry(buffer, (size_t)n, &at)) != NULL;)
			survey_thread(&s, dir, entry->d_name);
	}
	fd_close(dir);
	return s;
}

/* -- holding --------------------------------------------------------------- */

static BARE_CODE siginfo_t *
held_at(struct held *h, unsigned int i)
{
	return i == 0 ? &h->h_first : &h->h_more[i - 1];
}

static BARE_CODE void
hold(int signo, const siginfo_t *info)
{
	struct held *h = &held[signo];
	void *map;

	/* A standard signal is pending only once; its first siginfo stays. */
	if (h->h_number != 0 && (signo < SIGRTMIN || h->h_number == HELD_MAX))
		return;
	if (h->h_number == 1 && h->h_more == NULL) {
		/* Not malloc(): kevent() may be called by a handler. */
		map = mmap(NULL, (HELD_MAX - 1) * sizeof(*info),
		    PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (map == MAP_FAILED)
			return;
		h->h_more = map;
	}
	*held_at(h, h->h_number++) = *info;
	__atomic_or_fetch(&signals_held_word, signal_bit(signo),
	    __ATOMIC_SEQ_CST);
}

static BARE_CODE void
drop(int signo)
{
	held[signo].h_number = 0;
	__atomic_and_fetch(&signals_held_word, ~signal_bit(signo),
	    __ATOMIC_SEQ_CST);
}

/* Take all that the kernel has pending of a signal. */
static BARE_CODE void
take(int signo)
{
	static const struct ktime now;
	uint64_t set = signal_bit(signo);
	siginfo_t info;

	while (syscall(SYS_KT_RT_SIGTIMEDWAIT, &set, &info, &now,
		   KERNEL_SIGSET) == signo) {
		signal_count(signo);
		hold(signo, &info);
	}
}

/* As many as the kernel has room for; the rest stay. */
static BARE_CODE void
give_back(int signo)
{
	struct held *h = &held[signo];
	unsigned int i, n;

	if (h->h_number == 0)
		return;
	/* What came later stands behind, or merges. */
	take(signo);
	for (i = 0; i < h->h_number; i++) {
		signal_owe(signo);
		/* To the thread's own id: only so may it be as from another. */
		if (syscall(SYS_rt_sigqueueinfo, syscall(SYS_gettid), signo,
			held_at(h, i)) == -1) {
			signal_unowe(signo);
			break;
		}
	}
	n = h->h_number - i;
	if (n == 0) {
		drop(signo);
		return;
	}
	for (h->h_number = 0; h->h_number < n; h->h_number++)
		*held_at(h, h->h_number) = *held_at(h, h->h_number + i);
}

static BARE_CODE void
give_back_set(uint64_t set)
{
	for (set &= signals_held(); set != 0; set &= set - 1)
		give_back(signal_first(set));
}

/* -- looking --------------------------------------------------------------- */

/* What this thread blocks, and is pending to it or to the process. */
static BARE_CODE uint64_t
pending_now(void)
{
	uint64_t set;

	if (syscall(SYS_rt_sigpending, &set, KERNEL_SIGSET) == -1)
		return 0;
	return set;
}

/* Those that are left in place: count each once, while it is pending. */
static void
note_left(uint64_t set, uint64_t pending)
{
	uint64_t gone = counted & set & ~pending;
	uint64_t new =
	    pending &set & ~counted &__atomic_load_n(&left, __ATOMIC_SEQ_CST);

	__atomic_store_n(&counted, (counted & ~gone) | new, __ATOMIC_RELAXED);
	for (; gone != 0; gone &= gone - 1)
		signal_unowe(signal_first(gone));
	for (; new != 0; new &= new - 1) {
		signal_count(signal_first(new));
		signal_owe(signal_first(new));
	}
}

static uint64_t
claimed(uint64_t set)
{
	uint64_t found = 0;

	for (; set != 0; set &= set - 1)
		if (held[signal_first(set)].h_claims != 0)
			found |= signal_bit(signal_first(set));
	return found;
}

/* Take those of a set that no thread will ever have delivered. */
static void
take_blocked(uint64_t set)
{
	struct survey s;
	uint64_t taken;

	set &= ~claimed(set);
	if (set == 0)
		return;
	s = survey_threads(set);
	if ((s.blocked & s.moment) != 0 && ++moments < MOMENTS) {
		signal_kick(signal_first(s.blocked & s.moment));
		s.blocked &= ~s.moment;
	} else
		moments = 0;
	for (taken = s.blocked; taken != 0; taken &= taken - 1)
		take(signal_first(taken));
	/* A thread that unblocked it meanwhile did not see that we hold it. */
	if (s.blocked != 0)
		give_back_set(s.blocked & ~survey_threads(s.blocked).blocked);
}

void
pending_look(uint64_t set)
{
	uint64_t pending, mask;

	set &= signals_watched();
	pending = pending_now() & set;
	if (pending == 0 && !pending_unsure())
		return;
	signals_lock(&mask);
	note_left(set, pending);
	__atomic_and_fetch(&blind, ~set, __ATOMIC_RELAXED);
	take_blocked(pending & mask & signals_watched() &
	    ~__atomic_load_n(&left, __ATOMIC_SEQ_CST));
	signals_unlock(&mask);
}

void
pending_verify(uint64_t set)
{
	struct timespec ts;
	uint64_t mask, blocked, now;
	bool due;

	set &= signals_held();
	clock_gettime(CLOCK_MONOTONIC_COARSE, &ts);
	now = (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
	due =
	    now - __atomic_load_n(&verified_at, __ATOMIC_RELAXED) >= VERIFY_NS;
	syscall(SYS_rt_sigprocmask, SIG_BLOCK, NULL, &mask, KERNEL_SIGSET);
	if (!due && (set & ~mask) == 0)
		return;
	signals_lock(&mask);
	blocked = set & mask;
	if (due) {
		__atomic_store_n(&verified_at, now, __ATOMIC_RELAXED);
		blocked &= survey_threads(blocked).blocked;
	}
	give_back_set(set & ~blocked);
	signals_unlock(&mask);
}

bool
pending_unsure(void)
{
	return __atomic_load_n(&counted, __ATOMIC_RELAXED) != 0 ||
	    pending_blind() != 0;
}

uint64_t
pending_blind(void)
{
	return __atomic_load_n(&blind, __ATOMIC_RELAXED);
}

/* -- what the wrappers ask for --------------------------------------------- */

BARE_CODE void
pending_give_back(uint64_t set)
{
	uint64_t mask;

	/* A vforked child has its parent's memory, and no signals to give. */
	if ((signals_held() & set) == 0 || !signals_mine())
		return;
	signals_lock(&mask);
	give_back_set(set);
	signals_unlock(&mask);
}

BARE_CODE uint64_t
pending_claim(uint64_t set)
{
	uint64_t mask, rest;

	set &= signals_watched();
	if (set == 0 || !signals_mine())
		return 0;
	signals_lock(&mask);
	for (rest = set; rest != 0; rest &= rest - 1)
		held[signal_first(rest)].h_claims++;
	give_back_set(set);
	signals_unlock(&mask);
	return set;
}

BARE_CODE void
pending_release(uint64_t set)
{
	uint64_t mask, rest;

	if (set == 0)
		return;
	signals_lock(&mask);
	for (rest = set; rest != 0; rest &= rest - 1)
		held[signal_first(rest)].h_claims--;
	signals_unlock(&mask);
	/* What came during the wait was not looked at. */
	for (set &= pending_now(); set != 0; set &= set - 1)
		signal_kick(signal_first(set));
}

BARE_CODE void
pending_leave(uint64_t set)
{
	uint64_t mask;

	__atomic_or_fetch(&left, set, __ATOMIC_SEQ_CST);
	if ((signals_held() & set) == 0 || !signals_mine())
		return;
	signals_lock(&mask);
	set &= signals_held();
	give_back_set(set);
	/* Counted already; whether it is still there must be asked. */
	__atomic_or_fetch(&counted, set, __ATOMIC_RELAXED);
	signals_unlock(&mask);
}

void
pending_discard(int signo)
{
	take(signo);
	drop(signo);
}

void
pending_forget(int signo)
{
	give_back(signo);
	drop(signo);
	__atomic_store_n(&counted, counted & ~signal_bit(signo),
	    __ATOMIC_RELAXED);
}

void
pending_fork_child(void)
{
	int signo;

	for (signo = 1; signo <= LAST_SIGNAL; signo++)
		held[signo].h_number = held[signo].h_claims = 0;
	signals_held_word = counted = blind = 0;
	moments = 0;
}
