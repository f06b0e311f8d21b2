/*
 * The limit of descriptors, RLIMIT_NOFILE, against what the services want.
 */
#ifndef KQUAY_DESCRIPTORS_H
#define KQUAY_DESCRIPTORS_H

#include "program.h"

/*
 * Raise the soft limit to the hard one, and see that all services can be
 * full at the same time.  Returns 0; or -1, having said why not and what to
 * do.
 */
int descriptors_raise(const struct program_conf *conf);

#endif
