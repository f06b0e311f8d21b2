/*
 * The state of the program as Prometheus reads it, in its text format 0.0.4:
 * each metric in one block, HELP and TYPE first.
 */
#include <sys/types.h>

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <kquay.h>

#include "status.h"
#include "utf8.h"

enum member_type { MEMBER_U32, MEMBER_U64 };

/* A metric that is one member of a service or of a target. */
struct metric {
	const char *name;
	const char *type;
	const char *help;
	enum member_type member;
	size_t offset;
};

#define SERVICE(member) offsetof(struct status_service, member)
#define TARGET(member) offsetof(struct status_target, member)

static const char *refusal_name(int);
static const char *end_name(int);

static const struct metric service_metrics[] = {
	{ "kquay_connections", "gauge", "Connections that are open.",
	    MEMBER_U32, SERVICE(conns) },
	{ "kquay_connections_peak", "gauge",
	    "Most connections at a time, the sum of each loop's.", MEMBER_U32,
	    SERVICE(peak) },
	{ "kquay_connections_limit", "gauge",
	    "Connections that may be open: max-connections.", MEMBER_U32,
	    SERVICE(max_connections) },
	{ "kquay_connections_draining", "gauge",
	    "Open connections under settings that were replaced.", MEMBER_U32,
	    SERVICE(draining) },
	{ "kquay_accepted_total", "counter", "Connections accepted.",
	    MEMBER_U64, SERVICE(accepted) },
	{ "kquay_dialled_total", "counter", "Connections dialled.", MEMBER_U64,
	    SERVICE(dialled) },
	{ "kquay_received_bytes_total", "counter",
	    "Bytes received from callers.", MEMBER_U64, SERVICE(in) },
	{ "kquay_sent_bytes_total", "counter", "Bytes sent to callers.",
	    MEMBER_U64, SERVICE(out) },
};

static const struct metric target_metrics[] = {
	{ "kquay_target_weight", "gauge", "Weight of the target.", MEMBER_U32,
	    TARGET(weight) },
	{ "kquay_target_connections", "gauge",
	    "Connections that the target has.", MEMBER_U32, TARGET(conns) },
	{ "kquay_target_dialled_total", "counter",
	    "Connections dialled to the target.", MEMBER_U64, TARGET(dialled) },
	{ "kquay_target_failures_total", "counter",
	    "Connections and checks that the target failed.", MEMBER_U64,
	    TARGET(failures) },
};
#define COUNT(table) (sizeof(table) / sizeof(table[0]))

/* A metric of every service that is a count for each kind of something. */
static const struct kinds {
	const char *name, *help;
	const char *label;
	int n;
	const char *(*kind)(int);
	size_t offset; /* of uint64_t[n] */
} service_kinds[] = {
	{ "kquay_refused_total", "Callers turned away.", "reason", NREFUSALS,
	    refusal_name, SERVICE(tally.refused) },
	{ "kquay_closed_total", "Connections that ended.", "why", NENDS,
	    end_name, SERVICE(tally.ended) },
};

/* A label of one metric; a list of them ends with a name of NULL. */
struct label {
	const char *name, *value;
};

static void print_program(const struct status *, FILE *);
static void print_services(const struct status *, FILE *);
static void print_kinds(const struct status *, const struct kinds *, FILE *);
static void print_up(const struct status *, FILE *);
static void print_targets(const struct status *, const struct metric *, FILE *);
static void print_target_name(const char *, const struct status_service *,
    const struct status_target *, FILE *);
static void print_head(const char *, const char *, const char *, FILE *);
static void print_name(const char *, const struct label *, FILE *);
static void print_value(const char *, FILE *);
static void print_member(const struct metric *, const void *, FILE *);

int
status_print_metrics(const struct status *st, FILE *out)
{
	size_t i;

	print_program(st, out);
	print_services(st, out);
	for (i = 0; i < COUNT(service_kinds) && st->nservices > 0; i++)
		print_kinds(st, &service_kinds[i], out);
	print_up(st, out);
	for (i = 0; i < COUNT(target_metrics); i++)
		print_targets(st, &target_metrics[i], out);
	return 0;
}

static void
print_program(const struct status *st, FILE *out)
{
	print_head("kquay_info", "gauge", "The program's version.", out);
	fputs("kquay_info{version=\"" KQUAY_VERSION "\"} 1\n", out);
	print_head("kquay_start_time_seconds", "gauge",
	    "When the process began, in seconds since 1970.", out);
	fprintf(out, "kquay_start_time_seconds %" PRId64 "\n", st->started);
	print_head("kquay_workers", "gauge", "Threads that serve.", out);
	fprintf(out, "kquay_workers %" PRIu32 "\n", st->workers);
	print_head("kquay_generation", "gauge",
	    "Number of the configuration, counted from 1 at the start.", out);
	fprintf(out, "kquay_generation %" PRIu32 "\n", st->generation);
	print_head("kquay_log_lost_lines_total", "counter",
	    "Lines of the log that could not be written.", out);
	fprintf(out, "kquay_log_lost_lines_total %" PRIu64 "\n", st->log_lost);
}

static void
print_services(const struct status *st, FILE *out)
{
	struct label labels[] = { { "service", NULL }, { NULL, NULL } };
	const struct metric *m;
	size_t i, k;

	for (i = 0; i < COUNT(service_metrics) && st->nservices > 0; i++) {
		m = &service_metrics[i];
		print_head(m->name, m->type, m->help, out);
		for (k = 0; k < st->nservices; k++) {
			labels[0].value = st->services[k].name;
			print_name(m->name, labels, out);
			print_member(m, &st->services[k], out);
		}
	}
}

static void
print_kinds(const struct status *st, const struct kinds *m, FILE *out)
{
	const struct status_service *s;
	const uint64_t *counts;
	size_t i;
	int k;

	print_head(m->name, "counter", m->help, out);
	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		counts =
		    (const void *)((const char *)(const void *)s + m->offset);
		for (k = 0; k < m->n; k++) {
			const struct label labels[] = { { "service", s->name },
				{ m->label, m->kind(k) }, { NULL, NULL } };

			print_name(m->name, labels, out);
			fprintf(out, "%" PRIu64 "\n", counts[k]);
		}
	}
}

static const char *
refusal_name(int refusal)
{
	return tally_refusal_name((enum refusal)refusal);
}

static const char *
end_name(int why)
{
	return kquay_whystr((enum kquay_why)why);
}

static void
print_up(const struct status *st, FILE *out)
{
	const struct status_service *s;
	int begun = 0;
	size_t i, k;

	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		for (k = 0; k < s->ntargets; k++) {
			if (!begun++)
				print_head("kquay_target_up", "gauge",
				    "1 if the target gets connections.", out);
			print_target_name("kquay_target_up", s, &s->targets[k],
			    out);
			fprintf(out, "%d\n", s->targets[k].up);
		}
	}
}

static void
print_targets(const struct status *st, const struct metric *m, FILE *out)
{
	const struct status_service *s;
	int begun = 0;
	size_t i, k;

	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		for (k = 0; k < s->ntargets; k++) {
			if (!begun++)
				print_head(m->name, m->type, m->help, out);
			print_target_name(m->name, s, &s->targets[k], out);
			print_member(m, &s->targets[k], out);
		}
	}
}

static void
print_target_name(const char *name, const struct status_service *s,
    const struct status_target *t, FILE *out)
{
	struct label labels[] = { { "service", s->name }, { "target", t->name },
		{ "address", t->address }, { NULL, NULL } };

	print_name(name, labels, out);
}

static void
print_head(const char *name, const char *type, const char *help, FILE *out)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* And a blank, for the value to follow. */
static void
print_name(const char *name, const struct label *label, FILE *out)
{
	char before = '{';

	fputs(name, out);
	for (; label->name != NULL; label++) {
		fprintf(out, "%c%s=", before, label->name);
		print_value(label->value, out);
		before = ',';
	}
	fputs("} ", out);
}

static void
print_value(const char *text, FILE *out)
{
	uint32_t code;
	int len;

	putc('"', out);
	for (; *text != '\0'; text += len) {
		len = utf8_next(text, &code);
		if (len == 0) {
			fputs("\xef\xbf\xbd", out); /* U+FFFD */
			len = 1;
		} else if (*text == '\n')
			fputs("\\n", out);
		else if (*text == '"' || *text == '\\')
			fprintf(out, "\\%c", *text);
		else
			fwrite(text, 1, (size_t)len, out);
	}
	putc('"', out);
}

static void
print_member(const struct metric *m, const void *of, FILE *out)
{
	const char *at = (const char *)of + m->offset;
	uint64_t value = 0;
	uint32_t small;

	switch (m->member) {
	case MEMBER_U32:
		memcpy(&small, at, sizeof(small));
		value = small;
		break;
	case MEMBER_U64:
		memcpy(&value, at, sizeof(value));
		break;
	}
	fprintf(out, "%" PRIu64 "\n", value);
}
