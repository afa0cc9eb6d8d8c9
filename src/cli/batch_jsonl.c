/* SPDX-License-Identifier: MIT
 *
 * batch: lines of JSON, each a job, into lines of results. See batch.h.
 *
 * What has been done is known from the output alone: it has as many whole lines as input lines are done. With --retry-failed its lines that
 * failed are done once more, under new ids. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/pick.h"
#include "cli/batch.h"
#include "cli/input.h"

#define BLOCK_BYTES 4096

struct jsonl {
	struct batch_output out;
	struct lines in, old; /* old: with --retry-failed, the output that is gone over */
};

/* The next line that is not blank: 1, 0 at the end, or -1. A line that is too long is *line NULL. */
static int next_line(struct lines *l, const char **line, size_t *len, struct error *err)
{
	for (;;) {
		switch (lines_next(l, line, len, err)) {
		case LINE_IS:
			if (strspn(*line, " \t") < *len && *len > 0)
				return 1;
			break;
		case LINE_TOO_LONG:
			*line = NULL;
			return 1;
		case LINE_PAUSE:
			break;
		case LINE_END:
			return 0;
		case LINE_FAILED:
			return -1;
		}
	}
}

/* Half a line at the end of the output, where a run was killed. */
static int cut_half_line(struct batch_output *out, struct error *err)
{
	off_t end = lseek(out->fd, 0, SEEK_END);
	const char *last = NULL;
	char block[BLOCK_BYTES];

	while (end > 0 && !last) {
		size_t n = end < (off_t)sizeof block ? (size_t)end : sizeof block;

		end -= (off_t)n;
		if (pread(out->fd, block, n, end) != (ssize_t)n)
			return error_set(err, ERR_SYSTEM, "%.300s cannot be read: %s", out->into, strerror(errno));
		last = memrchr(block, '\n', n);
	}
	return batch_output_cut(out, last ? (size_t)end + (size_t)(last - block) + 1 : 0, err);
}

/* Counts what stands in the output already. */
static int go_over_output(struct batch *b, struct jsonl *j, struct error *err)
{
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	struct lines lines;
	const char *line;
	size_t len;
	enum line_state state;

	if (cut_half_line(&j->out, err) || lines_open(&lines, j->out.into, PICK_TEXT_MAX / 2, err))
		return -1;
	while ((state = lines_next(&lines, &line, &len, err)) != LINE_END && state != LINE_FAILED) {
		if (state == LINE_PAUSE)
			continue;
		buf_clear(&text);
		buf_add(&text, line, len);
		batch_count_result(b, buf_cstr(&text));
	}
	lines_close(&lines);
	buf_release(&text);
	return state == LINE_FAILED ? -1 : 0;
}

/* Lines that are done are passed over; with them those of the old output. */
static int pass_over(struct batch *b, struct jsonl *j, struct error *err)
{
	const char *line;
	size_t len;
	int rc = 1;

	while (rc > 0 && b->read < b->done) {
		rc = next_line(&j->in, &line, &len, err);
		if (rc > 0 && b->retries && next_line(&j->old, &line, &len, err) < 0)
			rc = -1;
		b->read += rc > 0;
	}
	return rc == 0 ? batch_output_foreign(&j->out, b, err) : rc < 0 ? -1 : 0;
}

static int open_all(struct batch *b, struct error *err)
{
	struct jsonl *j = b->own = calloc(1, sizeof *j);

	if (!j)
		return error_set(err, ERR_MEMORY, "no memory");
	if (lines_open(&j->in, b->cli->operands[0], (size_t)b->cli->settings->max_job_bytes, err) ||
	    batch_output_open(&j->out, b, j->in.fd, err))
		return -1;
	b->fresh = j->out.is_new;
	if (b->retries && lines_open(&j->old, j->out.path, PICK_TEXT_MAX / 2, err))
		return -1;
	return go_over_output(b, j, err) ? -1 : pass_over(b, j, err);
}

static size_t count(struct batch *b)
{
	const char *path = b->cli->operands[0];
	struct lines lines;
	const char *line;
	size_t len, n = 0;
	struct error err = {0};

	if (strcmp(path, "-") == 0 || lines_open(&lines, path, (size_t)b->cli->settings->max_job_bytes, &err))
		return 0;
	while (next_line(&lines, &line, &len, &err) > 0)
		n++;
	lines_close(&lines);
	return n;
}

/* With --retry-failed: the old line, where it succeeded; else the id of a new try, where there is an old line. */
static int go_over_old(struct jsonl *j, struct item *item, char id[ADWUMA_ID_MAX + 1], struct error *err)
{
	struct want want[] = {{"id", {0}}};
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	char old[ADWUMA_ID_MAX + 1];
	const char *line;
	size_t len;
	int rc = next_line(&j->old, &line, &len, err);

	if (rc > 0 && line) {
		buf_add(&text, line, len);
		item->settled = batch_succeeded(buf_cstr(&text));
		if (item->settled)
			buf_add(&item->record, line, len);
		else if (pick((struct span){line, len}, want, 1) == 0 && pick_text(want[0].value, old, ADWUMA_ID_MAX))
			batch_retry_id(old, id);
	}
	buf_release(&text);
	return rc < 0 ? -1 : 0;
}

/* Under an id of its own: the old result stays what it was. */
static void make_job(struct batch *b, struct item *item, const char *line, size_t len, const char *retry_id)
{
	const struct jsonl *j = b->own;
	char id[ADWUMA_ID_MAX + 1];
	struct buf bare = BUF_INIT(SIZE_MAX / 4);

	if (!*retry_id) {
		batch_make_id(j->out.path, item->number, line, len, id);
		batch_make_job(b, item, line, len, id);
		return;
	}
	json_open_without(line, len, "id", &bare);
	while (bare.len > 0 && memchr(" \t,", bare.ptr[bare.len - 1], 3))
		buf_cut(&bare, bare.len - 1);
	buf_char(&bare, '}');
	batch_make_job(b, item, buf_cstr(&bare), bare.len, retry_id);
	buf_release(&bare);
}

static int next(struct batch *b, struct item *item, struct error *err)
{
	struct jsonl *j = b->own;
	char retry_id[ADWUMA_ID_MAX + 1] = "";
	const char *line;
	size_t len;
	int rc = next_line(&j->in, &line, &len, err);

	if (rc > 0 && b->retries && go_over_old(j, item, retry_id, err))
		return -1;
	if (rc <= 0 || item->settled)
		return rc;
	if (line)
		make_job(b, item, line, len, retry_id);
	else
		batch_refuse(b, item, NULL, "the line is longer than max_job_bytes", NULL);
	return 1;
}

static int put(struct batch *b, struct item *item, struct error *err)
{
	const struct buf *line = item->settled ? &item->record : &item->result;
	struct jsonl *j = b->own;

	(void)err;
	json_add_clean(&j->out.pending, (struct span){line->ptr, line->len});
	buf_char(&j->out.pending, '\n');
	return 0;
}

static int flush(struct batch *b, struct error *err)
{
	return batch_output_flush(&((struct jsonl *)b->own)->out, err);
}

static int end(struct batch *b, struct error *err)
{
	return batch_output_replace(&((struct jsonl *)b->own)->out, err);
}

static void close_all(struct batch *b)
{
	struct jsonl *j = b->own;

	if (!j)
		return;
	if (j->in.name)
		lines_close(&j->in);
	if (j->old.name)
		lines_close(&j->old);
	batch_output_close(&j->out);
	free(j);
}

const struct batch_kind batch_jsonl = {.unit = "lines",
				       .one = "line",
				       .takes = TAKES(OPT_QUEUE),
				       .window = BATCH_WINDOW_MAX,
				       .held_max = 16UL * 1024 * 1024,
				       .ordered = true,
				       .open = open_all,
				       .count = count,
				       .next = next,
				       .put = put,
				       .flush = flush,
				       .end = end,
				       .close = close_all};
