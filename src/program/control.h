/*
 * The control socket: a loop with a UNIX socket, on which the commands that
 * look at a running program and steer it ask for what request.h says.
 *
 *	-> connections service chat
 *	<- ok 512			bytes of the answer
 *	<- ...				the answer; then the end of the stream
 *
 * or `error' instead of `ok', and the reason.  One request for each connection.
 *
 * Who may ask: root and the user that the program began as or runs as; if
 * the mode of the socket lets others write, whom it lets.
 */
#ifndef KQUAY_CONTROL_H
#define KQUAY_CONTROL_H

#include <sys/types.h>

struct kquay;
struct control;

/*
 * Listen at path, or go on with fd, a socket that listens there already, if
 * it is not -1.  NULL, having complained.
 */
struct control *control_new(const char *path, mode_t mode, int fd);

/* Not before all that was asked of the other loops has been answered. */
void control_free(struct control *control);

/* Its loop, to be stepped by the main thread. */
struct kquay *control_loop(const struct control *control);

#endif
