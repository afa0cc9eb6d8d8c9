/* SPDX-License-Identifier: MIT
 *
 * See sse.h. */
#include "text/sse.h"

#include <string.h>

#include "base/json.h"

#define KEEP_BYTES 4096
#define NAME_MAX_BYTES 256
#define BOM "\xef\xbb\xbf"

void sse_init(struct sse *s, size_t max_bytes)
{
	*s = (struct sse){.line = BUF_INIT(max_bytes), .data = BUF_INIT(max_bytes), .name = BUF_INIT(NAME_MAX_BYTES)};
}

void sse_release(struct sse *s)
{
	buf_release(&s->line);
	buf_release(&s->data);
	buf_release(&s->name);
}

void sse_restart(struct sse *s)
{
	buf_trim(&s->line, KEEP_BYTES);
	buf_trim(&s->data, KEEP_BYTES);
	buf_trim(&s->name, KEEP_BYTES);
	s->begun = s->after_cr = false;
}

static void dispatch(struct sse *s, sse_event_fn *event, void *ctx)
{
	if (s->data.len > 1 && !s->data.failed) /* more than the LF of an empty line */
		event(ctx, (struct span){s->data.ptr, s->data.len - 1}, buf_cstr(&s->name));
	buf_clear(&s->data);
	buf_clear(&s->name);
}

static bool is_field(struct span line, const char *name, struct span *value)
{
	size_t n = strlen(name);

	if (line.len < n || memcmp(line.ptr, name, n) != 0 || (line.len > n && line.ptr[n] != ':'))
		return false;
	n += line.len > n;
	n += line.len > n && line.ptr[n] == ' ';
	*value = (struct span){line.ptr + n, line.len - n};
	return true;
}

static void take_line(struct sse *s, struct span line, sse_event_fn *event, void *ctx)
{
	struct span value;

	if (line.len == 0) {
		dispatch(s, event, ctx);
	} else if (is_field(line, "data", &value)) {
		buf_add(&s->data, value.ptr, value.len);
		buf_char(&s->data, '\n');
	} else if (is_field(line, "event", &value)) {
		buf_clear(&s->name);
		buf_add(&s->name, value.ptr, value.len < NAME_MAX_BYTES ? value.len : NAME_MAX_BYTES - 1);
	}
}

/* The mark may come byte by byte too. */
static struct span without_bom(struct sse *s, struct span line)
{
	bool first = !s->begun;

	s->begun = true;
	if (first && line.len >= 3 && memcmp(line.ptr, BOM, 3) == 0)
		return (struct span){line.ptr + 3, line.len - 3};
	return line;
}

int sse_feed(struct sse *s, const char *bytes, size_t n, sse_event_fn *event, void *ctx)
{
	const char *end = bytes + n;

	while (bytes < end) {
		const char *stop = bytes;
		struct span line;

		if (s->after_cr && *bytes == '\n')
			bytes++, stop++;
		s->after_cr = false;
		while (stop < end && *stop != '\n' && *stop != '\r')
			stop++;
		if (stop == end || s->line.len > 0) {
			buf_add(&s->line, bytes, (size_t)(stop - bytes));
			line = (struct span){buf_cstr(&s->line), s->line.len};
		} else {
			line = (struct span){bytes, (size_t)(stop - bytes)};
		}
		if (s->line.failed)
			return -1;
		if (stop == end)
			return 0;
		s->after_cr = *stop == '\r';
		take_line(s, without_bom(s, line), event, ctx);
		buf_clear(&s->line);
		if (s->data.failed)
			return -1;
		bytes = stop + 1;
	}
	return 0;
}

void sse_end(struct sse *s, sse_event_fn *event, void *ctx)
{
	if (s->line.len > 0 && !s->line.failed)
		take_line(s, without_bom(s, (struct span){s->line.ptr, s->line.len}), event, ctx);
	buf_clear(&s->line);
	dispatch(s, event, ctx);
}
