/* SPDX-License-Identifier: MIT */
#include "base/units.h"

#include <string.h>

#define COUNT_MAX (1LL << 53)

const char *const unit_names[UNITS] = {
	[UNIT_REQUEST] = "request",
	[UNIT_CHARACTER] = "character",
	[UNIT_AUDIO_SECOND] = "audio_second",
	[UNIT_TOKEN] = "token",
};

void units_add(struct units *to, const struct units *more)
{
	for (int i = 0; i < UNITS; i++)
		to->n[i] += more->n[i];
}

void units_json(const struct units *u, struct buf *out)
{
	bool any = false;

	buf_char(out, '{');
	for (int i = 0; i < UNITS; i++) {
		if (u->n[i] == 0)
			continue;
		buf_str_add(out, any ? ",\"" : "\"");
		buf_str_add(out, unit_names[i]);
		buf_lit(out, "\":");
		buf_int(out, u->n[i]);
		any = true;
	}
	buf_char(out, '}');
}

static void read_member(void *ctx, struct span key, struct span value)
{
	struct units *u = ctx;
	int64_t n;

	for (int i = 0; i < UNITS; i++)
		if (json_key_is(key, unit_names[i]) && json_span_type(value) == JSON_NUMBER &&
		    json_span_int(value, &n) && n >= 0 && n <= COUNT_MAX)
			u->n[i] = n;
}

void units_read(struct units *u, struct span object)
{
	*u = (struct units){0};
	if (object.ptr && json_span_type(object) == JSON_OBJECT)
		json_scan(object.ptr, object.len, NULL, read_member, u);
}
