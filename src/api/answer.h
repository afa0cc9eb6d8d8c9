/* SPDX-License-Identifier: MIT
 *
 * What answers of all services have in common, where they are not what was hoped for. Between the files of api/ only. */
#ifndef ADWUMA_API_ANSWER_H
#define ADWUMA_API_ANSWER_H

#include "api/api.h"

#define SNIPPET_POINTS 200 /* of a body in a message; as in the Khaya SDK */

/* The text without white space around it, and without a byte order mark. Borrowed. */
struct span answer_trimmed(const struct buf *b);
/* What a server says is cut to what an error may hold, never refused for its length. */
void answer_add_cut(struct buf *to, const char *s, size_t n);
/* The text of a string, a number as text; else nothing. Replaces what is in to. */
void answer_set_text(struct buf *to, const struct json *j);
/* "HTTP 502: …" with the title of the page, or its beginning, that came in place of JSON. */
void answer_say_page(struct fault *f, const struct http_response *resp);
/* A decimal number of seconds, up to an hour; a date, text or nan is no wish we can follow: RETRY_AFTER_NONE. */
int64_t answer_retry_after_ms(const char *header);

#endif
