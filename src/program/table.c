/*
 * A table for people: its cells are kept as text, and printed once the width of
 * each column is known.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "table.h"
#include "utf8.h"
#include "words.h"

struct table {
	const char *const *headings;
	size_t columns;
	struct words cells;
	int failed; /* a cell is missing */
};

static char *make_text(const char *, va_list)
    __attribute__((__format__(__printf__, 1, 0)));
static void print_row(const struct table *, const size_t *, char *const *,
    FILE *);
static size_t characters(const char *);
static const char *heading(const struct table *, size_t);

struct table *
table_new(const char *const *headings)
{
	struct table *t;

	t = calloc(1, sizeof(*t));
	if (t == NULL)
		return NULL;
	t->headings = headings;
	while (headings[t->columns] != NULL)
		t->columns++;
	return t;
}

void
table_cell(struct table *t, const char *format, ...)
{
	va_list ap;
	char *text;

	va_start(ap, format);
	text = make_text(format, ap);
	va_end(ap);
	if (text == NULL || words_add(&t->cells, text) == -1)
		t->failed = 1;
	free(text);
}

void
table_more(struct table *t, const char *format, ...)
{
	va_list ap;
	char *text, *both, **last;

	if (t->failed)
		return;
	va_start(ap, format);
	text = make_text(format, ap);
	va_end(ap);
	last = &t->cells.word[t->cells.count - 1];
	if (text == NULL || asprintf(&both, "%s%s", *last, text) == -1)
		t->failed = 1;
	else {
		free(*last);
		*last = both;
	}
	free(text);
}

/* For free(3); or NULL. */
static char *
make_text(const char *format, va_list ap)
{
	char *text, *from, *to;
	uint32_t code;
	int len;

	if (vasprintf(&text, format, ap) == -1)
		return NULL;
	for (from = to = text; *from != '\0'; from += len) {
		len = utf8_next(from, &code);
		if (len > 0 && utf8_printable(code)) {
			memmove(to, from, (size_t)len);
			to += len;
			continue;
		}
		*to++ = '?';
		if (len == 0)
			len = 1;
	}
	*to = '\0';
	return text;
}

int
table_print(const struct table *t, FILE *out)
{
	size_t i, len, *widths;

	widths = calloc(t->columns, sizeof(*widths));
	if (widths == NULL || t->failed) {
		free(widths);
		errno = ENOMEM;
		return -1;
	}
	for (i = 0; i < t->columns; i++)
		widths[i] = strlen(heading(t, i));
	for (i = 0; i < t->cells.count; i++) {
		len = characters(t->cells.word[i]);
		if (len > widths[i % t->columns])
			widths[i % t->columns] = len;
	}
	print_row(t, widths, NULL, out);
	for (i = 0; i + t->columns <= t->cells.count; i += t->columns)
		print_row(t, widths, &t->cells.word[i], out);
	free(widths);
	return 0;
}

/* Of the headings if cells is NULL. */
static void
print_row(const struct table *t, const size_t *widths, char *const *cells,
    FILE *out)
{
	const char *text;
	int blanks;
	size_t i;

	for (i = 0; i < t->columns; i++) {
		text = cells == NULL ? heading(t, i) : cells[i];
		blanks = (int)(widths[i] - characters(text));
		if (t->headings[i][0] == '>')
			fprintf(out, "%*s%s", blanks, "", text);
		else if (i + 1 == t->columns)
			fputs(text, out);
		else
			fprintf(out, "%s%*s", text, blanks, "");
		fputs(i + 1 == t->columns ? "\n" : "  ", out);
	}
}

static size_t
characters(const char *text)
{
	uint32_t code;
	size_t n;

	for (n = 0; *text != '\0'; n++)
		text += utf8_next(text, &code);
	return n;
}

static const char *
heading(const struct table *t, size_t i)
{
	return t->headings[i] + (t->headings[i][0] == '>');
}

void
table_free(struct table *t)
{
	if (t == NULL)
		return;
	words_free(&t->cells);
	free(t);
}
