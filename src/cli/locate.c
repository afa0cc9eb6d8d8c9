/* SPDX-License-Identifier: MIT
 *
 * A job moves while it is looked for, so the lists are read in the order in which it moves on: delayed, ready, slots,
 * dead. Lists are read from the end at which they grow, so an element may be met twice and none is missed. What one
 * reply may hold is kept small by steering the number of elements asked for by the size of those before. */
#include "cli/locate.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "adwuma.h"
#include "base/pick.h"
#include "cli/page.h"
#include "cli/slots.h"

#define SEARCH_MAX 1000000 /* elements of one list; a job beyond counts as unknown */

struct entry {
	const char *id;
	struct sought *job;
};

struct search {
	struct redis *redis;
	struct keys keys;
	const char *queue;
	struct entry *entries; /* in order of id */
	size_t n;
	int64_t now_ms; /* Redis's clock */
};

/* --- Whose payload is it? ----------------------------------------------------------------------------------------- */

static int by_id(const void *a, const void *b)
{
	const struct entry *left = a, *right = b;

	return strcmp(left->id, right->id);
}

static void settle(struct sought *job, const struct sought *as, const char *queue, const char *payload, size_t len)
{
	if (job->place != PLACE_UNKNOWN)
		return;
	job->place = as->place;
	job->due_at_ms = as->due_at_ms;
	job->due_in_ms = as->due_in_ms;
	memcpy(job->worker, as->worker, sizeof job->worker);
	snprintf(job->queue, sizeof job->queue, "%s", queue);
	if (job->keep_payload)
		buf_add(&job->payload, payload, len);
}

/* Everyone who is sought under this payload's id becomes `as`, where the place is not known yet. */
static void mark(const struct search *s, const char *payload, size_t len, const struct sought *as)
{
	struct want want = {"id", {0}};
	char id[ADWUMA_ID_MAX + 1];
	struct entry key = {id, NULL}, *found = NULL;

	(void)pick((struct span){payload, len}, &want, 1);
	if (pick_text(want.value, id, ADWUMA_ID_MAX))
		found = bsearch(&key, s->entries, s->n, sizeof key, by_id);
	while (found && found > s->entries && by_id(found - 1, &key) == 0)
		found--;
	for (; found && found < s->entries + s->n && by_id(found, &key) == 0; found++)
		settle(found->job, as, s->queue, payload, len);
}

static bool all_found(const struct search *s)
{
	for (size_t i = 0; i < s->n; i++)
		if (s->entries[i].job->place == PLACE_UNKNOWN)
			return false;
	return true;
}

/* --- The lists. --------------------------------------------------------------------------------------------------- */

/* What is done with the elements of one reply. Returns how many they are, and adds up their bytes. */
typedef size_t piece_fn(const struct search *s, const struct reply *reply, size_t *bytes);

static size_t look_ready(const struct search *s, const struct reply *reply, size_t *bytes)
{
	static const struct sought waiting = {.place = PLACE_WAITING};

	for (size_t i = 0; i < reply_count(reply); i++) {
		size_t len = 0;
		const char *payload = reply_bytes(reply_at(reply, i), &len);

		*bytes += len;
		if (payload)
			mark(s, payload, len, &waiting);
	}
	return reply_count(reply);
}

static size_t look_delayed(const struct search *s, const struct reply *reply, size_t *bytes)
{
	for (size_t i = 0; i + 1 < reply_count(reply); i += 2) {
		struct sought delayed = {.place = PLACE_DELAYED};
		size_t len = 0;
		const char *payload = reply_bytes(reply_at(reply, i), &len);

		*bytes += len;
		delayed.due_at_ms = reply_int(reply_at(reply, i + 1), s->now_ms);
		delayed.due_in_ms = delayed.due_at_ms - s->now_ms;
		if (payload)
			mark(s, payload, len, &delayed);
	}
	return reply_count(reply) / 2;
}

static size_t look_dead(const struct search *s, const struct reply *reply, size_t *bytes)
{
	static const struct sought dead = {.place = PLACE_DEAD};

	for (size_t i = 0; i < reply_count(reply); i++) {
		struct want job = {"job", {0}};
		size_t len = 0;
		const char *entry = reply_bytes(reply_at(reply, i), &len);

		*bytes += len;
		if (entry)
			(void)pick((struct span){entry, len}, &job, 1);
		if (job.value.ptr)
			mark(s, job.value.ptr, job.value.len, &dead);
	}
	return reply_count(reply);
}

static int search_list(const struct search *s, const char *command, const char *key, piece_fn *look, struct error *err)
{
	size_t piece = PAGE_FIRST, at = 0;

	while (at < SEARCH_MAX && !all_found(s)) {
		struct reply *reply = NULL;
		size_t bytes = 0, got;

		if (redis_call(s->redis, &reply, err, command, key, (long long)at, (long long)(at + piece - 1)))
			return -1;
		got = look(s, reply, &bytes);
		reply_free(reply);
		if (got < piece)
			return 0;
		at += got;
		piece = page_next(piece, bytes);
	}
	return 0;
}

/* --- Slots. ------------------------------------------------------------------------------------------------------- */

struct holder {
	const struct search *search;
	struct sought running;
};

static bool look_slot(void *ctx, unsigned slot, const char *payload, size_t len)
{
	const struct holder *h = ctx;

	(void)slot;
	mark(h->search, payload, len, &h->running);
	return !all_found(h->search);
}

static int search_worker(void *ctx, const char *worker, unsigned nslots, struct error *err)
{
	struct holder h = {.search = ctx, .running = {.place = PLACE_RUNNING}};

	snprintf(h.running.worker, sizeof h.running.worker, "%s", worker);
	return all_found(h.search) ? 0
				   : each_held(h.search->redis, &h.search->keys, worker, nslots, look_slot, &h, err);
}

int locate(struct redis *redis, const char *prefix, const char *queue, struct sought *sought, size_t n,
	   struct error *err)
{
	struct search s = {.redis = redis, .queue = queue, .n = n};
	int rc = -1;

	s.entries = calloc(n ? n : 1, sizeof *s.entries);
	if (!s.entries)
		return error_set(err, ERR_MEMORY, "no memory to look for %zu jobs", n);
	for (size_t i = 0; i < n; i++)
		s.entries[i] = (struct entry){sought[i].id, &sought[i]};
	qsort(s.entries, n, sizeof *s.entries, by_id);
	keys_init(&s.keys, prefix, queue);
	if (redis_now_ms(redis, &s.now_ms, err) == 0 &&
	    search_list(&s, "ZRANGE %s %lld %lld REV WITHSCORES", s.keys.delayed, look_delayed, err) == 0 &&
	    search_list(&s, "LRANGE %s %lld %lld", s.keys.ready, look_ready, err) == 0 &&
	    each_worker(redis, &s.keys, search_worker, &s, err) == 0 &&
	    search_list(&s, "LRANGE %s %lld %lld", s.keys.dead, look_dead, err) == 0)
		rc = 0;
	free(s.entries);
	return rc;
}

bool locate_forbidden(const struct error *err)
{
	return err->code == ERR_REFUSED && strstr(err->msg, "NOPERM ");
}
