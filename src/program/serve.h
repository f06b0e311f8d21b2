/*
 * Running services: from their configurations to the end of the process.
 */
#ifndef KQUAY_SERVE_H
#define KQUAY_SERVE_H

#include "service.h"

/*
 * Open all services, say where they listen, serve until SIGTERM or SIGINT
 * and drain.  Returns what to exit with: 0, EX_CONFIG if the limit of
 * descriptors is too small, 1 if something failed; the reason is told then,
 * and nothing is left open.
 */
int serve(const struct service_conf_list *list);

#endif
