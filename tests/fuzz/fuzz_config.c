/*
 * The reader of the configuration.  Of whatever file: what is wrong is told in
 * lines that begin with its name and hold nothing that acts on a terminal; what
 * is right, written out, is read as the same.
 */
#include "config.h"
#include "driver.h"

#include <ctype.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char path[64]; /* of the configuration */
static int config = -1, told = -1, real = -1;
static off_t from; /* where in told the complaints of this time begin */

static void
begin(void)
{
	char other[] = "/tmp/fuzz_config.XXXXXX";

	strcpy(path, "/tmp/fuzz_config.XXXXXX");
	config = mkstemp(path);
	told = mkstemp(other);
	real = dup(STDERR_FILENO);
	if (config == -1 || told == -1 || real == -1 || unlink(other) == -1)
		abort();
}

static void
finish(void)
{
	unlink(path);
}

static void
write_config(const void *data, size_t size)
{
	/* What becomes empty first, some file systems write out at once. */
	if (pwrite(config, data, size, 0) != (ssize_t)size ||
	    ftruncate(config, (off_t)size) == -1)
		abort();
}

/* Read it with standard error put aside. */
static int
read_config(struct program_conf *conf)
{
	int rc;

	from = lseek(told, 0, SEEK_CUR);
	if (from > 1 << 20)
		from = lseek(told, 0, SEEK_SET);
	if (from == -1 || dup2(told, STDERR_FILENO) == -1)
		abort();
	rc = config_read(path, conf);
	fflush(stderr);
	if (dup2(real, STDERR_FILENO) == -1)
		abort();
	return rc;
}

/* What was put aside, as a string. */
static char *
complaints(void)
{
	off_t size = lseek(told, 0, SEEK_CUR) - from;
	char *text = malloc((size_t)size + 1);

	if (text == NULL || pread(told, text, (size_t)size, from) != size)
		abort();
	text[size] = '\0';
	if (strlen(text) != (size_t)size)
		fail("a NUL among the complaints");
	return text;
}

static void
check_complaints(void)
{
	char *text = complaints(), *rest = text, *line, *p;
	size_t n = 0;

	for (; (line = strsep(&rest, "\n")) != NULL && rest != NULL; n++) {
		p = strstr(line, path);
		if (p == NULL)
			fail("no name of the file: %s", line);
		for (p = line; *p != '\0'; p++)
			if (iscntrl((unsigned char)*p))
				fail("a control character: %s", line);
	}
	if (n == 0 || *line != '\0')
		fail("no whole line of complaint: %s", line);
	free(text);
}

static char *
printed(struct program_conf *conf)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	if (out == NULL)
		abort();
	config_print(conf, out);
	if (fclose(out) == EOF)
		abort();
	return text;
}

static void
check_again(struct program_conf *conf)
{
	struct program_conf again;
	char *text = printed(conf), *same;

	write_config(text, strlen(text));
	if (read_config(&again) == -1)
		fail("what was read and written is not read: %s%s",
		    complaints(), text);
	same = printed(&again);
	if (strcmp(text, same) != 0)
		fail("what was written is read as another:\n%s\n%s", text,
		    same);
	program_conf_free(&again);
	free(same);
	free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct program_conf conf;

	if (config == -1) {
		begin();
		atexit(finish);
	}
	write_config(data, size);
	if (read_config(&conf) == -1)
		check_complaints();
	else {
		check_again(&conf);
		program_conf_free(&conf);
	}
	return 0;
}
