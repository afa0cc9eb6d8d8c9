/* SPDX-License-Identifier: MIT
 *
 * submit: job lines in, ids out. Lines are gathered into batches, each one call of the library; a batch also goes out
 * when no further line is there yet, so jobs that trickle in are not held back. A bad line does not hold up the others.
 */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/look.h"
#include "cli/out.h"
#include "lib/client.h"
#include "lib/draft.h"

#define BATCH_LINES 1000
#define BATCH_BYTES (1024 * 1024)
#define BLANK " \t"

struct batch {
	const struct cli *cli;
	adwuma *client;
	struct adwuma_job jobs[BATCH_LINES];
	size_t at[BATCH_LINES];	  /* where in text job i begins */
	size_t line[BATCH_LINES]; /* its number */
	size_t n;
	struct buf text;
	size_t bad;				     /* lines that were told */
	char queues[QUEUES_MAX][QUEUE_NAME_MAX + 1]; /* to which jobs went; those beyond are not looked at */
	size_t nqueues;
	struct buf scratch;
};

static void tell_bad(struct batch *b, size_t line, const char *why)
{
	say("line %zu: %s", line, why);
	b->bad++;
}

/* Says once of each queue that nobody serves it. */
static void hint_at_workers(struct batch *b, const struct adwuma_job *job)
{
	struct draft draft;
	struct look look = {0};
	struct error err = {0};

	if (b->nqueues == QUEUES_MAX || draft_make(&draft, job->queue, job->json, job->len, job->id, &b->scratch, &err))
		return;
	for (size_t i = 0; i < b->nqueues; i++)
		if (strcmp(b->queues[i], draft.queue) == 0)
			return;
	memcpy(b->queues[b->nqueues++], draft.queue, sizeof draft.queue);
	if (look_open(&look, b->cli, &err) == 0)
		look_hint_at_workers(&look, b->cli->settings->key_prefix, draft.queue, "its jobs wait for one");
	look_close(&look);
}

/* Returns CLI_DONE, or an exit code, told, when it is no use to go on. */
static int flush(struct batch *b)
{
	struct adwuma_error err = {0};
	size_t lost = SIZE_MAX;
	int rc = CLI_DONE;

	for (size_t i = 0; i < b->n; i++)
		b->jobs[i].json = b->text.ptr + b->at[i];
	(void)adwuma_submit_many(b->client, b->jobs, b->n, &err);
	for (size_t i = 0; i < b->n; i++) {
		const struct adwuma_job *job = &b->jobs[i];

		if (job->error.code == ADWUMA_OK)
			out_line(job->id, strlen(job->id));
		else if (job->error.code == ADWUMA_INVALID)
			tell_bad(b, b->line[i], job->error.message);
		else if (lost == SIZE_MAX)
			lost = i;
	}
	out_flush();
	for (size_t i = 0; i < b->n; i++)
		if (b->jobs[i].error.code == ADWUMA_OK)
			hint_at_workers(b, &b->jobs[i]);
	if (lost != SIZE_MAX) {
		rc = say_error(&err);
		say("from line %zu on, jobs whose id was not printed may not have been accepted", b->line[lost]);
	}
	b->n = 0;
	buf_clear(&b->text);
	return rc;
}

/* Keeps a line for the next flush; makes room first where needed. */
static int add(struct batch *b, const char *line, size_t len, size_t number)
{
	int rc = CLI_DONE;

	if (b->n == BATCH_LINES || (b->n > 0 && b->text.len + len > BATCH_BYTES))
		rc = flush(b);
	b->at[b->n] = b->text.len;
	buf_add(&b->text, line, len);
	b->jobs[b->n] = (struct adwuma_job){.queue = b->cli->option[OPT_QUEUE], .len = len};
	b->line[b->n++] = number;
	return rc;
}

static bool is_blank(const char *line, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (!memchr(BLANK, line[i], sizeof BLANK - 1))
			return false;
	return true;
}

/* Some editors put a byte order mark before the first line. */
static void skip_bom(const char **line, size_t *len)
{
	static const char bom[3] = {'\xef', '\xbb', '\xbf'};

	if (*len >= sizeof bom && memcmp(*line, bom, sizeof bom) == 0) {
		*line += sizeof bom;
		*len -= sizeof bom;
	}
}

static int submit_lines(struct batch *b, struct lines *lines)
{
	size_t number = 0, len = 0;
	const char *line = NULL;
	struct error err = {0};
	int rc = CLI_DONE;

	while (rc == CLI_DONE) {
		switch (lines_next(lines, &line, &len, &err)) {
		case LINE_IS:
			if (++number == 1)
				skip_bom(&line, &len);
			if (!is_blank(line, len))
				rc = add(b, line, len, number);
			break;
		case LINE_TOO_LONG:
			tell_bad(b, ++number, "it is longer than max_job_bytes");
			break;
		case LINE_PAUSE:
			rc = flush(b);
			break;
		case LINE_END:
			rc = flush(b);
			return rc ? rc : b->bad ? CLI_JOB_FAILED : CLI_DONE;
		case LINE_FAILED:
			rc = flush(b);
			say("%s", err.msg);
			return rc ? rc : CLI_JOB_FAILED;
		}
	}
	return rc;
}

int cli_submit(const struct cli *cli)
{
	size_t max = (size_t)cli->settings->max_job_bytes;
	struct batch *b = calloc(1, sizeof *b);
	struct adwuma_error failed = {0};
	struct error err = {0};
	struct lines lines;
	int rc;

	if (!b) {
		say("no memory");
		return CLI_JOB_FAILED;
	}
	b->cli = cli;
	b->text = BUF_INIT(max + BATCH_BYTES);
	b->scratch = BUF_INIT(max);
	b->client = client_open(cli->settings, &failed);
	if (!b->client) {
		rc = say_error(&failed);
	} else if (lines_open(&lines, cli->noperands ? cli->operands[0] : "-", max, &err)) {
		say("submit: %s", err.msg);
		rc = CLI_USAGE;
	} else {
		rc = submit_lines(b, &lines);
		lines_close(&lines);
	}
	adwuma_close(b->client);
	buf_release(&b->text);
	buf_release(&b->scratch);
	free(b);
	return rc;
}
