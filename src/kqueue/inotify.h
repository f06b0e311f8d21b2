/*
 * inotify.h: what happens to inodes, and who is told.
 */
#ifndef KQ_INOTIFY_H
#define KQ_INOTIFY_H

#include <stdbool.h>
#include <stdint.h>

struct kqueue;

/* Who is told of an inode.  It lives in the knote that it is of. */
struct observer {
	struct observer *ob_next;
	struct inode *ob_inode; /* NULL: observes nothing */
	uint32_t ob_mask;       /* IN_* */
	int ob_fd;              /* by which the inode is found */
	uint32_t ob_object;     /* VNODE */
	uint8_t ob_kind;        /* enum observer_kind */
};

enum observer_kind {
	OBSERVER_FILE,  /* a READ knote, of ob_fd */
	OBSERVER_VNODE, /* a VNODE knote */
	OBSERVER_PARENT /* a VNODE knote, of the directory above */
};

/*
 * Observe the inode of ob_fd, or the directory above it, instead of what was
 * observed before.  On failure that is left as it was: EBADF, EACCES (it may
 * not be read), ENOMEM (the user has no more watches), EMFILE (no more
 * instances), ENOTSUP (there is no /proc).
 */
int inotify_observe(struct kqueue *, struct observer *, uint32_t mask);
void inotify_forget(struct kqueue *, struct observer *);
/* Does the number still name the inode that is observed? */
bool inotify_same(struct kqueue *, const struct observer *);
/* Tell all observers of what has happened until now. */
void inotify_collect(struct kqueue *);
/* The queue closes.  All observers have to be forgotten. */
void inotify_close(struct kqueue *);

#endif
