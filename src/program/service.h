/*
 * Services: what a listener leads to.  A service is a handler (chat, echo,
 * ...), its configuration, and once it is open one kquay of its own, so that
 * limits and connections are the service's alone.
 *
 * To add a handler: write service_NAME.c with its struct kquay_ops, the
 * table of its own settings and a struct service_handler, and name that in
 * the list in service.c.
 */
#ifndef KQUAY_SERVICE_H
#define KQUAY_SERVICE_H

#include <sys/types.h>
#include <sys/queue.h>

#include <stddef.h>
#include <stdint.h>

#include "access.h"
#include "address.h"
#include "rate.h"
#include "secure.h"
#include "setting.h"

struct kquay;
struct kquay_conn;
struct kquay_ops;
struct upstream;
struct sandbox;
struct service;

/*
 * The longest line that a service sends by itself.  The refusal goes out in
 * one send(2), which is to take it whole.
 */
#define TEXT_MAX 4096

enum when_full { FULL_REFUSE, FULL_WAIT };

/* The settings that every handler has; a handler's own follow this. */
struct service_conf {
	TAILQ_ENTRY(service_conf) next;
	const struct service_handler *handler;
	char *name;
	struct address_list listen;
	mode_t mode;
	uint32_t max_connections;
	uint32_t max_per_source;
	uint32_t max_line;   /* 0: the library's */
	uint32_t max_output; /* 0: the library's */
	char *nameservers;   /* NULL or "": the library's */
	int when_full;       /* enum when_full */
	int idle_ms, life_ms, linger_ms;
	int keepalive_ms;
	int drain_ms;  /* how long connections may go on at the end */
	int retire_ms; /* and those of an older configuration */
	char *refusal;
	struct access access;
	struct rate_limit rate;
	uint32_t rate_v6_prefix, rate_sources;
	int when_rate; /* enum when_rate */
	int proxy_protocol; /* callers begin with a PROXY header */
	struct secure_conf tls;
};

TAILQ_HEAD(service_conf_list, service_conf);

struct service_handler {
	const char *name;
	const char *help; /* one line, no full stop */
	const struct kquay_ops *ops;
	const struct setting *settings; /* its own, before the common ones */
	const char *operands; /* the setting of the words after the options */
	size_t confsz;        /* of its configuration structure */
	size_t udatasz;       /* of session_data() */
	size_t memory;        /* the most that it allocates for a connection */
	/*
	 * What single settings cannot show, and members that follow from them.
	 * 0, or -1 and why, as service_conf_check().  May be NULL.
	 */
	int (*check)(struct service_conf *conf, char *why, size_t whysz);
	/*
	 * Add what it needs besides its listeners and their certificates, once
	 * the process is confined (sandbox.h).  0, or -1 with errno.  May be
	 * NULL.
	 */
	int (*needs)(const struct service_conf *conf, struct sandbox *sandbox);
	/* Where a caller is relayed to; NULL: nowhere.  May be NULL itself. */
	const char *(*to)(struct kquay_conn *c);
	int single; /* it runs in one worker, whatever their number */
	/* Programs have its sockets: who is to end them stops it twice. */
	int (*lends)(const struct service_conf *conf);
	/* How many connections it dials at once.  NULL: none. */
	uint32_t (*max_dial)(const struct service_conf *conf);
	/* How many descriptors each has besides its own.  NULL: none. */
	uint32_t (*descriptors)(const struct service_conf *conf);
	/*
	 * What its connections share: begins when a service has its loops, and
	 * none of them runs; ends when they have been freed.  s->state is the
	 * handler's own.  start returns 0, or -1 and why.  Both may be NULL.
	 */
	int (*start)(struct service *s, char *why, size_t whysz);
	void (*end)(struct service *s);
	/*
	 * Its connections go on, and others come no more: another service takes
	 * its place.  In the thread of its first loop.  May be NULL.
	 */
	void (*retire)(struct service *s);
	/*
	 * Read its files anew, such as certificates.  0; or -1 and why, and it
	 * goes on with what they held before.  May be NULL.
	 */
	int (*reload)(struct service *s, char *why, size_t whysz);
	/* Its targets, for who looks on.  NULL: it has none. */
	struct upstream *(*upstream)(const struct service *s);
};

/* All handlers, ended by NULL. */
extern const struct service_handler *const service_handlers[];
extern const struct service_handler service_chat;
extern const struct service_handler service_echo;
extern const struct service_handler service_discard;
extern const struct service_handler service_daytime;
extern const struct service_handler service_exec;
extern const struct service_handler service_relay;

/* NULL if there is none of that name. */
const struct service_handler *service_handler_find(const char *name);

/* Fill in buf with all their names, "chat, echo, ...", and return it. */
const char *service_handler_names(char *buf, size_t size);

/*
 * The settings of a handler, counted from 0; NULL is the end.  The common
 * ones come first, a handler's own of the same name in their place.
 */
const struct setting *service_setting(const struct service_handler *handler,
    size_t i);

/* The setting of that name, or NULL. */
const struct setting *service_setting_find(const struct service_handler
					       *handler,
    const char *name);

/* A configuration with every default; NULL with errno set. */
struct service_conf *service_conf_new(const struct service_handler *handler,
    const char *name);
void service_conf_free(struct service_conf *conf);

/* The first setting that must be given and is not; NULL: none. */
const struct setting *service_conf_missing(const struct service_conf *conf);

/*
 * Is it complete, and does it agree with itself?  0, or -1 and why, which
 * begins with the name of the setting to blame: "max-output: must be ...".
 */
int service_conf_check(struct service_conf *conf, char *why, size_t whysz);

/* The service that has this loop, and its configuration. */
struct service *service_of(const struct kquay *q);
const struct service_conf *service_conf_of(const struct kquay *q);

void service_conf_list_free(struct service_conf_list *list);

#endif
