/* SPDX-License-Identifier: MIT
 *
 * Audio on its way in (from a file under audio_root, a Redis string, or the job itself) and out (into a staged Redis string).
 *
 * Large audio is never held whole: files and Redis strings are streamed in pieces while curl sends.
 *
 * Ownership: struct audio borrows the job while a call runs; audio_close ends that. One thread. */
#ifndef ADWUMA_EXEC_AUDIO_H
#define ADWUMA_EXEC_AUDIO_H

#include "api/api.h"
#include "exec/side.h"
#include "queue/keys.h"
#include "settings/settings.h"

struct audio {
	const struct settings *settings;
	struct side *side; /* NULL: there is no Redis */
	int fd;		   /* -1: none */
	int64_t at, size;
	char key[KEY_MAX];
	struct reply *piece; /* of the Redis string */
	size_t piece_at;
	bool lost;	  /* a piece could not be had from Redis: nothing is wrong with the job */
	struct buf bytes; /* decoded from the job */
	struct http_body_source source;
};
void audio_init(struct audio *a, const struct settings *settings, struct side *side); /* both borrowed */
void audio_close(struct audio *a);

enum audio_opened {
	AUDIO_READY,
	AUDIO_FAULT,	/* outcome is failed */
	AUDIO_NO_REDIS, /* err says why; nothing is wrong with the job */
};
/* Opens the job's audio source and fills call->request's body or source and its content type. */
enum audio_opened audio_open(struct audio *a, const struct keys *keys, struct job *job, struct call *call,
			     struct outcome *out, struct error *err);

/* Puts bytes under the stage key of a slot, to be renamed by the commit. 0; or -1 with err: try again later. */
int audio_stage(struct side *side, const char *key, const struct buf *bytes, int64_t ttl_ms, struct error *err);

#endif
