/*
 * What the control socket is asked, read word by word: a table has what may
 * follow each verb.
 */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "request.h"

/* Words that may follow a verb. */
enum key { KEY_JSON, KEY_ID, KEY_SERVICE, KEY_PEER, KEY_AFTER, KEY_LIMIT };

#define KEY(name) (1 << KEY_##name)
#define KEYS_SELECT (KEY(ID) | KEY(SERVICE) | KEY(PEER))

static const char *const keys[] = { "json", "id", "service", "peer", "after",
	"limit" };
#define NKEYS (sizeof(keys) / sizeof(keys[0]))

static const struct verb {
	const char *name;
	int keys;    /* that it may have */
	int one;     /* of these, one at least that it needs */
	int operand; /* a word of its own first: the name */
} verbs[] = {
	[REQUEST_STATUS] = { .name = "status", .keys = KEY(JSON) },
	[REQUEST_CONNECTIONS] = { .name = "connections",
	    .keys = KEY(JSON) | KEYS_SELECT | KEY(AFTER) | KEY(LIMIT) },
	[REQUEST_CLOSE] = { .name = "close",
	    .keys = KEYS_SELECT,
	    .one = KEYS_SELECT },
	[REQUEST_DRAIN] = { .name = "drain", .operand = 1 },
	[REQUEST_RELOAD] = { .name = "reload" },
	[REQUEST_UPGRADE] = { .name = "upgrade" },
	[REQUEST_HELP] = { .name = "help" },
};
#define NVERBS (sizeof(verbs) / sizeof(verbs[0]))

const char request_help[] =
    "status [json]\n"
    "connections [json] [SELECTION] [after ID] [limit N]\n"
    "close SELECTION\n"
    "drain NAME|all\n"
    "reload\n"
    "upgrade\n"
    "help\n"
    "SELECTION: id ID, service NAME, peer WHO, or several of them\n";

struct parser {
	struct request *request;
	char *at; /* what is left of the line */
	int seen; /* keys, a bit each */
	char *why;
	size_t whysz;
};

static int parse_verb(struct parser *);
static int parse_keys(struct parser *);
static int parse_key(struct parser *, enum key, const char *);
static int parse_number(struct parser *, enum key, const char *, uint64_t,
    uint64_t *);
static int next_word(struct parser *, char **);
static char *unquote(char *, char **);
static int wrong(struct parser *, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static void print_key(enum key, const char *, FILE *);
static void print_number(enum key, uint64_t, FILE *);
static void print_word(const char *, FILE *);

int
request_parse(struct request *r, char *line, char *why, size_t whysz)
{
	struct parser p = { .request = r,
		.at = line,
		.why = why,
		.whysz = whysz };

	memset(r, 0, sizeof(*r));
	r->limit = REQUEST_LIMIT;
	if (parse_verb(&p) == -1 || parse_keys(&p) == -1)
		return -1;
	if (verbs[r->verb].one != 0 && (p.seen & verbs[r->verb].one) == 0)
		return wrong(&p, "%s: say which: id, service or peer",
		    verbs[r->verb].name);
	return 0;
}

/* The first word, and the one that some need after it. */
static int
parse_verb(struct parser *p)
{
	char *word;
	size_t i;
	int rc;

	rc = next_word(p, &word);
	if (rc == -1)
		return -1;
	if (rc == 0)
		return wrong(p, "an empty request: try help");
	for (i = 0; strcmp(word, verbs[i].name) != 0; i++)
		if (i == NVERBS - 1)
			return wrong(p, "%s: no such request: try help", word);
	p->request->verb = (enum request_verb)i;
	if (!verbs[i].operand)
		return 0;
	rc = next_word(p, &word);
	if (rc == 0)
		return wrong(p, "%s: the name of a service is missing, or all",
		    verbs[i].name);
	p->request->name = word;
	return rc;
}

static int
parse_keys(struct parser *p)
{
	const struct verb *verb = &verbs[p->request->verb];
	char *word, *value;
	size_t k;
	int rc;

	while ((rc = next_word(p, &word)) == 1) {
		for (k = 0; k < NKEYS && strcmp(word, keys[k]) != 0; k++)
			continue;
		if (k == NKEYS || (verb->keys & 1 << k) == 0)
			return wrong(p, "%s: unexpected: %s", verb->name, word);
		if (p->seen & 1 << k)
			return wrong(p, "%s: given twice", word);
		p->seen |= 1 << k;
		if (k == KEY_JSON) {
			p->request->json = 1;
			continue;
		}
		rc = next_word(p, &value);
		if (rc == -1)
			return -1;
		if (rc == 0)
			return wrong(p, "%s: a value is missing", word);
		if (parse_key(p, k, value) == -1)
			return -1;
	}
	return rc;
}

static int
parse_key(struct parser *p, enum key key, const char *value)
{
	struct request *r = p->request;
	uint64_t number;

	switch (key) {
	case KEY_JSON:
		break;
	case KEY_ID:
		return parse_number(p, key, value, UINT64_MAX, &r->id);
	case KEY_SERVICE:
		r->service = value;
		return 0;
	case KEY_PEER:
		r->peer = value;
		return 0;
	case KEY_AFTER:
		return parse_number(p, key, value, UINT64_MAX, &r->after);
	case KEY_LIMIT:
		if (parse_number(p, key, value, REQUEST_LIMIT_MAX, &number) ==
		    -1)
			return -1;
		r->limit = (uint32_t)number;
		return 0;
	}
	return -1;
}

static int
parse_number(struct parser *p, enum key key, const char *text, uint64_t max,
    uint64_t *number)
{
	return request_number(keys[key], text, max, number, p->why, p->whysz);
}

int
request_number(const char *what, const char *text, uint64_t max,
    uint64_t *number, char *why, size_t whysz)
{
	uint64_t value;
	char *end;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (!isdigit((unsigned char)*text) || *end != '\0' || errno != 0 ||
	    value == 0 || value > max) {
		snprintf(why, whysz, "%s: '%s' is no number from 1 to %" PRIu64,
		    what, text, max);
		return -1;
	}
	*number = value;
	return 0;
}

/* 1; 0 if there is none left; or -1. */
static int
next_word(struct parser *p, char **word)
{
	char *from, *to;

	*word = NULL;
	p->at += strspn(p->at, " ");
	if (*p->at == '\0')
		return 0;
	from = to = p->at;
	while (*from != '\0' && *from != ' ') {
		if (iscntrl((unsigned char)*from))
			return wrong(p, "a control character");
		if (*from != '"') {
			*to++ = *from++;
			continue;
		}
		from = unquote(from + 1, &to);
		if (from == NULL)
			return wrong(p, "quotes that do not end well");
	}
	*word = p->at;
	p->at = from + (*from == ' ');
	*to = '\0';
	return 1;
}

/*
 * Move what stands in quotes, up to the second of them, to *to.  Returns where
 * it goes on, or NULL.
 */
static char *
unquote(char *from, char **to)
{
	while (*from != '"') {
		if (*from == '\\' && (from[1] == '"' || from[1] == '\\'))
			from++;
		else if (*from == '\\' || iscntrl((unsigned char)*from) ||
		    *from == '\0')
			return NULL;
		*(*to)++ = *from++;
	}
	return from + 1;
}

static int
wrong(struct parser *p, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(p->why, p->whysz, format, ap);
	va_end(ap);
	return -1;
}

void
request_print(const struct request *r, FILE *out)
{
	fputs(verbs[r->verb].name, out);
	if (verbs[r->verb].operand)
		print_word(r->name, out);
	if (r->json)
		print_word(keys[KEY_JSON], out);
	print_number(KEY_ID, r->id, out);
	print_key(KEY_SERVICE, r->service, out);
	print_key(KEY_PEER, r->peer, out);
	print_number(KEY_AFTER, r->after, out);
	if (r->limit != REQUEST_LIMIT)
		print_number(KEY_LIMIT, r->limit, out);
	putc('\n', out);
}

static void
print_key(enum key key, const char *value, FILE *out)
{
	if (value == NULL)
		return;
	print_word(keys[key], out);
	print_word(value, out);
}

static void
print_number(enum key key, uint64_t value, FILE *out)
{
	if (value == 0)
		return;
	print_word(keys[key], out);
	fprintf(out, " %" PRIu64, value);
}

static void
print_word(const char *word, FILE *out)
{
	putc(' ', out);
	if (*word != '\0' && strpbrk(word, " \"") == NULL) {
		fputs(word, out);
		return;
	}
	putc('"', out);
	for (; *word != '\0'; word++) {
		if (*word == '"' || *word == '\\')
			putc('\\', out);
		putc(*word, out);
	}
	putc('"', out);
}
