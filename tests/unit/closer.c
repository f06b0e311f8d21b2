/*
 * A library that was linked with libc alone and knows nothing of libkq: what
 * it closes must be noticed as well.
 */
#include <unistd.h>

#include "closer.h"

int
closer_close(int fd)
{
	return close(fd);
}
