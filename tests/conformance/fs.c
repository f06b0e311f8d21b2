/*
 * EVFILT_FS: mounts.  docs/kqueue-rules.md, section 16.
 *
 * They are made in a mount namespace of the test's own, as root or as the root
 * of a user namespace.
 */
#ifdef __linux__
#include <sys/mount.h>
#include <sys/stat.h>

#include <sched.h>
#endif

#include "t.h"

#include <stdbool.h>
#include <stdio.h>

#ifdef __linux__

/* What it watches must not reach the machine's own mounts. */
static bool
can_mount(void)
{
	int flags = CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER);

	if (unshare(flags) == 0 &&
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0)
		return true;
	t_skip("no mount namespace of our own");
	return false;
}

static void
t_mount(const char *folder)
{
	ck_assert_int_eq(mount("none", folder, "tmpfs", 0, "size=64k"), 0);
}

static void
t_expect_notes(uintptr_t ident, unsigned int notes)
{
	struct kevent got;

	t_expect(&got, ident, EVFILT_FS);
	ck_assert_uint_eq(got.fflags, notes);
	ck_assert_int_eq(got.data, 0);
	ck_assert_uint_eq(got.flags & EV_CLEAR, EV_CLEAR);
	t_quiet();
}

#define t_watch(ident, fflags)                                                 \
	t_change(ident, EVFILT_FS, EV_ADD, fflags, 0, NULL)

/* R-MISC-03 */
START_TEST(mounted_and_unmounted)
{
	char *folder = t_dir();

	if (!can_mount())
		return;
	t_watch(0, VQ_MOUNT | VQ_UNMOUNT);
	t_quiet();
	t_mount(folder);
	t_expect_notes(0, VQ_MOUNT);
	t_mount(folder);
	t_expect_notes(0, VQ_MOUNT);
	ck_assert_int_eq(umount(folder), 0);
	t_expect_notes(0, VQ_UNMOUNT);
	t_delete(0, EVFILT_FS);
	ck_assert_int_eq(umount(folder), 0);
	t_quiet();
}
END_TEST

/* R-MISC-03: what happens between two looks is one event. */
START_TEST(several_are_one_event)
{
	char *folder = t_dir(), other[64];

	if (!can_mount())
		return;
	snprintf(other, sizeof(other), "%s/other", folder);
	ck_assert_int_eq(mkdir(other, 0700), 0);
	t_mount(other);
	t_watch(7, VQ_MOUNT | VQ_UNMOUNT);
	ck_assert_int_eq(umount(other), 0);
	t_mount(folder);
	t_expect_notes(7, VQ_MOUNT | VQ_UNMOUNT);
	ck_assert_int_eq(umount(folder), 0);
	t_expect_notes(7, VQ_UNMOUNT);
}
END_TEST

/* R-MISC-03: each knote hears what it asked for, and of nothing else. */
START_TEST(only_what_is_wanted)
{
	char *folder = t_dir();

	if (!can_mount())
		return;
	t_watch(1, VQ_MOUNT);
	t_watch(2, VQ_UNMOUNT);
	t_watch(3, 0);
	t_mount(folder);
	t_expect_notes(1, VQ_MOUNT);
	ck_assert_int_eq(mount("none", folder, "tmpfs", MS_REMOUNT | MS_NOEXEC,
			     "size=64k"),
	    0);
	t_quiet();
	t_watch(1, 0);
	ck_assert_int_eq(umount(folder), 0);
	t_expect_notes(2, VQ_UNMOUNT);
}
END_TEST

/* R-MISC-03: a disabled knote records. */
START_TEST(disabled_records)
{
	char *folder = t_dir();

	if (!can_mount())
		return;
	t_change(0, EVFILT_FS, EV_ADD | EV_DISABLE, VQ_MOUNT, 0, NULL);
	t_mount(folder);
	t_quiet();
	t_change(0, EVFILT_FS, EV_ENABLE, VQ_MOUNT, 0, NULL);
	t_expect_notes(0, VQ_MOUNT);
	ck_assert_int_eq(umount(folder), 0);
}
END_TEST

#endif

int
main(void)
{
	TCase *tc = t_begin("fs");

#ifdef __linux__
	tcase_add_test(tc, mounted_and_unmounted);
	tcase_add_test(tc, several_are_one_event);
	tcase_add_test(tc, only_what_is_wanted);
	tcase_add_test(tc, disabled_records);
#else
	(void)tc;
#endif
	return t_end();
}
