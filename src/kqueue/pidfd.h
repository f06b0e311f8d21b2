/*
 * pidfd.h: a process by a descriptor that holds it.
 *
 * Whoever has the number of the process later, the descriptor stays with the
 * one it was opened for.  It polls as readable from the end of the process on,
 * that is of its last thread.  Nothing here reaps.
 */
#ifndef KQ_PIDFD_H
#define KQ_PIDFD_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Open one, a number of the library's own.  0 or an errno value: ESRCH, EMFILE,
 * ENFILE, ENOMEM; ENOTSUP where there are none (Linux before 5.3, a sandbox).
 */
int	pidfd_open_own(uintptr_t pid, int *fd);

/*
 * Is an open descriptor, of whoever's, one of these?  0, or EINVAL if not, or
 * why it cannot be known: EMFILE, ENFILE, ENOMEM, ENOTSUP.
 */
int	pidfd_check(int fd);

bool	pidfd_has_ended(int fd);

/*
 * Is it a child of this process that has ended and was not reaped?  Then with
 * its status, by one system call.
 */
bool	pidfd_of_child(int fd, int *status);

/*
 * The status of a process that has ended, as wait(2) encodes it.  False, and
 * *status is 0: nobody lets us know.
 */
bool	pidfd_status(int fd, int *status);

#endif
