/* SPDX-License-Identifier: MIT
 *
 * Server-sent events, as they come: bytes in, cut anywhere, whole events out (the WHATWG's "event stream" grammar).
 *
 * Lines end with LF, CR or CRLF; a byte order mark at the very beginning is skipped; several data lines of one event are joined by LF; comments,
 * fields that nobody here needs (id, retry), and events without data are passed over. Bytes are not decoded: what is no UTF-8 is the reader's.
 *
 * Ownership: one thread, one stream. What an event function is given is borrowed until it returns. Pure. */
#ifndef ADWUMA_TEXT_SSE_H
#define ADWUMA_TEXT_SSE_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"

struct sse {
	struct buf line; /* of the one that is not at its end */
	struct buf data; /* of the event that is not at its end, each line with its LF */
	struct buf name;
	bool begun;    /* the first line is behind us, or what came of it is no byte order mark */
	bool after_cr; /* an LF that comes next belongs to it */
};

/* data: the event's data; name: what its event line said, "" without. */
typedef void sse_event_fn(void *ctx, struct span data, const char *name);

/* max_bytes: of one line, and of one event's data. */
void sse_init(struct sse *s, size_t max_bytes);
void sse_release(struct sse *s);
void sse_restart(struct sse *s); /* another stream; keeps small memory */
/* The next n bytes. 0, or -1: a line or an event is longer than allowed. */
int sse_feed(struct sse *s, const char *bytes, size_t n, sse_event_fn *event, void *ctx);
/* The stream has ended: an event whose blank line never came is given too. */
void sse_end(struct sse *s, sse_event_fn *event, void *ctx);

#endif
