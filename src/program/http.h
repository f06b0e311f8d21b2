/*
 * The status page: what the program does, over HTTP, for browsers and for
 * Prometheus.
 *
 *	/		a page with live plots
 *	/metrics	Prometheus's text format
 *	/status.json	what `kquay status --json' prints
 *	/health		200 if every loop turns
 *
 * It shows and changes nothing.  libmicrohttpd serves it in a thread of its
 * own; the listeners are those of a loop of the main thread, which hands each
 * caller over.
 */
#ifndef KQUAY_HTTP_H
#define KQUAY_HTTP_H

#include <stddef.h>

#include "address.h"

struct kquay;
struct http;

/*
 * May it listen there?  Only this machine can call an address that is
 * loopback or a UNIX socket's; others are for what is public.  0, or -1 and
 * why.
 */
int http_check(const struct address *a, int public, char *why, size_t whysz);

/* One that does not listen yet.  NULL, having complained. */
struct http *http_new(int public);

/*
 * Listen there, or go on with a socket that does.  0, or -1 having complained.
 */
int http_listen(struct http *http, const struct address *a);
int http_listen_fd(struct http *http, int fd);

/*
 * Begin to serve, before the loop is stepped.  0, or -1 having complained.  The
 * thread is as confined as the one that calls.
 */
int http_start(struct http *http);

/* From the main thread.  It may be NULL. */
void http_free(struct http *http);

/* The loop that listens, to be stepped by the main thread. */
struct kquay *http_loop(const struct http *http);

#endif
