/*
 * daytime (RFC 867): one line that says the day and the time, then the end.
 */
#include <sys/types.h>

#include <ctype.h>
#include <stdio.h>
#include <time.h>

#include <kquay.h>

#include "service.h"

enum {
	LINE_MAX_NOW = 256, /* of what a format may say at the start */
	LINE_BYTES = 512    /* later: the names of months differ */
};

struct daytime_conf {
	struct service_conf base;
	char *format;
	int utc;
};

#define OFFSET(member) offsetof(struct daytime_conf, member)

/* The format is the operator's, and no format of strftime(3) can do harm. */
#pragma GCC diagnostic ignored "-Wformat-nonliteral"

/* Fill in the line for this time; returns its length, 0 if it has none. */
static size_t
say(const struct daytime_conf *conf, time_t now, char line[LINE_BYTES])
{
	struct tm tm;

	if ((conf->utc ? gmtime_r(&now, &tm) : localtime_r(&now, &tm)) == NULL)
		return 0;
	return strftime(line, LINE_BYTES, conf->format, &tm);
}

static int
daytime_open(struct kquay_conn *c)
{
	const struct daytime_conf *conf;
	char line[LINE_BYTES];

	conf = (const struct daytime_conf *)service_conf_of(kquay_of(c));
	if (say(conf, time(NULL), line) == 0 ||
	    kquay_printf(c, "%s\r\n", line) == -1)
		return -1;
	kquay_close(c);
	return 0;
}

/* This also has the time zone read while that can still be done. */
static int
daytime_check(struct service_conf *base, char *why, size_t whysz)
{
	const struct daytime_conf *conf = (const struct daytime_conf *)base;
	char line[LINE_BYTES];
	size_t len, i;

	len = say(conf, time(NULL), line);
	if (len == 0 || len > LINE_MAX_NOW) {
		snprintf(why, whysz, "format: makes no line of 1 to %d bytes",
		    LINE_MAX_NOW);
		return -1;
	}
	for (i = 0; i < len; i++) {
		if (iscntrl((unsigned char)line[i])) {
			snprintf(why, whysz,
			    "format: makes more than one line, or a control "
			    "character");
			return -1;
		}
	}
	return 0;
}

static const struct kquay_ops daytime_ops = {
	.open = daytime_open,
};

static const struct setting daytime_settings[] = {
	{ .name = "format",
	    .letter = 'f',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(format),
	    .max = LINE_MAX_NOW,
	    .def = "%A, %B %d, %Y %H:%M:%S-%Z",
	    .arg = "TEXT",
	    .help = "the line, as for strftime(3)" },
	{ .name = "utc",
	    .letter = 'u',
	    .type = SETTING_SWITCH,
	    .offset = OFFSET(utc),
	    .def = "off",
	    .arg = "on|off",
	    .help = "the time of Greenwich, not of this machine" },
	{ .name = NULL }
};

const struct service_handler service_daytime = {
	.name = "daytime",
	.help = "say the day and the time",
	.ops = &daytime_ops,
	.settings = daytime_settings,
	.check = daytime_check,
	.confsz = sizeof(struct daytime_conf),
};
