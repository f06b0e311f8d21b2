/*
 * rooms: a chat with rooms, plain or with TLS.
 *
 *	rooms [port [certificate.pem]]
 *
 * nc localhost 6697, or openssl s_client -quiet -connect localhost:6697.  The
 * first line is who you are; then "/join ROOM", "/who", "/quit", and whatever
 * else you have to say to those in your room.
 */
#include <err.h>
#include <stdio.h>
#include <string.h>

#include <kquay.h>

struct user {
	char name[32], room[32];
};

static void
tell(struct kquay_conn *c, const char *what, const char *text)
{
	struct user *from = kquay_udata(c), *u;
	struct kquay_conn *o;

	KQUAY_FOREACH(o, kquay_of(c)) {
		u = kquay_udata(o);
		if (o != c && strcmp(u->room, from->room) == 0)
			kquay_printf(o, "%s%s%s\n", from->name, what, text);
	}
}

static void
join(struct kquay_conn *c, const char *room)
{
	struct user *u = kquay_udata(c);

	if (u->room[0] != '\0')
		tell(c, " leaves", "");
	snprintf(u->room, sizeof(u->room), "%s", room);
	tell(c, " enters", "");
	kquay_printf(c, "you are in %s\n", u->room);
}

static void
who(struct kquay_conn *c)
{
	struct user *me = kquay_udata(c), *u;
	struct kquay_conn *o;

	KQUAY_FOREACH(o, kquay_of(c)) {
		u = kquay_udata(o);
		if (strcmp(u->room, me->room) == 0)
			kquay_printf(c, "%s from %s\n", u->name, kquay_peer(o));
	}
}

static void
say(struct kquay_conn *c, char *text, size_t len)
{
	if (strncmp(text, "/join ", 6) == 0 && len > 6)
		join(c, text + 6);
	else if (strcmp(text, "/who") == 0)
		who(c);
	else if (strcmp(text, "/quit") == 0)
		kquay_close(c);
	else if (text[0] == '/')
		kquay_puts(c, "/join ROOM, /who or /quit\n");
	else
		tell(c, ": ", text);
}

static void
leave(struct kquay_conn *c, enum kquay_why why)
{
	(void)why;
	tell(c, " has gone", "");
}

/* What a connection does once it has a name. */
static const struct kquay_ops chatting = { .line = say, .close = leave };

static void
enter(struct kquay_conn *c, char *name, size_t len)
{
	struct user *u = kquay_udata(c);

	if (len == 0 || len >= sizeof(u->name)) {
		kquay_puts(c, "a shorter name, please: ");
		return;
	}
	memcpy(u->name, name, len + 1);
	kquay_setops(c, &chatting);
	join(c, "lobby");
}

static int
ask(struct kquay_conn *c)
{
	return kquay_puts(c, "your name: ");
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .open = ask, .line = enter };
	struct kquay_conf conf = { .maxconn = 1000,
		.maxperaddr = 20,
		.inmax = 512,
		.udatasz = sizeof(struct user),
		.idle = 3600 * 1000,
		.refusal = "full\n" };
	struct kquay_cert cert = { .chain = argc > 2 ? argv[2] : NULL };
	struct kquay_tls_conf policy = { .certs = &cert, .ncerts = 1 };
	struct kquay *q = kquay_new(&ops, &conf);
	struct kquay_tls *tls;
	char error[256];

	if (q == NULL)
		err(1, "kquay_new");
	if (cert.chain != NULL) {
		tls = kquay_tls_new(&policy, error, sizeof(error));
		if (tls == NULL)
			errx(1, "%s", error);
		if (kquay_tls(q, tls) == -1)
			err(1, "kquay_tls");
		kquay_tls_free(tls);
	}
	if (kquay_listen(q, NULL, argc > 1 ? argv[1] : "6697") == -1)
		errx(1, "%s", kquay_error(q));
	return kquay_run(q) == -1;
}
