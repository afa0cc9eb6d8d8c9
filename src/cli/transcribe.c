/* SPDX-License-Identifier: MIT
 *
 * transcribe: files go to the workers by way of Redis, and texts come back: printed, or each into a file of its own. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/pick.h"
#include "base/utf8.h"
#include "cli/input.h"
#include "cli/jobs.h"
#include "cli/out.h"
#include "cli/save.h"
#include "cli/transcript.h"
#include "lib/client.h"

#define KEY_BYTES_MAX 512

/* --- Where it is written. ----------------------------------------------------------------------------------------- */

/* DIR/speech.txt of recordings/speech.wav */
static int output_path(const struct cli *cli, const char *file, char path[PATH_MAX], struct error *err)
{
	const struct transcript_format *format = transcript_format(cli->option[OPT_FORMAT]);
	const char *slash = strrchr(file, '/'), *base = slash ? slash + 1 : file, *dot = strrchr(base, '.');
	size_t stem = dot && dot > base ? (size_t)(dot - base) : strlen(base);
	char name[PATH_MAX];

	snprintf(name, sizeof name, "%.*s.%s", (int)stem, base, format->ending);
	return jobs_path_in(cli->option[OPT_OUTPUT_DIR], name, path, PATH_MAX, err);
}

static int compare_texts(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static int check_paths(const struct cli *cli, char **paths, struct error *err)
{
	char path[PATH_MAX];

	for (size_t i = 0; i < cli->noperands; i++) {
		if (strcmp(cli->operands[i], "-") == 0)
			return error_set(err, ERR_USAGE, "standard input has no name to give to its result in -d DIR");
		if (output_path(cli, cli->operands[i], path, err) || save_check(path, err))
			return -1;
		paths[i] = strdup(path);
		if (!paths[i])
			return error_set(err, ERR_MEMORY, "no memory for %zu names", cli->noperands);
	}
	qsort(paths, cli->noperands, sizeof *paths, compare_texts);
	for (size_t i = 1; i < cli->noperands; i++)
		if (strcmp(paths[i - 1], paths[i]) == 0)
			return error_set(err, ERR_USAGE, "two FILEs would both be written to %.400s", paths[i]);
	return 0;
}

static int check_output_dir(const struct cli *cli, struct error *err)
{
	char **paths = calloc(cli->noperands + 1, sizeof *paths); /* none were no failure */
	int rc = paths ? check_paths(cli, paths, err) : error_set(err, ERR_MEMORY, "no memory");

	for (size_t i = 0; paths && i < cli->noperands; i++)
		free(paths[i]);
	free(paths);
	return rc;
}

static int check(const struct cli *cli)
{
	bool is_file = transcript_format(cli->option[OPT_FORMAT])->timed && !cli->option[OPT_OUTPUT_DIR];
	struct error err = {0};

	if (cli->option[OPT_OUTPUT_DIR] && cli->option[OPT_NO_WAIT])
		return cli_misused(cli->command, "-d waits for the results, so it does not go with --no-wait");
	if (is_file && cli->option[OPT_JSON])
		return cli_misused(cli->command, "--format %s and --json both want standard output",
				   cli->option[OPT_FORMAT]);
	if (is_file && cli->noperands > 1)
		return cli_misused(cli->command, "--format %s of several FILEs needs -d DIR: a file for each",
				   cli->option[OPT_FORMAT]);
	for (size_t i = 0; i < cli->noperands; i++)
		if (input_check(cli->operands[i], &err))
			return jobs_usage_failure(cli, &err);
	return cli->option[OPT_OUTPUT_DIR] && check_output_dir(cli, &err) ? jobs_usage_failure(cli, &err) : CLI_DONE;
}

/* --- Jobs and results. -------------------------------------------------------------------------------------------- */

/* ,"audio_key":…: the file goes into Redis, where any worker finds it. */
static int write_key(struct work *w, const char *operand, const char *id, struct buf *out)
{
	const struct settings *s = w->cli->settings;
	struct buf audio = BUF_INIT((size_t)s->max_audio_bytes);
	struct adwuma_error failed = {0};
	struct error err = {0};
	char key[KEY_BYTES_MAX];
	int rc = CLI_DONE;

	if (input_read_all(operand, "max_audio_bytes", &audio, &err) ||
	    (audio.len == 0 && error_set(&err, ERR_USAGE, "%s is empty", input_shown(operand))))
		rc = jobs_usage_failure(w->cli, &err);
	else if (adwuma_put_audio(w->client, w->queue, id, audio.ptr, audio.len, s->result_ttl_s, key, sizeof key,
				  &failed))
		rc = say_error(&failed);
	buf_release(&audio);
	if (rc == CLI_DONE)
		jobs_write_member(out, "audio_key", key);
	return rc;
}

/* With --direct: the file as it lies there, ,"audio_path":…; or what standard input holds, ,"audio_base64":… So also with a name that is no
 * UTF-8, which no JSON can tell. */
static int write_source(struct work *w, const char *operand, struct buf *out)
{
	struct buf audio = BUF_INIT((size_t)w->cli->settings->max_audio_bytes);
	struct error err = {0};
	char path[PATH_MAX];
	int rc = CLI_DONE;

	if (strcmp(operand, "-") != 0 && !realpath(operand, path)) {
		error_set(&err, ERR_USAGE, "%s: %s", operand, strerror(errno));
		return jobs_usage_failure(w->cli, &err);
	}
	if (strcmp(operand, "-") != 0 && utf8_valid(path, strlen(path))) {
		jobs_write_member(out, "audio_path", path);
		return CLI_DONE;
	}
	if (input_read_all(operand, "max_audio_bytes", &audio, &err)) {
		rc = jobs_usage_failure(w->cli, &err);
	} else {
		buf_lit(out, ",\"audio_base64\":\"");
		base64_encode(out, buf_cstr(&audio), audio.len);
		buf_char(out, '"');
	}
	buf_release(&audio);
	return rc;
}

static int write_job(struct work *w, const char *operand, const char *id, struct buf *out)
{
	const char *timestamps = w->cli->option[OPT_TIMESTAMPS];
	int rc = w->direct ? write_source(w, operand, out) : write_key(w, operand, id, out);

	if (rc)
		return rc;
	jobs_write_member(out, "language", jobs_language(w->cli));
	jobs_write_member(out, "timestamps",
			  timestamps || !transcript_format(w->cli->option[OPT_FORMAT])->timed ? timestamps : "segment");
	return CLI_DONE;
}

static int save(const struct cli *cli, const char *file, const struct buf *text, struct error *err)
{
	char path[PATH_MAX] = "-";

	if (cli->option[OPT_OUTPUT_DIR] && output_path(cli, file, path, err))
		return -1;
	return save_bytes(path, buf_cstr(text), text->len, err);
}

static int finish(struct work *w, size_t i, const char *json)
{
	const struct transcript_format *format = transcript_format(w->cli->option[OPT_FORMAT]);
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	struct error err = {0};
	struct result r;
	int rc = jobs_show(w, i, json);

	if (rc == CLI_DONE && (w->cli->option[OPT_OUTPUT_DIR] || format->timed) && result_read(&r, json) == 0 &&
	    (format->render(&r, &text, &err) || save(w->cli, w->cli->operands[i], &text, &err))) {
		say("%s: %s", w->cli->operands[i], err.msg);
		if (!w->direct)
			say("  adwuma result %s gives it again", w->jobs[i].id);
		rc = CLI_JOB_FAILED;
	}
	buf_release(&text);
	return rc;
}

int cli_transcribe(const struct cli *cli)
{
	static const struct trade transcribe = {.type = "transcribe",
						.check = check,
						.write = write_job,
						.finish = finish};

	return jobs_run(cli, &transcribe);
}
