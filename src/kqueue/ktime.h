/*
 * ktime.h: times as system calls take them, of 64 bits on every machine.
 *
 * Where a long has 32 bits struct timespec may be narrower or not, as libc
 * has it, and the calls that take 64 bits have numbers of their own (Linux
 * 5.1).
 */
#ifndef KQ_KTIME_H
#define KQ_KTIME_H

#include <sys/syscall.h>

#include <stddef.h>
#include <stdint.h>
#include <time.h>

struct ktime {
	int64_t kt_sec;
	int64_t kt_nsec;
};

#ifdef SYS_ppoll_time64
#define SYS_KT_PPOLL SYS_ppoll_time64
#define SYS_KT_PSELECT6 SYS_pselect6_time64
#define SYS_KT_RT_SIGTIMEDWAIT SYS_rt_sigtimedwait_time64
#else
#define SYS_KT_PPOLL SYS_ppoll
#define SYS_KT_PSELECT6 SYS_pselect6
#define SYS_KT_RT_SIGTIMEDWAIT SYS_rt_sigtimedwait
#endif

/* Copy *ts to *kt; returns kt, or NULL if ts is. */
static inline const struct ktime *
ktime_of(struct ktime *kt, const struct timespec *ts)
{
	if (ts == NULL)
		return NULL;
	kt->kt_sec = ts->tv_sec;
	kt->kt_nsec = ts->tv_nsec;
	return kt;
}

#endif
