/* SPDX-License-Identifier: MIT
 *
 * Reading JSON that strangers wrote.
 *
 * Two readers, for two needs. The flat scan checks a whole text strictly (RFC 8259, UTF-8, depth) without recursion or
 * memory and tells the spans of an object's own members: what is passed on is copied as such spans, so numbers and
 * escapes stay the bytes they were. The tree (cJSON behind an opaque name) is for bodies whose parts are looked at.
 * cJSON must never see a text that the scan has not passed: it accepts 01 and raw newlines and cuts strings at \u0000.
 *
 * Pure; any thread. Writing JSON is in base/buf.h. */
#ifndef ADWUMA_BASE_JSON_H
#define ADWUMA_BASE_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

#define JSON_DEPTH_MAX 200 /* contract section 3; cJSON recurses, 1,000 levels would need 160 KiB of stack */

struct span {
	const char *ptr; /* NULL: absent */
	size_t len;
};

enum json_verdict {
	JSON_OK,
	JSON_BROKEN,   /* not JSON */
	JSON_TOO_DEEP, /* brackets balance, but deeper than JSON_DEPTH_MAX; what lies deeper was not checked */
	JSON_NOT_UTF8, /* otherwise well-formed, but some bytes are no UTF-8 (surrogates, overlong and > U+10FFFF too) */
};
/* When several hold, the earliest of BROKEN, TOO_DEEP, NOT_UTF8 is returned. */

enum json_type { JSON_NULL, JSON_BOOL, JSON_NUMBER, JSON_STRING, JSON_ARRAY, JSON_OBJECT };

/* key: the raw text between the quotes, value: the raw text of the value (strings with their quotes). */
typedef void json_member_fn(void *ctx, struct span key, struct span value);

/* Checks the text; when it is an object calls member (may be NULL) for each of its own members in order, also when the verdict
 * is TOO_DEEP or NOT_UTF8 (and, before the fault is found, when it is BROKEN). *type may be NULL. White space around is allowed. */
enum json_verdict json_scan(const char *text, size_t len, enum json_type *type, json_member_fn *member, void *ctx);

/* Likewise for each element of an array, in order, with an absent key; not for those of anything else. */
enum json_verdict json_elements(struct span array, json_member_fn *element, void *ctx);

/* Of a span that a scan has passed. */
enum json_type json_span_type(struct span v);
bool json_span_int(struct span v, int64_t *out); /* a JSON integer in int64 range; 1.0 and 1e3 count when whole */
bool json_span_is_true(struct span v);
bool json_span_has_nul(struct span v); /* a string with an escaped U+0000 */
bool json_span_string(struct span v,
		      struct buf *out); /* unescapes; appends; false: lone surrogate (nothing appended) */
/* Appends the text as it stands, numbers and all, but on one line (a line break, which stands between values only, becomes a space), and with
 * U+FFFD for what is no Unicode: lone surrogates, bytes that are no UTF-8. The scan may have said JSON_NOT_UTF8, or nothing. */
void json_add_clean(struct buf *out, struct span v);
size_t json_points(
	struct
	span string); /* code points of the value of a valid JSON string, quotes and all; an escape counts as what it stands for */
bool json_key_is(struct span key, const char *name); /* unescapes where needed */
/* Appends an object that a scan has passed, without its members of that name and without its closing brace; every other byte stays what it
 * was, so it may end with a comma. Returns whether there was such a member. */
bool json_open_without(const char *text, size_t len, const char *name, struct buf *out);

/* The tree. json_parse scans first; \u0000 inside strings becomes U+FFFD; bytes that are no UTF-8 become U+FFFD; a BOM before it is
 * skipped. Returns owned (json_free), NULL when it is not JSON, too deep, has more than a million values (a tree
 * takes far more memory than its text), or has a number longer than 63 characters (cJSON keeps no more).
 * Children are borrowed from the root. */
struct json;
struct json *json_parse(const char *text, size_t len);
void json_free(struct json *j);
enum json_type json_type(const struct json *j); /* NULL counts as JSON_NULL */
const struct json *json_get(const struct json *obj,
			    const char *key); /* case-sensitive; NULL when absent or no object */
const char *json_text(const struct json *j);  /* of a string, else NULL */
bool json_double(const struct json *j, double *out);
bool json_true(const struct json *j);
size_t json_count(const struct json *j);	     /* of array or object */
const struct json *json_first(const struct json *j); /* walk children: for (c = json_first(a); c; c = json_next(c)) */
const struct json *json_next(const struct json *c);
const char *json_name(const struct json *c); /* key of an object's member, else NULL */

#endif
