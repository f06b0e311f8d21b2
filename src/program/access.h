/*
 * Who may call: the settings allow and deny, lists of
 *
 *	all			everybody
 *	unix			who calls over a UNIX socket
 *	10.0.0.0/8 ::1		an address, or a network of them
 *	uid:1000 uid:www	a user, by number or name, over a UNIX socket
 *	gid:100 gid:staff	the group that the user works as there
 *
 * What deny names is turned away; with an allow list so is everybody whom it
 * does not name.  An IPv4 address that is written as an IPv6 one
 * (::ffff:192.0.2.1) counts as IPv4, in a list as well as of a caller.
 *
 * A user's other groups are not looked at: only the one that the process ran
 * as when it connected is known.  Names are looked up when the list is read.
 *
 * A list is kept as ranges, sorted and merged, so a caller costs a binary
 * search, however many networks there are.
 */
#ifndef KQUAY_ACCESS_H
#define KQUAY_ACCESS_H

#include <sys/types.h>
#include <sys/socket.h>

#include <stddef.h>

#include "setting.h"
#include "words.h"

/* An address or a number, the highest byte first, after what it is. */
#define ACCESS_KEY 17

struct access_range {
	unsigned char first[ACCESS_KEY], last[ACCESS_KEY];
};

/* One of the two lists; all zeros: empty. */
struct access_list {
	struct words words;              /* as they were written */
	int all, unix_peers, uids, gids; /* there is a word of that form */
	struct access_range *range;
	size_t count;
};

struct access {
	struct access_list allow, deny;
};

/* Of a struct access_list. */
extern const struct setting_kind access_kind;

/* To be called when both lists are complete, before they are asked. */
void access_prepare(struct access *access);

/* Are both lists empty, so that everybody may call? */
int access_is_open(const struct access *access);

/*
 * May this one call?  uid and gid are those of a UNIX peer, each -1 if it is
 * not known; then, and only then, a list of deny with any uid: or gid: names
 * the peer, as it might.
 */
int access_allows(const struct access *access, const struct sockaddr *sa,
    uid_t uid, gid_t gid);

#endif
