/*
 * A program that runs for a connection: what it complains of, and its end.
 */
#include <sys/types.h>
#include <sys/event.h>
#include <sys/wait.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "child.h"
#include "launch.h"
#include "log.h"
#include "running.h"

enum {
	ERROR_READ = 4096, /* most of standard error that is read at once */
	ERROR_READS = 16   /* and how often, of a child that has ended */
};

/* Programs whose connection has gone; those that outlive us are left here. */
static LIST_HEAD(, child) orphans = LIST_HEAD_INITIALIZER(orphans);
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int enter(struct crowd *);
static int start(struct child *, const struct launch *, int);
static int watch(struct child *, uintptr_t, int, int, kquay_watch_fn *);
static void unwatch(struct child *, uintptr_t, int);
static kquay_watch_fn on_end;
static kquay_watch_fn on_overdue;
static kquay_watch_fn on_killed;
static void tell(const struct child *);
static void reap(pid_t);
static void child_free(struct child *);
static kquay_watch_fn on_errors;
static int read_errors(struct child *);
static void log_errors(struct child *);
static void close_errors(struct child *);

struct crowd *
crowd_new(unsigned max, void (*ended)(struct kquay_conn *))
{
	struct crowd *crowd;

	crowd = malloc(sizeof(*crowd));
	if (crowd == NULL)
		return NULL;
	atomic_init(&crowd->n, 1);
	crowd->max = max;
	crowd->ended = ended;
	return crowd;
}

void
crowd_leave(struct crowd *crowd)
{
	if (atomic_fetch_sub(&crowd->n, 1) == 1)
		free(crowd);
}

/* One more, unless that is too many.  0, or -1 with errno. */
static int
enter(struct crowd *crowd)
{
	if (atomic_fetch_add(&crowd->n, 1) <= crowd->max)
		return 0;
	crowd_leave(crowd);
	errno = EAGAIN;
	return -1;
}

struct child *
child_new(struct kquay_conn *c, struct crowd *crowd, const struct launch *l,
    int log)
{
	const char *service = service_conf_of(kquay_of(c))->name;
	size_t size = strlen(service) + 1;
	struct child *child;
	int error;

	if (enter(crowd) == -1) {
		log_service(LEVEL_NOTICE, service,
		    "%s: max-connections: programs of callers that are gone "
		    "run still",
		    kquay_peer(c));
		return NULL;
	}
	child = calloc(1, sizeof(*child) + size);
	if (child == NULL) {
		crowd_leave(crowd);
		log_service(LEVEL_ERROR, service, "%s", strerror(errno));
		return NULL;
	}
	child->q = kquay_of(c);
	child->c = c;
	child->crowd = crowd;
	child->errors = -1;
	memcpy(child->service, service, size);
	strlcpy(child->peer, kquay_peer(c), sizeof(child->peer));
	error = start(child, l, log);
	if (error == 0)
		return child;
	log_service(LEVEL_ERROR, service, "%s: %s: %s", child->peer, l->argv[0],
	    strerror(error));
	child_free(child);
	return NULL;
}

/* 0, or an errno value and there is no child. */
static int
start(struct child *child, const struct launch *how, int log)
{
	struct launch l = *how;
	int fd[2], error = 0;

	if (log) {
		if (pipe2(fd, O_CLOEXEC) == -1)
			return errno;
		child->errors = fd[0];
		l.err = fd[1];
		if (fcntl(fd[0], F_SETFL, O_NONBLOCK) == -1 ||
		    watch(child, (uintptr_t)fd[0], EVFILT_READ, 0, on_errors) ==
			-1)
			error = errno;
	}
	if (error == 0)
		error = launch(&l, &child->pid);
	if (log)
		close(l.err);
	if (error != 0)
		return error;
	if (watch(child, (uintptr_t)child->pid, EVFILT_PROC, NOTE_EXIT,
		on_end) == 0)
		return 0;
	/* Nobody would ever reap it. */
	error = errno;
	kill(-child->pid, SIGKILL);
	reap(child->pid);
	return error;
}

void
child_leave(struct child *child, int linger_ms)
{
	const struct branch *b = kquay_arg(child->q);
	struct kevent ev;

	unwatch(child, (uintptr_t)child->pid, EVFILT_PROC);
	if (child->errors != -1)
		unwatch(child, (uintptr_t)child->errors, EVFILT_READ);
	child->c = NULL;
	child->q = worker_home(b->number);
	pthread_mutex_lock(&lock);
	LIST_INSERT_HEAD(&orphans, child, next);
	pthread_mutex_unlock(&lock);
	if (child->errors != -1 &&
	    watch(child, (uintptr_t)child->errors, EVFILT_READ, 0, on_errors) ==
		-1)
		close_errors(child);
	if (watch(child, (uintptr_t)child->pid, EVFILT_PROC, NOTE_EXIT,
		on_end) == -1) {
		kill(-child->pid, SIGKILL);
		tell(child);
		child_free(child);
		return;
	}
	kill(-child->pid, SIGTERM);
	if (linger_ms == -1)
		return;
	EV_SET(&ev, (uintptr_t)child, EVFILT_TIMER, EV_ADD | EV_ONESHOT, 0,
	    linger_ms, NULL);
	if (kquay_watch(child->q, &ev, on_overdue, child) == -1)
		kill(-child->pid, SIGKILL);
}

void
child_kill(struct child *child)
{
	const struct branch *b = kquay_arg(child->q);
	struct kevent ev;

	kill(-child->pid, SIGKILL);
	unwatch(child, (uintptr_t)child->pid, EVFILT_PROC);
	EV_SET(&ev, child->pid, EVFILT_PROC, EV_ADD, NOTE_EXIT, 0, NULL);
	if (kquay_watch(worker_home(b->number), &ev, on_killed, NULL) == -1)
		reap(child->pid);
	child_free(child);
}

/* The loop that watches it is to tell of this. */
static int
watch(struct child *child, uintptr_t ident, int filter, int what,
    kquay_watch_fn *fn)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, EV_ADD, what, 0, NULL);
	return kquay_watch(child->q, &ev, fn, child);
}

static void
unwatch(struct child *child, uintptr_t ident, int filter)
{
	struct kevent ev;

	EV_SET(&ev, ident, filter, EV_DELETE, 0, 0, NULL);
	(void)kquay_watch(child->q, &ev, NULL, NULL);
}

/* -- its end --------------------------------------------------------------- */

static void
on_end(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct child *child = arg;
	struct kquay_conn *c = child->c;
	void (*ended)(struct kquay_conn *) = child->crowd->ended;
	int i;

	/* Others may have its standard error, and write for ever. */
	for (i = 0; i < ERROR_READS && read_errors(child) > 0; i++)
		;
	close_errors(child);
	tell(child);
	child_free(child);
	if (c != NULL)
		ended(c);
}

/* It was asked to end, and has not. */
static void
on_overdue(struct kquay *q, const struct kevent *ev, void *arg)
{
	const struct child *child = arg;

	kill(-child->pid, SIGKILL);
}

static void
on_killed(struct kquay *q, const struct kevent *ev, void *arg)
{
	reap((pid_t)ev->ident);
}

/* Reap it, and say how it ended if that was not well. */
static void
tell(const struct child *child)
{
	int status;

	while (waitpid(child->pid, &status, 0) == -1)
		if (errno != EINTR)
			return;
	if (WIFSIGNALED(status))
		log_service(LEVEL_NOTICE, child->service, "%s: ended by %s",
		    child->peer, strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) != 0)
		log_service(LEVEL_NOTICE, child->service, "%s: exit status %d",
		    child->peer, WEXITSTATUS(status));
}

static void
reap(pid_t pid)
{
	while (waitpid(pid, NULL, 0) == -1 && errno == EINTR)
		;
}

static void
child_free(struct child *child)
{
	close_errors(child);
	if (child->c == NULL) {
		unwatch(child, (uintptr_t)child, EVFILT_TIMER);
		pthread_mutex_lock(&lock);
		LIST_REMOVE(child, next);
		pthread_mutex_unlock(&lock);
	}
	crowd_leave(child->crowd);
	free(child);
}

/* -- what it complains of -------------------------------------------------- */

static void
on_errors(struct kquay *q, const struct kevent *ev, void *arg)
{
	struct child *child = arg;

	if (read_errors(child) == -1)
		close_errors(child);
}

/* Returns 1; 0 if there is nothing now, or -1 if there will be nothing more. */
static int
read_errors(struct child *child)
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
		if (data[i] == '\n' || child->nline == sizeof(child->line) - 1)
			log_errors(child);
		if (data[i] != '\n')
			child->line[child->nline++] = data[i];
	}
	return 1;
}

static void
log_errors(struct child *child)
{
	log_service(LEVEL_NOTICE, child->service, "%s: %.*s", child->peer,
	    (int)child->nline, child->line);
	child->nline = 0;
}

static void
close_errors(struct child *child)
{
	if (child->errors == -1)
		return;
	if (child->nline > 0)
		log_errors(child);
	unwatch(child, (uintptr_t)child->errors, EVFILT_READ);
	close(child->errors);
	child->errors = -1;
}
