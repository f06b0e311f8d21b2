/*
 * Reloading.
 */
#include <sys/types.h>
#include <sys/event.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "activate.h"
#include "complain.h"
#include "config.h"
#include "confine.h"
#include "descriptors.h"
#include "log.h"
#include "reload.h"
#include "secure.h"
#include "serve.h"
#include "upgrade.h"

#define SETTLE_MS 200 /* a file that is being written is left alone */
#define AWAIT_MS 1000 /* a file that is not there may come back */
#define TIMER_IDENT 1 /* of the chief's; a service's is its address */

/* One asked for, and what becomes of it. */
struct request {
	STAILQ_ENTRY(request) next;
	reload_told_fn *told;
	void *arg;
};

static STAILQ_HEAD(, request) requests = STAILQ_HEAD_INITIALIZER(requests);

/* The change that the workers are making. */
static struct change {
	struct errand errand;
	struct service_list fresh, old;
	unsigned kept, changed, gone;
	int busy;
} change;

static unsigned generation;
static int watched = -1; /* the file */

static void begin(void);
static int prepare(struct program_conf *, struct log_output **);
static int make_fresh(struct program_conf *);
static struct service *find_same(const struct service_conf *);
static int check_addresses(void);
static const struct service *find_address(const struct service_list *,
    const char *, const struct address *);
static void undo(void);
static void commit(struct program_conf *, struct log_output *);
static void change_places(unsigned, struct errand *);
static void changed(struct errand *);
static void tell(int, const char *);
static kquay_watch_fn on_change;
static kquay_watch_fn on_settled;
static void settle(int);

void
reload(reload_told_fn *told, void *arg)
{
	struct request *r;

	r = calloc(1, sizeof(*r));
	if (r == NULL) {
		log_line(LEVEL_ERROR, "not reloaded: %s", strerror(errno));
		if (told != NULL)
			told(0, strerror(errno), arg);
		return;
	}
	r->told = told;
	r->arg = arg;
	STAILQ_INSERT_TAIL(&requests, r, next);
	if (!change.busy)
		begin();
}

int
reload_begun(void)
{
	return change.busy;
}

unsigned
reload_generation(void)
{
	return generation + 1;
}

/* For the first request; what it complains of is the answer. */
static void
begin(void)
{
	struct log_output *log;
	struct program_conf conf;
	char *text = NULL;
	size_t len;
	FILE *out, *before;
	int rc;

	change.busy = 1;
	TAILQ_INIT(&change.fresh);
	TAILQ_INIT(&change.old);
	change.kept = change.changed = change.gone = 0;
	activate_notify("RELOADING=1");
	out = open_memstream(&text, &len);
	before = complain_to(out);
	rc = prepare(&conf, &log);
	complain_to(before);
	if (rc == 0)
		commit(&conf, log);
	if (out != NULL)
		fclose(out);
	if (rc == -1)
		tell(0, text != NULL ? text : strerror(ENOMEM));
	free(text);
}

/* All that can fail.  Returns 0; or -1 and nothing has changed. */
static int
prepare(struct program_conf *conf, struct log_output **log)
{
	const struct program_conf *now = serve_conf();
	struct service *s;
	char why[512];

	if (serve_stopping() || upgrade_begun()) {
		complain("it is about to end");
		return -1;
	}
	if (now->file == NULL) {
		complain("there is no configuration file");
		return -1;
	}
	if (config_read(now->file, conf) == -1)
		return -1;
	conf->file = now->file;
	if (confine_reload(conf, why, sizeof(why)) == -1) {
		complain("%s", why);
		program_conf_free(conf);
		return -1;
	}
	*log = NULL;
	if (descriptors_raise(conf) == -1 || make_fresh(conf) == -1 ||
	    check_addresses() == -1 || serve_log(conf, log) == -1)
		goto fail;
	TAILQ_FOREACH(s, &change.fresh, next)
		if (service_listen(s, &change.old) == -1)
			goto fail;
	return 0;

fail:
	undo();
	log_drop(*log);
	program_conf_free(conf);
	return -1;
}

/* Those that differ, or are new, become fresh; old is who goes. */
static int
make_fresh(struct program_conf *conf)
{
	struct service_conf *one;
	struct service *s, *following;

	TAILQ_FOREACH(s, &services_running, next)
		s->keep = 0;
	while ((one = TAILQ_FIRST(&conf->services)) != NULL) {
		TAILQ_REMOVE(&conf->services, one, next);
		s = find_same(one);
		if (s != NULL) {
			s->keep = 1;
			service_conf_free(one);
			continue;
		}
		s = service_new(one);
		if (s == NULL) {
			service_conf_free(one);
			return -1;
		}
		s->generation = generation + 1;
		service_list(s, &change.fresh);
	}
	for (s = TAILQ_FIRST(&services_running); s != NULL; s = following) {
		following = TAILQ_NEXT(s, next);
		if (!s->keep)
			service_list(s, &change.old);
	}
	return 0;
}

/* The running service that is as conf says, or NULL. */
static struct service *
find_same(const struct service_conf *conf)
{
	struct service *s;
	char *text;

	text = config_text_of(conf);
	TAILQ_FOREACH(s, &services_running, next)
		if (text != NULL && strcmp(s->text, text) == 0)
			break;
	free(text);
	return s;
}

/* An address is one service's. */
static int
check_addresses(void)
{
	const struct service *s, *other;
	const struct address *a;

	TAILQ_FOREACH(s, &change.fresh, next) {
		TAILQ_FOREACH(a, &s->conf->listen, next) {
			other = find_address(&change.fresh, a->text, a);
			if (other == NULL)
				other =
				    find_address(&services_running, a->text, a);
			if (other == NULL)
				continue;
			complain("service \"%s\": listen: service \"%s\" is "
				 "there already: %s",
			    s->conf->name, other->conf->name, a->text);
			return -1;
		}
	}
	return 0;
}

/* Who of the list listens there, but for one address itself; or NULL. */
static const struct service *
find_address(const struct service_list *list, const char *text,
    const struct address *itself)
{
	const struct service *s;
	const struct address *a;

	TAILQ_FOREACH(s, list, next)
		TAILQ_FOREACH(a, &s->conf->listen, next)
			if (a != itself && strcmp(a->text, text) == 0)
				return s;
	return NULL;
}

static void
undo(void)
{
	struct service *s;

	while ((s = TAILQ_FIRST(&change.old)) != NULL)
		service_list(s, &services_running);
	while ((s = TAILQ_FIRST(&change.fresh)) != NULL) {
		TAILQ_REMOVE(&change.fresh, s, next);
		service_free(s);
	}
}

/* Nothing fails from here on. */
static void
commit(struct program_conf *conf, struct log_output *log)
{
	struct service *s;
	char why[512];

	generation++;
	TAILQ_FOREACH(s, &services_running, next) {
		change.kept++;
		if (secure_reload(s->conf, why, sizeof(why)) == -1)
			log_service(LEVEL_ERROR, s->conf->name,
			    "the certificate before stays: %s", why);
		if (s->conf->handler->reload != NULL &&
		    s->conf->handler->reload(s, why, sizeof(why)) == -1)
			log_service(LEVEL_ERROR, s->conf->name,
			    "goes on with what it has: %s", why);
	}
	TAILQ_FOREACH(s, &change.fresh, next)
		change.changed++;
	TAILQ_FOREACH(s, &change.old, next) {
		change.gone++;
		service_hold(s);
	}
	serve_adopt(conf, log);
	change.errand.fn = change_places;
	change.errand.done = changed;
	workers_each(&change.errand);
}

/* In the thread of each worker. */
static void
change_places(unsigned worker, struct errand *e)
{
	struct service *s;

	TAILQ_FOREACH(s, &change.fresh, next) {
		service_take(s, &change.old, worker);
		service_begin(s, worker);
	}
	TAILQ_FOREACH(s, &change.old, next)
		service_retire(s, worker);
}

static void
changed(struct errand *e)
{
	char text[160];
	struct service *s;

	while ((s = TAILQ_FIRST(&change.fresh)) != NULL)
		service_list(s, &services_running);
	while ((s = TAILQ_FIRST(&change.old)) != NULL) {
		service_list(s, &services_retired);
		s->retired = 1;
		serve_retire(s, s->conf->retire_ms);
		service_let_go(s);
	}
	serve_follow();
	snprintf(text, sizeof(text),
	    "reloaded: of the services %u as before, "
	    "%u begun, %u retired",
	    change.kept, change.changed, change.gone);
	tell(1, text);
}

/* The first request is done; the next one's turn. */
static void
tell(int ok, const char *text)
{
	struct request *r = STAILQ_FIRST(&requests);
	const char *line;
	size_t len;

	for (line = text; *line != '\0'; line += len + (line[len] == '\n')) {
		len = strcspn(line, "\n");
		log_line(ok ? LEVEL_NOTICE : LEVEL_ERROR, "%.*s", (int)len,
		    line);
	}
	if (!ok)
		log_line(LEVEL_ERROR, "not reloaded: all is as before");
	activate_notify("READY=1");
	if (r->told != NULL)
		r->told(ok, text, r->arg);
	STAILQ_REMOVE_HEAD(&requests, next);
	free(r);
	change.busy = 0;
	if (!STAILQ_EMPTY(&requests))
		begin();
	else
		serve_leave();
}

/* -- the file changes ------------------------------------------------------ */

int
reload_watch(void)
{
	struct kevent ev;

	watched = open(serve_conf()->file, O_RDONLY | O_CLOEXEC);
	if (watched == -1)
		return -1;
	EV_SET(&ev, watched, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_WRITE | NOTE_EXTEND | NOTE_RENAME | NOTE_DELETE | NOTE_ATTRIB,
	    0, NULL);
	if (kquay_watch(worker_chief(), &ev, on_change, NULL) == 0)
		return 0;
	close(watched);
	watched = -1;
	return -1;
}

static void
on_change(struct kquay *q, const struct kevent *ev, void *arg)
{
	settle(SETTLE_MS);
}

static void
settle(int ms)
{
	struct kevent ev;

	EV_SET(&ev, TIMER_IDENT, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	if (kquay_watch(worker_chief(), &ev, on_settled, NULL) == -1)
		log_line(LEVEL_ERROR, "%s: %s", serve_conf()->file,
		    strerror(errno));
}

/* What has the name now may be another file than the one that was watched. */
static void
on_settled(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct kevent gone;

	if (watched != -1) {
		EV_SET(&gone, watched, EVFILT_VNODE, EV_DELETE, 0, 0, NULL);
		(void)kquay_watch(q, &gone, NULL, NULL);
		close(watched);
	}
	if (reload_watch() == -1)
		settle(AWAIT_MS);
	else
		reload(NULL, NULL);
}
