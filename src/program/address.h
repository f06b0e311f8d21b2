/*
 * Addresses to listen on, as one writes them:
 *
 *	HOST:PORT	every address of a name, or one IPv4 address
 *	:PORT *:PORT	every address of this machine, IPv4 and IPv6
 *	[V6]:PORT	one IPv6 address
 *	unix:PATH	a UNIX socket
 *	fd:N		a listening socket that was inherited
 *	systemd:NAME	those that systemd has passed on under that name
 *	systemd:	all that it has passed on
 */
#ifndef KQUAY_ADDRESS_H
#define KQUAY_ADDRESS_H

#include <sys/types.h>
#include <sys/queue.h>

#include <stddef.h>
#include <stdio.h>

enum address_kind {
	ADDRESS_TCP,
	ADDRESS_UNIX,
	ADDRESS_FD,
	ADDRESS_SYSTEMD
};

struct address {
	TAILQ_ENTRY(address) next;
	enum address_kind kind;
	int fd;           /* FD */
	const char *host; /* TCP; NULL: every address */
	const char *port; /* TCP */
	const char *path; /* UNIX */
	const char *name; /* SYSTEMD; NULL: any */
	char *text;       /* as it was written */
	char *parts;      /* what host, port and path point into */
};

TAILQ_HEAD(address_list, address);

/*
 * Parse text and append it.  Returns 0; or -1 with the reason in why and the
 * list as it was.  Names are not looked up here, ports are.
 */
int address_list_add(struct address_list *list, const char *text, char *why,
    size_t whysz);

/* Write the list as the configuration file has it: {"a", "b"}. */
void address_list_print(const struct address_list *list, FILE *out);

void address_list_free(struct address_list *list);

/* The UNIX socket at path has this mode from now on.  0, or -1 with errno. */
int address_set_mode(const char *path, mode_t mode);

#endif
