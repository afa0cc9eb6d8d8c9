/* SPDX-License-Identifier: MIT
 *
 * See store.h. */
#include "stub/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define OBJECTS_MAX 100000

struct member {
	char *name;
	char *json;
	size_t len;
	struct member *next;
};

struct store {
	struct object *objects[OBJECTS_MAX]; /* oldest first */
	size_t n;
	int64_t made; /* ever: ids are never used again */
};

struct store *store_new(void)
{
	return calloc(1, sizeof(struct store)); /* pages are used as objects come */
}

static void free_object(struct object *o)
{
	while (o->members) {
		struct member *m = o->members;

		o->members = m->next;
		free(m->name);
		free(m->json);
		free(m);
	}
	free(o);
}

void store_clear(struct store *s)
{
	for (size_t i = 0; i < s->n; i++)
		free_object(s->objects[i]);
	s->n = 0;
}

void store_free(struct store *s)
{
	if (!s)
		return;
	store_clear(s);
	free(s);
}

struct object *store_add(struct store *s, enum kind kind, struct object *parent, const char *prefix)
{
	struct object *o = s->n < OBJECTS_MAX ? calloc(1, sizeof *o) : NULL;

	if (!o)
		return NULL;
	o->kind = kind;
	o->parent = parent;
	o->created_ms = o->updated_ms = clock_real_ms();
	snprintf(o->id, sizeof o->id, "%s%020" PRId64, prefix, ++s->made);
	s->objects[s->n++] = o;
	return o;
}

struct object *store_find(const struct store *s, enum kind kind, const char *id)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->objects[i]->kind == kind && strcmp(s->objects[i]->id, id) == 0)
			return s->objects[i];
	return NULL;
}

static bool is_below(const struct object *o, const struct object *root)
{
	while (o && o != root)
		o = o->parent;
	return o == root;
}

void store_delete(struct store *s, struct object *root)
{
	bool *goes = calloc(s->n, sizeof *goes); /* known of all before the first is freed */
	size_t kept = 0;

	if (!goes)
		return;
	for (size_t i = 0; i < s->n; i++)
		goes[i] = is_below(s->objects[i], root);
	for (size_t i = 0; i < s->n; i++) {
		if (goes[i])
			free_object(s->objects[i]);
		else
			s->objects[kept++] = s->objects[i];
	}
	s->n = kept;
	free(goes);
}

struct object *store_next(const struct store *s, enum kind kind, const struct object *parent, const struct object *o)
{
	size_t i = 0;

	while (o && i < s->n && s->objects[i++] != o)
		;
	for (; i < s->n; i++)
		if (s->objects[i]->kind == kind && (!parent || s->objects[i]->parent == parent))
			return s->objects[i];
	return NULL;
}

struct span object_get(const struct object *o, const char *name)
{
	for (const struct member *m = o->members; m; m = m->next)
		if (strcmp(m->name, name) == 0)
			return (struct span){m->json, m->len};
	return (struct span){0};
}

void object_set(struct object *o, const char *name, struct span json)
{
	struct member *m = o->members;

	while (m && strcmp(m->name, name) != 0)
		m = m->next;
	if (!m) {
		m = calloc(1, sizeof *m);
		if (!m)
			return;
		m->name = strdup(name);
		m->next = o->members;
		o->members = m;
	}
	free(m->json);
	m->json = strndup(json.ptr, json.len);
	m->len = m->json ? json.len : 0;
}
