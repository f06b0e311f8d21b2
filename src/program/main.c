/*
 * kquay: one program that puts a listener in front of something.
 */
#include <sys/types.h>

#include <err.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "command.h"
#include "complain.h"
#include "service.h"
#include "upgrade.h"

struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *synopsis;
	const char *help;
};

static void fill_standard(void);
static void print_help(FILE *);

static const struct command commands[] = {
	{ "serve", command_serve, "serve HANDLER [-l ADDRESS]... [OPTIONS]",
	    "one service, from the command line" },
	{ "run", command_run, "run [-c FILE]",
	    "all services of a configuration file" },
	{ "check", command_check, "check [-v] [-c FILE]",
	    "read the file and tell every error in it" },
	{ "status", command_control, "status [-j] [-s SOCKET]",
	    "what a running one does" },
	{ "connections", command_control, "connections [-j] [-s SOCKET]",
	    "those that it has" },
	{ "close", command_control, "close [-s SOCKET] ID...",
	    "close connections" },
	{ "drain", command_control, "drain [-s SOCKET] SERVICE|all",
	    "no more callers for a service" },
	{ "reload", command_control, "reload [-s SOCKET]",
	    "read the configuration anew" },
	{ "upgrade", command_control, "upgrade [-s SOCKET]",
	    "hand over to a newer program" },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

int
main(int argc, char **argv)
{
	size_t i;

	setprogname("kquay");
	fill_standard();
	upgrade_remember(argc, argv);
	if (argc < 2) {
		print_help(stderr);
		return EX_USAGE;
	}
	if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		print_help(stdout);
		return command_printed();
	}
	if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0) {
		puts("kquay " KQUAY_VERSION);
		return command_printed();
	}
	for (i = 0; i < NCOMMANDS; i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	complain("no such %s: %s (see kquay --help)",
	    argv[1][0] == '-' ? "option" : "command", argv[1]);
	return EX_USAGE;
}

/*
 * A socket that got the number of a standard descriptor would be written to
 * by whoever complains.  What takes the place of one that is closed cannot be
 * used, so that printing to it still fails.
 */
static void
fill_standard(void)
{
	int fd;

	for (fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) == -1)
			(void)open("/dev/null",
			    fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

static void
print_help(FILE *out)
{
	size_t i;

	for (i = 0; i < NCOMMANDS; i++)
		fprintf(out, "%s kquay %s\n", i == 0 ? "usage:" : "      ",
		    commands[i].synopsis);
	fputs("       kquay --help | --version\n\n", out);
	for (i = 0; i < NCOMMANDS; i++)
		fprintf(out, "  %-13s%s\n", commands[i].name, commands[i].help);
	fputs("\nHandlers:\n", out);
	for (i = 0; service_handlers[i] != NULL; i++)
		fprintf(out, "  %-13s%s\n", service_handlers[i]->name,
		    service_handlers[i]->help);
	fputs("\nMore: kquay COMMAND --help, kquay(8), kquay.conf(5).\n", out);
}

int
command_bad_option(const char *command, int c, char **argv)
{
	const char *last = argv[optind - 1];

	/* A short option may stand in a group: it has no argument to show. */
	if (strncmp(last, "--", 2) == 0)
		complain("%s: %s %s (see kquay %s --help)", command,
		    c == ':' ? "a value is missing after" : "no such option:",
		    last, command);
	else
		complain("%s: %s -%c (see kquay %s --help)", command,
		    c == ':' ? "a value is missing after" : "no such option:",
		    optopt, command);
	return EX_USAGE;
}

int
command_bad_argument(const char *command, const char *arg)
{
	complain("%s: unexpected argument: %s (see kquay %s --help)", command,
	    arg, command);
	return EX_USAGE;
}

int
command_printed(void)
{
	if (fflush(stdout) == EOF || ferror(stdout)) {
		warn("standard output");
		return 1;
	}
	return 0;
}
