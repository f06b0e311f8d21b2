/*
 * The variables that tell a program who is there, in the way of UCSPI.
 */
#ifndef KQUAY_UCSPI_H
#define KQUAY_UCSPI_H

#include "words.h"

struct kquay_conn;

/*
 * The environment of a program for c: ours, more, and who is there.  What is
 * returned is for free(3), and more must stay as long; NULL without memory.
 */
char **ucspi_environment(struct kquay_conn *c, const struct words *more);

#endif
