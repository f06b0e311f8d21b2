/*
 * What the control socket is asked: one line of words.
 *
 *	status [json]
 *	connections [json] [SELECTION] [after ID] [limit N]
 *	close SELECTION
 *	drain NAME|all
 *	reload | upgrade | help
 *
 * SELECTION is one or more of `id ID', `service NAME' and `peer WHO', which
 * all must hold; WHO is as in the settings allow and deny.  A word with blanks
 * stands in quotes, "small chat", in which \ stands before " and \.
 */
#ifndef KQUAY_REQUEST_H
#define KQUAY_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define REQUEST_LINE_MAX 4096
#define REQUEST_LIMIT 1000 /* connections, unless the request says */
#define REQUEST_LIMIT_MAX 10000

enum request_verb {
	REQUEST_STATUS,
	REQUEST_CONNECTIONS,
	REQUEST_CLOSE,
	REQUEST_DRAIN,
	REQUEST_RELOAD,
	REQUEST_UPGRADE,
	REQUEST_HELP
};

struct request {
	enum request_verb verb;
	int json;
	uint64_t id;         /* 0: any */
	const char *service; /* NULL: any */
	const char *peer;    /* NULL: any */
	uint64_t after;      /* ids that are larger */
	uint32_t limit;
	const char *name; /* to drain */
};

/*
 * Parse line, which is changed, and into which *r points then.  0; or -1 with
 * the reason in why.
 */
int request_parse(struct request *r, char *line, char *why, size_t whysz);

/* A number from 1 to max.  0; or -1 with the reason, which names what it is. */
int request_number(const char *what, const char *text, uint64_t max,
    uint64_t *number, char *why, size_t whysz);

/* Write it as a line that parses the same, with its newline. */
void request_print(const struct request *r, FILE *out);

/* What there is to ask, for `help': a few lines. */
extern const char request_help[];

#endif
