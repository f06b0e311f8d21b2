/*
 * What real programs do with a kqueue and trust it to do: libevent, libev,
 * HAProxy, nginx, lighttpd, redis, entr, libuv.  The tests are the calls that
 * these programs make, in their order.
 */
#include "family.h"

#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>

/* A call that would wait for ever must not outlive this test. */
static struct timespec *const FOR_EVER = NULL;

/*
 * R-CALL-14, R-CALL-15: libevent's check at start: one array for changes and
 * events, an ident of -1, no time-out.  It must come back with EV_ERROR.
 */
START_TEST(libevent_start_up_check)
{
	struct kevent ev[2];

	memset(ev, 0, sizeof(ev));
	ev[0].ident = (uintptr_t)-1;
	ev[0].filter = EVFILT_READ;
	ev[0].flags = EV_ADD;
	ck_assert_int_eq(kevent(t_kq, ev, 1, ev, 2, FOR_EVER), 1);
	ck_assert_int_eq((int)ev[0].ident, -1);
	ck_assert_int_ne(ev[0].flags & EV_ERROR, 0);
	ck_assert_int_eq(ev[0].data, EBADF);
}
END_TEST

/* R-CALL-14, R-CALL-15: an error among good changes ends the call, too. */
START_TEST(error_among_changes_ends_the_call)
{
	struct kevent change[3], ev[3];
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 1);
	EV_SET(&change[0], s[0], EVFILT_READ, EV_ADD, 0, 0, NULL);
	EV_SET(&change[1], s[1], EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
	EV_SET(&change[2], s[1], EVFILT_READ, EV_ADD, 0, 0, NULL);
	ck_assert_int_eq(kevent(t_kq, change, 3, ev, 3, FOR_EVER), 1);
	ck_assert_uint_eq(ev[0].ident, (uintptr_t)s[1]);
	ck_assert_int_ne(ev[0].flags & EV_ERROR, 0);
	ck_assert_int_eq(ev[0].data, ENOENT);
	t_expect(&ev[0], s[0], EVFILT_READ);
	t_delete(s[1], EVFILT_READ);
}
END_TEST

/* R-REG-03: EV_ADD of what is there succeeds, again and again, in each mode. */
START_TEST(add_again)
{
	static const int filters[] = { EVFILT_READ, EVFILT_WRITE };
	struct kevent ev;
	int s[2], i, j;
	char tag[2];

	need(_i);
	stream_open(_i, s);
	for (i = 0; i < 2; i++)
		for (j = 0; j < 6; j++)
			t_change(s[0], filters[i],
			    EV_ADD | (j < 3 ? 0 : EV_ENABLE), 0, 0,
			    &tag[j % 2]);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_ptr_eq(ev.udata, &tag[1]);
	t_delete(s[0], EVFILT_WRITE);
	t_put(s[1], 2);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_ptr_eq(ev.udata, &tag[1]);
}
END_TEST

/*
 * R-FD-01, R-FD-04, R-REG-11: HAProxy and nginx close without EV_DELETE, and
 * the number comes back with the next connection.
 */
START_TEST(close_and_reuse_of_the_number)
{
	struct family_addr addr;
	int listener, fd, peer, first = -1, i;
	struct kevent ev;

	need(_i);
	listener = family_listen(_i, &addr, 8);
	for (i = 0; i < 200; i++) {
		peer = family_connect(_i, &addr);
		t_until((fd = accept(listener, NULL, NULL)) != -1);
		if (first == -1)
			first = fd;
		ck_assert_int_eq(fd, first);
		t_change(fd, EVFILT_READ, EV_ADD | (i % 2 ? EV_CLEAR : 0), 0, 0,
		    (void *)(uintptr_t)i);
		t_put(peer, 1);
		t_expect(&ev, fd, EVFILT_READ);
		ck_assert_ptr_eq(ev.udata, (void *)(uintptr_t)i);
		ck_assert_int_eq(ev.data, 1);
		t_put(peer, 1);
		ck_assert_int_eq(close(fd), 0);
		t_none();
		ck_assert_int_eq(close(peer), 0);
	}
}
END_TEST

/* R-FD-01, R-FD-04: the same while a duplicate keeps the old file open. */
START_TEST(close_with_a_duplicate)
{
	int s[2], t[2], copy;

	t_unix(SOCK_STREAM, s);
	t_add(s[0], EVFILT_READ, 0);
	copy = dup(s[0]);
	ck_assert_int_eq(close(s[0]), 0);
	t_put(s[1], 3);
	t_quiet();
	t_unix(SOCK_STREAM, t);
	ck_assert_int_eq(t[0], s[0]);
	t_quiet();
	t_add(t[0], EVFILT_READ, 0);
	t_none();
	t_put(t[1], 4);
	t_expect_data(t[0], EVFILT_READ, 4);
	t_take(copy, 3);
}
END_TEST

/* R-FD-01: fclose() closes a watched descriptor as close() does. */
START_TEST(fclose_closes)
{
	int p[2], q[2];
	FILE *f;

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	f = fdopen(p[0], "r");
	ck_assert_int_ne(dup(p[0]), -1);
	ck_assert_int_eq(fclose(f), 0);
	t_put(p[1], 1);
	t_quiet();
	t_fails(EBADF, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	t_pipe(q);
	ck_assert_int_eq(q[0], p[0]);
	t_fails(ENOENT, q[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
}
END_TEST

/*
 * R-READ-06, R-READ-09, R-WRITE-04: every event library asks SO_ERROR after
 * WRITE has said that a connect() is over; a refused one must not look well.
 */
START_TEST(refused_connect_is_seen)
{
	socklen_t len = sizeof(int);
	struct family_addr addr;
	struct kevent ev[2];
	int fd, n, error;

	need(_i);
	family_nobody(_i, &addr);
	fd = family_socket(_i);
	n = connect(fd, (struct sockaddr *)&addr.sa, addr.len);
	if (n == 0 || errno != EINPROGRESS) {
		t_skip("connect() was refused at once");
		return;
	}
	t_add(fd, EVFILT_READ, 0);
	t_add(fd, EVFILT_WRITE, 0);
	n = t_get(t_kq, ev, 2, T_DEADLINE_MS);
	ck_assert_int_ge(n, 1);
	while (n-- > 0) {
		ck_assert_int_ne(ev[n].flags & EV_EOF, 0);
		ck_assert_uint_eq(ev[n].fflags, ECONNREFUSED);
	}
	ck_assert_int_eq(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len), 0);
	ck_assert_int_eq(error, ECONNREFUSED);
}
END_TEST

/* R-CALL-17, R-CALL-15: HAProxy's check: EV_RECEIPT ends the call at once. */
START_TEST(receipt_stops_the_scan)
{
	struct kevent change[2], ev[2];
	int p[2];

	t_pipe(p);
	t_put(p[1], 1);
	t_add(p[0], EVFILT_READ, 0);
	EV_SET(&change[0], p[1], EVFILT_WRITE, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	ck_assert_int_eq(kevent(t_kq, change, 1, ev, 2, FOR_EVER), 1);
	ck_assert_uint_eq(ev[0].ident, (uintptr_t)p[1]);
	ck_assert_int_ne(ev[0].flags & EV_ERROR, 0);
	ck_assert_int_eq(ev[0].data, 0);
	EV_SET(&change[0], p[1], EVFILT_WRITE, EV_DELETE, 0, 0, NULL);
	EV_SET(&change[1], p[1], EVFILT_READ, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	ck_assert_int_eq(kevent(t_kq, change, 2, ev, 1, FOR_EVER), 1);
	ck_assert_int_eq(ev[0].data, 0);
	ck_assert_int_eq(ev[0].filter, EVFILT_READ);
}
END_TEST

/* R-FD-12, R-FD-13: libev's ev_embed: a queue is polled, and watched. */
START_TEST(queue_in_a_loop)
{
	struct pollfd p = { .fd = t_kq, .events = POLLIN | POLLOUT };
	int outer, s[2];
	struct kevent ev;

	outer = kqueue();
	t_unix(SOCK_STREAM, s);
	t_add(s[0], EVFILT_READ, 0);
	t_add_on(outer, t_kq, EVFILT_READ, 0);
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_int_eq(t_get(outer, &ev, 1, 0), 0);
	t_put(s[1], 1);
	ck_assert_int_eq(poll(&p, 1, T_DEADLINE_MS), 1);
	ck_assert_int_eq(p.revents & (POLLIN | POLLOUT | POLLHUP), POLLIN);
	t_expect_on(outer, &ev, t_kq, EVFILT_READ);
	ck_assert_int_eq(ev.data, 1);
	t_expect(&ev, s[0], EVFILT_READ);
	t_take(s[0], 1);
	t_none();
	ck_assert_int_eq(poll(&p, 1, 0), 0);
	ck_assert_int_eq(t_get(outer, &ev, 1, 0), 0);
}
END_TEST

/* R-REG-10, R-REG-11: EV_DELETE of a closed, then reused number. */
START_TEST(delete_after_close)
{
	int p[2], q[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	ck_assert_int_eq(close(p[0]), 0);
	t_fails(EBADF, p[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	t_pipe(q);
	ck_assert_int_eq(q[0], p[0]);
	t_fails(ENOENT, q[0], EVFILT_READ, EV_DELETE, 0, 0, NULL);
	t_fails(ENOENT, q[0], EVFILT_READ, EV_ENABLE, 0, 0, NULL);
}
END_TEST

/* R-READ-49: libevent's and libev's tests read from /dev/null. */
START_TEST(dev_null_is_readable)
{
	struct kevent ev;
	int fd;
	char c;

	fd = open("/dev/null", O_RDONLY);
	t_add(fd, EVFILT_READ, 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(read(fd, &c, 1), 0);
	ck_assert_int_eq(close(fd), 0);
	t_none();
}
END_TEST

/* R-WRITE-01, R-WRITE-20: nginx trusts data of WRITE as room for sending. */
START_TEST(write_data_is_the_room)
{
	struct kevent ev;
	int s[2];

	need(_i);
	stream_open(_i, s);
	t_add(s[0], EVFILT_WRITE, EV_CLEAR);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_int_gt(ev.data, 0);
}
END_TEST

/* R-READ-02: nginx's NOTE_LOWAT does not change what another knote sees. */
START_TEST(lowat_changes_no_socket)
{
	int s[2], other, lowat;
	socklen_t len = sizeof(lowat);
	struct kevent ev;

	need(_i);
	stream_open(_i, s);
	other = kqueue();
	t_change(s[0], EVFILT_READ, EV_ADD | EV_CLEAR, NOTE_LOWAT, 100, NULL);
	t_add_on(other, s[0], EVFILT_READ, EV_CLEAR);
	t_put(s[1], 1);
	t_expect_on(other, &ev, s[0], EVFILT_READ);
	t_quiet();
	ck_assert_int_eq(getsockopt(s[0], SOL_SOCKET, SO_RCVLOWAT, &lowat,
			     &len),
	    0);
	ck_assert_int_eq(lowat, 1);
}
END_TEST

static volatile sig_atomic_t handled;

static void
count(int sig)
{
	(void)sig;
	handled++;
}

static int until_fed[2];

static void *
older(void *arg)
{
	char c;

	while (read(until_fed[0], &c, 1) != 1)
		;
	return arg;
}

/*
 * R-SIG-02, R-SIG-03: libevent and lighttpd watch signals whose handlers are
 * the program's; threads that are older than the watch steal nothing.
 */
START_TEST(signals_stay_the_programs)
{
	struct kevent ev;
	pthread_t thread;
	sigset_t set;
	int i;

	ck_assert_int_eq(pipe(until_fed), 0);
	thread = t_thread(older, NULL);
	signal(SIGHUP, count);
	t_add(SIGHUP, EVFILT_SIGNAL, 0);
	for (i = 1; i <= 20; i++) {
		ck_assert_int_eq(kill(getpid(), SIGHUP), 0);
		t_until(handled == i);
		t_expect_data(SIGHUP, EVFILT_SIGNAL, 1);
	}
	ck_assert_int_eq(write(until_fed[1], "x", 1), 1);
	t_join(thread);

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	ck_assert_int_eq(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	ck_assert_int_eq(kill(getpid(), SIGHUP), 0);
	t_expect(&ev, SIGHUP, EVFILT_SIGNAL);
	ck_assert_int_eq(handled, 20);
	ck_assert_int_eq(sigprocmask(SIG_UNBLOCK, &set, NULL), 0);
	ck_assert_int_eq(handled, 21);
}
END_TEST

/* R-TIMER-17, R-TIMER-10, R-TIMER-20: what nginx and others ask of timers. */
START_TEST(timers_count_and_cost_no_descriptor)
{
	struct kevent ev;
	int before, after, i;

	t_change(0, EVFILT_TIMER, EV_ADD | EV_DISABLE, NOTE_MSECONDS, 1, NULL);
	t_change(1, EVFILT_TIMER, EV_ADD | EV_ONESHOT,
	    NOTE_ABSTIME | NOTE_SECONDS, (int64_t)time(NULL) - 10, NULL);
	before = dup(t_kq);
	for (i = 2; i < 5000; i++)
		t_change((uintptr_t)i, EVFILT_TIMER, EV_ADD, NOTE_SECONDS, 1000,
		    NULL);
	after = dup(t_kq);
	ck_assert_int_eq(after, before + 1);
	t_expect(&ev, 1, EVFILT_TIMER);
	t_pause(10);
	t_change(0, EVFILT_TIMER, EV_ENABLE, 0, 0, NULL);
	t_expect(&ev, 0, EVFILT_TIMER);
	ck_assert_int_ge(ev.data, 9);
}
END_TEST

/* R-CALL-24, R-API-05: nginx leaves its private bits in flags. */
START_TEST(private_bits_of_nginx)
{
	struct kevent ev;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_change(s[0], EVFILT_READ,
	    EV_ADD | EV_CLEAR | EV_FLAG1 | EV_ERROR | EV_EOF, 0, 0, NULL);
	t_put(s[1], 1);
	t_expect(&ev, s[0], EVFILT_READ);
	ck_assert_int_eq(ev.flags & (EV_EOF | EV_FLAG1), 0);
}
END_TEST

/* The name of an event's filter, as nginx tells events apart. */
static const char *
filter_name(const struct kevent *ev)
{
	switch (ev->filter) {
	case EVFILT_READ:
		return "read";
	case EVFILT_WRITE:
		return "write";
	case EVFILT_VNODE:
		return "vnode";
	case EVFILT_AIO:
		return "aio";
	case EVFILT_USER:
		return "user";
	}
	return "unexpected";
}

/*
 * R-API-09, R-MISC-01: nginx has EVFILT_AIO as a case label, never as a knote.
 */
START_TEST(filters_are_case_labels)
{
	struct kevent ev;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_add(s[0], EVFILT_WRITE, 0);
	t_expect(&ev, s[0], EVFILT_WRITE);
	ck_assert_str_eq(filter_name(&ev), "write");
#ifdef __linux__
	EV_SET(&ev, s[0], EVFILT_AIO, EV_ADD, 0, 0, NULL);
	ck_assert_str_eq(filter_name(&ev), "aio");
	ck_assert_int_eq(kevent(t_kq, &ev, 1, NULL, 0, NULL), -1);
	ck_assert_int_eq(errno, EINVAL);
#endif
}
END_TEST

/* R-READ-01, R-CALL-31: udata is a number to libevent, nginx and HAProxy. */
START_TEST(udata_survives_as_a_number)
{
	uintptr_t magic[] = { 0x6c6576, UINTPTR_MAX, 1, (uintptr_t)&magic | 1 };
	struct kevent ev;
	size_t i;
	int s[2];

	t_unix(SOCK_STREAM, s);
	t_put(s[1], 1);
	for (i = 0; i < sizeof(magic) / sizeof(magic[0]); i++) {
		t_change(s[0], EVFILT_READ, EV_ADD, 0, 0, (void *)magic[i]);
		t_expect(&ev, s[0], EVFILT_READ);
		ck_assert_uint_eq((uintptr_t)ev.udata, magic[i]);
	}
}
END_TEST

#if defined(EVFILT_VNODE) && defined(O_PATH)
/* As entr opens and registers what it is given. */
static int
entr_watch(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_PATH | O_NOFOLLOW);

	ck_assert_int_ne(fd, -1);
	t_change(fd, EVFILT_VNODE, EV_ADD | EV_CLEAR,
	    NOTE_DELETE | NOTE_WRITE | NOTE_RENAME | NOTE_ATTRIB, 0, NULL);
	return fd;
}

/* An editor saves: it writes a new file, and renames it over the old one. */
static void
save(int dir, const char *name)
{
	int fd = openat(dir, "new", O_WRONLY | O_CREAT | O_EXCL, 0644);

	ck_assert_int_ne(fd, -1);
	t_put(fd, 3);
	close(fd);
	ck_assert_int_eq(renameat(dir, "new", dir, name), 0);
}

/*
 * R-VNODE-01, R-VNODE-15, R-FD-04: entr follows a file through saves: a knote
 * that has told of NOTE_DELETE is deleted, its descriptor closed, and what has
 * the name now is watched, mostly by the same number.
 */
START_TEST(entr_follows_a_name)
{
	int dir = open(t_dir(), O_RDONLY | O_DIRECTORY), fd, i;
	struct kevent ev;

	ck_assert_int_ne(dir, -1);
	save(dir, "file");
	fd = entr_watch(dir, "file");
	for (i = 0; i < 5; i++) {
		t_none();
		save(dir, "file");
		t_expect(&ev, fd, EVFILT_VNODE);
		ck_assert_uint_ne(ev.fflags & NOTE_DELETE, 0);
		t_delete(fd, EVFILT_VNODE);
		close(fd);
		fd = entr_watch(dir, "file");
	}
	close(fd);
	close(dir);
}
END_TEST
#endif

/*
 * R-FD-06: libevent makes a new queue in the child, and the old one works on.
 */
START_TEST(new_queue_after_fork)
{
	struct kevent ev;
	int s[2], status;
	pid_t pid;

	t_unix(SOCK_STREAM, s);
	t_add(s[0], EVFILT_READ, 0);
	pid = fork();
	ck_assert_int_ne(pid, -1);
	if (pid == 0) {
		status = kevent(t_kq, NULL, 0, &ev, 1,
			     &(struct timespec){ 0, 0 }) == -1 &&
		    errno == EBADF;
		t_kq = kqueue();
		t_add(s[1], EVFILT_WRITE, 0);
		t_expect(&ev, s[1], EVFILT_WRITE);
		close(s[0]);
		_exit(status ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	t_put(s[1], 1);
	t_expect(&ev, s[0], EVFILT_READ);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("programs");

	tcase_add_test(tc, libevent_start_up_check);
	tcase_add_test(tc, error_among_changes_ends_the_call);
	tcase_add_loop_test(tc, add_again, 0, STREAMS);
	tcase_add_loop_test(tc, close_and_reuse_of_the_number, 0, FAMILIES);
	tcase_add_test(tc, close_with_a_duplicate);
	tcase_add_test(tc, fclose_closes);
	tcase_add_loop_test(tc, refused_connect_is_seen, TCP4, TCP6 + 1);
	tcase_add_test(tc, receipt_stops_the_scan);
	tcase_add_test(tc, queue_in_a_loop);
	tcase_add_test(tc, delete_after_close);
	tcase_add_test(tc, dev_null_is_readable);
	tcase_add_loop_test(tc, write_data_is_the_room, 0, STREAMS);
	tcase_add_loop_test(tc, lowat_changes_no_socket, 0, STREAMS);
	tcase_add_test(tc, signals_stay_the_programs);
	tcase_add_test(tc, timers_count_and_cost_no_descriptor);
	tcase_add_test(tc, private_bits_of_nginx);
	tcase_add_test(tc, filters_are_case_labels);
	tcase_add_test(tc, udata_survives_as_a_number);
#if defined(EVFILT_VNODE) && defined(O_PATH)
	tcase_add_test(tc, entr_follows_a_name);
#endif
	tcase_add_test(tc, new_queue_after_fork);
	return t_end();
}
