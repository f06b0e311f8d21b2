/* Pairs of peers; t_server_pair.h has the contracts. */
#include "t_server_pair.h"

#include "server.h"

#include <sys/socket.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

/* -- the pair -------------------------------------------------------------- */

struct kquay_conn *ends[2];
int peers[2];

struct ended ended[2];

int
pair_on_open(struct kquay_conn *c)
{
	ends[ends[0] != NULL] = c;
	return 0;
}

static void
pair_on_line(struct kquay_conn *c, char *text, size_t len)
{
	ck_abort_msg("a spliced connection had a line: %s", text);
}

void
pair_on_close(struct kquay_conn *c, enum kquay_why why)
{
	struct ended *e = &ended[ends[1] == c];

	e->err = errno;
	e->n++;
	e->why = why;
}

const struct kquay_ops pair_service = { .open = pair_on_open,
	.line = pair_on_line,
	.close = pair_on_close };

void
pair_start(const struct kquay_ops *ops, const struct kquay_sys *sys,
    const struct kquay_conf *conf)
{
	struct kquay_conf k = { .maxconn = 64 };

	if (conf != NULL)
		k = *conf;
	k.sys = sys;
	signal(SIGPIPE, SIG_IGN);
	memset(ended, 0, sizeof(ended));
	memset(ends, 0, sizeof(ends));
	kit_start(ops, &k);
	peers[0] = kit_join();
	peers[1] = kit_join();
}

/* Two peers whose connections are spliced. */
void
pair_begin(const struct kquay_sys *sys)
{
	pair_start(&pair_service, sys, NULL);
	ck_assert_int_eq(kquay_splice(ends[0], ends[1]), 0);
}

void
pair_end(void)
{
	close(peers[0]);
	close(peers[1]);
	kit_stop();
	ck_assert_int_eq(ended[0].n, 1);
	ck_assert_int_eq(ended[1].n, 1);
}

void
pair_ends_with(enum kquay_why first, enum kquay_why second)
{
	UNTIL(ended[0].n == 1 && ended[1].n == 1);
	ck_assert_int_eq(ended[0].why, first);
	ck_assert_int_eq(ended[1].why, second);
}

/* -- streams --------------------------------------------------------------- */

/* Bytes that say where in the stream they are. */
static void
stream_fill(unsigned char *buf, size_t len, uint64_t at)
{
	size_t i;

	for (i = 0; i < len; i++, at++)
		buf[i] = (unsigned char)(at ^ at >> 8 ^ at >> 16);
}

/* Send or receive as much as goes now.  Whether anything moved. */
bool
stream_in(struct stream *s)
{
	unsigned char buf[48 * 1024];
	size_t len;
	ssize_t n;

	if (s->sent == s->total)
		return false;
	len =
	    s->total - s->sent < sizeof(buf) ? s->total - s->sent : sizeof(buf);
	stream_fill(buf, len, s->sent);
	n = send(s->from, buf, len, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n == -1) {
		ck_assert_int_eq(errno, EAGAIN);
		return false;
	}
	s->sent += (uint64_t)n;
	if (s->sent == s->total)
		ck_assert_int_eq(shutdown(s->from, SHUT_WR), 0);
	return true;
}

bool
stream_out(struct stream *s)
{
	static unsigned char buf[256 * 1024], want[256 * 1024];
	ssize_t n;

	if (s->ended)
		return false;
	n = recv(s->to, buf, sizeof(buf), MSG_DONTWAIT);
	if (n == -1) {
		ck_assert_int_eq(errno, EAGAIN);
		return false;
	}
	if (n == 0) {
		s->ended = true;
		return true;
	}
	stream_fill(want, (size_t)n, s->got);
	ck_assert_mem_eq(buf, want, (size_t)n);
	s->got += (uint64_t)n;
	return true;
}

/* Send until the stream is stuck, and the loop has nothing to do. */
void
stream_jam(struct stream *s)
{
	int quiet = 0, n;
	bool moved;

	while (quiet < 3) {
		moved = stream_in(s);
		n = kquay_step(q, moved ? 0 : 2);
		ck_assert_int_ne(n, -1);
		quiet = moved || n != 0 ? 0 : quiet + 1;
	}
}

/* Both streams, until both have ended. */
void
stream_pump(struct stream *one, struct stream *two)
{
	int64_t deadline = kit_ms() + 6 * KIT_DEADLINE;

	while (!one->ended || !two->ended) {
		ck_assert_int_lt(kit_ms(), deadline);
		stream_in(one);
		stream_in(two);
		ck_assert_int_ne(kquay_step(q, 0), -1);
		stream_out(one);
		stream_out(two);
	}
	ck_assert_uint_eq(one->got, one->total);
	ck_assert_uint_eq(two->got, two->total);
}

/* -- how the kernel is called ---------------------------------------------- */

unsigned mode_reads, mode_writes;
size_t mode_most = SIZE_MAX;
int mode_err;
unsigned mode_fails;

static ssize_t
hooked_read(int fd, void *buf, size_t len)
{
	ssize_t n;

	n = recv(fd, buf, len < mode_most ? len : mode_most, 0);
	mode_reads += n != -1;
	return n;
}

static ssize_t
hooked_write(int fd, const void *buf, size_t len)
{
	mode_writes++;
	return send(fd, buf, len < mode_most ? len : mode_most, MSG_NOSIGNAL);
}

static ssize_t
hooked_splice(int from, int to, size_t len)
{
	if (mode_fails > 0) {
		mode_fails--;
		errno = mode_err;
		return -1;
	}
	return splice(from, NULL, to, NULL, len < mode_most ? len : mode_most,
	    SPLICE_F_NONBLOCK);
}

const struct kquay_sys mode_copying = { .read = hooked_read,
	.write = hooked_write };
static const struct kquay_sys mode_piping = { .read = hooked_read,
	.write = hooked_write,
	.splice = hooked_splice };

const struct mode pair_modes[PAIR_MODES] = {
	{ NULL, SIZE_MAX, 32 << 20, true },
	{ &mode_copying, SIZE_MAX, 8 << 20, false },
	{ &mode_piping, SIZE_MAX, 8 << 20, true },
	{ &mode_copying, 1, 10000, false },
	{ &mode_piping, 1, 10000, false },
	{ &mode_piping, READSIZE, 4 << 20, true },
};

void
pair_begin_mode(const struct mode *m)
{
	mode_most = m->most;
	mode_reads = mode_writes = mode_fails = 0;
	pair_begin(m->sys);
}
