/*
 * What the process needs when it is confined, and whether something is within
 * that.
 */
#include <sys/types.h>

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox.h"

#define ONLY_THOSE                                                             \
	"the sandbox has the folders of the start only: restart kquay for "    \
	"more"

static int add_service(struct sandbox *, const struct service_conf *);
static int add_folder_of(struct words *, const char *);
static int add(struct words *, const char *);
static int add_once(struct words *, const char *);
static int is_too_much(const char *);
static const char *missing(const struct words *, const struct words *);
static int is_within(const char *, const struct words *);

/* Names, services, the time zone, authorities; libraries, locales. */
static const char *const system_folders[] = { "/etc", "/usr" };

/* What sandbox_enter() has allowed; programs: everything. */
static struct sandbox granted = { .programs = 1, .root = 1 };
static char state[64] = "none: not asked for";

int
sandbox_file(struct sandbox *s, const char *path)
{
	return add_folder_of(&s->read, path);
}

int
sandbox_socket(struct sandbox *s, const char *path)
{
	return add_folder_of(&s->sockets, path);
}

int
sandbox_output(struct sandbox *s, const char *path)
{
	return add_folder_of(&s->write, path);
}

int
sandbox_call(struct sandbox *s, const char *path)
{
	return add_folder_of(&s->calls, path);
}

int
sandbox_services(struct sandbox *s, const struct service_conf_list *list)
{
	const struct service_conf *conf;

	TAILQ_FOREACH(conf, list, next)
		if (add_service(s, conf) == -1)
			return -1;
	return 0;
}

static int
add_service(struct sandbox *s, const struct service_conf *conf)
{
	const struct address *a;
	size_t i;

	TAILQ_FOREACH(a, &conf->listen, next)
		if (a->kind == ADDRESS_UNIX && sandbox_socket(s, a->path) == -1)
			return -1;
	for (i = 0; i < conf->tls.certificates.count; i++)
		if (sandbox_file(s, conf->tls.certificates.word[i]) == -1)
			return -1;
	for (i = 0; i < conf->tls.keys.count; i++)
		if (sandbox_file(s, conf->tls.keys.word[i]) == -1)
			return -1;
	if (*conf->tls.client_ca != '\0' &&
	    sandbox_file(s, conf->tls.client_ca) == -1)
		return -1;
	if (conf->tls.loaded != NULL)
		s->secrets = 1;
	if (conf->handler->needs == NULL)
		return 0;
	return conf->handler->needs(conf, s);
}

/*
 * The folder that path is in; and if it is a symbolic link, as those of
 * certificates that are renewed are, the folder that it leads to.
 */
static int
add_folder_of(struct words *words, const char *path)
{
	char copy[PATH_MAX], real[PATH_MAX];

	if (strlcpy(copy, path, sizeof(copy)) >= sizeof(copy)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	/* Without a folder whoever opens it will say so. */
	if (realpath(dirname(copy), real) == NULL)
		return errno == ENOENT ? 0 : -1;
	if (add(words, is_too_much(real) ? path : real) == -1)
		return -1;
	if (realpath(path, copy) == NULL)
		return 0; /* it is yet to be made */
	strlcpy(real, copy, sizeof(real));
	return add(words, is_too_much(dirname(copy)) ? real : copy);
}

static int
is_too_much(const char *folder)
{
	return strcmp(folder, "/") == 0;
}

static int
add(struct words *words, const char *path)
{
	char real[PATH_MAX];

	if (realpath(path, real) == NULL)
		return errno == ENOENT ? 0 : -1;
	return add_once(words, real);
}

static int
add_once(struct words *words, const char *path)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		if (strcmp(words->word[i], path) == 0)
			return 0;
	return words_add(words, path);
}

int
sandbox_check(const struct sandbox *s, char *why, size_t whysz)
{
	const char *path;

	if (granted.programs)
		return 0;
	if (s->programs) {
		snprintf(why, whysz,
		    "the sandbox has no programs: restart kquay to run some");
		return -1;
	}
	if ((path = missing(&s->read, &granted.read)) == NULL &&
	    (path = missing(&s->sockets, &granted.sockets)) == NULL &&
	    (path = missing(&s->write, &granted.write)) == NULL)
		return 0;
	snprintf(why, whysz, "%s: " ONLY_THOSE, path);
	return -1;
}

/* The first that is not within the others, or NULL. */
static const char *
missing(const struct words *words, const struct words *others)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		if (!is_within(words->word[i], others))
			return words->word[i];
	return NULL;
}

static int
is_within(const char *path, const struct words *folders)
{
	size_t i, len;

	for (i = 0; i < folders->count; i++) {
		len = strlen(folders->word[i]);
		if (strncmp(path, folders->word[i], len) == 0 &&
		    (path[len] == '\0' || path[len] == '/'))
			return 1;
	}
	return 0;
}

int
sandbox_enter(struct sandbox *s, enum sandbox_mode mode, char *why,
    size_t whysz)
{
	char left_out[256];
	size_t i;

	if (mode == SANDBOX_OFF)
		return 0;
	if (s->programs) {
		snprintf(state, sizeof(state), "none: programs are run");
		if (mode == SANDBOX_ON)
			return 0;
		snprintf(why, whysz,
		    "sandbox: cannot be where programs are run: they would "
		    "inherit it");
		return -1;
	}
	for (i = 0; i < sizeof(system_folders) / sizeof(system_folders[0]); i++)
		if (add(&s->read, system_folders[i]) == -1) {
			snprintf(why, whysz, "%s: %s", system_folders[i],
			    strerror(errno));
			return -1;
		}
	if (sandbox_confine(s, state, sizeof(state), left_out,
		sizeof(left_out)) == -1 &&
	    mode == SANDBOX_REQUIRE) {
		snprintf(why, whysz, "sandbox: %s", left_out);
		return -1;
	}
	if (strncmp(state, "none", 4) == 0)
		return 0;
	granted = *s;
	*s = (struct sandbox){ .programs = 0 };
	return 0;
}

void
sandbox_explain(int error, char *why, size_t whysz)
{
	if (error == EACCES && !granted.programs)
		strlcat(why, " (" ONLY_THOSE ")", whysz);
}

uint64_t
sandbox_filter(void)
{
	return granted.filter;
}

const char *
sandbox_state(void)
{
	return state;
}

void
sandbox_free(struct sandbox *s)
{
	words_free(&s->read);
	words_free(&s->sockets);
	words_free(&s->write);
	words_free(&s->calls);
}
