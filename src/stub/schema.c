/* SPDX-License-Identifier: MIT
 *
 * See schema.h. */
#include "stub/schema.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct wanted {
	const char *name;
	struct span value;
};

static void find_member(void *ctx, struct span key, struct span value)
{
	struct wanted *w = ctx;

	if (json_key_is(key, w->name))
		w->value = value;
}

struct span schema_member(struct span object, const char *name)
{
	struct wanted w = {.name = name};

	if (object.ptr)
		(void)json_scan(object.ptr, object.len, NULL, find_member, &w);
	return w.value;
}

static bool complain(struct complaint *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static bool complain(struct complaint *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(c->text, sizeof c->text, fmt, ap);
	va_end(ap);
	return false;
}

void schema_choices(const char *choices, char *out, size_t bytes)
{
	size_t n = 0;

	*out = '\0';
	while (*choices && n + 4 < bytes) {
		size_t len = strcspn(choices, " ");
		const char *rest = choices + len + strspn(choices + len, " ");
		const char *glue = n == 0 ? "" : *rest ? ", " : " or ";

		n += (size_t)snprintf(out + n, bytes - n, "%s'%.*s'", glue, (int)len, choices);
		choices = rest;
	}
}

bool schema_chosen(struct span text, const char *choices)
{
	while (*choices) {
		size_t len = strcspn(choices, " ");

		if (text.len == len + 2 && memcmp(text.ptr + 1, choices, len) == 0)
			return true;
		choices += len + strspn(choices + len, " ");
	}
	return false;
}

/* --- Sizes. ------------------------------------------------------------------------------------------------ */

static void count(void *ctx, struct span key, struct span value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
}

static double size_of(struct span v)
{
	size_t n = 0;

	switch (json_span_type(v)) {
	case JSON_STRING:
		return (double)json_points(v);
	case JSON_NUMBER:
		return strtod(v.ptr, NULL);
	case JSON_OBJECT:
		(void)json_scan(v.ptr, v.len, NULL, count, &n);
		return (double)n;
	case JSON_ARRAY:
		(void)json_elements(v, count, &n);
		return (double)n;
	case JSON_NULL:
	case JSON_BOOL:
		break;
	}
	return 0;
}

static bool size_fits(struct span v, const struct field *f, struct complaint *c)
{
	double size = size_of(v);
	const char *of = json_span_type(v) == JSON_STRING ? "String"
		       : json_span_type(v) == JSON_ARRAY  ? "List"
							  : "Dictionary";
	bool number = json_span_type(v) == JSON_NUMBER;

	if (size < f->min)
		return number ? complain(c, "Input should be greater than or equal to %g", f->min)
			      : complain(c, "%s should have at least %g %s", of, f->min,
					 *of == 'S' ? "characters" : "items");
	if (f->max > 0 && size > f->max)
		return number ? complain(c, "Input should be less than or equal to %g", f->max)
			      : complain(c, "%s should have at most %g %s", of, f->max,
					 *of == 'S' ? "characters" : "items");
	return true;
}

/* --- Types. ------------------------------------------------------------------------------------------------ */

static const struct {
	enum json_type type;
	const char *wanted;
} types[] = {
	[TEXT] = {JSON_STRING, "string"},	 [INTEGER] = {JSON_NUMBER, "integer"},
	[NUMBER] = {JSON_NUMBER, "number"},	 [BOOLEAN] = {JSON_BOOL, "boolean"},
	[OBJECT] = {JSON_OBJECT, "dictionary"},	 [ARRAY] = {JSON_ARRAY, "list"},
	[BY_NAME] = {JSON_OBJECT, "dictionary"}, [TEXT_OR_TEXTS] = {JSON_ARRAY, "string"},
};

static bool type_fits(struct span v, const struct field *f, struct complaint *c)
{
	int64_t whole;
	bool good = json_span_type(v) == types[f->type].type;

	if (f->type == INTEGER)
		good = good && json_span_int(v, &whole);
	if (f->type == TEXT_OR_TEXTS)
		good = good || json_span_type(v) == JSON_STRING;
	return good || complain(c, "Input should be a valid %s", types[f->type].wanted);
}

/* The items of an object or an array, each by the same row or table. */
struct walk {
	const struct field *inside;
	unsigned how;
	struct complaint *c;
	size_t n;
	bool good;
};

static bool value_fits(struct span v, const struct field *f, unsigned how, struct complaint *c);

/* Adds to the place; what comes back is where it ended, to be cut off again. */
static size_t enter(struct complaint *c, const char *name, size_t len)
{
	size_t n = strlen(c->where);

	snprintf(c->where + n, sizeof c->where - n, "/%.*s", (int)len, name);
	return n;
}

static bool members_fit(struct span object, const struct field *fields, unsigned how, struct complaint *c);

static void visit(void *ctx, struct span key, struct span value)
{
	struct walk *w = ctx;
	char number[24];
	size_t n;

	if (!w->good)
		return;
	snprintf(number, sizeof number, "%zu", w->n++);
	n = key.ptr ? enter(w->c, key.ptr, key.len) : enter(w->c, number, strlen(number));
	if (!w->inside->name || *w->inside->name)
		w->good = json_span_type(value) == JSON_OBJECT ? members_fit(value, w->inside, w->how, w->c)
							       : complain(w->c, "Input should be a valid dictionary");
	else
		w->good = value_fits(value, w->inside, w->how, w->c);
	if (w->good)
		w->c->where[n] = '\0';
}

static bool items_fit(struct span v, const struct field *inside, unsigned how, struct complaint *c)
{
	struct walk w = {.inside = inside, .how = how, .c = c, .good = true};

	if (json_span_type(v) == JSON_ARRAY)
		(void)json_elements(v, visit, &w);
	else
		(void)json_scan(v.ptr, v.len, NULL, visit, &w);
	return w.good;
}

static bool value_fits(struct span v, const struct field *f, unsigned how, struct complaint *c)
{
	static const struct field any_text = {"", TEXT, OPTIONAL, 0, 0, NULL, NULL};
	char choices[120];

	if (!type_fits(v, f, c))
		return false;
	if (f->choices && !schema_chosen(v, f->choices)) {
		schema_choices(f->choices, choices, sizeof choices);
		return complain(c, "Input should be %s", choices);
	}
	if (!size_fits(v, f, c))
		return false;
	if (f->type == BY_NAME)
		return items_fit(v, f->inside ? f->inside : &any_text, how, c);
	if (f->type == TEXT_OR_TEXTS && json_span_type(v) == JSON_ARRAY)
		return items_fit(v, &any_text, how, c);
	if (f->inside && f->type == ARRAY)
		return items_fit(v, f->inside, how, c);
	/* What an update brings along is whole. */
	return !f->inside || members_fit(v, f->inside, how & ~(unsigned)SCHEMA_PARTIAL, c);
}

static bool members_fit(struct span object, const struct field *fields, unsigned how, struct complaint *c)
{
	for (const struct field *f = fields; f->name; f++) {
		struct span v = schema_member(object, f->name);
		bool required = !(how & SCHEMA_PARTIAL) &&
				(f->need == REQUIRED || (f->need == REQUIRED_IN_COMMUNITY && !(how & SCHEMA_HOSTED)));
		size_t n;

		if (!required && (!v.ptr || json_span_type(v) == JSON_NULL))
			continue;
		n = enter(c, f->name, strlen(f->name));
		if (!v.ptr)
			return complain(c, "Field required");
		if (!value_fits(v, f, how, c))
			return false;
		c->where[n] = '\0';
	}
	return true;
}

bool schema_fits(struct span object, const struct field *fields, unsigned how, const char *where, struct complaint *c)
{
	snprintf(c->where, sizeof c->where, "%s", where);
	return members_fit(object, fields, how, c);
}
