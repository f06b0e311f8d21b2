/*
 * The log: a buffer of records for each thread, and where they go.
 *
 * An output is a sink with the form of its records.  Each buffer holds a
 * reference on the output that it is gathered for, so log_use() can name
 * another one at any time: a thread takes notice at its next record or flush,
 * and sends what it has to the old one first.
 */
#include <sys/types.h>

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "log.h"
#include "record.h"
#include "sink.h"

#define RETRY_MS 100

struct log_output {
	struct sink *sink;
	enum record_form form;
	int level;
	unsigned refs; /* of buffers, and of being the current one */
};

struct gathered {
	struct log_output *output; /* NULL: none */
	int unfinished;            /* something is to be written yet */
	unsigned lost;             /* records since the last one in data */
	size_t len;
	char data[LOG_BUFFER];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of outputs */
static _Atomic(struct log_output *) current;
static atomic_ullong all_lost;

static pthread_key_t at_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static _Thread_local struct gathered *mine;

static enum record_form form_of(enum sink_kind, int);
static void unref(struct log_output *);
static void make_key(void);
static void thread_ends(void *);
static struct gathered *gather(void);
static void lose_all(struct gathered *, enum record_form);
static void change_output(struct gathered *);
static void log_text(enum log_level, const char *, const char *, va_list)
    __attribute__((__format__(__printf__, 3, 0)));
static void log_members(enum log_level, const struct member *, size_t);
static void lose(struct gathered *, unsigned);
static void tell_lost(struct gathered *);
static void flush(struct gathered *);

const char *const log_level_names[] = { [LEVEL_ERROR] = "error",
	[LEVEL_WARNING] = "warning",
	[LEVEL_NOTICE] = "notice",
	[LEVEL_INFO] = "info",
	[LEVEL_DEBUG] = "debug",
	NULL };

const char *const
    log_format_names[] = { [LOG_TEXT] = "text", [LOG_JSON] = "json", NULL };

int
log_target_valid(const char *target, char *why, size_t whysz)
{
	if (strcmp(target, "none") == 0)
		return 0;
	return sink_valid(target, why, whysz);
}

int
log_prepare(const struct log_conf *conf, struct log_output **output, char *why,
    size_t whysz)
{
	struct log_output *new;

	*output = NULL;
	if (strcmp(conf->target, "none") == 0)
		return 0;
	tzset(); /* which reads a file; later there may be none */
	new = calloc(1, sizeof(*new));
	if (new == NULL) {
		snprintf(why, whysz, "%s", strerror(errno));
		return -1;
	}
	new->sink = sink_open(conf->target, why, whysz);
	if (new->sink == NULL) {
		free(new);
		return -1;
	}
	new->form = form_of(sink_kind(new->sink), conf->format);
	new->level = conf->level;
	new->refs = 1;
	*output = new;
	return 0;
}

void
log_drop(struct log_output *output)
{
	unref(output);
}

static enum record_form
form_of(enum sink_kind kind, int format)
{
	switch (kind) {
	case SINK_STREAM:
		return format == LOG_JSON ? RECORD_JSON : RECORD_LOGFMT;
	case SINK_SYSLOG:
		return format == LOG_JSON ? RECORD_JSONLOG : RECORD_SYSLOG;
	case SINK_JOURNAL:
		break;
	}
	return RECORD_JOURNAL;
}

/* The reference becomes that of being the current one. */
void
log_use(struct log_output *output)
{
	struct log_output *before;

	pthread_mutex_lock(&lock);
	before = atomic_exchange(&current, output);
	pthread_mutex_unlock(&lock);
	unref(before);
}

static void
unref(struct log_output *output)
{
	unsigned refs;

	if (output == NULL)
		return;
	pthread_mutex_lock(&lock);
	refs = --output->refs;
	pthread_mutex_unlock(&lock);
	if (refs > 0)
		return;
	sink_free(output->sink);
	free(output);
}

/* Of the main thread, which alone changes the output. */
int
log_give(uid_t uid, gid_t gid)
{
	const struct log_output *output = atomic_load(&current);

	return output == NULL ? 0 : sink_give(output->sink, uid, gid);
}

void
log_close(void)
{
	log_use(NULL);
	if (mine == NULL)
		return;
	pthread_setspecific(at_end, NULL);
	thread_ends(mine);
}

static void
make_key(void)
{
	pthread_key_create(&at_end, thread_ends);
}

static void
thread_ends(void *arg)
{
	struct gathered *g = arg;

	if (g->output != NULL) {
		flush(g);
		lose_all(g, g->output->form);
	}
	unref(g->output);
	free(g);
	mine = NULL;
}

/* What the output did not take is lost. */
static void
lose_all(struct gathered *g, enum record_form form)
{
	char end = record_end(form);
	size_t i;

	for (i = 0; i < g->len; i++)
		if (g->data[i] == end)
			lose(g, 1);
	g->len = 0;
	g->unfinished = 0;
}

/* This thread's buffer, for the current output; NULL: nothing is logged. */
static struct gathered *
gather(void)
{
	struct log_output *output = atomic_load(&current);

	if (mine == NULL) {
		if (output == NULL)
			return NULL;
		pthread_once(&once, make_key);
		mine = calloc(1, sizeof(*mine));
		if (mine == NULL || pthread_setspecific(at_end, mine) != 0) {
			free(mine);
			mine = NULL;
			atomic_fetch_add(&all_lost, 1);
			return NULL;
		}
	}
	if (mine->output != output)
		change_output(mine);
	return mine->output != NULL ? mine : NULL;
}

/* What the one before does not take, as its disk is full, the new one may. */
static void
change_output(struct gathered *g)
{
	struct log_output *before = g->output;

	if (before != NULL)
		flush(g);
	pthread_mutex_lock(&lock);
	g->output = atomic_load(&current);
	if (g->output != NULL)
		g->output->refs++;
	pthread_mutex_unlock(&lock);
	if (before != NULL &&
	    (g->output == NULL || g->output->form != before->form))
		lose_all(g, before->form);
	unref(before);
}

void
log_line(enum log_level level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_text(level, NULL, format, ap);
	va_end(ap);
}

void
log_service(enum log_level level, const char *service, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	log_text(level, service, format, ap);
	va_end(ap);
}

static void
log_text(enum log_level level, const char *service, const char *format,
    va_list ap)
{
	char text[RECORD_TEXT]; /* what is cut here would be cut anyway */
	const struct member members[] = {
		{ .name = "service", .text = service },
		{ .name = "msg", .text = text },
	};

	vsnprintf(text, sizeof(text), format, ap);
	log_members(level, members, 2);
}

void
log_connection(const struct log_connection *c)
{
	const struct member members[] = {
		{ .name = "service", .text = c->service },
		{ .name = "peer", .text = c->peer },
		{ .name = "to", .text = c->to },
		{ .name = "seconds",
		    .kind = MEMBER_SECONDS,
		    .number = c->ms > 0 ? (uint64_t)c->ms : 0 },
		{ .name = "in", .kind = MEMBER_NUMBER, .number = c->in },
		{ .name = "out", .kind = MEMBER_NUMBER, .number = c->out },
		{ .name = "why", .text = c->why },
		{ .name = "error",
		    .text = c->error != 0 ? strerror(c->error) : NULL },
		{ .name = "tls", .text = c->tls },
	};

	log_members(c->level, members, sizeof(members) / sizeof(members[0]));
}

int
log_wants(enum log_level level)
{
	const struct gathered *g = gather();

	return g != NULL && (int)level <= g->output->level;
}

static void
log_members(enum log_level level, const struct member *members, size_t count)
{
	int saved = errno;
	struct gathered *g = gather();

	if (g == NULL || (int)level > g->output->level)
		return;
	if (sizeof(g->data) - g->len < RECORD_MAX)
		flush(g);
	tell_lost(g);
	if (g->lost > 0 || sizeof(g->data) - g->len < RECORD_MAX)
		lose(g, 1);
	else
		g->len += record_write(g->data + g->len, g->output->form,
		    (int)level, members, count);
	errno = saved;
}

static void
lose(struct gathered *g, unsigned n)
{
	g->lost += n;
	atomic_fetch_add(&all_lost, n);
}

/* Once there is room for more than the next few. */
static void
tell_lost(struct gathered *g)
{
	char text[64];
	const struct member msg = { .name = "msg", .text = text };

	if (g->lost == 0 || g->len > sizeof(g->data) / 2)
		return;
	snprintf(text, sizeof(text), "%u line%s lost", g->lost,
	    g->lost == 1 ? "" : "s");
	g->len += record_write(g->data + g->len, g->output->form, LEVEL_WARNING,
	    &msg, 1);
	g->lost = 0;
}

int
log_flush(void)
{
	struct gathered *g;
	int saved = errno;

	if (mine == NULL)
		return -1;
	g = gather();
	if (g == NULL || (g->len == 0 && g->lost == 0 && !g->unfinished))
		return -1;
	flush(g);
	errno = saved;
	return g->unfinished ? RETRY_MS : -1;
}

static void
flush(struct gathered *g)
{
	struct sink *sink = g->output->sink;
	unsigned lost = 0;
	size_t done;

	for (;;) {
		done = sink_write(sink, g->data, g->len, &lost);
		g->len -= done;
		if (done > 0)
			memmove(g->data, g->data + done, g->len);
		lose(g, lost);
		lost = 0;
		if (g->lost == 0 || g->len > 0)
			break;
		tell_lost(g);
	}
	g->unfinished = g->len > 0 || sink_pending(sink);
}

uint64_t
log_lost(void)
{
	return atomic_load(&all_lost);
}
