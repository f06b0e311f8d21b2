/*
 * exec: a program for each connection, which has the socket as its standard
 * input and output, and the variables of UCSPI to say who is there.
 *
 *	open() --> child, with the descriptor --> its end: reaped, slot given
 *back |                             ^
 *	               +-- life-timeout, or a second SIGTERM: the group is
 *killed
 *
 * A connection's slot is taken until its child has ended, so max-connections
 * and max-per-source are limits of children.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <paths.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "account.h"
#include "launch.h"
#include "log.h"
#include "sandbox.h"
#include "service.h"
#include "session.h"
#include "words.h"

enum error_output { ERRORS_INHERIT, ERRORS_SOCKET, ERRORS_DISCARD, ERRORS_LOG };

enum {
	MAX_VARIABLES = 8,
	VARIABLE = 160,
	ERROR_LINE = 512,  /* what is longer is several lines of the log */
	ERROR_READ = 4096, /* most that is read at once */
	ERROR_READS = 16   /* and how often, of a child that has ended */
};

struct exec_conf {
	struct service_conf base;
	struct words command, environment;
	char *user, *group, *directory;
	int errors; /* enum error_output */
	/* What that means on this machine, as of exec_check(). */
	struct account account;
	char path[PATH_MAX];
};

/* A child; it lives until it is reaped. */
struct child {
	pid_t pid;
	uint64_t id; /* of its connection */
	char peer[VARIABLE];
	int errors;   /* a pipe from its standard error, or -1 */
	size_t nline; /* of a line that has not ended */
	char line[ERROR_LINE];
};

#define OFFSET(member) offsetof(struct exec_conf, member)

static int start(struct kquay_conn *, struct child *);
static int describe(struct kquay_conn *, char[][VARIABLE]);
static char **make_environment(const struct words *, char[][VARIABLE], int);
static kquay_watch_fn on_end;
static kquay_watch_fn on_overdue;
static void tell(const struct kquay *, const struct child *);
static int open_errors(struct kquay *, struct child *);
static void close_errors(struct kquay *, struct child *);
static int read_errors(struct kquay *, struct child *);
static void log_errors(struct kquay *, struct child *);
static kquay_watch_fn on_errors;

/* -- a connection ---------------------------------------------------------- */

static int
exec_open(struct kquay_conn *c)
{
	struct child **slot = session_data(c), *child;
	struct kevent ev;
	int error;

	child = calloc(1, sizeof(*child));
	if (child == NULL)
		return -1;
	child->id = kquay_id(c);
	child->errors = -1;
	strlcpy(child->peer, kquay_peer(c), sizeof(child->peer));
	if ((error = start(c, child)) != 0) {
		log_service(LEVEL_ERROR, service_conf_of(kquay_of(c))->name,
		    "%s: %s: %s", child->peer,
		    ((const struct exec_conf *)service_conf_of(kquay_of(c)))
			->command.word[0],
		    strerror(error));
		free(child);
		return -1;
	}
	*slot = child;
	EV_SET(&ev, child->pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	if (kquay_watch(kquay_of(c), &ev, on_end, child) == 0)
		return 0;
	/* Nobody would ever reap it. */
	log_service(LEVEL_ERROR, service_conf_of(kquay_of(c))->name,
	    "kevent: %s", strerror(errno));
	kill(-child->pid, SIGKILL);
	while (waitpid(child->pid, NULL, 0) == -1 && errno == EINTR)
		;
	*slot = NULL;
	close_errors(kquay_of(c), child);
	free(child);
	return -1;
}

/* 0, or an errno value and there is no child. */
static int
start(struct kquay_conn *c, struct child *child)
{
	const struct exec_conf *conf =
	    (const struct exec_conf *)service_conf_of(kquay_of(c));
	const struct account *a = &conf->account;
	struct launch s = { .path = conf->path,
		.argv = conf->command.word,
		.directory = *conf->directory != '\0' ? conf->directory : NULL,
		.err = -1,
		.uid = a->uid,
		.gid = a->gid,
		.groups = a->ngroups > 0 ? a->groups : NULL,
		.ngroups = (size_t)a->ngroups };
	char variables[MAX_VARIABLES][VARIABLE], **envp;
	int fd, n, error;

	n = describe(c, variables);
	envp = make_environment(&conf->environment, variables, n);
	if (envp == NULL)
		return ENOMEM;
	fd = kquay_detach(c);
	if (fd == -1) {
		error = errno;
		free(envp);
		return error;
	}
	/* A program does not expect to be told to try again. */
	fcntl(fd, F_SETFL, O_RDWR);
	s.envp = envp;
	s.in = s.out = fd;
	if (conf->errors == ERRORS_SOCKET)
		s.err = fd;
	else if (conf->errors == ERRORS_DISCARD)
		s.err = open(_PATH_DEVNULL, O_WRONLY | O_CLOEXEC);
	else if (conf->errors == ERRORS_LOG)
		s.err = open_errors(kquay_of(c), child);
	if (conf->errors == ERRORS_LOG && s.err == -1)
		error = errno;
	else
		error = launch(&s, &child->pid);
	if (s.err != -1 && s.err != fd)
		close(s.err);
	if (error != 0)
		close_errors(kquay_of(c), child);
	close(fd);
	free(envp);
	return error;
}

static void
exec_close(struct kquay_conn *c, enum kquay_why why)
{
	struct child **slot = session_data(c), *child = *slot;
	const struct service_conf *conf = service_conf_of(kquay_of(c));
	struct kevent ev;

	if (child == NULL)
		return;
	child->id = 0;
	if (why != KQUAY_LIFE) {
		/* We end, too; whoever inherits it reaps it. */
		kill(-child->pid, SIGKILL);
		EV_SET(&ev, child->pid, EVFILT_PROC, EV_DELETE, 0, 0, NULL);
		(void)kquay_watch(kquay_of(c), &ev, NULL, NULL);
		close_errors(kquay_of(c), child);
		free(child);
		return;
	}
	kill(-child->pid, SIGTERM);
	if (conf->linger_ms == -1)
		return;
	EV_SET(&ev, child->pid, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0,
	    conf->linger_ms, NULL);
	if (kquay_watch(kquay_of(c), &ev, on_overdue, child) == -1)
		kill(-child->pid, SIGKILL);
}

/* -- a child --------------------------------------------------------------- */

static void
on_end(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct child *child = arg;
	struct kquay_conn *c = kquay_find(q, child->id);
	struct kevent overdue;
	int i;

	/* Others may have its standard error, and write for ever. */
	for (i = 0; i < ERROR_READS && read_errors(q, child) > 0; i++)
		;
	close_errors(q, child);
	tell(q, child);
	if (c != NULL) {
		*(struct child **)session_data(c) = NULL;
		kquay_close(c);
	} else {
		EV_SET(&overdue, child->pid, EVFILT_TIMER, EV_DELETE, 0, 0,
		    NULL);
		(void)kquay_watch(q, &overdue, NULL, NULL);
	}
	free(child);
}

/* Reap it, and say how it ended if that was not well. */
static void
tell(const struct kquay *q, const struct child *child)
{
	const char *name = service_conf_of(q)->name;
	int status;

	while (waitpid(child->pid, &status, 0) == -1)
		if (errno != EINTR)
			return;
	if (WIFSIGNALED(status))
		log_service(LEVEL_NOTICE, name, "%s: ended by %s", child->peer,
		    strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		log_service(LEVEL_NOTICE, name, "%s: exit status %d",
		    child->peer, WEXITSTATUS(status));
}

/* It was asked to end, and has not. */
static void
on_overdue(struct kquay *q, const struct kevent *ev, void *arg)
{
	const struct child *child = arg;

	kill(-child->pid, SIGKILL);
}

/* -- what a child complains of --------------------------------------------- */

/* What is to be its standard error; or -1 with errno. */
static int
open_errors(struct kquay *q, struct child *child)
{
	struct kevent ev;
	int fd[2], saved;

	if (pipe2(fd, O_CLOEXEC) == -1)
		return -1;
	EV_SET(&ev, fd[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (fcntl(fd[0], F_SETFL, O_NONBLOCK) == 0 &&
	    kquay_watch(q, &ev, on_errors, child) == 0) {
		child->errors = fd[0];
		return fd[1];
	}
	saved = errno;
	close(fd[0]);
	close(fd[1]);
	errno = saved;
	return -1;
}

static void
close_errors(struct kquay *q, struct child *child)
{
	struct kevent ev;

	if (child->errors == -1)
		return;
	if (child->nline > 0)
		log_errors(q, child);
	EV_SET(&ev, child->errors, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(q, &ev, NULL, NULL);
	close(child->errors);
	child->errors = -1;
}

static void
on_errors(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct child *child = arg;

	if (read_errors(q, child) == -1)
		close_errors(q, child);
}

/* Returns 1; 0 if there is nothing now, or -1 if there will be nothing more. */
static int
read_errors(struct kquay *q, struct child *child)
{
	char data[ERROR_READ];
	ssize_t n, i;

	if (child->errors == -1)
		return -1;
	n = read(child->errors, data, sizeof(data));
	if (n == -1)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	for (i = 0; i < n; i++) {
		if (data[i] == '\n' || child->nline == ERROR_LINE - 1)
			log_errors(q, child);
		if (data[i] != '\n')
			child->line[child->nline++] = data[i];
	}
	return 1;
}

static void
log_errors(struct kquay *q, struct child *child)
{
	log_service(LEVEL_NOTICE, service_conf_of(q)->name, "%s: %.*s",
	    child->peer, (int)child->nline, child->line);
	child->nline = 0;
}

/* -- what a child is told -------------------------------------------------- */

static int
describe_ip(const char *side, const struct sockaddr *sa, char out[][VARIABLE])
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in4 = (const void *)sa;
	char ip[INET6_ADDRSTRLEN];
	int v6 = sa->sa_family == AF_INET6;

	if ((!v6 && sa->sa_family != AF_INET) ||
	    inet_ntop(sa->sa_family,
		v6 ? (const void *)&in6->sin6_addr : &in4->sin_addr, ip,
		sizeof(ip)) == NULL)
		return 0;
	snprintf(out[0], VARIABLE, "TCP%sIP=%s", side, ip);
	snprintf(out[1], VARIABLE, "TCP%sPORT=%d", side,
	    ntohs(v6 ? in6->sin6_port : in4->sin_port));
	return 2;
}

static int
describe_unix(struct kquay_conn *c, const struct sockaddr_storage *local,
    char out[][VARIABLE])
{
	const struct sockaddr_un *sun = (const void *)local;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int n = 0;

	snprintf(out[n++], VARIABLE, "PROTO=UNIX");
	if (local->ss_family == AF_UNIX && sun->sun_path[0] != '\0')
		snprintf(out[n++], VARIABLE, "UNIXLOCALPATH=%.*s",
		    (int)sizeof(sun->sun_path), sun->sun_path);
	if (kquay_peercred(c, &uid, &gid, &pid) == -1)
		return n;
	snprintf(out[n++], VARIABLE, "UNIXREMOTEEUID=%ju", (uintmax_t)uid);
	if (gid != (gid_t)-1)
		snprintf(out[n++], VARIABLE, "UNIXREMOTEEGID=%ju",
		    (uintmax_t)gid);
	if (pid != -1)
		snprintf(out[n++], VARIABLE, "UNIXREMOTEPID=%jd",
		    (intmax_t)pid);
	return n;
}

/* The variables of UCSPI for c; returns their number. */
static int
describe(struct kquay_conn *c, char out[][VARIABLE])
{
	struct sockaddr_storage local = { .ss_family = AF_UNSPEC };
	const struct sockaddr *peer;
	socklen_t len;
	int n = 0;

	peer = kquay_peeraddr(c, &len);
	(void)kquay_localaddr(c, &local);
	if (peer->sa_family == AF_UNIX)
		return describe_unix(c, &local, out);
	snprintf(out[n++], VARIABLE, "PROTO=TCP");
	n += describe_ip("REMOTE", peer, out + n);
	n += describe_ip("LOCAL", (const struct sockaddr *)&local, out + n);
	return n;
}

/* Is there a variable of that name among the n? */
static int
is_set(const char *variable, char *const *list, size_t n)
{
	size_t len = strcspn(variable, "=") + 1, i;

	for (i = 0; i < n; i++)
		if (strncmp(list[i], variable, len) == 0)
			return 1;
	return 0;
}

/*
 * Ours, those of the setting, and those that say who is there; the later hides
 * the earlier.  The list alone is allocated.
 */
static char **
make_environment(const struct words *more, char variables[][VARIABLE], int n)
{
	extern char **environ;
	size_t ours = 0, count = 0, i;
	char **list;

	while (environ[ours] != NULL)
		ours++;
	list = reallocarray(NULL, ours + more->count + (size_t)n + 1,
	    sizeof(*list));
	if (list == NULL)
		return NULL;
	for (i = 0; i < (size_t)n; i++)
		list[count++] = variables[i];
	for (i = 0; i < more->count; i++)
		if (!is_set(more->word[i], list, count))
			list[count++] = more->word[i];
	for (i = 0; i < ours; i++)
		if (!is_set(environ[i], list, count))
			list[count++] = environ[i];
	list[count] = NULL;
	return list;
}

/* -- the settings ---------------------------------------------------------- */

static int
exec_check(struct service_conf *base, char *why, size_t whysz)
{
	struct exec_conf *conf = (struct exec_conf *)base;
	const char *variable;
	size_t i;

	if (conf->command.count == 0) {
		snprintf(why, whysz, "command: is missing");
		return -1;
	}
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
	if (base->tls.loaded != NULL) {
		snprintf(why, whysz,
		    "tls-certificate: the command gets the socket itself, on "
		    "which bytes are encrypted");
		return -1;
	}
	if (base->idle_ms != -1) {
		snprintf(why, whysz,
		    "idle-timeout: only the command sees the"
		    " bytes; see life-timeout");
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

static const struct kquay_ops exec_ops = {
	.open = exec_open,
	.close = exec_close,
};

static const char *const errors_names[] = { "inherit", "socket", "discard",
	"log", NULL };

static const struct setting exec_settings[] = {
	{ .name = "command",
	    .type = SETTING_WORDS,
	    .offset = OFFSET(command),
	    .arg = "WORD",
	    .help = "the program, and each argument; or after --" },
	{ .name = "idle-timeout",
	    .letter = 't',
	    .type = SETTING_TIME,
	    .offset = OFFSET(base.idle_ms),
	    .max = SETTING_TIME_MAX,
	    .none = 1,
	    .def = "none",
	    .arg = "none",
	    .help = "only the command sees the bytes; see life-timeout" },
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
	.udatasz = sizeof(struct child *),
	.check = exec_check,
	.needs = exec_needs,
	.confsz = sizeof(struct exec_conf),
};
