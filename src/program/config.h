/*
 * The configuration file: services in libConfuse's syntax, kquay.conf(5).
 */
#ifndef KQUAY_CONFIG_H
#define KQUAY_CONFIG_H

#include <stdio.h>

#include "service.h"

/*
 * Read file and append its services to list.  Returns 0; or -1 with every
 * error that was found on standard error, a line each, as "FILE:LINE: what",
 * and the list as it was.
 */
int config_read(const char *file, struct service_conf_list *list);

/* Write the services with every setting, as a file that reads the same. */
void config_print(const struct service_conf_list *list, FILE *out);

#endif
