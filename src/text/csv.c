/* SPDX-License-Identifier: MIT
 *
 * See csv.h. Records and cells are found by the same steps from byte to byte. */
#include "text/csv.h"

#include <string.h>

#define BOM "\xef\xbb\xbf"
#define BOM_BYTES 3
#define KEEP_BYTES (64 * 1024)

void csv_init(struct csv *c, char delimiter, size_t max_bytes)
{
	*c = (struct csv){.delimiter = delimiter, .raw = BUF_INIT(max_bytes + BOM_BYTES)};
}

void csv_release(struct csv *c)
{
	buf_release(&c->raw);
}

/* What comes behind a byte. Outside quotes a delimiter ends the cell and a line feed the record. */
static enum csv_place step(enum csv_place at, char byte, char delimiter)
{
	if (at == CSV_QUOTED)
		return byte == '"' ? CSV_QUOTE : CSV_QUOTED;
	if (byte == '"' && at != CSV_PLAIN)
		return CSV_QUOTED;
	return byte == delimiter || byte == '\n' ? CSV_BEGIN : CSV_PLAIN;
}

/* The mark may come byte by byte too; behind it the first cell begins. */
static enum csv_place step_begin(struct csv *c, char byte)
{
	if (byte != BOM[c->bom]) {
		c->bom = BOM_BYTES + 1;
		return step(c->place, byte, c->delimiter);
	}
	if (++c->bom < BOM_BYTES)
		return CSV_PLAIN;
	c->skip = BOM_BYTES;
	return CSV_BEGIN;
}

static void begin_next(struct csv *c)
{
	buf_trim(&c->raw, KEEP_BYTES);
	c->whole = c->too_long = false;
	c->skip = 0;
}

size_t csv_feed(struct csv *c, const char *bytes, size_t n)
{
	size_t i = 0;

	if (c->whole)
		begin_next(c);
	while (i < n && !c->whole) {
		bool quoted = c->place == CSV_QUOTED;
		char byte = bytes[i++];

		c->place = c->bom < BOM_BYTES ? step_begin(c, byte) : step(c->place, byte, c->delimiter);
		c->whole = byte == '\n' && !quoted;
	}
	buf_add(&c->raw, bytes, i);
	c->too_long = c->raw.failed;
	return i;
}

bool csv_end(struct csv *c)
{
	if (c->whole)
		begin_next(c);
	c->open = c->place == CSV_QUOTED;
	c->whole = c->too_long || csv_record(c).len > 0;
	return c->whole;
}

bool csv_has_bom(const struct csv *c)
{
	return c->bom == BOM_BYTES;
}

struct span csv_record(const struct csv *c)
{
	if (c->too_long || c->raw.len <= c->skip)
		return (struct span){"", 0};
	return (struct span){c->raw.ptr + c->skip, c->raw.len - c->skip};
}

struct span csv_line_break(struct span record)
{
	size_t n = record.len > 0 && record.ptr[record.len - 1] == '\n';

	n += n == 1 && record.len > 1 && record.ptr[record.len - 2] == '\r';
	return (struct span){record.ptr + record.len - n, n};
}

bool csv_next(struct span record, char delimiter, size_t *at, struct span *cell)
{
	size_t end = record.len - csv_line_break(record).len, i = *at;
	enum csv_place place = CSV_BEGIN;

	if (*at > end)
		return false;
	for (; i < end && (record.ptr[i] != delimiter || place == CSV_QUOTED); i++)
		place = step(place, record.ptr[i], delimiter);
	*cell = (struct span){record.ptr + *at, i - *at};
	*at = i + 1; /* beyond the end where there is no delimiter: that was the last */
	return true;
}

size_t csv_count(struct span record, char delimiter)
{
	struct span cell;
	size_t at = 0, n = 0;

	while (csv_next(record, delimiter, &at, &cell))
		n++;
	return n;
}

void csv_value(struct span cell, struct buf *out)
{
	enum csv_place place = CSV_BEGIN;

	for (size_t i = 0; i < cell.len; i++) {
		enum csv_place before = place;

		place = step(place, cell.ptr[i],
			     '\n'); /* which stands in no cell outside quotes, as little as the delimiter */
		if (cell.ptr[i] != '"' || before == CSV_PLAIN || before == CSV_QUOTE)
			buf_char(out, cell.ptr[i]);
	}
}

void csv_add(struct buf *out, char delimiter, const char *text, size_t len)
{
	bool quoted = len > 0 && (strchr(" \t", text[0]) || strchr(" \t", text[len - 1]));

	for (size_t i = 0; i < len && !quoted; i++)
		quoted = text[i] == delimiter || (text[i] && strchr("\"\r\n", text[i]));
	if (!quoted) {
		buf_add(out, text, len);
		return;
	}
	buf_char(out, '"');
	for (size_t i = 0; i < len; i++) {
		if (text[i] == '"')
			buf_char(out, '"');
		buf_char(out, text[i]);
	}
	buf_char(out, '"');
}
