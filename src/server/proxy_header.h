/*
 * PROXY headers as bytes: what HAProxy's proxy-protocol.txt describes, both
 * versions, both ways.  Nothing here knows of connections.
 */
#ifndef KQUAY_PROXY_HEADER_H
#define KQUAY_PROXY_HEADER_H

#pragma GCC visibility push(default)
#include <kquay.h>
#pragma GCC visibility pop

#include <sys/un.h>

#include <netinet/in.h>

enum {
	PROXY_MAX = 8192, /* longest header that is read */
	PROXY_V1_MAX = 107,
	PROXY_CRED_LEN = 12 /* of KQUAY_TLV_CRED: uid, gid, pid */
};

union proxy_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
	struct sockaddr_un un;
};

/* What a header says. */
struct proxy {
	int version;
	int local; /* nothing about a client: the connection is the proxy's */
	union proxy_addr src, dst; /* AF_UNSPEC if it does not say */
	const char *tlvs;          /* in the header */
	size_t tlvslen;
};

/*
 * Read a header at the begin of buf.  Its length; 0 if more is needed, and
 * then all of buf belongs to it; -1 if there is none, or a bad one.
 */
ssize_t kquay_proxy_read(const char *buf, size_t len, struct proxy *p);

/*
 * The value of the first field of this type among those that were read, the
 * inner ones of an SSL field too; NULL if there is none.
 */
const char *kquay_proxy_tlv(const char *tlvs, size_t tlvslen, int type,
    size_t *len);

/* A header in the making. */
struct proxy_out {
	char *buf;
	size_t size, len;
	int full; /* it has not room enough */
};

/*
 * Version 1, complete: from src to dst, or UNKNOWN unless both are of one
 * internet family.
 */
void kquay_proxy_write1(struct proxy_out *o, const struct sockaddr *src,
    const struct sockaddr *dst);

/*
 * Version 2: begin, the fields, end.  With src NULL it is LOCAL.  An SSL
 * field is begun, gets its inner ones, and is ended.
 */
void kquay_proxy_begin(struct proxy_out *o, const struct sockaddr *src,
    const struct sockaddr *dst);
void kquay_proxy_put(struct proxy_out *o, int type, const void *data,
    size_t len);
size_t kquay_proxy_begin_ssl(struct proxy_out *o, int client, uint32_t verify);
void kquay_proxy_end_ssl(struct proxy_out *o, size_t begin);
void kquay_proxy_end(struct proxy_out *o);

#endif
