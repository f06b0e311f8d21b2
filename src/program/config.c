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
#define MAX_OPTIONS 128 /* settings of all handlers together, and an end */
#define MAX_PLACES 16   /* a service and the sections in it */
#define MANY_FLAGS (CFGF_MULTI | CFGF_KEYSTRVAL)

/* One `name = value` of what is being read. */
struct value {
	TAILQ_ENTRY(value) next;
	char *name; /* of the setting: with that of its section */
	char *text;
	int line;
	int list; /* may come more than once */
};

TAILQ_HEAD(value_list, value);

struct problem {
	int line;  /* 0: of the whole file */
	int order; /* in which it was found */
	char *text;
};

/* What libConfuse is to know in a service, or in a section of one. */
struct place {
	const char *section; /* NULL: the service itself */
	cfg_opt_t options[MAX_OPTIONS];
	size_t n;
};

struct reading {
	struct place root; /* what stands outside of all services */
	struct place places[MAX_PLACES]; /* the service comes first */
	size_t nplaces;
	struct value_list values; /* of the service */
	struct value_list globals;
	struct program_conf *conf;
	struct problem *problems;
	int nproblems;
	int failed;       /* a problem that there was no memory for */
	int unknown;      /* names that libConfuse complained of */
	int unknown_line; /* of the last of them */
};

/* libConfuse's callbacks carry no argument: this is what they work on. */
static struct reading *reading;

static void parse(const char *, char *);
static void fill_places(void);
static struct place *get_place(const char *);
static void add_setting(struct place *, const struct setting *);
static void add_option(struct place *, const cfg_opt_t *);
static int is_option(const cfg_opt_t *, const char *);
static int keep_value(cfg_t *, cfg_opt_t *, const char *, void *);
static int is_root(const cfg_t *);
static char *long_name(const cfg_t *, const char *);
static int end_service(cfg_t *, cfg_opt_t *);
static void rest_of_service(void);
static void check_twice(void);
static const struct value *find_value(const char *);
static const struct value *find_blamed(const char *);
static const struct service_handler *find_handler(const struct value *);
static int apply_values(struct service_conf *);
static void apply_globals(void);
static void check_program(void);
static void drop_values(void);
static void value_free(struct value *);
static void keep_parser_error(cfg_t *, const char *, va_list);
static void find_unknown_in_service(cfg_t *);
static void find_unknown(cfg_t *, const cfg_opt_t *);
static void add_problem(int, const char *, ...)
    __attribute__((__format__(__printf__, 2, 3)));
static int compare_problems(const void *, const void *);
static int tell_problems(const char *);

int
config_read(const char *file, struct program_conf *conf)
{
	struct reading r = { .conf = conf };
	const char *wrong;
	char *text;
	int line, n;

	text = config_text_read(file);
	if (text == NULL) {
		complain("%s: %s", file,
		    errno == EINVAL ? "holds a NUL byte" : strerror(errno));
		return -1;
	}
	if (program_conf_init(conf) == -1) {
		complain("%s: %s", file, strerror(errno));
		free(text);
		return -1;
	}
	TAILQ_INIT(&r.values);
	TAILQ_INIT(&r.globals);
	reading = &r;
	wrong = config_text_clean(text, &line);
	if (wrong != NULL)
		add_problem(line, "%s", wrong);
	else
		parse(file, text);
	free(text);
	if (r.nproblems == 0 && TAILQ_EMPTY(&conf->services))
		add_problem(0, "there is no service in it");
	n = tell_problems(file);
	reading = NULL;
	if (n > 0) {
		program_conf_free(conf);
		return -1;
	}
	return 0;
}

static void
parse(const char *file, char *text)
{
	/*
	 * KEYSTRVAL keeps a name that is unknown and goes on; a service of
	 * the same name as another would replace it.
	 */
	const cfg_opt_t service = CFG_SEC("service", reading->places[0].options,
	    MANY_FLAGS | CFGF_TITLE | CFGF_NO_TITLE_DUPES);
	cfg_opt_t *options = reading->root.options;
	cfg_t *cfg, *section;
	unsigned i;
	FILE *in;

	if (*text == '\0')
		return;
	fill_places();
	add_option(&reading->root, &service);
	in = fmemopen(text, strlen(text), "r");
	cfg = cfg_init(options, CFGF_KEYSTRVAL);
	if (in == NULL || cfg == NULL) {
		add_problem(0, "%s", strerror(ENOMEM));
		goto done;
	}
	cfg->filename = strdup(file);
	cfg_set_error_function(cfg, keep_parser_error);
	cfg_set_validate_func(cfg, "service", end_service);
	if (cfg_parse_fp(cfg, in) != CFG_SUCCESS) {
		rest_of_service();
		if (reading->nproblems == 0)
			add_problem(cfg->line, "cannot be read");
	}
	find_unknown(cfg, options);
	for (i = 0; (section = cfg_getnsec(cfg, "service", i)) != NULL; i++)
		find_unknown_in_service(section);
	drop_values();
	TAILQ_CONCAT(&reading->values, &reading->globals, next);
	check_twice();
	apply_globals();
	if (reading->nproblems == 0)
		check_program();
done:
	drop_values();
	if (cfg != NULL)
		cfg_free(cfg);
	if (in != NULL)
		fclose(in);
}

/* The settings of all handlers, each once. */
static void
fill_places(void)
{
	const cfg_opt_t handler =
	    CFG_STR_CB("handler", NULL, CFGF_NODEFAULT, keep_value);
	const struct setting *s;
	size_t i;
	int h;

	for (i = 0; (s = program_setting(i)) != NULL; i++)
		add_setting(&reading->root, s);
	add_option(get_place(NULL), &handler);
	for (h = 0; service_handlers[h] != NULL; h++)
		for (i = 0;; i++) {
			s = service_setting(service_handlers[h], i);
			if (s == NULL)
				break;
			add_setting(get_place(s->section), s);
		}
}

/* That of a section, NULL: of the service; made if there is none yet. */
static struct place *
get_place(const char *section)
{
	struct place *place;
	size_t n;

	for (n = 0; n < reading->nplaces; n++)
		if (setting_same_section(reading->places[n].section, section))
			return &reading->places[n];
	assert(n < MAX_PLACES);
	place = &reading->places[reading->nplaces++];
	place->section = section;
	if (section != NULL) {
		const cfg_opt_t option =
		    CFG_SEC(section, place->options, MANY_FLAGS);

		add_option(get_place(NULL), &option);
	}
	return place;
}

static void
add_setting(struct place *place, const struct setting *s)
{
	const char *name = setting_name_in_file(s);
	const cfg_opt_t one =
	    CFG_STR_CB(name, NULL, CFGF_NODEFAULT, keep_value);
	const cfg_opt_t list =
	    CFG_STR_LIST_CB(name, NULL, CFGF_NODEFAULT, keep_value);

	if (place->n == 0 || !is_option(place->options, name))
		add_option(place, setting_is_list(s) ? &list : &one);
}

static void
add_option(struct place *place, const cfg_opt_t *option)
{
	static const cfg_opt_t end = CFG_END();

	assert(place->n < MAX_OPTIONS - 1);
	place->options[place->n++] = *option;
	place->options[place->n] = end;
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
	if (v == NULL)
		goto fail;
	v->name = long_name(cfg, option->name);
	v->text = strdup(text);
	if (v->name == NULL || v->text == NULL)
		goto fail;
	v->list = (option->flags & CFGF_LIST) != 0;
	v->line = cfg->line;
	if (is_root(cfg))
		TAILQ_INSERT_TAIL(&reading->globals, v, next);
	else
		TAILQ_INSERT_TAIL(&reading->values, v, next);
	return 0;

fail:
	value_free(v);
	add_problem(cfg->line, "%s", strerror(ENOMEM));
	return -1;
}

static int
is_root(const cfg_t *cfg)
{
	return strcmp(cfg->name, "root") == 0;
}

/* NULL: there is no memory. */
static char *
long_name(const cfg_t *cfg, const char *name)
{
	char *text;
	int n;

	if (is_root(cfg) || strcmp(cfg->name, "service") == 0)
		return strdup(name);
	n = asprintf(&text, "%s-%s", cfg->name, name);
	return n == -1 ? NULL : text;
}

/* The last service so far has come to its closing brace. */
static int
end_service(cfg_t *cfg, cfg_opt_t *option)
{
	const struct service_handler *handler;
	const struct value *named, *blamed;
	struct service_conf *conf;
	const char *title;
	char why[512];

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
	TAILQ_INSERT_TAIL(&reading->conf->services, conf, next);
	/* With values left out, more would seem wrong than is. */
	if (apply_values(conf) == 0 &&
	    service_conf_check(conf, why, sizeof(why)) == -1) {
		blamed = find_blamed(why);
		add_problem(blamed != NULL ? blamed->line : cfg->line,
		    "service \"%s\": %s", title, why);
	}
done:
	drop_values();
	return 0;
}

/* A service broke off: what was read of it may be wrong, too. */
static void
rest_of_service(void)
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

/* What a sentence begins with the name of, or NULL. */
static const struct value *
find_blamed(const char *why)
{
	const struct value *v;
	size_t len = strcspn(why, ":");

	TAILQ_FOREACH(v, &reading->values, next)
		if (strncmp(v->name, why, len) == 0 && v->name[len] == '\0')
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
apply_globals(void)
{
	const struct setting *s;
	const struct value *v;
	char why[512];

	TAILQ_FOREACH(v, &reading->values, next) {
		s = program_setting_find(v->name);
		if (setting_parse(s, reading->conf, v->text, why,
			sizeof(why)) == -1)
			add_problem(v->line, "%s", why);
	}
}

static void
check_program(void)
{
	const struct value *blamed;
	char why[512];

	if (program_conf_check(reading->conf, why, sizeof(why)) == 0)
		return;
	blamed = find_blamed(why);
	add_problem(blamed != NULL ? blamed->line : 0, "%s", why);
}

static void
drop_values(void)
{
	struct value *v;

	while ((v = TAILQ_FIRST(&reading->values)) != NULL) {
		TAILQ_REMOVE(&reading->values, v, next);
		value_free(v);
	}
}

static void
value_free(struct value *v)
{
	if (v == NULL)
		return;
	free(v->name);
	free(v->text);
	free(v);
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
find_unknown_in_service(cfg_t *service)
{
	struct place *place;
	cfg_t *section;
	unsigned i;
	size_t n;

	find_unknown(service, reading->places[0].options);
	for (n = 1; n < reading->nplaces; n++) {
		place = &reading->places[n];
		for (i = 0;; i++) {
			section = cfg_getnsec(service, place->section, i);
			if (section == NULL)
				break;
			find_unknown(section, place->options);
		}
	}
}

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
