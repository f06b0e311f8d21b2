/*
 * EVFILT_VNODE on files: the notes, and what all knotes of the filter have in
 * common.  Directories and symbolic links are in vnode_dir.c.
 */
#include "t.h"
#include "vnode.h"

#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>

#ifdef __linux__
#include <sys/xattr.h>
#endif

static int dir; /* an empty one, for the test */

static void
make_dir(void)
{
	dir = open_dir();
}

static int
make_file(const char *name, const char *text)
{
	return file_in(dir, name, text);
}

/* -- registration ---------------------------------------------------------- */

/* R-VNODE-01: of what happened, what is wanted; data is 0. */
START_TEST(wanted_notes_only)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, NOTE_WRITE);
	t_quiet();
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	t_quiet();
	put_at(fd, 4);
	expect(fd, NOTE_WRITE);
	t_quiet();
}
END_TEST

/* R-VNODE-02: one event for all that happened. */
START_TEST(notes_are_or_ed)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	put_at(fd, 4);
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
	expect(fd,
	    NOTE_ATTRIB | NOTE_WRITE | NOTE_EXTEND | NOTE_LINK | NOTE_RENAME);
	t_quiet();
}
END_TEST

/* R-VNODE-03: without EV_CLEAR the notes stay, and grow. */
START_TEST(notes_stay_without_clear)
{
	int fd = make_file("file", "text");
	struct kevent got[2];

	want(fd, 0, CHANGES);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	ck_assert_int_eq(t_get(t_kq, got, 2, 0), 1);
	ck_assert_uint_eq(got[0].fflags, NOTE_WRITE);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	ck_assert_int_eq(t_get(t_kq, got, 2, 0), 1);
	ck_assert_uint_eq(got[0].fflags, NOTE_WRITE | NOTE_ATTRIB);
	expect(fd, NOTE_WRITE | NOTE_ATTRIB);
	t_delete(fd, EVFILT_VNODE);
	t_none();
}
END_TEST

/* R-VNODE-04: nothing from before, though a knote of the same file has it. */
START_TEST(only_after_registration)
{
	int fd = make_file("file", "text"), copy = dup(fd);

	put_at(fd, 4);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	want(fd, EV_CLEAR, CHANGES);
	t_quiet();
	put_at(fd, 5);
	want(copy, EV_CLEAR, CHANGES);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	t_quiet();
}
END_TEST

/* R-VNODE-05: it is the file that is watched, not its name. */
START_TEST(follows_renames)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
	expect(fd, NOTE_RENAME);
	make_file("file", "another");
	t_quiet();
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
	t_quiet();
	ck_assert_int_eq(unlinkat(dir, "other", 0), 0);
	expect(fd, NOTE_DELETE);
}
END_TEST

static int
write_by_name(int unused)
{
	int fd = openat(dir, "file", O_WRONLY);

	(void)unused;
	return pwrite(fd, "abc", 3, 0) == 3 ? 0 : 1;
}

/* R-VNODE-06: whoever did it, a child that forked from us, we ourselves. */
START_TEST(by_any_process)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(t_child(write_by_name, 0), 0);
	expect(fd, NOTE_WRITE);
	ck_assert_int_eq(write_by_name(0), 0);
	expect(fd, NOTE_WRITE);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

/* R-VNODE-07 */
START_TEST(nothing_wanted_nothing_told)
{
	int fd = make_file("file", "text");

	want(fd, 0, 0);
	put_at(fd, 4);
	ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
	t_quiet();
	want(fd, 0, NOTE_WRITE);
	t_quiet();
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

/* R-VNODE-08: another set, and what was recorded stays. */
START_TEST(add_again)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, NOTE_ATTRIB);
	put_at(fd, 4);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	want(fd, EV_CLEAR, NOTE_WRITE | NOTE_EXTEND);
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	expect(fd, NOTE_ATTRIB);
	t_quiet();
	put_at(fd, 4);
	expect(fd, NOTE_WRITE);
	put_at(fd, 5);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	want(fd, EV_CLEAR, NOTE_DELETE | NOTE_LINK);
	put_at(fd, 6);
	t_quiet();
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	expect(fd, NOTE_LINK);
}
END_TEST

/* R-VNODE-08, R-VNODE-04: what was not wanted then is not told later. */
START_TEST(wanted_later)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, NOTE_LINK);
	put_at(fd, 4);
	want(fd, EV_CLEAR, NOTE_WRITE | NOTE_EXTEND);
	put_at(fd, 4);
	expect(fd, NOTE_WRITE);
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
	expect(fd, NOTE_DELETE);
	t_quiet();
}
END_TEST

/* R-VNODE-01: of all that happens, the one that is wanted. */
START_TEST(each_alone)
{
	static const unsigned int notes[] = { NOTE_WRITE, NOTE_EXTEND,
		NOTE_ATTRIB, NOTE_LINK, NOTE_RENAME, NOTE_DELETE };
	int fd = make_file("file", "text"), watched = dup(fd);
	size_t i;

	for (i = 0; i < T_COUNT(notes); i++) {
		want(watched, EV_CLEAR, notes[i]);
		put_at(fd, 4 + (off_t)i);
		ck_assert_int_eq(fchmod(fd, i % 2 ? 0600 : 0644), 0);
		ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
		ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
		ck_assert_int_eq(renameat(dir, "other", dir, "file"), 0);
		if (notes[i] == NOTE_DELETE)
			t_quiet();
		else
			expect(watched, notes[i]);
		ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
		if (notes[i] == NOTE_DELETE)
			expect(watched, notes[i]);
		t_quiet();
	}
}
END_TEST

/* R-VNODE-09: what has no file behind it. */
START_TEST(not_a_file)
{
	int p[2], s[2], other = kqueue();

	t_pipe(p);
	t_unix(SOCK_STREAM, s);
	t_fails(EINVAL, p[0], EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_fails(EINVAL, s[0], EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_fails(EINVAL, other, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_gone(p[0], EVFILT_VNODE);
	t_gone(s[0], EVFILT_VNODE);
	t_gone(other, EVFILT_VNODE);
}
END_TEST

#if defined(__linux__) || defined(__FreeBSD__)
/* R-VNODE-09: a FIFO has. */
START_TEST(fifo)
{
	int fd;

	ck_assert_int_eq(mkfifoat(dir, "fifo", 0600), 0);
	fd = openat(dir, "fifo", O_RDWR);
	ck_assert_int_ne(fd, -1);
	want(fd, EV_CLEAR, CHANGES);
	t_quiet();
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	expect(fd, NOTE_ATTRIB);
	ck_assert_int_eq(unlinkat(dir, "fifo", 0), 0);
	expect(fd, NOTE_DELETE);
}
END_TEST
#endif

/* R-REG-10, R-REG-11: EBADF comes before ENOENT. */
START_TEST(not_open)
{
	int fd = make_file("file", "text"), lowest = dup(fd);

	close(lowest);
	t_fails(EBADF, lowest, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_fails(EBADF, lowest, EVFILT_VNODE, EV_DELETE, CHANGES, 0, NULL);
	t_fails(EBADF, (uintptr_t)INT_MAX + 1, EVFILT_VNODE, EV_ADD, CHANGES, 0,
	    NULL);
	t_fails(EBADF, UINTPTR_MAX, EVFILT_VNODE, EV_DELETE, CHANGES, 0, NULL);
#if UINTPTR_MAX > UINT32_MAX
	t_fails(EBADF, (uintptr_t)1 << 32 | (uintptr_t)fd, EVFILT_VNODE, EV_ADD,
	    CHANGES, 0, NULL);
#endif
	t_fails(ENOENT, fd, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	want(fd, 0, CHANGES);
	close(fd);
	t_fails(EBADF, fd, EVFILT_VNODE, EV_DELETE, 0, 0, NULL);
	ck_assert_int_eq(dup(dir), fd);
	t_fails(ENOENT, fd, EVFILT_VNODE, EV_DELETE, 0, 0, NULL);
}
END_TEST

/* -- the notes ------------------------------------------------------------- */

/* R-VNODE-10 */
START_TEST(written)
{
	int fd = make_file("file", "text"), more;

	want(fd, EV_CLEAR, CHANGES);
	put_at(fd, 3);
	expect(fd, NOTE_WRITE);
	put_at(fd, 4);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	put_at(fd, 100000);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	ck_assert_int_eq(write(fd, "", 0), 0);
	t_quiet();
	more = openat(dir, "file", O_WRONLY | O_APPEND);
	ck_assert_int_eq(write(more, "xy", 2), 2);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
}
END_TEST

/* R-VNODE-10: a mode changed in between takes nothing away. */
START_TEST(written_and_more)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	put_at(fd, 4);
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	put_at(fd, 4);
	expect(fd, NOTE_ATTRIB | NOTE_WRITE | NOTE_EXTEND | NOTE_LINK);
	t_quiet();
}
END_TEST

/* R-VNODE-11 */
START_TEST(truncated)
{
	int fd = make_file("file", "text"), again;
	struct kevent got;

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(ftruncate(fd, 2), 0);
	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags & ~NOTE_WRITE, NOTE_ATTRIB);
	t_quiet();
	again = openat(dir, "file", O_RDWR | O_TRUNC);
	ck_assert_int_ne(again, -1);
	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags & ~NOTE_WRITE, NOTE_ATTRIB);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	want(fd, EV_CLEAR, NOTE_ATTRIB);
	put_at(fd, 4);
	t_quiet();
	ck_assert_int_eq(ftruncate(fd, 1), 0);
	expect(fd, NOTE_ATTRIB);
}
END_TEST

#ifdef __linux__
/* kqueue(2), DIFFERENCES: a file made longer looks like one written to. */
START_TEST(lengthened)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(ftruncate(fd, 10), 0);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	ck_assert_int_eq(ftruncate(fd, 10), 0);
	expect(fd, NOTE_WRITE);
}
END_TEST
#endif

/* R-VNODE-12: mode, owner, times, extended attributes. */
START_TEST(attributes)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	expect(fd, NOTE_ATTRIB);
	ck_assert_int_eq(fchmodat(dir, "file", 0644, 0), 0);
	expect(fd, NOTE_ATTRIB);
	ck_assert_int_eq(fchown(fd, geteuid(), getegid()), 0);
	expect(fd, NOTE_ATTRIB);
	ck_assert_int_eq(futimens(fd, times), 0);
	expect(fd, NOTE_ATTRIB);
#ifdef __linux__
	if (fsetxattr(fd, "user.kq", "1", 1, 0) == 0)
		expect(fd, NOTE_ATTRIB);
#endif
	t_quiet();
}
END_TEST

/* R-VNODE-13 */
START_TEST(linked)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	want(dir, EV_CLEAR | EV_DISABLE, CHANGES);
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	expect(fd, NOTE_LINK);
	t_quiet();
	t_change(dir, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect(dir, NOTE_WRITE);
}
END_TEST

/* R-VNODE-14: at once, whichever link it was, and though it is open. */
START_TEST(unlinked)
{
	int fd = make_file("file", "text"), other;
	struct kevent got;

	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	other = openat(dir, "link", O_RDONLY);
	want(fd, EV_CLEAR, CHANGES);
	want(dir, EV_CLEAR | EV_DISABLE, CHANGES);
	ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
	expect(fd, NOTE_DELETE);
	ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
	expect(fd, NOTE_DELETE);
	t_quiet();
	t_change(dir, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	t_expect(&got, dir, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags, NOTE_WRITE);
	/* The file is there still. */
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	ck_assert_int_ne(other, -1);
}
END_TEST

/*
 * R-VNODE-05, R-VNODE-14: by the name that went first; the knote stays, too,
 * if another of the number is changed, or the file, before that is collected.
 */
START_TEST(unlinked_first_and_last)
{
	int fd = make_file("file", "text");

	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
	want(fd, EV_CLEAR, NOTE_DELETE | NOTE_WRITE);
	t_add(fd, EVFILT_READ, EV_DISABLE);
	ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
	if (_i == 1)
		t_change(fd, EVFILT_READ, EV_DISABLE, 0, 0, NULL);
	if (_i == 2)
		t_delete(fd, EVFILT_READ);
	if (_i == 3)
		put_at(fd, 4);
	expect(fd, _i == 3 ? NOTE_DELETE | NOTE_WRITE : NOTE_DELETE);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	t_quiet();
}
END_TEST

/* R-VNODE-14: a file that has no name any more can be watched. */
START_TEST(unlinked_before)
{
	int fd = t_file("text");

	want(fd, EV_CLEAR, CHANGES);
	t_quiet();
	put_at(fd, 4);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	expect(fd, NOTE_ATTRIB);
}
END_TEST

/* R-VNODE-15: RENAME for the one, DELETE for the one it replaces. */
START_TEST(renamed)
{
	int fd = make_file("file", "text"), old = make_file("old", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
	expect(fd, NOTE_RENAME);
	t_quiet();
	t_change(fd, EVFILT_VNODE, EV_DISABLE, CHANGES, 0, NULL);
	want(old, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "other", dir, "old"), 0);
	expect(old, NOTE_DELETE);
	t_quiet();
	t_change(fd, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect(fd, NOTE_RENAME);
}
END_TEST

/* R-VNODE-21 */
START_TEST(opened_and_closed)
{
	unsigned int notes =
	    NOTE_OPEN | NOTE_CLOSE | NOTE_CLOSE_WRITE | NOTE_READ;
	int fd = make_file("file", "text"), other, copy;
	char c;

	want(fd, EV_CLEAR, notes | CHANGES);
	other = openat(dir, "file", O_RDONLY);
	expect(fd, NOTE_OPEN);
	ck_assert_int_eq(read(other, &c, 1), 1);
	expect(fd, NOTE_READ);
	copy = dup(other);
	close(other);
	t_quiet();
	close(copy);
	expect(fd, NOTE_CLOSE);
	other = openat(dir, "file", O_WRONLY);
	expect(fd, NOTE_OPEN);
	close(other);
	expect(fd, NOTE_CLOSE_WRITE);
	want(fd, EV_CLEAR, NOTE_CLOSE);
	close(openat(dir, "file", O_WRONLY));
	t_quiet();
	close(openat(dir, "file", O_RDONLY));
	expect(fd, NOTE_CLOSE);
}
END_TEST

/* R-VNODE-22: stores through a mapping need not be told; nothing breaks. */
START_TEST(mapped)
{
	int fd = make_file("file", "text");
	struct kevent got;
	char *map;

	map = mmap(NULL, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ck_assert_ptr_ne(map, MAP_FAILED);
	want(fd, EV_CLEAR, CHANGES);
	map[0] = 'x';
	ck_assert_int_eq(msync(map, 4, MS_SYNC), 0);
	while (t_get(t_kq, &got, 1, T_QUIET_MS) != 0)
		ck_assert_uint_eq(got.fflags & ~NOTE_ATTRIB, NOTE_WRITE);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

/* -- descriptors ----------------------------------------------------------- */

/* R-VNODE-23, R-FD-01, R-FD-03, R-FD-04: the knote goes with its number. */
START_TEST(closed)
{
	int fd = make_file("file", "text"), other = dup(fd);

	want(fd, 0, CHANGES);
	put_at(fd, 4);
	close(fd);
	t_none();
	put_at(other, 5);
	t_quiet();
	ck_assert_int_eq(dup(other), fd);
	put_at(fd, 6);
	t_quiet();
	t_gone(fd, EVFILT_VNODE);

	want(fd, 0, CHANGES);
	put_at(fd, 7);
	ck_assert_int_eq(dup2(dir, fd), fd);
	put_at(other, 8);
	t_quiet();
	t_gone(fd, EVFILT_VNODE);
}
END_TEST

/* R-FD-02, R-VNODE-01: many descriptors of one file, each for itself. */
START_TEST(one_file)
{
	enum { N = 40 };
	int fd = make_file("file", "text"), fds[N], i;
	struct kevent got[N + 1];

	for (i = 0; i < N; i++) {
		fds[i] =
		    i % 2 ? dup(fd) : openat(dir, "file", O_RDONLY | O_CLOEXEC);
		want(fds[i], EV_CLEAR, i % 4 == 0 ? NOTE_ATTRIB : NOTE_WRITE);
	}
	put_at(fd, 0);
	ck_assert_int_eq(t_get(t_kq, got, N + 1, T_DEADLINE_MS), N / 4 * 3);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	ck_assert_int_eq(t_get(t_kq, got, N + 1, T_DEADLINE_MS), N / 4);
	for (i = 0; i < N; i++)
		if (i % 4 != 0)
			close(fds[i]);
	put_at(fd, 0);
	t_quiet();
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	ck_assert_int_eq(t_get(t_kq, got, N + 1, T_DEADLINE_MS), N / 4);
	for (i = 4; i < N; i += 4)
		t_delete(fds[i], EVFILT_VNODE);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	expect(fds[0], NOTE_ATTRIB);
}
END_TEST

/* R-REG-19, R-READ-44: READ of the same file is a knote of its own. */
START_TEST(beside_read)
{
	int fd = make_file("file", "text");
	struct kevent got;

	t_add(fd, EVFILT_READ, 0);
	want(fd, EV_CLEAR, NOTE_ATTRIB);
	t_quiet();
	put_at(fd, 4);
	t_expect(&got, fd, EVFILT_READ);
	ck_assert_int_eq(got.data, 1);
	t_take(fd, 1);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	expect(fd, NOTE_ATTRIB);
	t_delete(fd, EVFILT_VNODE);
	t_quiet();
	put_at(fd, 5);
	t_expect(&got, fd, EVFILT_READ);
	t_take(fd, 1);
	want(fd, EV_CLEAR, NOTE_ATTRIB);
	t_delete(fd, EVFILT_READ);
	put_at(fd, 6);
	t_quiet();
	ck_assert_int_eq(fchmod(fd, 0644), 0);
	expect(fd, NOTE_ATTRIB);
}
END_TEST

/* R-MODE-01, R-MODE-06: the modes, on notes. */
START_TEST(modes)
{
	int fd = make_file("file", "text");

	want(fd, EV_ONESHOT, CHANGES);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	t_gone(fd, EVFILT_VNODE);
	put_at(fd, 0);
	t_quiet();

	want(fd, EV_DISPATCH | EV_CLEAR, CHANGES);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	t_quiet();
	t_change(fd, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect(fd, NOTE_ATTRIB);
	t_quiet();
}
END_TEST

static int
look_and_go(int fd)
{
	close(fd);
	return 0;
}

/* R-FD-07: what a child does with its copy is its own business. */
START_TEST(child_closes)
{
	int fd = make_file("file", "text");

	want(fd, EV_CLEAR, CHANGES);
	ck_assert_int_eq(t_child(look_and_go, fd), 0);
	t_quiet();
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

static struct {
	pthread_barrier_t start;
	int file, number;
	volatile int delay;
} race;

static void *
replace_number(void *arg)
{
	pthread_barrier_wait(&race.start);
	while (race.delay > 0)
		race.delay--;
	dup2(race.file, race.number);
	return NULL;
}

/* R-FD-01, R-FD-03: what is registered at once is the new file, or nothing. */
START_TEST(replacing_races_with_add)
{
	int old = make_file("old", "text"), i;
	pthread_t thread;

	race.file = make_file("new", "text");
	race.number = fcntl(old, F_DUPFD, 100);
	pthread_barrier_init(&race.start, NULL, 2);
	for (i = 0; i < 500; i++) {
		ck_assert_int_eq(dup2(old, race.number), race.number);
		race.delay = i * 10;
		thread = t_thread(replace_number, NULL);
		pthread_barrier_wait(&race.start);
		want(race.number, EV_CLEAR, NOTE_OPEN);
		t_join(thread);
		close(openat(dir, "old", O_RDONLY));
		t_none();
		t_try(race.number, EVFILT_VNODE, EV_DELETE, 0, 0, NULL);
	}
	want(race.number, EV_CLEAR, CHANGES);
	put_at(race.file, 0);
	expect(race.number, NOTE_WRITE);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("vnode");

	tcase_add_checked_fixture(tc, make_dir, NULL);
	tcase_add_test(tc, wanted_notes_only);
	tcase_add_test(tc, notes_are_or_ed);
	tcase_add_test(tc, notes_stay_without_clear);
	tcase_add_test(tc, only_after_registration);
	tcase_add_test(tc, follows_renames);
	tcase_add_test(tc, by_any_process);
	tcase_add_test(tc, nothing_wanted_nothing_told);
	tcase_add_test(tc, add_again);
	tcase_add_test(tc, wanted_later);
	tcase_add_test(tc, each_alone);
	tcase_add_test(tc, not_a_file);
#if defined(__linux__) || defined(__FreeBSD__)
	tcase_add_test(tc, fifo);
#endif
	tcase_add_test(tc, not_open);
	tcase_add_test(tc, written);
	tcase_add_test(tc, written_and_more);
	tcase_add_test(tc, truncated);
#ifdef __linux__
	tcase_add_test(tc, lengthened);
#endif
	tcase_add_test(tc, attributes);
	tcase_add_test(tc, linked);
	tcase_add_test(tc, unlinked);
	tcase_add_test(tc, unlinked_before);
	tcase_add_loop_test(tc, unlinked_first_and_last, 0, 4);
	tcase_add_test(tc, renamed);
	tcase_add_test(tc, opened_and_closed);
	tcase_add_test(tc, mapped);
	tcase_add_test(tc, closed);
	tcase_add_test(tc, one_file);
	tcase_add_test(tc, beside_read);
	tcase_add_test(tc, modes);
	tcase_add_test(tc, child_closes);
	tcase_add_test(tc, replacing_races_with_add);
	return t_end();
}
