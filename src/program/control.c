/*
 * The control socket: one request, one answer.
 *
 * What the loops of all workers are asked for (gather.h), and what becomes of a
 * reload or an upgrade, is known later.  Until then a struct asked has the
 * client's id, which stays its own if the client has gone in the meantime.
 */
#include <sys/types.h>

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "complain.h"
#include "control.h"
#include "gather.h"
#include "log.h"
#include "request.h"
#include "serve.h"
#include "upgrade.h"

#define MAX_CLIENTS 256
#define MAX_ANSWER (64 << 20)
#define CLIENT_SILENT 5000 /* ms without a request */
#define CLIENT_IDLE 30000  /* ms for its answer, or to read it */
#define WHY_MAX 1024
#define HEAD_MAX 32 /* of an answer */

struct control {
	struct kquay *q;
	uid_t began_as;
	int for_others; /* whom the file's mode lets write may ask */
};

/* A client whose question is with the loops. */
struct asked {
	struct kquay *q;
	uint64_t client;
	int json;
};

/* The answer, while it is written. */
struct answer {
	FILE *out;
	char *text;
	size_t len;
};

static int control_open(struct kquay_conn *);
static void control_line(struct kquay_conn *, char *, size_t);
static int may_ask(const struct control *, uid_t);
static void log_request(struct kquay_conn *, const struct request *);
static void ask_status(struct kquay_conn *, const struct request *);
static void ask_connections(struct kquay_conn *, const struct request *);
static void ask_close(struct kquay_conn *, const struct request *);
static struct asked *asked_new(struct kquay_conn *, const struct request *);
static void asked_failed(struct kquay_conn *, struct asked *, const char *);
static struct kquay_conn *asked_client(struct asked *);
static gather_status_fn on_status;
static gather_connections_fn on_connections;
static gather_closed_fn on_closed;
static void ask_drain(struct kquay_conn *, const struct request *);
static void ask_change(struct kquay_conn *, const struct request *);
static reload_told_fn on_changed;
static int answer_begin(struct kquay_conn *, struct answer *);
static void answer_end(struct kquay_conn *, struct answer *, int);
static void answer_error(struct kquay_conn *, const char *);
static void answer_text(struct kquay_conn *, const char *, const char *);
static void answer(struct kquay_conn *, const char *, const char *, size_t);

static const struct kquay_ops control_ops = {
	.open = control_open,
	.line = control_line,
};

struct control *
control_new(const char *path, mode_t mode, int fd)
{
	struct kquay_conf conf = {
		.maxconn = MAX_CLIENTS,
		.inmax = REQUEST_LINE_MAX,
		.outmax = MAX_ANSWER,
		.handshake = CLIENT_SILENT,
		.idle = CLIENT_IDLE,
		.flags = KQUAY_NOSIGNAL | KQUAY_FULLWAIT,
	};
	struct control *control;

	control = calloc(1, sizeof(*control));
	if (control == NULL)
		goto fail;
	control->began_as = geteuid();
	control->for_others = (mode & 022) != 0;
	conf.arg = control;
	control->q = kquay_new(&control_ops, &conf);
	if (control->q == NULL)
		goto fail;
	if ((fd == -1 ? kquay_listen_unix(control->q, path, mode) :
			kquay_listen_fd(control->q, fd)) == -1) {
		complain("control: %s", kquay_error(control->q));
		control_free(control);
		return NULL;
	}
	return control;

fail:
	complain("control: %s", strerror(errno));
	free(control);
	return NULL;
}

void
control_free(struct control *control)
{
	if (control == NULL)
		return;
	kquay_free(control->q);
	free(control);
}

struct kquay *
control_loop(const struct control *control)
{
	return control->q;
}

static int
control_open(struct kquay_conn *c)
{
	const struct control *control = kquay_arg(kquay_of(c));
	uid_t uid;
	gid_t gid;
	pid_t pid;

	if (kquay_peercred(c, &uid, &gid, &pid) == -1 || !may_ask(control, uid))
		answer_error(c, "permission denied");
	return 0;
}

static int
may_ask(const struct control *control, uid_t uid)
{
	return control->for_others || uid == 0 || uid == control->began_as ||
	    uid == geteuid();
}

/* Nothing more is read from who has asked. */
static void
control_line(struct kquay_conn *c, char *text, size_t len)
{
	struct request request;
	char why[WHY_MAX];

	kquay_pause(c, 1);
	if (strlen(text) != len) {
		answer_error(c, "a NUL byte");
		return;
	}
	if (request_parse(&request, text, why, sizeof(why)) == -1) {
		answer_error(c, why);
		return;
	}
	log_request(c, &request);
	switch (request.verb) {
	case REQUEST_STATUS:
		ask_status(c, &request);
		break;
	case REQUEST_CONNECTIONS:
		ask_connections(c, &request);
		break;
	case REQUEST_CLOSE:
		ask_close(c, &request);
		break;
	case REQUEST_DRAIN:
		ask_drain(c, &request);
		break;
	case REQUEST_RELOAD:
	case REQUEST_UPGRADE:
		ask_change(c, &request);
		break;
	case REQUEST_HELP:
		answer(c, "ok", request_help, strlen(request_help));
		break;
	}
}

/* Who looks on is not told of; who changes something is. */
static void
log_request(struct kquay_conn *c, const struct request *request)
{
	char *text = NULL;
	size_t len;
	FILE *out;

	if (request->verb != REQUEST_CLOSE && request->verb != REQUEST_DRAIN &&
	    request->verb != REQUEST_RELOAD && request->verb != REQUEST_UPGRADE)
		return;
	out = open_memstream(&text, &len);
	if (out == NULL)
		return;
	request_print(request, out);
	if (fclose(out) == 0)
		log_line(LEVEL_NOTICE, "%s asks: %.*s", kquay_peer(c),
		    (int)len - 1, text);
	free(text);
}

static void
ask_status(struct kquay_conn *c, const struct request *request)
{
	struct asked *asked = asked_new(c, request);
	char why[WHY_MAX];

	if (asked != NULL &&
	    gather_status(on_status, asked, why, sizeof(why)) == -1)
		asked_failed(c, asked, why);
}

static void
ask_connections(struct kquay_conn *c, const struct request *request)
{
	struct selection which = { request->id, request->service,
		request->peer };
	struct asked *asked = asked_new(c, request);
	char why[WHY_MAX];

	if (asked != NULL &&
	    gather_connections(&which, request->after, request->limit,
		on_connections, asked, why, sizeof(why)) == -1)
		asked_failed(c, asked, why);
}

static void
ask_close(struct kquay_conn *c, const struct request *request)
{
	struct selection which = { request->id, request->service,
		request->peer };
	struct asked *asked = asked_new(c, request);
	char why[WHY_MAX];

	if (asked != NULL &&
	    gather_close(&which, on_closed, asked, why, sizeof(why)) == -1)
		asked_failed(c, asked, why);
}

/* NULL: the client has been told. */
static struct asked *
asked_new(struct kquay_conn *c, const struct request *request)
{
	struct asked *asked;

	asked = malloc(sizeof(*asked));
	if (asked == NULL) {
		answer_error(c, strerror(errno));
		return NULL;
	}
	asked->q = kquay_of(c);
	asked->client = kquay_id(c);
	asked->json = request->json;
	return asked;
}

/* Nobody was asked after all. */
static void
asked_failed(struct kquay_conn *c, struct asked *asked, const char *why)
{
	answer_error(c, why);
	free(asked);
}

/* Frees it.  NULL if the client has gone in the meantime. */
static struct kquay_conn *
asked_client(struct asked *asked)
{
	struct kquay_conn *c = kquay_find(asked->q, asked->client);

	free(asked);
	return c;
}

static void
on_status(struct status *st, void *arg)
{
	struct asked *asked = arg;
	int json = asked->json, rc = -1;
	struct kquay_conn *c = asked_client(asked);
	struct answer a;

	if (c != NULL && answer_begin(c, &a) == 0) {
		if (!st->failed)
			rc = json ? status_print_json(st, a.out) :
				    status_print_table(st, a.out);
		answer_end(c, &a, rc);
	}
	status_free(st);
}

static void
on_connections(struct connections *list, void *arg)
{
	struct asked *asked = arg;
	int json = asked->json, rc = -1;
	struct kquay_conn *c = asked_client(asked);
	struct answer a;

	if (c != NULL && answer_begin(c, &a) == 0) {
		if (!list->failed)
			rc = json ? connections_print_json(list, a.out) :
				    connections_print_table(list, a.out);
		answer_end(c, &a, rc);
	}
	connections_free(list);
}

static void
on_closed(uint64_t closed, void *arg)
{
	struct kquay_conn *c = asked_client(arg);
	struct answer a;

	if (c == NULL || answer_begin(c, &a) == -1)
		return;
	fprintf(a.out, "closed %" PRIu64 "\n", closed);
	answer_end(c, &a, 0);
}

static void
ask_drain(struct kquay_conn *c, const struct request *request)
{
	char why[WHY_MAX];

	if (serve_drain(request->name) > 0)
		answer(c, "ok", NULL, 0);
	else {
		snprintf(why, sizeof(why), "%s: no such service",
		    request->name);
		answer_error(c, why);
	}
}

/* The answer comes when it is decided. */
static void
ask_change(struct kquay_conn *c, const struct request *request)
{
	struct asked *asked = asked_new(c, request);

	if (asked == NULL)
		return;
	if (request->verb == REQUEST_RELOAD)
		reload(on_changed, asked);
	else
		upgrade(on_changed, asked);
}

static void
on_changed(int ok, const char *text, void *arg)
{
	struct kquay_conn *c = asked_client(arg);

	if (c != NULL)
		answer_text(c, ok ? "ok" : "error", text);
}

/* 0; or -1, and the client has been told. */
static int
answer_begin(struct kquay_conn *c, struct answer *a)
{
	a->text = NULL;
	a->out = open_memstream(&a->text, &a->len);
	if (a->out != NULL)
		return 0;
	answer_error(c, strerror(errno));
	return -1;
}

/* rc is -1 if something is missing in it. */
static void
answer_end(struct kquay_conn *c, struct answer *a, int rc)
{
	if (ferror(a->out))
		rc = -1;
	if (fclose(a->out) == EOF)
		rc = -1;
	if (rc == -1)
		answer_error(c, strerror(ENOMEM));
	else if (a->len > MAX_ANSWER - HEAD_MAX)
		answer_error(c, "the answer is too long: ask for less");
	else
		answer(c, "ok", a->text, a->len);
	free(a->text);
}

static void
answer_error(struct kquay_conn *c, const char *why)
{
	answer_text(c, "error", why);
}

/* Its last line gets its end if it has none. */
static void
answer_text(struct kquay_conn *c, const char *word, const char *text)
{
	size_t len = strlen(text);

	if (len > 0 && text[len - 1] == '\n')
		answer(c, word, text, len);
	else if (kquay_printf(c, "%s %zu\n%s\n", word, len + 1, text) == 0)
		kquay_close(c);
}

static void
answer(struct kquay_conn *c, const char *word, const char *text, size_t len)
{
	if (kquay_printf(c, "%s %zu\n", word, len) == 0 && len > 0)
		kquay_write(c, text, len);
	kquay_close(c);
}
