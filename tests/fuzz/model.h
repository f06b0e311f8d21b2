/*
 * model.h: what the rules promise, as plain state beside the real queues.
 *
 * A part owns a piece of the world (sockets, files, timers, ...) and the knotes
 * on it.  An operation of a part does something to the world and writes down
 * what that means for its knotes; model.c collects, and holds what came against
 * what is written here.
 */
#ifndef MODEL_H
#define MODEL_H

#include <sys/event.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Is the condition of a knote true?  MAYBE: the rules leave it open. */
enum truth { NO, MAYBE, YES };

struct knote;

struct kind {
	int k_filter;
	unsigned int k_flags; /* that every knote of it has */
	unsigned int k_also;  /* that an event of it may have besides */
	/*
	 * What EV_CLEAR means: a state that k_check() resets, or edges, each of
	 * which is told once, or at least once.
	 */
	enum { STATE, EDGES, EDGES_OFTEN } k_clear;
	bool k_vain; /* it may take a slot and prove to be nothing */
	enum truth (*k_truth)(const struct knote *);
	/* What the event says of data and fflags; then what it resets. */
	void (*k_check)(struct knote *, const struct kevent *);
};

struct knote {
	const struct kind *k_kind;
	void *k_of; /* what it watches */
	int k_queue;
	uintptr_t k_ident;
	bool k_exists, k_enabled;
	bool k_forced;  /* EV_FORCEONESHOT */
	bool k_pending; /* EV_CLEAR: not returned since it last became true */
	/*
	 * EV_CLEAR: it was passed over for want of slots, so libkq may hold the
	 * edge; if another came then, both may be returned, one after the
	 * other.
	 */
	bool k_held, k_doubled;
	bool k_maybe; /* the second of two such may still come */
	unsigned int k_flags;
	uintptr_t k_udata;
};

struct part {
	void (*p_open)(void);    /* before an input */
	void (*p_operate)(void); /* one operation */
	void (*p_close)(void);   /* after it */
	/* Events were taken from kq; was there room for more?  Or NULL. */
	void (*p_gathered)(bool room);
};

extern const struct part part_file, part_pipe, part_proc, part_queue,
    part_signal, part_socket, part_timer, part_urgent, part_user;

/* One input. */
void run(const uint8_t *data, size_t size);

extern int kq;
extern bool verbose;
extern uint64_t seed; /* names the input */
extern bool strict;   /* KQ_STRICT: a close() behind our back is seen */
/*
 * A number was closed behind our back that had a copy.  To be rid of it the
 * library may make its epoll anew, which tells edges once more, when it likes.
 */
extern bool repaired;

/* With -v, what is done and what comes. */
__attribute__((format(printf, 1, 2))) void say(const char *, ...);

/* The next choice of the input: below n; 0 when it is used up. */
unsigned int choose(unsigned int n);
unsigned int choose_flags(void);

/* From now on gather() expects it; it does not exist yet. */
void know(struct knote *, const struct kind *, int queue, uintptr_t ident,
    void *of);
/* Its number was closed, or what it watches has gone. */
void forget(struct knote *);

enum outcome { REFUSED, ADDED, TOUCHED, DELETED };
/*
 * Give a change with a new udata, hold the answer against the rules, and bring
 * the knote up to date.  error: what an EV_ADD of it must fail with, or 0.
 */
enum outcome change(struct knote *, unsigned int flags, unsigned int fflags,
    int64_t data, int error);

/* The knote's condition came true, or true once more. */
void edge(struct knote *);
/* It may be told though nothing has become true. */
void rumour(struct knote *);

/* Knotes of the queue that must come. */
int how_many_must(int queue);
/* Take events of a queue without waiting, or, if some must come, with. */
enum patience { NOW, WAITING };
void gather(int queue, int slots, enum patience);

_Noreturn __attribute__((format(printf, 1, 2))) void fail(const char *, ...);

#endif
