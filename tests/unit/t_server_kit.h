/*
 * What the tests of the server library share.  Loop and peers live in one
 * thread: the loop is stepped until a fact is there, or a deadline is over.
 */
#ifndef T_SERVER_KIT_H
#define T_SERVER_KIT_H

#include <kquay.h>

#include <stdbool.h>

#include "t_unit.h"

/* The loop of the test; made by kit_start(), freed by kit_stop(). */
extern struct kquay *q;
/* Where it listens on 127.0.0.1. */
extern char kit_port[8];

/* A loop with KQUAY_NOSIGNAL besides conf's flags, and a listener. */
void	kit_start(const struct kquay_ops *ops, const struct kquay_conf *conf);
void	kit_stop(void);

/* What the tests' close callback has seen. */
extern struct kit_closed {
	int		n;
	enum kquay_why	why;
	int		err;
	size_t		pending;
} kit_closed;
void	kit_on_close(struct kquay_conn *c, enum kquay_why why);

/* A peer connected to the listener, non-blocking. */
int	kit_connect(void);
/* A peer connected to a UNIX socket, non-blocking; -1 with errno. */
int	kit_connect_unix(const char *path);
/* As kit_connect(), once the loop has accepted it as its n-th connection so far. */
int	kit_join(void);

/* The one connection of the loop. */
struct kquay_conn	*kit_conn(void);

/* Step until the peer has got want. */
void	kit_expect(int fd, const char *want);
/* Step until the peer has got want as its last, and then end of file. */
void	kit_expect_end(int fd, const char *want);
/* Step until the peer sees a reset. */
void	kit_expect_reset(int fd);
void	kit_send(int fd, const char *text);

/* Monotonic ms, for deadlines. */
int64_t	kit_ms(void);

/* A clock to be moved by hand: .now of struct kquay_sys. */
extern int64_t kit_clock;
int64_t	kit_now(void);

/* name in a directory of the test's own, which kit_stop() removes.  Valid
   until the fourth next call. */
const char	*kit_path(const char *name);

#define KIT_DEADLINE 10000

/* Step until the expression is true. */
#define UNTIL(expr) do {						\
	int64_t until__ = kit_ms() + KIT_DEADLINE;			\
									\
	while (!(expr)) {						\
		if (kit_ms() > until__)					\
			ck_abort_msg("never: %s", #expr);		\
		kit_step();						\
	}								\
} while (0)

/* Wait for what other threads do. */
#define AWAIT(expr) do {						\
	int64_t await__ = kit_ms() + KIT_DEADLINE;			\
									\
	while (!(expr)) {						\
		ck_assert_msg(kit_ms() < await__, "never: %s", #expr);	\
		kit_rest();						\
	}								\
} while (0)

/* A millisecond, without a step. */
void	kit_rest(void);

/* Wait 5 ms at most for one batch. */
void	kit_step(void);

/* Step until nothing happens any more. */
void	kit_settle(void);

/* How often each test runs, as _i from 0 [once]. */
extern int kit_times;
/* The limit in seconds for a test that hangs. */
extern int kit_limit;
int	kit_main(const char *name, const TTest **const tests[], int n);
#define KIT_MAIN(name, tests) \
	int								\
	main(void)							\
	{								\
		return kit_main(name, tests,				\
		    (int)(sizeof(tests) / sizeof((tests)[0])));		\
	}

#endif
