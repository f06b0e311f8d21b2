/*
 * What the tests of EVFILT_SIGNAL share: a queue, and signals for it.
 */
#ifndef T_SIGNALS_KIT_H
#define T_SIGNALS_KIT_H

#include <signal.h>
#include <stdbool.h>
#include <time.h>

#include "t_unit.h"

#define DEADLINE_S	20

/*
 * The thread sanitizer runs handlers when it sees fit, merged and not nested:
 * what they count and where they run is then not the kernel's doing.
 */
#ifdef __SANITIZE_THREAD__
#define HANDLERS_LATE	1
#else
#define HANDLERS_LATE	0
#endif

/* The queue of watch(); -1: none yet. */
extern int kq;

/* Run the tests that add() adds, each with kq == -1: main()'s result. */
int	kit_run(const char *name, void (*add)(TCase *));

/* One change of EVFILT_SIGNAL. */
void	change(int queue, int signo, unsigned short flags);
/* kq, made if need be, watches. */
void	watch(int signo);

/* data of the next event, which must be of this signal; 0: there is none. */
int	look(int queue, int signo, time_t seconds);
#define counted(signo) look(kq, signo, DEADLINE_S)
#define none(signo) ck_assert_int_eq(look(kq, signo, 0), 0)

/* What handlers tell: calls, and what the last one of info_handler() got. */
int	ran(void);
int	run(void);		/* one more; how many then */
extern siginfo_t last;
void	plain_handler(int signo);
void	info_handler(int signo, siginfo_t *info, void *context);
void	storm_handler(int signo, siginfo_t *info, void *context);
void	handle(int signo, void (*)(int, siginfo_t *, void *), int flags);

sigset_t only(int signo);
void	mask(int how, int signo);
void	send_value(int signo, int value);
/* It is what send_value() in this process sends. */
void	check_info(const siginfo_t *info, int value);

/* Does the kernel have a handler for it?  It alone knows the truth. */
bool	caught_by_kernel(int signo);
/* A blocked signal, watched, sent with a value and returned by kevent(). */
void	take_one(int signo, int value);

#endif
