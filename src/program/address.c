/*
 * Addresses to listen on: from text to parts.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "setting.h"

/* The parsers of the forms: NULL, or what is wrong. */
static const char *parse_address(struct address *);
static const char *parse_unix(struct address *, char *);
static const char *parse_fd(struct address *, char *);
static const char *parse_tcp(struct address *, char *);
static const char *check_port(const char *);
static int is_number(const char *);
static void address_free(struct address *);

int
address_list_add(struct address_list *list, const char *text, char *why,
    size_t whysz)
{
	struct address *a;
	const char *wrong;

	a = calloc(1, sizeof(*a));
	if (a == NULL) {
		snprintf(why, whysz, "%s", strerror(errno));
		return -1;
	}
	a->fd = -1;
	a->text = strdup(text);
	a->parts = strdup(text);
	if (a->text == NULL || a->parts == NULL)
		wrong = strerror(errno);
	else
		wrong = parse_address(a);
	if (wrong != NULL) {
		snprintf(why, whysz, "'%s': %s", text, wrong);
		address_free(a);
		return -1;
	}
	TAILQ_INSERT_TAIL(list, a, next);
	return 0;
}

static const char *
parse_address(struct address *a)
{
	if (strncmp(a->parts, "unix:", 5) == 0)
		return parse_unix(a, a->parts + 5);
	if (strncmp(a->parts, "fd:", 3) == 0)
		return parse_fd(a, a->parts + 3);
	if (strncmp(a->parts, "systemd:", 8) == 0) {
		a->kind = ADDRESS_SYSTEMD;
		a->name = a->parts[8] != '\0' ? a->parts + 8 : NULL;
		return NULL;
	}
	return parse_tcp(a, a->parts);
}

static const char *
parse_unix(struct address *a, char *path)
{
	const char *p;

	a->kind = ADDRESS_UNIX;
	a->path = path;
	if (*path == '\0')
		return "the path is missing";
	/* `listening on unix:PATH' is to be one line. */
	for (p = path; *p != '\0'; p++)
		if (iscntrl((unsigned char)*p))
			return "the path has a control character";
	if (strlen(path) >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return "the path is too long for a UNIX socket";
	return NULL;
}

static const char *
parse_fd(struct address *a, char *number)
{
	const char *wrong;

	a->kind = ADDRESS_FD;
	a->fd = (int)strtonum(number, 0, INT_MAX, &wrong);
	if (wrong != NULL || !is_number(number))
		return "fd: takes the number of a descriptor";
	return NULL;
}

static const char *
parse_tcp(struct address *a, char *host)
{
	char *end;

	a->kind = ADDRESS_TCP;
	if (*host == '[') {
		host++;
		end = strchr(host, ']');
		if (end == NULL)
			return "the ] is missing";
		*end++ = '\0';
		if (*end != ':')
			return "the port is missing, such as [::1]:8080";
		if (*host == '\0')
			return "the address between [ and ] is missing";
	} else {
		end = strchr(host, ':');
		if (end == NULL)
			return "the port is missing, such as localhost:8080";
		if (strchr(end + 1, ':') != NULL)
			return "an IPv6 address takes brackets, such as "
			       "[::1]:8080";
	}
	*end++ = '\0';
	a->port = end;
	if (*host != '\0' && strcmp(host, "*") != 0)
		a->host = host;
	return check_port(a->port);
}

static const char *
check_port(const char *port)
{
	const char *wrong;

	if (*port == '\0')
		return "the port is missing";
	if (!is_number(port)) {
		if (getservbyname(port, "tcp") == NULL)
			return "no such port";
		return NULL;
	}
	(void)strtonum(port, 0, 65535, &wrong);
	if (wrong != NULL)
		return "the port is not in 0 to 65535";
	return NULL;
}

/* Digits alone: strtonum(3) takes blanks and a sign before them. */
static int
is_number(const char *text)
{
	return strspn(text, "0123456789") == strlen(text);
}

void
address_list_print(const struct address_list *list, FILE *out)
{
	const struct address *a;

	putc('{', out);
	TAILQ_FOREACH(a, list, next) {
		setting_print_quoted(a->text, out);
		if (TAILQ_NEXT(a, next) != NULL)
			fputs(", ", out);
	}
	putc('}', out);
}

void
address_list_free(struct address_list *list)
{
	struct address *a;

	while ((a = TAILQ_FIRST(list)) != NULL) {
		TAILQ_REMOVE(list, a, next);
		address_free(a);
	}
}

static void
address_free(struct address *a)
{
	free(a->parts);
	free(a->text);
	free(a);
}

int
address_set_mode(const char *path, mode_t mode)
{
	struct stat st;

	if (lstat(path, &st) == -1)
		return -1;
	if (!S_ISSOCK(st.st_mode)) {
		errno = ENOTSOCK;
		return -1;
	}
	return (st.st_mode & ALLPERMS) == mode ? 0 : chmod(path, mode);
}
