/* SPDX-License-Identifier: MIT
 *
 * See admin.h. */
#include "worker/admin.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "httpd/httpd.h"

/* A loop may wait for Redis in a connect and in the steps that follow it, each with a limit of its own; one that is silent for longer is stuck. */
#ifdef ADWUMA_FAULTS
#define STALL_MS 3000
#else
#define STALL_MS 120000
#endif
#define BODY_MAX (32 * 1024 * 1024) /* every operation in every queue */
#define REQUEST_BODY_MAX 1024

struct admin {
	struct admin_view view;
	struct httpd *httpd;
};

/* A loop that has not begun waits for Redis's first answer. */
static bool turns(int64_t turned_ms)
{
	return turned_ms == 0 || clock_mono_ms() - turned_ms < STALL_MS;
}

/* The name of a loop that has stopped turning, or NULL. */
static const char *stuck(const struct admin_view *v)
{
	if (!turns(keepers_turned_ms(v->keepers)))
		return "keeper";
	for (size_t i = 0; i < v->nlines; i++)
		if (!line_ended(v->lines[i]) && !turns(line_turned_ms(v->lines[i])))
			return line_queue(v->lines[i]);
	return NULL;
}

bool admin_alive(const struct admin_view *v)
{
	return !stuck(v);
}

static const char *phase_name(enum phase phase)
{
	static const char *const names[] = {
		[PHASE_RUN] = "running",    [PHASE_QUIET] = "quiet",	 [PHASE_DRAIN] = "draining",
		[PHASE_ABORT] = "stopping", [PHASE_LET_GO] = "stopping", [PHASE_GIVE_UP] = "stopping"};

	return names[phase];
}

static void plain(struct httpd_answer *a, int status, const char *text)
{
	a->status = status;
	httpd_add_header(a, "Content-Type", "text/plain; charset=utf-8");
	buf_printf(&a->body, "%s\n", text);
}

static void say_health(const struct admin_view *v, struct httpd_answer *a)
{
	const char *loop = stuck(v);

	plain(a, loop ? 503 : 200, loop ? "a loop does not turn any more" : "ok");
}

/* NULL: it is ready. */
static const char *why_not_ready(const struct admin_view *v)
{
	const char *why = v->ctx->phase != PHASE_RUN ? "no jobs are taken now: the worker is quiet or stopping" : NULL;

	if (!why && !health_up(&v->ctx->health))
		why = "redis cannot be reached";
	for (size_t i = 0; !why && i < v->nlines; i++)
		if (!keepers_write(v->keepers, i))
			why = "redis does not take our writes";
	return why;
}

static void say_ready(const struct admin_view *v, struct httpd_answer *a)
{
	const char *why = why_not_ready(v);

	plain(a, why ? 503 : 200, why ? why : "ok");
}

static void status_queue(const struct admin_view *v, size_t i, struct buf *out)
{
	struct keeper_figures f;
	size_t waiting, running;

	keepers_figures(v->keepers, i, &f);
	stock_counts(v->stock, i, &waiting, &running);
	buf_str_add(out, i > 0 ? ",{\"queue\":" : "{\"queue\":");
	buf_json_cstr(out, line_queue(v->lines[i]));
	buf_printf(
		out,
		",\"running\":%zu,\"waiting\":%zu,\"unsettled\":%u,\"ready\":%lld,\"delayed\":%lld,\"dead\":%lld,\"paused\":%s,"
		"\"writes\":%s}",
		running, waiting, line_busy(v->lines[i]), (long long)f.ready, (long long)f.delayed, (long long)f.dead,
		f.paused ? "true" : "false", keepers_write(v->keepers, i) ? "true" : "false");
}

static size_t count_running(const struct admin_view *v)
{
	size_t busy = 0;

	for (size_t i = 0; i < v->nlines; i++) {
		size_t waiting, running;

		stock_counts(v->stock, i, &waiting, &running);
		busy += running;
	}
	return busy;
}

static void say_status(const struct admin_view *v, struct httpd_answer *a)
{
	struct buf *out = &a->body;
	size_t busy = count_running(v), threads = (size_t)v->ctx->settings->threads;

	a->status = 200;
	httpd_add_header(a, "Content-Type", "application/json");
	buf_lit(out, "{\"worker\":");
	buf_json_cstr(out, v->ctx->base_id);
	buf_printf(
		out,
		",\"version\":\"%s\",\"state\":\"%s\",\"started_at_ms\":%lld,\"threads\":{\"busy\":%zu,\"idle\":%zu}",
		ADWUMA_VERSION, phase_name(v->ctx->phase), (long long)v->ctx->started_at_ms, busy,
		threads - (busy < threads ? busy : threads));
	buf_printf(
		out,
		",\"redis\":{\"up\":%s,\"last_answer_age_ms\":%lld,\"reconnects\":%llu},\"jobs_reaped\":%llu,\"queues\":[",
		health_up(&v->ctx->health) ? "true" : "false",
		(long long)(clock_mono_ms() - v->ctx->health.answered_ms),
		(unsigned long long)health_reconnects(&v->ctx->health), (unsigned long long)v->ctx->reaped);
	for (size_t i = 0; i < v->nlines; i++)
		status_queue(v, i, out);
	buf_lit(out, "]}\n");
}

static void metric(struct buf *out, const char *name, const char *type, const char *help)
{
	buf_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

static void billed_metrics(const struct context *ctx, struct buf *out)
{
	static const char *const services[] = {"khaya", "taskingai"};

	metric(out, "adwuma_billed_units_total", "counter", "What was sent to the services, whatever came of it.");
	for (size_t s = 0; s < sizeof services / sizeof *services; s++)
		for (int unit = 0; unit < UNITS; unit++) {
			int64_t sum = 0;

			for (int kind = 0; kind < JOB_KINDS; kind++)
				if (strcmp(job_kind_service((enum job_kind)kind), services[s]) == 0)
					sum += ctx->billed[kind][unit];
			buf_printf(out, "adwuma_billed_units_total{service=\"%s\",unit=\"%s\"} %lld\n", services[s],
				   unit_names[unit], (long long)sum);
		}
}

static void say_metrics(const struct admin_view *v, struct httpd_answer *a)
{
	struct buf *out = &a->body;
	size_t busy = count_running(v), threads = (size_t)v->ctx->settings->threads;

	a->status = 200;
	httpd_add_header(a, "Content-Type", "text/plain; version=0.0.4; charset=utf-8");
	metric(out, "adwuma_queue_jobs", "gauge", "Jobs by queue and state; running: of this worker.");
	for (size_t i = 0; i < v->nlines; i++) {
		const char *queue = line_queue(v->lines[i]); /* of the queue alphabet: nothing to escape */
		struct keeper_figures f;
		size_t waiting, running;

		keepers_figures(v->keepers, i, &f);
		stock_counts(v->stock, i, &waiting, &running);
		buf_printf(out, "adwuma_queue_jobs{queue=\"%s\",state=\"ready\"} %lld\n", queue, (long long)f.ready);
		buf_printf(out, "adwuma_queue_jobs{queue=\"%s\",state=\"delayed\"} %lld\n", queue,
			   (long long)f.delayed);
		buf_printf(out, "adwuma_queue_jobs{queue=\"%s\",state=\"dead\"} %lld\n", queue, (long long)f.dead);
		buf_printf(out, "adwuma_queue_jobs{queue=\"%s\",state=\"running\"} %zu\n", queue, running);
	}
	metric(out, "adwuma_queue_paused", "gauge", "Whether the queue is paused.");
	for (size_t i = 0; i < v->nlines; i++) {
		struct keeper_figures f;

		keepers_figures(v->keepers, i, &f);
		buf_printf(out, "adwuma_queue_paused{queue=\"%s\"} %d\n", line_queue(v->lines[i]), f.paused);
	}
	metric(out, "adwuma_threads", "gauge", "Pool threads by state.");
	buf_printf(out, "adwuma_threads{state=\"busy\"} %zu\nadwuma_threads{state=\"idle\"} %zu\n", busy,
		   threads - (busy < threads ? busy : threads));
	metric(out, "adwuma_ready", "gauge", "Whether /readyz says so: writes go through, and jobs are taken.");
	buf_printf(out, "adwuma_ready %d\n", !why_not_ready(v));
	metric(out, "adwuma_redis_up", "gauge", "Whether all connections to Redis are up.");
	buf_printf(out, "adwuma_redis_up %d\n", health_up(&v->ctx->health));
	metric(out, "adwuma_redis_last_answer_age_seconds", "gauge", "Time since Redis last did what was asked.");
	buf_printf(out, "adwuma_redis_last_answer_age_seconds %.3f\n",
		   (double)(clock_mono_ms() - v->ctx->health.answered_ms) / 1000.0);
	metric(out, "adwuma_redis_reconnects_total", "counter", "Connections to Redis that were made anew.");
	buf_printf(out, "adwuma_redis_reconnects_total %llu\n", (unsigned long long)health_reconnects(&v->ctx->health));
	metric(out, "adwuma_jobs_reaped_total", "counter",
	       "Jobs of dead workers that this worker put back or gave up.");
	buf_printf(out, "adwuma_jobs_reaped_total %llu\n", (unsigned long long)v->ctx->reaped);
	billed_metrics(v->ctx, out);
	metrics_print(v->ctx->metrics, out);
}

static const struct {
	const char *path;
	void (*say)(const struct admin_view *v, struct httpd_answer *a);
} pages[] = {{"/healthz", say_health}, {"/readyz", say_ready}, {"/status", say_status}, {"/metrics", say_metrics}};

static void on_request(void *ctx, const struct httpd_request *r, struct httpd_answer *answer)
{
	const struct admin *a = ctx;

	answer->body.max = BODY_MAX;
	if (strcmp(httpd_method(r), "GET") != 0 && strcmp(httpd_method(r), "HEAD") != 0) {
		httpd_add_header(answer, "Allow", "GET, HEAD");
		plain(answer, 405, "only GET");
		return;
	}
	for (size_t i = 0; i < sizeof pages / sizeof *pages; i++)
		if (strcmp(httpd_path(r), pages[i].path) == 0) {
			pages[i].say(&a->view, answer);
			return;
		}
	plain(answer, 404, "there are /healthz, /readyz, /status and /metrics");
}

struct admin *admin_start(const struct admin_view *view, struct error *err)
{
	const struct settings *s = view->ctx->settings;
	struct admin *a;
	uint16_t port;

	err->code = ERR_NONE;
	if (strcmp(s->admin_listen, "off") == 0)
		return NULL;
	a = calloc(1, sizeof *a);
	if (!a) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	a->view = *view;
	a->httpd = httpd_start(s->admin_listen, REQUEST_BODY_MAX, on_request, a, &port, err);
	if (a->httpd) {
		log_event(LOG_INFO, "admin listens", "port", log_int(port), NULL);
		return a;
	}
	free(a);
	if (s->admin_listen_set) {
		err->code = ERR_CONFIG;
		error_prefix(err, "admin_listen");
		return NULL;
	}
	log_event(LOG_WARN, "admin does not listen", "reason", err->msg, "then",
		  "set admin_listen to another address, or to off", NULL);
	err->code = ERR_NONE;
	return NULL;
}

void admin_stop(struct admin *a)
{
	if (!a)
		return;
	httpd_stop(a->httpd);
	free(a);
}
