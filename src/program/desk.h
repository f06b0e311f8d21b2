/*
 * The desk: where the process is asked what it does.  The control socket and
 * the status page, each of which has a loop of its own in the main thread.
 */
#ifndef KQUAY_DESK_H
#define KQUAY_DESK_H

#include "program.h"

/* Open what *conf wants.  0, or -1 having said why. */
int desk_open(const struct program_conf *conf);

/* Begin to serve, once the process is confined.  0, or -1 having said why. */
int desk_start(void);

/*
 * The i-th listening socket, counted from 0, and in *name what it is called
 * for upgrade_inherit(); -1 at the end.
 */
int desk_socket(unsigned i, const char **name);

/*
 * The files of its UNIX sockets, inherited or not, are as *conf wants them, and
 * are to be removed by it.
 */
void desk_claim(const struct program_conf *conf);

/* Another process has the sockets: leave them, and their files, alone. */
void desk_bequeath(void);

/*
 * There is nothing left to ask about: who is there gets its answer, and goes.
 */
void desk_close(void);

/* When no worker runs and none is left. */
void desk_free(void);

#endif
