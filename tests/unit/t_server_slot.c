/* White box: slots of the table, and what an idle connection costs. */
#include "t_server_kit.h"
#include "server.h"

#include <sys/mman.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	static char answer[1 << 20];

	ck_assert_uint_gt(len, 0);
	kquay_write(c, answer, sizeof(answer));
}

START_TEST(an_idle_connection_owns_its_slot_alone)
{
	static const struct kquay_ops ops = { .line = on_line };
	struct kquay_conf conf = { .maxconn = 4, .outmax = 16 << 20 };
	static char sink[1 << 20];
	const struct more *more;
	struct kquay_conn *c;
	size_t got = 0;
	ssize_t n;
	int fd, i;

	kit_start(&ops, &conf);
	ck_assert_uint_eq(sizeof(*c), 64);
	fd = kit_join();
	c = kit_conn();
	more = kquay_pool_more(c);
	for (i = 0; i < 8; i++)
		kit_send(fd, "a line\n");
	kit_send(fd, "half a ");
	UNTIL(more->out != NULL);
	while (got < (size_t)i << 20) {
		UNTIL((n = recv(fd, sink, sizeof(sink), 0)) > 0);
		got += (size_t)n;
	}
	UNTIL(more->in != NULL);
	kit_send(fd, "line\n");
	for (got = 0; got < 1 << 20; got += (size_t)n)
		UNTIL((n = recv(fd, sink, sizeof(sink), 0)) > 0);
	kit_settle();
	ck_assert_ptr_null(more->in);
	ck_assert_ptr_null(more->out);
	ck_assert_uint_eq(more->outlen, 0);
	ck_assert(!kquay_wheel_has(c));
	ck_assert_ptr_null(q->corked);
	kit_stop();
}
END_TEST

static struct kquay_conn *caller;

static int
on_dialled(struct kquay_conn *server)
{
	kquay_timeout(server, -1, -1);
	if (kquay_splice(caller, server) == -1)
		return -1;
	kquay_pause(caller, 0);
	return 0;
}

/* The caller is relayed to our own listener, where it is the second. */
static int
on_caller(struct kquay_conn *c)
{
	static const struct kquay_ops dialled = { .open = on_dialled };

	if (caller != NULL)
		return 0;
	caller = c;
	kquay_pause(c, 1);
	return kquay_dial(q, "127.0.0.1", kit_port, &dialled, 0) == NULL ? -1 :
									   0;
}

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	kquay_write(c, data, len);
	return (ssize_t)len;
}

/* The table of the busy cannot be written here, not even with zero. */
START_TEST(an_idle_pair_owns_its_joints_alone)
{
	static const struct kquay_ops ops = { .open = on_caller,
		.input = echo };
	struct kquay_conf conf = { .maxconn = 4, .idle = 60000 };
	size_t size = 5 * sizeof(*q->more);
	int fd, i;

	kit_start(&ops, &conf);
	free(q->more);
	q->more =
	    mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(q->more, MAP_FAILED);
	/* Their slots are the same each time. */
	for (i = 0; i < 3; i++) {
		caller = NULL;
		fd = kit_join();
		kit_send(fd, "a question\n");
		kit_expect(fd, "a question\n");
		ck_assert_uint_eq(q->nconn, 3);
		ck_assert_uint_eq(q->used, 3);
		ck_assert_uint_eq(caller->state, CONN_SPLICE);
		close(fd);
		UNTIL(q->nconn == 0);
	}
	munmap(q->more, size);
	q->more = NULL;
	kit_stop();
}
END_TEST

START_TEST(a_slot_is_reused_with_a_new_generation)
{
	struct kquay_conf conf = { .maxconn = 3 };
	static const struct kquay_ops ops;
	struct kquay_conn *c;
	uint64_t id;
	int fd, i;

	kit_start(&ops, &conf);
	kit_join();
	for (i = 0; i < 20; i++) {
		fd = kit_join();
		c = kquay_next(q, kquay_next(q, NULL));
		id = c->id;
		ck_assert_uint_eq(kquay_pool_link(c), 2);
		ck_assert_ptr_eq(kquay_pool_tagged(q, (uintptr_t)id), c);
		close(fd);
		UNTIL(q->nconn == 1);
		ck_assert_uint_eq(c->state, CONN_FREE);
		ck_assert_ptr_null(kquay_pool_tagged(q, (uintptr_t)id));
		/* The next id is no connection's yet. */
		ck_assert_ptr_null(kquay_find(q, c->id));
		ck_assert_uint_gt(c->id, id);
	}
	/* The third slot was never touched. */
	ck_assert_uint_eq(q->used, 2);
	ck_assert_uint_eq(kquay_pool_at(q, 3)->id, 0);
	kit_stop();
}
END_TEST

/* What was left in the change list must not reach a number's next file. */
START_TEST(changes_of_a_closed_descriptor_are_forgotten)
{
	static const struct kquay_ops ops;
	struct kquay_conn *c;
	int sv[2], fd, i;

	kit_start(&ops, NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	c = kquay_adopt(q, sv[0], NULL);
	ck_assert_ptr_nonnull(c);
	kquay_pause(c, 1);
	kquay_pause(c, 0);
	ck_assert_int_eq(q->nchanges, 2);
	kquay_abort(c);
	kquay_conn_reap(q);
	ck_assert_int_eq(q->nchanges, 0);
	fd = open("/dev/zero", O_RDONLY);
	ck_assert_int_eq(fd, sv[0]);
	/* A watched /dev/zero would be ready at every step. */
	for (i = 0; i < 3; i++)
		ck_assert_int_eq(kquay_step(q, 0), 0);
	close(fd);
	close(sv[1]);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&an_idle_connection_owns_its_slot_alone,
	&an_idle_pair_owns_its_joints_alone,
	&a_slot_is_reused_with_a_new_generation,
	&changes_of_a_closed_descriptor_are_forgotten,
};

KIT_MAIN("server_slot", tests)
