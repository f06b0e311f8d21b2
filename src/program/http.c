/*
 * A request needs an answer of the loops, for which the main thread asks:
 *
 *	HTTP's thread: fetch()  --kquay_post()-->  on_wanted(), gather_status()
 *	               waits    <---- wanted ----  on_status()
 *
 * The one thread waits for at most ANSWER_TIME; once that was not enough it no
 * longer waits until an answer has come.
 *
 * Who sends a byte now and then is never idle.  So the main thread shuts what
 * has had CLIENT_TIME for a request, or for its answer; libmicrohttpd closes
 *it.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <kquay.h>
#include <microhttpd.h>

#include "complain.h"
#include "gather.h"
#include "http.h"
#include "status.h"
#include "www.h"

#define UNIX_MODE 0660
#define MAX_CLIENTS 64
#define MAX_OF_ADDRESS 32
#define CLIENT_MEMORY 16384 /* for the head of a request */
#define CLIENT_IDLE 15      /* s */
#define CLIENT_TIME 10000   /* ms for a request, and as many for its answer */
#define ANSWER_TIME 2000    /* ms */
#define FRESH 200           /* ms for which an answer holds */

/* A connection that libmicrohttpd has. */
struct client {
	LIST_ENTRY(client) next;
	int fd;
	int64_t since; /* the last request, or the beginning */
};

struct http {
	struct kquay *q;
	struct MHD_Daemon *daemon;
	int public;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	/* Under the lock. */
	int asking; /* an answer is on its way */
	int late;   /* and somebody has waited for it in vain */
	int leaving;
	struct status *answer;
	LIST_HEAD(, client) clients;

	/* Of HTTP's thread. */
	struct status *status;
	int64_t status_at;
	/* Of the main thread. */
	int gathering;
	int timing; /* the timer runs */
};

/* What answers a GET of a path, apart from files. */
struct page {
	const char *path;
	const char *type;
	int (*print)(const struct status *st, FILE *out);
};

static int is_loopback(const char *);
static int init_wait(struct http *);
static void destroy(struct http *);
static int http_open(struct kquay_conn *);
static void watch_time(struct http *);
static kquay_watch_fn on_time;
static void on_connection(void *, struct MHD_Connection *, void **,
    enum MHD_ConnectionNotificationCode);
static void begin_anew(struct http *, struct MHD_Connection *);
static enum MHD_Result on_request(void *, struct MHD_Connection *, const char *,
    const char *, const char *, const char *, size_t *, void **);
static int host_is_ours(struct MHD_Connection *);
static enum MHD_Result answer(struct http *, struct MHD_Connection *,
    const char *);
static enum MHD_Result answer_page(struct http *, struct MHD_Connection *,
    const struct page *);
static int print_health(const struct status *, FILE *);
static enum MHD_Result answer_error(struct MHD_Connection *, unsigned);
static enum MHD_Result send_text(struct MHD_Connection *, unsigned,
    const char *, const void *, size_t, enum MHD_ResponseMemoryMode);
static int fetch(struct http *);
static int wait_for_answer(struct http *);
static kquay_post_fn on_wanted;
static gather_status_fn on_status;
static void give_answer(struct http *, struct status *);
static int64_t now(void);

static const struct page pages[] = {
	{ "/metrics", "text/plain; version=0.0.4; charset=utf-8",
	    status_print_metrics },
	{ "/status.json", "application/json", status_print_json },
	{ "/health", "text/plain; charset=utf-8", print_health },
	{ NULL, NULL, NULL },
};

/* Of every answer.  The page needs nothing from elsewhere. */
static const char *const headers[][2] = {
	{ "Content-Security-Policy",
	    "default-src 'none'; script-src 'self'; style-src 'self'; "
	    "img-src 'self'; connect-src 'self'; base-uri 'none'; "
	    "form-action 'none'; frame-ancestors 'none'" },
	{ "X-Content-Type-Options", "nosniff" },
	{ "X-Frame-Options", "DENY" },
	{ "Referrer-Policy", "no-referrer" },
	{ "Cross-Origin-Resource-Policy", "same-origin" },
	{ "Cache-Control", "no-store" },
};

static const struct kquay_ops http_ops = { .open = http_open };

int
http_check(const struct address *a, int public, char *why, size_t whysz)
{
	if (public || a->kind != ADDRESS_TCP ||
	    (a->host != NULL && is_loopback(a->host)))
		return 0;
	snprintf(why, whysz,
	    "status: others than this machine can call %s; if they may, say "
	    "status-public = on",
	    a->text);
	return -1;
}

/* A number of the loopback network, or localhost. */
static int
is_loopback(const char *host)
{
	struct in6_addr v6;
	struct in_addr v4;

	if (inet_pton(AF_INET, host, &v4) == 1)
		return ntohl(v4.s_addr) >> 24 == IN_LOOPBACKNET;
	if (inet_pton(AF_INET6, host, &v6) == 1)
		return IN6_IS_ADDR_LOOPBACK(&v6);
	return strcmp(host, "localhost") == 0;
}

struct http *
http_new(int public)
{
	struct kquay_conf conf = {
		.maxconn = MAX_CLIENTS,
		.flags = KQUAY_NOSIGNAL | KQUAY_FULLWAIT,
	};
	struct http *http;

	http = calloc(1, sizeof(*http));
	if (http == NULL || init_wait(http) == -1) {
		complain("status: %s", strerror(errno));
		free(http);
		return NULL;
	}
	http->public = public;
	conf.arg = http;
	http->q = kquay_new(&http_ops, &conf);
	if (http->q == NULL) {
		complain("status: %s", strerror(errno));
		http_free(http);
		return NULL;
	}
	return http;
}

/* The time to wait until is one of a clock that nobody sets. */
static int
init_wait(struct http *http)
{
	pthread_condattr_t attr;

	errno = pthread_mutex_init(&http->lock, NULL);
	if (errno != 0)
		return -1;
	errno = pthread_condattr_init(&attr);
	if (errno != 0)
		goto fail;
	errno = pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	if (errno == 0)
		errno = pthread_cond_init(&http->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (errno == 0)
		return 0;

fail:
	pthread_mutex_destroy(&http->lock);
	return -1;
}

int
http_listen(struct http *http, const struct address *a)
{
	int n = -1;

	switch (a->kind) {
	case ADDRESS_TCP:
		n = kquay_listen(http->q, a->host, a->port);
		break;
	case ADDRESS_UNIX:
		n = kquay_listen_unix(http->q, a->path, UNIX_MODE);
		break;
	default:
		complain("status: %s: not HOST:PORT or unix:PATH", a->text);
		return -1;
	}
	if (n == -1)
		complain("status: %s", kquay_error(http->q));
	return n == -1 ? -1 : 0;
}

int
http_listen_fd(struct http *http, int fd)
{
	if (kquay_listen_fd(http->q, fd) == -1) {
		complain("status: %s", kquay_error(http->q));
		close(fd);
		return -1;
	}
	return 0;
}

/* Signals are for the main thread. */
int
http_start(struct http *http)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	http->daemon = MHD_start_daemon(MHD_USE_AUTO |
		MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_NO_LISTEN_SOCKET |
		MHD_USE_ITC,
	    0, NULL, NULL, on_request, http, MHD_OPTION_CONNECTION_LIMIT,
	    (unsigned)MAX_CLIENTS, MHD_OPTION_PER_IP_CONNECTION_LIMIT,
	    (unsigned)MAX_OF_ADDRESS, MHD_OPTION_CONNECTION_TIMEOUT,
	    (unsigned)CLIENT_IDLE, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
	    (size_t)CLIENT_MEMORY, MHD_OPTION_STRICT_FOR_CLIENT, 1,
	    MHD_OPTION_NOTIFY_CONNECTION, on_connection, http, MHD_OPTION_END);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (http->daemon != NULL)
		return 0;
	complain("status: its thread cannot be started");
	return -1;
}

/* HTTP's thread must not wait any more for this one, which waits for it. */
void
http_free(struct http *http)
{
	if (http == NULL)
		return;
	pthread_mutex_lock(&http->lock);
	http->leaving = 1;
	pthread_cond_broadcast(&http->changed);
	pthread_mutex_unlock(&http->lock);
	if (http->daemon != NULL)
		MHD_stop_daemon(http->daemon);
	http->daemon = NULL;
	kquay_free(http->q);
	http->q = NULL;
	if (!http->gathering)
		destroy(http);
}

static void
destroy(struct http *http)
{
	status_free(http->answer);
	status_free(http->status);
	pthread_cond_destroy(&http->changed);
	pthread_mutex_destroy(&http->lock);
	free(http);
}

struct kquay *
http_loop(const struct http *http)
{
	return http->q;
}

/* libmicrohttpd owns the descriptor, even where it refuses it. */
static int
http_open(struct kquay_conn *c)
{
	struct http *http = kquay_arg(kquay_of(c));
	struct sockaddr_storage ss;
	const struct sockaddr *sa;
	socklen_t salen;
	int fd;

	sa = kquay_peeraddr(c, &salen);
	memcpy(&ss, sa, salen);
	fd = kquay_detach(c);
	if (fd == -1)
		return -1;
	kquay_close(c);
	MHD_add_connection(http->daemon, fd, (struct sockaddr *)&ss, salen);
	watch_time(http);
	return 0;
}

static void
watch_time(struct http *http)
{
	struct kevent ev;

	if (http->timing)
		return;
	EV_SET(&ev, (uintptr_t)http, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0,
	    CLIENT_TIME / 4, NULL);
	http->timing = kquay_watch(http->q, &ev, on_time, http) == 0;
}

static void
on_time(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct http *http = arg;
	struct client *c;
	int left;

	http->timing = 0;
	pthread_mutex_lock(&http->lock);
	LIST_FOREACH(c, &http->clients, next)
		if (now() - c->since > CLIENT_TIME)
			shutdown(c->fd, SHUT_RDWR);
	left = !LIST_EMPTY(&http->clients);
	pthread_mutex_unlock(&http->lock);
	if (left)
		watch_time(http);
}

/* In HTTP's thread; at the end its descriptor is still open. */
static void
on_connection(void *arg, struct MHD_Connection *c, void **context,
    enum MHD_ConnectionNotificationCode what)
{
	struct http *http = arg;
	struct client *client = *context;

	pthread_mutex_lock(&http->lock);
	if (what == MHD_CONNECTION_NOTIFY_CLOSED) {
		if (client != NULL)
			LIST_REMOVE(client, next);
		free(client);
		*context = NULL;
	} else {
		*context = client = calloc(1, sizeof(*client));
		if (client != NULL) {
			client->fd = MHD_get_connection_info(c,
			    MHD_CONNECTION_INFO_CONNECTION_FD)
					 ->connect_fd;
			client->since = now();
			LIST_INSERT_HEAD(&http->clients, client, next);
		}
	}
	pthread_mutex_unlock(&http->lock);
}

/* A request is here. */
static void
begin_anew(struct http *http, struct MHD_Connection *c)
{
	const union MHD_ConnectionInfo *info =
	    MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
	struct client *client = info->socket_context;

	pthread_mutex_lock(&http->lock);
	if (client != NULL)
		client->since = now();
	pthread_mutex_unlock(&http->lock);
}

/*
 * Called first with the head of a request, then, with *seen as it was left, for
 * its body, and once more at its end.
 */
static enum MHD_Result
on_request(void *arg, struct MHD_Connection *c, const char *path,
    const char *method, const char *version, const char *body, size_t *len,
    void **seen)
{
	struct http *http = arg;

	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
	    strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
		return answer_error(c, MHD_HTTP_METHOD_NOT_ALLOWED);
	if (*len > 0)
		return answer_error(c, MHD_HTTP_CONTENT_TOO_LARGE);
	if (*seen == NULL) {
		*seen = http;
		begin_anew(http, c);
		return MHD_YES;
	}
	if (!http->public && !host_is_ours(c))
		return answer_error(c, MHD_HTTP_MISDIRECTED_REQUEST);
	return answer(http, c, path);
}

/*
 * A page that a browser has from elsewhere may ask us under the name that it
 * came by, which it has made to mean this machine (DNS rebinding).
 */
static int
host_is_ours(struct MHD_Connection *c)
{
	const char *text, *end = ":";
	char host[256];

	text = MHD_lookup_connection_value(c, MHD_HEADER_KIND,
	    MHD_HTTP_HEADER_HOST);
	if (text == NULL)
		return 1;
	if (*text == '[') {
		text++;
		end = "]";
	}
	strlcpy(host, text, sizeof(host));
	host[strcspn(host, end)] = '\0';
	return is_loopback(host);
}

static enum MHD_Result
answer(struct http *http, struct MHD_Connection *c, const char *path)
{
	const struct www_file *file;
	const struct page *page;

	for (page = pages; page->path != NULL; page++)
		if (strcmp(path, page->path) == 0)
			return answer_page(http, c, page);
	for (file = www_files; file->path != NULL; file++)
		if (strcmp(path, file->path) == 0)
			return send_text(c, MHD_HTTP_OK, file->type, file->data,
			    file->len, MHD_RESPMEM_PERSISTENT);
	return answer_error(c, MHD_HTTP_NOT_FOUND);
}

static enum MHD_Result
answer_page(struct http *http, struct MHD_Connection *c,
    const struct page *page)
{
	char *text = NULL;
	size_t len;
	FILE *out;
	int rc;

	if (fetch(http) == -1)
		return answer_error(c, MHD_HTTP_SERVICE_UNAVAILABLE);
	out = open_memstream(&text, &len);
	if (out == NULL)
		return answer_error(c, MHD_HTTP_INTERNAL_SERVER_ERROR);
	rc = page->print(http->status, out);
	if (fclose(out) == EOF || rc == -1) {
		free(text);
		return answer_error(c, MHD_HTTP_INTERNAL_SERVER_ERROR);
	}
	return send_text(c, MHD_HTTP_OK, page->type, text, len,
	    MHD_RESPMEM_MUST_FREE);
}

static int
print_health(const struct status *st, FILE *out)
{
	fputs("ok\n", out);
	return 0;
}

static enum MHD_Result
answer_error(struct MHD_Connection *c, unsigned code)
{
	char *text;
	int len;

	len = asprintf(&text, "%s\n", MHD_get_reason_phrase_for(code));
	if (len == -1)
		return MHD_NO;
	return send_text(c, code, "text/plain; charset=utf-8", text,
	    (size_t)len, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result
send_text(struct MHD_Connection *c, unsigned code, const char *type,
    const void *text, size_t len, enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response;
	enum MHD_Result rc = MHD_YES;
	size_t i;

	/* What is persistent is not written to. */
	response =
	    MHD_create_response_from_buffer(len, (void *)(uintptr_t)text, mode);
	if (response == NULL)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	for (i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
		MHD_add_response_header(response, headers[i][0], headers[i][1]);
	if (code == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW,
		    "GET, HEAD");
	rc = MHD_queue_response(c, code, response);
	MHD_destroy_response(response);
	return rc;
}

/*
 * Make http->status one that is fresh.  0; or -1: the loops do not answer in
 * time.
 */
static int
fetch(struct http *http)
{
	struct status *st = NULL;
	int rc;

	if (http->status != NULL && now() - http->status_at < FRESH)
		return 0;
	pthread_mutex_lock(&http->lock);
	rc = wait_for_answer(http);
	if (rc == 0) {
		st = http->answer;
		http->answer = NULL;
	}
	pthread_mutex_unlock(&http->lock);
	if (rc == -1)
		return -1;
	status_free(http->status);
	http->status = st;
	http->status_at = now();
	return 0;
}

/* With the lock held. */
static int
wait_for_answer(struct http *http)
{
	struct timespec until;

	/* What came too late is too old. */
	status_free(http->answer);
	http->answer = NULL;
	if (!http->asking) {
		if (kquay_post(http->q, on_wanted, http) == -1)
			return -1;
		http->asking = 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += ANSWER_TIME / 1000;
	while (http->answer == NULL && http->asking && !http->leaving &&
	    !http->late)
		if (pthread_cond_timedwait(&http->changed, &http->lock,
			&until) == ETIMEDOUT)
			http->late = 1;
	return http->answer == NULL ? -1 : 0;
}

/* In the main thread. */
static void
on_wanted(struct kquay *q, void *arg)
{
	struct http *http = arg;
	char why[256];

	if (http->daemon == NULL)
		return;
	if (gather_status(on_status, http, why, sizeof(why)) == -1)
		give_answer(http, NULL);
	else
		http->gathering = 1;
}

static void
on_status(struct status *st, void *arg)
{
	struct http *http = arg;

	http->gathering = 0;
	if (http->q == NULL) {
		status_free(st);
		destroy(http);
		return;
	}
	if (st->failed) {
		status_free(st);
		st = NULL;
	}
	give_answer(http, st);
}

/* NULL: there is none. */
static void
give_answer(struct http *http, struct status *st)
{
	pthread_mutex_lock(&http->lock);
	status_free(http->answer);
	http->answer = st;
	http->asking = 0;
	http->late = 0;
	pthread_cond_broadcast(&http->changed);
	pthread_mutex_unlock(&http->lock);
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
