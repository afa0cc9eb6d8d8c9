/* SPDX-License-Identifier: MIT
 *
 * batch: a table, each row a text to translate, into the same table with a column of translations. See batch.h.
 *
 * All other cells, and line breaks, stay byte for byte. What is done is known from the output: it has a header and as many whole records as rows
 * are done, and those that failed have their error in a column of its own: "APIError: message", from the second try on with " (try 2)" behind
 * it, which makes the id of the next try another. An empty line stays one and counts as a row; so do rows whose text is blank, without a job. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/pick.h"
#include "base/utf8.h"
#include "cli/batch.h"
#include "cli/input.h"
#include "cli/jobs.h"
#include "cli/show.h"
#include "text/csv.h"

#define BLOCK_BYTES (64 * 1024)
#define BOM "\xef\xbb\xbf"
#define NAMES_BYTES_MAX 160 /* of columns, in a message */
#define TRIES_MAX 1000000

/* A file of records. */
struct rows {
	int fd;
	const char *name;
	struct csv csv;
	size_t at, n; /* of the block */
	char block[BLOCK_BYTES];
};

/* Columns are counted from 0; one that the input has not stands behind its last. */
struct table {
	struct batch_output out;
	struct rows *in, *old; /* old: with --retry-failed, the output that is gone over */
	char delimiter;
	size_t columns, width; /* of the input's header, and of the output's */
	size_t text, into, error;
	struct buf header; /* the output's, with its line break */
	char line_break[3];
};

/* --- Rows. -------------------------------------------------------------------------------------------------------- */

static struct rows *rows_open(const char *path, char delimiter, size_t max_bytes, struct error *err)
{
	struct rows *r = calloc(1, sizeof *r);

	if (!r) {
		error_set(err, ERR_MEMORY, "no memory");
		return NULL;
	}
	r->fd = input_open(path, err);
	if (r->fd < 0) {
		free(r);
		return NULL;
	}
	r->name = input_shown(path);
	csv_init(&r->csv, delimiter, max_bytes);
	return r;
}

static void rows_close(struct rows *r)
{
	if (!r)
		return;
	input_close(r->fd);
	csv_release(&r->csv);
	free(r);
}

/* The next record, with its line break: 1, 0 at the end, or -1. One that is too long is empty. */
static int rows_next(struct rows *r, struct span *record, struct error *err)
{
	ssize_t got = 1;

	*record = (struct span){0};
	do {
		if (r->at == r->n) {
			got = input_read(r->fd, r->block, sizeof r->block);
			if (got < 0)
				return error_set(err, ERR_USAGE, "%.300s cannot be read: %s", r->name, strerror(errno));
			r->at = 0;
			r->n = (size_t)got;
		}
		if (got == 0 && !csv_end(&r->csv))
			return 0;
		r->at += got == 0 ? 0 : csv_feed(&r->csv, r->block + r->at, r->n - r->at);
	} while (!r->csv.whole);
	*record = csv_record(&r->csv);
	return 1;
}

/* Without its line break it has nothing. */
static bool is_empty(struct span record)
{
	return record.len > 0 && record.len == csv_line_break(record).len;
}

/* --- Columns. ----------------------------------------------------------------------------------------------------- */

static bool is_named(struct span cell, const char *name)
{
	struct buf value = BUF_INIT(cell.len);
	bool same;

	csv_value(cell, &value);
	same = strlen(name) == value.len && memcmp(buf_cstr(&value), name, value.len) == 0;
	buf_release(&value);
	return same;
}

static int no_column(const struct table *t, struct span header, const char *wanted, const char *why, struct error *err)
{
	struct buf names = BUF_INIT(NAMES_BYTES_MAX);
	struct span cell;
	size_t at = 0, kept = 0;

	while (csv_next(header, t->delimiter, &at, &cell) && !names.failed) {
		kept = names.len;
		buf_str_add(&names, kept ? ", " : "");
		csv_value(cell, &names);
	}
	if (names.failed)
		buf_cut(&names, kept);
	error_set(err, ERR_USAGE, "%.200s has %s '%.60s', by header or number from 1; its columns: %s%s", t->in->name,
		  why, wanted, buf_cstr(&names), names.failed ? " ..." : "");
	buf_release(&names);
	return -1;
}

/* By its name, else by its number from 1. What is neither: *column is `columns`. */
static int find_column(const struct table *t, struct span header, const char *wanted, size_t *column, struct error *err)
{
	size_t digits = strspn(wanted, "0123456789"), at = 0, i = 0;
	struct span cell;

	*column = t->columns;
	for (; csv_next(header, t->delimiter, &at, &cell); i++) {
		if (!is_named(cell, wanted))
			continue;
		if (*column < t->columns)
			return no_column(t, header, wanted, "several columns", err);
		*column = i;
	}
	if (*column < t->columns || digits == 0 || wanted[digits])
		return 0;
	i = digits < 10 ? strtoul(wanted, NULL, 10) : 0;
	if (i < 1 || i > t->columns)
		return no_column(t, header, wanted, "no column", err);
	*column = i - 1;
	return 0;
}

/* The name of the column that errors go to. */
static void name_errors(const struct table *t, struct span header, const char *into, struct buf *name)
{
	struct span cell = {0};
	size_t at = 0;

	for (size_t i = 0; t->into < t->columns && i <= t->into; i++)
		csv_next(header, t->delimiter, &at, &cell);
	if (cell.ptr)
		csv_value(cell, name);
	else
		buf_str_add(name, into);
	buf_lit(name, "_error");
}

static void append_cell(const struct table *t, struct buf *out, const char *text, size_t len)
{
	buf_char(out, t->delimiter);
	csv_add(out, t->delimiter, text, len);
}

static int read_header(struct table *t, const struct batch *b, struct error *err)
{
	const char *text = b->cli->option[OPT_TEXT_COLUMN], *into = b->cli->option[OPT_OUT_COLUMN];
	struct buf errors = BUF_INIT(PICK_TEXT_MAX);
	struct span header, end;
	int rc = rows_next(t->in, &header, err);

	if (rc < 0)
		return -1;
	if (rc == 0 || t->in->csv.too_long || t->in->csv.open)
		return error_set(err, ERR_USAGE, "%.300s has no header: a table's first row names its columns",
				 t->in->name);
	end = csv_line_break(header);
	snprintf(t->line_break, sizeof t->line_break, "%.*s", (int)(end.len > 0 ? end.len : 1),
		 end.len > 0 ? end.ptr : "\n");
	t->columns = csv_count(header, t->delimiter);
	if (find_column(t, header, text, &t->text, err) || find_column(t, header, into, &t->into, err))
		return -1;
	if (t->text == t->columns)
		return no_column(t, header, text, "no column", err);
	if (t->text == t->into)
		return error_set(err, ERR_USAGE, "--text-column and --out-column are one column");
	t->width = t->columns + (t->into == t->columns);
	name_errors(t, header, into, &errors);
	rc = find_column(t, header, buf_cstr(&errors), &t->error, err);
	if (rc == 0 && t->error == t->text)
		rc = error_set(err, ERR_USAGE, "--text-column is the column of errors, %.80s", buf_cstr(&errors));
	if (t->error == t->columns)
		t->error = t->width++;
	buf_add(&t->header, header.ptr, header.len - end.len);
	if (t->into >= t->columns)
		append_cell(t, &t->header, into, strlen(into));
	if (t->error >= t->columns)
		append_cell(t, &t->header, buf_cstr(&errors), errors.len);
	buf_str_add(&t->header, t->line_break);
	buf_release(&errors);
	return rc;
}

/* --- What the output says. ---------------------------------------------------------------------------------------- */

/* The error of a row of the output; "" where there is none. Those of rows that are longer than the header stand as far from the end. */
static void read_error(const struct table *t, struct span record, struct buf *out)
{
	size_t n = csv_count(record, t->delimiter), at = 0, column = t->error;
	struct span cell = {0};

	if (t->error >= t->columns && n > t->width)
		column = n - (t->width - t->error);
	for (size_t i = 0; i <= column; i++)
		if (!csv_next(record, t->delimiter, &at, &cell))
			return;
	csv_value(cell, out);
}

static void count_row(struct batch *b, const struct table *t, struct span record)
{
	struct buf error = BUF_INIT(PICK_TEXT_MAX);

	read_error(t, record, &error);
	if (error.len > 0)
		buf_cut(&error, strcspn(error.ptr, ":"));
	batch_count(b, error.len > 0 ? error.ptr : NULL);
	buf_release(&error);
}

/* "APIError: message (try 3)": 3 */
static unsigned tries_of(const struct buf *error)
{
	const char *bracket = strrchr(buf_cstr(error), '(');
	unsigned tries = 1;

	if (!bracket || sscanf(bracket, "(try %u)", &tries) != 1 || tries < 1 || tries > TRIES_MAX)
		return 1;
	return tries;
}

/* Whether a record without line break is what was written of our header, or of the mark before it, when a run was killed. */
static bool is_half_header(const struct table *t, struct span record)
{
	return (record.len < t->header.len && memcmp(record.ptr, t->header.ptr, record.len) == 0) ||
	       (record.len < strlen(BOM) && memcmp(record.ptr, BOM, record.len) == 0);
}

/* Whether the header there is the one that we would write: 1, 0 where it is not whole, or -1. */
static int check_header(const struct table *t, struct rows *r, struct error *err)
{
	struct span record;
	int rc = rows_next(r, &record, err);

	if (rc <= 0)
		return rc;
	if (record.len == t->header.len && memcmp(record.ptr, t->header.ptr, record.len) == 0)
		return 1;
	if (is_half_header(t, record))
		return 0;
	return error_set(err, ERR_USAGE,
			 "%.200s has another header than %.100s with these columns: is it the output of another batch?",
			 r->name, t->in->name);
}

/* Counts the records that stand in the output already; half a one at its end is cut off. */
static int go_over_output(struct batch *b, struct table *t, struct error *err)
{
	struct rows *rows = rows_open(t->out.into, t->delimiter, PICK_TEXT_MAX / 2, err);
	struct span record;
	size_t whole = 0;
	int rc = rows ? check_header(t, rows, err) : -1;

	if (rc > 0)
		whole = t->header.len + (csv_has_bom(&rows->csv) ? strlen(BOM) : 0);
	while (rc > 0 && (rc = rows_next(rows, &record, err)) > 0 && !rows->csv.open &&
	       csv_line_break(record).len > 0) {
		whole += record.len;
		count_row(b, t, record);
	}
	rows_close(rows);
	if (rc < 0 || batch_output_cut(&t->out, whole, err))
		return -1;
	if (whole == 0) {
		buf_str_add(&t->out.pending, csv_has_bom(&t->in->csv) ? BOM : "");
		buf_add(&t->out.pending, t->header.ptr, t->header.len);
	}
	return batch_output_flush(&t->out, err);
}

/* --- Beginning. --------------------------------------------------------------------------------------------------- */

static int read_delimiter(const char *given, char *delimiter, struct error *err)
{
	*delimiter = !given ? ',' : strcmp(given, "tab") == 0 ? '\t' : *given;
	if ((!given || strcmp(given, "tab") == 0 || strlen(given) == 1) && *delimiter > 0 &&
	    !strchr("\"\r\n", *delimiter))
		return 0;
	return error_set(err, ERR_USAGE, "--delimiter must be one character of ASCII, or tab");
}

static int open_old(struct table *t, struct error *err)
{
	int rc;

	t->old = rows_open(t->out.path, t->delimiter, PICK_TEXT_MAX / 2, err);
	rc = t->old ? check_header(t, t->old, err) : -1;
	return rc == 0 ? error_set(err, ERR_USAGE, "%.300s has no whole header", t->out.path) : rc < 0 ? -1 : 0;
}

static int pass_over(struct batch *b, struct table *t, struct error *err)
{
	struct span record;

	while (b->read < b->done) {
		int rc = rows_next(t->in, &record, err);

		if (rc == 0)
			return batch_output_foreign(&t->out, b, err);
		if (rc < 0 || (t->old && rows_next(t->old, &record, err) < 0))
			return -1;
		b->read++;
	}
	return 0;
}

static int open_all(struct batch *b, struct error *err)
{
	const struct cli *cli = b->cli;
	struct table *t = b->own = calloc(1, sizeof *t);

	if (!t)
		return error_set(err, ERR_MEMORY, "no memory");
	t->header = BUF_INIT(PICK_TEXT_MAX);
	if (!cli->option[OPT_TEXT_COLUMN] || !cli->option[OPT_OUT_COLUMN])
		return error_set(err, ERR_USAGE,
				 "--csv needs --text-column and --out-column: names of columns, or numbers from 1");
	if (read_delimiter(cli->option[OPT_DELIMITER], &t->delimiter, err))
		return -1;
	t->in = rows_open(cli->operands[0], t->delimiter, (size_t)cli->settings->max_job_bytes, err);
	if (!t->in || read_header(t, b, err) || batch_output_open(&t->out, b, t->in->fd, err))
		return -1;
	b->fresh = t->out.is_new;
	if (b->retries && open_old(t, err))
		return -1;
	return go_over_output(b, t, err) ? -1 : pass_over(b, t, err);
}

static size_t count(struct batch *b)
{
	const struct table *t = b->own;
	const char *path = b->cli->operands[0];
	struct rows *rows = NULL;
	struct error err = {0};
	struct span record;
	size_t n = 0;

	if (strcmp(path, "-") != 0)
		rows = rows_open(path, t->delimiter, (size_t)b->cli->settings->max_job_bytes, &err);
	while (rows && rows_next(rows, &record, &err) > 0)
		n++;
	rows_close(rows);
	return n > 0 ? n - 1 : 0; /* the header is none */
}

/* --- Rows in and out. --------------------------------------------------------------------------------------------- */

/* The record with its two cells filled. Where it has fewer cells than the header, empty ones stand in between. */
static void write_row(const struct table *t, struct span record, const struct buf *text, const struct buf *error,
		      struct buf *out)
{
	struct span end = csv_line_break(record), cell;
	size_t at = 0, i = 0;

	for (bool more = true; (more = more && csv_next(record, t->delimiter, &at, &cell)) || i < t->columns; i++) {
		const struct buf *filled = i >= t->columns ? NULL : i == t->into ? text : i == t->error ? error : NULL;

		if (i > 0)
			buf_char(out, t->delimiter);
		if (filled)
			csv_add(out, t->delimiter, buf_cstr(filled), filled->len);
		else if (more)
			buf_add(out, cell.ptr, cell.len);
	}
	if (t->into >= t->columns)
		append_cell(t, out, buf_cstr(text), text->len);
	if (t->error >= t->columns)
		append_cell(t, out, buf_cstr(error), error->len);
	buf_add(out, end.len > 0 ? end.ptr : t->line_break, end.len > 0 ? end.len : strlen(t->line_break));
}

/* Without its text it needs no job. */
static bool settle_blank(const struct table *t, struct item *item, struct span record, const struct buf *text)
{
	struct buf none = BUF_INIT(1);

	if (!is_empty(record) && strspn(buf_cstr(text), " \t\r\n") < text->len)
		return false;
	buf_clear(&item->record);
	if (is_empty(record))
		buf_add(&item->record, record.ptr, record.len);
	else
		write_row(t, record, &none, &none, &item->record);
	item->settled = true;
	return true;
}

static void make_job(struct batch *b, const struct table *t, struct item *item, const struct buf *text)
{
	struct buf json = BUF_INIT(SIZE_MAX / 4);
	char id[ADWUMA_ID_MAX + 1];
	size_t n;

	buf_lit(&json, "{\"type\":\"translate\"");
	jobs_write_member(&json, "language_pair", b->cli->option[OPT_PAIR]);
	buf_lit(&json, ",\"text\":");
	buf_json_string(&json, buf_cstr(text), text->len);
	buf_char(&json, '}');
	batch_make_id(t->out.path, item->number, buf_cstr(&json), json.len, id);
	n = strlen(id);
	if (item->tries > 0)
		snprintf(id + n, sizeof id - n, ".r%u", item->tries);
	batch_make_job(b, item, buf_cstr(&json), json.len, id);
	buf_release(&json);
}

static void take_row(struct batch *b, struct table *t, struct item *item, struct span record)
{
	size_t n = csv_count(record, t->delimiter), at = 0;
	struct buf text = BUF_INIT(record.len);
	struct span cell = {0};
	char why[120];

	for (size_t i = 0; i <= t->text && n == t->columns; i++)
		csv_next(record, t->delimiter, &at, &cell);
	csv_value(cell, &text);
	if (t->in->csv.too_long) {
		batch_refuse(b, item, NULL, "the row is longer than max_job_bytes; its cells are left out here", NULL);
	} else if (t->in->csv.open) {
		batch_refuse(b, item, NULL, "the table ends within a quoted cell of this row", NULL);
	} else if (n != t->columns && !is_empty(record)) {
		snprintf(why, sizeof why, "the row has %zu cells and the header %zu", n, t->columns);
		batch_refuse(b, item, NULL, why, NULL);
	} else if (!utf8_valid(buf_cstr(&text), text.len)) {
		batch_refuse(b, item, NULL, "the text is not UTF-8", NULL);
	} else if (!settle_blank(t, item, record, &text)) {
		make_job(b, t, item, &text);
	}
	buf_release(&text);
}

/* With --retry-failed: a row that succeeded stays what it is. */
static int go_over_old(struct table *t, struct item *item, struct error *err)
{
	struct buf error = BUF_INIT(PICK_TEXT_MAX);
	struct span record;
	int rc = rows_next(t->old, &record, err);

	if (rc > 0 && !t->old->csv.open && csv_line_break(record).len > 0) {
		read_error(t, record, &error);
		item->settled = error.len == 0;
		item->tries = error.len > 0 ? tries_of(&error) : 0;
		if (item->settled)
			buf_add(&item->record, record.ptr, record.len);
	}
	buf_release(&error);
	return rc < 0 ? -1 : 0;
}

static int next(struct batch *b, struct item *item, struct error *err)
{
	struct table *t = b->own;
	struct span record;
	int rc = rows_next(t->in, &record, err);

	if (rc > 0 && t->old && go_over_old(t, item, err))
		return -1;
	if (rc <= 0 || item->settled)
		return rc;
	buf_add(&item->record, record.ptr, record.len);
	if (t->in->csv.open) /* what is added behind must not stand within the quotes */
		buf_char(&item->record, '"');
	take_row(b, t, item, record);
	return 1;
}

/* What the two cells of a result are. */
static void read_result(const struct item *item, struct buf *text, struct buf *error)
{
	struct want of_result[] = {{"text", {0}}}, of_error[] = {{"type", {0}}, {"message", {0}}};
	struct buf message = BUF_INIT(PICK_TEXT_MAX);
	struct result r;

	if (result_read(&r, buf_cstr(&item->result)) == 0 && result_succeeded(&r) && r.result.ptr &&
	    pick(r.result, of_result, 1) == 0) {
		pick_readable(of_result[0].value, text);
	} else if (r.error.ptr && pick(r.error, of_error, 2) == 0 && of_error[0].value.ptr) {
		pick_readable(of_error[0].value, error);
		buf_printf(error, ": %s", pick_readable(of_error[1].value, &message));
	} else {
		buf_lit(error, "unreadable: what stands in its place is no result");
	}
	if (error->len > 0 && item->tries > 0)
		buf_printf(error, " (try %u)", item->tries + 1);
	buf_release(&message);
}

static int put(struct batch *b, struct item *item, struct error *err)
{
	struct buf text = BUF_INIT(PICK_TEXT_MAX), error = BUF_INIT(PICK_TEXT_MAX);
	struct span record = {buf_cstr(&item->record), item->record.len};
	struct table *t = b->own;

	(void)err;
	if (item->settled) {
		buf_add(&t->out.pending, record.ptr, record.len);
	} else {
		read_result(item, &text, &error);
		write_row(t, record, &text, &error, &t->out.pending);
	}
	buf_release(&text);
	buf_release(&error);
	return 0;
}

static int flush(struct batch *b, struct error *err)
{
	return batch_output_flush(&((struct table *)b->own)->out, err);
}

static int end(struct batch *b, struct error *err)
{
	return batch_output_replace(&((struct table *)b->own)->out, err);
}

static void close_all(struct batch *b)
{
	struct table *t = b->own;

	if (!t)
		return;
	rows_close(t->in);
	rows_close(t->old);
	batch_output_close(&t->out);
	buf_release(&t->header);
	free(t);
}

const struct batch_kind batch_csv = {.unit = "rows",
				     .takes = TAKES(OPT_QUEUE) | TAKES(OPT_CSV) | TAKES(OPT_TEXT_COLUMN) |
					      TAKES(OPT_OUT_COLUMN) | TAKES(OPT_DELIMITER) | TAKES(OPT_PAIR),
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
