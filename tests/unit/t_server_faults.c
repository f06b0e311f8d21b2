/*
 * The table of faults.  A caller's stream goes through all that there is, and
 * back: accept, TLS, a dial, PROXY header and TLS of the server that is
 * dialled, a splice, an echo.  Each system call on this way fails once, in
 * every way; then each allocation.  Whatever fails, every byte is right or
 * the stream ends clean, each connection gets one close, and nothing is left.
 */
#include "t_memory.h"
#include "t_server_far.h"
#include "t_server_tls_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BYTES = 300 * 1024, MARK = 0x5a };

/* How the stream goes. */
enum way { DIRECT, COPIED, PIPED };

static const struct row {
	const char *name;
	bool tls, local; /* local: UNIX */
	enum way way;
} rows[] = {
	{ "TCP", false, false, DIRECT },
	{ "UNIX", false, true, DIRECT },
	{ "TLS, TCP", true, false, DIRECT },
	{ "TLS, UNIX", true, true, DIRECT },
	{ "TCP, copied", false, false, COPIED },
	{ "UNIX, copied", false, true, COPIED },
	{ "TCP, piped", false, false, PIPED },
	{ "UNIX, piped", false, true, PIPED },
	{ "TLS, TCP, copied", true, false, COPIED },
	{ "TLS, UNIX, copied", true, true, COPIED },
};
enum { NROWS = sizeof(rows) / sizeof(rows[0]) };

/* -- system calls that fail ------------------------------------------------ */

enum call { READ, PEEK, WRITE, ACCEPT, KEVENT, SOCKET, CONNECT, SPLICE, CALLS };

static const char *const call_names[CALLS] = { "read", "peek", "write",
	"accept", "kevent", "socket", "connect", "splice" };

enum { SHORT = -1 }; /* instead of an errno: one byte only */

static const int errs[] = { SHORT, EINTR, EAGAIN, ECONNRESET, EMFILE, ENOBUFS,
	ENOMEM };
enum { NERRS = sizeof(errs) / sizeof(errs[0]) };

/* The nth call from here on fails so; 0 is none. */
static struct {
	enum call call;
	int nth, err;
} fault;

static bool
fails(enum call call, size_t *len)
{
	if (fault.call != call || fault.nth == 0 || --fault.nth > 0)
		return false;
	if (fault.err != SHORT) {
		errno = fault.err;
		return true;
	}
	if (len != NULL && *len > 1)
		*len = 1;
	return false;
}

static ssize_t
on_read(int fd, void *buf, size_t len)
{
	return fails(READ, &len) ? -1 : recv(fd, buf, len, 0);
}

static ssize_t
on_peek(int fd, void *buf, size_t len)
{
	return fails(PEEK, &len) ? -1 : recv(fd, buf, len, MSG_PEEK);
}

static ssize_t
on_write(int fd, const void *buf, size_t len)
{
	return fails(WRITE, &len) ? -1 : send(fd, buf, len, MSG_NOSIGNAL);
}

static int
on_accept(int fd, struct sockaddr *sa, socklen_t *salen)
{
	return fails(ACCEPT, NULL) ?
	    -1 :
	    accept4(fd, sa, salen, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int
on_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	if (!fails(KEVENT, NULL))
		return kevent(kq, changes, nchanges, events, nevents, timeout);
	/* EINTR comes after the changes were applied, the others before. */
	if (errno == EINTR) {
		(void)kevent(kq, changes, nchanges, NULL, 0, NULL);
		errno = EINTR;
	}
	return -1;
}

static int
on_socket(int domain, int type, int protocol)
{
	return fails(SOCKET, NULL) ? -1 : socket(domain, type, protocol);
}

static int
on_connect(int fd, const struct sockaddr *sa, socklen_t salen)
{
	if (!fails(CONNECT, NULL))
		return connect(fd, sa, salen);
	if (errno == EINTR) {
		(void)connect(fd, sa, salen);
		errno = EINTR;
	}
	return -1;
}

static ssize_t
on_splice(int from, int to, size_t len)
{
	return fails(SPLICE, &len) ?
	    -1 :
	    splice(from, NULL, to, NULL, len, SPLICE_F_NONBLOCK);
}

/* Whether the service must not notice. */
static bool
transient(const struct row *row, enum call call, int err)
{
	switch (call) {
	case SOCKET:
		return err == SHORT;
	case CONNECT:
		return err == SHORT || err == EINTR ||
		    (err == EAGAIN && row->local);
	case KEVENT:
		return err == SHORT;
	case ACCEPT:
		return err != EMFILE;
	default:
		return err != ECONNRESET && err != EMFILE;
	}
}

/* -- the service ----------------------------------------------------------- */

static const struct row *row;
static struct kquay_tls *tls_server, *tls_dials;
static SSL_CTX *tls_calls;
static char back[128], front[128];
static struct kquay_conn *caller; /* the first that was accepted, if it dials */
static bool joined, fed;
static int opens, closes, dials, told;

static const struct kquay_ops echoes, goes;

/* It is how one of them ended. */
static void
tell(int err)
{
	if (err == fault.err || err == ENOMEM || err == EPROTO)
		told++;
}

static int
on_open(struct kquay_conn *c)
{
	struct kquay_target to = { .timeout = -1,
		.host = row->local ? back : "127.0.0.1",
		.port = row->local ? NULL : back,
		.proxy = 2,
		.client = c,
		.tls = row->tls ? tls_dials : NULL,
		.servername = "localhost" };

	opens++; /* of those that were accepted */
	if (row->way == DIRECT || fed) {
		kquay_setops(c, &echoes);
		return 0;
	}
	fed = true;
	if (kquay_dialto(kquay_of(c), &to, &goes) == NULL) {
		tell(errno);
		return -1;
	}
	dials++;
	caller = c;
	kquay_pause(c, 1);
	return 0;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	int err = errno;

	closes++;
	if (c == caller)
		caller = NULL;
	if (why == KQUAY_ERROR)
		tell(err);
}

static int
dial_opens(struct kquay_conn *c)
{
	if (caller == NULL)
		return -1;
	if (kquay_splice(caller, c) == -1) {
		tell(errno);
		return -1;
	}
	joined = true;
	kquay_pause(caller, 0);
	return 0;
}

static void
dial_closes(struct kquay_conn *c, enum kquay_why why)
{
	on_close(c, why);
	if (caller != NULL && !joined)
		kquay_close(caller);
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	tell(errno);
}

static const struct kquay_ops service = { .open = on_open,
	.close = on_close,
	.refused = on_refused };
static const struct kquay_ops echoes = { .input = echo, .close = on_close };
static const struct kquay_ops goes = { .open = dial_opens,
	.close = dial_closes };

static void
listen_at(const char *name, char *where)
{
	unsigned n;

	if (row->local) {
		strcpy(where, kit_path(name));
		ck_assert_int_eq(kquay_listen_unix(q, where, 0600), 1);
		return;
	}
	ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
	for (n = 0; kquay_listening(q, n + 1) != NULL; n++)
		;
	strcpy(where, strrchr(kquay_listening(q, n), ':') + 1);
}

static void
begin(void)
{
	struct kquay_sys sys = { .read = on_read,
		.peek = on_peek,
		.write = on_write,
		.accept = on_accept,
		.kevent = on_kevent,
		.socket = on_socket,
		.connect = on_connect,
		.splice = row->way == PIPED ? on_splice : NULL,
		.now = kit_now };
	struct kquay_conf conf = { .maxconn = 8,
		.handshake = -1,
		.flags = KQUAY_NOSIGNAL,
		.sys = &sys };

	signal(SIGPIPE, SIG_IGN);
	opens = closes = dials = told = 0;
	joined = fed = false;
	caller = NULL;
	q = kquay_new(&service, &conf);
	ck_assert_ptr_nonnull(q);
	ck_assert_int_eq(kquay_tls(q, row->tls ? tls_server : NULL), 0);
	listen_at("front", front);
	kquay_proxy(q, 1);
	listen_at("back", back);
	if (!row->local)
		strcpy(kit_port, front);
}

/* -- the caller ------------------------------------------------------------ */

static struct far far;

/* Nothing in here is checked: Check would allocate, too. */
static bool
turn(int *quiet)
{
	size_t moved;
	int n, err;

	moved = far_send(&far, BYTES - far.sent);
	if (far.sent == BYTES)
		far_shut(&far);
	memory_counts = true;
	n = kquay_step(q, 0);
	memory_counts = false;
	err = errno;
	moved += far_receive(&far, SIZE_MAX);
	*quiet = moved == 0 && n <= 0 ? *quiet + 1 : 0;
	if (*quiet % 4 == 3)
		kit_clock += 16;
	return n != -1 || err == fault.err;
}

/* Until the caller has had enough, and then until nobody is left. */
static bool
run(void)
{
	int64_t deadline = kit_ms() + KIT_DEADLINE;
	struct kquay_stat st;
	int quiet = 0;

	while (!far.ended && !far.broken)
		if (!turn(&quiet) || kit_ms() > deadline)
			return false;
	far_end(&far, false);
	do {
		memory_counts = true;
		if (kquay_step(q, 0) == 0)
			kit_clock += 16;
		memory_counts = false;
		kquay_stats(q, &st);
	} while (st.conns != 0 && kit_ms() < deadline);
	return st.conns == 0;
}

static void
one_stream(void)
{
	begin();
	far_begin(&far, row->local ? kit_connect_unix(front) : kit_connect(),
	    row->tls ? tls_calls : NULL, MARK, MARK);
}

/* It came back, whole; or a part of it, and somebody has been told why. */
static void
look(bool ran, bool whole, const char *what)
{
	bool complete = far.got == BYTES && far.ended;

	ck_assert_msg(ran, "%s, %s: does not end (%d of %d opened are closed)",
	    row->name, what, closes, opens + dials);
	ck_assert_msg(!far.wrong, "%s, %s: a wrong byte", row->name, what);
	ck_assert_msg(complete || !whole, "%s, %s: %d of %d bytes", row->name,
	    what, (int)far.got, BYTES);
	ck_assert_msg(complete || told > 0, "%s, %s: ended, and nobody knows",
	    row->name, what);
	ck_assert_msg(closes == opens + dials,
	    "%s, %s: %d opened and dialled, %d closed", row->name, what,
	    opens + dials, closes);
}

/* The nth such call fails.  Whether there are as many. */
static bool
fault_at(enum call call, int err, int nth)
{
	int before = unit_descriptors();
	char what[64];
	bool ran, hit;

	snprintf(what, sizeof(what), "%s %d: %s", call_names[call], nth,
	    err == SHORT ? "one byte" : strerror(err));
	one_stream();
	fault.call = call;
	fault.err = err;
	fault.nth = nth;
	ran = run();
	hit = fault.nth == 0;
	fault.nth = 0;
	look(ran, !hit || transient(row, call, err), what);
	kit_stop();
	ck_assert_int_eq(unit_descriptors(), before);
	return hit;
}

static void
tls_up(void)
{
	struct kquay_tls_conf conf = { .cafile = tls_file("ca.pem") };

	tls_server = tls_new("host", NULL);
	tls_dials = kquay_tls_new(&conf, NULL, 0);
	ck_assert_ptr_nonnull(tls_dials);
	tls_calls = tls_client_ctx(NULL);
}

static void
tls_down(void)
{
	kquay_tls_free(tls_server);
	kquay_tls_free(tls_dials);
	SSL_CTX_free(tls_calls);
}

/* The first calls one by one, then with larger steps. */
START_TEST(each_call_may_fail)
{
	int i, nth, hits = 0;
	enum call call;

	row = &rows[_i];
	tls_up();
	for (call = READ; call < CALLS; call++)
		for (i = 0; i < NERRS; i++)
			for (nth = 1; fault_at(call, errs[i], nth);
			     nth += 1 + nth / 8)
				hits++;
	printf("%s: %d faults\n", row->name, hits);
	ck_assert_int_gt(hits, 100);
	tls_down();
}
END_TEST

/* -- memory that is not there ---------------------------------------------- */

/* The same for OpenSSL. */
static void *
ssl_malloc(size_t size, const char *file, int line)
{
	return malloc(size);
}

static void *
ssl_realloc(void *p, size_t size, const char *file, int line)
{
	return realloc(p, size);
}

static void
ssl_free(void *p, const char *file, int line)
{
	free(p);
}

/* The nth allocation fails.  Whether there are as many. */
static bool
starve_at(int nth)
{
	int before = unit_descriptors();
	char what[64];
	bool ran, hit;

	snprintf(what, sizeof(what), "allocation %d", nth);
	one_stream();
	/* Only what is the loop's: run() says when. */
	memory_counts = false;
	memory_countdown = nth;
	ran = run();
	hit = memory_countdown == 0;
	memory_countdown = 0;
	look(ran, !hit, what);
	kit_stop();
	ck_assert_int_eq(unit_descriptors(), before);
	return hit;
}

START_TEST(each_allocation_may_fail)
{
	int nth, hits = 0;

	row = &rows[_i];
	tls_up();
	for (nth = 1; starve_at(nth); nth += 1 + nth / 32)
		hits++;
	printf("%s: %d faults of %d\n", row->name, hits, nth);
	ck_assert_int_ge(hits, row->way == DIRECT ? 0 : 4);
	tls_down();
}
END_TEST

static const TTest **const tests[] = {
	&each_call_may_fail,
	&each_allocation_may_fail,
};

int
main(void)
{
	kit_times = NROWS;
	if (CRYPTO_set_mem_functions(ssl_malloc, ssl_realloc, ssl_free) != 1)
		return 99;
	return tls_main("server_faults", tests, 2);
}
