/* SPDX-License-Identifier: MIT
 *
 * UTF-8 as far as we need it: check, repair, count. Pure. */
#ifndef ADWUMA_BASE_UTF8_H
#define ADWUMA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define UTF8_REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */

/* Length of the valid sequence at s (n > 0 bytes left), 0 when there is none. */
size_t utf8_step(const char *s, size_t n);
/* Length of the bad part at s (n > 0 bytes left, no valid sequence begins there): a sequence broken off counts as one part, any other
 * byte by itself. So do the Unicode standard, Python and browsers. */
size_t utf8_bad(const char *s, size_t n);
bool utf8_valid(const char *s, size_t n);
size_t utf8_count(const char *s, size_t n);		    /* code points; each bad part counts as one */
void utf8_repair(struct buf *out, const char *s, size_t n); /* each bad part becomes one U+FFFD */
size_t utf8_cut(const char *s, size_t n, size_t max_bytes); /* largest length <= max_bytes that splits no sequence */
/* Runs of white space become one space, ends are trimmed, at most max_points code points. */
void utf8_snippet(struct buf *out, const char *s, size_t n, size_t max_points);

#endif
