/*
 * The files of the status page, which are part of the program: www/embed.py
 * makes a table of them.
 */
#ifndef KQUAY_WWW_H
#define KQUAY_WWW_H

#include <stddef.h>

struct www_file {
	const char *path; /* "/dashboard.css" */
	const char *type; /* "text/css; charset=utf-8" */
	const unsigned char *data;
	size_t len;
};

/* Ended by a path of NULL. */
extern const struct www_file www_files[];

#endif
