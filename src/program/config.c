/*
 * The configuration file.
 *
 * libConfuse reads every value as text and hands it to keep_value(), which
 * only notes it with its line.  When a section ends, its values go through
 * the table of the handler's settings, the same as the command line's.  So
 * one wrong value does not end the reading, and all errors are told, in the
 * order of their lines.
 */
#include <sys/types.h>
#include <sys/queue.h>

#include <assert.h>
#include <err.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <confuse.h>

#include "complain.h"
#include "config.h"
#include "config_text.h"

#define NO_SUCH_SETTING "no such setting '%s'"
#define MAX_OPTIONS 64 /* settings of all handlers together, and an end */

/* One `name = value` of the section that is being read. */
struct value {
	TAILQ_ENTRY(value) next;
	const char *name;
	char *text;
	int line;
	int list; /* may come more than once */
};

struct problem {
	int line;  /* 0: of the whole file */
	int order; /* in which it was found */
	char *text;
};

struct reading {
	cfg_opt_t settings[MAX_OPTIONS];
	TAILQ_HEAD(value_list, value) values;
	struct service_conf_list services;
	struct problem *problems;
	int nproblems;
	int failed;       /* a problem that there was no memory for */
	int unknown;      /* names that libConfuse complained of */
	int unknown_line; /* of the last of them */
};

/* libConfuse's callbacks carry no argument: this is what they work on. */
static struct reading *reading;

static void parse(const char *, char *);
static void fill_settings(cfg_opt_t *);
static int is_option(const cfg_opt_t *, const char *);
static int keep_value(cfg_t *, cfg_opt_t *, const char *, void *);
static int end_section(cfg_t *, cfg_opt_t *);
static void rest_of_section(void);
static void check_twice(void);
static const struct value *find_value(const char *);
static const struct service_handler *find_handler(const struct value *);
static int apply_values(struct service_conf *);
static void drop_values(void);
static void keep_parser_error(cfg_t *, const char *, va_list);
static void find_unknown(cfg_t *, const cfg_opt_t *);
static void add_problem(int, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static int compare_problems(const void *, const void *);
static int tell_problems(const char *);

int
config_read(const char *file, struct service_conf_list *list)
{
	struct reading r = { .problems = NULL };
	const char *wrong;
	char *text;
	int line, n;

	text = config_text_read(file);
	if (text == NULL) {
		complain("%s: %s", file,
		    errno == EINVAL ? "holds a NUL byte" : strerror(errno));
		return -1;
	}
	TAILQ_INIT(&r.values);
	TAILQ_INIT(&r.services);
	reading = &r;
	wrong = config_text_clean(text, &line);
	if (wrong != NULL)
		add_problem(line, "%s", wrong);
	else
		parse(file, text);
	free(text);
	if (r.nproblems == 0 && TAILQ_EMPTY(&r.services))
		add_problem(0, "there is no service in it");
	n = tell_problems(file);
	reading = NULL;
	if (n > 0) {
		service_conf_list_free(&r.services);
		return -1;
	}
	TAILQ_CONCAT(list, &r.services, next);
	return 0;
}

static void
parse(const char *file, char *text)
{
	/*
	 * KEYSTRVAL keeps a name that is unknown and goes on; a service of
	 * the same name as another would replace it.
	 */
	cfg_opt_t options[] = { CFG_SEC("service", reading->settings,
				    CFGF_MULTI | CFGF_TITLE |
					CFGF_NO_TITLE_DUPES | CFGF_KEYSTRVAL),
		CFG_END() };
	cfg_t *cfg, *section;
	unsigned i;
	FILE *in;

	if (*text == '\0')
		return;
	fill_settings(reading->settings);
	in = fmemopen(text, strlen(text), "r");
	cfg = cfg_init(options, CFGF_KEYSTRVAL);
	if (in == NULL || cfg == NULL) {
		add_problem(0, "%s", strerror(ENOMEM));
		goto done;
	}
	cfg->filename = strdup(file);
	cfg_set_error_function(cfg, keep_parser_error);
	cfg_set_validate_func(cfg, "service", end_section);
	if (cfg_parse_fp(cfg, in) != CFG_SUCCESS) {
		rest_of_section();
		if (reading->nproblems == 0)
			add_problem(cfg->line, "cannot be read");
	}
	find_unknown(cfg, options);
	for (i = 0; (section = cfg_getnsec(cfg, "service", i)) != NULL; i++)
		find_unknown(section, reading->settings);
done:
	drop_values();
	if (cfg != NULL)
		cfg_free(cfg);
	if (in != NULL)
		fclose(in);
}

/* The settings of all handlers, each once, as options of a section. */
static void
fill_settings(cfg_opt_t *options)
{
	const cfg_opt_t handler =
	    CFG_STR_CB("handler", NULL, CFGF_NODEFAULT, keep_value);
	const cfg_opt_t end = CFG_END();
	const struct setting *s;
	size_t i, n = 0;
	int h;

	options[n++] = handler;
	options[n] = end;
	for (h = 0; service_handlers[h] != NULL; h++) {
		for (i = 0;; i++) {
			s = service_setting(service_handlers[h], i);
			if (s == NULL)
				break;
			if (is_option(options, s->name))
				continue;
			const cfg_opt_t one = CFG_STR_CB(s->name, NULL,
			    CFGF_NODEFAULT, keep_value);
			const cfg_opt_t list = CFG_STR_LIST_CB(s->name, NULL,
			    CFGF_NODEFAULT, keep_value);

			assert(n < MAX_OPTIONS - 1);
			options[n++] = setting_is_list(s) ? list : one;
			options[n] = end;
		}
	}
}

static int
is_option(const cfg_opt_t *options, const char *name)
{
	for (; options->name != NULL; options++)
		if (strcmp(options->name, name) == 0)
			return 1;
	return 0;
}

static int
keep_value(cfg_t *cfg, cfg_opt_t *option, const char *text, void *result)
{
	struct value *v;

	*(const char **)result = text;
	v = calloc(1, sizeof(*v));
	if (v != NULL)
		v->text = strdup(text);
	if (v == NULL || v->text == NULL) {
		free(v);
		add_problem(cfg->line, "%s", strerror(ENOMEM));
		return -1;
	}
	v->name = option->name;
	v->list = (option->flags & CFGF_LIST) != 0;
	v->line = cfg->line;
	TAILQ_INSERT_TAIL(&reading->values, v, next);
	return 0;
}

/* The last service so far has come to its closing brace. */
static int
end_section(cfg_t *cfg, cfg_opt_t *option)
{
	const struct service_handler *handler;
	const struct value *named;
	struct service_conf *conf;
	const char *title;
	char why[256];

	title = cfg_title(cfg_opt_getnsec(option, cfg_opt_size(option) - 1));
	check_twice();
	named = find_value("handler");
	if (named == NULL)
		add_problem(cfg->line, "service \"%s\": handler: is missing",
		    title);
	handler = find_handler(named);
	if (handler == NULL)
		goto done;
	conf = service_conf_new(handler, title);
	if (conf == NULL) {
		add_problem(cfg->line, "%s", strerror(errno));
		goto done;
	}
	TAILQ_INSERT_TAIL(&reading->services, conf, next);
	/* With values left out, more would seem wrong than is. */
	if (apply_values(conf) == 0 &&
	    service_conf_check(conf, why, sizeof(why)) == -1)
		add_problem(cfg->line, "service \"%s\": %s", title, why);
done:
	drop_values();
	return 0;
}

/* A section broke off: what was read of it may be wrong, too. */
static void
rest_of_section(void)
{
	const struct service_handler *handler;
	struct service_conf *conf;

	check_twice();
	handler = find_handler(find_value("handler"));
	if (handler == NULL)
		return;
	conf = service_conf_new(handler, "");
	if (conf != NULL)
		apply_values(conf);
	service_conf_free(conf);
}

/* What is given twice is a mistake: which one was meant? */
static void
check_twice(void)
{
	const struct value *v, *first;

	TAILQ_FOREACH(v, &reading->values, next) {
		first = find_value(v->name);
		if (first != v && !v->list)
			add_problem(v->line,
			    "%s: given twice, first on line "
			    "%d",
			    v->name, first->line);
	}
}

/* The first value of that name, or NULL. */
static const struct value *
find_value(const char *name)
{
	const struct value *v;

	TAILQ_FOREACH(v, &reading->values, next)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

static const struct service_handler *
find_handler(const struct value *named)
{
	const struct service_handler *handler;
	char names[256];

	if (named == NULL)
		return NULL;
	handler = service_handler_find(named->text);
	if (handler == NULL)
		add_problem(named->line, "handler: '%s' is none of %s",
		    named->text, service_handler_names(names, sizeof(names)));
	return handler;
}

/* Returns 0, or -1 if a value was wrong. */
static int
apply_values(struct service_conf *conf)
{
	const struct setting *s;
	const struct value *v;
	char why[512];
	int before = reading->nproblems;

	TAILQ_FOREACH(v, &reading->values, next) {
		if (strcmp(v->name, "handler") == 0)
			continue;
		s = service_setting_find(conf->handler, v->name);
		if (s == NULL)
			add_problem(v->line, "%s: not a setting of handler %s",
			    v->name, conf->handler->name);
		else if (setting_parse(s, conf, v->text, why, sizeof(why)) ==
		    -1)
			add_problem(v->line, "%s", why);
	}
	return reading->nproblems == before ? 0 : -1;
}

static void
drop_values(void)
{
	struct value *v;

	while ((v = TAILQ_FIRST(&reading->values)) != NULL) {
		TAILQ_REMOVE(&reading->values, v, next);
		free(v->text);
		free(v);
	}
}

/* libConfuse goes on after an unknown name, and may stumble at its value. */
static __attribute__((format(printf, 2, 0))) void
keep_parser_error(cfg_t *cfg, const char *format, va_list ap)
{
	char text[512];

	if (strcmp(format, "no such option '%s'") == 0) {
		reading->unknown++;
		reading->unknown_line = cfg->line;
		format = NO_SUCH_SETTING;
	} else if (reading->unknown_line == cfg->line)
		return;
	vsnprintf(text, sizeof(text), format, ap);
	add_problem(cfg->line, "%s", text);
}

/*
 * Not every version of libConfuse complains of the names that KEYSTRVAL
 * keeps, and none may let them pass.
 */
static void
find_unknown(cfg_t *cfg, const cfg_opt_t *known)
{
	cfg_opt_t *option;
	unsigned i;

	for (i = 0; (option = cfg_getnopt(cfg, i)) != NULL; i++) {
		if (is_option(known, option->name))
			continue;
		if (reading->unknown > 0)
			reading->unknown--;
		else
			add_problem(0, NO_SUCH_SETTING, option->name);
	}
}

static void
add_problem(int line, const char *format, ...)
{
	struct problem *grown, *p;
	va_list ap;
	int n = reading->nproblems;

	grown = reallocarray(reading->problems, (size_t)n + 1, sizeof(*p));
	if (grown == NULL) {
		reading->failed = 1;
		return;
	}
	reading->problems = grown;
	p = &grown[n];
	p->line = line;
	p->order = n;
	va_start(ap, format);
	if (vasprintf(&p->text, format, ap) == -1)
		reading->failed = 1;
	else
		reading->nproblems++;
	va_end(ap);
}

static int
compare_problems(const void *a, const void *b)
{
	const struct problem *p = a, *q = b;

	return p->line != q->line ? p->line - q->line : p->order - q->order;
}

/* Tell and free them; returns their number. */
static int
tell_problems(const char *file)
{
	struct problem *p;
	int i, n = reading->nproblems;

	if (n > 0)
		qsort(reading->problems, (size_t)n, sizeof(*p),
		    compare_problems);
	for (i = 0; i < n; i++) {
		p = &reading->problems[i];
		complain_at(file, p->line, p->text);
		free(p->text);
	}
	free(reading->problems);
	if (reading->failed) {
		complain_at(file, 0, strerror(ENOMEM));
		n++;
	}
	return n;
}

void
config_print(const struct service_conf_list *list, FILE *out)
{
	const struct service_conf *conf;
	const struct setting *s;
	size_t i;

	TAILQ_FOREACH(conf, list, next) {
		fputs("service ", out);
		setting_print_quoted(conf->name, out);
		fputs(" {\n\thandler = ", out);
		setting_print_quoted(conf->handler->name, out);
		putc('\n', out);
		for (i = 0; (s = service_setting(conf->handler, i)) != NULL;
		     i++) {
			fprintf(out, "\t%s = ", s->name);
			setting_print(s, conf, out);
			putc('\n', out);
		}
		fputs("}\n", out);
	}
}
