/*
 * Whatever fails inside a call, nothing is half done: the Nth allocation or
 * system call of each operation on each kind of knote fails, for every N, in
 * every way that it can, once or from then on.
 *
 * After each of them the error is the one that occurred, or stands for it; the
 * knote is there as a whole or not at all; the queue works; what is tried again
 * succeeds; no event is lost; and when the queue is closed, no descriptor and
 * no block of memory is left.
 */
#include <sys/event.h>
#include <sys/wait.h>

#include <check.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "inject.h"
#include "kinds.h"

#define DEADLINE_S 20

static int kq;
static const struct kind *kind;
static struct fault fault;
static struct injected injected;
static const char *operation;

static void
broken(int line, const char *what)
{
	ck_abort_msg("line %d: %s, %s: call %u: %s fails (%s, %s): %s", line,
	    kind == NULL ? "no knote" : kind->k_name, operation, fault.f_nth,
	    injected.i_call == NULL ? "nothing" : injected.i_call,
	    injected.i_call == NULL ? "" : strerror(injected.i_error),
	    fault.f_lasting ? "lasting" : "once", what);
}

/* Unlike ck_assert() it allocates nothing: what is allocated is counted. */
#define must(condition)                                                        \
	do {                                                                   \
		if (!(condition))                                              \
			broken(__LINE__, #condition);                          \
	} while (0)

/* Do it with the fault in place. */
#define FAULTY(call)                                                           \
	do {                                                                   \
		inject_arm(&fault);                                            \
		call;                                                          \
		injected = inject_disarm();                                    \
	} while (0)

static int
open_descriptors(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	must(d != NULL);
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

/* -- calls ----------------------------------------------------------------- */

static struct kevent
change_of(unsigned short flags)
{
	struct kevent ev;

	EV_SET(&ev, kind_ident, kind->k_filter, flags, kind->k_fflags,
	    kind->k_data, &kind_ident);
	if (flags & EV_ADD)
		ev.flags |= kind->k_flags;
	if (kind->k_ext)
		ev.ext[2] = 2;
	return ev;
}

/* 0 or an errno value. */
static int
change(unsigned short flags)
{
	struct kevent ev = change_of(flags);

	return kevent(kq, &ev, 1, NULL, 0, NULL) == -1 ? errno : 0;
}

/* Events that have come since the operation began. */
static bool knote_came, probe_came;

#define PROBE 1000 /* a user event that shows that the queue works */

static void
look_at(const struct kevent *ev, int n)
{
	for (; n > 0; n--, ev++) {
		if (ev->ident == PROBE)
			probe_came = true;
		if (kind == NULL || ev->ident != kind_ident ||
		    ev->filter != kind->k_filter)
			continue;
		must(ev->udata == &kind_ident);
		must(!kind->k_ext || ev->ext[2] == 2);
		knote_came = true;
	}
}

static void
comes(const bool *came)
{
	struct timespec now, end, rest = { .tv_nsec = 100000000 };
	struct kevent ev[8];
	int n;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DEADLINE_S;
	for (now = end; !*came; clock_gettime(CLOCK_MONOTONIC, &now)) {
		must(now.tv_sec <= end.tv_sec);
		n = kevent(kq, NULL, 0, ev, 8, &rest);
		must(n >= 0 || errno == EINTR);
		look_at(ev, n);
	}
}

static void
queue_works(void)
{
	struct kevent ev;

	EV_SET(&ev, PROBE, EVFILT_USER, EV_ADD | EV_ONESHOT, NOTE_TRIGGER, 0,
	    NULL);
	must(kevent(kq, &ev, 1, NULL, 0, NULL) == 0);
	probe_came = false;
	comes(&probe_came);
}

/* What may stand for a failure in the words of kqueue(2). */
static bool
stands_for(int error, int cause)
{
	switch (cause) {
	case ENOSPC:
		return error == ENOMEM;
	case ENOENT:
	case EACCES:
	case ENOSYS:
	case EPERM:
	case ENOBUFS:
	case EPROTONOSUPPORT:
		return error == ENOTSUP || error == ENOMEM || error == cause;
	default:
		return error == cause;
	}
}

static void
right_error(int error)
{
	must(error == 0 ||
	    (injected.i_call != NULL && stands_for(error, injected.i_error)));
}

/* -- operations ------------------------------------------------------------ */

static void
fire(void)
{
	if (kind->k_fire != NULL)
		kind->k_fire();
}

/* The knote is there and works. */
static void
is_whole(void)
{
	if (!knote_came)
		fire();
	comes(&knote_came);
}

static void
is_absent(void)
{
	must(change(EV_DELETE) == ENOENT);
}

static void
add(unsigned short more)
{
	int error;

	FAULTY(error = change(EV_ADD | more));
	right_error(error);
	queue_works();
	if (error != 0) {
		is_absent();
		must(change(EV_ADD | more) == 0);
	}
	if (more & EV_DISABLE)
		must(change(EV_ENABLE) == 0);
	is_whole();
}

static void
do_add(void)
{
	add(0);
}

static void
do_add_disabled(void)
{
	add(EV_DISABLE);
}

/* With what it says of it: an answer for each change. */
static void
do_list(void)
{
	struct kevent list[3], answers[4];
	struct timespec none = { .tv_sec = 0 };
	int n, error;

	EV_SET(&list[0], 500, EVFILT_USER, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	list[1] = change_of(EV_ADD | EV_RECEIPT);
	EV_SET(&list[2], 501, EVFILT_USER, EV_ADD | EV_RECEIPT, 0, 0, NULL);
	FAULTY(n = kevent(kq, list, 3, answers, 4, &none));
	must(n == 3);
	for (n = 0; n < 3; n++) {
		must(answers[n].ident == list[n].ident);
		must(answers[n].flags == EV_ERROR);
		right_error((int)answers[n].data);
	}
	queue_works();
	error = (int)answers[1].data;
	for (n = 0; n < 3; n++) {
		list[n].flags = EV_DELETE;
		if (n != 1)
			must((kevent(kq, &list[n], 1, NULL, 0, NULL) == 0) ==
			    (answers[n].data == 0));
	}
	if (error != 0) {
		is_absent();
		must(change(EV_ADD) == 0);
	}
	is_whole();
}

/* A change of a knote: if it is refused, the knote is as it was. */
static void
change_again(unsigned short flags)
{
	int error;

	must(change(EV_ADD) == 0);
	FAULTY(error = change(flags));
	right_error(error);
	queue_works();
	if (error != 0 && (flags & EV_FORCEONESHOT) == 0)
		must(change(flags) == 0);
	is_whole();
}

static void
do_add_again(void)
{
	change_again(EV_ADD);
}

static void
do_add_clear(void)
{
	change_again(EV_ADD | EV_CLEAR);
}

/* Other notes, and if that is refused, those from before. */
static void
do_other_notes(void)
{
	struct kevent ev;
	int error;

	must(change(EV_ADD) == 0);
	ev = change_of(EV_ADD);
	ev.fflags = kind->k_other;
	FAULTY(error = kevent(kq, &ev, 1, NULL, 0, NULL) == -1 ? errno : 0);
	right_error(error);
	queue_works();
	if (error == 0)
		must(change(EV_ADD) == 0);
	is_whole();
}

static void
do_force(void)
{
	change_again(EV_FORCEONESHOT);
}

static void
do_enable(void)
{
	int error;

	must(change(EV_ADD | EV_DISABLE) == 0);
	FAULTY(error = change(EV_ENABLE));
	right_error(error);
	queue_works();
	if (error != 0)
		must(change(EV_ENABLE) == 0);
	is_whole();
}

/* Disabled while it is active, and enabled again. */
static void
do_disable(void)
{
	int error;

	must(change(EV_ADD) == 0);
	FAULTY(error = change(EV_DISABLE));
	must(error == 0);
	fire();
	queue_works();
	FAULTY(error = change(EV_ENABLE));
	right_error(error);
	if (error != 0)
		must(change(EV_ENABLE) == 0);
	comes(&knote_came);
}

static void
do_delete(void)
{
	int error;

	must(change(EV_ADD) == 0);
	FAULTY(error = change(EV_DELETE));
	must(error == 0);
	is_absent();
	must(change(EV_ADD) == 0);
	is_whole();
}

/* No failure costs an event: it is returned, or is by the next call. */
static void
collect(const struct timespec *timeout)
{
	struct kevent ev[8];
	int n, error;

	must(change(EV_ADD) == 0);
	fire();
	FAULTY(n = kevent(kq, NULL, 0, ev, 8, timeout); error = errno);
	if (n == -1)
		right_error(error);
	look_at(ev, n);
	comes(&knote_came);
	queue_works();
}

static void
do_poll(void)
{
	static const struct timespec none;

	collect(&none);
}

static void
do_wait(void)
{
	static const struct timespec some = { .tv_nsec = 1500000 };

	collect(&some);
}

/* -- the end of a knote by another way ------------------------------------- */

static void
do_close(void)
{
	int r;

	must(change(EV_ADD) == 0);
	fire();
	FAULTY(r = close((int)kind_ident));
	must(r == 0);
	must(change(EV_DELETE) == EBADF);
	queue_works();
}

static void
do_dup2(void)
{
	int zero = open("/dev/null", O_RDWR), r;

	must(change(EV_ADD) == 0);
	fire();
	FAULTY(r = dup2(zero, (int)kind_ident));
	must(r == (int)kind_ident);
	is_absent();
	queue_works();
	close(zero);
}

/* A copy keeps the file open: it must leave the kernel all the same. */
static void
do_close_copied(void)
{
	int copy, r;

	must(change(EV_ADD) == 0);
	FAULTY(copy = dup((int)kind_ident));
	if (copy == -1)
		copy = dup((int)kind_ident);
	FAULTY(r = close((int)kind_ident));
	must(r == 0);
	must(change(EV_DELETE) == EBADF);
	queue_works();
	must(dup2(copy, (int)kind_ident) == (int)kind_ident);
	must(close(copy) == 0);
	must(change(EV_ADD) == 0);
	is_whole();
}

static void
do_close_queue(void)
{
	int r;

	must(change(EV_ADD) == 0);
	fire();
	FAULTY(r = close(kq));
	must(r == 0);
	kq = kqueue();
	must(kq != -1);
	kind_kq = kq;
}

/* -- every failure of them ------------------------------------------------- */

static const struct operation {
	const char *o_name;
	void (*o_do)(void);
	bool o_isfd; /* for knotes of a descriptor */
} operations[] = {
	{ "add", do_add, false },
	{ "add disabled", do_add_disabled, false },
	{ "add in a list", do_list, false },
	{ "add again", do_add_again, false },
	{ "add with clear", do_add_clear, false },
	{ "other notes", do_other_notes, false },
	{ "force", do_force, false },
	{ "enable", do_enable, false },
	{ "disable, enable", do_disable, false },
	{ "delete", do_delete, false },
	{ "poll", do_poll, false },
	{ "wait", do_wait, false },
	{ "close", do_close, true },
	{ "dup2", do_dup2, true },
	{ "dup, close", do_close_copied, true },
	{ "close queue", do_close_queue, false },
};

#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* False: this system has no such thing. */
static bool
once(const struct operation *o)
{
	operation = o->o_name;
	if (!kind->k_open()) {
		kind_close();
		return false;
	}
	kind_kq = kq = kqueue();
	must(kq != -1);
	knote_came = false;
	o->o_do();
	must(close(kq) == 0);
	kind_close();
	return true;
}

static void
each_way(const struct operation *o, int descriptors, long blocks)
{
	fault.f_way = 0;
	do {
		once(o);
		must(open_descriptors() == descriptors);
		must(inject_blocks() == blocks);
		fault.f_way++;
	} while (injected.i_call != NULL && injected.i_more);
}

static void
each_call(const struct operation *o, int descriptors, long blocks)
{
	fault.f_nth = 0;
	do {
		fault.f_nth++;
		each_way(o, descriptors, blocks);
		must(fault.f_nth < 200);
	} while (injected.i_call != NULL);
}

static void
each_operation(void)
{
	int i, lasting, descriptors;
	long blocks;

	for (i = 0; i < COUNT(operations); i++) {
		if (operations[i].o_isfd && !kind->k_isfd)
			continue;
		fault.f_nth = 0;
		/* Twice: some things stay, as the table of all queues. */
		if (!once(&operations[i]))
			return;
		once(&operations[i]);
		descriptors = open_descriptors();
		blocks = inject_blocks();
		for (lasting = 0; lasting < 2; lasting++) {
			fault.f_lasting = lasting;
			each_call(&operations[i], descriptors, blocks);
		}
	}
}

START_TEST(every_failure)
{
	kind = &kinds[_i];
	each_operation();
}
END_TEST

static void *
idle(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* A thread that blocks all signals, and is asked about that. */
START_TEST(every_failure_beside_a_thread)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	NEED(pthread_create(&thread, NULL, idle, NULL) == 0);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	kind = &kinds[_i];
	each_operation();
}
END_TEST

/* -- queues ---------------------------------------------------------------- */

static void
new_queue(void)
{
	int error;

	FAULTY(kq = kqueue(); error = errno);
	if (kq == -1) {
		right_error(error);
		must((kq = kqueue()) != -1);
	}
	queue_works();
	must(close(kq) == 0);
}

START_TEST(another_queue)
{
	int descriptors, lasting;
	long blocks;

	operation = "kqueue";
	new_queue();
	descriptors = open_descriptors();
	blocks = inject_blocks();
	for (lasting = 0; lasting < 2; lasting++) {
		fault = (struct fault){ .f_lasting = lasting };
		do {
			fault.f_nth++;
			fault.f_way = 0;
			do {
				new_queue();
				must(open_descriptors() == descriptors);
				must(inject_blocks() == blocks);
				fault.f_way++;
			} while (injected.i_call != NULL && injected.i_more);
		} while (injected.i_call != NULL);
	}
	must(fault.f_nth > 3);
}
END_TEST

/*
 * What is made once in a process takes a process for each failure.  There it
 * forks: the child has no queue, but can make one.
 */
static void
first_queue(void)
{
	int descriptors = open_descriptors(), status;
	pid_t child;

	new_queue();
	must(open_descriptors() == descriptors);
	must((kq = kqueue()) != -1);
	if ((child = fork()) == 0) {
		operation = "kqueue, fork, kqueue";
		must(kevent(kq, NULL, 0, NULL, 0, NULL) == -1);
		must(open_descriptors() == descriptors ||
		    injected.i_call != NULL);
		new_queue();
		_exit(0);
	}
	must(waitpid(child, &status, 0) == child);
	must(status == 0);
}

#define LAST 1 /* exit status of a child: there was nothing to fail */
#define NEXT_CALL 2
#define NEXT_WAY 3

static int
in_a_process(void (*f)(void))
{
	pid_t child = fork();
	int status;

	NEED(child != -1);
	if (child == 0) {
		f();
		_exit(injected.i_call == NULL ? LAST :
			injected.i_more       ? NEXT_WAY :
						NEXT_CALL);
	}
	NEED(waitpid(child, &status, 0) == child);
	must(WIFEXITED(status) && WEXITSTATUS(status) >= LAST);
	return WEXITSTATUS(status);
}

START_TEST(first_of_a_process)
{
	int next;

	operation = "first kqueue";
	fault = (struct fault){ .f_nth = 1, .f_lasting = _i };
	while ((next = in_a_process(first_queue)) != LAST) {
		if (next == NEXT_CALL)
			fault.f_nth++;
		fault.f_way = next == NEXT_WAY ? fault.f_way + 1 : 0;
	}
	must(fault.f_nth > 5);
}
END_TEST

/* With an argument: kqueue(), or kinds whose names begin so. */
int
main(int argc, char *argv[])
{
	Suite *suite = suite_create("fault");
	TCase *tc = tcase_create("fault");
	SRunner *runner;
	int failed, i;

	tcase_set_timeout(tc, 280);
	if (argc < 2 || strcmp(argv[1], "kqueue") == 0) {
		tcase_add_test(tc, another_queue);
		tcase_add_loop_test(tc, first_of_a_process, 0, 2);
	}
	for (i = 0; i < nkinds; i++) {
		if (argc > 1 &&
		    strncmp(kinds[i].k_name, argv[1], strlen(argv[1])) != 0)
			continue;
		tcase_add_loop_test(tc, every_failure, i, i + 1);
		if (!kinds[i].k_slow)
			tcase_add_loop_test(tc, every_failure_beside_a_thread,
			    i, i + 1);
	}
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
