/*
 * libuv as its guide has it: a buffer for each read, a request for each
 * write.  -n: one static buffer, and uv_try_write first.
 */
#include "echo.h"

#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct request {
	uv_write_t req; /* first: what libuv hands back */
	uv_buf_t buf;
};

union stream {
	uv_handle_t handle;
	uv_stream_t stream;
	uv_tcp_t tcp;
	uv_pipe_t pipe;
};

static int is_unix;

static void
on_close(uv_handle_t *h)
{
	free(h);
}

static void
on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	if (echo_flag_n)
		*buf = uv_buf_init(echo_buf, sizeof(echo_buf));
	else
		*buf = uv_buf_init(malloc(suggested), (unsigned int)suggested);
}

static void
on_written(uv_write_t *req, int status)
{
	struct request *r = (struct request *)req;

	free(r->buf.base);
	free(r);
}

static void
write_later(uv_stream_t *s, char *bytes, size_t len)
{
	struct request *r;

	r = malloc(sizeof(*r));
	if (r == NULL)
		err(1, "malloc");
	r->buf = uv_buf_init(bytes, (unsigned int)len);
	uv_write(&r->req, s, &r->buf, 1, on_written);
}

static void
answer(uv_stream_t *s, const uv_buf_t *in, size_t len)
{
	uv_buf_t buf;
	char *rest;
	int sent;

	if (!echo_flag_n) {
		write_later(s, in->base, len);
		return;
	}
	buf = uv_buf_init(in->base, (unsigned int)len);
	sent = uv_try_write(s, &buf, 1);
	if (sent < 0)
		sent = 0;
	len -= (size_t)sent;
	if (len == 0)
		return;
	rest = malloc(len);
	if (rest == NULL)
		err(1, "malloc");
	memcpy(rest, in->base + sent, len);
	write_later(s, rest, len);
}

static void
on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	if (n > 0) {
		answer(s, buf, (size_t)n);
		return;
	}
	if (n < 0)
		uv_close((uv_handle_t *)s, on_close);
	if (!echo_flag_n)
		free(buf->base);
}

static union stream *
new_stream(uv_loop_t *loop)
{
	union stream *s;

	s = malloc(sizeof(*s));
	if (s == NULL)
		err(1, "malloc");
	if (is_unix)
		uv_pipe_init(loop, &s->pipe, 0);
	else
		uv_tcp_init(loop, &s->tcp);
	return s;
}

static void
on_caller(uv_stream_t *server, int status)
{
	union stream *s;

	if (status < 0)
		return;
	s = new_stream(server->loop);
	if (uv_accept(server, &s->stream) == 0)
		uv_read_start(&s->stream, on_alloc, on_read);
	else
		uv_close(&s->handle, on_close);
}

int
main(int argc, char *argv[])
{
	union stream *server;
	uv_loop_t *loop = uv_default_loop();
	int fd, rc;

	is_unix = strncmp(argv[argc - 1], "unix:", 5) == 0;
	fd = echo_listen(argc, argv);
	server = new_stream(loop);
	rc = is_unix ? uv_pipe_open(&server->pipe, fd) :
		       uv_tcp_open(&server->tcp, fd);
	if (rc == 0)
		rc = uv_listen(&server->stream, 4096, on_caller);
	if (rc != 0)
		errx(1, "%s", uv_strerror(rc));
	echo_ready();
	return uv_run(loop, UV_RUN_DEFAULT);
}
