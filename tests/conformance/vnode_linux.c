/*
 * EVFILT_VNODE: where Linux and its inotify come to their limits.
 */
#include "t.h"
#include "vnode.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

static int dir; /* an empty one, for the test */

static void
make_dir(void)
{
	dir = open_dir();
}

static int
make_file(const char *name)
{
	return file_in(dir, name, "text");
}

static bool
write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done =
	    fd != -1 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return done;
}

/* A namespace in which we are root, may mount, and have limits of our own. */
static bool
be_root_somewhere(void)
{
	char uids[32], gids[32];

	snprintf(uids, sizeof(uids), "0 %u 1", geteuid());
	snprintf(gids, sizeof(gids), "0 %u 1", getegid());
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 &&
	    write_to("/proc/self/uid_map", uids) &&
	    write_to("/proc/self/setgroups", "deny") &&
	    write_to("/proc/self/gid_map", gids);
}

/* -- the queue of inotify is full ------------------------------------------ */

/* More events than it keeps, none of which is like the one before. */
static void
flood(int a, int b)
{
	FILE *limit = fopen("/proc/sys/fs/inotify/max_queued_events", "r");
	int n, i;

	ck_assert_ptr_nonnull(limit);
	ck_assert_int_eq(fscanf(limit, "%d", &n), 1);
	fclose(limit);
	for (i = 0; i < n / 2 + 2; i++) {
		put_at(a, 0);
		put_at(b, 0);
	}
}

/* The event of fd among the next ones: its notes, or 0 if there is none. */
static unsigned int
notes_of(int fd)
{
	struct kevent got[16];
	unsigned int notes = 0;
	int n, i;

	n = t_get(t_kq, got, 16, T_DEADLINE_MS);
	for (i = 0; i < n; i++)
		if (got[i].ident == (uintptr_t)fd)
			notes = got[i].fflags;
	return notes;
}

/* With the last of two names inotify lets go of a file that is open. */
static void
name_again(const char *name, const char *other)
{
	ck_assert_int_eq(linkat(dir, name, dir, other, 0), 0);
	ck_assert_int_eq(unlinkat(dir, name, 0), 0);
}

/* R-VNODE-02: what happens after that is found by looking. */
START_TEST(overflow)
{
	int a = make_file("a"), b = make_file("b"), fd = make_file("file");
	unsigned int notes;

	want(a, EV_CLEAR, NOTE_WRITE);
	want(b, EV_CLEAR, NOTE_WRITE);
	if (_i == 5)
		name_again("file", "link");
	want(fd, EV_CLEAR, CHANGES);
	flood(a, b);
	switch (_i) {
	case 0:
		put_at(fd, 4);
		notes = NOTE_WRITE | NOTE_EXTEND;
		break;
	case 1:
		ck_assert_int_eq(fchmod(fd, 0600), 0);
		notes = NOTE_ATTRIB;
		break;
	case 2:
		ck_assert_int_eq(linkat(dir, "file", dir, "link", 0), 0);
		notes = NOTE_LINK;
		break;
	case 3:
		ck_assert_int_eq(unlinkat(dir, "file", 0), 0);
		notes = NOTE_DELETE;
		break;
	case 4:
		ck_assert_int_eq(renameat(dir, "file", dir, "other"), 0);
		notes = NOTE_RENAME;
		break;
	case 5:
		ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
		notes = NOTE_DELETE;
		break;
	default:
		notes = 0;
		break;
	}
	ck_assert_uint_eq(notes_of(fd) & notes, notes);
	t_quiet();
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

/* R-VNODE-18, R-VNODE-14: the same for directories. */
START_TEST(overflow_of_directories)
{
	int a = make_file("a"), b = make_file("b"), sub;
	struct kevent got[16];

	ck_assert_int_eq(mkdirat(dir, "sub", 0700), 0);
	sub = openat(dir, "sub", O_RDONLY | O_DIRECTORY);
	want(a, EV_CLEAR, NOTE_WRITE);
	want(b, EV_CLEAR, NOTE_WRITE);
	want(sub, EV_CLEAR, CHANGES);
	flood(a, b);
	close(file_in(sub, "file", "text"));
	ck_assert_uint_eq(notes_of(sub) & NOTE_WRITE, NOTE_WRITE);
	t_quiet();
	flood(a, b);
	ck_assert_int_eq(unlinkat(sub, "file", 0), 0);
	ck_assert_int_eq(unlinkat(dir, "sub", AT_REMOVEDIR), 0);
	ck_assert_uint_eq(notes_of(sub) & NOTE_DELETE, NOTE_DELETE);
	ck_assert_int_eq(t_get(t_kq, got, 16, T_QUIET_MS), 0);
}
END_TEST

/* R-READ-44: READ at the end of a file is asked again, too. */
START_TEST(overflow_and_read)
{
	int a = make_file("a"), b = make_file("b"), fd = make_file("file");
	struct kevent got[16];
	int n, i, found = 0;

	want(a, EV_CLEAR, NOTE_WRITE);
	want(b, EV_CLEAR, NOTE_WRITE);
	name_again("file", "link");
	t_add(fd, EVFILT_READ, 0);
	t_quiet();
	flood(a, b);
	if (_i == 1) {
		ck_assert_int_eq(unlinkat(dir, "link", 0), 0);
		ck_assert_int_eq(t_get(t_kq, got, 16, T_DEADLINE_MS), 2);
	}
	put_at(fd, 4);
	n = t_get(t_kq, got, 16, T_DEADLINE_MS);
	for (i = 0; i < n; i++)
		found += got[i].filter == EVFILT_READ && got[i].data == 1;
	ck_assert_int_eq(found, 1);
}
END_TEST

/* -- what may not be had --------------------------------------------------- */

/* kqueue(2), DIFFERENCES: R-VNODE-01, a file that may not be read: EACCES. */
START_TEST(unreadable)
{
	int fd = make_file("file"), writer;

	if (geteuid() == 0) {
		ck_assert_int_eq(fchown(fd, 65534, (gid_t)-1), 0);
		ck_assert_int_eq(fchmod(dir, 0755), 0);
		ck_assert_int_eq(seteuid(65534), 0);
	}
	ck_assert_int_eq(fchmod(fd, 0200), 0);
	writer = openat(dir, "file", O_WRONLY);
	ck_assert_int_ne(writer, -1);
	t_fails(EACCES, writer, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_gone(writer, EVFILT_VNODE);
	ck_assert_int_eq(fchmod(fd, 0600), 0);
	want(writer, EV_CLEAR, CHANGES);
	put_at(fd, 0);
	expect(writer, NOTE_WRITE);
	/* The leak checker looks at this process, which takes both. */
	seteuid(0);
	prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}
END_TEST

/* kqueue(2), ERRORS: the user has no inotify instance left: EMFILE. */
START_TEST(no_instance)
{
	int fd = make_file("file");

	if (!be_root_somewhere() ||
	    !write_to("/proc/sys/user/max_inotify_instances", "0")) {
		t_skip("no user namespace");
		return;
	}
	t_fails(EMFILE, fd, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_gone(fd, EVFILT_VNODE);
	ck_assert(write_to("/proc/sys/user/max_inotify_instances", "1"));
	want(fd, EV_CLEAR, CHANGES);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
}
END_TEST

/* kqueue(2), ERRORS: the user has no watch left: ENOMEM. */
START_TEST(no_watch)
{
	int fd = make_file("file"), other = make_file("other");
	int copy = dup(fd), sub;

	ck_assert_int_eq(mkdirat(dir, "sub", 0700), 0);
	sub = openat(dir, "sub", O_RDONLY | O_DIRECTORY);
	if (!be_root_somewhere() ||
	    !write_to("/proc/sys/user/max_inotify_watches", "1")) {
		t_skip("no user namespace");
		return;
	}
	want(fd, EV_CLEAR, CHANGES);
	t_fails(ENOMEM, other, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_gone(other, EVFILT_VNODE);
	want(copy, EV_CLEAR | EV_DISABLE, CHANGES);
	put_at(fd, 0);
	expect(fd, NOTE_WRITE);
	close(fd);
	close(copy);
	/* A directory takes a second one, for its parent. */
	t_fails(ENOMEM, sub, EVFILT_VNODE, EV_ADD, NOTE_DELETE, 0, NULL);
	t_gone(sub, EVFILT_VNODE);
}
END_TEST

/* kqueue(2), ERRORS: there is no /proc, by which inotify finds a file. */
START_TEST(no_proc)
{
	int fd = make_file("file"), root = open("/", O_RDONLY), p[2];
	struct kevent got;

	t_pipe(p);
	if (!be_root_somewhere() || fchdir(dir) == -1 || chroot(".") == -1) {
		t_skip("no user namespace");
		return;
	}
	t_fails(ENOTSUP, fd, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_fails(EBADF, fd + 100, EVFILT_VNODE, EV_ADD, CHANGES, 0, NULL);
	t_gone(fd, EVFILT_VNODE);
	t_add(p[0], EVFILT_READ, 0);
	t_put(p[1], 1);
	t_expect(&got, p[0], EVFILT_READ);
	ck_assert_int_eq(fchdir(root), 0);
	ck_assert_int_eq(chroot("."), 0);
}
END_TEST

/* -- a file system goes ---------------------------------------------------- */

/*
 * R-VNODE-20: a file system whose files are open stays until they are closed,
 * so this takes a descriptor that is closed and keeps its knote: one that was
 * closed by a bare system call.
 */
START_TEST(unmounted)
{
	unsigned int mode = _i == 0 ? EV_CLEAR : 0;
	struct kevent got;
	int fd, top;

	if (getenv("KQ_STRICT") != NULL || !be_root_somewhere()) {
		t_skip("no user namespace, or KQ_STRICT");
		return;
	}
	ck_assert_int_eq(mount("none", "/tmp", "tmpfs", 0, NULL), 0);
	top = open("/tmp", O_RDONLY | O_DIRECTORY);
	fd = file_in(top, "file", "text");
	want(fd, mode, _i == 2 ? 0 : NOTE_WRITE | NOTE_REVOKE);
	t_quiet();
	syscall(SYS_close, fd);
	close(top);
	ck_assert_int_eq(umount2("/tmp", MNT_DETACH), 0);
	t_expect(&got, fd, EVFILT_VNODE);
	ck_assert_uint_eq(got.fflags, _i == 2 ? 0 : NOTE_REVOKE);
	ck_assert_int_ne(got.flags & EV_EOF, 0);
	if (mode == 0)
		t_expect(&got, fd, EVFILT_VNODE);
	else
		t_quiet();
	t_delete(fd, EVFILT_VNODE);
}
END_TEST

int
main(void)
{
	TCase *tc = t_begin("vnode_linux");

	tcase_add_checked_fixture(tc, make_dir, NULL);
	tcase_add_loop_test(tc, overflow, 0, 6);
	tcase_add_test(tc, overflow_of_directories);
	tcase_add_loop_test(tc, overflow_and_read, 0, 2);
	tcase_add_test(tc, unreadable);
	tcase_add_test(tc, no_instance);
	tcase_add_test(tc, no_watch);
	tcase_add_test(tc, no_proc);
	tcase_add_loop_test(tc, unmounted, 0, 3);
	return t_end();
}
