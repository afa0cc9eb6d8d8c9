/* SPDX-License-Identifier: MIT
 *
 * batch: what an earlier run has submitted already. See batch.h. */
#include <stdlib.h>
#include <string.h>

#include "cli/batch.h"
#include "cli/locate.h"

static int has_results(struct batch *b, struct item *const *items, size_t n, bool *there, struct error *err)
{
	struct error first = {0};
	struct keys keys;
	char name[KEY_MAX];

	for (size_t i = 0; i < n; i++) {
		keys_init(&keys, b->cli->settings->key_prefix, items[i]->queue);
		key_result(&keys, items[i]->id, name);
		if (redis_appendf(b->look.redis, err, "EXISTS %s", name))
			return -1;
	}
	for (size_t i = 0; i < n; i++) {
		struct reply *reply = NULL;

		if (redis_receive(b->look.redis, &reply, err))
			return -1;
		redis_note_error(b->look.redis, reply, &first);
		there[i] = there[i] || reply_int(reply, 0) > 0;
		reply_free(reply);
	}
	if (first.code == ERR_NONE)
		return 0;
	*err = first;
	return -1;
}

/* Those of one queue, in one pass over its lists; twice, since a job may move back behind the look. */
static int look_for(struct batch *b, struct item *const *items, size_t n, const char *queue, bool *there,
		    struct error *err)
{
	struct sought *sought = calloc(n, sizeof *sought);
	size_t wanted = 0, k = 0;
	int rc = 0;

	if (!sought)
		return error_set(err, ERR_MEMORY, "no memory");
	for (size_t i = 0; i < n; i++)
		if (!there[i] && strcmp(items[i]->queue, queue) == 0)
			sought[wanted++].id = items[i]->id;
	for (int look = 0; rc == 0 && look < 2; look++)
		rc = locate(b->look.redis, b->cli->settings->key_prefix, queue, sought, wanted, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		if (!there[i] && strcmp(items[i]->queue, queue) == 0)
			there[i] = sought[k++].place != PLACE_UNKNOWN;
	free(sought);
	return rc;
}

/* Whether no item before number i, which was sought as well, has its queue: those of one queue are sought together. */
static bool is_first_of_queue(struct item *const *items, const bool *sought, size_t i)
{
	for (size_t k = 0; k < i && sought[i]; k++)
		if (sought[k] && strcmp(items[k]->queue, items[i]->queue) == 0)
			return false;
	return sought[i];
}

/* Results are looked at last again: a job that ended meanwhile is found there. */
int batch_find(struct batch *b, struct item *const *items, size_t n, bool *there, struct error *err)
{
	bool *sought = calloc(n + 1, sizeof *sought);
	int rc;

	if (!sought)
		return error_set(err, ERR_MEMORY, "no memory");
	rc = has_results(b, items, n, there, err);
	for (size_t i = 0; i < n; i++)
		sought[i] = !there[i];
	for (size_t i = 0; rc == 0 && i < n; i++)
		if (is_first_of_queue(items, sought, i))
			rc = look_for(b, items, n, items[i]->queue, there, err);
	if (rc == 0)
		rc = has_results(b, items, n, there, err);
	free(sought);
	return rc;
}
