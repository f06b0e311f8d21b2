/*
 * UTF-8, read as RFC 3629 wants it: nothing in a form that is too long, and no
 * halves of pairs.
 */
#include <stddef.h>

#include "utf8.h"

int
utf8_next(const char *text, uint32_t *code)
{
	/* The second byte is in a narrower range after some first ones. */
	static const struct {
		unsigned char first, last, low, high;
		int len;
	} table[] = {
		{ 0x01, 0x7f, 0x00, 0x00, 1 },
		{ 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 },
		{ 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 },
		{ 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 },
		{ 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};
	static const unsigned char bits[] = { 0, 0x7f, 0x1f, 0x0f, 0x07 };
	const unsigned char *p = (const unsigned char *)text;
	size_t i = 0;
	int k;

	while (*p < table[i].first || *p > table[i].last)
		if (++i == sizeof(table) / sizeof(table[0]))
			return 0;
	if (table[i].len > 1 && (p[1] < table[i].low || p[1] > table[i].high))
		return 0;
	*code = *p & bits[table[i].len];
	for (k = 1; k < table[i].len; k++) {
		if ((p[k] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (p[k] & 0x3f);
	}
	return table[i].len;
}

int
utf8_printable(uint32_t code)
{
	static const struct {
		uint32_t first, last;
	} bad[] = {
		{ 0x00, 0x1f }, { 0x7f, 0x9f },
		{ 0x061c, 0x061c }, /* directions of writing */
		{ 0x200b, 0x200f }, /* some more, and what has no width */
		{ 0x2028, 0x202e }, /* ends of lines, and directions */
		{ 0x2060, 0x206f }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
		{ 0xe0000, 0xe007f }, /* tags */
	};
	size_t i;

	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
		if (code >= bad[i].first && code <= bad[i].last)
			return 0;
	return 1;
}
