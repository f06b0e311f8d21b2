/*
 * Asking the loops.
 *
 * What is of a service is written down in the main thread, before; then each
 * loop adds what is its own, in its thread, with the question's lock held.
 * No two questions share anything.
 */
#include <sys/types.h>
#include <sys/queue.h>

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kquay.h>

#include "gather.h"
#include "log.h"
#include "reload.h"
#include "sandbox.h"
#include "serve.h"
#include "session.h"
#include "upstream.h"

struct question {
	STAILQ_ENTRY(question) next; /* of those about connections */
	pthread_mutex_t lock;
	void (*answered)(struct question *);

	/* The answer. */
	struct status *status;
	struct connections *connections;
	uint64_t closed;

	/* Of the state: who serves callers, to be compared with only. */
	const struct service **serving;
	size_t nserving;

	/* Which connections. */
	uint64_t id, after;
	char *service;
	struct access peers; /* allow, if there_is_peer */
	int there_is_peer;

	union {
		gather_status_fn *status;
		gather_connections_fn *connections;
		gather_closed_fn *closed;
	} fn;
	void *arg;
};

/* For upstream_each(). */
struct describing {
	struct status *status;
	struct status_service *service;
	int retired;
};

static int open_questions;
/* About connections: the first is with the loops, the others wait. */
static STAILQ_HEAD(, question) lists = STAILQ_HEAD_INITIALIZER(lists);
static int64_t began_ms, began;

static struct question *question_new(char *, size_t);
static void question_free(struct question *);
static int choose(struct question *, const struct selection *, char *, size_t);
static int ask(struct question *, void (*)(struct branch *, void *), char *,
    size_t);
static void on_done(void *);
static int describe_services(struct question *);
static void describe_service(struct status *, const struct service *);
static upstream_each_fn describe_target;
static void count_branch(struct branch *, void *);
static void status_answered(struct question *);
static int ask_in_turn(struct question *, char *, size_t);
static void list_branch(struct branch *, void *);
static void list_one(struct question *, struct branch *, struct kquay_conn *);
static void connections_answered(struct question *);
static void close_branch(struct branch *, void *);
static void closed_answered(struct question *);
static int is_chosen(const struct question *, const struct branch *,
    struct kquay_conn *);

/* -- questions ------------------------------------------------------------- */

static struct question *
question_new(char *why, size_t whysz)
{
	struct question *q;

	if (open_questions == GATHER_MAX) {
		snprintf(why, whysz, "too many questions: ask again");
		return NULL;
	}
	q = calloc(1, sizeof(*q));
	if (q == NULL || pthread_mutex_init(&q->lock, NULL) != 0) {
		snprintf(why, whysz, "%s", strerror(ENOMEM));
		free(q);
		return NULL;
	}
	open_questions++;
	return q;
}

static void
question_free(struct question *q)
{
	access_kind.free(&q->peers.allow);
	pthread_mutex_destroy(&q->lock);
	free(q->serving);
	free(q->service);
	free(q);
	open_questions--;
}

static int
choose(struct question *q, const struct selection *which, char *why,
    size_t whysz)
{
	char wrong[256];

	q->id = which->id;
	if (which->service != NULL) {
		q->service = strdup(which->service);
		if (q->service == NULL) {
			snprintf(why, whysz, "%s", strerror(errno));
			return -1;
		}
	}
	if (which->peer == NULL)
		return 0;
	q->there_is_peer = 1;
	if (access_kind.parse(&q->peers.allow, which->peer, wrong,
		sizeof(wrong)) == -1) {
		snprintf(why, whysz, "peer: %s", wrong);
		return -1;
	}
	access_prepare(&q->peers);
	return 0;
}

static int
ask(struct question *q, void (*fn)(struct branch *, void *), char *why,
    size_t whysz)
{
	if (serve_each_loop(fn, on_done, q) == -1) {
		snprintf(why, whysz, "%s", strerror(errno));
		return -1;
	}
	return 0;
}

static void
on_done(void *arg)
{
	struct question *q = arg;

	q->answered(q);
	question_free(q);
}

/* -- the state ------------------------------------------------------------- */

void
gather_begin(void)
{
	began = time(NULL);
	began_ms = session_now_ms();
}

int
gather_status(gather_status_fn *fn, void *arg, char *why, size_t whysz)
{
	struct question *q = question_new(why, whysz);

	if (q == NULL)
		return -1;
	q->answered = status_answered;
	q->fn.status = fn;
	q->arg = arg;
	q->status = status_new();
	if (q->status == NULL || describe_services(q) == -1)
		snprintf(why, whysz, "%s", strerror(errno));
	else if (ask(q, count_branch, why, whysz) == 0)
		return 0;
	status_free(q->status);
	question_free(q);
	return -1;
}

static int
describe_services(struct question *q)
{
	const struct service *s;
	size_t n = 0;

	q->status->pid = getpid();
	q->status->started = began;
	q->status->uptime_ms = session_now_ms() - began_ms;
	q->status->generation = reload_generation();
	q->status->workers = workers_count();
	q->status->log_lost = log_lost();
	q->status->sandbox = sandbox_state();
	TAILQ_FOREACH(s, &services_running, next)
		n++;
	q->serving = calloc(n + 1, sizeof(*q->serving));
	if (q->serving == NULL)
		return -1;
	TAILQ_FOREACH(s, &services_running, next) {
		if (!s->retired)
			q->serving[q->nserving++] = s;
		describe_service(q->status, s);
	}
	TAILQ_FOREACH(s, &services_retired, next)
		describe_service(q->status, s);
	return 0;
}

/* Of one that is retired: what no newer one of that name has said before. */
static void
describe_service(struct status *st, const struct service *s)
{
	const struct service_handler *handler = s->conf->handler;
	struct describing d = { .status = st, .retired = s->retired };

	d.service = status_service(st, s->conf->name, handler->name);
	if (d.service == NULL)
		return;
	if (d.service->max_connections == 0) {
		d.service->max_connections = s->conf->max_connections;
		d.service->max_per_source = s->conf->max_per_source;
	}
	if (handler->upstream != NULL)
		upstream_each(handler->upstream(s), describe_target, &d);
}

static void
describe_target(const struct endpoint *e, void *arg)
{
	struct describing *d = arg;
	struct status_target *t;

	if (endpoint_is_vacant(e))
		return;
	t = status_target(d->status, d->service, e->target->text, e->text);
	if (t == NULL)
		return;
	t->conns += e->active;
	t->dialled += e->opened;
	t->failures += e->failed;
	if (d->retired && t->weight != 0)
		return;
	t->weight = e->weight;
	t->max = e->max;
	t->backup = e->target->backup;
	t->health = e->health;
	t->up = endpoint_is_up(e);
}

static void
count_branch(struct branch *b, void *arg)
{
	const struct service *s = b->service;
	struct question *q = arg;
	struct status_service *told;
	struct kquay_stat stat;
	const char *where;
	unsigned i;
	size_t k;

	kquay_stats(b->q, &stat);
	pthread_mutex_lock(&q->lock);
	told = status_service(q->status, s->conf->name, s->conf->handler->name);
	if (told == NULL)
		goto done;
	status_count(told, &stat, &b->tally);
	for (k = 0; k < q->nserving && q->serving[k] != s; k++)
		continue;
	if (k == q->nserving) {
		told->draining += stat.conns - stat.dials;
		goto done;
	}
	/* The first loop has the listeners of all. */
	for (i = 0; b == s->branches; i++) {
		where = kquay_listening(b->q, i);
		if (where == NULL)
			break;
		if (words_add(&told->listening, where) == -1)
			q->status->failed = 1;
	}
done:
	pthread_mutex_unlock(&q->lock);
}

static void
status_answered(struct question *q)
{
	q->fn.status(q->status, q->arg);
}

/* -- connections ----------------------------------------------------------- */

int
gather_connections(const struct selection *which, uint64_t after,
    uint32_t limit, gather_connections_fn *fn, void *arg, char *why,
    size_t whysz)
{
	struct question *q = question_new(why, whysz);

	if (q == NULL)
		return -1;
	q->answered = connections_answered;
	q->fn.connections = fn;
	q->arg = arg;
	q->after = after;
	q->connections = connections_new(limit);
	if (q->connections == NULL)
		snprintf(why, whysz, "%s", strerror(errno));
	else if (choose(q, which, why, whysz) == 0 &&
	    ask_in_turn(q, why, whysz) == 0)
		return 0;
	connections_free(q->connections);
	question_free(q);
	return -1;
}

static int
ask_in_turn(struct question *q, char *why, size_t whysz)
{
	int waits = !STAILQ_EMPTY(&lists);

	if (!waits && ask(q, list_branch, why, whysz) == -1)
		return -1;
	STAILQ_INSERT_TAIL(&lists, q, next);
	return 0;
}

static void
list_branch(struct branch *b, void *arg)
{
	struct question *q = arg;
	struct kquay_conn *c;

	pthread_mutex_lock(&q->lock);
	KQUAY_FOREACH(c, b->q)
		if (is_chosen(q, b, c))
			list_one(q, b, c);
	pthread_mutex_unlock(&q->lock);
}

static void
list_one(struct question *q, struct branch *b, struct kquay_conn *c)
{
	const struct session *s = session_of(c);
	struct connection one = { .id = s->id };

	if (s->id <= q->after || !connections_wants(q->connections, s->id))
		return;
	one.service = b->service->conf->name;
	one.peer = kquay_peer(c);
	one.to = session_to(c);
	one.age_ms = session_now_ms() - (int64_t)s->ms;
	one.idle_ms = kquay_idle(c);
	kquay_traffic(c, &one.in, &one.out);
	connections_add(q->connections, &one);
}

/* The next one's turn; without memory for it, it is answered at once. */
static void
connections_answered(struct question *q)
{
	char why[256];

	connections_end(q->connections);
	q->fn.connections(q->connections, q->arg);
	STAILQ_REMOVE_HEAD(&lists, next);
	while ((q = STAILQ_FIRST(&lists)) != NULL &&
	    ask(q, list_branch, why, sizeof(why)) == -1) {
		STAILQ_REMOVE_HEAD(&lists, next);
		q->connections->failed = 1;
		q->fn.connections(q->connections, q->arg);
		question_free(q);
	}
}

int
gather_close(const struct selection *which, gather_closed_fn *fn, void *arg,
    char *why, size_t whysz)
{
	struct question *q = question_new(why, whysz);

	if (q == NULL)
		return -1;
	q->answered = closed_answered;
	q->fn.closed = fn;
	q->arg = arg;
	if (choose(q, which, why, whysz) == 0 &&
	    ask(q, close_branch, why, whysz) == 0)
		return 0;
	question_free(q);
	return -1;
}

static void
close_branch(struct branch *b, void *arg)
{
	struct question *q = arg;
	struct kquay_conn *c;

	pthread_mutex_lock(&q->lock);
	KQUAY_FOREACH(c, b->q) {
		if (!is_chosen(q, b, c))
			continue;
		kquay_close(c);
		q->closed++;
	}
	pthread_mutex_unlock(&q->lock);
}

static void
closed_answered(struct question *q)
{
	q->fn.closed(q->closed, q->arg);
}

/* What a handler has dialled is none of the connections. */
static int
is_chosen(const struct question *q, const struct branch *b,
    struct kquay_conn *c)
{
	const struct sockaddr *sa;
	socklen_t salen;
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;
	pid_t pid;

	if (kquay_dialled(c) || (q->id != 0 && session_of(c)->id != q->id) ||
	    (q->service != NULL &&
		strcmp(q->service, b->service->conf->name) != 0))
		return 0;
	if (!q->there_is_peer)
		return 1;
	sa = kquay_peeraddr(c, &salen);
	if (sa->sa_family == AF_UNIX)
		(void)kquay_peercred(c, &uid, &gid, &pid);
	return access_allows(&q->peers, sa, uid, gid);
}
