/*
 * Complaints: each becomes one harmless line, and is written as a whole.
 */
#include <sys/types.h>

#include <ctype.h>
#include <err.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "complain.h"

static _Thread_local FILE *listener;

static void say(char *);

FILE *
complain_to(FILE *out)
{
	FILE *before = listener;

	listener = out;
	return before;
}

void
complain(const char *format, ...)
{
	char *text, *line = NULL;
	va_list ap;

	va_start(ap, format);
	if (vasprintf(&text, format, ap) == -1)
		text = NULL;
	va_end(ap);
	if (text != NULL &&
	    asprintf(&line, "%s: %s", getprogname(), text) == -1)
		line = NULL;
	free(text);
	say(line);
}

void
complain_at(const char *file, int line, const char *wrong)
{
	char *text;
	int n;

	if (line > 0)
		n = asprintf(&text, "%s:%d: %s", file, line, wrong);
	else
		n = asprintf(&text, "%s: %s", file, wrong);
	say(n == -1 ? NULL : text);
}

/* Takes the text over; NULL: there was no memory for it. */
static void
say(char *text)
{
	char *p;

	if (text == NULL) {
		warnx("out of memory");
		return;
	}
	for (p = text; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			*p = '?';
	fprintf(listener != NULL ? listener : stderr, "%s\n", text);
	free(text);
}
