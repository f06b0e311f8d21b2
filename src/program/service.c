/*
 * The table of handlers, the settings that all of them have, and a service's
 * configuration.
 */
#include <sys/types.h>

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "running.h"
#include "service.h"

#define OFFSET(member) offsetof(struct service_conf, member)

static const char *const when_full_names[] = { "refuse", "wait", NULL };
static const char *const when_rate_names[] = { "refuse", "delay", NULL };
static const char *const client_names[] = { "none", "ask", "require", NULL };
static const char *const version_names[] = { "1.2", "1.3", NULL };

static const struct setting common_settings[] = {
	{ .name = "listen",
	    .letter = 'l',
	    .type = SETTING_LISTEN,
	    .offset = OFFSET(listen),
	    .required = 1,
	    .arg = "ADDRESS",
	    .help = "listen there; may be given more than once" },
	{ .name = "max-connections",
	    .letter = 'n',
	    .type = SETTING_COUNT,
	    .offset = OFFSET(max_connections),
	    .min = 1,
	    .max = 10000000,
	    .def = "1000",
	    .arg = "N",
	    .help = "serve so many at once" },
	{ .name = "max-per-source",
	    .letter = 's',
	    .type = SETTING_COUNT,
	    .offset = OFFSET(max_per_source),
	    .min = 1,
	    .max = 10000000,
	    .none = 1,
	    .def = "none",
	    .arg = "N",
	    .help = "and so many of one address" },
	{ .name = "when-full",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(when_full),
	    .min = FULL_REFUSE,
	    .max = FULL_WAIT,
	    .choices = when_full_names,
	    .def = "refuse",
	    .arg = "refuse|wait",
	    .help = "what becomes of one too many" },
	{ .name = "refusal",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(refusal),
	    .max = TEXT_MAX,
	    .def = "",
	    .arg = "TEXT",
	    .help = "line for who is refused; \"\": none" },
	{ .name = "idle-timeout",
	    .letter = 't',
	    .type = SETTING_TIME,
	    .offset = OFFSET(idle_ms),
	    .min = 1,
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "1h",
	    .arg = "TIME",
	    .help = "close after no byte either way for so long" },
	{ .name = "life-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(life_ms),
	    .min = 1,
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "none",
	    .arg = "TIME",
	    .help = "close so long after the beginning" },
	{ .name = "keepalive",
	    .type = SETTING_TIME,
	    .offset = OFFSET(keepalive_ms),
	    .min = 1000,
	    .max = 32767000,
	    .none = 1,
	    .def = "none",
	    .arg = "TIME",
	    .help = "ask who is silent for so long whether it is there" },
	{ .name = "linger",
	    .type = SETTING_TIME,
	    .offset = OFFSET(linger_ms),
	    .min = 1,
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "5s",
	    .arg = "TIME",
	    .help = "wait so long for output to leave at the end" },
	{ .name = "allow",
	    .type = SETTING_OWN,
	    .kind = &access_kind,
	    .offset = OFFSET(access.allow),
	    .arg = "WHO",
	    .help = "serve these alone: a network, uid:, gid:, unix, all" },
	{ .name = "deny",
	    .type = SETTING_OWN,
	    .kind = &access_kind,
	    .offset = OFFSET(access.deny),
	    .arg = "WHO",
	    .help = "never serve these" },
	{ .name = "rate",
	    .type = SETTING_OWN,
	    .kind = &rate_kind,
	    .offset = OFFSET(rate),
	    .def = "none",
	    .arg = "RATE",
	    .help = "so many callers of one source: \"10/s burst 20\"" },
	{ .name = "rate-v6-prefix",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(rate_v6_prefix),
	    .min = 1,
	    .max = 128,
	    .def = "64",
	    .arg = "N",
	    .help = "bits of an IPv6 address that are one source" },
	{ .name = "rate-sources",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(rate_sources),
	    .min = 1,
	    .max = 16777216,
	    .def = "65536",
	    .arg = "N",
	    .help = "remember so many sources, of 16 bytes each" },
	{ .name = "when-rate",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(when_rate),
	    .min = RATE_REFUSE,
	    .max = RATE_DELAY,
	    .choices = when_rate_names,
	    .def = "refuse",
	    .arg = "refuse|delay",
	    .help = "what becomes of who comes too early" },
	{ .name = "drain-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(drain_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "0s",
	    .arg = "TIME",
	    .help = "let connections go on for so long at the end" },
	{ .name = "retire-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(retire_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "1d",
	    .arg = "TIME",
	    .help = "and so long after a reload or upgrade" },
	{ .name = "mode",
	    .letter = 'm',
	    .type = SETTING_MODE,
	    .offset = OFFSET(mode),
	    .max = 0777,
	    .def = "0600",
	    .arg = "MODE",
	    .help = "permissions of UNIX sockets" },
	{ .name = "proxy-protocol",
	    .type = SETTING_SWITCH,
	    .offset = OFFSET(proxy_protocol),
	    .def = "off",
	    .arg = "on|off",
	    .help = "callers are proxies and begin with a PROXY header" },
	{ .name = "tls-certificate",
	    .section = "tls",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(tls.certificates),
	    .arg = "FILE",
	    .help = "speak TLS, with this chain; one for each name" },
	{ .name = "tls-key",
	    .section = "tls",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(tls.keys),
	    .arg = "FILE",
	    .help = "the key of each, if it is in another file" },
	{ .name = "tls-client",
	    .section = "tls",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(tls.client),
	    .max = CLIENT_REQUIRE,
	    .choices = client_names,
	    .def = "none",
	    .arg = "none|ask|require",
	    .help = "certificates of clients" },
	{ .name = "tls-client-ca",
	    .section = "tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls.client_ca),
	    .max = PATH_MAX - 1,
	    .def = "",
	    .arg = "FILE",
	    .help = "authorities that clients' certificates are of" },
	{ .name = "tls-alpn",
	    .section = "tls",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(tls.alpn),
	    .valid = secure_protocol,
	    .arg = "PROTOCOL",
	    .help = "speak this, the best one first" },
	{ .name = "tls-ciphers",
	    .section = "tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls.ciphers),
	    .max = TEXT_MAX,
	    .def = "",
	    .arg = "LIST",
	    .help = "of TLS 1.2; \"\": the safe ones" },
	{ .name = "tls-suites",
	    .section = "tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls.suites),
	    .max = TEXT_MAX,
	    .def = "",
	    .arg = "LIST",
	    .help = "of TLS 1.3; \"\": OpenSSL's" },
	{ .name = "tls-min-version",
	    .section = "tls",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(tls.min_version),
	    .max = VERSION_1_3,
	    .choices = version_names,
	    .def = "1.2",
	    .arg = "1.2|1.3",
	    .help = "nothing older than this TLS" },
	{ .name = NULL }
};
#define NCOMMON (sizeof(common_settings) / sizeof(common_settings[0]) - 1)

static const struct setting *find_in(const struct setting *, const char *);

const struct service_handler *const service_handlers[] = { &service_chat,
	&service_echo, &service_discard, &service_daytime, &service_exec,
	&service_relay, NULL };

const struct service_handler *
service_handler_find(const char *name)
{
	int i;

	for (i = 0; service_handlers[i] != NULL; i++)
		if (strcmp(service_handlers[i]->name, name) == 0)
			return service_handlers[i];
	return NULL;
}

const char *
service_handler_names(char *buf, size_t size)
{
	int i;

	*buf = '\0';
	for (i = 0; service_handlers[i] != NULL; i++) {
		if (i > 0)
			strlcat(buf, ", ", size);
		strlcat(buf, service_handlers[i]->name, size);
	}
	return buf;
}

const struct setting *
service_setting(const struct service_handler *handler, size_t i)
{
	const struct setting *s;

	if (i < NCOMMON) {
		s = find_in(handler->settings, common_settings[i].name);
		return s != NULL ? s : &common_settings[i];
	}
	i -= NCOMMON;
	for (s = handler->settings; s->name != NULL; s++)
		if (find_in(common_settings, s->name) == NULL && i-- == 0)
			return s;
	return NULL;
}

const struct setting *
service_setting_find(const struct service_handler *handler, const char *name)
{
	const struct setting *s;

	s = find_in(handler->settings, name);
	return s != NULL ? s : find_in(common_settings, name);
}

static const struct setting *
find_in(const struct setting *table, const char *name)
{
	for (; table->name != NULL; table++)
		if (strcmp(table->name, name) == 0)
			return table;
	return NULL;
}

struct service_conf *
service_conf_new(const struct service_handler *handler, const char *name)
{
	const struct setting *s;
	struct service_conf *conf;
	char why[256];
	size_t i;

	conf = calloc(1, handler->confsz);
	if (conf == NULL)
		return NULL;
	conf->handler = handler;
	TAILQ_INIT(&conf->listen);
	conf->name = strdup(name);
	if (conf->name == NULL)
		goto fail;
	for (i = 0; (s = service_setting(handler, i)) != NULL; i++)
		if (s->def != NULL &&
		    setting_parse(s, conf, s->def, why, sizeof(why)) == -1)
			goto fail;
	return conf;

fail:
	service_conf_free(conf);
	errno = ENOMEM;
	return NULL;
}

void
service_conf_free(struct service_conf *conf)
{
	const struct setting *s;
	size_t i;

	if (conf == NULL)
		return;
	for (i = 0; (s = service_setting(conf->handler, i)) != NULL; i++)
		setting_free(s, conf);
	secure_free(&conf->tls);
	free(conf->name);
	free(conf);
}

const struct setting *
service_conf_missing(const struct service_conf *conf)
{
	const struct setting *s;
	size_t i;

	for (i = 0; (s = service_setting(conf->handler, i)) != NULL; i++)
		if (s->required && !setting_given(s, conf))
			return s;
	return NULL;
}

int
service_conf_check(struct service_conf *conf, char *why, size_t whysz)
{
	const struct setting *missing = service_conf_missing(conf);

	access_prepare(&conf->access);
	if (missing != NULL) {
		snprintf(why, whysz, "%s: is missing", missing->name);
		return -1;
	}
	if (secure_check(conf, why, whysz) == -1)
		return -1;
	if (conf->handler->check == NULL)
		return 0;
	return conf->handler->check(conf, why, whysz);
}

void
service_conf_list_free(struct service_conf_list *list)
{
	struct service_conf *conf;

	while ((conf = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, conf, next);
		service_conf_free(conf);
	}
}

struct service *
service_of(const struct kquay *q)
{
	const struct branch *b = kquay_arg(q);

	return b->service;
}

const struct service_conf *
service_conf_of(const struct kquay *q)
{
	return service_of(q)->conf;
}
