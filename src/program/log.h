/*
 * The log: events, and a line for each connection that has ended.
 *
 * Lines are gathered in a buffer of each thread, and leave in one go when the
 * thread calls log_flush(), which a worker does after each step of its loops.
 * Nothing here waits for who reads the log: what cannot leave stays in the
 * buffer (LOG_BUFFER bytes), what has no room in it is lost and counted, and
 * `N lines lost' takes its place once there is room again.  A write to a
 * file can take as long as the disk does.
 *
 * A line is a line, whatever it quotes: of what is not printable ASCII or
 * UTF-8 nothing gets into one as it is.  What is too long is cut.
 *
 *	text	time=2026-11-22T23:12:03.123Z level=info service=chat peer=...
 *	json	{"time":"2026-11-22T23:12:03.123Z","level":"info",...
 *
 * syslog and journald get time and level in their own form; journald also
 * the members of a connection as fields, KQUAY_SERVICE= and so on.
 *
 * SIGPIPE must be ignored.
 */
#ifndef KQUAY_LOG_H
#define KQUAY_LOG_H

#include <sys/types.h>

#include <stddef.h>
#include <stdint.h>

#define LOG_BUFFER 65536

enum log_level {
	LEVEL_ERROR,   /* something failed that was asked for */
	LEVEL_WARNING, /* something is going to */
	LEVEL_NOTICE,  /* worth knowing: started, reloaded, a target is down */
	LEVEL_INFO,    /* a connection has ended */
	LEVEL_DEBUG
};

enum log_format { LOG_TEXT, LOG_JSON };

/* For rows of type CHOICE, ended by NULL. */
extern const char *const log_level_names[];
extern const char *const log_format_names[];

/* Of the setting log, a row of type TEXT: its valid, and its arg. */
int log_target_valid(const char *target, char *why, size_t whysz);
#define LOG_TARGET_ARG "stderr|syslog|journald|file:PATH|none"

struct log_conf {
	/* One of the above; also syslog:PATH and journald:PATH, the socket. */
	const char *target;
	int format; /* enum log_format */
	int level;  /* enum log_level: the least urgent that is logged */
};

/*
 * Where the log is to go: opened, and not used yet.  A file is opened anew even
 * if it is the one of now, as its name may lead to another one.
 */
struct log_output;

/*
 * Returns 0, and *output is the caller's, who gives it to log_use() or
 * log_drop(); it is NULL for the target none.  -1 with the reason in why.
 */
int log_prepare(const struct log_conf *conf, struct log_output **output,
    char *why, size_t whysz);
void log_drop(struct log_output *output);

/*
 * Log there from now on; what threads have gathered still goes to where it
 * was meant to, or if that does not take it to the new one, if its form is the
 * same.  Before, and after log_close(), nothing is logged.
 */
void log_use(struct log_output *output);

/* If the file was not there before, let it be theirs.  0, or -1 with errno. */
int log_give(uid_t uid, gid_t gid);

/*
 * Flush, and log no more.  Other threads have ended, which flushes as well, or
 * log no more either.
 */
void log_close(void);

/*
 * Let go what this thread has gathered.  Returns in how many milliseconds to
 * call again if the loops have nothing to do until then; -1: not at all.
 */
int log_flush(void);

/* An event, of a service unless it is NULL. */
void log_line(enum log_level level, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));
void log_service(enum log_level level, const char *service, const char *format,
    ...) __attribute__((__format__(__printf__, 3, 4)));

/* A connection has ended. */
struct log_connection {
	enum log_level level;
	const char *service;
	const char *peer;
	const char *to;   /* where it was relayed to; NULL: nowhere */
	const char *tls;  /* version; NULL: none */
	const char *why;  /* kquay_whystr() */
	int error;        /* an errno value that says more; 0: none */
	int64_t ms;       /* how long it was open */
	uint64_t in, out; /* bytes from the peer, and to it */
};

void log_connection(const struct log_connection *c);

/* Would a line of that level be logged? */
int log_wants(enum log_level level);

/* Lines lost since the start of the process, by all threads. */
uint64_t log_lost(void);

#endif
