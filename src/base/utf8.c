/* SPDX-License-Identifier: MIT */
#include "base/utf8.h"

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

size_t utf8_bad(const char *s, size_t n)
{
	char whole[4] = {s[0], '\x80', '\x80', '\x80'};
	size_t len = 1;

	/* Broken off is what continuation bytes would make whole. */
	while (len < 3 && len < n) {
		whole[len] = s[len];
		if (utf8_step(whole, sizeof whole) == 0)
			break;
		len++;
	}
	return len;
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

size_t utf8_count(const char *s, size_t n)
{
	size_t points = 0;

	for (size_t i = 0; i < n; points++) {
		size_t step = (unsigned char)s[i] < 0x80 ? 1 : utf8_step(s + i, n - i);

		i += step ? step : utf8_bad(s + i, n - i);
	}
	return points;
}

void utf8_repair(struct buf *out, const char *s, size_t n)
{
	size_t plain = 0, i = 0;

	while (i < n) {
		size_t step = utf8_step(s + i, n - i);

		if (step > 0) {
			i += step;
			continue;
		}
		buf_add(out, s + plain, i - plain);
		buf_lit(out, UTF8_REPLACEMENT);
		i += utf8_bad(s + i, n - i);
		plain = i;
	}
	buf_add(out, s + plain, i - plain);
}

size_t utf8_cut(const char *s, size_t n, size_t max_bytes)
{
	if (n <= max_bytes)
		return n;
	/* Only a whole sequence around the cut moves it: bytes that belong to none may be cut anywhere. */
	for (size_t back = 1; back <= 3 && back <= max_bytes; back++)
		if (utf8_step(s + max_bytes - back, n - max_bytes + back) > back)
			return max_bytes - back;
	return max_bytes;
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
			if (step == 0 || s[i] == '\0') /* a NUL would end the message for who prints it */
				buf_lit(&whole, UTF8_REPLACEMENT);
			else
				buf_add(&whole, s + i, step);
			i += step ? step : utf8_bad(s + i, n - i);
		}
		points++;
	}
	buf_add(out, buf_cstr(&whole), whole.len);
	buf_release(&whole);
}
