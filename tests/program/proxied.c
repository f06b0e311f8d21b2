/*
 * A server behind proxies, for test_proxy.py, and a client of them.
 *
 *	proxied directory
 *
 * It listens on 127.0.0.1 and on directory/proxied for connections with a
 * PROXY header, on 127.0.0.1 for plain ones and for ones with TLS, by
 * directory/server.pem and the authority directory/ca.pem; prints the three
 * ports; and tells everybody how it sees them:
 *
 *	peer 192.0.2.1:4711 local 192.0.2.2:80 type=value ...
 *
 * "VERSION HOST PORT" has it dial there with a PROXY header of that version
 * about who asks, or 0, and tell what comes back; - as the port is a UNIX
 * socket.
 */
#include <kquay.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	int type;
	const char *name;
} fields[] = {
	{ KQUAY_TLV_ALPN, "alpn" },
	{ KQUAY_TLV_AUTHORITY, "authority" },
	{ KQUAY_TLV_UNIQUE_ID, "id" },
	{ KQUAY_TLV_SSL_VERSION, "version" },
	{ KQUAY_TLV_SSL_CN, "cn" },
	{ KQUAY_TLV_SSL_CIPHER, "cipher" },
};

static int
tell(struct kquay_conn *c)
{
	union {
		struct sockaddr_storage ss;
		struct sockaddr_in in4;
		struct sockaddr_un un;
	} local;
	char host[INET_ADDRSTRLEN];
	const unsigned char *ssl;
	const char *value;
	size_t i, len;

	kquay_localaddr(c, &local.ss);
	kquay_printf(c, "peer %s local ", kquay_peer(c));
	if (local.ss.ss_family == AF_INET)
		kquay_printf(c, "%s:%u",
		    inet_ntop(AF_INET, &local.in4.sin_addr, host, sizeof(host)),
		    ntohs(local.in4.sin_port));
	else
		kquay_printf(c, "%s", local.un.sun_path);
	for (i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
		value = kquay_proxytlv(c, fields[i].type, &len);
		if (value != NULL)
			kquay_printf(c, " %s=%.*s", fields[i].name, (int)len,
			    value);
	}
	ssl = kquay_proxytlv(c, KQUAY_TLV_SSL, &len);
	if (ssl != NULL)
		kquay_printf(c, " ssl=%x verify=%x", ssl[0], ssl[4]);
	return kquay_puts(c, "\n");
}

/* What comes from the dialled goes to the one whose id it has. */
static void
answer(struct kquay_conn *c, char *text, size_t len)
{
	struct kquay_conn *to =
	    kquay_find(kquay_of(c), *(uint64_t *)kquay_udata(c));

	(void)len;
	if (to != NULL)
		kquay_printf(to, "%s\n", text);
	kquay_close(c);
}

static void
failed(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *to =
	    kquay_find(kquay_of(c), *(uint64_t *)kquay_udata(c));

	if (to != NULL && why == KQUAY_ERROR)
		kquay_printf(to, "error %s\n", strerror(errno));
}

static void
ask(struct kquay_conn *c, char *text, size_t len)
{
	static const struct kquay_ops dialled = { .line = answer,
		.close = failed };
	char host[128], port[16];
	struct kquay_target target = { .host = host, .client = c };
	struct kquay_conn *d;

	(void)len;
	if (sscanf(text, "%d %127s %15s", &target.proxy, host, port) != 3) {
		kquay_close(c);
		return;
	}
	target.port = strcmp(port, "-") == 0 ? NULL : port;
	d = kquay_dialto(kquay_of(c), &target, &dialled);
	if (d == NULL)
		kquay_printf(c, "error %s\n", strerror(errno));
	else
		*(uint64_t *)kquay_udata(d) = kquay_id(c);
}

static const char *
in(const char *directory, const char *name)
{
	static char paths[4][256];
	static int turn;

	snprintf(paths[turn % 4], sizeof(paths[0]), "%s/%s", directory, name);
	return paths[turn++ % 4];
}

int
main(int argc, char **argv)
{
	static const char *const alpn[] = { "echo", NULL };
	struct kquay_ops ops = { .open = tell, .line = ask };
	struct kquay_conf conf = { .maxconn = 100,
		.udatasz = sizeof(uint64_t) };
	struct kquay *q = kquay_new(&ops, &conf);
	struct kquay_cert cert;
	struct kquay_tls_conf tls = { .certs = &cert,
		.ncerts = 1,
		.alpn = alpn,
		.flags = KQUAY_TLS_ASK };
	const char *text;
	char error[256];
	struct kquay_tls *t;
	unsigned n;

	if (q == NULL || argc != 2)
		errx(64, "usage: proxied directory");
	kquay_proxy(q, 1);
	if (kquay_listen(q, "127.0.0.1", "0") == -1 ||
	    kquay_listen_unix(q, in(argv[1], "proxied"), 0600) == -1)
		errx(1, "%s", kquay_error(q));
	kquay_proxy(q, 0);
	if (kquay_listen(q, "127.0.0.1", "0") == -1)
		errx(1, "%s", kquay_error(q));
	cert.chain = cert.key = in(argv[1], "server.pem");
	tls.cafile = in(argv[1], "ca.pem");
	t = kquay_tls_new(&tls, error, sizeof(error));
	if (t == NULL)
		errx(1, "%s", error);
	if (kquay_tls(q, t) == -1 || kquay_listen(q, "127.0.0.1", "0") == -1)
		errx(1, "%s", kquay_error(q));
	for (n = 0; (text = kquay_listening(q, n)) != NULL; n++)
		if (strncmp(text, "unix:", 5) != 0)
			printf("%s ", strrchr(text, ':') + 1);
	printf("\n");
	fflush(stdout);
	n = (unsigned)(kquay_run(q) == -1);
	kquay_tls_free(t);
	kquay_free(q);
	return (int)n;
}
