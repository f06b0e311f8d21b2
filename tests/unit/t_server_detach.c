/*
 * kquay_detach(): the descriptor goes, the slot stays.
 */
#include "t_server_kit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static int taken, lines;

static int
take(struct kquay_conn *c)
{
	taken = kquay_detach(c);
	return 0;
}

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
	lines++;
}

static const struct kquay_ops takes = { .open = take,
	.line = on_line,
	.close = kit_on_close };
static const struct kquay_ops leaves = { .line = on_line,
	.close = kit_on_close };

static void
expect_text(int fd, const char *want)
{
	char got[64];

	ck_assert_int_eq(recv(fd, got, sizeof(got), 0), strlen(want));
	ck_assert_mem_eq(got, want, strlen(want));
}

START_TEST(the_descriptor_is_ours_and_the_slot_counts)
{
	struct kquay_conf conf = { .maxconn = 1, .refusal = "full\n" };
	int fd, other;

	kit_start(&takes, &conf);
	fd = kit_join();
	ck_assert_int_ne(taken, -1);
	ck_assert_int_eq(fcntl(taken, F_GETFD), FD_CLOEXEC);
	/* What comes is not the loop's. */
	kit_send(fd, "for you\n");
	kit_settle();
	ck_assert_int_eq(lines, 0);
	expect_text(taken, "for you\n");
	ck_assert_int_eq(send(taken, "and me\n", 7, 0), 7);
	expect_text(fd, "and me\n");
	ck_assert_int_eq(kquay_write(kit_conn(), "x", 1), -1);
	ck_assert_int_eq(errno, EPIPE);
	/* The table is full until the slot is given back. */
	other = kit_connect();
	kit_expect_end(other, "full\n");
	kquay_close(kit_conn());
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_DONE);
	ck_assert_int_ne(fcntl(taken, F_GETFD), -1);
	close(other);
	other = kit_join();
	ck_assert_int_eq(close(taken), 0);
	close(other);
	close(fd);
	kit_stop();
}
END_TEST

START_TEST(its_life_is_limited)
{
	struct kquay_conf conf = { .maxconn = 4, .idle = 1, .life = 60 };

	kit_start(&takes, &conf);
	kit_join();
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_LIFE);
	ck_assert_int_eq(close(taken), 0);
	kit_stop();
}
END_TEST

START_TEST(a_stop_waits_for_it)
{
	kit_start(&takes, NULL);
	kit_join();
	kquay_stop(q);
	kit_settle();
	ck_assert(!kquay_done(q));
	ck_assert_int_eq(kit_closed.n, 0);
	kquay_close(kit_conn());
	UNTIL(kquay_done(q));
	ck_assert_int_eq(kit_closed.n, 1);
	kit_stop();

	kit_start(&takes, NULL);
	kit_join();
	kquay_stop(q);
	kquay_stop(q);
	UNTIL(kquay_done(q));
	ck_assert_int_eq(kit_closed.n, 1);
	ck_assert_int_eq(kit_closed.why, KQUAY_SHUTDOWN);
	kit_stop();
}
END_TEST

START_TEST(not_with_bytes_in_hand)
{
	int fd;

	kit_start(&leaves, NULL);
	fd = kit_join();
	kit_send(fd, "half a li");
	kit_settle();
	ck_assert_int_eq(kquay_detach(kit_conn()), -1);
	ck_assert_int_eq(errno, EBUSY);
	kit_send(fd, "ne\n");
	UNTIL(lines == 1);
	/* A second one, and one that is closing. */
	ck_assert_int_ne(taken = kquay_detach(kit_conn()), -1);
	ck_assert_int_eq(kquay_detach(kit_conn()), -1);
	ck_assert_int_eq(errno, EINVAL);
	close(fd);
	kit_settle();
	ck_assert_int_eq(kit_closed.n, 0);
	ck_assert_int_eq(close(taken), 0);
	kit_stop();
	ck_assert_int_eq(kit_closed.n, 1);
}
END_TEST

static const TTest **const tests[] = {
	&the_descriptor_is_ours_and_the_slot_counts,
	&its_life_is_limited,
	&a_stop_waits_for_it,
	&not_with_bytes_in_hand,
};

KIT_MAIN("server_detach", tests)
