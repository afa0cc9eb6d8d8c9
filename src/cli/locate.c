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
#include "base/clock.h"
#include "base/json.h"
#include "cli/slots.h"

#define PIECE_BYTES (1024 * 1024) /* aimed at, for one reply */
#define PIECE_FIRST 4		  /* elements of the first reply: each may be as large as a job */
#define PIECE_MAX 1000
#define SEARCH_MAX 1000000 /* elements of one list; a job beyond counts as unknown */
#define SLOTS_AT_ONCE 64

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

struct member {
	const char *name;
	struct span value;
};

static void keep_last(void *ctx, struct span key, struct span value)
{
	struct member *m = ctx;

	if (json_key_is(key, m->name))
		m->value = value;
}

static void settle(struct sought *job, const struct sought *as, const char *queue)
{
	const char *id = job->id;

	if (job->place != PLACE_UNKNOWN)
		return;
	*job = *as;
	job->id = id;
	snprintf(job->queue, sizeof job->queue, "%s", queue);
}

/* Everyone who is sought under this payload's id becomes `as`, where the place is not known yet. */
static void mark(const struct search *s, const char *payload, size_t len, const struct sought *as)
{
	struct member id = {"id", {0}};
	struct buf text = BUF_INIT(ADWUMA_ID_MAX);
	struct entry key = {0}, *found = NULL;

	(void)json_scan(payload, len, NULL, keep_last, &id);
	if (id.value.ptr && json_span_type(id.value) == JSON_STRING && json_span_string(id.value, &text) &&
	    !text.failed) {
		key.id = buf_cstr(&text);
		found = bsearch(&key, s->entries, s->n, sizeof key, by_id);
	}
	while (found && found > s->entries && by_id(found - 1, &key) == 0)
		found--;
	for (; found && found < s->entries + s->n && by_id(found, &key) == 0; found++)
		settle(found->job, as, s->queue);
	buf_release(&text);
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
		delayed.due_in_ms = reply_int(reply_at(reply, i + 1), s->now_ms) - s->now_ms;
		if (payload)
			mark(s, payload, len, &delayed);
	}
	return reply_count(reply) / 2;
}

static size_t look_dead(const struct search *s, const struct reply *reply, size_t *bytes)
{
	static const struct sought dead = {.place = PLACE_DEAD};

	for (size_t i = 0; i < reply_count(reply); i++) {
		struct member job = {"job", {0}};
		size_t len = 0;
		const char *entry = reply_bytes(reply_at(reply, i), &len);

		*bytes += len;
		if (entry)
			(void)json_scan(entry, len, NULL, keep_last, &job);
		if (job.value.ptr)
			mark(s, job.value.ptr, job.value.len, &dead);
	}
	return reply_count(reply);
}

static size_t next_piece(size_t piece, size_t bytes)
{
	size_t fits = bytes ? PIECE_BYTES * piece / bytes : PIECE_MAX;
	size_t next = fits < piece * 8 ? fits : piece * 8;

	return next < 1 ? 1 : next > PIECE_MAX ? PIECE_MAX : next;
}

static int search_list(const struct search *s, const char *command, const char *key, piece_fn *look, struct error *err)
{
	size_t piece = PIECE_FIRST, at = 0;

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
		piece = next_piece(piece, bytes);
	}
	return 0;
}

/* --- Slots. ------------------------------------------------------------------------------------------------------- */

static int look_slots(const struct search *s, const char *worker, unsigned from, unsigned to, struct error *err)
{
	struct sought running = {.place = PLACE_RUNNING};

	snprintf(running.worker, sizeof running.worker, "%s", worker);
	for (unsigned i = from; i < to; i++) {
		char slot[KEY_MAX];

		key_slot(&s->keys, worker, i, slot);
		if (redis_appendf(s->redis, err, "LINDEX %s 0", slot))
			return -1;
	}
	for (unsigned i = from; i < to; i++) {
		struct reply *reply = NULL;
		const char *payload;
		size_t len = 0;

		if (redis_receive(s->redis, &reply, err))
			return -1;
		payload = reply_error(reply) ? NULL : reply_bytes(reply, &len);
		if (payload)
			mark(s, payload, len, &running);
		reply_free(reply);
	}
	return 0;
}

static int search_worker(void *ctx, const char *worker, unsigned nslots, struct error *err)
{
	const struct search *s = ctx;

	for (unsigned from = 0; from < nslots && !all_found(s); from += SLOTS_AT_ONCE)
		if (look_slots(s, worker, from, nslots - from < SLOTS_AT_ONCE ? nslots : from + SLOTS_AT_ONCE, err))
			return -1;
	return 0;
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
