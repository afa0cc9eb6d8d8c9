/* SPDX-License-Identifier: MIT
 *
 * An answer of TaskingAI that comes as an event stream: pieces are passed on as they come, the last object is the result
 * (taskingai-api.md, section 8). Pure: bytes in; pieces, and then what came of it, out.
 *
 * Ownership: belongs to its struct call; one thread. */
#ifndef ADWUMA_API_STREAM_H
#define ADWUMA_API_STREAM_H

#include <stdbool.h>

#include "base/buf.h"
#include "http/http.h"
#include "text/sse.h"

struct call_stream {
	bool wanted; /* the request asks for one */
	/* The host's, both or neither: a piece is the API's event object (borrowed); flush comes after as many as came at once. */
	void (*piece)(void *ctx, const char *json, size_t n);
	int64_t (*flush)(void *ctx); /* in how many ms it wants to be called again, -1: no need */
	void *ctx;
	/* What came so far. */
	struct sse sse;
	struct buf text;     /* of the piece at hand */
	struct buf final;    /* the object that is the whole answer; empty: it has not come */
	struct buf error;    /* the event that told of a failure; empty: none did */
	bool done;	     /* [DONE] came */
	bool broken, ending; /* data that is no JSON came; the bytes have ended */
};

void stream_init(struct call_stream *s);
void stream_release(struct call_stream *s);
/* Before a call. max_bytes: of any one event. */
void stream_restart(struct call_stream *s, size_t max_bytes);
/* http_sink: ctx is the struct call_stream. */
enum http_sink_says stream_write(void *ctx, const char *bytes, size_t n);
int64_t stream_idle(void *ctx);
/* After the call, where the body ended as it should: an event without its blank line counts where it is whole. */
void stream_end(struct call_stream *s);

#endif
