/*
 * check.h: the part of Check that the conformance tests use, in one file, for
 * machines and C libraries that Check is not packaged for (tools/ports).
 *
 * A test runs in a process and a process group of its own, which are killed
 * when it ends or takes too long.  CK_RUN_CASE and CK_FORK are heard, and the
 * last line is Check's, which tools/report reads.
 *
 * CHECK_SKIP is a file that names what a machine cannot do, a test a line:
 *
 *	case:test	why; or case:test:3 for one turn of a loop
 *
 * Such a test is skipped with that reason; one that does not exist is a
 * failure.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>
#include <string.h>

typedef struct Suite Suite;
typedef struct TCase TCase;
typedef struct SRunner SRunner;

typedef struct {
	const char *t_name;
	void (*t_run)(int);
} TTest;

enum print_output { CK_ENV };

Suite *suite_create(const char *name);
void suite_add_tcase(Suite *, TCase *);

TCase *tcase_create(const char *name);
void tcase_set_timeout(TCase *, double seconds);
void tcase_add_checked_fixture(TCase *, void (*setup)(void),
    void (*teardown)(void));
void tcase_add_loop_test(TCase *, const TTest *, int first, int end);
#define tcase_add_test(tc, test) tcase_add_loop_test(tc, test, 0, 1)

SRunner *srunner_create(Suite *);
void srunner_run_all(SRunner *, enum print_output);
int srunner_ntests_failed(SRunner *);
void srunner_free(SRunner *);

/* Ends the test as failed. */
void check_failed(const char *file, int line, const char *format, ...)
    __attribute__((noreturn, format(printf, 3, 4)));

#define START_TEST(name)                                                       \
	static void name##_run(int);                                           \
	static const TTest name##_test = { #name, name##_run };                \
	static const TTest *const name = &name##_test;                         \
	static void name##_run(int _i __attribute__((unused)))
#define END_TEST

#define ck_assert_msg(condition, ...)                                          \
	((condition) ? (void)0 : check_failed(__FILE__, __LINE__, __VA_ARGS__))
#define ck_assert(condition)                                                   \
	ck_assert_msg(condition, "%s", "'" #condition "' is not so")

#define CHECK_COMPARE(type, format, a, op, b)                                  \
	do {                                                                   \
		type a_ = (a);                                                 \
		type b_ = (b);                                                 \
		ck_assert_msg(a_ op b_, "%s: %s is " format ", %s is " format, \
		    #a " " #op " " #b, #a, a_, #b, b_);                        \
	} while (0)

#define CHECK_INT(a, op, b) CHECK_COMPARE(long long, "%lld", a, op, b)
#define ck_assert_int_eq(a, b) CHECK_INT(a, ==, b)
#define ck_assert_int_ne(a, b) CHECK_INT(a, !=, b)
#define ck_assert_int_lt(a, b) CHECK_INT(a, <, b)
#define ck_assert_int_le(a, b) CHECK_INT(a, <=, b)
#define ck_assert_int_gt(a, b) CHECK_INT(a, >, b)
#define ck_assert_int_ge(a, b) CHECK_INT(a, >=, b)

#define CHECK_UINT(a, op, b)                                                   \
	CHECK_COMPARE(unsigned long long, "%#llx", a, op, b)
#define ck_assert_uint_eq(a, b) CHECK_UINT(a, ==, b)
#define ck_assert_uint_ne(a, b) CHECK_UINT(a, !=, b)
#define ck_assert_uint_lt(a, b) CHECK_UINT(a, <, b)
#define ck_assert_uint_le(a, b) CHECK_UINT(a, <=, b)
#define ck_assert_uint_gt(a, b) CHECK_UINT(a, >, b)
#define ck_assert_uint_ge(a, b) CHECK_UINT(a, >=, b)

#define CHECK_PTR(a, op, b) CHECK_COMPARE(const void *, "%p", a, op, b)
#define ck_assert_ptr_eq(a, b) CHECK_PTR(a, ==, b)
#define ck_assert_ptr_ne(a, b) CHECK_PTR(a, !=, b)
#define ck_assert_ptr_null(a) CHECK_PTR(a, ==, NULL)
#define ck_assert_ptr_nonnull(a) CHECK_PTR(a, !=, NULL)

#define ck_assert_str_eq(a, b)                                                 \
	do {                                                                   \
		const char *a_ = (a);                                          \
		const char *b_ = (b);                                          \
		ck_assert_msg(a_ != NULL && b_ != NULL && strcmp(a_, b_) == 0, \
		    "%s is \"%s\", %s is \"%s\"", #a, a_, #b, b_);             \
	} while (0)

#define ck_assert_mem_eq(a, b, size)                                           \
	ck_assert_msg(memcmp(a, b, size) == 0, "%s",                           \
	    "the bytes of " #a " and " #b " differ")

#endif
