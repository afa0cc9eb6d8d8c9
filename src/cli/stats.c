/* SPDX-License-Identifier: MIT
 *
 * stats: what is where now, and how jobs ended; with --watch again and again, with rates. A queue's figures are read
 * one after the other, so they may be a moment apart. */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/units.h"
#include "cli/cli.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"
#include "cli/table.h"

#define SLOTS_AT_ONCE 1000
#define LINE_BYTES_MAX (64 * 1024)
#define WATCH_MIN_MS 100
#define WATCH_MS 1000
#define NO_KEY (-2)   /* as PTTL says it */
#define AGAIN_MS 1000 /* between two tries to reach a lost Redis, at most */

/* The columns: figures of now, then counters: fields of the hash of outcomes, and those of what was sent, in the order of enum unit. */
enum figure {
	READY,
	DELAYED,
	RUNNING,
	DEAD,
	WORKERS,
	FIRST_COUNTER,
	FIRST_RARE = FIRST_COUNTER + 4,
	FIRST_BILLED = FIRST_COUNTER + 7
};
static const char *const names[] = {"ready",	"delayed",    "running",       "dead",	    "workers", "succeeded",
				    "failed",	"retried",    "fenced",	       "cancelled", "expired", "cached",
				    "requests", "characters", "audio_seconds", "tokens"};
#define FIGURES (sizeof names / sizeof *names)
#define COUNTERS (FIGURES - FIRST_COUNTER)

struct figures {
	const char *queue;
	bool known;   /* what follows was read in the last look */
	bool refused; /* Redis would not tell, or a node of it is away, and that was told */
	bool paused;
	int64_t pause_left_ms, paused_until_ms; /* -1: without end */
	struct buf why;				/* what stands in the pause, or why Redis refused */
	int64_t n[FIGURES];
	int64_t read_at_us; /* clock_mono_us() */
	bool rated;	    /* known before, so the rates are known, too */
	double per_second[COUNTERS];
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

/* Fields of a hash, one for each figure from `first` on. */
static int read_hash(struct redis *redis, const char *key, const char *const *fields, size_t n, int64_t *out,
		     struct error *err)
{
	struct reply *reply = NULL;
	struct redis_args args = {0};
	int rc;

	redis_arg_str(&args, "HMGET");
	redis_arg_str(&args, key);
	for (size_t i = 0; i < n; i++)
		redis_arg_str(&args, fields[i]);
	rc = redis_run(redis, &args, &reply, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		out[i] = reply_int(reply_at(reply, i), 0);
	reply_free(reply);
	redis_args_release(&args);
	return rc;
}

static int read_counters(struct redis *redis, const struct keys *keys, struct figures *f, struct error *err)
{
	if (read_hash(redis, keys->stats, names + FIRST_COUNTER, FIRST_BILLED - FIRST_COUNTER, f->n + FIRST_COUNTER,
		      err))
		return -1;
	return read_hash(redis, keys->billed, unit_names, UNITS, f->n + FIRST_BILLED, err);
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

/* Its value, where it is a string: people may have put anything there. */
static int read_why(struct redis *redis, const struct keys *keys, struct figures *f, struct error *err)
{
	struct reply *reply = NULL;
	const char *why;
	size_t len = 0;

	if (redis_appendf(redis, err, "GETRANGE %s 0 1023", keys->paused) || redis_receive(redis, &reply, err))
		return -1;
	why = reply_error(reply) ? NULL : reply_bytes(reply, &len);
	buf_clear(&f->why);
	if (why)
		buf_add(&f->why, why, len);
	reply_free(reply);
	return 0;
}

static int read_pause(struct redis *redis, const struct keys *keys, struct figures *f, struct error *err)
{
	int64_t now_ms = 0;

	if (read_number(redis, "PTTL %s", keys->paused, &f->pause_left_ms, err))
		return -1;
	f->paused = f->pause_left_ms != NO_KEY;
	f->paused_until_ms = -1;
	if (f->paused && f->pause_left_ms >= 0) {
		if (redis_now_ms(redis, &now_ms, err))
			return -1;
		f->paused_until_ms = now_ms + f->pause_left_ms;
	}
	return f->paused ? read_why(redis, keys, f, err) : 0;
}

static int read_figures(struct redis *redis, const char *prefix, struct figures *f, struct error *err)
{
	struct keys keys;

	keys_init(&keys, prefix, f->queue);
	if (read_number(redis, "LLEN %s", keys.ready, &f->n[READY], err) ||
	    read_number(redis, "ZCARD %s", keys.delayed, &f->n[DELAYED], err) ||
	    read_number(redis, "LLEN %s", keys.dead, &f->n[DEAD], err) ||
	    count_running(redis, &keys, &f->n[RUNNING], err) || count_live_workers(redis, &keys, &f->n[WORKERS], err) ||
	    read_counters(redis, &keys, f, err) || read_pause(redis, &keys, f, err))
		return -1;
	f->read_at_us = clock_mono_us();
	return 0;
}

/* A counter that has fallen begins anew: somebody deleted it. */
static void rate(struct figures *f, const struct figures *before)
{
	double seconds = (double)(f->read_at_us - before->read_at_us) / 1e6;

	for (size_t i = 0; i < COUNTERS; i++) {
		int64_t grown = f->n[FIRST_COUNTER + i] - before->n[FIRST_COUNTER + i];

		f->per_second[i] = grown > 0 && seconds > 0 ? (double)grown / seconds : 0;
	}
}

static void tell_refused(const struct look *look, struct figures *f, struct error *err)
{
	buf_clear(&f->why);
	buf_str_add(&f->why, err->msg);
	look_failed_at(look, f->queue, err);
}

/* The figures of all queues. A queue with a key of a wrong type, or whose node of a cluster is away, is told, once, and the others are read. */
static int read_all(struct look *look, const struct cli *cli, struct figures *f, struct error *err)
{
	for (size_t i = 0; i < look->nqueues; i++) {
		struct figures before = f[i];

		f[i].queue = look->queues[i];
		f[i].known = read_figures(look->redis, cli->settings->key_prefix, &f[i], err) == 0;
		if (!f[i].known && !look_goes_on(look, err))
			return -1;
		if (!f[i].known && !f[i].refused)
			tell_refused(look, &f[i], err);
		f[i].refused = !f[i].known;
		f[i].rated = f[i].known && before.known;
		if (f[i].rated)
			rate(&f[i], &before);
	}
	return 0;
}

/* --- Printing. ---------------------------------------------------------------------------------------------------- */

static void print_json(const struct figures *f, bool watched)
{
	struct buf line = BUF_INIT(LINE_BYTES_MAX);

	buf_printf(&line, "{\"queue\":\"%s\",\"paused\":%s,\"paused_until_ms\":", f->queue,
		   f->paused ? "true" : "false");
	if (f->paused_until_ms >= 0)
		buf_int(&line, f->paused_until_ms);
	else
		buf_lit(&line, "null");
	for (size_t i = 0; i < FIGURES; i++)
		buf_printf(&line, ",\"%s\":%" PRId64, names[i], f->n[i]);
	if (f->paused && f->why.len > 0) {
		buf_lit(&line, ",\"paused_why\":");
		buf_json_string(&line, f->why.ptr, f->why.len);
	}
	if (watched)
		buf_printf(&line, ",\"at_ms\":%" PRId64 ",\"per_second\":", clock_real_ms());
	if (watched && !f->rated)
		buf_lit(&line, "null");
	for (size_t i = 0; watched && f->rated && i < COUNTERS; i++) {
		buf_printf(&line, "%s\"%s\":", i ? "," : "{", names[FIRST_COUNTER + i]);
		buf_json_double(&line, f->per_second[i], 3);
	}
	buf_str_add(&line, watched && f->rated ? "}}" : "}");
	out_line(buf_cstr(&line), line.len);
	buf_release(&line);
}

/* A rare counter that is zero everywhere would only make the table wider than a terminal. */
static bool is_idle(const struct figures *f, size_t n, size_t figure)
{
	for (size_t i = 0; i < n; i++)
		if (f[i].known && f[i].n[figure] != 0)
			return false;
	return figure >= FIRST_RARE;
}

static void rate_cell(struct table *t, const struct figures *f, size_t figure)
{
	if (f->rated)
		table_cellf(t, "%.1f", f->per_second[figure - FIRST_COUNTER]);
	else
		table_cellf(t, "-");
}

static void state_cell(struct table *t, const struct figures *f)
{
	char left[TIME_TEXT_MAX];

	show_seconds(f->pause_left_ms + 999, left);
	if (!f->paused)
		table_cellf(t, "%s", f->n[WORKERS] > 0 ? "running" : "no worker");
	else
		table_cellf(t, "paused%s%s", f->paused_until_ms >= 0 ? " " : "", f->paused_until_ms >= 0 ? left : "");
}

/* The figures from number `from` on; as_rates: how they grow. */
static void print_columns(const struct figures *f, size_t n, size_t from, bool as_rates)
{
	struct table t;

	table_open(&t, as_rates ? ~1U : ~3U);
	table_column(&t, as_rates ? "per second" : "queue");
	if (!as_rates)
		table_column(&t, "state");
	for (size_t i = from; i < FIGURES; i++)
		if (!t.pretty || !is_idle(f, n, i))
			table_column(&t, names[i]);
	for (size_t q = 0; q < n; q++) {
		if (!f[q].known)
			continue;
		table_cellf(&t, "%s", f[q].queue);
		if (!as_rates)
			state_cell(&t, &f[q]);
		for (size_t i = from; i < FIGURES; i++) {
			if (t.pretty && is_idle(f, n, i))
				continue;
			if (as_rates)
				rate_cell(&t, &f[q], i);
			else
				table_cellf(&t, "%" PRId64, f[q].n[i]);
		}
	}
	table_close(&t);
}

/* Where programs read it, the rates stand behind the figures: one line for each queue. */
static void print_lines(const struct figures *f, size_t n)
{
	struct table t;

	table_open(&t, 0);
	table_column(&t, "queue");
	table_column(&t, "state");
	for (size_t i = 0; i < FIGURES; i++)
		table_column(&t, names[i]);
	for (size_t i = FIRST_COUNTER; i < FIGURES; i++) {
		char name[40];

		snprintf(name, sizeof name, "%s/s", names[i]);
		table_column(&t, name);
	}
	for (size_t q = 0; q < n; q++) {
		if (!f[q].known)
			continue;
		table_cellf(&t, "%s", f[q].queue);
		state_cell(&t, &f[q]);
		for (size_t i = 0; i < FIGURES; i++)
			table_cellf(&t, "%" PRId64, f[q].n[i]);
		for (size_t i = FIRST_COUNTER; i < FIGURES; i++)
			rate_cell(&t, &f[q], i);
	}
	table_close(&t);
	out_printf("\n");
}

static void print_screen(const struct figures *f, size_t n)
{
	char now[TIME_TEXT_MAX];

	show_time(clock_real_ms(), now);
	out_printf("\033[H\033[J%s\n\n", now);
	print_columns(f, n, 0, false);
	out_printf("\n");
	print_columns(f, n, FIRST_COUNTER, true);
	for (size_t q = 0; q < n; q++) {
		struct buf why = BUF_INIT(LINE_BYTES_MAX);

		clean_line(&why, buf_cstr(&f[q].why), f[q].why.len);
		if (f[q].refused || f[q].paused)
			out_printf("\n%s %s: %s\n", f[q].queue, f[q].refused ? "cannot be read" : "is paused",
				   buf_cstr(&why));
		buf_release(&why);
	}
}

static void print_all(const struct cli *cli, const struct figures *f, size_t n)
{
	bool watched = cli->option[OPT_WATCH];

	for (size_t i = 0; cli->option[OPT_JSON] && i < n; i++)
		if (f[i].known)
			print_json(&f[i], watched);
	if (cli->option[OPT_JSON])
		return;
	if (!watched)
		print_columns(f, n, 0, false);
	else if (out_is_terminal())
		print_screen(f, n);
	else
		print_lines(f, n);
}

/* --- Watching. ---------------------------------------------------------------------------------------------------- */

static void leave(int number)
{
	(void)number;
	_exit(CLI_DONE);
}

/* Ctrl-C ends it where it stands, but for the middle of a print: then right behind it. */
static void catch_signals(sigset_t *signals)
{
	struct sigaction action = {.sa_handler = leave};

	sigemptyset(signals);
	sigaddset(signals, SIGINT);
	sigaddset(signals, SIGTERM);
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
}

static void sleep_until(int64_t mono_us)
{
	struct timespec at = {.tv_sec = mono_us / 1000000, .tv_nsec = mono_us % 1000000 * 1000};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* What is told of a look: the figures, or once that Redis is lost, and that it is back. */
static void tell(const struct look *look, const struct cli *cli, const struct figures *f, bool lost, bool was_lost,
		 struct error *err)
{
	if (lost && !was_lost)
		look_say_lost(look, err);
	if (!lost && was_lost)
		look_say_back(look);
	if (!lost)
		print_all(cli, f, look->nqueues);
	out_flush();
}

/* Comes back when Redis refuses to answer. Returns the exit code. */
static int watch(struct look *look, const struct cli *cli, struct figures *f, int64_t every_ms)
{
	int64_t next_us = clock_mono_us();
	struct error err = {0};
	bool lost = false;
	sigset_t signals;

	catch_signals(&signals);
	for (;;) {
		bool was_lost = lost;

		lost = (was_lost && look_reconnect(look, &err)) || read_all(look, cli, f, &err);
		if (lost && err.code != ERR_LINK)
			return look_failed(look, &err);
		sigprocmask(SIG_BLOCK, &signals, NULL);
		tell(look, cli, f, lost, was_lost, &err);
		sigprocmask(SIG_UNBLOCK, &signals, NULL);
		next_us += (lost && every_ms > AGAIN_MS ? AGAIN_MS : every_ms) * 1000;
		if (next_us < clock_mono_us())
			next_us = clock_mono_us();
		sleep_until(next_us);
	}
}

static int read_once(struct look *look, const struct cli *cli, struct figures *f)
{
	struct error err = {0};

	if (read_all(look, cli, f, &err))
		return look_failed(look, &err);
	print_all(cli, f, look->nqueues);
	for (size_t i = 0; i < look->nqueues; i++)
		if (f[i].refused)
			return CLI_UNREACHABLE;
	return CLI_DONE;
}

int cli_stats(const struct cli *cli)
{
	const char *every = cli->option[OPT_WATCH];
	struct figures *figures;
	struct look look = {0};
	int64_t every_ms = WATCH_MS;
	int rc = every && *every ? cli_time_ms(cli, OPT_WATCH, WATCH_MS, &every_ms) : CLI_DONE;

	if (rc == CLI_DONE && every_ms < WATCH_MIN_MS)
		rc = cli_misused(cli->command, "--watch: at least 0.1 seconds");
	if (rc)
		return rc;
	look_choose_queues(&look, cli);
	figures = calloc(look.nqueues + 1, sizeof *figures);
	for (size_t i = 0; figures && i < look.nqueues; i++)
		figures[i].why = BUF_INIT(LINE_BYTES_MAX);
	rc = figures ? look_connect(&look, cli) : CLI_JOB_FAILED;
	if (rc == CLI_DONE && every)
		rc = watch(&look, cli, figures, every_ms);
	else if (rc == CLI_DONE)
		rc = read_once(&look, cli, figures);
	for (size_t i = 0; figures && i < look.nqueues; i++)
		buf_release(&figures[i].why);
	free(figures);
	look_close(&look);
	return rc;
}
