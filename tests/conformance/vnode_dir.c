/*
 * EVFILT_VNODE on directories, and on symbolic links themselves.
 */
#include "t.h"
#include "vnode.h"

#include <dirent.h>
#include <stdio.h>
#include <sys/stat.h>

static int dir; /* an empty one, for the test */

static void
make_dir(void)
{
	dir = open_dir();
}

static int
make_subdir(const char *name)
{
	int fd;

	ck_assert_int_eq(mkdirat(dir, name, 0700), 0);
	fd = openat(dir, name, O_RDONLY | O_DIRECTORY);
	ck_assert_int_ne(fd, -1);
	return fd;
}

/* The next event has all these notes, and perhaps some that are allowed. */
static void
expect_at_least(int fd, unsigned int notes, unsigned int allowed)
{
	struct kevent got;

	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags & ~allowed, notes);
}

/* -- names in a directory -------------------------------------------------- */

/* R-VNODE-18: what is made in it, and removed from it. */
START_TEST(names_come_and_go)
{
	want(dir, EV_CLEAR, CHANGES);
	close(file_in(dir, "file", "text"));
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(mkfifoat(dir, "fifo", 0600), 0);
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(symlinkat("file", dir, "symlink"), 0);
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
	expect(dir, NOTE_WRITE);
	t_quiet();
}
END_TEST

/* R-VNODE-18: a directory in it is a link of it; removed, it is deleted. */
START_TEST(directories_come_and_go)
{
	int sub;

	want(dir, EV_CLEAR, CHANGES);
	sub = make_subdir("sub");
	expect(dir, NOTE_WRITE | NOTE_LINK);
	t_change(dir, EVFILT_VNODE, EV_DISABLE, CHANGES, 0, NULL);
	want(sub, EV_CLEAR, CHANGES);
	t_quiet();
	ck_assert_int_eq(unlinkat(dir, "sub", AT_REMOVEDIR), 0);
	expect(sub, NOTE_DELETE);
	t_quiet();
	t_change(dir, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect(dir, NOTE_WRITE | NOTE_LINK);
	close(make_subdir("sub"));
	ck_assert_int_eq(unlinkat(dir, "sub", AT_REMOVEDIR), 0);
	expect(dir, NOTE_WRITE | NOTE_LINK);
}
END_TEST

/* R-VNODE-18: another directory that is removed beside it is none of it. */
START_TEST(another_is_removed)
{
	int sub = make_subdir("sub"), other = make_subdir("other");

	want(sub, EV_CLEAR, CHANGES);
	ck_assert_int_eq(unlinkat(dir, "other", AT_REMOVEDIR), 0);
	t_quiet();
	want(other, EV_CLEAR, CHANGES);
	t_quiet();
	want(sub, EV_CLEAR, NOTE_WRITE);
	ck_assert_int_eq(unlinkat(dir, "sub", AT_REMOVEDIR), 0);
	t_quiet();
}
END_TEST

/* R-VNODE-01: of all that happens, the one that is wanted. */
START_TEST(each_alone)
{
	static const unsigned int notes[] = { NOTE_WRITE, NOTE_ATTRIB,
		NOTE_LINK, NOTE_RENAME, NOTE_DELETE };
	unsigned int note = notes[_i];
	int sub = make_subdir("sub");

	want(sub, EV_CLEAR, note);
	ck_assert_int_eq(mkdirat(sub, "more", 0700), 0);
	ck_assert_int_eq(fchmod(sub, 0755), 0);
	ck_assert_int_eq(renameat(dir, "sub", dir, "other"), 0);
	ck_assert_int_eq(unlinkat(sub, "more", AT_REMOVEDIR), 0);
	if (note != NOTE_DELETE)
		expect(sub, note);
	ck_assert_int_eq(unlinkat(dir, "other", AT_REMOVEDIR), 0);
	if (note == NOTE_DELETE)
		expect(sub, note);
	t_quiet();
}
END_TEST

/* R-VNODE-19: what is done to the files in it is no news of it. */
START_TEST(files_in_it)
{
	int fd = file_in(dir, "file", "text"), sub = make_subdir("sub");
	char c;

	want(dir, EV_CLEAR,
	    CHANGES | NOTE_OPEN | NOTE_READ | NOTE_CLOSE | NOTE_CLOSE_WRITE);
	put_at(fd, 4);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	ck_assert_int_eq(fchmod(sub, 0755), 0);
	ck_assert_int_eq(pread(fd, &c, 1, 0), 1);
	close(openat(dir, "file", O_RDWR));
	close(file_in(sub, "file", "text"));
	t_quiet();
	ck_assert_int_eq(unlinkat(sub, "file", 0), 0);
	t_quiet();
	ck_assert_int_eq(fchmod(dir, 0750), 0);
	expect(dir, NOTE_ATTRIB);
}
END_TEST

/* R-VNODE-21: a directory itself, and reading it. */
START_TEST(opened_and_read)
{
	char buf[1024];
	int fd;

	want(dir, EV_CLEAR, NOTE_OPEN | NOTE_READ | NOTE_CLOSE);
	fd = openat(dir, ".", O_RDONLY | O_DIRECTORY);
	expect(dir, NOTE_OPEN);
#ifdef __linux__
	ck_assert_int_gt(getdents64(fd, (void *)buf, sizeof(buf)), 0);
#else
	ck_assert_int_gt(getdirentries(fd, buf, sizeof(buf), NULL), 0);
#endif
	expect(dir, NOTE_READ);
	close(fd);
	expect(dir, NOTE_CLOSE);
}
END_TEST

/* -- rename ---------------------------------------------------------------- */

/* R-VNODE-16 */
START_TEST(rename_within)
{
	close(file_in(dir, "file", "text"));
	close(file_in(dir, "old", "text"));
	close(make_subdir("sub"));
	want(dir, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(renameat(dir, "other", dir, "old"), 0);
	expect(dir, NOTE_WRITE);
	ck_assert_int_eq(renameat(dir, "sub", dir, "moved"), 0);
	expect(dir, NOTE_WRITE);
	t_quiet();
}
END_TEST

/* R-VNODE-16, R-VNODE-15: a directory that replaces another. */
START_TEST(replaced)
{
	int sub = make_subdir("sub"), old = make_subdir("old");
	struct stat st;

	/* Some file systems do not count directories as links. */
	ck_assert_int_eq(fstat(dir, &st), 0);
	want(dir, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "sub", dir, "old"), 0);
	expect(dir, NOTE_WRITE | (st.st_nlink > 1 ? NOTE_LINK : 0));
	t_delete(dir, EVFILT_VNODE);
	want(sub, EV_CLEAR, CHANGES);
	ck_assert_int_eq(mkdirat(dir, "sub", 0700), 0);
	ck_assert_int_eq(renameat(dir, "old", dir, "sub"), 0);
	expect(sub, NOTE_RENAME);
	close(old);
	old = make_subdir("old");
	want(old, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "sub", dir, "old"), 0);
	t_change(sub, EVFILT_VNODE, EV_DISABLE, CHANGES, 0, NULL);
	expect(old, NOTE_DELETE);
	t_quiet();
}
END_TEST

/* R-VNODE-17 */
START_TEST(rename_across)
{
	int from = make_subdir("from"), to = make_subdir("to");

	close(file_in(from, "file", "text"));
	want(from, EV_CLEAR, CHANGES);
	want(to, EV_CLEAR | EV_DISABLE, CHANGES);
	ck_assert_int_eq(renameat(from, "file", to, "file"), 0);
	expect_at_least(from, NOTE_WRITE, NOTE_EXTEND);
	t_quiet();
	t_change(to, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect_at_least(to, NOTE_WRITE, NOTE_EXTEND);
	ck_assert_int_eq(mkdirat(to, "sub", 0700), 0);
	expect(to, NOTE_WRITE | NOTE_LINK);
	t_change(from, EVFILT_VNODE, EV_DISABLE, CHANGES, 0, NULL);
	ck_assert_int_eq(renameat(to, "sub", from, "sub"), 0);
	expect_at_least(to, NOTE_WRITE, NOTE_EXTEND | NOTE_LINK);
	t_change(from, EVFILT_VNODE, EV_ENABLE, CHANGES, 0, NULL);
	expect_at_least(from, NOTE_WRITE, NOTE_EXTEND | NOTE_LINK);
	ck_assert_int_eq(unlinkat(from, "sub", AT_REMOVEDIR), 0);
	ck_assert_int_eq(unlinkat(to, "file", 0), 0);
}
END_TEST

/* R-VNODE-15, R-VNODE-05: a directory swapped for another. */
START_TEST(swapped)
{
	int sub = make_subdir("sub"), next = make_subdir("next");

	want(sub, EV_CLEAR, CHANGES);
	ck_assert_int_eq(renameat(dir, "sub", dir, "old"), 0);
	ck_assert_int_eq(renameat(dir, "next", dir, "sub"), 0);
	expect(sub, NOTE_RENAME);
	close(file_in(next, "file", "text"));
	ck_assert_int_eq(unlinkat(next, "file", 0), 0);
	t_quiet();
	close(file_in(sub, "file", "text"));
	expect(sub, NOTE_WRITE);
}
END_TEST

/* R-VNODE-18: it is found removed wherever it was moved to. */
START_TEST(moved_and_removed)
{
	int sub = make_subdir("sub"), to = make_subdir("to"), i;

	want(sub, EV_CLEAR, CHANGES);
	for (i = 0; i < 2; i++) {
		ck_assert_int_eq(renameat(dir, "sub", to, "sub"), 0);
		expect(sub, NOTE_RENAME);
		ck_assert_int_eq(renameat(to, "sub", dir, "sub"), 0);
		expect(sub, NOTE_RENAME);
	}
	ck_assert_int_eq(renameat(dir, "sub", to, "sub"), 0);
	if (_i == 0)
		expect(sub, NOTE_RENAME);
	ck_assert_int_eq(unlinkat(to, "sub", AT_REMOVEDIR), 0);
	expect(sub, _i == 0 ? NOTE_DELETE : NOTE_RENAME | NOTE_DELETE);
	t_quiet();
}
END_TEST

/* -- symbolic links -------------------------------------------------------- */

#ifdef O_PATH
#define O_LINK (O_PATH | O_NOFOLLOW)
#else
#define O_LINK O_SYMLINK
#endif

#if defined(O_PATH) || defined(O_SYMLINK)
/* R-VNODE-12, R-VNODE-14, R-VNODE-15: the link itself, not where it leads. */
START_TEST(symbolic_link)
{
	const struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 2 } };
	int file = file_in(dir, "file", "text"), fd;

	ck_assert_int_eq(symlinkat("file", dir, "symlink"), 0);
	fd = openat(dir, "symlink", O_LINK);
	ck_assert_int_ne(fd, -1);
	want(fd, EV_CLEAR, CHANGES);
	put_at(file, 4);
	ck_assert_int_eq(fchmod(file, 0600), 0);
	t_quiet();
	ck_assert_int_eq(utimensat(dir, "symlink", times, AT_SYMLINK_NOFOLLOW),
	    0);
	expect(fd, NOTE_ATTRIB);
	ck_assert_int_eq(renameat(dir, "symlink", dir, "moved"), 0);
	expect(fd, NOTE_RENAME);
	if (_i == 0) {
		ck_assert_int_eq(unlinkat(dir, "moved", 0), 0);
	} else {
		ck_assert_int_eq(symlinkat("other", dir, "next"), 0);
		ck_assert_int_eq(renameat(dir, "next", dir, "moved"), 0);
	}
	expect(fd, NOTE_DELETE);
	t_quiet();
}
END_TEST
#endif

#ifdef O_PATH
/* R-VNODE-01: a descriptor that is not open for reading or writing. */
START_TEST(path_only)
{
	int file = file_in(dir, "file", "text"), sub = make_subdir("sub");
	int fd = openat(dir, "file", O_PATH), d = openat(dir, "sub", O_PATH);

	close(sub);
	want(fd, EV_CLEAR, CHANGES);
	want(d, EV_CLEAR, CHANGES);
	put_at(file, 4);
	expect(fd, NOTE_WRITE | NOTE_EXTEND);
	close(file);
	ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
	expect(fd, NOTE_DELETE);
	ck_assert_int_eq(unlinkat(dir, "sub", AT_REMOVEDIR), 0);
	expect(d, NOTE_DELETE);
	t_quiet();
}
END_TEST
#endif

int
main(void)
{
	TCase *tc = t_begin("vnode_dir");

	tcase_add_checked_fixture(tc, make_dir, NULL);
	tcase_add_test(tc, names_come_and_go);
	tcase_add_test(tc, directories_come_and_go);
	tcase_add_test(tc, another_is_removed);
	tcase_add_loop_test(tc, each_alone, 0, 5);
	tcase_add_test(tc, files_in_it);
	tcase_add_test(tc, opened_and_read);
	tcase_add_test(tc, rename_within);
	tcase_add_test(tc, replaced);
	tcase_add_test(tc, rename_across);
	tcase_add_test(tc, swapped);
	tcase_add_loop_test(tc, moved_and_removed, 0, 2);
#if defined(O_PATH) || defined(O_SYMLINK)
	tcase_add_loop_test(tc, symbolic_link, 0, 2);
#endif
#ifdef O_PATH
	tcase_add_test(tc, path_only);
#endif
	return t_end();
}
