/* The server library: every call fails with ENOSYS for now. */
#include <kquay.h>

#include <errno.h>

#define NONE(type, proto, value) \
	type proto \
	{ \
		errno = ENOSYS; \
		return value; \
	}
NONE(struct kquay *, kquay_new(const struct kquay_ops *o, const struct kquay_conf *c), NULL)
NONE(int, kquay_listen(struct kquay *q, const char *h, const char *p), -1)
NONE(int, kquay_listen_unix(struct kquay *q, const char *p, mode_t m), -1)
NONE(int, kquay_listen_fd(struct kquay *q, int fd), -1)
NONE(const char *, kquay_listening(const struct kquay *q, unsigned n), NULL)
NONE(int, kquay_run(struct kquay *q), -1)
NONE(int, kquay_step(struct kquay *q, int ms), -1)
NONE(int, kquay_fd(const struct kquay *q), -1)
NONE(int, kquay_due(struct kquay *q), -1)
NONE(int, kquay_done(const struct kquay *q), 1)
NONE(const char *, kquay_error(const struct kquay *q), "")
NONE(int, kquay_write(struct kquay_conn *c, const void *d, size_t n), -1)
NONE(int, kquay_puts(struct kquay_conn *c, const char *s), -1)
NONE(int, kquay_printf(struct kquay_conn *c, const char *f, ...), -1)
NONE(int, kquay_vprintf(struct kquay_conn *c, const char *f, va_list ap), -1)
NONE(void *, kquay_udata(struct kquay_conn *c), NULL)
NONE(struct kquay *, kquay_of(const struct kquay_conn *c), NULL)
NONE(const char *, kquay_peer(struct kquay_conn *c), "")
NONE(const struct sockaddr *, kquay_peeraddr(const struct kquay_conn *c, socklen_t *n), NULL)
NONE(size_t, kquay_pending(const struct kquay_conn *c), 0)
NONE(uint64_t, kquay_id(const struct kquay_conn *c), 0)
NONE(struct kquay_conn *, kquay_find(struct kquay *q, uint64_t id), NULL)
NONE(struct kquay_conn *, kquay_next(struct kquay *q, const struct kquay_conn *c), NULL)
NONE(const char *, kquay_whystr(enum kquay_why why), "?")
NONE(struct kquay_conn *, kquay_adopt(struct kquay *q, int fd, const struct kquay_ops *o), NULL)
NONE(int, kquay_watch(struct kquay *q, const struct kevent *c, kquay_watch_fn *fn, void *a), -1)
NONE(int, kquay_post(struct kquay *q, kquay_post_fn *fn, void *a), -1)
NONE(void, kquay_free(struct kquay *q), )
NONE(void, kquay_stop(struct kquay *q), )
NONE(void, kquay_stats(const struct kquay *q, struct kquay_stat *st), )
NONE(void, kquay_close(struct kquay_conn *c), )
NONE(void, kquay_abort(struct kquay_conn *c), )
NONE(void, kquay_pause(struct kquay_conn *c, int on), )
NONE(void, kquay_timeout(struct kquay_conn *c, int i, int l), )
NONE(void, kquay_setops(struct kquay_conn *c, const struct kquay_ops *o), )
