/*
 * tlsload: kload for TLS servers that echo.
 *
 *	tlsload MODE [-c CONNECTIONS] [-s BYTES] [-d SECONDS] [-w SECONDS]
 *	    [--json] --watch PID HOST:PORT
 *
 *	full		connect, handshake, one exchange, close, again
 *	resumed		the same, resuming an earlier session
 *	pingpong	one exchange after the other
 *	idle		one exchange, then look at the server's memory
 *
 * An exchange is to send -s bytes (64) and to await their echo; it goes on
 * for -d seconds (1) after the first -w (0.1), on -c connections (1).
 *
 * Prints one JSON object, with the names of kload.  Every byte that comes
 * back is compared with what was sent; anything else than that is an error,
 * and the exit status is 1.
 */
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <openssl/ssl.h>

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define RECORD 16384
#define WINDOW (16 * RECORD) /* most that a connection has under way */
#define PERIOD 65521         /* prime: a shift by any buffer's size shows */
#define NEVENTS 256

struct conn {
	SSL *ssl;
	int fd;
	int resumes; /* it was begun with a session */
	uint64_t sent, got, end;
};

enum mode { FULL, RESUMED, PINGPONG, IDLE };

static const char *const modes[] = { "full", "resumed", "pingpong", "idle" };

static enum mode mode;
static int nconns = 1;
static uint64_t size = 64;
static double seconds = 1, warmup = 0.1;
static pid_t watched;
static struct addrinfo *server;

static unsigned char pattern[PERIOD + RECORD];
static SSL_CTX *ctx;
static SSL_SESSION *session; /* the first; all resume it */
static int ep;
static uint64_t ops, bytes;

static double
now(clockid_t clock)
{
	struct timespec ts;

	if (clock_gettime(clock, &ts) == -1)
		err(1, "clock_gettime");
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* CPU of the server so far, in seconds. */
static double
server_cpu(void)
{
	clockid_t clock;

	errno = clock_getcpuclockid(watched, &clock);
	if (errno != 0)
		err(1, "process %d", (int)watched);
	return now(clock);
}

static double
server_memory(void)
{
	char path[64], line[128];
	unsigned long kb = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)watched);
	f = fopen(path, "r");
	if (f == NULL)
		err(1, "%s", path);
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "Rss: %lu", &kb) == 1)
			break;
	fclose(f);
	return (double)kb * 1024;
}

static void
start(struct conn *c)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLOUT | EPOLLET,
		.data.ptr = c };
	int on = 1;

	c->fd = socket(server->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (c->fd == -1)
		err(1, "socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	if (connect(c->fd, server->ai_addr, server->ai_addrlen) == -1 &&
	    errno != EINPROGRESS)
		err(1, "connect");
	c->ssl = SSL_new(ctx);
	c->resumes = mode == RESUMED && session != NULL;
	if (c->ssl == NULL || SSL_set_fd(c->ssl, c->fd) != 1 ||
	    (c->resumes && SSL_set_session(c->ssl, session) != 1))
		errx(1, "SSL_new");
	SSL_set_connect_state(c->ssl);
	c->sent = c->got = 0;
	c->end = size;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &ev) == -1)
		err(1, "epoll_ctl");
}

static void
stop(struct conn *c)
{
	if (c->resumes && !SSL_session_reused(c->ssl))
		errx(1, "a session was not resumed");
	if (mode == RESUMED && session == NULL)
		session = SSL_get1_session(c->ssl);
	SSL_shutdown(c->ssl);
	SSL_free(c->ssl);
	close(c->fd);
}

/* Whether rc of an SSL_...() means to wait; anything else is the end. */
static int
waits(struct conn *c, int rc)
{
	int why = SSL_get_error(c->ssl, rc);

	if (why != SSL_ERROR_WANT_READ && why != SSL_ERROR_WANT_WRITE)
		errx(1, "TLS failed: SSL error %d", why);
	return 1;
}

/* Send and receive until the kernel says to wait, or all is there. */
static void
pump(struct conn *c)
{
	static unsigned char buf[RECORD];
	uint64_t len;
	int n, waiting;

	do {
		waiting = 0;
		len = c->end - c->sent;
		if (len > RECORD)
			len = RECORD;
		if (len > 0 && c->sent - c->got < WINDOW) {
			n = SSL_write(c->ssl, pattern + c->sent % PERIOD,
			    (int)len);
			if (n > 0) {
				c->sent += (uint64_t)n;
				continue;
			}
			waiting = waits(c, n);
		}
		n = SSL_read(c->ssl, buf, sizeof(buf));
		if (n <= 0) {
			waits(c, n);
			waiting |=
			    c->sent == c->end || c->sent - c->got >= WINDOW;
			continue;
		}
		waiting = 0;
		if (c->got + (uint64_t)n > c->sent ||
		    memcmp(buf, pattern + c->got % PERIOD, (size_t)n) != 0)
			errx(1, "wrong bytes");
		c->got += (uint64_t)n;
		bytes += (uint64_t)n;
	} while (c->got < c->end && !waiting);
}

/* One batch of events. */
static void
turn(void)
{
	struct epoll_event evs[NEVENTS];
	struct conn *c;
	int i, n;

	n = epoll_wait(ep, evs, NEVENTS, 10000);
	if (n == 0)
		errx(1, "nothing for 10 s");
	for (i = 0; i < n; i++) {
		c = evs[i].data.ptr;
		if (c->got == c->end)
			continue;
		pump(c);
		while (c->got == c->end) {
			ops++;
			if (mode == IDLE)
				break;
			if (mode == PINGPONG) {
				c->end += size;
				pump(c);
				continue;
			}
			stop(c);
			start(c);
		}
	}
}

static void
measure(void)
{
	double began, cpu, took, end;

	end = now(CLOCK_MONOTONIC) + warmup;
	while (
	    now(CLOCK_MONOTONIC) < end || (mode == RESUMED && session == NULL))
		turn();
	ops = bytes = 0;
	began = now(CLOCK_MONOTONIC);
	cpu = server_cpu();
	while (now(CLOCK_MONOTONIC) < began + seconds)
		turn();
	cpu = server_cpu() - cpu;
	took = now(CLOCK_MONOTONIC) - began;
	printf("{\"mode\":\"%s\",\"connections\":%d,\"seconds\":%.3f,"
	       "\"ops\":%ju,\"ops_per_s\":%.1f,\"bytes\":%ju,"
	       "\"watch_cpu_us_per_op\":%.3f,\"watch_cpu_s_per_gb\":%.4f}\n",
	    modes[mode], nconns, took, (uintmax_t)ops, (double)ops / took,
	    (uintmax_t)bytes, cpu * 1e6 / (double)ops,
	    cpu * 1e9 / (double)bytes);
}

static void
hold(double before)
{
	while (ops < (uint64_t)nconns)
		turn();
	printf("{\"mode\":\"idle\",\"connections\":%d,"
	       "\"watch_rss_per_conn\":%.1f}\n",
	    nconns, (server_memory() - before) / nconns);
}

static void
find_server(char *address)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM };
	char *port = strrchr(address, ':');
	int error;

	if (port == NULL)
		errx(64, "%s: want HOST:PORT", address);
	*port++ = '\0';
	error = getaddrinfo(address, port, &hints, &server);
	if (error != 0)
		errx(1, "%s: %s", address, gai_strerror(error));
}

static void
parse(int argc, char *argv[])
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'j' },
		{ "watch", required_argument, NULL, 'p' },
		{ NULL, 0, NULL, 0 },
	};
	int ch;

	while ((ch = getopt_long(argc, argv, "c:d:s:w:", longs, NULL)) != -1) {
		if (ch == 'c')
			nconns = atoi(optarg);
		else if (ch == 'd')
			seconds = atof(optarg);
		else if (ch == 's')
			size = strtoull(optarg, NULL, 10);
		else if (ch == 'w')
			warmup = atof(optarg);
		else if (ch == 'p')
			watched = atoi(optarg);
		else if (ch == '?')
			exit(64);
	}
	while (
	    mode < 4 && optind < argc && strcmp(argv[optind], modes[mode]) != 0)
		mode++;
	if (argc - optind != 2 || mode == 4 || nconns < 1 || size < 1 ||
	    watched == 0)
		errx(64,
		    "usage: tlsload MODE [OPTION ...] --watch PID "
		    "HOST:PORT");
	find_server(argv[optind + 1]);
}

int
main(int argc, char *argv[])
{
	struct rlimit rl;
	struct conn *conns;
	double before;
	int i;

	parse(argc, argv);
	signal(SIGPIPE, SIG_IGN);
	if (getrlimit(RLIMIT_NOFILE, &rl) == 0) {
		rl.rlim_cur = rl.rlim_max;
		setrlimit(RLIMIT_NOFILE, &rl);
	}
	for (i = 0; i < PERIOD; i++)
		pattern[i] = (unsigned char)((i * 2654435761U) >> 13);
	memcpy(pattern + PERIOD, pattern, RECORD);
	ep = epoll_create1(EPOLL_CLOEXEC);
	ctx = SSL_CTX_new(TLS_client_method());
	conns = calloc((size_t)nconns, sizeof(*conns));
	if (ep == -1 || ctx == NULL || conns == NULL)
		err(1, "out of memory");
	SSL_CTX_set_mode(ctx,
	    SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	before = server_memory();
	for (i = 0; i < nconns; i++)
		start(&conns[i]);
	if (mode == IDLE)
		hold(before);
	else
		measure();
	return 0;
}
