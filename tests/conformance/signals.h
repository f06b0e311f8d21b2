/*
 * What the tests of EVFILT_SIGNAL share: sending, handling and blocking.
 */
#ifndef SIGNALS_H
#define SIGNALS_H

#include "t.h"

#include <stdbool.h>

/* How often signals_count() ran, and what the last siginfo_t said. */
extern volatile sig_atomic_t handled, handled_value, handled_code;

/* Handlers. */
void signals_count(int sig);
void signals_count_info(int sig, siginfo_t *info, void *context);

/* Install a handler with these flags and an empty mask. */
void handle(int sig, void (*handler)(int), int flags);

/* What sigaction(2) says the program has installed. */
struct sigaction disposition(int sig);

/* SIG_BLOCK or SIG_UNBLOCK one signal in this thread. */
void block(int how, int sig);

bool is_pending(int sig);

/* kill(2) to ourselves; a signal that nobody blocks arrives before it ends. */
void send_me(int sig);

/* Register it in t_kq. */
void watch(int sig);

/*
 * A test that must see when and how a handler runs: ThreadSanitizer keeps
 * signals back and runs handlers itself, when and as it likes.
 */
#ifdef __SANITIZE_THREAD__
#define need_prompt_handlers() do { \
	t_skip("ThreadSanitizer runs handlers itself"); \
	return; \
} while (0)
#else
#define need_prompt_handlers() ((void)0)
#endif

/* The event of sig comes and says n. */
#define expect_count(sig, n) do { \
	struct kevent ev_; \
	t_expect(&ev_, sig, EVFILT_SIGNAL); \
	ck_assert_int_eq(ev_.data, n); \
} while (0)

#endif
