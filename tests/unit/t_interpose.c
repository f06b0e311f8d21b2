/*
 * The wrappers of libc's functions, one by one, with the real library.
 *
 * A descriptor that a copy keeps open is watched, the function is called, and
 * the knote must be lost, or kept: the kernel by itself would go on reporting.
 * Linked with libkq.so and again with libkq.a.
 */
#undef _FILE_OFFSET_BITS /* it would make fcntl() and lseek() other names */

#include <sys/event.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <mqueue.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <linux/close_range.h>

#include "closer.h"
#include "t_unit.h"

#define SPOT 700 /* a number that nothing else has */

/* Private, and so only there where the library is linked statically. */
extern bool interpose_effective(void) __attribute__((weak));

/* ThreadSanitizer has a thread of its own, and its fclose() sets errno. */
extern void __tsan_init(void) __attribute__((weak));

static int kq, fds[2], copy;

/* -- what the tests share -------------------------------------------------- */

static int
change(int fd, int filter, unsigned int flags)
{
	struct kevent ev;

	EV_SET(&ev, fd, filter, flags, 0, 0, NULL);
	return kevent(kq, &ev, 1, NULL, 0, NULL) == -1 ? errno : 0;
}

static int
poll_queue(int queue, struct kevent *ev)
{
	static const struct timespec now;

	return kevent(queue, NULL, 0, ev, 1, &now);
}

/* A socket at the number SPOT, watched, its file held by a copy. */
static void
setup(void)
{
	int pair[2];

	ck_assert_int_ge(kq = kqueue(), 0);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	fds[0] = SPOT;
	fds[1] = pair[1];
	ck_assert_int_eq((int)syscall(SYS_dup3, pair[0], SPOT, 0), SPOT);
	copy = pair[0];
	ck_assert_int_eq(change(SPOT, EVFILT_READ, EV_ADD), 0);
}

static void
stir(void)
{
	ck_assert_int_eq((int)write(fds[1], "x", 1), 1);
}

static void
kept(void)
{
	struct kevent ev;

	stir();
	ck_assert_int_eq(poll_queue(kq, &ev), 1);
	ck_assert_uint_eq(ev.ident, SPOT);
}

/* No knote of that number: not even when it is in use again. */
static void
lost_number(int fd)
{
	struct kevent ev;
	int null = open("/dev/null", O_RDONLY);

	ck_assert_int_eq(poll_queue(kq, &ev), 0);
	if (null != fd)
		ck_assert_int_eq((int)syscall(SYS_dup3, null, fd, 0), fd);
	ck_assert_int_eq(change(fd, EVFILT_READ, EV_DELETE), ENOENT);
}

static void
lost(void)
{
	stir();
	lost_number(SPOT);
}

static FILE *
stream(const char *mode)
{
	FILE *fp = fdopen(SPOT, mode);

	ck_assert_ptr_nonnull(fp);
	return fp;
}

/* freopen() and closedir() are wrapped in the shared library alone. */
static bool
is_shared(void)
{
	return interpose_effective == NULL;
}

/* -- the descriptor goes --------------------------------------------------- */

START_TEST(close_loses_the_knote)
{
	ck_assert_int_eq(close(SPOT), 0);
	lost();
}
END_TEST

START_TEST(close_in_another_library_loses_it)
{
	ck_assert_int_eq(closer_close(SPOT), 0);
	lost();
}
END_TEST

START_TEST(fclose_loses_it)
{
	ck_assert_int_eq(fclose(stream("r+")), 0);
	lost();
}
END_TEST

START_TEST(fclose_of_memory_closes_nothing)
{
	char buf[16];
	FILE *fp = fmemopen(buf, sizeof(buf), "w");

	errno = EXDEV;
	ck_assert_int_eq(fclose(fp), 0);
	if (__tsan_init == NULL)
		ck_assert_int_eq(errno, EXDEV);
	kept();
}
END_TEST

START_TEST(freopen_loses_it)
{
	FILE *fp;

	if (!is_shared())
		return;
	fp = stream("r+");
	ck_assert_ptr_nonnull(freopen("/dev/null", "r", fp));
	ck_assert_int_eq(fileno(fp), SPOT);
	lost();
}
END_TEST

START_TEST(freopen64_loses_it)
{
	if (!is_shared())
		return;
	ck_assert_ptr_nonnull(freopen64("/dev/null", "r", stream("r+")));
	lost();
}
END_TEST

START_TEST(freopen_that_fails_loses_it)
{
	static FILE *volatile fp; /* not leaked, but nobody may use it */

	if (!is_shared())
		return;
	fp = stream("r+");
	errno = 0;
	ck_assert_ptr_null(freopen("/no/such/file", "r", fp));
	ck_assert_int_eq(errno, ENOENT);
	ck_assert_int_eq(fcntl(SPOT, F_GETFD), -1);
	lost();
}
END_TEST

START_TEST(closedir_loses_it)
{
	DIR *dir;
	int fd;

	if (!is_shared())
		return;
	ck_assert_ptr_nonnull(dir = opendir("/"));
	fd = dirfd(dir);
	ck_assert_int_eq(change(SPOT, EVFILT_READ, EV_DELETE), 0);
	ck_assert_int_eq(change(fd, EVFILT_READ, EV_ADD), 0);
	ck_assert_int_eq(closedir(dir), 0);
	lost_number(fd);
}
END_TEST

START_TEST(pclose_loses_it_and_returns_the_status)
{
	FILE *fp = popen("exit 3", "r");
	int fd = fileno(fp), status;

	ck_assert_int_eq(change(fd, EVFILT_READ, EV_ADD), 0);
	ck_assert_int_ge(dup(fd), 0);
	status = pclose(fp);
	ck_assert_int_eq(WEXITSTATUS(status), 3);
	lost_number(fd);
}
END_TEST

START_TEST(mq_close_loses_it)
{
	char name[64];
	mqd_t queue;

	snprintf(name, sizeof(name), "/t_interpose-%d", (int)getpid());
	queue = mq_open(name, O_CREAT | O_EXCL | O_RDWR, 0600, NULL);
	if (queue == (mqd_t)-1) {
		printf("mq_close_loses_it: no message queues here\n");
		return;
	}
	mq_unlink(name);
	ck_assert_int_eq(change(queue, EVFILT_READ, EV_ADD), 0);
	ck_assert_int_ge(dup(queue), 0);
	ck_assert_int_eq(mq_send(queue, "x", 1, 0), 0);
	ck_assert_int_eq(mq_close(queue), 0);
	lost_number(queue);
}
END_TEST

static void
close_it(int signo)
{
	close(SPOT);
}

START_TEST(close_in_a_signal_handler_loses_it)
{
	struct sigaction action = { .sa_handler = close_it };

	ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
	ck_assert_int_eq(raise(SIGUSR1), 0);
	lost();
}
END_TEST

/* -- ranges ---------------------------------------------------------------- */

START_TEST(close_range_loses_it)
{
	ck_assert_int_eq(close_range(SPOT, SPOT + 9, 0), 0);
	lost();
}
END_TEST

START_TEST(close_range_that_unshares_loses_it)
{
	if (__tsan_init != NULL)
		return;
	ck_assert_int_eq(close_range(SPOT, SPOT, CLOSE_RANGE_UNSHARE), 0);
	lost();
}
END_TEST

START_TEST(close_range_beside_it_keeps_it)
{
	ck_assert_int_eq(close_range(SPOT + 1, SPOT + 9, 0), 0);
	ck_assert_int_eq(close_range(SPOT - 9, SPOT - 1, 0), 0);
	kept();
}
END_TEST

START_TEST(close_range_that_sets_cloexec_keeps_it)
{
	ck_assert_int_eq(close_range(SPOT, SPOT, (int)CLOSE_RANGE_CLOEXEC), 0);
	ck_assert_int_eq(fcntl(SPOT, F_GETFD), FD_CLOEXEC);
	kept();
}
END_TEST

START_TEST(close_range_that_fails_keeps_it)
{
	ck_assert_int_eq(close_range(SPOT, SPOT, 1 << 20), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(close_range(SPOT, SPOT - 1, 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	kept();
}
END_TEST

START_TEST(closefrom_loses_it)
{
	closefrom(SPOT);
	ck_assert_int_eq(fcntl(SPOT, F_GETFD), -1);
	lost();
}
END_TEST

/* The timer's descriptor, epoll's and the eventfd are none of the program's. */
static void
queue_works(void)
{
	struct kevent ev;

	EV_SET(&ev, 1, EVFILT_TIMER, EV_ADD | EV_ONESHOT, NOTE_USECONDS, 1,
	    NULL);
	ck_assert_int_eq(kevent(kq, &ev, 1, &ev, 1, NULL), 1);
	ck_assert_int_eq(ev.filter, EVFILT_TIMER);
	EV_SET(&ev, 1, EVFILT_USER, EV_ADD | EV_ONESHOT, NOTE_TRIGGER, 0, NULL);
	ck_assert_int_eq(kevent(kq, &ev, 1, &ev, 1, NULL), 1);
	ck_assert_int_eq(ev.filter, EVFILT_USER);
}

START_TEST(descriptors_of_the_library_cannot_be_closed)
{
	int fd;

	queue_works();
	for (fd = SPOT + 1; fd < 4096; fd++)
		ck_assert_int_eq(close(fd), -1);
	queue_works();
	closefrom(SPOT + 1);
	queue_works();
	ck_assert_int_eq(close_range(SPOT + 1, 4096, 0), 0);
	queue_works();
	kept();
}
END_TEST

START_TEST(descriptors_of_the_library_cannot_be_replaced)
{
	int fd, found = 0;

	queue_works();
	for (fd = SPOT + 1; fd < 4096; fd++)
		if (fcntl(fd, F_GETFD) != -1) {
			found++;
			ck_assert_int_eq(dup2(fds[1], fd), -1);
			ck_assert_int_eq(errno, EBUSY);
			ck_assert_int_eq(dup3(fds[1], fd, 0), -1);
			ck_assert_int_eq(errno, EBUSY);
		}
	ck_assert_int_gt(found, 0);
	queue_works();
	kept();
}
END_TEST

START_TEST(closefrom_closes_a_queue)
{
	struct kevent ev;

	closefrom(kq);
	ck_assert_int_eq(poll_queue(kq, &ev), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(kqueue(), kq);
	queue_works();
}
END_TEST

/* -- the number names another file ----------------------------------------- */

START_TEST(dup2_over_it_loses_it)
{
	ck_assert_int_eq(dup2(fds[1], SPOT), SPOT);
	lost();
}
END_TEST

START_TEST(dup3_over_it_loses_it)
{
	ck_assert_int_eq(dup3(fds[1], SPOT, O_CLOEXEC), SPOT);
	lost();
}
END_TEST

START_TEST(dup2_that_fails_keeps_it)
{
	struct rlimit rl;

	ck_assert_int_eq(dup2(-1, SPOT), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(dup2(SPOT + 1, SPOT), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(dup2(SPOT, SPOT), SPOT);
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &rl), 0);
	rl.rlim_cur = SPOT;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &rl), 0);
	ck_assert_int_eq(dup2(fds[1], SPOT), -1);
	ck_assert_int_eq(errno, EBADF);
	kept();
}
END_TEST

START_TEST(dup3_that_fails_keeps_it)
{
	ck_assert_int_eq(dup3(SPOT + 1, SPOT, 0), -1);
	ck_assert_int_eq(errno, EBADF);
	ck_assert_int_eq(dup3(SPOT, SPOT, 0), -1);
	ck_assert_int_eq(errno, EINVAL);
	ck_assert_int_eq(dup3(fds[1], SPOT, O_APPEND), -1);
	ck_assert_int_eq(errno, EINVAL);
	kept();
}
END_TEST

START_TEST(closing_a_copy_keeps_it)
{
	int other = dup(SPOT);

	ck_assert_int_eq(close(other), 0);
	ck_assert_int_eq(close(copy), 0);
	kept();
}
END_TEST

/* A queue by another name is the queue, until its last name is closed. */
static void
is_the_queue(int name)
{
	struct kevent ev;

	stir();
	ck_assert_int_eq(poll_queue(name, &ev), 1);
	ck_assert_uint_eq(ev.ident, SPOT);
}

START_TEST(a_copy_of_a_queue_is_the_queue)
{
	struct kevent ev;
	int names[6], i;

	names[0] = dup(kq);
	names[1] = dup2(kq, SPOT + 1);
	names[2] = dup3(kq, SPOT + 2, O_CLOEXEC);
	names[3] = fcntl(kq, F_DUPFD, SPOT + 3);
	names[4] = fcntl(kq, F_DUPFD_CLOEXEC, SPOT + 4);
	names[5] = fcntl64(kq, F_DUPFD, SPOT + 5);
	for (i = 0; i < 6; i++) {
		ck_assert_int_ge(names[i], 0);
		is_the_queue(names[i]);
	}
	ck_assert_int_eq(close(kq), 0);
	for (i = 0; i < 6; i++) {
		is_the_queue(names[i]);
		ck_assert_int_eq(close(names[i]), 0);
		ck_assert_int_eq(poll_queue(names[i], &ev), -1);
		ck_assert_int_eq(errno, EBADF);
	}
}
END_TEST

START_TEST(dup2_over_a_queue_takes_that_name)
{
	struct kevent ev;
	int name = dup(kq);

	ck_assert_int_eq(dup2(fds[1], kq), kq);
	ck_assert_int_eq(poll_queue(kq, &ev), -1);
	ck_assert_int_eq(errno, EINVAL);
	is_the_queue(name);
	ck_assert_int_eq(dup2(name, kq), kq);
	ck_assert_int_eq(dup2(kq, name), name);
	is_the_queue(kq);
	is_the_queue(name);
}
END_TEST

START_TEST(fcntl_passes_its_argument_on)
{
	int (*const calls[])(int, int, ...) = { fcntl, fcntl64 };
	int (*call)(int, int, ...) = calls[_i];
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	char name[] = "/tmp/t_interpose-XXXXXX";
	int fd = mkstemp(name);

	ck_assert_int_ge(fd, 0);
	unlink(name);
	ck_assert_int_eq(call(fd, F_SETLK, &lock), 0);
	ck_assert_int_eq(call(fd, F_GETLK, &lock), 0);
	ck_assert_int_eq(lock.l_type, F_UNLCK);
	ck_assert_int_eq(call(fd, F_SETFD, FD_CLOEXEC), 0);
	ck_assert_int_eq(call(fd, F_GETFD), FD_CLOEXEC);
	ck_assert_int_eq(call(fd, F_SETFL, O_NONBLOCK), 0);
	ck_assert_int_eq(call(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	ck_assert_int_eq(call(-1, F_GETFD), -1);
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

/* -- what epoll does not tell ---------------------------------------------- */

START_TEST(shutdown_is_the_end_for_a_writer)
{
	struct kevent ev;

	ck_assert_int_eq(change(SPOT, EVFILT_READ, EV_DELETE), 0);
	ck_assert_int_eq(change(SPOT, EVFILT_WRITE, EV_ADD | EV_CLEAR), 0);
	ck_assert_int_eq(poll_queue(kq, &ev), 1);
	ck_assert_uint_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(shutdown(SPOT, SHUT_WR), 0);
	ck_assert_int_eq(poll_queue(kq, &ev), 1);
	ck_assert_uint_eq(ev.flags & EV_EOF, EV_EOF);
}
END_TEST

START_TEST(lseek_makes_a_file_readable)
{
	char name[] = "/tmp/t_interpose-XXXXXX";
	struct kevent ev;
	int fd = mkstemp(name);

	ck_assert_int_ge(fd, 0);
	unlink(name);
	ck_assert_int_eq((int)write(fd, "12345", 5), 5);
	ck_assert_int_eq(change(fd, EVFILT_READ, EV_ADD | EV_CLEAR), 0);
	ck_assert_int_eq(poll_queue(kq, &ev), 0);
	ck_assert_int_eq((int)lseek(fd, 1, SEEK_SET), 1);
	ck_assert_int_eq(poll_queue(kq, &ev), 1);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_int_eq((int)lseek64(fd, 2, SEEK_SET), 2);
	ck_assert_int_eq(poll_queue(kq, &ev), 1);
	ck_assert_int_eq(ev.data, 3);
}
END_TEST

/* -- errno, children, cancellation ----------------------------------------- */

START_TEST(errno_is_kept)
{
	errno = EXDEV;
	ck_assert_int_eq(dup2(copy, SPOT), SPOT);
	ck_assert_int_eq(dup(SPOT), fcntl(SPOT, F_DUPFD, 0) - 1);
	ck_assert_int_eq(change(SPOT, EVFILT_READ, EV_ADD), 0);
	ck_assert_int_eq(close_range(SPOT, SPOT, 0), 0);
	ck_assert_int_eq(close(copy), 0);
	closefrom(SPOT);
	ck_assert_int_eq(errno, EXDEV);
	ck_assert_int_eq(close(copy), -1);
	ck_assert_int_eq(errno, EBADF);
}
END_TEST

START_TEST(what_a_vforked_child_closes_keeps_it)
{
	pid_t child = vfork();
	int status;

	if (child == 0) {
		close(SPOT);
		dup2(1, SPOT);
		close_range(SPOT, SPOT, 0);
		closefrom(3);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	queue_works();
	kept();
}
END_TEST

START_TEST(what_a_forked_child_closes_keeps_it)
{
	pid_t child = fork();
	int status;

	if (child == 0) {
		close(SPOT);
		closefrom(3);
		_exit(0);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	queue_works();
	kept();
}
END_TEST

static void *
cancelled_in_close(void *arg)
{
	pthread_cancel(pthread_self());
	close(SPOT);
	return arg;
}

/* close() is a cancellation point, and acts before anything is lost. */
START_TEST(close_can_be_cancelled)
{
	pthread_t thread;
	void *result;

	ck_assert_int_eq(pthread_create(&thread, NULL, cancelled_in_close,
			     NULL),
	    0);
	ck_assert_int_eq(pthread_join(thread, &result), 0);
	ck_assert_ptr_eq(result, PTHREAD_CANCELED);
	kept();
	ck_assert_int_eq(close(SPOT), 0);
	lost();
}
END_TEST

START_TEST(the_program_reaches_our_close)
{
	if (is_shared())
		return;
	errno = EXDEV;
	ck_assert(interpose_effective());
	ck_assert_int_eq(errno, EXDEV);
}
END_TEST

int
main(void)
{
	const TTest *const tests[] = {
		close_loses_the_knote,
		close_in_another_library_loses_it,
		fclose_loses_it,
		fclose_of_memory_closes_nothing,
		freopen_loses_it,
		freopen64_loses_it,
		freopen_that_fails_loses_it,
		closedir_loses_it,
		pclose_loses_it_and_returns_the_status,
		mq_close_loses_it,
		close_in_a_signal_handler_loses_it,
		close_range_loses_it,
		close_range_that_unshares_loses_it,
		close_range_beside_it_keeps_it,
		close_range_that_sets_cloexec_keeps_it,
		close_range_that_fails_keeps_it,
		closefrom_loses_it,
		descriptors_of_the_library_cannot_be_closed,
		descriptors_of_the_library_cannot_be_replaced,
		closefrom_closes_a_queue,
		dup2_over_it_loses_it,
		dup3_over_it_loses_it,
		dup2_that_fails_keeps_it,
		dup3_that_fails_keeps_it,
		closing_a_copy_keeps_it,
		a_copy_of_a_queue_is_the_queue,
		dup2_over_a_queue_takes_that_name,
		shutdown_is_the_end_for_a_writer,
		lseek_makes_a_file_readable,
		errno_is_kept,
		what_a_vforked_child_closes_keeps_it,
		what_a_forked_child_closes_keeps_it,
		close_can_be_cancelled,
		the_program_reaches_our_close,
	};
	TCase *tc = unit_begin("interpose");
	size_t i;

	tcase_add_checked_fixture(tc, setup, NULL);
	for (i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		tcase_add_test(tc, tests[i]);
	tcase_add_loop_test(tc, fcntl_passes_its_argument_on, 0, 2);
	return unit_end();
}
