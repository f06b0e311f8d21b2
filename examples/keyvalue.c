/*
 * keyvalue: a store of keys and values in memory, a line for each request.
 *
 *	keyvalue [port]
 *
 *	SET key value	OK, or FULL
 *	GET key		VALUE ..., or NONE
 *	DEL key		OK, or NONE
 *	COUNT		3
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include <kquay.h>

enum { BUCKETS = 1 << 16, MOST = 1000000 };

struct entry {
	struct entry *next;
	char *value; /* behind the key */
	char key[];
};

static struct entry *buckets[BUCKETS];
static unsigned count;

/* The link to the entry with this key, or to NULL. */
static struct entry **
find(const char *key)
{
	unsigned hash = 2166136261u;
	struct entry **link;
	const char *p;

	for (p = key; *p != '\0'; p++)
		hash = (hash ^ (unsigned char)*p) * 16777619;
	link = &buckets[hash % BUCKETS];
	while (*link != NULL && strcmp((*link)->key, key) != 0)
		link = &(*link)->next;
	return link;
}

static int
forget(const char *key)
{
	struct entry **link = find(key), *e = *link;

	if (e == NULL)
		return -1;
	*link = e->next;
	free(e);
	count--;
	return 0;
}

static int
set(const char *key, const char *value)
{
	size_t klen = strlen(key) + 1, vlen = strlen(value) + 1;
	struct entry *e, **link;

	if (count >= MOST && *find(key) == NULL)
		return -1;
	e = malloc(sizeof(*e) + klen + vlen);
	if (e == NULL)
		return -1;
	e->value = e->key + klen;
	memcpy(e->key, key, klen);
	memcpy(e->value, value, vlen);
	forget(key);
	link = find(key);
	e->next = *link;
	*link = e;
	count++;
	return 0;
}

static void
request(struct kquay_conn *c, char *text, size_t len)
{
	char *command = strsep(&text, " "), *key = strsep(&text, " ");
	struct entry *e;

	(void)len;
	if (strcmp(command, "COUNT") == 0 && key == NULL)
		kquay_printf(c, "%u\n", count);
	else if (key == NULL || *key == '\0')
		kquay_puts(c, "ERROR\n");
	else if (strcmp(command, "SET") == 0 && text != NULL)
		kquay_puts(c, set(key, text) == 0 ? "OK\n" : "FULL\n");
	else if (strcmp(command, "DEL") == 0 && text == NULL)
		kquay_puts(c, forget(key) == 0 ? "OK\n" : "NONE\n");
	else if (strcmp(command, "GET") == 0 && text == NULL) {
		e = *find(key);
		if (e != NULL)
			kquay_printf(c, "VALUE %s\n", e->value);
		else
			kquay_puts(c, "NONE\n");
	} else
		kquay_puts(c, "ERROR\n");
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .line = request };
	struct kquay_conf conf = { .inmax = 64 * 1024 };
	struct kquay *q = kquay_new(&ops, &conf);

	if (q == NULL)
		err(1, "kquay_new");
	if (kquay_listen(q, "localhost", argc > 1 ? argv[1] : "6379") == -1)
		errx(1, "%s", kquay_error(q));
	return kquay_run(q) == -1;
}
