/* SPDX-License-Identifier: MIT
 *
 * See slots.h. What a worker tells of itself is not trusted further than its bounds. */
#include "cli/slots.h"

#define WORKERS_MAX 10000
#define SLOTS_AT_ONCE 64	/* of which each may hold a job of the greatest size */
#define SLOTS_MAX 65536		/* several for each of a worker's threads */
#define TIME_MAX_S 253402300799 /* the end of the year 9999 */

int redis_now_ms(struct redis *redis, int64_t *out, struct error *err)
{
	struct reply *reply = NULL;
	int64_t s, us;

	if (redis_call(redis, &reply, err, "TIME"))
		return -1;
	s = reply_int(reply_at(reply, 0), -1);
	us = reply_int(reply_at(reply, 1), -1);
	reply_free(reply);
	if (s < 0 || s > TIME_MAX_S || us < 0 || us >= 1000000)
		return error_set(err, ERR_REFUSED, "what answers is no Redis: TIME has no time");
	*out = s * 1000 + us / 1000;
	return 0;
}

int count_live_workers(struct redis *redis, const struct keys *keys, int64_t *out, struct error *err)
{
	struct reply *reply = NULL;
	int64_t now = 0;

	if (redis_now_ms(redis, &now, err) ||
	    redis_call(redis, &reply, err, "ZCOUNT %s %lld +inf", keys->workers, (long long)now))
		return -1;
	*out = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

static int count_slots(struct redis *redis, const struct keys *keys, const char *worker, unsigned *out,
		       struct error *err)
{
	struct reply *reply = NULL;
	char key[KEY_MAX];
	int64_t n;

	key_worker(keys, worker, key);
	if (redis_call(redis, &reply, err, "HGET %s slots", key))
		return -1;
	n = reply_int(reply, 0);
	*out = n < 0 ? 0 : n > SLOTS_MAX ? SLOTS_MAX : (unsigned)n;
	reply_free(reply);
	return 0;
}

int each_worker(struct redis *redis, const struct keys *keys, worker_fn *visit, void *ctx, struct error *err)
{
	struct reply *workers = NULL;
	int rc = redis_call(redis, &workers, err, "ZRANGE %s 0 %d", keys->workers, WORKERS_MAX - 1);

	for (size_t i = 0; rc == 0 && i < reply_count(workers); i++) {
		const char *worker = reply_bytes(reply_at(workers, i), NULL);
		unsigned nslots = 0;

		if (worker && (count_slots(redis, keys, worker, &nslots, err) || visit(ctx, worker, nslots, err)))
			rc = -1;
	}
	reply_free(workers);
	return rc;
}

static int read_slots(struct redis *redis, const struct keys *keys, const char *worker, unsigned from, unsigned to,
		      held_fn *visit, void *ctx, bool *more, struct error *err)
{
	struct error first = {0};

	for (unsigned i = from; i < to; i++) {
		char slot[KEY_MAX];

		key_slot(keys, worker, i, slot);
		if (redis_appendf(redis, err, "LINDEX %s 0", slot))
			return -1;
	}
	for (unsigned i = from; i < to; i++) {
		struct reply *reply = NULL;
		const char *payload, *wrong;
		size_t len = 0;

		if (redis_receive(redis, &reply, err))
			return -1;
		/* A key of another type is no slot; any other error hides what is in one. */
		wrong = reply_error(reply);
		if (wrong && strncmp(wrong, "WRONGTYPE ", 10) != 0)
			redis_note_error(redis, reply, &first);
		payload = reply_bytes(reply, &len);
		*more = *more && (!payload || visit(ctx, i, payload, len));
		reply_free(reply);
	}
	if (first.code == ERR_NONE)
		return 0;
	if (err)
		*err = first;
	return -1;
}

int each_held(struct redis *redis, const struct keys *keys, const char *worker, unsigned nslots, held_fn *visit,
	      void *ctx, struct error *err)
{
	bool more = true;

	for (unsigned from = 0; from < nslots && more; from += SLOTS_AT_ONCE) {
		unsigned to = nslots - from < SLOTS_AT_ONCE ? nslots : from + SLOTS_AT_ONCE;

		if (read_slots(redis, keys, worker, from, to, visit, ctx, &more, err))
			return -1;
	}
	return 0;
}
