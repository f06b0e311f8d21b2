/*
 * The desk: its two loops are opened, handed on and closed alike, and either
 * may be missing.
 */
#include <sys/types.h>

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <kquay.h>

#include "address.h"
#include "complain.h"
#include "control.h"
#include "desk.h"
#include "http.h"
#include "log.h"
#include "upgrade.h"
#include "worker.h"

/* One of the two. */
struct counter {
	struct branch branch;
	char *name; /* of its sockets */
};

static struct counter control_counter, page_counter;
static struct control *control;
static struct http *page;

static int open_control(const struct program_conf *);
static int open_page(const struct program_conf *);
static int make_name(struct counter *, const char *, const char *);
static void add(struct counter *, struct kquay *);
static void left(struct branch *);
static void claim(struct counter *);
static void give_up(struct counter *);

int
desk_open(const struct program_conf *conf)
{
	if (*conf->control != '\0' && open_control(conf) == -1)
		return -1;
	if (*conf->status != '\0' && open_page(conf) == -1)
		return -1;
	return 0;
}

static int
open_control(const struct program_conf *conf)
{
	unsigned worker;

	if (make_name(&control_counter, "control", conf->control) == -1)
		return -1;
	control = control_new(conf->control, conf->control_mode,
	    upgrade_inherit(control_counter.name, &worker));
	if (control == NULL)
		return -1;
	add(&control_counter, control_loop(control));
	return 0;
}

static int
open_page(const struct program_conf *conf)
{
	struct address_list listen = TAILQ_HEAD_INITIALIZER(listen);
	char why[512];
	unsigned worker;
	int fd, inherited = 0;

	if (make_name(&page_counter, "status", conf->status) == -1)
		return -1;
	page = http_new(conf->status_public);
	if (page == NULL)
		return -1;
	while ((fd = upgrade_inherit(page_counter.name, &worker)) != -1) {
		inherited = 1;
		if (http_listen_fd(page, fd) == -1)
			return -1;
	}
	if (address_list_add(&listen, conf->status, why, sizeof(why)) == -1) {
		complain("status: %s", why);
		return -1;
	}
	if (!inherited && http_listen(page, TAILQ_FIRST(&listen)) == -1) {
		address_list_free(&listen);
		return -1;
	}
	address_list_free(&listen);
	add(&page_counter, http_loop(page));
	return 0;
}

int
desk_start(void)
{
	return page == NULL ? 0 : http_start(page);
}

/* No address of a service looks like that. */
static int
make_name(struct counter *c, const char *what, const char *where)
{
	if (asprintf(&c->name, "%s %s", what, where) != -1)
		return 0;
	c->name = NULL;
	warn(NULL);
	return -1;
}

static void
add(struct counter *c, struct kquay *q)
{
	c->branch.q = q;
	c->branch.left = left;
	worker_add(&c->branch);
}

static void
left(struct branch *b)
{
	b->q = NULL;
}

int
desk_socket(unsigned i, const char **name)
{
	const struct counter *counters[] = { &control_counter, &page_counter };
	size_t k;
	unsigned n;
	int fd;

	for (k = 0; k < sizeof(counters) / sizeof(counters[0]); k++) {
		if (counters[k]->branch.q == NULL)
			continue;
		*name = counters[k]->name;
		for (n = 0;; n++) {
			fd = kquay_listener(counters[k]->branch.q, n);
			if (fd == -1)
				break;
			if (i-- == 0)
				return fd;
		}
	}
	return -1;
}

void
desk_claim(const struct program_conf *conf)
{
	if (control != NULL &&
	    address_set_mode(conf->control, conf->control_mode) == -1)
		log_line(LEVEL_ERROR, "%s: control-mode: %s", conf->control,
		    strerror(errno));
	claim(&control_counter);
	claim(&page_counter);
}

static void
claim(struct counter *c)
{
	unsigned n;

	if (c->branch.q != NULL)
		for (n = 0; kquay_listener(c->branch.q, n) != -1; n++)
			(void)kquay_claim(c->branch.q, n);
}

void
desk_bequeath(void)
{
	give_up(&control_counter);
	give_up(&page_counter);
}

static void
give_up(struct counter *c)
{
	if (c->branch.q != NULL)
		while (kquay_give(c->branch.q, 0, NULL) == 0)
			continue;
}

void
desk_close(void)
{
	if (control_counter.branch.q != NULL)
		kquay_stop(control_counter.branch.q);
	if (page_counter.branch.q != NULL)
		kquay_stop(page_counter.branch.q);
}

void
desk_free(void)
{
	control_free(control);
	http_free(page);
	free(control_counter.name);
	free(page_counter.name);
}
