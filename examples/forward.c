/*
 * forward: forwards a port to another server.
 *
 *	forward [-p] port host hostport
 *
 * With -p the server is told who the client is, by a PROXY header.
 */
#include <err.h>
#include <string.h>

#include <kquay.h>

static struct kquay_target target;

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

	(void)why;
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

	target.client = client;
	server = kquay_dialto(kquay_of(client), &target, &ops);
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
	struct kquay *q = kquay_new(&ops, &conf);

	if (q == NULL)
		err(1, "kquay_new");
	if (argc > 1 && strcmp(argv[1], "-p") == 0) {
		target.proxy = 2;
		argv++;
		argc--;
	}
	if (argc != 4)
		errx(64, "usage: forward [-p] port host hostport");
	target.host = argv[2];
	target.port = argv[3];
	if (kquay_listen(q, NULL, argv[1]) == -1)
		errx(1, "%s", kquay_error(q));
	return kquay_run(q) == -1;
}
