/*
 * Which server a TLS client asks for: the server_name (RFC 6066, section 3) of
 * its ClientHello (RFC 8446, section 4.1.2; RFC 5246, section 7.4.1.2), which
 * is what a connection begins with.  Nothing here knows of connections.
 */
#ifndef KQUAY_SNI_H
#define KQUAY_SNI_H

#include <stddef.h>

enum {
	SNI_MAX = 16384, /* bytes, within which a ClientHello must be whole */
	SNI_NAME_MAX = 255
};

enum sni_found {
	SNI_MORE, /* so far it may become a ClientHello */
	SNI_NAME, /* it is one, and asks for name */
	SNI_NONE, /* it is one, and asks for no host name */
	SNI_BAD   /* it is none, and no bytes more make it one */
};

/*
 * Read what a client has sent first, all of it.  The name is in lower case,
 * ended by a NUL; it is of letters, digits, '-', '_' and '.', and an empty
 * string unless SNI_NAME is returned.  Once it is not SNI_MORE, what follows
 * changes nothing; of SNI_MAX bytes it never is.
 */
enum sni_found sni_read(const void *data, size_t len,
    char name[SNI_NAME_MAX + 1]);

#endif
