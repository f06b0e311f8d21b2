/*
 * The text of a configuration file, made ready for libConfuse.
 *
 * libConfuse 3.3 counts the line of a comment more than once, takes no
 * comment inside a list, accepts a file that ends inside a section, and a
 * string that does not end leaves its scanner inside a string for the next
 * file.  So comments are blanked and such files are turned away before it
 * sees them.
 */
#include <sys/types.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "config_text.h"

struct scan {
	char *p;
	int line;
	int depth;  /* of braces */
	int opened; /* line of the outermost brace */
	const char *wrong;
	int wrong_line;
};

static void scan_comment(struct scan *);
static void scan_long_comment(struct scan *);
static void scan_string(struct scan *);
static void scan_escape(struct scan *);
static void scan_other(struct scan *);
static void scan_fail(struct scan *, const char *, int);

char *
config_text_read(const char *file)
{
	FILE *in;
	char *text = NULL;
	size_t len;
	int saved;

	in = fopen(file, "re");
	if (in == NULL)
		return NULL;
	text = malloc(CONFIG_TEXT_MAX + 1);
	if (text == NULL)
		goto fail;
	len = fread(text, 1, CONFIG_TEXT_MAX + 1, in);
	if (ferror(in))
		goto fail;
	if (memchr(text, '\0', len) != NULL) {
		errno = EINVAL;
		goto fail;
	}
	if (len > CONFIG_TEXT_MAX) {
		errno = EFBIG;
		goto fail;
	}
	fclose(in);
	text[len] = '\0';
	return text;

fail:
	saved = errno;
	free(text);
	fclose(in);
	errno = saved;
	return NULL;
}

const char *
config_text_clean(char *text, int *line)
{
	struct scan s = { .p = text, .line = 1 };

	while (*s.p != '\0' && s.wrong == NULL) {
		if (*s.p == '#' || (s.p[0] == '/' && s.p[1] == '/'))
			scan_comment(&s);
		else if (s.p[0] == '/' && s.p[1] == '*')
			scan_long_comment(&s);
		else if (*s.p == '"' || *s.p == '\'')
			scan_string(&s);
		else
			scan_other(&s);
	}
	if (s.wrong == NULL && s.depth > 0)
		scan_fail(&s, "the closing brace of this is missing", s.opened);
	*line = s.wrong_line;
	return s.wrong;
}

static void
scan_comment(struct scan *s)
{
	while (*s->p != '\0' && *s->p != '\n')
		*s->p++ = ' ';
}

static void
scan_long_comment(struct scan *s)
{
	char *end;
	int begin = s->line;

	end = strstr(s->p + 2, "*/");
	if (end == NULL) {
		scan_fail(s, "this comment does not end", begin);
		return;
	}
	for (end += 2; s->p < end; s->p++) {
		if (*s->p == '\n')
			s->line++;
		else
			*s->p = ' ';
	}
}

static void
scan_string(struct scan *s)
{
	char quote = *s->p++;
	int begin = s->line;

	while (*s->p != '\0' && *s->p != quote && s->wrong == NULL) {
		if (*s->p == '\n')
			s->line++;
		if (*s->p == '\\' && quote == '"')
			scan_escape(s);
		else if (*s->p == '\\' && s->p[1] != '\0' && s->p[1] != '\n')
			s->p++;
		s->p++;
	}
	if (s->wrong != NULL)
		return;
	if (*s->p == '\0')
		scan_fail(s, "this string does not end", begin);
	else
		s->p++;
}

/* From the backslash to the last character of its escape. */
static void
scan_escape(struct scan *s)
{
	size_t digits;

	digits = strspn(s->p + 1, "0123456789");
	if (digits > 0) {
		if (strspn(s->p + 1, "01234567") != digits || digits > 3 ||
		    strtol(s->p + 1, NULL, 8) > 0377 ||
		    strtol(s->p + 1, NULL, 8) == 0)
			scan_fail(s,
			    "no such character: \\ takes an octal "
			    "number of 1 to 377",
			    s->line);
		s->p += digits;
	} else if (s->p[1] != '\0') {
		s->p++;
		if (*s->p == '\n')
			s->line++;
	}
}

static void
scan_other(struct scan *s)
{
	switch (*s->p) {
	case '\n':
		s->line++;
		break;
	case '{':
		if (s->depth++ == 0)
			s->opened = s->line;
		break;
	case '*':
	case '+':
		/* libConfuse would read on without it. */
		if (*s->p == '*' || s->p[1] != '=')
			scan_fail(s, "a value with a * or + takes quotes",
			    s->line);
		break;
	case '}':
		if (s->depth-- == 0)
			scan_fail(s, "a closing brace too many", s->line);
		break;
	}
	s->p++;
}

static void
scan_fail(struct scan *s, const char *wrong, int line)
{
	s->wrong = wrong;
	s->wrong_line = line;
}
