/*
 * The table of buckets.
 *
 * A bucket is one number: the time at which it will be full.  Taking a token
 * moves that on by the time in which one comes; there is one as long as that
 * stays within the time in which `burst' of them come.  Times are counted in
 * 1/tokens of a millisecond from the first on, so that a token comes every
 * per_ms of them, and nothing is ever rounded.
 *
 * Places are in sets of WAYS; a source may have any one of its set.  A source
 * is known by 64 bits of its hash, which also choose the set: that two of
 * them are taken for one is as likely as guessing the key.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>

#include <assert.h>
#include <ctype.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rate.h"

#define WAYS 8 /* two lines of a cache */
#define MOST 1000000

struct bucket {
	uint64_t source;
	int64_t full; /* when it will be full; all zeros: a free place */
};

struct rate {
	struct rate_conf conf;
	int64_t depth; /* from empty to full, in our own unit of time */
	int64_t most;  /* as far from full as a bucket may become */
	int64_t start; /* ms; -1: nobody has come yet */
	uint64_t key[2];
	size_t sets; /* a power of two */
	struct bucket *bucket;
	unsigned users;
	pthread_mutex_t lock;
};

static int parse(void *, const char *, char *, size_t);
static int parse_amount(const char **, const char *, uint32_t *);
static void print(const void *, FILE *);
static size_t source_bytes(const struct rate *, const struct sockaddr *, uid_t,
    unsigned char *);
static size_t address_bytes(const struct rate *, const struct in6_addr *,
    unsigned char *);
static struct bucket *find_bucket(struct rate *, uint64_t);
static uint64_t siphash(const uint64_t *, const unsigned char *, size_t);
static void rounds(uint64_t *, int);

const struct setting_kind rate_kind = { .parse = parse, .print = print };

static const struct {
	const char *name;
	uint32_t ms;
} periods[] = { { "s", 1000 }, { "m", 60 * 1000 }, { "h", 60 * 60 * 1000 } };
#define PERIODS (sizeof(periods) / sizeof(periods[0]))

/* "10/s burst 20", "10/s", "none". */
static int
parse(void *member, const char *text, char *why, size_t whysz)
{
	struct rate_limit limit = { .tokens = 0 };
	const char *p = text;
	size_t i, len;

	if (strcmp(text, "none") == 0)
		goto done;
	if (parse_amount(&p, "/", &limit.tokens) == -1)
		goto fail;
	len = strspn(p, "smh");
	for (i = 0; i < PERIODS; i++)
		if (len == 1 && *p == *periods[i].name)
			limit.per_ms = periods[i].ms;
	if (limit.per_ms == 0)
		goto fail;
	p += len;
	limit.burst = limit.tokens;
	if (*p == '\0')
		goto done;
	if (strncmp(p, " burst ", 7) != 0)
		goto fail;
	p += 7;
	if (parse_amount(&p, "", &limit.burst) == -1)
		goto fail;
done:
	memcpy(member, &limit, sizeof(limit));
	return 0;

fail:
	snprintf(why, whysz,
	    "'%s' is not a rate, such as 10/s, 300/m or \"10/s burst 20\" "
	    "(numbers from 1 to %d), nor \"none\"",
	    text, MOST);
	return -1;
}

/* A number from 1 to MOST, and what follows it. */
static int
parse_amount(const char **p, const char *after, uint32_t *amount)
{
	intmax_t number;
	char *end;

	if (!isdigit((unsigned char)**p))
		return -1;
	number = strtoimax(*p, &end, 10);
	if (number < 1 || number > MOST ||
	    strncmp(end, after, strlen(after)) != 0 ||
	    (*after == '\0' && *end != '\0'))
		return -1;
	*amount = (uint32_t)number;
	*p = end + strlen(after);
	return 0;
}

static void
print(const void *member, FILE *out)
{
	const struct rate_limit *limit = member;
	size_t i;

	if (limit->tokens == 0) {
		fputs("\"none\"", out);
		return;
	}
	for (i = 0; periods[i].ms != limit->per_ms;)
		i++;
	fprintf(out, "\"%" PRIu32 "/%s burst %" PRIu32 "\"", limit->tokens,
	    periods[i].name, limit->burst);
}

struct rate *
rate_new(const struct rate_conf *conf)
{
	struct rate *rate;

	assert(conf->limit.tokens > 0);
	rate = calloc(1, sizeof(*rate));
	if (rate == NULL)
		return NULL;
	rate->conf = *conf;
	rate->depth = (int64_t)conf->limit.burst * conf->limit.per_ms;
	rate->most = conf->when == RATE_DELAY ? 2 * rate->depth : rate->depth;
	rate->start = -1;
	rate->users = 1;
	rate->sets = 1;
	while (rate->sets * WAYS < conf->sources)
		rate->sets *= 2;
	rate->bucket = calloc(rate->sets * WAYS, sizeof(struct bucket));
	if (rate->bucket == NULL) {
		free(rate);
		return NULL;
	}
	arc4random_buf(rate->key, sizeof(rate->key));
	pthread_mutex_init(&rate->lock, NULL);
	return rate;
}

struct rate *
rate_share(struct rate *rate, const struct rate_conf *conf)
{
	const struct rate_conf *own = &rate->conf;

	if (conf->limit.tokens != own->limit.tokens ||
	    conf->limit.per_ms != own->limit.per_ms ||
	    conf->limit.burst != own->limit.burst ||
	    conf->v6_prefix != own->v6_prefix ||
	    conf->sources != own->sources || conf->when != own->when)
		return NULL;
	pthread_mutex_lock(&rate->lock);
	rate->users++;
	pthread_mutex_unlock(&rate->lock);
	return rate;
}

void
rate_free(struct rate *rate)
{
	unsigned users;

	if (rate == NULL)
		return;
	pthread_mutex_lock(&rate->lock);
	users = --rate->users;
	pthread_mutex_unlock(&rate->lock);
	if (users > 0)
		return;
	pthread_mutex_destroy(&rate->lock);
	free(rate->bucket);
	free(rate);
}

int
rate_take(struct rate *rate, const struct sockaddr *sa, uid_t uid,
    int64_t now_ms)
{
	unsigned char bytes[1 + sizeof(struct in6_addr)];
	const struct rate_limit *limit = &rate->conf.limit;
	int64_t now, full, wait;
	struct bucket *b;
	uint64_t source;

	source = siphash(rate->key, bytes, source_bytes(rate, sa, uid, bytes));
	pthread_mutex_lock(&rate->lock);
	if (rate->start == -1)
		rate->start = now_ms;
	/* The workers' clocks are not read in the order of the lock. */
	now =
	    now_ms <= rate->start ? 0 : (now_ms - rate->start) * limit->tokens;
	b = find_bucket(rate, source);
	full = (b->full > now ? b->full : now) + limit->per_ms;
	wait = full - now - rate->depth;
	if (full - now > rate->most)
		wait = -1;
	else {
		b->source = source;
		b->full = full;
		wait =
		    wait <= 0 ? 0 : (wait + limit->tokens - 1) / limit->tokens;
	}
	pthread_mutex_unlock(&rate->lock);
	return wait > INT_MAX ? INT_MAX : (int)wait;
}

/* What two callers of one source have in common; returns its length. */
static size_t
source_bytes(const struct rate *rate, const struct sockaddr *sa, uid_t uid,
    unsigned char *bytes)
{
	bytes[0] = (unsigned char)sa->sa_family;
	switch (sa->sa_family) {
	case AF_INET:
		memcpy(bytes + 1,
		    &((const struct sockaddr_in *)(const void *)sa)->sin_addr,
		    4);
		return 5;
	case AF_INET6:
		return address_bytes(rate,
		    &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr,
		    bytes);
	case AF_UNIX:
		memcpy(bytes + 1, &uid, sizeof(uid));
		return 1 + sizeof(uid);
	default:
		return 1;
	}
}

static size_t
address_bytes(const struct rate *rate, const struct in6_addr *addr,
    unsigned char *bytes)
{
	size_t whole = rate->conf.v6_prefix / 8;
	unsigned rest = rate->conf.v6_prefix % 8;

	if (IN6_IS_ADDR_V4MAPPED(addr)) {
		bytes[0] = AF_INET;
		memcpy(bytes + 1, &addr->s6_addr[12], 4);
		return 5;
	}
	memset(bytes + 1, 0, sizeof(*addr));
	memcpy(bytes + 1, addr, whole);
	if (rest > 0)
		bytes[1 + whole] =
		    addr->s6_addr[whole] & (unsigned char)(0xff00 >> rest);
	return 1 + sizeof(*addr);
}

/* The source's own, or the place that is to be its. */
static struct bucket *
find_bucket(struct rate *rate, uint64_t source)
{
	struct bucket *set = &rate->bucket[(source & (rate->sets - 1)) * WAYS];
	struct bucket *fullest = set;
	int i;

	for (i = 0; i < WAYS; i++) {
		if (set[i].source == source)
			return &set[i];
		if (set[i].full < fullest->full)
			fullest = &set[i];
	}
	return fullest;
}

/* SipHash-2-4: Aumasson and Bernstein, 2012. */
static uint64_t
siphash(const uint64_t *key, const unsigned char *bytes, size_t len)
{
	uint64_t v[4] = { key[0] ^ 0x736f6d6570736575u,
		key[1] ^ 0x646f72616e646f6du, key[0] ^ 0x6c7967656e657261u,
		key[1] ^ 0x7465646279746573u };
	uint64_t word;
	size_t i, at;

	for (at = 0; at <= len; at += 8) {
		word = 0;
		for (i = 0; i < 8 && at + i < len; i++)
			word |= (uint64_t)bytes[at + i] << 8 * i;
		if (at + 8 > len)
			word |= (uint64_t)len << 56;
		v[3] ^= word;
		rounds(v, 2);
		v[0] ^= word;
	}
	v[2] ^= 0xff;
	rounds(v, 4);
	return v[0] ^ v[1] ^ v[2] ^ v[3];
}

#define ROTATE(x, bits) ((x) << (bits) | (x) >> (64 - (bits)))

static void
rounds(uint64_t *v, int n)
{
	while (n-- > 0) {
		v[0] += v[1];
		v[2] += v[3];
		v[1] = ROTATE(v[1], 13) ^ v[0];
		v[3] = ROTATE(v[3], 16) ^ v[2];
		v[0] = ROTATE(v[0], 32);
		v[2] += v[1];
		v[0] += v[3];
		v[1] = ROTATE(v[1], 17) ^ v[2];
		v[3] = ROTATE(v[3], 21) ^ v[0];
		v[2] = ROTATE(v[2], 32);
	}
}
