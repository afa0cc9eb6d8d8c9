/* SPDX-License-Identifier: MIT
 *
 * See jobs.h; and translate, which needs no more than that. */
#include "cli/jobs.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "cli/input.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "lib/client.h"

#define TIMEOUT_MS 300000
#define HINT_AFTER_MS 2000
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

int jobs_read_text(struct work *w, const char *operand, struct buf *out)
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
	int rc = jobs_read_text(w, operand, &text);

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

/* What follows "adwuma result" for jobs that were accepted and go on, from number `from` on; nothing where there are none. named: with their queue also
 * where it is the usual one. */
static void write_ids(const struct work *w, size_t from, bool named, struct buf *out)
{
	struct buf ids = BUF_INIT(IDS_BYTES_MAX);

	for (size_t i = from; i < w->n && !ids.failed; i++)
		if (w->jobs[i].error.code == ADWUMA_OK)
			buf_printf(&ids, " %s", w->jobs[i].id);
	named = named || w->cli->option[OPT_QUEUE];
	if (ids.len > 0)
		buf_printf(out, "%s%s%s", named ? " --queue " : "", named ? w->queue : "", buf_cstr(&ids));
	buf_release(&ids);
}

static void say_where_to_look(const struct work *w, size_t from)
{
	struct buf ids = BUF_INIT(2 * IDS_BYTES_MAX);

	write_ids(w, from, false, &ids);
	if (ids.len > 0)
		say("  what was submitted goes on; ask later: adwuma result%s", buf_cstr(&ids));
	buf_release(&ids);
}

/* A queue without workers, or one that is paused, would be waited for in silence. Looked at once, and not before it takes long: a worker may just be starting. */
static void look_and_hint(struct work *w, void (*hint)(const struct look *, const char *, const char *, const char *))
{
	struct look look = {0};
	struct error err = {0};

	if (!w->hinted && look_open(&look, w->cli, &err) == 0)
		hint(&look, w->cli->settings->key_prefix, w->queue,
		     w->n > 1 ? "the jobs wait for one" : "the job waits for one");
	look_close(&look);
	w->hinted = true;
}

/* Of an interrupted wait: the jobs go on and are paid for, and nothing else tells their ids. Made before, since the handler may only
 * write it. */
static struct buf farewell;

static void bid_farewell(int sig)
{
	ssize_t n = write(STDERR_FILENO, farewell.ptr, farewell.len);

	(void)n;
	raise(sig); /* SA_RESETHAND: ends us as if there had been no handler */
}

static void tell_ids_when_interrupted(const struct work *w)
{
	static const int signals[] = {SIGINT, SIGTERM};
	struct sigaction end = {.sa_handler = bid_farewell, .sa_flags = (int)SA_RESETHAND}, before;

	farewell = BUF_INIT(4 * IDS_BYTES_MAX);
	buf_printf(&farewell, "%sadwuma: interrupted; what was submitted goes on\n  ask later: adwuma result",
		   isatty(STDERR_FILENO) ? "\n" : "");
	write_ids(w, 0, false, &farewell);
	buf_lit(&farewell, "\n  take it back: adwuma cancel");
	write_ids(w, 0, true, &farewell); /* a producer's user may not look for them in others */
	buf_char(&farewell, '\n');
	for (size_t i = 0; i < 2; i++)
		if (!farewell.failed && sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
			sigaction(signals[i], &end, NULL);
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

/* As adwuma_wait. */
static int wait_for(struct work *w, const char *id, int64_t left_ms, char **json, struct adwuma_error *err)
{
	int64_t first_ms = left_ms < 0 ? 0 : left_ms < HINT_AFTER_MS ? left_ms : HINT_AFTER_MS;

	if (w->hinted)
		return adwuma_wait(w->client, w->queue, id, left_ms > 0 ? left_ms : 0, json, err);
	if (adwuma_wait(w->client, w->queue, id, first_ms, json, err) == 0)
		return 0;
	if (err->code != ADWUMA_TIMEOUT)
		return -1;
	look_and_hint(w, look_hint_at_wait);
	return left_ms > first_ms ? adwuma_wait(w->client, w->queue, id, left_ms - first_ms, json, err) : -1;
}

/* Waits for result i until the deadline. Returns an exit code, told; CLI_UNREACHABLE ends the collecting. */
static int collect_one(struct work *w, size_t i, int64_t deadline)
{
	const char *id = w->jobs[i].id, *queue = w->cli->option[OPT_QUEUE] ? w->queue : "";
	const char *flag = *queue ? " --queue " : "";
	struct adwuma_error err = {0};
	char *json = NULL;
	int rc = w->trade->watch ? w->trade->watch(w, i, deadline) : CLI_DONE;

	if (rc)
		return rc;
	if (wait_for(w, id, deadline - clock_mono_ms(), &json, &err) == 0) {
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
	say("job %s: no result within %g s; adwuma result%s%s %s tells where it is, adwuma stats%s%s whether a worker "
	    "serves its queue",
	    id, (double)w->timeout_ms / 1000, flag, queue, id, flag, queue);
	return CLI_TIMED_OUT;
}

/* What names the place and the key of a service. */
static const struct advice {
	const char *service, *place, *key;
} advices[] = {{"khaya", "KHAYA_BASE_URL", "KHAYA_API_KEY"}, {"taskingai", "TASKINGAI_HOST", "TASKINGAI_API_KEY"}};

static const struct advice *advice_for(const struct work *w)
{
	return &advices[strncmp(w->trade->type, "taskingai.", 10) == 0];
}

/* Whether the settings have a key for the service that does the jobs. */
static bool has_key(const struct work *w)
{
	const struct settings *s = w->cli->settings;
	const char *own = s->khaya_translation_api_key;

	if (advice_for(w) != &advices[0])
		return s->taskingai_api_key;
	if (strcmp(w->trade->type, "transcribe") == 0)
		own = s->khaya_asr_api_key;
	else if (strcmp(w->trade->type, "synthesize") == 0)
		own = s->khaya_tts_api_key;
	return settings_khaya_key(s, own) != NULL;
}

/* Does job i here and now. Returns an exit code, told; CLI_UNREACHABLE ends the collecting. */
static int do_directly(struct work *w, size_t i, int64_t deadline)
{
	int rc;

	direct_on_piece(w->direct, w->form == SHOW_WHOLE ? NULL : w->trade->piece, w);
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
		say("  does %s name the right place, and does the network let us there?", advice_for(w)->place);
		rc = CLI_UNREACHABLE;
	} else if (!w->spoken.succeeded && !has_key(w)) {
		say("  %s or %s_FILE gives the key", advice_for(w)->key, advice_for(w)->key);
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
	direct_site_close(w->site);
}

static enum show_form form_of(const struct cli *cli, const struct trade *trade)
{
	const char *format = cli->option[OPT_FORMAT];

	if (cli->option[OPT_JSON])
		return SHOW_WHOLE;
	if (cli->option[OPT_OUTPUT] || cli->option[OPT_OUTPUT_DIR])
		return SHOW_NOTHING;
	if (!format)
		return trade->form;
	if (strcmp(format, "text") == 0)
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
		w->site = direct_site_open(w->cli->settings, w->cli->settings->max_job_bytes, &why);
		w->direct = w->site ? direct_open(w->site, &why) : NULL;
		if (!w->direct)
			say("%s", why.msg);
		return w->direct ? CLI_DONE : why.code == ERR_CONFIG ? CLI_SETTINGS : CLI_JOB_FAILED;
	}
	w->client = client_open(w->cli->settings, &err);
	if (!w->client)
		return say_error(&err);
	client_hurry(w->client, w->timeout_ms);
	return CLI_DONE;
}

int jobs_run(const struct cli *cli, const struct trade *trade)
{
	struct work w = {.cli = cli, .trade = trade, .n = cli->noperands, .form = form_of(cli, trade)};
	char queue[QUEUE_NAME_MAX + 1];

	int rc = cli_time_ms(cli, OPT_TIMEOUT, TIMEOUT_MS, &w.timeout_ms);

	snprintf(queue, sizeof queue, "%.*s", (int)strcspn(trade->type, "."), trade->type);
	w.queue = cli->option[OPT_QUEUE] ? cli->option[OPT_QUEUE] : queue;
	if (rc == CLI_DONE)
		rc = check_operands(cli);
	if (rc == CLI_DONE && trade->check)
		rc = trade->check(cli);
	if (rc)
		return rc;
	rc = open_work(&w);
	if (rc == CLI_DONE)
		rc = submit(&w);
	if (rc == CLI_DONE && cli->option[OPT_NO_WAIT]) {
		print_ids(&w);
		look_and_hint(&w, look_hint_at_workers);
	} else if (rc == CLI_DONE) {
		if (w.client && !trade->watch) /* what watches sees to that too */
			tell_ids_when_interrupted(&w);
		rc = collect(&w);
	}
	release(&w);
	return rc;
}

int jobs_show(struct work *w, size_t i, const char *json)
{
	return result_show(w->jobs[i].id, json, w->form, w->n > 1);
}

int cli_translate(const struct cli *cli)
{
	static const struct trade translate = {.type = "translate", .write = write_translate, .finish = jobs_show};

	return jobs_run(cli, &translate);
}
