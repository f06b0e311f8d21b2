/*
 * A name server for the tests: UDP and TCP on a port of 127.0.0.1, served by
 * the loop of the test itself.  It answers from a table, late or never.
 */
#ifndef T_SERVER_DNS_H
#define T_SERVER_DNS_H

#include "t_server_kit.h"

enum { DNS_NEVER = -1 }; /* as a delay */

struct dns_name {
	const char	*name;
	const char	*a, *aaaa;	/* addresses with spaces between, or NULL */
	int		 a_ms, aaaa_ms;	/* after how long */
	int		 rcode;
	bool		 cut;		/* by UDP say that it was cut off */
	const char	*srv;		/* "PRIORITY WEIGHT PORT NAME ..." */
	const void	*raw;		/* or what is in a record of SRV */
	size_t		 rawlen;
	const char	*cname;		/* the name is another one for this */
	unsigned	 ttl;
};

/* How often was asked, by UDP and TCP, for A, AAAA and SRV. */
extern unsigned dns_udp, dns_tcp, dns_a, dns_aaaa, dns_srv;

/* Open the server, for a table that ends with a NULL name: what to use as
   conf.nameservers. */
const char	*dns_open(const struct dns_name *names);
/* Serve it with the loop. */
void	dns_serve(void);
void	dns_close(void);

#endif
