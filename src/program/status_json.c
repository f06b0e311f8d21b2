/*
 * The state of the program as one JSON object.  Times are seconds, sizes
 * bytes; a limit that there is not is null.
 */
#include <sys/types.h>

#include <stdio.h>

#include <kquay.h>

#include "json.h"
#include "status.h"

static void print_service(struct json *, const struct status_service *);
static void print_counts(struct json *, const struct status_service *);
static void print_target(struct json *, const struct status_target *);
static void print_limit(struct json *, const char *, uint32_t);

int
status_print_json(const struct status *st, FILE *out)
{
	struct json j = { .out = out };
	size_t i;

	json_object(&j, NULL);
	json_text(&j, "version", KQUAY_VERSION);
	json_number(&j, "pid", (uint64_t)st->pid);
	json_number(&j, "started", (uint64_t)st->started);
	json_seconds(&j, "uptime", st->uptime_ms);
	json_number(&j, "generation", st->generation);
	json_number(&j, "workers", st->workers);
	json_number(&j, "log_lost", st->log_lost);
	if (st->sandbox != NULL)
		json_text(&j, "sandbox", st->sandbox);
	json_array(&j, "services");
	for (i = 0; i < st->nservices; i++)
		print_service(&j, &st->services[i]);
	json_end(&j);
	json_end(&j);
	fputc('\n', out);
	return 0;
}

static void
print_service(struct json *j, const struct status_service *s)
{
	size_t i;

	json_object(j, NULL);
	json_text(j, "name", s->name);
	json_text(j, "handler", s->handler);
	json_array(j, "listening");
	for (i = 0; i < s->listening.count; i++)
		json_text(j, NULL, s->listening.word[i]);
	json_end(j);
	json_object(j, "limits");
	json_number(j, "max_connections", s->max_connections);
	print_limit(j, "max_per_source", s->max_per_source);
	json_end(j);
	print_counts(j, s);
	json_array(j, "targets");
	for (i = 0; i < s->ntargets; i++)
		print_target(j, &s->targets[i]);
	json_end(j);
	json_end(j);
}

static void
print_counts(struct json *j, const struct status_service *s)
{
	int i;

	json_object(j, "connections");
	json_number(j, "now", s->conns);
	json_number(j, "peak", s->peak);
	json_number(j, "draining", s->draining);
	json_end(j);
	json_number(j, "accepted", s->accepted);
	json_number(j, "dialled", s->dialled);
	json_number(j, "closed", s->closed);
	json_object(j, "bytes");
	json_number(j, "in", s->in);
	json_number(j, "out", s->out);
	json_end(j);
	json_object(j, "refused");
	json_number(j, "total", status_refused(s));
	for (i = 0; i < NREFUSALS; i++)
		json_number(j, tally_refusal_name(i), s->tally.refused[i]);
	json_end(j);
	json_object(j, "ended");
	for (i = 0; i < NENDS; i++)
		json_number(j, kquay_whystr(i), s->tally.ended[i]);
	json_end(j);
}

static void
print_target(struct json *j, const struct status_target *t)
{
	json_object(j, NULL);
	json_text(j, "name", t->name);
	json_text(j, "address", t->address);
	json_text(j, "health", status_health(t));
	json_truth(j, "up", t->up);
	json_truth(j, "backup", t->backup);
	json_number(j, "weight", t->weight);
	json_number(j, "connections", t->conns);
	print_limit(j, "max_connections", t->max);
	json_number(j, "dialled", t->dialled);
	json_number(j, "failures", t->failures);
	json_end(j);
}

static void
print_limit(struct json *j, const char *key, uint32_t limit)
{
	if (limit == 0)
		json_null(j, key);
	else
		json_number(j, key, limit);
}
