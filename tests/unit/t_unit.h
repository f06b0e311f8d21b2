/*
 * What each test of Check has: a main() around its cases, and a count of what
 * they may leave behind.
 *
 *	TCase *tc = unit_begin("name");
 *
 *	tcase_add_test(tc, ...);
 *	return unit_end();
 */
#ifndef T_UNIT_H
#define T_UNIT_H

#include <check.h>

TCase *unit_begin(const char *name);

/* Run them: main()'s result. */
int unit_end(void);

/* How many descriptors are open. */
int unit_descriptors(void);

#endif
