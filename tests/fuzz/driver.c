/*
 * The driver of a fuzzer of libFuzzer's, without libFuzzer: its corpus, then
 * random changes of that.
 *
 *	FUZZER [-n inputs] [-s seed] [-x directory] CORPUS
 *
 * A line of the corpus is an input in hexadecimal; # begins a comment.  The
 * inputs after those have a number each, which a failure names: -s tries that
 * one alone.  -x writes the corpus as the files that libFuzzer wants, and
 * runs nothing.
 */
#include "driver.h"

#include <ctype.h>
#include <err.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MOST = 4096, INPUTS = 512 };

static struct input {
	size_t len;
	uint8_t *data;
} corpus[INPUTS];
static size_t ncorpus;
static unsigned long long seed;

static uint64_t
random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state * 0x2545f4914f6cdd1du;
}

/* The bytes of a line; -1 if that is not hexadecimal. */
static ssize_t
decode(const char *line, uint8_t *data)
{
	unsigned byte;
	size_t n = 0;

	while (*line != '\0' && *line != '#') {
		if (isspace((unsigned char)*line)) {
			line++;
			continue;
		}
		if (!isxdigit((unsigned char)line[0]) ||
		    !isxdigit((unsigned char)line[1]) || n == MOST ||
		    sscanf(line, "%2x", &byte) != 1)
			return -1;
		data[n++] = (uint8_t)byte;
		line += 2;
	}
	return (ssize_t)n;
}

static void
load(const char *path)
{
	static uint8_t data[MOST];
	char *line = NULL;
	size_t size = 0;
	ssize_t n;
	FILE *f;

	f = fopen(path, "r");
	if (f == NULL)
		err(1, "%s", path);
	while (getline(&line, &size, f) != -1) {
		n = decode(line, data);
		if (n == -1)
			errx(1, "%s: not hexadecimal: %s", path, line);
		if (n == 0)
			continue;
		if (ncorpus == INPUTS)
			errx(1, "%s: over %d inputs", path, INPUTS);
		corpus[ncorpus].data = malloc((size_t)n);
		if (corpus[ncorpus].data == NULL)
			err(1, NULL);
		memcpy(corpus[ncorpus].data, data, (size_t)n);
		corpus[ncorpus++].len = (size_t)n;
	}
	free(line);
	fclose(f);
	if (ncorpus == 0)
		errx(1, "%s: no inputs", path);
}

static void
extract(const char *directory)
{
	char path[1024];
	size_t i;
	FILE *f;

	for (i = 0; i < ncorpus; i++) {
		snprintf(path, sizeof(path), "%s/%03zu", directory, i);
		f = fopen(path, "wb");
		if (f == NULL ||
		    fwrite(corpus[i].data, 1, corpus[i].len, f) !=
			corpus[i].len ||
		    fclose(f) != 0)
			err(1, "%s", path);
	}
}

/* The run's input with this number: one of the corpus, or two, changed. */
static void
run_seed(void)
{
	static uint8_t data[2 * MOST];
	uint64_t state = (seed + 1) * 0x9e3779b97f4a7c15u;
	const struct input *a = &corpus[random_word(&state) % ncorpus];
	const struct input *b = &corpus[random_word(&state) % ncorpus];
	size_t len = a->len, at, n, cut;
	uint64_t word;
	int changes = (int)(random_word(&state) % 8);

	memcpy(data, a->data, len);
	if (random_word(&state) % 4 == 0) { /* the end of another */
		cut = random_word(&state) % (len + 1);
		at = random_word(&state) % b->len;
		memcpy(data + cut, b->data + at, b->len - at);
		len = cut + b->len - at;
	}
	for (; changes > 0 && len > 0; changes--) {
		word = random_word(&state);
		at = word % len;
		n = word >> 32 & 7;
		switch (word >> 40 & 7) {
		case 0:
			data[at] ^= (uint8_t)(1 << n);
			break;
		case 1:
			data[at] = (uint8_t)(word >> 48);
			break;
		case 2: /* lengths are near a limit */
			data[at] = (uint8_t)(word >> 62) - 1;
			break;
		case 3:
			data[at]++;
			break;
		case 4:
			len = at + 1;
			break;
		case 5: /* take some out */
			if (at + n >= len)
				break;
			memmove(data + at, data + at + n, len - at - n);
			len -= n;
			break;
		case 6: /* put some in twice */
			if (at + n >= len || len + n > sizeof(data))
				break;
			memmove(data + at + n, data + at, len - at);
			len += n;
			break;
		default:
			memcpy(data + at, b->data,
			    b->len < len - at ? b->len : len - at);
		}
	}
	LLVMFuzzerTestOneInput(data, len);
}

static void
on_abort(int sig)
{
	char text[64];

	(void)sig;
	/* stdio may be what failed. */
	(void)!write(2, text,
	    (size_t)snprintf(text, sizeof(text), "input %llu\n", seed));
	signal(SIGABRT, SIG_DFL);
}

int
main(int argc, char **argv)
{
	unsigned long long inputs = 20000;
	const char *directory = NULL;
	bool one = false;
	size_t i;
	int c;

	while ((c = getopt(argc, argv, "n:s:x:")) != -1) {
		if (c == 'n')
			inputs = strtoull(optarg, NULL, 10);
		else if (c == 's') {
			seed = strtoull(optarg, NULL, 10);
			one = true;
		} else if (c == 'x')
			directory = optarg;
		else
			optind = argc;
	}
	if (optind != argc - 1)
		errx(64,
		    "usage: %s [-n inputs] [-s seed] [-x directory] "
		    "CORPUS",
		    argv[0]);
	load(argv[optind]);
	signal(SIGABRT, on_abort);
	if (directory != NULL) {
		extract(directory);
		return 0;
	}
	for (i = 0; i < ncorpus && !one; i++)
		LLVMFuzzerTestOneInput(corpus[i].data, corpus[i].len);
	do
		run_seed();
	while (!one && ++seed < inputs);
	printf("%zu of the corpus, %llu more\n", ncorpus, seed);
	return 0;
}
