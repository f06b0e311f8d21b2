/*
 * Which address to try next, and when (RFC 8305, "Happy Eyeballs").
 *
 * The families are asked for at the same time and take turns, IPv6 first.  If
 * IPv4 is known first, IPv6 gets RACE_HOLD_MS to follow.  An attempt begins
 * RACE_APART_MS after the one before it, or at once if one has failed.  The
 * first that succeeds wins.
 *
 * There is no socket and no clock in here: who calls says what has happened
 * and what tick it is.
 */
#include "dial.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int pick(const struct race *r, enum family *family);
static int telling(int err);

void
kquay_race_init(struct race *r)
{
	memset(r, 0, sizeof(*r));
}

void
kquay_race_fini(struct race *r)
{
	free(r->family[FAMILY_6].addrs);
	free(r->family[FAMILY_4].addrs);
	kquay_race_init(r);
}

/*
 * The addresses of a family are known, or that there are none.  They are
 * copied.  0, or -1 without memory.
 */
int
kquay_race_answer(struct race *r, enum family family,
    const struct answer *answer, uint32_t now)
{
	struct runners *of = &r->family[family];
	size_t size = answer->n * sizeof(*of->addrs);

	if (answer->n != 0) {
		of->addrs = malloc(size);
		if (of->addrs == NULL)
			return -1;
		memcpy(of->addrs, answer->addrs, size);
	} else if (telling(answer->err) > telling(r->err))
		r->err = answer->err;
	of->n = answer->n;
	of->known = 1;
	if (family == FAMILY_4 && answer->n != 0 && !r->begun)
		r->not_until = now + kquay_wheel_ticks(RACE_HOLD_MS) + 1;
	return 0;
}

/* What to do now.  *addr is where to, for RACE_TRY. */
enum race_step
kquay_race_step(struct race *r, uint32_t now, union peer_addr *addr)
{
	const struct runners *of = r->family;
	enum family family;

	r->timed = 0;
	if (!pick(r, &family))
		return r->running == 0 && of[FAMILY_6].known &&
			of[FAMILY_4].known ?
		    RACE_LOST :
		    RACE_WAIT;
	if ((int32_t)(r->not_until - now) > 0 &&
	    (r->running != 0 || (!r->begun && !of[FAMILY_6].known))) {
		r->timed = 1;
		r->due = r->not_until;
		return RACE_WAIT;
	}
	*addr = r->family[family].addrs[r->family[family].next++];
	r->turn = family == FAMILY_6 ? FAMILY_4 : FAMILY_6;
	r->begun = 1;
	r->running++;
	r->not_until = now + kquay_wheel_ticks(RACE_APART_MS) + 1;
	return RACE_TRY;
}

/* An attempt has failed: the next may begin at once. */
void
kquay_race_failed(struct race *r, int err, uint32_t now)
{
	kquay_race_given_up(r, err);
	r->not_until = now;
}

/* An attempt was given up, to make room for another. */
void
kquay_race_given_up(struct race *r, int err)
{
	r->running--;
	if (telling(err) > telling(r->err))
		r->err = err;
}

/* The family of the next address; 0 if there is none. */
static int
pick(const struct race *r, enum family *family)
{
	const struct runners *of;
	int i;

	for (i = 0; i < FAMILIES; i++) {
		*family = (enum family)((r->turn + i) % FAMILIES);
		of = &r->family[*family];
		if (of->next < of->n)
			return 1;
	}
	return 0;
}

/* How much an error tells of why nobody was reached. */
static int
telling(int err)
{
	switch (err) {
	case 0:
		return 0;
	case ENOENT: /* no such name in this family */
		return 1;
	case EAFNOSUPPORT: /* this machine has no way there */
	case EADDRNOTAVAIL:
	case ENETUNREACH:
		return 2;
	case ETIMEDOUT:
		return 3;
	default: /* something on the way said no */
		return 4;
	case ECONNREFUSED: /* the host itself did */
	case ECONNRESET:
		return 5;
	case EMFILE: /* we could not even ask */
	case ENFILE:
	case ENOBUFS:
	case ENOMEM:
		return 6;
	}
}
