/*
 * The loop: kquay_new() to kquay_free(), one batch of events after the other.
 *
 * A batch is: one kevent(2), which also applies the changes collected since
 * the last; the events, each for a connection, a listener, a signal, a watch
 * or the mailbox; the connections whose input had to wait; expired limits;
 * and last the close callbacks and slots of what has ended.
 *
 * The clock is read once a batch, and only while something has a time limit.
 */
#include "server.h"
#include "os.h"

#include <sys/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAXCONN ((1 << 24) - 2) /* what the tags can tell apart */
#define MAXCONN_DEFAULT (1 << 20)
#define KEEPALIVE_MAX 32767 /* s, that Linux takes */
#define OWN_FDS 32          /* queue, listeners, reserve, the program's */

static int configure(struct kquay *q, const struct kquay_conf *conf);
static int set_limit(int *ms, int dflt, uint32_t *ticks);
static uint32_t default_maxconn(uint32_t maxdial);
static void destroy(struct kquay *q);
static int step(struct kquay *q, int ms);
static int next_due(struct kquay *q);
static int next_tick(struct kquay *q);
static int collect(struct kquay *q, int ms);
static void dispatch(struct kquay *q, const struct kevent *ev);
static int flush(struct kquay *q);
static int apply(struct kquay *q, const struct kevent *changes, int n);

struct kquay *
kquay_new(const struct kquay_ops *ops, const struct kquay_conf *conf)
{
	static const struct kquay_conf defaults;
	struct kquay *q;
	struct kevent ev;
	int saved;

	q = calloc(1, sizeof(*q));
	if (q == NULL)
		return NULL;
	q->kq = q->reserve = -1;
	q->list = 1;
	STAILQ_INIT(&q->listeners);
	STAILQ_INIT(&q->posts);
	RB_INIT(&q->watches);
	pthread_mutex_init(&q->post_lock, NULL);
	q->ops = *ops;
	if (configure(q, conf != NULL ? conf : &defaults) == -1 ||
	    kquay_pool_init(q) == -1)
		goto fail;
	q->epoch = (q->sys.now != NULL ? q->sys.now : kquay_os_now)();
	q->inbuf = malloc((size_t)q->conf.inmax + READSIZE + 1);
	q->cork = malloc(CORKSIZE);
	if (q->inbuf == NULL || q->cork == NULL)
		goto fail;
	q->kq = kqueue();
	if (q->kq == -1 || fcntl(q->kq, F_SETFD, FD_CLOEXEC) == -1)
		goto fail;
	q->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (q->reserve == -1)
		goto fail;
	EV_SET(&ev, (uintptr_t)q, EVFILT_USER, EV_ADD | EV_CLEAR, 0, 0,
	    (void *)(uintptr_t)TAG_POST);
	if (kquay_loop_apply(q, &ev) == -1)
		goto fail;
	if (q->nameservers != NULL && kquay_resolve_check(q) == -1)
		goto fail;
	if (!(q->conf.flags & KQUAY_NOSIGNAL) && kquay_signal_hold(q) == -1)
		goto fail;
	return q;

fail:
	saved = errno;
	destroy(q);
	errno = saved;
	return NULL;
}

void
kquay_free(struct kquay *q)
{
	struct kquay_conn *c;
	int saved = errno;

	if (q == NULL)
		return;
	q->running = 1;
	kquay_post_run(q);
	q->retired = q->stopping = 1;
	kquay_listen_close(q);
	kquay_output_uncork(q);
	for (c = NULL; (c = kquay_pool_next(q, c)) != NULL;)
		kquay_conn_end(c, KQUAY_SHUTDOWN, 0);
	while (q->dead != 0)
		kquay_conn_reap(q);
	kquay_post_run(q);
	kquay_resolve_fini(q);
	kquay_watch_fini(q);
	kquay_listen_fini(q);
	destroy(q);
	errno = saved;
}

int
kquay_run(struct kquay *q)
{
	while (!kquay_done(q))
		if (step(q, -1) == -1)
			return -1;
	return 0;
}

/*
 * The caller may wait by other means for the next event, so no change may
 * stay in the list.
 */
int
kquay_step(struct kquay *q, int ms)
{
	int n;

	n = step(q, ms);
	if (n != -1 && flush(q) == -1)
		return -1;
	return n;
}

int
kquay_fd(const struct kquay *q)
{
	return q->kq;
}

int
kquay_due(struct kquay *q)
{
	if (!q->running) {
		kquay_output_uncork(q);
		flush(q);
	}
	return next_due(q);
}

void
kquay_stop(struct kquay *q)
{
	if (q->team != NULL)
		kquay_team_stop_from(q);
	else
		kquay_loop_stop(q);
}

/* kquay_stop() of this loop alone. */
void
kquay_loop_stop(struct kquay *q)
{
	struct kquay_conn *c;
	int again = q->stopping;

	q->retired = q->stopping = q->last_call = 1;
	if (again)
		kquay_listen_close(q);
	for (c = NULL; (c = kquay_pool_next(q, c)) != NULL;) {
		if (again) {
			c->flags |= C_RESET;
			kquay_conn_end(c, KQUAY_SHUTDOWN, 0);
		} else
			kquay_conn_hangup(c, KQUAY_SHUTDOWN);
	}
}

void
kquay_retire(struct kquay *q)
{
	if (!q->retired)
		q->retired = q->last_call = 1;
}

int
kquay_done(const struct kquay *q)
{
	return q->retired && q->nconn == 0 && !q->last_call &&
	    (q->team == NULL || kquay_team_settled(q));
}

void *
kquay_arg(const struct kquay *q)
{
	return q->conf.arg;
}

void
kquay_setarg(struct kquay *q, void *arg)
{
	q->conf.arg = arg;
}

const char *
kquay_error(const struct kquay *q)
{
	return q->error;
}

void
kquay_stats(const struct kquay *q, struct kquay_stat *st)
{
	*st = q->stat;
	st->conns = q->nconn;
	st->dials = q->ndials;
}

/*
 * Apply the changes of the list, which is full, in their order.  Those that
 * fail stay in it, to fail where they are looked after.
 */
static void
make_room(struct kquay *q)
{
	int i, n = q->nchanges;

	q->nchanges = 0;
	if (apply(q, q->changes, n) == 0)
		return;
	for (i = 0; i < n; i++)
		if (apply(q, &q->changes[i], 1) == -1)
			q->changes[q->nchanges++] = q->changes[i];
}

/*
 * Leave a change for the next kevent(2).  If nothing else is possible it is
 * applied at once.  0, or -1 with errno if it was applied and failed.
 */
int
kquay_loop_change(struct kquay *q, const struct kevent *change)
{
	if (q->nchanges == NEVENTS)
		make_room(q);
	if (q->nchanges == NEVENTS)
		return kquay_loop_apply(q, change);
	q->changes[q->nchanges++] = *change;
	return 0;
}

/*
 * Take the changes of the descriptor fd with this tag out of the list: it is
 * about to be closed, and the number may become another file before they are
 * applied.
 */
void
kquay_loop_forget(struct kquay *q, uintptr_t tag, int fd)
{
	int from, to = 0;

	for (from = 0; from < q->nchanges; from++)
		if (q->changes[from].udata != (void *)tag ||
		    q->changes[from].ident != (uintptr_t)fd)
			q->changes[to++] = q->changes[from];
	q->nchanges = to;
}

/* Apply one change now.  0 or -1 with errno. */
int
kquay_loop_apply(struct kquay *q, const struct kevent *change)
{
	return apply(q, change, 1);
}

static int
apply(struct kquay *q, const struct kevent *changes, int n)
{
	int rc;

	rc = (q->sys.kevent != NULL ? q->sys.kevent : kevent)(q->kq, changes, n,
	    NULL, 0, NULL);
	/* A signal comes after the changes have been made. */
	return rc == -1 && errno != EINTR ? -1 : 0;
}

/* Apply all changes now.  A connection whose change fails is ended. */
static int
flush(struct kquay *q)
{
	struct kevent failed;
	int i, n = q->nchanges;

	q->nchanges = 0;
	if (n > 1 && apply(q, q->changes, n) == 0)
		return 0;
	/* Which of them failed?  To make the others again does no harm. */
	for (i = 0; i < n; i++) {
		if (kquay_loop_apply(q, &q->changes[i]) == 0)
			continue;
		failed = q->changes[i];
		failed.flags = EV_ERROR;
		failed.data = errno;
		dispatch(q, &failed);
	}
	return 0;
}

/* Look at the clock. */
void
kquay_loop_clock(struct kquay *q)
{
	int64_t now;

	now = q->sys.now != NULL ? q->sys.now() : kquay_os_now();
	q->tick = (uint32_t)((now - q->epoch) / TICK_MS);
	q->phase = (uint32_t)((now - q->epoch) % TICK_MS);
}

/* Copy *conf with the defaults filled in. */
static int
configure(struct kquay *q, const struct kquay_conf *conf)
{
	struct kquay_conf *k = &q->conf;

	*k = *conf;
	if (conf->sys != NULL)
		q->sys = *conf->sys;
	q->shake =
	    kquay_wheel_ticks(k->handshake == 0 ? SHAKE_MS : k->handshake);
	if (k->maxconn == 0)
		k->maxconn = default_maxconn(k->maxdial);
	if (k->inmax == 0)
		k->inmax = 8192;
	if (k->outmax == 0)
		k->outmax = 1024 * 1024;
	if (k->outhi == 0)
		k->outhi = k->outmax < 64 * 1024 ? k->outmax : 64 * 1024;
	if (k->outlo == 0)
		k->outlo = k->outhi < 16 * 1024 ? k->outhi : 16 * 1024;
	if (k->backlog == 0)
		k->backlog = SOMAXCONN;
	if (k->keepalive < 0 || k->keepalive > KEEPALIVE_MAX ||
	    k->maxconn > MAXCONN || k->maxdial > MAXCONN - k->maxconn ||
	    k->outlo > k->outhi || k->outhi > k->outmax ||
	    k->inmax > INT32_MAX || k->outmax > INT32_MAX ||
	    k->udatasz > INT32_MAX || set_limit(&k->idle, -1, &q->idle) == -1 ||
	    set_limit(&k->life, -1, &q->life) == -1 ||
	    set_limit(&k->handshake, -1, &q->handshake) == -1 ||
	    set_limit(&k->linger, 5000, &q->linger) == -1) {
		errno = EINVAL;
		return -1;
	}
	q->linger_max =
	    q->linger < WHEEL_MAX / LINGERS ? LINGERS * q->linger : WHEEL_MAX;
	if (conf->refusal != NULL) {
		q->refusal_len = strlen(conf->refusal);
		k->refusal = q->refusal = strdup(conf->refusal);
		if (q->refusal == NULL)
			return -1;
	}
	if (conf->nameservers != NULL) {
		k->nameservers = q->nameservers = strdup(conf->nameservers);
		if (q->nameservers == NULL)
			return -1;
	}
	return 0;
}

static int
set_limit(int *ms, int dflt, uint32_t *ticks)
{
	if (*ms < -1)
		return -1;
	if (*ms == 0)
		*ms = dflt;
	*ticks = kquay_wheel_ticks(*ms);
	return 0;
}

/* As many as there may be descriptors, but for others. */
static uint32_t
default_maxconn(uint32_t maxdial)
{
	struct rlimit rl;
	rlim_t others = (rlim_t)OWN_FDS + maxdial;

	if (getrlimit(RLIMIT_NOFILE, &rl) == -1 ||
	    rl.rlim_cur > MAXCONN_DEFAULT + others)
		return MAXCONN_DEFAULT;
	if (rl.rlim_cur >= 2 * OWN_FDS + (rlim_t)maxdial)
		return (uint32_t)(rl.rlim_cur - others);
	return rl.rlim_cur < 2 ? 1 : (uint32_t)rl.rlim_cur / 2;
}

/* Release what kquay_new() has made; all of it, or as far as it came. */
static void
destroy(struct kquay *q)
{
	kquay_signal_release(q);
	kquay_resolve_fini(q);
	kquay_splice_fini(q);
	kquay_pool_fini(q);
	kquay_tls_free(q->tls);
	free(q->tls_room);
	if (q->kq != -1)
		close(q->kq);
	if (q->reserve != -1)
		close(q->reserve);
	pthread_mutex_destroy(&q->post_lock);
	free(q->refusal);
	free(q->nameservers);
	free(q->inbuf);
	free(q->cork);
	free(q);
}

static int
step(struct kquay *q, int ms)
{
	int i, n;

	if (q->running) {
		errno = EDEADLK;
		return -1;
	}
	kquay_output_uncork(q);
	n = collect(q, ms);
	if (n == -1)
		return -1;
	q->running = 1;
	if (n > 0)
		q->stat.batches++;
	if (q->wheel.count != 0 || q->resting)
		kquay_loop_clock(q);
	if (q->ready != 0)
		kquay_conn_resume(q);
	for (i = 0; i < n; i++) {
		dispatch(q, &q->events[i]);
		kquay_output_uncork(q);
	}
	/* One who is connected may be joined, and then has input to pass on. */
	for (i = 0; i < 2 && q->ready != 0; i++)
		kquay_conn_resume(q);
	if (q->wheel.count != 0)
		kquay_wheel_turn(q);
	if (q->resting && (int32_t)(q->tick - q->rest_end) >= 0)
		kquay_listen_resume(q);
	if (q->resolver != NULL)
		kquay_resolve_turn(q);
	if (q->dead != 0)
		kquay_conn_reap(q);
	if (q->last_call)
		kquay_listen_last(q);
	kquay_output_uncork(q);
	q->running = 0;
	return n;
}

/*
 * Apply the changes, wait and collect.  The number of events, 0 also when a
 * signal was caught, or -1; the changes have been applied except if -1.
 */
static int
collect(struct kquay *q, int ms)
{
	struct timespec ts, *timeout = NULL;
	int n, due;

	due = next_due(q);
	if (ms < 0 || (due >= 0 && due < ms))
		ms = due;
	if (ms >= 0) {
		ts.tv_sec = ms / 1000;
		ts.tv_nsec = ms % 1000 * 1000000L;
		timeout = &ts;
	}
	n = (q->sys.kevent != NULL ? q->sys.kevent : kevent)(q->kq, q->changes,
	    q->nchanges, q->events, NEVENTS, timeout);
	if (n == -1) {
		if (errno != EINTR)
			return -1;
		n = 0;
	}
	q->nchanges = 0;
	q->list++;
	return n;
}

/* As kquay_due(). */
static int
next_due(struct kquay *q)
{
	int due, names;

	if (q->ready != 0 || q->dead != 0 || q->last_call)
		return 0;
	due = next_tick(q);
	if (q->resolver == NULL)
		return due;
	names = kquay_resolve_due(q);
	return due < 0 || (names >= 0 && names < due) ? names : due;
}

/* In how many ms the wheel turns or the listeners have rested; -1 is never. */
static int
next_tick(struct kquay *q)
{
	uint32_t tick;
	int64_t ms;
	int have;

	have = kquay_wheel_due(q, &tick);
	if (q->resting && (!have || (int32_t)(q->rest_end - tick) < 0)) {
		tick = q->rest_end;
		have = 1;
	}
	if (!have)
		return -1;
	kquay_loop_clock(q);
	ms = (int64_t)(int32_t)(tick - q->tick) * TICK_MS - q->phase;
	return ms < 0 ? 0 : ms > INT_MAX ? INT_MAX : (int)ms;
}

static void
dispatch(struct kquay *q, const struct kevent *ev)
{
	uintptr_t tag = (uintptr_t)ev->udata;
	struct kquay_conn *c;

	if ((tag & 0xffffff) != 0) {
		c = kquay_pool_tagged(q, tag);
		if (c != NULL)
			kquay_conn_event(c, ev);
		return;
	}
	if (ev->flags & EV_ERROR)
		return;
	switch ((enum tag)tag) {
	case TAG_LISTEN:
		kquay_listen_event(q, ev);
		break;
	case TAG_SIGNAL:
		kquay_stop(q);
		break;
	case TAG_POST:
		if (q->team != NULL)
			kquay_team_woken(q);
		else
			kquay_post_run(q);
		break;
	case TAG_WATCH:
		kquay_watch_event(q, ev);
		break;
	case TAG_RESOLVE:
		kquay_resolve_event(q, ev);
		break;
	}
}
