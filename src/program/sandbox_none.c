/*
 * A system whose means of confinement we do not know; or a build that must not
 * be confined, as a sanitizer's, which looks around in its own process.
 */
#include <sys/types.h>

#include <stdio.h>

#include "sandbox.h"

int
sandbox_confine(struct sandbox *s, char *state, size_t statesz, char *why,
    size_t whysz)
{
	snprintf(state, statesz, "none: not in this build");
	snprintf(why, whysz, "there is none in this build");
	return -1;
}

void
sandbox_keep_secrets(void)
{
}
