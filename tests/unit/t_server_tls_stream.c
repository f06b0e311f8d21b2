/*
 * The bytes of TLS connections: their order, their end, and what the loop
 * does when peer or kernel take or give little.
 */
#include "t_server_tls_kit.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char lines[256]; /* those that came, with a | each */
static int ends, drains;

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	strcat(strcat(lines, text), "|");
}

static int
stay(struct kquay_conn *c)
{
	ends++;
	return 1;
}

static const struct kquay_ops echoes = { .input = echo, .close = kit_on_close };
static const struct kquay_ops reads = { .line = on_line,
	.close = kit_on_close };
static const struct kquay_ops stays = { .line = on_line,
	.eof = stay,
	.close = kit_on_close };

/* -- how often the kernel is called ---------------------------------------- */

static struct {
	int read, write, kevent;
} calls;

/* The next calls fail so; err 0 is one byte only. */
static struct fault {
	int times, err;
} fault_read, fault_write;

static bool
fails(struct fault *f, size_t *len)
{
	if (f->times == 0)
		return false;
	f->times--;
	errno = f->err;
	if (f->err == 0 && *len > 1)
		*len = 1;
	return f->err != 0;
}

static ssize_t
counted_read(int fd, void *buf, size_t len)
{
	calls.read++;
	return fails(&fault_read, &len) ? -1 : recv(fd, buf, len, 0);
}

static ssize_t
counted_write(int fd, const void *buf, size_t len)
{
	calls.write++;
	return fails(&fault_write, &len) ? -1 :
					   send(fd, buf, len, MSG_NOSIGNAL);
}

static int
counted_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	calls.kevent++;
	return kevent(kq, changes, nchanges, events, nevents, timeout);
}

static const struct kquay_sys counted = { .read = counted_read,
	.write = counted_write,
	.kevent = counted_kevent };
static const struct kquay_conf counting = { .maxconn = 8,
	.outmax = 16 << 20,
	.sys = &counted };

START_TEST(a_request_is_three_calls)
{
	SSL *ssl;
	int i;

	tls_start("host", NULL, &echoes, &counting);
	ssl = tls_connect(NULL);
	tls_send(ssl, "first");
	tls_expect(ssl, "first");
	for (i = 0; i < 5; i++) {
		tls_send(ssl, "hello");
		memset(&calls, 0, sizeof(calls));
		ck_assert_int_eq(kquay_step(q, 1000), 1);
		ck_assert_int_eq(calls.kevent, 1);
		ck_assert_int_eq(calls.read, 1);
		ck_assert_int_eq(calls.write, 1);
		tls_expect(ssl, "hello");
	}
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* What several records bring is one recv; several writes are one send. */
START_TEST(records_are_taken_together)
{
	SSL *ssl;

	tls_start("host", NULL, &echoes, &counting);
	ssl = tls_connect(NULL);
	tls_send(ssl, "first");
	tls_expect(ssl, "first");
	tls_send(ssl, "one ");
	tls_send(ssl, "two ");
	tls_send(ssl, "three");
	memset(&calls, 0, sizeof(calls));
	tls_expect(ssl, "one two three");
	ck_assert_int_eq(calls.read, 1);
	ck_assert_int_eq(calls.write, 1);
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* A handshake of the server's side: two reads, two writes (TLS 1.3: its
   flight, and the tickets). */
START_TEST(a_handshake_is_few_calls)
{
	SSL *ssl;

	tls_start("host", NULL, &echoes, &counting);
	ssl = tls_connect(NULL);
	kit_settle();
	ck_assert_int_le(calls.read, 3);
	ck_assert_int_le(calls.write, 2);
	tls_close(ssl);
	tls_stop();
}
END_TEST

START_TEST(a_kernel_that_gives_and_takes_little)
{
	static const int errs[] = { 0, EINTR, EAGAIN, ENOBUFS, ENOMEM };
	size_t i, k;
	SSL_CTX *ctx = tls_client_ctx(NULL);
	SSL *ssl;

	tls_start("host", NULL, &echoes, &counting);
	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++)
		for (k = 1; k < 4; k++) {
			fault_read = (struct fault){ k & 1 ? 10000 : 0, 0 };
			fault_write = (struct fault){ k & 2 ? 10000 : 0, 0 };
			if (errs[i] != 0) {
				fault_read.err = fault_write.err = errs[i];
				fault_read.times = k & 1 ? 7 : 0;
				fault_write.times = k & 2 ? 7 : 0;
			}
			ssl = tls_client(ctx, NULL);
			tls_shake(ssl);
			tls_send(ssl, "some words to come back");
			tls_expect(ssl, "some words to come back");
			SSL_shutdown(ssl);
			tls_expect_end(ssl);
			tls_close(ssl);
		}
	UNTIL(kit_closed.n == 15);
	ck_assert_int_eq(kit_closed.why, KQUAY_EOF);
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

START_TEST(what_is_fatal_ends_one)
{
	static const int errs[] = { ECONNRESET, EPIPE, ETIMEDOUT, EIO };
	SSL *ssl, *other;
	int n = 0;
	size_t i;

	tls_start("host", NULL, &echoes, &counting);
	other = tls_connect(NULL);
	for (i = 0; i < 2 * sizeof(errs) / sizeof(errs[0]); i++) {
		ssl = tls_connect(NULL);
		kit_settle();
		*(i % 2 ? &fault_read : &fault_write) =
		    (struct fault){ 1, errs[i / 2] };
		tls_send(ssl, "x");
		UNTIL(kit_closed.n == n + 1);
		ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
		ck_assert_int_eq(kit_closed.err, errs[i / 2]);
		tls_close(ssl);
		n++;
		tls_send(other, "still here");
		tls_expect(other, "still here");
	}
	tls_close(other);
	tls_stop();
}
END_TEST

/* -- the end
 * --------------------------------------------------------------------- */

START_TEST(the_peer_may_close_its_half)
{
	SSL *ssl;

	tls_start("host", NULL, &stays, NULL);
	ssl = tls_connect(NULL);
	tls_send(ssl, "one\ntwo\nrest");
	SSL_shutdown(ssl);
	UNTIL(ends == 1);
	ck_assert_str_eq(lines, "one|two|rest|");
	kquay_puts(kit_conn(), "still talking");
	tls_expect(ssl, "still talking");
	kit_settle();
	ck_assert_int_eq(ends, 1);
	kquay_puts(kit_conn(), "last words");
	kquay_close(kit_conn());
	tls_expect(ssl, "last words");
	tls_expect_end(ssl);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* An end that anybody on the way can cause is none. */
START_TEST(a_stream_without_close_notify_is_broken)
{
	SSL *ssl;

	tls_start("host", NULL, &stays, NULL);
	ssl = tls_connect(NULL);
	tls_send(ssl, "one\nhalf a li");
	shutdown(SSL_get_fd(ssl), SHUT_WR);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, ECONNRESET);
	ck_assert_str_eq(lines, "one|");
	ck_assert_int_eq(ends, 0);
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* A record that was changed on the way; what came before it counts. */
START_TEST(a_forged_record_breaks_the_stream)
{
	static const char forged[] = "\x17\x03\x03\x00\x20"
				     "0123456789abcdef0123456789abcdef";
	SSL *ssl;

	tls_start("host", NULL, &stays, NULL);
	ssl = tls_connect(NULL);
	kit_settle();
	tls_send(ssl, "one\n");
	ck_assert_int_eq(send(SSL_get_fd(ssl), forged, 37, 0), 37);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, EPROTO);
	ck_assert_str_eq(lines, "one|");
	ck_assert_int_eq(ends, 0);
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* Whoever ends it, the peer can tell that this was all. */
START_TEST(each_end_says_so)
{
	static const struct kquay_sys sys = { .now = kit_now };
	struct kquay_conf conf = { .maxconn = 4, .idle = 1000, .sys = &sys };
	SSL *ssl;
	int i;

	for (i = 0; i < 4; i++) {
		tls_start("host", NULL, &reads, &conf);
		ssl = tls_connect(NULL);
		UNTIL(kquay_next(q, NULL) != NULL);
		switch (i) {
		case 0:
			kquay_close(kit_conn());
			break;
		case 1:
			kit_clock += 1100;
			UNTIL(kit_closed.n == 1);
			ck_assert_int_eq(kit_closed.why, KQUAY_IDLE);
			break;
		case 2:
			kquay_stop(q);
			break;
		case 3:
			kquay_free(q);
			q = kquay_new(&reads, &conf);
		}
		tls_expect_end(ssl);
		tls_close(ssl);
		tls_stop();
	}
	/* But not an abort. */
	tls_start("host", NULL, &reads, NULL);
	ssl = tls_connect(NULL);
	UNTIL(kquay_next(q, NULL) != NULL);
	kquay_abort(kit_conn());
	kit_expect_reset(SSL_get_fd(ssl));
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* -- much
 * ------------------------------------------------------------------------- */

enum { BULK = 8 << 20 };

static char *
bulk(void)
{
	char *data = malloc(BULK);
	unsigned x = 1;
	size_t i;

	ck_assert_ptr_nonnull(data);
	for (i = 0; i < BULK; i++) {
		x = x * 1103515245 + 12345;
		data[i] = (char)(x >> 16);
	}
	return data;
}

/* Both ways at the same time, the client never in the server's way. */
START_TEST(much_goes_both_ways)
{
	char *data = bulk(), *back = malloc(BULK);
	size_t sent = 0, got = 0, n;
	int64_t deadline = kit_ms() + 3 * KIT_DEADLINE;
	SSL *ssl;

	tls_start("host", NULL, &echoes, NULL);
	ssl = tls_connect(NULL);
	SSL_set_mode(ssl,
	    SSL_MODE_ENABLE_PARTIAL_WRITE |
		SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	while (got < BULK) {
		ERR_clear_error();
		if (sent < BULK &&
		    SSL_write_ex(ssl, data + sent, BULK - sent, &n) == 1)
			sent += n;
		if (tls_read(ssl, back + got, BULK - got, &n) == SSL_ERROR_NONE)
			got += n;
		ck_assert_int_ne(kquay_step(q, 0), -1);
		ck_assert_int_eq(kit_closed.n, 0);
		ck_assert_int_lt(kit_ms(), deadline);
	}
	ck_assert_mem_eq(back, data, BULK);
	SSL_shutdown(ssl);
	tls_expect_end(ssl);
	tls_close(ssl);
	tls_stop();
	free(data);
	free(back);
}
END_TEST

static char *flood;

static int
on_open_flood(struct kquay_conn *c)
{
	ck_assert_int_eq(kquay_write(c, flood, BULK), 0);
	return 0;
}

static void
on_drained(struct kquay_conn *c)
{
	drains++;
	kquay_puts(c, "drained");
}

/* The peer that does not read is not read from, and gets all in the end. */
START_TEST(a_slow_reader_holds_up_itself)
{
	static const struct kquay_ops ops = { .open = on_open_flood,
		.line = on_line,
		.drained = on_drained,
		.close = kit_on_close };
	struct kquay_conf conf = { .maxconn = 4, .outmax = 2 * BULK };
	struct kquay_conn *c;
	SSL *ssl;

	flood = bulk();
	tls_start("host", NULL, &ops, &conf);
	ssl = tls_connect(NULL);
	tls_send(ssl, "a line\n");
	kit_settle();
	c = kit_conn();
	ck_assert_uint_gt(kquay_pending(c), BULK / 4);
	ck_assert_str_eq(lines, "");
	/* What is written behind a queue is in order, and of few records. */
	kquay_puts(c, "more");
	kquay_puts(c, ".");
	tls_expect_bytes(ssl, flood, BULK);
	tls_expect(ssl, "more.drained");
	ck_assert_int_eq(drains, 1);
	UNTIL(lines[0] != '\0');
	ck_assert_str_eq(lines, "a line|");
	ck_assert_uint_eq(kquay_pending(c), 0);
	tls_close(ssl);
	tls_stop();
	free(flood);
}
END_TEST

START_TEST(a_reader_that_is_too_slow_is_ended)
{
	struct kquay_conf conf = { .maxconn = 4, .outmax = BULK };
	SSL *ssl;
	int rc = 0;

	flood = bulk();
	tls_start("host", NULL, &reads, &conf);
	ssl = tls_connect(NULL);
	UNTIL(kquay_next(q, NULL) != NULL);
	ck_assert_int_eq(kquay_write(kit_conn(), flood, BULK + 1), -1);
	ck_assert_int_eq(errno, EMSGSIZE);
	while (rc == 0)
		rc = kquay_write(kit_conn(), flood, BULK / 8);
	ck_assert_int_eq(errno, ENOBUFS);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SLOW);
	tls_close(ssl);
	tls_stop();
	free(flood);
}
END_TEST

/* Closing delivers what is queued, and the close_notify behind it. */
START_TEST(a_close_delivers_what_is_queued)
{
	struct kquay_conf conf = { .maxconn = 4, .outmax = 2 * BULK };
	SSL *ssl;

	flood = bulk();
	tls_start("host", NULL, &reads, &conf);
	ssl = tls_connect(NULL);
	UNTIL(kquay_next(q, NULL) != NULL);
	ck_assert_int_eq(kquay_write(kit_conn(), flood, BULK), 0);
	kquay_puts(kit_conn(), "the end");
	kquay_close(kit_conn());
	tls_expect_bytes(ssl, flood, BULK);
	tls_expect(ssl, "the end");
	tls_expect_end(ssl);
	SSL_shutdown(ssl);
	tls_close(ssl);
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	tls_stop();
	free(flood);
}
END_TEST

/* -- what only TLS has
 * --------------------------------------------------------------- */

START_TEST(keys_are_updated)
{
	SSL *ssl;
	int i;

	tls_start("host", NULL, &echoes, NULL);
	ssl = tls_connect(NULL);
	for (i = 0; i < 6; i++) {
		ck_assert_int_eq(SSL_key_update(ssl,
				     i % 2 ? SSL_KEY_UPDATE_REQUESTED :
					     SSL_KEY_UPDATE_NOT_REQUESTED),
		    1);
		tls_send(ssl, "with new keys");
		tls_expect(ssl, "with new keys");
	}
	ck_assert_int_eq(kit_closed.n, 0);
	tls_close(ssl);
	tls_stop();
}
END_TEST

static int alerts;

static void
watch_alerts(const SSL *ssl, int where, int alert)
{
	if (where == SSL_CB_READ_ALERT &&
	    (alert & 0xff) == SSL_AD_NO_RENEGOTIATION)
		alerts++;
}

START_TEST(renegotiation_is_refused)
{
	SSL_CTX *ctx = tls_client_ctx(NULL);
	size_t n;
	char byte;
	SSL *ssl;

	tls_start("host", NULL, &echoes, NULL);
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_info_callback(ctx, watch_alerts);
	ssl = tls_client(ctx, NULL);
	tls_shake(ssl);
	tls_send(ssl, "before");
	tls_expect(ssl, "before");
	ck_assert_int_eq(SSL_renegotiate(ssl), 1);
	SSL_do_handshake(ssl);
	UNTIL(((void)tls_read(ssl, &byte, 1, &n), alerts == 1));
	tls_close(ssl);
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

/* A request may come with the last of the handshake. */
START_TEST(a_request_behind_the_handshake_is_not_lost)
{
	SSL_CTX *ctx = tls_client_ctx(NULL);
	BIO *in, *out;
	char buf[8192];
	SSL *ssl;
	size_t n;
	int fd, rc;

	tls_start("host", NULL, &echoes, NULL);
	ssl = tls_client(ctx, NULL);
	fd = SSL_get_fd(ssl);
	in = BIO_new_socket(fd, BIO_NOCLOSE);
	out = BIO_new(BIO_s_mem());
	SSL_set_bio(ssl, in, out);
	SSL_do_handshake(ssl);
	n = (size_t)BIO_read(out, buf, sizeof(buf));
	ck_assert_int_eq(send(fd, buf, n, 0), n);
	UNTIL((rc = SSL_do_handshake(ssl)) == 1);
	ck_assert_int_eq(SSL_write(ssl, "at once", 7), 7);
	n = (size_t)BIO_read(out, buf, sizeof(buf));
	ck_assert_int_eq(send(fd, buf, n, 0), n);
	tls_expect(ssl, "at once");
	close(fd);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	tls_stop();
}
END_TEST

/* A paused connection loses nothing, not even the end. */
START_TEST(a_pause_keeps_what_came)
{
	SSL *ssl;

	tls_start("host", NULL, &stays, NULL);
	ssl = tls_connect(NULL);
	UNTIL(kquay_next(q, NULL) != NULL);
	kquay_pause(kit_conn(), 1);
	tls_send(ssl, "one\n");
	tls_send(ssl, "two\n");
	SSL_shutdown(ssl);
	kit_settle();
	ck_assert_str_eq(lines, "");
	kquay_pause(kit_conn(), 0);
	UNTIL(ends == 1);
	ck_assert_str_eq(lines, "one|two|");
	tls_close(ssl);
	tls_stop();
}
END_TEST

/* An idle connection holds no record's room, neither its own nor OpenSSL's. */
START_TEST(an_idle_connection_holds_no_buffers)
{
	const struct more *more;
	SSL *ssl;

	flood = bulk();
	tls_start("host", NULL, &echoes, &counting);
	ssl = tls_connect(NULL);
	tls_send_bytes(ssl, flood, 100000);
	tls_expect_bytes(ssl, flood, 100000);
	kit_settle();
	more = kquay_pool_more(kit_conn());
	ck_assert_ptr_null(more->out);
	ck_assert_ptr_null(more->in);
	ck_assert_int_eq(SSL_has_pending(more->tls->ssl), 0);
	ck_assert_uint_eq(q->tls_room->outlen, 0);
	ck_assert_uint_eq(q->tls_room->pos, q->tls_room->len);
	tls_close(ssl);
	tls_stop();
	free(flood);
}
END_TEST

static const TTest **const tests[] = {
	&a_request_is_three_calls,
	&records_are_taken_together,
	&a_handshake_is_few_calls,
	&a_kernel_that_gives_and_takes_little,
	&what_is_fatal_ends_one,
	&the_peer_may_close_its_half,
	&a_stream_without_close_notify_is_broken,
	&a_forged_record_breaks_the_stream,
	&each_end_says_so,
	&much_goes_both_ways,
	&a_slow_reader_holds_up_itself,
	&a_reader_that_is_too_slow_is_ended,
	&a_close_delivers_what_is_queued,
	&keys_are_updated,
	&renegotiation_is_refused,
	&a_request_behind_the_handshake_is_not_lost,
	&a_pause_keeps_what_came,
	&an_idle_connection_holds_no_buffers,
};

TLS_MAIN("server_tls_stream", tests)
