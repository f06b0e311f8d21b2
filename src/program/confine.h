/*
 * The last step of a start, when everything is open: give up what is not
 * needed any more, first being root, then whatever a sandbox can take.
 */
#ifndef KQUAY_CONFINE_H
#define KQUAY_CONFINE_H

#include <stddef.h>

#include "sandbox.h"
#include "service.h"

/* The settings. */
struct confine {
	char *user, *group; /* "": who we are */
	int sandbox;        /* enum sandbox_mode */
};

/* Of the whole program; NULL or "" is none. */
struct confine_files {
	const char *config;  /* to be read again */
	const char *control; /* a UNIX socket that listens */
	const char *log;     /* to be made anew when it is rotated */
};

/*
 * Can it be done for these services?  0; or -1 and why, which begins with the
 * name of the setting to blame.
 */
int confine_check(const struct confine *c,
    const struct service_conf_list *list, char *why, size_t whysz);

/*
 * Do it, from the only thread there is.  0; or -1 and why: end the process,
 * then, for nobody knows how much of it was done.
 */
int confine(const struct confine *c, const struct service_conf_list *list,
    const struct confine_files *files, char *why, size_t whysz);

/*
 * May services that a reload has brought be opened?  0, or -1 and why, a line.
 * Keys that they bring are kept secret from here on.
 */
int confine_reload(const struct service_conf_list *list, char *why,
    size_t whysz);

#endif
