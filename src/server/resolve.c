/*
 * Names to addresses, without waiting.
 *
 * A number is an answer, "localhost" is both loopbacks, and /etc/hosts has
 * the first word.  Then the name servers are asked, by c-ares, for IPv6 and
 * IPv4 at the same time, and each answer is passed on when it comes.  Who
 * asks for a name that is being asked for gets the same answers.  Nothing is
 * kept: that is a name server's task, or that of who knows the TTL.
 *
 * The sockets of c-ares are watched by the loop's own queue (TAG_RESOLVE) and
 * its time limits are the loop's.  c-ares cannot forget a single question:
 * who does not want the answer any more leaves (kquay_resolve_cancel), and
 * the question stays until it is answered.
 *
 * The name servers are read from resolv.conf(5) again if that has changed and
 * nothing is being asked for.
 */
#include "dial.h"
#include "os.h"

#include <sys/stat.h>
#include <sys/time.h>

#include <arpa/inet.h>

#include <ares.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum {
	ASK_MS = 2000, /* for the first answer of a name server; then longer */
	ASK_TRIES = 3  /* of each */
};

#define RESOLV_CONF "/etc/resolv.conf"

/* A name that is being asked for. */
struct lookup {
	LIST_ENTRY(lookup) link;
	struct kquay *q;
	struct half {
		struct lookup *lookup;
		enum family family;
		struct answer answer;
	} half[FAMILIES];
	uint8_t starting; /* the questions are being put */
	LIST_HEAD(, query) queries;
	char name[];
};

struct resolver {
	ares_channel channel; /* NULL: none yet */
	unsigned asking;      /* questions to c-ares */
	struct stat conf;     /* resolv.conf as it was */
	int ms, tries;
	LIST_HEAD(, lookup) lookups;
	LIST_HEAD(, errand) errands;
	STAILQ_HEAD(, errand) done; /* those of them with an answer */
};

static struct resolver *resolver_of(struct kquay *q);
static int open_channel(struct kquay *q);
static void close_channel(struct resolver *r);
static void watch(void *arg, ares_socket_t fd, int readable, int writable);
static int local(struct kquay *q, const char *host, struct query *query);
static int loopback(const char *host);
static int from_hosts(struct kquay *q, const char *host, struct query *query);
static struct lookup *find(const struct resolver *r, const char *host);
static struct lookup *ask(struct kquay *q, const char *host);
static void ask_half(struct half *half);
static void finish(struct lookup *lookup);
static void recorded(void *arg, int status, int timeouts,
    unsigned char *message, int len);
static void answered(void *arg, int status, int timeouts,
    struct ares_addrinfo *info);
static int collect(struct answer *answer, const struct ares_addrinfo *info);
static int error_of(int status);

/* -- what the loop calls --------------------------------------------------- */

/* Whether conf's name servers are some.  0, or -1 with errno. */
int
kquay_resolve_check(struct kquay *q)
{
	return resolver_of(q) == NULL ? -1 : open_channel(q);
}

/* An event of one of c-ares' sockets. */
void
kquay_resolve_event(struct kquay *q, const struct kevent *ev)
{
	ares_socket_t fd = (ares_socket_t)ev->ident;

	if (q->resolver == NULL || q->resolver->channel == NULL)
		return;
	ares_process_fd(q->resolver->channel,
	    ev->filter == EVFILT_READ ? fd : ARES_SOCKET_BAD,
	    ev->filter == EVFILT_WRITE ? fd : ARES_SOCKET_BAD);
}

/* The end of a batch: what took too long, and what is to be called back. */
void
kquay_resolve_turn(struct kquay *q)
{
	struct resolver *r = q->resolver;
	struct errand *e, *last;

	if (r->asking != 0)
		ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	last = STAILQ_LAST(&r->done, errand, next);
	if (last == NULL)
		return;
	do {
		e = STAILQ_FIRST(&r->done);
		STAILQ_REMOVE_HEAD(&r->done, next);
		LIST_REMOVE(e, link);
		e->deliver(q, e, 0);
	} while (e != last);
}

/* As kquay_due(). */
int
kquay_resolve_due(const struct kquay *q)
{
	const struct resolver *r = q->resolver;
	struct timeval tv;

	if (!STAILQ_EMPTY(&r->done))
		return 0;
	if (r->asking == 0 || ares_timeout(r->channel, NULL, &tv) == NULL)
		return -1;
	return (int)(tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000);
}

/* Call back all who wait, ECANCELED, and free everything. */
void
kquay_resolve_fini(struct kquay *q)
{
	struct resolver *r = q->resolver;
	struct errand *e;

	if (r == NULL)
		return;
	/* c-ares answers what it was asked. */
	close_channel(r);
	while ((e = LIST_FIRST(&r->errands)) != NULL) {
		LIST_REMOVE(e, link);
		e->deliver(q, e, ECANCELED);
	}
	free(r);
	q->resolver = NULL;
}

/* -- errands --------------------------------------------------------------- */

/* e is the loop's from now on.  0, or -1 with errno. */
int
kquay_errand_begin(struct kquay *q, struct errand *e)
{
	struct resolver *r = resolver_of(q);

	if (q->stopping) {
		errno = ESHUTDOWN;
		return -1;
	}
	if (r == NULL)
		return -1;
	LIST_INSERT_HEAD(&r->errands, e, link);
	return 0;
}

/* It could not begin. */
void
kquay_errand_undo(struct errand *e)
{
	LIST_REMOVE(e, link);
}

/* It has its answer, to be delivered at the end of a batch. */
void
kquay_errand_done(struct kquay *q, struct errand *e)
{
	STAILQ_INSERT_TAIL(&q->resolver->done, e, next);
}

/* -- asking ---------------------------------------------------------------- */

/*
 * A port number, or the name of a TCP service, in network order.  0, or -1
 * with errno ENOENT.
 */
int
kquay_resolve_port(const char *port, in_port_t *number)
{
	struct addrinfo hints = { .ai_family = AF_INET,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *list;
	char *end;
	long n;

	n = strtol(port, &end, 10);
	if (*port >= '0' && *port <= '9' && *end == '\0' && n >= 0 &&
	    n <= UINT16_MAX) {
		*number = htons((in_port_t)n);
		return 0;
	}
	if (*end == '\0' || getaddrinfo(NULL, port, &hints, &list) != 0) {
		errno = ENOENT;
		return -1;
	}
	*number = ((struct sockaddr_in *)(void *)list->ai_addr)->sin_port;
	freeaddrinfo(list);
	return 0;
}

/* 1 if host is the number of an address, which *addr is then; else 0. */
int
kquay_resolve_numeric(const char *host, union peer_addr *addr)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICHOST };
	struct addrinfo *list;

	memset(addr, 0, sizeof(*addr));
	/* The usual cases, for which getaddrinfo(3) is long. */
	if (inet_pton(AF_INET, host, &addr->in4.sin_addr) == 1) {
		addr->sa.sa_family = AF_INET;
		return 1;
	}
	if (inet_pton(AF_INET6, host, &addr->in6.sin6_addr) == 1) {
		addr->sa.sa_family = AF_INET6;
		return 1;
	}
	if (getaddrinfo(host, NULL, &hints, &list) != 0)
		return 0;
	memcpy(addr, list->ai_addr, list->ai_addrlen);
	freeaddrinfo(list);
	return 1;
}

/*
 * Ask for the addresses of host.  What is known already is told before this
 * returns.  0, or -1 with errno and nobody was told anything.
 */
int
kquay_resolve_ask(struct kquay *q, const char *host, struct query *query)
{
	struct lookup *lookup;
	struct resolver *r;
	enum family family;

	query->lookup = NULL;
	if (local(q, host, query))
		return 0;
	r = resolver_of(q);
	if (r == NULL)
		return -1;
	lookup = find(r, host);
	if (lookup == NULL) {
		if (open_channel(q) == -1)
			return -1;
		if (from_hosts(q, host, query))
			return 0;
		lookup = ask(q, host);
		if (lookup == NULL)
			return -1;
	}
	query->lookup = lookup;
	LIST_INSERT_HEAD(&lookup->queries, query, link);
	for (family = FAMILY_6; family < FAMILIES; family++)
		if (query->lookup != NULL && lookup->half[family].answer.known)
			query->fn(query, family, &lookup->half[family].answer);
	lookup->starting = 0;
	finish(lookup);
	return 0;
}

/* The query's owner does not want to know any more. */
void
kquay_resolve_cancel(struct query *query)
{
	if (query->lookup != NULL)
		LIST_REMOVE(query, link);
	query->lookup = NULL;
}

/* -- without a name server ------------------------------------------------- */

/* Whether the answer is known by the name alone; then it has been told. */
static int
local(struct kquay *q, const char *host, struct query *query)
{
	struct answer answer[FAMILIES] = { { .known = 1, .err = ENOENT },
		{ .known = 1, .err = ENOENT } };
	union peer_addr addr[FAMILIES];
	enum family family;

	memset(addr, 0, sizeof(addr));
	if (loopback(host)) {
		addr[FAMILY_6].in6.sin6_family = AF_INET6;
		addr[FAMILY_6].in6.sin6_addr = in6addr_loopback;
		addr[FAMILY_4].in4.sin_family = AF_INET;
		addr[FAMILY_4].in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		answer[FAMILY_6].n = answer[FAMILY_4].n = 1;
	} else if (kquay_resolve_numeric(host, &addr[0])) {
		family = family_of(&addr[0]);
		addr[FAMILY_4] = addr[0];
		answer[family].n = 1;
	} else if (*host != '\0')
		return 0;
	for (family = FAMILY_6; family < FAMILIES; family++) {
		answer[family].ttl = UINT32_MAX;
		answer[family].addrs = &addr[family];
		query->fn(query, family, &answer[family]);
	}
	return 1;
}

/* "localhost", and all names in it (RFC 6761). */
static int
loopback(const char *host)
{
	static const char name[] = "localhost";
	size_t len = strlen(host), n = sizeof(name) - 1;

	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len < n || strncasecmp(host + len - n, name, n) != 0)
		return 0;
	return len == n || host[len - n - 1] == '.';
}

/*
 * Whether /etc/hosts knows the name; then it has been told.  A name that is
 * there in one family only has no addresses in the other.
 */
static int
from_hosts(struct kquay *q, const char *host, struct query *query)
{
	static const int af[FAMILIES] = { AF_INET6, AF_INET };
	struct answer answer[FAMILIES];
	union peer_addr addr;
	enum family family;
	struct hostent *he;
	uint32_t found = 0;
	void *to;
	char **p;

	memset(answer, 0, sizeof(answer));
	for (family = FAMILY_6; family < FAMILIES; family++) {
		if (ares_gethostbyname_file(q->resolver->channel, host,
			af[family], &he) != ARES_SUCCESS)
			continue;
		memset(&addr, 0, sizeof(addr));
		addr.sa.sa_family = (sa_family_t)af[family];
		to = family == FAMILY_6 ? (void *)&addr.in6.sin6_addr :
					  (void *)&addr.in4.sin_addr;
		for (p = he->h_addr_list; *p != NULL; p++) {
			memcpy(to, *p, (size_t)he->h_length);
			(void)kquay_answer_add(&answer[family], &addr.sa);
		}
		found += answer[family].n;
		ares_free_hostent(he);
	}
	for (family = FAMILY_6; family < FAMILIES; family++) {
		answer[family].known = 1;
		answer[family].err = ENOENT;
		if (found != 0)
			query->fn(query, family, &answer[family]);
		free(answer[family].addrs);
	}
	return found != 0;
}

/* One more address, unless it is there already.  0, or -1 without memory. */
int
kquay_answer_add(struct answer *answer, const struct sockaddr *sa)
{
	union peer_addr addr, *addrs;
	uint32_t i;

	memset(&addr, 0, sizeof(addr));
	addr.sa.sa_family = sa->sa_family;
	memcpy(&addr, sa, addr_len(&addr));
	for (i = 0; i < answer->n; i++)
		if (memcmp(&answer->addrs[i], &addr, sizeof(addr)) == 0)
			return 0;
	addrs = reallocarray(answer->addrs, answer->n + 1, sizeof(addr));
	if (addrs == NULL)
		return -1;
	answer->addrs = addrs;
	answer->addrs[answer->n++] = addr;
	return 0;
}

/* -- with a name server ---------------------------------------------------- */

static struct resolver *
resolver_of(struct kquay *q)
{
	struct resolver *r = q->resolver;

	if (r != NULL)
		return r;
	r = calloc(1, sizeof(*r));
	if (r == NULL)
		return NULL;
	r->ms = ASK_MS;
	r->tries = ASK_TRIES;
	LIST_INIT(&r->lookups);
	LIST_INIT(&r->errands);
	STAILQ_INIT(&r->done);
	q->resolver = r;
	return r;
}

/*
 * How long to wait for a name server, and how often to ask each, from the next
 * question on; nobody is waiting for an answer now.
 */
int
kquay_resolve_patience(struct kquay *q, int ms, int tries)
{
	struct resolver *r = resolver_of(q);

	if (r == NULL)
		return -1;
	close_channel(r);
	r->ms = ms;
	r->tries = tries;
	return 0;
}

/* Whether resolv.conf is another one than *st was. */
static int
changed(struct stat *st)
{
	struct stat now;

	memset(&now, 0, sizeof(now));
	(void)stat(RESOLV_CONF, &now);
	if (now.st_dev == st->st_dev && now.st_ino == st->st_ino &&
	    now.st_size == st->st_size &&
	    now.st_mtim.tv_sec == st->st_mtim.tv_sec &&
	    now.st_mtim.tv_nsec == st->st_mtim.tv_nsec)
		return 0;
	*st = now;
	return 1;
}

static void
library(void)
{
	(void)ares_library_init(ARES_LIB_INIT_ALL);
}

/* There must be a channel, with the name servers of now.  0 or -1. */
static int
open_channel(struct kquay *q)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	static char dns_only[] = "b";
	struct resolver *r = q->resolver;
	struct ares_options options = { .timeout = r->ms,
		.tries = r->tries,
		.lookups = dns_only,
		.sock_state_cb = watch,
		.sock_state_cb_data = q };
	int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS |
	    ARES_OPT_SOCK_STATE_CB;
	int status = ARES_SUCCESS;

	if (r->channel != NULL &&
	    (r->asking != 0 || q->conf.nameservers != NULL ||
		!changed(&r->conf)))
		return 0;
	pthread_once(&once, library);
	close_channel(r);
	(void)changed(&r->conf);
	status = ares_init_options(&r->channel, &options, mask);
	if (status != ARES_SUCCESS)
		r->channel = NULL;
	else if (q->conf.nameservers != NULL)
		status =
		    ares_set_servers_ports_csv(r->channel, q->conf.nameservers);
	if (status == ARES_SUCCESS)
		return 0;
	close_channel(r);
	errno = status == ARES_ENOMEM ? ENOMEM : EINVAL;
	return -1;
}

static void
close_channel(struct resolver *r)
{
	if (r->channel != NULL)
		ares_destroy(r->channel);
	r->channel = NULL;
}

/*
 * c-ares wants to be told of other events of its socket than before.  Of none:
 * that is just before close(2), which takes the knotes with it.
 */
static void
watch(void *arg, ares_socket_t fd, int readable, int writable)
{
	void *tag = (void *)(uintptr_t)TAG_RESOLVE;
	struct kquay *q = arg;
	struct kevent ev[2];

	if (!readable && !writable)
		return;
	EV_SET(&ev[0], (uintptr_t)fd, EVFILT_READ, EV_ADD, KNOTE_NODATA, 0,
	    tag);
	EV_SET(&ev[1], (uintptr_t)fd, EVFILT_WRITE,
	    writable ? EV_ADD : EV_DELETE, KNOTE_NODATA, 0, tag);
	/* There may be no WRITE to delete.  A socket that we are not told of
	   is one that does not answer, and c-ares deals with those. */
	(void)kevent(q->kq, ev, 2, NULL, 0, NULL);
}

static struct lookup *
find(const struct resolver *r, const char *host)
{
	struct lookup *lookup;

	LIST_FOREACH(lookup, &r->lookups, link)
		if (strcasecmp(lookup->name, host) == 0)
			return lookup;
	return NULL;
}

/* Ask for a name, which may be answered at once.  NULL without memory. */
static struct lookup *
ask(struct kquay *q, const char *host)
{
	size_t size = strlen(host) + 1;
	struct lookup *lookup;
	enum family family;

	lookup = calloc(1, sizeof(*lookup) + size);
	if (lookup == NULL)
		return NULL;
	memcpy(lookup->name, host, size);
	lookup->q = q;
	lookup->starting = 1;
	LIST_INIT(&lookup->queries);
	LIST_INSERT_HEAD(&q->resolver->lookups, lookup, link);
	for (family = FAMILY_6; family < FAMILIES; family++) {
		lookup->half[family].lookup = lookup;
		lookup->half[family].family = family;
		ask_half(&lookup->half[family]);
	}
	return lookup;
}

static void
ask_half(struct half *half)
{
	struct ares_addrinfo_hints hints = { .ai_socktype = SOCK_STREAM,
		.ai_family = half->family == FAMILY_6 ? AF_INET6 : AF_INET };
	struct resolver *r = half->lookup->q->resolver;

	r->asking++;
	ares_getaddrinfo(r->channel, half->lookup->name, NULL, &hints, answered,
	    half);
}

/* c-ares knows the one half of an answer: tell all who wait. */
static void
answered(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct half *half = arg;
	struct lookup *lookup = half->lookup;
	struct answer *answer = &half->answer;
	struct query *query, *next;

	lookup->q->resolver->asking--;
	answer->known = 1;
	answer->err = error_of(status);
	if (info != NULL) {
		if (collect(answer, info) == -1)
			answer->err = ENOMEM;
		ares_freeaddrinfo(info);
	}
	for (query = LIST_FIRST(&lookup->queries); query != NULL;
	     query = next) {
		next = LIST_NEXT(query, link);
		query->fn(query, half->family, answer);
	}
	finish(lookup);
}

/* The addresses, and for how long they hold.  0, or -1 without memory. */
static int
collect(struct answer *answer, const struct ares_addrinfo *info)
{
	const struct ares_addrinfo_cname *cname;
	const struct ares_addrinfo_node *node;
	uint32_t ttl = INT32_MAX;

	for (cname = info->cnames; cname != NULL; cname = cname->next)
		if (cname->ttl >= 0 && (uint32_t)cname->ttl < ttl)
			ttl = (uint32_t)cname->ttl;
	for (node = info->nodes; node != NULL; node = node->ai_next) {
		if (node->ai_ttl >= 0 && (uint32_t)node->ai_ttl < ttl)
			ttl = (uint32_t)node->ai_ttl;
		if (kquay_answer_add(answer, node->ai_addr) == -1 &&
		    answer->n == 0)
			return -1;
	}
	answer->ttl = ttl;
	return 0;
}

/* If both halves are known and were told, that is all. */
static void
finish(struct lookup *lookup)
{
	struct query *query;
	enum family family;

	if (lookup->starting || !lookup->half[FAMILY_6].answer.known ||
	    !lookup->half[FAMILY_4].answer.known)
		return;
	while ((query = LIST_FIRST(&lookup->queries)) != NULL)
		kquay_resolve_cancel(query);
	LIST_REMOVE(lookup, link);
	for (family = FAMILY_6; family < FAMILIES; family++)
		free(lookup->half[family].answer.addrs);
	free(lookup);
}

/*
 * Ask for the records of this type that name has.  Their name servers' message
 * is told by fn, once, and maybe before this returns.  0, or -1 with errno.
 */
int
kquay_resolve_records(struct kquay *q, const char *name, int type,
    struct records *records)
{
	struct resolver *r = resolver_of(q);

	if (r == NULL || open_channel(q) == -1)
		return -1;
	r->asking++;
	records->q = q;
	ares_query(r->channel, name, 1, type, recorded, records);
	return 0;
}

static void
recorded(void *arg, int status, int timeouts, unsigned char *message, int len)
{
	struct records *records = arg;

	(void)timeouts;
	records->q->resolver->asking--;
	if (status == ARES_SUCCESS)
		records->fn(records, 0, message, (size_t)len);
	else
		records->fn(records, error_of(status), NULL, 0);
}

/* EAGAIN is a name server that cannot tell, now. */
static int
error_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
	case ARES_ENODATA:
	case ARES_ENOTFOUND:
	case ARES_EBADNAME:
		return ENOENT;
	case ARES_ETIMEOUT:
		return ETIMEDOUT;
	case ARES_ENOMEM:
		return ENOMEM;
	case ARES_ECANCELLED:
	case ARES_EDESTRUCTION:
		return ECANCELED;
	default:
		return EAGAIN;
	}
}
