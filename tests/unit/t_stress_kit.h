/*
 * What the stress tests share: eight threads, three queues, and a storm of
 * signals whose handler calls kevent().
 *
 * KQ_STRESS_S is how many seconds the longest of them takes, 10 if it is not
 * set, 3 under valgrind.  KQ_STRESS_TELL has them say how much was done.
 */
#ifndef T_STRESS_KIT_H
#define T_STRESS_KIT_H

#include <sys/event.h>

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "t_unit.h"

#define THREADS 8
#define QUEUES 3
#define DEADLINE_S 30

extern int seconds;
extern int queues[QUEUES]; /* new ones for each test */
extern uint32_t alarms;    /* how often the handler was called */

/* The modes that a knote may have. */
#define MODES 5
extern const unsigned short modes[MODES];

/* Run the tests that add() adds: main()'s result. */
int stress_run(const char *name, void (*add)(TCase *));

/* From now on a signal each so many microseconds; 0: no more. */
void storm(long usec);

double now(void); /* seconds */

/*
 * Let the threads work for some seconds; the signals are theirs.  Afterwards
 * stopped() is true.
 */
void pass(double length);
void stop_all(void);
bool stopped(void);

void start(pthread_t *, void *(*)(void *), void *arg);
void join(pthread_t);

static inline uint32_t
get(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_SEQ_CST);
}

/* A number below sides. */
static inline uint32_t
dice(uint32_t *seed, uint32_t sides)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed % sides;
}

#endif
