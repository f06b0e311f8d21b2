/*
 * Why callers are turned away: from errno to a kind, and its name.
 */
#include <errno.h>

#include "tally.h"

enum refusal
tally_refusal(int error)
{
	switch (error) {
	case ENOBUFS:
		return REFUSAL_FULL;
	case EMFILE:
	case ENFILE:
		return REFUSAL_DESCRIPTORS;
	case EUSERS:
		return REFUSAL_SOURCE;
	case EACCES:
	case EPERM:
		return REFUSAL_ACCESS;
	case EAGAIN:
		return REFUSAL_RATE;
	case ETIMEDOUT:
		return REFUSAL_TIMEOUT;
	case EPROTO:
		return REFUSAL_PROTOCOL;
	default:
		return REFUSAL_OTHER;
	}
}

const char *
tally_refusal_name(enum refusal refusal)
{
	static const char *const names[NREFUSALS] = { "full", "descriptors",
		"source", "access", "rate", "timeout", "protocol", "other" };

	return names[refusal];
}
