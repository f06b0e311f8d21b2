/*
 * Being started by systemd, or by an earlier kquay (upgrade.h): sockets that
 * are passed on, and word of how we are.
 */
#ifndef KQUAY_ACTIVATE_H
#define KQUAY_ACTIVATE_H

/*
 * The next descriptor after fd, -1 at first, of those that sd_listen_fds(3)
 * speaks of, with that name, NULL: any.  Returns -1 if there is none.
 */
int activate_next(int fd, const char *name);

/* Tell who started us, as sd_notify(3) does; nobody may listen. */
void activate_notify(const char *state);

#endif
