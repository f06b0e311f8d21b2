/*
 * PROC and PROCDESC: the end of children, before and after they are reaped
 * (R-PROC-01, 04 to 06, 09, 15, R-PDESC-01, R-FD-06, R-FD-07).
 */
#include <sys/syscall.h>
#include <sys/wait.h>

#include <err.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "model.h"

#define KIDS 2
#define MOST 6 /* in one input: a fork() takes its time */

struct kid {
	pid_t pid; /* 0: none */
	int go;    /* the child reads its status from it */
	int pidfd; /* -1: none */
	int status;
	bool ended, reaped;
	bool told; /* it was reaped before anybody looked: nobody may know */
	struct knote proc, desc;
};

static struct kid kids[KIDS];
static int born;

static enum truth
kid_truth(const struct knote *k)
{
	const struct kid *kid = k->k_of;

	return kid->ended ? YES : NO;
}

static void
kid_check(struct knote *k, const struct kevent *ev)
{
	const struct kid *kid = k->k_of;
	unsigned int also = NOTE_EXITSTATUS;

	if (k->k_forced && ev->fflags == 0)
		return;
	if ((ev->fflags & ~also) != NOTE_EXIT || (ev->flags & EV_EOF) == 0)
		fail("a child's end: fflags %#x, flags %#x", ev->fflags,
		    ev->flags);
	if (ev->data != kid->status && (ev->data != 0 || !kid->told))
		fail("a child's end: data %jd, expected %d", (intmax_t)ev->data,
		    kid->status);
	k->k_flags |= EV_ONESHOT;
}

static const struct kind kind_proc = { EVFILT_PROC, EV_CLEAR, EV_ONESHOT, STATE,
	false, kid_truth, kid_check };
static const struct kind kind_desc = { EVFILT_PROCDESC, EV_CLEAR, EV_ONESHOT,
	STATE, false, kid_truth, kid_check };

/* It keeps nothing of ours open but what it reads its status from. */
static void
child(int go)
{
	char status;

	syscall(SYS_dup3, go, STDIN_FILENO, 0);
	syscall(SYS_close_range, 3, ~0u, 0);
	_exit(read(STDIN_FILENO, &status, 1) == 1 ? status : 255);
}

static void
bear(struct kid *kid)
{
	int fds[2], ready[2];
	ssize_t r;
	char none;

	if (kid->pid != 0 || kid->proc.k_exists || ++born > MOST)
		return;
	if (pipe(fds) == -1 || pipe(ready) == -1 || (kid->pid = fork()) == -1)
		err(1, "fork");
	if (kid->pid == 0)
		child(fds[0]);
	close(fds[0]);
	kid->go = fds[1];
	close(ready[1]);
	while ((r = read(ready[0], &none, 1)) == -1 && errno == EINTR)
		continue;
	if (r != 0)
		fail("the child says something");
	close(ready[0]);
	kid->ended = kid->reaped = kid->told = false;
	kid->pidfd = (int)syscall(SYS_pidfd_open, kid->pid, 0);
	if (kid->pidfd == -1)
		err(77, "pidfd_open");
	kid->proc.k_ident = (uintptr_t)kid->pid;
	kid->desc.k_ident = (uintptr_t)kid->pidfd;
}

/* It is a zombie when that returns. */
static void
end(struct kid *kid, char status)
{
	siginfo_t si;

	if (kid->pid == 0 || kid->ended)
		return;
	if (status < 64) {
		if (write(kid->go, &status, 1) != 1)
			err(1, "write");
		kid->status = status << 8;
	} else {
		kill(kid->pid, SIGKILL);
		kid->status = SIGKILL;
	}
	close(kid->go);
	while (waitid(P_PID, (id_t)kid->pid, &si, WEXITED | WNOWAIT) == -1)
		if (errno != EINTR) /* libFuzzer has an alarm clock */
			err(1, "waitid");
	kid->ended = true;
}

static void
reap(struct kid *kid)
{
	int status;

	if (kid->pid == 0 || !kid->ended || kid->reaped)
		return;
	if (waitpid(kid->pid, &status, 0) != kid->pid || status != kid->status)
		fail("waitpid() says %d, expected %d", status, kid->status);
	kid->reaped = kid->told = true;
}

/* It is gone; its knote, which has its end to tell, stays. */
static void
bury(struct kid *kid)
{
	end(kid, 0);
	reap(kid);
	if (kid->pidfd != -1)
		close(kid->pidfd);
	kid->pidfd = -1;
	forget(&kid->desc);
	kid->pid = 0;
}

static void
change_proc(struct kid *kid)
{
	static const unsigned int fflags[] = { NOTE_EXIT,
		NOTE_EXIT | NOTE_EXITSTATUS };
	unsigned int flags = choose_flags();

	if (kid->pid != 0 || kid->proc.k_exists)
		change(&kid->proc, flags, fflags[choose(2)], 0,
		    kid->reaped && !kid->proc.k_exists ? ESRCH : 0);
}

static void
change_desc(struct kid *kid)
{
	unsigned int flags = choose_flags();

	if (kid->pid != 0 && !kid->reaped)
		change(&kid->desc, flags, NOTE_EXIT, 0, 0);
}

static void
proc_operate(void)
{
	struct kid *kid = &kids[choose(KIDS)];

	switch (choose(8)) {
	case 0:
		bear(kid);
		break;
	case 1:
	case 2:
		change_proc(kid);
		break;
	case 3:
	case 4:
		change_desc(kid);
		break;
	case 5:
		end(kid, (char)choose(80));
		break;
	case 6:
		reap(kid);
		break;
	case 7:
		if (choose(4) == 0)
			bury(kid);
		break;
	}
}

static void
proc_open(void)
{
	struct kid *kid;

	born = 0;
	for (kid = kids; kid < kids + KIDS; kid++) {
		*kid = (struct kid){ .pidfd = -1 };
		know(&kid->proc, &kind_proc, kq, 1 << 30, kid);
		know(&kid->desc, &kind_desc, kq, 1 << 20, kid);
	}
}

static void
proc_close(void)
{
	struct kid *kid;

	for (kid = kids; kid < kids + KIDS; kid++)
		if (kid->pid != 0)
			bury(kid);
}

const struct part part_proc = { proc_open, proc_operate, proc_close, NULL };
