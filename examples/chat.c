/*
 * chat: TCP on every address of the host, IPv4 and IPv6, and a UNIX socket;
 * ten slots; refusal when full; clean end on SIGTERM.
 *
 *	chat [port [path]]		then: nc localhost 8080, nc -U local.s
 */
#include <err.h>
#include <kquay.h>

static int
hello(struct kquay_conn *c)
{
	return kquay_puts(c, "welcome!\n");
}

static void
say(struct kquay_conn *c, char *line, size_t len)
{
	struct kquay_conn *o;

	KQUAY_FOREACH(o, kquay_of(c))
		if (o != c)
			kquay_printf(o, "%s: %s\n", kquay_peer(c), line);
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .open = hello, .line = say };
	struct kquay_conf conf = {
		.maxconn = 10,
		.refusal = "connection refused\n",
	};
	struct kquay *q = kquay_new(&ops, &conf);

	if (q == NULL)
		err(1, "kquay_new");
	if (kquay_listen(q, NULL, argc > 1 ? argv[1] : "8080") == -1 ||
	    kquay_listen_unix(q, argc > 2 ? argv[2] : "local.s", 0600) == -1)
		err(1, "kquay_listen");
	return kquay_run(q) == -1;
}
