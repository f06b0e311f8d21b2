/*
 * TLS by libkquay, for the tests that talk to others' TLS:
 *
 *	sealed serve [-c CAFILE] [-r] [-a PROTOCOL] CHAIN KEY ...
 *	sealed dial [-c CAFILE] [-a PROTOCOL] [-n NAME] HOST PORT [CHAIN KEY]
 *
 * The server listens at a free port of 127.0.0.1, which it prints.  A line
 * "GET PATH ..." is answered as HTTP would, with as many bytes as PATH says;
 * of a PUT the bytes are counted; every other line comes back.  SIGHUP reads
 * the files anew.  The client sends "hello" and prints what comes, line by
 * line.  Both print what happens to connections.
 */
#include <err.h>
#include <errno.h>
#include <kquay.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct talk {
	int get, put;
	long left;
};

static void
note(struct kquay_conn *c, const char *what)
{
	struct kquay_tlsinfo t;

	if (kquay_tlsinfo(c, &t) == -1)
		err(1, "kquay_tlsinfo");
	printf("%s %s %s name=%s protocol=%s subject=%s verified=%d "
	       "resumed=%d\n",
	    what, t.version ? t.version : "-", t.cipher ? t.cipher : "-",
	    t.servername ? t.servername : "-", t.alpn ? t.alpn : "-",
	    t.subject ? t.subject : "-", t.verified, t.resumed);
	fflush(stdout);
}

static int
on_open(struct kquay_conn *c)
{
	note(c, "open");
	return 0;
}

static void
on_close(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_tlsinfo t;
	int e = errno;

	kquay_tlsinfo(c, &t);
	printf("close %s%s%s%s%s\n", kquay_whystr(why),
	    why == KQUAY_ERROR ? " " : "",
	    why == KQUAY_ERROR ? strerror(e) : "", t.error ? ": " : "",
	    t.error ? t.error : "");
	fflush(stdout);
}

static void
on_refused(struct kquay *q, const struct sockaddr *sa, socklen_t salen)
{
	printf("refused %s: %s\n", strerror(errno), kquay_error(q));
	fflush(stdout);
}

/* -- the server */

static void
answer(struct kquay_conn *c)
{
	struct talk *talk = kquay_udata(c);
	char block[1024];
	long n;

	if (!talk->put) {
		memset(block, 'x', sizeof(block));
		kquay_puts(c, "HTTP/1.0 200 OK\r\n\r\n");
		for (; talk->left > 0; talk->left -= n) {
			n = talk->left < 1024 ? talk->left : 1024;
			kquay_write(c, block, (size_t)n);
		}
	} else
		kquay_puts(c, "HTTP/1.0 200 OK\r\n\r\nthanks\n");
	kquay_close(c);
}

static ssize_t
on_body(struct kquay_conn *c, char *data, size_t len)
{
	struct talk *talk = kquay_udata(c);

	talk->left -= (long)len;
	if (talk->left <= 0)
		answer(c);
	return (ssize_t)len;
}

static const struct kquay_ops body = { .input = on_body, .close = on_close };

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	struct talk *talk = kquay_udata(c);

	if (strncmp(text, "GET /", 5) == 0) {
		talk->get = 1;
		talk->left = atol(text + 5);
	} else if (strncmp(text, "PUT ", 4) == 0)
		talk->put = 1;
	else if (strncasecmp(text, "Content-Length: ", 16) == 0)
		talk->left = atol(text + 16);
	else if (talk->put && len == 0) {
		kquay_puts(c, "HTTP/1.1 100 Continue\r\n\r\n");
		kquay_setops(c, &body);
	} else if (talk->get) {
		if (len == 0)
			answer(c);
	} else if (!talk->put)
		kquay_printf(c, "%s\n", text);
}

static struct kquay_tls *tls;

static void
on_hup(struct kquay *q, const struct kevent *ev, void *arg)
{
	char error[256];

	if (kquay_tls_reload(tls, NULL, error, sizeof(error)) == -1)
		printf("reload: %s\n", error);
	else
		printf("reload\n");
	fflush(stdout);
}

static struct kquay *
serve(void)
{
	static const struct kquay_ops ops = { .open = on_open,
		.line = on_line,
		.close = on_close,
		.refused = on_refused };
	static const struct kquay_conf conf = { .maxconn = 64,
		.udatasz = sizeof(struct talk),
		.outmax = 64 << 20 };
	struct kquay *q = kquay_new(&ops, &conf);
	struct kevent ev;

	signal(SIGHUP, SIG_IGN);
	EV_SET(&ev, SIGHUP, EVFILT_SIGNAL, EV_ADD, 0, 0, NULL);
	if (q == NULL || kquay_watch(q, &ev, on_hup, NULL) == -1 ||
	    kquay_tls(q, tls) == -1 || kquay_listen(q, "127.0.0.1", "0") == -1)
		err(1, "kquay");
	printf("%s\n", strrchr(kquay_listening(q, 0), ':') + 1);
	fflush(stdout);
	return q;
}

/* -- the client */

static void
on_answer(struct kquay_conn *c, char *text, size_t len)
{
	printf("line %s\n", text);
	fflush(stdout);
	kquay_close(c);
}

static void
on_parted(struct kquay_conn *c, enum kquay_why why)
{
	on_close(c, why);
	kquay_stop(kquay_of(c));
}

static struct kquay *
dial(const char *host, const char *port, const char *name)
{
	static const struct kquay_ops ops = { .open = on_open,
		.line = on_answer,
		.close = on_parted };
	struct kquay_target target = { .host = host,
		.port = port,
		.tls = tls,
		.servername = name };
	struct kquay *q = kquay_new(&ops, NULL);
	struct kquay_conn *c;

	if (q == NULL || (c = kquay_dialto(q, &target, NULL)) == NULL)
		err(1, "kquay");
	kquay_puts(c, "hello\n");
	return q;
}

int
main(int argc, char *argv[])
{
	const char *protocols[2] = { NULL, NULL }, *name = NULL;
	struct kquay_tls_conf conf = { .alpn = protocols };
	int ch, serving = argc > 1 && strcmp(argv[1], "serve") == 0;
	struct kquay_cert certs[8];
	char error[256];
	struct kquay *q;

	argc--;
	argv++;
	while ((ch = getopt(argc, argv, "a:c:n:r")) != -1)
		switch (ch) {
		case 'a':
			protocols[0] = optarg;
			break;
		case 'c':
			conf.cafile = optarg;
			conf.flags |= serving ? KQUAY_TLS_ASK : 0;
			break;
		case 'n':
			name = optarg;
			break;
		case 'r':
			conf.flags |= KQUAY_TLS_REQUIRE;
			break;
		default:
			return 64;
		}
	argv += optind;
	argc -= optind;
	conf.certs = certs;
	for (ch = serving ? 0 : 2; ch + 1 < argc && conf.ncerts < 8; ch += 2) {
		certs[conf.ncerts].chain = argv[ch];
		certs[conf.ncerts++].key = argv[ch + 1];
	}
	tls = kquay_tls_new(&conf, error, sizeof(error));
	if (tls == NULL)
		errx(1, "%s", error);
	q = serving ? serve() : dial(argv[0], argv[1], name);
	if (kquay_run(q) == -1)
		err(1, "kquay_run");
	kquay_free(q);
	kquay_tls_free(tls);
	return 0;
}
