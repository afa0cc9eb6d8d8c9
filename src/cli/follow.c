/* SPDX-License-Identifier: MIT */
#include "cli/follow.h"

#include "base/clock.h"
#include "cli/out.h"
#include "queue/keys.h"

#define STEP_MS 500 /* how soon an interruption is seen */
#define HINT_AFTER_MS 2000

static bool can_look(struct follow *f)
{
	struct error err = {0};

	return f->look.redis || look_open(&f->look, f->cli, &err) == 0;
}

static void hint_at_wait(struct follow *f, const char *hint)
{
	if (can_look(f))
		look_hint_at_wait(&f->look, f->cli->settings->key_prefix, f->queue, hint);
}

enum followed follow_job(struct follow *f, const char *id, int64_t deadline, const char *hint)
{
	int64_t began_ms = clock_mono_ms(), left;
	bool told = false, ended = false;
	struct adwuma_error failed = {0};
	adwuma_stream *s = adwuma_stream_open(f->client, f->queue, id, NULL, &failed);

	while (s && !ended && !*f->interrupted && (left = deadline - clock_mono_ms()) > 0) {
		struct adwuma_piece piece;
		int rc = adwuma_stream_next(s, left < STEP_MS ? left : STEP_MS, &piece, &failed);
		bool lost = rc < 0 && failed.code != ADWUMA_TIMEOUT;

		if (lost && !told)
			say("%s; trying again until it is back", failed.message);
		if (!lost && told && can_look(f))
			look_say_back(&f->look);
		told = lost;
		if (lost)
			clock_nap(STEP_MS / 2);
		if (rc == 1 && f->entry)
			f->entry(f->ctx, piece.event, piece.data, piece.len);
		ended = rc == 0;
		if (hint && !lost && clock_mono_ms() - began_ms > HINT_AFTER_MS) {
			hint_at_wait(f, hint);
			hint = NULL;
		}
	}
	adwuma_stream_close(s);
	return ended ? FOLLOW_ENDED : *f->interrupted ? FOLLOW_INTERRUPTED : FOLLOW_TIMED_OUT;
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
