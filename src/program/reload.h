/*
 * Reloading: the configuration is read anew, and the services become what it
 * says, in this process.
 *
 * Services that it leaves as they were do not notice.  Each other one is made
 * anew beside the old: all of them, with their sockets, before anything of
 * the running ones is touched; so a bad file, or an address that cannot be
 * had, changes nothing.  Then they change places: the listening sockets of
 * addresses that stay go from the old to the new, without a caller lost, and
 * connections go on with the old.
 */
#ifndef KQUAY_RELOAD_H
#define KQUAY_RELOAD_H

/* ok is 1 or 0; text is a line, or several, about it. */
typedef void reload_told_fn(int ok, const char *text, void *arg);

/*
 * Reload, and have told, which may be NULL, called in the main thread when
 * that is over; from the main thread.  The log is told in any case.
 */
void reload(reload_told_fn *told, void *arg);

/* Is one under way? */
int reload_begun(void);

/* The number of the configuration: 1 at the start, one more by each reload. */
unsigned reload_generation(void);

/* Reload when the configuration file changes.  0, or -1 with errno. */
int reload_watch(void);

#endif
