/* SPDX-License-Identifier: MIT
 *
 * See metrics.h. */
#include "worker/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "job/operation.h"

/* Upper ends in us: from a cached answer to the longest call that is allowed by default. */
static const struct {
	int64_t us;
	const char *label;
} ends[] = {{5000, "0.005"},  {10000, "0.01"},	{25000, "0.025"}, {50000, "0.05"},    {100000, "0.1"},
	    {250000, "0.25"}, {500000, "0.5"},	{1000000, "1"},	  {2500000, "2.5"},   {5000000, "5"},
	    {10000000, "10"}, {30000000, "30"}, {60000000, "60"}, {300000000, "300"}, {600000000, "600"}};
#define ENDS (sizeof ends / sizeof *ends)

static const char *const outcomes[] = {"succeeded", "failed", "retried", "fenced", "cancelled", "expired", "cached"};
#define OUTCOMES (sizeof outcomes / sizeof *outcomes)

static const char *const services[] = {"khaya", "taskingai"};
#define SERVICES (sizeof services / sizeof *services)
#define STATUS_MAX 999

struct histogram {
	_Atomic uint64_t in[ENDS + 1]; /* each value in one: they are summed up when they are printed */
	_Atomic uint64_t sum_us;
};

struct series { /* of one type of job in one queue */
	_Atomic uint64_t ended[OUTCOMES];
	struct histogram took;
};

struct queue_metrics {
	const char *name;
	size_t ntypes;		      /* the last of them is for what is no type */
	_Atomic(struct series *) *of; /* by type; NULL: nothing happened yet */
	struct histogram waited;
};

struct metrics {
	size_t ntypes;
	_Atomic(struct histogram *) *called; /* by type, likewise */
	_Atomic uint64_t refused[SERVICES][STATUS_MAX + 1];
	size_t nqueues;
	struct queue_metrics queues[];
};

static void observe(struct histogram *h, int64_t us)
{
	size_t i = 0;

	while (i < ENDS && us > ends[i].us)
		i++;
	h->in[i]++;
	h->sum_us += (uint64_t)us;
}

/* --- Series. ------------------------------------------------------------------------------------------------------ */

static struct series *series_of(struct queue_metrics *q, const struct job_type *type)
{
	_Atomic(struct series *) *place = &q->of[type ? job_type_index(type) : q->ntypes - 1];
	struct series *there = *place, *made;

	if (there)
		return there;
	made = calloc(1, sizeof *made);
	if (made && atomic_compare_exchange_strong(place, &there, made))
		return made;
	free(made);
	return there; /* another thread's, or NULL: out of memory, and not counted */
}

static struct histogram *called_of(struct metrics *m, const struct job_type *type)
{
	_Atomic(struct histogram *) *place = &m->called[job_type_index(type)];
	struct histogram *there = *place, *made;

	if (there)
		return there;
	made = calloc(1, sizeof *made);
	if (made && atomic_compare_exchange_strong(place, &there, made))
		return made;
	free(made);
	return there;
}

static int begin_queue(struct metrics *m, struct queue_metrics *q, const char *name)
{
	const struct job_type *type = job_type_find(name, strlen(name));

	q->name = name;
	q->ntypes = m->ntypes;
	q->of = calloc(m->ntypes, sizeof *q->of);
	if (!q->of)
		return -1;
	return type && (!series_of(q, type) || !called_of(m, type)) ? -1 : 0;
}

struct metrics *metrics_new(const struct settings *s, struct error *err)
{
	struct metrics *m = calloc(1, sizeof *m + s->nqueues * sizeof *m->queues);

	if (m) {
		while (job_type_at(m->ntypes))
			m->ntypes++;
		m->ntypes++;
		m->called = calloc(m->ntypes, sizeof *m->called);
	}
	while (m && m->called && m->nqueues < s->nqueues &&
	       begin_queue(m, &m->queues[m->nqueues], s->queues[m->nqueues].name) == 0)
		m->nqueues++;
	if (m && m->called && m->nqueues == s->nqueues)
		return m;
	if (m && m->nqueues < s->nqueues)
		m->nqueues++; /* the one that failed half-way */
	metrics_free(m);
	error_set(err, ERR_MEMORY, "out of memory");
	return NULL;
}

void metrics_free(struct metrics *m)
{
	if (!m)
		return;
	for (size_t i = 0; i < m->nqueues; i++) {
		for (size_t t = 0; m->queues[i].of && t < m->ntypes; t++)
			free(m->queues[i].of[t]);
		free(m->queues[i].of);
	}
	for (size_t t = 0; m->called && t < m->ntypes; t++)
		free(m->called[t]);
	free(m->called);
	free(m);
}

/* --- Counting. ---------------------------------------------------------------------------------------------------- */

struct queue_metrics *metrics_queue(struct metrics *m, size_t queue)
{
	return &m->queues[queue];
}

void metrics_ended(struct queue_metrics *q, const struct job_type *type, const char *outcome, int64_t took_us)
{
	struct series *s;
	size_t i = 0;

	while (i < OUTCOMES && strcmp(outcome, outcomes[i]) != 0)
		i++;
	if (i == OUTCOMES || !(s = series_of(q, type)))
		return;
	s->ended[i]++;
	if (took_us >= 0)
		observe(&s->took, took_us);
}

void metrics_waited(struct queue_metrics *q, int64_t ms)
{
	observe(&q->waited, ms > 0 ? ms * 1000 : 0);
}

void metrics_called(struct metrics *m, const struct job_type *type, double ms)
{
	struct histogram *h = called_of(m, type);

	if (h)
		observe(h, ms > 0 ? (int64_t)(ms * 1000) : 0);
}

void metrics_refused(struct metrics *m, const struct job_type *type, long status)
{
	m->refused[type->kind == JOB_TASKINGAI][status > 0 && status <= STATUS_MAX ? status : 0]++;
}

/* --- Printing. ---------------------------------------------------------------------------------------------------- */

static void head(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* labels: without braces. */
static void print_histogram(struct buf *out, const char *name, const char *labels, const struct histogram *h)
{
	unsigned long long sum_us = h->sum_us, n = 0;

	for (size_t i = 0; i <= ENDS; i++) {
		n += h->in[i];
		buf_printf(out, "%s_bucket{%s,le=\"%s\"} %llu\n", name, labels, i < ENDS ? ends[i].label : "+Inf", n);
	}
	buf_printf(out, "%s_sum{%s} %llu.%06llu\n%s_count{%s} %llu\n", name, labels, sum_us / 1000000, sum_us % 1000000,
		   name, labels, n);
}

static const char *type_name(size_t i)
{
	const struct job_type *type = job_type_at(i);

	return type ? type->name : "unknown";
}

static void print_queues(const struct metrics *m, struct buf *out)
{
	char labels[160];

	head(out, "adwuma_jobs_total", "counter", "What became of jobs, by queue, type and outcome.");
	for (size_t q = 0; q < m->nqueues; q++)
		for (size_t t = 0; t < m->ntypes; t++) {
			struct series *s = m->queues[q].of[t];

			for (size_t i = 0; s && i < OUTCOMES; i++)
				buf_printf(out, "adwuma_jobs_total{queue=\"%s\",type=\"%s\",outcome=\"%s\"} %llu\n",
					   m->queues[q].name, type_name(t), outcomes[i],
					   (unsigned long long)s->ended[i]);
		}
	head(out, "adwuma_job_duration_seconds", "histogram",
	     "From when a thread took a job until its result was written.");
	for (size_t q = 0; q < m->nqueues; q++)
		for (size_t t = 0; t < m->ntypes; t++) {
			struct series *s = m->queues[q].of[t];

			snprintf(labels, sizeof labels, "queue=\"%s\",type=\"%s\"", m->queues[q].name, type_name(t));
			if (s)
				print_histogram(out, "adwuma_job_duration_seconds", labels, &s->took);
		}
	head(out, "adwuma_queue_latency_seconds", "histogram",
	     "From enqueued_at_ms, or not_before_ms, of jobs that have it, until their first try.");
	for (size_t q = 0; q < m->nqueues; q++) {
		snprintf(labels, sizeof labels, "queue=\"%s\"", m->queues[q].name);
		print_histogram(out, "adwuma_queue_latency_seconds", labels, &m->queues[q].waited);
	}
}

void metrics_print(const struct metrics *m, struct buf *out)
{
	char labels[160];

	print_queues(m, out);
	head(out, "adwuma_api_duration_seconds", "histogram", "How long requests took, whatever came of them.");
	for (size_t t = 0; t < m->ntypes; t++) {
		const struct job_type *type = job_type_at(t);
		struct histogram *h = m->called[t];
		const char *name = type_name(t);

		if (!type || !h)
			continue;
		if (type->kind == JOB_TASKINGAI)
			name += sizeof OPERATION_PREFIX - 1;
		snprintf(labels, sizeof labels, "service=\"%s\",operation=\"%s\"", type->service, name);
		print_histogram(out, "adwuma_api_duration_seconds", labels, h);
	}
	head(out, "adwuma_api_errors_total", "counter",
	     "Requests without success, by the status that came; 0: none did.");
	for (size_t s = 0; s < SERVICES; s++)
		for (size_t i = 0; i <= STATUS_MAX; i++)
			if (i == 0 || m->refused[s][i] > 0)
				buf_printf(out, "adwuma_api_errors_total{service=\"%s\",status=\"%zu\"} %llu\n",
					   services[s], i, (unsigned long long)m->refused[s][i]);
}
