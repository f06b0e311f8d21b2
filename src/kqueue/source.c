/*
 * source.c: what a descriptor is, and what it has to say to READ and WRITE.
 *
 * Two questions are answered here, apart: is there something to report
 * (source_verdict(), queue locked, mostly a look at epoll's mask) and how much
 * (source_fill(), not locked, a system call or two).  Neither consumes
 * anything: no byte, and not the socket's error, for which Linux has no way to
 * look without taking.
 */
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <linux/sock_diag.h>
#include <linux/sockios.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "ktime.h"
#include "turn.h"
#include "wire.h"

/* -- system calls ---------------------------------------------------------- */

/*
 * poll(), send() and open() are cancellation points, and kevent() is none here:
 * the queue's lock may be held, and events taken already.
 */
uint32_t
source_poll(int fd, uint32_t events)
{
	struct pollfd pfd = { .fd = fd, .events = (short)events };
	struct ktime now = { .kt_sec = 0 };

	return syscall(SYS_KT_PPOLL, &pfd, 1, &now, NULL, _NSIG / 8) == 1 ?
	    (unsigned short)pfd.revents :
	    0;
}

/* -- what it is ------------------------------------------------------------ */

/* FD_UNKNOWN: it is no socket. */
static enum fdtype
socket_type(int fd)
{
	socklen_t len = sizeof(int);
	int type;

	if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
		return FD_UNKNOWN;
	return type == SOCK_STREAM || type == SOCK_SEQPACKET ? FD_STREAM :
							       FD_DGRAM;
}

static enum fdtype
pipe_type(int fd)
{
	int flags;

	if ((flags = fcntl(fd, F_GETFL)) == -1)
		return FD_OTHER;
	switch (flags & O_ACCMODE) {
	case O_RDONLY:
		return FD_PIPE_READ;
	case O_WRONLY:
		return FD_PIPE_WRITE;
	default:
		return FD_PIPE_BOTH;
	}
}

/* Files without a place in a file system: their link has a name. */
static enum fdtype
anonymous_type(int fd)
{
	char path[32], name[32] = "";

	if (kqueue_is_name(fd))
		return FD_KQUEUE;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	if (readlink(path, name, sizeof(name) - 1) == -1)
		return FD_OTHER;
	return strcmp(name, "anon_inode:[eventfd]") == 0 ? FD_EVENTFD :
							   FD_OTHER;
}

enum fdtype
source_type(int fd)
{
	enum fdtype type = socket_type(fd);
	struct termios tio;
	struct stat st;

	if (type != FD_UNKNOWN)
		return type;
	if (fstat(fd, &st) == -1)
		return FD_OTHER;
	switch (st.st_mode & S_IFMT) {
	case S_IFIFO:
		return pipe_type(fd);
	case S_IFCHR:
		return tcgetattr(fd, &tio) == 0 ? FD_TTY : FD_OTHER;
	case 0:
		return anonymous_type(fd);
	default:
		return FD_OTHER;
	}
}

enum fdtype
source_type_refused(int fd)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
		return FD_FILE;
	return FD_DEVICE;
}

/* -- socket state ---------------------------------------------------------- */

/* The state of a TCP socket, 0 for another that is no TCP's. */
static int
tcp_state(int fd)
{
	struct tcp_info ti;
	socklen_t len = offsetof(struct tcp_info, tcpi_ca_state);

	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == -1)
		return 0;
	return ti.tcpi_state;
}

static bool
is_shut_wr_state(int tcp)
{
	switch (tcp) {
	case TCP_FIN_WAIT1:
	case TCP_FIN_WAIT2:
	case TCP_CLOSING:
	case TCP_LAST_ACK:
	case TCP_TIME_WAIT:
		return true;
	}
	return false;
}

/*
 * shutdown(SHUT_WR) leaves no trace in poll().  TCP tells by its state; a UNIX
 * stream refuses to send nothing, a UNIX seqpacket must be asked for.
 */
static bool
is_shut_wr(int fd)
{
	socklen_t len = sizeof(int);
	int domain, type, tcp;

	if ((tcp = tcp_state(fd)) != 0)
		return is_shut_wr_state(tcp);
	if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == -1 ||
	    domain != AF_UNIX ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) == -1)
		return false;
	if (type == SOCK_SEQPACKET)
		return diag_is_shut_wr(fd);
	return syscall(SYS_sendto, fd, "", 0, MSG_DONTWAIT | MSG_NOSIGNAL, NULL,
		   0) == -1 &&
	    errno == EPIPE;
}

static bool
is_listening(int fd)
{
	socklen_t len = sizeof(int);
	int listening;

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) ==
	    0 &&
	    listening;
}

/* Bytes that can be sent before the socket's buffer is full. */
static int64_t
send_space(int fd)
{
	uint32_t mem[SK_MEMINFO_VARS];
	socklen_t len = sizeof(mem);
	uint32_t used;

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) == -1 ||
	    len <= SK_MEMINFO_WMEM_QUEUED * sizeof(*mem))
		return 1;
	used = mem[SK_MEMINFO_WMEM_QUEUED] > mem[SK_MEMINFO_WMEM_ALLOC] ?
	    mem[SK_MEMINFO_WMEM_QUEUED] :
	    mem[SK_MEMINFO_WMEM_ALLOC];
	return used < mem[SK_MEMINFO_SNDBUF] ?
	    (int64_t)mem[SK_MEMINFO_SNDBUF] - used :
	    0;
}

static int64_t
readable(int fd)
{
	int n;

	return ioctl(fd, FIONREAD, &n) == -1 ? -1 : n;
}

/*
 * What a datagram takes of its receiver's memory: beyond its own bytes, and in
 * all, at least.  A kernel of 32 bits takes less.
 */
#define DATAGRAM_EXTRA (sizeof(void *) == 8 ? 576 : 448)
#define DATAGRAM_LEAST (sizeof(void *) == 8 ? 744 : 640)

/*
 * Bytes of all datagrams that wait, the first of which has that many.  Exact if
 * there cannot be a second, else the memory they take.  UNIX datagrams are
 * their sender's to account for: of them only the first is known.
 */
static int64_t
datagram_bytes(int fd, int64_t first)
{
	uint32_t mem[SK_MEMINFO_VARS];
	socklen_t len = sizeof(mem);
	int64_t used, one = first + DATAGRAM_EXTRA;

	if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, mem, &len) == -1)
		return first;
	used = mem[SK_MEMINFO_RMEM_ALLOC];
	if (one < DATAGRAM_LEAST)
		one = DATAGRAM_LEAST;
	return used < one + DATAGRAM_LEAST ? first : used;
}

/* -- may it be watched ----------------------------------------------------- */

static void
attach_read(struct fdnote *fn)
{
	struct knote *kn = &fn->fn_knote[FN_READ];

	switch (fn->fn_type) {
	case FD_PIPE_WRITE:
		kn->kn_status |= KN_NEVER;
		break;
	case FD_STREAM:
	case FD_DGRAM:
		if (kn->kn_fflags & NOTE_LOWAT)
			kn->kn_status |= KN_GATED;
		break;
	}
}

/* Once: what happens to it later is told by watch.c. */
static void
ask_shut_wr(int fd, struct fdnote *fn)
{
	if ((fn->fn_flags & FN_SHUT_ASKED) != 0)
		return;
	fn->fn_flags |= FN_SHUT_ASKED | (is_shut_wr(fd) ? FN_SHUT_WR : 0);
}

static void
attach_write(int fd, struct fdnote *fn)
{
	struct knote *kn = &fn->fn_knote[FN_WRITE];

	switch (fn->fn_type) {
	case FD_PIPE_READ:
		kn->kn_status |= KN_NEVER;
		break;
	case FD_STREAM:
		ask_shut_wr(fd, fn);
		/* FALLTHROUGH */
	case FD_DGRAM:
		if (kn->kn_fflags & NOTE_LOWAT)
			kn->kn_status |= KN_GATED;
		break;
	}
}

/* What one call tells of a TCP socket, most of those that are written to. */
static void
try_tcp(int fd, struct fdnote *fn)
{
	int tcp;

	if (watch_take_stream(fd)) {
		fn->fn_type = FD_STREAM;
		fn->fn_flags |= FN_SHUT_ASKED;
		return;
	}
	tcp = tcp_state(fd);
	if (tcp == 0)
		return;
	fn->fn_type = FD_STREAM;
	fn->fn_flags |=
	    FN_SHUT_ASKED | (is_shut_wr_state(tcp) ? FN_SHUT_WR : 0);
}

void
source_attach(int fd, struct fdnote *fn, int which)
{
	if (fn->fn_type == FD_UNKNOWN && which == FN_WRITE)
		try_tcp(fd, fn);
	if (fn->fn_type == FD_UNKNOWN)
		fn->fn_type = (uint8_t)source_type(fd);
	fn->fn_knote[which].kn_status &= (uint8_t) ~(KN_NEVER | KN_GATED);
	if (which == FN_READ)
		attach_read(fn);
	else
		attach_write(fd, fn);
}

int
source_refuses(int fd, const struct fdnote *fn, int which)
{
	if (which == FN_READ)
		return 0;
	if (fn->fn_type == FD_KQUEUE)
		return EINVAL;
	return fn->fn_type == FD_PIPE_WRITE &&
		(source_poll(fd, 0) & POLLERR) != 0 ?
	    EPIPE :
	    0;
}

/* -- is there something to report ------------------------------------------ */

/*
 * A stream socket that is neither connected nor connecting polls as hung up,
 * on Linux, but not as shut down for reading; one whose connection has ended
 * polls as both.  The first must be silent: it stays registered for edges, and
 * connect() or listen() tell.
 */
static bool
is_unconnected(int fd, uint32_t mask)
{
	if ((mask & EPOLLHUP) == 0 || (mask & EPOLLRDHUP) != 0)
		return false;
	return (source_poll(fd, POLLRDHUP) & (POLLHUP | POLLRDHUP)) == POLLHUP;
}

static enum verdict
stream_read(int fd, struct fdnote *fn, uint32_t mask)
{
	struct knote *kn = &fn->fn_knote[FN_READ];

	if (mask & EPOLLRDHUP)
		return REPORT_EOF;
	if ((kn->kn_fflags & NOTE_LOWAT) && !is_listening(fd))
		return readable(fd) >= fn->fn_extra->fx_lowat[FN_READ] ?
		    REPORT :
		    SILENT;
	return mask & (EPOLLIN | EPOLLERR) ? REPORT : SILENT;
}

static enum verdict
stream_write(int fd, struct fdnote *fn, uint32_t mask)
{
	struct knote *kn = &fn->fn_knote[FN_WRITE];

	if (mask & EPOLLHUP)
		return REPORT_EOF;
	if (kn->kn_fflags & NOTE_LOWAT)
		return (mask & EPOLLOUT) != 0 &&
			send_space(fd) >= fn->fn_extra->fx_lowat[FN_WRITE] ?
		    REPORT :
		    SILENT;
	return mask & (EPOLLOUT | EPOLLERR) ? REPORT : SILENT;
}

static enum verdict
stream_verdict(int fd, struct fdnote *fn, int which, uint32_t mask)
{
	struct knote *kn = &fn->fn_knote[which];

	if (is_unconnected(fd, mask)) {
		kn->kn_status |= KN_GATED;
		return SILENT;
	}
	if ((kn->kn_fflags & NOTE_LOWAT) == 0)
		kn->kn_status &= (uint8_t)~KN_GATED;
	return which == FN_READ ? stream_read(fd, fn, mask) :
				  stream_write(fd, fn, mask);
}

static enum verdict
dgram_verdict(int fd, struct fdnote *fn, int which, uint32_t mask)
{
	const struct knote *kn = &fn->fn_knote[which];
	int64_t n;

	if (mask & EPOLLERR)
		return REPORT;
	if ((mask & (which == FN_READ ? EPOLLIN : EPOLLOUT)) == 0 &&
	    !((kn->kn_fflags & NOTE_LOWAT) &&
		fn->fn_extra->fx_lowat[which] <= 0))
		return SILENT;
	if ((kn->kn_fflags & NOTE_LOWAT) == 0)
		return REPORT;
	n = which == FN_READ ? readable(fd) : send_space(fd);
	return n >= fn->fn_extra->fx_lowat[which] ? REPORT : SILENT;
}

/* Everything else: a hang-up is the end, an error is for the writer. */
static enum verdict
other_verdict(struct fdnote *fn, int which, uint32_t mask)
{
	if (which == FN_READ) {
		if (fn->fn_type == FD_PIPE_WRITE) {
			fn->fn_knote[which].kn_status |= KN_NEVER;
			return SILENT;
		}
		if (mask & EPOLLHUP)
			return REPORT_EOF;
		return mask & (EPOLLIN | EPOLLERR) ? REPORT : SILENT;
	}
	if (mask & (EPOLLERR | EPOLLHUP))
		return REPORT_EOF;
	return mask & EPOLLOUT ? REPORT : SILENT;
}

/* Through this number, or through a copy of it. */
static bool
was_shut_wr(int fd, struct fdnote *fn)
{
	if ((fn->fn_flags & FN_SHUT_WR) == 0 && fn->fn_type == FD_STREAM &&
	    watch_duped(fd) && is_shut_wr(fd))
		fn->fn_flags |= FN_SHUT_WR;
	return (fn->fn_flags & FN_SHUT_WR) != 0;
}

enum verdict
source_verdict(int fd, struct fdnote *fn, int which, uint32_t mask)
{
	if (which == FN_WRITE && was_shut_wr(fd, fn))
		return REPORT_EOF;
	/* Of a socket alone; so a connection ends without being asked about. */
	if (which == FN_READ &&
	    (mask & (EPOLLRDHUP | EPOLLERR)) == EPOLLRDHUP &&
	    (fn->fn_knote[which].kn_status & KN_GATED) == 0)
		return REPORT_EOF;
	/* What nearly all events are like, with no need to know the type. */
	if ((mask & (EPOLLHUP | EPOLLERR)) == 0 &&
	    (fn->fn_knote[which].kn_status & KN_GATED) == 0) {
		return mask & (which == FN_WRITE ? EPOLLOUT : EPOLLIN) ?
		    REPORT :
		    SILENT;
	}
	if (fn->fn_type == FD_UNKNOWN)
		fn->fn_type = (uint8_t)source_type(fd);
	switch (fn->fn_type) {
	case FD_STREAM:
		return stream_verdict(fd, fn, which, mask);
	case FD_DGRAM:
		return dgram_verdict(fd, fn, which, mask);
	default:
		return other_verdict(fn, which, mask);
	}
}

/* -- how much -------------------------------------------------------------- */

/*
 * DIVERGES: the socket's error is derived, for getsockopt(SO_ERROR) would take
 * it from the read() that is to find it.  A connection that never was, was
 * refused or timed out; one that was has been reset.
 */
unsigned int
source_error(int fd, enum fdtype type)
{
	struct tcp_info ti;
	socklen_t len = sizeof(ti);

	if (type == FD_PIPE_WRITE || type == FD_PIPE_BOTH)
		return EPIPE;
	memset(&ti, 0, sizeof(ti));
	if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) == -1 ||
	    len < offsetof(struct tcp_info, tcpi_total_retrans))
		return ECONNRESET;
	/* A handshake that was answered left a round trip and options. */
	if (ti.tcpi_rtt != 0 || ti.tcpi_options != 0)
		return ECONNRESET;
	return ti.tcpi_total_retrans != 0 ? ETIMEDOUT : ECONNREFUSED;
}

int64_t
source_file(int fd)
{
	struct stat st;
	off_t at;

	/* If the file system cannot tell, read() will. */
	if (fstat(fd, &st) == -1 || (at = lseek(fd, 0, SEEK_CUR)) == -1)
		return errno == EBADF ? 0 : 1;
	return st.st_size - at;
}

/* The counter of an eventfd, which only /proc shows without taking it. */
static uint64_t
eventfd_count(int fd)
{
	char path[48], text[512];
	uint64_t count;
	ssize_t n;
	int info;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	info = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC);
	if (info == -1)
		return 1;
	n = syscall(SYS_read, info, text, sizeof(text) - 1);
	fd_close(info);
	text[n > 0 ? n : 0] = '\0';
	return wire_counter(text, &count) ? count : 1;
}

static int64_t
clipped(uint64_t n)
{
	return n > INT64_MAX ? INT64_MAX : (int64_t)n;
}

/* What has no FIONREAD. */
static int64_t
uncounted(int fd, enum fdtype type, bool edge)
{
	if (type == FD_UNKNOWN)
		type = source_type(fd);
	switch (type) {
	case FD_STREAM:
		return is_listening(fd) ? diag_unix_backlog(fd) : 0;
	case FD_EVENTFD:
		return clipped(eventfd_count(fd));
	case FD_KQUEUE:
		return collect_count(fd, !edge);
	default:
		return 1;
	}
}

/*
 * Where one that listens was found, by number.  It has no FIONREAD, and is
 * asked for its callers first; when it is another's number by now, that is
 * known at the cost of a call.
 */
#define NLISTENERS 64
static int listeners[NLISTENERS]; /* the number and 1, or 0 */

/* What a read() or accept() would find; -1: the descriptor cannot tell. */
static int64_t
readable_or_waiting(int fd)
{
	int *listener = &listeners[(uint32_t)fd % NLISTENERS];
	bool listened = __atomic_load_n(listener, __ATOMIC_RELAXED) == fd + 1;
	int64_t n;

	if (listened && (n = diag_tcp_backlog(fd)) != -1)
		return n;
	if (listened)
		__atomic_store_n(listener, 0, __ATOMIC_RELAXED);
	if ((n = readable(fd)) != -1 || errno != EINVAL)
		return n;
	if ((n = diag_tcp_backlog(fd)) != -1)
		__atomic_store_n(listener, fd + 1, __ATOMIC_RELAXED);
	return n;
}

/* Nothing left to read: another thread was faster than this one. */
static bool
is_empty(const struct kevent *ev)
{
	return ev->data == 0 && (ev->flags & ~EV_RECEIPT) == 0 &&
	    source_poll((int)ev->ident, POLLIN) == 0;
}

static bool
read_data(struct kevent *ev, enum fdtype type, uint32_t mask)
{
	int fd = (int)ev->ident;
	bool at_end = (ev->fflags & NOTE_EOF) != 0;

	ev->fflags = 0;
	if (type == FD_DEVICE) {
		ev->data = 0;
		return true;
	}
	if (type == FD_FILE) {
		ev->data = source_file(fd);
		if (ev->data == 0 && at_end)
			ev->fflags = NOTE_EOF;
		return true;
	}
	if ((ev->data = readable_or_waiting(fd)) == -1)
		ev->data = uncounted(fd, type, (ev->flags & EV_CLEAR) != 0);
	/* Whoever trusts data must not leave one that no edge tells of. */
	else if (type == FD_DGRAM && (ev->flags & EV_CLEAR))
		ev->data = datagram_bytes(fd, ev->data);
	if ((ev->flags & EV_EOF) && (mask & EPOLLERR))
		ev->fflags = source_error(fd, type);
	return !is_empty(ev);
}

static int64_t
pipe_space(int fd)
{
	int64_t size = fcntl(fd, F_GETPIPE_SZ), used = readable(fd);

	return size == -1 || used == -1 || used >= size ? 1 : size - used;
}

static int64_t
write_space(int fd, enum fdtype type)
{
	int queued;

	switch (type) {
	case FD_STREAM:
	case FD_DGRAM:
		return send_space(fd);
	case FD_PIPE_WRITE:
	case FD_PIPE_BOTH:
		return pipe_space(fd);
	case FD_EVENTFD:
		return clipped(UINT64_MAX - 1 - eventfd_count(fd));
	case FD_TTY:
		if (ioctl(fd, TIOCOUTQ, &queued) == -1 || queued >= PIPE_BUF)
			return 1;
		return PIPE_BUF - queued;
	case FD_FILE:
	case FD_DEVICE:
		return 0;
	default:
		return 1;
	}
}

static void
write_data(struct kevent *ev, enum fdtype type, uint32_t mask)
{
	int fd = (int)ev->ident;

	ev->fflags = 0;
	ev->data = write_space(fd, type);
	/*
	 * Writable with no space by the count of today: at least a byte fits.
	 */
	if (ev->data == 0 && (mask & EPOLLOUT) && (ev->flags & EV_EOF) == 0)
		ev->data = 1;
	if ((ev->flags & EV_EOF) && (mask & EPOLLERR))
		ev->fflags = source_error(fd, type);
}

static bool
fill_data(struct kevent *ev, enum fdtype type, uint32_t mask)
{
	if (ev->fflags & NOTE_NODATA) {
		ev->fflags = 0;
		ev->data = 1;
		return true;
	}
	if (ev->filter == EVFILT_READ)
		return read_data(ev, type, mask);
	write_data(ev, type, mask);
	return true;
}

int
source_fill(struct kevent *events, int n)
{
	struct kevent *ev = events, *to = ev;
	int64_t hint;
	int i;

	for (i = 0; i < n; i++, ev++) {
		hint = ev->data;
		if ((ev->filter == EVFILT_READ || ev->filter == EVFILT_WRITE) &&
		    (hint & HINT_MARK) != 0 &&
		    !fill_data(ev, (enum fdtype)(hint >> 32 & 0xff),
			(uint32_t)hint) &&
		    (hint & HINT_FORCED) == 0)
			continue;
		if (to != ev)
			*to = *ev;
		to++;
	}
	return (int)(to - events);
}
