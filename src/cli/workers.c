/* SPDX-License-Identifier: MIT
 *
 * workers: who works where on what. What a worker tells of itself is up to a lease's third old; what it holds is read
 * from its slots. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/pick.h"
#include "cli/cli.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"
#include "cli/table.h"

#define JOBS_ON_TERMINAL 4
#define JOBS_BYTES_MAX (64UL * 1024 * 1024)
#define TYPE_MAX 128

/* What a worker tells of itself (worker/keeper.c), in the order in which it is shown. */
enum fact { HOST, PID, VERSION, THREADS, BUSY, STARTED, FACTS };
static const char *const facts[FACTS] = {"host", "pid", "version", "threads", "busy", "started_at_ms"};

struct view {
	struct redis *redis;
	const char *prefix;
	const char *queue;
	struct keys keys;
	int64_t now_ms;
	bool json;
	struct table table;
	struct buf jobs;
	size_t njobs;
};

/* --- What it holds. ----------------------------------------------------------------------------------------------- */

struct held {
	char id[ADWUMA_ID_MAX + 1];
	char type[TYPE_MAX + 1];
	int64_t attempt, enqueued_at_ms; /* -1: not told */
};

static void read_held(struct held *h, const char *payload, size_t len, const char *queue)
{
	struct want want[] = {{"id", {0}}, {"type", {0}}, {"attempt", {0}}, {"enqueued_at_ms", {0}}};

	*h = (struct held){.enqueued_at_ms = -1};
	(void)pick((struct span){payload, len}, want, 4);
	pick_text(want[0].value, h->id, ADWUMA_ID_MAX);
	if (want[1].value.ptr)
		pick_text(want[1].value, h->type, TYPE_MAX);
	else
		snprintf(h->type, sizeof h->type, "%s", queue);
	if (want[2].value.ptr)
		(void)json_span_int(want[2].value, &h->attempt);
	if (want[3].value.ptr)
		(void)json_span_int(want[3].value, &h->enqueued_at_ms);
}

static void string_or_null(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, "\"%s\":", name);
	buf_json_cstr(out, value && *value ? value : NULL);
}

static void number_or_null(struct buf *out, const char *name, const struct reply *value)
{
	if (reply_is_nil(value))
		buf_printf(out, "\"%s\":null", name);
	else
		buf_printf(out, "\"%s\":%" PRId64, name, reply_int(value, 0));
}

static void add_job_json(struct view *v, unsigned slot, const struct held *h)
{
	struct buf *out = &v->jobs;

	buf_printf(out, "%s{\"slot\":%u,", v->njobs ? "," : "", slot);
	string_or_null(out, "id", h->id);
	buf_char(out, ',');
	string_or_null(out, "type", h->type);
	buf_printf(out, ",\"attempts\":%" PRId64 ",\"enqueued_at_ms\":", h->attempt);
	if (h->enqueued_at_ms >= 0)
		buf_int(out, h->enqueued_at_ms);
	else
		buf_lit(out, "null");
	buf_char(out, '}');
}

/* "42", or "42 (translate)" where the queue's name does not tell the type. */
static void add_job_text(struct view *v, const struct held *h)
{
	if (v->table.pretty && v->njobs >= JOBS_ON_TERMINAL)
		return;
	buf_printf(&v->jobs, "%s%s", v->njobs ? ", " : "", *h->id ? h->id : "?");
	if (*h->type && strcmp(h->type, v->queue) != 0)
		buf_printf(&v->jobs, " (%s)", h->type);
}

static bool add_job(void *ctx, unsigned slot, const char *payload, size_t len)
{
	struct view *v = ctx;
	struct held h;

	read_held(&h, payload, len, v->queue);
	if (v->json)
		add_job_json(v, slot, &h);
	else
		add_job_text(v, &h);
	v->njobs++;
	return !v->jobs.failed;
}

/* --- A worker. ---------------------------------------------------------------------------------------------------- */

static void print_json(struct view *v, const char *worker, unsigned nslots, const struct reply *told, int64_t lease_ms)
{
	struct buf line = BUF_INIT(JOBS_BYTES_MAX * 2);

	buf_printf(&line, "{\"queue\":\"%s\",", v->queue);
	string_or_null(&line, "worker", worker);
	for (int i = 0; i < FACTS; i++) {
		buf_char(&line, ',');
		if (i == HOST || i == VERSION)
			string_or_null(&line, facts[i], reply_bytes(reply_at(told, (size_t)i), NULL));
		else
			number_or_null(&line, facts[i], reply_at(told, (size_t)i));
	}
	buf_printf(&line, ",\"slots\":%u,\"alive\":%s,\"lease_ms\":%" PRId64 ",\"jobs\":[", nslots,
		   lease_ms >= 0 ? "true" : "false", lease_ms);
	buf_add(&line, v->jobs.ptr, v->jobs.len);
	buf_lit(&line, "]}");
	out_line(buf_cstr(&line), line.len);
	buf_release(&line);
}

static void print_row(struct view *v, const char *worker, const struct reply *told, int64_t lease_ms)
{
	const char *started = reply_bytes(reply_at(told, STARTED), NULL);
	char span[TIME_TEXT_MAX];

	table_cellf(&v->table, "%s", v->queue);
	table_cellf(&v->table, "%s", worker);
	for (size_t i = HOST; i <= BUSY; i++) {
		const char *fact = reply_bytes(reply_at(told, i), NULL);

		table_cellf(&v->table, "%s", fact ? fact : "-");
	}
	show_seconds(v->now_ms - reply_int(reply_at(told, STARTED), 0), span);
	table_cellf(&v->table, "%s", started ? span : "-");
	show_seconds(-lease_ms, span);
	table_cellf(&v->table, "%s%s", lease_ms >= 0 ? "alive" : "dead ", lease_ms >= 0 ? "" : span);
	if (v->table.pretty && v->njobs > JOBS_ON_TERMINAL)
		buf_printf(&v->jobs, " and %zu more", v->njobs - JOBS_ON_TERMINAL);
	table_cell(&v->table, buf_cstr(&v->jobs), v->jobs.len);
}

static int ask(const struct view *v, const char *worker, struct reply **told, int64_t *lease_ms, struct error *err)
{
	struct redis_args args = {0};
	struct reply *lease = NULL;
	char key[KEY_MAX];
	int rc;

	key_worker(&v->keys, worker, key);
	redis_arg_str(&args, "HMGET");
	redis_arg_str(&args, key);
	for (size_t i = 0; i < FACTS; i++)
		redis_arg_str(&args, facts[i]);
	rc = redis_call(v->redis, &lease, err, "ZSCORE %s %s", v->keys.workers, worker);
	if (rc == 0)
		rc = redis_run(v->redis, &args, told, err);
	*lease_ms = reply_int(lease, 0) - v->now_ms;
	reply_free(lease);
	redis_args_release(&args);
	return rc;
}

static int view_worker(void *ctx, const char *worker, unsigned nslots, struct error *err)
{
	struct view *v = ctx;
	struct reply *told = NULL;
	int64_t lease_ms;
	int rc = ask(v, worker, &told, &lease_ms, err);

	buf_clear(&v->jobs);
	v->njobs = 0;
	if (rc == 0)
		rc = each_held(v->redis, &v->keys, worker, nslots, add_job, v, err);
	if (rc == 0 && v->jobs.failed)
		rc = error_set(err, ERR_MEMORY, "no memory for the jobs of %s", worker);
	if (rc == 0 && v->json)
		print_json(v, worker, nslots, told, lease_ms);
	else if (rc == 0)
		print_row(v, worker, told, lease_ms);
	reply_free(told);
	return rc;
}

static void open_table(struct table *t)
{
	static const char *const names[] = {"queue",   "worker", "host", "pid",	  "version",
					    "threads", "busy",	 "up",	 "lease", "jobs"};

	table_open(t, 1U << 3 | 1U << 5 | 1U << 6 | 1U << 7);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		table_column(t, names[i]);
}

static int view_queue(void *ctx, const char *queue, struct error *err)
{
	struct view *v = ctx;

	v->queue = queue;
	keys_init(&v->keys, v->prefix, queue);
	return redis_now_ms(v->redis, &v->now_ms, err) || each_worker(v->redis, &v->keys, view_worker, v, err) ? -1 : 0;
}

int cli_workers(const struct cli *cli)
{
	struct view v = {.prefix = cli->settings->key_prefix,
			 .json = cli->option[OPT_JSON] != NULL,
			 .jobs = BUF_INIT(JOBS_BYTES_MAX)};
	struct look look = {0};
	int rc;

	look_choose_queues(&look, cli);
	rc = look_connect(&look, cli);
	v.redis = look.redis;
	open_table(&v.table);
	if (rc == CLI_DONE)
		rc = look_each(&look, view_queue, &v);
	if (rc == CLI_DONE && !v.json)
		table_close(&v.table);
	if (rc == CLI_DONE && look.nsilent > 0)
		rc = CLI_UNREACHABLE;
	buf_release(&v.table.cells);
	buf_release(&v.jobs);
	look_close(&look);
	return rc;
}
