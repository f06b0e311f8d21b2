/*
 * The settings of a relay.
 */
#include <sys/types.h>
#include <sys/socket.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include <kquay.h>

#include "relay_conf.h"
#include "sandbox.h"
#include "sni.h"
#include "upstream.h"

#define MAX_TIME 2073600000 /* ms in 24 days: an int holds no 25 */
#define CALLERS_MAX 7000000 /* with whom is dialled, a loop has 2^24 slots */
#define OFFSET(member) offsetof(struct relay_conf, member)

static int check_tls(const struct relay_conf *, char *, size_t);
static const char *given(const char *);
static int valid_source(const char *, char *, size_t);
static int valid_nameservers(const char *, char *, size_t);

static const char *const balance_names[] = { "round-robin", "least", "hash",
	"first", NULL };
static const char *const proxy_names[] = { "none", "v1", "v2", NULL };

const struct setting relay_settings[] = {
	{ .name = "drain-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(base.drain_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "10s",
	    .arg = "TIME",
	    .help = "let connections go on for so long at the end" },
	{ .name = "to",
	    .type = SETTING_OWN,
	    .kind = &target_kind,
	    .offset = OFFSET(to),
	    .required = 1,
	    .arg = "TARGET",
	    .help = "connect there; may be given more than once" },
	{ .name = "balance",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(balance),
	    .max = BALANCE_FIRST,
	    .choices = balance_names,
	    .def = "round-robin",
	    .arg = "round-robin|least|hash|first",
	    .help = "how a target is chosen" },
	{ .name = "connect-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(connect_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .def = "5s",
	    .arg = "TIME",
	    .help = "wait so long for a target" },
	{ .name = "retries",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(retries),
	    .max = UPSTREAM_TRIES_MAX - 1,
	    .none = 1,
	    .def = "2",
	    .arg = "N",
	    .help = "try so many others" },
	{ .name = "retry-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(retry_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .none = 1,
	    .def = "10s",
	    .arg = "TIME",
	    .help = "and none after so long" },
	{ .name = "max-per-target",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(max_per_target),
	    .min = 1,
	    .max = TARGET_MAX_MAX,
	    .none = 1,
	    .def = "none",
	    .arg = "N",
	    .help = "so many connections at once to one" },
	{ .name = "queue",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(queue),
	    .max = 10000000,
	    .none = 1,
	    .def = "none",
	    .arg = "N",
	    .help = "and so many callers may wait for one" },
	{ .name = "queue-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(queue_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .def = "10s",
	    .arg = "TIME",
	    .help = "for so long" },
	{ .name = "fail-limit",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(fail_limit),
	    .min = 1,
	    .max = 1000000,
	    .none = 1,
	    .def = "3",
	    .arg = "N",
	    .help = "leave a target alone that fails so often" },
	{ .name = "fail-time",
	    .type = SETTING_TIME,
	    .offset = OFFSET(fail_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .def = "10s",
	    .arg = "TIME",
	    .help = "within this, for as long" },
	{ .name = "check",
	    .type = SETTING_TIME,
	    .offset = OFFSET(check.interval_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .none = 1,
	    .def = "none",
	    .arg = "TIME",
	    .help = "see so often whether each target is up" },
	{ .name = "check-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(check.timeout_ms),
	    .min = 1,
	    .max = MAX_TIME,
	    .def = "2s",
	    .arg = "TIME",
	    .help = "a check may last so long" },
	{ .name = "check-rise",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(check.rise),
	    .min = 1,
	    .max = 1000,
	    .def = "2",
	    .arg = "N",
	    .help = "so many good ones make a target up" },
	{ .name = "check-fall",
	    .type = SETTING_COUNT,
	    .offset = OFFSET(check.fall),
	    .min = 1,
	    .max = 1000,
	    .def = "3",
	    .arg = "N",
	    .help = "and so many bad ones down" },
	{ .name = "check-send",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(check.send),
	    .max = TEXT_MAX,
	    .def = "",
	    .arg = "TEXT",
	    .help = "what a check sends" },
	{ .name = "check-expect",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(check.expect),
	    .max = TEXT_MAX,
	    .def = "",
	    .arg = "TEXT",
	    .help = "what is to be in the answer" },
	{ .name = "check-command",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(check.command),
	    .arg = "WORD",
	    .help = "a program, and each argument, that finds out" },
	{ .name = "send-proxy",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(send_proxy),
	    .max = 2,
	    .choices = proxy_names,
	    .def = "none",
	    .arg = "none|v1|v2",
	    .help = "tell targets of the caller by a PROXY header" },
	{ .name = "source",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(source),
	    .max = INET6_ADDRSTRLEN,
	    .valid = valid_source,
	    .def = "",
	    .arg = "ADDRESS",
	    .help = "connect from this one" },
	{ .name = "nameservers",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(base.nameservers),
	    .max = TEXT_MAX,
	    .valid = valid_nameservers,
	    .def = "",
	    .arg = "ADDRESS[:PORT],...",
	    .help = "whom to ask; \"\": as resolv.conf(5) says" },
	{ .name = "to-tls-ca",
	    .section = "to-tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls_ca),
	    .max = PATH_MAX - 1,
	    .def = "",
	    .arg = "FILE",
	    .help = "authorities to believe; \"\": the system's" },
	{ .name = "to-tls-verify",
	    .section = "to-tls",
	    .type = SETTING_SWITCH,
	    .offset = OFFSET(verify),
	    .def = "on",
	    .arg = "on|off",
	    .help = "is the target who it says it is?" },
	{ .name = "to-tls-servername",
	    .section = "to-tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls_servername),
	    .max = SNI_NAME_MAX,
	    .def = "",
	    .arg = "NAME",
	    .help = "whom to ask for; \"\": the target's host" },
	{ .name = "to-tls-certificate",
	    .section = "to-tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls_certificate),
	    .max = PATH_MAX - 1,
	    .def = "",
	    .arg = "FILE",
	    .help = "who we are, a chain" },
	{ .name = "to-tls-key",
	    .section = "to-tls",
	    .type = SETTING_TEXT,
	    .offset = OFFSET(tls_key),
	    .max = PATH_MAX - 1,
	    .def = "",
	    .arg = "FILE",
	    .help = "its key, if it is in another file" },
	{ .name = NULL }
};

int
relay_conf_check(struct service_conf *base, char *why, size_t whysz)
{
	struct relay_conf *conf = (struct relay_conf *)base;

	if (base->max_connections > CALLERS_MAX) {
		snprintf(why, whysz, "max-connections: a relay has %d at most",
		    CALLERS_MAX);
		return -1;
	}
	if (check_valid(&conf->check, why, whysz) == -1)
		return -1;
	return check_tls(conf, why, whysz);
}

/* Half a protection is none: who asks for some of it means all. */
static int
check_tls(const struct relay_conf *conf, char *why, size_t whysz)
{
	const char *alone = *conf->tls_ca != '\0' ? "to-tls-ca" :
	    *conf->tls_servername != '\0'         ? "to-tls-servername" :
	    *conf->tls_certificate != '\0'        ? "to-tls-certificate" :
	    *conf->tls_key != '\0'                ? "to-tls-key" :
						    NULL;
	struct kquay_tls *tls;
	const struct target *t;
	int any = 0;

	TAILQ_FOREACH(t, &conf->to, next) {
		any |= t->tls;
		if (t->tls && t->port == NULL && !t->srv &&
		    *conf->tls_servername == '\0' && conf->verify) {
			snprintf(why, whysz,
			    "to: '%s': TLS to a UNIX socket takes "
			    "to-tls-servername, the name in its certificate",
			    t->text);
			return -1;
		}
	}
	if (!any && alone != NULL) {
		snprintf(why, whysz, "%s: no target has the word tls", alone);
		return -1;
	}
	if (*conf->tls_key != '\0' && *conf->tls_certificate == '\0') {
		snprintf(why, whysz, "to-tls-key: takes a to-tls-certificate");
		return -1;
	}
	if (relay_tls(conf, &tls, why, whysz) == -1)
		return -1;
	kquay_tls_free(tls);
	return 0;
}

/* What targets with tls need; none if there are none.  0, or -1 and why. */
int
relay_tls(const struct relay_conf *conf, struct kquay_tls **tls, char *why,
    size_t whysz)
{
	const struct kquay_cert cert = { .chain = given(conf->tls_certificate),
		.key = given(conf->tls_key) };
	const struct kquay_tls_conf limits = {
		.certs = &cert,
		.ncerts = cert.chain != NULL,
		.cafile = given(conf->tls_ca),
		.flags = conf->verify ? 0 : KQUAY_TLS_ANYBODY,
	};
	const struct target *t;
	char error[512];

	*tls = NULL;
	TAILQ_FOREACH(t, &conf->to, next)
		if (t->tls)
			break;
	if (t == NULL)
		return 0;
	*tls = kquay_tls_new(&limits, error, sizeof(error));
	if (*tls != NULL)
		return 0;
	snprintf(why, whysz, "%s: %s",
	    cert.chain != NULL ? "to-tls-certificate" : "to-tls-ca", error);
	return -1;
}

static const char *
given(const char *text)
{
	return *text != '\0' ? text : NULL;
}

/* A number of either family. */
static int
valid_source(const char *text, char *why, size_t whysz)
{
	unsigned char number[sizeof(struct in6_addr)];

	if (*text == '\0' || inet_pton(AF_INET, text, number) == 1 ||
	    inet_pton(AF_INET6, text, number) == 1)
		return 0;
	snprintf(why, whysz, "is not an address, such as 192.0.2.1");
	return -1;
}

/* Only a loop knows. */
static int
valid_nameservers(const char *text, char *why, size_t whysz)
{
	const struct kquay_conf conf = { .maxconn = 1,
		.nameservers = given(text),
		.flags = KQUAY_NOSIGNAL };
	const struct kquay_ops none = { .open = NULL };
	struct kquay *q = kquay_new(&none, &conf);

	if (q == NULL)
		snprintf(why, whysz, "%s",
		    errno == EINVAL ? "is no list of ADDRESS[:PORT]" :
				      strerror(errno));
	kquay_free(q);
	return q == NULL ? -1 : 0;
}

int
relay_conf_needs(const struct service_conf *base, struct sandbox *sandbox)
{
	const struct relay_conf *conf = (const struct relay_conf *)base;
	const char *const files[] = { conf->tls_ca, conf->tls_certificate,
		conf->tls_key };
	const struct target *t;
	size_t i;

	for (i = 0; i < sizeof(files) / sizeof(files[0]); i++)
		if (*files[i] != '\0' && sandbox_file(sandbox, files[i]) == -1)
			return -1;
	TAILQ_FOREACH(t, &conf->to, next)
		if (t->port == NULL && !t->srv &&
		    sandbox_call(sandbox, t->host) == -1)
			return -1;
	if (*conf->tls_certificate != '\0')
		sandbox->secrets = 1;
	if (conf->check.interval_ms != -1 && conf->check.command.count > 0)
		sandbox->programs = 1;
	return 0;
}
