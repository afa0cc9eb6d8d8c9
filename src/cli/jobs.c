/* SPDX-License-Identifier: MIT
 *
 * See jobs.h; and translate, which needs no more than that. */
#include "cli/jobs.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/input.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "lib/client.h"

#define TIMEOUT_MS 300000
#define JOB_SPARE_BYTES 4096	  /* so that the bound on a job is met by its check, not while writing it */
#define IDS_BYTES_MAX (32 * 1024) /* of ids told in one message */

/* --- Making the jobs. --------------------------------------------------------------------------------------------- */

int jobs_usage_failure(const struct cli *cli, const struct error *err)
{
	say("%s: %s", cli->command->name, err->msg);
	return err->code == ERR_MEMORY ? CLI_JOB_FAILED : CLI_USAGE;
}

int jobs_path_in(const char *dir, const char *name, char *path, size_t bytes, struct error *err)
{
	int n = snprintf(path, bytes, "%s/%s", dir, name);

	if (!*dir)
		return error_set(err, ERR_USAGE, "'' cannot be written: that is no folder's name");
	if (n >= 0 && (size_t)n < bytes)
		return 0;
	return error_set(err, ERR_USAGE, "%.100s/%.100s is too long for a file's name", dir, name);
}

/* Standard input can be read once only. */
static int check_operands(const struct cli *cli)
{
	size_t dashes = 0;

	for (size_t i = 0; i < cli->noperands; i++)
		dashes += strcmp(cli->operands[i], "-") == 0;
	if (cli->option[OPT_DIRECT] && (cli->option[OPT_QUEUE] || cli->option[OPT_NO_WAIT]))
		return cli_misused(cli->command,
				   "--direct uses no queue and waits: it goes with neither --queue nor --no-wait");
	return dashes > 1 ? cli_misused(cli->command, "standard input (-) can be read once only") : CLI_DONE;
}

static void drop_last(struct buf *b, char c)
{
	if (b->len > 0 && b->ptr[b->len - 1] == c)
		b->ptr[--b->len] = '\0';
}

/* A text, or standard input without its last line break. */
static int read_text(struct work *w, const char *operand, struct buf *out)
{
	struct error err = {0};

	if (strcmp(operand, "-") != 0) {
		buf_str_add(out, operand);
	} else {
		if (input_read_all(operand, "max_job_bytes", out, &err))
			return jobs_usage_failure(w->cli, &err);
		drop_last(out, '\n');
		drop_last(out, '\r');
	}
	if (utf8_valid(buf_cstr(out), out->len))
		return CLI_DONE;
	say("%s: the text %.60s is not UTF-8", w->cli->command->name,
	    strcmp(operand, "-") == 0 ? "on standard input" : operand);
	return CLI_USAGE;
}

void jobs_write_member(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(out, ",\"%s\":", name);
	buf_json_cstr(out, value);
}

int jobs_write_text(struct work *w, const char *operand, struct buf *out)
{
	struct buf text = BUF_INIT((size_t)w->cli->settings->max_job_bytes);
	int rc = read_text(w, operand, &text);

	buf_lit(out, ",\"text\":");
	buf_json_string(out, buf_cstr(&text), text.len);
	buf_release(&text);
	return rc;
}

static int write_translate(struct work *w, const char *operand, const char *id, struct buf *out)
{
	(void)id;
	jobs_write_member(out, "language_pair", w->cli->option[OPT_PAIR]);
	return jobs_write_text(w, operand, out);
}

const char *jobs_language(const struct cli *cli)
{
	return cli->option[OPT_LANGUAGE] ? cli->option[OPT_LANGUAGE] : "twi";
}

static int make_job(struct work *w, size_t i)
{
	size_t max = (size_t)w->cli->settings->max_job_bytes;
	char id[ADWUMA_ID_MAX + 1];
	struct buf *out = &w->texts[i];
	int rc;

	adwuma_new_id(id);
	*out = BUF_INIT(max * 6 + JOB_SPARE_BYTES); /* an escaped byte takes six at most */
	buf_printf(out, "{\"id\":\"%s\",\"type\":\"%s\",\"enqueued_at_ms\":%" PRId64, id, w->trade->type,
		   clock_real_ms());
	rc = w->trade->write(w, w->cli->operands[i], id, out);
	buf_char(out, '}');
	if (rc == CLI_DONE && out->len > max) {
		say("%s: job %zu of %zu would have %zu bytes; max_job_bytes is %zu", w->cli->command->name, i + 1, w->n,
		    out->len, max);
		rc = CLI_USAGE;
	} else if (rc == CLI_DONE && out->failed) {
		say("no memory for job %zu of %zu", i + 1, w->n);
		rc = CLI_JOB_FAILED;
	}
	memcpy(w->jobs[i].id, id, sizeof id);
	w->jobs[i].queue = w->queue;
	w->jobs[i].json = out->ptr;
	w->jobs[i].len = out->len;
	return rc;
}

/* --- Submitting and collecting. ----------------------------------------------------------------------------------- */

/* Ids of jobs that were accepted and go on, from number `from` on. */
static void say_where_to_look(const struct work *w, size_t from)
{
	struct buf ids = BUF_INIT(IDS_BYTES_MAX);

	for (size_t i = from; i < w->n && !ids.failed; i++)
		if (w->jobs[i].error.code == ADWUMA_OK)
			buf_printf(&ids, " %s", w->jobs[i].id);
	if (ids.len > 0)
		say("  what was submitted goes on; ask later: adwuma result%s%s%s",
		    w->cli->option[OPT_QUEUE] ? " --queue " : "", w->cli->option[OPT_QUEUE] ? w->queue : "",
		    buf_cstr(&ids));
	buf_release(&ids);
}

static int submit(struct work *w)
{
	struct adwuma_error err = {0};
	int rc = CLI_DONE;

	for (size_t i = 0; i < w->n && rc == CLI_DONE; i++)
		rc = make_job(w, i);
	if (rc == CLI_DONE && w->client && adwuma_submit_many(w->client, w->jobs, w->n, &err)) {
		rc = say_error(&err);
		say_where_to_look(w, 0);
	}
	return rc;
}

static void print_ids(const struct work *w)
{
	for (size_t i = 0; i < w->n; i++)
		out_line(w->jobs[i].id, strlen(w->jobs[i].id));
}

/* Waits for result i until the deadline. Returns an exit code, told; CLI_UNREACHABLE ends the collecting. */
static int collect_one(struct work *w, size_t i, int64_t deadline)
{
	const char *id = w->jobs[i].id;
	int64_t left = deadline - clock_mono_ms();
	struct adwuma_error err = {0};
	char *json = NULL;
	int rc;

	if (adwuma_wait(w->client, w->queue, id, left > 0 ? left : 0, &json, &err) == 0) {
		rc = w->trade->finish(w, i, json);
		adwuma_free(json);
		return rc;
	}
	if (err.code != ADWUMA_TIMEOUT) {
		rc = say_error(&err);
		say_where_to_look(w, i);
		return rc;
	}
	if (w->n > 1 && w->form != SHOW_WHOLE && w->form != SHOW_NOTHING)
		out_line("", 0);
	say("job %s: no result within %g s; adwuma result %s tells where it is, adwuma stats whether a worker serves "
	    "its queue",
	    id, (double)w->timeout_ms / 1000, id);
	return CLI_TIMED_OUT;
}

/* Does job i here and now. Returns an exit code, told; CLI_UNREACHABLE ends the collecting. */
static int do_directly(struct work *w, size_t i, int64_t deadline)
{
	int rc;

	direct_run(w->direct, w->trade->type, w->jobs[i].json, w->jobs[i].len, deadline, &w->spoken);
	if (w->spoken.result.failed) {
		say("no memory for a result");
		rc = CLI_JOB_FAILED;
	} else {
		rc = w->trade->finish(w, i, buf_cstr(&w->spoken.result));
	}
	if (w->spoken.timed_out) {
		say("it was not done within %g s (--timeout)", (double)w->timeout_ms / 1000);
		rc = CLI_TIMED_OUT;
	} else if (w->spoken.unreachable) {
		say("  does KHAYA_BASE_URL name the right place, and does the network let us there?");
		rc = CLI_UNREACHABLE;
	}
	direct_outcome_release(&w->spoken);
	return rc;
}

static int collect(struct work *w)
{
	int64_t deadline = clock_mono_ms() + w->timeout_ms;
	size_t failed = 0;
	int rc = CLI_DONE, one = CLI_DONE;

	progress_begin(w->n, w->form != SHOW_NOTHING);
	for (size_t i = 0; i < w->n && one != CLI_UNREACHABLE; i++) {
		one = w->direct ? do_directly(w, i, deadline) : collect_one(w, i, deadline);
		failed += one == CLI_JOB_FAILED;
		/* A failure weighs more than a result that may yet come. */
		if (one == CLI_JOB_FAILED || one == CLI_UNREACHABLE || rc == CLI_DONE)
			rc = one;
		progress_step(i + 1, failed);
	}
	progress_end();
	return rc;
}

static void release(struct work *w)
{
	for (size_t i = 0; w->texts && i < w->n; i++)
		buf_release(&w->texts[i]);
	free(w->texts);
	free(w->jobs);
	adwuma_close(w->client);
	direct_close(w->direct);
}

static enum show_form form_of(const struct cli *cli)
{
	const char *format = cli->option[OPT_FORMAT];

	if (cli->option[OPT_JSON])
		return SHOW_WHOLE;
	if (cli->option[OPT_OUTPUT] || cli->option[OPT_OUTPUT_DIR])
		return SHOW_NOTHING;
	if (!format || strcmp(format, "text") == 0)
		return SHOW_TEXT;
	return strcmp(format, "json") == 0 ? SHOW_RESULT : SHOW_NOTHING;
}

static int open_work(struct work *w)
{
	struct adwuma_error err = {0};
	struct error why = {0};

	w->jobs = calloc(w->n, sizeof *w->jobs);
	w->texts = calloc(w->n, sizeof *w->texts);
	if (!w->jobs || !w->texts) {
		say("no memory for %zu jobs", w->n);
		return CLI_JOB_FAILED;
	}
	if (w->cli->option[OPT_DIRECT]) {
		w->direct = direct_open(w->cli->settings, &why);
		if (!w->direct)
			say("%s", why.msg);
		return w->direct ? CLI_DONE : why.code == ERR_CONFIG ? CLI_SETTINGS : CLI_JOB_FAILED;
	}
	w->client = client_open(w->cli->settings, &err);
	return w->client ? CLI_DONE : say_error(&err);
}

int jobs_run(const struct cli *cli, const struct trade *trade)
{
	struct work w = {.cli = cli, .trade = trade, .n = cli->noperands, .form = form_of(cli)};
	int rc = cli_time_ms(cli, OPT_TIMEOUT, TIMEOUT_MS, &w.timeout_ms);

	w.queue = cli->option[OPT_QUEUE] ? cli->option[OPT_QUEUE] : trade->type;
	if (rc == CLI_DONE)
		rc = check_operands(cli);
	if (rc == CLI_DONE && trade->check)
		rc = trade->check(cli);
	if (rc)
		return rc;
	rc = open_work(&w);
	if (rc == CLI_DONE)
		rc = submit(&w);
	if (rc == CLI_DONE && cli->option[OPT_NO_WAIT])
		print_ids(&w);
	else if (rc == CLI_DONE)
		rc = collect(&w);
	release(&w);
	return rc;
}

int jobs_show(struct work *w, size_t i, const char *json)
{
	return result_show(w->jobs[i].id, json, w->form, w->n > 1);
}

int cli_translate(const struct cli *cli)
{
	static const struct trade translate = {"translate", NULL, write_translate, jobs_show};

	return jobs_run(cli, &translate);
}
