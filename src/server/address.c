/* Addresses, as text and otherwise, and who is behind them. */
#include "server.h"
#include "os.h"
#include "proxy_header.h"

#include <sys/un.h>

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

/*
 * "192.0.2.1:4711", "[2001:db8::1]:80", "unix:PATH"; "unix:" and "?" where
 * there is no more to say.
 */
void
kquay_addr_text(const struct sockaddr *sa, socklen_t salen, char *buf,
    size_t size)
{
	const struct sockaddr_un *sun = (const void *)sa;
	char host[INET6_ADDRSTRLEN + 32], port[8];
	size_t len;

	switch (sa->sa_family) {
	case AF_INET:
	case AF_INET6:
		if (getnameinfo(sa, salen, host, sizeof(host), port,
			sizeof(port), NI_NUMERICHOST | NI_NUMERICSERV) != 0)
			break;
		snprintf(buf, size,
		    sa->sa_family == AF_INET ? "%s:%s" : "[%s]:%s", host, port);
		return;
	case AF_UNIX:
		len = salen > offsetof(struct sockaddr_un, sun_path) ?
		    salen - offsetof(struct sockaddr_un, sun_path) :
		    0;
		/* A name that begins with NUL is one of no file system. */
		if (len > 0 && sun->sun_path[0] == '\0')
			snprintf(buf, size, "unix:@%.*s", (int)len - 1,
			    sun->sun_path + 1);
		else
			snprintf(buf, size, "unix:%.*s", (int)len,
			    sun->sun_path);
		return;
	}
	snprintf(buf, size, "?");
}

const char *
kquay_peer(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	struct peer_text *t;
	uid_t uid;
	gid_t gid;
	pid_t pid;

	if (kquay_pool_dial(c) != NULL)
		return kquay_dial_text(c);
	for (t = q->peers; t < q->peers + 4; t++)
		if (t->id == c->id)
			return t->text;
	t = &q->peers[q->peers_turn++ % 4];
	/* Before open() it may still change. */
	t->id = c->state == CONN_DIAL || c->state == CONN_SHAKE ? 0 : c->id;
	if (c->peer.sa.sa_family == AF_INET || c->peer.sa.sa_family == AF_INET6)
		kquay_addr_text(&c->peer.sa, sizeof(c->peer), t->text,
		    sizeof(t->text));
	else if (c->peer.sa.sa_family != AF_UNIX)
		snprintf(t->text, sizeof(t->text), "fd:%d", c->fd);
	else if (kquay_peercred(c, &uid, &gid, &pid) == -1)
		snprintf(t->text, sizeof(t->text), "unix:");
	else if (pid > 0)
		snprintf(t->text, sizeof(t->text), "unix:%u/%d", (unsigned)uid,
		    (int)pid);
	else
		snprintf(t->text, sizeof(t->text), "unix:%u", (unsigned)uid);
	return t->text;
}

const struct sockaddr *
kquay_peeraddr(const struct kquay_conn *c, socklen_t *salen)
{
	switch (c->peer.sa.sa_family) {
	case AF_INET:
		*salen = sizeof(c->peer.in4);
		break;
	case AF_INET6:
		*salen = sizeof(c->peer.in6);
		break;
	default:
		*salen = offsetof(struct sockaddr, sa_data);
	}
	return &c->peer.sa;
}

socklen_t
kquay_localaddr(const struct kquay_conn *c, struct sockaddr_storage *ss)
{
	socklen_t salen = sizeof(*ss);
	struct proxy p;

	memset(ss, 0, sizeof(*ss));
	if (!kquay_proxy_told(c, &p)) {
		if (getsockname(c->fd, (struct sockaddr *)ss, &salen) == -1)
			return 0;
		return salen;
	}
	memcpy(ss, &p.dst, sizeof(p.dst));
	switch (p.dst.sa.sa_family) {
	case AF_INET:
		return sizeof(p.dst.in4);
	case AF_INET6:
		return sizeof(p.dst.in6);
	default:
		return sizeof(p.dst.un);
	}
}

int
kquay_peercred(const struct kquay_conn *c, uid_t *uid, gid_t *gid, pid_t *pid)
{
	struct proxy p;

	if (c->peer.sa.sa_family != AF_UNIX) {
		errno = EOPNOTSUPP;
		return -1;
	}
	if (kquay_proxy_told(c, &p))
		return kquay_proxy_cred(&p, uid, gid, pid);
	return kquay_os_peer(c->fd, uid, gid, pid);
}
