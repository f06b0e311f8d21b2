/*
 * The last step of a start, when everything is open: give up what is not
 * needed any more, first being root, then whatever a sandbox can take.
 */
#ifndef KQUAY_CONFINE_H
#define KQUAY_CONFINE_H

#include <stddef.h>

#include "program.h"

/*
 * Do the settings user, group and sandbox agree with the services?  0; or -1
 * and why, which begins with the name of the one to blame.
 */
int confine_check(const struct program_conf *conf, char *why, size_t whysz);

/*
 * Note what is to be kept, while conf has its services.  0, or -1 and why, a
 * line.
 */
int confine_prepare(const struct program_conf *conf, char *why, size_t whysz);

/*
 * Do it, from the only thread there is.  0; or -1 and why: end the process
 * then, for nobody knows how much of it was done.
 */
int confine(char *why, size_t whysz);

/*
 * May what a reload brings be opened?  0, or -1 and why, a line.  Keys that it
 * brings are kept secret from here on.
 */
int confine_reload(const struct program_conf *conf, char *why, size_t whysz);

#endif
