/*
 * A record of the log: members with names, written in the form that a sink
 * wants.  What a member's text holds cannot get out of it.
 */
#ifndef KQUAY_RECORD_H
#define KQUAY_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define RECORD_MAX 4096  /* no record is longer, its end included */
#define RECORD_TEXT 2048 /* of an event's text no more gets into one */
#define RECORD_VALUE 256 /* and of another member's */

enum record_form {
	RECORD_LOGFMT,  /* time=... level=info service=chat\n */
	RECORD_JSON,    /* {"time":"...","level":"info","service":"chat"}\n */
	RECORD_SYSLOG,  /* <30>Nov 22 23:12:03 kquay[1]: service=chat\0 */
	RECORD_JSONLOG, /* the same with JSON */
	RECORD_JOURNAL  /* MESSAGE=service=chat\n...KQUAY_SERVICE=chat\n\0 */
};

enum member_kind { MEMBER_TEXT, MEMBER_NUMBER, MEMBER_SECONDS };

struct member {
	const char *name;
	enum member_kind kind;
	const char *text; /* TEXT; NULL: leave the member out */
	uint64_t number;  /* NUMBER; milliseconds of SECONDS */
};

/*
 * Write a record into buf, which has room for RECORD_MAX bytes, and return
 * its length.  level is an enum log_level (log.h).  If the last member is
 * called "msg", the record is an event, which syslog and journald get as
 * plain text.
 */
size_t record_write(char *buf, enum record_form form, int level,
    const struct member *members, size_t count);

/* Its last byte, which no record of this form has anywhere else. */
char record_end(enum record_form form);

#endif
