/*
 * The last step of a start, when everything is open: give up what is not
 * needed any more.
 */
#include <sys/types.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "account.h"
#include "confine.h"
#include "log.h"
#include "sandbox.h"
#include "upgrade.h"

static int check_service(const struct program_conf *, const struct account *,
    const struct service_conf *, char *, size_t);
static int collect(struct sandbox *, const struct program_conf *);
static int note_sockets(const struct program_conf *);
static int give_sockets(void);
static int add_left(struct sandbox *);

/* From confine_prepare() to confine(). */
static struct {
	struct account account;
	struct sandbox sandbox;
	struct words sockets; /* UNIX sockets of ours */
	enum sandbox_mode mode;
} plan;

int
confine_check(const struct program_conf *conf, char *why, size_t whysz)
{
	const struct service_conf *one;
	struct account a;

	if (account_find(&a, conf->user, conf->group, why, whysz) == -1)
		return -1;
	TAILQ_FOREACH(one, &conf->services, next)
		if (check_service(conf, &a, one, why, whysz) == -1)
			return -1;
	return 0;
}

static int
check_service(const struct program_conf *conf, const struct account *a,
    const struct service_conf *one, char *why, size_t whysz)
{
	struct sandbox s = { .programs = 0 };
	int rc = -1;

	if (one->handler->needs == NULL)
		return 0;
	if (one->handler->needs(one, &s) == -1)
		snprintf(why, whysz, "sandbox: service \"%s\": %s", one->name,
		    strerror(errno));
	else if (s.root && a->ngroups > 0)
		snprintf(why, whysz,
		    "%s: service \"%s\" has a user of its own, which only "
		    "root can become",
		    *conf->user != '\0' ? "user" : "group", one->name);
	else if (s.programs && conf->sandbox == SANDBOX_REQUIRE)
		snprintf(why, whysz,
		    "sandbox: service \"%s\" runs programs, which would be "
		    "confined, too",
		    one->name);
	else
		rc = 0;
	sandbox_free(&s);
	return rc;
}

int
confine_prepare(const struct program_conf *conf, char *why, size_t whysz)
{
	plan.mode = (enum sandbox_mode)conf->sandbox;
	plan.sandbox.heir = upgrade_is_heir();
	plan.sandbox.filter = upgrade_filter();
	if (account_find(&plan.account, conf->user, conf->group, why, whysz) ==
		-1 ||
	    account_may(&plan.account, why, whysz) == -1)
		return -1;
	if (collect(&plan.sandbox, conf) == 0 && note_sockets(conf) == 0)
		return 0;
	snprintf(why, whysz, "sandbox: %s", strerror(errno));
	return -1;
}

static int
collect(struct sandbox *s, const struct program_conf *conf)
{
	if (conf->file != NULL && sandbox_file(s, conf->file) == -1)
		return -1;
	if (*conf->control != '\0' && sandbox_socket(s, conf->control) == -1)
		return -1;
	if (strncmp(conf->status, "unix:", 5) == 0 &&
	    sandbox_socket(s, conf->status + 5) == -1)
		return -1;
	if (strncmp(conf->log, "file:", 5) == 0 &&
	    sandbox_output(s, conf->log + 5) == -1)
		return -1;
	return sandbox_services(s, &conf->services);
}

static int
note_sockets(const struct program_conf *conf)
{
	const struct service_conf *one;
	const struct address *a;

	TAILQ_FOREACH(one, &conf->services, next)
		TAILQ_FOREACH(a, &one->listen, next)
			if (a->kind == ADDRESS_UNIX &&
			    words_add(&plan.sockets, a->path) == -1)
				return -1;
	if (strncmp(conf->status, "unix:", 5) == 0 &&
	    words_add(&plan.sockets, conf->status + 5) == -1)
		return -1;
	if (*conf->control == '\0')
		return 0;
	return words_add(&plan.sockets, conf->control);
}

int
confine(char *why, size_t whysz)
{
	int rc = -1;

	if (give_sockets() == -1)
		snprintf(why, whysz, "user: UNIX sockets: %s", strerror(errno));
	else if (plan.account.ngroups > 0 &&
	    log_give(plan.account.uid, plan.account.gid) == -1)
		snprintf(why, whysz, "user: log: %s", strerror(errno));
	else if (add_left(&plan.sandbox) == -1)
		snprintf(why, whysz, "sandbox: %s", strerror(errno));
	else if (account_become(&plan.account, why, whysz) == 0) {
		/* Who became another may be looked into again. */
		if (plan.sandbox.secrets)
			sandbox_keep_secrets();
		rc = sandbox_enter(&plan.sandbox, plan.mode, why, whysz);
	}
	words_free(&plan.sockets);
	sandbox_free(&plan.sandbox);
	return rc;
}

static int
give_sockets(void)
{
	size_t i;

	for (i = 0; i < plan.sockets.count; i++)
		if (account_give(&plan.account, plan.sockets.word[i]) == -1)
			return -1;
	return 0;
}

/* Those that an earlier program had and we do not: their files are to go. */
static int
add_left(struct sandbox *s)
{
	const char *path;
	size_t i;

	for (i = 0; (path = upgrade_left(i)) != NULL; i++)
		if (sandbox_socket(s, path) == -1)
			return -1;
	return 0;
}

int
confine_reload(const struct program_conf *conf, char *why, size_t whysz)
{
	struct sandbox s = { .programs = 0 };
	int rc = -1;

	if (collect(&s, conf) == -1)
		snprintf(why, whysz, "sandbox: %s", strerror(errno));
	else
		rc = sandbox_check(&s, why, whysz);
	if (rc == 0 && s.secrets)
		sandbox_keep_secrets();
	sandbox_free(&s);
	return rc;
}
