/* SPDX-License-Identifier: MIT
 *
 * What the targets share. A target states properties with must(); one that does not hold is a finding, like a crash.
 * An input is one text, or several with a byte 0xff between them: so files of the corpus can be read and written by hand. */
#ifndef ADWUMA_TESTS_FUZZ_H
#define ADWUMA_TESTS_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define must(property)                                                                                                 \
	do {                                                                                                           \
		if (!(property)) {                                                                                     \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #property);                  \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* libFuzzer calls it; data is a block of exactly size bytes. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The bytes up to the next 0xff as a string of its own (free()), so that a read beyond its NUL is seen. *in moves on. */
static inline char *next_text(struct span *in)
{
	const char *end = in->len ? memchr(in->ptr, 0xff, in->len) : NULL;
	size_t n = end ? (size_t)(end - in->ptr) : in->len;
	char *text = malloc(n + 1);

	must(text);
	if (n > 0)
		memcpy(text, in->ptr, n);
	text[n] = '\0';
	*in = (struct span){in->ptr + n + (end != NULL), in->len - n - (end != NULL)};
	return text;
}

static inline bool same(struct span a, struct span b)
{
	return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

/* An object's members, in order. */
struct members {
	struct span *key, *value; /* free() */
	size_t n;
};

static inline void add_member(void *ctx, struct span key, struct span value)
{
	struct members *m = ctx;

	m->key = realloc(m->key, (m->n + 1) * sizeof *m->key);
	m->value = realloc(m->value, (m->n + 1) * sizeof *m->value);
	must(m->key && m->value);
	m->key[m->n] = key;
	m->value[m->n++] = value;
}

static inline void release_members(struct members *m)
{
	free(m->key);
	free(m->value);
	*m = (struct members){0};
}

static inline struct span member(const struct members *m, const char *name)
{
	for (size_t i = m->n; i-- > 0;)
		if (json_key_is(m->key[i], name))
			return m->value[i];
	return (struct span){0};
}

#endif
