/*
 * Writing JSON (RFC 8259), value after value, to a stream.
 */
#ifndef KQUAY_JSON_H
#define KQUAY_JSON_H

#include <stdint.h>
#include <stdio.h>

#define JSON_DEPTH 16

/* All zero but for out: nothing is written yet. */
struct json {
	FILE *out;
	int depth;
	char closing[JSON_DEPTH]; /* what ends each level: } or ] */
	int filled;               /* the current level has a value */
};

/*
 * Each writes one value: with its key in an object; key is NULL in an array
 * and outside of all.
 */
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j); /* of the object or array begun last */
void json_text(struct json *j, const char *key, const char *value);
void json_number(struct json *j, const char *key, uint64_t value);
void json_seconds(struct json *j, const char *key, int64_t ms);
void json_truth(struct json *j, const char *key, int value);
void json_null(struct json *j, const char *key);

#endif
