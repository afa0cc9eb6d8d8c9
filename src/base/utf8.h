/* SPDX-License-Identifier: MIT
 *
 * UTF-8 as far as we need it: check, repair, count. Pure. */
#ifndef ADWUMA_BASE_UTF8_H
#define ADWUMA_BASE_UTF8_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

/* Length of the valid sequence at s (n > 0 bytes left), 0 when there is none. */
size_t utf8_step(const char *s, size_t n);
bool utf8_valid(const char *s, size_t n);
void utf8_repair(struct buf *out, const char *s, size_t n); /* each maximal bad part becomes U+FFFD */
size_t utf8_cut(const char *s, size_t n, size_t max_bytes); /* largest length <= max_bytes that splits no sequence */
/* Runs of white space become one space, ends are trimmed, at most max_points code points. */
void utf8_snippet(struct buf *out, const char *s, size_t n, size_t max_points);

#endif
