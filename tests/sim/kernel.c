/*
 * See kernel.h.  Nothing moves but in sim_kevent(): what a batch of events
 * finds is as it is until the batch is over, except for what the server does.
 */
#include "kernel.h"

#include <sys/ioctl.h>
#include <sys/stat.h>

#include <netinet/in.h>

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW = 96 * 1024, BACKLOG = 16, PATIENCE = 40, NADDRESSES = 4 };

enum { KNOTE_READ, KNOTE_WRITE, NKNOTES };

struct knote {
	bool added, enabled;
	void *udata;
};

/* A descriptor; the listener has no caller. */
struct file {
	bool open, listens;
	struct caller *caller;
	struct knote knotes[NKNOTES];
};

struct caller kernel_callers[NCALLERS];

static struct file files[NCALLERS + 1];
static struct {
	uintptr_t ident;
	void *udata;
	bool added, triggered;
} user;
static uint64_t state;
static unsigned fault_rate, ncallers;
static int64_t now_us;
static bool calm, bulk;
static kernel_closed_fn *on_closed;

/* -- chance ---------------------------------------------------------------- */

/* xorshift64* */
uint32_t
kernel_roll(uint32_t n)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * 2685821657736338717u) >> 33) % n;
}

static bool
chance(unsigned one_of)
{
	return one_of != 0 && kernel_roll(one_of) == 0;
}

/* A size that is small as often as it is large; in some worlds large. */
static uint64_t
some(uint64_t most)
{
	uint64_t n;

	if (most == 0)
		return 0;
	if (bulk && !chance(3))
		return most;
	n = chance(3) ? 1 : 1 + kernel_roll(1u << kernel_roll(18));
	return n < most ? n : most;
}

/* A line ends every 24 bytes or so. */
char
kernel_byte(unsigned number, uint64_t position)
{
	uint64_t x =
	    (position + 1) * 0x9e3779b97f4a7c15u ^ number * 0x85ebca6bu;

	x ^= x >> 29;
	x *= 0xbf58476d1ce4e5b9u;
	x ^= x >> 32;
	return x % 24 == 0 ? '\n' : (char)('a' + x % 23);
}

int64_t
kernel_now_ms(void)
{
	return now_us / 1000;
}

void
kernel_faults(unsigned one_of)
{
	fault_rate = one_of;
}

void
kernel_join(struct caller *caller, const struct caller *other, uint64_t next,
    uint64_t at)
{
	caller->other = other->number;
	caller->joined = next;
	caller->shift = (int64_t)(at - next);
}

static bool
fails(const int *errs, uint32_t n)
{
	if (!chance(fault_rate))
		return false;
	errno = errs[kernel_roll(n)];
	return true;
}

/* -- descriptors ----------------------------------------------------------- */

static struct file *
file_of(int fd)
{
	if (fd < FD_BASE || fd > FD_BASE + NCALLERS ||
	    !files[fd - FD_BASE].open)
		return NULL;
	return &files[fd - FD_BASE];
}

/* The lowest number that is free, as a kernel does it. */
static int
file_new(struct caller *caller)
{
	int i;

	for (i = 0; i <= NCALLERS && files[i].open; i++)
		;
	HOLDS(i <= NCALLERS);
	memset(&files[i], 0, sizeof(files[i]));
	files[i].open = true;
	files[i].caller = caller;
	files[i].listens = caller == NULL;
	return FD_BASE + i;
}

unsigned
kernel_open_fds(void)
{
	unsigned i, n = 0;

	for (i = 0; i <= NCALLERS; i++)
		n += files[i].open;
	return n;
}

void
kernel_begin(uint64_t seed, kernel_closed_fn *closed)
{
	memset(kernel_callers, 0, sizeof(kernel_callers));
	memset(files, 0, sizeof(files));
	memset(&user, 0, sizeof(user));
	state = seed * 0x9e3779b97f4a7c15u + 1;
	fault_rate = ncallers = 0;
	now_us = (int64_t)kernel_roll(1u << 30) * 1000;
	calm = false;
	bulk = chance(4);
	on_closed = closed;
}

int
kernel_listener(void)
{
	return file_new(NULL);
}

struct caller *
kernel_caller(const struct sockaddr *sa)
{
	const struct sockaddr_in *sin = (const void *)sa;
	struct caller *k;

	HOLDS(sa->sa_family == AF_INET);
	HOLDS(ntohs(sin->sin_port) < NCALLERS);
	k = &kernel_callers[ntohs(sin->sin_port)];
	HOLDS(k->used);
	return k;
}

/* -- the peers ------------------------------------------------------------- */

static void
call(void)
{
	struct caller *k;
	unsigned i, waiting = 0;

	for (i = 0; i < NCALLERS; i++)
		waiting += kernel_callers[i].used && kernel_callers[i].fd == -1;
	if (waiting >= BACKLOG)
		return;
	for (i = 0; i < NCALLERS && kernel_callers[i].used; i++)
		;
	if (i == NCALLERS)
		return;
	k = &kernel_callers[i];
	memset(k, 0, sizeof(*k));
	k->used = true;
	k->fd = -1;
	k->number = ncallers++;
	k->temper = chance(2) ? POLITE : (enum temper)kernel_roll(4);
	k->quota = some(1u << kernel_roll(bulk ? 24 : 20));
	k->sndbuf = 1 + kernel_roll(1u << (4 + kernel_roll(bulk ? 16 : 14)));
	k->joined = UINT64_MAX;
}

/* What the peer does of its own will. */
static void
act(struct caller *k)
{
	struct stream *up = &k->up, *down = &k->down;
	uint64_t room;

	switch (kernel_roll(4)) {
	case 0:
		room = WINDOW - (up->sent - up->taken);
		if (room > k->quota - up->sent)
			room = k->quota - up->sent;
		if (!up->fin)
			up->sent += some(room);
		break;
	case 1:
		if (up->sent == k->quota && chance(3))
			up->fin = true;
		break;
	case 2:
		if (k->temper == RESETTER && chance(20))
			k->reset = true;
		else if (k->temper == SILENT && chance(20))
			k->quota = up->sent;
		break;
	default:
		if (k->temper == SILENT && k->quota == up->sent)
			break;
		if (k->temper != SLOW || chance(8))
			down->taken += some(down->arrived - down->taken);
	}
}

/* The net brings what was sent. */
static void
carry(struct stream *s)
{
	s->arrived += some(s->sent - s->arrived);
	if (s->fin && s->arrived == s->sent && chance(2))
		s->fin_arrived = true;
}

static void
end_calmly(struct caller *k)
{
	k->up.fin = k->up.fin_arrived = true;
	k->up.arrived = k->up.sent;
	k->down.taken = k->down.arrived = k->down.sent;
	k->temper = POLITE;
	k->sndbuf = 1u << 16;
}

static void
live(void)
{
	unsigned i;

	if (!calm && chance(6))
		call();
	for (i = 0; i < NCALLERS; i++) {
		struct caller *k = &kernel_callers[i];

		if (!k->used)
			continue;
		if (calm)
			end_calmly(k);
		else if (chance(3)) {
			act(k);
			carry(&k->up);
			carry(&k->down);
		}
	}
	now_us += kernel_roll(4000);
	if (!calm && chance(4000))
		now_us += (int64_t)kernel_roll(100) * 1000000;
}

void
kernel_calm(void)
{
	calm = true;
	fault_rate = 0;
}

/* -- the calls of struct kquay_sys ----------------------------------------- */

static int64_t
sim_now(void)
{
	return now_us / 1000;
}

static ssize_t
sim_read(int fd, void *buf, size_t len)
{
	static const int errs[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM };
	struct file *f = file_of(fd);
	struct caller *k;
	uint64_t i, n;

	HOLDS(f != NULL);
	k = f->caller;
	if (fails(errs, 4)) {
		k->faulty = true;
		return -1;
	}
	if (k->reset && !k->told) {
		k->told = true;
		errno = ECONNRESET;
		return -1;
	}
	n = k->reset ? 0 : k->up.arrived - k->up.taken;
	if (n == 0 && (k->reset || k->up.fin_arrived)) {
		k->moved_ms = sim_now();
		return 0;
	}
	if (n == 0) {
		errno = EAGAIN;
		return -1;
	}
	if (n > len)
		n = len;
	/* A read is short only if there is no more, or a fault says so. */
	if (chance(fault_rate)) {
		k->faulty = true;
		n = some(n);
	}
	for (i = 0; i < n; i++)
		((char *)buf)[i] = kernel_byte(k->number, k->up.taken + i);
	k->up.taken += n;
	k->moved_ms = sim_now();
	return (ssize_t)n;
}

/* What byte n to the peer must be. */
static char
due(const struct caller *k, uint64_t n)
{
	return n < k->joined ?
	    kernel_byte(k->number, n) :
	    kernel_byte(k->other, (uint64_t)((int64_t)n + k->shift));
}

/* How much the socket takes now, or -1 with errno. */
static ssize_t
room_of(struct caller *k)
{
	static const int errs[] = { EINTR, EAGAIN, ENOBUFS, ENOMEM };

	HOLDS(!k->down.fin);
	if (fails(errs, 4))
		return -1;
	if (k->reset) {
		errno = k->told ? EPIPE : ECONNRESET;
		k->told = true;
		return -1;
	}
	if (k->down.sent - k->down.arrived >= k->sndbuf) {
		errno = EAGAIN;
		return -1;
	}
	return (ssize_t)(k->sndbuf - (k->down.sent - k->down.arrived));
}

static void
put(struct caller *k, const char *data, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		HOLDS(data[i] == due(k, k->down.sent + i));
	k->down.sent += n;
	k->moved_ms = sim_now();
}

static ssize_t
sim_write(int fd, const void *buf, size_t len)
{
	struct file *f = file_of(fd);
	ssize_t room;
	size_t n;

	HOLDS(f != NULL);
	room = room_of(f->caller);
	if (room == -1)
		return -1;
	n = (size_t)room < len ? (size_t)room : len;
	if (chance(fault_rate))
		n = some(n);
	put(f->caller, buf, n);
	return (ssize_t)n;
}

static int
sim_accept(int fd, struct sockaddr *sa, socklen_t *salen)
{
	static const int errs[] = { EINTR, EAGAIN, EPROTO, ECONNABORTED, EMFILE,
		ENFILE, ENOBUFS, ENOMEM };
	struct sockaddr_in sin = { .sin_family = AF_INET };
	struct file *f = file_of(fd);
	unsigned i, at = kernel_roll(NCALLERS);

	HOLDS(f != NULL);
	HOLDS(f->listens);
	if (fails(errs, 8))
		return -1;
	for (i = 0; i < NCALLERS; i++, at = (at + 1) % NCALLERS)
		if (kernel_callers[at].used && kernel_callers[at].fd == -1)
			break;
	if (i == NCALLERS) {
		errno = EAGAIN;
		return -1;
	}
	sin.sin_port = htons((in_port_t)at);
	sin.sin_addr.s_addr = htonl(INADDR_LOOPBACK + at % NADDRESSES);
	memcpy(sa, &sin, sizeof(sin));
	*salen = sizeof(sin);
	kernel_callers[at].moved_ms = sim_now();
	return kernel_callers[at].fd = file_new(&kernel_callers[at]);
}

/* -- kevent ---------------------------------------------------------------- */

static int
change_user(const struct kevent *ch)
{
	if (ch->flags & EV_ADD) {
		user.added = true;
		user.ident = ch->ident;
		user.udata = ch->udata;
	}
	HOLDS(user.ident == ch->ident);
	if (ch->fflags & NOTE_TRIGGER)
		user.triggered = true;
	if (ch->flags & EV_DELETE)
		user.added = user.triggered = false;
	return 0;
}

static int
change_one(const struct kevent *ch)
{
	struct file *f = file_of((int)ch->ident);
	struct knote *kn;

	if (ch->filter == EVFILT_USER)
		return change_user(ch);
	if (f == NULL)
		return EBADF;
	HOLDS(ch->filter == EVFILT_READ || ch->filter == EVFILT_WRITE);
	kn = &f->knotes[ch->filter == EVFILT_READ ? KNOTE_READ : KNOTE_WRITE];
	if (!kn->added && !(ch->flags & EV_ADD))
		return ENOENT;
	if ((ch->flags & EV_ADD) && chance(fault_rate))
		return ENOMEM;
	if (ch->flags & EV_ADD) {
		if (!kn->added)
			kn->enabled = true;
		kn->added = true;
		kn->udata = ch->udata;
	}
	if (ch->flags & EV_ENABLE)
		kn->enabled = true;
	if (ch->flags & EV_DISABLE)
		kn->enabled = false;
	if (ch->flags & EV_DELETE)
		memset(kn, 0, sizeof(*kn));
	return 0;
}

/* Whether the event is true now, and what it says. */
static bool
is_ready(const struct file *f, int which, struct kevent *ev)
{
	const struct caller *k = f->caller;
	unsigned i;

	if (f->listens) {
		for (i = 0; i < NCALLERS; i++)
			if (kernel_callers[i].used &&
			    kernel_callers[i].fd == -1)
				return true;
		return false;
	}
	if (k->reset) {
		ev->flags |= EV_EOF;
		ev->fflags |= k->told ? 0 : ECONNRESET;
		return true;
	}
	if (which == KNOTE_WRITE)
		return k->down.sent - k->down.arrived < k->sndbuf;
	if (k->up.fin_arrived)
		ev->flags |= EV_EOF;
	return k->up.fin_arrived || k->up.arrived != k->up.taken;
}

/* Some of the events that are true, in no order; at least one if any is. */
static int
gather(struct kevent *events, int nevents)
{
	struct kevent all[2 * (NCALLERS + 1) + 1], swap;
	int i, j, n = 0;

	for (i = 0; i <= NCALLERS; i++)
		for (j = 0; j < NKNOTES; j++) {
			const struct knote *kn = &files[i].knotes[j];

			if (!files[i].open || !kn->added || !kn->enabled)
				continue;
			EV_SET(&all[n], (uintptr_t)(FD_BASE + i),
			    j == KNOTE_READ ? EVFILT_READ : EVFILT_WRITE, 0, 0,
			    1, kn->udata);
			n += is_ready(&files[i], j, &all[n]);
		}
	if (user.added && user.triggered)
		EV_SET(&all[n++], user.ident, EVFILT_USER, 0, 0, 0, user.udata);
	for (i = n - 1; i > 0; i--) {
		j = (int)kernel_roll((uint32_t)i + 1);
		swap = all[i], all[i] = all[j], all[j] = swap;
	}
	if (n > 1 && chance(2))
		n = 1 + (int)kernel_roll((uint32_t)n);
	if (n > nevents)
		n = nevents;
	for (i = 0; i < n; i++) {
		if (all[i].filter == EVFILT_USER)
			user.triggered = false;
		events[i] = all[i];
	}
	return n;
}

/* As kevent(2): a change that fails has an entry, and then nobody waits. */
static int
sim_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	int64_t until = -1;
	int i, n = 0, rc;

	(void)kq;
	for (i = 0; i < nchanges; i++) {
		if ((rc = change_one(&changes[i])) == 0)
			continue;
		if (n == nevents) {
			errno = rc;
			return -1;
		}
		events[n] = changes[i];
		events[n].flags = EV_ERROR;
		events[n++].data = rc;
	}
	if (n > 0 || nevents == 0)
		return n;
	if (timeout != NULL)
		until = now_us + timeout->tv_sec * 1000000 +
		    timeout->tv_nsec / 1000;
	for (i = 0; i < PATIENCE; i++) {
		live();
		if (chance(fault_rate))
			break;
		if ((n = gather(events, nevents)) > 0)
			return n;
		if (until != -1 && now_us >= until)
			return 0;
	}
	if (until != -1 && i == PATIENCE) {
		now_us = until;
		return 0;
	}
	errno = EINTR;
	return -1;
}

/* As splice(2), between a socket of ours and a pipe, which is a real one. */
static ssize_t
sim_splice(int from, int to, size_t len)
{
	static char buf[32 * 1024];
	ssize_t n, rc;
	int held;

	if (len > sizeof(buf))
		len = sizeof(buf);
	if (from >= FD_BASE) {
		/* It must take all that is read. */
		HOLDS(ioctl(to, FIONREAD, &held) == 0);
		if (held > 0) {
			errno = EAGAIN;
			return -1;
		}
		n = sim_read(from, buf, len);
		HOLDS(n <= 0 || write(to, buf, (size_t)n) == n);
		return n;
	}
	HOLDS(file_of(to) != NULL);
	rc = room_of(file_of(to)->caller);
	if (rc == -1)
		return -1;
	n = read(from, buf, len < (size_t)rc ? len : (size_t)rc);
	HOLDS(n > 0);
	put(file_of(to)->caller, buf, (size_t)n);
	return n;
}

const struct kquay_sys kernel_sys = { .read = sim_read,
	.write = sim_write,
	.splice = sim_splice,
	.accept = sim_accept,
	.kevent = sim_kevent,
	.now = sim_now };

/* -- the other calls, caught by the linker's --wrap ------------------------ */

int __real_close(int);
int __real_shutdown(int, int);
int __real_fcntl64(int, int, ...);
int __real_ioctl(int, unsigned long, ...);
int __real_getsockopt(int, int, int, void *, socklen_t *);
int __real_setsockopt(int, int, int, const void *, socklen_t);
int __real_getsockname(int, struct sockaddr *, socklen_t *);
ssize_t __real_send(int, const void *, size_t, int);
ssize_t __real_recv(int, void *, size_t, int);

int __wrap_close(int);
int __wrap_shutdown(int, int);
int __wrap_fcntl64(int, int, ...);
int __wrap_ioctl(int, unsigned long, ...);
int __wrap_getsockopt(int, int, int, void *, socklen_t *);
int __wrap_setsockopt(int, int, int, const void *, socklen_t);
int __wrap_getsockname(int, struct sockaddr *, socklen_t *);
ssize_t __wrap_send(int, const void *, size_t, int);
ssize_t __wrap_recv(int, void *, size_t, int);

/* A caller goes when the server's end is closed. */
int
__wrap_close(int fd)
{
	struct file *f = file_of(fd);
	struct caller *k;

	if (fd < FD_BASE)
		return __real_close(fd);
	HOLDS(f != NULL);
	k = f->caller;
	memset(f, 0, sizeof(*f));
	if (k != NULL) {
		on_closed(k, !k->reset && k->up.arrived != k->up.taken);
		k->used = false;
	}
	return 0;
}

int
__wrap_shutdown(int fd, int how)
{
	struct file *f = file_of(fd);

	if (fd < FD_BASE)
		return __real_shutdown(fd, how);
	HOLDS(f != NULL);
	HOLDS(how == SHUT_WR);
	if (f->caller->reset) {
		errno = ENOTCONN;
		return -1;
	}
	f->caller->down.fin = true;
	return 0;
}

int
__wrap_fcntl64(int fd, int cmd, ...)
{
	va_list ap;
	long arg;

	va_start(ap, cmd);
	arg = va_arg(ap, long);
	va_end(ap);
	if (fd < FD_BASE)
		return __real_fcntl64(fd, cmd, arg);
	HOLDS(file_of(fd) != NULL);
	return cmd == F_GETFL ? O_RDWR | O_NONBLOCK : 0;
}

int
__wrap_ioctl(int fd, unsigned long request, ...)
{
	const struct file *f = file_of(fd);
	va_list ap;
	void *arg;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (fd < FD_BASE)
		return __real_ioctl(fd, request, arg);
	HOLDS(f != NULL);
	*(int *)arg = (int)(f->caller->down.sent - f->caller->down.taken);
	return 0;
}

int
__wrap_getsockopt(int fd, int level, int name, void *value, socklen_t *len)
{
	if (fd < FD_BASE)
		return __real_getsockopt(fd, level, name, value, len);
	HOLDS(file_of(fd) != NULL);
	*(int *)value = name == SO_TYPE ? SOCK_STREAM : file_of(fd)->listens;
	return 0;
}

int
__wrap_setsockopt(int fd, int level, int name, const void *value, socklen_t len)
{
	if (fd < FD_BASE)
		return __real_setsockopt(fd, level, name, value, len);
	HOLDS(file_of(fd) != NULL);
	if (name == SO_LINGER)
		file_of(fd)->caller->hard = true;
	return 0;
}

int
__wrap_getsockname(int fd, struct sockaddr *sa, socklen_t *len)
{
	struct sockaddr_in sin = { .sin_family = AF_INET };

	if (fd < FD_BASE)
		return __real_getsockname(fd, sa, len);
	memcpy(sa, &sin, sizeof(sin));
	*len = sizeof(sin);
	return 0;
}

/* These two are for a caller that is refused; nothing of it is looked at. */
ssize_t
__wrap_send(int fd, const void *buf, size_t len, int flags)
{
	return fd < FD_BASE ? __real_send(fd, buf, len, flags) : (ssize_t)len;
}

ssize_t
__wrap_recv(int fd, void *buf, size_t len, int flags)
{
	if (fd < FD_BASE)
		return __real_recv(fd, buf, len, flags);
	file_of(fd)->caller->up.taken = file_of(fd)->caller->up.arrived;
	errno = EAGAIN;
	return -1;
}
