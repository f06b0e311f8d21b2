/*
 * kquay status, connections, close, drain, reload, upgrade: what is asked of a
 * running kquay through its control socket.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "command.h"
#include "complain.h"
#include "request.h"

#define MAX_OPTIONS 16
#define ANSWER_TIME 120 /* s without a byte */
#define HEAD_MAX 64     /* the answer's first line */
#define ERROR_MAX 65536

struct control_command {
	const char *name;
	enum request_verb verb;
	const char *shorts; /* options, as for getopt_long() */
	const char *operand;
	const char *what;
};

static const struct control_command commands[] = {
	{ "status", REQUEST_STATUS, ":hs:j", NULL,
	    "Show the services, what they have done and how their targets "
	    "are." },
	{ "connections", REQUEST_CONNECTIONS, ":hs:jS:P:a:n:", NULL,
	    "List connections that are open, by their ids." },
	{ "close", REQUEST_CLOSE, ":hs:S:P:", "[ID]...",
	    "Close connections: those with the ids, or all that are "
	    "selected." },
	{ "drain", REQUEST_DRAIN, ":hs:", "SERVICE|all",
	    "Close the listeners of a service; its connections go on." },
	{ "reload", REQUEST_RELOAD, ":hs:", NULL,
	    "Read the configuration and the certificates anew." },
	{ "upgrade", REQUEST_UPGRADE, ":hs:", NULL,
	    "Hand the listeners over to the program as it is installed now." },
};
#define NCOMMANDS (sizeof(commands) / sizeof(commands[0]))

static const struct {
	int letter;
	const char *text;
} option_help[] = {
	{ 's', "-s, --socket PATH     ask there [" KQUAY_CONTROL "]" },
	{ 'j', "-j, --json            print JSON" },
	{ 'S', "    --service NAME    only those of this service" },
	{ 'P',
	    "    --peer WHO        only those from there: an address or "
	    "network, unix,\n"
	    "                        uid:USER, gid:GROUP" },
	{ 'n', "-n, --limit N         so many at most [1000]" },
	{ 'a', "    --after ID        those with larger ids" },
};

struct options {
	const char *socket;
	struct request request;
};

static const struct control_command *find_command(const char *);
static int read_options(const struct control_command *, struct options *, int,
    char **);
static void fill_options(const struct control_command *, struct option *);
static int read_number(const char *, const char *, uint64_t, uint64_t *);
static int close_ids(struct options *, int, char **);
static void print_help(const struct control_command *);
static int ask(const char *, const struct request *);
static int call(const char *, int *);
static int send_request(const char *, int, const struct request *);
static int read_answer(const char *, FILE *);
static int copy_answer(const char *, FILE *, unsigned long long);
static int cut_off(const char *, FILE *);
static int tell_error(const char *, FILE *, unsigned long long);

int
command_control(int argc, char **argv)
{
	const struct control_command *command = find_command(argv[0]);
	struct options options = { .socket = KQUAY_CONTROL,
		.request = { .verb = command->verb, .limit = REQUEST_LIMIT } };
	struct request *r = &options.request;
	int code;

	code = read_options(command, &options, argc, argv);
	if (code != -1)
		return code;
	argc -= optind;
	argv += optind;
	if (argc > 0 && command->operand == NULL)
		return command_bad_argument(command->name, argv[0]);
	if (r->verb == REQUEST_DRAIN) {
		if (argc != 1) {
			complain("drain: name one service, or all");
			return EX_USAGE;
		}
		r->name = argv[0];
	}
	if (r->verb == REQUEST_CLOSE && argc > 0)
		return close_ids(&options, argc, argv);
	if (r->verb == REQUEST_CLOSE && r->service == NULL && r->peer == NULL) {
		complain("close: say which: an ID, --service or --peer");
		return EX_USAGE;
	}
	return ask(options.socket, r);
}

static const struct control_command *
find_command(const char *name)
{
	size_t i;

	for (i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	abort();
}

/* Returns what to exit with, or -1 to go on. */
static int
read_options(const struct control_command *command, struct options *options,
    int argc, char **argv)
{
	struct option longs[MAX_OPTIONS];
	struct request *r = &options->request;
	uint64_t number;
	int c;

	fill_options(command, longs);
	opterr = 0;
	while (
	    (c = getopt_long(argc, argv, command->shorts, longs, NULL)) != -1) {
		switch (c) {
		case 'a':
			if (read_number("after", optarg, UINT64_MAX,
				&r->after) == -1)
				return EX_USAGE;
			break;
		case 'h':
			print_help(command);
			return command_printed();
		case 'j':
			r->json = 1;
			break;
		case 'n':
			if (read_number("limit", optarg, REQUEST_LIMIT_MAX,
				&number) == -1)
				return EX_USAGE;
			r->limit = (uint32_t)number;
			break;
		case 'P':
			r->peer = optarg;
			break;
		case 'S':
			r->service = optarg;
			break;
		case 's':
			options->socket = optarg;
			break;
		default:
			return command_bad_option(command->name, c, argv);
		}
	}
	return -1;
}

/* Those that the command has. */
static void
fill_options(const struct control_command *command, struct option *longs)
{
	static const struct option all[] = {
		{ "after", required_argument, NULL, 'a' },
		{ "help", no_argument, NULL, 'h' },
		{ "json", no_argument, NULL, 'j' },
		{ "limit", required_argument, NULL, 'n' },
		{ "peer", required_argument, NULL, 'P' },
		{ "service", required_argument, NULL, 'S' },
		{ "socket", required_argument, NULL, 's' },
	};
	static const struct option end = { NULL, 0, NULL, 0 };
	size_t i;

	for (i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		if (strchr(command->shorts, all[i].val) != NULL)
			*longs++ = all[i];
	*longs = end;
}

/* From 1 to max.  0, or -1 having complained. */
static int
read_number(const char *what, const char *text, uint64_t max, uint64_t *number)
{
	char why[256];

	if (request_number(what, text, max, number, why, sizeof(why)) == 0)
		return 0;
	complain("%s", why);
	return -1;
}

/* One request for each.  All are looked at before the first one is closed. */
static int
close_ids(struct options *options, int argc, char **argv)
{
	struct request *r = &options->request;
	int code = 0, i;

	for (i = 0; i < argc; i++)
		if (read_number("id", argv[i], UINT64_MAX, &r->id) == -1)
			return EX_USAGE;
	for (i = 0; i < argc && code == 0; i++) {
		read_number("id", argv[i], UINT64_MAX, &r->id);
		code = ask(options->socket, r);
	}
	return code;
}

static void
print_help(const struct control_command *command)
{
	size_t i;

	printf("usage: kquay %s [OPTIONS]%s%s\n\n%s\n\n", command->name,
	    command->operand != NULL ? " " : "",
	    command->operand != NULL ? command->operand : "", command->what);
	for (i = 0; i < sizeof(option_help) / sizeof(option_help[0]); i++)
		if (strchr(command->shorts, option_help[i].letter) != NULL)
			printf("  %s\n", option_help[i].text);
}

/* Returns what to exit with. */
static int
ask(const char *path, const struct request *request)
{
	FILE *in;
	int code, fd;

	code = call(path, &fd);
	if (code != 0)
		return code;
	in = fdopen(fd, "r");
	if (in == NULL) {
		warn("%s", path);
		close(fd);
		return 1;
	}
	code = send_request(path, fd, request);
	if (code == 0)
		code = read_answer(path, in);
	fclose(in);
	return code;
}

static int
call(const char *path, int *fd)
{
	struct sockaddr_un sun = { .sun_family = AF_UNIX };
	struct timeval patience = { .tv_sec = ANSWER_TIME };
	int code;

	if (strlcpy(sun.sun_path, path, sizeof(sun.sun_path)) >=
	    sizeof(sun.sun_path)) {
		complain("%s: the path is too long for a socket", path);
		return EX_USAGE;
	}
	*fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (*fd == -1) {
		warn("socket");
		return 1;
	}
	setsockopt(*fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	if (connect(*fd, (struct sockaddr *)&sun, sizeof(sun)) == 0)
		return 0;
	if (errno == ENOENT || errno == ECONNREFUSED) {
		complain("%s: no kquay listens there (see -s and the setting "
			 "control)",
		    path);
		close(*fd);
		return EX_UNAVAILABLE;
	}
	code = errno == EACCES ? EX_NOPERM : 1;
	complain("%s: %s", path, strerror(errno));
	close(*fd);
	return code;
}

static int
send_request(const char *path, int fd, const struct request *request)
{
	char *line = NULL;
	size_t len, sent;
	ssize_t n;
	FILE *out;

	out = open_memstream(&line, &len);
	if (out == NULL)
		err(1, NULL);
	request_print(request, out);
	if (fclose(out) == EOF)
		err(1, NULL);
	for (sent = 0; sent < len; sent += (size_t)n) {
		n = send(fd, line + sent, len - sent, MSG_NOSIGNAL);
		if (n == -1)
			break;
	}
	free(line);
	/* Who has hung up may have said why before. */
	if (sent < len && errno != EPIPE) {
		complain("%s: %s", path, strerror(errno));
		return 1;
	}
	return 0;
}

static int
read_answer(const char *path, FILE *in)
{
	unsigned long long len;
	char head[HEAD_MAX], *number, *end;

	if (fgets(head, sizeof(head), in) == NULL)
		goto broken;
	number = strchr(head, ' ');
	if (number == NULL || !isdigit((unsigned char)number[1]))
		goto broken;
	*number++ = '\0';
	errno = 0;
	len = strtoull(number, &end, 10);
	if (strcmp(end, "\n") != 0 || errno != 0)
		goto broken;
	if (strcmp(head, "ok") == 0)
		return copy_answer(path, in, len);
	if (strcmp(head, "error") == 0)
		return tell_error(path, in, len);

broken:
	complain("%s: %s", path,
	    ferror(in) ? strerror(errno) : "no answer that makes sense");
	return 1;
}

static int
copy_answer(const char *path, FILE *in, unsigned long long len)
{
	char buf[8192];
	size_t n, part;

	for (; len > 0; len -= n) {
		part = len < sizeof(buf) ? (size_t)len : sizeof(buf);
		n = fread(buf, 1, part, in);
		fwrite(buf, 1, n, stdout);
		if (n < part)
			return cut_off(path, in);
	}
	return command_printed();
}

static int
cut_off(const char *path, FILE *in)
{
	(void)fflush(stdout);
	complain("%s: %s", path,
	    ferror(in) ? strerror(errno) : "the answer is cut off");
	return 1;
}

/* It may have several lines, some of them as kquay itself complains. */
static int
tell_error(const char *path, FILE *in, unsigned long long len)
{
	static const char ours[] = "kquay: ";
	char text[ERROR_MAX], *rest = text, *line;
	size_t part = len < sizeof(text) ? (size_t)len : sizeof(text) - 1;

	if (fread(text, 1, part, in) < part)
		return cut_off(path, in);
	text[part] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (strncmp(line, ours, strlen(ours)) == 0)
			line += strlen(ours);
		if (*line != '\0')
			complain("%s", line);
	}
	return 1;
}
