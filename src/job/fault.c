/* SPDX-License-Identifier: MIT */
#include "job/fault.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define FAULT_PART_MAX (64 * 1024) /* of what a server says: more is cut, never refused */

void fault_init(struct fault *f)
{
	*f = (struct fault){
		.type = "APIError",
		.message = BUF_INIT(4 * FAULT_MESSAGE_MAX),
		.code = BUF_INIT(FAULT_PART_MAX),
		.details = BUF_INIT(FAULT_PART_MAX),
		.activity_id = BUF_INIT(FAULT_PART_MAX),
	};
}

void fault_release(struct fault *f)
{
	buf_release(&f->message);
	buf_release(&f->code);
	buf_release(&f->details);
	buf_release(&f->activity_id);
}

void fault_set(struct fault *f, const char *type, int status_code, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	f->type = type;
	f->status_code = status_code;
	f->retryable = false;
	buf_clear(&f->message);
	buf_clear(&f->code);
	buf_clear(&f->details);
	buf_clear(&f->activity_id);
	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n >= 0) {
		size_t len = (size_t)n < f->message.max ? (size_t)n : f->message.max - 1;

		if (buf_reserve(&f->message, len)) {
			vsnprintf(f->message.ptr, len + 1, fmt, again);
			f->message.len = len;
		}
	}
	va_end(again);
	va_end(ap);
}

static void text_or_null(struct buf *out, const struct buf *b)
{
	if (b->len > 0)
		buf_json_string(out, b->ptr, b->len);
	else
		buf_lit(out, "null");
}

void fault_json(const struct fault *f, struct buf *out)
{
	buf_lit(out, "{\"type\":");
	buf_json_cstr(out, f->type);
	buf_lit(out, ",\"message\":");
	buf_json_string(out, buf_cstr(&f->message), utf8_cut(buf_cstr(&f->message), f->message.len, FAULT_MESSAGE_MAX));
	buf_lit(out, ",\"status_code\":");
	buf_int(out, f->status_code);
	buf_lit(out, ",\"code\":");
	text_or_null(out, &f->code);
	buf_lit(out, ",\"details\":");
	/* What overflowed its bound would be cut JSON. */
	if (f->details.len > 0 && !f->details.failed)
		buf_add(out, f->details.ptr, f->details.len);
	else
		buf_lit(out, "[]");
	buf_lit(out, ",\"activity_id\":");
	text_or_null(out, &f->activity_id);
	buf_str_add(out, f->retryable ? ",\"retryable\":true,\"service\":" : ",\"retryable\":false,\"service\":");
	buf_json_cstr(out, f->service);
	buf_char(out, '}');
}
