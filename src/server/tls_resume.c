/*
 * Resumption: a peer that was here before is spared half of the handshake.
 *
 * As a server we remember nothing; the peer gets a ticket, which only we can
 * open.  The keys for that are the struct kquay_tls's, so all loops that use
 * it open each other's tickets.  A new key comes every TICKET_S; the two
 * before it still open what they have closed, for as long as a ticket is
 * good.  None of it is ever written to a file.
 *
 * As a client we keep the last session with each server and use it once: a
 * ticket that is shown twice ties connections to each other.
 */
#include "tls.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>

#include <stdlib.h>
#include <string.h>
#include <time.h>

static int ticket(SSL *ssl, unsigned char *name, unsigned char *iv,
    EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int sealing);
static int64_t seconds(void);
static int present_key(struct kquay_tls *tls, struct ticket_key *key);
static int known_key(struct kquay_tls *tls, const unsigned char *name,
    struct ticket_key *key);
static int new_session(SSL *ssl, SSL_SESSION *session);
static struct session *find(struct kquay_tls *tls, const char *name);
static void drop(struct kquay_tls *tls, struct session *s);

/* Let the connections of ctx be resumed.  0, or -1. */
int
kquay_resume_init(struct kquay_tls *tls, SSL_CTX *ctx)
{
	SSL_CTX_set_session_cache_mode(ctx,
	    SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, new_session);
	SSL_CTX_set_timeout(ctx, SESSION_S);
	return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, ticket) == 1 ? 0 : -1;
}

/* Seconds of a clock that never goes back. */
static int64_t
seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec + 1;
}

/* -- tickets for those who call us ----------------------------------------- */

/*
 * OpenSSL asks for the key to seal a new ticket, or to open this one.
 * 1: here it is, 2: and give the peer a new ticket, 0: no such key, -1.
 */
static int
ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
    EVP_MAC_CTX *mac, int sealing)
{
	char digest[] = "SHA256";
	struct ticket_key key;
	OSSL_PARAM params[3];
	int rc, ok;

	if (sealing) {
		rc = present_key(kquay_tls_of(ssl), &key);
		if (rc == 1) {
			memcpy(name, key.name, sizeof(key.name));
			if (RAND_bytes(iv, 16) != 1)
				rc = -1;
		}
	} else {
		rc = known_key(kquay_tls_of(ssl), name, &key);
		/* There a ticket is good for once. */
		if (rc == 1 && SSL_version(ssl) == TLS1_3_VERSION)
			rc = 2;
	}
	if (rc <= 0)
		return rc;
	params[0] = OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY,
	    key.mac, sizeof(key.mac));
	params[1] =
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0);
	params[2] = OSSL_PARAM_construct_end();
	ok = EVP_MAC_CTX_set_params(mac, params) == 1 &&
	    EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.cipher, iv,
		sealing) == 1;
	OPENSSL_cleanse(&key, sizeof(key));
	return ok ? rc : -1;
}

/* Copy the key that is used now, which may have to be made first.  1 or -1. */
static int
present_key(struct kquay_tls *tls, struct ticket_key *key)
{
	int64_t now = seconds();
	struct ticket_key fresh;
	int rc = 1;

	pthread_mutex_lock(&tls->lock);
	if (tls->keys[0].born == 0 || now - tls->keys[0].born >= TICKET_S) {
		fresh.born = now;
		if (RAND_bytes(fresh.name, sizeof(fresh.name)) == 1 &&
		    RAND_priv_bytes(fresh.cipher, sizeof(fresh.cipher)) == 1 &&
		    RAND_priv_bytes(fresh.mac, sizeof(fresh.mac)) == 1) {
			memmove(tls->keys + 1, tls->keys,
			    sizeof(tls->keys) - sizeof(tls->keys[0]));
			tls->keys[0] = fresh;
		} else
			rc = -1;
		OPENSSL_cleanse(&fresh, sizeof(fresh));
	}
	*key = tls->keys[0];
	pthread_mutex_unlock(&tls->lock);
	return rc;
}

/* Copy the key of this name: 1, or 2 if it is not the present one; 0. */
static int
known_key(struct kquay_tls *tls, const unsigned char *name,
    struct ticket_key *key)
{
	int64_t now = seconds();
	int i, rc = 0;

	pthread_mutex_lock(&tls->lock);
	for (i = 0; i < TICKET_KEYS; i++) {
		*key = tls->keys[i];
		if (key->born == 0 || now - key->born >= TICKET_S + SESSION_S)
			break;
		if (memcmp(name, key->name, sizeof(key->name)) == 0) {
			rc = now - key->born < TICKET_S ? 1 : 2;
			break;
		}
	}
	pthread_mutex_unlock(&tls->lock);
	return rc;
}

/* -- sessions with those whom we call -------------------------------------- */

/* A server has given us a session.  1 if we keep it. */
static int
new_session(SSL *ssl, SSL_SESSION *session)
{
	struct kquay_tls *tls = kquay_tls_of(ssl);
	struct session *s;
	char name[320];

	kquay_tls_server(ssl, name, sizeof(name));
	if (*name == '\0' ||
	    (kquay_tls_policy(ssl)->flags & KQUAY_TLS_NORESUME) ||
	    !SSL_SESSION_is_resumable(session))
		return 0;
	s = malloc(sizeof(*s) + strlen(name) + 1);
	if (s == NULL)
		return 0;
	strcpy(s->name, name);
	s->session = session;
	pthread_mutex_lock(&tls->lock);
	/* What was checked by a policy that was replaced is of no use. */
	if (SSL_get_SSL_CTX(ssl) != tls->ctx) {
		pthread_mutex_unlock(&tls->lock);
		free(s);
		return 0;
	}
	drop(tls, find(tls, name));
	if (tls->nsessions == SESSIONS)
		drop(tls, TAILQ_LAST(&tls->sessions, session_list));
	TAILQ_INSERT_HEAD(&tls->sessions, s, next);
	tls->nsessions++;
	pthread_mutex_unlock(&tls->lock);
	return 1;
}

/* Let ssl resume the session with its server, if we have one. */
void
kquay_resume_offer(struct kquay_tls *tls, SSL *ssl)
{
	struct session *s;
	char name[320];

	kquay_tls_server(ssl, name, sizeof(name));
	pthread_mutex_lock(&tls->lock);
	s = find(tls, name);
	if (s != NULL) {
		SSL_set_session(ssl, s->session);
		drop(tls, s);
	}
	pthread_mutex_unlock(&tls->lock);
}

/* Forget all sessions: what they were checked by has changed. */
void
kquay_resume_forget(struct kquay_tls *tls)
{
	while (!TAILQ_EMPTY(&tls->sessions))
		drop(tls, TAILQ_FIRST(&tls->sessions));
}

static struct session *
find(struct kquay_tls *tls, const char *name)
{
	struct session *s;

	TAILQ_FOREACH(s, &tls->sessions, next)
		if (strcmp(s->name, name) == 0)
			break;
	return s;
}

static void
drop(struct kquay_tls *tls, struct session *s)
{
	if (s == NULL)
		return;
	TAILQ_REMOVE(&tls->sessions, s, next);
	tls->nsessions--;
	SSL_SESSION_free(s->session);
	free(s);
}
