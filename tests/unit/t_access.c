/*
 * Lists of who may call: each form of a word, the two lists together, and
 * thousands of networks against a walk through all of them.
 */
#include "access.h"
#include "t_unit.h"

#include <sys/un.h>
#include <netinet/in.h>
#include <arpa/inet.h>

#include <pwd.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define NOBODY ((uid_t)-1)

static struct access rules;

static void
setup(void)
{
	memset(&rules, 0, sizeof(rules));
}

static void
teardown(void)
{
	access_kind.free(&rules.allow);
	access_kind.free(&rules.deny);
}

static void
add(struct access_list *list, const char *word)
{
	char why[256] = "";

	ck_assert_msg(access_kind.parse(list, word, why, sizeof(why)) == 0,
	    "%s", why);
}

/* Of all words in a text. */
static void
add_all(struct access_list *list, const char *words)
{
	char *copy = strdup(words), *rest = copy, *word;

	while ((word = strsep(&rest, " ")) != NULL)
		if (*word != '\0')
			add(list, word);
	free(copy);
}

/* Of an address, or a UNIX peer: "unix", "unix:UID:GID", "unspec". */
static int
allowed(const char *who)
{
	struct sockaddr_in in4 = { .sin_family = AF_INET };
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6 };
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct sockaddr unspec = { .sa_family = AF_UNSPEC };
	unsigned uid = NOBODY, gid = NOBODY;

	if (strcmp(who, "unspec") == 0)
		return access_allows(&rules, &unspec, uid, gid);
	if (strncmp(who, "unix", 4) == 0) {
		sscanf(who, "unix:%u:%u", &uid, &gid);
		return access_allows(&rules, (struct sockaddr *)&un, uid, gid);
	}
	if (inet_pton(AF_INET, who, &in4.sin_addr) == 1)
		return access_allows(&rules, (struct sockaddr *)&in4, uid, gid);
	ck_assert_int_eq(inet_pton(AF_INET6, who, &in6.sin6_addr), 1);
	return access_allows(&rules, (struct sockaddr *)&in6, uid, gid);
}

static const struct {
	const char *allow, *deny, *yes, *no;
} verdicts[] = {
	{ "", "", "1.2.3.4 ::1 unix:0:0 unix unspec", "" },
	{ "all", "", "1.2.3.4 ::1 unix:0:0 unix unspec", "" },
	{ "", "all", "", "1.2.3.4 ::1 unix:0:0 unix unspec" },
	{ "all", "all", "", "1.2.3.4 ::1 unix:0:0 unix unspec" },
	{ "unix", "", "unix unix:5:6", "127.0.0.1 ::1 unspec" },
	{ "", "unix", "127.0.0.1 ::1 unspec", "unix unix:5:6" },
	{ "10.0.0.0/8", "", "10.0.0.0 10.1.2.3 10.255.255.255 ::ffff:10.0.0.1",
	    "9.255.255.255 11.0.0.0 ::10.0.0.1 ::1 unix:10:10 unspec" },
	{ "", "10.0.0.0/8", "9.255.255.255 11.0.0.0 ::1 unix unspec",
	    "10.0.0.0 10.255.255.255 ::ffff:10.9.9.9" },
	{ "10.0.0.0/8", "10.1.0.0/16 10.2.3.4", "10.0.0.1 10.2.3.3 10.2.3.5",
	    "10.1.0.0 10.1.255.255 10.2.3.4 12.0.0.1" },
	{ "10.1.0.0/16", "10.0.0.0/8", "", "10.1.0.1 10.0.0.1 1.1.1.1" },
	{ "0.0.0.0/0", "", "0.0.0.0 255.255.255.255 ::ffff:1.2.3.4",
	    "::1 :: unix:0:0" },
	{ "::/0", "", ":: ::1 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
	    "1.2.3.4 ::ffff:1.2.3.4 unix:0:0" },
	{ "::ffff:10.0.0.0/104", "", "10.9.9.9 ::ffff:10.9.9.9", "11.0.0.0" },
	{ "::ffff:0:0/96", "", "0.0.0.0 255.255.255.255 ::ffff:1.2.3.4",
	    "::1 fe80::1" },
	{ "2001:db8::/33", "", "2001:db8:: 2001:db8:7fff:ffff::1",
	    "2001:db8:8000:: 2001:db7:ffff::" },
	{ "::1", "", "::1", "::2 :: 127.0.0.1 0.0.0.1" },
	{ "2001:db8::/127", "", "2001:db8:: 2001:db8::1", "2001:db8::2" },
	{ "uid:5", "", "unix:5:9", "unix:6:5 unix:9:5 unix 0.0.0.5 ::5" },
	{ "gid:5", "", "unix:9:5 unix:5:5", "unix:5:9 unix 0.0.0.5" },
	{ "uid:0 gid:7", "", "unix:0:0 unix:1:7", "unix:1:1 unix:7:0" },
	/* Who is not known might be the one that is denied. */
	{ "", "uid:5", "unix:6:5 1.2.3.4 unix:6", "unix:5:6 unix" },
	{ "", "gid:5", "unix:5:6 1.2.3.4", "unix:6:5 unix unix:5" },
	{ "unix", "uid:4294967294", "unix:5:5", "unix:4294967294:5 unix" },
	{ "10.0.0.0/8 10.0.0.0/8 10.0.0.0/9 10.0.0.5 10.128.0.0/9", "",
	    "10.0.0.0 10.0.0.5 10.0.0.6 10.255.255.255",
	    "9.255.255.255 11.0.0.0" },
	{ "1.1.1.1 3.3.3.3 2.2.2.2", "", "1.1.1.1 2.2.2.2 3.3.3.3",
	    "1.1.1.0 1.1.1.2 2.2.2.1 2.2.2.3 3.3.3.4 0.0.0.0" },
};

START_TEST(deny_comes_before_allow)
{
	char *copy, *rest, *who;
	int side;

	add_all(&rules.allow, verdicts[_i].allow);
	add_all(&rules.deny, verdicts[_i].deny);
	access_prepare(&rules);
	for (side = 0; side < 2; side++) {
		copy = strdup(side ? verdicts[_i].yes : verdicts[_i].no);
		for (rest = copy; (who = strsep(&rest, " ")) != NULL;)
			ck_assert_msg(*who == '\0' || allowed(who) == side,
			    "row %d: %s is%s allowed", _i, who,
			    side ? " not" : "");
		free(copy);
	}
}
END_TEST

START_TEST(names_are_looked_up)
{
	const struct passwd *user = getpwuid(getuid());
	const struct group *group;
	char word[256], who[64];

	if (user == NULL)
		return;
	snprintf(word, sizeof(word), "uid:%s", user->pw_name);
	add(&rules.allow, word);
	group = getgrgid(user->pw_gid);
	ck_assert_ptr_nonnull(group);
	snprintf(word, sizeof(word), "gid:%s", group->gr_name);
	add(&rules.allow, word);
	access_prepare(&rules);
	snprintf(who, sizeof(who), "unix:%u:4000000000", (unsigned)getuid());
	ck_assert_int_eq(allowed(who), 1);
	snprintf(who, sizeof(who), "unix:4000000000:%u",
	    (unsigned)group->gr_gid);
	ck_assert_int_eq(allowed(who), 1);
	ck_assert_int_eq(allowed("unix:4000000000:4000000000"), 0);
}
END_TEST

#define NONE                                                                   \
	"none of an address, a network such as 192.0.2.0/24 or "               \
	"2001:db8::/32, uid:, gid:, unix and all"

static const struct {
	const char *word, *why;
} mistakes[] = {
	{ "", NONE },
	{ "localhost", NONE },
	{ "10.0.0/8", NONE },
	{ "010.0.0.0/8", NONE },
	{ "1.2.3.4.5", NONE },
	{ "::1::", NONE },
	{ "fe80::1%lo", NONE },
	{ "[::1]", NONE },
	{ "All", NONE },
	{ "unix:1", NONE },
	{ "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0001", NONE },
	{ "10.0.0.0/33", "the prefix is not in 0 to 32" },
	{ "10.0.0.0/", "the prefix is not in 0 to 32" },
	{ "10.0.0.0/ 8", "the prefix is not in 0 to 32" },
	{ "10.0.0.0/8x", "the prefix is not in 0 to 32" },
	{ "10.0.0.0/-1", "the prefix is not in 0 to 32" },
	{ "::/129", "the prefix is not in 0 to 128" },
	{ "10.0.0.1/8",
	    "has bits set after the prefix; the network is "
	    "10.0.0.0/8" },
	{ "2001:db8::1/33",
	    "has bits set after the prefix; the network is "
	    "2001:db8::/33" },
	{ "::ffff:10.0.0.0/80",
	    "has bits set after the prefix; the network "
	    "is ::/80" },
	{ "uid:", "the user is missing" },
	{ "gid:", "the group is missing" },
	{ "uid:4294967295", "the number is too large" },
	{ "gid:99999999999999999999", "the number is too large" },
	{ "uid:-1", "there is no such user" },
	{ "uid:no such user", "there is no such user" },
	{ "gid:no such group", "there is no such group" },
};

START_TEST(mistakes_are_explained)
{
	char why[256] = "", wanted[256];

	add(&rules.allow, "uid:5");
	snprintf(wanted, sizeof(wanted), "'%s': %s", mistakes[_i].word,
	    mistakes[_i].why);
	ck_assert_int_eq(access_kind.parse(&rules.allow, mistakes[_i].word, why,
			     sizeof(why)),
	    -1);
	ck_assert_str_eq(why, wanted);
	/* And nothing has changed. */
	access_prepare(&rules);
	ck_assert_uint_eq(rules.allow.words.count, 1);
	ck_assert_uint_eq(rules.allow.count, 1);
	ck_assert_int_eq(allowed("unix:6:6"), 0);
	ck_assert_int_eq(rules.allow.gids, 0);
}
END_TEST

START_TEST(a_list_is_printed_as_it_was_written)
{
	char *text;
	size_t len;
	FILE *out = open_memstream(&text, &len);

	add_all(&rules.deny, "uid:0 ::ffff:1.2.3.4 10.0.0.0/8 10.0.0.1 all");
	access_prepare(&rules);
	access_kind.print(&rules.deny, out);
	fclose(out);
	ck_assert_str_eq(text,
	    "{\"uid:0\", \"::ffff:1.2.3.4\", \"10.0.0.0/8\", \"10.0.0.1\", "
	    "\"all\"}");
	free(text);
}
END_TEST

static const char *const nested[] = {
	"10.0.0.0/8 10.0.0.0/9 10.0.0.0 10.0.0.0/8",
	"10.0.0.0 10.0.0.0/9 10.0.0.0/8", "10.5.0.0/16 10.0.0.0/8 10.5.5.5",
	"::ffff:10.0.0.0/104 10.0.0.0/8", "uid:5 uid:5 uid:05"
};

START_TEST(networks_within_others_cost_nothing)
{
	add_all(&rules.allow, nested[_i]);
	access_prepare(&rules);
	ck_assert_uint_eq(rules.allow.count, 1);
}
END_TEST

/* Networks of every size, many of them within others. */
START_TEST(random_networks_as_a_walk_sees_them)
{
	enum { N = 300, CALLS = 2000 };
	struct {
		uint32_t base, mask;
	} net[N];
	struct sockaddr_in sin = { .sin_family = AF_INET };
	char word[64];
	uint32_t addr;
	int i, call, prefix, in;

	srand((unsigned)_i);
	for (i = 0; i < N; i++) {
		prefix = 4 + rand() % 29;
		net[i].mask = ~0u << (32 - prefix);
		net[i].base = (uint32_t)rand() * 2 & net[i].mask;
		addr = htonl(net[i].base);
		inet_ntop(AF_INET, &addr, word, sizeof(word));
		snprintf(word + strlen(word), 8, "/%d", prefix);
		add(&rules.deny, word);
	}
	access_prepare(&rules);
	for (call = 0; call < CALLS; call++) {
		/* About an edge of a network as often as anywhere. */
		i = rand() % N;
		addr = call % 2 ? (uint32_t)rand() * 2 :
				  net[i].base + (rand() % 2 ? ~net[i].mask : 0);
		addr += (uint32_t)(rand() % 3 - 1);
		for (in = i = 0; i < N; i++)
			in |= (addr & net[i].mask) == net[i].base;
		sin.sin_addr.s_addr = htonl(addr);
		ck_assert_int_eq(access_allows(&rules, (struct sockaddr *)&sin,
				     NOBODY, NOBODY),
		    !in);
	}
}
END_TEST

/* A walk through them for each caller would take hours. */
START_TEST(many_networks_cost_little)
{
	enum { N = 20000, CALLS = 1000000 };
	struct sockaddr_in6 sin6 = { .sin6_family = AF_INET6 };
	char word[64];
	int i, in = 0;

	for (i = 0; i < N; i++) {
		snprintf(word, sizeof(word), "2001:db8:%x:%x::/64", i % 16384,
		    2 * (i / 16384));
		add(&rules.allow, word);
	}
	access_prepare(&rules);
	ck_assert_uint_eq(rules.allow.count, N);
	inet_pton(AF_INET6, "2001:db8::1", &sin6.sin6_addr);
	for (i = 0; i < CALLS; i++) {
		sin6.sin6_addr.s6_addr[4] = (uint8_t)(i >> 8 & 63);
		sin6.sin6_addr.s6_addr[5] = (uint8_t)i;
		sin6.sin6_addr.s6_addr[7] = (uint8_t)(i & 1);
		in += access_allows(&rules, (struct sockaddr *)&sin6, NOBODY,
		    NOBODY);
	}
	ck_assert_int_eq(in, CALLS / 2);
}
END_TEST

int
main(void)
{
	TCase *tc = unit_begin("access");

	tcase_add_checked_fixture(tc, setup, teardown);
	tcase_add_loop_test(tc, deny_comes_before_allow, 0, COUNT(verdicts));
	tcase_add_test(tc, names_are_looked_up);
	tcase_add_loop_test(tc, mistakes_are_explained, 0, COUNT(mistakes));
	tcase_add_test(tc, a_list_is_printed_as_it_was_written);
	tcase_add_loop_test(tc, networks_within_others_cost_nothing, 0,
	    COUNT(nested));
	tcase_add_loop_test(tc, random_networks_as_a_walk_sees_them, 1, 20);
	tcase_add_test(tc, many_networks_cost_little);
	tcase_set_timeout(tc, 60);
	return unit_end();
}
