/* SPDX-License-Identifier: MIT
 *
 * What a request's body may say, as tables of its members, and what is said of the first that does not fit: a place
 * (body/memory/type) and words like those of the real server's validation library. Pure. */
#ifndef ADWUMA_STUB_SCHEMA_H
#define ADWUMA_STUB_SCHEMA_H

#include "base/json.h"

/* BY_NAME: an object whose members have any names and are texts, or by the table inside. */
enum field_type { TEXT, INTEGER, NUMBER, BOOLEAN, OBJECT, ARRAY, BY_NAME, TEXT_OR_TEXTS };
enum need { OPTIONAL, REQUIRED, REQUIRED_IN_COMMUNITY };

/* One member; a row without a name ends a table. An optional one may be null. */
struct field {
	const char *name;
	enum field_type type;
	enum need need;
	double min, max;     /* of a number; of a text's letters; of an object's or array's items. max 0: any */
	const char *choices; /* all a text may be, blanks in between; NULL: anything */
	const struct field
		*inside; /* of an object, or of each object in an array; a row named "" is that of each element */
};

enum { SCHEMA_PARTIAL = 1, SCHEMA_HOSTED = 2 }; /* partial: nothing is required */

struct complaint {
	char where[160], text[200];
};

/* where: what the place begins with. */
bool schema_fits(struct span object, const struct field *fields, unsigned how, const char *where, struct complaint *c);
/* 'asc' or 'desc' */
void schema_choices(const char *choices, char *out, size_t bytes);
bool schema_chosen(struct span text, const char *choices); /* a valid JSON string */

struct span schema_member(struct span object,
			  const char *name); /* ptr NULL: absent, or object is none; null is a value */

#endif
