/*
 * wire.h: what the kernel writes for us to read.  See wire.c.
 */
#ifndef KQ_WIRE_H
#define KQ_WIRE_H

#include <sys/inotify.h>

#include <linux/cn_proc.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What getdents64(2) stores, one entry after the other.  For the folders of
 * /proc: opendir() takes memory, and closedir() is the program's to call.
 */
struct entry {
	uint64_t d_ino;
	int64_t d_off;
	uint16_t d_reclen; /* from this entry to the next */
	uint8_t d_type;
	char d_name[];
};

/*
 * The record at *at, which becomes the place of the next; NULL: there is no
 * whole one.  The bytes are aligned for their records.
 */
const struct inotify_event *wire_inotify(const char *bytes, size_t n,
    size_t *at);
const struct entry *wire_entry(const char *bytes, size_t n, size_t *at);

/*
 * A message of netlink(7): an event of the proc connector, and its cn_msg.ack.
 */
bool wire_process(const void *bytes, size_t n, struct proc_event *,
    uint32_t *ack);
/* ... or what sock_diag(7) says of a UNIX socket: an attribute of that size. */
bool wire_attribute(const void *bytes, size_t n, int type, void *value,
    size_t size);

/* The text of a file of /proc, or a line of it.  False: it does not say. */
bool wire_pid(const char *fdinfo, int *pid); /* of a pidfd; -1: reaped */
bool wire_status(const char *stat, int *status);
bool wire_blocked(const char *status, uint64_t *set);
bool wire_counter(const char *fdinfo, uint64_t *n); /* of an eventfd */
bool wire_registration(const char *line, int *fd, uint32_t *events,
    uint64_t *data); /* in an epoll's fdinfo */

#endif
