/*
 * Outgoing connections, until they are connected.
 *
 * A connection takes its slot at once and is CONN_DIAL.  Its name is looked
 * up, its addresses race (race.c), and each attempt has a socket that is not
 * the connection's yet; the first that is connected becomes it, the others
 * are closed.  Then it goes on as an accepted one does: PROXY header, TLS,
 * open().  All that lasts no longer than the dial's limit.
 *
 * An attempt is watched by a WRITE knote with the connection's tag.  So an
 * event of an attempt that has gone finds no attempt with that descriptor; or
 * finds a later one, which is therefore asked whether it is connected.
 */
#include "dial.h"
#include "os.h"

#include <sys/un.h>

#include <netinet/tcp.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
	DIAL_MS = 10000, /* until open, if nothing else is said */
	RETRY_MAX = 16 /* most ticks until a full UNIX socket is asked again */
};

struct attempt {
	int fd;
	int connected;      /* from the first, and nothing watches it */
	union peer_addr to; /* AF_UNIX: the path is the dial's */
};

struct dial {
	struct query query;
	struct kquay_conn *c;
	struct race race;
	struct attempt attempts[RACE_MAX]; /* the oldest first */
	unsigned n;
	uint32_t begun, limit;  /* tick, and ticks; 0 is never */
	uint32_t retry, pause;  /* UNIX: when to ask again, ticks before that */
	in_port_t port;         /* in network order */
	union peer_addr source; /* AF_UNSPEC: any */
	struct sockaddr_un *to; /* of UNIX, or NULL */
	char text[];            /* "example.org:80", "unix:PATH" */
};

static int attach_tls(struct kquay_conn *c, const struct kquay_target *target);
static struct dial *dial_new(const struct kquay_target *target);
static void settle(struct dial *d);
static void dial_free(struct dial *d);
static void set_text(struct dial *d, const char *host, const char *port);
static int begin(struct dial *d, const char *host);
static void wait(struct dial *d);
static void answered(struct query *query, enum family family,
    const struct answer *answer);
static void run(struct dial *d);
static void try_addr(struct dial *d, const union peer_addr *addr);
static void try_unix(struct dial *d);
static int open_socket(struct dial *d, int family);
static int start(struct dial *d, struct attempt *a, const struct sockaddr *sa,
    socklen_t salen);
static int is_loopback(const struct sockaddr *sa);
static int watch(struct kquay_conn *c, int fd);
static void drop(struct dial *d, unsigned i);
static void failed(struct dial *d, int err);
static void lost(struct dial *d, int err);
static int outcome(const struct attempt *a);
static void won(struct dial *d, unsigned i);

struct kquay_conn *
kquay_dial(struct kquay *q, const char *host, const char *port,
    const struct kquay_ops *ops, int ms)
{
	struct kquay_target target = { .host = host,
		.port = port,
		.timeout = ms };

	return kquay_dialto(q, &target, ops);
}

struct kquay_conn *
kquay_dialto(struct kquay *q, const struct kquay_target *target,
    const struct kquay_ops *ops)
{
	struct kquay_conn *c;
	struct dial *d;
	int saved;

	if (q->stopping) {
		errno = ESHUTDOWN;
		return NULL;
	}
	d = dial_new(target);
	if (d == NULL)
		return NULL;
	c = kquay_conn_dial(q, ops, 0);
	if (c == NULL) {
		dial_free(d);
		errno = ENOBUFS;
		return NULL;
	}
	kquay_pool_joint(c)->dial = d;
	d->c = c;
	d->begun = c->born;
	if ((target->proxy != 0 &&
		kquay_proxy_prepare(c, target->proxy, target->client) == -1) ||
	    (target->tls != NULL && attach_tls(c, target) == -1) ||
	    begin(d, target->host) == -1) {
		saved = errno;
		kquay_dial_drop(c);
		kquay_proxy_drop(c);
		if (c->flags & C_TLS)
			kquay_tls_drop(c);
		kquay_wheel_clear(c);
		kquay_pool_give(c);
		errno = saved;
		return NULL;
	}
	q->stat.dialled++;
	return c;
}

/* 0, or -1 with errno. */
static int
attach_tls(struct kquay_conn *c, const struct kquay_target *target)
{
	const char *name = target->servername;

	if (name == NULL && target->port != NULL)
		name = target->host;
	return kquay_tls_attach(c, target->tls, name);
}

/* What *target says, checked.  NULL with errno. */
static struct dial *
dial_new(const struct kquay_target *target)
{
	size_t size;
	struct dial *d;

	if (target->host == NULL || target->timeout < -1 || target->proxy < 0 ||
	    target->proxy > 2) {
		errno = EINVAL;
		return NULL;
	}
	size = strlen(target->host) + 16 +
	    (target->port != NULL ? strlen(target->port) : 0);
	d = calloc(1, sizeof(*d) + size);
	if (d == NULL)
		return NULL;
	d->query.fn = answered;
	d->limit =
	    kquay_wheel_ticks(target->timeout != 0 ? target->timeout : DIAL_MS);
	if (target->port == NULL) {
		snprintf(d->text, size, "unix:%s", target->host);
		d->to = calloc(1, sizeof(*d->to));
		if (d->to == NULL)
			goto fail;
		d->to->sun_family = AF_UNIX;
		if (strlcpy(d->to->sun_path, target->host,
			sizeof(d->to->sun_path)) < sizeof(d->to->sun_path))
			return d;
		errno = ENAMETOOLONG;
		goto fail;
	}
	set_text(d, target->host, target->port);
	if (kquay_resolve_port(target->port, &d->port) == -1)
		goto fail;
	if (target->source == NULL ||
	    kquay_resolve_numeric(target->source, &d->source))
		return d;
	errno = EINVAL;
fail:
	dial_free(d);
	return NULL;
}

/* By hand: printf(3) would take more of the loop's time than all the rest. */
static void
set_text(struct dial *d, const char *host, const char *port)
{
	char *to = d->text;
	int numeric6 = strchr(host, ':') != NULL;

	if (numeric6)
		*to++ = '[';
	to = stpcpy(to, host);
	if (numeric6)
		*to++ = ']';
	*to++ = ':';
	stpcpy(to, port);
}

/* Nothing is looked up or tried any more. */
static void
settle(struct dial *d)
{
	kquay_resolve_cancel(&d->query);
	while (d->n > 0)
		drop(d, d->n - 1);
	kquay_race_fini(&d->race);
}

/* Keeps errno. */
static void
dial_free(struct dial *d)
{
	int saved = errno;

	settle(d);
	free(d->to);
	free(d);
	errno = saved;
}

/* 0, or -1 with errno and nothing has begun. */
static int
begin(struct dial *d, const char *host)
{
	if (d->to != NULL) {
		d->race.family[FAMILY_6].known = 1;
		d->race.family[FAMILY_4].known = 1;
		try_unix(d);
		return 0;
	}
	if (kquay_resolve_ask(kquay_pool_loop(d->c), host, &d->query) == -1)
		return -1;
	wait(d);
	return 0;
}

/* Be called again in time: but who is connected at once need not be. */
static void
wait(struct dial *d)
{
	if (!(d->c->flags & C_READY))
		kquay_wheel_set(d->c);
}

/* -- what happens to it ---------------------------------------------------- */

/* The addresses of one family are known. */
static void
answered(struct query *query, enum family family, const struct answer *answer)
{
	struct dial *d = (void *)query;

	if (d->c->state != CONN_DIAL)
		return;
	if (kquay_race_answer(&d->race, family, answer,
		kquay_wheel_now(kquay_pool_loop(d->c))) == -1)
		lost(d, ENOMEM);
	else
		run(d);
}

/* The loop has come to c: one of its attempts was connected at once. */
void
kquay_dial_ready(struct kquay_conn *c)
{
	struct dial *d = kquay_pool_dial(c);
	unsigned i;

	for (i = 0; i < d->n; i++) {
		if (d->attempts[i].connected) {
			won(d, i);
			return;
		}
	}
	kquay_wheel_set(c); /* it was, and was given up */
}

/* An event of one of c's attempts. */
void
kquay_dial_event(struct kquay_conn *c, const struct kevent *ev)
{
	struct dial *d = kquay_pool_dial(c);
	unsigned i;
	int err;

	for (i = 0; i < d->n; i++)
		if (d->attempts[i].fd == (int)ev->ident)
			break;
	if (i == d->n)
		return;
	err = ev->flags & EV_ERROR ? (int)ev->data : outcome(&d->attempts[i]);
	if (err == EINPROGRESS)
		return;
	if (err == 0) {
		won(d, i);
		return;
	}
	drop(d, i);
	failed(d, err);
}

/* Time is up, or it is time for something. */
void
kquay_dial_expire(struct kquay_conn *c)
{
	struct dial *d = kquay_pool_dial(c);
	uint32_t now = kquay_pool_loop(c)->tick;

	if (d->limit != 0 && (int32_t)(now - d->begun - d->limit) > 0)
		lost(d, ETIMEDOUT);
	else if (c->state != CONN_DIAL)
		kquay_wheel_set(c);
	else if (d->to != NULL && d->n == 0)
		try_unix(d);
	else
		run(d);
}

/* When kquay_dial_expire() is to be called; 0 if never. */
int
kquay_dial_due(const struct kquay_conn *c, uint32_t *tick)
{
	const struct dial *d = kquay_pool_dial(c);
	uint32_t other;
	int have;

	if (d == NULL)
		return 0;
	have = d->limit != 0;
	if (have)
		*tick = d->begun + d->limit + 1;
	if (c->state != CONN_DIAL)
		return have;
	if (d->race.timed)
		other = d->race.due;
	else if (d->pause != 0 && d->n == 0)
		other = d->retry;
	else
		return have;
	if (!have || (int32_t)(other - *tick) < 0)
		*tick = other;
	return 1;
}

/* Where to, as text; NULL if c is open, or was. */
const char *
kquay_dial_text(const struct kquay_conn *c)
{
	const struct dial *d = kquay_pool_dial(c);

	return d == NULL ? NULL : d->text;
}

/* c is about to open, or is gone. */
void
kquay_dial_drop(struct kquay_conn *c)
{
	struct joint *joint = kquay_pool_joint(c);

	if (joint->dial != NULL)
		dial_free(joint->dial);
	joint->dial = NULL;
}

/* -- attempts -------------------------------------------------------------- */

/* Do what the race wants done now. */
static void
run(struct dial *d)
{
	struct kquay *q = kquay_pool_loop(d->c);
	union peer_addr addr;
	enum race_step step;

	while ((step = kquay_race_step(&d->race, q->tick, &addr)) == RACE_TRY)
		try_addr(d, &addr);
	if (step == RACE_LOST)
		lost(d, d->race.err);
	else
		wait(d);
}

/* Begin an attempt, or tell the race that it has failed. */
static void
try_addr(struct dial *d, const union peer_addr *addr)
{
	struct kquay *q = kquay_pool_loop(d->c);
	struct attempt a = { .to = *addr };

	addr_set_port(&a.to, d->port);
	if (d->n == RACE_MAX) {
		drop(d, 0);
		kquay_race_given_up(&d->race, ETIMEDOUT);
	}
	a.fd = open_socket(d, a.to.sa.sa_family);
	if (a.fd == -1 || start(d, &a, &a.to.sa, addr_len(&a.to)) == -1) {
		kquay_race_failed(&d->race, errno, q->tick);
		return;
	}
	d->attempts[d->n++] = a;
}

/*
 * A UNIX socket connects at once or not at all.  Linux does not tell when one
 * whose backlog is full has room, so that is asked again, less and less often.
 */
static void
try_unix(struct dial *d)
{
	struct attempt a = { .to = { .sa = { .sa_family = AF_UNIX } } };

	a.fd = open_socket(d, AF_UNIX);
	if (a.fd == -1)
		lost(d, errno);
	else if (start(d, &a, (const void *)d->to, sizeof(*d->to)) == 0)
		d->attempts[d->n++] = a;
	else if (errno != EAGAIN) {
		lost(d, errno);
		return;
	} else {
		d->pause = d->pause == 0 ? 1 :
		    d->pause < RETRY_MAX ? 2 * d->pause :
					   RETRY_MAX;
		d->retry = kquay_wheel_now(kquay_pool_loop(d->c)) + d->pause;
	}
	wait(d);
}

/* A socket from where the target wants it, or -1 with errno. */
static int
open_socket(struct dial *d, int family)
{
	const struct kquay *q = kquay_pool_loop(d->c);
	int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, on = 1;
	int keepalive = q->conf.keepalive, fd, saved;

	if (d->source.sa.sa_family != AF_UNSPEC &&
	    d->source.sa.sa_family != family && family != AF_UNIX) {
		errno = EADDRNOTAVAIL;
		return -1;
	}
	fd = (q->sys.socket != NULL ? q->sys.socket : socket)(family, type, 0);
	if (fd == -1 || family == AF_UNIX)
		return fd;
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) == -1)
		goto fail;
	if (keepalive != 0)
		kquay_os_keepalive(fd, keepalive);
	if (d->source.sa.sa_family == AF_UNSPEC)
		return fd;
	kquay_os_late_port(fd);
	if (bind(fd, &d->source.sa, addr_len(&d->source)) == 0)
		return fd;
fail:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/*
 * Connect, and watch what is not connected at once; or close it, -1 with errno.
 * What is on this machine often is: then the loop comes to it soon.
 */
static int
start(struct dial *d, struct attempt *a, const struct sockaddr *sa,
    socklen_t salen)
{
	struct kquay_conn *c = d->c;
	const struct kquay *q = kquay_pool_loop(c);
	int rc, err, saved;

	if (q->sys.connect != NULL)
		rc = q->sys.connect(a->fd, sa, salen);
	else
		rc = connect(a->fd, sa, salen);
	err = rc == 0 ? 0 : errno == EINTR ? EINPROGRESS : errno;
	if (err == EINPROGRESS && is_loopback(sa))
		err = outcome(a);
	if (err == 0) {
		a->connected = 1;
		kquay_conn_ready(c);
		return 0;
	}
	if (err == EINPROGRESS && watch(c, a->fd) == 0)
		return 0;
	saved = err == EINPROGRESS ? errno : err;
	close(a->fd);
	errno = saved;
	return -1;
}

static int
is_loopback(const struct sockaddr *sa)
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in4 = (const void *)sa;

	if (sa->sa_family == AF_INET6)
		return IN6_IS_ADDR_LOOPBACK(&in6->sin6_addr);
	return sa->sa_family == AF_INET &&
	    ntohl(in4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
}

static int
watch(struct kquay_conn *c, int fd)
{
	struct kquay *q = kquay_pool_loop(c);
	struct kevent ev;

	EV_SET(&ev, fd, EVFILT_WRITE, EV_ADD | EV_ONESHOT, KNOTE_NODATA, 0,
	    (void *)(uintptr_t)c->id);
	c->flags = (c->flags & ~C_LIST(0xff)) | C_LIST(q->list);
	return kquay_loop_change(q, &ev);
}

/* Give up an attempt. */
static void
drop(struct dial *d, unsigned i)
{
	struct kquay *q = kquay_pool_loop(d->c);
	int fd = d->attempts[i].fd;

	if ((d->c->flags & C_LIST(0xff)) == C_LIST(q->list))
		kquay_loop_forget(q, (uintptr_t)d->c->id, fd);
	close(fd);
	d->n--;
	memmove(&d->attempts[i], &d->attempts[i + 1],
	    (d->n - i) * sizeof(d->attempts[0]));
}

/* An attempt has failed, and is no more. */
static void
failed(struct dial *d, int err)
{
	if (d->to != NULL) {
		lost(d, err);
		return;
	}
	kquay_race_failed(&d->race, err,
	    kquay_wheel_now(kquay_pool_loop(d->c)));
	run(d);
}

static void
lost(struct dial *d, int err)
{
	kquay_conn_end(d->c, KQUAY_ERROR, err);
}

/*
 * 0 if it is connected, EINPROGRESS if not yet, or how it has failed.  Where
 * nobody listens, a socket may get the very port that it connects to as its
 * own, and be connected to itself.
 */
static int
outcome(const struct attempt *a)
{
	union peer_addr peer, own;
	socklen_t len = sizeof(peer);
	int err = 0;

	if (kquay_os_connected(a->fd))
		return 0;
	memset(&peer, 0, sizeof(peer));
	memset(&own, 0, sizeof(own));
	if (getpeername(a->fd, &peer.sa, &len) == -1) {
		len = sizeof(err);
		if (getsockopt(a->fd, SOL_SOCKET, SO_ERROR, &err, &len) == -1)
			return errno;
		return err != 0 ? err : EINPROGRESS;
	}
	if (a->to.sa.sa_family == AF_UNIX)
		return 0;
	len = sizeof(own);
	if (getsockname(a->fd, &own.sa, &len) == 0 &&
	    memcmp(&own, &peer, sizeof(own)) == 0)
		return ECONNREFUSED;
	return 0;
}

/* Attempt i is connected: it becomes the connection. */
static void
won(struct dial *d, unsigned i)
{
	struct attempt a = d->attempts[i];

	d->attempts[i] = d->attempts[--d->n];
	settle(d);
	kquay_conn_connected(d->c, a.fd, &a.to.sa, sizeof(a.to));
}
