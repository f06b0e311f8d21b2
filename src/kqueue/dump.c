/*
 * dump.c: KQ_DUMP, what the queues hold, for who looks for a lost event.
 *
 * With KQ_DUMP=stderr, or a file's name, each queue is written out with its
 * knotes when it closes and when the process exits; a debugger may call
 * kqueue_dump() at any time.  A line is a knote:
 *
 *	READ ident=5 flags=EV_CLEAR fflags=0 udata=0x0 state=waiting epoll=in
 *
 * Nothing here allocates, and nothing changes what is shown.  Without KQ_DUMP
 * a queue that closes costs a load, and nothing else costs anything.
 */
#include <sys/syscall.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dump.h"
#include "kq.h"
#include "process.h"

const char *dump_path; /* KQ_DUMP, or NULL */

/* -- text ------------------------------------------------------------------ */

struct text {
	int t_fd;
	size_t t_length;
	char t_bytes[1024];
};

static void
text_flush(struct text *t)
{
	const char *at = t->t_bytes;
	long n;

	while (t->t_length != 0) {
		n = syscall(SYS_write, t->t_fd, at, t->t_length);
		if (n == -1 && errno != EINTR)
			break;
		if (n > 0) {
			at += n;
			t->t_length -= (size_t)n;
		}
	}
	t->t_length = 0;
}

static void
text_put(struct text *t, const char *s)
{
	for (; *s != '\0'; s++) {
		if (t->t_length == sizeof(t->t_bytes))
			text_flush(t);
		t->t_bytes[t->t_length++] = *s;
	}
}

static void
text_number(struct text *t, uint64_t n, unsigned int base)
{
	char digits[24], *at = digits + sizeof(digits) - 1;

	*at = '\0';
	do
		*--at = "0123456789abcdef"[n % base];
	while ((n /= base) != 0);
	if (base == 16)
		text_put(t, "0x");
	text_put(t, at);
}

static void
text_signed(struct text *t, int64_t n)
{
	if (n < 0)
		text_put(t, "-");
	text_number(t, n < 0 ? -(uint64_t)n : (uint64_t)n, 10);
}

/* -- names ----------------------------------------------------------------- */

struct bit_name {
	uint32_t bit;
	const char *name;
};

static const struct bit_name ev_names[] = { { EV_ONESHOT, "EV_ONESHOT" },
	{ EV_CLEAR, "EV_CLEAR" }, { EV_RECEIPT, "EV_RECEIPT" },
	{ EV_DISPATCH, "EV_DISPATCH" }, { 0, NULL } };

static const struct bit_name state_names[] = { { KN_DISABLED, "disabled" },
	{ KN_ACTIVE, "active" }, { KN_QUEUED, "queued" },
	{ KN_FORCED, "forced" }, { KN_NEVER, "never" }, { 0, NULL } };

static const struct bit_name main_names[] = { { FK_IN, "in" },
	{ FK_OUT, "out" }, { FK_EDGE, "edge" }, { FK_ONCE, "once" },
	{ 0, NULL } };

static const struct bit_name writer_names[] = { { FK_WOUT, "out" },
	{ FK_WEDGE, "edge" }, { FK_WONCE, "once" }, { 0, NULL } };

static const struct bit_name io_notes[] = { { NOTE_LOWAT, "NOTE_LOWAT" },
	{ NOTE_FILE_POLL, "NOTE_FILE_POLL" }, { NOTE_EOF, "NOTE_EOF" },
	{ NOTE_NODATA, "NOTE_NODATA" }, { 0, NULL } };

static const struct bit_name vnode_notes[] = { { NOTE_DELETE, "NOTE_DELETE" },
	{ NOTE_WRITE, "NOTE_WRITE" }, { NOTE_EXTEND, "NOTE_EXTEND" },
	{ NOTE_ATTRIB, "NOTE_ATTRIB" }, { NOTE_LINK, "NOTE_LINK" },
	{ NOTE_RENAME, "NOTE_RENAME" }, { NOTE_REVOKE, "NOTE_REVOKE" },
	{ NOTE_OPEN, "NOTE_OPEN" }, { NOTE_CLOSE, "NOTE_CLOSE" },
	{ NOTE_CLOSE_WRITE, "NOTE_CLOSE_WRITE" }, { NOTE_READ, "NOTE_READ" },
	{ 0, NULL } };

static const struct bit_name proc_notes[] = { { NOTE_EXIT, "NOTE_EXIT" },
	{ NOTE_FORK, "NOTE_FORK" }, { NOTE_EXEC, "NOTE_EXEC" },
	{ NOTE_EXITSTATUS, "NOTE_EXITSTATUS" }, { NOTE_TRACK, "NOTE_TRACK" },
	{ NOTE_TRACKERR, "NOTE_TRACKERR" }, { NOTE_CHILD, "NOTE_CHILD" },
	{ 0, NULL } };

static const struct bit_name timer_notes[] = { { NOTE_SECONDS, "NOTE_SECONDS" },
	{ NOTE_MSECONDS, "NOTE_MSECONDS" }, { NOTE_USECONDS, "NOTE_USECONDS" },
	{ NOTE_NSECONDS, "NOTE_NSECONDS" }, { NOTE_ABSTIME, "NOTE_ABSTIME" },
	{ NOTE_ABSOLUTE, "NOTE_ABSOLUTE" }, { 0, NULL } };

static const struct bit_name except_notes[] = { { NOTE_OOB, "NOTE_OOB" },
	{ 0, NULL } };

static const struct bit_name fs_notes[] = { { VQ_MOUNT, "VQ_MOUNT" },
	{ VQ_UNMOUNT, "VQ_UNMOUNT" }, { 0, NULL } };

static const struct bit_name no_notes[] = { { 0, NULL } };

static const struct filter_name {
	int filter;
	const char *name;
	const struct bit_name *notes;
} filter_names[] = {
	{ EVFILT_READ, "READ", io_notes },
	{ EVFILT_WRITE, "WRITE", io_notes },
	{ EVFILT_VNODE, "VNODE", vnode_notes },
	{ EVFILT_PROC, "PROC", proc_notes },
	{ EVFILT_PROCDESC, "PROCDESC", proc_notes },
	{ EVFILT_SIGNAL, "SIGNAL", no_notes },
	{ EVFILT_TIMER, "TIMER", timer_notes },
	{ EVFILT_FS, "FS", fs_notes },
	{ EVFILT_USER, "USER", no_notes },
	{ EVFILT_EMPTY, "EMPTY", no_notes },
	{ EVFILT_EXCEPT, "EXCEPT", except_notes },
	{ 0, "unknown", no_notes },
};

/* The row of a filter. */
static const struct filter_name *
name_of(int filter)
{
	const struct filter_name *f = filter_names;

	while (f->filter != filter && f->filter != 0)
		f++;
	return f;
}

/* Names of a set of bits, what has no name as a number, none for none. */
static void
text_bits(struct text *t, const char *key, uint32_t bits,
    const struct bit_name *names, const char *none)
{
	const char *between = "";

	text_put(t, key);
	if (bits == 0)
		text_put(t, none);
	for (; names->name != NULL; names++)
		if (bits & names->bit) {
			text_put(t, between);
			text_put(t, names->name);
			between = "|";
			bits &= ~names->bit;
		}
	if (bits != 0) {
		text_put(t, between);
		text_number(t, bits, 16);
	}
}

/* -- a knote --------------------------------------------------------------- */

static void
dump_knote(struct text *t, const struct knote *kn, int filter, uint64_t ident)
{
	const uint32_t shown =
	    KN_DISABLED | KN_ACTIVE | KN_QUEUED | KN_FORCED | KN_NEVER;
	const struct filter_name *f = name_of(filter);

	text_put(t, "  ");
	text_put(t, f->name);
	text_put(t, " ident=");
	text_number(t, ident, 10);
	text_bits(t, " flags=", kn->kn_flags & KN_MODES, ev_names, "0");
	text_bits(t, " fflags=", kn->kn_fflags, f->notes, "0");
	text_put(t, " udata=");
	text_number(t, (uintptr_t)kn->kn_udata, 16);
	text_bits(t, " state=", kn->kn_status & shown, state_names, "waiting");
}

static void
dump_descriptor(struct text *t, int fd, const struct fdnote *fn, int which)
{
	const struct knote *kn = &fn->fn_knote[which];

	dump_knote(t, kn, fn_filter(which), (uint64_t)fd);
	if ((kn->kn_fflags & NOTE_LOWAT) && fn->fn_extra != NULL) {
		text_put(t, " data=");
		text_signed(t, fn->fn_extra->fx_lowat[which]);
	}
	if (which == FN_WRITE && (fn->fn_kernel & FK_WRITER))
		text_bits(t,
		    " epoll=", fn->fn_kernel & (FK_WOUT | FK_WEDGE | FK_WONCE),
		    writer_names, "nothing");
	else if (fn->fn_kernel & FK_MAIN)
		text_bits(t, " epoll=",
		    fn->fn_kernel & (FK_IN | FK_OUT | FK_EDGE | FK_ONCE),
		    main_names, "nothing");
	text_put(t, "\n");
}

static void
dump_object(struct text *t, const struct object *o)
{
	dump_knote(t, &o->o_knote, o->o_filter, o->o_ident);
	if (o->o_filter == EVFILT_USER || o->o_filter == EVFILT_TIMER) {
		text_put(t, " data=");
		text_signed(t, o->o_data);
		text_put(t, o->o_filter == EVFILT_TIMER ? "ns" : "");
	}
	text_put(t, "\n");
}

/* -- a queue --------------------------------------------------------------- */

/* A descriptor that names it. */
static int
descriptor_of(const struct kqueue *q)
{
	uint32_t fd;

	for (fd = 0; fd < kqueue_nnames; fd++)
		if (__atomic_load_n(&kqueue_names[fd], __ATOMIC_ACQUIRE) == q)
			return (int)fd;
	return -1;
}

/* With the lock of the queue held. */
static void
dump_all(struct text *t, struct kqueue *q)
{
	const struct object *o;
	struct fdnote *fn;
	uint32_t i;
	int fd, which;

	for (fd = 0; (fn = descriptor_next(q, &fd)) != NULL; fd++)
		for (which = FN_READ; which <= FN_WRITE; which++)
			if (fn->fn_knote[which].kn_status & KN_ATTACHED)
				dump_descriptor(t, fd, fn, which);
	for (i = 0; i < q->q_nobjects; i++) {
		o = object_at(q, i);
		/* Those of our own have filters from 0 up. */
		if ((o->o_knote.kn_status & KN_ATTACHED) && o->o_filter < 0)
			dump_object(t, o);
	}
}

static void
begin(struct text *t, int fd, const struct kqueue *q, const char *when)
{
	t->t_fd = fd;
	t->t_length = 0;
	text_put(t, "kqueue ");
	text_signed(t, descriptor_of(q));
	text_put(t, ", process ");
	text_number(t, (uint64_t)syscall(SYS_getpid), 10);
	text_put(t, when);
	text_put(t, "\n");
}

static int
open_dump(void)
{
	if (strcmp(dump_path, "stderr") == 0)
		return (
		    int)syscall(SYS_fcntl, STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	return (int)syscall(SYS_openat, AT_FDCWD, dump_path,
	    O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644);
}

static void
close_dump(int fd)
{
	if (fd != STDERR_FILENO)
		fd_close(fd);
}

void
dump_closing(struct kqueue *q)
{
	int fd = open_dump(), saved = errno;
	struct text t;

	if (fd != -1) {
		begin(&t, fd, q, ", closes");
		dump_all(&t, q);
		text_flush(&t);
		close_dump(fd);
	}
	errno = saved;
}

void
kqueue_dump(int fd)
{
	int saved = errno, error;
	struct kqueue *q;
	struct text t;
	uint32_t slot;

	for (slot = 0; slot < kqueue_slots(); slot++) {
		if ((q = kqueue_at(slot)) == NULL)
			continue;
		error = queue_lock(q, q->q_life);
		begin(&t, fd, q, error != 0 ? ", in use by this thread" : "");
		if (error == 0) {
			dump_all(&t, q);
			queue_unlock(q);
		}
		text_flush(&t);
	}
	errno = saved;
}

static void
dump_at_exit(void)
{
	int fd;

	if (!process_is_self() || (fd = open_dump()) == -1)
		return;
	kqueue_dump(fd);
	close_dump(fd);
}

void
dump_init(void)
{
	const char *asked = secure_getenv("KQ_DUMP");

	if (asked == NULL || asked[0] == '\0' || dump_path != NULL)
		return;
	dump_path = asked;
	atexit(dump_at_exit);
}
