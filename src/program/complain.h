/*
 * What goes to standard error: one line, whatever it quotes.  What somebody
 * wrote must not act on the terminal nor look like a line of our own, so
 * control characters become question marks.
 */
#ifndef KQUAY_COMPLAIN_H
#define KQUAY_COMPLAIN_H

#include <stdio.h>

/*
 * Where this thread complains to from now on; NULL is standard error.  Returns
 * where it did before.
 */
FILE *complain_to(FILE *out);

/* As warnx(3): "kquay: ...". */
void complain(const char *format, ...)
    __attribute__((__format__(__printf__, 1, 2)));

/* "FILE:LINE: wrong", or "FILE: wrong" if line is 0. */
void complain_at(const char *file, int line, const char *wrong);

#endif
