/*
 * relay: every connection goes on to one of the targets.
 *
 *	open() --> reading --> waiting --> dialling --> joined
 *	   |       (sni)          ^           |
 *	   |         |            |           | the next target
 *	   +---------+------------+-----------+
 *
 * Until it is joined a caller has a struct call: who it is to be connected
 * to, and what it has sent so far.  After that nothing: the two connections
 * know each other, and the server's its endpoint, which is given back when it
 * ends.  What passes then is kquay_splice()'s.
 *
 * Memory: a call for each caller that is not joined, with at most EARLY_MAX
 * and one read of its bytes; nothing but the two slots for one that is.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kquay.h>

#include "check.h"
#include "hash.h"
#include "log.h"
#include "relay_conf.h"
#include "running.h"
#include "session.h"
#include "sni.h"
#include "upstream.h"

enum {
	EARLY_MAX = 16 * 1024,
	SPARE = 8 /* connections, see relay_max_dial() */
};

/* What the connections of a service share. */
struct relay {
	struct upstream *upstream;
	struct kquay_tls *tls; /* of the targets with tls, or NULL */
	struct checks *checks; /* or NULL */
};

/*
 * Of each connection, the caller's and the server's.  Once they are joined the
 * endpoint is the server's, until that closes; then the caller's, whose mate
 * is itself.
 */
struct way {
	struct kquay_conn *mate; /* the other one, once they are joined */
	union {
		struct call *call; /* before that; then NULL, or */
		struct endpoint *endpoint;
	};
};

struct call {
	struct attempt attempt;
	struct kquay_conn *caller; /* NULL: it has gone */
	struct kquay_conn *server; /* that is being dialled, or NULL */
	enum { CALL_READING, CALL_WAITING, CALL_DIALLING } state;
	uint32_t retries; /* that are left */
	char why[128];    /* the last target could not be reached */
	int timed;        /* wait_for() is under way */
	int64_t until;    /* no other target after this, ms; 0: no limit */
	char *early;      /* what the caller has sent */
	size_t earlylen, earlysz;
	char name[]; /* server name, SNI_NAME_MAX + 1, if one is wanted */
};

static int relay_open(struct kquay_conn *);
static ssize_t relay_input(struct kquay_conn *, char *, size_t);
static int relay_eof(struct kquay_conn *);
static void relay_close(struct kquay_conn *, enum kquay_why);
static const char *relay_to(struct kquay_conn *);
static void abandon(struct kquay_conn *, struct call *);
static int dialling_open(struct kquay_conn *);
static void dialling_close(struct kquay_conn *, enum kquay_why);
static void joined_close(struct kquay_conn *, enum kquay_why);
static struct call *call_new(struct kquay_conn *, int);
static void call_free(struct call *);
static int keep(struct call *, const char *, size_t);
static void read_name(struct call *);
static int told_name(struct call *);
static void find_target(struct call *);
static int dial(struct call *);
static int again(struct call *, int, const char *);
static check_target_fn describe;
static void wait_for(struct call *, int);
static void stop_waiting(struct call *);
static void none_is_up(struct call *);
static kquay_post_fn on_room;
static kquay_watch_fn on_overdue;
static void give_up(struct call *, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void drop(struct call *);
static uint64_t source_of(struct kquay_conn *);
static int64_t now_ms(void);

static const struct kquay_ops relay_ops = {
	.open = relay_open,
	.input = relay_input,
	.eof = relay_eof,
	.close = relay_close,
};

static const struct kquay_ops dialling_ops = {
	.open = dialling_open,
	.close = dialling_close,
};

static const struct kquay_ops joined_ops = {
	.close = joined_close,
};

static inline struct way *
way_of(struct kquay_conn *c)
{
	return session_data(c);
}

static inline const struct relay_conf *
conf_of(const struct kquay_conn *c)
{
	return (const struct relay_conf *)service_conf_of(kquay_of(c));
}

static inline struct relay *
relay_of(const struct kquay_conn *c)
{
	return service_of(kquay_of(c))->state;
}

/* -- the caller ------------------------------------------------------------ */

static int
relay_open(struct kquay_conn *c)
{
	const struct relay_conf *conf = conf_of(c);
	int by_name = upstream_by_name(relay_of(c)->upstream);
	struct call *call;

	call = call_new(c, by_name);
	if (call == NULL)
		return -1;
	way_of(c)->call = call;
	if (by_name && !told_name(call)) {
		call->state = CALL_READING;
		wait_for(call, conf->connect_ms);
	} else
		find_target(call);
	return 0;
}

static ssize_t
relay_input(struct kquay_conn *c, char *data, size_t len)
{
	struct call *call = way_of(c)->call;

	if (call == NULL || way_of(c)->mate != NULL)
		return (ssize_t)len; /* it is about to be closed */
	if (keep(call, data, len) == -1)
		return -1;
	if (call->earlylen >= EARLY_MAX)
		kquay_pause(c, 1);
	if (call->state == CALL_READING)
		read_name(call);
	return (ssize_t)len;
}

/* It may want an answer still. */
static int
relay_eof(struct kquay_conn *c)
{
	struct call *call = way_of(c)->call;

	if (call == NULL || way_of(c)->mate != NULL)
		return 0;
	if (call->state == CALL_READING) {
		stop_waiting(call);
		find_target(call);
	}
	return 1;
}

static void
relay_close(struct kquay_conn *c, enum kquay_why why)
{
	struct way *way = way_of(c);

	if (way->mate == c)
		upstream_forget(way->endpoint);
	else if (way->mate != NULL)
		way_of(way->mate)->mate = NULL;
	else if (way->call != NULL)
		abandon(c, way->call);
}

/* The caller of a call has gone. */
static void
abandon(struct kquay_conn *c, struct call *call)
{
	struct way *server;

	call->caller = NULL;
	switch (call->state) {
	case CALL_DIALLING:
		server = way_of(call->server);
		server->endpoint = call->attempt.endpoint;
		kquay_setops(call->server, &joined_ops);
		kquay_close(call->server);
		break;
	case CALL_WAITING:
		stop_waiting(call);
		if (!upstream_leave(relay_of(c)->upstream, &call->attempt))
			return; /* on_room() frees it */
		break;
	case CALL_READING:
		stop_waiting(call);
		break;
	}
	call_free(call);
}

static const char *
relay_to(struct kquay_conn *c)
{
	struct kquay_conn *mate = way_of(c)->mate;

	return mate != NULL ? way_of(mate)->endpoint->text : NULL;
}

/* -- a call ---------------------------------------------------------------- */

static struct call *
call_new(struct kquay_conn *c, int by_name)
{
	const struct relay_conf *conf = conf_of(c);
	struct call *call;

	call = calloc(1, sizeof(*call) + (by_name ? SNI_NAME_MAX + 1 : 0));
	if (call == NULL)
		return NULL;
	call->caller = c;
	call->retries = conf->retries;
	if (conf->retry_ms != -1)
		call->until = now_ms() + conf->retry_ms;
	call->attempt.q = kquay_of(c);
	call->attempt.wake = on_room;
	if (conf->balance == BALANCE_HASH)
		call->attempt.source = source_of(c);
	return call;
}

static void
call_free(struct call *call)
{
	free(call->early);
	free(call);
}

/* What the caller sends before it is joined.  0, or -1. */
static int
keep(struct call *call, const char *data, size_t len)
{
	size_t size = call->earlysz;
	char *grown;

	if (size - call->earlylen < len) {
		if (size == 0)
			size = 512;
		while (size - call->earlylen < len)
			size *= 2;
		grown = realloc(call->early, size);
		if (grown == NULL)
			return -1;
		call->early = grown;
		call->earlysz = size;
	}
	memcpy(call->early + call->earlylen, data, len);
	call->earlylen += len;
	return 0;
}

/* Which server the caller asks for, if its bytes say so by now. */
static void
read_name(struct call *call)
{
	switch (sni_read(call->early, call->earlylen, call->name)) {
	case SNI_MORE:
		return;
	case SNI_NAME:
		call->attempt.name = call->name;
		break;
	case SNI_NONE:
	case SNI_BAD:
		break;
	}
	stop_waiting(call);
	find_target(call);
}

/*
 * Where TLS ends here, the handshake has told the name, or that there is none.
 */
static int
told_name(struct call *call)
{
	struct kquay_tlsinfo info;
	size_t i;

	if (kquay_tlsinfo(call->caller, &info) == -1)
		return 0;
	if (info.servername == NULL)
		return 1;
	for (i = 0; i < SNI_NAME_MAX && info.servername[i] != '\0'; i++)
		call->name[i] =
		    (char)tolower((unsigned char)info.servername[i]);
	call->attempt.name = call->name;
	return 1;
}

/* -- to a target ----------------------------------------------------------- */

/* Dial, wait, or give up; only then is the call gone. */
static void
find_target(struct call *call)
{
	const struct relay_conf *conf = conf_of(call->caller);
	struct upstream *up = relay_of(call->caller)->upstream;

	for (;;) {
		switch (upstream_pick(up, &call->attempt)) {
		case UPSTREAM_PICKED:
			if (dial(call) == 0 ||
			    again(call, errno, strerror(errno)) == -1)
				return;
			break;
		case UPSTREAM_WAIT:
			call->state = CALL_WAITING;
			wait_for(call,
			    conf->queue != 0 ? conf->queue_ms :
					       conf->connect_ms);
			return;
		case UPSTREAM_FULL:
			give_up(call, "no target has room");
			return;
		case UPSTREAM_NONE:
			none_is_up(call);
			return;
		}
	}
}

/* Dial the endpoint of the attempt.  0, or -1 with errno. */
static int
dial(struct call *call)
{
	const struct relay_conf *conf = conf_of(call->caller);
	struct kquay_target to = { .timeout = conf->connect_ms,
		.client = call->caller };

	describe(call->attempt.endpoint, &to,
	    service_of(kquay_of(call->caller)));
	call->server = kquay_dialto(kquay_of(call->caller), &to, &dialling_ops);
	if (call->server == NULL)
		return -1;
	call->state = CALL_DIALLING;
	way_of(call->server)->call = call;
	return 0;
}

/* How callers and checks reach an endpoint: check_target_fn. */
static void
describe(const struct endpoint *e, struct kquay_target *to, void *arg)
{
	const struct service *s = arg;
	const struct relay_conf *conf = (const struct relay_conf *)s->conf;
	const struct relay *relay = s->state;

	to->host = e->host;
	to->port = e->port;
	to->proxy = conf->send_proxy;
	if (*conf->source != '\0' && e->port != NULL)
		to->source = conf->source;
	if (!e->target->tls)
		return;
	to->tls = relay->tls;
	to->servername =
	    *conf->tls_servername != '\0' ? conf->tls_servername : e->name;
}

/*
 * The endpoint of the attempt could not be reached.  0 if another one may be
 * tried; -1: it was given up.
 */
static int
again(struct call *call, int err, const char *why)
{
	struct endpoint *e = call->attempt.endpoint;
	int rc = -1;

	snprintf(call->why, sizeof(call->why), "%s: %s", e->text, why);
	call->server = NULL;
	if (err == ESHUTDOWN)
		drop(call); /* the loop ends, and so does the caller */
	else if (call->retries == 0 ||
	    (call->until != 0 && now_ms() >= call->until))
		give_up(call, "%s", call->why);
	else {
		call->retries--;
		rc = 0;
	}
	upstream_failed(e, err);
	return rc;
}

/* A server is connected. */
static int
dialling_open(struct kquay_conn *server)
{
	struct call *call = way_of(server)->call;
	struct kquay_conn *caller = call->caller;
	struct endpoint *e = call->attempt.endpoint;
	int rc = 0;

	upstream_opened(e);
	way_of(server)->mate = caller;
	way_of(server)->endpoint = e;
	kquay_setops(server, &joined_ops);
	kquay_timeout(server, -1, -1); /* the caller's limits are the pair's */
	way_of(caller)->mate = server;
	way_of(caller)->call = NULL;
	if (call->earlylen > 0)
		rc = kquay_write(server, call->early, call->earlylen);
	call_free(call);
	if (rc == -1 || kquay_splice(caller, server) == -1)
		return -1;
	kquay_pause(caller, 0);
	return 0;
}

/* A server was not reached. */
static void
dialling_close(struct kquay_conn *server, enum kquay_why why)
{
	struct call *call = way_of(server)->call;
	int err = why == KQUAY_ERROR ? errno : ETIMEDOUT;
	struct kquay_tlsinfo tls;
	const char *text = strerror(err);

	if (kquay_tlsinfo(server, &tls) == 0 && tls.error != NULL)
		text = tls.error;
	if (why == KQUAY_SHUTDOWN) {
		/* So is the caller. */
		call->server = NULL;
		call->state = CALL_READING;
		upstream_done(call->attempt.endpoint);
	} else if (again(call, err, text) == 0)
		find_target(call);
}

/* The caller ends with it, or has already. */
static void
joined_close(struct kquay_conn *server, enum kquay_why why)
{
	struct way *way = way_of(server);
	struct kquay_conn *caller = way->mate;
	int err = errno;

	if (caller == NULL) {
		upstream_done(way->endpoint);
		return;
	}
	upstream_done_keep(way->endpoint);
	way_of(caller)->endpoint = way->endpoint;
	way_of(caller)->mate = caller;
	if (why == KQUAY_ERROR)
		session_why(caller, why, err);
	kquay_close(caller);
}

/* -- waiting --------------------------------------------------------------- */

static void
wait_for(struct call *call, int ms)
{
	struct kevent ev;

	if (ms == -1)
		return;
	EV_SET(&ev, (uintptr_t)call, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	if (kquay_watch(kquay_of(call->caller), &ev, on_overdue, call) == 0)
		call->timed = 1;
}

static void
stop_waiting(struct call *call)
{
	struct kevent ev;

	if (!call->timed)
		return;
	call->timed = 0;
	EV_SET(&ev, (uintptr_t)call, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(call->attempt.q, &ev, NULL, NULL);
}

/* A caller that waited has got an endpoint, or there is none any more. */
static void
on_room(struct kquay *q, void *arg)
{
	struct call *call = arg; /* the attempt is its first member */

	if (call->caller == NULL) {
		if (call->attempt.endpoint != NULL)
			upstream_done(call->attempt.endpoint);
		call_free(call);
		return;
	}
	stop_waiting(call);
	if (call->attempt.endpoint == NULL)
		none_is_up(call);
	else if (dial(call) == -1 && again(call, errno, strerror(errno)) == 0)
		find_target(call);
}

static void
on_overdue(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct call *call = arg;

	call->timed = 0;
	if (call->state == CALL_READING)
		give_up(call, "it did not say which server it wants");
	else if (upstream_leave(relay_of(call->caller)->upstream,
		     &call->attempt))
		give_up(call, "no target has room in time");
}

/* -- the end of a call that comes to nothing ------------------------------- */

static void
none_is_up(struct call *call)
{
	const char *name = call->attempt.name;

	if (*call->why != '\0')
		give_up(call, "%s; no other target is up", call->why);
	else if (name != NULL)
		give_up(call, "no target is up for %s", name);
	else
		give_up(call, "no target is up");
}

/* Close the caller, and say why. */
static void
give_up(struct call *call, const char *format, ...)
{
	struct kquay_conn *c = call->caller;
	char why[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	log_service(LEVEL_NOTICE, service_conf_of(kquay_of(c))->name, "%s: %s",
	    kquay_peer(c), why);
	drop(call);
}

static void
drop(struct call *call)
{
	struct kquay_conn *c = call->caller;

	stop_waiting(call);
	way_of(c)->call = NULL;
	call_free(call);
	kquay_close(c);
}

/* -- small things ---------------------------------------------------------- */

/* The hash of the caller's address: all of a user's on UNIX sockets. */
static uint64_t
source_of(struct kquay_conn *c)
{
	socklen_t len;
	const struct sockaddr *sa = kquay_peeraddr(c, &len);
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in4 = (const void *)sa;
	uid_t uid = 0;
	gid_t gid;
	pid_t pid;

	if (sa->sa_family == AF_INET)
		return hash(&in4->sin_addr, sizeof(in4->sin_addr));
	if (sa->sa_family == AF_INET6)
		return hash(&in6->sin6_addr, sizeof(in6->sin6_addr));
	(void)kquay_peercred(c, &uid, &gid, &pid);
	return hash(&uid, sizeof(uid));
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* -- the service ----------------------------------------------------------- */

static int
relay_start(struct service *s, char *why, size_t whysz)
{
	const struct relay_conf *conf = (const struct relay_conf *)s->conf;
	const struct upstream_conf limits = {
		.name = s->conf->name,
		.targets = &conf->to,
		.balance = conf->balance,
		.max_per_target = conf->max_per_target,
		.queue = conf->queue,
		.fail_limit = conf->fail_limit,
		.fail_ms = conf->fail_ms,
	};
	struct relay *relay;

	relay = calloc(1, sizeof(*relay));
	if (relay == NULL)
		goto fail;
	s->state = relay;
	if (relay_tls(conf, &relay->tls, why, whysz) == -1)
		return -1;
	relay->upstream = upstream_new(&limits, service_loop(s, 0));
	if (relay->upstream == NULL)
		goto fail;
	if (conf->check.interval_ms == -1)
		return 0;
	relay->checks = check_start(&conf->check, s->conf->name,
	    relay->upstream, service_loop(s, 0), describe, s);
	if (relay->checks != NULL)
		return 0;
fail:
	snprintf(why, whysz, "%s", strerror(errno));
	return -1;
}

static void
relay_retire(struct service *s)
{
	struct relay *relay = s->state;

	if (relay->checks != NULL)
		check_stop(relay->checks);
	upstream_retire(relay->upstream);
}

static void
relay_end(struct service *s)
{
	struct relay *relay = s->state;

	if (relay == NULL)
		return;
	check_free(relay->checks);
	upstream_free(relay->upstream);
	kquay_tls_free(relay->tls);
	free(relay);
	s->state = NULL;
}

/* Whom we dial from now on sees what our files hold now. */
static int
relay_reload(struct service *s, char *why, size_t whysz)
{
	const struct relay *relay = s->state;

	if (relay->tls == NULL)
		return 0;
	return kquay_tls_reload(relay->tls, NULL, why, whysz);
}

static struct upstream *
relay_upstream(const struct service *s)
{
	const struct relay *relay = s->state;

	return relay->upstream;
}

/*
 * One for each caller, and some for servers that take their time to read what
 * is left for them, when another has the caller's place already.
 */
static uint32_t
relay_max_dial(const struct service_conf *base)
{
	const struct relay_conf *conf = (const struct relay_conf *)base;
	uint32_t callers = base->max_connections;

	return callers + callers / 8 + SPARE + check_slots(&conf->check);
}

const struct service_handler service_relay = {
	.name = "relay",
	.help = "pass each connection on to a target",
	.ops = &relay_ops,
	.settings = relay_settings,
	.confsz = sizeof(struct relay_conf),
	.udatasz = sizeof(struct way),
	.memory = 128 * 1024 + sizeof(struct call) + SNI_NAME_MAX + 1,
	.check = relay_conf_check,
	.needs = relay_conf_needs,
	.start = relay_start,
	.end = relay_end,
	.retire = relay_retire,
	.reload = relay_reload,
	.upstream = relay_upstream,
	.to = relay_to,
	.max_dial = relay_max_dial,
};
