/*
 * The process.
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
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <kquay.h>

#include "activate.h"
#include "complain.h"
#include "confine.h"
#include "descriptors.h"
#include "desk.h"
#include "gather.h"
#include "log.h"
#include "memory.h"
#include "reload.h"
#include "sandbox.h"
#include "serve.h"
#include "session.h"
#include "upgrade.h"

#define TIMER_IDLE 2 /* of the chief's; a service's is its address */

static struct program_conf *current;
static int stopping;
static int leaving;         /* another has taken our place */
static int64_t idle_since;  /* nobody has been there */
static unsigned idle_begun; /* who had been there until then */

static int open_log(const struct program_conf *);
static int prepare(const struct program_conf *);
static int services_open(struct program_conf *);
static int give_up(void);
static int check_fds(void);
static int check_fd(const struct address *);
static int socket_option(int, int);
static int watch_signals(struct kquay *);
static void nothing(int);
static kquay_watch_fn on_stop;
static kquay_watch_fn on_reload;
static kquay_watch_fn on_upgrade;
static int watch_idle(void);
static kquay_watch_fn on_idle;
static void announce(void);
static void services_free(struct service_list *);
static void go_round(unsigned, struct errand *);
static void been_round(struct errand *);
static void drain(struct service *);
static void retire(unsigned, struct errand *);
static void retired(struct errand *);
static void end(struct service *);
static void limit(struct service *, int);
static kquay_watch_fn on_limit;
static void ended(struct service *);

int
serve(struct program_conf *conf)
{
	int code = 1;

	current = conf;
	service_ended = ended;
	gather_begin();
	if (descriptors_raise(conf) == -1) {
		program_conf_free(conf);
		return EX_CONFIG;
	}
	if (upgrade_begin() == 0 && open_log(conf) == 0 &&
	    workers_new(conf->workers) == 0 && prepare(conf) == 0 &&
	    services_open(conf) == 0 && give_up() == 0 && desk_start() == 0) {
		announce();
		if (workers_run() == 0)
			code = 0;
	}
	services_free(&services_running);
	services_free(&services_retired);
	workers_free();
	desk_free();
	log_close();
	program_conf_free(conf);
	return code;
}

struct program_conf *
serve_conf(void)
{
	return current;
}

/*
 * What the settings outside of the services say takes effect where it can; the
 * rest is as of the start.
 */
void
serve_adopt(struct program_conf *new, struct log_output *log)
{
	const struct setting *s;
	size_t i;

	for (i = 0; (s = program_setting(i)) != NULL; i++)
		if (!s->live && !setting_same(s, current, new))
			log_line(LEVEL_WARNING,
			    "%s: will change at the next start", s->name);
	program_conf_free(current);
	*current = *new;
	TAILQ_INIT(&current->services);
	log_use(log);
}

static int
open_log(const struct program_conf *conf)
{
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	struct log_output *log;

	sigaction(SIGPIPE, &ignore, NULL);
	if (serve_log(conf, &log) == -1)
		return -1;
	log_use(log);
	return 0;
}

int
serve_log(const struct program_conf *conf, struct log_output **log)
{
	const struct log_conf one = { conf->log, conf->log_format,
		conf->log_level };
	char why[PATH_MAX + 256];

	if (log_prepare(&one, log, why, sizeof(why)) == 0)
		return 0;
	sandbox_explain(errno, why, sizeof(why));
	complain("log: %s", why);
	return -1;
}

static int
prepare(const struct program_conf *conf)
{
	char why[512];

	if (confine_prepare(conf, why, sizeof(why)) == 0) {
		memory_log(conf);
		return 0;
	}
	complain("%s", why);
	return -1;
}

/* Being root, and what else is not needed now that everything is open. */
static int
give_up(void)
{
	char why[512];

	if (confine(why, sizeof(why)) == 0) {
		log_line(LEVEL_DEBUG, "sandbox: %s", sandbox_state());
		return 0;
	}
	complain("%s", why);
	return -1;
}

/* Returns 0; or -1 having said why, and what is open is in the list. */
static int
services_open(struct program_conf *conf)
{
	struct service_conf *one;
	struct service *s;
	unsigned i;

	while ((one = TAILQ_FIRST(&conf->services)) != NULL) {
		s = service_new(one);
		if (s == NULL)
			return -1;
		TAILQ_REMOVE(&conf->services, one, next);
		service_list(s, &services_running);
	}
	/* An fd: that nobody gave us must not name a descriptor of our own. */
	if (check_fds() == -1 || watch_signals(worker_chief()) == -1)
		return -1;
	if (watch_idle() == -1 || (conf->watch && reload_watch() == -1)) {
		complain("%s", strerror(errno));
		return -1;
	}
	TAILQ_FOREACH(s, &services_running, next)
		if (service_listen(s, NULL) == -1)
			return -1;
	if (desk_open(conf) == -1)
		return -1;
	TAILQ_FOREACH(s, &services_running, next)
		for (i = 0; i < s->nbranches; i++)
			service_begin(s, i);
	return 0;
}

static int
check_fds(void)
{
	const struct service *s;
	const struct address *a;

	TAILQ_FOREACH(s, &services_running, next)
		TAILQ_FOREACH(a, &s->conf->listen, next)
			if (a->kind == ADDRESS_FD && check_fd(a) == -1)
				return -1;
	return 0;
}

/* It must be a listening stream socket, and no earlier address may name it. */
static int
check_fd(const struct address *mine)
{
	const struct service *s;
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
	TAILQ_FOREACH(s, &services_running, next) {
		TAILQ_FOREACH(a, &s->conf->listen, next) {
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

/*
 * The signals that tell us something, unless somebody wants them ignored.  They
 * have a handler, so they are no longer the end of the process.  Ignored they
 * would get lost while a child is started, which could inherit that.
 */
static int
watch_signals(struct kquay *chief)
{
	static const struct {
		int number;
		kquay_watch_fn *fn;
	} signals[] = { { SIGTERM, on_stop }, { SIGINT, on_stop },
		{ SIGHUP, on_reload }, { SIGUSR2, on_upgrade } };
	struct sigaction catch = { .sa_handler = nothing,
		.sa_flags = SA_RESTART };
	struct sigaction before;
	struct kevent ev;
	size_t i;

	for (i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
		if (sigaction(signals[i].number, NULL, &before) == 0 &&
		    before.sa_handler == SIG_IGN)
			continue;
		EV_SET(&ev, signals[i].number, EVFILT_SIGNAL, EV_ADD, 0, 0,
		    NULL);
		if (sigaction(signals[i].number, &catch, NULL) == -1 ||
		    kquay_watch(chief, &ev, signals[i].fn, NULL) == -1) {
			warn("%s", strsignal(signals[i].number));
			return -1;
		}
	}
	return 0;
}

static void
nothing(int signo)
{
}

static void
on_stop(struct kquay *q, const struct kevent *ev, void *arg)
{
	int64_t times;

	/* Two that came at once are still two. */
	for (times = 0; times < ev->data && times < 2; times++)
		serve_stop();
}

static void
on_reload(struct kquay *q, const struct kevent *ev, void *arg)
{
	reload(NULL, NULL);
}

static void
on_upgrade(struct kquay *q, const struct kevent *ev, void *arg)
{
	upgrade(NULL, NULL);
}

/* -- who is started for a caller, and ends without ------------------------- */

static int
watch_idle(void)
{
	struct kevent ev;

	if (current->idle_ms == -1)
		return 0;
	idle_since = session_now_ms();
	EV_SET(&ev, TIMER_IDLE, EVFILT_TIMER, EV_ADD, 0,
	    current->idle_ms / 8 + 1, NULL);
	return kquay_watch(worker_chief(), &ev, on_idle, NULL);
}

static void
on_idle(struct kquay *q, const struct kevent *ev, void *arg)
{
	const struct service *s;
	unsigned begun = 0, conns = 0, i;

	TAILQ_FOREACH(s, &services_retired, next)
		conns++;
	TAILQ_FOREACH(s, &services_running, next) {
		conns += service_conns(s);
		for (i = 0; i < s->nbranches; i++)
			begun += atomic_load(&s->branches[i].begun);
	}
	if (conns > 0 || begun != idle_begun) {
		idle_begun = begun;
		idle_since = session_now_ms();
	} else if (stopping == 0 &&
	    session_now_ms() - idle_since >= current->idle_ms)
		serve_stop();
}

/* Who reads this may have gone; the services have not. */
static void
announce(void)
{
	struct service *s;
	const char *where;
	unsigned i;

	TAILQ_FOREACH(s, &services_running, next) {
		service_claim(s);
		for (i = 0;; i++) {
			where = kquay_listening(s->branches[0].q, i);
			if (where == NULL)
				break;
			printf("listening on %s\n", where);
		}
	}
	puts("ready");
	fflush(stdout);
	desk_claim(current);
	upgrade_ready();
	activate_notify("READY=1");
}

static void
services_free(struct service_list *list)
{
	struct service *s;

	while ((s = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, s, next);
		service_free(s);
	}
}

/* What serve_each_loop() is about. */
struct round {
	struct errand errand;
	void (*fn)(struct branch *, void *);
	void (*done)(void *);
	void *arg;
};

int
serve_each_loop(void (*fn)(struct branch *, void *), void (*done)(void *),
    void *arg)
{
	struct round *r;

	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return -1;
	r->fn = fn;
	r->done = done;
	r->arg = arg;
	r->errand.fn = go_round;
	r->errand.done = been_round;
	r->errand.arg = r;
	workers_each(&r->errand);
	return 0;
}

static void
go_round(unsigned worker, struct errand *e)
{
	struct round *r = e->arg;
	struct branch *b = NULL;

	while ((b = worker_next(worker, b)) != NULL)
		r->fn(b, r->arg);
}

static void
been_round(struct errand *e)
{
	struct round *r = e->arg;

	r->done(r->arg);
	free(r);
}

/* -- the end --------------------------------------------------------------- */

int
serve_stopping(void)
{
	return stopping + leaving;
}

void
serve_stop(void)
{
	if (stopping++ == 0) {
		activate_notify("STOPPING=1");
		upgrade_cancel();
	}
	serve_follow();
}

void
serve_follow(void)
{
	struct service *s;

	if (stopping == 0)
		return;
	TAILQ_FOREACH(s, &services_running, next)
		drain(s);
	TAILQ_FOREACH(s, &services_retired, next)
		drain(s);
}

void
serve_bequeath(void)
{
	struct service *s;

	leaving = 1;
	desk_bequeath();
	TAILQ_FOREACH(s, &services_running, next)
		serve_retire(s, s->conf->retire_ms);
}

unsigned
serve_drain(const char *name)
{
	struct service *s, *following;
	unsigned n = 0;

	for (s = TAILQ_FIRST(&services_running); s != NULL; s = following) {
		following = TAILQ_NEXT(s, next);
		if (strcmp(name, "all") != 0 &&
		    strcmp(name, s->conf->name) != 0)
			continue;
		n++;
		if (strcmp(name, "all") == 0)
			continue;
		/* A reload does not find it: it begins anew. */
		service_list(s, &services_retired);
		serve_retire(s, s->conf->retire_ms);
	}
	if (strcmp(name, "all") == 0 && stopping == 0)
		serve_stop();
	return n;
}

static void
drain(struct service *s)
{
	if (stopping == 1 && s->conf->drain_ms != 0)
		serve_retire(s, s->conf->drain_ms);
	else
		while (s->stops < stopping)
			end(s);
}

/* It has had its time, and so have its programs. */
static void
end(struct service *s)
{
	int (*lends)(const struct service_conf *) = s->conf->handler->lends;

	service_stop(s);
	if (lends != NULL && lends(s->conf))
		service_stop(s);
}

void
serve_retire(struct service *s, int ms)
{
	if (!s->retired) {
		s->retired = 1;
		s->errand.fn = retire;
		s->errand.done = retired;
		s->errand.arg = s;
		service_hold(s);
		workers_each(&s->errand);
	}
	limit(s, ms);
}

static void
retire(unsigned worker, struct errand *e)
{
	struct service *s = e->arg;

	if (leaving)
		service_abandon(s, worker);
	service_retire(s, worker);
}

static void
retired(struct errand *e)
{
	service_let_go(e->arg);
}

/* Stop it in ms; an earlier limit holds no longer. */
static void
limit(struct service *s, int ms)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)s, EVFILT_TIMER,
	    ms == -1 ? EV_DELETE : EV_ADD | EV_ONESHOT, 0, ms, NULL);
	if (kquay_watch(worker_chief(), &ev, on_limit, s) == -1 && ms != -1)
		end(s);
}

static void
on_limit(struct kquay *q, const struct kevent *ev, void *arg)
{
	end(arg);
}

/* The last connection of s has ended. */
static void
ended(struct service *s)
{
	limit(s, -1);
	TAILQ_REMOVE(s->listed, s, next);
	service_free(s);
	serve_leave();
}

void
serve_leave(void)
{
	static int left;

	if (left || (stopping == 0 && !leaving) || reload_begun() ||
	    !TAILQ_EMPTY(&services_running) || !TAILQ_EMPTY(&services_retired))
		return;
	left = 1;
	desk_close();
	workers_leave();
}
