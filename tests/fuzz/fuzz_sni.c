/*
 * The reader of ClientHellos.  Of whatever bytes: nothing outside of them is
 * read, a name is one, more is needed of each part of a hello and nothing
 * after it, and its message says the same in records of any other lengths.
 */
#include "driver.h"
#include "sni.h"

#include <string.h>

enum { RECORD_HEAD = 5, MESSAGE_HEAD = 4 };

/* Of a copy that ends where the data does, for a sanitizer to watch. */
static enum sni_found
read_copy(const uint8_t *data, size_t len, char *name)
{
	uint8_t *copy = calloc(1, len == 0 ? 1 : len);
	enum sni_found found;

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	memset(name, 'x', SNI_NAME_MAX + 1);
	found = sni_read(copy, len, name);
	free(copy);
	if (memchr(name, '\0', SNI_NAME_MAX + 1) == NULL)
		fail("a name without an end");
	if ((found == SNI_NAME) != (name[0] != '\0'))
		fail("%d, and the name is \"%s\"", (int)found, name);
	return found;
}

static void
check_name(const char *name)
{
	const char *p;

	for (p = name; *p != '\0'; p++) {
		if (strchr("abcdefghijklmnopqrstuvwxyz0123456789-_.", *p) ==
		    NULL)
			fail("%#x in a name", (unsigned char)*p);
		if (*p == '.' && (p == name || p[1] == '.' || p[1] == '\0'))
			fail("an empty label: %s", name);
	}
}

/* The message of a whole hello, cut out of its records; its length. */
static size_t
message(const uint8_t *data, uint8_t *to)
{
	size_t have = 0, want = MESSAGE_HEAD, n;

	while (have < want) {
		n = (size_t)data[3] << 8 | data[4];
		data += RECORD_HEAD;
		for (; n > 0 && have < want; n--) {
			to[have++] = *data++;
			if (have == MESSAGE_HEAD)
				want += (size_t)to[1] << 16 |
				    (size_t)to[2] << 8 | to[3];
		}
	}
	return have;
}

/* In records of step bytes, unless that would be too long. */
static void
check_split(const uint8_t *data, size_t step, enum sni_found found,
    const char *name)
{
	static uint8_t whole[SNI_MAX], records[SNI_MAX];
	char again[SNI_NAME_MAX + 1];
	size_t len = message(data, whole), at, n, used = 0;

	for (at = 0; at < len; at += n) {
		n = len - at < step ? len - at : step;
		if (used + RECORD_HEAD + n > SNI_MAX)
			return;
		memcpy(records + used, "\26\3\3", 3);
		records[used + 3] = (uint8_t)(n >> 8);
		records[used + 4] = (uint8_t)n;
		memcpy(records + used + RECORD_HEAD, whole + at, n);
		used += RECORD_HEAD + n;
	}
	if (sni_read(records, used, again) != found || strcmp(name, again) != 0)
		fail("another answer in records of %zu bytes", step);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[SNI_NAME_MAX + 1], again[SNI_NAME_MAX + 1];
	enum sni_found found, part;
	size_t len, step;

	found = read_copy(data, size, name);
	check_name(name);
	for (len = size; len > 0; len--) { /* the shortest that says so */
		part = read_copy(data, len - 1, again);
		if (part == SNI_MORE)
			break;
		if (part != found || strcmp(name, again) != 0)
			fail("%d of %zu bytes, %d of one more", (int)part,
			    len - 1, (int)found);
	}
	while (len-- > 0)
		if (read_copy(data, len, again) != SNI_MORE)
			fail("not more, of %zu bytes", len);
	if (found == SNI_NAME || found == SNI_NONE)
		for (step = 1; step < 64; step++)
			check_split(data, step, found, name);
	return 0;
}
