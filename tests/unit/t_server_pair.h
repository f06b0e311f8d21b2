/*
 * What the tests of spliced connections share: a pair and its two peers, and
 * streams whose every byte is looked at.
 */
#ifndef T_SERVER_PAIR_H
#define T_SERVER_PAIR_H

#include "t_server_kit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

extern struct kquay_conn *ends[2];
extern int	peers[2];	/* the far ends */

/* What the close callbacks have seen. */
extern struct ended {
	int		n, err;
	enum kquay_why	why;
} ended[2];

/* Fills in ends and ended; a line is a failure. */
extern const struct kquay_ops pair_service;
int	pair_on_open(struct kquay_conn *c);
void	pair_on_close(struct kquay_conn *c, enum kquay_why why);

/* A loop with two connections, not spliced yet; or spliced. */
void	pair_start(const struct kquay_ops *ops, const struct kquay_sys *sys,
	    const struct kquay_conf *conf);
void	pair_begin(const struct kquay_sys *sys);
/* Both have been closed once, at the latest now. */
void	pair_end(void);
void	pair_ends_with(enum kquay_why first, enum kquay_why second);

/* Bytes that say where in their stream they are. */
struct stream {
	int		from, to;
	uint64_t	total, sent, got;
	bool		ended;	/* the end was seen */
};

/* Send or receive as much as goes now.  Whether anything moved. */
bool	stream_in(struct stream *s);
bool	stream_out(struct stream *s);
/* Send until the stream is stuck, and the loop has nothing to do. */
void	stream_jam(struct stream *s);
/* Both streams, until both have ended. */
void	stream_pump(struct stream *one, struct stream *two);

/* How the kernel is called. */
extern const struct kquay_sys mode_copying;
extern unsigned	mode_reads, mode_writes;	/* calls so far */
extern size_t	mode_most;	/* that one call moves */
extern int	mode_err;	/* errno of the next splices, with */
extern unsigned	mode_fails;	/* how many */

enum { PAIR_MODES = 6 };
extern const struct mode {
	const struct kquay_sys	*sys;
	size_t			 most;
	uint64_t		 bytes;		/* to try it with */
	bool			 splices;
} pair_modes[PAIR_MODES];
void	pair_begin_mode(const struct mode *m);
#define EACH_MODE(m) for ((m) = pair_modes; (m) < pair_modes + PAIR_MODES; (m)++)

#endif
