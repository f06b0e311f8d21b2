/*
 * The table of the program's own settings.
 */
#include <sys/types.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "http.h"
#include "log.h"
#include "confine.h"
#include "program.h"
#include "sandbox.h"
#include "worker.h"

#define OFFSET(member) offsetof(struct program_conf, member)

static const char *const sandbox_names[] = { "off", "on", "require", NULL };

static int valid_path(const char *, char *, size_t);
static int check_status(const struct program_conf *, char *, size_t);
static int valid_status(const char *, char *, size_t);

static const struct setting settings[] = { { .name = "workers",
					       .type = SETTING_COUNT,
					       .offset = OFFSET(workers),
					       .min = 1,
					       .max = WORKERS_MAX,
					       .def = "1",
					       .arg = "N",
					       .help = "threads that serve" },
	{ .name = "control",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(control),
	    .max = 107,
	    .valid = valid_path,
	    .def = "",
	    .arg = "PATH",
	    .help = "UNIX socket for kquay status and the like; \"\": none" },
	{ .name = "control-mode",
	    .type = SETTING_MODE,
	    .offset = OFFSET(control_mode),
	    .max = 0777,
	    .def = "0600",
	    .arg = "MODE",
	    .help = "its permissions" },
	{ .name = "status",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(status),
	    .max = 256,
	    .valid = valid_status,
	    .def = "",
	    .arg = "ADDRESS",
	    .help = "status page, /metrics and /status.json; \"\": none" },
	{ .name = "status-public",
	    .type = SETTING_SWITCH,
	    .offset = OFFSET(status_public),
	    .def = "off",
	    .arg = "on|off",
	    .help = "it may be on another address than the loopback" },
	{ .name = "log",
	    .live = 1,
	    .type = SETTING_TEXT,
	    .offset = OFFSET(log),
	    .max = PATH_MAX,
	    .valid = log_target_valid,
	    .def = "stderr",
	    .arg = LOG_TARGET_ARG,
	    .help = "where the log goes" },
	{ .name = "log-format",
	    .live = 1,
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(log_format),
	    .max = LOG_JSON,
	    .choices = log_format_names,
	    .def = "text",
	    .arg = "text|json",
	    .help = "what a line looks like" },
	{ .name = "log-level",
	    .live = 1,
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(log_level),
	    .max = LEVEL_DEBUG,
	    .choices = log_level_names,
	    .def = "notice",
	    .arg = "error|warning|notice|info|debug",
	    .help = "the least that is told; info: every connection" },
	{ .name = "user",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(user),
	    .max = 256,
	    .def = "",
	    .arg = "NAME",
	    .help = "become this user once everything is open" },
	{ .name = "group",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(group),
	    .max = 256,
	    .def = "",
	    .arg = "NAME",
	    .help = "and have this group alone" },
	{ .name = "sandbox",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(sandbox),
	    .max = SANDBOX_REQUIRE,
	    .choices = sandbox_names,
	    .def = "on",
	    .arg = "on|off|require",
	    .help = "give up what is not needed once everything is open" },
	{ .name = "reload-on-change",
	    .type = SETTING_SWITCH,
	    .offset = OFFSET(watch),
	    .def = "off",
	    .arg = "on|off",
	    .help = "reload when the file has changed" },
	{ .name = "upgrade-timeout",
	    .live = 1,
	    .type = SETTING_TIME,
	    .offset = OFFSET(upgrade_ms),
	    .min = 1,
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "1m",
	    .arg = "TIME",
	    .help = "end a new program that is not ready by then" },
	{ .name = "exit-when-idle",
	    .live = 1,
	    .type = SETTING_TIME,
	    .offset = OFFSET(idle_ms),
	    .min = 1,
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "none",
	    .arg = "TIME",
	    .help = "end after so long without a connection" },
	{ .name = NULL } };

static int
valid_path(const char *text, char *why, size_t whysz)
{
	for (; *text != '\0'; text++) {
		if (iscntrl((unsigned char)*text)) {
			snprintf(why, whysz, "not a path");
			return -1;
		}
	}
	return 0;
}

static int
valid_status(const char *text, char *why, size_t whysz)
{
	struct address_list list = TAILQ_HEAD_INITIALIZER(list);
	int rc;

	if (*text == '\0')
		return 0;
	rc = address_list_add(&list, text, why, whysz);
	if (rc == 0 && TAILQ_FIRST(&list)->kind != ADDRESS_TCP &&
	    TAILQ_FIRST(&list)->kind != ADDRESS_UNIX) {
		snprintf(why, whysz, "not HOST:PORT or unix:PATH");
		rc = -1;
	}
	address_list_free(&list);
	return rc;
}

int
program_conf_init(struct program_conf *conf)
{
	const struct setting *s;
	char why[256];

	memset(conf, 0, sizeof(*conf));
	TAILQ_INIT(&conf->services);
	for (s = settings; s->name != NULL; s++) {
		if (setting_parse(s, conf, s->def, why, sizeof(why)) == -1) {
			program_conf_free(conf);
			errno = ENOMEM;
			return -1;
		}
	}
	return 0;
}

void
program_conf_free(struct program_conf *conf)
{
	const struct setting *s;

	for (s = settings; s->name != NULL; s++)
		setting_free(s, conf);
	service_conf_list_free(&conf->services);
}

int
program_conf_check(const struct program_conf *conf, char *why, size_t whysz)
{
	if (check_status(conf, why, whysz) == -1)
		return -1;
	return confine_check(conf, why, whysz);
}

static int
check_status(const struct program_conf *conf, char *why, size_t whysz)
{
	struct address_list list = TAILQ_HEAD_INITIALIZER(list);
	int rc;

	if (*conf->status == '\0')
		return 0;
	rc = address_list_add(&list, conf->status, why, whysz);
	if (rc == 0)
		rc = http_check(TAILQ_FIRST(&list), conf->status_public, why,
		    whysz);
	address_list_free(&list);
	return rc;
}

const struct setting *
program_setting(size_t i)
{
	return settings[i].name != NULL ? &settings[i] : NULL;
}

const struct setting *
program_setting_find(const char *name)
{
	const struct setting *s;

	for (s = settings; s->name != NULL; s++)
		if (strcmp(s->name, name) == 0)
			return s;
	return NULL;
}
