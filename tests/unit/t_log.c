/*
 * The log to each kind of place, when it takes all, and when it takes none:
 * nothing waits, nothing is torn, and what is lost is counted.
 */
#include "log.h"
#include "t_unit.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define DEADLINE_MS 20000

static char folder[64];

static void
setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	strcpy(folder, "/tmp/t_log.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void
teardown(void)
{
	char command[128];

	log_close();
	snprintf(command, sizeof(command), "rm -r %s", folder);
	ck_assert_int_eq(system(command), 0);
}

static const char *
path_of(const char *name)
{
	static char paths[4][128];
	static int turn;
	char *path = paths[turn++ % 4];

	snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
	return path;
}

static int
log_to(const struct log_conf *conf, char *why, size_t whysz)
{
	struct log_output *output;

	if (log_prepare(conf, &output, why, whysz) == -1)
		return -1;
	log_use(output);
	return 0;
}

/* KIND:PATH of a name in the folder. */
static void
open_log(const char *kind, const char *name, int format)
{
	char target[160], why[256] = "";
	struct log_conf conf = { .target = target,
		.format = format,
		.level = LEVEL_INFO };

	if (name == NULL)
		snprintf(target, sizeof(target), "%s", kind);
	else
		snprintf(target, sizeof(target), "%s:%s", kind, path_of(name));
	ck_assert_msg(log_to(&conf, why, sizeof(why)) == 0, "%s", why);
}

static int64_t
now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* As a worker does that has nothing else to do. */
static void
flush_all(void)
{
	int64_t end = now() + DEADLINE_MS;
	int ms;

	while ((ms = log_flush()) != -1) {
		ck_assert_int_lt(now(), end);
		poll(NULL, 0, ms);
	}
}

/* A file as a string, until the fourth next one. */
static char *
content(const char *name)
{
	static char *texts[4];
	static int turn;
	FILE *in = fopen(path_of(name), "r");
	char *text = NULL;
	size_t size = 0;
	ssize_t n;

	ck_assert_ptr_nonnull(in);
	n = getdelim(&text, &size, '\0', in);
	if (n == -1)
		text[0] = '\0';
	fclose(in);
	free(texts[turn]);
	texts[turn] = text;
	turn = (turn + 1) % 4;
	return text;
}

/*
 * Are these lines whole, `msg="N LONG"' with the numbers from *next on, where
 * some are missing as many as the log says?  Returns how many are told lost.
 */
static unsigned
check_lines(char *text, unsigned *next)
{
	unsigned number, gap, lost = 0;
	char *line, *msg;

	while ((line = strsep(&text, "\n")) != NULL && *line != '\0') {
		ck_assert_msg(strncmp(line, "time=2", 6) == 0, "%s", line);
		msg = strstr(line, " msg=\"");
		ck_assert_msg(msg != NULL, "%s", line);
		ck_assert_msg(line[strlen(line) - 1] == '"', "%s", line);
		number = (unsigned)strtoul(msg + 6, &msg, 10);
		if (strncmp(msg, " line", 5) == 0) {
			ck_assert_ptr_nonnull(strstr(msg, " lost\""));
			ck_assert_ptr_nonnull(strstr(line, "level=warning"));
			gap = number;
			lost += gap;
			*next += gap;
			continue;
		}
		ck_assert_uint_eq(number, *next);
		++*next;
	}
	return lost;
}

static void
log_number(unsigned number)
{
	log_line(LEVEL_INFO, "%u %0100d", number, 0);
}

/* All that comes until the other end is closed, and while it is not. */
static size_t
read_some(int fd, char *buf, size_t size)
{
	size_t len = 0;
	ssize_t n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (len < size - 1 && (n = read(fd, buf + len, size - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	return len;
}

static const char *const good[] = { "none", "stderr", "syslog", "journald",
	"syslog:/x", "journald:/x", "file:x", "file:/x y" };
static const struct {
	const char *target, *why;
} bad[] = {
	{ "", "none of stderr, syslog, journald, file:PATH and none" },
	{ "stdout", "none of stderr, syslog, journald, file:PATH and none" },
	{ "stderr:", "none of stderr, syslog, journald, file:PATH and none" },
	{ "/var/log/x",
	    "none of stderr, syslog, journald, file:PATH and none" },
	{ "none:x", "none of stderr, syslog, journald, file:PATH and none" },
	{ "file", "the path is missing" },
	{ "file:", "the path is missing" },
	{ "syslog:", "the path is missing" },
	{ "journald:/"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	  "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	    "the path is too long for a UNIX socket" },
};

START_TEST(targets_are_checked)
{
	char why[256];
	size_t i;

	for (i = 0; i < COUNT(good); i++)
		ck_assert_int_eq(log_target_valid(good[i], why, sizeof(why)),
		    0);
	for (i = 0; i < COUNT(bad); i++) {
		ck_assert_int_eq(log_target_valid(bad[i].target, why,
				     sizeof(why)),
		    -1);
		ck_assert_str_eq(why, bad[i].why);
	}
}
END_TEST

START_TEST(what_cannot_be_opened_changes_nothing)
{
	struct log_conf conf = { .level = LEVEL_INFO };
	char target[160], why[256], wanted[256];
	unsigned next = 0;

	open_log("file", "log", LOG_TEXT);
	conf.target = target;
	snprintf(target, sizeof(target), "file:%s", path_of("no/log"));
	snprintf(wanted, sizeof(wanted), "%s: No such file or directory",
	    path_of("no/log"));
	ck_assert_int_eq(log_to(&conf, why, sizeof(why)), -1);
	ck_assert_str_eq(why, wanted);
	snprintf(target, sizeof(target), "syslog:%s", path_of("none"));
	ck_assert_int_eq(log_to(&conf, why, sizeof(why)), -1);
	log_number(0);
	flush_all();
	check_lines(content("log"), &next);
	ck_assert_uint_eq(next, 1);
}
END_TEST

START_TEST(nothing_is_logged_that_is_not_wanted)
{
	char *text;

	log_line(LEVEL_ERROR, "before");
	ck_assert_int_eq(log_flush(), -1);
	open_log("file", "log", LOG_TEXT);
	log_line(LEVEL_DEBUG, "too little");
	log_line(LEVEL_INFO, "info");
	log_service(LEVEL_ERROR, "chat", "error %d", 5);
	flush_all();
	open_log("none", NULL, LOG_TEXT);
	log_line(LEVEL_ERROR, "none");
	flush_all();
	log_close();
	log_line(LEVEL_ERROR, "after");
	ck_assert_int_eq(log_flush(), -1);
	text = content("log");
	ck_assert_ptr_nonnull(strstr(text, " level=info msg=info\n"));
	ck_assert_ptr_nonnull(
	    strstr(text, " level=error service=chat msg=\"error 5\"\n"));
	ck_assert_ptr_null(strstr(text, "too little"));
	ck_assert_ptr_null(strstr(text, "none"));
	ck_assert_ptr_null(strstr(text, "before"));
	ck_assert_ptr_null(strstr(text, "after"));
	ck_assert_uint_eq(log_lost(), 0);
}
END_TEST

START_TEST(a_line_for_each_connection)
{
	struct log_connection c = { .level = LEVEL_INFO,
		.service = "app",
		.peer = "192.0.2.1:4711",
		.to = "10.0.0.1:80",
		.tls = "TLSv1.3",
		.why = "error",
		.error = ECONNRESET,
		.ms = 61002,
		.in = 12,
		.out = 3400 };
	struct log_connection bare = { .level = LEVEL_INFO,
		.service = "echo",
		.peer = "unix:0/1",
		.why = "closed by the peer",
		.ms = -1 };

	errno = 77;
	open_log("file", "log", LOG_TEXT);
	log_connection(&c);
	log_connection(&bare);
	open_log("file", "json", LOG_JSON);
	log_connection(&c);
	log_connection(&bare);
	flush_all();
	ck_assert_ptr_nonnull(strstr(content("log"),
	    " level=info service=app peer=192.0.2.1:4711 to=10.0.0.1:80 "
	    "seconds=61.002 in=12 out=3400 why=error "
	    "error=\"Connection reset by peer\" tls=TLSv1.3\n"));
	ck_assert_ptr_nonnull(strstr(content("log"),
	    " level=info service=echo peer=unix:0/1 seconds=0.000 in=0 out=0 "
	    "why=\"closed by the peer\"\n"));
	ck_assert_ptr_nonnull(strstr(content("json"),
	    "\"level\":\"info\",\"service\":\"app\",\"peer\":"
	    "\"192.0.2.1:4711\",\"to\":\"10.0.0.1:80\",\"seconds\":61.002,"
	    "\"in\":12,\"out\":3400,\"why\":\"error\",\"error\":"
	    "\"Connection reset by peer\",\"tls\":\"TLSv1.3\"}\n"));
}
END_TEST

/* Of a caller that looks at it after having logged something. */
START_TEST(errno_stays)
{
	ck_assert_int_eq(symlink("/dev/full", path_of("log")), 0);
	open_log("file", "log", LOG_TEXT);
	errno = EXDEV;
	log_line(LEVEL_INFO, "%s", strerror(errno));
	ck_assert_int_eq(errno, EXDEV);
	ck_assert_int_ge(log_flush(), 0);
	ck_assert_int_eq(errno, EXDEV);
	ck_assert_int_eq(unlink(path_of("log")), 0);
	open_log("file", "log", LOG_TEXT);
	flush_all();
	ck_assert_ptr_nonnull(strstr(content("log"), strerror(EXDEV)));
}
END_TEST

/* For the time of log_prepare() there may be no descriptor more. */
static void
open_stderr_log(int only_that)
{
	struct rlimit limit, none;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	if (only_that)
		ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
	open_log("stderr", NULL, LOG_TEXT);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

/*
 * Standard error, a pipe whose reader sleeps, then wakes up; with a descriptor
 * of the log's own, and without.
 */
START_TEST(a_pipe_that_nobody_reads)
{
	enum { MANY = 5000 };
	static char buf[1 << 20];
	unsigned i, next = 0, lost;
	int64_t end, begin;
	size_t len = 0;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	open_stderr_log(_i);
	begin = now();
	for (i = 0; i < MANY; i++) {
		log_number(i);
		log_flush();
	}
	ck_assert_int_lt(now() - begin, DEADLINE_MS);
	lost = (unsigned)log_lost();
	ck_assert_uint_gt(lost, MANY / 2);
	ck_assert_uint_lt(lost, MANY);
	ck_assert_int_ge(log_flush(), 0);
	/* Others of whom it is still wait in it. */
	ck_assert_int_eq(fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0);

	end = now() + DEADLINE_MS;
	while (log_flush() != -1) {
		len += read_some(fds[0], buf + len, sizeof(buf) - len);
		ck_assert_int_lt(now(), end);
	}
	log_number(MANY);
	flush_all();
	len += read_some(fds[0], buf + len, sizeof(buf) - len);
	ck_assert_uint_eq(check_lines(buf, &next), lost);
	ck_assert_uint_eq(next, MANY + 1);
	ck_assert_uint_eq(log_lost(), lost);
}
END_TEST

START_TEST(a_pipe_whose_reader_is_gone)
{
	int fds[2], i;

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
	open_log("stderr", NULL, LOG_TEXT);
	close(fds[0]);
	for (i = 0; i < 5000; i++) {
		log_number((unsigned)i);
		log_flush();
	}
	ck_assert_uint_gt(log_lost(), 0);
	log_close();
	ck_assert_uint_eq(log_lost(), 5000);
}
END_TEST

/* A stream socket may take a part of a line. */
START_TEST(a_socket_as_standard_error)
{
	enum { MANY = 5000 };
	static char buf[1 << 20];
	unsigned i, next = 0, lost;
	int sv[2], size = 4096;
	int64_t end;
	size_t len = 0;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	setsockopt(sv[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	ck_assert_int_eq(dup2(sv[1], STDERR_FILENO), STDERR_FILENO);
	open_log("stderr", NULL, LOG_TEXT);
	for (i = 0; i < MANY; i++) {
		log_number(i);
		log_flush();
		if (i % 1000 == 0)
			len += read_some(sv[0], buf + len, 1000);
	}
	lost = (unsigned)log_lost();
	ck_assert_uint_gt(lost, MANY / 4);
	end = now() + DEADLINE_MS;
	while (log_flush() != -1) {
		len += read_some(sv[0], buf + len, sizeof(buf) - len);
		ck_assert_int_lt(now(), end);
	}
	log_number(MANY);
	flush_all();
	read_some(sv[0], buf + len, sizeof(buf) - len);
	ck_assert_uint_eq(check_lines(buf, &next), lost);
	ck_assert_uint_eq(next, MANY + 1);
}
END_TEST

/* The disk is full, and then it is not. */
START_TEST(a_full_disk)
{
	unsigned i, next = 0, lost;
	struct stat st;

	ck_assert_int_eq(symlink("/dev/full", path_of("log")), 0);
	if (stat("/dev/full", &st) == -1)
		return;
	open_log("file", "log", LOG_TEXT);
	for (i = 0; i < 5000; i++) {
		log_number(i);
		log_flush();
	}
	lost = (unsigned)log_lost();
	ck_assert_uint_gt(lost, 1000);
	ck_assert_int_ge(log_flush(), 0);
	ck_assert_int_eq(unlink(path_of("log")), 0);
	open_log("file", "log", LOG_TEXT);
	flush_all();
	ck_assert_uint_eq(check_lines(content("log"), &next), lost);
	ck_assert_uint_eq(next, 5000);
}
END_TEST

/* It takes a part of a line: the rest comes before all else. */
START_TEST(a_disk_that_is_full_within_a_line)
{
	struct rlimit limit = { .rlim_cur = 1000, .rlim_max = RLIM_INFINITY };
	unsigned i, next = 0;
	struct stat st;

	signal(SIGXFSZ, SIG_IGN);
	open_log("file", "log", LOG_TEXT);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 1000;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	for (i = 0; i < 20; i++) {
		log_number(i);
		log_flush();
	}
	ck_assert_int_eq(stat(path_of("log"), &st), 0);
	ck_assert_int_eq(st.st_size, 1000);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	flush_all();
	ck_assert_uint_eq(check_lines(content("log"), &next), 0);
	ck_assert_uint_eq(next, 20);
}
END_TEST

/* The same with no line after it: the rest is not forgotten. */
START_TEST(the_rest_of_the_last_line)
{
	struct rlimit limit;
	unsigned next = 0;

	signal(SIGXFSZ, SIG_IGN);
	open_log("file", "log", LOG_TEXT);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
	limit.rlim_cur = 100;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	log_number(0);
	ck_assert_int_ge(log_flush(), 0);
	limit.rlim_cur = limit.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
	flush_all();
	check_lines(content("log"), &next);
	ck_assert_uint_eq(next, 1);
}
END_TEST

START_TEST(a_file_that_is_rotated)
{
	char target[160], why[256] = "";
	struct log_conf conf = { .target = target, .level = LEVEL_INFO };
	unsigned next = 0;

	open_log("file", "log", LOG_TEXT);
	log_number(0);
	flush_all();
	ck_assert_int_eq(rename(path_of("log"), path_of("log.1")), 0);
	log_number(1);
	flush_all();
	open_log("file", "log", LOG_TEXT);
	log_number(2);
	flush_all();
	check_lines(content("log.1"), &next);
	ck_assert_uint_eq(next, 2);
	check_lines(content("log"), &next);
	ck_assert_uint_eq(next, 3);

	/* What cannot be opened again stays as it is. */
	ck_assert_int_eq(rename(path_of("log"), path_of("log.2")), 0);
	ck_assert_int_eq(mkdir(path_of("log"), 0700), 0);
	snprintf(target, sizeof(target), "file:%s", path_of("log"));
	ck_assert_int_eq(log_to(&conf, why, sizeof(why)), -1);
	ck_assert_ptr_nonnull(strstr(why, strerror(EISDIR)));
	log_number(3);
	flush_all();
	next = 2;
	check_lines(content("log.2"), &next);
	ck_assert_uint_eq(next, 4);
}
END_TEST

/* Two writers of one file do not write over each other. */
START_TEST(a_file_grows_at_its_end)
{
	unsigned next = 0;
	int fd;

	open_log("file", "log", LOG_TEXT);
	log_number(0);
	flush_all();
	fd = open(path_of("log"), O_WRONLY | O_APPEND);
	ck_assert_int_eq(dprintf(fd, "time=2 msg=\"1\"\n"), 15);
	close(fd);
	log_number(2);
	flush_all();
	check_lines(content("log"), &next);
	ck_assert_uint_eq(next, 3);
}
END_TEST

START_TEST(another_log_takes_over)
{
	unsigned next = 0;

	open_log("file", "one", LOG_TEXT);
	log_number(0);
	open_log("file", "two", LOG_TEXT);
	log_number(1);
	flush_all();
	check_lines(content("one"), &next);
	ck_assert_uint_eq(next, 1);
	check_lines(content("two"), &next);
	ck_assert_uint_eq(next, 2);
	ck_assert_uint_eq(log_lost(), 0);
	/* What the old one does not take the new one may. */
	ck_assert_int_eq(symlink("/dev/full", path_of("full")), 0);
	open_log("file", "full", LOG_TEXT);
	log_number(2);
	log_flush();
	open_log("file", "two", LOG_TEXT);
	log_number(3);
	flush_all();
	next = 1;
	ck_assert_uint_eq(check_lines(content("two"), &next), 0);
	ck_assert_uint_eq(next, 4);
	ck_assert_uint_eq(log_lost(), 0);
	/* Unless it is of another form: that is counted, and told. */
	open_log("file", "full", LOG_JSON);
	log_number(4);
	log_number(5);
	log_flush();
	open_log("file", "two", LOG_TEXT);
	log_number(6);
	flush_all();
	next = 1;
	ck_assert_uint_eq(check_lines(content("two"), &next), 2);
	ck_assert_uint_eq(next, 7);
	ck_assert_uint_eq(log_lost(), 2);
}
END_TEST

/* Listen for datagrams there. */
static int
datagrams(const char *name)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

	strcpy(un.sun_path, path_of(name));
	unlink(un.sun_path);
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	return fd;
}

static const char *
receive(int fd)
{
	static char buf[8192];
	ssize_t n = recv(fd, buf, sizeof(buf) - 1, 0);

	ck_assert_int_ge(n, 0);
	buf[n] = '\0';
	ck_assert_uint_eq(strlen(buf), n);
	return buf;
}

START_TEST(syslog_gets_datagrams)
{
	const char *text;
	int fd = datagrams("log");
	char who[64];

	open_log("syslog", "log", LOG_TEXT);
	log_line(LEVEL_WARNING, "a \"quoted\"\nline");
	log_service(LEVEL_INFO, "chat", "two");
	flush_all();
	snprintf(who, sizeof(who), " t_log[%ld]: a \"quoted\"\\nline",
	    (long)getpid());
	text = receive(fd);
	ck_assert_int_eq(strncmp(text, "<28>", 4), 0);
	ck_assert_ptr_nonnull(strstr(text, who));
	ck_assert_ptr_nonnull(strstr(receive(fd), "]: chat: two"));
	open_log("syslog", "log", LOG_JSON);
	log_line(LEVEL_WARNING, "three");
	flush_all();
	text = receive(fd);
	ck_assert_int_eq(strncmp(text, "<28>", 4), 0);
	ck_assert_ptr_nonnull(strstr(text, "]: {\"time\":\"2"));
	ck_assert_ptr_nonnull(strstr(text, "\"msg\":\"three\"}"));
}
END_TEST

START_TEST(the_journal_gets_fields)
{
	struct log_connection c = { .level = LEVEL_INFO,
		.service = "app",
		.peer = "x\nPRIORITY=0",
		.why = "done",
		.in = 1 };
	int fd = datagrams("journal");

	open_log("journald", "journal", LOG_JSON);
	log_connection(&c);
	log_line(LEVEL_ERROR, "an\nevent");
	flush_all();
	ck_assert_str_eq(receive(fd),
	    "PRIORITY=6\nSYSLOG_IDENTIFIER=t_log\n"
	    "MESSAGE=service=app peer=\"x\\nPRIORITY=0\" seconds=0.000 in=1 "
	    "out=0 why=done\n"
	    "KQUAY_SERVICE=app\nKQUAY_PEER=x\\nPRIORITY=0\n"
	    "KQUAY_SECONDS=0.000\nKQUAY_IN=1\nKQUAY_OUT=0\nKQUAY_WHY=done\n");
	ck_assert_str_eq(receive(fd),
	    "PRIORITY=3\nSYSLOG_IDENTIFIER=t_log\nMESSAGE=an\\nevent\n");
}
END_TEST

/* It is busy, it goes away, and it comes back. */
START_TEST(syslog_that_is_away_for_a_while)
{
	enum { MANY = 3000 };
	unsigned i, lost = 0, got = 0, number;
	int fd = datagrams("log");
	int64_t end = now() + DEADLINE_MS;
	const char *text;

	open_log("syslog", "log", LOG_TEXT);
	for (i = 0; i < MANY; i++) {
		log_number(i);
		log_flush();
	}
	ck_assert_uint_gt(log_lost(), 0);
	/* What lies unread in its socket goes with it. */
	for (; recv(fd, &(char){ 0 }, 1, 0) != -1; got++)
		continue;
	ck_assert_uint_gt(got, 0);
	close(fd);
	ck_assert_int_ge(log_flush(), 0);
	fd = datagrams("log");
	while (log_flush() != -1 ||
	    poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1, 0) == 1) {
		ck_assert_int_lt(now(), end);
		if (poll(&(struct pollfd){ .fd = fd, .events = POLLIN }, 1,
			10) == 0)
			continue;
		text = strstr(receive(fd), "]: ") + 3;
		number = (unsigned)strtoul(text, NULL, 10);
		if (strstr(text, " lost") != NULL)
			lost += number;
		else {
			ck_assert_uint_eq(number, got);
			got++;
		}
	}
	ck_assert_uint_eq(lost, log_lost());
	ck_assert_uint_eq(got + lost, MANY);
}
END_TEST

enum { THREADS = 4, LINES = 3000 };

static void *
worker(void *arg)
{
	unsigned i, *me = arg;

	for (i = 0; i < LINES; i++) {
		log_line(LEVEL_INFO, "%u %u", *me, i);
		if (i % 7 == 0)
			log_flush();
		if (*me == 0 && i % 500 == 0)
			open_log("file", "log", LOG_TEXT);
	}
	return NULL; /* which flushes */
}

START_TEST(threads_share_a_file)
{
	unsigned names[THREADS], next[THREADS] = { 0 }, who, number, i;
	pthread_t thread[THREADS];
	char *text, *line, *msg;

	open_log("file", "log", LOG_TEXT);
	for (i = 0; i < THREADS; i++) {
		names[i] = i;
		ck_assert_int_eq(pthread_create(&thread[i], NULL, worker,
				     &names[i]),
		    0);
	}
	for (i = 0; i < THREADS; i++)
		pthread_join(thread[i], NULL);
	ck_assert_uint_eq(log_lost(), 0);
	for (text = content("log"); (line = strsep(&text, "\n")) != NULL;) {
		if (*line == '\0')
			break;
		msg = strstr(line, " level=info msg=\"");
		ck_assert_ptr_nonnull(msg);
		ck_assert_int_eq(sscanf(msg, " level=info msg=\"%u %u\"", &who,
				     &number),
		    2);
		ck_assert_uint_lt(who, THREADS);
		ck_assert_uint_eq(number, next[who]++);
	}
	for (i = 0; i < THREADS; i++)
		ck_assert_uint_eq(next[i], LINES);
}
END_TEST

int
main(void)
{
	static const TTest **const tests[] = { &targets_are_checked,
		&what_cannot_be_opened_changes_nothing,
		&nothing_is_logged_that_is_not_wanted,
		&a_line_for_each_connection, &errno_stays,
		&a_pipe_whose_reader_is_gone, &a_socket_as_standard_error,
		&a_full_disk, &a_disk_that_is_full_within_a_line,
		&the_rest_of_the_last_line, &a_file_that_is_rotated,
		&a_file_grows_at_its_end, &another_log_takes_over,
		&syslog_gets_datagrams, &the_journal_gets_fields,
		&syslog_that_is_away_for_a_while, &threads_share_a_file };
	TCase *tc = unit_begin("log");
	size_t i;

	tcase_add_checked_fixture(tc, setup, teardown);
	for (i = 0; i < COUNT(tests); i++)
		tcase_add_test(tc, *tests[i]);
	tcase_add_loop_test(tc, a_pipe_that_nobody_reads, 0, 2);
	tcase_set_timeout(tc, 60);
	return unit_end();
}
