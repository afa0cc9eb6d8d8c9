/* SPDX-License-Identifier: MIT */
#include "text/grapheme.h"

#include <utf8proc.h>

#include "base/utf8.h"

static size_t decode(const char *s, size_t n, int32_t *point)
{
	static const unsigned char lead_mask[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
	size_t step;

	if ((unsigned char)s[0] < 0x80) { /* most of most texts */
		*point = (unsigned char)s[0];
		return 1;
	}
	step = utf8_step(s, n);
	if (step == 0) {
		*point = 0xfffd;
		return utf8_bad(s, n);
	}
	*point = (unsigned char)s[0] & lead_mask[step];
	for (size_t i = 1; i < step; i++)
		*point = *point << 6 | ((unsigned char)s[i] & 0x3f);
	return step;
}

struct grapheme grapheme_first(const char *s, size_t n)
{
	struct grapheme g = {.points = 1};
	utf8proc_int32_t state = 0;
	int32_t last, next;

	g.bytes = decode(s, n, &g.first);
	for (last = g.first; g.bytes < n; last = next) {
		size_t step = decode(s + g.bytes, n - g.bytes, &next);

		/* Plain text is mostly ASCII, where only CRLF sticks together. */
		if (last < 0x80 && next < 0x80 && last != '\r')
			break;
		if (utf8proc_grapheme_break_stateful(last, next, &state))
			break;
		g.bytes += step;
		g.points++;
	}
	return g;
}

/* Unicode's White_Space. */
static bool is_white(int32_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r') || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool grapheme_is_white(struct grapheme g)
{
	/* Nothing but a line feed sticks to a carriage return. */
	return is_white(g.first) && (g.points == 1 || g.first == '\r');
}

bool grapheme_is_newline(struct grapheme g)
{
	int32_t c = g.first;

	return grapheme_is_white(g) && ((c >= '\n' && c <= '\r') || c == 0x85 || c == 0x2028 || c == 0x2029);
}
