/*
 * The program's commands.  Each gets its arguments, argv[0] its own name, and
 * returns what to exit with.
 */
#ifndef KQUAY_COMMAND_H
#define KQUAY_COMMAND_H

#include <getopt.h>

int command_serve(int argc, char **argv);
int command_run(int argc, char **argv);
int command_check(int argc, char **argv);
int command_control(int argc, char **argv); /* status and others */

/*
 * Tell what getopt_long() returned '?' or ':' for, and where help is: "kquay
 * COMMAND --help".  Returns EX_USAGE.
 */
int command_bad_option(const char *command, int c, char **argv);

/* Tell that arg is one argument too many.  Returns EX_USAGE. */
int command_bad_argument(const char *command, const char *arg);

/*
 * What the command had to print has been printed.  Returns what to exit with:
 * 0, or 1 having said why it could not all be written.
 */
int command_printed(void);

#endif
