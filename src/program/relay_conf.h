/*
 * The configuration of a relay.
 */
#ifndef KQUAY_RELAY_CONF_H
#define KQUAY_RELAY_CONF_H

#include <stdint.h>

#include "check.h"
#include "service.h"
#include "target.h"

struct kquay_tls;

struct relay_conf {
	struct service_conf base;
	struct target_list to;
	int balance; /* enum upstream_balance */
	int connect_ms, retry_ms;
	uint32_t retries;
	uint32_t max_per_target;
	uint32_t queue;
	int queue_ms;
	int send_proxy; /* version, 0: none */
	char *source;
	uint32_t fail_limit;
	int fail_ms;
	struct check_conf check;
	int verify;
	char *tls_ca, *tls_servername, *tls_certificate, *tls_key;
};

extern const struct setting relay_settings[];

/* As service_conf_check(). */
int relay_conf_check(struct service_conf *conf, char *why, size_t whysz);

/* As needs of struct service_handler. */
int relay_conf_needs(const struct service_conf *conf, struct sandbox *sandbox);

/*
 * What targets with tls need, NULL if none has.  0, or -1 and why, as
 * service_conf_check().
 */
int relay_tls(const struct relay_conf *conf, struct kquay_tls **tls, char *why,
    size_t whysz);

#endif
