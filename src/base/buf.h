/* SPDX-License-Identifier: MIT
 *
 * A growing byte buffer that cannot outgrow its bound.
 *
 * Failure is sticky: once an append did not fit or memory ran out, `failed` is set, later appends do nothing, and
 * the caller asks once at the end. While it has not failed, ptr is NUL-terminated beyond len when len > 0
 * (use buf_str() where an empty one may come).
 *
 * Ownership: the buffer owns ptr until buf_release() or buf_steal(). Not thread-safe. */
#ifndef ADWUMA_BASE_BUF_H
#define ADWUMA_BASE_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct buf {
	char *ptr;
	size_t len;
	size_t cap;
	size_t max; /* bound for len, in bytes */
	bool failed;
};

#define BUF_INIT(max_bytes) ((struct buf){.max = (max_bytes)})

void buf_release(struct buf *b);		 /* frees; b is empty and usable again, same bound */
void buf_clear(struct buf *b);			 /* empties and forgets failure; keeps memory */
void buf_trim(struct buf *b, size_t keep_bytes); /* empties; gives memory beyond keep_bytes back */
void buf_cut(struct buf *b, size_t len);	 /* takes back what was added beyond len; failed stays as it is */
char *buf_steal(struct buf *b);			 /* returns owned ptr (free()), b is empty */
char *buf_reserve(struct buf *b, size_t n);	 /* room for n more bytes (and a NUL); NULL when failed */
void buf_str_add(struct buf *b, const char *s);	 /* NUL-terminated text as it is */
void buf_char(struct buf *b, char c);
void buf_int(struct buf *b, int64_t n); /* decimal */
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *buf_cstr(const struct buf *b); /* "" when empty */

/* Copies n bytes. Inline, because a result is put together from some fifty pieces. */
static inline void buf_add(struct buf *b, const void *data, size_t n)
{
	bool fits = !b->failed && n < b->cap - b->len && b->len + n <= b->max;
	char *to = fits ? b->ptr + b->len : buf_reserve(b, n);

	if (!to)
		return;
	if (n > 0)
		memcpy(to, data, n);
	b->len += n;
	b->ptr[b->len] = '\0';
}

/* A literal without strlen at run time. */
#define buf_lit(b, s) buf_add((b), "" s, sizeof(s) - 1)

/* JSON pieces written as text: see base/json.h for reading. */
void buf_json_string(struct buf *b, const char *s, size_t n); /* quotes, escapes; what is no UTF-8 becomes U+FFFD */
void buf_json_cstr(struct buf *b, const char *s);	      /* the same; NULL writes null */
void buf_json_double(struct buf *b, double d,
		     int decimals); /* fixed notation, at most 15 decimals; non-finite writes null */

#endif
