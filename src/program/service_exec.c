/*
 * exec: a program for each connection.
 *
 * With io = socket the connection itself is the program's standard input and
 * output, and we are out of it until the program has ended (kquay_detach).
 * With io = pipes we carry the bytes, so that TLS may be in front of them:
 *
 *	           exec_input()      in
 *	peer ------> caller -------> program    full: the caller is paused
 *	peer <------ caller <------- program    full: out is not watched
 *	            on_output()      out
 *
 * What either side ends is ended for the other, and the other way stays.
 *
 * A connection's slot is taken until its program has ended, so max-connections
 * and max-per-source are limits of programs.  Whose connection goes before that
 * is told to end (child.h).
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/ioctl.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "account.h"
#include "child.h"
#include "launch.h"
#include "log.h"
#include "running.h"
#include "sandbox.h"
#include "session.h"
#include "ucspi.h"
#include "words.h"

enum io { IO_SOCKET, IO_PIPES };
enum error_output { ERRORS_INHERIT, ERRORS_PEER, ERRORS_DISCARD, ERRORS_LOG };

enum {
	/*
	 * Queued output after which the library will call drained: its outhi.
	 */
	QUEUED_MAX = 65536,
	READ_MAX = 65536 /* of a program's output at once */
};

struct exec_conf {
	struct service_conf base;
	struct words command, environment;
	char *user, *group, *directory;
	int io;     /* enum io */
	int errors; /* enum error_output */
	/* What that means on this machine, as of exec_check(). */
	struct account account;
	char path[PATH_MAX];
};

/* Of each connection. */
struct job {
	struct child *child; /* NULL: it has ended */
	int in, out;         /* pipes to and from it, or -1 */
	int left;            /* bytes in out, once it has ended */
};

#define OFFSET(member) offsetof(struct exec_conf, member)

static int prepare(struct kquay_conn *, struct launch *);
static int open_pipes(struct kquay_conn *, struct launch *);
static void close_pipe(struct kquay_conn *, int *, int);
static void output_ended(struct kquay_conn *);
static int watch(struct kquay_conn *, int, int, int, kquay_watch_fn *);
static kquay_watch_fn on_room;
static kquay_watch_fn on_output;

static inline const struct exec_conf *
conf_of(const struct kquay_conn *c)
{
	return (const struct exec_conf *)service_conf_of(kquay_of(c));
}

/* -- a connection ---------------------------------------------------------- */

static int
exec_open(struct kquay_conn *c)
{
	const struct exec_conf *conf = conf_of(c);
	struct job *job = session_data(c);
	struct launch l = { .path = conf->path,
		.argv = conf->command.word,
		.directory = *conf->directory != '\0' ? conf->directory : NULL,
		.in = -1,
		.out = -1,
		.err = -1,
		.account = &conf->account };
	char **envp;

	job->in = job->out = -1;
	envp = ucspi_environment(c, &conf->environment);
	if (envp == NULL)
		return -1;
	l.envp = envp;
	if (prepare(c, &l) == 0)
		job->child = child_new(c, service_of(kquay_of(c))->state, &l,
		    conf->errors == ERRORS_LOG);
	else
		log_service(LEVEL_ERROR, conf->base.name, "%s: %s",
		    kquay_peer(c), strerror(errno));
	if (l.err != -1 && l.err != l.out)
		close(l.err);
	if (l.out != -1 && l.out != l.in)
		close(l.out);
	if (l.in != -1)
		close(l.in);
	free(envp);
	return job->child != NULL ? 0 : -1;
}

/* What becomes its standard input, output and error.  0, or -1 with errno. */
static int
prepare(struct kquay_conn *c, struct launch *l)
{
	const struct exec_conf *conf = conf_of(c);

	if (conf->io == IO_PIPES) {
		if (open_pipes(c, l) == -1)
			return -1;
	} else {
		l->in = l->out = kquay_detach(c);
		if (l->in == -1)
			return -1;
		/* A program does not expect to be told to try again. */
		fcntl(l->in, F_SETFL, O_RDWR);
	}
	if (conf->errors == ERRORS_PEER)
		l->err = l->out;
	else if (conf->errors == ERRORS_DISCARD) {
		l->err = open(_PATH_DEVNULL, O_WRONLY | O_CLOEXEC);
		if (l->err == -1)
			return -1;
	}
	return 0;
}

static void
exec_close(struct kquay_conn *c, enum kquay_why why)
{
	struct job *job = session_data(c);

	close_pipe(c, &job->in, EVFILT_WRITE);
	close_pipe(c, &job->out, EVFILT_READ);
	if (job->child == NULL)
		return;
	if (why == KQUAY_SHUTDOWN)
		child_kill(job->child);
	else
		child_leave(job->child, conf_of(c)->base.linger_ms);
	job->child = NULL;
}

/* Its program has ended.  What a child of that one writes later is too late. */
static void
ended(struct kquay_conn *c)
{
	struct job *job = session_data(c);

	job->child = NULL;
	close_pipe(c, &job->in, EVFILT_WRITE);
	if (job->out != -1 && ioctl(job->out, FIONREAD, &job->left) == -1)
		job->left = 0;
	if (job->out == -1 || job->left == 0)
		output_ended(c);
}

/* -- pipes ----------------------------------------------------------------- */

static int
open_pipes(struct kquay_conn *c, struct launch *l)
{
	struct job *job = session_data(c);
	int in[2], out[2];

	if (pipe2(in, O_CLOEXEC) == -1)
		return -1;
	l->in = in[0];
	job->in = in[1];
	if (pipe2(out, O_CLOEXEC) == -1)
		return -1;
	l->out = out[1];
	job->out = out[0];
	if (fcntl(job->in, F_SETFL, O_NONBLOCK) == -1 ||
	    fcntl(job->out, F_SETFL, O_NONBLOCK) == -1)
		return -1;
	return watch(c, job->out, EVFILT_READ, EV_ADD, on_output);
}

static void
close_pipe(struct kquay_conn *c, int *fd, int filter)
{
	if (*fd == -1)
		return;
	(void)watch(c, *fd, filter, EV_DELETE, NULL);
	close(*fd);
	*fd = -1;
}

static int
watch(struct kquay_conn *c, int fd, int filter, int flags, kquay_watch_fn *fn)
{
	struct kevent ev;

	EV_SET(&ev, fd, filter, flags, 0, 0, NULL);
	return kquay_watch(kquay_of(c), &ev, fn, c);
}

static ssize_t
exec_input(struct kquay_conn *c, char *data, size_t len)
{
	struct job *job = session_data(c);
	ssize_t n;

	if (job->in == -1)
		return (ssize_t)len; /* nobody wants it */
	n = write(job->in, data, len);
	if (n == (ssize_t)len)
		return n;
	if (n == -1 && errno != EAGAIN && errno != EINTR) {
		close_pipe(c, &job->in, EVFILT_WRITE);
		return (ssize_t)len;
	}
	kquay_pause(c, 1);
	if (watch(c, job->in, EVFILT_WRITE, EV_ADD | EV_ONESHOT, on_room) == -1)
		return -1;
	return n == -1 ? 0 : n;
}

static void
on_room(struct kquay *q, const struct kevent *ev, void *arg)
{
	kquay_pause(arg, 0);
}

static int
exec_eof(struct kquay_conn *c)
{
	struct job *job = session_data(c);

	close_pipe(c, &job->in, EVFILT_WRITE);
	return 1;
}

static void
on_output(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct kquay_conn *c = arg;
	struct job *job = session_data(c);
	char data[READ_MAX];
	size_t most = sizeof(data);
	ssize_t n;

	if (kquay_pending(c) > QUEUED_MAX) {
		(void)watch(c, job->out, EVFILT_READ, EV_DISABLE, NULL);
		return;
	}
	if (job->child == NULL && (size_t)job->left < most)
		most = (size_t)job->left;
	n = read(job->out, data, most);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		output_ended(c);
		return;
	}
	if (job->child == NULL)
		job->left -= (int)n;
	if (kquay_write(c, data, (size_t)n) == -1)
		close_pipe(c, &job->out,
		    EVFILT_READ); /* it goes, or has gone */
	else if (job->child == NULL && job->left == 0)
		output_ended(c);
}

/* What was queued has been sent: there is room for more output. */
static void
exec_drained(struct kquay_conn *c)
{
	const struct job *job = session_data(c);

	if (job->out != -1)
		(void)watch(c, job->out, EVFILT_READ, EV_ENABLE, NULL);
}

static void
output_ended(struct kquay_conn *c)
{
	struct job *job = session_data(c);

	close_pipe(c, &job->out, EVFILT_READ);
	if (job->child == NULL)
		kquay_close(c);
	else
		(void)kquay_finish(c);
}

/* -- the settings ---------------------------------------------------------- */

static int
exec_check(struct service_conf *base, char *why, size_t whysz)
{
	struct exec_conf *conf = (struct exec_conf *)base;
	const char *variable;
	size_t i;

	if (launch_find(conf->command.word[0], conf->path) == -1) {
		snprintf(why, whysz, "command: %s: %s", conf->command.word[0],
		    strerror(errno));
		return -1;
	}
	for (i = 0; i < conf->environment.count; i++) {
		variable = conf->environment.word[i];
		if (*variable == '=' || strchr(variable, '=') == NULL) {
			snprintf(why, whysz,
			    "environment: '%s' is not NAME=VALUE", variable);
			return -1;
		}
	}
	if (base->tls.loaded != NULL && conf->io == IO_SOCKET) {
		snprintf(why, whysz,
		    "tls-certificate: the command gets the socket itself, on "
		    "which bytes are encrypted, unless io is pipes");
		return -1;
	}
	if (base->idle_ms != -1 && conf->io == IO_SOCKET) {
		snprintf(why, whysz,
		    "idle-timeout: only the command sees the bytes, unless io "
		    "is pipes; see life-timeout");
		return -1;
	}
	if (account_find(&conf->account, conf->user, conf->group, why, whysz) ==
	    -1)
		return -1;
	return account_may(&conf->account, why, whysz);
}

/* Whatever the programs need, they inherit what we are left with. */
static int
exec_needs(const struct service_conf *base, struct sandbox *sandbox)
{
	const struct exec_conf *conf = (const struct exec_conf *)base;

	sandbox->programs = 1;
	if (conf->account.ngroups > 0)
		sandbox->root = 1;
	return 0;
}

static int
exec_start(struct service *s, char *why, size_t whysz)
{
	s->state = crowd_new(s->conf->max_connections, ended);
	if (s->state != NULL)
		return 0;
	snprintf(why, whysz, "%s", strerror(errno));
	return -1;
}

static void
exec_end(struct service *s)
{
	crowd_leave(s->state);
}

/*
 * The pipes of each connection, and what the queue watches its program with;
 * with io = socket that is in the place of the socket.
 */
static uint32_t
exec_descriptors(const struct service_conf *base)
{
	const struct exec_conf *conf = (const struct exec_conf *)base;

	return (conf->io == IO_PIPES ? 3 : 0) +
	    (conf->errors == ERRORS_LOG ? 1 : 0);
}

static const struct kquay_ops exec_ops = {
	.open = exec_open,
	.input = exec_input,
	.eof = exec_eof,
	.drained = exec_drained,
	.close = exec_close,
};

static const char *const io_names[] = { "socket", "pipes", NULL };
static const char *const errors_names[] = { "inherit", "socket", "discard",
	"log", NULL };

static int
exec_lends(const struct service_conf *conf)
{
	return ((const struct exec_conf *)conf)->io == IO_SOCKET;
}

static const struct setting exec_settings[] = {
	{ .name = "command",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(command),
	    .required = 1,
	    .arg = "WORD",
	    .help = "the program, and each argument; or after --" },
	{ .name = "idle-timeout",
	    .letter = 't',
	    .type = SETTING_TIME,
	    .offset = OFFSET(base.idle_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .min = 1,
	    .def = "none",
	    .arg = "TIME",
	    .help = "with pipes: close after no byte for so long" },
	{ .name = "drain-timeout",
	    .type = SETTING_TIME,
	    .offset = OFFSET(base.drain_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "1m",
	    .arg = "TIME",
	    .help = "let programs go on for so long at the end" },
	{ .name = "io",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(io),
	    .min = IO_SOCKET,
	    .max = IO_PIPES,
	    .choices = io_names,
	    .def = "socket",
	    .arg = "socket|pipes",
	    .help = "what it reads from and writes to" },
	{ .name = "errors",
	    .type = SETTING_CHOICE,
	    .offset = OFFSET(errors),
	    .min = ERRORS_INHERIT,
	    .max = ERRORS_LOG,
	    .choices = errors_names,
	    .def = "inherit",
	    .arg = "inherit|socket|discard|log",
	    .help = "where its standard error goes" },
	{ .name = "user",
	    .letter = 'u',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(user),
	    .max = 256,
	    .def = "",
	    .arg = "NAME",
	    .help = "run it as this user, with the user's groups" },
	{ .name = "group",
	    .letter = 'g',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(group),
	    .max = 256,
	    .def = "",
	    .arg = "NAME",
	    .help = "and with this group alone" },
	{ .name = "directory",
	    .letter = 'd',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(directory),
	    .max = PATH_MAX - 1,
	    .def = "",
	    .arg = "PATH",
	    .help = "run it in this folder" },
	{ .name = "environment",
	    .letter = 'e',
	    .type = SETTING_WORDS,
	    .offset = OFFSET(environment),
	    .arg = "NAME=VALUE",
	    .help = "a variable more for it" },
	{ .name = NULL }
};

const struct service_handler service_exec = {
	.name = "exec",
	.help = "run a program for each connection",
	.ops = &exec_ops,
	.settings = exec_settings,
	.operands = "command",
	.udatasz = sizeof(struct job),
	.memory = sizeof(struct child) + 1024, /* and its watches, its name */
	.check = exec_check,
	.needs = exec_needs,
	.lends = exec_lends,
	.descriptors = exec_descriptors,
	.start = exec_start,
	.end = exec_end,
	.confsz = sizeof(struct exec_conf),
};
