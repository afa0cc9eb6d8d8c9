/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

#include <string.h>

static bool tail(const char *s, size_t i)
{
	return ((unsigned char)s[i] & 0xc0) == 0x80;
}

/* The table of well-formed sequences of the Unicode standard (3-7): the second byte's range depends on the first. */
size_t utf8_step(const char *s, size_t n)
{
	unsigned char a = n > 0 ? (unsigned char)s[0] : 0, b = n > 1 ? (unsigned char)s[1] : 0;

	if (n == 0)
		return 0;
	if (a < 0x80)
		return 1;
	if (a >= 0xc2 && a <= 0xdf)
		return n > 1 && tail(s, 1) ? 2 : 0;
	if (a >= 0xe0 && a <= 0xef) {
		unsigned char low = a == 0xe0 ? 0xa0 : 0x80, high = a == 0xed ? 0x9f : 0xbf;

		return n > 2 && b >= low && b <= high && tail(s, 2) ? 3 : 0;
	}
	if (a >= 0xf0 && a <= 0xf4) {
		unsigned char low = a == 0xf0 ? 0x90 : 0x80, high = a == 0xf4 ? 0x8f : 0xbf;

		return n > 3 && b >= low && b <= high && tail(s, 2) && tail(s, 3) ? 4 : 0;
	}
	return 0;
}

bool utf8_valid(const char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t step = (unsigned char)s[i] < 0x80 ? 1 : utf8_step(s + i, n - i);

		if (step == 0)
			return false;
		i += step;
	}
	return true;
}

void utf8_repair(struct buf *out, const char *s, size_t n)
{
	bool bad = false;

	for (size_t i = 0; i < n;) {
		size_t step = utf8_step(s + i, n - i);

		if (step > 0) {
			buf_add(out, s + i, step);
			i += step;
			bad = false;
			continue;
		}
		/* Continuation bytes of a broken sequence belong to the same fault. */
		if (!bad || !tail(s, i))
			buf_lit(out, "\xef\xbf\xbd");
		bad = true;
		i++;
	}
}

size_t utf8_cut(const char *s, size_t n, size_t max_bytes)
{
	size_t len = n < max_bytes ? n : max_bytes;

	while (len > 0 && len < n && tail(s, len))
		len--;
	return len;
}

static bool is_space(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

void utf8_snippet(struct buf *out, const char *s, size_t n, size_t max_points)
{
	struct buf whole = BUF_INIT(max_points * 4 + 8);
	size_t points = 0;

	for (size_t i = 0; i < n && points < max_points;) {
		size_t step = utf8_step(s + i, n - i);

		if (is_space(s[i])) {
			while (i < n && is_space(s[i]))
				i++;
			if (whole.len == 0 || i == n)
				continue;
			buf_char(&whole, ' ');
		} else {
			if (step == 0)
				buf_lit(&whole, "\xef\xbf\xbd");
			else
				buf_add(&whole, s + i, step);
			i += step ? step : 1;
		}
		points++;
	}
	buf_add(out, buf_cstr(&whole), whole.len);
	buf_release(&whole);
}
