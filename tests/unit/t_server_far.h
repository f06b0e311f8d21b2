/*
 * The far end of a connection: plain or TLS, it sends a stream of bytes that
 * say where they belong, and looks at each that comes back.
 */
#ifndef T_SERVER_FAR_H
#define T_SERVER_FAR_H

#include <openssl/ssl.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct far {
	int		fd;		/* -1: there is none */
	SSL		*ssl;		/* NULL: plain */
	unsigned	mark;		/* of the stream that it sends */
	unsigned	expects;	/* of the one that comes */
	uint64_t	sent, got;
	size_t		again;		/* length to be tried again */
	bool		shut;		/* our end is sent */
	bool		ended;		/* theirs has come */
	bool		broken;		/* no way to send or receive any more */
	bool		wrong;		/* another byte than expected has come */
};

/* A far end at fd, which is connected and non-blocking; ctx NULL: plain. */
void	far_begin(struct far *f, int fd, SSL_CTX *ctx, unsigned mark,
	    unsigned expects);
/* Send or receive at most max bytes, as far as it goes now.  How many. */
size_t	far_send(struct far *f, size_t max);
size_t	far_receive(struct far *f, size_t max);
/* Nothing more will be sent. */
void	far_shut(struct far *f);
/* Close it, or reset it. */
void	far_end(struct far *f, bool reset);

#endif
