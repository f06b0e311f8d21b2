/*
 * A kernel that is not there: sockets, peers, a kqueue and a clock, all of it
 * decided by one seed.  The server library runs over it as it is: its loop
 * gets read, write, accept, kevent and the clock by struct kquay_sys, and the
 * other system calls on a simulated descriptor are caught at link time.
 *
 * A stream is a number of bytes, no memory: byte n of connection k has the
 * value kernel_byte(k, n), in both directions, so what is lost, doubled or out
 * of place shows at once.
 */
#ifndef SIM_KERNEL_H
#define SIM_KERNEL_H

#include <kquay.h>

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

/* As ck_assert(), which tells Check's parent each time that it holds. */
#define HOLDS(what) \
	do { \
		if (!(what)) \
			ck_abort_msg("%s", #what); \
	} while (0)

/* One direction of a connection, as counts of bytes. */
struct stream {
	uint64_t sent;    /* by the one end */
	uint64_t arrived; /* at the other, where it can be read */
	uint64_t taken;   /* and was */
	bool fin;         /* the sender has said that there is no more */
	bool fin_arrived;
};

enum temper {
	POLITE,  /* sends, reads, ends */
	SLOW,    /* reads little */
	SILENT,  /* stops for good at some time */
	RESETTER /* resets at some time */
};

struct caller {
	bool used;
	unsigned number; /* k of its bytes: of all callers that there were */
	int fd;          /* the server's end; -1 before accept and after close */
	enum temper temper;
	struct stream up, down; /* to the server, to the peer */
	/* Spliced: byte n of down, from joined on, is byte n + shift of other's. */
	unsigned other;
	uint64_t joined;
	int64_t shift;
	uint64_t quota;         /* bytes it means to send */
	uint32_t sndbuf;        /* what the server's end holds unsent */
	bool reset;             /* the peer has reset, and that has arrived */
	bool told;              /* and the server knows */
	bool hard;              /* the server will reset it by its close */
	bool faulty;            /* a read of it has failed without a cause */
	int64_t moved_ms;       /* when a byte or the end went either way */
};

/* What became of a connection, as of the server's close(2). */
typedef void kernel_closed_fn(struct caller *, bool unread);

enum { NCALLERS = 48, FD_BASE = 1 << 20 };

extern struct caller kernel_callers[NCALLERS];
extern const struct kquay_sys kernel_sys;

/* Begin anew; the same seed gives the same world. */
void kernel_begin(uint64_t seed, kernel_closed_fn *closed);

/* A listening socket, as an inherited descriptor. */
int kernel_listener(void);

/* A number below n. */
uint32_t kernel_roll(uint32_t n);

/* One call of so many fails from now on; 0: none. */
void kernel_faults(unsigned one_of);

/* No more callers; those there are send nothing more, read all, and end. */
void kernel_calm(void);

/* From now on what caller gets next is what other sends from its byte at on. */
void kernel_join(struct caller *caller, const struct caller *other,
    uint64_t next, uint64_t at);

/* The caller whose connection the server knows by this address. */
struct caller *kernel_caller(const struct sockaddr *sa);

char kernel_byte(unsigned number, uint64_t position);
int64_t kernel_now_ms(void);
unsigned kernel_open_fds(void);

#endif
