/*
 * notes: keeps a note for each user of this machine.
 *
 *	notes [path]			then: nc -U /run/notes
 *
 * Who asks is what the system says about the other end of the socket: there
 * is no password, and nobody can be somebody else.  "put TEXT", "get"; and
 * for root or the user who runs it "list".
 */
#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

enum { USERS = 100, LONGEST = 1000 };

static struct note {
	uid_t uid;
	char text[LONGEST + 1];
} notes[USERS];
static int nnotes;

static struct note *
find(uid_t uid)
{
	int i;

	for (i = 0; i < nnotes; i++)
		if (notes[i].uid == uid)
			return &notes[i];
	if (nnotes == USERS)
		return NULL;
	notes[nnotes].uid = uid;
	return &notes[nnotes++];
}

static void
list(struct kquay_conn *c)
{
	int i;

	for (i = 0; i < nnotes; i++)
		kquay_printf(c, "%u %s\n", (unsigned)notes[i].uid,
		    notes[i].text);
}

static void
request(struct kquay_conn *c, char *text, size_t len)
{
	struct note *note = *(struct note **)kquay_udata(c);

	if (strncmp(text, "put ", 4) == 0 && len - 4 <= LONGEST) {
		memcpy(note->text, text + 4, len - 4 + 1);
		kquay_puts(c, "ok\n");
	} else if (strcmp(text, "get") == 0)
		kquay_printf(c, "%s\n", note->text);
	else if (strcmp(text, "list") == 0 &&
	    (note->uid == 0 || note->uid == getuid()))
		list(c);
	else
		kquay_puts(c, "no\n");
}

/* Nobody gets in whom the system does not know. */
static int
authenticate(struct kquay_conn *c)
{
	struct note **note = kquay_udata(c);
	uid_t uid;
	gid_t gid;
	pid_t pid;

	if (kquay_peercred(c, &uid, &gid, &pid) == -1 ||
	    (*note = find(uid)) == NULL)
		return -1;
	printf("user %u, process %d\n", (unsigned)uid, (int)pid);
	fflush(stdout);
	return kquay_printf(c, "hello %u\n", (unsigned)uid);
}

int
main(int argc, char *argv[])
{
	struct kquay_ops ops = { .open = authenticate, .line = request };
	struct kquay_conf conf = { .maxconn = 200,
		.udatasz = sizeof(struct note *),
		.idle = 60 * 1000 };
	struct kquay *q = kquay_new(&ops, &conf);

	if (q == NULL)
		err(1, "kquay_new");
	if (kquay_listen_unix(q, argc > 1 ? argv[1] : "/run/notes", 0666) == -1)
		errx(1, "%s", kquay_error(q));
	return kquay_run(q) == -1;
}
