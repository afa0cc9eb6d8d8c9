/* SPDX-License-Identifier: MIT
 *
 * See buf.h. Results and requests are built here, so the writers avoid printf and copy runs of plain bytes whole. */
#include "base/buf.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define CAP_FIRST 256
#define INT_LIMIT 9e18 /* below this a double fits int64_t */

void buf_release(struct buf *b)
{
	free(b->ptr);
	*b = BUF_INIT(b->max);
}

void buf_clear(struct buf *b)
{
	b->len = 0;
	b->failed = false;
	if (b->ptr)
		b->ptr[0] = '\0';
}

void buf_trim(struct buf *b, size_t keep_bytes)
{
	if (b->cap > keep_bytes)
		buf_release(b);
	else
		buf_clear(b);
}

void buf_cut(struct buf *b, size_t len)
{
	if (len >= b->len)
		return;
	b->len = len;
	b->ptr[len] = '\0';
}

char *buf_steal(struct buf *b)
{
	char *p = b->ptr;

	*b = BUF_INIT(b->max);
	return p;
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t cap = b->cap ? b->cap : CAP_FIRST;
	char *p;

	if (b->failed || n > b->max || b->len > b->max - n) {
		b->failed = true;
		return NULL;
	}
	if (b->len + n < b->cap)
		return b->ptr + b->len;
	while (cap < b->len + n + 1)
		cap += cap / 2;
	if (cap > b->max + 1)
		cap = b->max + 1;
	p = realloc(b->ptr, cap);
	if (!p) {
		b->failed = true;
		return NULL;
	}
	b->ptr = p;
	b->cap = cap;
	b->ptr[b->len] = '\0';
	return b->ptr + b->len;
}

void buf_str_add(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s));
}

void buf_char(struct buf *b, char c)
{
	buf_add(b, &c, 1);
}

void buf_int(struct buf *b, int64_t n)
{
	char digits[24];
	size_t i = sizeof digits;
	uint64_t u = n < 0 ? 0 - (uint64_t)n : (uint64_t)n;

	do
		digits[--i] = (char)('0' + u % 10);
	while ((u /= 10) > 0);
	if (n < 0)
		digits[--i] = '-';
	buf_add(b, digits + i, sizeof digits - i);
}

void buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	if (n < 0) {
		b->failed = true;
	} else if (buf_reserve(b, (size_t)n)) {
		vsnprintf(b->ptr + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
	va_end(ap);
}

const char *buf_cstr(const struct buf *b)
{
	return b->ptr && b->len > 0 ? b->ptr : "";
}

static void add_escape(struct buf *b, unsigned char c)
{
	static const char hex[] = "0123456789abcdef";
	char u[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};

	switch (c) {
	case '"':
		buf_lit(b, "\\\"");
		break;
	case '\\':
		buf_lit(b, "\\\\");
		break;
	case '\n':
		buf_lit(b, "\\n");
		break;
	case '\r':
		buf_lit(b, "\\r");
		break;
	case '\t':
		buf_lit(b, "\\t");
		break;
	default:
		buf_add(b, u, sizeof u);
	}
}

void buf_json_string(struct buf *b, const char *s, size_t n)
{
	size_t plain = 0, i = 0;

	buf_char(b, '"');
	while (i < n) {
		unsigned char c = (unsigned char)s[i];
		size_t step = c < 0x80 ? 1 : utf8_step(s + i, n - i);

		if (step > 0 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
			i += step;
			continue;
		}
		buf_add(b, s + plain, i - plain);
		if (step == 0)
			buf_lit(b, UTF8_REPLACEMENT);
		else
			add_escape(b, c);
		i += step ? step : utf8_bad(s + i, n - i);
		plain = i;
	}
	buf_add(b, s + plain, i - plain);
	buf_char(b, '"');
}

void buf_json_cstr(struct buf *b, const char *s)
{
	if (s)
		buf_json_string(b, s, strlen(s));
	else
		buf_lit(b, "null");
}

void buf_json_double(struct buf *b, double d, int decimals)
{
	int64_t scale = 1, behind;
	double whole, fraction = modf(fabs(d), &whole);

	if (!isfinite(d)) {
		buf_lit(b, "null");
		return;
	}
	for (int i = 0; i < decimals; i++)
		scale *= 10;
	behind = (int64_t)round(fraction * (double)scale);
	whole += behind == scale;
	behind %= scale;
	if (d < 0 && (whole > 0 || behind > 0))
		buf_char(b, '-');
	if (whole < INT_LIMIT)
		buf_int(b, (int64_t)whole);
	else
		buf_printf(b, "%.0f", whole);
	if (behind == 0)
		return;
	buf_char(b, '.');
	for (int64_t at = scale / 10; behind > 0; at /= 10) {
		buf_char(b, (char)('0' + behind / at));
		behind %= at;
	}
}
