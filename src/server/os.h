/*
 * What differs between Linux and the BSDs.  os_linux.c or os_bsd.c is
 * compiled, as meson.build finds.
 */
#ifndef KQUAY_OS_H
#define KQUAY_OS_H

#include <sys/types.h>
#include <sys/event.h>

#include <stdint.h>

/* READ and WRITE knotes whose data we do not need; the BSDs know it anyway. */
#ifdef NOTE_NODATA
#define KNOTE_NODATA NOTE_NODATA
#else
#define KNOTE_NODATA 0
#endif

/*
 * Who is at the other end of a connected UNIX socket.  0, or -1 with errno if
 * the system does not say.  *pid is -1 if it does not know.
 */
int kquay_os_peer(int fd, uid_t *uid, gid_t *gid, pid_t *pid);

/* Whether SO_REUSEPORT spreads callers over the sockets of one address. */
int kquay_os_spreads(void);

/* How many threads can run at once. */
unsigned kquay_os_cpus(void);

/* Bytes that the kernel has yet to send, or the peer to take; 0 if unknown. */
uint32_t kquay_os_unsent(int fd);

/*
 * The port of a TCP socket that is bound to an address without one is to be
 * chosen by connect(2), which can use one for many destinations.
 */
void kquay_os_late_port(int fd);

/*
 * Whether one look shows that a TCP socket is connected, and not to itself;
 * 0 if that is not known.
 */
int kquay_os_connected(int fd);

/*
 * Have a TCP socket, and those that it accepts, ask a silent peer after so many
 * seconds, and give it as long again; 0 is never.
 */
void kquay_os_keepalive(int fd, int seconds);

/*
 * Pipes that sockets can be spliced through.  *size is how large one had
 * better be, and then how large it is.  0, or -1: errno, and there is none.
 */
int kquay_os_pipe(int fd[2], size_t *size);

/* splice(2) without waiting: from a socket to a pipe, or the other way. */
ssize_t kquay_os_splice(int from, int to, size_t len);

/* Milliseconds of a monotonic clock; a few ms of grain are enough. */
int64_t kquay_os_now(void);

#endif
