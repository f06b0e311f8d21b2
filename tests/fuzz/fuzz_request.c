/*
 * The reader of what the control socket is asked.  Of whatever line: nothing
 * outside of it is read, what is wrong is said, and what is right, written
 * again, is read as the same.
 */
#include "driver.h"
#include "request.h"

#include <string.h>

enum { WHY_MAX = 256 };

static int
same(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

/* It points into the line. */
static void
check_text(const char *text, const char *line, size_t len)
{
	if (text != NULL && (text < line || text > line + len))
		fail("a word outside of the line");
}

static void
check_again(const struct request *r)
{
	struct request again;
	char *line, why[WHY_MAX];
	size_t len;
	FILE *out;

	out = open_memstream(&line, &len);
	if (out == NULL)
		abort();
	request_print(r, out);
	if (fclose(out) == EOF || len == 0 || line[len - 1] != '\n' ||
	    strchr(line, '\n') != line + len - 1)
		fail("what was written is no line");
	line[len - 1] = '\0';
	if (request_parse(&again, line, why, sizeof(why)) == -1)
		fail("what was read and written is not read: %s", why);
	if (again.verb != r->verb || again.json != r->json ||
	    again.id != r->id || again.after != r->after ||
	    again.limit != r->limit || !same(again.service, r->service) ||
	    !same(again.peer, r->peer) || !same(again.name, r->name))
		fail("what was written is another request");
	free(line);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct request r;
	char *line, why[WHY_MAX] = "";

	/* A copy that ends where the line does, for a sanitizer to watch. */
	line = malloc(size + 1);
	if (line == NULL)
		abort();
	if (size > 0)
		memcpy(line, data, size);
	line[size] = '\0';
	if (request_parse(&r, line, why, sizeof(why)) == 0) {
		check_text(r.service, line, size);
		check_text(r.peer, line, size);
		check_text(r.name, line, size);
		if (r.limit < 1 || r.limit > REQUEST_LIMIT_MAX)
			fail("a limit of %u", (unsigned)r.limit);
		check_again(&r);
	} else if (*why == '\0')
		fail("no reason");
	free(line);
	return 0;
}
