/*
 * The text of a configuration file, made ready for libConfuse.
 */
#ifndef KQUAY_CONFIG_TEXT_H
#define KQUAY_CONFIG_TEXT_H

#define CONFIG_TEXT_MAX (4 << 20) /* what never ends is not read for ever */

/*
 * Read the whole file.  Returns the text, ended by a NUL, for free(3); or
 * NULL with errno set, EINVAL where the file holds a NUL byte, EFBIG where it
 * is larger than CONFIG_TEXT_MAX.
 */
char *config_text_read(const char *file);

/*
 * Replace every comment in text by spaces.  Returns NULL; or what is wrong,
 * and *line where: a comment, string or section that does not end, a brace
 * too many, an escape that does not exist.
 */
const char *config_text_clean(char *text, int *line);

#endif
