/* TLS by libkquay, as its users write it. */
#include "echo.h"

#include <err.h>
#include <kquay.h>

static ssize_t
input(struct kquay_conn *c, char *bytes, size_t len)
{
	return kquay_write(c, bytes, len) == -1 ? -1 : (ssize_t)len;
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .input = input };
	struct kquay_cert cert;
	struct kquay_tls_conf conf = { .certs = &cert, .ncerts = 1 };
	struct kquay_tls *tls;
	struct kquay *q;
	char error[256];
	int listener;

	if (argc < 3)
		errx(64, "usage: tls_kquay CERTIFICATE ADDRESS");
	cert = (struct kquay_cert){ .chain = argv[1] };
	listener = echo_listen(argc - 1, argv + 1);
	tls = kquay_tls_new(&conf, error, sizeof(error));
	if (tls == NULL)
		errx(1, "%s", error);
	q = kquay_new(&ops, NULL);
	if (q == NULL || kquay_tls(q, tls) == -1 ||
	    kquay_listen_fd(q, listener) == -1)
		err(1, "kquay");
	echo_ready();
	return kquay_run(q) == -1;
}
