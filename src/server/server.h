/*
 * What the files of the server library share: the loop, the connection, and
 * the functions of each file.  Nothing outside of this folder includes it,
 * except white-box tests.
 *
 * Invariants:
 *  1. No pointer is ever kept in a knote.  Its udata is a tag: the id of a
 *     connection (slot and generation), or a kind (enum tag).
 *  2. A connection that has ended (CONN_DEAD) keeps its slot and its
 *     descriptor until the batch is over (kquay_conn_reap); so neither slot
 *     nor descriptor number is reused while an event of the batch may still
 *     name it.
 *  3. A close callback is called by kquay_conn_reap() only, never from inside
 *     a call of the service.
 *  4. An idle connection owns its slot and nothing else, or if it is joined to
 *     another its struct joint.
 *  5. The service meets a connection in open(), or as what kquay_dial() has
 *     returned, and then gets close() (C_KNOWN).  An accepted one that fails
 *     before open() is a caller turned away: refused(), even if admit() has
 *     seen it.
 */
#ifndef KQUAY_SERVER_H
#define KQUAY_SERVER_H

/* All names are hidden but those of the public header. */
#pragma GCC visibility push(default)
#include <kquay.h>
#pragma GCC visibility pop

#include <sys/queue.h>
#include <sys/tree.h>

#include <netinet/in.h>

#include <limits.h>
#include <pthread.h>

enum {
	CORKSIZE = 64 * 1024, /* output of one callback that makes one send */
	READSIZE = 64 * 1024, /* most that one recv takes */
	NEVENTS = 128,        /* of one batch; also room for changes, so that
	                         every change that fails has an entry */
	TICK_MS = 16,         /* grain of all time limits */
	REST_MS = 100,        /* listeners rest when accept finds no memory */
	SHAKE_MS = 10000,     /* for a PROXY header and a TLS handshake */
	LINGERS = 16          /* how often a peer that reads gets linger anew */
};

/* -- the connection */

enum conn_state {
	CONN_FREE,  /* the slot is free */
	CONN_DIAL,  /* has no descriptor yet */
	CONN_SHAKE, /* connected; PROXY header or TLS handshake to come */
	CONN_OPEN,
	CONN_HALF,   /* the peer is done, the service is not */
	CONN_SPLICE, /* joined to another (struct joint) */
	CONN_FLUSH,  /* closing: what is queued goes out */
	CONN_LINGER, /* closing: our end is sent, theirs is awaited */
	CONN_AWAY,   /* its descriptor has been taken by the service */
	CONN_DEAD    /* ended, waits for the end of the batch */
};

enum conn_flag {
	C_SOCKET = 0x000001,  /* fd is a socket */
	C_FRESH = 0x000002,   /* no byte has come yet */
	C_SENT = 0x000004,    /* a byte has been sent */
	C_EOF = 0x000008,     /* the peer's end has been seen */
	C_PAUSED = 0x000010,  /* the service does not want input */
	C_CHOKED = 0x000020,  /* output is over outhi */
	C_STARVED = 0x000040, /* the kernel has no memory: retry by the wheel */
	C_READY = 0x000080,   /* on the loop's list of the ready */
	C_ADDED = 0x000100,   /* the READ knote exists */
	C_READ = 0x000200,    /* and is enabled */
	C_WRITE = 0x000400,   /* the WRITE knote exists */
	C_COUNTED = 0x000800, /* in the table of peer addresses */
	C_RESET = 0x001000,   /* close with a reset */
	C_KEPT = 0x002000,    /* input is kept (more->in) */
	C_QUEUED = 0x004000,  /* output is queued (more->out) */
	C_LIMITS = 0x008000,  /* it has limits of its own (more->idle, life) */
	C_EARLY = 0x010000,   /* output waits for open() (more->early) */
	C_KNOWN = 0x020000,   /* the service knows it: close() is due */
	C_CLIENT = 0x040000,  /* dialled: the peer is a server */
	C_PROXY = 0x080000,   /* a PROXY header is to be read, or sent, first */
	C_TLS = 0x100000,     /* bytes go through tls.c (more->tls) */
	C_FINISHED = 0x200000, /* our half is over, or will be after the queue */
	C_BLOCKED = C_PAUSED | C_CHOKED,
	/* What a listener may ask for, and comes before open(). */
	C_LAYERS = C_PROXY | C_TLS
};

/* In the flags too: the number of the last change list that names it. */
#define C_LIST(list) ((uint32_t)(list) << 24)

/* Bytes of output, in a ring whose tail the connection holds. */
struct chunk {
	struct chunk *next;
	uint32_t off, len, size; /* data[off..len) is to be sent */
	char data[];
};

/* Input that waits for its end, or for the service. */
struct kept {
	uint32_t len, size;
	uint32_t seen; /* how much of it was searched for its end */
	char data[];
};

/* What kquay_peeraddr() answers; AF_UNIX and AF_UNSPEC need the family only. */
union peer_addr {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};

/*
 * A connection: the one cache line that an event touches.  Links are slot
 * numbers, from 1; 0 is none.  Slot 0 is no connection and knows the loop.
 * Times are ticks.
 */
struct kquay_conn {
	uint64_t id; /* generation << 24 | slot */
	union {
		const struct kquay_ops *ops;
		struct kquay *loop; /* of slot 0 */
	};
	int fd;
	uint32_t active; /* when a byte went either way */
	uint32_t born;  /* when the state began: SHAKE, OPEN, or closing */
	uint32_t flags; /* enum conn_flag, and C_LIST */
	unsigned next : 24; /* list of the wheel, of the dead, or of the free */
	unsigned state : 4; /* enum conn_state */
	unsigned why : 4;   /* enum kquay_why, once closing */
	union peer_addr peer;
} __attribute__((__aligned__(64)));

_Static_assert(sizeof(struct kquay_conn) == 64, "one cache line");

/*
 * What not every connection has is in tables beside the slots: where nothing
 * was written, there is no memory either.
 */

/* What one of two that are joined receives and the other sends. */
struct flow {
	unsigned mate : 24;  /* the other: its slot */
	unsigned bulk : 1;   /* goes through a pipe */
	unsigned copies : 1; /* never does */
	unsigned done : 1;   /* the end has been passed on */
	unsigned streak : 2; /* reads that say that bulk is wrong */
	unsigned slow : 1;   /* the last pipeful went out in many bits */
};

/* Of those that are dialled or joined: a relay's all are, and most are idle. */
struct joint {
	union { /* NULL, or */
		struct dial *dial; /* of a C_CLIENT that is not open yet */
		struct pipe *pipe; /* of a CONN_SPLICE, with what has come */
	};
	struct flow flow; /* of a CONN_SPLICE */
	uint32_t ready_next;
};

_Static_assert(sizeof(struct joint) == 16, "small");

/*
 * Of those that are busy.  Zero is written only over something else: a relay
 * leaves this table alone while its peers keep pace.
 */
struct more {
	struct chunk *out;   /* for the kernel: tail of the ring; NULL if empty */
	struct kept *in;     /* NULL if nothing is kept */
	struct tls *tls;     /* with C_TLS */
	uint32_t outlen;     /* bytes in the ring of out */
	uint32_t unsent;     /* bytes in the kernel, as of the last look */
	uint32_t idle, life; /* limits, if C_LIMITS; 0 is never */
	struct kept *header; /* of a PROXY protocol, or NULL */
	struct chunk *early; /* written before open(): tail of the ring */
	uint32_t earlylen;   /* bytes in that ring */
	uint32_t err;        /* errno of KQUAY_ERROR */
};

/* Bytes of a connection, in a table that is there with KQUAY_TRAFFIC alone. */
struct traffic {
	uint64_t in, out;
};

/* -- the loop */

/* udata of the knotes that are no connection's; an id never looks like one. */
enum tag {
	TAG_LISTEN = 1 << 24,
	TAG_SIGNAL = 2 << 24,
	TAG_POST = 3 << 24,
	TAG_WATCH = 4 << 24,
	TAG_RESOLVE = 5 << 24
};

struct listener {
	STAILQ_ENTRY(listener) next;
	int fd;        /* -1 once the loop listens no more */
	unsigned layers; /* C_LAYERS of its connections */
	struct kquay_tls *tls; /* of its connections, or NULL */
	int deals;     /* and they may be of any loop of the team */
	int spread;    /* each loop of the team has one for this address */
	int burst;     /* callers to take at the next event */
	uint64_t last; /* batch of the event before */
	char *text;    /* for kquay_listening() */
	char *path;    /* UNIX socket that we made, or NULL */
	dev_t dev;     /* its file, and who made it */
	ino_t ino;
	pid_t pid;
};

/* A kquay_watch(), found by the key that kqueue(2) itself uses. */
struct watch {
	RB_ENTRY(watch) node;
	uintptr_t ident;
	short filter;
	uint64_t since; /* batch in which it was registered */
	void *udata;
	kquay_watch_fn *fn;
	void *arg;
};
RB_HEAD(watch_tree, watch);

struct post {
	STAILQ_ENTRY(post) next;
	kquay_post_fn *fn;
	void *arg;
};
STAILQ_HEAD(post_list, post);

#define LEVEL_BITS 6
#define WHEEL_LEVELS 5
#define WHEEL_SLOTS (1 << LEVEL_BITS)
#define WHEEL_MAX (((uint32_t)1 << (WHEEL_LEVELS * LEVEL_BITS)) - 1)
#define WHEEL_FIRING (WHEEL_LEVELS * WHEEL_SLOTS) /* the list in hand */
#define WHEEL_FIRST ((uint32_t)1 << 31)

struct wheel {
	uint32_t now;               /* tick up to which it has turned */
	uint32_t count;             /* connections on it */
	uint64_t map[WHEEL_LEVELS]; /* slots in use */
	uint32_t head[WHEEL_FIRING + 1];
	/* Of each connection, the one before it; of the first WHEEL_FIRST and
	   the wheel's slot; of one that is not on the wheel 0. */
	uint32_t *prev;
};

struct peer_text {
	uint64_t id;
	char text[INET6_ADDRSTRLEN + 32];
};

struct kquay {
	int kq;
	int reserve;     /* descriptor to give up for a refusal */
	uint8_t running; /* in kquay_step() */
	uint8_t retired;  /* no listeners any more, and then an end */
	uint8_t stopping; /* and no connections: as fast as they can */
	uint8_t last_call; /* callers that wait are let in before the end */
	uint8_t full;    /* listeners are off until a slot is free */
	uint8_t resting; /* listeners are off until rest_end, or one is */
	uint8_t signals; /* holds the process's dispositions */
	uint8_t eager;   /* how often input was there at accept */
	uint8_t level;   /* how often it was stopped, of a team's */
	uint8_t reserved; /* a slot of the team's was taken for the next */
	unsigned member; /* its number in the team */
	struct kquay_team *team; /* that it belongs to, or NULL */
	uint32_t eager_turn;
	uint32_t rest_end; /* tick */
	uint32_t tick;     /* now, as of the last look at the clock */
	uint32_t phase;    /* ms since it began */
	int64_t epoch;     /* ms at which ticks began */

	struct kquay_sys sys;
	struct kquay_ops ops;
	struct kquay_conf conf;
	char *refusal; /* our copies */
	char *nameservers;
	size_t refusal_len;
	uint32_t idle, life, handshake, linger; /* conf's, as ticks */
	uint32_t shake;                         /* limit of CONN_SHAKE, ticks */
	uint32_t linger_max;

	/* pool.c; tables by slot number */
	struct kquay_conn *slots; /* aligned; within slots_mem */
	void *slots_mem;
	struct joint *joints;
	struct more *more;
	struct traffic *traffic; /* or NULL */
	char *udata;
	size_t udata_stride;
	uint64_t *live;  /* a bit for each slot that has not ended */
	uint32_t used;   /* the highest slot that was ever taken */
	uint32_t free;   /* first of the free up to that */
	uint32_t nconn;  /* slots taken now */
	uint32_t ndials; /* and of them by C_CLIENT */
	uint32_t *addrs; /* heads of the chains of peer addresses */
	uint32_t *addr_next;
	uint32_t addrs_mask;
	uint64_t addrs_seed[2];

	/* conn.c */
	uint32_t dead, dead_tail;   /* in the order they ended */
	uint32_t ready, ready_tail; /* kept input may be passed on */
	char *inbuf;                /* inmax + READSIZE + 1 */

	/* tls.c */
	struct tls_room *tls_room;

	/* splice.c */
	SLIST_HEAD(, pipe) pipes[2]; /* that wait for bulk: small, and large */
	unsigned npipes; /* on both lists */
	unsigned nlarge; /* lent ones too */
	unsigned nolarge; /* so many the system has not let us have */

	/* output.c */
	struct kquay_conn *corked; /* whose output is in the cork */
	uint32_t corklen;
	char *cork; /* CORKSIZE */

	/* listen.c */
	unsigned layers; /* C_LAYERS of the listeners to come */
	struct kquay_tls *tls; /* and theirs, or NULL */
	STAILQ_HEAD(, listener) listeners;
	struct listener *taking; /* callers are being taken from this one */
	char error[256];

	/* address.c */
	struct peer_text peers[4];
	unsigned peers_turn;

	/* watch.c */
	struct watch_tree watches;
	pthread_mutex_t post_lock;
	struct post_list posts; /* under post_lock */

	struct resolver *resolver; /* resolve.c; NULL if it never was asked */

	struct wheel wheel;
	struct kquay_stat stat;

	uint32_t list; /* number of the present change list, from 1 */
	int nchanges;
	struct kevent changes[NEVENTS];
	struct kevent events[NEVENTS];
};

/* loop.c */
int kquay_loop_change(struct kquay *q, const struct kevent *change);
void kquay_loop_forget(struct kquay *q, uintptr_t tag, int fd);
int kquay_loop_apply(struct kquay *q, const struct kevent *change);
void kquay_loop_clock(struct kquay *q);
void kquay_loop_stop(struct kquay *q);

/* team.c */
void kquay_team_stop_from(struct kquay *q);
void kquay_team_woken(struct kquay *q);
void kquay_team_got(struct kquay *q, struct listener *l);
void kquay_team_deaf(struct kquay *q);
int kquay_team_settled(const struct kquay *q);
int kquay_team_take(struct kquay *q, int beside);
void kquay_team_load(struct kquay *q, int n);
void kquay_team_give(struct kquay *q, int beside);
int kquay_team_full(const struct kquay *q);
void kquay_team_wait(struct kquay *q, int on);
int kquay_team_deal(struct kquay *q, int fd, unsigned layers,
    struct kquay_tls *tls, const struct sockaddr *sa, socklen_t salen);
int kquay_team_count(struct kquay *q, const struct sockaddr *sa, uint32_t max);
void kquay_team_uncount(struct kquay *q, const struct sockaddr *sa);

/* pool.c */
int kquay_pool_init(struct kquay *q);
void kquay_pool_fini(struct kquay *q);
struct kquay_conn *kquay_pool_take(struct kquay *q, unsigned kind);
void kquay_pool_ended(struct kquay_conn *c);
void kquay_pool_give(struct kquay_conn *c);
struct kquay_conn *kquay_pool_tagged(struct kquay *q, uintptr_t tag);
struct kquay_conn *kquay_pool_next(struct kquay *q, const struct kquay_conn *c);
int kquay_pool_crowded(struct kquay *q, const struct sockaddr *sa);
int kquay_pool_count(struct kquay_conn *c, uint32_t max);
int kquay_pool_address(const struct sockaddr *sa, uint64_t key[2]);
int kquay_pool_reserve(struct kquay *q);
void kquay_pool_unreserve(struct kquay *q);

static inline struct kquay_conn *
kquay_pool_at(const struct kquay *loop, uint32_t link)
{
	return loop->slots + link;
}

/* How many of maxconn's slots are taken. */
static inline uint32_t
kquay_pool_callers(const struct kquay *loop)
{
	return loop->nconn - (loop->conf.maxdial != 0 ? loop->ndials : 0);
}

/* Whether there is no slot for a caller. */
static inline int
kquay_pool_full(const struct kquay *loop)
{
	return kquay_pool_callers(loop) == loop->conf.maxconn ||
	    (loop->team != NULL && kquay_team_full(loop));
}

static inline uint32_t
kquay_pool_link(const struct kquay_conn *c)
{
	return (uint32_t)(c->id & 0xffffff);
}

static inline struct kquay *
kquay_pool_loop(const struct kquay_conn *c)
{
	return (c - kquay_pool_link(c))->loop;
}

static inline struct more *
kquay_pool_more(const struct kquay_conn *c)
{
	return kquay_pool_loop(c)->more + kquay_pool_link(c);
}

static inline struct joint *
kquay_pool_joint(const struct kquay_conn *c)
{
	return kquay_pool_loop(c)->joints + kquay_pool_link(c);
}

/* Set a member of struct more to what is most often 0, and so is there. */
static inline void
kquay_pool_store(uint32_t *member, uint32_t n)
{
	if (*member != n)
		*member = n;
}

/* How c is being dialled; NULL if it is open, or was. */
static inline struct dial *
kquay_pool_dial(const struct kquay_conn *c)
{
	return (c->flags & C_CLIENT) && c->state != CONN_SPLICE ?
	    kquay_pool_joint(c)->dial :
	    NULL;
}

/* The kernel has given n bytes of c's peer. */
static inline void
kquay_pool_got(struct kquay *loop, const struct kquay_conn *c, ssize_t n)
{
	loop->stat.in += (uint64_t)n;
	if (loop->traffic == NULL)
		return;
	loop->traffic[kquay_pool_link(c)].in += (uint64_t)n;
	if (c->flags & C_CLIENT)
		loop->stat.dialled_in += (uint64_t)n;
}

/* It has taken n bytes for it. */
static inline void
kquay_pool_sent(struct kquay *loop, const struct kquay_conn *c, ssize_t n)
{
	loop->stat.out += (uint64_t)n;
	if (loop->traffic == NULL)
		return;
	loop->traffic[kquay_pool_link(c)].out += (uint64_t)n;
	if (c->flags & C_CLIENT)
		loop->stat.dialled_out += (uint64_t)n;
}

/* conn.c */
struct kquay_conn *kquay_conn_new(struct kquay *q, int fd, unsigned layers,
    const struct sockaddr *sa, socklen_t salen);
void kquay_conn_start(struct kquay_conn *c);
struct kquay_conn *kquay_conn_dial(struct kquay *q,
    const struct kquay_ops *ops, unsigned layers);
void kquay_conn_connected(struct kquay_conn *c, int fd,
    const struct sockaddr *sa, socklen_t salen);
int kquay_conn_shake(struct kquay_conn *c);
void kquay_conn_open(struct kquay_conn *c);
void kquay_conn_interest(struct kquay_conn *c);
void kquay_conn_event(struct kquay_conn *c, const struct kevent *ev);
void kquay_conn_hangup(struct kquay_conn *c, enum kquay_why why);
void kquay_conn_end(struct kquay_conn *c, enum kquay_why why, int err);
void kquay_conn_expire(struct kquay_conn *c);
void kquay_conn_starve(struct kquay_conn *c);
void kquay_conn_feed(struct kquay_conn *c);
void kquay_conn_ready(struct kquay_conn *c);
void kquay_conn_resume(struct kquay *q);
void kquay_conn_reap(struct kquay *q);

/* input.c */
int kquay_input_read(struct kquay_conn *c, const struct kevent *ev);
void kquay_input_begin(struct kquay_conn *c);
ssize_t kquay_input_raw(struct kquay_conn *c, void *buf, size_t size);
void kquay_input_again(struct kquay_conn *c);
void kquay_input_drop(struct kquay_conn *c);
void kquay_input_unsee(struct kquay_conn *c);
int kquay_input_waste(struct kquay_conn *c);
ssize_t kquay_input_receive(struct kquay_conn *c, char *buf);

/* Whether the service would take input now. */
static inline int
kquay_input_wanted(const struct kquay_conn *c)
{
	return c->state == CONN_OPEN && !(c->flags & C_BLOCKED);
}

/* frame.c */
enum frame_cut {
	FRAME_WHOLE,
	FRAME_PART, /* more is needed */
	FRAME_LONG, /* over a limit */
	FRAME_BAD   /* no such length */
};

struct frame {
	char *body;
	size_t len;   /* of the body */
	size_t whole; /* with prefix or delimiter */
};

enum frame_cut kquay_frame_cut(const struct kquay_framing *f, size_t most,
    char *buf, size_t len, size_t *seen, struct frame *frame);
size_t kquay_frame_pass(struct kquay_conn *c, char *buf, size_t len,
    size_t *seen);

/* proxy.c */
struct proxy;
int kquay_proxy_read_header(struct kquay_conn *c);
int kquay_proxy_told(const struct kquay_conn *c, struct proxy *p);
int kquay_proxy_cred(const struct proxy *p, uid_t *uid, gid_t *gid,
    pid_t *pid);
int kquay_proxy_prepare(struct kquay_conn *c, int version,
    const struct kquay_conn *client);
int kquay_proxy_send_header(struct kquay_conn *c);
void kquay_proxy_drop(struct kquay_conn *c);

/* output.c */
void kquay_output_uncork(struct kquay *q);
void kquay_output_flush(struct kquay_conn *c);
int kquay_output_raw(struct kquay_conn *c, const void *data, size_t len);
int kquay_output_limit(struct kquay_conn *c);
void kquay_output_early(struct kquay_conn *c);
void kquay_output_drop(struct kquay_conn *c);

/* listen.c */
struct listener *kquay_listener_new(struct kquay *q, int fd, const char *text);
void kquay_listener_undo(struct kquay *q, struct listener *last);
struct listener *kquay_listener_at(const struct kquay *q, unsigned n);
int kquay_listener_watch(struct kquay *q, int fd);
void kquay_listener_join(struct kquay *q, struct listener *l);
void kquay_listener_part(struct kquay *q, struct listener *l);
void kquay_listener_free(struct listener *l);
void kquay_listen_refused(struct kquay *q, const struct sockaddr *sa,
    socklen_t salen, int err, const char *text);
void kquay_listen_event(struct kquay *q, const struct kevent *ev);
void kquay_listen_begin(struct kquay *q, int fd, unsigned layers,
    struct kquay_tls *tls, const struct sockaddr *sa, socklen_t salen);
int kquay_listen_ask(struct kquay_conn *c);
void kquay_listen_resume(struct kquay *q);
void kquay_listen_last(struct kquay *q);
void kquay_listen_close(struct kquay *q);
void kquay_listen_fini(struct kquay *q);

/* bind.c */
int kquay_bind_name(struct kquay *q, const char *host, const char *port);
int kquay_bind_unix(struct kquay *q, const char *path, mode_t mode);
int kquay_bind_fd(struct kquay *q, int fd);
int kquay_bind_claim(struct listener *l);

/* tls.c, for connections with C_TLS */
int kquay_tls_attach(struct kquay_conn *c, struct kquay_tls *tls,
    const char *host);
int kquay_tls_shake(struct kquay_conn *c);
ssize_t kquay_tls_receive(struct kquay_conn *c, char *buf, size_t size);
ssize_t kquay_tls_take(struct kquay_conn *c, char *buf, size_t size);
int kquay_tls_broken(const struct kquay_conn *c);
const char *kquay_tls_reason(const struct kquay_conn *c);
int kquay_tls_send(struct kquay_conn *c, const char *data, size_t len);
void kquay_tls_shutdown(struct kquay_conn *c);
void kquay_tls_drop(struct kquay_conn *c);
struct kquay_tls *kquay_tls_hold(struct kquay_tls *tls);

/* address.c */
#define ADDR_TEXT (INET6_ADDRSTRLEN + 32 + 128) /* a sun_path fits too */
void kquay_addr_text(const struct sockaddr *sa, socklen_t salen, char *buf,
    size_t size);

/* timeout.c */
uint32_t kquay_wheel_ticks(int ms);
uint32_t kquay_wheel_now(struct kquay *q);
void kquay_wheel_set(struct kquay_conn *c);
void kquay_wheel_limits(const struct kquay_conn *c, uint32_t *idle,
    uint32_t *life);
int kquay_wheel_has(const struct kquay_conn *c);
void kquay_wheel_clear(struct kquay_conn *c);
void kquay_wheel_turn(struct kquay *q);
int kquay_wheel_due(const struct kquay *q, uint32_t *tick);

/* watch.c */
void kquay_watch_event(struct kquay *q, const struct kevent *ev);
void kquay_watch_fini(struct kquay *q);
void kquay_post_run(struct kquay *q);
struct post *kquay_post_new(kquay_post_fn *fn, void *arg);
void kquay_post_put(struct kquay *q, struct post *p);
void kquay_post_wake(struct kquay *q);

/* resolve.c */
int kquay_resolve_check(struct kquay *q);
void kquay_resolve_event(struct kquay *q, const struct kevent *ev);
void kquay_resolve_turn(struct kquay *q);
int kquay_resolve_due(const struct kquay *q);
void kquay_resolve_fini(struct kquay *q);

/* dial.c */
void kquay_dial_event(struct kquay_conn *c, const struct kevent *ev);
void kquay_dial_ready(struct kquay_conn *c);
void kquay_dial_expire(struct kquay_conn *c);
int kquay_dial_due(const struct kquay_conn *c, uint32_t *tick);
const char *kquay_dial_text(const struct kquay_conn *c);
void kquay_dial_drop(struct kquay_conn *c);

/* splice.c */
void kquay_splice_begin(struct kquay_conn *c);
int kquay_splice_reading(const struct kquay_conn *c);
int kquay_splice_writing(const struct kquay_conn *c);
void kquay_splice_read(struct kquay_conn *c, const struct kevent *ev);
void kquay_splice_write(struct kquay_conn *c);
void kquay_splice_hangup(struct kquay_conn *c, enum kquay_why why);
void kquay_splice_broken(struct kquay_conn *c, enum kquay_why why);
void kquay_splice_fini(struct kquay *q);

/* signal.c */
int kquay_signal_hold(struct kquay *q);
void kquay_signal_release(struct kquay *q);

#endif
