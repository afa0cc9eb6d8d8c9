/* SPDX-License-Identifier: MIT
 *
 * The few members of an object that one wants, as spans of its text. */
#ifndef ADWUMA_BASE_PICK_H
#define ADWUMA_BASE_PICK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"

/* Decoded text is never longer than the text it stands in, which Redis bounds to 512 MiB. */
#define PICK_TEXT_MAX (1UL << 30)

struct want {
	const char *name;
	struct span value;
};

/* Finds members of an object, the last of a name; those that are absent or null keep ptr NULL. Returns 0, or -1 when v
 * is no object, or no JSON: then what was found before the fault is there all the same. */
int pick(struct span v, struct want *want, size_t n);
/* Copies a decoded string (out has max + 1 bytes). False, and out is "", when v is absent or none, or does not fit. */
bool pick_text(struct span v, char *out, size_t max);
/* The decoded string, or the raw text of another value; "" when absent. */
const char *pick_readable(struct span v, struct buf *out);

#endif
