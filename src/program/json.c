/*
 * Writing JSON: what is open is a stack of what will close it.
 */
#include <assert.h>
#include <inttypes.h>

#include "json.h"
#include "utf8.h"

static void begin(struct json *, const char *);
static void string(FILE *, const char *);
static void nest(struct json *, const char *, const char *);

void
json_object(struct json *j, const char *key)
{
	nest(j, key, "{}");
}

void
json_array(struct json *j, const char *key)
{
	nest(j, key, "[]");
}

void
json_end(struct json *j)
{
	assert(j->depth > 0);
	putc(j->closing[--j->depth], j->out);
	j->filled = 1;
}

void
json_text(struct json *j, const char *key, const char *value)
{
	begin(j, key);
	string(j->out, value);
}

void
json_number(struct json *j, const char *key, uint64_t value)
{
	begin(j, key);
	fprintf(j->out, "%" PRIu64, value);
}

void
json_seconds(struct json *j, const char *key, int64_t ms)
{
	begin(j, key);
	fprintf(j->out, "%" PRId64 ".%03d", ms / 1000, (int)(ms % 1000));
}

void
json_truth(struct json *j, const char *key, int value)
{
	begin(j, key);
	fputs(value ? "true" : "false", j->out);
}

void
json_null(struct json *j, const char *key)
{
	begin(j, key);
	fputs("null", j->out);
}

static void
begin(struct json *j, const char *key)
{
	if (j->filled)
		putc(',', j->out);
	j->filled = 1;
	if (key != NULL) {
		string(j->out, key);
		putc(':', j->out);
	}
}

static void
nest(struct json *j, const char *key, const char *braces)
{
	assert(j->depth < JSON_DEPTH);
	begin(j, key);
	putc(braces[0], j->out);
	j->closing[j->depth++] = braces[1];
	j->filled = 0;
}

/*
 * A string with its quotes.  What is not UTF-8 becomes U+FFFD, a byte at a
 * time.
 */
static void
string(FILE *out, const char *text)
{
	uint32_t c;
	int len;

	putc('"', out);
	for (; *text != '\0'; text += len) {
		len = utf8_next(text, &c);
		if (len == 0) {
			fputs("\\ufffd", out);
			len = 1;
		} else if (c == '"' || c == '\\')
			fprintf(out, "\\%c", *text);
		else if (c < 0x20 || c == 0x7f)
			fprintf(out, "\\u%04x", c);
		else
			fwrite(text, 1, (size_t)len, out);
	}
	putc('"', out);
}
