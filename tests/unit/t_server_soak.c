/*
 * Soak: two thousand callers come, talk, stall, half-close, reset and hang up
 * at random, by TCP and UNIX, plain and with TLS.  The service echoes, or
 * dials itself, by a name, with a PROXY header and sometimes TLS, and splices
 * the two.  Every byte is looked at; whoever ends in order has got all of it;
 * and in the end no connection, descriptor or memory is left.
 *
 *	SOAK_S=60	for so many seconds [10]
 *	SOAK_N=2000	as many callers, if the limit of descriptors allows
 *	SOAK=seed	begin with this one
 */
#include "t_server_far.h"
#include "t_server_tls_kit.h"

#include <sys/resource.h>
#include <sys/un.h>

#include <netinet/in.h>

#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	CALLERS = 2000,
	EACH = 4, /* descriptors: a caller's, its connection's, two of a dial */
	AHEAD = 64 * 1024,  /* most that is on its way */
	FAR_AHEAD = 2 << 20 /* of some */
};

static struct caller {
	struct far far;
	uint64_t ahead;  /* most bytes on their way */
	unsigned rests;  /* until this turn */
	bool may_be_cut; /* the service may hang up on it */
	bool cut;        /* it has gone itself */
} * callers;

static int ncallers;
static unsigned rolls, turn;
static unsigned opened, closed, spliced, complete, lost;
static struct kquay_tls *tls_dials;
static SSL_CTX *tls_calls;

/* Where it listens; those of the back have a PROXY header. */
static struct {
	bool local, tls;
	char where[128];
} front[4], back[4];

static unsigned
roll(unsigned n)
{
	rolls = rolls * 1103515245 + 12345;
	return (rolls >> 8) % n;
}

/* -- the service ----------------------------------------------------------- */

/* In kquay_udata(). */
struct side {
	uint64_t mate; /* id of the one that it is to be spliced with */
	bool seen;     /* the first byte, which is the stream's mark */
	bool may_cut;
};

static const struct kquay_ops echoes, goes;

/* Whether c came to one of the back. */
static bool
at_back(struct kquay_conn *c)
{
	struct sockaddr_storage ss;
	int i;

	memset(&ss, 0, sizeof(ss));
	ck_assert_int_ne(kquay_localaddr(c, &ss), -1);
	if (ss.ss_family == AF_UNIX)
		return strstr(((struct sockaddr_un *)(void *)&ss)->sun_path,
			   "back") != NULL;
	for (i = 0; i < 4; i++)
		if (!back[i].local &&
		    atoi(back[i].where) ==
			ntohs(((struct sockaddr_in *)(void *)&ss)->sin_port))
			return true;
	return false;
}

static int
on_open(struct kquay_conn *c)
{
	struct kquay_target to = { .timeout = -1,
		.proxy = 2,
		.client = c,
		.servername = "localhost" };
	unsigned i = roll(4);
	struct kquay_conn *d;

	opened++;
	if (roll(2) || at_back(c)) {
		kquay_setops(c, &echoes);
		return 0;
	}
	to.host = back[i].local ? back[i].where : "localhost";
	to.port = back[i].local ? NULL : back[i].where;
	to.tls = back[i].tls ? tls_dials : NULL;
	d = kquay_dialto(kquay_of(c), &to, &goes);
	ck_assert_msg(d != NULL, "dial: %s", strerror(errno));
	((struct side *)kquay_udata(d))->mate = kquay_id(c);
	kquay_pause(c, 1);
	opened++;
	return 0;
}

static int
dial_opens(struct kquay_conn *d)
{
	struct side *s = kquay_udata(d);
	struct kquay_conn *c = kquay_find(kquay_of(d), s->mate);

	if (c == NULL || kquay_splice(c, d) == -1)
		return -1;
	s->mate = 0;
	spliced++;
	kquay_pause(c, 0);
	return 0;
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	struct side *s = kquay_udata(c);

	if (!s->seen) {
		s->seen = true;
		s->may_cut = *data & 1;
	}
	if (s->may_cut && roll(500) == 0) {
		if (roll(2))
			kquay_abort(c);
		else
			kquay_close(c);
		return 0;
	}
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	closed++;
}

static void
dial_closes(struct kquay_conn *d, enum kquay_why why)
{
	int err = errno;
	struct kquay_conn *c;
	const struct side *s = kquay_udata(d);

	closed++;
	if (s->mate == 0)
		return;
	/* Whoever had gone meanwhile is no loss. */
	c = kquay_find(kquay_of(d), s->mate);
	if (why == KQUAY_ERROR && c != NULL) {
		fprintf(stderr, "dial: %s\n", strerror(err));
		lost++;
	}
	if (c != NULL)
		kquay_close(c);
}

/* Callers leave in their handshake, but there is room for all. */
static void
on_refused(struct kquay *loop, const struct sockaddr *sa, socklen_t salen)
{
	lost += errno == EMFILE || errno == ENOBUFS || errno == ETIMEDOUT;
}

static const struct kquay_ops service = { .open = on_open,
	.close = on_close,
	.refused = on_refused };
static const struct kquay_ops echoes = { .input = echo, .close = on_close };
static const struct kquay_ops goes = { .open = dial_opens,
	.close = dial_closes };

static void
listen_everywhere(struct kquay_tls *tls)
{
	char name[16];
	unsigned n;
	int i;

	for (n = 0; n < 8; n++) {
		i = (int)n % 4;
		kquay_proxy(q, n >= 4);
		ck_assert_int_eq(kquay_tls(q, i & 1 ? tls : NULL), 0);
		(n < 4 ? front : back)[i].tls = i & 1;
		(n < 4 ? front : back)[i].local = i & 2;
		if (i & 2) {
			snprintf(name, sizeof(name), "%s%d",
			    n < 4 ? "front" : "back", i);
			strcpy((n < 4 ? front : back)[i].where, kit_path(name));
			ck_assert_int_eq(kquay_listen_unix(q,
					     (n < 4 ? front : back)[i].where,
					     0600),
			    1);
		} else {
			ck_assert_int_eq(kquay_listen(q, "127.0.0.1", "0"), 1);
			strcpy((n < 4 ? front : back)[i].where,
			    strrchr(kquay_listening(q, n), ':') + 1);
		}
	}
}

/* -- the callers ----------------------------------------------------------- */

static void
come(struct caller *k)
{
	unsigned i = roll(4), mark = roll(256);
	int fd;

	memset(k, 0, sizeof(*k));
	if (!front[i].local)
		strcpy(kit_port, front[i].where);
	fd = front[i].local ? kit_connect_unix(front[i].where) : kit_connect();
	far_begin(&k->far, fd, front[i].tls ? tls_calls : NULL, mark, mark);
	k->ahead = roll(64) == 0 ? FAR_AHEAD : AHEAD;
	k->may_be_cut = mark & 1;
}

/* Its stream has ended, by whomever: what has come must be right. */
static void
leave(struct caller *k)
{
	const struct far *f = &k->far;

	ck_assert(!f->wrong);
	ck_assert_uint_le(f->got, f->sent);
	if (!k->may_be_cut && !k->cut) {
		ck_assert_msg(f->ended && f->shut && f->got == f->sent,
		    "%s: %s after %llu of %llu bytes%s",
		    f->ssl != NULL ? "TLS" : "plain",
		    f->broken ? "broken" : "ended", (unsigned long long)f->got,
		    (unsigned long long)f->sent, f->shut ? "" : ", not shut");
		complete++;
	}
	far_end(&k->far, k->cut && roll(2));
}

static void
act(struct caller *k)
{
	struct far *f = &k->far;
	unsigned what;

	if (f->fd == -1) {
		come(k);
		return;
	}
	if ((int)(k->rests - turn) > 0)
		return;
	what = roll(128);
	if (what < 2) {
		k->cut = true;
		leave(k);
		return;
	}
	/* An empty stream has no mark. */
	if (what < 12 && f->sent > 0)
		far_shut(f);
	else if (what == 12)
		k->rests = turn + roll(4 * (unsigned)ncallers);
	else if (f->sent - f->got < k->ahead)
		far_send(f, 1 + roll(roll(8) == 0 ? 65536 : 2000));
	far_receive(f, 1 + roll(65536));
	if (f->ended || f->broken)
		leave(k);
}

/* Nobody says more; each goes once all has come back. */
static bool
any_left(void)
{
	bool any = false;
	struct far *f;
	int i;

	for (i = 0; i < ncallers; i++) {
		f = &callers[i].far;
		if (f->fd == -1)
			continue;
		any = true;
		if (f->sent == 0 || f->again != 0)
			far_send(f, 1);
		else
			far_shut(f);
		while (far_receive(f, SIZE_MAX) > 0)
			;
		if (f->ended || f->broken)
			leave(&callers[i]);
		if (i % 32 == 0)
			kit_step();
	}
	kit_step();
	return any;
}

/* Everybody talks for so long, and then all go. */
static void
soak(int64_t ms)
{
	int64_t end = kit_ms() + ms, deadline = end + 12 * KIT_DEADLINE;
	struct kquay_stat st;
	int i;

	for (i = 0; i < ncallers; i++)
		come(&callers[i]);
	for (turn = 0; turn++ % 64 != 0 || kit_ms() < end;) {
		act(&callers[roll((unsigned)ncallers)]);
		if (turn % 32 == 0)
			ck_assert_int_ne(kquay_step(q, 0), -1);
	}
	while (any_left())
		ck_assert_int_lt(kit_ms(), deadline);
	do {
		kit_step();
		kquay_stats(q, &st);
		ck_assert_int_lt(kit_ms(), deadline);
	} while (st.conns != 0);
	ck_assert_uint_eq(st.accepted + st.dialled, st.closed);
	ck_assert_uint_eq(opened, closed);
	ck_assert_uint_eq(lost, 0);
}

/* Bytes that are allocated; 0 if a sanitizer has them. */
static size_t
memory(void)
{
	return getenv("KQUAY_SANITIZE") != NULL ? 0 : mallinfo2().uordblks;
}

static int
number(const char *name, int dflt)
{
	return getenv(name) != NULL ? atoi(getenv(name)) : dflt;
}

static void
as_many_as_allowed(void)
{
	struct rlimit rl;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = rl.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &rl);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	ncallers = number("SOAK_N", CALLERS);
	if ((rlim_t)ncallers * EACH + 256 > rl.rlim_cur)
		ncallers = (int)(rl.rlim_cur - 256) / EACH;
	callers = calloc((size_t)ncallers, sizeof(*callers));
	ck_assert_ptr_nonnull(callers);
}

START_TEST(nothing_is_lost_and_nothing_left)
{
	struct kquay_tls_conf conf = { .cafile = tls_file("ca.pem") };
	struct kquay_conf limits = { .udatasz = sizeof(struct side),
		.handshake = 60000,
		.flags = KQUAY_NOSIGNAL };
	int seconds = number("SOAK_S", 10), before;
	struct kquay_tls *tls;
	struct kquay_stat st;
	size_t used;

	rolls = (unsigned)number("SOAK", (int)kit_ms());
	printf("SOAK=%u\n", rolls);
	fflush(stdout);
	signal(SIGPIPE, SIG_IGN);
	as_many_as_allowed();
	limits.maxconn = (uint32_t)ncallers * EACH;
	tls = tls_new("host", NULL);
	tls_dials = kquay_tls_new(&conf, NULL, 0);
	ck_assert_ptr_nonnull(tls_dials);
	tls_calls = tls_client_ctx(NULL);
	SSL_CTX_set_session_cache_mode(tls_calls, SSL_SESS_CACHE_OFF);
	before = unit_descriptors();
	q = kquay_new(&service, &limits);
	ck_assert_ptr_nonnull(q);
	listen_everywhere(tls);
	/* The first time for what is kept once it was needed. */
	soak(seconds * 300);
	used = memory();
	soak(seconds * 700);
	kquay_stats(q, &st);
	printf("%d callers, %llu connections (%u at most), %u spliced, "
	       "%u complete, %llu MiB, %zu and %zu bytes left\n",
	    ncallers, (unsigned long long)st.closed, st.peak, spliced, complete,
	    (unsigned long long)(st.in >> 20), used, memory());
	ck_assert_uint_ge(st.peak, (unsigned)ncallers);
	ck_assert_uint_gt(complete, (unsigned)ncallers / 4);
	ck_assert_uint_le(memory(), used + 128 * 1024);
	kit_stop();
	ck_assert_int_eq(unit_descriptors(), before);
	kquay_tls_free(tls);
	kquay_tls_free(tls_dials);
	SSL_CTX_free(tls_calls);
	free(callers);
}
END_TEST

static const TTest **const tests[] = { &nothing_is_lost_and_nothing_left };

int
main(void)
{
	kit_limit += 240 + 3 * number("SOAK_S", 10);
	return tls_main("server_soak", tests, 1);
}
