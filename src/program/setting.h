/*
 * Settings: one table row describes a setting once, for the command line
 * (--name VALUE), for the configuration file (name = VALUE), for --help and
 * for `kquay check -v`.
 *
 * Settings that belong together form a section of the file.  They have the
 * section's name before their own, which the file leaves out:
 *
 *	--tls-certificate x	.section = "tls", .name = "tls-certificate"
 *	tls { certificate = x }
 *
 * A row points by offset into a configuration: the structure of a service's
 * handler, which begins with struct service_conf (service.h).
 */
#ifndef KQUAY_SETTING_H
#define KQUAY_SETTING_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define SETTING_TIME_MAX 2073600000 /* ms in 24 days: an int holds no 25 */

/* The type of a setting, and of the member it fills. */
enum setting_type {
	SETTING_COUNT,  /* uint32_t; none: 0 */
	SETTING_TIME,   /* int, milliseconds; none: -1 */
	SETTING_SIZE,   /* uint32_t, bytes; none: 0 */
	SETTING_TEXT,   /* char *, the configuration's own copy */
	SETTING_MODE,   /* mode_t */
	SETTING_CHOICE, /* int, index into choices */
	SETTING_SWITCH, /* int; on: 1, off: 0 */
	SETTING_LISTEN, /* struct address_list, one more for each value */
	SETTING_WORDS,  /* struct words, one more for each value */
	SETTING_OWN     /* as its kind says */
};

/* What a type of its own does with its member, which begins as zeros. */
struct setting_kind {
	int list; /* parse adds one more to those that are there */
	/* 0; or -1 with what is wrong in why, and the member as it was. */
	int (*parse)(void *member, const char *text, char *why, size_t whysz);
	void (*print)(const void *member, FILE *out); /* quotes and all */
	void (*free)(void *member); /* NULL: nothing to do */
	/* Has it a value?  NULL: it always has. */
	int (*given)(const void *member);
};

struct setting {
	const char *name;    /* a section's begins with its name and a "-" */
	const char *section; /* NULL: of none */
	int letter; /* -x on the command line; 0: none */
	enum setting_type type;
	size_t offset;
	int64_t min, max; /* both included; TIME in ms, TEXT its length */
	int none;         /* "none" is a value, too: no limit */
	const char *const *choices; /* CHOICE: ended by NULL */
	const struct setting_kind *kind; /* OWN */
	/*
	 * Of TEXT and WORDS: is this a value?  0, or -1 and what is wrong with
	 * it.  NULL: every text is.
	 */
	int (*valid)(const char *text, char *why, size_t whysz);
	int live; /* of the program's: a reload can change it */
	int required;     /* a list that must have a value */
	const char *def;  /* as one would write it; NULL: none */
	const char *arg;  /* the value's name in --help */
	const char *help; /* one line, no full stop */
};

/* May it be given more than once? */
int setting_is_list(const struct setting *setting);

/* Its name in the file, within its section if it has one. */
const char *setting_name_in_file(const struct setting *setting);

/* Are two sections the same?  NULL is none. */
int setting_same_section(const char *a, const char *b);

/*
 * Store text, the value of a setting, in conf.  Returns 0; or -1 with the
 * reason in why, a phrase that begins with the setting's name, and conf as
 * it was.
 */
int setting_parse(const struct setting *setting, void *conf, const char *text,
    char *why, size_t whysz);

/*
 * Write what conf holds, as one would write it in the file, with the quotes
 * that this takes; setting_parse() of it stores the same.
 */
void setting_print(const struct setting *setting, const void *conf, FILE *out);

/* Write text as a quoted string of the configuration file. */
void setting_print_quoted(const char *text, FILE *out);

/* Has it a value?  What is no list always has. */
int setting_given(const struct setting *setting, const void *conf);

/* Is it the same in both? */
int setting_same(const struct setting *setting, const void *a, const void *b);

/* Free what setting_parse() has stored in conf. */
void setting_free(const struct setting *setting, void *conf);

#endif
