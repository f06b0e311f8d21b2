/*
 * descriptor.c: READ and WRITE knotes of descriptors, and what the kernel
 * watches for them.
 *
 * A queue keeps 48 bytes for each descriptor number it has seen, in pages that
 * the number finds; both knotes are in there.  The kernel's side is at most
 * two registrations of the same file:
 *
 *	main epoll	READ, level or edge; WRITE, level, unless READ is edge
 *	writer epoll	WRITE, if it or READ is edge
 *
 * One edge-triggered registration of both would report WRITE with every
 * arrival.  The writer epoll hangs level-triggered in the main one.
 *
 * A knote is edge in the kernel if it has EV_CLEAR, or if it is gated: epoll's
 * readiness is not what the filter means by active (a socket that is not
 * connected, a threshold), so each edge is a reason to ask again.
 *
 * Changes are lazy.  What the kernel watches beyond what is wanted is left
 * until it shows (descriptor_narrow()), so most enabling, disabling, deleting
 * and adding again makes no system call.  A new knote always makes one: the
 * number may name another file by now.
 */
#include <sys/epoll.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kq.h"
#include "process.h"
#include "watch.h"

#define MAIN_BITS (FK_IN | FK_OUT | FK_EDGE | FK_ONCE)
#define WRITER_BITS (FK_WOUT | FK_WEDGE | FK_WONCE)

/* -- slots ----------------------------------------------------------------- */

struct fdnote *
descriptor_next(struct kqueue *q, int *fd)
{
	for (; (uint32_t)*fd / FDPAGE < q->q_npages; *fd |= FDPAGE - 1, ++*fd)
		if (q->q_pages[(uint32_t)*fd / FDPAGE] != NULL)
			return descriptor_find(q, *fd);
	return NULL;
}

struct fdnote *
descriptor_tagged(struct kqueue *q, int fd, uint32_t gen)
{
	struct fdnote *fn = descriptor_find(q, fd);

	return fn != NULL && fn->fn_gen == gen ? fn : NULL;
}

static int
slot_new(struct kqueue *q, int fd, struct fdnote **fnp)
{
	uint32_t page = (uint32_t)fd / FDPAGE, n;
	struct fdnote **pages;

	if (page >= q->q_npages) {
		for (n = 4; n <= page; n *= 2)
			continue;
		pages = realloc(q->q_pages, n * sizeof(*pages));
		if (pages == NULL)
			return ENOMEM;
		memset(pages + q->q_npages, 0,
		    (n - q->q_npages) * sizeof(*pages));
		q->q_pages = pages;
		q->q_npages = n;
	}
	if (q->q_pages[page] == NULL &&
	    (q->q_pages[page] = calloc(FDPAGE, sizeof(struct fdnote))) == NULL)
		return ENOMEM;
	*fnp = &q->q_pages[page][(uint32_t)fd % FDPAGE];
	return 0;
}

int
descriptor_mark(struct kqueue *q, int fd)
{
	struct fdnote *fn;
	int error;

	if (!watch_possible(fd))
		return EBADF;
	if ((error = slot_new(q, fd, &fn)) == 0)
		fn->fn_flags |= FN_OBJECTS;
	return error;
}

/* -- what the kernel should watch ------------------------------------------ */

/* A knote that waits for the kernel. */
static bool
wants_kernel(const struct knote *kn)
{
	return knote_enabled(kn) && (kn->kn_status & KN_NEVER) == 0;
}

static bool
is_edge(const struct knote *kn)
{
	return (kn->kn_flags & EV_CLEAR) != 0 ||
	    (kn->kn_status & KN_GATED) != 0;
}

/*
 * FK_* for what the enabled knotes want.  EPOLLONESHOT only once two threads
 * have waited at the same time: one thread alone does with disarming lazily.
 */
static uint16_t
interest(const struct kqueue *q, const struct fdnote *fn)
{
	const struct knote *r = &fn->fn_knote[FN_READ];
	const struct knote *w = &fn->fn_knote[FN_WRITE];
	bool read = wants_kernel(r), write = wants_kernel(w);
	bool shared = __atomic_load_n(&q->q_shared, __ATOMIC_RELAXED);
	bool once = shared && (read || write);
	uint16_t want = 0;

	if (read) {
		want |= FK_IN | (is_edge(r) ? FK_EDGE : 0);
		once = once && knote_is_once(r);
	}
	if (write &&
	    (is_edge(w) || ((r->kn_status & KN_ATTACHED) != 0 && is_edge(r)))) {
		want |= FK_WOUT | (is_edge(w) ? FK_WEDGE : 0) |
		    (shared && knote_is_once(w) ? FK_WONCE : 0);
	} else if (write) {
		want |= FK_OUT;
		once = once && knote_is_once(w);
	}
	/* A hang-up is reported unasked, and must not be for ever. */
	if ((want & (FK_IN | FK_OUT)) == 0)
		want |= FK_EDGE;
	else if (once)
		want |= FK_ONCE;
	if ((want & FK_WOUT) == 0)
		want |= FK_WEDGE;
	return want;
}

static uint32_t
main_events(uint16_t want)
{
	return (want & FK_IN ? EPOLLIN | EPOLLRDHUP : 0) |
	    (want & FK_OUT ? EPOLLOUT : 0) | (want & FK_EDGE ? EPOLLET : 0) |
	    (want & FK_ONCE ? EPOLLONESHOT : 0);
}

static uint32_t
writer_events(uint16_t want)
{
	return (want & FK_WOUT ? EPOLLOUT : 0) |
	    (want & FK_WEDGE ? EPOLLET : 0) |
	    (want & FK_WONCE ? EPOLLONESHOT : 0);
}

/* -- telling it ------------------------------------------------------------ */

/* The errno values of epoll_ctl() in the words of kevent(). */
static int
epoll_error(int error)
{
	switch (error) {
	case ELOOP:
		return EINVAL;
	case ENOSPC:
		return ENOMEM;
	default:
		return error;
	}
}

/* The epoll for WRITE, level-triggered in the main one. */
static int
writer_open(struct kqueue *q)
{
	int fd, error;

	if (q->q_writer != -1)
		return 0;
	if ((fd = fd_move_high(epoll_create1(EPOLL_CLOEXEC))) == -1)
		return errno;
	error = queue_watch(q, fd, EPOLLIN, tag_make(TAG_WRITER, 0, 0));
	if (error != 0) {
		fd_close(fd);
		return error;
	}
	q->q_writer = fd;
	return 0;
}

/*
 * Register or modify, whichever it takes.  ENOENT: the kernel knows nothing of
 * what we believed to be registered, the number names another file.
 */
static int
epoll_set(int epfd, int fd, struct fdnote *fn, uint32_t events, bool registered)
{
	struct epoll_event ev = { .events = events,
		.data.u64 = tag_make(TAG_FD, fn->fn_gen, (uint32_t)fd) };

	if (epoll_ctl(epfd, registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd,
		&ev) == 0)
		return 0;
	/* Left from before the number was closed behind our back. */
	if (errno == EEXIST && epoll_ctl(epfd, EPOLL_CTL_MOD, fd, &ev) == 0)
		return 0;
	return epoll_error(errno);
}

enum effort {
	LAZY, /* no call if the kernel watches enough */
	REARM /* a call, so that the kernel looks again */
};

/* The kernel watches all of want already, and reports it the right way. */
static bool
is_enough(uint16_t have, uint16_t want, uint16_t what, uint16_t how)
{
	if ((want & what) == 0)
		return true;
	return (want & what & ~have) == 0 && ((want ^ have) & how) == 0;
}

static int
sync_main(struct kqueue *q, int fd, struct fdnote *fn, uint16_t want,
    enum effort effort)
{
	uint16_t have = fn->fn_kernel;
	int error;

	if (effort == LAZY &&
	    is_enough(have, want, FK_IN | FK_OUT, FK_EDGE | FK_ONCE))
		return 0;
	error = epoll_set(q->q_epoll, fd, fn, main_events(want),
	    (have & FK_MAIN) != 0);
	if (error != 0)
		return error;
	fn->fn_kernel =
	    (have & (WRITER_BITS | FK_WRITER)) | (want & MAIN_BITS) | FK_MAIN;
	return 0;
}

static int
sync_writer(struct kqueue *q, int fd, struct fdnote *fn, uint16_t want,
    enum effort effort)
{
	uint16_t have = fn->fn_kernel;
	int error;

	if (effort == LAZY &&
	    is_enough(have, want, FK_WOUT, FK_WEDGE | FK_WONCE))
		return 0;
	if ((have & FK_WRITER) == 0 && (error = writer_open(q)) != 0)
		return error;
	error = epoll_set(q->q_writer, fd, fn, writer_events(want),
	    (have & FK_WRITER) != 0);
	if (error != 0)
		return error;
	fn->fn_kernel =
	    (have & (MAIN_BITS | FK_MAIN)) | (want & WRITER_BITS) | FK_WRITER;
	return 0;
}

/*
 * See to it that the kernel watches what the knotes want.  REARM is for the
 * knote `which`; the other's registration is only looked after.
 */
static int
sync_kernel(struct kqueue *q, int fd, struct fdnote *fn, int which,
    enum effort effort)
{
	uint16_t want = interest(q, fn), both = FK_OUT | FK_WOUT;
	bool moves = (fn->fn_kernel & both) != 0 && (want & both) != 0 &&
	    (fn->fn_kernel & want & both) == 0;
	bool main = which == FN_READ || (want & FK_WOUT) == 0;
	int error;

	/* WRITE goes over to the other epoll: leave no interest behind. */
	error = sync_main(q, fd, fn, want,
	    moves || (effort == REARM && main) ? REARM : LAZY);
	if (error == 0 && (want & FK_WOUT) != 0)
		error = sync_writer(q, fd, fn, want,
		    effort == REARM && !main ? REARM : LAZY);
	else if (error == 0 && moves)
		error = sync_writer(q, fd, fn, want, REARM);
	return error;
}

/*
 * Take the descriptor out of the kernel's hands altogether.  The kernel does so
 * itself when the last number of a file is closed, but whether this is the last
 * nobody tells: another process may have one, by fork() or SCM_RIGHTS.
 */
static void
unregister(struct kqueue *q, int fd, struct fdnote *fn)
{
	if (fn->fn_kernel & FK_MAIN)
		epoll_ctl(q->q_epoll, EPOLL_CTL_DEL, fd, NULL);
	if (fn->fn_kernel & FK_WRITER)
		epoll_ctl(q->q_writer, EPOLL_CTL_DEL, fd, NULL);
	fn->fn_kernel = 0;
	fn->fn_type = FD_UNKNOWN;
	fn->fn_flags &= FN_OBJECTS;
	fn->fn_gen = (fn->fn_gen + 1) & GEN_MASK;
	fn->fn_knote[FN_READ].kn_status &= (uint8_t)~KN_QUEUED;
	fn->fn_knote[FN_WRITE].kn_status &= (uint8_t)~KN_QUEUED;
}

/*
 * Without a knote it is left registered for nothing, for the next one is often
 * near: WRITE goes, READ comes.  Unless its end has come, or what is reported
 * unasked, which would come again.
 */
void
descriptor_narrow(struct kqueue *q, int fd, struct fdnote *fn, uint32_t mask)
{
	uint16_t want = interest(q, fn), off = fn->fn_kernel ^ want;
	bool main = (fn->fn_kernel & FK_MAIN) && (off & MAIN_BITS);
	bool writer = (fn->fn_kernel & FK_WRITER) && (off & WRITER_BITS);

	if (((fn->fn_knote[FN_READ].kn_status |
		 fn->fn_knote[FN_WRITE].kn_status) &
		KN_ATTACHED) == 0 &&
	    ((mask & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0 ||
		(!main && !writer))) {
		unregister(q, fd, fn);
		return;
	}
	/* An error: the number names another file. */
	if ((main && sync_main(q, fd, fn, want, REARM) != 0) ||
	    (writer && sync_writer(q, fd, fn, want, REARM) != 0))
		descriptor_purge(q, fd);
}

/* -- knotes ---------------------------------------------------------------- */

static void
release(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	struct knote *kn = &fn->fn_knote[which];

	if (which == FN_READ && fn->fn_extra != NULL)
		file_detach(q, fn);
	if (kn->kn_status & KN_PLACED)
		ready_release(q);
	/* Its place in the FIFO stays the slot's: see ready.c. */
	kn->kn_status &= KN_QUEUED;
	if (fn->fn_extra != NULL &&
	    ((fn->fn_knote[0].kn_status | fn->fn_knote[1].kn_status) &
		KN_ATTACHED) == 0) {
		free(fn->fn_extra);
		fn->fn_extra = NULL;
	}
}

void
descriptor_detach(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	release(q, fd, fn, which);
}

/* The objects' part, at no cost where there are none. */
static void
purge_objects(struct kqueue *q, int fd, struct fdnote *fn)
{
	if ((fn->fn_flags & FN_OBJECTS) == 0)
		return;
	fn->fn_flags &= (uint8_t)~FN_OBJECTS;
	object_purge(q, fd);
}

void
descriptor_purge(struct kqueue *q, int fd)
{
	struct fdnote *fn = descriptor_find(q, fd);
	int which;

	if (fn == NULL)
		return;
	for (which = 0; which < 2; which++)
		if (fn->fn_knote[which].kn_status & KN_ATTACHED)
			release(q, fd, fn, which);
	purge_objects(q, fd, fn);
	if (fn->fn_kernel != 0 || fn->fn_type != FD_UNKNOWN)
		unregister(q, fd, fn);
}

/*
 * epoll knows its registrations by file and number, so to add one that is
 * there already fails, and nothing is disturbed.
 */
static bool
is_registered(int epfd, int fd, const struct fdnote *fn)
{
	struct epoll_event ev = { .events = EPOLLET,
		.data.u64 = tag_make(TAG_FD, fn->fn_gen, (uint32_t)fd) };

	if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &ev) == -1)
		return errno == EEXIST;
	epoll_ctl(epfd, EPOLL_CTL_DEL, fd, NULL);
	return false;
}

void
descriptor_verify(struct kqueue *q, int fd)
{
	struct fdnote *fn = descriptor_find(q, fd);

	if (fn == NULL)
		return;
	if (((fn->fn_kernel & FK_MAIN) && !is_registered(q->q_epoll, fd, fn)) ||
	    ((fn->fn_kernel & FK_WRITER) &&
		!is_registered(q->q_writer, fd, fn)))
		descriptor_purge(q, fd);
	else if (fn->fn_flags & FN_OBJECTS)
		object_verify(q, fd);
}

bool
descriptor_suspect_slow(int fd)
{
	return process_strict || (watch_possible(fd) && watch_suspect(fd));
}

/* Tell the kernel of what it watched before: nothing is lost but by errors. */
static void
register_again(struct kqueue *q, int fd, struct fdnote *fn, uint16_t had)
{
	uint16_t want = interest(q, fn);

	if (((had & FK_MAIN) && sync_main(q, fd, fn, want, REARM) != 0) ||
	    ((had & FK_WRITER) && sync_writer(q, fd, fn, want, REARM) != 0))
		descriptor_purge(q, fd);
}

void
descriptor_register_all(struct kqueue *q)
{
	struct fdnote *fn;
	uint16_t had;
	int fd;

	for (fd = 0; (fn = descriptor_next(q, &fd)) != NULL; fd++) {
		had = fn->fn_kernel;
		fn->fn_kernel = 0;
		register_again(q, fd, fn, had);
	}
}

void
descriptor_rearm_all(struct kqueue *q)
{
	struct fdnote *fn;
	int fd;

	for (fd = 0; (fn = descriptor_next(q, &fd)) != NULL; fd++)
		register_again(q, fd, fn, fn->fn_kernel);
}

void
descriptor_free_all(struct kqueue *q)
{
	uint32_t page, i;

	for (page = 0; page < q->q_npages; page++) {
		for (i = 0; q->q_pages[page] != NULL && i < FDPAGE; i++)
			free(q->q_pages[page][i].fn_extra);
		free(q->q_pages[page]);
	}
	free(q->q_pages);
	q->q_pages = NULL;
	q->q_npages = 0;
}

/* A knote that the FIFO alone can report: reserve its place there. */
static int
place_reserve(struct kqueue *q, struct knote *kn)
{
	int error;

	if (kn->kn_status & KN_PLACED)
		return 0;
	if ((error = ready_reserve(q)) == 0)
		kn->kn_status |= KN_PLACED;
	return error;
}

static int
extra_new(struct fdnote *fn)
{
	if (fn->fn_extra != NULL)
		return 0;
	fn->fn_extra = calloc(1, sizeof(*fn->fn_extra));
	return fn->fn_extra == NULL ? ENOMEM : 0;
}

int
descriptor_set(struct kqueue *q, struct fdnote *fn, int which,
    const struct kevent *kev)
{
	struct knote *kn = &fn->fn_knote[which];
	int error;

	if (kev->fflags & NOTE_LOWAT) {
		if ((error = extra_new(fn)) != 0 ||
		    (error = place_reserve(q, kn)) != 0 ||
		    (which == FN_WRITE && (error = recheck_open(q)) != 0))
			return error;
		fn->fn_extra->fx_lowat[which] = kev->data;
	}
	kn->kn_fflags = kev->fflags;
	return 0;
}

/*
 * What is asked for needs to know what the descriptor is.  A new READ knote
 * mostly does not: the kernel's events tell, and most connections live and die
 * without the question.
 */
static void
classify(int fd, struct fdnote *fn, int which)
{
	struct knote *kn = &fn->fn_knote[which];

	if (which == FN_WRITE || (kn->kn_fflags & NOTE_LOWAT) != 0 ||
	    (kn->kn_status & KN_GATED) != 0)
		source_attach(fd, fn, which);
}

static int
classify_new(int fd, struct fdnote *fn, int which)
{
	classify(fd, fn, which);
	return source_refuses(fd, fn, which);
}

/* Is it reported by the FIFO, not by epoll? */
static bool
is_unpollable(const struct fdnote *fn)
{
	return fn->fn_type == FD_FILE || fn->fn_type == FD_DEVICE;
}

/* epoll refuses it: a regular file, a directory, a device like /dev/null. */
static int
attach_unpollable(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	int error;

	if (!is_unpollable(fn))
		fn->fn_type = (uint8_t)source_type_refused(fd);
	if ((error = place_reserve(q, &fn->fn_knote[which])) != 0)
		return error;
	if (fn->fn_type == FD_FILE && which == FN_READ) {
		if ((error = extra_new(fn)) != 0)
			return error;
		return file_attach(q, fd, fn);
	}
	return 0;
}

/* Is it the FIFO's to look at it first?  epoll may have nothing to say. */
static bool
asks_itself(const struct fdnote *fn, const struct knote *kn)
{
	return is_unpollable(fn) || (kn->kn_status & KN_FORCED) != 0 ||
	    ((kn->kn_status & KN_GATED) != 0 && (kn->kn_fflags & NOTE_LOWAT));
}

/* What most new knotes are: alone with their number, READ and level. */
static bool
is_common(const struct fdnote *fn, int which)
{
	const struct knote *kn = &fn->fn_knote[FN_READ];

	return which == FN_READ && fn->fn_kernel == 0 &&
	    (fn->fn_knote[FN_WRITE].kn_status & KN_ATTACHED) == 0 &&
	    kn->kn_status == KN_ATTACHED &&
	    (kn->kn_flags & (EV_CLEAR | EV_ONESHOT | EV_DISPATCH)) == 0;
}

/*
 * The one system call of a new knote.  A WRITE knote that wants nothing yet
 * only asks whether the number names what is registered for READ: to register
 * that anew would make an edge of it.
 */
static inline int
register_new(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLRDHUP,
		.data.u64 = tag_make(TAG_FD, fn->fn_gen, (uint32_t)fd) };

	if (is_common(fn, which)) {
		if (epoll_ctl(q->q_epoll, EPOLL_CTL_ADD, fd, &ev) == 0) {
			fn->fn_kernel = FK_IN | FK_MAIN;
			return 0;
		}
		if (errno != EEXIST)
			return epoll_error(errno);
	}
	if (which == FN_WRITE && !wants_kernel(&fn->fn_knote[which]) &&
	    (fn->fn_kernel & FK_MAIN) != 0)
		return is_registered(q->q_epoll, fd, fn) ? 0 : ENOENT;
	return sync_kernel(q, fd, fn, which, REARM);
}

/*
 * Register a new knote with the kernel; the closes that overlap are noticed.
 * ENOENT: what is registered is not what the number names.
 */
static inline __attribute__((always_inline)) int
attach_kernel(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	struct watch_add seen = watch_add_begin(q, fd);
	int error;

	if ((error = register_new(q, fd, fn, which)) == EPERM)
		error = fn->fn_kernel != 0 ?
		    ENOENT :
		    attach_unpollable(q, fd, fn, which);
	if (error != 0)
		return error;
	if (watch_add_raced(fd, seen))
		descriptor_verify(q, fd);
	return 0;
}

/*
 * The kernel knows nothing of a registration that we believed in, so the
 * number was closed in a way that we did not see.  Forget all, begin again.
 */
static SELDOM int
attach_again(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	int error;

	if (fn->fn_knote[!which].kn_status & KN_ATTACHED)
		release(q, fd, fn, !which);
	purge_objects(q, fd, fn);
	unregister(q, fd, fn);
	if ((error = classify_new(fd, fn, which)) != 0)
		return error;
	return attach_kernel(q, fd, fn, which);
}

/* The new knote's ext[]; what a former one left is overwritten. */
static int
keep_ext(struct fdnote *fn, int which, const struct kevent *kev)
{
	int error;

	if (fn->fn_extra == NULL) {
		if ((kev->ext[0] | kev->ext[1] | kev->ext[2] | kev->ext[3]) ==
		    0)
			return 0;
		if ((error = extra_new(fn)) != 0)
			return error;
	}
	memcpy(fn->fn_extra->fx_ext[which], kev->ext, sizeof(kev->ext));
	return 0;
}

int
descriptor_attach(struct kqueue *q, int fd, int which, const struct kevent *kev)
{
	struct fdnote *fn;
	struct knote *kn;
	int error;

	if (!watch_possible(fd))
		return EBADF;
	if ((error = slot_new(q, fd, &fn)) != 0)
		return error;
	kn = &fn->fn_knote[which];
	kn->kn_udata = kev->udata;
	kn->kn_flags = kev->flags & KN_MODES;
	kn->kn_turn = 0;
	kn->kn_status = (kn->kn_status & KN_QUEUED) | KN_ATTACHED |
	    (kev->flags & EV_DISABLE ? KN_DISABLED : 0);
	if (fn->fn_kernel == 0 &&
	    !(fn->fn_knote[!which].kn_status & KN_ATTACHED)) {
		fn->fn_type = FD_UNKNOWN;
		fn->fn_flags &= FN_OBJECTS;
	}
	if ((error = descriptor_set(q, fn, which, kev)) == 0 &&
	    (error = keep_ext(fn, which, kev)) == 0 &&
	    (error = classify_new(fd, fn, which)) == 0) {
		error = attach_kernel(q, fd, fn, which);
		if (error == ENOENT)
			error = attach_again(q, fd, fn, which);
	}
	if (error != 0) {
		release(q, fd, fn, which);
		/* It may have left one epoll and not come to the other. */
		descriptor_relook(q, fd, fn, !which);
		return error;
	}
	if (knote_enabled(kn) && asks_itself(fn, kn))
		descriptor_push(q, fd, fn, which);
	return 0;
}

int
descriptor_touch(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	struct knote *kn = &fn->fn_knote[which];

	classify(fd, fn, which);
	if (!knote_enabled(kn))
		return 0;
	if (descriptor_is_level(q, fn, which))
		return 0;
	if (asks_itself(fn, kn))
		descriptor_push(q, fd, fn, which);
	/* What never fires must not have the kernel look at the other one. */
	if (is_unpollable(fn) || !wants_kernel(kn))
		return 0;
	if (!is_edge(kn))
		return sync_kernel(q, fd, fn, which, LAZY);
	/* Asked anew, the kernel makes the edge that the FIFO may hold. */
	if (!asks_itself(fn, kn))
		kn->kn_status &= (uint8_t)~KN_ACTIVE;
	return sync_kernel(q, fd, fn, which, REARM);
}

int
descriptor_force(struct kqueue *q, struct fdnote *fn, int which)
{
	struct knote *kn = &fn->fn_knote[which];
	int error;

	if ((error = place_reserve(q, kn)) != 0)
		return error;
	kn->kn_flags |= EV_ONESHOT;
	kn->kn_status |= KN_FORCED;
	return 0;
}

void
descriptor_push(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	struct knote *kn = &fn->fn_knote[which];
	enum place place =
	    kn->kn_status & KN_PLACED ? PLACE_RESERVED : PLACE_SPARE;

	if (ready_push(q, kn, fn_filter(which), (uint32_t)fd, fn->fn_gen,
		place) != 0)
		sync_kernel(q, fd, fn, which, REARM);
}

void
descriptor_relook(struct kqueue *q, int fd, struct fdnote *fn, int which)
{
	if (wants_kernel(&fn->fn_knote[which]))
		sync_kernel(q, fd, fn, which, LAZY);
}

void
descriptor_event(struct kqueue *q, int fd, enum watch_event event)
{
	struct fdnote *fn = descriptor_find(q, fd);
	/* Of the end of input epoll tells. */
	int which = event == WATCH_SHUT_WR ? FN_WRITE : FN_READ;

	if (fn == NULL)
		return;
	/* Of one that is not registered it is asked when a knote is added. */
	if (event == WATCH_SHUT_WR && fn->fn_kernel != 0)
		fn->fn_flags |= FN_SHUT_WR;
	for (; which <= FN_WRITE; which++)
		if (wants_kernel(&fn->fn_knote[which]))
			descriptor_push(q, fd, fn, which);
}
