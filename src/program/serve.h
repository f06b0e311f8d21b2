/*
 * The process: from a configuration to the end.  All of this is the main
 * thread's.
 */
#ifndef KQUAY_SERVE_H
#define KQUAY_SERVE_H

#include "log.h"
#include "program.h"
#include "running.h"

/*
 * Open all services, say where they listen, serve until SIGTERM or SIGINT
 * and drain.  Returns what to exit with: 0, EX_CONFIG if the limit of
 * descriptors is too small, 1 if something failed; the reason is told then,
 * and nothing is left open.  What *conf holds belongs to it.
 */
int serve(struct program_conf *conf);

/* The configuration as it is now. */
struct program_conf *serve_conf(void);

/* It is *new from now on, which is taken over, and log where the log goes. */
void serve_adopt(struct program_conf *new, struct log_output *log);

/* Open the log of conf, for serve_adopt().  0, or -1 having said why. */
int serve_log(const struct program_conf *conf, struct log_output **log);

/*
 * Let connections go on for as long as they may, then close them; called
 * again, abort what is left.  The process ends with the last one.
 */
void serve_stop(void);

/* After serve_stop() the lists of services have changed: those come along. */
void serve_follow(void);

/* A reload is over: if nothing else was left to wait for, the process ends. */
void serve_leave(void);

/* Another process has taken our place: end with the last connection. */
void serve_bequeath(void);

/* Is it to end?  How often that was said. */
int serve_stopping(void);

/*
 * No callers any more for the service of that name; its connections go on as
 * after a reload.  "all" is as serve_stop(), once.  Returns how many services
 * that are.
 */
unsigned serve_drain(const char *name);

/*
 * Call fn for every loop of every service, in the loop's own thread, and then
 * done in the main thread.  What fn is given may be gone when done is called.
 * From any thread.  0, or -1 with errno and nothing is called.
 */
int serve_each_loop(void (*fn)(struct branch *, void *arg),
    void (*done)(void *arg), void *arg);

/* s gets no more callers, and its connections ms to end in; -1: for ever. */
void serve_retire(struct service *s, int ms);

#endif
