/*
 * Numbers that tell texts apart, the same in every process: no help against
 * who chooses the texts.
 */
#ifndef KQUAY_HASH_H
#define KQUAY_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash(const void *data, size_t len);

/* Every bit of x decides over every bit of the result. */
uint64_t hash_mix(uint64_t x);

#endif
