/*
 * echo (RFC 862): every byte goes back.  A peer that does not read is not
 * read from, and one that has sent its last byte still gets all of them.
 */
#include <sys/types.h>

#include <kquay.h>

#include "service.h"

static ssize_t
echo_input(struct kquay_conn *c, char *data, size_t len)
{
	return kquay_write(c, data, len) == -1 ? -1 : (ssize_t)len;
}

static const struct kquay_ops echo_ops = {
	.input = echo_input,
};

static const struct setting echo_settings[] = { { .name = NULL } };

const struct service_handler service_echo = {
	.name = "echo",
	.help = "send every byte back",
	.ops = &echo_ops,
	.settings = echo_settings,
	.confsz = sizeof(struct service_conf),
};
