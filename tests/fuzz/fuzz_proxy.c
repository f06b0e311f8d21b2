/*
 * The reader of PROXY headers.  Of whatever bytes: nothing outside of them is
 * read, what is good is so with any bytes after it, more is needed of each of
 * its parts, and its addresses and fields, written again, are read as the
 * same.
 */
#include "driver.h"
#include "proxy_header.h"

#include <string.h>

/* Of a copy that ends where the data does, for a sanitizer to watch. */
static ssize_t
read_copy(const uint8_t *data, size_t len, struct proxy *p)
{
	char *copy = malloc(len == 0 ? 1 : len);
	ssize_t rc;

	if (copy == NULL)
		abort();
	if (len > 0)
		memcpy(copy, data, len);
	rc = kquay_proxy_read(copy, len, p);
	free(copy);
	return rc;
}

static void
check_fields(const char *header, size_t len, const struct proxy *p)
{
	const char *value;
	size_t n;
	int type;

	if (p->tlvslen > 0 &&
	    (p->tlvs < header || p->tlvs + p->tlvslen > header + len))
		fail("fields outside of the header");
	for (type = 0; type < 256; type++) {
		value = kquay_proxy_tlv(p->tlvs, p->tlvslen, type, &n);
		if (value != NULL &&
		    (value < p->tlvs || value + n > p->tlvs + p->tlvslen))
			fail("field %#x outside of the fields", type);
	}
}

/* Addresses, and the fields that may be there but once. */
static void
check_again(const struct proxy *p)
{
	static char buf[2 * PROXY_MAX];
	struct proxy_out o = { .buf = buf, .size = sizeof(buf) };
	static const int types[] = { 1, 2, 5, 0x20, 0x30, 0xe0, 0xea };
	const char *value, *again;
	size_t i, len, len2;
	struct proxy p2;

	kquay_proxy_begin(&o, p->local ? NULL : &p->src.sa, &p->dst.sa);
	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		value = kquay_proxy_tlv(p->tlvs, p->tlvslen, types[i], &len);
		if (value != NULL)
			kquay_proxy_put(&o, types[i], value, len);
	}
	kquay_proxy_end(&o);
	if (o.len > PROXY_MAX)
		return;
	if (o.full || kquay_proxy_read(buf, o.len, &p2) != (ssize_t)o.len)
		fail("what was read and written is not read");
	if (p2.local != p->local ||
	    memcmp(&p2.src, &p->src, sizeof(p2.src)) != 0 ||
	    memcmp(&p2.dst, &p->dst, sizeof(p2.dst)) != 0)
		fail("other addresses");
	for (i = 0; i < sizeof(types) / sizeof(types[0]) && !p->local; i++) {
		value = kquay_proxy_tlv(p->tlvs, p->tlvslen, types[i], &len);
		again = kquay_proxy_tlv(p2.tlvs, p2.tlvslen, types[i], &len2);
		if ((value == NULL) != (again == NULL) ||
		    (value != NULL &&
			(len != len2 || memcmp(value, again, len) != 0)))
			fail("another field %#x", types[i]);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy p;
	size_t len;
	ssize_t rc;

	rc = read_copy(data, size, &p);
	if (rc < -1 || rc > (ssize_t)size)
		fail("%zd of %zu bytes", rc, size);
	if (rc == -1) /* and no byte more can mend that */
		return 0;
	for (len = 0; len < (rc == 0 ? size : (size_t)rc); len++)
		if (read_copy(data, len, &p) != 0)
			fail("%zu bytes are enough, or bad", len);
	if (rc == 0)
		return 0;
	if (read_copy(data, (size_t)rc, &p) != rc)
		fail("another length without what follows");
	if (kquay_proxy_read((const char *)data, (size_t)rc, &p) != rc)
		fail("another length");
	check_fields((const char *)data, (size_t)rc, &p);
	check_again(&p);
	return 0;
}
