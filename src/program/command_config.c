/*
 * kquay run and kquay check: the services of a configuration file.
 */
#include <sys/types.h>

#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "command.h"
#include "config.h"
#include "memory.h"
#include "serve.h"

struct options {
	const char *file;
	int verbose;
};

static int read_options(struct options *, const char *, int, char **);
static void print_help(const char *);

int
command_run(int argc, char **argv)
{
	struct program_conf conf;
	struct options options;
	int code;

	code = read_options(&options, ":hc:", argc, argv);
	if (code != -1)
		return code;
	if (config_read(options.file, &conf) == -1)
		return EX_CONFIG;
	conf.file = options.file;
	return serve(&conf);
}

int
command_check(int argc, char **argv)
{
	struct program_conf conf;
	struct options options;
	int code;

	code = read_options(&options, ":hc:v", argc, argv);
	if (code != -1)
		return code;
	if (config_read(options.file, &conf) == -1)
		return EX_CONFIG;
	if (options.verbose) {
		config_print(&conf, stdout);
		memory_print(&conf, stdout);
	}
	program_conf_free(&conf);
	return command_printed();
}

/* Returns what to exit with, or -1 to go on. */
static int
read_options(struct options *options, const char *shorts, int argc, char **argv)
{
	static const struct option longs[] = { { "config", required_argument,
						   NULL, 'c' },
		{ "help", no_argument, NULL, 'h' },
		{ "verbose", no_argument, NULL, 'v' }, { NULL, 0, NULL, 0 } };
	int c;

	options->file = KQUAY_CONF;
	options->verbose = 0;
	opterr = 0;
	while ((c = getopt_long(argc, argv, shorts, longs, NULL)) != -1) {
		/* The long form of a letter that this command has not. */
		if (c != ':' && strchr(shorts, c) == NULL)
			c = '?';
		switch (c) {
		case 'c':
			options->file = optarg;
			break;
		case 'v':
			options->verbose = 1;
			break;
		case 'h':
			print_help(argv[0]);
			return command_printed();
		default:
			return command_bad_option(argv[0], c, argv);
		}
	}
	if (optind < argc)
		return command_bad_argument(argv[0], argv[optind]);
	return -1;
}

static void
print_help(const char *command)
{
	if (strcmp(command, "check") == 0)
		puts("usage: kquay check [-v] [-c FILE]\n\n"
		     "Read the file and tell every error in it.\n\n"
		     "  -v, --verbose      print every setting, the defaults "
		     "too");
	else
		puts("usage: kquay run [-c FILE]\n\n"
		     "Run all services of the file.\n");
	puts("  -c, --config FILE  read this file [" KQUAY_CONF "]\n\n"
	     "The file is described in kquay.conf(5).");
}
