/*
 * The configuration file: services in libConfuse's syntax, kquay.conf(5).
 */
#ifndef KQUAY_CONFIG_H
#define KQUAY_CONFIG_H

#include <stdio.h>

#include "program.h"

/*
 * Read file into *conf.  Returns 0; or -1 having complained of every error that
 * was found, a line each, as "FILE:LINE: what", and there is nothing in *conf.
 */
int config_read(const char *file, struct program_conf *conf);

/* Write every setting, as a file that reads the same. */
void config_print(const struct program_conf *conf, FILE *out);

/* One service written out, as config_print() does it; NULL with errno. */
char *config_text_of(const struct service_conf *conf);

#endif
