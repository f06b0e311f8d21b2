/*
 * A relay by libkquay: examples/forward.c, to a port of this machine.  -n:
 * copies only, as where SIGPIPE would end the process.
 *
 *	relay_kquay PORT [-n] ADDRESS
 */
#include "echo.h"

#include <err.h>
#include <kquay.h>
#include <signal.h>

static const char *port;

/* Until both are joined, each has the id of the other. */
static struct kquay_conn *
other(struct kquay_conn *c)
{
	return kquay_find(kquay_of(c), *(uint64_t *)kquay_udata(c));
}

static void
closed(struct kquay_conn *c, enum kquay_why why)
{
	struct kquay_conn *o = other(c);

	if (o != NULL)
		kquay_close(o);
}

static int
connected(struct kquay_conn *server)
{
	struct kquay_conn *client = other(server);

	if (client == NULL || kquay_splice(client, server) == -1)
		return -1;
	*(uint64_t *)kquay_udata(client) = 0;
	*(uint64_t *)kquay_udata(server) = 0;
	kquay_pause(client, 0);
	return 0;
}

static int
called(struct kquay_conn *client)
{
	static const struct kquay_ops ops = { .open = connected,
		.close = closed };
	struct kquay_conn *server;

	server = kquay_dial(kquay_of(client), "127.0.0.1", port, &ops, 0);
	if (server == NULL)
		return -1;
	*(uint64_t *)kquay_udata(client) = kquay_id(server);
	*(uint64_t *)kquay_udata(server) = kquay_id(client);
	kquay_pause(client, 1);
	return 0;
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .open = called, .close = closed };
	struct kquay_conf conf = { .udatasz = sizeof(uint64_t) };
	struct kquay *q;
	int listener;

	if (argc < 3)
		errx(64, "usage: relay_kquay PORT [-n] ADDRESS");
	port = argv[1];
	listener = echo_listen(argc - 1, argv + 1);
	if (echo_flag_n) {
		conf.flags = KQUAY_NOSIGNAL;
		signal(SIGPIPE, SIG_DFL);
	}
	q = kquay_new(&ops, &conf);
	if (q == NULL || kquay_listen_fd(q, listener) == -1)
		err(1, "kquay");
	echo_ready();
	return kquay_run(q) == -1;
}
