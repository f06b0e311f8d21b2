/*
 * The variables that tell a program who is there, in the way of UCSPI.
 */
#include <sys/types.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <netinet/in.h>

#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <kquay.h>

#include "ucspi.h"

enum { MAX_VARIABLES = 8, VARIABLE = 160 };

static int
describe_ip(const char *side, const struct sockaddr *sa, char out[][VARIABLE])
{
	const struct sockaddr_in6 *in6 = (const void *)sa;
	const struct sockaddr_in *in4 = (const void *)sa;
	char ip[INET6_ADDRSTRLEN];
	int v6 = sa->sa_family == AF_INET6;

	if ((!v6 && sa->sa_family != AF_INET) ||
	    inet_ntop(sa->sa_family,
		v6 ? (const void *)&in6->sin6_addr : &in4->sin_addr, ip,
		sizeof(ip)) == NULL)
		return 0;
	snprintf(out[0], VARIABLE, "TCP%sIP=%s", side, ip);
	snprintf(out[1], VARIABLE, "TCP%sPORT=%d", side,
	    ntohs(v6 ? in6->sin6_port : in4->sin_port));
	return 2;
}

static int
describe_unix(struct kquay_conn *c, const struct sockaddr_storage *local,
    char out[][VARIABLE])
{
	const struct sockaddr_un *sun = (const void *)local;
	uid_t uid;
	gid_t gid;
	pid_t pid;
	int n = 0;

	snprintf(out[n++], VARIABLE, "PROTO=UNIX");
	if (local->ss_family == AF_UNIX && sun->sun_path[0] != '\0')
		snprintf(out[n++], VARIABLE, "UNIXLOCALPATH=%.*s",
		    (int)sizeof(sun->sun_path), sun->sun_path);
	if (kquay_peercred(c, &uid, &gid, &pid) == -1)
		return n;
	snprintf(out[n++], VARIABLE, "UNIXREMOTEEUID=%ju", (uintmax_t)uid);
	if (gid != (gid_t)-1)
		snprintf(out[n++], VARIABLE, "UNIXREMOTEEGID=%ju",
		    (uintmax_t)gid);
	if (pid != -1)
		snprintf(out[n++], VARIABLE, "UNIXREMOTEPID=%jd",
		    (intmax_t)pid);
	return n;
}

/* The variables of UCSPI for c; returns their number. */
static int
describe(struct kquay_conn *c, char out[][VARIABLE])
{
	struct sockaddr_storage local = { .ss_family = AF_UNSPEC };
	const struct sockaddr *peer;
	socklen_t len;
	int n = 0;

	peer = kquay_peeraddr(c, &len);
	(void)kquay_localaddr(c, &local);
	if (peer->sa_family == AF_UNIX)
		return describe_unix(c, &local, out);
	snprintf(out[n++], VARIABLE, "PROTO=TCP");
	n += describe_ip("REMOTE", peer, out + n);
	n += describe_ip("LOCAL", (const struct sockaddr *)&local, out + n);
	return n;
}

static int
same_name(const char *a, const char *b)
{
	for (; *a == *b && *a != '=' && *a != '\0'; a++, b++)
		;
	return *a == *b;
}

/* Is there a variable of that name among the n? */
static int
is_set(const char *variable, char *const *list, size_t n)
{
	size_t i;

	for (i = 0; i < n; i++)
		if (same_name(list[i], variable))
			return 1;
	return 0;
}

/*
 * The later hides the earlier: those of this process, more, and what is told
 * of c.
 */
char **
ucspi_environment(struct kquay_conn *c, const struct words *more)
{
	extern char **environ;
	size_t ours = 0, count = 0, n, i;
	char(*variables)[VARIABLE], **list;

	while (environ[ours] != NULL)
		ours++;
	n = ours + more->count + MAX_VARIABLES + 1;
	list = malloc(n * sizeof(*list) + MAX_VARIABLES * sizeof(*variables));
	if (list == NULL)
		return NULL;
	variables = (void *)(list + n);
	n = (size_t)describe(c, variables);
	for (i = 0; i < n; i++)
		list[count++] = variables[i];
	for (i = 0; i < more->count; i++)
		if (!is_set(more->word[i], list, count))
			list[count++] = more->word[i];
	n = count;
	for (i = 0; i < ours; i++)
		if (!is_set(environ[i], list, n))
			list[count++] = environ[i];
	list[count] = NULL;
	return list;
}
