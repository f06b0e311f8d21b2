/* The tests' main(); t_unit.h has the contracts. */
#include "t_unit.h"

#include <dirent.h>

static Suite *suite;

TCase *
unit_begin(const char *name)
{
	TCase *tc = tcase_create(name);

	suite = suite_create(name);
	suite_add_tcase(suite, tc);
	return tc;
}

int
unit_end(void)
{
	SRunner *runner = srunner_create(suite);
	int failed;

	srunner_run_all(runner, CK_ENV);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed != 0;
}

int
unit_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -3; /* ".", "..", and its own */

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}
