/* libkquay, as its users write it. */
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
	struct kquay *q;
	int listener;

	listener = echo_listen(argc, argv);
	q = kquay_new(&ops, NULL);
	if (q == NULL || kquay_listen_fd(q, listener) == -1)
		err(1, "kquay");
	echo_ready();
	return kquay_run(q) == -1;
}
