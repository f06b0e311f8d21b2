/*
 * own.c: a bit for each descriptor number.  Numbers beyond are not protected.
 */
#include <stddef.h>
#include <stdint.h>

#include "own.h"
#include "process.h"

#define NUMBERS (1u << 20)
#define PERWORD 64

static uint64_t words[NUMBERS / PERWORD];
static uint32_t nwords; /* the bits are in these; only grows */

void
own_add(int fd)
{
	uint32_t word = (uint32_t)fd / PERWORD, n;

	if ((uint32_t)fd >= NUMBERS)
		return;
	__atomic_fetch_or(&words[word], (uint64_t)1 << fd % PERWORD,
	    __ATOMIC_RELAXED);
	n = __atomic_load_n(&nwords, __ATOMIC_RELAXED);
	while (n <= word &&
	    !__atomic_compare_exchange_n(&nwords, &n, word + 1, true,
		__ATOMIC_RELAXED, __ATOMIC_RELAXED))
		continue;
}

void
own_remove(int fd)
{
	if ((uint32_t)fd < NUMBERS)
		__atomic_fetch_and(&words[fd / PERWORD],
		    ~((uint64_t)1 << fd % PERWORD), __ATOMIC_RELAXED);
}

static uint64_t
bits_from(uint32_t fd)
{
	return __atomic_load_n(&words[fd / PERWORD], __ATOMIC_RELAXED) &
	    ~(uint64_t)0 << fd % PERWORD;
}

bool
own_guards(int fd)
{
	if ((uint32_t)fd >= NUMBERS ||
	    (bits_from((uint32_t)fd) >> (uint32_t)fd % PERWORD & 1) == 0)
		return false;
	if (!process_is_owner())
		own_remove(fd);
	return process_is_self();
}

int
own_next(int fd)
{
	uint32_t end = __atomic_load_n(&nwords, __ATOMIC_RELAXED) * PERWORD;
	uint32_t n = (uint32_t)fd;
	uint64_t bits;

	for (; n < end; n = (n / PERWORD + 1) * PERWORD)
		if ((bits = bits_from(n)) != 0)
			return (int)(n / PERWORD * PERWORD) +
			    __builtin_ctzll(bits);
	return -1;
}
