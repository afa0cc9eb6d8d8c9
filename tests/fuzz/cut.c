/* SPDX-License-Identifier: MIT
 *
 * Text in pieces. The input's first byte is the limit, less one; the rest is the text, repaired where it is no UTF-8. */
#include "fuzz.h"

#include "base/buf.h"
#include "base/utf8.h"
#include "text/cut.h"
#include "text/grapheme.h"

/* Borders are found in the whole text, from its beginning. */
struct walk {
	struct span text;
	size_t at, last_points; /* a border, and how long the grapheme before it is */
};

static bool may_cut(struct walk *w, size_t at, size_t max)
{
	while (w->at < at) {
		struct grapheme g = grapheme_first(w->text.ptr + w->at, w->text.len - w->at);

		w->at += g.bytes;
		w->last_points = g.points;
	}
	return w->at == at || w->last_points > max;
}

static bool all_white(struct span s)
{
	for (size_t at = 0; at < s.len;) {
		struct grapheme g = grapheme_first(s.ptr + at, s.len - at);

		if (!grapheme_is_white(g))
			return false;
		at += g.bytes;
	}
	return true;
}

static void check(const struct cut *c, struct span text, size_t max)
{
	struct buf joined = BUF_INIT(SIZE_MAX / 4);
	struct walk w = {.text = text};

	for (size_t i = 0; i < c->count; i++) {
		struct span glue = cut_glue(c, i), piece = c->pieces[i];

		must(all_white(glue));
		buf_add(&joined, glue.ptr, glue.len);
		must(may_cut(&w, joined.len, max));
		must(piece.len > 0 && utf8_valid(piece.ptr, piece.len) && utf8_count(piece.ptr, piece.len) <= max);
		buf_add(&joined, piece.ptr, piece.len);
		must(may_cut(&w, joined.len, max));
	}
	must(all_white(cut_glue(c, c->count)));
	buf_add(&joined, cut_glue(c, c->count).ptr, cut_glue(c, c->count).len);
	must(same((struct span){buf_cstr(&joined), joined.len}, text));
	buf_release(&joined);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t max = size ? (size_t)data[0] + 1 : 1;
	struct buf repaired = BUF_INIT(SIZE_MAX / 4);
	struct error err = {0};
	struct cut c;
	char *exact;

	utf8_repair(&repaired, (const char *)data + 1, size ? size - 1 : 0);
	exact = malloc(repaired.len + 1);
	must(exact);
	memcpy(exact, buf_cstr(&repaired), repaired.len);
	must(cut_text(exact, repaired.len, max, &c, &err) == 0);
	if (utf8_count(exact, repaired.len) <= max)
		must(c.count == 1 && same(c.pieces[0], c.text));
	else
		check(&c, (struct span){exact, repaired.len}, max);
	cut_release(&c);
	free(exact);
	buf_release(&repaired);
	return 0;
}
