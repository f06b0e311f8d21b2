/*
 * Minimal echo servers, one for each way of waiting, for comparing what the
 * ways cost.  All that is not waiting is here and the same for all: a
 * listening socket, and connections that are read once when they are ready
 * and answered at once; only what the kernel does not take is kept, and
 * nothing more is read from its sender until it is gone.
 *
 *	echo_NAME [-n] ADDRESS		HOST:PORT or unix:PATH
 *
 * Each prints "ready" when it listens and serves until it is killed.
 */
#ifndef ECHO_H
#define ECHO_H

enum want { WANT_READ, WANT_WRITE, WANT_CLOSE };

#define ECHO_BUFSIZE 65536

extern char echo_buf[ECHO_BUFSIZE];
extern int echo_flag_n; /* -n was given; each server says what it means */

/*
 * Parse the command line, raise the limit of descriptors and listen.  Returns
 * the listening socket, non-blocking; exits on failure.
 */
int echo_listen(int argc, char *argv[]);

void echo_ready(void);

/* A new connection, non-blocking, or -1 if there is none after all. */
int echo_accept(int listener);

/*
 * Serve fd, which is ready for what it wanted; it starts with WANT_READ.
 * Returns what it wants now.  After WANT_CLOSE the caller closes it.
 */
enum want echo_serve(int fd);

#endif
