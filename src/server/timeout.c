/*
 * Time limits: one wheel for all connections of a loop.
 *
 * A connection with limits is on the wheel once, at or before its earliest
 * deadline.  Activity only stores the tick (c->active) and leaves the wheel
 * alone; when the slot comes up the deadline is computed again, and either
 * the connection has expired or it is put where it belongs now.  So a byte
 * costs one store, and a timeout of an hour is looked at a handful of times.
 *
 * Level 0 has a slot for each of the next 64 ticks, level 1 for each of the
 * next 64 groups of 64 ticks, and so on: five levels hold 2^30 ticks of 16 ms.
 * A limit takes effect not before its time and at most two ticks later.
 *
 * Ticks are 32 bits and wrap after two years; only differences are compared.
 */
#include "server.h"

static int deadline(const struct kquay_conn *c, uint32_t *tick);
static void earliest(uint32_t *best, int *have, uint32_t tick);
static void put(struct kquay *q, struct kquay_conn *c, uint32_t tick);
static void turn_slot(struct kquay *q, unsigned slot);

/* A limit in ms as ticks; 0 for never. */
uint32_t
kquay_wheel_ticks(int ms)
{
	return ms < 0 ?
	    0 :
	    (uint32_t)((ms + (int64_t)TICK_MS - 1) / TICK_MS) + (ms == 0);
}

/* The limits of an open connection; 0 is never. */
void
kquay_wheel_limits(const struct kquay_conn *c, uint32_t *idle, uint32_t *life)
{
	const struct kquay *q = kquay_pool_loop(c);
	const struct more *more = kquay_pool_more(c);
	int own = c->flags & C_LIMITS;

	*idle = own ? more->idle : q->idle;
	*life = own ? more->life : q->life;
}

/* Whether c is on the wheel. */
int
kquay_wheel_has(const struct kquay_conn *c)
{
	return kquay_pool_loop(c)->wheel.prev[kquay_pool_link(c)] != 0;
}

/* Put c on the wheel if it has a limit, or move it to an earlier slot. */
void
kquay_wheel_set(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t tick;

	kquay_wheel_clear(c);
	if (c->state == CONN_FREE || c->state == CONN_DEAD)
		return;
	if (!deadline(c, &tick))
		return;
	if (q->wheel.count == 0)
		q->wheel.now = q->tick;
	put(q, c, tick);
}

/* The present tick: a limit that begins now must not begin in the past. */
uint32_t
kquay_wheel_now(struct kquay *q)
{
	kquay_loop_clock(q);
	return q->tick;
}

void
kquay_wheel_clear(struct kquay_conn *c)
{
	struct kquay *q = kquay_pool_loop(c);
	uint32_t link = kquay_pool_link(c), prev, next = c->next;
	struct wheel *w = &q->wheel;
	unsigned slot;

	if (w->count == 0 || (prev = w->prev[link]) == 0)
		return;
	if (next != 0)
		w->prev[next] = prev;
	if (!(prev & WHEEL_FIRST))
		kquay_pool_at(q, prev)->next = next;
	else {
		slot = prev & ~WHEEL_FIRST;
		w->head[slot] = next;
		if (next == 0 && slot != WHEEL_FIRING)
			w->map[slot / WHEEL_SLOTS] &=
			    ~((uint64_t)1 << (slot % WHEEL_SLOTS));
	}
	w->prev[link] = c->next = 0;
	w->count--;
}

/* Expire what is due at q->tick. */
void
kquay_wheel_turn(struct kquay *q)
{
	struct wheel *w = &q->wheel;
	uint32_t next;
	int level;

	while (kquay_wheel_due(q, &next) && (int32_t)(next - q->tick) <= 0) {
		w->now = next;
		for (level = WHEEL_LEVELS - 1; level >= 0; level--) {
			if ((next &
				(((uint32_t)1 << (level * LEVEL_BITS)) - 1)) !=
			    0)
				continue;
			turn_slot(q,
			    (unsigned)level * WHEEL_SLOTS +
				((next >> (level * LEVEL_BITS)) % WHEEL_SLOTS));
		}
	}
	if ((int32_t)(q->tick - w->now) > 0)
		w->now = q->tick;
}

/* The tick at which the wheel must be turned next; 0 if it is empty. */
int
kquay_wheel_due(const struct kquay *q, uint32_t *tick)
{
	const struct wheel *w = &q->wheel;
	uint32_t base, at;
	uint64_t map;
	int level, have = 0;

	if (w->count == 0)
		return 0;
	for (level = 0; level < WHEEL_LEVELS; level++) {
		if ((map = w->map[level]) == 0)
			continue;
		base = w->now >> (level * LEVEL_BITS);
		/* Rotate so that bit 0 is the slot after the present one. */
		at = (base + 1) % WHEEL_SLOTS;
		if (at != 0)
			map = map >> at | map << (WHEEL_SLOTS - at);
		earliest(tick, &have,
		    (base + 1 + (uint32_t)__builtin_ctzll(map))
			<< (level * LEVEL_BITS));
	}
	return have;
}

static void
put(struct kquay *q, struct kquay_conn *c, uint32_t tick)
{
	struct wheel *w = &q->wheel;
	uint32_t diff = tick - w->now;
	unsigned level, slot;

	if ((int32_t)diff <= 0) {
		tick = w->now + 1;
		diff = 1;
	}
	for (level = 0; level < WHEEL_LEVELS - 1; level++)
		if (diff < (uint32_t)1 << ((level + 1) * LEVEL_BITS))
			break;
	if (diff > WHEEL_MAX)
		tick = w->now + WHEEL_MAX;
	slot = (tick >> (level * LEVEL_BITS)) % WHEEL_SLOTS;
	w->map[level] |= (uint64_t)1 << slot;
	slot += level * WHEEL_SLOTS;

	c->next = w->head[slot];
	if (c->next != 0)
		w->prev[c->next] = kquay_pool_link(c);
	w->prev[kquay_pool_link(c)] = WHEEL_FIRST | slot;
	w->head[slot] = kquay_pool_link(c);
	w->count++;
}

/* Each connection of the slot has expired, or goes to a finer level. */
static void
turn_slot(struct kquay *q, unsigned slot)
{
	struct wheel *w = &q->wheel;
	struct kquay_conn *c;
	uint32_t link, tick;

	if ((link = w->head[slot]) == 0)
		return;
	w->head[WHEEL_FIRING] = link;
	w->prev[link] = WHEEL_FIRST | WHEEL_FIRING;
	w->head[slot] = 0;
	w->map[slot / WHEEL_SLOTS] &= ~((uint64_t)1 << (slot % WHEEL_SLOTS));
	while ((link = w->head[WHEEL_FIRING]) != 0) {
		c = kquay_pool_at(q, link);
		kquay_wheel_clear(c);
		if (c->flags & C_STARVED)
			kquay_conn_feed(c);
		if (c->state == CONN_DEAD || !deadline(c, &tick))
			continue;
		if ((int32_t)(tick - w->now) > 0)
			put(q, c, tick);
		else
			kquay_conn_expire(c);
	}
}

static void
earliest(uint32_t *best, int *have, uint32_t tick)
{
	if (!*have || (int32_t)(tick - *best) < 0)
		*best = tick;
	*have = 1;
}

int64_t
kquay_idle(const struct kquay_conn *c)
{
	uint32_t ticks = kquay_wheel_now(kquay_pool_loop(c)) - c->active;

	return (int64_t)ticks * TICK_MS;
}

/* When c expires.  A tick more than the limit, for the part that has gone. */
static int
deadline(const struct kquay_conn *c, uint32_t *tick)
{
	const struct kquay *q = kquay_pool_loop(c);
	uint32_t from, idle, life;
	int have = 0;

	if (c->flags & C_STARVED)
		earliest(tick, &have, q->tick + 1);
	if (c->state == CONN_DIAL ||
	    (c->state == CONN_SHAKE && (c->flags & C_CLIENT))) {
		if (kquay_dial_due(c, &from))
			earliest(tick, &have, from);
		return have;
	}
	if (c->state == CONN_SHAKE) {
		if (q->shake != 0)
			earliest(tick, &have, c->born + q->shake + 1);
		return have;
	}
	if (c->state == CONN_FLUSH || c->state == CONN_LINGER) {
		if (q->linger != 0) {
			from = (int32_t)(c->active - c->born) > 0 ? c->active :
								    c->born;
			earliest(tick, &have, from + q->linger + 1);
			earliest(tick, &have, c->born + q->linger_max + 1);
		}
		return have;
	}
	kquay_wheel_limits(c, &idle, &life);
	if (idle != 0 && c->state != CONN_AWAY)
		earliest(tick, &have, c->active + idle + 1);
	if (life != 0)
		earliest(tick, &have, c->born + life + 1);
	if ((c->flags & C_FRESH) && q->handshake != 0)
		earliest(tick, &have, c->born + q->handshake + 1);
	return have;
}
