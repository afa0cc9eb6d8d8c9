/* SPDX-License-Identifier: MIT
 *
 * stats: what is where now, and how jobs ended. A queue's figures are read one after the other, so they may be a moment
 * apart. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"

#define SLOTS_AT_ONCE 1000
#define CELL_MAX 80
#define LINE_BYTES_MAX 4096

/* The columns: figures of now, then counters, which are fields of the hash. */
enum figure { READY, DELAYED, RUNNING, DEAD, WORKERS, FIRST_COUNTER, FIRST_RARE = FIRST_COUNTER + 4 };
static const char *const names[] = {"ready",  "delayed", "running", "dead",	 "workers", "succeeded",
				    "failed", "retried", "fenced",  "cancelled", "expired", "cached"};
#define FIGURES (sizeof names / sizeof *names)

struct figures {
	const char *queue;
	bool paused;
	int64_t n[FIGURES];
};

/* --- Reading. ----------------------------------------------------------------------------------------------------- */

struct count {
	struct redis *redis;
	const struct keys *keys;
	struct redis_args args;
	int64_t full;
};

/* Adds how many of the slots [from, to) are full. */
static int count_slots(struct count *c, const char *worker, unsigned from, unsigned to, struct error *err)
{
	static char names_of_slots[SLOTS_AT_ONCE][KEY_MAX];
	struct reply *reply = NULL;

	redis_args_clear(&c->args);
	redis_arg_str(&c->args, "EXISTS");
	for (unsigned i = from; i < to; i++) {
		size_t len = key_slot(c->keys, worker, i, names_of_slots[i - from]);

		redis_arg(&c->args, names_of_slots[i - from], len);
	}
	if (redis_run(c->redis, &c->args, &reply, err))
		return -1;
	c->full += reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

static int count_worker(void *ctx, const char *worker, unsigned nslots, struct error *err)
{
	for (unsigned from = 0; from < nslots; from += SLOTS_AT_ONCE)
		if (count_slots(ctx, worker, from, nslots - from < SLOTS_AT_ONCE ? nslots : from + SLOTS_AT_ONCE, err))
			return -1;
	return 0;
}

static int count_running(struct redis *redis, const struct keys *keys, int64_t *out, struct error *err)
{
	struct count c = {.redis = redis, .keys = keys};
	int rc = each_worker(redis, keys, count_worker, &c, err);

	redis_args_release(&c.args);
	*out = c.full;
	return rc;
}

static int read_counters(struct redis *redis, const struct keys *keys, struct figures *f, struct error *err)
{
	struct reply *reply = NULL;
	struct redis_args args = {0};
	int rc;

	redis_arg_str(&args, "HMGET");
	redis_arg_str(&args, keys->stats);
	for (size_t i = FIRST_COUNTER; i < FIGURES; i++)
		redis_arg_str(&args, names[i]);
	rc = redis_run(redis, &args, &reply, err);
	for (size_t i = FIRST_COUNTER; rc == 0 && i < FIGURES; i++)
		f->n[i] = reply_int(reply_at(reply, i - FIRST_COUNTER), 0);
	reply_free(reply);
	redis_args_release(&args);
	return rc;
}

/* One command that answers with a number. */
static int read_number(struct redis *redis, const char *command, const char *key, int64_t *out, struct error *err)
{
	struct reply *reply = NULL;

	if (redis_call(redis, &reply, err, command, key))
		return -1;
	*out = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

static int read_live_workers(struct redis *redis, const struct keys *keys, int64_t *out, struct error *err)
{
	struct reply *reply = NULL;
	int64_t now;

	if (redis_now_ms(redis, &now, err) ||
	    redis_call(redis, &reply, err, "ZCOUNT %s %lld +inf", keys->workers, (long long)now))
		return -1;
	*out = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

static int read_figures(struct redis *redis, const char *prefix, struct figures *f, struct error *err)
{
	struct keys keys;
	int64_t paused = 0;

	keys_init(&keys, prefix, f->queue);
	if (read_number(redis, "LLEN %s", keys.ready, &f->n[READY], err) ||
	    read_number(redis, "ZCARD %s", keys.delayed, &f->n[DELAYED], err) ||
	    read_number(redis, "LLEN %s", keys.dead, &f->n[DEAD], err) ||
	    read_number(redis, "EXISTS %s", keys.paused, &paused, err) ||
	    count_running(redis, &keys, &f->n[RUNNING], err) || read_live_workers(redis, &keys, &f->n[WORKERS], err) ||
	    read_counters(redis, &keys, f, err))
		return -1;
	f->paused = paused > 0;
	return 0;
}

/* --- Printing. ---------------------------------------------------------------------------------------------------- */

static void print_json(const struct figures *f)
{
	struct buf line = BUF_INIT(LINE_BYTES_MAX);

	buf_printf(&line, "{\"queue\":\"%s\",\"paused\":%s", f->queue, f->paused ? "true" : "false");
	for (size_t i = 0; i < FIGURES; i++)
		buf_printf(&line, ",\"%s\":%" PRId64, names[i], f->n[i]);
	buf_char(&line, '}');
	out_line(buf_cstr(&line), line.len);
	buf_release(&line);
}

/* Cell `column` of row `row`; row 0 is the head. Column 0 names the queue. */
static void cell(const struct figures *f, size_t row, size_t column, char out[CELL_MAX])
{
	const struct figures *of = row ? &f[row - 1] : NULL;

	if (column == 0)
		snprintf(out, CELL_MAX, "%s%s", of ? of->queue : "queue", of && of->paused ? " (paused)" : "");
	else if (of)
		snprintf(out, CELL_MAX, "%" PRId64, of->n[column - 1]);
	else
		snprintf(out, CELL_MAX, "%s", names[column - 1]);
}

static int width(const struct figures *f, size_t n, size_t column)
{
	int widest = 0;

	for (size_t row = 0; row <= n; row++) {
		char text[CELL_MAX];

		cell(f, row, column, text);
		if ((int)strlen(text) > widest)
			widest = (int)strlen(text);
	}
	return widest;
}

/* A rare counter that is zero everywhere would only make the table wider than a terminal. */
static bool is_idle(const struct figures *f, size_t n, size_t column)
{
	for (size_t i = 0; i < n; i++)
		if (f[i].n[column - 1] != 0)
			return false;
	return column - 1 >= FIRST_RARE;
}

static void print_table(const struct figures *f, size_t n)
{
	bool pretty = out_is_terminal();
	int widths[FIGURES + 1];

	for (size_t column = 0; column <= FIGURES; column++)
		widths[column] = pretty ? width(f, n, column) : 0;
	for (size_t row = 0; row <= n; row++) {
		if (pretty && row == 0)
			out_printf("\033[1m");
		for (size_t column = 0; column <= FIGURES; column++) {
			char text[CELL_MAX];

			if (pretty && column > 0 && is_idle(f, n, column))
				continue;
			cell(f, row, column, text);
			if (column == 0)
				out_printf("%-*s", widths[column], text);
			else
				out_printf("%s%*s", pretty ? "  " : "\t", widths[column], text);
		}
		out_printf("%s\n", pretty && row == 0 ? "\033[0m" : "");
	}
}

int cli_stats(const struct cli *cli)
{
	static struct figures figures[QUEUES_MAX];
	struct look look = {0};
	struct error err = {0};
	int rc;

	look_choose_queues(&look, cli);
	rc = look_connect(&look, cli);
	for (size_t i = 0; rc == CLI_DONE && i < look.nqueues; i++) {
		figures[i] = (struct figures){.queue = look.queues[i]};
		if (read_figures(look.redis, cli->settings->key_prefix, &figures[i], &err))
			rc = look_failed(&look, &err);
	}
	for (size_t i = 0; rc == CLI_DONE && cli->option[OPT_JSON] && i < look.nqueues; i++)
		print_json(&figures[i]);
	if (rc == CLI_DONE && !cli->option[OPT_JSON])
		print_table(figures, look.nqueues);
	look_close(&look);
	return rc;
}
