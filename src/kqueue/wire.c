/*
 * wire.c: what the kernel writes for us to read: records, messages, and texts
 * of /proc.
 *
 * Who calls has fetched the bytes.  Nothing in them is trusted, neither a
 * length nor a number; tests/fuzz/fuzz_wire.c comes with any.  A text ends with
 * its first 0.
 */
#include <linux/connector.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>

#include <limits.h>
#include <string.h>

#include "wire.h"

/* -- records --------------------------------------------------------------- */

/* A record of that size at *at, behind which another could be. */
static bool
is_whole(size_t n, size_t at, size_t size, size_t align)
{
	return size <= n - at && size % align == 0;
}

const struct inotify_event *
wire_inotify(const char *bytes, size_t n, size_t *at)
{
	const struct inotify_event *event = (const void *)(bytes + *at);
	size_t size = sizeof(*event);

	if (n - *at < size || event->len > n)
		return NULL;
	size += event->len;
	if (!is_whole(n, *at, size, _Alignof(struct inotify_event)))
		return NULL;
	*at += size;
	return event;
}

const struct entry *
wire_entry(const char *bytes, size_t n, size_t *at)
{
	const struct entry *entry = (const void *)(bytes + *at);
	const size_t name = offsetof(struct entry, d_name);

	if (n - *at < sizeof(*entry) || entry->d_reclen <= name ||
	    !is_whole(n, *at, entry->d_reclen, _Alignof(struct entry)) ||
	    memchr(entry->d_name, 0, entry->d_reclen - name) == NULL)
		return NULL;
	*at += entry->d_reclen;
	return entry;
}

/* -- messages -------------------------------------------------------------- */

/* How long the message is, 0 if that cannot be. */
static size_t
message_length(const void *bytes, size_t n, struct nlmsghdr *h)
{
	if (n < sizeof(*h))
		return 0;
	memcpy(h, bytes, sizeof(*h));
	return h->nlmsg_len <= n ? h->nlmsg_len : 0;
}

/* The kernel does not align the event. */
bool
wire_process(const void *bytes, size_t n, struct proc_event *e, uint32_t *ack)
{
	const size_t head = NLMSG_HDRLEN + sizeof(struct cn_msg);
	const char *at = bytes;
	struct nlmsghdr h;
	struct cn_msg m;

	if (message_length(bytes, n, &h) < head + sizeof(*e))
		return false;
	memcpy(&m, at + NLMSG_HDRLEN, sizeof(m));
	memcpy(e, at + head, sizeof(*e));
	*ack = m.ack;
	return true;
}

bool
wire_attribute(const void *bytes, size_t n, int type, void *value, size_t size)
{
	const char *from = bytes;
	struct nlmsghdr h;
	struct rtattr a;
	size_t at, end = message_length(bytes, n, &h);

	if (end == 0 || h.nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return false;
	for (at = NLMSG_SPACE(sizeof(struct unix_diag_msg));
	     at < end && end - at >= sizeof(a); at += RTA_ALIGN(a.rta_len)) {
		memcpy(&a, from + at, sizeof(a));
		if (a.rta_len < sizeof(a) || a.rta_len > end - at)
			return false;
		if (a.rta_type != type)
			continue;
		if (a.rta_len - RTA_LENGTH(0) < size)
			return false;
		memcpy(value, from + at + RTA_LENGTH(0), size);
		return true;
	}
	return false;
}

/* -- texts ----------------------------------------------------------------- */

/* What follows the name and blanks, or NULL. */
static const char *
text_after(const char *text, const char *name)
{
	const char *found = strstr(text, name);

	if (found == NULL)
		return NULL;
	found += strlen(name);
	return found + strspn(found, " \t");
}

/* A number ends with a blank, its line or the text. */
static const char *
number_end(const char *at)
{
	return strchr(" \t\n", *at) != NULL ? at : NULL;
}

/* The number at the beginning, its end; NULL: there is none, or too large. */
static const char *
read_hex(const char *text, uint64_t *value)
{
	static const char digits[] = "0123456789abcdef";
	size_t n = strspn(text, digits), i;

	if (n == 0 || n > 2 * sizeof(*value))
		return NULL;
	*value = 0;
	for (i = 0; i < n; i++)
		*value =
		    *value << 4 | (uint64_t)(strchr(digits, text[i]) - digits);
	return number_end(text + n);
}

static const char *
read_decimal(const char *text, int *value)
{
	const char *at = text + (*text == '-');
	int64_t n = 0;

	if (*at < '0' || *at > '9')
		return NULL;
	for (; *at >= '0' && *at <= '9'; at++)
		if ((n = 10 * n + *at - '0') > INT_MAX)
			return NULL;
	*value = (int)(*text == '-' ? -n : n);
	return number_end(at);
}

bool
wire_pid(const char *fdinfo, int *pid)
{
	const char *at = text_after(fdinfo, "\nPid:");

	return at != NULL && read_decimal(at, pid) != NULL;
}

#define EXIT_CODE 52 /* the field, see proc(5) */

/* The second field is a name in brackets, with whatever is in a name. */
bool
wire_status(const char *stat, int *status)
{
	const char *at = strrchr(stat, ')');
	int field;

	for (field = 2; at != NULL && field < EXIT_CODE; field++)
		at = text_after(at, " ");
	/* A text that ends here has been cut off. */
	return at != NULL && (at = read_decimal(at, status)) != NULL &&
	    *at != '\0';
}

bool
wire_blocked(const char *status, uint64_t *set)
{
	const char *at = text_after(status, "\nSigBlk:");

	return at != NULL && read_hex(at, set) != NULL;
}

bool
wire_counter(const char *fdinfo, uint64_t *n)
{
	const char *at = text_after(fdinfo, "\neventfd-count:");

	return at != NULL && read_hex(at, n) != NULL;
}

bool
wire_registration(const char *line, int *fd, uint32_t *events, uint64_t *data)
{
	const char *at;
	uint64_t mask;

	if (strncmp(line, "tfd:", 4) != 0 ||
	    (at = text_after(line, "tfd:")) == NULL ||
	    (at = read_decimal(at, fd)) == NULL ||
	    (at = text_after(at, " events:")) == NULL ||
	    (at = read_hex(at, &mask)) == NULL || mask > UINT32_MAX ||
	    (at = text_after(at, " data:")) == NULL)
		return false;
	*events = (uint32_t)mask;
	return read_hex(at, data) != NULL;
}
