/*
 * Writing without waiting.
 *
 * Standard error is shared with whoever gave it to us, so it must not become
 * non-blocking: that is a property of what is open, not of our descriptor.  A
 * pipe or a terminal is opened a second time by its name in /dev/fd, for a
 * property of its own; where that is not allowed, or does not do that, it is
 * asked with poll(2) first and gets at most PIPE_BUF bytes, which a pipe has
 * room for then unless somebody else was faster.
 *
 * A stream may take a part of a record.  The rest of it is kept, and nothing
 * else is written before it.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "record.h"
#include "sink.h"

#define REST_MS 100 /* how long not to try again after an error */
#define MODE 0640

struct sink {
	enum sink_kind kind;
	int fd;
	int ours;      /* fd is, and is closed at the end */
	int made;      /* the file was not there before */
	int is_socket; /* a stream, all the same */
	int may_wait;  /* write(2) would: ask before */
	size_t most;   /* bytes of one write */
	char *path;    /* of a file or socket */
	pthread_mutex_t lock;
	int64_t again;         /* ms; not to be tried before; 0: at once */
	char rest[RECORD_MAX]; /* of a record that was begun */
	size_t nrest;
};

static const struct form {
	const char *name;
	enum sink_kind kind;
	const char *path; /* unless the target has one; NULL: it must */
	int (*open)(struct sink *);
} * find_form(const char *, const char **);

static int open_stderr(struct sink *);
static int open_file(struct sink *);
static int open_socket(struct sink *);
static int call(int, const char *);
static int open_path(const char *, int);
static void adopt_stream(struct sink *, int, int);
static size_t write_stream(struct sink *, const char *, size_t);
static int write_rest(struct sink *);
static size_t whole_records(const char *, size_t, size_t);
static size_t write_some(struct sink *, const char *, size_t);
static ssize_t write_once(const struct sink *, const char *, size_t);
static size_t write_datagrams(struct sink *, const char *, size_t, unsigned *);
static int send_record(struct sink *, const char *, size_t);
static int64_t now(void);

static const struct form forms[] = {
	{ "stderr", SINK_STREAM, "", open_stderr },
	{ "file", SINK_STREAM, NULL, open_file },
	{ "syslog", SINK_SYSLOG, "/dev/log", open_socket },
	{ "journald", SINK_JOURNAL, "/run/systemd/journal/socket",
	    open_socket },
};

int
sink_valid(const char *target, char *why, size_t whysz)
{
	const struct form *form;
	const char *path;

	form = find_form(target, &path);
	if (form == NULL) {
		snprintf(why, whysz,
		    "none of stderr, syslog, journald, file:PATH and none");
		return -1;
	}
	if (path == NULL) {
		snprintf(why, whysz, "the path is missing");
		return -1;
	}
	if (form->open == open_socket &&
	    strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path)) {
		snprintf(why, whysz, "the path is too long for a UNIX socket");
		return -1;
	}
	return 0;
}

/* The row, and the path that the target names or means; NULL: none. */
static const struct form *
find_form(const char *target, const char **path)
{
	size_t i, len = strcspn(target, ":");
	const struct form *form;

	for (i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		form = &forms[i];
		if (strlen(form->name) != len ||
		    strncmp(target, form->name, len) != 0 ||
		    (target[len] == ':' && form->open == open_stderr))
			continue;
		*path = form->path;
		if (target[len] == ':')
			*path =
			    target[len + 1] != '\0' ? target + len + 1 : NULL;
		return form;
	}
	return NULL;
}

struct sink *
sink_open(const char *target, char *why, size_t whysz)
{
	const struct form *form;
	const char *path;
	struct sink *sink;

	if (sink_valid(target, why, whysz) == -1)
		return NULL;
	form = find_form(target, &path);
	sink = calloc(1, sizeof(*sink));
	if (sink == NULL || (sink->path = strdup(path)) == NULL) {
		snprintf(why, whysz, "%s", strerror(errno));
		free(sink);
		return NULL;
	}
	sink->kind = form->kind;
	sink->fd = -1;
	if (form->open(sink) == -1) {
		snprintf(why, whysz, "%s: %s", *path != '\0' ? path : target,
		    strerror(errno));
		free(sink->path);
		free(sink);
		return NULL;
	}
	pthread_mutex_init(&sink->lock, NULL);
	return sink;
}

void
sink_free(struct sink *sink)
{
	if (sink == NULL)
		return;
	pthread_mutex_destroy(&sink->lock);
	if (sink->ours)
		close(sink->fd);
	free(sink->path);
	free(sink);
}

enum sink_kind
sink_kind(const struct sink *sink)
{
	return sink->kind;
}

static int
open_stderr(struct sink *sink)
{
	struct stat st;
	char name[32];
	int fd = -1;

	if (fstat(STDERR_FILENO, &st) == -1)
		return -1;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		snprintf(name, sizeof(name), "/dev/fd/%d", STDERR_FILENO);
		fd = open_path(name, 0);
	}
	adopt_stream(sink, fd != -1 ? fd : STDERR_FILENO, fd != -1);
	return 0;
}

static int
open_file(struct sink *sink)
{
	int fd;

	fd = open_path(sink->path, O_CREAT | O_EXCL);
	sink->made = fd != -1;
	if (fd == -1)
		fd = open_path(sink->path, O_CREAT);
	if (fd == -1)
		return -1;
	adopt_stream(sink, fd, 1);
	return 0;
}

static int
open_path(const char *path, int how)
{
	return open(path,
	    O_WRONLY | O_APPEND | O_NONBLOCK | O_NOCTTY | O_CLOEXEC | how,
	    MODE);
}

/* Whatever it is, stat and fcntl tell how to write to it. */
static void
adopt_stream(struct sink *sink, int fd, int ours)
{
	struct stat st = { .st_mode = 0 };

	fstat(fd, &st);
	sink->fd = fd;
	sink->ours = ours;
	sink->is_socket = S_ISSOCK(st.st_mode);
	sink->may_wait = !S_ISREG(st.st_mode) && !S_ISSOCK(st.st_mode) &&
	    (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
	sink->most = S_ISREG(st.st_mode) ? SIZE_MAX : PIPE_BUF;
}

static int
open_socket(struct sink *sink)
{
	int fd, saved;

	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd == -1)
		return -1;
	if (call(fd, sink->path) == -1) {
		saved = errno;
		close(fd);
		errno = saved;
		return -1;
	}
	sink->fd = fd;
	sink->ours = 1;
	return 0;
}

static int
call(int fd, const char *path)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };

	strlcpy(un.sun_path, path, sizeof(un.sun_path));
	return connect(fd, (struct sockaddr *)&un, sizeof(un));
}

int
sink_give(const struct sink *sink, uid_t uid, gid_t gid)
{
	return sink->made ? fchown(sink->fd, uid, gid) : 0;
}

int
sink_pending(struct sink *sink)
{
	int pending;

	pthread_mutex_lock(&sink->lock);
	pending = sink->nrest > 0;
	pthread_mutex_unlock(&sink->lock);
	return pending;
}

size_t
sink_write(struct sink *sink, const char *buf, size_t len, unsigned *lost)
{
	size_t done = 0;

	pthread_mutex_lock(&sink->lock);
	if (sink->again == 0 || now() >= sink->again) {
		sink->again = 0;
		if (sink->kind == SINK_STREAM)
			done = write_stream(sink, buf, len);
		else
			done = write_datagrams(sink, buf, len, lost);
	}
	pthread_mutex_unlock(&sink->lock);
	return done;
}

static size_t
write_stream(struct sink *sink, const char *buf, size_t len)
{
	size_t done = 0, n, written;

	if (!write_rest(sink))
		return 0;
	while (done < len) {
		n = whole_records(buf + done, len - done, sink->most);
		written = write_some(sink, buf + done, n);
		done += written;
		if (written == n)
			continue;
		if (written > 0 && buf[done - 1] != '\n') {
			n = (size_t)((const char *)memchr(buf + done, '\n',
					 len - done) +
			    1 - (buf + done));
			memcpy(sink->rest, buf + done, n);
			sink->nrest = n;
			done += n;
		}
		break;
	}
	return done;
}

/* Is there none any more? */
static int
write_rest(struct sink *sink)
{
	size_t written;

	if (sink->nrest == 0)
		return 1;
	written = write_some(sink, sink->rest, sink->nrest);
	sink->nrest -= written;
	memmove(sink->rest, sink->rest + written, sink->nrest);
	return sink->nrest == 0;
}

/* The length of the first ones: one at least, and no more than most bytes. */
static size_t
whole_records(const char *buf, size_t len, size_t most)
{
	const char *end;

	if (len <= most)
		return len;
	end = memrchr(buf, '\n', most);
	if (end == NULL)
		end = memchr(buf, '\n', len);
	return (size_t)(end + 1 - buf);
}

/* Returns how many bytes went; after an error the sink rests. */
static size_t
write_some(struct sink *sink, const char *buf, size_t len)
{
	struct pollfd fd = { .fd = sink->fd, .events = POLLOUT };
	ssize_t n;

	if (sink->may_wait && poll(&fd, 1, 0) == 0)
		return 0;
	do
		n = write_once(sink, buf, len);
	while (n == -1 && errno == EINTR);
	if (n >= 0)
		return (size_t)n;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		sink->again = now() + REST_MS;
	return 0;
}

static ssize_t
write_once(const struct sink *sink, const char *buf, size_t len)
{
	if (sink->is_socket)
		return send(sink->fd, buf, len, MSG_DONTWAIT | MSG_NOSIGNAL);
	return write(sink->fd, buf, len);
}

static size_t
write_datagrams(struct sink *sink, const char *buf, size_t len, unsigned *lost)
{
	size_t done = 0, n;

	for (; done < len; done += n + 1) {
		n = strlen(buf + done);
		if (send_record(sink, buf + done, n) == 0)
			continue;
		if (errno == EMSGSIZE) { /* it never will go */
			++*lost;
			continue;
		}
		break;
	}
	return done;
}

/* Whoever listens there may have been started anew: call once more. */
static int
send_record(struct sink *sink, const char *record, size_t len)
{
	int called = 0;

	for (;;) {
		if (send(sink->fd, record, len, MSG_DONTWAIT | MSG_NOSIGNAL) !=
		    -1)
			return 0;
		switch (errno) {
		case EINTR:
			continue;
		case EAGAIN:
		case ENOBUFS:
		case EMSGSIZE:
			return -1;
		default:
			break;
		}
		if (called++ || call(sink->fd, sink->path) == -1) {
			sink->again = now() + REST_MS;
			return -1;
		}
	}
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}
