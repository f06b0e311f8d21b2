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

static int collect(struct sandbox *, const struct service_conf_list *,
    const struct confine_files *);
static int give_sockets(const struct account *,
    const struct service_conf_list *, const struct confine_files *);
static int is_given(const char *);

int
confine_check(const struct confine *c, const struct service_conf_list *list,
    char *why, size_t whysz)
{
	const struct service_conf *conf;
	struct sandbox s = { .programs = 0 };
	struct account a;
	int rc = 0;

	if (account_find(&a, c->user, c->group, why, whysz) == -1)
		return -1;
	TAILQ_FOREACH(conf, list, next) {
		if (conf->handler->needs == NULL)
			continue;
		if (conf->handler->needs(conf, &s) == -1) {
			snprintf(why, whysz, "sandbox: service \"%s\": %s",
			    conf->name, strerror(errno));
			rc = -1;
		} else if (s.root && a.ngroups > 0) {
			snprintf(why, whysz,
			    "%s: service \"%s\" needs root to become another",
			    *c->user != '\0' ? "user" : "group", conf->name);
			rc = -1;
		} else if (s.programs && c->sandbox == SANDBOX_REQUIRE) {
			snprintf(why, whysz,
			    "sandbox: service \"%s\" runs programs, which "
			    "would be confined, too",
			    conf->name);
			rc = -1;
		}
		if (rc == -1)
			break;
	}
	sandbox_free(&s);
	return rc;
}

int
confine(const struct confine *c, const struct service_conf_list *list,
    const struct confine_files *files, char *why, size_t whysz)
{
	struct sandbox s = { .programs = 0 };
	struct account a;
	int rc = -1;

	if (account_find(&a, c->user, c->group, why, whysz) == -1)
		return -1;
	if (collect(&s, list, files) == -1) {
		snprintf(why, whysz, "sandbox: %s", strerror(errno));
		goto done;
	}
	if (give_sockets(&a, list, files) == -1) {
		snprintf(why, whysz, "user: UNIX sockets: %s", strerror(errno));
		goto done;
	}
	if (account_become(&a, why, whysz) == -1)
		goto done;
	/* Who became another may be looked into again. */
	if (s.secrets)
		sandbox_keep_secrets();
	rc = sandbox_enter(&s, (enum sandbox_mode)c->sandbox, why, whysz);
done:
	sandbox_free(&s);
	return rc;
}

static int
collect(struct sandbox *s, const struct service_conf_list *list,
    const struct confine_files *files)
{
	if (is_given(files->config) && sandbox_file(s, files->config) == -1)
		return -1;
	if (is_given(files->control) && sandbox_socket(s, files->control) == -1)
		return -1;
	if (is_given(files->log) && sandbox_output(s, files->log) == -1)
		return -1;
	return sandbox_services(s, list);
}

static int
give_sockets(const struct account *a, const struct service_conf_list *list,
    const struct confine_files *files)
{
	const struct service_conf *conf;
	const struct address *address;

	TAILQ_FOREACH(conf, list, next)
		TAILQ_FOREACH(address, &conf->listen, next)
			if (address->kind == ADDRESS_UNIX &&
			    account_give(a, address->path) == -1)
				return -1;
	return is_given(files->control) ? account_give(a, files->control) : 0;
}

static int
is_given(const char *path)
{
	return path != NULL && *path != '\0';
}

int
confine_reload(const struct service_conf_list *list, char *why, size_t whysz)
{
	struct sandbox s = { .programs = 0 };
	int rc;

	if (sandbox_services(&s, list) == -1) {
		snprintf(why, whysz, "sandbox: %s", strerror(errno));
		rc = -1;
	} else {
		rc = sandbox_check(&s, why, whysz);
		if (rc == 0 && s.secrets)
			sandbox_keep_secrets();
	}
	sandbox_free(&s);
	return rc;
}
