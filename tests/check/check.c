/*
 * check.c: the runner of check.h.
 */
#include <sys/wait.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "check.h"

#define MAX_TESTS 256 /* of one case */
#define MAX_CASES 8
#define MAX_FIXTURES 4
#define MAX_SKIPS 256
#define FAILED 1 /* exit status of a test whose failure has been told */

struct entry {
	const TTest *e_test;
	int e_first, e_end;
};

struct fixture {
	void (*f_setup)(void);
	void (*f_teardown)(void);
};

struct TCase {
	const char *tc_name;
	struct fixture tc_fixtures[MAX_FIXTURES];
	int tc_nfixtures;
	unsigned int tc_seconds;
	int tc_number;
	struct entry tc_tests[MAX_TESTS];
};

struct Suite {
	const char *s_name;
	int s_number;
	TCase *s_cases[MAX_CASES];
};

struct SRunner {
	Suite *sr_suite;
	int sr_checks, sr_failures, sr_errors;
};

/* A line of CHECK_SKIP. */
struct skip {
	char sk_case[64], sk_test[64], sk_why[128];
	int sk_turn; /* or -1: all */
	bool sk_used;
};

static struct skip skips[MAX_SKIPS];
static int nskips;

/* The test that runs; in its process as well. */
static struct {
	const TCase *tc;
	const TTest *test;
	int i;
	pid_t pid;
} now;

static void *
must_have(void *memory)
{
	if (memory != NULL)
		return memory;
	perror("check");
	exit(2);
}

static void
at_most(int number, int limit)
{
	if (number < limit)
		return;
	fprintf(stderr, "check: more than %d of them\n", limit);
	exit(2);
}

/* -- what there is to run -------------------------------------------------- */

Suite *
suite_create(const char *name)
{
	Suite *s = must_have(calloc(1, sizeof(*s)));

	s->s_name = name;
	return s;
}

void
suite_add_tcase(Suite *s, TCase *tc)
{
	at_most(s->s_number, MAX_CASES);
	s->s_cases[s->s_number++] = tc;
}

TCase *
tcase_create(const char *name)
{
	TCase *tc = must_have(calloc(1, sizeof(*tc)));

	tc->tc_name = name;
	tc->tc_seconds = 4;
	return tc;
}

void
tcase_set_timeout(TCase *tc, double seconds)
{
	tc->tc_seconds = (unsigned int)seconds;
}

void
tcase_add_checked_fixture(TCase *tc, void (*setup)(void),
    void (*teardown)(void))
{
	at_most(tc->tc_nfixtures, MAX_FIXTURES);
	tc->tc_fixtures[tc->tc_nfixtures++] =
	    (struct fixture){ setup, teardown };
}

void
tcase_add_loop_test(TCase *tc, const TTest *test, int first, int end)
{
	at_most(tc->tc_number, MAX_TESTS);
	tc->tc_tests[tc->tc_number++] = (struct entry){ test, first, end };
}

/* -- one test -------------------------------------------------------------- */

static void
tell(const char *file, int line, char kind)
{
	printf("%s:%d:%c:%s:%s:%d: ", file, line, kind, now.tc->tc_name,
	    now.test->t_name, now.i);
}

void
check_failed(const char *file, int line, const char *format, ...)
{
	va_list ap;

	tell(file, line, 'F');
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf("\n");
	fflush(stdout);
	_exit(FAILED);
}

static void
run_here(void)
{
	const TCase *tc = now.tc;
	int f;

	for (f = 0; f < tc->tc_nfixtures; f++)
		if (tc->tc_fixtures[f].f_setup != NULL)
			tc->tc_fixtures[f].f_setup();
	now.test->t_run(now.i);
	while (--f >= 0)
		if (tc->tc_fixtures[f].f_teardown != NULL)
			tc->tc_fixtures[f].f_teardown();
}

static void
too_long(int signo)
{
	(void)signo;
	kill(-now.pid, SIGKILL);
}

/* Its wait status. */
static int
run_apart(void)
{
	int status;

	fflush(stdout);
	if ((now.pid = fork()) == 0) {
		setpgid(0, 0);
		run_here();
		exit(0);
	}
	if (now.pid == -1)
		must_have(NULL);
	setpgid(now.pid, now.pid);
	alarm(now.tc->tc_seconds);
	while (waitpid(now.pid, &status, 0) == -1 && errno == EINTR)
		continue;
	alarm(0);
	kill(-now.pid, SIGKILL);
	return status;
}

static void
run_test(SRunner *sr)
{
	int status;

	sr->sr_checks++;
	if (getenv("CK_FORK") != NULL && strcmp(getenv("CK_FORK"), "no") == 0) {
		run_here();
		return;
	}
	status = run_apart();
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return;
	if (WIFEXITED(status) && WEXITSTATUS(status) == FAILED) {
		sr->sr_failures++;
		return;
	}
	sr->sr_errors++;
	tell("check.c", 0, 'E');
	if (WIFEXITED(status))
		printf("left with status %d\n", WEXITSTATUS(status));
	else if (WTERMSIG(status) == SIGKILL)
		printf("killed; it may take %u s\n", now.tc->tc_seconds);
	else
		printf("ended by %s\n", strsignal(WTERMSIG(status)));
}

/* -- all of them ----------------------------------------------------------- */

SRunner *
srunner_create(Suite *s)
{
	SRunner *sr = must_have(calloc(1, sizeof(*sr)));

	sr->sr_suite = s;
	return sr;
}

/* Read CHECK_SKIP; what cannot be read skips nothing. */
static void
read_skips(const char *path)
{
	FILE *file = path != NULL ? fopen(path, "re") : NULL;
	struct skip *sk;
	char line[512], turn[8];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		at_most(nskips, MAX_SKIPS);
		sk = &skips[nskips];
		sk->sk_turn = -1;
		if (sscanf(line, "%63[a-z0-9_]:%63[a-z0-9_]:%7[0-9] %127[^\n]",
			sk->sk_case, sk->sk_test, turn, sk->sk_why) == 4)
			sk->sk_turn = atoi(turn);
		else if (sscanf(line, "%63[a-z0-9_]:%63[a-z0-9_] %127[^\n]",
			     sk->sk_case, sk->sk_test, sk->sk_why) != 3)
			continue;
		nskips++;
	}
	if (file != NULL)
		fclose(file);
}

static bool
is_skipped(void)
{
	struct skip *sk;

	for (sk = skips; sk < skips + nskips; sk++)
		if (strcmp(sk->sk_case, now.tc->tc_name) == 0 &&
		    strcmp(sk->sk_test, now.test->t_name) == 0 &&
		    (sk->sk_turn == -1 || sk->sk_turn == now.i)) {
			if (!sk->sk_used)
				printf("skipped: %s: %s\n", sk->sk_test,
				    sk->sk_why);
			sk->sk_used = true;
			return true;
		}
	return false;
}

/* A line for a test of this case that is not there. */
static void
count_stale(SRunner *sr, const TCase *tc)
{
	const struct skip *sk;

	for (sk = skips; sk < skips + nskips; sk++)
		if (!sk->sk_used && strcmp(sk->sk_case, tc->tc_name) == 0) {
			printf("CHECK_SKIP: %s has no test %s\n", sk->sk_case,
			    sk->sk_test);
			sr->sr_checks++;
			sr->sr_failures++;
		}
}

static void
run_case(SRunner *sr, const TCase *tc)
{
	const char *only = getenv("CK_RUN_CASE");
	const struct entry *e;

	if (only != NULL && strcmp(only, tc->tc_name) != 0)
		return;
	now.tc = tc;
	for (e = tc->tc_tests; e < tc->tc_tests + tc->tc_number; e++)
		for (now.i = e->e_first; now.i < e->e_end; now.i++) {
			now.test = e->e_test;
			if (!is_skipped())
				run_test(sr);
		}
	count_stale(sr, tc);
}

void
srunner_run_all(SRunner *sr, enum print_output how)
{
	struct sigaction alarmed = { .sa_handler = too_long };
	int bad, i;

	(void)how;
	read_skips(getenv("CHECK_SKIP"));
	sigaction(SIGALRM, &alarmed, NULL);
	printf("Running suite(s): %s\n", sr->sr_suite->s_name);
	for (i = 0; i < sr->sr_suite->s_number; i++)
		run_case(sr, sr->sr_suite->s_cases[i]);
	bad = sr->sr_failures + sr->sr_errors;
	printf("%d%%: Checks: %d, Failures: %d, Errors: %d\n",
	    sr->sr_checks == 0 ? 100 :
				 100 * (sr->sr_checks - bad) / sr->sr_checks,
	    sr->sr_checks, sr->sr_failures, sr->sr_errors);
	fflush(stdout);
}

int
srunner_ntests_failed(SRunner *sr)
{
	return sr->sr_failures + sr->sr_errors;
}

void
srunner_free(SRunner *sr)
{
	int i;

	for (i = 0; i < sr->sr_suite->s_number; i++)
		free(sr->sr_suite->s_cases[i]);
	free(sr->sr_suite);
	free(sr);
}
