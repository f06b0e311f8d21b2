/*
 * Sessions: between the loop and the handler.
 */
#include <sys/types.h>

#include <errno.h>
#include <time.h>

#include "log.h"
#include "running.h"
#include "session.h"

#define REFUSALS_APART_MS 1000 /* a line about refusals, of one loop */

static atomic_uint_fast64_t last_id;

static int session_admit(struct kquay_conn *);
static int session_open(struct kquay_conn *);
static void session_close(struct kquay_conn *, enum kquay_why);
static void session_refused(struct kquay *, const struct sockaddr *, socklen_t);
static int begin(struct kquay_conn *);
static int delay(struct kquay_conn *, int);
static kquay_watch_fn on_delayed;
static const struct kquay_ops *handler_ops(const struct kquay_conn *);
static const char *reason(const struct kquay *, int);
static void write_line(struct kquay_conn *, const struct session *,
    enum kquay_why, int);

void
session_ops(struct kquay_ops *ops, const struct kquay_ops *handler)
{
	*ops = *handler;
	ops->admit = session_admit;
	ops->open = session_open;
	ops->close = session_close;
	ops->refused = session_refused;
}

void *
session_data(struct kquay_conn *c)
{
	return session_of(c) + 1;
}

const char *
session_to(struct kquay_conn *c)
{
	const struct service_handler *h = service_conf_of(kquay_of(c))->handler;

	return h->to != NULL && session_of(c)->opened ? h->to(c) : NULL;
}

void
session_why(struct kquay_conn *c, enum kquay_why why, int error)
{
	struct session *s = session_of(c);

	s->why = (unsigned)why & 15;
	s->error = (unsigned)error & 4095;
	s->blamed = 1;
}

int64_t
session_now_ms(void)
{
	struct timespec now;

#ifdef CLOCK_MONOTONIC_COARSE
	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
	clock_gettime(CLOCK_MONOTONIC, &now);
#endif
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct session *
session_of(struct kquay_conn *c)
{
	return kquay_udata(c);
}

static const struct kquay_ops *
handler_ops(const struct kquay_conn *c)
{
	return service_conf_of(kquay_of(c))->handler->ops;
}

/* May it come at all, and now? */
static int
session_admit(struct kquay_conn *c)
{
	const struct service *service = service_of(kquay_of(c));
	const struct service_conf *conf = service->conf;
	const struct sockaddr *sa;
	socklen_t salen;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	pid_t pid;
	int ms;

	/* To ask who a UNIX peer is takes a system call. */
	if (service->rate == NULL && access_is_open(&conf->access))
		return 0;
	sa = kquay_peeraddr(c, &salen);
	if (sa->sa_family == AF_UNIX)
		(void)kquay_peercred(c, &uid, &gid, &pid);
	if (!access_allows(&conf->access, sa, uid, gid)) {
		errno = EACCES;
		return -1;
	}
	if (service->rate == NULL)
		return 0;
	ms = rate_take(service->rate, sa, uid, session_now_ms());
	if (ms == -1) {
		errno = EAGAIN;
		return -1;
	}
	session_of(c)->ms = (uint64_t)ms;
	return 0;
}

static int
session_open(struct kquay_conn *c)
{
	struct session *s = session_of(c);
	struct branch *b = kquay_arg(kquay_of(c));
	int delay_ms = (int)s->ms;

	s->id =
	    1 + atomic_fetch_add_explicit(&last_id, 1, memory_order_relaxed);
	s->ms = (uint64_t)session_now_ms();
	atomic_fetch_add_explicit(&b->begun, 1, memory_order_relaxed);
	if (++b->tally.now > b->tally.peak)
		b->tally.peak = b->tally.now;
	return delay_ms > 0 ? delay(c, delay_ms) : begin(c);
}

static int
begin(struct kquay_conn *c)
{
	const struct kquay_ops *ops = handler_ops(c);

	session_of(c)->opened = 1;
	return ops->open != NULL ? ops->open(c) : 0;
}

/*
 * It has its slot, and waits.  The timer's number is the connection's, which
 * no process has, whose numbers handlers use.
 */
static int
delay(struct kquay_conn *c, int ms)
{
	struct kevent ev;

	kquay_pause(c, 1);
	EV_SET(&ev, kquay_id(c), EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	return kquay_watch(kquay_of(c), &ev, on_delayed, NULL);
}

static void
on_delayed(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct kquay_conn *c = kquay_find(q, ev->ident);

	if (c == NULL)
		return;
	kquay_pause(c, 0);
	if (begin(c) == -1)
		kquay_close(c);
}

static void
session_close(struct kquay_conn *c, enum kquay_why why)
{
	struct session *s = session_of(c);
	struct branch *b = kquay_arg(kquay_of(c));
	const struct kquay_ops *ops = handler_ops(c);
	int error = errno;

	if (s->blamed) {
		why = (enum kquay_why)s->why;
		error = (int)s->error;
	}
	b->tally.ended[why]++;
	b->tally.now--;
	if (log_wants(LEVEL_INFO))
		write_line(c, s, why, why == KQUAY_ERROR ? error : 0);
	errno = error;
	if (s->opened && ops->close != NULL)
		ops->close(c, why);
}

static void
write_line(struct kquay_conn *c, const struct session *s, enum kquay_why why,
    int error)
{
	struct log_connection line = {
		.level = LEVEL_INFO,
		.service = service_conf_of(kquay_of(c))->name,
		.peer = kquay_peer(c),
		.to = session_to(c),
		.why = kquay_whystr(why),
		.error = error,
		.ms = session_now_ms() - (int64_t)s->ms,
	};
	struct kquay_tlsinfo tls;

	if (kquay_tlsinfo(c, &tls) == 0)
		line.tls = tls.version;
	kquay_traffic(c, &line.in, &line.out);
	log_connection(&line);
}

/* A crowd that is turned away is one line a second, not one for each. */
static void
session_refused(struct kquay *q, const struct sockaddr *sa, socklen_t salen)
{
	struct branch *b = kquay_arg(q);
	int64_t now = session_now_ms();
	int error = errno;

	b->tally.refused[tally_refusal(error)]++;
	b->unsaid++;
	if (b->said_ms != 0 && now - b->said_ms < REFUSALS_APART_MS)
		return;
	log_service(LEVEL_NOTICE, b->service->conf->name,
	    "refused %u, the last for: %s", b->unsaid, reason(q, error));
	b->said_ms = now;
	b->unsaid = 0;
}

/* The setting to look at, or what the library says. */
static const char *
reason(const struct kquay *q, int error)
{
	switch (tally_refusal(error)) {
	case REFUSAL_FULL:
		return "max-connections";
	case REFUSAL_SOURCE:
		return "max-per-source";
	case REFUSAL_ACCESS:
		return "allow, deny, or its certificate";
	case REFUSAL_RATE:
		return "rate";
	default:
		return kquay_error(q);
	}
}
