/*
 * A table for people: columns as wide as their longest cell.
 */
#ifndef KQUAY_TABLE_H
#define KQUAY_TABLE_H

#include <stdio.h>

struct table;

/*
 * A table with these columns: their headings, ended by NULL, which must last.
 * One that begins with '>' has its column set to the right, and no '>'.
 * NULL: ENOMEM.
 */
struct table *table_new(const char *const *headings);

/*
 * The next cell, from left to right, row after row.  What is not
 * printable becomes question marks, so that what a cell quotes stays in it.
 */
void table_cell(struct table *t, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));

/* As table_cell(), more text for the cell before, of which there is one. */
void table_more(struct table *t, const char *format, ...)
    __attribute__((__format__(__printf__, 2, 3)));

/* Write the headings and all rows.  0, or -1 if memory has run out before. */
int table_print(const struct table *t, FILE *out);

/* t may be NULL. */
void table_free(struct table *t);

#endif
