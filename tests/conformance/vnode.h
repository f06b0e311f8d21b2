/*
 * What the tests of EVFILT_VNODE share.
 */
#ifndef VNODE_H
#define VNODE_H

#include "t.h"

#define CHANGES                                                                \
	(NOTE_DELETE | NOTE_WRITE | NOTE_EXTEND | NOTE_ATTRIB | NOTE_LINK |    \
	    NOTE_RENAME | NOTE_REVOKE)

/* A new folder that is removed with what is in it. */
static inline int
open_dir(void)
{
	int fd = open(t_dir(), O_RDONLY | O_DIRECTORY);

	ck_assert_int_ne(fd, -1);
	return fd;
}

static inline int
file_in(int dir, const char *name, const char *text)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0644);

	ck_assert_int_ne(fd, -1);
	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

/* Write one byte there. */
static inline void
put_at(int fd, off_t offset)
{
	ck_assert_int_eq(pwrite(fd, "x", 1, offset), 1);
}

static inline void
want(int fd, unsigned int flags, unsigned int notes)
{
	t_change(fd, EVFILT_VNODE, EV_ADD | flags, notes, 0, NULL);
}

/* The next event has these notes, and no data. */
#define expect(fd, notes)                                                      \
	do {                                                                   \
		struct kevent got_;                                            \
		t_expect(&got_, fd, EVFILT_VNODE);                             \
		ck_assert_uint_eq(got_.fflags, notes);                         \
		ck_assert_int_eq(got_.data, 0);                                \
		ck_assert_int_eq(got_.flags &EV_EOF, 0);                       \
	} while (0)

#endif
