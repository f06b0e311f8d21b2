/*
 * The names of certificates, sorted, so that the one for a host is found
 * however many there are.  A certificate is for the DNS names among its
 * subjectAltNames, or for its common name if it has none of those (RFC 6125).
 * Of patterns there is "*." in front, for one label.
 */
#include "tls.h"

#include <openssl/x509v3.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static int add(struct names *names, const ASN1_STRING *text, unsigned number);
static int compare(const void *a, const void *b);
static const struct named *look_up(const struct names *names, const char *name,
    size_t *n);

/* Add the names of certificate number n.  0, or -1 without memory. */
int
kquay_names_add(struct names *names, const X509 *cert, unsigned number)
{
	const X509_NAME *subject;
	const GENERAL_NAME *gn;
	GENERAL_NAMES *all;
	int i, found = 0, rc = 0;

	all = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	for (i = 0; all != NULL && i < sk_GENERAL_NAME_num(all); i++) {
		gn = sk_GENERAL_NAME_value(all, i);
		if (gn->type != GEN_DNS)
			continue;
		found = 1;
		if (add(names, gn->d.dNSName, number) == -1)
			rc = -1;
	}
	GENERAL_NAMES_free(all);
	if (found)
		return rc;
	subject = X509_get_subject_name(cert);
	i = X509_NAME_get_index_by_NID(subject, NID_commonName, -1);
	if (i < 0)
		return 0;
	return add(names,
	    X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)), number);
}

static int
add(struct names *names, const ASN1_STRING *text, unsigned number)
{
	struct named *more;
	unsigned char *utf8;
	char *name, *p;
	int len;

	len = ASN1_STRING_to_UTF8(&utf8, text);
	if (len < 0)
		return -1;
	name = strndup((char *)utf8, (size_t)len);
	OPENSSL_free(utf8);
	if (name == NULL)
		return -1;
	/* With a NUL inside it would pass for another name. */
	if (strlen(name) != (size_t)len || len == 0) {
		free(name);
		return 0;
	}
	for (p = name; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	more = reallocarray(names->sorted, names->n + 1, sizeof(*more));
	if (more == NULL) {
		free(name);
		return -1;
	}
	names->sorted = more;
	more[names->n].name = name;
	more[names->n++].cert = number;
	return 0;
}

/* To be called once, after the last was added. */
void
kquay_names_sort(struct names *names)
{
	if (names->n != 0)
		qsort(names->sorted, names->n, sizeof(*names->sorted), compare);
}

/* By name; certificates for the same name in the order they were given. */
static int
compare(const void *a, const void *b)
{
	const struct named *x = a, *y = b;
	int rc = strcmp(x->name, y->name);

	return rc != 0 ? rc : x->cert < y->cert ? -1 : x->cert > y->cert;
}

/*
 * The certificates for host: *n of them, one after the other, the first of
 * which is returned; NULL if there is none.  The name itself comes before a
 * pattern.
 */
const struct named *
kquay_names_find(const struct names *names, const char *host, size_t *n)
{
	char name[256];
	const struct named *found;
	size_t len = strlen(host), i;
	char *dot;

	if (len > 0 && host[len - 1] == '.')
		len--;
	if (len == 0 || len >= sizeof(name))
		return NULL;
	for (i = 0; i < len; i++)
		name[i] = (char)tolower((unsigned char)host[i]);
	name[len] = '\0';
	found = look_up(names, name, n);
	if (found != NULL)
		return found;
	dot = strchr(name, '.');
	if (dot == NULL || dot == name)
		return NULL;
	*--dot = '*';
	return look_up(names, dot, n);
}

static const struct named *
look_up(const struct names *names, const char *name, size_t *n)
{
	size_t low = 0, high = names->n, mid;

	while (low < high) {
		mid = low + (high - low) / 2;
		if (strcmp(names->sorted[mid].name, name) < 0)
			low = mid + 1;
		else
			high = mid;
	}
	for (high = low; high < names->n; high++)
		if (strcmp(names->sorted[high].name, name) != 0)
			break;
	*n = high - low;
	return *n == 0 ? NULL : &names->sorted[low];
}

void
kquay_names_fini(struct names *names)
{
	while (names->n > 0)
		free(names->sorted[--names->n].name);
	free(names->sorted);
	names->sorted = NULL;
}
