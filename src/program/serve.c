/*
 * Running services.
 *
 * Each service has a loop of its own; all of them run in one thread.  The
 * first one leads: the process waits on its queue, which also watches the
 * signals and the other loops' queues.  So a single service, the usual case,
 * costs no second wait.
 *
 * Nothing is half started: every loop exists, and the signals are watched,
 * before the first socket listens; every socket listens before the first
 * line is printed; and what fails closes all.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <kquay.h>

#include "complain.h"
#include "descriptors.h"
#include "serve.h"

/* Queued output at which a peer that does not read is no longer read from. */
#define OUTHI 65536

static TAILQ_HEAD(service_list, service) services = TAILQ_HEAD_INITIALIZER(
    services);

static int services_open(const struct service_conf_list *);
static int check_fds(const struct service_conf_list *);
static int check_fd(const struct service_conf_list *, const struct address *);
static int socket_option(int, int);
static struct service *service_new(const struct service_conf *);
static int service_start(struct service *);
static int service_listen(struct service *);
static int watch_signals(struct kquay *);
static void nothing(int);
static int watch_service(struct kquay *, struct service *);
static kquay_watch_fn on_signal;
static kquay_watch_fn on_ready;
static void announce(void);
static int run(void);
static int step_others(void);
static int others_due(void);
static int all_done(void);
static void services_free(void);

int
serve(const struct service_conf_list *list)
{
	int code = 1;

	if (descriptors_raise(list) == -1)
		return EX_CONFIG;
	if (services_open(list) == 0) {
		announce();
		if (run() == 0)
			code = 0;
	}
	services_free();
	return code;
}

struct service *
service_of(const struct kquay *q)
{
	return kquay_arg(q);
}

const struct service_conf *
service_conf_of(const struct kquay *q)
{
	return service_of(q)->conf;
}

/* Returns 0; or -1 having said why, and what is open is in the list. */
static int
services_open(const struct service_conf_list *list)
{
	const struct service_conf *conf;
	struct service *s, *lead;

	/* An fd: that nobody gave us must not name a descriptor of our own. */
	if (check_fds(list) == -1)
		return -1;
	TAILQ_FOREACH(conf, list, next) {
		s = service_new(conf);
		if (s == NULL || service_start(s) == -1)
			return -1;
	}
	lead = TAILQ_FIRST(&services);
	if (watch_signals(lead->q) == -1)
		return -1;
	TAILQ_FOREACH(s, &services, next)
		if (service_listen(s) == -1 ||
		    (s != lead && watch_service(lead->q, s) == -1))
			return -1;
	return 0;
}

static int
check_fds(const struct service_conf_list *list)
{
	const struct service_conf *conf;
	const struct address *a;

	TAILQ_FOREACH(conf, list, next)
		TAILQ_FOREACH(a, &conf->listen, next)
			if (a->kind == ADDRESS_FD && check_fd(list, a) == -1)
				return -1;
	return 0;
}

/* It must be a listening stream socket, and no earlier address may name it. */
static int
check_fd(const struct service_conf_list *list, const struct address *mine)
{
	const struct service_conf *conf;
	const struct address *a;

	if (fcntl(mine->fd, F_GETFD) == -1) {
		warn("%s", mine->text);
		return -1;
	}
	if (socket_option(mine->fd, SO_ACCEPTCONN) != 1 ||
	    socket_option(mine->fd, SO_TYPE) != SOCK_STREAM) {
		warnx("%s: not a listening stream socket", mine->text);
		return -1;
	}
	TAILQ_FOREACH(conf, list, next) {
		TAILQ_FOREACH(a, &conf->listen, next) {
			if (a == mine)
				return 0;
			if (a->kind == ADDRESS_FD && a->fd == mine->fd) {
				warnx("%s: given twice", mine->text);
				return -1;
			}
		}
	}
	return 0;
}

/* The value, or -1. */
static int
socket_option(int fd, int option)
{
	socklen_t len = sizeof(int);
	int value;

	if (getsockopt(fd, SOL_SOCKET, option, &value, &len) == -1)
		return -1;
	return value;
}

/* A loop that does not listen yet, at the end of the list; or NULL. */
static struct service *
service_new(const struct service_conf *conf)
{
	struct kquay_conf limits = {
		.maxconn = conf->max_connections,
		.maxperaddr = conf->max_per_source,
		.inmax = conf->max_line,
		.outmax = conf->max_output,
		.idle = conf->idle_ms,
		.life = conf->life_ms,
		.linger = conf->linger_ms,
		.udatasz = (uint32_t)conf->handler->udatasz,
		.flags = KQUAY_NOSIGNAL,
	};
	struct service *s;
	char *refusal = NULL;

	if (conf->when_full == FULL_WAIT)
		limits.flags |= KQUAY_FULLWAIT;
	if (conf->max_output > 0 && conf->max_output < OUTHI) {
		limits.outhi = conf->max_output;
		limits.outlo = conf->max_output / 4;
	}
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		goto fail;
	if (*conf->refusal != '\0') {
		if (asprintf(&refusal, "%s\n", conf->refusal) == -1)
			goto fail;
		limits.refusal = refusal;
	}
	if (conf->nameservers != NULL && *conf->nameservers != '\0')
		limits.nameservers = conf->nameservers;
	if (conf->handler->max_dial != NULL)
		limits.maxdial = conf->handler->max_dial(conf);
	s->conf = conf;
	limits.arg = s;
	s->q = kquay_new(conf->handler->ops, &limits);
	free(refusal);
	if (s->q == NULL)
		goto fail;
	TAILQ_INSERT_TAIL(&services, s, next);
	return s;

fail:
	complain("service \"%s\": %s", conf->name, strerror(errno));
	free(s);
	return NULL;
}

static int
service_start(struct service *s)
{
	char why[512];

	if (s->conf->handler->start == NULL ||
	    s->conf->handler->start(s, why, sizeof(why)) == 0)
		return 0;
	complain("service \"%s\": %s", s->conf->name, why);
	return -1;
}

static int
service_listen(struct service *s)
{
	const struct address *a;
	int n = -1;

	if (secure_listeners(s->conf, s->q) == -1) {
		complain("service \"%s\": TLS: %s", s->conf->name,
		    strerror(errno));
		return -1;
	}
	TAILQ_FOREACH(a, &s->conf->listen, next) {
		switch (a->kind) {
		case ADDRESS_TCP:
			n = kquay_listen(s->q, a->host, a->port);
			break;
		case ADDRESS_UNIX:
			n = kquay_listen_unix(s->q, a->path, s->conf->mode);
			break;
		case ADDRESS_FD:
			n = kquay_listen_fd(s->q, a->fd);
			break;
		}
		if (n == -1) {
			complain("%s", kquay_error(s->q));
			return -1;
		}
	}
	return 0;
}

/*
 * SIGTERM and SIGINT, unless somebody wants them ignored.  They have a handler,
 * so they are no longer the end of the process.  Ignored they would get lost
 * while a child is started, which could inherit that.
 */
static int
watch_signals(struct kquay *q)
{
	static const int signals[] = { SIGTERM, SIGINT };
	struct sigaction catch = { .sa_handler = nothing,
		.sa_flags = SA_RESTART };
	struct sigaction ignore = { .sa_handler = SIG_IGN }, before;
	struct kevent ev;
	size_t i;

	sigaction(SIGPIPE, &ignore, NULL);
	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (sigaction(signals[i], NULL, &before) == 0 &&
		    before.sa_handler == SIG_IGN)
			continue;
		EV_SET(&ev, signals[i], EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
		if (sigaction(signals[i], &catch, NULL) == -1 ||
		    kquay_watch(q, &ev, on_signal, NULL) == -1) {
			warn("%s", strsignal(signals[i]));
			return -1;
		}
	}
	return 0;
}

static void
nothing(int signo)
{
}

static int
watch_service(struct kquay *lead, struct service *s)
{
	struct kevent ev;

	EV_SET(&ev, kquay_fd(s->q), EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kquay_watch(lead, &ev, on_ready, s) == -1) {
		complain("service \"%s\": %s", s->conf->name, strerror(errno));
		return -1;
	}
	return 0;
}

/* The first one drains, the second one aborts what is left. */
static void
on_signal(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct service *s;
	int64_t times;

	/* Two that came at once are still two. */
	for (times = 0; times < ev->data && times < 2; times++)
		TAILQ_FOREACH(s, &services, next)
			kquay_stop(s->q);
}

static void
on_ready(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct service *s = arg;

	s->ready = 1;
}

/* Who reads this may have gone; the services have not. */
static void
announce(void)
{
	const struct service *s;
	const char *where;
	unsigned i;

	TAILQ_FOREACH(s, &services, next) {
		for (i = 0;; i++) {
			where = kquay_listening(s->q, i);
			if (where == NULL)
				break;
			printf("listening on %s\n", where);
		}
	}
	puts("ready");
	fflush(stdout);
}

static int
run(void)
{
	struct service *lead = TAILQ_FIRST(&services);

	while (!all_done()) {
		if (kquay_step(lead->q, others_due()) == -1 ||
		    step_others() == -1) {
			warn("kevent");
			return -1;
		}
	}
	return 0;
}

static int
step_others(void)
{
	struct service *s;

	TAILQ_FOREACH(s, &services, next) {
		if (s == TAILQ_FIRST(&services) ||
		    (!s->ready && kquay_due(s->q) != 0))
			continue;
		s->ready = 0;
		if (kquay_step(s->q, 0) == -1)
			return -1;
	}
	return 0;
}

/* In how many ms one of the followers needs a step; -1: never. */
static int
others_due(void)
{
	struct service *s;
	int ms, least = -1;

	TAILQ_FOREACH(s, &services, next) {
		if (s == TAILQ_FIRST(&services))
			continue;
		ms = kquay_due(s->q);
		if (ms != -1 && (least == -1 || ms < least))
			least = ms;
	}
	return least;
}

static int
all_done(void)
{
	const struct service *s;

	TAILQ_FOREACH(s, &services, next)
		if (!kquay_done(s->q))
			return 0;
	return 1;
}

/* The lead goes last: it watches the others' queues. */
static void
services_free(void)
{
	struct service *s;

	while ((s = TAILQ_LAST(&services, service_list)) != NULL) {
		TAILQ_REMOVE(&services, s, next);
		kquay_free(s->q);
		if (s->conf->handler->end != NULL)
			s->conf->handler->end(s);
		free(s);
	}
}
