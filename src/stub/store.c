/* SPDX-License-Identifier: MIT
 *
 * See store.h. The number in which an id ends rises with the object's place, so an id is found by halving. */
#include "stub/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define OBJECTS_MAX 100000
#define BYTES_MAX (512UL * 1024 * 1024) /* of all members' texts */
#define NUMBER_LEN 20

struct member {
	char *name;
	char *json;
	size_t len;
	struct member *next;
};

struct store {
	struct object *objects[OBJECTS_MAX]; /* oldest first */
	size_t n, bytes;
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
		o->store->bytes -= m->len;
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

struct object *store_add(struct store *s, enum kind kind, struct object *parent, const char *stem)
{
	struct object *o = s->n < OBJECTS_MAX && s->bytes < BYTES_MAX ? calloc(1, sizeof *o) : NULL;

	if (!o)
		return NULL;
	o->store = s;
	o->kind = kind;
	o->parent = parent;
	o->created_ms = o->updated_ms = clock_real_ms();
	o->number = ++s->made;
	snprintf(o->id, sizeof o->id, "%s%0*" PRId64, stem, NUMBER_LEN, o->number);
	o->at = s->n;
	s->objects[s->n++] = o;
	return o;
}

struct object *store_find_pending(const struct store *s, enum kind kind, const char *id)
{
	size_t len = strlen(id), low = 0, high = s->n;
	int64_t number = len > NUMBER_LEN ? strtoll(id + len - NUMBER_LEN, NULL, 10) : 0;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (s->objects[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	if (low == s->n || s->objects[low]->kind != kind || strcmp(s->objects[low]->id, id) != 0)
		return NULL;
	return s->objects[low];
}

struct object *store_find(const struct store *s, enum kind kind, const char *id)
{
	struct object *o = store_find_pending(s, kind, id);

	return o && !o->pending ? o : NULL;
}

static bool goes_with(const struct object *o, const struct object *root)
{
	while (o && o != root && o->maker != root)
		o = o->parent;
	return o;
}

void store_delete(struct store *s, struct object *root)
{
	bool *goes = calloc(s->n, sizeof *goes); /* known of all before the first is freed */
	size_t kept = 0;

	if (!goes)
		return;
	for (size_t i = root->at; i < s->n; i++)
		goes[i] = goes_with(s->objects[i], root);
	for (size_t i = 0; i < s->n; i++) {
		if (goes[i]) {
			free_object(s->objects[i]);
			continue;
		}
		s->objects[kept] = s->objects[i];
		s->objects[kept]->at = kept;
		kept++;
	}
	s->n = kept;
	free(goes);
}

struct object *store_next(const struct store *s, enum kind kind, const struct object *parent, const struct object *o)
{
	for (size_t i = o ? o->at + 1 : 0; i < s->n; i++) {
		struct object *next = s->objects[i];

		if (next->kind == kind && (!parent || next->parent == parent) && !next->pending)
			return next;
	}
	return NULL;
}

struct span object_get(const struct object *o, const char *name)
{
	for (const struct member *m = o->members; m; m = m->next)
		if (strcmp(m->name, name) == 0)
			return (struct span){m->json, m->len};
	return (struct span){0};
}

static struct member *add_member(struct object *o, const char *name)
{
	struct member *m = calloc(1, sizeof *m);

	if (!m)
		return NULL;
	m->name = strdup(name);
	if (!m->name) {
		free(m);
		return NULL;
	}
	m->next = o->members;
	o->members = m;
	return m;
}

/* Where there is no memory the member is null. */
void object_set(struct object *o, const char *name, struct span json)
{
	struct member *m = o->members;
	char *copy = strndup(json.ptr, json.len);

	while (m && strcmp(m->name, name) != 0)
		m = m->next;
	if (!m)
		m = add_member(o, name);
	if (!m) {
		free(copy);
		return;
	}
	free(m->json);
	o->store->bytes -= m->len;
	m->json = copy;
	m->len = copy ? json.len : 0;
	o->store->bytes += m->len;
}
