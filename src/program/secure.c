/*
 * What stands in front of a service's bytes: a PROXY header, and TLS.
 *
 * The certificates are read when a configuration is checked, so that what is
 * wrong with them is told with the setting that names them, by `kquay check'
 * as well as before a reload.
 */
#include <sys/types.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kquay.h>

#include "sandbox.h"
#include "secure.h"
#include "service.h"

#define PROTOCOL_MAX 255 /* of a name in ALPN */

static int check_agreement(const struct secure_conf *, char *, size_t);
static struct kquay_cert *fill(struct kquay_tls_conf *,
    const struct secure_conf *);
static const char *given(const char *);
static const char *to_blame(const struct secure_conf *, const char *);
static int begins_with(const char *, const char *);
static int one_begins(const char *, const struct words *);

int
secure_protocol(const char *text, char *why, size_t whysz)
{
	if (*text != '\0' && strlen(text) <= PROTOCOL_MAX)
		return 0;
	snprintf(why, whysz, "is not the name of a protocol");
	return -1;
}

int
secure_check(struct service_conf *conf, char *why, size_t whysz)
{
	struct secure_conf *s = &conf->tls;
	struct kquay_tls_conf tls;
	struct kquay_cert *certs;
	char error[512];
	int failed;

	if (check_agreement(s, why, whysz) == -1)
		return -1;
	if (s->certificates.count == 0)
		return 0;
	certs = fill(&tls, s);
	if (certs == NULL) {
		snprintf(why, whysz, "tls-certificate: %s", strerror(errno));
		return -1;
	}
	kquay_tls_free(s->loaded);
	s->loaded = kquay_tls_new(&tls, error, sizeof(error));
	failed = errno;
	free(certs);
	if (s->loaded != NULL)
		return 0;
	snprintf(why, whysz, "%s: %s", to_blame(s, error), error);
	sandbox_explain(failed, why, whysz);
	return -1;
}

/* Half a protection is none: who asks for some of it means all. */
static int
check_agreement(const struct secure_conf *s, char *why, size_t whysz)
{
	const struct {
		const char *name;
		int given;
	} others[] = {
		{ "tls-key", s->keys.count > 0 },
		{ "tls-client", s->client != CLIENT_NONE },
		{ "tls-client-ca", given(s->client_ca) != NULL },
		{ "tls-alpn", s->alpn.count > 0 },
		{ "tls-ciphers", given(s->ciphers) != NULL },
		{ "tls-suites", given(s->suites) != NULL },
		{ "tls-min-version", s->min_version != VERSION_1_2 },
	};
	size_t i;

	for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		if (s->certificates.count > 0 || !others[i].given)
			continue;
		snprintf(why, whysz, "%s: there is no tls-certificate",
		    others[i].name);
		return -1;
	}
	if (s->certificates.count == 0)
		return 0;
	if (s->keys.count != 0 && s->keys.count != s->certificates.count) {
		snprintf(why, whysz,
		    "tls-key: takes one for each tls-certificate, or none "
		    "where each has its key in its own file");
		return -1;
	}
	if (s->client != CLIENT_NONE && given(s->client_ca) == NULL) {
		snprintf(why, whysz,
		    "tls-client: takes a tls-client-ca to verify them with");
		return -1;
	}
	if (s->client == CLIENT_NONE && given(s->client_ca) != NULL) {
		snprintf(why, whysz,
		    "tls-client-ca: is not used unless tls-client is ask or "
		    "require");
		return -1;
	}
	return 0;
}

/* Returns what conf->certs points to, for free(3), or NULL with errno. */
static struct kquay_cert *
fill(struct kquay_tls_conf *conf, const struct secure_conf *s)
{
	static const unsigned flags[] = {
		[CLIENT_NONE] = 0,
		[CLIENT_ASK] = KQUAY_TLS_ASK,
		[CLIENT_REQUIRE] = KQUAY_TLS_REQUIRE,
	};
	static const int versions[] = {
		[VERSION_1_2] = KQUAY_TLS_1_2,
		[VERSION_1_3] = KQUAY_TLS_1_3,
	};
	struct kquay_cert *certs;
	size_t i;

	certs = calloc(s->certificates.count, sizeof(*certs));
	if (certs == NULL)
		return NULL;
	for (i = 0; i < s->certificates.count; i++) {
		certs[i].chain = s->certificates.word[i];
		if (s->keys.count > 0)
			certs[i].key = s->keys.word[i];
	}
	*conf = (struct kquay_tls_conf){
		.certs = certs,
		.ncerts = (unsigned)s->certificates.count,
		.cafile = given(s->client_ca),
		.alpn = (const char *const *)s->alpn.word,
		.ciphers = given(s->ciphers),
		.suites = given(s->suites),
		.minversion = versions[s->min_version],
		.flags = flags[s->client],
	};
	return certs;
}

static const char *
given(const char *text)
{
	return *text != '\0' ? text : NULL;
}

/* The library's line begins with the file, or with the value, at fault. */
static const char *
to_blame(const struct secure_conf *s, const char *error)
{
	/* A key that is in no file of its own is the certificate's. */
	if (one_begins(error, &s->certificates))
		return "tls-certificate";
	if (one_begins(error, &s->keys))
		return "tls-key";
	if (begins_with(error, s->client_ca))
		return "tls-client-ca";
	if (begins_with(error, s->ciphers))
		return "tls-ciphers";
	if (begins_with(error, s->suites))
		return "tls-suites";
	if (one_begins(error, &s->alpn))
		return "tls-alpn";
	return "tls-certificate";
}

static int
begins_with(const char *line, const char *what)
{
	size_t len = strlen(what);

	return len > 0 && strncmp(line, what, len) == 0 &&
	    strncmp(line + len, ": ", 2) == 0;
}

static int
one_begins(const char *line, const struct words *words)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		if (begins_with(line, words->word[i]))
			return 1;
	return 0;
}

int
secure_listeners(const struct service_conf *conf, struct kquay *q)
{
	kquay_proxy(q, conf->proxy_protocol);
	return kquay_tls(q, conf->tls.loaded);
}

int
secure_reload(const struct service_conf *conf, char *why, size_t whysz)
{
	if (conf->tls.loaded == NULL)
		return 0;
	return kquay_tls_reload(conf->tls.loaded, NULL, why, whysz);
}

void
secure_free(struct secure_conf *s)
{
	kquay_tls_free(s->loaded);
	s->loaded = NULL;
}
