/* SPDX-License-Identifier: MIT
 *
 * call: any operation of TaskingAI as a job. Its parameters are checked here by the code that a worker checks them by. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "cli/input.h"
#include "cli/jobs.h"
#include "cli/out.h"
#include "job/operation.h"

#define KEY_BYTES_MAX 512

/* The object of --params; "{}" without it. */
static int read_params(const struct cli *cli, struct buf *out)
{
	const char *given = cli->option[OPT_PARAMS];
	struct error err = {0};
	enum json_type type = JSON_NULL;

	if (!given)
		given = "{}";
	if (strcmp(given, "-") != 0 && *given != '@')
		buf_str_add(out, given);
	else if (input_read_all(*given == '@' ? given + 1 : "-", "max_job_bytes", out, &err))
		return jobs_usage_failure(cli, &err);
	if (json_scan(buf_cstr(out), out->len, &type, NULL, NULL) == JSON_OK && type == JSON_OBJECT)
		return CLI_DONE;
	return cli_misused(cli->command, "--params must be a JSON object, like '{\"limit\":5}'");
}

/* Read once: standard input gives it but once. */
static struct buf params;

static void add_params(struct buf *out, const char *more)
{
	buf_lit(out, ",\"params\":");
	if (!*more) {
		buf_add(out, params.ptr, params.len);
		return;
	}
	json_open_without(params.ptr, params.len, "file_key", out);
	while (out->len > 0 && memchr(" \t\r\n", out->ptr[out->len - 1], 4))
		buf_cut(out, out->len - 1);
	if (out->len > 0 && out->ptr[out->len - 1] != '{' && out->ptr[out->len - 1] != ',')
		buf_char(out, ',');
	buf_str_add(out, more);
	buf_char(out, '}');
}

static int check_job(const struct cli *cli, const char *more)
{
	struct buf text = BUF_INIT(params.len + PATH_MAX * 6 + 1000);
	struct fault fault;
	struct job job;
	int rc = CLI_DONE;

	fault_init(&fault);
	buf_printf(&text, "{\"id\":\"check\",\"type\":\"%s\"", cli->operands[0]);
	add_params(&text, more);
	buf_char(&text, '}');
	if (job_parse(&job, buf_cstr(&text), text.len, "", (size_t)cli->settings->max_job_bytes, &fault))
		rc = cli_misused(cli->command, "%s", buf_cstr(&fault.message));
	job_release(&job);
	fault_release(&fault);
	buf_release(&text);
	return rc;
}

static int check(const struct cli *cli)
{
	const char *type = cli->operands[0];
	struct error err = {0};
	int rc;

	if (!operation_find(type, strlen(type)))
		return cli_misused(
			cli->command,
			"'%.100s' is no type of job here: taskingai. and one of the names that adwuma operations lists",
			type);
	if (cli->option[OPT_FILE] && strcmp(type, OPERATION_PREFIX "upload_file") != 0)
		return cli_misused(cli->command, "--file goes with taskingai.upload_file only");
	if (cli->option[OPT_FILE] && input_check(cli->option[OPT_FILE], &err))
		return jobs_usage_failure(cli, &err);
	rc = read_params(cli, &params);
	return rc ? rc : check_job(cli, cli->option[OPT_FILE] ? "\"file_key\":\"k\",\"file_name\":\"n\"" : "");
}

static const char *base_name(const char *path)
{
	return strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
}

/* "file_key":…,"file_name":…: the file goes into Redis, where any worker finds it; with --direct it goes as it lies there. */
static int write_file(struct work *w, const char *id, struct buf *more)
{
	const struct settings *s = w->cli->settings;
	const char *path = w->cli->option[OPT_FILE];
	struct buf file = BUF_INIT((size_t)s->max_audio_bytes);
	struct adwuma_error failed = {0};
	struct error err = {0};
	char key[KEY_BYTES_MAX];
	int rc = CLI_DONE;

	if (input_read_all(path, "max_audio_bytes", &file, &err) ||
	    (file.len == 0 && error_set(&err, ERR_USAGE, "%s is empty", input_shown(path)))) {
		rc = jobs_usage_failure(w->cli, &err);
	} else if (w->direct) {
		buf_lit(more, "\"file_base64\":\"");
		base64_encode(more, file.ptr, file.len);
		buf_char(more, '"');
	} else if (adwuma_put_audio(w->client, w->queue, id, file.ptr, file.len, s->result_ttl_s, key, sizeof key,
				    &failed)) {
		rc = say_error(&failed);
	} else {
		buf_lit(more, "\"file_key\":");
		buf_json_cstr(more, key);
	}
	buf_lit(more, ",\"file_name\":");
	buf_json_cstr(more, strcmp(path, "-") == 0 ? "stdin.txt" : base_name(path));
	buf_release(&file);
	return rc;
}

static int write_job(struct work *w, const char *operand, const char *id, struct buf *out)
{
	struct buf more = BUF_INIT((size_t)w->cli->settings->max_audio_bytes * 2);
	int rc = w->cli->option[OPT_FILE] ? write_file(w, id, &more) : CLI_DONE;

	(void)operand;
	jobs_write_member(out, "if_unsure", w->cli->option[OPT_IF_UNSURE]);
	add_params(out, buf_cstr(&more));
	buf_release(&more);
	return rc;
}

int cli_call(const struct cli *cli)
{
	const struct trade call = {
		.type = cli->operands[0], .check = check, .write = write_job, .finish = jobs_show, .form = SHOW_RESULT};
	int rc;

	params = BUF_INIT((size_t)cli->settings->max_job_bytes);
	rc = jobs_run(cli, &call);
	buf_release(&params);
	return rc;
}
