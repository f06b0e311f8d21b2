/*
 * The kinds of socket that a rule must hold on.  A test that loops over them
 * takes Check's _i as the kind and begins with need(_i).
 */
#ifndef FAMILY_H
#define FAMILY_H

#include "t.h"

#include <stdbool.h>

enum {
	TCP4,
	TCP6,
	UNIX_STREAM,
	UNIX_SEQPACKET,
	FAMILIES, /* those above can listen */

	PAIR_STREAM = FAMILIES, /* socketpair(2) */
	PAIR_SEQPACKET,
	STREAMS /* all that are connected streams */
};

struct family_addr {
	struct sockaddr_storage sa;
	socklen_t len;
};

/* False if the machine has no such addresses (TCP6 without ::1). */
bool family_here(int kind);

#define need(kind) do { \
	if (!family_here(kind)) { \
		t_skip("no address of this family"); \
		return; \
	} \
} while (0)

/* A fresh socket, non-blocking, neither bound nor connected. */
int family_socket(int kind);

/* Bind it to an address of its own, which is stored in *addr. */
void family_bind(int kind, int fd, struct family_addr *addr);

/* A non-blocking socket that listens on an address of its own. */
int family_listen(int kind, struct family_addr *addr, int backlog);

/* A connection to *addr, completed, then non-blocking. */
int family_connect(int kind, const struct family_addr *addr);

/* A connected stream, both ends non-blocking. */
void stream_open(int kind, int s[2]);

/* TCP4 or TCP6 address where nobody listens. */
void family_nobody(int kind, struct family_addr *addr);

/*
 * Collect the level event of (ident, filter), which must come each time, until
 * the condition on *ev holds: what is on its way may arrive in parts.
 */
#define t_expect_until(ev, id, filt, condition) do { \
	int64_t end_until_ = t_now() + T_DEADLINE_MS * 1000000LL; \
	for (;;) { \
		t_expect(ev, id, filt); \
		if (condition) \
			break; \
		ck_assert_msg(t_now() < end_until_, \
		    "never: %s (data %lld, flags %#x, fflags %#x)", \
		    #condition, (long long)(ev)->data, (ev)->flags, \
		    (ev)->fflags); \
	} \
} while (0)

#endif
