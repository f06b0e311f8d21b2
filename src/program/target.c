/*
 * Targets: from text to parts.
 */
#include <sys/types.h>

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "target.h"

#define BLANKS " \t"
#define NAME_MAX_LEN 255

static int list_add(void *, const char *, char *, size_t);
static void list_print(const void *, FILE *);
static void list_free(void *);
static int list_given(const void *);
static struct target *target_new(const char *, char *, size_t);
static int parse_words(struct target *, char *, char *, size_t);
static int parse_word(struct target *, char *, char *, size_t);
static int parse_number(const char *, const char *, uint32_t, uint32_t *,
    char *, size_t);
static int parse_sni(struct target *, char *, char *, size_t);
static const char *check_name(char *);
static int parse_address(struct target *, const char *, char *, size_t);
static const char *check_address(const struct address *);
static int parse_srv(struct target *, const char *, char *, size_t);
static void target_free(struct target *);

const struct setting_kind target_kind = {
	.list = 1,
	.parse = list_add,
	.print = list_print,
	.free = list_free,
	.given = list_given,
};

static int
list_add(void *member, const char *text, char *why, size_t whysz)
{
	struct target_list *list = member;
	struct target *t = target_new(text, why, whysz);

	if (t == NULL)
		return -1;
	if (TAILQ_EMPTY(list))
		TAILQ_INIT(list); /* it may be zeros */
	TAILQ_INSERT_TAIL(list, t, next);
	return 0;
}

/* NULL, and why. */
static struct target *
target_new(const char *text, char *why, size_t whysz)
{
	struct target *t;
	char *parts;
	int rc = -1;

	t = calloc(1, sizeof(*t));
	parts = strdup(text);
	if (t != NULL) {
		TAILQ_INIT(&t->address);
		t->weight = 1;
		t->text = strdup(text);
	}
	if (parts == NULL || t == NULL || t->text == NULL)
		snprintf(why, whysz, "%s", strerror(errno));
	else
		rc = parse_words(t, parts, why, whysz);
	free(parts);
	if (rc == 0)
		return t;
	target_free(t);
	return NULL;
}

/* The address, and the words behind it.  0, or -1 and why. */
static int
parse_words(struct target *t, char *text, char *why, size_t whysz)
{
	const char *address = NULL;
	char *word;

	while ((word = strsep(&text, BLANKS)) != NULL) {
		if (*word == '\0')
			continue;
		if (address == NULL)
			address = word;
		else if (parse_word(t, word, why, whysz) == -1)
			return -1;
	}
	if (address == NULL) {
		snprintf(why, whysz, "'%s': the address is missing", t->text);
		return -1;
	}
	return t->srv ? parse_srv(t, address, why, whysz) :
			parse_address(t, address, why, whysz);
}

static int
parse_word(struct target *t, char *word, char *why, size_t whysz)
{
	if (strncmp(word, "weight=", 7) == 0)
		return parse_number(word, word + 7, TARGET_WEIGHT_MAX,
		    &t->weight, why, whysz);
	if (strncmp(word, "max=", 4) == 0)
		return parse_number(word, word + 4, TARGET_MAX_MAX, &t->max,
		    why, whysz);
	if (strncmp(word, "sni=", 4) == 0)
		return parse_sni(t, word + 4, why, whysz);
	if (strcmp(word, "backup") == 0)
		t->backup = 1;
	else if (strcmp(word, "tls") == 0)
		t->tls = 1;
	else if (strcmp(word, "srv") == 0)
		t->srv = 1;
	else {
		snprintf(why, whysz,
		    "'%s': '%s' is none of weight=N, max=N, backup, tls, "
		    "sni=NAME, srv",
		    t->text, word);
		return -1;
	}
	return 0;
}

static int
parse_number(const char *word, const char *digits, uint32_t max,
    uint32_t *number, char *why, size_t whysz)
{
	const char *wrong;

	*number = (uint32_t)strtonum(digits, 1, max, &wrong);
	if (wrong == NULL && strspn(digits, "0123456789") == strlen(digits))
		return 0;
	snprintf(why, whysz, "'%s' is not a number from 1 to %u", word, max);
	return -1;
}

/* -- server names ---------------------------------------------------------- */

static int
parse_sni(struct target *t, char *names, char *why, size_t whysz)
{
	const char *wrong;
	char *name;

	while ((name = strsep(&names, ",")) != NULL) {
		wrong = check_name(name);
		if (wrong == NULL && words_add(&t->sni, name) == -1)
			wrong = strerror(errno);
		if (wrong != NULL) {
			snprintf(why, whysz, "'%s': sni: '%s' %s", t->text,
			    name, wrong);
			return -1;
		}
	}
	return 0;
}

/* A host name, or *. and one; made lower case.  NULL, or what is wrong. */
static const char *
check_name(char *name)
{
	char *p;

	for (p = name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	if (p - name > NAME_MAX_LEN)
		return "is too long";
	if (strncmp(name, "*.", 2) == 0)
		name += 2;
	if (*name == '\0' || *name == '.' ||
	    name[strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-_.")] !=
		'\0')
		return "is not a host name";
	return NULL;
}

/* Exactly this name is best, then the longest ending that fits. */
size_t
target_serves(const struct target *target, const char *name)
{
	size_t len, tail, i, best = 0;
	const char *sni;

	if (target->sni.count == 0)
		return 1;
	if (name == NULL)
		return 0;
	len = strlen(name);
	for (i = 0; i < target->sni.count; i++) {
		sni = target->sni.word[i];
		if (strcmp(sni, name) == 0)
			return NAME_MAX_LEN + 2;
		tail = strlen(sni + 1);
		if (*sni == '*' && len > tail && tail + 1 > best &&
		    strcmp(name + len - tail, sni + 1) == 0)
			best = tail + 1;
	}
	return best;
}

/* -- addresses ------------------------------------------------------------- */

static int
parse_address(struct target *t, const char *text, char *why, size_t whysz)
{
	const struct address *a;
	const char *wrong;

	if (address_list_add(&t->address, text, why, whysz) == -1)
		return -1;
	a = TAILQ_FIRST(&t->address);
	wrong = check_address(a);
	if (wrong != NULL) {
		snprintf(why, whysz, "'%s': %s", text, wrong);
		return -1;
	}
	t->host = a->kind == ADDRESS_UNIX ? a->path : a->host;
	t->port = a->port;
	if (a->kind == ADDRESS_TCP && !isdigit((unsigned char)*a->port)) {
		snprintf(t->number, sizeof(t->number), "%d",
		    ntohs((uint16_t)getservbyname(a->port, "tcp")->s_port));
		t->port = t->number;
	}
	return 0;
}

/* What one can listen on one cannot always connect to. */
static const char *
check_address(const struct address *a)
{
	switch (a->kind) {
	case ADDRESS_TCP:
		if (a->host == NULL)
			return "the host is missing, such as localhost:8080";
		if (a->port[strspn(a->port, "0")] == '\0')
			return "the port is not in 1 to 65535";
		break;
	case ADDRESS_FD:
		return "nobody can connect to a descriptor";
	case ADDRESS_SYSTEMD:
		return "nobody can connect to what systemd passes on";
	case ADDRESS_UNIX:
		break;
	}
	return NULL;
}

static int
parse_srv(struct target *t, const char *text, char *why, size_t whysz)
{
	char *name;

	t->srv_name = strdup(text);
	if (t->srv_name == NULL) {
		snprintf(why, whysz, "%s", strerror(errno));
		return -1;
	}
	t->host = t->srv_name;
	name = strstr(t->srv_name, "._tcp.");
	if (*text == '_' && name != NULL && name[6] != '\0' &&
	    strpbrk(text, ":/") == NULL && strlen(text) <= NAME_MAX_LEN)
		return 0;
	snprintf(why, whysz,
	    "'%s': is no name of SRV records, such as _http._tcp.example.org",
	    text);
	return -1;
}

/* -- the list -------------------------------------------------------------- */

static void
list_print(const void *member, FILE *out)
{
	const struct target_list *list = member;
	const struct target *t;

	putc('{', out);
	TAILQ_FOREACH(t, list, next) {
		setting_print_quoted(t->text, out);
		if (TAILQ_NEXT(t, next) != NULL)
			fputs(", ", out);
	}
	putc('}', out);
}

static void
list_free(void *member)
{
	struct target_list *list = member;
	struct target *t;

	while ((t = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, t, next);
		target_free(t);
	}
}

static int
list_given(const void *member)
{
	return !TAILQ_EMPTY((const struct target_list *)member);
}

static void
target_free(struct target *t)
{
	if (t == NULL)
		return;
	address_list_free(&t->address);
	words_free(&t->sni);
	free(t->srv_name);
	free(t->text);
	free(t);
}
