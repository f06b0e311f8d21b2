/*
 * Checks of targets.
 *
 *	             timer                    result, or timer
 *	      RESTS -------> DIALS or RUNS --------------------> RESTS
 *	                |              ^
 *	  no slot left  +---> WAITS    | timer
 *	                        |      |
 *	         a slot is free +--> CALLED
 *
 * Invariants:
 *  1. An endpoint has one probe, from came() to goes(), and a probe is at most
 *     one check at a time.
 *  2. A probe's timer says when the next check begins, and during one when its
 *     time is over.
 *  3. At most CHECK_SLOTS are under way.  A connection of ours counts until its
 *     close callback, since it has its slot until then; a command until it is
 *     reaped; and who is called, so that nobody takes its turn.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/queue.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kquay.h>

#include "check.h"
#include "launch.h"
#include "log.h"
#include "upstream.h"

enum {
	CHECK_SLOTS = 64, /* checks under way */
	VARIABLES = 3,
	VARIABLE = PATH_MAX + 64,
	WHY = 128
};

enum probe_state { RESTS, WAITS, CALLED, DIALS, RUNS };

struct probe {
	TAILQ_ENTRY(probe) next;
	TAILQ_ENTRY(probe) turn; /* WAITS */
	struct checks *checks;
	struct endpoint *endpoint;
	enum probe_state state;
	int64_t begun;
	int checked;          /* there was a check before */
	struct kquay_conn *c; /* DIALS */
	int opened;           /* it is connected */
	pid_t pid;            /* RUNS */
	int killed;           /* it took too long */
	enum health health;
	uint32_t other; /* results in a row that say another */
};

TAILQ_HEAD(probe_list, probe);

struct checks {
	const struct check_conf *conf;
	const char *service;
	struct kquay *q;
	check_target_fn *fill;
	void *arg;
	struct probe_list probes, waiting;
	uint32_t under_way;
	int devnull;  /* of commands; -1 */
	int stopped;  /* nothing begins any more */
	int hindered; /* it has been said */
};

/* The udata of a connection; the probe is NULL once that knows the result. */
struct dialled {
	struct checks *checks;
	struct probe *probe;
};

_Static_assert(sizeof(struct dialled) <= CHECK_UDATA, "CHECK_UDATA");

static void came(struct endpoint *, void *);
static void goes(struct endpoint *, void *);
static void halt(struct probe *);
static int set_timer(struct probe *, int64_t);
static kquay_watch_fn on_timer;
static void begin(struct probe *);
static int dial(struct probe *);
static int run(struct probe *);
static void describe(const struct endpoint *, char[][VARIABLE]);
static char **make_environment(char[][VARIABLE]);
static kquay_watch_fn on_end;
static void reap(struct probe *, int *);
static void leave(struct checks *);
static void call(struct checks *);
static void finish(struct probe *, enum health, const char *);
static void hindered(struct probe *, int);
static void rest(struct probe *);
static int check_open(struct kquay_conn *);
static ssize_t check_input(struct kquay_conn *, char *, size_t);
static int check_eof(struct kquay_conn *);
static void check_close(struct kquay_conn *, enum kquay_why);
static void let_go(struct probe *, void (*)(struct kquay_conn *));
static int is_ours(int);
static int64_t now_ms(void);

static const struct kquay_ops ops = { .open = check_open,
	.input = check_input,
	.eof = check_eof,
	.close = check_close };

int
check_valid(const struct check_conf *conf, char *why, size_t whysz)
{
	const char *command =
	    conf->command.count > 0 ? conf->command.word[0] : NULL;
	char path[PATH_MAX];

	if (*conf->send != '\0' && *conf->expect == '\0') {
		snprintf(why, whysz,
		    "check-send: without check-expect nobody looks at the "
		    "answer");
		return -1;
	}
	if (command == NULL)
		return 0;
	if (*conf->expect != '\0') {
		snprintf(why, whysz,
		    "check-command: its exit status is the answer; "
		    "check-expect is for checks without a command");
		return -1;
	}
	if (launch_find(command, path) == -1) {
		snprintf(why, whysz, "check-command: %s: %s", command,
		    strerror(errno));
		return -1;
	}
	return 0;
}

uint32_t
check_slots(const struct check_conf *conf)
{
	return conf->interval_ms == -1 || conf->command.count > 0 ? 0 :
								    CHECK_SLOTS;
}

struct checks *
check_start(const struct check_conf *conf, const char *service,
    struct upstream *up, struct kquay *q, check_target_fn *fill, void *arg)
{
	struct upstream_observer observer = { .came = came, .goes = goes };
	struct checks *checks;

	checks = calloc(1, sizeof(*checks));
	if (checks == NULL)
		return NULL;
	checks->conf = conf;
	checks->service = service;
	checks->q = q;
	checks->fill = fill;
	checks->arg = arg;
	checks->devnull = -1;
	TAILQ_INIT(&checks->probes);
	TAILQ_INIT(&checks->waiting);
	if (conf->command.count > 0) {
		checks->devnull = open(_PATH_DEVNULL, O_RDWR | O_CLOEXEC);
		if (checks->devnull == -1) {
			free(checks);
			return NULL;
		}
	}
	observer.arg = checks;
	upstream_observe(up, &observer);
	return checks;
}

void
check_stop(struct checks *checks)
{
	struct probe *p;

	checks->stopped = 1;
	TAILQ_FOREACH(p, &checks->probes, next)
		halt(p);
}

void
check_free(struct checks *checks)
{
	struct probe *p;

	if (checks == NULL)
		return;
	while ((p = TAILQ_FIRST(&checks->probes)) != NULL) {
		TAILQ_REMOVE(&checks->probes, p, next);
		if (p->state == RUNS)
			reap(p, NULL);
		free(p);
	}
	if (checks->devnull != -1)
		close(checks->devnull);
	free(checks);
}

/* -- probes ---------------------------------------------------------------- */

static void
came(struct endpoint *endpoint, void *arg)
{
	struct checks *checks = arg;
	struct probe *p;

	if (checks->stopped)
		return;
	p = calloc(1, sizeof(*p));
	if (p == NULL) {
		log_service(LEVEL_WARNING, checks->service,
		    "target %s is not checked: %s", endpoint->text,
		    strerror(errno));
		return;
	}
	p->checks = checks;
	p->endpoint = endpoint;
	endpoint->check = p;
	TAILQ_INSERT_TAIL(&checks->probes, p, next);
	(void)set_timer(p, 1);
}

static void
goes(struct endpoint *endpoint, void *arg)
{
	struct checks *checks = arg;
	struct probe *p = endpoint->check;

	if (p == NULL)
		return;
	endpoint->check = NULL;
	halt(p);
	TAILQ_REMOVE(&checks->probes, p, next);
	free(p);
}

/* End what it does, and its timer. */
static void
halt(struct probe *p)
{
	struct checks *checks = p->checks;
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)p, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(checks->q, &ev, NULL, NULL);
	switch (p->state) {
	case RESTS:
		break;
	case WAITS:
		TAILQ_REMOVE(&checks->waiting, p, turn);
		break;
	case CALLED:
		leave(checks);
		break;
	case DIALS:
		let_go(p, kquay_abort);
		break;
	case RUNS:
		EV_SET(&ev, p->pid, EVFILT_PROC, EV_DELETE, 0, 0, NULL);
		(void)kquay_watch(checks->q, &ev, NULL, NULL);
		reap(p, NULL);
		leave(checks);
		break;
	}
	p->state = RESTS;
}

/* 0; or -1, having said so, and nobody knows how the target is. */
static int
set_timer(struct probe *p, int64_t ms)
{
	struct kevent ev;

	EV_SET(&ev, (uintptr_t)p, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	if (kquay_watch(p->checks->q, &ev, on_timer, p) == 0)
		return 0;
	log_service(LEVEL_WARNING, p->checks->service,
	    "target %s is no longer checked: %s", p->endpoint->text,
	    strerror(errno));
	p->health = HEALTH_UNKNOWN;
	upstream_set_health(p->endpoint, HEALTH_UNKNOWN, "it is not checked");
	return -1;
}

static void
on_timer(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct probe *p = arg;
	struct checks *checks = p->checks;

	switch (p->state) {
	case RESTS:
		if (checks->under_way < CHECK_SLOTS) {
			begin(p);
			break;
		}
		p->state = WAITS;
		TAILQ_INSERT_TAIL(&checks->waiting, p, turn);
		break;
	case WAITS:
		break;
	case CALLED:
		checks->under_way--;
		begin(p);
		break;
	case DIALS:
		finish(p, HEALTH_DOWN,
		    p->opened ? "no such answer in time" :
				"no connection in time");
		break;
	case RUNS:
		p->killed = 1;
		kill(-p->pid, SIGKILL);
		break;
	}
}

static void
begin(struct probe *p)
{
	struct checks *checks = p->checks;
	int command = checks->conf->command.count > 0, error;

	p->begun = now_ms();
	error = command ? run(p) : dial(p);
	if (error == 0) {
		p->state = command ? RUNS : DIALS;
		checks->under_way++;
		if (set_timer(p, checks->conf->timeout_ms) == -1)
			halt(p);
		return;
	}
	if (is_ours(error) || command)
		hindered(p, error);
	else if (error != ESHUTDOWN) /* which is the end of all checks */
		finish(p, HEALTH_DOWN, strerror(error));
	call(checks);
}

/* 0, or an errno value. */
static int
dial(struct probe *p)
{
	struct kquay_target to = { .host = p->endpoint->host,
		.port = p->endpoint->port };
	struct dialled *d;

	p->checks->fill(p->endpoint, &to, p->checks->arg);
	to.timeout = -1; /* our timer's business */
	p->c = kquay_dialto(p->checks->q, &to, &ops);
	if (p->c == NULL)
		return errno;
	p->opened = 0;
	d = kquay_udata(p->c);
	d->checks = p->checks;
	d->probe = p;
	return 0;
}

/* -- commands -------------------------------------------------------------- */

/* 0, or an errno value. */
static int
run(struct probe *p)
{
	const struct words *command = &p->checks->conf->command;
	int null = p->checks->devnull, error;
	char variables[VARIABLES][VARIABLE], path[PATH_MAX];
	struct launch l = { .path = path,
		.argv = command->word,
		.in = null,
		.out = null,
		.err = null };
	struct kevent ev;
	char **envp;

	if (launch_find(command->word[0], path) == -1)
		return errno;
	describe(p->endpoint, variables);
	envp = make_environment(variables);
	if (envp == NULL)
		return ENOMEM;
	l.envp = envp;
	error = launch(&l, &p->pid);
	free(envp);
	if (error != 0)
		return error;
	p->killed = 0;
	EV_SET(&ev, p->pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	if (kquay_watch(p->checks->q, &ev, on_end, p) == 0)
		return 0;
	error = errno;
	reap(p, NULL);
	return error;
}

static void
describe(const struct endpoint *e, char out[][VARIABLE])
{
	snprintf(out[0], VARIABLE, "KQUAY_TARGET=%s", e->text);
	snprintf(out[1], VARIABLE, "KQUAY_TARGET_HOST=%s", e->host);
	snprintf(out[2], VARIABLE, "KQUAY_TARGET_PORT=%s",
	    e->port != NULL ? e->port : "");
}

/* The variables, then ours; the first of a name counts.  For free(3). */
static char **
make_environment(char variables[][VARIABLE])
{
	extern char **environ;
	size_t ours = 0, i;
	char **list;

	while (environ[ours] != NULL)
		ours++;
	list = reallocarray(NULL, ours + VARIABLES + 1, sizeof(*list));
	if (list == NULL)
		return NULL;
	for (i = 0; i < VARIABLES; i++)
		list[i] = variables[i];
	memcpy(list + VARIABLES, environ, (ours + 1) * sizeof(*list));
	return list;
}

static void
on_end(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct probe *p = arg;
	char why[WHY] = "";
	int status;

	reap(p, &status);
	leave(p->checks);
	if (p->killed)
		snprintf(why, sizeof(why), "the command took too long");
	else if (WIFSIGNALED(status))
		snprintf(why, sizeof(why), "the command was ended by %s",
		    strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		snprintf(why, sizeof(why), "exit status %d",
		    WEXITSTATUS(status));
	finish(p, *why == '\0' ? HEALTH_UP : HEALTH_DOWN, why);
}

/* What it has started goes with it. */
static void
reap(struct probe *p, int *status)
{
	kill(-p->pid, SIGKILL);
	while (waitpid(p->pid, status, 0) == -1 && errno == EINTR)
		;
}

/* -- results --------------------------------------------------------------- */

/* A check is no longer under way. */
static void
leave(struct checks *checks)
{
	checks->under_way--;
	call(checks);
}

/*
 * Whoever waits has its turn; in the next batch of events, since the slot of a
 * connection that has ended is free then.
 */
static void
call(struct checks *checks)
{
	struct probe *p = TAILQ_FIRST(&checks->waiting);

	if (p == NULL || checks->under_way == CHECK_SLOTS)
		return;
	TAILQ_REMOVE(&checks->waiting, p, turn);
	p->state = CALLED;
	checks->under_way++;
	if (set_timer(p, 1) == -1)
		halt(p);
}

static void
finish(struct probe *p, enum health health, const char *why)
{
	const struct check_conf *conf = p->checks->conf;
	uint32_t needed = health == HEALTH_UP ? conf->rise : conf->fall;

	p->checks->hindered = 0;
	if (p->c != NULL && health == HEALTH_UP)
		let_go(p, kquay_close);
	if (p->health == HEALTH_UNKNOWN)
		needed = 1;
	if (health == p->health)
		p->other = 0;
	else if (++p->other >= needed) {
		p->other = 0;
		p->health = health;
		upstream_set_health(p->endpoint, health, why);
	}
	rest(p);
}

/* No check was made, for a reason of our own. */
static void
hindered(struct probe *p, int error)
{
	if (!p->checks->hindered)
		log_service(LEVEL_WARNING, p->checks->service,
		    "target %s cannot be checked: %s", p->endpoint->text,
		    strerror(error));
	p->checks->hindered = 1;
	rest(p);
}

/*
 * Until the interval is over.  The second check of each comes early, by up to
 * half of it, so that they are spread over the interval from then on.
 */
static void
rest(struct probe *p)
{
	int64_t wait = p->checks->conf->interval_ms;

	if (p->c != NULL)
		let_go(p, kquay_abort);
	p->state = RESTS;
	if (!p->checked)
		wait -= arc4random_uniform((uint32_t)wait / 2 + 1);
	p->checked = 1;
	wait -= now_ms() - p->begun;
	(void)set_timer(p, wait > 1 ? wait : 1);
}

/* -- a connection ---------------------------------------------------------- */

static int
check_open(struct kquay_conn *c)
{
	struct dialled *d = kquay_udata(c);
	const struct check_conf *conf = d->checks->conf;

	d->probe->opened = 1;
	kquay_timeout(c, -1, -1);
	if (*conf->send != '\0')
		(void)kquay_puts(c, conf->send);
	if (*conf->expect == '\0')
		finish(d->probe, HEALTH_UP, "");
	return 0;
}

/* Of what has come it keeps as much as could be the begin of the answer. */
static ssize_t
check_input(struct kquay_conn *c, char *data, size_t len)
{
	struct dialled *d = kquay_udata(c);
	const char *expect = d->checks->conf->expect;
	size_t keep = strlen(expect) - 1;

	if (memmem(data, len, expect, keep + 1) != NULL) {
		finish(d->probe, HEALTH_UP, "");
		return (ssize_t)len;
	}
	return len > keep ? (ssize_t)(len - keep) : 0;
}

static int
check_eof(struct kquay_conn *c)
{
	struct dialled *d = kquay_udata(c);

	finish(d->probe, HEALTH_DOWN, "it ended without that answer");
	return 0;
}

static void
check_close(struct kquay_conn *c, enum kquay_why why)
{
	struct dialled *d = kquay_udata(c);
	struct probe *p = d->probe;
	struct kquay_tlsinfo tls;
	int error = errno;

	if (p != NULL) {
		p->c = NULL;
		d->probe = NULL;
		if (why == KQUAY_SHUTDOWN)
			p->state = RESTS;
		else if (why == KQUAY_ERROR && is_ours(error))
			hindered(p, error);
		else if (kquay_tlsinfo(c, &tls) == 0 && tls.error != NULL)
			finish(p, HEALTH_DOWN, tls.error);
		else
			finish(p, HEALTH_DOWN,
			    why == KQUAY_ERROR ? strerror(error) :
						 kquay_whystr(why));
	}
	leave(d->checks);
}

/* What becomes of its connection is nothing to the probe any more. */
static void
let_go(struct probe *p, void (*end)(struct kquay_conn *))
{
	struct dialled *d = kquay_udata(p->c);

	d->probe = NULL;
	end(p->c);
	p->c = NULL;
}

/* Is it we who lack something? */
static int
is_ours(int error)
{
	return error == EMFILE || error == ENFILE || error == ENOMEM ||
	    error == ENOBUFS || error == EADDRNOTAVAIL;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
