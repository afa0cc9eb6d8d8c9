/* SPDX-License-Identifier: MIT
 *
 * Tables in CSV (RFC 4180), as they come: bytes in, cut anywhere, whole records out; each byte of a record stays what it was.
 *
 * A record ends with LF or CRLF outside quotes, a CR alone belongs to its cell. A cell that begins with a quote ends with one; what stands
 * behind that, up to the delimiter, belongs to it too, and a quote inside a cell that does not begin with one is a plain character. So there
 * is no text that is no table, but for a last quote that is never closed (`open`). A byte order mark at the very beginning is told, and no part
 * of the first record.
 *
 * Ownership: one thread, one table. A record is borrowed until the next call. Pure. */
#ifndef ADWUMA_TEXT_CSV_H
#define ADWUMA_TEXT_CSV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"

enum csv_place { CSV_BEGIN, CSV_PLAIN, CSV_QUOTED, CSV_QUOTE }; /* the last: behind a quote within quotes */

struct csv {
	char delimiter;
	enum csv_place place;
	size_t bom;	/* bytes of the mark seen so far; all of them, or beyond where there is none */
	size_t skip;	/* bytes of it before this record */
	struct buf raw; /* of the record that is read */
	bool whole;	/* it is at its end, with its line break where it has one */
	bool too_long;	/* it is longer than allowed, and was dropped */
	bool open;	/* the end came within quotes */
};

/* max_bytes: of one record. */
void csv_init(struct csv *c, char delimiter, size_t max_bytes);
void csv_release(struct csv *c);
/* Takes bytes up to the end of a record, and returns how many it took. `whole` tells whether that end is there. */
size_t csv_feed(struct csv *c, const char *bytes, size_t n);
/* There is no more. Returns whether a last record without a line break is there, which then is whole. */
bool csv_end(struct csv *c);
bool csv_has_bom(const struct csv *c);
struct span csv_record(const struct csv *c); /* with its line break; empty when too_long */

/* Of one record. */
struct span csv_line_break(struct span record);
/* The next cell as it stands, quotes and all: 0 at the end. *at: 0 at first. */
bool csv_next(struct span record, char delimiter, size_t *at, struct span *cell);
size_t csv_count(struct span record, char delimiter);
void csv_value(struct span cell, struct buf *out); /* appends what it stands for */
void csv_add(struct buf *out, char delimiter, const char *text,
	     size_t len); /* appends a cell, in quotes where it needs them */

#endif
