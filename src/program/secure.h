/*
 * What stands in front of a service's bytes: a PROXY header, and TLS.
 */
#ifndef KQUAY_SECURE_H
#define KQUAY_SECURE_H

#include <stddef.h>

#include "words.h"

struct kquay;
struct kquay_tls;
struct service_conf;

enum secure_client { CLIENT_NONE, CLIENT_ASK, CLIENT_REQUIRE };
enum secure_version { VERSION_1_2, VERSION_1_3 };

/* The section `tls' of a service; without a certificate there is no TLS. */
struct secure_conf {
	struct words certificates, keys; /* the files, in pairs */
	struct words alpn;
	char *client_ca, *ciphers, *suites; /* "": not given */
	int client;                         /* enum secure_client */
	int min_version;                    /* enum secure_version */
	struct kquay_tls *loaded;           /* by secure_check() */
};

/* May a protocol have this name?  As valid of struct setting. */
int secure_protocol(const char *text, char *why, size_t whysz);

/* Read the certificates.  0, or -1 and why, as service_conf_check(). */
int secure_check(struct service_conf *conf, char *why, size_t whysz);

/*
 * The listeners that q gets from here on are secured as conf says.  0, or -1
 * with errno.
 */
int secure_listeners(const struct service_conf *conf, struct kquay *q);

/*
 * Read the certificates anew: handshakes that begin from now on, with any loop
 * that has this configuration, use them.  0; or -1 and why, and those before
 * stay in use.
 */
int secure_reload(const struct service_conf *conf, char *why, size_t whysz);

void secure_free(struct secure_conf *secure);

#endif
