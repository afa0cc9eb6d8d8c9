/* SPDX-License-Identifier: MIT
 *
 * See follow.h. A stream may expire, be trimmed, or not be there at all where a job never streams: so its result is looked at too. */
#include "cli/follow.h"

#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "cli/out.h"
#include "queue/keys.h"

#define STEP_MS 500 /* how soon an interruption, and a result without a stream, are seen */
#define ENTRIES 500 /* at once */
#define ENTRY_ID_MAX 64
#define HINT_AFTER_MS 2000

struct place {
	struct keys keys;
	char stream[KEY_MAX], result[KEY_MAX];
	char last[ENTRY_ID_MAX]; /* the entry that was seen last */
	bool ended;
};

static const char *field(const struct reply *entry, const char *name, size_t *len)
{
	const struct reply *fields = reply_at(entry, 1);

	for (size_t i = 0; i + 1 < reply_count(fields); i += 2) {
		const char *found = reply_bytes(reply_at(fields, i), NULL);

		if (found && strcmp(found, name) == 0)
			return reply_bytes(reply_at(fields, i + 1), len);
	}
	return NULL;
}

static void take_entries(struct follow *f, struct place *p, const struct reply *reply)
{
	const struct reply *entries = reply_at(reply_at(reply, 0), 1);

	for (size_t i = 0; i < reply_count(entries); i++) {
		const struct reply *entry = reply_at(entries, i);
		size_t n = 0, data_len = 0;
		const char *id = reply_bytes(reply_at(entry, 0), &n);
		const char *event = field(entry, "event", &n), *data = field(entry, "data", &data_len);

		if (!id || !event || !data || strlen(id) >= sizeof p->last)
			continue;
		strcpy(p->last, id);
		p->ended = strcmp(event, "done") == 0 || strcmp(event, "error") == 0;
		if (f->entry)
			f->entry(f->ctx, event, data, data_len);
	}
}

/* Waits a step for entries, then looks at the result. 0, or -1: the connection is of no use. */
static int step(struct follow *f, struct place *p, int64_t ms, struct error *err)
{
	struct reply *reply = NULL;
	bool any;

	if (redis_call(f->look.redis, &reply, err, "XREAD COUNT %d BLOCK %lld STREAMS %s %s", ENTRIES, (long long)ms,
		       p->stream, p->last) &&
	    err->code != ERR_REFUSED)
		return -1;
	any = reply_count(reply) > 0;
	take_entries(f, p, reply);
	reply_free(reply);
	if (any || p->ended)
		return 0;
	if (redis_call(f->look.redis, &reply, err, "EXISTS %s", p->result))
		return -1;
	p->ended = reply_int(reply, 0) > 0;
	reply_free(reply);
	/* What came between the two looks. */
	if (p->ended &&
	    redis_call(f->look.redis, &reply, err, "XREAD COUNT %d STREAMS %s %s", ENTRIES, p->stream, p->last) == 0) {
		take_entries(f, p, reply);
		reply_free(reply);
		p->ended = true;
	}
	return 0;
}

static void nap(int64_t ms)
{
	struct timespec t = {.tv_nsec = ms * 1000000};

	nanosleep(&t, NULL);
}

static bool connect_once(struct follow *f, bool *told)
{
	struct error err = {0};

	if (f->look.redis)
		return true;
	if ((f->look.nqueues ? look_reconnect(&f->look, &err) : look_open(&f->look, f->cli, &err)) == 0) {
		f->look.nqueues = 1; /* the address is known */
		if (*told)
			look_say_back(&f->look);
		*told = false;
		return true;
	}
	if (!*told)
		look_say_lost(&f->look, &err);
	*told = true;
	f->look.nqueues = 1;
	nap(STEP_MS / 2);
	return false;
}

enum followed follow_job(struct follow *f, const char *id, int64_t deadline, const char *hint)
{
	int64_t began_ms = clock_mono_ms(), left;
	struct place p = {.last = "0"};
	bool told = false;

	keys_init(&p.keys, f->cli->settings->key_prefix, f->queue);
	key_stream(&p.keys, id, p.stream);
	key_result(&p.keys, id, p.result);
	while (!p.ended && !*f->interrupted && (left = deadline - clock_mono_ms()) > 0) {
		struct error err = {0};

		if (!connect_once(f, &told))
			continue;
		if (step(f, &p, left < STEP_MS ? left : STEP_MS, &err)) {
			look_say_lost(&f->look, &err);
			told = true;
			redis_close(f->look.redis);
			f->look.redis = NULL;
		}
		if (hint && f->look.redis && clock_mono_ms() - began_ms > HINT_AFTER_MS) {
			look_hint_at_workers(&f->look, f->cli->settings->key_prefix, f->queue, hint);
			hint = NULL;
		}
	}
	return p.ended ? FOLLOW_ENDED : *f->interrupted ? FOLLOW_INTERRUPTED : FOLLOW_TIMED_OUT;
}

int follow_cancel(struct follow *f, const char *const *ids, size_t n, struct error *err)
{
	struct keys keys;
	int rc = 0;

	keys_init(&keys, f->cli->settings->key_prefix, f->queue);
	if (!f->look.redis && look_open(&f->look, f->cli, err))
		return -1;
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = redis_call(f->look.redis, NULL, err, "ZADD %s %lld %s", keys.cancelled, (long long)clock_real_ms(),
				ids[i]);
	return rc;
}

void follow_close(struct follow *f)
{
	look_close(&f->look);
}
