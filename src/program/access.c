/*
 * Who may call: from words to ranges of keys, and a caller's key among them.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "access.h"

/* The first byte of a key. */
enum { KEY_IPV4, KEY_IPV6, KEY_UID, KEY_GID };

#define NOBODY UINT32_MAX /* no id is (uid_t)-1 */

static int parse_word(struct access_list *, struct access_range *, const char *,
    char *, size_t);
static int parse_id(struct access_range *, int, const char *, char *, size_t);
static int find_name(int, const char *, uint32_t *);
static int parse_network(struct access_range *, const char *, char *, size_t);
static int make_network(struct access_range *, int, struct in6_addr *, int);
static void make_address(unsigned char *, int, const void *);
static void make_number(unsigned char *, int, uint32_t);
static int is_number(const char *);
static int add_range(struct access_list *, const struct access_range *);
static void sort(struct access_list *);
static int compare(const void *, const void *);
static int names(const struct access_list *, const struct sockaddr *, uid_t,
    gid_t, int);
static int names_user(const struct access_list *, uid_t, gid_t, int);
static int holds(const struct access_list *, const unsigned char *);
static int holds_number(const struct access_list *, int, uint32_t);

static int parse(void *, const char *, char *, size_t);
static void print(const void *, FILE *);
static void list_free(void *);

const struct setting_kind access_kind = { .list = 1,
	.parse = parse,
	.print = print,
	.free = list_free };

static int
parse(void *member, const char *text, char *why, size_t whysz)
{
	struct access_list *list = member, flags = *list;
	struct access_range range;
	char wrong[160];
	int ranges;

	ranges = parse_word(&flags, &range, text, wrong, sizeof(wrong));
	if (ranges == -1) {
		snprintf(why, whysz, "'%s': %s", text, wrong);
		return -1;
	}
	if (ranges == 1 && add_range(list, &range) == -1) {
		snprintf(why, whysz, "%s", strerror(errno));
		return -1;
	}
	if (words_add(&list->words, text) == -1) {
		snprintf(why, whysz, "%s", strerror(errno));
		list->count -= (size_t)ranges;
		return -1;
	}
	list->all = flags.all;
	list->unix_peers = flags.unix_peers;
	list->uids = flags.uids;
	list->gids = flags.gids;
	return 0;
}

/* Returns 1 with *range; 0: it is a flag alone; or -1. */
static int
parse_word(struct access_list *list, struct access_range *range,
    const char *text, char *why, size_t whysz)
{
	if (strcmp(text, "all") == 0) {
		list->all = 1;
		return 0;
	}
	if (strcmp(text, "unix") == 0) {
		list->unix_peers = 1;
		return 0;
	}
	if (strncmp(text, "uid:", 4) == 0) {
		list->uids = 1;
		return parse_id(range, KEY_UID, text + 4, why, whysz);
	}
	if (strncmp(text, "gid:", 4) == 0) {
		list->gids = 1;
		return parse_id(range, KEY_GID, text + 4, why, whysz);
	}
	return parse_network(range, text, why, whysz);
}

static int
parse_id(struct access_range *range, int kind, const char *text, char *why,
    size_t whysz)
{
	const char *wrong = NULL;
	uint32_t id = 0;

	if (*text == '\0') {
		snprintf(why, whysz, "the %s is missing",
		    kind == KEY_UID ? "user" : "group");
		return -1;
	}
	if (is_number(text)) {
		id = (uint32_t)strtonum(text, 0, NOBODY - 1, &wrong);
		if (wrong != NULL) {
			snprintf(why, whysz, "the number is too large");
			return -1;
		}
	} else if (find_name(kind, text, &id) == -1) {
		if (errno != 0)
			snprintf(why, whysz, "%s", strerror(errno));
		else
			snprintf(why, whysz, "there is no such %s",
			    kind == KEY_UID ? "user" : "group");
		return -1;
	}
	make_number(range->first, kind, id);
	make_number(range->last, kind, id);
	return 1;
}

/* 0, or -1 with errno; then 0 says that there is none of that name. */
static int
find_name(int kind, const char *name, uint32_t *id)
{
	const struct passwd *user;
	const struct group *group;

	errno = 0;
	if (kind == KEY_UID) {
		user = getpwnam(name);
		if (user != NULL) {
			*id = user->pw_uid;
			return 0;
		}
	} else {
		group = getgrnam(name);
		if (group != NULL) {
			*id = group->gr_gid;
			return 0;
		}
	}
	/* Systems differ in how they say that there is none. */
	if (errno == ENOENT || errno == ESRCH)
		errno = 0;
	return -1;
}

static int
parse_network(struct access_range *range, const char *text, char *why,
    size_t whysz)
{
	char host[INET6_ADDRSTRLEN], network[INET6_ADDRSTRLEN];
	const char *slash = strchrnul(text, '/'), *wrong = NULL;
	struct in6_addr addr;
	int family, bits, prefix;

	snprintf(host, sizeof(host), "%.*s", (int)(slash - text), text);
	family = strchr(host, ':') != NULL ? AF_INET6 : AF_INET;
	if ((size_t)(slash - text) >= sizeof(host) ||
	    inet_pton(family, host, &addr) != 1) {
		snprintf(why, whysz,
		    "none of an address, a network such as 192.0.2.0/24 or "
		    "2001:db8::/32, uid:, gid:, unix and all");
		return -1;
	}
	prefix = bits = family == AF_INET ? 32 : 128;
	if (*slash != '\0') {
		prefix = (int)strtonum(slash + 1, 0, bits, &wrong);
		if (wrong != NULL || !is_number(slash + 1)) {
			snprintf(why, whysz, "the prefix is not in 0 to %d",
			    bits);
			return -1;
		}
	}
	if (make_network(range, family, &addr, prefix) == -1) {
		inet_ntop(family, &addr, network, sizeof(network));
		snprintf(why, whysz,
		    "has bits set after the prefix; the network is %s/%d",
		    network, prefix);
		return -1;
	}
	return 1;
}

/* Fails if bits are set after the prefix, and clears them in addr. */
static int
make_network(struct access_range *range, int family, struct in6_addr *addr,
    int prefix)
{
	struct in6_addr first = *addr, last = *addr;
	int i, kept, extra = 0, size = family == AF_INET ? 4 : 16;
	unsigned char host;

	for (i = 0; i < size; i++) {
		kept = prefix - 8 * i;
		host = kept >= 8 ? 0 : kept <= 0 ? 0xff : 0xff >> kept;
		extra |= addr->s6_addr[i] & host;
		first.s6_addr[i] &= (unsigned char)~host;
		last.s6_addr[i] |= host;
	}
	if (extra) {
		*addr = first;
		return -1;
	}
	make_address(range->first, family, &first);
	make_address(range->last, family, &last);
	return 0;
}

/* addr is a struct in_addr or in6_addr; both keys of a network are alike. */
static void
make_address(unsigned char *key, int family, const void *addr)
{
	const struct in6_addr *in6 = addr;
	uint32_t in4;

	if (family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(in6)) {
		key[0] = KEY_IPV6;
		memcpy(key + 1, in6, sizeof(*in6));
		return;
	}
	memcpy(&in4, family == AF_INET ? addr : &in6->s6_addr[12], sizeof(in4));
	make_number(key, KEY_IPV4, ntohl(in4));
}

static void
make_number(unsigned char *key, int kind, uint32_t number)
{
	memset(key, 0, ACCESS_KEY);
	key[0] = (unsigned char)kind;
	number = htonl(number);
	memcpy(key + ACCESS_KEY - sizeof(number), &number, sizeof(number));
}

/* Digits alone: strtonum(3) takes blanks and a sign before them. */
static int
is_number(const char *text)
{
	return strspn(text, "0123456789") == strlen(text);
}

/* There is room up to the next power of two. */
static int
add_range(struct access_list *list, const struct access_range *range)
{
	struct access_range *grown;
	size_t n = list->count;

	if ((n & (n - 1)) == 0) {
		grown = reallocarray(list->range, n == 0 ? 1 : 2 * n,
		    sizeof(*grown));
		if (grown == NULL)
			return -1;
		list->range = grown;
	}
	list->range[list->count++] = *range;
	return 0;
}

static void
print(const void *member, FILE *out)
{
	const struct access_list *list = member;

	words_print(&list->words, out);
}

static void
list_free(void *member)
{
	struct access_list *list = member;

	words_free(&list->words);
	free(list->range);
	memset(list, 0, sizeof(*list));
}

void
access_prepare(struct access *access)
{
	sort(&access->allow);
	sort(&access->deny);
}

/* And merge: two networks are apart, or one holds the other. */
static void
sort(struct access_list *list)
{
	struct access_range *range = list->range;
	size_t i, n = 0;

	if (list->count < 2)
		return;
	qsort(range, list->count, sizeof(*range), compare);
	for (i = 1; i < list->count; i++)
		if (memcmp(range[i].last, range[n].last, ACCESS_KEY) > 0)
			range[++n] = range[i];
	list->count = n + 1;
}

/* Of two that begin together the larger one is first. */
static int
compare(const void *a, const void *b)
{
	const struct access_range *p = a, *q = b;
	int order;

	order = memcmp(p->first, q->first, ACCESS_KEY);
	return order != 0 ? order : memcmp(q->last, p->last, ACCESS_KEY);
}

int
access_is_open(const struct access *access)
{
	return access->allow.words.count == 0 && access->deny.words.count == 0;
}

int
access_allows(const struct access *access, const struct sockaddr *sa, uid_t uid,
    gid_t gid)
{
	if (names(&access->deny, sa, uid, gid, 1))
		return 0;
	return access->allow.words.count == 0 ||
	    names(&access->allow, sa, uid, gid, 0);
}

/* What is not known is as a word has it that names it: the answer is doubt. */
static int
names(const struct access_list *list, const struct sockaddr *sa, uid_t uid,
    gid_t gid, int doubt)
{
	const void *addr;
	unsigned char key[ACCESS_KEY];

	if (list->all)
		return 1;
	switch (sa->sa_family) {
	case AF_INET:
		addr =
		    &((const struct sockaddr_in *)(const void *)sa)->sin_addr;
		break;
	case AF_INET6:
		addr =
		    &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;
		break;
	case AF_UNIX:
		return list->unix_peers || names_user(list, uid, gid, doubt);
	default:
		return 0;
	}
	make_address(key, sa->sa_family, addr);
	return holds(list, key);
}

static int
names_user(const struct access_list *list, uid_t uid, gid_t gid, int doubt)
{
	if (list->uids &&
	    (uid == NOBODY ? doubt : holds_number(list, KEY_UID, uid)))
		return 1;
	return list->gids &&
	    (gid == NOBODY ? doubt : holds_number(list, KEY_GID, gid));
}

static int
holds_number(const struct access_list *list, int kind, uint32_t number)
{
	unsigned char key[ACCESS_KEY];

	make_number(key, kind, number);
	return holds(list, key);
}

/* The first range that ends at the key or after it must have begun by then. */
static int
holds(const struct access_list *list, const unsigned char *key)
{
	size_t low = 0, high = list->count, middle;

	while (low < high) {
		middle = low + (high - low) / 2;
		if (memcmp(list->range[middle].last, key, ACCESS_KEY) < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low < list->count &&
	    memcmp(list->range[low].first, key, ACCESS_KEY) <= 0;
}
