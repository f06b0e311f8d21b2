/*
 * Certificates and policy: a struct kquay_tls, from files to an SSL_CTX.
 *
 * A reload makes a new SSL_CTX with a policy of its own beside the old one and
 * puts it in its place once it is whole.  Connections that have begun keep
 * theirs.  The keys of tickets stay, so that who was here before a reload can
 * still resume.
 *
 * The default for TLS 1.2 is what TLS 1.3 has only: a key exchange that keeps
 * recorded traffic secret should the server's key become known (ECDHE), and
 * ciphers that authenticate what they encrypt (AEAD).  We choose among what
 * both have; a peer that puts ChaCha20 first, as those without AES in hardware
 * do, gets it.
 */
#include "tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CIPHERS "ECDHE+AESGCM:ECDHE+CHACHA20"

/* Where a message about a failure goes; without a place, text is NULL. */
struct complaint {
	char *text;
	size_t size;
};

static int complain(const struct complaint *to, int err, const char *about,
    const char *fmt, ...) __attribute__((__format__(__printf__, 4, 5)));
static void load_system(SSL_CTX *ctx, struct policy *p);
static int check(const struct kquay_tls_conf *conf, const struct complaint *to);
static struct kquay_tls_conf *copy(const struct kquay_tls_conf *conf);
static SSL_CTX *build(struct kquay_tls *tls, const struct kquay_tls_conf *conf,
    const struct complaint *to);
static int set_protocol(SSL_CTX *ctx, const struct kquay_tls_conf *conf,
    const struct complaint *to);
static int set_alpn(SSL_CTX *ctx, struct policy *p,
    const struct kquay_tls_conf *conf, const struct complaint *to);
static int set_authorities(SSL_CTX *ctx, struct policy *p,
    const struct kquay_tls_conf *conf, const struct complaint *to);
static int set_certs(SSL_CTX *ctx, struct policy *p,
    const struct kquay_tls_conf *conf, const struct complaint *to);
static int load_cert(struct cert *cert, const struct kquay_cert *from,
    const struct complaint *to);
static int load_key(struct cert *cert, const char *path,
    const struct complaint *to);
static int refuse_password(char *buf, int size, int writing, void *asked);
static int by_default(const struct policy *p, unsigned i);
static int choose_cert(SSL *ssl, void *unused);
static int choose_alpn(SSL *ssl, const unsigned char **out,
    unsigned char *outlen, const unsigned char *in, unsigned inlen,
    void *policy);
static void policy_free(void *parent, void *policy, CRYPTO_EX_DATA *ad,
    int index, long argl, void *argp);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int policy_index = -1; /* of an SSL_CTX's policy */

static void
begin(void)
{
	policy_index =
	    SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, policy_free);
}

struct kquay_tls *
kquay_tls_new(const struct kquay_tls_conf *conf, char *error, size_t size)
{
	struct complaint to = { error, size };
	struct kquay_tls *tls;
	int saved;

	pthread_once(&once, begin);
	tls = calloc(1, sizeof(*tls));
	if (tls == NULL) {
		complain(&to, ENOMEM, NULL, NULL);
		return NULL;
	}
	tls->refs = 1;
	TAILQ_INIT(&tls->sessions);
	pthread_mutex_init(&tls->lock, NULL);
	if (kquay_tls_reload(tls, conf, error, size) == -1) {
		saved = errno;
		kquay_tls_free(tls);
		errno = saved;
		return NULL;
	}
	return tls;
}

int
kquay_tls_reload(struct kquay_tls *tls, const struct kquay_tls_conf *conf,
    char *error, size_t size)
{
	struct complaint to = { error, size };
	struct kquay_tls_conf *ours = NULL;
	SSL_CTX *ctx;

	if (size > 0 && error != NULL)
		error[0] = '\0';
	ERR_clear_error();
	if (conf != NULL) {
		if (check(conf, &to) == -1)
			return -1;
		ours = copy(conf);
		if (ours == NULL)
			return complain(&to, ENOMEM, NULL, NULL);
	} else {
		pthread_mutex_lock(&tls->lock);
		ours = copy(tls->conf);
		pthread_mutex_unlock(&tls->lock);
		if (ours == NULL)
			return complain(&to, ENOMEM, NULL, NULL);
	}
	ctx = build(tls, ours, &to);
	ERR_clear_error();
	if (ctx == NULL) {
		free(ours);
		return -1;
	}
	pthread_mutex_lock(&tls->lock);
	SSL_CTX_free(tls->ctx);
	free(tls->conf);
	tls->ctx = ctx;
	tls->conf = ours;
	kquay_resume_forget(tls);
	pthread_mutex_unlock(&tls->lock);
	return 0;
}

void
kquay_tls_free(struct kquay_tls *tls)
{
	if (tls == NULL ||
	    __atomic_sub_fetch(&tls->refs, 1, __ATOMIC_ACQ_REL) > 0)
		return;
	kquay_resume_forget(tls);
	SSL_CTX_free(tls->ctx);
	free(tls->conf);
	pthread_mutex_destroy(&tls->lock);
	OPENSSL_cleanse(tls->keys, sizeof(tls->keys));
	free(tls);
}

struct kquay_tls *
kquay_tls_hold(struct kquay_tls *tls)
{
	if (tls != NULL)
		__atomic_fetch_add(&tls->refs, 1, __ATOMIC_RELAXED);
	return tls;
}

/* Whether it has a certificate to show to clients. */
int
kquay_tls_serves(struct kquay_tls *tls)
{
	unsigned n;

	pthread_mutex_lock(&tls->lock);
	n = tls->conf->ncerts;
	pthread_mutex_unlock(&tls->lock);
	return n != 0;
}

/* Whether it believes any server. */
int
kquay_tls_trusts(struct kquay_tls *tls)
{
	unsigned flags;

	pthread_mutex_lock(&tls->lock);
	flags = tls->conf->flags;
	pthread_mutex_unlock(&tls->lock);
	return (flags & KQUAY_TLS_ANYBODY) != 0;
}

/* For a new connection, by what holds now; NULL without memory. */
SSL *
kquay_tls_ssl(struct kquay_tls *tls, int client)
{
	SSL_CTX *ctx;
	SSL *ssl;

	pthread_mutex_lock(&tls->lock);
	ctx = tls->ctx;
	SSL_CTX_up_ref(ctx);
	if (client)
		load_system(ctx, SSL_CTX_get_ex_data(ctx, policy_index));
	pthread_mutex_unlock(&tls->lock);
	ssl = SSL_new(ctx);
	SSL_CTX_free(ctx);
	return ssl;
}

const struct policy *
kquay_tls_policy(const SSL *ssl)
{
	return SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), policy_index);
}

/*
 * Say what is wrong with a file or a setting: "about: ...", where fmt NULL is
 * what OpenSSL says, or errno if that says nothing.  Always -1, with errno.
 */
static int
complain(const struct complaint *to, int err, const char *about,
    const char *fmt, ...)
{
	const char *reason = ERR_reason_error_string(ERR_peek_last_error());
	char text[256];
	va_list ap;

	if (fmt != NULL) {
		va_start(ap, fmt);
		vsnprintf(text, sizeof(text), fmt, ap);
		va_end(ap);
	} else
		snprintf(text, sizeof(text), "%s",
		    reason != NULL ? reason : strerror(err));
	if (to->text != NULL && to->size > 0)
		snprintf(to->text, to->size, "%s%s%s",
		    about != NULL ? about : "", about != NULL ? ": " : "",
		    text);
	ERR_clear_error();
	errno = err;
	return -1;
}

/* Believe those whom the system believes, if that is yet to be done. */
static void
load_system(SSL_CTX *ctx, struct policy *p)
{
	if (p->system)
		SSL_CTX_set_default_verify_paths(ctx);
	p->system = 0;
	ERR_clear_error();
}

/* What can be wrong without a look at the files. */
static int
check(const struct kquay_tls_conf *conf, const struct complaint *to)
{
	unsigned i;

	for (i = 0; i < conf->ncerts; i++)
		if (conf->certs[i].chain == NULL)
			return complain(to, EINVAL, NULL,
			    "certificate %u has no file", i + 1);
	if (conf->minversion != 0 && conf->minversion != KQUAY_TLS_1_2 &&
	    conf->minversion != KQUAY_TLS_1_3)
		return complain(to, EINVAL, NULL, "no such version: 0x%x",
		    conf->minversion);
	if ((conf->flags & (KQUAY_TLS_ASK | KQUAY_TLS_REQUIRE)) &&
	    conf->cafile == NULL)
		return complain(to, EINVAL, NULL,
		    "no file of authorities to verify clients with");
	return 0;
}

/* -- a copy of the configuration, in one piece ----------------------------- */

static size_t
length(const char *s)
{
	return s == NULL ? 0 : strlen(s) + 1;
}

static const char *
save(char **room, const char *s)
{
	char *at = *room;

	if (s == NULL)
		return NULL;
	*room = stpcpy(at, s) + 1;
	return at;
}

static struct kquay_tls_conf *
copy(const struct kquay_tls_conf *conf)
{
	size_t size = sizeof(*conf), nalpn = 0;
	struct kquay_tls_conf *to;
	struct kquay_cert *certs;
	const char **alpn;
	char *room;
	unsigned i;

	size += conf->ncerts * sizeof(*certs);
	for (i = 0; i < conf->ncerts; i++)
		size +=
		    length(conf->certs[i].chain) + length(conf->certs[i].key);
	if (conf->alpn != NULL)
		while (conf->alpn[nalpn] != NULL)
			size += length(conf->alpn[nalpn++]);
	size += (nalpn + 1) * sizeof(*alpn) + length(conf->cafile) +
	    length(conf->ciphers) + length(conf->suites);
	to = malloc(size);
	if (to == NULL)
		return NULL;
	*to = *conf;
	certs = (void *)(to + 1);
	alpn = (void *)(certs + conf->ncerts);
	room = (void *)(alpn + nalpn + 1);
	for (i = 0; i < conf->ncerts; i++) {
		certs[i].chain = save(&room, conf->certs[i].chain);
		certs[i].key = save(&room, conf->certs[i].key);
	}
	for (i = 0; i < nalpn; i++)
		alpn[i] = save(&room, conf->alpn[i]);
	alpn[nalpn] = NULL;
	to->certs = certs;
	to->alpn = alpn;
	to->cafile = save(&room, conf->cafile);
	to->ciphers = save(&room, conf->ciphers);
	to->suites = save(&room, conf->suites);
	return to;
}

/* -- from files to an SSL_CTX
 * -------------------------------------------------- */

static SSL_CTX *
build(struct kquay_tls *tls, const struct kquay_tls_conf *conf,
    const struct complaint *to)
{
	struct policy *p;
	SSL_CTX *ctx;

	ctx = SSL_CTX_new(TLS_method());
	p = calloc(1, sizeof(*p));
	if (ctx == NULL || p == NULL ||
	    SSL_CTX_set_ex_data(ctx, policy_index, p) != 1) {
		SSL_CTX_free(ctx);
		free(p);
		complain(to, ENOMEM, NULL, NULL);
		return NULL;
	}
	p->flags = conf->flags;
	p->verify = conf->flags & KQUAY_TLS_REQUIRE ?
	    SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT :
	    conf->flags & KQUAY_TLS_ASK ? SSL_VERIFY_PEER :
					  SSL_VERIFY_NONE;
	if (set_protocol(ctx, conf, to) == -1 ||
	    set_authorities(ctx, p, conf, to) == -1 ||
	    set_certs(ctx, p, conf, to) == -1 ||
	    set_alpn(ctx, p, conf, to) == -1)
		goto fail;
	if (kquay_resume_init(tls, ctx) == -1) {
		complain(to, ENOMEM, NULL, NULL);
		goto fail;
	}
	return ctx;

fail:
	SSL_CTX_free(ctx);
	return NULL;
}

static int
set_protocol(SSL_CTX *ctx, const struct kquay_tls_conf *conf,
    const struct complaint *to)
{
	const char *ciphers = conf->ciphers != NULL ? conf->ciphers : CIPHERS;
	int min = conf->minversion != 0 ? conf->minversion : KQUAY_TLS_1_2;

	SSL_CTX_set_options(ctx,
	    SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
		SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);
	if (conf->flags & KQUAY_TLS_NORESUME) {
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
		SSL_CTX_set_num_tickets(ctx, 0);
	}
	/* An idle connection must not hold two records' room. */
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	if (SSL_CTX_set_min_proto_version(ctx, min) != 1)
		return complain(to, EINVAL, NULL, NULL);
	if (SSL_CTX_set_cipher_list(ctx, ciphers) != 1)
		return complain(to, EINVAL, ciphers, NULL);
	if (conf->suites != NULL &&
	    SSL_CTX_set_ciphersuites(ctx, conf->suites) != 1)
		return complain(to, EINVAL, conf->suites, NULL);
	return 0;
}

static int
set_alpn(SSL_CTX *ctx, struct policy *p, const struct kquay_tls_conf *conf,
    const struct complaint *to)
{
	const char *const *name;
	size_t len = 0, n;

	for (name = conf->alpn; *name != NULL; name++) {
		n = strlen(*name);
		if (n == 0 || n > 255)
			return complain(to, EINVAL, *name,
			    "not a protocol's name");
		len += n + 1;
	}
	if (len == 0)
		return 0;
	p->alpn = malloc(len);
	if (p->alpn == NULL)
		return complain(to, ENOMEM, NULL, NULL);
	for (name = conf->alpn; *name != NULL; name++) {
		n = strlen(*name);
		p->alpn[p->alpnlen] = (unsigned char)n;
		memcpy(p->alpn + p->alpnlen + 1, *name, n);
		p->alpnlen += (unsigned)n + 1;
	}
	if (SSL_CTX_set_alpn_protos(ctx, p->alpn, p->alpnlen) != 0)
		return complain(to, ENOMEM, NULL, NULL);
	SSL_CTX_set_alpn_select_cb(ctx, choose_alpn, p);
	return 0;
}

/*
 * Whom to believe.  A session is not resumed where others are believed than
 * where it began: the session id context is made of them.
 */
static int
set_authorities(SSL_CTX *ctx, struct policy *p,
    const struct kquay_tls_conf *conf, const struct complaint *to)
{
	unsigned char id[SHA256_DIGEST_LENGTH] = { (unsigned char)conf->flags },
		      one[SHA256_DIGEST_LENGTH];
	STACK_OF(X509_NAME) * names;
	STACK_OF(X509_OBJECT) * all;
	X509 *cert;
	int i, k;

	if (conf->cafile == NULL) {
		/* Where there is one big file, that takes a while. */
		p->system = !(conf->flags & KQUAY_TLS_ANYBODY);
		if (conf->ncerts == 0)
			load_system(ctx, p);
	} else if (access(conf->cafile, R_OK) == -1)
		return complain(to, errno, conf->cafile, NULL);
	else if (SSL_CTX_load_verify_file(ctx, conf->cafile) != 1)
		return complain(to, EINVAL, conf->cafile, NULL);
	else if (conf->flags & (KQUAY_TLS_ASK | KQUAY_TLS_REQUIRE)) {
		names = SSL_load_client_CA_file(conf->cafile);
		if (names == NULL)
			return complain(to, EINVAL, conf->cafile, NULL);
		SSL_CTX_set_client_CA_list(ctx, names);
		all = X509_STORE_get0_objects(SSL_CTX_get_cert_store(ctx));
		for (i = 0; i < sk_X509_OBJECT_num(all); i++) {
			cert =
			    X509_OBJECT_get0_X509(sk_X509_OBJECT_value(all, i));
			if (cert == NULL ||
			    X509_digest(cert, EVP_sha256(), one, NULL) != 1)
				continue;
			for (k = 0; k < (int)sizeof(id); k++)
				id[k] ^= one[k];
		}
	}
	SSL_CTX_set_session_id_context(ctx, id, sizeof(id));
	return 0;
}

static int
set_certs(SSL_CTX *ctx, struct policy *p, const struct kquay_tls_conf *conf,
    const struct complaint *to)
{
	SSL *scratch;
	struct cert *c;
	unsigned i;
	int rc = 1;

	if (conf->ncerts == 0)
		return 0;
	p->certs = calloc(conf->ncerts, sizeof(*p->certs));
	if (p->certs == NULL)
		return complain(to, ENOMEM, NULL, NULL);
	for (i = 0; i < conf->ncerts; i++) {
		c = &p->certs[p->ncerts++];
		if (load_cert(c, &conf->certs[i], to) == -1)
			return -1;
		if (kquay_names_add(&p->names, c->leaf, i) == -1)
			return complain(to, ENOMEM, NULL, NULL);
	}
	kquay_names_sort(&p->names);
	/* Those that are not for everybody are tried on one that goes. */
	scratch = SSL_new(ctx);
	if (scratch == NULL)
		return complain(to, ENOMEM, NULL, NULL);
	for (i = conf->ncerts; i-- > 0 && rc == 1;) {
		c = &p->certs[i];
		if (by_default(p, i)) {
			rc = SSL_CTX_use_cert_and_key(ctx, c->leaf, c->key,
			    c->chain, 1);
			p->ndefault++;
		} else
			rc = SSL_use_cert_and_key(scratch, c->leaf, c->key,
			    c->chain, 1);
		if (rc != 1)
			complain(to, EINVAL, conf->certs[i].chain, NULL);
	}
	SSL_free(scratch);
	SSL_CTX_set_cert_cb(ctx, choose_cert, NULL);
	return rc == 1 ? 0 : -1;
}

/* Read a certificate, those that follow it in the file, and its key. */
static int
load_cert(struct cert *cert, const struct kquay_cert *from,
    const struct complaint *to)
{
	BIO *file;
	X509 *next;
	int rc = 0;

	errno = 0;
	file = BIO_new_file(from->chain, "r");
	if (file == NULL) {
		rc = errno != 0 ? errno : ENOMEM;
		ERR_clear_error();
		return complain(to, rc, from->chain, NULL);
	}
	cert->leaf = PEM_read_bio_X509(file, NULL, NULL, NULL);
	cert->chain = sk_X509_new_null();
	if (cert->leaf == NULL)
		rc = complain(to, EINVAL, from->chain,
		    ERR_GET_REASON(ERR_peek_last_error()) ==
			    PEM_R_NO_START_LINE ?
			"no certificate in it" :
			NULL);
	else if (cert->chain == NULL)
		rc = complain(to, ENOMEM, NULL, NULL);
	while (rc == 0) {
		next = PEM_read_bio_X509(file, NULL, NULL, NULL);
		if (next == NULL)
			break;
		if (sk_X509_push(cert->chain, next) == 0) {
			X509_free(next);
			rc = complain(to, ENOMEM, NULL, NULL);
		}
	}
	BIO_free(file);
	if (rc == 0 &&
	    ERR_GET_REASON(ERR_peek_last_error()) != PEM_R_NO_START_LINE)
		rc = complain(to, EINVAL, from->chain, NULL);
	ERR_clear_error();
	if (rc == -1)
		return -1;
	return load_key(cert, from->key != NULL ? from->key : from->chain, to);
}

static int
load_key(struct cert *cert, const char *path, const struct complaint *to)
{
	int asked = 0, err;
	BIO *file;

	errno = 0;
	file = BIO_new_file(path, "r");
	if (file == NULL) {
		err = errno != 0 ? errno : ENOMEM;
		ERR_clear_error();
		return complain(to, err, path, NULL);
	}
	cert->key =
	    PEM_read_bio_PrivateKey(file, NULL, refuse_password, &asked);
	BIO_free(file);
	if (cert->key == NULL)
		return complain(to, EINVAL, path, "%s",
		    asked ? "the private key has a password" :
			    "no private key in it");
	if (X509_check_private_key(cert->leaf, cert->key) != 1)
		return complain(to, EINVAL, path,
		    "not the key of the certificate");
	return 0;
}

/* OpenSSL's own way is to ask at the terminal. */
static int
refuse_password(char *buf, int size, int writing, void *asked)
{
	*(int *)asked = 1;
	return -1;
}

/* Whether certificate i is for the first one's hosts, as that of another kind
   of key is: those who name no host, or an unknown one, get these. */
static int
by_default(const struct policy *p, unsigned i)
{
	const struct named *a, *b, *end = p->names.sorted + p->names.n;

	if (i == 0)
		return 1;
	for (a = p->names.sorted; a < end; a++)
		for (b = a; a->cert == 0 && b < end; b++) {
			if (strcmp(a->name, b->name) != 0)
				break;
			if (b->cert == i)
				return 1;
		}
	return 0;
}

static void
policy_free(void *parent, void *policy, CRYPTO_EX_DATA *ad, int index,
    long argl, void *argp)
{
	struct policy *p = policy;

	if (p == NULL)
		return;
	while (p->ncerts > 0) {
		p->ncerts--;
		X509_free(p->certs[p->ncerts].leaf);
		EVP_PKEY_free(p->certs[p->ncerts].key);
		sk_X509_pop_free(p->certs[p->ncerts].chain, X509_free);
	}
	free(p->certs);
	kquay_names_fini(&p->names);
	free(p->alpn);
	free(p);
}

/* -- what OpenSSL asks for in a handshake
 * --------------------------------------- */

/* The certificates for the host that the client names.  1, or 0 to fail. */
static int
choose_cert(SSL *ssl, void *unused)
{
	const struct policy *p = kquay_tls_policy(ssl);
	const struct named *found;
	const struct cert *c;
	const char *host;
	size_t n;

	if (!SSL_is_server(ssl))
		return 1;
	host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	found = host == NULL ? NULL : kquay_names_find(&p->names, host, &n);
	if (found == NULL || (found->cert == 0 && n == p->ndefault))
		return 1;
	SSL_certs_clear(ssl);
	/* Of each kind of key the last one stays: so the first comes last. */
	while (n > 0) {
		c = &p->certs[found[--n].cert];
		if (SSL_use_cert_and_key(ssl, c->leaf, c->key, c->chain, 1) !=
		    1)
			return 0;
	}
	return 1;
}

/* What we like best among what the client speaks. */
static int
choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *outlen,
    const unsigned char *in, unsigned inlen, void *policy)
{
	const struct policy *p = policy;
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, outlen, p->alpn, p->alpnlen, in,
		inlen) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}
