/* SPDX-License-Identifier: MIT
 *
 * What a reader sees as one character (an extended grapheme cluster of UAX 29): a letter with its accents, a flag, a CRLF. Pure. */
#ifndef ADWUMA_TEXT_GRAPHEME_H
#define ADWUMA_TEXT_GRAPHEME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct grapheme {
	size_t bytes, points; /* its length, in bytes and in code points */
	int32_t first;	      /* its first code point */
};

/* The grapheme that begins at s (n > 0 bytes left; s is the text's start or a border between graphemes). What is no UTF-8 counts as U+FFFD,
 * one for each bad part. Takes time linear in the grapheme's length, which has no bound. */
struct grapheme grapheme_first(const char *s, size_t n);

/* White space and nothing else: a space that carries an accent is none. No-break spaces count too, as for the API that trims them. */
bool grapheme_is_white(struct grapheme g);
bool grapheme_is_newline(struct grapheme g); /* white space that ends a line */

#endif
