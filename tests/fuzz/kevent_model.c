/*
 * Random calls against a model of the rules.
 *
 * The input is a list of operations: change a knote, put or take bytes, close,
 * duplicate, write a file, raise a signal, let a child exit, collect with few
 * slots or many.  A model beside it, some pages of plain state, says what must
 * come of them: see model.h.
 *
 *	kevent_model [-t seconds]	random inputs; a failure names its seed
 *	kevent_model -s seed		this one again
 *	kevent_model CORPUS...		inputs in hexadecimal, one a line
 *	kevent_model -r FILE...		an input as libFuzzer leaves it
 *	kevent_model -x FOLDER CORPUS	write them as libFuzzer wants them
 *	kevent_model -c FOLDER		print those of a folder as a corpus
 *
 * With -v it says what it does.  With libFuzzer (-DLIBFUZZER, clang
 * -fsanitize=fuzzer) the input is its own.
 */
#include <ctype.h>
#include <dirent.h>
#include <err.h>
#include <limits.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "model.h"

#ifdef LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	run(data, size);
	return 0;
}

#else

#define LARGEST 8192

static FILE *
must_open(const char *path, const char *mode)
{
	FILE *f = fopen(path, mode);

	if (f == NULL)
		err(1, "%s", path);
	return f;
}

/* -- random inputs --------------------------------------------------------- */

static uint64_t
random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void
run_seed(void)
{
	static uint8_t data[4096];
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
	size_t i, size = 64 + random_word(&state) % (sizeof(data) - 64);

	for (i = 0; i < size; i++)
		data[i] = (uint8_t)(random_word(&state) >> 32);
	run(data, size);
}

static uint64_t
run_random(int seconds)
{
	time_t end = time(NULL) + seconds;
	uint64_t inputs = 0;

	do {
		run_seed();
		seed++;
		inputs++;
	} while (time(NULL) < end);
	return inputs;
}

/* -- inputs of files ------------------------------------------------------- */

static uint64_t
run_raw(const char *path)
{
	static uint8_t data[LARGEST];
	FILE *f = must_open(path, "rb");
	size_t n = fread(data, 1, sizeof(data), f);

	fclose(f);
	run(data, n);
	return 1;
}

static size_t
decode(const char *line, uint8_t *data)
{
	unsigned int byte;
	size_t n = 0;

	for (; isxdigit((unsigned char)line[0]); line += 2) {
		if (n == LARGEST || sscanf(line, "%2x", &byte) != 1)
			errx(1, "this is no corpus");
		data[n++] = (uint8_t)byte;
	}
	return n;
}

/* Run its inputs, or write each into a file of the folder. */
static uint64_t
run_corpus(const char *path, const char *folder)
{
	static char line[2 * LARGEST + 2];
	static uint8_t data[LARGEST];
	char name[PATH_MAX];
	FILE *f = must_open(path, "r"), *out;
	uint64_t inputs = 0;
	size_t n;

	while (fgets(line, sizeof(line), f) != NULL) {
		if (line[0] == '#')
			continue;
		n = decode(line, data);
		seed = ++inputs;
		if (folder == NULL) {
			run(data, n);
			continue;
		}
		snprintf(name, sizeof(name), "%s/%03ju", folder,
		    (uintmax_t)inputs);
		out = must_open(name, "wb");
		fwrite(data, 1, n, out);
		if (fclose(out) != 0)
			err(1, "%s", name);
	}
	fclose(f);
	return inputs;
}

static void
print_file(const char *path)
{
	FILE *f = must_open(path, "rb");
	int c;

	while ((c = getc(f)) != EOF)
		printf("%02x", (unsigned int)c);
	putchar('\n');
	fclose(f);
}

static void
print_folder(const char *folder)
{
	DIR *dir = opendir(folder);
	char name[PATH_MAX];
	struct dirent *entry;

	if (dir == NULL)
		err(1, "%s", folder);
	while ((entry = readdir(dir)) != NULL)
		if (entry->d_name[0] != '.') {
			snprintf(name, sizeof(name), "%s/%s", folder,
			    entry->d_name);
			print_file(name);
		}
	closedir(dir);
}

int
main(int argc, char **argv)
{
	const char *folder = NULL;
	uint64_t inputs = 0;
	bool raw = false;
	int seconds = 5, c;

	seed = 1;
	while ((c = getopt(argc, argv, "c:rs:t:vx:")) != -1) {
		switch (c) {
		case 'c':
			print_folder(optarg);
			return 0;
		case 'r':
			raw = true;
			break;
		case 's':
			seed = strtoull(optarg, NULL, 10);
			seconds = 0;
			break;
		case 't':
			seconds = atoi(optarg);
			break;
		case 'v':
			verbose = true;
			break;
		case 'x':
			folder = optarg;
			break;
		default:
			errx(64, "usage: see the head of kevent_model.c");
		}
	}
	if (optind == argc)
		inputs = run_random(seconds);
	for (; optind < argc; optind++)
		inputs += raw ? run_raw(argv[optind]) :
				run_corpus(argv[optind], folder);
	printf("%ju inputs\n", (uintmax_t)inputs);
	return inputs == 0;
}

#endif
