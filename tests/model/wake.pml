/*
 * wake.pml: the ready FIFO, the eventfd that announces it, and changes that
 * handlers leave behind; all interleavings, checked by spin.
 *
 *	trigger	kevent() that puts an event in the FIFO; a signal handler may
 *		interrupt it while it holds the lock, and leaves its change
 *		behind
 *	busy	a handler that may not wait for the lock, because its thread
 *		holds that of another queue
 *	waiter	kevent() again and again, with one slot; two of them
 *
 * A statement, or an atomic block, is one step.  The steps are those of
 *
 *	unlock, slow	kq.h: queue_unlock(); kqueue.c: queue_unlock_slow()
 *	owing		kq.h: queue_unlock_owing()
 *	defer		defer.c: defer_change(); kevent.c: defer()
 *	apply		defer.c: defer_apply()
 *	waiter		collect.c: turn(), begin_ready(), rounds(), take_round();
 *			take.c: take_event(), take_ready()
 *
 * What must hold: every event is taken once, and nobody sleeps for ever while
 * there is one.
 *
 * Left out: what epoll reports of descriptors (close.pml), more than one slot,
 * time-outs, cancellation, and the closing of the queue.
 *
 * Each FAULT_ that is defined spoils one thing that the protocol needs; the
 * test wants spin to find an error then.
 */
#define EVENTS 3 /* the trigger's, the handler's and the busy one's */

bool locked;
byte holder;   /* by which process */
byte fifo;     /* events that stand in it */
bool armed;    /* q_armed */
bool edge;     /* the eventfd was written, and epoll has not told */
byte deferred; /* q_deferred */
byte taken;    /* events that were returned */

inline lock() {
	atomic { !locked -> locked = true; holder = _pid }
}

inline drop() {
	atomic { locked = false; holder = 0 }
}

/* EPOLLET: it is told again, to one thread, each time that it is written. */
inline write_eventfd() {
	edge = true
}

/* With the lock. */
inline slow() {
	do
	:: true ->
		do
		:: deferred > 0 -> atomic { deferred--; fifo++ }
		:: else -> break
		od;
		if
		:: fifo > 0 && !armed ->
#ifdef FAULT_ARM
			skip
#else
			armed = true;
			write_eventfd()
#endif
		:: else
		fi;
		drop();
#ifdef FAULT_DEFER
		break
#else
		if
		:: deferred > 0 ->
			atomic {
				if
				:: !locked -> locked = true; holder = _pid
				:: else -> break
				fi
			}
		:: else -> break
		fi
#endif
	od
}

inline unlock() {
	if
	:: deferred > 0 || (fifo > 0 && !armed) -> slow()
	:: else ->
		drop();
#ifndef FAULT_DEFER
		if
		:: deferred > 0 ->
			atomic {
				if
				:: !locked ->
					locked = true;
					holder = _pid;
					got = true
				:: else
				fi
			};
			if
			:: got -> got = false; slow()
			:: else
			fi
		:: else
		fi
#endif
	fi
}

proctype trigger() {
	bool got;

	lock();
	fifo++;
	unlock()
}

/* In the thread that triggers, at any moment. */
proctype handler(byte thread) {
	bool got;

	atomic {
		if
		:: holder == thread -> deferred++
		:: else -> got = true
		fi
	};
	if
	:: got ->
		got = false;
		lock();
		fifo++;
		unlock()
	:: else
	fi
}

proctype busy() {
	bool got;

	deferred++;
#ifndef FAULT_BUSY
	/* Whoever has the lock may have looked for the last time before. */
	atomic {
		if
		:: !locked -> locked = true; holder = _pid; got = true
		:: else
		fi
	};
	if
	:: got -> got = false; unlock()
	:: else
	fi
#endif
}

inline take() {
	if
	:: fifo > 0 && !has -> atomic { fifo--; taken++; has = true }
	:: else
	fi
}

proctype waiter() {
	bool got, has;

	do
	:: true ->
		/* The FIFO's part; with nothing in it, no lock is taken. */
		has = false;
		if
		:: fifo > 0 ->
			lock();
			take();
			unlock()
		:: else
		fi;
		if
		:: has -> skip
		:: !has && edge -> /* epoll_wait() */
			atomic {
				if
				:: edge -> edge = false; got = true
				:: else
				fi
			};
			if
			:: got ->
				got = false;
				lock();
#ifndef FAULT_EDGE
				armed = false;
#endif
				take();
#ifdef FAULT_OWING
				drop()
#else
				unlock()
#endif
			:: else
			fi
		:: !has && taken == EVENTS -> break
		fi
	od
}

init {
	pid thread;

	atomic {
		thread = run trigger();
		run handler(thread);
		run busy();
		run waiter();
		run waiter()
	};
	_nr_pr == 1 -> assert(taken == EVENTS && fifo == 0 && deferred == 0)
}
