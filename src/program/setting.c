/*
 * Settings: from text to a member of a configuration, and back.
 */
#include <sys/types.h>

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "address.h"
#include "setting.h"
#include "words.h"

struct unit {
	const char *name;
	int64_t factor;
};

static int replace_text(char **, const char *);
static int parse_number(const struct setting *, const char *, int64_t *);
static int parse_scaled(const struct unit *, const char *, int64_t *);
static int parse_mode(const char *, int64_t *);
static int parse_choice(const char *const *, const char *, int64_t *);
static void explain(const struct setting *, const char *, char *, size_t);
static void explain_range(const struct setting *, const char *, char *, size_t);
static int64_t none_of(const struct setting *);
static void store(const struct setting *, void *, int64_t);
static int64_t load(const struct setting *, const void *);
static void print_scaled(const struct unit *, int64_t, FILE *);

/* The largest first: the first that divides a value is the one to write. */
static const struct unit time_units[] = {
	{ "d", 24 * 60 * 60 * 1000 },
	{ "h", 60 * 60 * 1000 },
	{ "m", 60 * 1000 },
	{ "s", 1000 },
	{ "ms", 1 },
	{ "", 1000 }, /* a bare number is seconds */
	{ NULL, 0 },
};

static const struct unit size_units[] = {
	{ "G", 1024 * 1024 * 1024 },
	{ "M", 1024 * 1024 },
	{ "k", 1024 },
	{ "", 1 },
	{ "g", 1024 * 1024 * 1024 },
	{ "m", 1024 * 1024 },
	{ "K", 1024 },
	{ NULL, 0 },
};

static const char *const switch_names[] = { "off", "on", NULL };

static const struct unit no_units[] = {
	{ "", 1 },
	{ NULL, 0 },
};

static const struct {
	const struct unit *units;
	const char *not_one; /* 'x' is ... */
} kinds[] = {
	[SETTING_COUNT] = { no_units, "not a number" },
	[SETTING_TIME] = { time_units,
	    "not a time, such as 500ms, 30s, 10m or 2h" },
	[SETTING_SIZE] = { size_units, "not a size, such as 512, 64k or 1M" },
	[SETTING_MODE] = { NULL, "not an octal mode, such as 0660" },
	[SETTING_CHOICE] = { NULL, "none of" },
	[SETTING_SWITCH] = { NULL, "neither on nor off" },
};

int
setting_same_section(const char *a, const char *b)
{
	return a == NULL || b == NULL ? a == b : strcmp(a, b) == 0;
}

int
setting_is_list(const struct setting *setting)
{
	return setting->type == SETTING_LISTEN ||
	    setting->type == SETTING_WORDS ||
	    (setting->type == SETTING_OWN && setting->kind->list);
}

int
setting_given(const struct setting *setting, const void *conf)
{
	const char *member = (const char *)conf + setting->offset;

	switch (setting->type) {
	case SETTING_LISTEN:
		return !TAILQ_EMPTY(
		    (const struct address_list *)(const void *)member);
	case SETTING_WORDS:
		return ((const struct words *)(const void *)member)->count > 0;
	case SETTING_OWN:
		return setting->kind->given == NULL ||
		    setting->kind->given(member);
	case SETTING_COUNT:
	case SETTING_TIME:
	case SETTING_SIZE:
	case SETTING_TEXT:
	case SETTING_MODE:
	case SETTING_CHOICE:
	case SETTING_SWITCH:
		break;
	}
	return 1;
}

const char *
setting_name_in_file(const struct setting *setting)
{
	size_t len;

	if (setting->section == NULL)
		return setting->name;
	len = strlen(setting->section);
	assert(strncmp(setting->name, setting->section, len) == 0 &&
	    setting->name[len] == '-');
	return setting->name + len + 1;
}

int
setting_parse(const struct setting *setting, void *conf, const char *text,
    char *why, size_t whysz)
{
	void *member = (char *)conf + setting->offset;
	char wrong[256];
	int64_t value;

	if (setting->valid != NULL &&
	    setting->valid(text, wrong, sizeof(wrong)) == -1) {
		snprintf(why, whysz, "%s: '%s': %s", setting->name, text,
		    wrong);
		return -1;
	}
	if (setting->type == SETTING_LISTEN) {
		if (address_list_add(member, text, wrong, sizeof(wrong)) == 0)
			return 0;
		snprintf(why, whysz, "%s: %s", setting->name, wrong);
		return -1;
	}
	if (setting->type == SETTING_OWN) {
		if (setting->kind->parse(member, text, wrong, sizeof(wrong)) ==
		    0)
			return 0;
		snprintf(why, whysz, "%s: %s", setting->name, wrong);
		return -1;
	}
	if (setting->type == SETTING_WORDS) {
		if (words_add(member, text) == 0)
			return 0;
		snprintf(why, whysz, "%s: %s", setting->name, strerror(errno));
		return -1;
	}
	if (setting->type == SETTING_TEXT) {
		if (strlen(text) > (size_t)setting->max) {
			snprintf(why, whysz,
			    "%s: is longer than %" PRId64 " bytes",
			    setting->name, setting->max);
			return -1;
		}
		if (replace_text(member, text) == 0)
			return 0;
		snprintf(why, whysz, "%s: %s", setting->name, strerror(errno));
		return -1;
	}
	if (setting->none && strcmp(text, "none") == 0) {
		store(setting, member, none_of(setting));
		return 0;
	}
	if (parse_number(setting, text, &value) == -1) {
		explain(setting, text, why, whysz);
		return -1;
	}
	if (setting->type != SETTING_SWITCH &&
	    (value < setting->min || value > setting->max)) {
		explain_range(setting, text, why, whysz);
		return -1;
	}
	store(setting, member, value);
	return 0;
}

static int
replace_text(char **member, const char *text)
{
	char *copy;

	copy = strdup(text);
	if (copy == NULL)
		return -1;
	free(*member);
	*member = copy;
	return 0;
}

static int
parse_number(const struct setting *setting, const char *text, int64_t *value)
{
	switch (setting->type) {
	case SETTING_COUNT:
	case SETTING_TIME:
	case SETTING_SIZE:
		return parse_scaled(kinds[setting->type].units, text, value);
	case SETTING_MODE:
		return parse_mode(text, value);
	case SETTING_CHOICE:
		return parse_choice(setting->choices, text, value);
	case SETTING_SWITCH:
		return parse_choice(switch_names, text, value);
	case SETTING_TEXT:
	case SETTING_LISTEN:
	case SETTING_WORDS:
	case SETTING_OWN:
		break;
	}
	return -1;
}

/* What is too large for an int64_t becomes INT64_MAX, out of every range. */
static int
parse_scaled(const struct unit *units, const char *text, int64_t *value)
{
	const struct unit *u;
	intmax_t number;
	char *end;

	if (*text < '0' || *text > '9')
		return -1;
	errno = 0;
	number = strtoimax(text, &end, 10);
	for (u = units; u->name != NULL; u++) {
		if (strcmp(end, u->name) != 0)
			continue;
		if (errno == ERANGE || number > INT64_MAX / u->factor)
			*value = INT64_MAX;
		else
			*value = number * u->factor;
		return 0;
	}
	return -1;
}

static int
parse_mode(const char *text, int64_t *value)
{
	if (*text == '\0' || strspn(text, "01234567") != strlen(text))
		return -1;
	*value = strtoimax(text, NULL, 8);
	return 0;
}

static int
parse_choice(const char *const *choices, const char *text, int64_t *value)
{
	int i;

	for (i = 0; choices[i] != NULL; i++) {
		if (strcmp(choices[i], text) == 0) {
			*value = i;
			return 0;
		}
	}
	return -1;
}

static void
explain(const struct setting *setting, const char *text, char *why,
    size_t whysz)
{
	const char *const *choice;

	snprintf(why, whysz, "%s: '%s' is %s", setting->name, text,
	    kinds[setting->type].not_one);
	if (setting->type == SETTING_CHOICE) {
		for (choice = setting->choices; *choice != NULL; choice++) {
			strlcat(why, choice == setting->choices ? " " : ", ",
			    whysz);
			strlcat(why, *choice, whysz);
		}
	}
	if (setting->none)
		strlcat(why, ", nor \"none\"", whysz);
}

static void
explain_range(const struct setting *setting, const char *text, char *why,
    size_t whysz)
{
	const struct unit *units = kinds[setting->type].units;
	FILE *out;

	/* A stream that is full ends without a NUL. */
	memset(why, '\0', whysz);
	out = fmemopen(why, whysz - 1, "w");
	if (out == NULL) {
		strlcpy(why, setting->name, whysz);
		return;
	}
	fprintf(out, "%s: '%s' is out of range (", setting->name, text);
	if (setting->type == SETTING_MODE)
		fprintf(out, "0 to 0%" PRIo64, setting->max);
	else {
		print_scaled(units, setting->min, out);
		fputs(" to ", out);
		print_scaled(units, setting->max, out);
	}
	fputs(setting->none ? ", or \"none\")" : ")", out);
	fclose(out);
}

static int64_t
none_of(const struct setting *setting)
{
	return setting->type == SETTING_TIME ? -1 : 0;
}

static void
store(const struct setting *setting, void *member, int64_t value)
{
	switch (setting->type) {
	case SETTING_COUNT:
	case SETTING_SIZE:
		*(uint32_t *)member = (uint32_t)value;
		break;
	case SETTING_TIME:
	case SETTING_CHOICE:
	case SETTING_SWITCH:
		*(int *)member = (int)value;
		break;
	case SETTING_MODE:
		*(mode_t *)member = (mode_t)value;
		break;
	case SETTING_TEXT:
	case SETTING_LISTEN:
	case SETTING_WORDS:
	case SETTING_OWN:
		break;
	}
}

static int64_t
load(const struct setting *setting, const void *conf)
{
	const void *member = (const char *)conf + setting->offset;

	switch (setting->type) {
	case SETTING_COUNT:
	case SETTING_SIZE:
		return *(const uint32_t *)member;
	case SETTING_TIME:
	case SETTING_CHOICE:
	case SETTING_SWITCH:
		return *(const int *)member;
	case SETTING_MODE:
		return *(const mode_t *)member;
	case SETTING_TEXT:
	case SETTING_LISTEN:
	case SETTING_WORDS:
	case SETTING_OWN:
		break;
	}
	return 0;
}

void
setting_print(const struct setting *setting, const void *conf, FILE *out)
{
	const char *member = (const char *)conf + setting->offset;
	int64_t value;

	value = load(setting, conf);
	if (setting->none && value == none_of(setting)) {
		setting_print_quoted("none", out);
		return;
	}
	switch (setting->type) {
	case SETTING_COUNT:
	case SETTING_TIME:
	case SETTING_SIZE:
		print_scaled(kinds[setting->type].units, value, out);
		break;
	case SETTING_MODE:
		fprintf(out, "0%" PRIo64, value);
		break;
	case SETTING_CHOICE:
		setting_print_quoted(setting->choices[value], out);
		break;
	case SETTING_SWITCH:
		setting_print_quoted(switch_names[value], out);
		break;
	case SETTING_TEXT:
		setting_print_quoted(*(char *const *)(const void *)member, out);
		break;
	case SETTING_LISTEN:
		address_list_print((const void *)member, out);
		break;
	case SETTING_WORDS:
		words_print((const void *)member, out);
		break;
	case SETTING_OWN:
		setting->kind->print(member, out);
		break;
	}
}

static void
print_scaled(const struct unit *units, int64_t value, FILE *out)
{
	const struct unit *u;

	for (u = units; value % u->factor != 0 || value < u->factor; u++)
		if (u->factor == 1)
			break;
	fprintf(out, "%" PRId64 "%s", value / u->factor, u->name);
}

void
setting_print_quoted(const char *text, FILE *out)
{
	const char *p;

	putc('"', out);
	for (p = text; *p != '\0'; p++) {
		switch (*p) {
		case '\n':
			fputs("\\n", out);
			break;
		case '\t':
			fputs("\\t", out);
			break;
		case '"':
		case '\\':
		case '$': /* "${NAME}" is the environment's */
			putc('\\', out);
			putc(*p, out);
			break;
		default:
			if (iscntrl((unsigned char)*p))
				fprintf(out, "\\x%02x", (unsigned char)*p);
			else
				putc(*p, out);
			break;
		}
	}
	putc('"', out);
}

int
setting_same(const struct setting *setting, const void *a, const void *b)
{
	const void *conf[] = { a, b };
	char *text[] = { NULL, NULL };
	size_t len;
	FILE *out;
	int i, same;

	for (i = 0; i < 2; i++) {
		out = open_memstream(&text[i], &len);
		if (out == NULL)
			continue;
		setting_print(setting, conf[i], out);
		fclose(out);
	}
	same =
	    text[0] != NULL && text[1] != NULL && strcmp(text[0], text[1]) == 0;
	free(text[0]);
	free(text[1]);
	return same;
}

void
setting_free(const struct setting *setting, void *conf)
{
	char *member = (char *)conf + setting->offset;
	char **text;

	if (setting->type == SETTING_TEXT) {
		text = (char **)(void *)member;
		free(*text);
		*text = NULL;
	} else if (setting->type == SETTING_LISTEN)
		address_list_free((void *)member);
	else if (setting->type == SETTING_WORDS)
		words_free((void *)member);
	else if (setting->type == SETTING_OWN && setting->kind->free != NULL)
		setting->kind->free(member);
}
