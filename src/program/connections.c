/*
 * A list of connections, gathered and printed.
 *
 * At most twice the limit is kept: when there is no more room the half with
 * the larger ids goes.  So a page of a hundred thousand takes no memory for
 * the others.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "connections.h"
#include "human.h"
#include "json.h"
#include "table.h"

static int grow(struct connections *);
static void trim(struct connections *);
static int compare(const void *, const void *);
static void print_row(struct table *, const struct connection *);

struct connections *
connections_new(size_t limit)
{
	struct connections *c;

	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return NULL;
	c->limit = limit;
	c->bound = UINT64_MAX;
	return c;
}

void
connections_free(struct connections *c)
{
	size_t i;

	if (c == NULL)
		return;
	for (i = 0; i < c->count; i++)
		free(c->list[i].strings);
	free(c->list);
	free(c);
}

int
connections_wants(struct connections *c, uint64_t id)
{
	c->matched++;
	return id <= c->bound && !c->failed;
}

void
connections_add(struct connections *c, const struct connection *new)
{
	struct connection *one;
	char *p;

	if (c->count == c->size && grow(c) == -1)
		goto fail;
	one = &c->list[c->count];
	*one = *new;
	/* One after the other, each with its NUL. */
	one->strings = malloc(strlen(new->service) + strlen(new->peer) +
	    (new->to == NULL ? 0 : strlen(new->to) + 1) + 2);
	if (one->strings == NULL)
		goto fail;
	p = one->strings;
	one->service = strcpy(p, new->service);
	p += strlen(p) + 1;
	one->peer = strcpy(p, new->peer);
	p += strlen(p) + 1;
	if (new->to != NULL)
		one->to = strcpy(p, new->to);
	c->count++;
	return;

fail:
	c->failed = 1;
}

/* To twice the limit at most: then half of them have no place in it. */
static int
grow(struct connections *c)
{
	struct connection *grown;
	size_t size;

	if (c->size >= 2 * c->limit) {
		trim(c);
		return 0;
	}
	size = c->size == 0 ? 64 : 2 * c->size;
	if (size > 2 * c->limit)
		size = 2 * c->limit;
	grown = reallocarray(c->list, size, sizeof(*grown));
	if (grown == NULL)
		return -1;
	c->list = grown;
	c->size = size;
	return 0;
}

static void
trim(struct connections *c)
{
	qsort(c->list, c->count, sizeof(*c->list), compare);
	while (c->count > c->limit)
		free(c->list[--c->count].strings);
	if (c->count == c->limit)
		c->bound = c->list[c->count - 1].id;
}

static int
compare(const void *a, const void *b)
{
	const struct connection *one = a, *other = b;

	return (one->id > other->id) - (one->id < other->id);
}

void
connections_end(struct connections *c)
{
	if (c->count > 0)
		trim(c);
}

uint64_t
connections_next(const struct connections *c)
{
	if (c->count == 0 || c->matched <= c->count)
		return 0;
	return c->list[c->count - 1].id;
}

int
connections_print_table(const struct connections *c, FILE *out)
{
	static const char *const headings[] = { ">ID", "SERVICE", "PEER", "TO",
		">AGE", ">IDLE", ">IN", ">OUT", NULL };
	struct table *t;
	size_t i;
	int rc;

	t = table_new(headings);
	if (t == NULL)
		return -1;
	for (i = 0; i < c->count; i++)
		print_row(t, &c->list[i]);
	rc = table_print(t, out);
	table_free(t);
	if (connections_next(c) != 0)
		fprintf(out,
		    "%" PRIu64 " more: --after %" PRIu64 ", or --limit N\n",
		    c->matched - c->count, connections_next(c));
	return rc;
}

static void
print_row(struct table *t, const struct connection *one)
{
	char text[HUMAN_MAX];

	table_cell(t, "%" PRIu64, one->id);
	table_cell(t, "%s", one->service);
	table_cell(t, "%s", one->peer);
	table_cell(t, "%s", one->to == NULL ? "-" : one->to);
	table_cell(t, "%s", human_time(text, one->age_ms));
	table_cell(t, "%s", human_time(text, one->idle_ms));
	table_cell(t, "%s", human_size(text, one->in));
	table_cell(t, "%s", human_size(text, one->out));
}

int
connections_print_json(const struct connections *c, FILE *out)
{
	struct json j = { .out = out };
	size_t i;

	json_object(&j, NULL);
	json_array(&j, "connections");
	for (i = 0; i < c->count; i++) {
		json_object(&j, NULL);
		json_number(&j, "id", c->list[i].id);
		json_text(&j, "service", c->list[i].service);
		json_text(&j, "peer", c->list[i].peer);
		if (c->list[i].to == NULL)
			json_null(&j, "to");
		else
			json_text(&j, "to", c->list[i].to);
		json_seconds(&j, "age", c->list[i].age_ms);
		json_seconds(&j, "idle", c->list[i].idle_ms);
		json_number(&j, "in", c->list[i].in);
		json_number(&j, "out", c->list[i].out);
		json_end(&j);
	}
	json_end(&j);
	json_number(&j, "matched", c->matched);
	if (connections_next(c) == 0)
		json_null(&j, "next");
	else
		json_number(&j, "next", connections_next(c));
	json_end(&j);
	fputc('\n', out);
	return 0;
}
