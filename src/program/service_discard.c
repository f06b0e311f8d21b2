/*
 * discard (RFC 863): reads everything and answers nothing.
 */
#include <sys/types.h>

#include <kquay.h>

#include "service.h"

static ssize_t
discard_input(struct kquay_conn *c, char *data, size_t len)
{
	return (ssize_t)len;
}

static const struct kquay_ops discard_ops = {
	.input = discard_input,
};

static const struct setting discard_settings[] = { { .name = NULL } };

const struct service_handler service_discard = {
	.name = "discard",
	.help = "read and drop every byte",
	.ops = &discard_ops,
	.settings = discard_settings,
	.confsz = sizeof(struct service_conf),
};
