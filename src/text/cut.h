/* SPDX-License-Identifier: MIT
 *
 * Long text in pieces that an API takes, cut where a sentence ends.
 *
 * A sentence ends after . ! ? or … (closing quotes and brackets may follow) where white space follows, at white space that holds a newline,
 * and with the text. A piece takes as many whole sentences as fit. A sentence longer than the limit is cut at its last white space within
 * the limit; where it has none, at the limit, but never inside a grapheme, unless that alone is longer than the limit: then between two
 * code points.
 *
 * White space at a cut belongs to no piece; it is kept as glue. Glue 0, piece 0, glue 1, piece 1, … glue count are the text, byte for byte:
 * with other texts in place of the pieces its paragraphs are kept. Inside a piece nothing changes. Text that does not exceed the limit is
 * one piece as it is, even when it is empty or white space; longer white space without text is all glue, no piece.
 *
 * Pure; takes time linear in n, whatever the text. */
#ifndef ADWUMA_TEXT_CUT_H
#define ADWUMA_TEXT_CUT_H

#include <stddef.h>

#include "base/err.h"
#include "base/json.h"

struct cut {
	struct span text;    /* borrowed from the caller, who keeps it as long as the pieces are looked at */
	struct span *pieces; /* parts of the text, in order */
	size_t count;
};

/* text: n bytes of valid UTF-8 (each part that is none counts as a code point). max_points: the limit in code points; 0 counts as 1.
 * Fails (ERR_MEMORY) for want of memory only; *out is then empty. Otherwise *out is released with cut_release(). */
int cut_text(const char *text, size_t n, size_t max_points, struct cut *out, struct error *err);
struct span cut_glue(const struct cut *c,
		     size_t i);	 /* what stands before piece i; i == count: behind the last; often empty */
void cut_release(struct cut *c); /* frees; *c is empty */

#endif
