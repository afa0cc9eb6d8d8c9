/* SPDX-License-Identifier: MIT
 *
 * See answer.h. */
#include "api/answer.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"

#define TITLE_POINTS (FAULT_MESSAGE_MAX / 4) /* whole, as in the Khaya SDK, while a message holds it */
#define RETRY_AFTER_MAX_S 3600.0

struct span answer_trimmed(const struct buf *b)
{
	struct span s = {buf_cstr(b), b->len};

	if (s.len >= 3 && memcmp(s.ptr, "\xef\xbb\xbf", 3) == 0)
		s = (struct span){s.ptr + 3, s.len - 3};
	while (s.len > 0 && memchr(" \t\r\n", s.ptr[0], 4))
		s = (struct span){s.ptr + 1, s.len - 1};
	while (s.len > 0 && memchr(" \t\r\n", s.ptr[s.len - 1], 4))
		s.len--;
	return s;
}

void answer_add_cut(struct buf *to, const char *s, size_t n)
{
	buf_add(to, s, utf8_cut(s, n, FAULT_MESSAGE_MAX));
}

void answer_set_text(struct buf *to, const struct json *j)
{
	const char *s = json_text(j);
	double n;

	buf_clear(to);
	if (s)
		answer_add_cut(to, s, strlen(s));
	else if (json_double(j, &n))
		buf_printf(to, "%.15g", n);
}

static const char *find_nocase(const char *s, size_t n, const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; i + len <= n; i++)
		if (strncasecmp(s + i, word, len) == 0)
			return s + i;
	return NULL;
}

static bool page_title(const struct buf *body, struct buf *title)
{
	const char *s = buf_cstr(body), *end = s + body->len, *open = find_nocase(s, body->len, "<title"), *close;

	if (open)
		open = memchr(open, '>', (size_t)(end - open));
	close = open ? find_nocase(open, (size_t)(end - open), "</title>") : NULL;
	if (close)
		utf8_snippet(title, open + 1, (size_t)(close - open - 1), TITLE_POINTS);
	return title->len > 0;
}

void answer_say_page(struct fault *f, const struct http_response *resp)
{
	struct buf text = BUF_INIT(TITLE_POINTS * 4);

	buf_clear(&f->message);
	buf_printf(&f->message, "HTTP %ld", resp->status);
	if (page_title(&resp->body, &text)) {
		buf_printf(&f->message, ": %s (non-JSON response from the API gateway)", text.ptr);
	} else {
		utf8_snippet(&text, buf_cstr(&resp->body), resp->body.len, SNIPPET_POINTS);
		if (text.len > 0)
			buf_printf(&f->message, ": %s", text.ptr);
	}
	buf_release(&text);
}

int64_t answer_retry_after_ms(const char *header)
{
	char *end;
	double s;

	while (isspace((unsigned char)*header))
		header++;
	if (!isdigit((unsigned char)*header) && !strchr("+-.iI", *header))
		return RETRY_AFTER_NONE;
	if (!*header || strpbrk(header, "xX"))
		return RETRY_AFTER_NONE;
	s = strtod(header, &end);
	while (isspace((unsigned char)*end))
		end++;
	if (*end || isnan(s))
		return RETRY_AFTER_NONE;
	return (int64_t)(fmin(fmax(s, 0.0), RETRY_AFTER_MAX_S) * 1000.0);
}
