/*
 * What the tests share that count system calls: a tracer in another process
 * notes what the kernel is asked between calls_begin() and calls_end(), so that
 * nothing that a library does behind the test's back is missed.
 */
#ifndef T_CALLS_KIT_H
#define T_CALLS_KIT_H

#include <check.h>

/*
 * Run the suite in a traced child and return its exit status; 77, having said
 * why, where no process may be traced.
 */
int calls_run(Suite *suite);

void calls_begin(void);

/*
 * The names of the calls since calls_begin(), in order and with a space
 * between them; "" if there were none.  Memory and the clock do not count:
 * malloc() asks for memory when it likes, and clock_gettime() is no system call
 * wherever there is a vDSO.
 */
const char *calls_end(void);

/* Check's own assertions write to its pipe each time they hold. */
#define calls_must(condition) \
	do { \
		if (!(condition)) \
			ck_abort_msg("not so: %s", #condition); \
	} while (0)

#define calls_expect(what, names) \
	ck_assert_msg(strcmp(calls_end(), names) == 0, \
	    "%s makes [%s], not [%s]", what, calls_end(), names)

#endif
