/*
 * object.c: knotes of the filters other than READ and WRITE.
 *
 * Objects live in slabs and are named by index.  One whose index is its ident
 * is at home: no search is needed, and as most programs count their timers,
 * most are.  The others are found by a hash of (filter, ident).  A free object
 * keeps its generation, so that an entry of the FIFO or a tag of the epoll that
 * named the one before is recognised.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "huge.h"
#include "kq.h"

#define OBJSLAB 256
#define CHUNK 128 /* slabs at once when there are as many */
#define MINHASH 64

static const struct {
	int filter;
	const struct filter *functions;
} filters[] = {
	{ EVFILT_PROC, &filter_proc },
	{ EVFILT_PROCDESC, &filter_procdesc },
	{ EVFILT_SIGNAL, &filter_signal },
	{ EVFILT_TIMER, &filter_timer },
	{ EVFILT_USER, &filter_user },
	{ EVFILT_VNODE, &filter_vnode },
	{ EVFILT_EMPTY, &filter_empty },
	{ EVFILT_EXCEPT, &filter_except },
	{ EVFILT_FS, &filter_fs },
	{ FILTER_RECHECK, &filter_recheck },
	{ FILTER_SIDE, &filter_side },
	{ FILTER_TRACK, &filter_track },
};

#define NFILTERS (sizeof(filters) / sizeof(filters[0]))

const struct filter *
object_filter(int filter)
{
	size_t i;

	for (i = 0; i < NFILTERS; i++)
		if (filters[i].filter == filter)
			return filters[i].functions;
	return NULL;
}

struct object *
object_at(struct kqueue *q, uint32_t index)
{
	if (index >= q->q_nobjects)
		return NULL;
	return &q->q_slabs[index / OBJSLAB][index % OBJSLAB];
}

/* -- finding them ---------------------------------------------------------- */

static bool
is_at_home(const struct object *o)
{
	return o->o_index == o->o_ident;
}

static bool
is_of(const struct object *o, int filter, uintptr_t ident)
{
	return o->o_ident == ident && o->o_filter == filter &&
	    (o->o_knote.kn_status & KN_ATTACHED) != 0;
}

/* The upper bits: neighbours among idents do not meet. */
static uint32_t *
chain(const struct kqueue *q, int filter, uintptr_t ident)
{
	uint64_t h =
	    ((uint64_t)ident ^ (uint64_t)(-filter) << 48) * 0x9e3779b97f4a7c15u;

	return &q->q_hash[(h >> 32) * q->q_hashsize >> 32];
}

struct object *
object_find(struct kqueue *q, int filter, uintptr_t ident)
{
	struct object *o;
	uint32_t i;

	if (ident < q->q_nobjects) {
		timers_fetch(&q->q_timers[CLOCK_UPTIME], (uint32_t)ident);
		o = object_at(q, (uint32_t)ident);
		if (is_of(o, filter, ident))
			return o;
	}
	if (q->q_hashed == 0)
		return NULL;
	for (i = *chain(q, filter, ident); i != NO_OBJECT; i = o->o_next) {
		timers_fetch(&q->q_timers[CLOCK_UPTIME], i);
		o = object_at(q, i);
		if (is_of(o, filter, ident))
			return o;
	}
	return NULL;
}

static void
fetch_at(const struct kqueue *q, uint32_t index)
{
	__builtin_prefetch(&q->q_slabs[index / OBJSLAB][index % OBJSLAB], 1);
	timers_fetch(&q->q_timers[CLOCK_UPTIME], index);
}

void
object_fetch_early(const struct kqueue *q, int filter, uintptr_t ident)
{
	if (ident < q->q_nobjects)
		fetch_at(q, (uint32_t)ident);
	else if (q->q_hashed != 0)
		__builtin_prefetch(chain(q, filter, ident));
}

void
object_fetch(const struct kqueue *q, int filter, uintptr_t ident)
{
	uint32_t index;

	if (ident >= q->q_nobjects && q->q_hashed != 0 &&
	    (index = *chain(q, filter, ident)) != NO_OBJECT)
		fetch_at(q, index);
}

static void
hash_insert(struct kqueue *q, struct object *o)
{
	uint32_t *head = chain(q, o->o_filter, o->o_ident);

	o->o_next = *head;
	*head = o->o_index;
	q->q_hashed++;
}

static void
hash_remove(struct kqueue *q, struct object *o)
{
	uint32_t *link = chain(q, o->o_filter, o->o_ident);

	while (*link != o->o_index)
		link = &object_at(q, *link)->o_next;
	*link = o->o_next;
	q->q_hashed--;
}

/* A head for each object in it, or more: chains stay short. */
static int
hash_grow(struct kqueue *q)
{
	uint32_t size = q->q_hashsize == 0 ? MINHASH : 2 * q->q_hashsize, i;
	uint32_t *heads;
	struct object *o;

	if (size == 0 || (heads = malloc(size * sizeof(*heads))) == NULL)
		return ENOMEM;
	for (i = 0; i < size; i++)
		heads[i] = NO_OBJECT;
	free(q->q_hash);
	q->q_hash = heads;
	q->q_hashsize = size;
	q->q_hashed = 0;
	for (i = 0; i < q->q_nobjects; i++) {
		o = object_at(q, i);
		if ((o->o_knote.kn_status & KN_ATTACHED) && !is_at_home(o))
			hash_insert(q, o);
	}
	return 0;
}

/* -- the slabs ------------------------------------------------------------- */

/* The free ones form a list in both directions: any of them may be taken. */
static void
put_free(struct kqueue *q, struct object *o)
{
	if (q->q_freeobject != NO_OBJECT)
		object_at(q, q->q_freeobject)->o_before = o->o_index;
	o->o_before = NO_OBJECT;
	o->o_next = q->q_freeobject;
	q->q_freeobject = o->o_index;
}

static void
take_free(struct kqueue *q, const struct object *o)
{
	if (o->o_next != NO_OBJECT)
		object_at(q, o->o_next)->o_before = o->o_before;
	if (o->o_before != NO_OBJECT)
		object_at(q, o->o_before)->o_next = o->o_next;
	else
		q->q_freeobject = o->o_next;
}

/* Room in q_slabs for as many more, which is a power of two. */
static int
slabs_grow(struct kqueue *q, uint32_t more)
{
	struct object **slabs;

	if ((q->q_nslabs & (q->q_nslabs - 1)) != 0)
		return 0;
	slabs = realloc(q->q_slabs,
	    (q->q_nslabs + (size_t)(q->q_nslabs == 0 ? more : q->q_nslabs)) *
		sizeof(*slabs));
	if (slabs == NULL)
		return ENOMEM;
	q->q_slabs = slabs;
	return 0;
}

/* One more slab, or a chunk of them, their objects on the free list. */
static int
slab_new(struct kqueue *q)
{
	uint32_t n = q->q_nslabs < CHUNK ? 1 : CHUNK, first, i;
	struct object *o;
	size_t bytes = n * OBJSLAB * sizeof(*o);

	if (slabs_grow(q, n) != 0 || (o = huge_alloc(bytes)) == NULL)
		return ENOMEM;
	memset(o, 0, bytes);
	for (i = 0; i < n; i++)
		q->q_slabs[q->q_nslabs++] = o + (size_t)i * OBJSLAB;
	first = q->q_nobjects;
	q->q_nobjects += n * OBJSLAB;
	for (i = n * OBJSLAB; i-- > 0;) {
		o[i].o_index = first + i;
		put_free(q, &o[i]);
	}
	return 0;
}

static void
slabs_free(struct kqueue *q)
{
	uint32_t i;

	for (i = 0; i < q->q_nslabs; i++)
		if (i < CHUNK || i % CHUNK == 0)
			free(q->q_slabs[i]);
	free(q->q_slabs);
	q->q_slabs = NULL;
}

/* A free one: at home if that can be, else whichever was freed last. */
static struct object *
choose(struct kqueue *q, uintptr_t ident)
{
	struct object *o;

	if (ident < q->q_nobjects) {
		o = object_at(q, (uint32_t)ident);
		if ((o->o_knote.kn_status & KN_ATTACHED) == 0)
			return o;
	}
	return object_at(q, q->q_freeobject);
}

int
object_new(struct kqueue *q, int filter, uintptr_t ident, struct object **op)
{
	struct object *o;

	if (q->q_freeobject == NO_OBJECT && slab_new(q) != 0)
		return ENOMEM;
	o = choose(q, ident);
	if (o->o_index != ident && q->q_hashed == q->q_hashsize &&
	    hash_grow(q) != 0)
		return ENOMEM;
	if (ready_reserve(q) != 0)
		return ENOMEM;
	take_free(q, o);
	*o = (struct object){ .o_gen = o->o_gen,
		.o_index = o->o_index,
		.o_ident = ident,
		.o_filter = (int16_t)filter };
	o->o_knote.kn_status = KN_ATTACHED;
	if (!is_at_home(o))
		hash_insert(q, o);
	*op = o;
	return 0;
}

void
object_discard(struct kqueue *q, struct object *o)
{
	if (!is_at_home(o))
		hash_remove(q, o);
	ready_release(q);
	free(o->o_ext);
	o->o_ext = NULL;
	o->o_knote.kn_status = 0;
	o->o_gen = (o->o_gen + 1) & GEN_MASK;
	put_free(q, o);
}

void
object_free(struct kqueue *q, struct object *o)
{
	object_filter(o->o_filter)->f_detach(q, o);
	object_discard(q, o);
}

void
object_free_all(struct kqueue *q)
{
	struct object *o;
	uint32_t i;

	for (i = 0; i < q->q_nobjects; i++) {
		o = object_at(q, i);
		if (o->o_knote.kn_status & KN_ATTACHED) {
			object_filter(o->o_filter)->f_detach(q, o);
			free(o->o_ext);
		}
	}
	timer_close(q);
	slabs_free(q);
	free(q->q_hash);
	q->q_hash = NULL;
	q->q_nslabs = q->q_nobjects = q->q_hashsize = q->q_hashed = 0;
	q->q_freeobject = NO_OBJECT;
}

void
object_activate(struct kqueue *q, struct object *o)
{
	if (o->o_knote.kn_status & KN_DISABLED)
		o->o_knote.kn_status |= KN_ACTIVE;
	else
		ready_push(q, &o->o_knote, o->o_filter, o->o_index, o->o_gen,
		    PLACE_RESERVED);
}

/* -- those of a descriptor ------------------------------------------------- */

static void
each_of(struct kqueue *q, int fd, bool keep_same)
{
	const struct filter *f;
	struct object *o;
	size_t i;

	for (i = 0; i < NFILTERS; i++) {
		f = filters[i].functions;
		if (f->f_isfd &&
		    (o = object_find(q, filters[i].filter, (uintptr_t)fd)) !=
			NULL &&
		    !(keep_same && f->f_same(q, o)))
			object_free(q, o);
	}
}

void
object_purge(struct kqueue *q, int fd)
{
	each_of(q, fd, false);
}

void
object_verify(struct kqueue *q, int fd)
{
	each_of(q, fd, true);
}

void
object_event(struct kqueue *q, uint64_t tag)
{
	struct object *o = object_at(q, TAG_INDEX(tag));
	const struct filter *f;

	if (o == NULL || o->o_gen != TAG_GEN(tag) ||
	    (o->o_knote.kn_status & KN_ATTACHED) == 0)
		return;
	f = object_filter(o->o_filter);
	if (f->f_event != NULL)
		f->f_event(q, o);
}

void
object_watch_all(struct kqueue *q)
{
	const struct filter *f;
	struct object *o;
	uint32_t i;

	for (i = 0; i < q->q_nobjects; i++) {
		o = object_at(q, i);
		if ((o->o_knote.kn_status & KN_ATTACHED) == 0)
			continue;
		f = object_filter(o->o_filter);
		if (f->f_watch != NULL)
			f->f_watch(q, o);
	}
}
