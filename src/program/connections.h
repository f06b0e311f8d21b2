/*
 * A list of connections, as a picture of one moment.
 */
#ifndef KQUAY_CONNECTIONS_H
#define KQUAY_CONNECTIONS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct connection {
	uint64_t id;
	const char *service, *peer;
	const char *to; /* NULL: nowhere else */
	int64_t age_ms, idle_ms;
	uint64_t in, out; /* bytes from the peer, and to it */
	char *strings;    /* what a list's own has them in */
};

/* Those with the smallest ids, and in their order once it is complete. */
struct connections {
	struct connection *list;
	size_t count, size;
	size_t limit;
	uint64_t bound;   /* larger ids have no place */
	uint64_t matched; /* all that there are, in the list or not */
	int failed;       /* memory has run out: it is not whole */
};

/* NULL: ENOMEM. */
struct connections *connections_new(size_t limit);
void connections_free(struct connections *c);

/* There is one with this id.  1 if it is to be added. */
int connections_wants(struct connections *c, uint64_t id);

/* Add one; its strings are copied. */
void connections_add(struct connections *c, const struct connection *new);

/* It is complete: put it in order, and drop what is over the limit. */
void connections_end(struct connections *c);

/* The id after which the list would go on; 0: it has all. */
uint64_t connections_next(const struct connections *c);

/* Each writes the list; 0, or -1 if memory has run out before. */
int connections_print_table(const struct connections *c, FILE *out);
int connections_print_json(const struct connections *c, FILE *out);

#endif
