/*
 * ClientHellos, read for their server name.
 *
 * What breaks a rule of the records or of the message is bad: where a server
 * reads another name than we do, a client goes where it may not.  So a name
 * is only taken from a hello that every byte of has its place, and two names
 * are none too many but wrong.  A hello with encrypted parts (ECH) is as any
 * other; its outer name counts.
 */
#include "sni.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum {
	RECORD_HEAD = 5, /* type, version, length: RFC 8446, 5.1 */
	RECORD_MAX = 16384,
	TYPE_HANDSHAKE = 22,
	VERSION_MAJOR = 3,
	MESSAGE_HEAD = 4, /* type, length: RFC 8446, 4 */
	MESSAGE_CLIENT_HELLO = 1,
	RANDOM = 32,
	SESSION_ID_MAX = 32,
	EXTENSION_SERVER_NAME = 0,
	NAME_HOST = 0
};

/* What is still to be read, of all that came or of a part. */
struct bytes {
	const uint8_t *at;
	size_t left;
};

static enum sni_found gather(struct bytes in, uint8_t *message, size_t *len);
static enum sni_found hello(struct bytes in, char *name);
static enum sni_found extensions(struct bytes in, char *name);
static enum sni_found server_name(struct bytes in, char *name);
static bool take(struct bytes *in, size_t n, struct bytes *part);
static bool number(struct bytes *in, size_t size, size_t *n);
static bool vector(struct bytes *in, size_t size, struct bytes *part);

enum sni_found
sni_read(const void *data, size_t len, char name[SNI_NAME_MAX + 1])
{
	struct bytes in = { data, len < SNI_MAX ? len : SNI_MAX }, body;
	uint8_t message[SNI_MAX];
	enum sni_found found;
	size_t n;

	name[0] = '\0';
	found = gather(in, message, &n);
	if (found == SNI_MORE)
		return len < SNI_MAX ? SNI_MORE : SNI_BAD;
	if (found == SNI_BAD)
		return SNI_BAD;
	body.at = message + MESSAGE_HEAD;
	body.left = n - MESSAGE_HEAD;
	found = hello(body, name);
	if (found != SNI_NAME)
		name[0] = '\0';
	return found;
}

/*
 * Put the message together from the records that it came in, any number of
 * them, each with at least a byte of it.  SNI_MORE, SNI_BAD, or SNI_NONE and
 * it is whole: *len bytes, of SNI_MAX at most.
 */
static enum sni_found
gather(struct bytes in, uint8_t *message, size_t *len)
{
	struct bytes head, part;
	size_t have = 0, want = MESSAGE_HEAD, n;

	while (have < want) {
		/* The version is not looked at, but to tell what is no TLS. */
		if ((in.left > 0 && in.at[0] != TYPE_HANDSHAKE) ||
		    (in.left > 1 && in.at[1] != VERSION_MAJOR))
			return SNI_BAD;
		if (!take(&in, RECORD_HEAD, &head))
			return SNI_MORE;
		n = (size_t)head.at[3] << 8 | head.at[4];
		if (n == 0 || n > RECORD_MAX)
			return SNI_BAD;
		/* Of what is not there yet, all that is. */
		if (!take(&in, n, &part))
			take(&in, in.left, &part);
		memcpy(message + have, part.at, part.left);
		have += part.left;
		if (have > 0 && message[0] != MESSAGE_CLIENT_HELLO)
			return SNI_BAD;
		if (have < MESSAGE_HEAD)
			continue;
		want = MESSAGE_HEAD +
		    ((size_t)message[1] << 16 | (size_t)message[2] << 8 |
			message[3]);
		if (want > SNI_MAX - RECORD_HEAD)
			return SNI_BAD;
	}
	*len = want;
	return SNI_NONE;
}

static enum sni_found
hello(struct bytes in, char *name)
{
	struct bytes version, session, suites, compressions, rest;

	if (!take(&in, 2, &version) || version.at[0] != VERSION_MAJOR ||
	    !take(&in, RANDOM, &rest) || !vector(&in, 1, &session) ||
	    session.left > SESSION_ID_MAX || !vector(&in, 2, &suites) ||
	    suites.left == 0 || suites.left % 2 != 0 ||
	    !vector(&in, 1, &compressions) || compressions.left == 0)
		return SNI_BAD;
	if (in.left == 0) /* as before there were extensions */
		return SNI_NONE;
	if (!vector(&in, 2, &rest) || in.left > 0)
		return SNI_BAD;
	return extensions(rest, name);
}

static enum sni_found
extensions(struct bytes in, char *name)
{
	enum sni_found found = SNI_NONE;
	bool seen = false;
	struct bytes data;
	size_t type;

	while (in.left > 0) {
		if (!number(&in, 2, &type) || !vector(&in, 2, &data))
			return SNI_BAD;
		if (type != EXTENSION_SERVER_NAME)
			continue;
		if (seen) /* "there MUST NOT be": RFC 8446, 4.2 */
			return SNI_BAD;
		seen = true;
		found = server_name(data, name);
		if (found == SNI_BAD)
			return SNI_BAD;
	}
	return found;
}

/*
 * The list has one name of each type, and there is but one type.  What is no
 * host name, such as an IPv6 address, is not our business to refuse: nobody
 * can have asked for it to be routed.
 */
static enum sni_found
server_name(struct bytes in, char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-_.";
	struct bytes list, host;
	size_t type, i;
	uint8_t c;

	if (!vector(&in, 2, &list) || in.left > 0 || !number(&list, 1, &type) ||
	    type != NAME_HOST || !vector(&list, 2, &host) || list.left > 0 ||
	    host.left == 0)
		return SNI_BAD;
	if (host.left > SNI_NAME_MAX)
		return SNI_NONE;
	for (i = 0; i < host.left; i++) {
		c = host.at[i];
		if (c >= 'A' && c <= 'Z')
			c = (uint8_t)(c - 'A' + 'a');
		if (c == '\0' || strchr(allowed, c) == NULL ||
		    (c == '.' && (i == 0 || name[i - 1] == '.')))
			return SNI_NONE;
		name[i] = (char)c;
	}
	if (name[i - 1] == '.') /* some clients write it */
		i--;
	name[i] = '\0';
	return SNI_NAME;
}

/* The next n bytes; false: there are not so many, and none is taken. */
static bool
take(struct bytes *in, size_t n, struct bytes *part)
{
	if (n > in->left)
		return false;
	part->at = in->at;
	part->left = n;
	in->at += n;
	in->left -= n;
	return true;
}

/* The next number, of size bytes, the highest first. */
static bool
number(struct bytes *in, size_t size, size_t *n)
{
	struct bytes part;

	if (!take(in, size, &part))
		return false;
	for (*n = 0; part.left > 0; part.left--)
		*n = *n << 8 | *part.at++;
	return true;
}

/* The next bytes, with their number, of size bytes, before them. */
static bool
vector(struct bytes *in, size_t size, struct bytes *part)
{
	size_t n;

	return number(in, size, &n) && take(in, n, part);
}
