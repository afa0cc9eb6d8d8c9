/* SPDX-License-Identifier: MIT
 *
 * Reads multipart/form-data (RFC 7578) as strictly as a server may: no preamble, CR LF line ends, a border that ends
 * it. Pure; everything is borrowed from the body. */
#ifndef ADWUMA_STUB_FORM_H
#define ADWUMA_STUB_FORM_H

#include <stdbool.h>

#include "base/json.h"

#define FORM_PARTS_MAX 16

struct form_part {
	struct span name;
	struct span file; /* its name; ptr NULL: it is no file */
	struct span type; /* Content-Type; ptr NULL: not said */
	struct span bytes;
};

struct form {
	struct form_part parts[FORM_PARTS_MAX];
	size_t n;
};

bool form_is(const char *content_type); /* NULL: no */
/* False: it is no such form, or has too many parts. */
bool form_parse(struct form *f, const char *content_type, const char *body, size_t len);
const struct form_part *form_find(const struct form *f, const char *name); /* NULL: absent */

#endif
