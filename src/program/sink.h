/*
 * Where the log goes: a stream of lines, or a socket that takes a datagram a
 * record.  Nothing here waits.
 */
#ifndef KQUAY_SINK_H
#define KQUAY_SINK_H

#include <sys/types.h>

#include <stddef.h>

enum sink_kind { SINK_STREAM, SINK_SYSLOG, SINK_JOURNAL };

struct sink;

/*
 * A target of the setting log, other than none.  NULL with the reason in why.
 */
struct sink *sink_open(const char *target, char *why, size_t whysz);
void sink_free(struct sink *sink);

enum sink_kind sink_kind(const struct sink *sink);

/*
 * If opening it has made its file, let that be theirs, so that they may open it
 * again; no other, since who may write to the folder chooses what that is.  0,
 * or -1 with errno.
 */
int sink_give(const struct sink *sink, uid_t uid, gid_t gid);

/* Is this a target?  0, or -1 with the reason in why. */
int sink_valid(const char *target, char *why, size_t whysz);

/*
 * Write what can be written of len bytes of records, each ended by '\n' in a
 * stream, by NUL otherwise.  Returns how many of the bytes are done with,
 * which are whole records; *lost grows by those of them that are lost.  Any
 * thread may call this.
 */
size_t sink_write(struct sink *sink, const char *buf, size_t len,
    unsigned *lost);

/* Has it the end of a record yet to write?  Then sink_write() is to be called
 * again, with no bytes if there are none. */
int sink_pending(struct sink *sink);

#endif
