/*
 * The readers of what the kernel writes.  The first byte says which, the others
 * are what it reads, in a copy that ends where they do.  Of whatever bytes:
 * records lie one after the other within them, and what is whole in a part is
 * so in all; what a message says stands in it; what a text says, written as
 * the kernel does, is read as the same.
 */
#include "driver.h"
#include "wire.h"

#include <errno.h>
#include <string.h>

/* A copy, with a 0 behind it if it is a text. */
static char *
copy_of(const uint8_t *data, size_t n, size_t end)
{
	char *copy = malloc(n + end == 0 ? 1 : n + end);

	if (copy == NULL)
		abort();
	if (n > 0)
		memcpy(copy, data, n);
	if (end > 0)
		copy[n] = '\0';
	return copy;
}

/* -- records --------------------------------------------------------------- */

struct record {
	size_t at, size;
};

typedef bool next_fn(const char *bytes, size_t n, size_t *at, struct record *);

static bool
next_inotify(const char *bytes, size_t n, size_t *at, struct record *r)
{
	const struct inotify_event *e = wire_inotify(bytes, n, at);

	if (e == NULL)
		return false;
	r->at = (size_t)((const char *)e - bytes);
	r->size = sizeof(*e) + e->len;
	return true;
}

static bool
next_entry(const char *bytes, size_t n, size_t *at, struct record *r)
{
	const struct entry *e = wire_entry(bytes, n, at);

	if (e == NULL)
		return false;
	r->at = (size_t)((const char *)e - bytes);
	r->size = e->d_reclen;
	if (strlen(e->d_name) >= r->size - offsetof(struct entry, d_name))
		fail("a name longer than its entry");
	return true;
}

/* How many records there are in the first bytes. */
static size_t
count_records(const uint8_t *data, size_t n, next_fn *next)
{
	char *copy = copy_of(data, n, 0);
	struct record r;
	size_t at = 0, end = 0, count;

	for (count = 0; next(copy, n, &at, &r); count++) {
		if (r.at != end || r.size == 0 || r.size > n - end)
			fail("record %zu at %zu, %zu bytes", count, r.at,
			    r.size);
		end += r.size;
		if (at != end)
			fail("the next one at %zu, not %zu", at, end);
	}
	free(copy);
	return count;
}

static void
check_records(const uint8_t *data, size_t n, next_fn *next)
{
	size_t all = count_records(data, n, next), less, part = 0;

	if (n > 256)
		return;
	for (less = 0; less < n; less++) {
		size_t count = count_records(data, less, next);

		if (count < part || count > all)
			fail("%zu records in %zu bytes, %zu in one less", count,
			    less, part);
		part = count;
	}
}

/* -- messages -------------------------------------------------------------- */

static void
check_process(const uint8_t *data, size_t n)
{
	char *copy = copy_of(data, n, 0);
	struct proc_event e;
	uint32_t ack;

	if (wire_process(copy, n, &e, &ack) &&
	    (memmem(data, n, &e, sizeof(e)) == NULL ||
		memmem(data, n, &ack, sizeof(ack)) == NULL))
		fail("an event that is not in the message");
	free(copy);
}

static void
check_attributes(const uint8_t *data, size_t n)
{
	char *copy = copy_of(data, n, 0), value[16];
	size_t size;
	bool larger;
	int type;

	for (type = 0; type < 256; type++)
		for (size = sizeof(value), larger = false; size > 0; size--) {
			if (!wire_attribute(copy, n, type, value, size)) {
				if (larger)
					fail("%zu bytes, but not fewer", size);
				continue;
			}
			larger = true;
			if (memmem(data, n, value, size) == NULL)
				fail("attribute %d is not there", type);
		}
	free(copy);
}

/* -- texts ----------------------------------------------------------------- */

/* As libc reads it. */
static uint64_t
number_after(const char *text, const char *name, int base)
{
	const char *at = strstr(text, name);
	uint64_t n;

	if (at == NULL)
		fail("a number after nothing");
	errno = 0;
	n = base == 16 ? strtoull(at + strlen(name), NULL, base) :
			 (uint64_t)strtoll(at + strlen(name), NULL, base);
	if (errno != 0)
		fail("a number too large");
	return n;
}

static void
check_pid(const char *text)
{
	char again[64];
	int pid, pid2;

	if (!wire_pid(text, &pid))
		return;
	if ((uint64_t)pid != number_after(text, "\nPid:", 10))
		fail("pid %d", pid);
	snprintf(again, sizeof(again), "pos:\t0\nPid:\t%d\nNSpid:\t1\n", pid);
	if (!wire_pid(again, &pid2) || pid2 != pid)
		fail("pid %d", pid);
}

static void
check_status(const char *text)
{
	char again[256];
	int status, status2, i, n;

	if (!wire_status(text, &status))
		return;
	n = snprintf(again, sizeof(again), "1 (a) b) Z");
	for (i = 4; i < 52; i++)
		n += snprintf(again + n, sizeof(again) - (size_t)n, " %d",
		    i % 2 == 0 ? -1 : 0);
	n += snprintf(again + n, sizeof(again) - (size_t)n, " %d", status);
	if (wire_status(again, &status2))
		fail("a status that is cut off");
	snprintf(again + n, sizeof(again) - (size_t)n, "\n");
	if (!wire_status(again, &status2) || status2 != status)
		fail("status %d", status);
}

static void
check_blocked(const char *text)
{
	uint64_t set, set2;
	char again[96];

	if (!wire_blocked(text, &set))
		return;
	if (set != number_after(text, "\nSigBlk:", 16))
		fail("blocked %#jx", (uintmax_t)set);
	snprintf(again, sizeof(again),
	    "Name:\tSigBlk:\nShdPnd:\t1\nSigBlk:\t%016jx\nSigIgn:\t2\n",
	    (uintmax_t)set);
	if (!wire_blocked(again, &set2) || set2 != set)
		fail("blocked %#jx", (uintmax_t)set);
}

static void
check_counter(const char *text)
{
	uint64_t n, n2;
	char again[64];

	if (!wire_counter(text, &n))
		return;
	if (n != number_after(text, "\neventfd-count:", 16))
		fail("count %#jx", (uintmax_t)n);
	snprintf(again, sizeof(again), "ino:\t18\neventfd-count: %16jx\n",
	    (uintmax_t)n);
	if (!wire_counter(again, &n2) || n2 != n)
		fail("count %#jx", (uintmax_t)n);
}

static void
check_registration(const char *text)
{
	uint32_t events, events2;
	uint64_t tag, tag2;
	char again[128];
	int fd, fd2;

	if (!wire_registration(text, &fd, &events, &tag))
		return;
	snprintf(again, sizeof(again),
	    "tfd: %8d events: %8x data: %16jx  pos:%d ino:%x sdev:%x", fd,
	    events, (uintmax_t)tag, 0, 0x12, 0x10);
	if (!wire_registration(again, &fd2, &events2, &tag2) || fd2 != fd ||
	    events2 != events || tag2 != tag)
		fail("registration of %d: %#x, %#jx", fd, events,
		    (uintmax_t)tag);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static void (*const texts[])(const char *) = { check_pid, check_status,
		check_blocked, check_counter, check_registration };
	char *copy;

	if (size == 0)
		return 0;
	switch (*data++) {
	case 'i':
		check_records(data, size - 1, next_inotify);
		return 0;
	case 'e':
		check_records(data, size - 1, next_entry);
		return 0;
	case 'p':
		check_process(data, size - 1);
		return 0;
	case 'a':
		check_attributes(data, size - 1);
		return 0;
	default:
		copy = copy_of(data, size - 1, 1);
		texts[data[-1] % (sizeof(texts) / sizeof(texts[0]))](copy);
		free(copy);
		return 0;
	}
}
