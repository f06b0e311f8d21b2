/*
 * chat: greets, and passes each line of one on to everyone else on any
 * listener of the service, as "PEER: line".
 */
#include <sys/types.h>

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <kquay.h>

#include "service.h"

struct chat_conf {
	struct service_conf base;
	char *welcome;
};

#define OFFSET(member) offsetof(struct chat_conf, member)
#define PREFIX_MAX 160 /* of "PEER: " */

static int
chat_open(struct kquay_conn *c)
{
	const struct chat_conf *conf;

	conf = (const struct chat_conf *)service_conf_of(kquay_of(c));
	if (*conf->welcome == '\0')
		return 0;
	return kquay_printf(c, "%s\n", conf->welcome);
}

static void
chat_line(struct kquay_conn *c, char *text, size_t len)
{
	struct kquay_conn *other;
	char prefix[PREFIX_MAX];

	snprintf(prefix, sizeof(prefix), "%s: ", kquay_peer(c));
	KQUAY_FOREACH(other, kquay_of(c)) {
		if (other == c)
			continue;
		/* Who cannot be written to is ended by the first call. */
		if (kquay_puts(other, prefix) == 0 &&
		    kquay_write(other, text, len) == 0)
			kquay_puts(other, "\n");
	}
}

/* What is larger than max-output could never be sent. */
static int
chat_check(struct service_conf *conf, char *why, size_t whysz)
{
	const struct chat_conf *chat = (const struct chat_conf *)conf;

	if (conf->max_output < conf->max_line + PREFIX_MAX) {
		snprintf(why, whysz,
		    "max-output: must be larger than max-line by %d or more",
		    PREFIX_MAX);
		return -1;
	}
	if (conf->max_output <= strlen(chat->welcome)) {
		snprintf(why, whysz, "max-output: must be larger than welcome");
		return -1;
	}
	return 0;
}

static const struct kquay_ops chat_ops = {
	.open = chat_open,
	.line = chat_line,
};

static const struct setting chat_settings[] = {
	{ .name = "welcome",
	    .letter = 'w',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(welcome),
	    .max = TEXT_MAX,
	    .def = "welcome!",
	    .arg = "TEXT",
	    .help = "line for who comes; \"\": none" },
	{ .name = "refusal",
	    .letter = 'r',
	    .type = SETTING_TEXT,
	    .offset = OFFSET(base.refusal),
	    .max = TEXT_MAX,
	    .def = "connection refused",
	    .arg = "TEXT",
	    .help = "line for who is refused; \"\": none" },
	{ .name = "max-line",
	    .type = SETTING_SIZE,
	    .offset = OFFSET(base.max_line),
	    .min = 80,
	    .max = 1 << 24,
	    .def = "8k",
	    .arg = "SIZE",
	    .help = "drop who sends a longer line" },
	{ .name = "max-output",
	    .type = SETTING_SIZE,
	    .offset = OFFSET(base.max_output),
	    .min = 1024,
	    .max = 1 << 30,
	    .def = "1M",
	    .arg = "SIZE",
	    .help = "drop who leaves more than this unread" },
	{ .name = NULL }
};

const struct service_handler service_chat = {
	.name = "chat",
	.help = "pass each line on to everyone else",
	.ops = &chat_ops,
	.settings = chat_settings,
	.check = chat_check,
	.confsz = sizeof(struct chat_conf),
};
