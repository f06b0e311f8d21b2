/*
 * A running service: made, given its sockets, and taken leave of.
 */
#include <sys/types.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "activate.h"
#include "complain.h"
#include "config.h"
#include "log.h"
#include "running.h"
#include "secure.h"
#include "session.h"
#include "upgrade.h"

/* Queued output at which a peer that does not read is no longer read from. */
#define OUTHI 65536

struct service_list services_running = TAILQ_HEAD_INITIALIZER(services_running);
struct service_list services_retired = TAILQ_HEAD_INITIALIZER(services_retired);
void (*service_ended)(struct service *);

static int make_rate(struct service *);
static int make_loops(struct service *);
static void free_loops(struct service *);
static void set_limits(const struct service_conf *, struct kquay_conf *);
static int listens_on(const struct service_list *, const char *);
static int listen_on(struct service *, const struct address *);
static int inherit(struct service *, const struct address *);
static int open_address(struct service *, const struct address *);
static int listen_fd(struct service *, int);
static int listen_systemd(struct service *, const char *);
static int in_use(const struct service *, int);
static unsigned count_listeners(const struct kquay *);
static void add_berth(struct branch *, const struct address *, unsigned);
static int take_berth(struct branch *, struct branch *, const struct address *);
static void set_mode(const struct service *, const struct address *);
static void branch_left(struct branch *);
static kquay_post_fn one_left;

struct service *
service_new(struct service_conf *conf)
{
	struct service *s;
	char why[512];

	s = calloc(1, sizeof(*s));
	if (s == NULL)
		goto fail;
	s->conf = conf;
	s->text = config_text_of(conf);
	if (s->text == NULL || make_rate(s) == -1 || make_loops(s) == -1)
		goto fail;
	if (conf->handler->start == NULL ||
	    conf->handler->start(s, why, sizeof(why)) == 0)
		return s;
	complain("service \"%s\": %s", conf->name, why);
	free_loops(s);
	free(s);
	return NULL;

fail:
	complain("service \"%s\": %s", conf->name, strerror(errno));
	if (s != NULL)
		free_loops(s);
	free(s);
	return NULL;
}

static int
make_rate(struct service *s)
{
	const struct rate_conf conf = { .limit = s->conf->rate,
		.v6_prefix = s->conf->rate_v6_prefix,
		.sources = s->conf->rate_sources,
		.when = s->conf->when_rate };
	const struct service *before;

	if (conf.limit.tokens == 0)
		return 0;
	TAILQ_FOREACH(before, &services_running, next) {
		if (before->rate == NULL ||
		    strcmp(before->conf->name, s->conf->name) != 0)
			continue;
		s->rate = rate_share(before->rate, &conf);
		if (s->rate != NULL)
			return 0;
	}
	s->rate = rate_new(&conf);
	return s->rate == NULL ? -1 : 0;
}

static int
make_loops(struct service *s)
{
	char refusal[TEXT_MAX + 2];
	struct kquay_conf limits;
	struct kquay_ops ops;
	struct branch *b;
	struct kquay *q = NULL;
	const struct address *a;
	unsigned i, n, addresses = 0;

	n = s->conf->handler->single ? 1 : workers_count();
	set_limits(s->conf, &limits);
	session_ops(&ops, s->conf->handler->ops);
	if (*s->conf->refusal != '\0') {
		snprintf(refusal, sizeof(refusal), "%s\n", s->conf->refusal);
		limits.refusal = refusal;
	}
	s->branches = calloc(n, sizeof(*s->branches));
	if (s->branches == NULL)
		return -1;
	if (n > 1)
		s->team = kquay_team_new(&ops, &limits, n);
	else
		q = kquay_new(&ops, &limits);
	if (s->team == NULL && q == NULL)
		return -1;
	s->nbranches = s->holds = n;
	TAILQ_FOREACH(a, &s->conf->listen, next)
		addresses++;
	for (i = 0; i < n; i++) {
		b = &s->branches[i];
		b->q = n > 1 ? kquay_team_loop(s->team, i) : q;
		b->number = i;
		b->service = s;
		b->left = branch_left;
		kquay_setarg(b->q, b);
		b->berths = calloc(addresses, sizeof(*b->berths));
		if (b->berths == NULL || secure_listeners(s->conf, b->q) == -1)
			return -1;
	}
	return 0;
}

static void
set_limits(const struct service_conf *conf, struct kquay_conf *limits)
{
	*limits = (struct kquay_conf){
		.maxconn = conf->max_connections,
		.maxperaddr = conf->max_per_source,
		.inmax = conf->max_line,
		.outmax = conf->max_output,
		.idle = conf->idle_ms,
		.life = conf->life_ms,
		.linger = conf->linger_ms,
		.udatasz =
		    (uint32_t)(sizeof(struct session) + conf->handler->udatasz),
		.flags = KQUAY_NOSIGNAL | KQUAY_TRAFFIC,
	};

	if (conf->keepalive_ms != -1)
		limits->keepalive = conf->keepalive_ms / 1000;
	if (conf->when_full == FULL_WAIT)
		limits->flags |= KQUAY_FULLWAIT;
	if (conf->max_output > 0 && conf->max_output < OUTHI) {
		limits->outhi = conf->max_output;
		limits->outlo = conf->max_output / 4;
	}
	if (conf->nameservers != NULL && *conf->nameservers != '\0')
		limits->nameservers = conf->nameservers;
	if (conf->handler->max_dial != NULL)
		limits->maxdial = conf->handler->max_dial(conf);
}

/* And what else is its own. */
static void
free_loops(struct service *s)
{
	unsigned i;

	if (s->team != NULL)
		kquay_team_free(s->team);
	else if (s->nbranches > 0)
		kquay_free(s->branches[0].q);
	for (i = 0; i < s->nbranches; i++)
		free(s->branches[i].berths);
	free(s->branches);
	rate_free(s->rate);
	free(s->text);
}

void
service_free(struct service *s)
{
	free_loops(s);
	if (s->conf->handler->end != NULL)
		s->conf->handler->end(s);
	service_conf_free(s->conf);
	free(s);
}

/* -- listeners ------------------------------------------------------------- */

int
service_listen(struct service *s, const struct service_list *old)
{
	const struct address *a;

	TAILQ_FOREACH(a, &s->conf->listen, next)
		if ((old == NULL || !listens_on(old, a->text)) &&
		    listen_on(s, a) == -1)
			return -1;
	return 0;
}

static int
listens_on(const struct service_list *list, const char *address)
{
	const struct service *s;
	const struct address *a;

	TAILQ_FOREACH(s, list, next)
		TAILQ_FOREACH(a, &s->conf->listen, next)
			if (strcmp(a->text, address) == 0)
				return 1;
	return 0;
}

static int
listen_on(struct service *s, const struct address *a)
{
	struct branch *b;
	unsigned before[WORKERS_MAX], i;
	int n;

	for (i = 0; i < s->nbranches; i++)
		before[i] = count_listeners(s->branches[i].q);
	n = inherit(s, a);
	if (n == 0)
		n = open_address(s, a);
	if (n == -1) {
		complain("%s", kquay_error(s->branches[0].q));
		return -1;
	}
	if (n == 0) {
		complain("%s: %s", a->text,
		    a->kind == ADDRESS_FD ?
			"not a descriptor that kquay was started with" :
			"systemd has passed on no such socket");
		return -1;
	}
	for (i = 0; i < s->nbranches; i++) {
		b = &s->branches[i];
		add_berth(b, a, count_listeners(b->q) - before[i]);
	}
	return 0;
}

/*
 * How many listeners an earlier program has left us there; or -1.  A worker has
 * those that it had, if there are some for every one of us; all others are the
 * first one's, who deals their callers.  The files of UNIX sockets stay that
 * program's until service_claim().
 */
static int
inherit(struct service *s, const struct address *a)
{
	int fd, n, rc, spread = upgrade_workers(a->text) >= s->nbranches;
	unsigned worker;

	for (n = 0; (fd = upgrade_inherit(a->text, &worker)) != -1; n++) {
		rc = spread && worker < s->nbranches ?
		    kquay_listen_fd(s->branches[worker].q, fd) :
		    listen_fd(s, fd);
		if (rc == -1) {
			close(fd);
			return -1;
		}
	}
	return n;
}

/* Returns the number of listeners, or -1. */
static int
open_address(struct service *s, const struct address *a)
{
	struct kquay *q = s->branches[0].q;

	switch (a->kind) {
	case ADDRESS_TCP:
		return s->team != NULL ?
		    kquay_team_listen(s->team, a->host, a->port) :
		    kquay_listen(q, a->host, a->port);
	case ADDRESS_UNIX:
		return s->team != NULL ?
		    kquay_team_listen_unix(s->team, a->path, s->conf->mode) :
		    kquay_listen_unix(q, a->path, s->conf->mode);
	case ADDRESS_FD:
		return in_use(s, a->fd) ? 0 : listen_fd(s, a->fd);
	case ADDRESS_SYSTEMD:
		return listen_systemd(s, a->name);
	}
	return -1;
}

static int
listen_fd(struct service *s, int fd)
{
	return s->team != NULL ? kquay_team_listen_fd(s->team, fd) :
				 kquay_listen_fd(s->branches[0].q, fd);
}

static int
listen_systemd(struct service *s, const char *name)
{
	int fd = -1, n = 0;

	while ((fd = activate_next(fd, name)) != -1) {
		if (in_use(s, fd))
			continue;
		if (listen_fd(s, fd) == -1)
			return -1;
		n++;
	}
	return n;
}

/*
 * At a reload, what had been passed on may be closed by now, and something else
 * be there; but all of our own descriptors are closed by exec.
 */
static int
in_use(const struct service *s, int fd)
{
	int flags = fcntl(fd, F_GETFD);

	return s->generation > 0 && flags != -1 && (flags & FD_CLOEXEC) != 0;
}

static unsigned
count_listeners(const struct kquay *q)
{
	unsigned n;

	for (n = 0; kquay_listener(q, n) != -1; n++)
		;
	return n;
}

/* There is room for every address of the service. */
static void
add_berth(struct branch *b, const struct address *a, unsigned listeners)
{
	struct berth *berth = &b->berths[b->nberths++];

	berth->address = a->text;
	berth->file = a->kind == ADDRESS_UNIX;
	berth->listeners = listeners;
}

void
service_claim(struct service *s)
{
	const struct address *a;
	const struct branch *b;
	const struct berth *berth;
	unsigned n, left;

	/* In a folder that is closed to us by now its mode is as it was. */
	TAILQ_FOREACH(a, &s->conf->listen, next)
		if (a->kind == ADDRESS_UNIX)
			(void)address_set_mode(a->path, s->conf->mode);
	for (b = s->branches; b < s->branches + s->nbranches; b++) {
		n = 0;
		for (berth = b->berths; berth < b->berths + b->nberths; berth++)
			for (left = berth->listeners; left > 0; left--, n++)
				if (berth->file)
					(void)kquay_claim(b->q, n);
	}
}

void
service_take(struct service *s, const struct service_list *old, unsigned worker)
{
	const struct address *a;
	const struct service *o;

	if (worker >= s->nbranches)
		return;
	TAILQ_FOREACH(a, &s->conf->listen, next)
		TAILQ_FOREACH(o, old, next)
			if (worker < o->nbranches &&
			    take_berth(&s->branches[worker],
				&o->branches[worker], a)) {
				if (worker == 0)
					set_mode(s, a);
				break;
			}
}

/* Returns whether `from` had listeners of that address; they are to's now. */
static int
take_berth(struct branch *to, struct branch *from, const struct address *a)
{
	struct berth *b = from->berths, *end = b + from->nberths;
	unsigned n = 0;

	for (; b < end && strcmp(b->address, a->text) != 0; b++)
		n += b->listeners;
	if (b == end)
		return 0;
	add_berth(to, a, b->listeners);
	for (; b->listeners > 0; b->listeners--)
		if (kquay_give(from->q, n, to->q) == -1)
			complain("%s: %s", a->text, strerror(errno));
	return 1;
}

/* Who made its socket may have had other settings. */
static void
set_mode(const struct service *s, const struct address *a)
{
	if (a->kind == ADDRESS_UNIX &&
	    address_set_mode(a->path, s->conf->mode) == -1)
		log_service(LEVEL_ERROR, s->conf->name, "%s: mode: %s", a->text,
		    strerror(errno));
}

/* -- its life -------------------------------------------------------------- */

void
service_list(struct service *s, struct service_list *list)
{
	if (s->listed != NULL)
		TAILQ_REMOVE(s->listed, s, next);
	s->listed = list;
	TAILQ_INSERT_TAIL(list, s, next);
}

uint32_t
service_conns(const struct service *s)
{
	struct kquay_stat stat;

	if (s->team != NULL)
		return kquay_team_conns(s->team);
	kquay_stats(s->branches[0].q, &stat);
	return stat.conns;
}

struct kquay *
service_loop(const struct service *s, unsigned worker)
{
	return worker < s->nbranches ? s->branches[worker].q : NULL;
}

void
service_begin(struct service *s, unsigned worker)
{
	if (worker < s->nbranches)
		worker_add(&s->branches[worker]);
}

void
service_abandon(struct service *s, unsigned worker)
{
	if (worker < s->nbranches)
		while (kquay_give(s->branches[worker].q, 0, NULL) == 0)
			;
}

void
service_retire(struct service *s, unsigned worker)
{
	if (worker == 0 && s->conf->handler->retire != NULL)
		s->conf->handler->retire(s);
	if (worker < s->nbranches)
		kquay_retire(s->branches[worker].q);
}

void
service_stop(struct service *s)
{
	s->stops++;
	if (s->team != NULL)
		kquay_team_stop(s->team);
	else
		kquay_stop(s->branches[0].q);
}

void
service_hold(struct service *s)
{
	s->holds++;
}

void
service_let_go(struct service *s)
{
	if (--s->holds == 0)
		service_ended(s);
}

/* In the worker's thread: the loop has ended. */
static void
branch_left(struct branch *b)
{
	worker_tell(worker_chief(), one_left, b->service);
}

static void
one_left(struct kquay *q, void *arg)
{
	service_let_go(arg);
}
