/*
 * Numbers as people read them: their first digits, and a unit.
 */
#include <inttypes.h>
#include <stdio.h>

#include "human.h"

const char *
human_size(char buf[HUMAN_MAX], uint64_t bytes)
{
	static const char units[] = "kMGTPE";
	uint64_t rest = 0;
	int i;

	if (bytes < 1024) {
		snprintf(buf, HUMAN_MAX, "%" PRIu64, bytes);
		return buf;
	}
	/* Up to the unit of which there are less than 1024. */
	for (i = -1; bytes >= 1024; i++) {
		rest = bytes % 1024;
		bytes /= 1024;
	}
	if (bytes < 100)
		snprintf(buf, HUMAN_MAX, "%" PRIu64 ".%" PRIu64 "%c", bytes,
		    rest * 10 / 1024, units[i]);
	else
		snprintf(buf, HUMAN_MAX, "%" PRIu64 "%c", bytes, units[i]);
	return buf;
}

const char *
human_time(char buf[HUMAN_MAX], int64_t ms)
{
	int64_t s = ms / 1000;

	if (s < 10)
		snprintf(buf, HUMAN_MAX, "%" PRId64 ".%02ds", s,
		    (int)(ms % 1000 / 10));
	else if (s < 60)
		snprintf(buf, HUMAN_MAX, "%" PRId64 "s", s);
	else if (s < 3600)
		snprintf(buf, HUMAN_MAX, "%" PRId64 "m%02ds", s / 60,
		    (int)(s % 60));
	else if (s < 86400)
		snprintf(buf, HUMAN_MAX, "%" PRId64 "h%02dm", s / 3600,
		    (int)(s % 3600 / 60));
	else
		snprintf(buf, HUMAN_MAX, "%" PRId64 "d%02dh", s / 86400,
		    (int)(s % 86400 / 3600));
	return buf;
}
