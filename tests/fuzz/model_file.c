/*
 * Regular files and their directory: READ, WRITE and VNODE (R-READ-43 to 46,
 * R-WRITE-18, R-VNODE-01 to 08, 10 to 16, 18, 19, 21, 23, R-PEND-02).
 *
 * A note must come if what happened since the library last looked can only be
 * told as that note; if it can, it may come.  So a file that grew and shrank by
 * as much in between has no EXTEND that must come.  When it looked is known
 * only as long as there was no collection since the first of the notes: after
 * one the event may come from the FIFO, with the notes of then, or with more.
 */
#include <sys/stat.h>

#include <err.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "model.h"

#define FILES 2
#define NOTES                                                                  \
	(NOTE_DELETE | NOTE_WRITE | NOTE_EXTEND | NOTE_ATTRIB | NOTE_LINK |    \
	    NOTE_RENAME | NOTE_OPEN | NOTE_CLOSE | NOTE_CLOSE_WRITE |          \
	    NOTE_READ)

/* What a VNODE knote has to tell. */
struct watched {
	unsigned int wanted;
	unsigned int must, may; /* notes recorded */
	unsigned int since;     /* D_*, that happened since the last look */
	bool unsure;            /* it may have looked in between */
	bool deaf;              /* Linux has ended the watch: see unnamed() */
	bool came;
	struct knote knote;
};

#define D_GREW 0x01
#define D_SHRANK 0x02
#define D_LINKED 0x04
#define D_UNLINKED 0x08
#define D_CHANGED 0x10 /* its mode */

struct file {
	int fd; /* -1: not open */
	bool named, linked, moved;
	int links;
	int64_t size, offset;
	bool always, at_end; /* NOTE_FILE_POLL, NOTE_EOF */
	struct knote read, write;
	struct watched vnode;
};

static struct file files[FILES];
static struct watched directory;
static char path[64];
static int dirfd_ = -1;

static const char *const names[FILES][3] = { { "first", "first.moved",
						 "first.link" },
	{ "second", "second.moved", "second.link" } };

static const char *
name_of(const struct file *f)
{
	return names[f - files][f->moved];
}

/* -- what has to come ------------------------------------------------------ */

/* The library looks: what is made of the changes since it did before. */
static void
look(struct watched *w)
{
	unsigned int since = w->since, must = 0, may = 0;

	if (since & (D_GREW | D_SHRANK))
		may |= NOTE_EXTEND | NOTE_ATTRIB;
	if ((since & (D_GREW | D_SHRANK)) == D_GREW)
		must |= NOTE_EXTEND;
	if ((since & (D_GREW | D_SHRANK)) == D_SHRANK)
		must |= NOTE_ATTRIB;
	if (since & (D_LINKED | D_UNLINKED))
		may |= NOTE_LINK | NOTE_DELETE | NOTE_ATTRIB;
	if ((since & (D_LINKED | D_UNLINKED)) == D_LINKED)
		must |= NOTE_LINK;
	if ((since & (D_LINKED | D_UNLINKED)) == D_UNLINKED)
		must |= NOTE_DELETE;
	if (since & D_CHANGED)
		may |= NOTE_ATTRIB;
	if ((since & (D_CHANGED | D_LINKED | D_UNLINKED)) == D_CHANGED &&
	    !w->deaf)
		must |= NOTE_ATTRIB;
	if (!w->unsure)
		w->must |= must & w->wanted;
	w->may |= may & w->wanted;
	w->since = 0;
}

static void
happened(struct watched *w, unsigned int notes, unsigned int since)
{
	if (!w->knote.k_exists)
		return;
	if (!w->unsure && !w->deaf)
		w->must |= notes & w->wanted;
	w->may |= notes & w->wanted;
	w->since |= since;
}

/*
 * With a file's last name its watch may end, though it is open.  Until the
 * library looks again, only what fstat() tells is sure to be told.
 */
static void
unnamed(struct file *f)
{
	happened(&f->vnode, 0, D_UNLINKED);
	f->vnode.deaf = !f->named && !f->linked;
}

static enum truth
vnode_truth(const struct knote *k)
{
	struct watched w = *(const struct watched *)k->k_of;

	look(&w);
	if (w.must != 0)
		return YES;
	return w.may != 0 ? MAYBE : NO;
}

static void
vnode_check(struct knote *k, const struct kevent *ev)
{
	struct watched *w = k->k_of;

	look(w);
	if (k->k_forced)
		w->must = 0;
	if ((w->must & ~ev->fflags) != 0 || (ev->fflags & ~w->may) != 0 ||
	    ev->data != 0)
		fail("VNODE: fflags %#x, expected %#x to %#x", ev->fflags,
		    w->must, w->may);
	w->came = true;
	w->must = 0;
	if (!w->unsure)
		w->may = 0;
	if ((k->k_flags & EV_CLEAR) == 0) {
		w->must = ev->fflags;
		w->may |= ev->fflags;
	}
}

/* It has looked if there was room left. */
static void
vnode_gathered(struct watched *w, bool room)
{
	const struct knote *k = &w->knote;
	bool came = w->came;

	if (!room && w->since != 0)
		w->unsure = true;
	look(w);
	if (k->k_exists)
		say("notes of %ju: %#x to %#x", (uintmax_t)k->k_ident, w->must,
		    w->may);
	w->came = false;
	w->deaf &= !room;
	if (room && k->k_enabled && !came)
		w->may = w->must;
	w->unsure = w->may != 0;
}

static enum truth
read_truth(const struct knote *k)
{
	const struct file *f = k->k_of;

	return f->always || f->at_end || f->size != f->offset ? YES : NO;
}

static void
read_check(struct knote *k, const struct kevent *ev)
{
	const struct file *f = k->k_of;
	unsigned int fflags = f->size == f->offset && f->at_end ? NOTE_EOF : 0;

	if (ev->data != f->size - f->offset || ev->fflags != fflags)
		fail("file: data %jd, expected %jd; fflags %#x",
		    (intmax_t)ev->data, (intmax_t)(f->size - f->offset),
		    ev->fflags);
}

static enum truth
write_truth(const struct knote *k)
{
	return YES;
}

static void
write_check(struct knote *k, const struct kevent *ev)
{
	if (ev->data != 0)
		fail("file: WRITE with data %jd", (intmax_t)ev->data);
}

static const struct kind kind_vnode = { EVFILT_VNODE, 0, 0, STATE, false,
	vnode_truth, vnode_check };
static const struct kind kind_read = { EVFILT_READ, 0, 0, EDGES_OFTEN, false,
	read_truth, read_check };
static const struct kind kind_write = { EVFILT_WRITE, 0, 0, EDGES_OFTEN, false,
	write_truth, write_check };

/* -- opening and closing --------------------------------------------------- */

static void
check(const char *what, long result)
{
	if (result == -1)
		err(1, "%s", what);
}

static void
open_file(struct file *f)
{
	f->moved = f->linked = false;
	f->fd = openat(dirfd_, name_of(f),
	    O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	check("open", f->fd);
	f->named = true;
	f->links = 1;
	f->size = f->offset = 0;
	f->always = f->at_end = false;
	f->read.k_ident = f->write.k_ident = f->vnode.knote.k_ident =
	    (uintptr_t)f->fd;
	happened(&directory, NOTE_WRITE, 0);
}

static void
remove_names(struct file *f)
{
	if (f->named) {
		check("unlink", unlinkat(dirfd_, name_of(f), 0));
		happened(&directory, NOTE_WRITE, 0);
	}
	if (f->linked) {
		check("unlink", unlinkat(dirfd_, names[f - files][2], 0));
		happened(&directory, NOTE_WRITE, 0);
	}
	f->named = f->linked = false;
}

static void
close_file(struct file *f)
{
	if (f->fd == -1)
		return;
	if (choose(2) == 0)
		close(f->fd);
	else
		dup2(dirfd_, f->fd), close(f->fd);
	f->fd = -1;
	forget(&f->read);
	forget(&f->write);
	forget(&f->vnode.knote);
	remove_names(f);
}

/* -- what happens to a file ------------------------------------------------ */

static void
grow(struct file *f)
{
	static const char text[32];
	unsigned int n = 1 + choose(20);

	if (pwrite(f->fd, text, n, f->size) != (ssize_t)n)
		err(1, "pwrite");
	f->size += n;
	happened(&f->vnode, NOTE_WRITE, D_GREW);
	edge(&f->read);
}

static void
overwrite(struct file *f)
{
	if (f->size == 0)
		return;
	if (pwrite(f->fd, "x", 1, 0) != 1)
		err(1, "pwrite");
	happened(&f->vnode, NOTE_WRITE, 0);
	edge(&f->read);
}

static void
cut(struct file *f)
{
	int64_t size = choose(30);

	if (size >= f->size)
		return;
	check("ftruncate", ftruncate(f->fd, size));
	f->size = size;
	happened(&f->vnode, 0, D_SHRANK);
	if (f->vnode.knote.k_exists)
		f->vnode.may |= NOTE_WRITE & f->vnode.wanted;
	edge(&f->read);
}

static void
take(struct file *f)
{
	char text[32];
	ssize_t n = read(f->fd, text, 1 + choose(20));

	check("read", n);
	f->offset += n;
	if (n > 0)
		happened(&f->vnode, NOTE_READ, 0);
	else if (f->vnode.knote.k_exists)
		f->vnode.may |= NOTE_READ & f->vnode.wanted;
}

static void
seek(struct file *f)
{
	f->offset = choose(40);
	check("lseek", lseek(f->fd, f->offset, SEEK_SET));
	edge(&f->read);
}

static void
change_mode(struct file *f)
{
	check("fchmod", fchmod(f->fd, choose(2) == 0 ? 0600 : 0640));
	happened(&f->vnode, 0, D_CHANGED);
}

static void
relink(struct file *f)
{
	const char *link = names[f - files][2];

	if (f->linked) {
		check("unlink", unlinkat(dirfd_, link, 0));
		f->linked = false;
		unnamed(f);
	} else if (f->named) {
		check("link", linkat(dirfd_, name_of(f), dirfd_, link, 0));
		f->linked = true;
		happened(&f->vnode, 0, D_LINKED);
	} else {
		return;
	}
	happened(&directory, NOTE_WRITE, 0);
}

static void
unname(struct file *f)
{
	if (!f->named)
		return;
	check("unlink", unlinkat(dirfd_, name_of(f), 0));
	f->named = false;
	unnamed(f);
	happened(&directory, NOTE_WRITE, 0);
}

/* To its other name, or over that of the other file. */
static void
move(struct file *f)
{
	struct file *other = &files[f == &files[0]];
	const char *from = name_of(f);

	if (!f->named)
		return;
	if (choose(3) == 0 && other->fd != -1 && other->named) {
		check("rename", renameat(dirfd_, from, dirfd_, name_of(other)));
		other->named = false;
		f->named = false;
		unnamed(other);
		happened(&f->vnode, NOTE_RENAME, 0);
		/* The name is the other's, which may want it again. */
		check("unlink", unlinkat(dirfd_, name_of(other), 0));
		unnamed(f);
	} else {
		f->moved = !f->moved;
		check("rename", renameat(dirfd_, from, dirfd_, name_of(f)));
		happened(&f->vnode, NOTE_RENAME, 0);
	}
	happened(&directory, NOTE_WRITE, 0);
}

static void
visit(struct file *f)
{
	bool write = choose(2) == 0;
	int fd;

	if (!f->named)
		return;
	fd = openat(dirfd_, name_of(f),
	    (write ? O_WRONLY : O_RDONLY) | O_CLOEXEC);
	check("open", fd);
	close(fd);
	happened(&f->vnode, NOTE_OPEN | (write ? NOTE_CLOSE_WRITE : NOTE_CLOSE),
	    0);
}

static void
make_directory(void)
{
	check("mkdir", mkdirat(dirfd_, "sub", 0700));
	check("rmdir", unlinkat(dirfd_, "sub", AT_REMOVEDIR));
	happened(&directory, NOTE_WRITE | NOTE_LINK, 0);
}

/* -- changes --------------------------------------------------------------- */

static void
unsure(struct watched *w)
{
	w->unsure |= w->may != 0 || w->since != 0;
}

/* With a change of one knote the library looks at what happened to all. */
static void
all_unsure(void)
{
	unsure(&files[0].vnode);
	unsure(&files[1].vnode);
	unsure(&directory);
}

static void
change_vnode(struct watched *w)
{
	unsigned int flags = choose_flags(), fflags;

	fflags =
	    choose(4) == 0 ? NOTES : (choose(256) | choose(8) << 8) & NOTES;
	switch (change(&w->knote, flags, fflags, 0, 0)) {
	case ADDED:
		w->must = w->may = w->since = 0;
		w->unsure = w->came = w->deaf = false;
		w->wanted = fflags;
		break;
	case TOUCHED:
		if (fflags != w->wanted)
			look(w);
		w->wanted = fflags;
		break;
	case REFUSED:
	case DELETED:
		break;
	}
	all_unsure();
	say("notes %#x to %#x, wanted %#x", w->must, w->may, w->wanted);
}

static void
change_read(struct file *f)
{
	static const unsigned int all[] = { 0, 0, 0, NOTE_FILE_POLL, NOTE_EOF };
	unsigned int flags = choose_flags(), fflags = all[choose(COUNT(all))];
	enum outcome outcome;

	outcome = change(&f->read, flags, fflags, 0, 0);
	if (strict) /* it asks if the number names the file still */
		all_unsure();
	if (outcome != ADDED && outcome != TOUCHED)
		return;
	f->always = (fflags & NOTE_FILE_POLL) != 0;
	f->at_end = (fflags & NOTE_EOF) != 0;
	if (f->read.k_enabled && read_truth(&f->read) == YES)
		edge(&f->read);
}

static void
change_write(struct file *f)
{
	enum outcome outcome = change(&f->write, choose_flags(), 0, 0, 0);

	if (strict)
		all_unsure();
	if ((outcome == ADDED || outcome == TOUCHED) && f->write.k_enabled)
		edge(&f->write);
}

static void
file_start(void)
{
	const char *folder = getenv("TMPDIR");

	snprintf(path, sizeof(path), "%s/kevent_model.XXXXXX",
	    folder != NULL ? folder : "/tmp");
	if (mkdtemp(path) == NULL)
		err(1, "%s", path);
	dirfd_ = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	check(path, dirfd_);
	directory.knote.k_ident = (uintptr_t)dirfd_;
}

static void
file_operate(void)
{
	static void (*const happen[])(struct file *) = { grow, grow, overwrite,
		cut, take, take, seek, change_mode, relink, unname, move,
		visit };
	struct file *f = &files[choose(FILES)];
	unsigned int what = choose(32);

	if (dirfd_ == -1)
		file_start();
	if (f->fd == -1)
		open_file(f);
	say("file: %u of %d", what, f->fd);
	if (what < COUNT(happen))
		happen[what](f);
	else if (what < 19)
		change_vnode(&f->vnode);
	else if (what < 24)
		change_read(f);
	else if (what < 26)
		change_write(f);
	else if (what < 28)
		change_vnode(&directory);
	else if (what < 29)
		make_directory();
	else
		close_file(f);
}

static void
file_open(void)
{
	struct file *f;

	for (f = files; f < files + FILES; f++) {
		*f = (struct file){ .fd = -1 };
		know(&f->read, &kind_read, kq, 1 << 20, f);
		know(&f->write, &kind_write, kq, 1 << 20, f);
		know(&f->vnode.knote, &kind_vnode, kq, 1 << 20, &f->vnode);
	}
	directory = (struct watched){ .wanted = 0 };
	know(&directory.knote, &kind_vnode, kq, 1 << 20, &directory);
}

static void
file_close(void)
{
	struct file *f;

	if (dirfd_ == -1)
		return;
	for (f = files; f < files + FILES; f++)
		close_file(f);
	close(dirfd_);
	dirfd_ = -1;
	if (rmdir(path) == -1)
		err(1, "%s", path);
}

static void
file_gathered(bool room)
{
	struct file *f;

	for (f = files; f < files + FILES; f++)
		vnode_gathered(&f->vnode, room);
	vnode_gathered(&directory, room);
}

const struct part part_file = { file_open, file_operate, file_close,
	file_gathered };
