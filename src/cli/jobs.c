/* SPDX-License-Identifier: MIT
 *
 * translate, transcribe, synthesize: each operand becomes one job; all are submitted, then their results are shown in
 * order.
 *
 * A trade is what differs between the three: what members its jobs have, and what is done with a result. Everything
 * that can be found wrong is found before the first job is submitted, since a job costs money. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/digest.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/out.h"
#include "cli/save.h"
#include "cli/show.h"
#include "lib/client.h"

#define TIMEOUT_MS 300000
#define KEY_BYTES_MAX 512
#define JOB_SPARE_BYTES 4096	  /* so that the bound on a job is met by its check, not while writing it */
#define IDS_BYTES_MAX (32 * 1024) /* of ids told in one message */

struct work;

struct trade {
	const char *type;
	/* Whether operands and options can be used; NULL: always. Returns an exit code, told. */
	int (*check)(const struct cli *cli);
	/* Writes what a job of this type has beside its id and type, each member with a comma before it. Returns an
	 * exit code, told. */
	int (*write)(struct work *w, const char *operand, const char *id, struct buf *out);
	/* A result is there. Returns an exit code, told. */
	int (*finish)(struct work *w, const char *id, const char *json);
};

struct work {
	const struct cli *cli;
	const struct trade *trade;
	const char *queue;
	adwuma *client;
	struct adwuma_job *jobs;
	struct buf *texts; /* the jobs' JSON */
	size_t n;
	int64_t timeout_ms;
	enum show_form form;
};

/* --- Making the jobs. --------------------------------------------------------------------------------------------- */

static int usage_failure(const struct cli *cli, const struct error *err)
{
	say("%s: %s", cli->command->name, err->msg);
	return err->code == ERR_MEMORY ? CLI_JOB_FAILED : CLI_USAGE;
}

/* Standard input can be read once only. */
static int check_operands(const struct cli *cli)
{
	size_t dashes = 0;

	for (size_t i = 0; i < cli->noperands; i++)
		dashes += strcmp(cli->operands[i], "-") == 0;
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
			return usage_failure(w->cli, &err);
		drop_last(out, '\n');
		drop_last(out, '\r');
	}
	if (utf8_valid(buf_cstr(out), out->len))
		return CLI_DONE;
	say("%s: the text %.60s is not UTF-8", w->cli->command->name,
	    strcmp(operand, "-") == 0 ? "on standard input" : operand);
	return CLI_USAGE;
}

static void write_member(struct buf *out, const char *name, const char *value)
{
	if (!value)
		return;
	buf_printf(out, ",\"%s\":", name);
	buf_json_cstr(out, value);
}

static int write_text(struct work *w, const char *operand, struct buf *out)
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
	write_member(out, "language_pair", w->cli->option[OPT_PAIR]);
	return write_text(w, operand, out);
}

static const char *language(const struct cli *cli)
{
	return cli->option[OPT_LANGUAGE] ? cli->option[OPT_LANGUAGE] : "twi";
}

static int write_synthesize(struct work *w, const char *operand, const char *id, struct buf *out)
{
	(void)id;
	write_member(out, "language", language(w->cli));
	write_member(out, "speaker", w->cli->option[OPT_SPEAKER]);
	return write_text(w, operand, out);
}

static int write_transcribe(struct work *w, const char *operand, const char *id, struct buf *out)
{
	const struct settings *s = w->cli->settings;
	struct buf audio = BUF_INIT((size_t)s->max_audio_bytes);
	struct adwuma_error failed = {0};
	struct error err = {0};
	char key[KEY_BYTES_MAX];
	int rc = CLI_DONE;

	if (input_read_all(operand, "max_audio_bytes", &audio, &err) ||
	    (audio.len == 0 && error_set(&err, ERR_USAGE, "%s is empty", input_shown(operand))))
		rc = usage_failure(w->cli, &err);
	else if (adwuma_put_audio(w->client, w->queue, id, audio.ptr, audio.len, s->result_ttl_s, key, sizeof key,
				  &failed))
		rc = say_error(&failed);
	buf_release(&audio);
	if (rc)
		return rc;
	write_member(out, "audio_key", key);
	write_member(out, "language", language(w->cli));
	write_member(out, "timestamps", w->cli->option[OPT_TIMESTAMPS]);
	return CLI_DONE;
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
	if (rc == CLI_DONE && adwuma_submit_many(w->client, w->jobs, w->n, &err)) {
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
		rc = w->trade->finish(w, id, json);
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

static int collect(struct work *w)
{
	int64_t deadline = clock_mono_ms() + w->timeout_ms;
	int rc = CLI_DONE;

	for (size_t i = 0; i < w->n; i++) {
		int one = collect_one(w, i, deadline);

		if (one == CLI_UNREACHABLE)
			return one;
		/* A failure weighs more than a result that may yet come. */
		if (one == CLI_JOB_FAILED || rc == CLI_DONE)
			rc = one;
		progress(i + 1, w->n);
	}
	return rc;
}

static void release(struct work *w)
{
	for (size_t i = 0; w->texts && i < w->n; i++)
		buf_release(&w->texts[i]);
	free(w->texts);
	free(w->jobs);
	adwuma_close(w->client);
}

static enum show_form form_of(const struct cli *cli)
{
	if (cli->option[OPT_JSON])
		return SHOW_WHOLE;
	if (cli->option[OPT_OUTPUT])
		return SHOW_NOTHING;
	return cli->option[OPT_FORMAT] && strcmp(cli->option[OPT_FORMAT], "json") == 0 ? SHOW_RESULT : SHOW_TEXT;
}

static int open_work(struct work *w)
{
	struct adwuma_error err = {0};

	w->jobs = calloc(w->n, sizeof *w->jobs);
	w->texts = calloc(w->n, sizeof *w->texts);
	if (!w->jobs || !w->texts) {
		say("no memory for %zu jobs", w->n);
		return CLI_JOB_FAILED;
	}
	w->client = client_open(w->cli->settings, &err);
	return w->client ? CLI_DONE : say_error(&err);
}

static int run_trade(const struct cli *cli, const struct trade *trade)
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

static int show(struct work *w, const char *id, const char *json)
{
	return result_show(id, json, w->form, w->n > 1);
}

/* --- The trades. -------------------------------------------------------------------------------------------------- */

int cli_translate(const struct cli *cli)
{
	static const struct trade translate = {"translate", NULL, write_translate, show};

	return run_trade(cli, &translate);
}

static int check_files(const struct cli *cli)
{
	struct error err = {0};

	for (size_t i = 0; i < cli->noperands; i++)
		if (input_check(cli->operands[i], &err))
			return usage_failure(cli, &err);
	return CLI_DONE;
}

int cli_transcribe(const struct cli *cli)
{
	static const struct trade transcribe = {"transcribe", check_files, write_transcribe, show};

	return run_trade(cli, &transcribe);
}

static int check_output(const struct cli *cli)
{
	const char *path = cli->option[OPT_OUTPUT];
	struct error err = {0};

	if (!path)
		return CLI_DONE;
	if (cli->noperands > 1)
		return cli_misused(cli->command, "-o takes the audio of one TEXT only");
	if (cli->option[OPT_NO_WAIT])
		return cli_misused(cli->command, "-o waits for the audio, so it does not go with --no-wait");
	if (cli->option[OPT_JSON] && strcmp(path, "-") == 0)
		return cli_misused(cli->command, "-o - and --json both want standard output");
	return save_check(path, &err) ? usage_failure(cli, &err) : CLI_DONE;
}

/* Checks the audio against what the result says of it, and saves it. */
static int save_audio(const struct cli *cli, const struct audio_facts *facts, const char *bytes, size_t len)
{
	char hash[SHA256_HEX_LEN + 1];
	struct error err = {0};

	sha256_hex(bytes, len, hash);
	if (*facts->sha256 && strcmp(facts->sha256, hash) != 0) {
		say("the audio in %s is not the one that the result describes", facts->key);
		return CLI_JOB_FAILED;
	}
	if (save_bytes(cli->option[OPT_OUTPUT], bytes, len, &err)) {
		say("%s\n  the audio stays in Redis as %s until it expires", err.msg, facts->key);
		return CLI_JOB_FAILED;
	}
	return CLI_DONE;
}

static int fetch_audio(struct work *w, const struct result *r)
{
	struct adwuma_error failed = {0};
	struct audio_facts facts;
	char *bytes = NULL;
	size_t len = 0;
	int rc;

	if (result_audio(r, &facts)) {
		say("the result names no audio key; see it with adwuma result --json");
		return CLI_JOB_FAILED;
	}
	if (adwuma_get_audio(w->client, facts.key, &bytes, &len, &failed)) {
		rc = say_error(&failed);
		return rc == CLI_UNREACHABLE ? rc : CLI_JOB_FAILED;
	}
	rc = save_audio(w->cli, &facts, bytes, len);
	adwuma_free(bytes);
	return rc;
}

static int finish_synthesize(struct work *w, const char *id, const char *json)
{
	struct result r;
	int rc = show(w, id, json);

	if (rc == CLI_DONE && w->cli->option[OPT_OUTPUT])
		rc = result_read(&r, json) ? CLI_JOB_FAILED : fetch_audio(w, &r);
	return rc;
}

int cli_synthesize(const struct cli *cli)
{
	static const struct trade synthesize = {"synthesize", check_output, write_synthesize, finish_synthesize};

	return run_trade(cli, &synthesize);
}
