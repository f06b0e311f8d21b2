/*
 * Confinement: once everything is open the process gives up what it will not
 * need again, and cannot take it back.
 *
 * What it keeps is collected in a struct sandbox: folders rather than files,
 * for a file that is replaced while we run is another one in the same folder.
 * Running programs for others cannot be confined so: they would inherit it.
 *
 * sandbox_linux.c, sandbox_bsd.c or sandbox_none.c is compiled, as
 * meson.build finds.
 */
#ifndef KQUAY_SANDBOX_H
#define KQUAY_SANDBOX_H

#include <stddef.h>
#include <stdint.h>

#include "service.h"
#include "words.h"

enum sandbox_mode {
	SANDBOX_OFF,
	SANDBOX_ON,     /* as far as the system can */
	SANDBOX_REQUIRE /* all of it, or do not start */
};

/* Real paths of folders; of files where the folder would be too much. */
struct sandbox {
	struct words read;
	struct words sockets; /* UNIX sockets are made and removed there */
	struct words write;   /* files are made there */
	struct words calls;   /* UNIX sockets there are connected to */
	int programs;         /* runs programs of others */
	int root;             /* becomes other users for them */
	int secrets;          /* has keys in its memory */
	int heir;             /* begun by another, which is confined as well */
	uint64_t filter;      /* what that one had; then what there is */
};

/*
 * To be able to read path, to make the UNIX socket path, to write to path, to
 * connect to the UNIX socket path, now or later.  0, or -1 with errno and s as
 * it was.
 */
int sandbox_file(struct sandbox *s, const char *path);
int sandbox_socket(struct sandbox *s, const char *path);
int sandbox_output(struct sandbox *s, const char *path);
int sandbox_call(struct sandbox *s, const char *path);

/* All that these services need.  0, or -1 with errno. */
int sandbox_services(struct sandbox *s, const struct service_conf_list *list);

/*
 * Is all that s asks for within what sandbox_enter() has allowed?  0; or -1
 * and why, a line: "/srv/x: not in a folder that ...".  Before sandbox_enter()
 * everything is.
 */
int sandbox_check(const struct sandbox *s, char *why, size_t whysz);

/*
 * Confine the process to what s has; from the only thread there is.  0, or -1
 * and why.  With SANDBOX_ON what the system cannot do is left out.  s is taken
 * over, and empty then.
 */
int sandbox_enter(struct sandbox *s, enum sandbox_mode mode, char *why,
    size_t whysz);

/*
 * Something failed by error: if that may be for the sandbox, append so to why,
 * a phrase.
 */
void sandbox_explain(int error, char *why, size_t whysz);

/*
 * What filters our system calls: a number that is another for another filter,
 * or 0 if there is none.  One that a new program has inherited is not put on
 * top of itself, which would fail after some hundred times.
 */
uint64_t sandbox_filter(void);

/* What confines us, such as "seccomp, Landlock 3"; or "none", and why. */
const char *sandbox_state(void);

/*
 * From now on no memory of ours is written to a core file, nor seen by a
 * debugger that is not root's: there are keys in it.
 */
void sandbox_keep_secrets(void);

void sandbox_free(struct sandbox *s);

/*
 * The system's part of sandbox_enter(), told that s has no programs: state is
 * what sandbox_state() is to return, s->filter what sandbox_filter() is.  0; or
 * -1 and why if it had to leave out something, after all the rest was done.
 */
int sandbox_confine(struct sandbox *s, char *state, size_t statesz, char *why,
    size_t whysz);

#endif
