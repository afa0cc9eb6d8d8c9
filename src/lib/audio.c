/* SPDX-License-Identifier: MIT
 *
 * Audio through keys of Redis.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lib/inside.h"
#include "lib/sigpipe.h"

#define PIECE_BYTES (1024 * 1024)	      /* of audio in one reply: the whole is held once only */
#define AUDIO_MAX_BYTES (512UL * 1024 * 1024) /* Redis's own bound of a string */
#define TTL_MAX_S (366LL * 86400)

static int put_once(struct link *l, const char *key, const void *bytes, size_t len, int64_t ttl_s, struct error *e)
{
	if (link_connect(l, e))
		return -1;
	if (redis_call(l->redis, NULL, e, "SET %s %b EX %lld", key, len ? bytes : "", len, (long long)ttl_s))
		return link_failed(l, e);
	return 0;
}

/* The same bytes may be set twice: that is harmless. */
static int put(struct link *l, const char *key, const void *bytes, size_t len, int64_t ttl_s, struct error *e)
{
	int64_t give_up_at = clock_mono_ms() + l->client->submit_ms, left;
	unsigned tries = 0;

	while (put_once(l, key, bytes, len, ttl_s, e)) {
		left = give_up_at - clock_mono_ms();
		if (!link_may_heal(l->client, e) || left <= 0)
			return -1;
		link_pause(tries++, left);
	}
	return 0;
}

int adwuma_put_audio(adwuma *client, const char *queue, const char *name, const void *bytes, size_t len, int64_t ttl_s,
		     char *key, size_t key_bytes, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	struct keys keys;
	char whole[KEY_MAX];
	struct link *l;
	int rc;

	if (!client)
		return lib_no_client(err);
	if (lib_check_names(queue, name, &e) || (!bytes && len > 0 && error_set(&e, ERR_INVALID, "there are no bytes")))
		return lib_tell(err, &e);
	keys_init(&keys, client->prefix, queue);
	if (key_audio(&keys, name, whole) >= key_bytes || len > AUDIO_MAX_BYTES || ttl_s < 1 || ttl_s > TTL_MAX_S) {
		error_set(&e, ERR_INVALID,
			  "the audio may have %lu bytes at most, must expire within %lld s, and its key needs room",
			  AUDIO_MAX_BYTES, TTL_MAX_S);
		return lib_tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	l = link_take(client, &e);
	rc = l ? put(l, whole, bytes, len, ttl_s, &e) : -1;
	if (l)
		link_give(l);
	sigpipe_restore(&sigpipe);
	if (rc)
		return lib_tell(err, &e);
	memcpy(key, whole, strlen(whole) + 1);
	return 0;
}

/* Appends the audio from where out ends. */
static int get_rest(struct link *l, const char *key, struct buf *out, struct error *e)
{
	size_t got = PIECE_BYTES;

	if (link_connect(l, e))
		return -1;
	while (got == PIECE_BYTES) {
		struct reply *reply = NULL;
		const char *bytes;

		if (redis_call(l->redis, &reply, e, "GETRANGE %s %lld %lld", key, (long long)out->len,
			       (long long)(out->len + PIECE_BYTES - 1)))
			return link_failed(l, e);
		bytes = reply_bytes(reply, &got);
		if (bytes)
			buf_add(out, bytes, got);
		else
			got = 0;
		reply_free(reply);
	}
	return out->failed ? error_set(e, ERR_MEMORY, "no memory for the audio") : 0;
}

static int get(struct link *l, const char *key, struct buf *out, struct error *e)
{
	/* Once more, for a connection that had been idle too long; what came stays. */
	if (get_rest(l, key, out, e) && (!link_broke(e) || !l->client->was_connected || get_rest(l, key, out, e)))
		return -1;
	return 0;
}

int adwuma_get_audio(adwuma *client, const char *key, char **bytes, size_t *len, struct adwuma_error *err)
{
	struct buf out = BUF_INIT(AUDIO_MAX_BYTES);
	struct sigpipe sigpipe;
	struct error e = {0};
	struct keys keys;
	struct link *l;
	int rc;

	if (!client)
		return lib_no_client(err);
	keys_init(&keys, client->prefix, "any");
	if (!key || !key_is_audio(&keys, key)) {
		error_set(&e, ERR_INVALID, "'%.200s' is no audio key: it must look like %s:{QUEUE}:audio:NAME",
			  key ? key : "", client->prefix);
		return lib_tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	l = link_take(client, &e);
	rc = l ? get(l, key, &out, &e) : -1;
	if (l)
		link_give(l);
	sigpipe_restore(&sigpipe);
	if (rc == 0 && out.len == 0) {
		rc = -1;
		if (err) {
			err->code = ADWUMA_MISSING;
			snprintf(err->message, sizeof err->message, "%s does not exist, or no longer", key);
		}
	} else if (rc) {
		lib_tell(err, &e);
	} else {
		*len = out.len;
		*bytes = buf_steal(&out);
	}
	buf_release(&out);
	return rc;
}
