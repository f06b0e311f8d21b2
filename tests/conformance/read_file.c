/*
 * EVFILT_READ on what is not a socket: pipes, FIFOs, terminals, files
 * and devices.
 */
#include "t.h"

#include <pty.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

/* -- pipes ----------------------------------------------------------------- */

/* R-READ-30: active from the first byte, data is the bytes. */
START_TEST(pipe_data)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_add(p[0], EVFILT_READ, 0);
	t_none();
	t_put(p[1], 5);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_eq(ev.data, 5);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_put(p[1], 3000);
	t_expect_data(p[0], EVFILT_READ, 3005);
	t_take(p[0], 3004);
	t_expect_data(p[0], EVFILT_READ, 1);
	t_take(p[0], 1);
	t_none();
}
END_TEST

/* R-READ-31: the last writer gone is EV_EOF, with the rest, again and again. */
START_TEST(pipe_end)
{
	struct kevent ev;
	int p[2], copy;

	t_pipe(p);
	copy = dup(p[1]);
	t_add(p[0], EVFILT_READ, 0);
	t_put(p[1], 5);
	ck_assert_int_eq(close(p[1]), 0);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(close(copy), 0);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 5);
	ck_assert_uint_eq(ev.fflags, 0);
	t_take(p[0], 5);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 0);
	t_expect(&ev, p[0], EVFILT_READ);
}
END_TEST

/* R-READ-31: also where the writer had gone before EV_ADD. */
START_TEST(pipe_end_before_registration)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_put(p[1], 2);
	ck_assert_int_eq(close(p[1]), 0);
	t_add(p[0], EVFILT_READ, EV_CLEAR);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 2);
	t_none();
}
END_TEST

/* R-READ-32: READ on the write end is accepted and never fires. */
START_TEST(pipe_write_end_is_never_readable)
{
	int p[2];

	t_pipe(p);
	t_add(p[1], EVFILT_READ, 0);
	t_none();
	t_put(p[1], 5);
	t_quiet();
	ck_assert_int_eq(close(p[0]), 0);
	t_quiet();
}
END_TEST

/* R-READ-33: NOTE_LOWAT is ignored. */
START_TEST(pipe_ignores_lowat)
{
	int p[2];

	t_pipe(p);
	t_change(p[0], EVFILT_READ, EV_ADD, NOTE_LOWAT, 100, NULL);
	t_none();
	t_put(p[1], 1);
	t_expect_data(p[0], EVFILT_READ, 1);
}
END_TEST

#ifdef NOTE_NODATA
/* kqueue(2), NOTE_NODATA: data is 1. */
START_TEST(pipe_nodata)
{
	struct kevent ev;
	int p[2];

	t_pipe(p);
	t_change(p[0], EVFILT_READ, EV_ADD, NOTE_NODATA, 0, NULL);
	t_none();
	t_put(p[1], 5);
	t_expect_data(p[0], EVFILT_READ, 1);
	t_take(p[0], 5);
	t_none();
	ck_assert_int_eq(close(p[1]), 0);
	t_expect(&ev, p[0], EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST
#endif

/* -- FIFOs ----------------------------------------------------------------- */

static char fifo_path[128];

/* A new FIFO, opened for reading; writers open it with fifo_writer(). */
static int
fifo_reader(int flags)
{
	int fd;

	snprintf(fifo_path, sizeof(fifo_path), "%s/fifo", t_dir());
	ck_assert_int_eq(mkfifo(fifo_path, 0600), 0);
	fd = open(fifo_path, flags | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	return fd;
}

static int
fifo_writer(void)
{
	int fd;

	fd = open(fifo_path, O_WRONLY | O_NONBLOCK);
	ck_assert_int_ge(fd, 0);
	return fd;
}

/* R-READ-34: without a writer so far there is neither data nor an end. */
START_TEST(fifo_without_writer_is_silent)
{
	struct kevent ev;
	int fd, writer;

	fd = fifo_reader(O_RDONLY);
	t_add(fd, EVFILT_READ, 0);
	t_quiet();
	writer = fifo_writer();
	t_quiet();
	t_put(writer, 4);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
}
END_TEST

/*
 * R-READ-35, R-READ-36: the last writer's close is EV_EOF with the rest; a new
 * writer takes EV_EOF away.
 */
START_TEST(fifo_end_and_new_writer)
{
	struct kevent ev;
	int fd, writer;

	fd = fifo_reader(O_RDONLY);
	t_add(fd, EVFILT_READ, _i == 0 ? 0 : EV_CLEAR);
	writer = fifo_writer();
	t_put(writer, 3);
	ck_assert_int_eq(close(writer), 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 3);
	t_take(fd, 3);

	writer = fifo_writer();
	t_quiet();
	t_put(writer, 2);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	ck_assert_int_eq(ev.data, 2);
	t_take(fd, 2);
	ck_assert_int_eq(close(writer), 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-READ-37: a FIFO that is open for both never shows an end. */
START_TEST(fifo_open_for_both_has_no_end)
{
	struct kevent ev;
	int fd, writer;

	fd = fifo_reader(O_RDWR);
	t_add(fd, EVFILT_READ, 0);
	writer = fifo_writer();
	t_put(writer, 1);
	ck_assert_int_eq(close(writer), 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(fd, 1);
	t_quiet();
}
END_TEST

/* R-READ-33: NOTE_LOWAT is ignored on a FIFO too. */
START_TEST(fifo_ignores_lowat)
{
	struct kevent ev;
	int fd, writer;

	fd = fifo_reader(O_RDONLY);
	t_change(fd, EVFILT_READ, EV_ADD, NOTE_LOWAT, 100, NULL);
	writer = fifo_writer();
	t_put(writer, 1);
	t_expect(&ev, fd, EVFILT_READ);
}
END_TEST

/* -- terminals ------------------------------------------------------------- */

static void
terminal(int *master, int *slave, bool raw)
{
	struct termios tio;

	ck_assert_int_eq(openpty(master, slave, NULL, NULL, NULL), 0);
	ck_assert_int_eq(tcgetattr(*slave, &tio), 0);
	tio.c_lflag &= ~(tcflag_t)ECHO;
	tio.c_oflag &= ~(tcflag_t)OPOST;
	if (raw)
		cfmakeraw(&tio);
	ck_assert_int_eq(tcsetattr(*slave, TCSANOW, &tio), 0);
}

/* R-READ-40: in canonical mode a line, and only a whole one. */
START_TEST(tty_line)
{
	struct kevent ev;
	int master, slave;

	terminal(&master, &slave, false);
	t_add(slave, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(write(master, "abc", 3), 3);
	t_quiet();
	ck_assert_int_eq(write(master, "\n", 1), 1);
	t_expect(&ev, slave, EVFILT_READ);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(slave, 4);
	t_none();
}
END_TEST

/* R-READ-40: in raw mode each byte. */
START_TEST(tty_raw)
{
	struct kevent ev;
	int master, slave;

	terminal(&master, &slave, true);
	t_add(slave, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(write(master, "ab", 2), 2);
	t_until(t_poll(&ev) == 1 && ev.data == 2);
	t_take(slave, 2);
	t_none();
}
END_TEST

/* R-READ-41: the terminal is gone when its master is closed. */
START_TEST(tty_hangup)
{
	struct kevent ev;
	int master, slave;

	terminal(&master, &slave, true);
	t_add(slave, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(close(master), 0);
	t_expect(&ev, slave, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* R-READ-42: the master reads what the slave wrote, and its end. */
START_TEST(pty_master)
{
	struct kevent ev;
	int master, slave;

	terminal(&master, &slave, true);
	t_add(master, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(write(slave, "abcde", 5), 5);
	t_until(t_poll(&ev) == 1 && ev.data == 5);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(master, 5);
	t_none();
	ck_assert_int_eq(close(slave), 0);
	t_expect(&ev, master, EVFILT_READ);
	ck_assert_int_ne(ev.flags & EV_EOF, 0);
}
END_TEST

/* -- regular files and folders --------------------------------------------- */

/* R-READ-43: data is what lies between the offset and the end. */
START_TEST(file_data_is_the_rest)
{
	struct kevent ev;
	int fd;

	fd = t_file("0123456789");
	t_add(fd, EVFILT_READ, 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 10);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_take(fd, 4);
	t_expect_data(fd, EVFILT_READ, 6);
	t_take(fd, 6);
	t_none();
}
END_TEST

/* R-READ-43: past the end data is negative. */
START_TEST(file_offset_past_the_end)
{
	int fd;

	fd = t_file("0123456789");
	ck_assert_int_eq(lseek(fd, 13, SEEK_SET), 13);
	t_add(fd, EVFILT_READ, 0);
	t_expect_data(fd, EVFILT_READ, -3);
}
END_TEST

/* R-READ-44: at the end nothing, not even EV_EOF. */
START_TEST(file_at_its_end_is_silent)
{
	int fd;

	fd = t_file("0123456789");
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10);
	t_add(fd, EVFILT_READ, 0);
	t_quiet();
}
END_TEST

/* R-READ-44: then it grows, is cut, or its offset moves. */
START_TEST(file_that_changes)
{
	int fd;

	fd = t_file("0123456789");
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10);
	t_add(fd, EVFILT_READ, 0);
	t_none();

	ck_assert_int_eq(pwrite(fd, "abc", 3, 10), 3);
	t_expect_data(fd, EVFILT_READ, 3);
	t_take(fd, 3);
	t_none();

	ck_assert_int_eq(ftruncate(fd, 5), 0);
	t_expect_data(fd, EVFILT_READ, -8);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 5);
	t_none();

	ck_assert_int_eq(lseek(fd, 1, SEEK_SET), 1);
	t_expect_data(fd, EVFILT_READ, 4);
}
END_TEST

/* R-READ-44: with EV_CLEAR each growth is reported, and only that. */
START_TEST(file_growth_with_clear)
{
	int fd;

	fd = t_file("");
	t_add(fd, EVFILT_READ, EV_CLEAR);
	t_none();
	ck_assert_int_eq(pwrite(fd, "abc", 3, 0), 3);
	t_expect_data(fd, EVFILT_READ, 3);
	t_quiet();
	ck_assert_int_eq(pwrite(fd, "de", 2, 3), 2);
	t_expect_data(fd, EVFILT_READ, 5);
	t_quiet();
}
END_TEST

static void *
grow_file(void *arg)
{
	t_pause(10);
	ck_assert_int_eq(pwrite(*(int *)arg, "abc", 3, 10), 3);
	return NULL;
}

static void *
seek_file(void *arg)
{
	t_pause(10);
	ck_assert_int_eq(lseek(*(int *)arg, 2, SEEK_SET), 2);
	return NULL;
}

/* R-READ-44: growth wakes a kevent() that waits already, ... */
START_TEST(file_growth_ends_a_wait)
{
	pthread_t thread;
	int fd;

	fd = t_file("0123456789");
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10);
	t_add(fd, EVFILT_READ, 0);
	thread = t_thread(grow_file, &fd);
	t_expect_data(fd, EVFILT_READ, 3);
	t_join(thread);
}
END_TEST

/* R-READ-44: ... and so does lseek(). */
START_TEST(file_seek_ends_a_wait)
{
	pthread_t thread;
	int fd;

	fd = t_file("0123456789");
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10);
	t_add(fd, EVFILT_READ, 0);
	thread = t_thread(seek_file, &fd);
	t_expect_data(fd, EVFILT_READ, 8);
	t_join(thread);
}
END_TEST

/* R-READ-44: growth by another process counts, too. */
START_TEST(file_growth_by_another_process)
{
	pid_t pid;
	int fd;

	fd = t_file("");
	t_add(fd, EVFILT_READ, 0);
	t_none();
	pid = fork();
	if (pid == 0) {
		t_pause(10);
		_exit(pwrite(fd, "abc", 3, 0) == 3 ? 0 : 1);
	}
	t_expect_data(fd, EVFILT_READ, 3);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
}
END_TEST

/* R-READ-45: the offset is the open file's, which dup() shares. */
START_TEST(file_offset_is_shared_by_dup)
{
	int fd, copy;

	fd = t_file("0123456789");
	copy = dup(fd);
	t_add(fd, EVFILT_READ, 0);
	t_take(copy, 7);
	t_expect_data(fd, EVFILT_READ, 3);
	t_take(copy, 3);
	t_none();
}
END_TEST

/* R-READ-45, R-READ-44: lseek() through the copy moves it, too. */
START_TEST(file_seek_through_a_duplicate)
{
	int fd, copy;

	fd = t_file("0123456789");
	copy = dup(fd);
	ck_assert_int_eq(lseek(fd, 0, SEEK_END), 10);
	t_add(fd, EVFILT_READ, 0);
	t_none();
	ck_assert_int_eq(lseek(copy, 4, SEEK_SET), 4);
	t_expect_data(fd, EVFILT_READ, 6);
}
END_TEST

#ifdef NOTE_FILE_POLL
/* R-READ-46: with NOTE_FILE_POLL it is active at its end as well. */
START_TEST(file_poll_is_always_active)
{
	struct kevent ev;
	int fd;

	fd = t_file("");
	t_change(fd, EVFILT_READ, EV_ADD, NOTE_FILE_POLL, 0, NULL);
	t_expect_data(fd, EVFILT_READ, 0);
	t_expect(&ev, fd, EVFILT_READ);
}
END_TEST
#endif

#ifdef NOTE_EOF
/* R-READ-46: with NOTE_EOF it is active at its end, and says so in fflags. */
START_TEST(file_note_eof)
{
	struct kevent ev;
	int fd;

	fd = t_file("0123");
	t_change(fd, EVFILT_READ, EV_ADD, NOTE_EOF, 0, NULL);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 4);
	ck_assert_uint_eq(ev.fflags & NOTE_EOF, 0);
	t_take(fd, 4);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 0);
	ck_assert_uint_eq(ev.fflags & NOTE_EOF, NOTE_EOF);
}
END_TEST
#endif

/* R-READ-47: a folder is as a file, or refused with EINVAL. */
START_TEST(folder)
{
	struct stat st;
	int fd, error;

	fd = open("/", O_RDONLY | O_DIRECTORY);
	ck_assert_int_ge(fd, 0);
	error = t_try(fd, EVFILT_READ, EV_ADD, 0, 0, NULL);
	if (error != 0) {
		ck_assert_int_eq(error, EINVAL);
		return;
	}
	ck_assert_int_eq(fstat(fd, &st), 0);
	if (st.st_size == 0)
		return;
	t_expect_data(fd, EVFILT_READ, st.st_size);
}
END_TEST

/* R-READ-49: a device that cannot be waited for is always active. */
START_TEST(device_is_always_active)
{
	static const char *const devices[] = { "/dev/null", "/dev/zero" };
	struct kevent ev;
	int fd;

	fd = open(devices[_i], O_RDWR);
	ck_assert_int_ge(fd, 0);
	t_add(fd, EVFILT_READ, 0);
	t_expect(&ev, fd, EVFILT_READ);
	ck_assert_int_eq(ev.data, 0);
	ck_assert_int_eq(ev.flags & EV_EOF, 0);
	t_expect(&ev, fd, EVFILT_READ);
	t_delete(fd, EVFILT_READ);
	t_none();
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("read_file");

	tcase_add_test(tc, pipe_data);
	tcase_add_test(tc, pipe_end);
	tcase_add_test(tc, pipe_end_before_registration);
	tcase_add_test(tc, pipe_write_end_is_never_readable);
	tcase_add_test(tc, pipe_ignores_lowat);
#ifdef NOTE_NODATA
	tcase_add_test(tc, pipe_nodata);
#endif
	tcase_add_test(tc, fifo_without_writer_is_silent);
	tcase_add_loop_test(tc, fifo_end_and_new_writer, 0, 2);
	tcase_add_test(tc, fifo_open_for_both_has_no_end);
	tcase_add_test(tc, fifo_ignores_lowat);

	tcase_add_test(tc, tty_line);
	tcase_add_test(tc, tty_raw);
	tcase_add_test(tc, tty_hangup);
	tcase_add_test(tc, pty_master);

	tcase_add_test(tc, file_data_is_the_rest);
	tcase_add_test(tc, file_offset_past_the_end);
	tcase_add_test(tc, file_at_its_end_is_silent);
	tcase_add_test(tc, file_that_changes);
	tcase_add_test(tc, file_growth_with_clear);
	tcase_add_test(tc, file_growth_ends_a_wait);
	tcase_add_test(tc, file_seek_ends_a_wait);
	tcase_add_test(tc, file_growth_by_another_process);
	tcase_add_test(tc, file_offset_is_shared_by_dup);
	tcase_add_test(tc, file_seek_through_a_duplicate);
#ifdef NOTE_FILE_POLL
	tcase_add_test(tc, file_poll_is_always_active);
#endif
#ifdef NOTE_EOF
	tcase_add_test(tc, file_note_eof);
#endif
	tcase_add_test(tc, folder);
	tcase_add_loop_test(tc, device_is_always_active, 0, 2);
	return t_end();
}
