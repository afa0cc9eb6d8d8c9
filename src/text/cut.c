/* SPDX-License-Identifier: MIT */
#include "text/cut.h"

#include <stdlib.h>
#include <utf8proc.h>

#include "base/utf8.h"
#include "text/grapheme.h"

#define ELLIPSIS 0x2026

struct run {
	size_t bytes, points;
	bool newline;
};

/* The white space at s; none: all zero. */
static struct run white_run(const char *s, size_t n)
{
	struct run run = {0};

	while (run.bytes < n) {
		struct grapheme g = grapheme_first(s + run.bytes, n - run.bytes);

		if (!grapheme_is_white(g))
			break;
		run.newline = run.newline || grapheme_is_newline(g);
		run.bytes += g.bytes;
		run.points += g.points;
	}
	return run;
}

static bool ends_sentence(int32_t c)
{
	return c == '.' || c == '!' || c == '?' || c == ELLIPSIS;
}

/* Languages differ about which quote opens and which closes; behind a full stop none opens. */
static bool closes(int32_t c)
{
	utf8proc_category_t category = utf8proc_category(c);

	return c == '"' || c == '\'' || category == UTF8PROC_CATEGORY_PE || category == UTF8PROC_CATEGORY_PF ||
	       category == UTF8PROC_CATEGORY_PI;
}

/* Length in bytes of at most max_points code points; *points is how many they are. */
static size_t points_length(const char *s, size_t n, size_t max_points, size_t *points)
{
	size_t at = 0;

	for (*points = 0; at < n && *points < max_points; ++*points) {
		size_t step = utf8_step(s + at, n - at);

		at += step ? step : utf8_bad(s + at, n - at);
	}
	return at;
}

/* Length in bytes of the piece that begins at s: with the rest of a grapheme that the last cut had to break (*rest bytes, told anew for
 * the next piece), else with no white space. Borders found from within a grapheme could be wrong, so its whole length is kept.
 *
 * What lies between the returned length and the limit is looked at again for the next piece, but not for many more: the sentence that did
 * not fit begins the next piece, the word in it that did not fit the one after that, and the grapheme in that word the next. */
static size_t piece_length(const char *s, size_t n, size_t max_points, size_t *rest)
{
	size_t points, at = points_length(s, *rest, max_points, &points), end = at, sentence = 0, word = 0, whole = 0;
	bool ended = false;

	*rest -= at;
	if (*rest > 0)
		return at;
	while (at < n) {
		struct grapheme g = grapheme_first(s + at, n - at);

		if (grapheme_is_white(g)) {
			struct run run = white_run(s + at, n - at);

			word = at;
			if (ended || run.newline || at + run.bytes == n)
				sentence = at;
			if (run.points > max_points - points)
				break;
			ended = false;
			at += run.bytes;
			points += run.points;
		} else {
			whole = g.bytes; /* what the cut has to break, should it be the first */
			if (g.points > max_points - points)
				break;
			ended = ends_sentence(g.first) || (ended && closes(g.first));
			end = at += g.bytes;
			points += g.points;
		}
	}
	if (at == n)
		return end;
	if (sentence > 0 || word > 0)
		return sentence > 0 ? sentence : word;
	if (end > 0)
		return end;
	at = points_length(s, whole, max_points, &points);
	*rest = whole - at;
	return at;
}

static int add_piece(struct cut *c, size_t *room, const char *s, size_t n, struct error *err)
{
	if (c->count == *room) {
		size_t more = *room ? *room * 2 : 16;
		struct span *pieces = realloc(c->pieces, more * sizeof *pieces);

		if (!pieces)
			return error_set(err, ERR_MEMORY, "no memory for the pieces of a text");
		c->pieces = pieces;
		*room = more;
	}
	c->pieces[c->count++] = (struct span){s, n};
	return 0;
}

int cut_text(const char *text, size_t n, size_t max_points, struct cut *out, struct error *err)
{
	size_t room = 0, rest = 0, at;

	*out = (struct cut){.text = {text, n}};
	if (max_points == 0)
		max_points = 1;
	if (utf8_count(text, n) <= max_points)
		return add_piece(out, &room, text, n, err);
	for (at = white_run(text, n).bytes; at < n;) {
		size_t length = piece_length(text + at, n - at, max_points, &rest);

		if (add_piece(out, &room, text + at, length, err)) {
			cut_release(out);
			return -1;
		}
		at += length;
		if (rest == 0)
			at += white_run(text + at, n - at).bytes;
	}
	return 0;
}

struct span cut_glue(const struct cut *c, size_t i)
{
	const char *from = i > 0 ? c->pieces[i - 1].ptr + c->pieces[i - 1].len : c->text.ptr;
	const char *to = i < c->count ? c->pieces[i].ptr : c->text.ptr + c->text.len;

	return (struct span){from, (size_t)(to - from)};
}

void cut_release(struct cut *c)
{
	free(c->pieces);
	*c = (struct cut){0};
}
