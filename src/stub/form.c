/* SPDX-License-Identifier: MIT
 *
 * See form.h. */
#include "stub/form.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define BORDER_MAX 70 /* RFC 2046 */
#define MIME "multipart/form-data"

bool form_is(const char *content_type)
{
	return content_type && strncasecmp(content_type, MIME, sizeof MIME - 1) == 0;
}

/* "\r\n--" and the boundary, as it stands between two parts. */
static bool read_border(const char *content_type, char border[BORDER_MAX + 5])
{
	const char *at = form_is(content_type) ? strcasestr(content_type, "boundary=") : NULL;
	size_t n;

	if (!at)
		return false;
	at += sizeof "boundary=" - 1;
	n = *at == '"' ? strcspn(++at, "\"") : strcspn(at, "; ");
	if (n == 0 || n > BORDER_MAX)
		return false;
	snprintf(border, BORDER_MAX + 5, "\r\n--%.*s", (int)n, at);
	return true;
}

static bool begins(struct span line, const char *name)
{
	return line.len >= strlen(name) && strncasecmp(line.ptr, name, strlen(name)) == 0;
}

/* The value of name="…" among what a line says behind its first semicolon. */
static struct span parameter(struct span line, const char *name)
{
	const char *end = line.ptr + line.len, *at = memchr(line.ptr, ';', line.len);
	size_t n = strlen(name);

	while (at && ++at < end) {
		const char *equals, *quote;

		at += strspn(at, " ");
		equals = memchr(at, '=', (size_t)(end - at));
		if (!equals || equals + 1 >= end || equals[1] != '"')
			break;
		quote = equals + 2;
		while (quote < end && *quote != '"')
			quote += *quote == '\\' && quote + 1 < end ? 2 : 1;
		if (quote >= end)
			break;
		if ((size_t)(equals - at) == n && memcmp(at, name, n) == 0)
			return (struct span){equals + 2, (size_t)(quote - equals - 2)};
		at = memchr(quote, ';', (size_t)(end - quote));
	}
	return (struct span){0};
}

static void read_line(struct form_part *part, struct span line)
{
	if (begins(line, "Content-Disposition: form-data")) {
		part->name = parameter(line, "name");
		part->file = parameter(line, "filename");
	} else if (begins(line, "Content-Type: ")) {
		part->type = (struct span){line.ptr + 14, line.len - 14};
	}
}

/* Where the part's bytes begin, or NULL. */
static const char *read_head(struct form_part *part, const char *at, const char *end)
{
	for (;;) {
		const char *stop = memmem(at, (size_t)(end - at), "\r\n", 2);

		if (!stop)
			return NULL;
		if (stop == at)
			return at + 2;
		if (!memchr(at, ':', (size_t)(stop - at)))
			return NULL;
		read_line(part, (struct span){at, (size_t)(stop - at)});
		at = stop + 2;
	}
}

bool form_parse(struct form *f, const char *content_type, const char *body, size_t len)
{
	char border[BORDER_MAX + 5];
	const char *at = body, *end = body + len;
	size_t n;

	f->n = 0;
	if (!read_border(content_type, border))
		return false;
	n = strlen(border);
	if (len < n - 2 || memcmp(at, border + 2, n - 2) != 0)
		return false;
	for (at += n - 2; end - at >= 2 && memcmp(at, "\r\n", 2) == 0;) {
		struct form_part *part = &f->parts[f->n];
		const char *stop;

		if (f->n == FORM_PARTS_MAX)
			return false;
		*part = (struct form_part){0};
		at = read_head(part, at + 2, end);
		/* The border's line end may be that of the head where nothing stands between them. */
		stop = at ? memmem(at - 2, (size_t)(end - at + 2), border, n) : NULL;
		if (!stop || !part->name.ptr)
			return false;
		part->bytes = (struct span){at, stop > at ? (size_t)(stop - at) : 0};
		f->n++;
		at = stop + n;
	}
	return end - at >= 2 && memcmp(at, "--", 2) == 0;
}

const struct form_part *form_find(const struct form *f, const char *name)
{
	for (size_t i = 0; i < f->n; i++)
		if (f->parts[i].name.len == strlen(name) &&
		    memcmp(f->parts[i].name.ptr, name, f->parts[i].name.len) == 0)
			return &f->parts[i];
	return NULL;
}
