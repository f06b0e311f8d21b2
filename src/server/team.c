/*
 * A team: loops of one service, a thread each, that share their limits, their
 * addresses and their end.
 *
 * A connection belongs to one loop for its life; what the loops have in
 * common is here, and is either atomic or under the lock of the table of
 * peer addresses:
 *
 *  - how many connections there are (conns, and dials beside them).  A slot is
 *    taken from the team before one of the loop, and every loop's table is
 *    large enough for all of them, so the limit holds exactly and whoever is
 *    the busiest.  A loop that found the team full is told when a slot is
 *    given back (waiting).
 *  - how many connections each peer address has.
 *  - how far all are asked to stop (level, 1 or 2).  A loop that is woken
 *    obeys: kquay_stop() as often as that.
 *
 * Where the system spreads callers over sockets of one address, each loop
 * listens on its own.  UNIX sockets, inherited ones, and all if KQUAY_DEAL
 * asks for it, belong to the first loop, which deals: the caller goes to the
 * loop with the fewest connections, by post.  No loop is done while one may
 * be dealt to it (dealing, coming).
 */
#include "server.h"
#include "os.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MEMBERS_MAX = 1024, OWN_FDS = 8 };

struct member {
	struct kquay *q;
	pthread_t thread;
	int started;
	int err;             /* errno of the end of its thread */
	atomic_uint conns;   /* its part of the team's, and those that come */
	atomic_uint coming;  /* dealt, and not there yet */
	atomic_bool waiting; /* its listeners are off until a slot is free */
};

struct peer {
	uint64_t key[2];
	uint32_t count, next; /* next by number, from 1; also of the free */
	uint32_t family;
};

struct kquay_team {
	unsigned n;
	int deals_all;
	uint32_t maxconn, maxdial;
	atomic_uint conns, dials, level, waiting;
	atomic_bool dealing; /* the first loop may still deal */
	struct member *members;

	/* Peer addresses; under lock. */
	pthread_mutex_t lock;
	struct peer *peers;
	uint32_t *chains;
	uint32_t mask, used, free;
	uint64_t seed[2];
};

struct dealt {
	int fd;
	unsigned layers;
	struct kquay_tls *tls;
	union peer_addr peer;
	socklen_t salen;
};

static int make_members(struct kquay_team *t, const struct kquay_ops *ops,
    const struct kquay_conf *conf);
static int make_peers(struct kquay_team *t);
static int listen_on_each(struct kquay_team *t, const char *host,
    const char *port);
static void spread(struct kquay *q, struct listener *last);
static int dealt(struct kquay_team *t, int rc);
static void *run_member(void *arg);
static void give_up(struct member *m);
static void raise_level(struct kquay_team *t, unsigned level);
static void obey(struct kquay *q, unsigned level);
static struct member *self(const struct kquay *q);
static struct member *least(struct kquay_team *t);
static void arrive(struct kquay *q, void *arg);
static uint32_t *find_peer(struct kquay_team *t, const struct sockaddr *sa);

struct kquay_team *
kquay_team_new(const struct kquay_ops *ops, const struct kquay_conf *conf,
    unsigned n)
{
	static const struct kquay_conf defaults;
	struct kquay_team *t;
	int saved;

	if (n == 0)
		n = kquay_os_cpus();
	if (n > MEMBERS_MAX) {
		errno = EINVAL;
		return NULL;
	}
	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	t->n = n;
	t->members = calloc(n, sizeof(*t->members));
	if (t->members != NULL &&
	    make_members(t, ops, conf != NULL ? conf : &defaults) == 0)
		return t;
	saved = errno;
	kquay_team_free(t);
	errno = saved;
	return NULL;
}

static int
make_members(struct kquay_team *t, const struct kquay_ops *ops,
    const struct kquay_conf *conf)
{
	struct kquay_conf k = *conf;
	struct kquay *q;
	unsigned i;

	t->deals_all = (k.flags & KQUAY_DEAL) || !kquay_os_spreads();
	if (!t->deals_all)
		k.flags |= KQUAY_REUSEPORT;
	for (i = 0; i < t->n; i++) {
		q = t->members[i].q = kquay_new(ops, &k);
		if (q == NULL)
			return -1;
		q->team = t;
		q->member = i;
		if (i > 0)
			continue;
		/* Signals are the first one's, and stop all of them. */
		k.flags |= KQUAY_NOSIGNAL;
		t->maxconn = q->conf.maxconn;
		if (conf->maxconn == 0 && t->maxconn > 2 * OWN_FDS * t->n)
			t->maxconn -= OWN_FDS * (t->n - 1);
		k.maxconn = t->maxconn;
		t->maxdial = k.maxdial;
	}
	return conf->maxperaddr == 0 ? 0 : make_peers(t);
}

static int
make_peers(struct kquay_team *t)
{
	size_t buckets = 16;

	while (buckets < t->maxconn)
		buckets *= 2;
	t->chains = calloc(buckets, sizeof(*t->chains));
	t->peers = calloc((size_t)t->maxconn + 1, sizeof(*t->peers));
	t->mask = (uint32_t)buckets - 1;
	arc4random_buf(t->seed, sizeof(t->seed));
	return t->chains == NULL || t->peers == NULL ? -1 : 0;
}

void
kquay_team_free(struct kquay_team *t)
{
	int saved = errno;
	unsigned i;

	if (t == NULL)
		return;
	for (i = 0; t->members != NULL && i < t->n; i++) {
		kquay_free(t->members[i].q);
		t->members[i].q = NULL;
	}
	pthread_mutex_destroy(&t->lock);
	free(t->members);
	free(t->chains);
	free(t->peers);
	free(t);
	errno = saved;
}

/* -- where they listen ----------------------------------------------------- */

int
kquay_team_listen(struct kquay_team *t, const char *host, const char *port)
{
	if (t->deals_all)
		return dealt(t, kquay_listen(t->members[0].q, host, port));
	return listen_on_each(t, host, port);
}

int
kquay_team_listen_unix(struct kquay_team *t, const char *path, mode_t mode)
{
	return dealt(t, kquay_listen_unix(t->members[0].q, path, mode));
}

int
kquay_team_listen_fd(struct kquay_team *t, int fd)
{
	return dealt(t, kquay_listen_fd(t->members[0].q, fd));
}

/* On every loop; the port that the first has got is that of the others. */
static int
listen_on_each(struct kquay_team *t, const char *host, const char *port)
{
	struct kquay *first = t->members[0].q, *q;
	struct listener *last[MEMBERS_MAX];
	char picked[8];
	int n = -1, rc;
	unsigned i;

	for (i = 0; i < t->n; i++) {
		q = t->members[i].q;
		last[i] = STAILQ_LAST(&q->listeners, listener, next);
		if (q != first)
			kquay_proxy(q, (first->layers & C_PROXY) != 0);
		rc = q == first ? 0 : kquay_tls(q, first->tls);
		if (rc == 0)
			rc = kquay_listen(q, host, q == first ? port : picked);
		if (rc == -1)
			goto fail;
		spread(q, last[i]);
		if (i > 0)
			continue;
		n = rc;
		strlcpy(picked,
		    strrchr(STAILQ_LAST(&q->listeners, listener, next)->text,
			':') +
			1,
		    sizeof(picked));
	}
	return n;

fail:
	rc = errno;
	if (q != first)
		strlcpy(first->error, q->error, sizeof(first->error));
	while (i-- > 0)
		kquay_listener_undo(t->members[i].q, last[i]);
	errno = rc;
	return -1;
}

/* The listeners of q after last have their like in the other loops. */
static void
spread(struct kquay *q, struct listener *last)
{
	struct listener *l;

	l = last != NULL ? STAILQ_NEXT(last, next) :
			   STAILQ_FIRST(&q->listeners);
	for (; l != NULL; l = STAILQ_NEXT(l, next))
		l->spread = 1;
}

/*
 * A loop of a team was given l.  Of one without others for its address the
 * first loop deals the callers.
 */
void
kquay_team_got(struct kquay *q, struct listener *l)
{
	l->deals = q->member == 0 && !l->spread;
	if (l->deals)
		atomic_store(&q->team->dealing, true);
}

/* The first loop's newest listeners, n of them, deal. */
static int
dealt(struct kquay_team *t, int n)
{
	struct listener *l;
	int skip = -n;

	if (n == -1)
		return -1;
	STAILQ_FOREACH(l, &t->members[0].q->listeners, next)
		skip++;
	STAILQ_FOREACH(l, &t->members[0].q->listeners, next)
		if (skip-- <= 0)
			l->deals = 1;
	atomic_store(&t->dealing, true);
	return n;
}

/* -- how they run ---------------------------------------------------------- */

int
kquay_team_run(struct kquay_team *t)
{
	sigset_t all, before;
	struct member *m;
	int err = 0;

	/* Signals are for the thread that has called. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	for (m = t->members + 1; m < t->members + t->n && err == 0; m++) {
		err = pthread_create(&m->thread, NULL, run_member, m);
		m->started = err == 0;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (err == 0)
		run_member(&t->members[0]);
	else
		give_up(&t->members[0]);
	for (m = t->members; m < t->members + t->n; m++) {
		if (m->started)
			pthread_join(m->thread, NULL);
		m->started = 0;
		if (err == 0)
			err = m->err;
	}
	if (err == 0)
		return 0;
	errno = err;
	return -1;
}

static void *
run_member(void *arg)
{
	struct member *m = arg;

	if (kquay_run(m->q) == -1) {
		m->err = errno;
		give_up(m);
	}
	return NULL;
}

/* One cannot run: let the others come to their end. */
static void
give_up(struct member *m)
{
	kquay_team_deaf(m->q);
	raise_level(m->q->team, 2);
}

void
kquay_team_stop(struct kquay_team *t)
{
	raise_level(t, atomic_load(&t->level) + 1);
}

int
kquay_team_post(struct kquay_team *t, kquay_post_fn *fn, void *arg)
{
	struct post *posts[MEMBERS_MAX];
	unsigned i;

	for (i = 0; i < t->n; i++) {
		posts[i] = kquay_post_new(fn, arg);
		if (posts[i] == NULL) {
			while (i-- > 0)
				free(posts[i]);
			return -1;
		}
	}
	for (i = 0; i < t->n; i++)
		kquay_post_put(t->members[i].q, posts[i]);
	return 0;
}

struct kquay *
kquay_team_loop(const struct kquay_team *t, unsigned n)
{
	return n < t->n ? t->members[n].q : NULL;
}

struct kquay_team *
kquay_team_of(const struct kquay *q, unsigned *n)
{
	if (n != NULL)
		*n = q->member;
	return q->team;
}

uint32_t
kquay_team_conns(const struct kquay_team *t)
{
	return atomic_load(&t->conns) + atomic_load(&t->dials);
}

/* -- how they stop --------------------------------------------------------- */

/* All are asked to stop as far as this, at least. */
static void
raise_level(struct kquay_team *t, unsigned level)
{
	unsigned now = atomic_load(&t->level), i;

	if (level > 2)
		level = 2;
	while (now < level &&
	    !atomic_compare_exchange_weak(&t->level, &now, level))
		;
	/* In kquay_team_free() some are not any more. */
	for (i = 0; i < t->n; i++)
		if (t->members[i].q != NULL)
			kquay_post_wake(t->members[i].q);
}

/* kquay_stop() of a loop of a team. */
void
kquay_team_stop_from(struct kquay *q)
{
	unsigned level = q->level < 2 ? q->level + 1u : 2;

	raise_level(q->team, level);
	obey(q, level);
}

static void
obey(struct kquay *q, unsigned level)
{
	while (q->level < level) {
		q->level++;
		kquay_loop_stop(q);
	}
}

/* A loop of a team was woken: something has changed, or was posted. */
void
kquay_team_woken(struct kquay *q)
{
	/* What was posted before a stop comes before it. */
	unsigned level = atomic_load(&q->team->level);

	kquay_post_run(q);
	obey(q, level);
	if (q->full)
		kquay_listen_resume(q);
}

/* A loop listens no more. */
void
kquay_team_deaf(struct kquay *q)
{
	struct kquay_team *t = q->team;
	unsigned i;

	if (q->member != 0 || !atomic_exchange(&t->dealing, false))
		return;
	for (i = 1; i < t->n; i++)
		kquay_post_wake(t->members[i].q);
}

/* Whether no connection will come any more to a loop that is stopping. */
int
kquay_team_settled(const struct kquay *q)
{
	return !atomic_load(&q->team->dealing) &&
	    atomic_load(&self(q)->coming) == 0;
}

/* -- how many they have ---------------------------------------------------- */

static struct member *
self(const struct kquay *q)
{
	return &q->team->members[q->member];
}

/* A slot of maxconn's, or of maxdial's beside.  0, or -1 if there is none. */
int
kquay_team_take(struct kquay *q, int beside)
{
	struct kquay_team *t = q->team;
	atomic_uint *taken = beside ? &t->dials : &t->conns;
	unsigned now = atomic_load(taken);

	do
		if (now >= (beside ? t->maxdial : t->maxconn))
			return -1;
	while (!atomic_compare_exchange_weak(taken, &now, now + 1));
	return 0;
}

/* The loop has one more connection, or one less. */
void
kquay_team_load(struct kquay *q, int n)
{
	atomic_fetch_add_explicit(&self(q)->conns, (unsigned)n,
	    memory_order_relaxed);
}

/* A slot is free again. */
void
kquay_team_give(struct kquay *q, int beside)
{
	struct kquay_team *t = q->team;
	struct member *m;

	atomic_fetch_sub(beside ? &t->dials : &t->conns, 1);
	if (beside)
		return;
	if (atomic_load(&t->waiting) == 0)
		return;
	for (m = t->members; m < t->members + t->n; m++)
		if (atomic_load(&m->waiting))
			kquay_post_wake(m->q);
}

int
kquay_team_full(const struct kquay *q)
{
	return !q->reserved && atomic_load(&q->team->conns) >= q->team->maxconn;
}

/* Whether q wants to be told of a slot. */
void
kquay_team_wait(struct kquay *q, int on)
{
	if (atomic_exchange(&self(q)->waiting, on != 0) != (on != 0))
		atomic_fetch_add(&q->team->waiting, on ? 1u : ~0u);
}

/*
 * Deal a caller to another loop, as far as that is the least busy.  1 if fd
 * is its from now on.
 */
int
kquay_team_deal(struct kquay *q, int fd, unsigned layers, struct kquay_tls *tls,
    const struct sockaddr *sa, socklen_t salen)
{
	struct member *to = least(q->team);
	struct dealt *d;

	if (q->stopping || to->q == q ||
	    (!q->reserved && kquay_team_take(q, 0) == -1))
		return 0;
	q->reserved = 1;
	d = malloc(sizeof(*d));
	if (d == NULL)
		return 0;
	d->fd = fd;
	d->layers = layers;
	d->tls = kquay_tls_hold(tls);
	d->salen = salen < sizeof(d->peer) ? salen : sizeof(d->peer);
	memcpy(&d->peer, sa, d->salen);
	atomic_fetch_add(&to->coming, 1);
	if (kquay_post(to->q, arrive, d) == -1) {
		atomic_fetch_sub(&to->coming, 1);
		kquay_tls_free(d->tls);
		free(d);
		return 0;
	}
	q->reserved = 0;
	kquay_team_load(to->q, 1);
	return 1;
}

static struct member *
least(struct kquay_team *t)
{
	struct member *m, *found = t->members;

	for (m = t->members + 1; m < t->members + t->n; m++)
		if (atomic_load_explicit(&m->conns, memory_order_relaxed) <
		    atomic_load_explicit(&found->conns, memory_order_relaxed))
			found = m;
	return found;
}

/* The caller is here, with its slot. */
static void
arrive(struct kquay *q, void *arg)
{
	struct dealt *d = arg;

	kquay_team_load(q, -1); /* it is counted again as a connection */
	q->reserved = 1;
	kquay_listen_begin(q, d->fd, d->layers, d->tls, &d->peer.sa, d->salen);
	kquay_pool_unreserve(q);
	atomic_fetch_sub(&self(q)->coming, 1);
	kquay_tls_free(d->tls);
	free(d);
}

/* -- how many each address has --------------------------------------------- */

/* Count a connection of sa, if it has less than max.  0, or -1 if not. */
int
kquay_team_count(struct kquay *q, const struct sockaddr *sa, uint32_t max)
{
	struct kquay_team *t = q->team;
	uint64_t key[2];
	uint32_t *link, n;
	struct peer *p;
	int rc = 0;

	if (!kquay_pool_address(sa, key))
		return 0;
	pthread_mutex_lock(&t->lock);
	link = find_peer(t, sa);
	if (*link == 0) {
		/* There are as many as there may be connections. */
		n = t->free;
		if (n != 0)
			t->free = t->peers[n].next;
		else
			n = ++t->used;
		p = &t->peers[n];
		memcpy(p->key, key, sizeof(p->key));
		p->family = sa->sa_family;
		p->count = p->next = 0;
		*link = n;
	}
	p = &t->peers[*link];
	if (p->count < max)
		p->count++;
	else
		rc = -1;
	pthread_mutex_unlock(&t->lock);
	return rc;
}

void
kquay_team_uncount(struct kquay *q, const struct sockaddr *sa)
{
	struct kquay_team *t = q->team;
	uint32_t *link, n;

	pthread_mutex_lock(&t->lock);
	link = find_peer(t, sa);
	n = *link;
	if (--t->peers[n].count == 0) {
		*link = t->peers[n].next;
		t->peers[n].next = t->free;
		t->free = n;
	}
	pthread_mutex_unlock(&t->lock);
}

/* The link to the entry of sa, or to nothing. */
static uint32_t *
find_peer(struct kquay_team *t, const struct sockaddr *sa)
{
	uint64_t key[2], h;
	uint32_t *link;

	(void)kquay_pool_address(sa, key);
	h = (key[0] ^ t->seed[0]) * 0x9e3779b97f4a7c15u;
	h = (h ^ h >> 32 ^ key[1] ^ t->seed[1]) * 0xd6e8feb86659fd93u;
	link = &t->chains[(h >> 32) & t->mask];
	while (*link != 0 &&
	    (t->peers[*link].family != sa->sa_family ||
		t->peers[*link].key[0] != key[0] ||
		t->peers[*link].key[1] != key[1]))
		link = &t->peers[*link].next;
	return link;
}
