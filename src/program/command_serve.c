/*
 * kquay serve: one service, whose settings are the options.
 */
#include <sys/types.h>

#include <assert.h>
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "command.h"
#include "complain.h"
#include "serve.h"

#define MAX_OPTIONS 128
#define FIRST_LONG 256 /* getopt_long()'s value of the first setting */
#define DEFAULT_LISTEN "localhost:8080"

static int read_options(struct program_conf *, int, char **);
static int check_missing(const struct service_conf *, const char *);
static int set(const struct setting *, struct program_conf *, const char *);
static const struct setting *option(const struct service_handler *, size_t);
static void fill_options(const struct service_handler *, struct option *,
    char *);
static const struct setting *find_option(const struct service_handler *, int);
static void print_help(const struct service_handler *);
static void print_setting(const struct setting *);

int
command_serve(int argc, char **argv)
{
	const struct service_handler *handler;
	struct service_conf *conf;
	struct program_conf program;
	char names[256];
	int code;

	if (argc < 2) {
		warnx("serve: the handler is missing: %s",
		    service_handler_names(names, sizeof(names)));
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(NULL);
		return command_printed();
	}
	handler = service_handler_find(argv[1]);
	if (handler == NULL) {
		complain("serve: '%s' is none of the handlers: %s", argv[1],
		    service_handler_names(names, sizeof(names)));
		return EX_USAGE;
	}
	conf = service_conf_new(handler, handler->name);
	if (conf == NULL || program_conf_init(&program) == -1)
		err(1, NULL);
	TAILQ_INSERT_TAIL(&program.services, conf, next);
	code = read_options(&program, argc - 1, argv + 1);
	if (code == -1)
		return serve(&program);
	program_conf_free(&program);
	return code;
}

/* Returns what to exit with, or -1 to go on. */
static int
read_options(struct program_conf *program, int argc, char **argv)
{
	struct service_conf *conf = TAILQ_FIRST(&program->services);
	const struct service_handler *handler = conf->handler;
	struct option longs[MAX_OPTIONS];
	char shorts[2 * MAX_OPTIONS], command[64], why[512];
	const struct setting *s;
	int c;

	snprintf(command, sizeof(command), "serve %s", handler->name);
	fill_options(handler, longs, shorts);
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (c == 'h') {
			print_help(handler);
			return command_printed();
		}
		if (c == '?' || c == ':')
			return command_bad_option(command, c, argv);
		s = find_option(handler, c);
		if (set(s, program, optarg) == -1)
			return EX_USAGE;
	}
	if (optind < argc && handler->operands == NULL)
		return command_bad_argument(command, argv[optind]);
	for (; optind < argc; optind++) {
		s = service_setting_find(handler, handler->operands);
		if (set(s, program, argv[optind]) == -1)
			return EX_USAGE;
	}
	if (TAILQ_EMPTY(&conf->listen))
		address_list_add(&conf->listen, DEFAULT_LISTEN, why,
		    sizeof(why));
	if (check_missing(conf, command) == -1)
		return EX_USAGE;
	if (service_conf_check(conf, why, sizeof(why)) == -1 ||
	    program_conf_check(program, why, sizeof(why)) == -1) {
		complain("%s", why);
		return EX_USAGE;
	}
	return -1;
}

/* 0, or -1 having said how to give what is missing. */
static int
check_missing(const struct service_conf *conf, const char *command)
{
	const struct setting *s = service_conf_missing(conf);
	const char *operands = conf->handler->operands;

	if (s == NULL)
		return 0;
	if (operands != NULL && strcmp(s->name, operands) == 0)
		complain("%s: the %s is missing after -- (see kquay %s --help)",
		    command, s->name, command);
	else
		complain("%s: --%s %s is missing (see kquay %s --help)",
		    command, s->name, s->arg, command);
	return -1;
}

/* 0, or -1 having said what is wrong. */
static int
set(const struct setting *s, struct program_conf *program, const char *text)
{
	char why[512];
	void *conf = TAILQ_FIRST(&program->services);

	if (program_setting_find(s->name) == s)
		conf = program;
	if (setting_parse(s, conf, text, why, sizeof(why)) == 0)
		return 0;
	complain("%s", why);
	return -1;
}

/*
 * The settings of a handler, then those of the program whose names it has not
 * taken; counted from 0, NULL is the end.
 */
static const struct setting *
option(const struct service_handler *handler, size_t i)
{
	const struct setting *s;
	size_t n = 0;

	for (; (s = service_setting(handler, n)) != NULL; n++)
		if (n == i)
			return s;
	for (i -= n, n = 0; (s = program_setting(n)) != NULL; n++)
		if (service_setting_find(handler, s->name) == NULL && i-- == 0)
			return s;
	return NULL;
}

/*
 * The i-th setting is FIRST_LONG + i as a long option, its letter as a short.
 */
static void
fill_options(const struct service_handler *handler, struct option *longs,
    char *shorts)
{
	static const struct option help = { "help", no_argument, NULL, 'h' };
	static const struct option end = { NULL, 0, NULL, 0 };
	const struct setting *s;
	int i;

	/* What follows the first operand is an operand, too. */
	shorts = stpcpy(shorts, handler->operands != NULL ? "+:h" : ":h");
	for (i = 0;; i++) {
		s = option(handler, (size_t)i);
		if (s == NULL)
			break;
		assert(i < MAX_OPTIONS - 2);
		longs[i].name = s->name;
		longs[i].has_arg = required_argument;
		longs[i].flag = NULL;
		longs[i].val = FIRST_LONG + i;
		if (s->letter != 0) {
			*shorts++ = (char)s->letter;
			*shorts++ = ':';
		}
	}
	*shorts = '\0';
	longs[i++] = help;
	longs[i] = end;
}

static const struct setting *
find_option(const struct service_handler *handler, int c)
{
	const struct setting *s;
	size_t i;

	if (c >= FIRST_LONG)
		return option(handler, (size_t)(c - FIRST_LONG));
	for (i = 0;; i++) {
		s = option(handler, i);
		if (s == NULL || s->letter == c)
			return s;
	}
}

/* NULL: of no handler in particular. */
static void
print_help(const struct service_handler *handler)
{
	const struct setting *s;
	size_t i;

	if (handler == NULL) {
		puts("usage: kquay serve HANDLER [-l ADDRESS]... [OPTIONS]\n\n"
		     "Handlers, each with --help for its options:");
		for (i = 0; service_handlers[i] != NULL; i++)
			printf("  %-10s%s\n", service_handlers[i]->name,
			    service_handlers[i]->help);
	} else {
		printf("usage: kquay serve %s [-l ADDRESS]... [OPTIONS]%s\n\n"
		       "%s: %s\n\n",
		    handler->name,
		    handler->operands == NULL ? "" : " [--] WORD...",
		    handler->name, handler->help);
		for (i = 0; (s = option(handler, i)) != NULL; i++)
			print_setting(s);
	}
	puts("\nADDRESS  HOST:PORT, :PORT or *:PORT (every address), [V6]:PORT,"
	     "\n         unix:PATH, fd:N, systemd:[NAME]; without "
	     "-l: " DEFAULT_LISTEN
	     "\nTIME     500ms, 30s, 10m, 2h, 1d; a bare number is seconds"
	     "\nSIZE     512, 64k, 1M");
}

static void
print_setting(const struct setting *s)
{
	char left[64], letter[8] = "    ";

	if (s->letter != 0)
		snprintf(letter, sizeof(letter), "-%c, ", s->letter);
	snprintf(left, sizeof(left), "%s--%s %s", letter, s->name, s->arg);
	printf("  %-28s  %s", left, s->help);
	if (s->def != NULL)
		printf(" [%s]", *s->def == '\0' ? "\"\"" : s->def);
	putchar('\n');
}
