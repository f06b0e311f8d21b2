/*
 * A list of words, each a copy of its own.
 */
#include <stdlib.h>
#include <string.h>

#include "setting.h"
#include "words.h"

int
words_add(struct words *words, const char *text)
{
	char **grown, *copy;

	copy = strdup(text);
	if (copy == NULL)
		return -1;
	grown = reallocarray(words->word, words->count + 2, sizeof(*grown));
	if (grown == NULL) {
		free(copy);
		return -1;
	}
	words->word = grown;
	words->word[words->count++] = copy;
	words->word[words->count] = NULL;
	return 0;
}

void
words_print(const struct words *words, FILE *out)
{
	size_t i;

	putc('{', out);
	for (i = 0; i < words->count; i++) {
		if (i > 0)
			fputs(", ", out);
		setting_print_quoted(words->word[i], out);
	}
	putc('}', out);
}

void
words_free(struct words *words)
{
	size_t i;

	for (i = 0; i < words->count; i++)
		free(words->word[i]);
	free(words->word);
	words->word = NULL;
	words->count = 0;
}
