/*
 * The state of the program for people: a line about all of it, a table of the
 * services, and one of whatever else has happened to any of them.
 */
#include <sys/types.h>

#include <inttypes.h>
#include <stdio.h>

#include <kquay.h>

#include "human.h"
#include "status.h"
#include "table.h"

static void print_head(const struct status *, FILE *);
static int print_services(const struct status *, FILE *);
static void service_row(struct table *, const struct status_service *);
static void listening_cell(struct table *, const struct words *);
static int print_refused(const struct status *, FILE *);
static int print_ended(const struct status *, FILE *);
static int print_targets(const struct status *, FILE *);
static void target_row(struct table *, const struct status_service *,
    const struct status_target *);
static int print_part(struct table *, const char *, int, FILE *);

int
status_print_table(const struct status *st, FILE *out)
{
	print_head(st, out);
	if (print_services(st, out) == -1 || print_refused(st, out) == -1 ||
	    print_ended(st, out) == -1)
		return -1;
	return print_targets(st, out);
}

static void
print_head(const struct status *st, FILE *out)
{
	char up[HUMAN_MAX];

	fprintf(out,
	    "kquay " KQUAY_VERSION ", pid %jd, up %s, %" PRIu32
	    " worker%s, configuration %" PRIu32,
	    (intmax_t)st->pid, human_time(up, st->uptime_ms), st->workers,
	    st->workers == 1 ? "" : "s", st->generation);
	if (st->sandbox != NULL)
		fprintf(out, ", sandbox: %s", st->sandbox);
	fputc('\n', out);
	if (st->log_lost > 0)
		fprintf(out, "lines lost by the log: %" PRIu64 "\n",
		    st->log_lost);
}

static int
print_services(const struct status *st, FILE *out)
{
	static const char *const headings[] = { "SERVICE", "HANDLER", ">NOW",
		">LIMIT", ">PEAK", ">ACCEPTED", ">REFUSED", ">ERRORS", ">IN",
		">OUT", "LISTENING", NULL };
	struct table *t;
	size_t i;

	t = table_new(headings);
	if (t == NULL)
		return -1;
	for (i = 0; i < st->nservices; i++)
		service_row(t, &st->services[i]);
	return print_part(t, NULL, 1, out);
}

static void
service_row(struct table *t, const struct status_service *s)
{
	char bytes[HUMAN_MAX];

	table_cell(t, "%s", s->name);
	table_cell(t, "%s", s->handler);
	table_cell(t, "%" PRIu32, s->conns);
	table_cell(t, "%" PRIu32, s->max_connections);
	table_cell(t, "%" PRIu32, s->peak);
	table_cell(t, "%" PRIu64, s->accepted);
	table_cell(t, "%" PRIu64, status_refused(s));
	table_cell(t, "%" PRIu64, s->tally.ended[KQUAY_ERROR]);
	table_cell(t, "%s", human_size(bytes, s->in));
	table_cell(t, "%s", human_size(bytes, s->out));
	listening_cell(t, &s->listening);
}

static void
listening_cell(struct table *t, const struct words *listening)
{
	size_t i;

	table_cell(t, "%s", listening->count > 0 ? listening->word[0] : "-");
	for (i = 1; i < listening->count; i++)
		table_more(t, ", %s", listening->word[i]);
}

static int
print_refused(const struct status *st, FILE *out)
{
	static const char *const headings[] = { "SERVICE", ">FULL",
		">DESCRIPTORS", ">SOURCE", ">ACCESS", ">RATE", ">TIMEOUT",
		">PROTOCOL", ">OTHER", NULL };
	const struct status_service *s;
	struct table *t;
	int any = 0, k;
	size_t i;

	t = table_new(headings);
	if (t == NULL)
		return -1;
	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		if (status_refused(s) == 0)
			continue;
		any = 1;
		table_cell(t, "%s", s->name);
		for (k = 0; k < NREFUSALS; k++)
			table_cell(t, "%" PRIu64, s->tally.refused[k]);
	}
	return print_part(t, "Refused", any, out);
}

static int
print_ended(const struct status *st, FILE *out)
{
	static const char *const headings[] = { "SERVICE", ">DRAINING", ">DONE",
		">EOF", ">ERROR", ">IDLE", ">LIFE", ">HANDSHAKE", ">TOOLONG",
		">SLOW", ">SHUTDOWN", NULL };
	const struct status_service *s;
	struct table *t;
	int any = 0, k;
	size_t i;

	t = table_new(headings);
	if (t == NULL)
		return -1;
	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		if (s->closed == 0 && s->draining == 0)
			continue;
		any = 1;
		table_cell(t, "%s", s->name);
		table_cell(t, "%" PRIu32, s->draining);
		for (k = 0; k < NENDS; k++)
			table_cell(t, "%" PRIu64, s->tally.ended[k]);
	}
	return print_part(t, "Ended", any, out);
}

static int
print_targets(const struct status *st, FILE *out)
{
	static const char *const headings[] = { "SERVICE", "TARGET", "ADDRESS",
		"HEALTH", ">WEIGHT", ">NOW", ">LIMIT", ">DIALLED", ">FAILURES",
		NULL };
	const struct status_service *s;
	struct table *t;
	int any = 0;
	size_t i, k;

	t = table_new(headings);
	if (t == NULL)
		return -1;
	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		for (k = 0; k < s->ntargets; k++)
			target_row(t, s, &s->targets[k]);
		any |= s->ntargets > 0;
	}
	return print_part(t, "Targets", any, out);
}

static void
target_row(struct table *t, const struct status_service *s,
    const struct status_target *target)
{
	table_cell(t, "%s", s->name);
	table_cell(t, "%s", target->name);
	table_cell(t, "%s", target->address);
	table_cell(t, "%s%s", status_health(target),
	    target->backup ? ", backup" : "");
	table_cell(t, "%" PRIu32, target->weight);
	table_cell(t, "%" PRIu32, target->conns);
	if (target->max == 0)
		table_cell(t, "-");
	else
		table_cell(t, "%" PRIu32, target->max);
	table_cell(t, "%" PRIu64, target->dialled);
	table_cell(t, "%" PRIu64, target->failures);
}

/* Print the table if there is any row in it, below its title, and free it. */
static int
print_part(struct table *t, const char *title, int any, FILE *out)
{
	int rc = 0;

	if (any) {
		fputc('\n', out);
		if (title != NULL)
			fprintf(out, "%s\n", title);
		rc = table_print(t, out);
	}
	table_free(t);
	return rc;
}
