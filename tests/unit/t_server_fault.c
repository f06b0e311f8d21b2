/*
 * Faults: each system call of the loop fails in every way that it can, and
 * each allocation fails once.  Whatever fails, the others are served, every
 * connection is closed once, and nothing is lost or left.
 */
#include "t_memory.h"
#include "t_server_kit.h"
#include "server.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* -- system calls that fail ------------------------------------------------ */

/* The next calls fail so: err each (0: one byte only), then all is well. */
static struct fault {
	int times, err;
} fault_read, fault_write, fault_accept, fault_kevent;

/* Whether this call is to fail; *len becomes 1 if it is to be short. */
static bool
fails(struct fault *f, size_t *len)
{
	if (f->times == 0)
		return false;
	f->times--;
	if (f->err == 0) {
		if (len != NULL && *len > 1)
			*len = 1;
		return false;
	}
	errno = f->err;
	return true;
}

static ssize_t
faulty_read(int fd, void *buf, size_t len)
{
	return fails(&fault_read, &len) ? -1 : recv(fd, buf, len, 0);
}

static ssize_t
faulty_write(int fd, const void *buf, size_t len)
{
	return fails(&fault_write, &len) ? -1 :
					   send(fd, buf, len, MSG_NOSIGNAL);
}

static int
faulty_accept(int fd, struct sockaddr *sa, socklen_t *salen)
{
	return fails(&fault_accept, NULL) ?
	    -1 :
	    accept4(fd, sa, salen, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static int
faulty_kevent(int kq, const struct kevent *changes, int nchanges,
    struct kevent *events, int nevents, const struct timespec *timeout)
{
	int n;

	if (!fails(&fault_kevent, NULL))
		return kevent(kq, changes, nchanges, events, nevents, timeout);
	/* EINTR comes after the changes were applied, the others before. */
	if (fault_kevent.err == EINTR) {
		n = kevent(kq, changes, nchanges, NULL, 0, NULL);
		ck_assert_int_eq(n, 0);
		errno = EINTR;
	}
	return -1;
}

static const struct kquay_sys faulty = { .read = faulty_read,
	.write = faulty_write,
	.accept = faulty_accept,
	.kevent = faulty_kevent };

static ssize_t
echo(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static const struct kquay_ops echoes = { .input = echo, .close = kit_on_close };
static const struct kquay_conf conf = { .maxconn = 8, .sys = &faulty };

START_TEST(what_is_transient_is_not_seen)
{
	static const int errs[] = { 0, EINTR, EAGAIN, ENOBUFS, ENOMEM };
	size_t i, j;
	int fd;

	kit_start(&echoes, &conf);
	fd = kit_join();
	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++)
		for (j = 0; j < 4; j++) {
			fault_read = (struct fault){ j & 1 ? 5 : 0, errs[i] };
			fault_write = (struct fault){ j & 2 ? 5 : 0, errs[i] };
			kit_send(fd, "some words to come back");
			kit_expect(fd, "some words to come back");
		}
	ck_assert_int_eq(kit_closed.n, 0);
	kit_stop();
}
END_TEST

START_TEST(what_is_fatal_ends_one)
{
	static const int errs[] = { ECONNRESET, EPIPE, ETIMEDOUT, EIO };
	int victim, other, n = 0;
	size_t i;

	kit_start(&echoes, &conf);
	other = kit_join();
	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		victim = kit_join();
		fault_read = (struct fault){ 1, errs[i] };
		kit_send(victim, "x");
		UNTIL(kit_closed.n == n + 1);
		ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
		ck_assert_int_eq(kit_closed.err, errs[i]);
		close(victim);

		victim = kit_join();
		fault_write = (struct fault){ 1, errs[i] };
		kit_send(victim, "x");
		UNTIL(kit_closed.n == n + 2);
		ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
		ck_assert_int_eq(kit_closed.err, errs[i]);
		close(victim);

		n += 2;
		kit_send(other, "still here");
		kit_expect(other, "still here");
	}
	kit_stop();
}
END_TEST

START_TEST(accept_fails_and_recovers)
{
	static const int errs[] = { EINTR, EAGAIN, ECONNABORTED, EPROTO,
		ENETDOWN, EPERM, ENOBUFS, ENOMEM };
	size_t i;
	int fd;

	kit_start(&echoes, &conf);
	for (i = 0; i < sizeof(errs) / sizeof(errs[0]); i++) {
		fault_accept = (struct fault){ 3, errs[i] };
		fd = kit_join();
		kit_send(fd, "hello");
		kit_expect(fd, "hello");
		close(fd);
		UNTIL(kit_closed.n == (int)i + 1);
	}
	kit_stop();
}
END_TEST

/* EMFILE that is not ours to cure must not spin either. */
START_TEST(accept_without_descriptors_rests)
{
	struct kquay_stat st;
	int fd;

	kit_start(&echoes, &conf);
	fault_accept = (struct fault){ 8, EMFILE };
	fd = kit_join();
	kquay_stats(q, &st);
	/* Two calls an attempt, and an attempt a rest: not a batch each. */
	ck_assert_uint_lt(st.batches, 12);
	kit_send(fd, "hello");
	kit_expect(fd, "hello");
	kit_stop();
}
END_TEST

START_TEST(kevent_fails_and_can_be_tried_again)
{
	int fd;

	kit_start(&echoes, &conf);
	fault_kevent = (struct fault){ 1, ENOMEM };
	ck_assert_int_eq(kquay_step(q, 0), -1);
	ck_assert_int_eq(errno, ENOMEM);
	fault_kevent = (struct fault){ 5, EINTR };
	fd = kit_join();
	kit_send(fd, "hello");
	kit_expect(fd, "hello");
	fault_kevent = (struct fault){ 1, EBADF };
	ck_assert_int_eq(kquay_run(q), -1);
	ck_assert_int_eq(errno, EBADF);
	kit_send(fd, "again");
	kit_expect(fd, "again");
	kit_stop();
}
END_TEST

/* -- memory that is not there ---------------------------------------------- */

static void
ignore(struct kquay *loop, const struct kevent *ev, void *arg)
{
}

static void
ignore_post(struct kquay *loop, void *arg)
{
}

static void
ignore_srv(struct kquay *loop, int err, const struct kquay_srv *list, size_t n,
    uint32_t ttl, void *arg)
{
}

/*
 * All that allocates, with the n-th allocation failing.  Whether it was
 * reached.
 */
static bool
setup_with_failure(int n)
{
	struct kquay_conf all = { .maxconn = 8,
		.maxperaddr = 4,
		.udatasz = 16,
		.maxdial = 2,
		.refusal = "no\n",
		.nameservers = "127.0.0.1:1",
		.flags = KQUAY_NOSIGNAL | KQUAY_TRAFFIC };
	int watched = 0, posted = 0, asked = 0;
	int err[3] = { ENOMEM, ENOMEM, ENOMEM };
	bool counts = true;
	struct kevent ev;

	memory_countdown = n;
	q = kquay_new(&echoes, &all);
	if (q != NULL) {
		counts = q->traffic != NULL;
		kquay_listen(q, "127.0.0.1", "0");
		EV_SET(&ev, 1, EVFILT_USER, EV_ADD, 0, 0, NULL);
		watched = kquay_watch(q, &ev, ignore, NULL);
		err[0] = errno;
		posted = kquay_post(q, ignore_post, NULL);
		err[1] = errno;
		asked = kquay_resolve_srv(q, "_x._tcp.test", ignore_srv, NULL);
		err[2] = errno;
		kquay_free(q);
		q = NULL;
	}
	n = memory_countdown;
	memory_countdown = 0;
	ck_assert(counts);
	ck_assert(watched == 0 || err[0] == ENOMEM);
	ck_assert(posted == 0 || err[1] == ENOMEM);
	ck_assert(asked == 0 || err[2] == ENOMEM);
	return n == 0;
}

START_TEST(each_allocation_of_the_setup_may_fail)
{
	int before = unit_descriptors(), n;

	for (n = 1; setup_with_failure(n); n++) {
		ck_assert_int_lt(n, 100);
		ck_assert_int_eq(unit_descriptors(), before);
	}
	ck_assert_int_gt(n, 5);
	ck_assert_int_eq(unit_descriptors(), before);
}
END_TEST

static void
on_line(struct kquay_conn *c, char *text, size_t len)
{
}

START_TEST(a_connection_without_memory_ends_alone)
{
	static const struct kquay_ops ops = { .line = on_line,
		.close = kit_on_close };
	static char flood[4 << 20];
	struct kquay_conf big = { .maxconn = 8, .outmax = sizeof(flood) };
	struct kquay_conn *c;
	int a, b;

	kit_start(&ops, &big);
	a = kit_join();
	/* To keep half a line. */
	kit_send(a, "half a li");
	memory_countdown = 1;
	UNTIL(kit_closed.n == 1);
	ck_assert_int_eq(memory_countdown, 0);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, ENOMEM);
	/* To queue what the kernel does not take. */
	b = kit_join();
	c = kit_conn();
	memory_countdown = 1;
	while (kquay_write(c, flood, sizeof(flood)) == 0)
		;
	ck_assert_int_eq(errno, ENOMEM);
	ck_assert_int_eq(memory_countdown, 0);
	UNTIL(kit_closed.n == 2);
	ck_assert_int_eq(kit_closed.why, KQUAY_ERROR);
	ck_assert_int_eq(kit_closed.err, ENOMEM);
	kit_expect_reset(b);
	kit_stop();
}
END_TEST

static const TTest **const tests[] = {
	&what_is_transient_is_not_seen,
	&what_is_fatal_ends_one,
	&accept_fails_and_recovers,
	&accept_without_descriptors_rests,
	&kevent_fails_and_can_be_tried_again,
	&each_allocation_of_the_setup_may_fail,
	&a_connection_without_memory_ends_alone,
};

KIT_MAIN("server_fault", tests)
