/*
 * A configuration written out: every setting, the defaults too, as a file that
 * reads the same.
 */
#include <sys/types.h>

#include <stdlib.h>

#include "config.h"

static void print_service(const struct service_conf *, FILE *);
static void print_settings(const struct service_conf *, const char *,
    const char *, FILE *);
static int is_first(const struct service_handler *, size_t);

void
config_print(const struct program_conf *conf, FILE *out)
{
	const struct service_conf *service;
	const struct setting *s;
	size_t i;

	for (i = 0; (s = program_setting(i)) != NULL; i++) {
		fprintf(out, "%s = ", s->name);
		setting_print(s, conf, out);
		putc('\n', out);
	}
	TAILQ_FOREACH(service, &conf->services, next)
		print_service(service, out);
}

char *
config_text_of(const struct service_conf *conf)
{
	char *text = NULL;
	size_t len;
	FILE *out;

	out = open_memstream(&text, &len);
	if (out == NULL)
		return NULL;
	print_service(conf, out);
	if (fclose(out) == 0)
		return text;
	free(text);
	return NULL;
}

static void
print_service(const struct service_conf *conf, FILE *out)
{
	const struct setting *s;
	size_t i;

	fputs("service ", out);
	setting_print_quoted(conf->name, out);
	fputs(" {\n\thandler = ", out);
	setting_print_quoted(conf->handler->name, out);
	putc('\n', out);
	print_settings(conf, NULL, "\t", out);
	for (i = 0; (s = service_setting(conf->handler, i)) != NULL; i++) {
		if (s->section == NULL || !is_first(conf->handler, i))
			continue;
		fprintf(out, "\t%s {\n", s->section);
		print_settings(conf, s->section, "\t\t", out);
		fputs("\t}\n", out);
	}
	fputs("}\n", out);
}

/* The settings of one section, NULL: those outside of all sections. */
static void
print_settings(const struct service_conf *conf, const char *section,
    const char *indent, FILE *out)
{
	const struct setting *s;
	size_t i;

	for (i = 0; (s = service_setting(conf->handler, i)) != NULL; i++) {
		if (!setting_same_section(s->section, section))
			continue;
		fprintf(out, "%s%s = ", indent, setting_name_in_file(s));
		setting_print(s, conf, out);
		putc('\n', out);
	}
}

/* Is the i-th setting the first of its section? */
static int
is_first(const struct service_handler *handler, size_t i)
{
	const char *section = service_setting(handler, i)->section;

	while (i-- > 0)
		if (setting_same_section(service_setting(handler, i)->section,
			section))
			return 0;
	return 1;
}
