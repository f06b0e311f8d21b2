/*
 * close.pml: EV_ADD, close(), delivery and EV_DELETE in several threads, on one
 * descriptor number and one queue; all interleavings, checked by spin.
 *
 *	owner	EV_ADD; close() or dup2() over it
 *	next	waits until the number is free, opens it, EV_ADD; perhaps
 *		closes it and begins again
 *	racer	EV_ADD of the number, whatever it names by then
 *	deleter	EV_DELETE
 *	waiter	kevent(): epoll_wait() without the lock, then what came with it
 *
 * A statement, or an atomic block, is one step: a system call, an access to
 * a word that is used without the lock, or the taking of the lock.  What only
 * the holder of the lock sees is joined to the step before or after it.  The
 * steps are those of
 *
 *	close_begin, close_end	watch.c: watch_close_begin(), watch_close_end()
 *	add_begin, add_raced	watch.c: watch_add_begin(), watch_add_raced()
 *	verify, purge		descriptor.c: descriptor_verify(), _purge()
 *	is_registered		descriptor.c: the same
 *	unregister, release	descriptor.c: the same
 *	set			descriptor.c: sync_main(), epoll_set()
 *	ev_add, ev_delete	change.c: descriptor_change();
 *				descriptor.c: descriptor_attach(), _detach()
 *	waiter			collect.c: rounds(); take.c: take_descriptor()
 *	lock, unlock		kq.h: queue_lock(), queue_unlock()
 *
 * What must hold
 *  1 An event is taken only for a knote that was made for the file that the
 *    event is of: neither an old event for a new knote nor a new event for an
 *    old udata (R-FD-04).
 *  2 No event is taken of a file whose close() has returned (R-FD-01, R-FD-03).
 *  3 When all is quiet, an EV_ADD that returned 0 and that no close() or
 *    EV_DELETE has undone has a knote, and the kernel watches it for that file
 *    by the tag that finds it: what is pending is delivered (R-REG-02).
 *  4 When all is quiet, a knote is one that 3 is true of, or there is none; and
 *    what a file with copies left in the epoll finds no slot.
 *  5 A knote is freed once.
 *  6 Nobody waits for ever.
 *
 * Left out: signal handlers (purge() without the lock), closes that pass by the
 * library and the repair of what they leave, the second epoll for WRITE (it
 * goes through the same steps), EPOLLONESHOT, the FIFO (wake.pml), the closing
 * of the queue itself, and the wrap of counters: 28 bits, and 16 bits of closes
 * of one number during one EV_ADD.  Memory is sequentially consistent, as the
 * accesses are __ATOMIC_SEQ_CST.
 *
 * Each FAULT_ that is defined spoils one thing that the protocol needs; the
 * test wants spin to find an error then.
 */
#ifndef FILES
#define FILES 3 /* 1 to FILES - 1; 0 is none */
#endif

/* -- the kernel ------------------------------------------------------------ */

byte names = 1; /* the file that the number names */
byte opened = 1;
bool copied[FILES];   /* another number keeps the file open */
bool watched[FILES];  /* (file, number) stands in the epoll */
byte tagged[FILES];   /* by this generation */

/* -- the library ----------------------------------------------------------- */

bool locked;          /* q_lock */
bool attached;        /* KN_ATTACHED */
bool registered;      /* FK_MAIN: what we believe */
byte gen = 1;         /* fn_gen */
byte started, ended;  /* w_start, w_end */
bool marked, suspect; /* w_bits: the queue's, SUSPECT */

/* -- what only the proof knows --------------------------------------------- */

byte file_of;              /* the file that the knote was made for */
bool gone[FILES];     /* its close() has returned */
bool promised;        /* 3 */
byte made, freed;
byte busy = 4;        /* threads that are not done */

inline lock() {
	atomic { !locked -> locked = true }
}

/* Locals that are not needed any more would be different states. */
inline unlock() {
	atomic {
		s0 = 0;
		e0 = 0;
		s1 = 0;
		e1 = 0;
		at = 0;
		locked = false
	}
}

/* -- epoll_ctl() ----------------------------------------------------------- */

#define OK 0
#define BAD 1    /* EBADF */
#define NOENT 2
#define EXIST 3

inline ctl_add(result) {
	atomic {
		if
		:: names == 0 -> result = BAD
		:: names != 0 && watched[names] -> result = EXIST
		:: else ->
			watched[names] = true;
			tagged[names] = gen;
			at = names;
			result = OK
		fi
	}
}

inline ctl_mod(result) {
	atomic {
		if
		:: names == 0 -> result = BAD
		:: names != 0 && !watched[names] -> result = NOENT
		:: else ->
			tagged[names] = gen;
			at = names;
			result = OK
		fi
	}
}

inline ctl_del() {
	atomic {
		watched[names] = false;
		tagged[names] = 0
	}
}

/* -- descriptor.c ---------------------------------------------------------- */

inline release() {
	assert(attached);
	attached = false;
	file_of = 0;
	freed++;
	assert(freed <= made)
}

inline unregister() {
	atomic {
		if
		:: registered -> ctl_del()
		:: else
		fi;
		registered = false;
#ifndef FAULT_GENERATION
		gen++
#endif
	}
}

inline purge() {
	atomic {
		if
		:: attached -> release()
		:: else
		fi;
		if
		:: registered -> unregister()
		:: else
		fi
	}
}

inline is_registered(result) {
	ctl_add(result);
	if
	:: result == OK -> ctl_del()
	:: else
	fi
}

inline verify() {
	if
	:: registered ->
		is_registered(error);
		if
		:: error != EXIST -> purge()
		:: else
		fi
	:: else
	fi
}

inline believe(result) {
	if
	:: result == OK -> registered = true; file_of = at
	:: else
	fi
}

/* Register or modify, whichever it takes. */
inline set(result) {
	atomic {
		if
		:: registered -> ctl_mod(result)
		:: else -> ctl_add(result)
		fi;
		believe(result)
	};
	if
	:: result == EXIST -> atomic { ctl_mod(result); believe(result) }
	:: else
	fi
}

/* -- watch.c --------------------------------------------------------------- */

inline add_begin() {
	e0 = ended;
#ifdef FAULT_MARK
	skip
#else
	marked = true
#endif
}

inline add_raced() {
#ifdef FAULT_RACED
	skip
#else
	s1 = started;
	e1 = ended;
	if
	:: s1 != e1 ->
		suspect = true;
		if
		:: ended != e1 -> verify()
		:: else
		fi
	:: s1 == e1 && (s1 != s0 || e1 != e0) -> verify()
	:: else
	fi
#endif
}

/* watch_suspect(): verify before a knote of it is trusted. */
#ifdef FAULT_TRUST
#define SUSPICIOUS false
#else
#define SUSPICIOUS suspect
#endif

inline close_begin() {
	started++;
	if
	:: marked || suspect ->
		atomic {
			taken = marked;
			marked = false;
			suspect = false
		};
		if
		:: taken -> taken = false;
#ifndef FAULT_LOCK
			lock();
#endif
			purge();
#ifndef FAULT_LOCK
			unlock()
#endif
		:: else
		fi
	:: else
	fi
}

inline close_end() {
	atomic {
		ended++;
		mine = ended
	};
#ifndef FAULT_END
	taken = suspect;
#ifndef FAULT_OVERLAP
	taken = taken || started != mine;
#endif
	if
	:: taken -> taken = false;
#ifdef FAULT_CLEARED
		suspect = false;
#endif
		lock();
		verify();
		unlock()
	:: else
	fi
#endif
}

/* The number is closed, or names another file from now on. */
inline real_close(over) {
	atomic {
		was = names;
		if
		:: !copied[was] -> watched[was] = false; tagged[was] = 0
		:: else
		fi;
		if
		:: over -> opened++; names = opened
		:: else -> names = 0
		fi
	}
}

inline do_close(over) {
	promised = false;
#ifdef FAULT_ORDER
	real_close(over);
	close_begin();
#else
	close_begin();
	real_close(over);
#endif
	close_end();
	atomic {
		gone[was] = true;
		was = 0;
		mine = 0;
		error = 0
	}
}

/* -- change.c -------------------------------------------------------------- */

/* error: OK, or EV_ADD fails. */
inline ev_add() {
	lock();
	if
	:: SUSPICIOUS -> verify()
	:: else
	fi;
	error = OK;
	if
	:: attached -> skip /* touched: another udata, and no system call */
	:: else ->
		atomic { attached = true; made++; s0 = started };
		add_begin();
		set(error);
		if
		:: error == NOENT -> unregister(); set(error)
		:: else
		fi;
		if
		:: error == OK -> add_raced(); error = OK
		:: else -> atomic { release() }
		fi
	fi
}

inline ev_delete() {
	lock();
	if
	:: SUSPICIOUS -> verify()
	:: else
	fi;
	if
	:: attached -> atomic { release(); promised = false }
	:: else
	fi;
	unlock()
}

/* -- threads --------------------------------------------------------------- */

#define LOCALS byte error, at, s0, e0, s1, e1, was, mine; bool taken

proctype owner() {
	LOCALS;

	ev_add();
	unlock();
	if
	:: do_close(false)
	:: do_close(true)
	fi;
	busy--
}

/* What it is told of its own file it may rely on. */
proctype next() {
	LOCALS;
	byte file;

	do
	:: atomic { names == 0 && opened < FILES - 1 ->
		opened++; names = opened; file = opened }
		ev_add();
		atomic {
			assert(error == OK);
			promised = true;
			unlock()
		};
		if
		:: do_close(false)
		:: break
		fi
	:: atomic { names == 0 && opened == FILES - 1 -> break }
	/* dup2() took the number. */
	:: atomic { names > 1 && names != file -> break }
	od;
	busy--
}

proctype racer() {
	LOCALS;

	ev_add();
	unlock();
	busy--
}

proctype deleter() {
	LOCALS;

	ev_delete();
	busy--
}

proctype waiter() {
	byte error, at, from, tag;

	do
	:: atomic {
		if
		:: watched[1] -> from = 1
		:: watched[2] -> from = 2
#if FILES > 3
		:: watched[3] -> from = 3
#endif
		fi;
		tag = tagged[from] }
		lock();
		if
		:: tag == gen && attached ->
			atomic {
				assert(from == file_of);
				assert(!gone[file_of])
			}
		:: tag == gen && !attached -> unregister()
		:: else
		fi;
		atomic { from = 0; tag = 0; locked = false }
	:: busy == 0 -> break
	od;

	/* All is quiet. */
	assert(!promised || attached);
	assert(!attached || (names != 0 && file_of == names && watched[names] &&
	    tagged[names] == gen));
	assert(made - freed == attached);
	for (from : 1 .. FILES - 1) {
		assert(!watched[from] || from == names ||
		    tagged[from] != gen)
	}
}

init {
	atomic {
		/* Which files have copies: all ways. */
		if
		:: copied[1] = true
		:: skip
		fi;
		if
		:: copied[2] = true
		:: skip
		fi;
		run owner();
		run next();
		run racer();
		run deleter();
		run waiter()
	}
}
