/*
 * threads: an echo on all processors.
 *
 *	threads [port [threads]]
 *
 * Each message has its length before it, in four bytes.  No connection is
 * ever in two threads, so there is nothing to lock; what all of them count
 * is atomic.
 */
#include <err.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include <kquay.h>

static atomic_ulong messages;

static void
echo(struct kquay_conn *c, char *data, size_t len)
{
	atomic_fetch_add(&messages, 1);
	kquay_frame(c, data, len);
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .frame = echo, .framing = { .prefix = 4 } };
	struct kquay_conf conf = { .maxconn = 10000, .inmax = 1 << 20 };
	struct kquay_team *t;

	t = kquay_team_new(&ops, &conf, argc > 2 ? (unsigned)atoi(argv[2]) : 0);
	if (t == NULL)
		err(1, "kquay_team_new");
	if (kquay_team_listen(t, NULL, argc > 1 ? argv[1] : "7007") == -1)
		errx(1, "%s", kquay_error(kquay_team_loop(t, 0)));
	if (kquay_team_run(t) == -1)
		err(1, "kquay_team_run");
	kquay_team_free(t);
	printf("%lu messages\n", atomic_load(&messages));
	return 0;
}
