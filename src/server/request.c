/*
 * What the service asks name servers: the addresses of a name, or its SRV
 * records.  It is called back in a later step, once; also when the loop is
 * freed before an answer came.
 */
#include "dial.h"

#include <sys/types.h>

#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

/* A kquay_resolve(). */
struct request {
	struct errand errand;
	struct query query;
	struct kquay *q;
	struct answer answer[FAMILIES];
	in_port_t port; /* in network order */
	kquay_resolve_fn *fn;
	void *arg;
};

/* A kquay_resolve_srv(). */
struct srv_request {
	struct errand errand;
	struct records records;
	int err;
	struct kquay_srv *list; /* with names of malloc(3) */
	size_t n;
	uint32_t ttl;
	kquay_srv_fn *fn;
	void *arg;
};

/* A message of the DNS (RFC 1035), and where we are in it. */
struct reader {
	const unsigned char *message, *at, *end;
};

enum {
	DNS_HEADER = 12,
	DNS_COUNTS = 4, /* where in it */
	DNS_NAME = 256, /* as text, with its NUL */
	DNS_LABEL = 63,
	DNS_POINTER = 0xc0,
	DNS_CNAME = 5,
	DNS_SRV = 33,
	DNS_IN = 1
};

static void request_answered(struct query *query, enum family family,
    const struct answer *answer);
static void deliver(struct kquay *q, struct errand *e, int err);
static struct addrinfo *chain(const struct request *request);
static void request_free(struct request *request);
static void srv_answered(struct records *records, int err,
    const unsigned char *message, size_t len);
static void srv_deliver(struct kquay *q, struct errand *e, int err);
static void srv_free(struct srv_request *s);
static int read_message(struct reader *r, struct srv_request *s);
static int read_record(struct reader *r, struct srv_request *s);
static int read_srv(struct reader *r, const unsigned char *end,
    struct srv_request *s);
static int read_name(struct reader *r, char *name);
static int is_host(const char *name);
static int insert(struct srv_request *s, const struct kquay_srv *srv);
static int read16(struct reader *r, uint16_t *n);

/* -- addresses ------------------------------------------------------------- */

int
kquay_resolve(struct kquay *q, const char *host, const char *port,
    kquay_resolve_fn *fn, void *arg)
{
	struct request *request;
	in_port_t number;
	int saved;

	if (kquay_resolve_port(port, &number) == -1)
		return -1;
	request = calloc(1, sizeof(*request));
	if (request == NULL)
		return -1;
	request->errand.deliver = deliver;
	request->q = q;
	request->port = number;
	request->fn = fn;
	request->arg = arg;
	request->query.fn = request_answered;
	if (kquay_errand_begin(q, &request->errand) == 0) {
		if (kquay_resolve_ask(q, host, &request->query) == 0)
			return 0;
		kquay_errand_undo(&request->errand);
	}
	saved = errno;
	request_free(request);
	errno = saved;
	return -1;
}

static struct request *
request_of(struct query *query)
{
	return (struct request *)(void *)((char *)query -
	    offsetof(struct request, query));
}

/* One half of a request's answer; with the second it waits for the loop. */
static void
request_answered(struct query *query, enum family family,
    const struct answer *answer)
{
	struct request *request = request_of(query);
	struct answer *mine = &request->answer[family];
	uint32_t i;

	for (i = 0; i < answer->n; i++)
		if (kquay_answer_add(mine, &answer->addrs[i].sa) == -1)
			break;
	mine->known = 1;
	mine->err = answer->err;
	mine->ttl = answer->ttl;
	if (i < answer->n)
		mine->err = ENOMEM;
	if (request->answer[FAMILY_6].known && request->answer[FAMILY_4].known)
		kquay_errand_done(request->q, &request->errand);
}

/* Call back, and be done with it. */
static void
deliver(struct kquay *q, struct errand *e, int err)
{
	struct request *request = (void *)e;
	const struct answer *six = &request->answer[FAMILY_6];
	const struct answer *four = &request->answer[FAMILY_4];
	struct addrinfo *list = NULL;
	uint32_t ttl = 0;

	if (err == 0 && six->n + four->n == 0)
		err =
		    six->err == ENOENT || six->err == 0 ? four->err : six->err;
	if (err == 0) {
		list = chain(request);
		err = list == NULL ? ENOMEM : 0;
		ttl = six->n == 0 || (four->n != 0 && four->ttl < six->ttl) ?
		    four->ttl :
		    six->ttl;
	}
	request->fn(q, err, list, ttl, request->arg);
	free(list);
	request_free(request);
}

/*
 * All addresses, by turns from each family as they would be tried; in one
 * piece of memory.  NULL if there is none.
 */
static struct addrinfo *
chain(const struct request *request)
{
	const struct answer *of = request->answer;
	uint32_t n = of[FAMILY_6].n + of[FAMILY_4].n, i = 0, turn;
	union peer_addr *addr;
	struct addrinfo *list;
	int family;

	list = calloc(n, sizeof(*list) + sizeof(*addr));
	if (list == NULL)
		return NULL;
	addr = (void *)(list + n);
	for (turn = 0; i < n; turn++)
		for (family = 0; family < FAMILIES; family++) {
			if (turn >= of[family].n)
				continue;
			addr[i] = of[family].addrs[turn];
			addr_set_port(&addr[i], request->port);
			list[i].ai_family = addr[i].sa.sa_family;
			list[i].ai_socktype = SOCK_STREAM;
			list[i].ai_addr = &addr[i].sa;
			list[i].ai_addrlen = addr_len(&addr[i]);
			if (i > 0)
				list[i - 1].ai_next = &list[i];
			i++;
		}
	return list;
}

static void
request_free(struct request *request)
{
	kquay_resolve_cancel(&request->query);
	free(request->answer[FAMILY_6].addrs);
	free(request->answer[FAMILY_4].addrs);
	free(request);
}

/* -- SRV records (RFC 2782) ------------------------------------------------ */

int
kquay_resolve_srv(struct kquay *q, const char *name, kquay_srv_fn *fn,
    void *arg)
{
	struct srv_request *s;
	int saved;

	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return -1;
	s->errand.deliver = srv_deliver;
	s->records.fn = srv_answered;
	s->fn = fn;
	s->arg = arg;
	if (kquay_errand_begin(q, &s->errand) == 0) {
		if (kquay_resolve_records(q, name, DNS_SRV, &s->records) == 0)
			return 0;
		kquay_errand_undo(&s->errand);
	}
	saved = errno;
	free(s);
	errno = saved;
	return -1;
}

static void
srv_answered(struct records *records, int err, const unsigned char *message,
    size_t len)
{
	struct srv_request *s =
	    (void *)((char *)records - offsetof(struct srv_request, records));
	struct reader r = { .message = message,
		.at = message,
		.end = message + len };

	s->ttl = INT32_MAX;
	s->err = err != 0 ? err : read_message(&r, s);
	if (s->err == 0 && s->n == 0)
		s->err = ENOENT;
	kquay_errand_done(records->q, &s->errand);
}

static void
srv_deliver(struct kquay *q, struct errand *e, int err)
{
	struct srv_request *s = (void *)e;

	if (err == 0)
		err = s->err;
	if (err == 0)
		s->fn(q, 0, s->list, s->n, s->ttl, s->arg);
	else
		s->fn(q, err, NULL, 0, 0, s->arg);
	srv_free(s);
}

static void
srv_free(struct srv_request *s)
{
	size_t i;

	for (i = 0; i < s->n; i++)
		free((void *)(uintptr_t)s->list[i].name);
	free(s->list);
	free(s);
}

/* 0, or an errno: EAGAIN if it makes no sense. */
static int
read_message(struct reader *r, struct srv_request *s)
{
	uint16_t questions, answers, skip;
	char name[DNS_NAME];
	int err;

	if (r->end - r->at < DNS_HEADER)
		return EAGAIN;
	/* c-ares has looked at id and flags; who else is told of we ignore. */
	r->at += DNS_COUNTS;
	if (read16(r, &questions) == -1 || read16(r, &answers) == -1)
		return EAGAIN;
	r->at = r->message + DNS_HEADER;
	for (; questions > 0; questions--)
		if (read_name(r, name) == -1 || read16(r, &skip) == -1 ||
		    read16(r, &skip) == -1)
			return EAGAIN;
	for (err = 0; answers > 0 && err == 0; answers--)
		err = read_record(r, s);
	return err;
}

/* As read_message().  A CNAME on the way holds no longer than it says. */
static int
read_record(struct reader *r, struct srv_request *s)
{
	uint16_t type, class, high, low, len;
	const unsigned char *end;
	char name[DNS_NAME];
	uint32_t ttl;
	int err = 0;

	if (read_name(r, name) == -1 || read16(r, &type) == -1 ||
	    read16(r, &class) == -1 || read16(r, &high) == -1 ||
	    read16(r, &low) == -1 || read16(r, &len) == -1 ||
	    r->end - r->at < len)
		return EAGAIN;
	end = r->at + len;
	ttl = (uint32_t)high << 16 | low;
	if (class == DNS_IN && (type == DNS_SRV || type == DNS_CNAME) &&
	    ttl < s->ttl)
		s->ttl = ttl;
	if (class == DNS_IN && type == DNS_SRV)
		err = read_srv(r, end, s);
	r->at = end;
	return err;
}

/* Which ends there. */
static int
read_srv(struct reader *r, const unsigned char *end, struct srv_request *s)
{
	struct kquay_srv srv;
	char name[DNS_NAME];

	if (read16(r, &srv.priority) == -1 || read16(r, &srv.weight) == -1 ||
	    read16(r, &srv.port) == -1 || read_name(r, name) == -1 ||
	    r->at != end || !is_host(name))
		return EAGAIN;
	/* That says that there is no such service. */
	if (*name == '\0')
		return 0;
	srv.name = strdup(name);
	if (srv.name != NULL && insert(s, &srv) == 0)
		return 0;
	free((void *)(uintptr_t)srv.name);
	return ENOMEM;
}

/* Behind those of the same priority.  0, or -1 without memory. */
static int
insert(struct srv_request *s, const struct kquay_srv *srv)
{
	struct kquay_srv *list;
	size_t i;

	list = reallocarray(s->list, s->n + 1, sizeof(*list));
	if (list == NULL)
		return -1;
	s->list = list;
	for (i = s->n++; i > 0 && list[i - 1].priority > srv->priority; i--)
		list[i] = list[i - 1];
	list[i] = *srv;
	return 0;
}

/*
 * A name, without its last dot.  It may end in a pointer to the rest, before
 * it in the message; to go back only is to come to an end.  0 or -1.
 */
static int
read_name(struct reader *r, char *name)
{
	const unsigned char *p = r->at, *begin = p, *behind = NULL;
	size_t n = 0;

	for (;;) {
		if (p >= r->end)
			return -1;
		if (*p >= DNS_POINTER && r->end - p >= 2) {
			if (behind == NULL)
				behind = p + 2;
			p = r->message + ((p[0] & ~DNS_POINTER) << 8 | p[1]);
			if (p >= begin)
				return -1;
			begin = p;
			continue;
		}
		if (*p == 0)
			break;
		if (*p > DNS_LABEL || r->end - p <= *p || n + *p + 2 > DNS_NAME)
			return -1;
		if (n > 0)
			name[n++] = '.';
		memcpy(name + n, p + 1, *p);
		n += *p;
		p += *p + 1;
	}
	name[n] = '\0';
	r->at = behind != NULL ? behind : p + 1;
	return strlen(name) == n ? 0 : -1;
}

/* Whether name may be that of a host, or is that of the root. */
static int
is_host(const char *name)
{
	for (; *name != '\0'; name++)
		if (!isalnum((unsigned char)*name) &&
		    strchr("-_.", *name) == NULL)
			return 0;
	return 1;
}

static int
read16(struct reader *r, uint16_t *n)
{
	if (r->end - r->at < 2)
		return -1;
	*n = (uint16_t)(r->at[0] << 8 | r->at[1]);
	r->at += 2;
	return 0;
}
