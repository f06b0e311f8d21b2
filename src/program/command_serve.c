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

static int read_options(struct service_conf *, int, char **);
static void fill_options(const struct service_handler *, struct option *,
    char *);
static const struct setting *find_option(const struct service_handler *, int);
static void print_help(const struct service_handler *);
static void print_setting(const struct setting *);

int
command_serve(int argc, char **argv)
{
	struct service_conf_list list = TAILQ_HEAD_INITIALIZER(list);
	const struct service_handler *handler;
	struct service_conf *conf;
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
	if (conf == NULL)
		err(1, NULL);
	TAILQ_INSERT_TAIL(&list, conf, next);
	code = read_options(conf, argc - 1, argv + 1);
	if (code == -1)
		code = serve(&list);
	service_conf_list_free(&list);
	return code;
}

/* Returns what to exit with, or -1 to go on. */
static int
read_options(struct service_conf *conf, int argc, char **argv)
{
	struct option longs[MAX_OPTIONS];
	char shorts[2 * MAX_OPTIONS];
	const struct setting *s;
	char command[64], why[512];
	int c;

	snprintf(command, sizeof(command), "serve %s", conf->handler->name);
	fill_options(conf->handler, longs, shorts);
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		if (c == 'h') {
			print_help(conf->handler);
			return command_printed();
		}
		if (c == '?' || c == ':')
			return command_bad_option(command, c, argv);
		s = find_option(conf->handler, c);
		if (setting_parse(s, conf, optarg, why, sizeof(why)) == -1) {
			complain("%s", why);
			return EX_USAGE;
		}
	}
	if (optind < argc && conf->handler->operands == NULL)
		return command_bad_argument(command, argv[optind]);
	for (; optind < argc; optind++) {
		s = service_setting_find(conf->handler,
		    conf->handler->operands);
		if (setting_parse(s, conf, argv[optind], why, sizeof(why)) ==
		    -1) {
			complain("%s", why);
			return EX_USAGE;
		}
	}
	if (TAILQ_EMPTY(&conf->listen))
		address_list_add(&conf->listen, DEFAULT_LISTEN, why,
		    sizeof(why));
	if (service_conf_check(conf, why, sizeof(why)) == -1) {
		complain("%s", why);
		return EX_USAGE;
	}
	return -1;
}

/* The i-th setting is FIRST_LONG + i as a long option, its letter as a short.
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
		s = service_setting(handler, (size_t)i);
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
		return service_setting(handler, (size_t)(c - FIRST_LONG));
	for (i = 0;; i++) {
		s = service_setting(handler, i);
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
		for (i = 0; (s = service_setting(handler, i)) != NULL; i++)
			print_setting(s);
	}
	puts("\nADDRESS  HOST:PORT, :PORT or *:PORT (every address), [V6]:PORT,"
	     "\n         unix:PATH, fd:N; without -l: " DEFAULT_LISTEN
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
