/* SPDX-License-Identifier: MIT
 *
 * See pick.h. */
#include "base/pick.h"

#include <string.h>

struct wants {
	struct want *want;
	size_t n;
};

static void collect(void *ctx, struct span key, struct span value)
{
	struct wants *w = ctx;

	for (size_t i = 0; i < w->n; i++)
		if (json_key_is(key, w->want[i].name))
			w->want[i].value = value;
}

int pick(struct span v, struct want *want, size_t n)
{
	struct wants w = {want, n};
	enum json_type type = JSON_NULL;
	enum json_verdict verdict = json_scan(v.ptr, v.len, &type, collect, &w);

	for (size_t i = 0; i < n; i++)
		if (want[i].value.ptr && json_span_type(want[i].value) == JSON_NULL)
			want[i].value = (struct span){0};
	/* What holds a job of the greatest depth is one level deeper itself. */
	return (verdict == JSON_OK || verdict == JSON_TOO_DEEP) && type == JSON_OBJECT ? 0 : -1;
}

bool pick_text(struct span v, char *out, size_t max)
{
	struct buf text = BUF_INIT(max);
	bool fits = v.ptr && json_span_type(v) == JSON_STRING && !json_span_has_nul(v) && json_span_string(v, &text) &&
		    !text.failed;

	out[0] = '\0';
	if (fits)
		memcpy(out, buf_cstr(&text), text.len + 1);
	buf_release(&text);
	return fits;
}

const char *pick_readable(struct span v, struct buf *out)
{
	buf_clear(out);
	if (v.ptr && (json_span_type(v) != JSON_STRING || !json_span_string(v, out)))
		buf_add(out, v.ptr, v.len);
	return buf_cstr(out);
}
