/*
 * Upgrading.
 *
 * What is passed on comes by a pipe, since there is no end to it.  The
 * environment has its number, and that of the pipe for the answer:
 *
 *	KQUAY_UPGRADE=ANSWER,WILL
 *
 * The will is lines: the sockets, and what filters our system calls.
 *
 *	FD:WORKER:ADDRESS
 *	filter:NUMBER
 *	end
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "activate.h"
#include "complain.h"
#include "desk.h"
#include "launch.h"
#include "log.h"
#include "sandbox.h"
#include "serve.h"
#include "upgrade.h"

#define PIPES "KQUAY_UPGRADE"
#define FILTER "filter:"
#define LAST_LINE "end\n"
#define TIMER_IDENT 3 /* of the chief's; a service's is its address */

/* A socket that the earlier one has left us. */
struct legacy {
	int fd; /* -1: taken */
	unsigned worker;
	char *address;
};

static char program[PATH_MAX];
static char **arguments;

static struct legacy *legacies;
static size_t nlegacies;
static int ready_pipe = -1;
static uint64_t filter;

/* The one that is to take our place. */
static struct {
	pid_t pid; /* 0: there is none */
	int pipe;
	int will_pipe; /* -1: all is written */
	char *will;
	size_t length, written;
	reload_told_fn *told;
	void *arg;
} heir = { .pipe = -1, .will_pipe = -1 };

/* What it is to inherit. */
struct will {
	FILE *text;
	int *fds;
	size_t nfds;
};

static int start(char *, size_t);
static int make_will(struct will *);
static int beget(struct will *);
static void hand_over(void);
static kquay_watch_fn on_room;
static void drop_will(void);
static int write_will(struct will *);
static int leave_socket(struct will *, int, unsigned, const char *);
static char **make_environment(int, int);
static int await(void);
static kquay_watch_fn on_late;
static kquay_watch_fn on_word;
static void give_up(const char *);
static void succeed(void);
static void hang_up(void);
static void tell(int, const char *);
static int read_will(int);
static int add_legacy(char *);
static const char *path_of(const struct legacy *);
static void close_left(const struct legacy *);

void
upgrade_remember(int argc, char **argv)
{
	ssize_t n;

	arguments = argv;
	n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	if (n == -1)
		(void)launch_find(argv[0], program);
	else
		program[n] = '\0';
}

/* -- the earlier one ------------------------------------------------------- */

void
upgrade(reload_told_fn *told, void *arg)
{
	char why[PATH_MAX + 256];

	if (heir.pid != 0 || serve_stopping() || reload_begun()) {
		if (told != NULL)
			told(0,
			    "not upgraded: it is about to end, or to "
			    "reload",
			    arg);
		return;
	}
	heir.told = told;
	heir.arg = arg;
	if (start(why, sizeof(why)) == -1)
		tell(0, why);
}

int
upgrade_begun(void)
{
	return heir.pid != 0;
}

void
upgrade_cancel(void)
{
	if (heir.pid != 0 && heir.pipe != -1)
		kill(heir.pid, SIGTERM);
}

static int
start(char *why, size_t whysz)
{
	struct will w = { .fds = NULL };
	int error;

	error = make_will(&w) == 0 ? beget(&w) : errno;
	free(w.fds);
	if (error == 0) {
		hand_over();
		return 0;
	}
	drop_will();
	snprintf(why, whysz, "not upgraded: %s: %s", program, strerror(error));
	return -1;
}

/* The text is heir.will's.  0, or -1 with errno. */
static int
make_will(struct will *w)
{
	int rc;

	heir.written = 0;
	w->text = open_memstream(&heir.will, &heir.length);
	if (w->text == NULL)
		return -1;
	rc = write_will(w);
	fprintf(w->text, FILTER "%" PRIu64 "\n" LAST_LINE, sandbox_filter());
	return fclose(w->text) == EOF ? -1 : rc;
}

/* 0, or an errno value. */
static int
beget(struct will *w)
{
	struct launch l = { .path = program,
		.argv = arguments,
		.in = -1,
		.out = -1,
		.err = -1 };
	int word[2] = { -1, -1 }, will[2] = { -1, -1 }, error = 0;
	char **envp = NULL;

	if (pipe2(word, O_CLOEXEC | O_NONBLOCK) == -1 ||
	    pipe2(will, O_CLOEXEC) == -1 ||
	    fcntl(will[1], F_SETFL, O_NONBLOCK) == -1 ||
	    leave_socket(w, word[1], 0, NULL) == -1 ||
	    leave_socket(w, will[0], 0, NULL) == -1 ||
	    (envp = make_environment(word[1], will[0])) == NULL)
		error = errno;
	heir.pipe = word[0];
	heir.will_pipe = will[1];
	if (error == 0) {
		l.keep = w->fds;
		l.nkeep = w->nfds;
		l.envp = envp;
		error = await() == -1 ? errno : launch(&l, &heir.pid);
	}
	if (error != 0) {
		heir.pid = 0;
		hang_up();
	}
	if (envp != NULL)
		free(envp[0]);
	free(envp);
	if (word[1] != -1)
		close(word[1]);
	if (will[0] != -1)
		close(will[0]);
	return error;
}

/* As much as the pipe takes; it may be gone, which its word will tell. */
static void
hand_over(void)
{
	struct kevent ev;
	ssize_t n = 0;

	while (n >= 0 && heir.written < heir.length) {
		n = write(heir.will_pipe, heir.will + heir.written,
		    heir.length - heir.written);
		if (n > 0)
			heir.written += (size_t)n;
	}
	EV_SET(&ev, heir.will_pipe, EVFILT_WRITE, EV_ADD, 0, 0, NULL);
	if (n >= 0 || errno != EAGAIN ||
	    kquay_watch(worker_chief(), &ev, on_room, NULL) == -1)
		drop_will();
}

static void
on_room(struct kquay *q, const struct kevent *ev, void *arg)
{
	hand_over();
}

static void
drop_will(void)
{
	struct kevent ev;

	if (heir.will_pipe != -1) {
		EV_SET(&ev, heir.will_pipe, EVFILT_WRITE, EV_DELETE, 0, 0,
		    NULL);
		(void)kquay_watch(worker_chief(), &ev, NULL, NULL);
		close(heir.will_pipe);
	}
	heir.will_pipe = -1;
	free(heir.will);
	heir.will = NULL;
}

static int
write_will(struct will *w)
{
	const struct service *s;
	const struct branch *b;
	const char *name;
	unsigned i, k, n, left;
	int fd;

	TAILQ_FOREACH(s, &services_running, next) {
		for (i = 0; i < s->nbranches; i++) {
			b = &s->branches[i];
			for (k = n = 0; k < b->nberths; k++)
				for (left = b->berths[k].listeners; left > 0;
				     left--, n++)
					if (leave_socket(w,
						kquay_listener(b->q, n), i,
						b->berths[k].address) == -1)
						return -1;
		}
	}
	for (i = 0; (fd = desk_socket(i, &name)) != -1; i++)
		if (leave_socket(w, fd, 0, name) == -1)
			return -1;
	return 0;
}

/* address is NULL: it is no socket, and is only kept. */
static int
leave_socket(struct will *w, int fd, unsigned worker, const char *address)
{
	int *grown;

	grown = reallocarray(w->fds, w->nfds + 1, sizeof(*grown));
	if (grown == NULL)
		return -1;
	w->fds = grown;
	w->fds[w->nfds++] = fd;
	if (address != NULL)
		fprintf(w->text, "%d:%u:%s\n", fd, worker, address);
	return 0;
}

/* Ours, but for a variable, which comes first. */
static char **
make_environment(int word, int will)
{
	extern char **environ;
	size_t n = 0, i;
	char **list;

	while (environ[n] != NULL)
		n++;
	list = calloc(n + 2, sizeof(*list));
	if (list == NULL)
		return NULL;
	if (asprintf(&list[0], PIPES "=%d,%d", word, will) == -1) {
		free(list);
		return NULL;
	}
	for (i = 0; i < n; i++)
		list[i + 1] = environ[i];
	return list;
}

/* For its word, and not for ever.  0, or -1 with errno. */
static int
await(void)
{
	int ms = serve_conf()->upgrade_ms;
	struct kevent ev;

	EV_SET(&ev, heir.pipe, EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (kquay_watch(worker_chief(), &ev, on_word, NULL) == -1)
		return -1;
	if (ms == -1)
		return 0;
	EV_SET(&ev, TIMER_IDENT, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0, ms,
	    NULL);
	return kquay_watch(worker_chief(), &ev, on_late, NULL);
}

static void
on_late(struct kquay *q, const struct kevent *ev, void *arg)
{
	char word;

	if (read(heir.pipe, &word, 1) == 1)
		succeed();
	else
		give_up("not upgraded: the new program was not ready in time "
			"(upgrade-timeout)");
}

/* It is ready, or has ended without a word. */
static void
on_word(struct kquay *q, const struct kevent *ev, void *arg)
{
	char word;

	if (read(heir.pipe, &word, 1) == 1)
		succeed();
	else
		give_up("not upgraded: the new program has ended, and has "
			"said why");
}

/* A program that has closed the pipe, or is late, may be there still. */
static void
give_up(const char *why)
{
	hang_up();
	kill(-heir.pid, SIGKILL);
	while (waitpid(heir.pid, NULL, 0) == -1 && errno == EINTR)
		;
	heir.pid = 0;
	tell(0, why);
}

static void
succeed(void)
{
	char text[64];

	hang_up();
	snprintf(text, sizeof(text), "MAINPID=%jd", (intmax_t)heir.pid);
	activate_notify(text);
	serve_bequeath();
	snprintf(text, sizeof(text), "upgraded: process %jd serves now",
	    (intmax_t)heir.pid);
	tell(1, text);
}

static void
hang_up(void)
{
	struct kevent ev;

	EV_SET(&ev, heir.pipe, EVFILT_READ, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(worker_chief(), &ev, NULL, NULL);
	EV_SET(&ev, TIMER_IDENT, EVFILT_TIMER, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(worker_chief(), &ev, NULL, NULL);
	if (heir.pipe != -1)
		close(heir.pipe);
	heir.pipe = -1;
	drop_will();
}

static void
tell(int ok, const char *text)
{
	log_line(ok ? LEVEL_NOTICE : LEVEL_ERROR, "%s", text);
	if (heir.told != NULL)
		heir.told(ok, text, heir.arg);
	heir.told = NULL;
}

/* -- the newer one --------------------------------------------------------- */

int
upgrade_is_heir(void)
{
	return ready_pipe != -1;
}

uint64_t
upgrade_filter(void)
{
	return filter;
}

int
upgrade_begin(void)
{
	const char *text = getenv(PIPES);
	int will, rc;

	if (text == NULL)
		return 0;
	if (sscanf(text, "%d,%d", &ready_pipe, &will) != 2 ||
	    fcntl(ready_pipe, F_SETFD, FD_CLOEXEC) == -1 ||
	    fcntl(will, F_SETFD, FD_CLOEXEC) == -1) {
		complain(PIPES "=%s: no descriptors", text);
		ready_pipe = -1;
		rc = -1;
	} else
		rc = read_will(will);
	unsetenv(PIPES);
	return rc;
}

/* The earlier one goes on writing while we read. */
static int
read_will(int fd)
{
	FILE *in = fdopen(fd, "r");
	char *line = NULL;
	size_t size = 0;
	int rc = 0, whole = 0;

	while (in != NULL && rc == 0 && getline(&line, &size, in) != -1) {
		whole = strcmp(line, LAST_LINE) == 0;
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, FILTER, strlen(FILTER)) == 0)
			filter = strtoull(line + strlen(FILTER), NULL, 10);
		else if (!whole)
			rc = add_legacy(line);
	}
	free(line);
	if (in != NULL)
		fclose(in);
	else
		close(fd);
	if (rc == 0 && !whole) {
		complain(PIPES ": the end is missing");
		rc = -1;
	}
	return rc;
}

static int
add_legacy(char *line)
{
	struct legacy *grown, *l;
	char *fd, *worker, *address = line;
	const char *wrong = NULL, *also = NULL;

	fd = strsep(&address, ":");
	worker = strsep(&address, ":");
	grown = reallocarray(legacies, nlegacies + 1, sizeof(*grown));
	if (grown == NULL || address == NULL)
		goto fail;
	legacies = grown;
	l = &legacies[nlegacies];
	l->fd = (int)strtonum(fd, 0, INT_MAX, &wrong);
	l->worker = (unsigned)strtonum(worker, 0, INT_MAX, &also);
	l->address = strdup(address);
	if (wrong != NULL || also != NULL || l->address == NULL ||
	    fcntl(l->fd, F_SETFD, FD_CLOEXEC) == -1)
		goto fail;
	nlegacies++;
	return 0;

fail:
	complain(PIPES ": %s: no socket", line);
	return -1;
}

int
upgrade_inherit(const char *address, unsigned *worker)
{
	struct legacy *l;
	int fd;

	for (l = legacies; l < legacies + nlegacies; l++) {
		if (l->fd == -1 || strcmp(l->address, address) != 0)
			continue;
		fd = l->fd;
		l->fd = -1;
		*worker = l->worker;
		return fd;
	}
	return -1;
}

unsigned
upgrade_workers(const char *address)
{
	const struct legacy *l;
	unsigned n = 0;

	for (l = legacies; l < legacies + nlegacies; l++)
		if (l->worker >= n && strcmp(l->address, address) == 0)
			n = l->worker + 1;
	return n;
}

const char *
upgrade_left(size_t i)
{
	const struct legacy *l;
	const char *path;

	for (l = legacies; l < legacies + nlegacies; l++) {
		path = path_of(l);
		if (l->fd != -1 && path != NULL && i-- == 0)
			return path;
	}
	return NULL;
}

/* Of a socket that kquay has made; NULL: it is none, or of TCP. */
static const char *
path_of(const struct legacy *l)
{
	static const char *const names[] = { "unix:", "control ",
		"status unix:" };
	size_t i, len;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		len = strlen(names[i]);
		if (strncmp(l->address, names[i], len) == 0)
			return l->address + len;
	}
	return NULL;
}

/* A loop that ends knows which file is the socket's, and removes it. */
static void
close_left(const struct legacy *l)
{
	static const struct kquay_ops none;
	const struct kquay_conf conf = { .maxconn = 1,
		.flags = KQUAY_NOSIGNAL };
	struct kquay *q;

	q = path_of(l) != NULL ? kquay_new(&none, &conf) : NULL;
	if (q != NULL && kquay_listen_fd(q, l->fd) != -1)
		(void)kquay_claim(q, 0);
	else
		close(l->fd);
	kquay_free(q);
}

void
upgrade_ready(void)
{
	size_t i;

	for (i = 0; i < nlegacies; i++) {
		if (legacies[i].fd != -1)
			close_left(&legacies[i]);
		free(legacies[i].address);
	}
	free(legacies);
	legacies = NULL;
	nlegacies = 0;
	if (ready_pipe == -1)
		return;
	(void)!write(ready_pipe, "!", 1);
	close(ready_pipe);
	ready_pipe = -1;
}
