/* SPDX-License-Identifier: MIT
 *
 * See stream.h. What an event is, its member "object" says; its name (the server sends none) only excuses data that is no JSON. */
#include "api/stream.h"

#include <string.h>

#include "base/json.h"

#define EVENT_MAX (64UL * 1024 * 1024) /* until stream_restart() says otherwise */
#define KEEP_BYTES 4096

enum meaning { NOTHING, PIECE, FINAL, FAILURE };

static const struct {
	const char *object;
	enum meaning meaning;
} meanings[] = {
	{"ChatCompletionChunk", PIECE}, {"MessageChunk", PIECE}, {"MessageGenerationLog", PIECE},
	{"ChatCompletion", FINAL},	{"Message", FINAL},	 {"Error", FAILURE},
};

void stream_init(struct call_stream *s)
{
	*s = (struct call_stream){.text = BUF_INIT(EVENT_MAX),
				  .final = BUF_INIT(EVENT_MAX),
				  .error = BUF_INIT(EVENT_MAX)};
	sse_init(&s->sse, EVENT_MAX);
}

void stream_release(struct call_stream *s)
{
	sse_release(&s->sse);
	buf_release(&s->text);
	buf_release(&s->final);
	buf_release(&s->error);
}

void stream_restart(struct call_stream *s, size_t max_bytes)
{
	s->piece = NULL;
	s->flush = NULL;
	s->wanted = s->done = s->broken = s->ending = false;
	sse_restart(&s->sse);
	s->sse.line.max = s->sse.data.max = max_bytes;
	buf_trim(&s->text, KEEP_BYTES);
	buf_trim(&s->final, KEEP_BYTES);
	buf_trim(&s->error, KEEP_BYTES);
	s->text.max = s->final.max = s->error.max = max_bytes * 3; /* repaired, a byte may become three */
}

struct look {
	struct span object, error;
};

static void look_at(void *ctx, struct span key, struct span value)
{
	struct look *look = ctx;

	if (json_key_is(key, "object"))
		look->object = value;
	else if (json_key_is(key, "error"))
		look->error = value;
}

/* What a reader of any language would take for true. */
static bool is_truthy(struct span v)
{
	switch (json_span_type(v)) {
	case JSON_NULL:
		return false;
	case JSON_BOOL:
		return json_span_is_true(v);
	case JSON_NUMBER:
		return strspn(v.ptr, "-0.") < v.len;
	default:
		return v.len > 2;
	}
}

static enum meaning meaning_of(const struct look *look)
{
	if (look->error.ptr && is_truthy(look->error))
		return FAILURE;
	for (size_t i = 0; look->object.ptr && i < sizeof meanings / sizeof *meanings; i++)
		if (look->object.len == strlen(meanings[i].object) + 2 &&
		    memcmp(look->object.ptr + 1, meanings[i].object, look->object.len - 2) == 0)
			return meanings[i].meaning;
	return NOTHING;
}

static void keep(struct buf *to, struct span data)
{
	buf_clear(to);
	json_add_clean(to, data);
}

static bool is_blank(struct span data)
{
	for (size_t i = 0; i < data.len; i++)
		if (!memchr(" \t\n\r", data.ptr[i], 4))
			return false;
	return true;
}

static void on_event(void *ctx, struct span data, const char *name)
{
	struct call_stream *s = ctx;
	struct look look = {0};
	enum json_type type = JSON_NULL;
	enum json_verdict verdict;

	if (s->done || s->broken || s->error.len > 0 || is_blank(data))
		return;
	if (data.len >= 6 && memcmp(data.ptr, "[DONE]", 6) == 0) {
		s->done = true;
		return;
	}
	verdict = json_scan(data.ptr, data.len, &type, look_at, &look);
	if (verdict == JSON_BROKEN || verdict == JSON_TOO_DEEP || type != JSON_OBJECT) {
		s->broken = !s->ending && (!*name || strcmp(name, "message") == 0);
		return;
	}
	switch (meaning_of(&look)) {
	case PIECE:
		keep(&s->text, data);
		if (s->piece && !s->text.failed)
			s->piece(s->ctx, buf_cstr(&s->text), s->text.len);
		break;
	case FINAL:
		keep(&s->final, data);
		break;
	case FAILURE:
		keep(&s->error, data);
		break;
	case NOTHING:
		break;
	}
}

enum http_sink_says stream_write(void *ctx, const char *bytes, size_t n)
{
	struct call_stream *s = ctx;

	if (sse_feed(&s->sse, bytes, n, on_event, s))
		s->broken = true;
	if (s->flush)
		s->flush(s->ctx);
	if (s->broken)
		return HTTP_SINK_STOP;
	return s->done || s->error.len > 0 ? HTTP_SINK_ENOUGH : HTTP_SINK_MORE;
}

int64_t stream_idle(void *ctx)
{
	struct call_stream *s = ctx;

	return s->flush ? s->flush(s->ctx) : -1;
}

void stream_end(struct call_stream *s)
{
	s->ending = true;
	sse_end(&s->sse, on_event, s);
	if (s->flush)
		s->flush(s->ctx);
}
