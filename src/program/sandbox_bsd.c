/*
 * OpenBSD: unveil(2) for what is seen of the file system, pledge(2) for what
 * is done.  No program is run, so there is no upgrade in the running process.
 */
#include <sys/types.h>
#include <sys/resource.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sandbox.h"

/* Names are looked up and TLS is spoken; certificates and logs are opened. */
static const char promises[] =
    "stdio rpath wpath cpath fattr flock inet unix dns getpw recvfd sendfd";

static int
unveil_all(const struct words *words, const char *rights)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		if (unveil(words->word[i], rights) == -1)
			return -1;
	return 0;
}

int
sandbox_confine(struct sandbox *s, char *state, size_t statesz, char *why,
    size_t whysz)
{
	if (unveil("/dev/null", "rw") == -1 ||
	    unveil_all(&s->read, "r") == -1 ||
	    unveil_all(&s->sockets, "rwc") == -1 ||
	    unveil_all(&s->write, "rwc") == -1 ||
	    unveil_all(&s->calls, "rw") == -1 || unveil(NULL, NULL) == -1)
		goto fail;
	if (pledge(promises, NULL) == -1)
		goto fail;
	snprintf(state, statesz, "pledge, unveil");
	return 0;

fail:
	snprintf(why, whysz, "%s", strerror(errno));
	snprintf(state, statesz, "none: %s", strerror(errno));
	return -1;
}

/* A process that has pledged is not traced; its core file is left. */
void
sandbox_keep_secrets(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_CORE, &limit) == -1)
		return;
	limit.rlim_cur = 0;
	(void)setrlimit(RLIMIT_CORE, &limit);
}
