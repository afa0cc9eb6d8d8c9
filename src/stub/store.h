/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI's clients have created, in memory: objects with members, in the order in which they came. A deleted
 * object takes with it all that stands below it or was made of it. Objects and their bytes are bounded; what does not
 * fit is refused.
 *
 * Ownership: the store owns its objects; a pointer holds until one is deleted. Runs on the server's thread. */
#ifndef ADWUMA_STUB_STORE_H
#define ADWUMA_STUB_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/json.h"

#define OBJECT_ID_MAX 40

enum kind { ASSISTANT, CHAT, MESSAGE, COLLECTION, RECORD, CHUNK, ACTION, UPLOAD, KINDS };

struct store;

struct object {
	char id[OBJECT_ID_MAX + 1];
	enum kind kind;
	struct object *parent; /* NULL: none */
	struct object *maker;  /* what it was made of and goes with, a chunk's record; NULL: none */
	int64_t created_ms, updated_ms;
	int64_t locked_until_ms; /* of a chat whose answer is being made */
	bool pending;		 /* it is being made: nobody finds it yet */
	/* The store's own. */
	struct store *store;
	int64_t number;
	size_t at;
	struct member *members;
};

struct store *store_new(void); /* NULL: no memory */
void store_free(struct store *s);
void store_clear(struct store *s);
/* stem begins its id, twenty digits follow. NULL: no room, or no memory. */
struct object *store_add(struct store *s, enum kind kind, struct object *parent, const char *stem);
struct object *store_find(const struct store *s, enum kind kind, const char *id);
struct object *store_find_pending(const struct store *s, enum kind kind, const char *id);
void store_delete(struct store *s, struct object *o);
/* Walks those of a kind below a parent (NULL: whatever parent), oldest first; NULL begins, and ends. */
struct object *store_next(const struct store *s, enum kind kind, const struct object *parent, const struct object *o);

/* A member's JSON text; ptr NULL: it has none of that name. */
struct span object_get(const struct object *o, const char *name);
void object_set(struct object *o, const char *name, struct span json); /* copied */

#endif
