/*
 * The configuration of the whole program: the settings that stand outside of
 * all services, and the services.
 */
#ifndef KQUAY_PROGRAM_H
#define KQUAY_PROGRAM_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#include "service.h"

struct program_conf {
	uint32_t workers;
	char *control; /* path of the control socket; "": none */
	mode_t control_mode;
	char *status; /* HOST:PORT of the status page; "": none */
	int status_public;
	char *log;
	int log_format, log_level;
	char *user, *group; /* "": who we are */
	int sandbox;        /* enum sandbox_mode */
	int watch;   /* reload when the file changes */
	int upgrade_ms; /* a new program is ready by then, or ended; -1: never */
	int idle_ms; /* end after so long without a connection */
	const char *file; /* NULL: there is none; not a copy */
	struct service_conf_list services;
};

/* Every default and no service.  0, or -1 with errno. */
int program_conf_init(struct program_conf *conf);
void program_conf_free(struct program_conf *conf);

/*
 * Do the settings agree with each other, and with the services?  0; or -1 and
 * why, which begins with the name of the setting to blame.
 */
int program_conf_check(const struct program_conf *conf, char *why,
    size_t whysz);

/* The settings, counted from 0; NULL is the end. */
const struct setting *program_setting(size_t i);

/* The setting of that name, or NULL. */
const struct setting *program_setting_find(const char *name);

#endif
