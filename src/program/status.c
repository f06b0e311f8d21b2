/*
 * The state of the program: made, filled and freed.  status_*.c print it.
 */
#include <sys/types.h>

#include <stdlib.h>
#include <string.h>

#include <kquay.h>

#include "status.h"

struct status *
status_new(void)
{
	return calloc(1, sizeof(struct status));
}

void
status_free(struct status *st)
{
	struct status_service *s;
	size_t i, k;

	if (st == NULL)
		return;
	for (i = 0; i < st->nservices; i++) {
		s = &st->services[i];
		for (k = 0; k < s->ntargets; k++) {
			free(s->targets[k].name);
			free(s->targets[k].address);
		}
		free(s->targets);
		words_free(&s->listening);
		free(s->name);
	}
	free(st->services);
	free(st);
}

struct status_service *
status_service(struct status *st, const char *name, const char *handler)
{
	struct status_service *grown, *s;
	size_t i;

	for (i = 0; i < st->nservices; i++)
		if (strcmp(st->services[i].name, name) == 0)
			return &st->services[i];
	grown = reallocarray(st->services, st->nservices + 1, sizeof(*grown));
	if (grown == NULL)
		goto fail;
	st->services = grown;
	s = &grown[st->nservices];
	memset(s, 0, sizeof(*s));
	s->handler = handler;
	s->name = strdup(name);
	if (s->name == NULL)
		goto fail;
	st->nservices++;
	return s;

fail:
	st->failed = 1;
	return NULL;
}

void
status_count(struct status_service *s, const struct kquay_stat *stat,
    const struct tally *tally)
{
	int i;

	s->conns += stat->conns - stat->dials;
	s->peak += tally->peak;
	s->accepted += stat->accepted;
	s->dialled += stat->dialled;
	s->closed += stat->closed;
	s->in += stat->in - stat->dialled_in;
	s->out += stat->out - stat->dialled_out;
	for (i = 0; i < NREFUSALS; i++)
		s->tally.refused[i] += tally->refused[i];
	for (i = 0; i < NENDS; i++)
		s->tally.ended[i] += tally->ended[i];
}

struct status_target *
status_target(struct status *st, struct status_service *s, const char *name,
    const char *address)
{
	struct status_target *grown, *t;
	size_t i;

	for (i = 0; i < s->ntargets; i++) {
		t = &s->targets[i];
		if (strcmp(t->address, address) == 0 &&
		    strcmp(t->name, name) == 0)
			return t;
	}
	grown = reallocarray(s->targets, s->ntargets + 1, sizeof(*grown));
	if (grown == NULL)
		goto fail;
	s->targets = grown;
	t = &grown[s->ntargets];
	memset(t, 0, sizeof(*t));
	t->name = strdup(name);
	t->address = strdup(address);
	if (t->name == NULL || t->address == NULL) {
		free(t->name);
		free(t->address);
		goto fail;
	}
	s->ntargets++;
	return t;

fail:
	st->failed = 1;
	return NULL;
}

uint64_t
status_refused(const struct status_service *s)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < NREFUSALS; i++)
		sum += s->tally.refused[i];
	return sum;
}

/* What fails without being checked is left alone for a while, too. */
const char *
status_health(const struct status_target *target)
{
	switch (target->health) {
	case HEALTH_UNKNOWN:
		return target->up ? "unchecked" : "failing";
	case HEALTH_UP:
		return target->up ? "up" : "failing";
	case HEALTH_DOWN:
		return "down";
	}
	return "?";
}
