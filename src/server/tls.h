/*
 * What the files of TLS share: certificates and policy (tls_conf.c), whose
 * names they are for (tls_names.c), what it takes to resume (tls_resume.c),
 * and the connections (tls.c).
 *
 * Ownership:
 *  1. A struct kquay_tls is counted: whoever made it, loops, listeners and
 *     connections hold it.  Its members are under its lock, or never change.
 *  2. What kquay_tls_reload() replaces is a struct policy, which belongs to
 *     its SSL_CTX and goes with it; a connection's SSL holds the SSL_CTX with
 *     which it began.
 */
#ifndef KQUAY_TLS_H
#define KQUAY_TLS_H

#include "server.h"

#include <openssl/ssl.h>

enum {
	TLSREAD = 46 * 1024,    /* most that one recv takes */
	TLSRECORD = 16 * 1024,  /* most that is in one record */
	TLSMARGIN = 1024,       /* more than what records add to CORKSIZE */
	TICKET_KEYS = 3,        /* the present one and those before */
	TICKET_S = 60 * 60,     /* how long a key makes tickets */
	SESSION_S = 2 * TICKET_S, /* how long a ticket is good */
	SESSIONS = 256          /* kept for servers that we dial */
};

/* -- names: which certificate is for whom */

struct named {
	char *name; /* lower case; "*.example.org" */
	unsigned cert;
};

struct names {
	struct named *sorted;
	size_t n;
};

int kquay_names_add(struct names *names, const X509 *cert, unsigned number);
void kquay_names_sort(struct names *names);
const struct named *kquay_names_find(const struct names *names,
    const char *host, size_t *n);
void kquay_names_fini(struct names *names);

/* -- certificates and policy */

struct cert {
	X509 *leaf;
	EVP_PKEY *key;
	STACK_OF(X509) *chain; /* those between it and a CA */
};

struct policy {
	struct cert *certs;
	unsigned ncerts;
	unsigned ndefault; /* of them, for who names no other host */
	struct names names;
	unsigned char *alpn; /* as it is sent; best first */
	unsigned alpnlen;
	int verify; /* SSL_VERIFY_* of clients */
	unsigned flags;
	int system; /* the system's authorities are yet to be loaded */
};

/* A key that makes and opens tickets. */
struct ticket_key {
	unsigned char name[16], cipher[32], mac[32];
	int64_t born; /* seconds; 0: there is none */
};

/* A session with a server that we have dialled. */
struct session {
	TAILQ_ENTRY(session) next;
	SSL_SESSION *session;
	char name[];
};

struct kquay_tls {
	unsigned refs; /* atomic */
	pthread_mutex_t lock;
	SSL_CTX *ctx;                /* what new connections get */
	struct kquay_tls_conf *conf; /* our copy */
	struct ticket_key keys[TICKET_KEYS]; /* the newest first */
	TAILQ_HEAD(session_list, session) sessions; /* the newest first */
	unsigned nsessions;
};

int kquay_tls_serves(struct kquay_tls *tls);
int kquay_tls_trusts(struct kquay_tls *tls);
SSL *kquay_tls_ssl(struct kquay_tls *tls, int client);
const struct policy *kquay_tls_policy(const SSL *ssl);

/* -- resumption; of a connection, whose SSL names it as its app data */

int kquay_resume_init(struct kquay_tls *tls, SSL_CTX *ctx);
void kquay_resume_offer(struct kquay_tls *tls, SSL *ssl);
void kquay_resume_forget(struct kquay_tls *tls);

/* -- connections */

/* The TLS of one connection (more->tls). */
struct tls {
	struct kquay_tls *tls;
	SSL *ssl;           /* NULL until there is something to do */
	const char *reason; /* how it failed, if it has; static */
	int err;            /* errno with which the input ended; 0: properly */
	uint8_t ended;      /* input has ended */
	uint8_t broken;     /* nothing must be sent any more */
	char *subject;      /* of the peer's certificate, once asked for */
	char alpn[256];     /* once asked for */
	char host[];        /* whom we dialled; "" if nobody */
};

/*
 * Bytes on their way through OpenSSL; a loop's connections share it, for
 * outside of tls.c there is never anything in it.
 */
struct tls_room {
	size_t pos, len; /* in[pos..len) was received and not decrypted yet */
	size_t outlen;   /* out[0..outlen) was encrypted and not sent yet */
	char in[TLSREAD];
	char out[CORKSIZE + TLSMARGIN];
};

struct kquay_tls *kquay_tls_of(const SSL *ssl);
void kquay_tls_server(const SSL *ssl, char *buf, size_t size);

#endif
