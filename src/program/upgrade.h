/*
 * Upgrading: another kquay, of a newer version perhaps, takes our place.
 *
 * It is started as we were, inherits every listening socket, and says by a
 * pipe when it is ready.  Then we have no callers any more and end with our
 * last connection.  Until it says so nothing changes, so if it ends before,
 * all is as it was.  A caller finds one of the two at any moment.
 */
#ifndef KQUAY_UPGRADE_H
#define KQUAY_UPGRADE_H

#include <stddef.h>
#include <stdint.h>

#include "reload.h"

/* Which program we are, and how it was called; at the very start. */
void upgrade_remember(int argc, char **argv);

/* Do it, and have told called when it is decided; from the main thread. */
void upgrade(reload_told_fn *told, void *arg);

/* Is another on its way, or here? */
int upgrade_begun(void);

/* We end before the other is ready: it is to end, too. */
void upgrade_cancel(void);

/* -- the newer one --------------------------------------------------------- */

/* Are we one that is not ready yet? */
int upgrade_is_heir(void);

/* The sandbox_filter() of the earlier one; 0: it had none, or there is none. */
uint64_t upgrade_filter(void);

/* See what we have inherited.  0, or -1 having said what is wrong. */
int upgrade_begin(void);

/*
 * A listening socket for that address, and the worker that had it; it is the
 * caller's now.  -1: there is none left.
 */
int upgrade_inherit(const char *address, unsigned *worker);

/* How many workers had one for that address. */
unsigned upgrade_workers(const char *address);

/*
 * The path of the i-th UNIX socket that nobody has taken, counted from 0; NULL:
 * there are no more.
 */
const char *upgrade_left(size_t i);

/*
 * All that we inherit is taken: the rest is closed, files are removed with it,
 * and the earlier one told.
 */
void upgrade_ready(void);

#endif
