/*
 * A list of words: a command with its arguments, an environment.
 */
#ifndef KQUAY_WORDS_H
#define KQUAY_WORDS_H

#include <stddef.h>
#include <stdio.h>

/* word[count] is NULL; an empty list may have no word[] at all. */
struct words {
	char **word;
	size_t count;
};

/* Append a copy of text.  0, or -1 with errno and the list as it was. */
int words_add(struct words *words, const char *text);

/* Write the list as the configuration file has it: {"a", "b"}. */
void words_print(const struct words *words, FILE *out);

void words_free(struct words *words);

#endif
