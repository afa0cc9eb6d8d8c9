/* SPDX-License-Identifier: MIT
 *
 * Audio on its way in (from a file under audio_root, a URL, a Redis string, or the job itself) and out (into a staged Redis string; deliver.h does
 * the rest).
 *
 * Large audio is never held whole: files and Redis strings are streamed in pieces while curl sends. What a URL gives goes through a file without a
 * name, in $TMPDIR or /tmp: its size and first bytes must be known before the call. Where no such file can be made, memory takes its place.
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
	AUDIO_FAULT,	 /* outcome is failed; from audio_fetch it may also be to be tried again */
	AUDIO_NO_REDIS,	 /* err says why; nothing is wrong with the job */
	AUDIO_ELSEWHERE, /* nothing was opened: audio_fetch is needed */
	AUDIO_ABORTED,	 /* audio_fetch only: http_abort() */
};
/* Opens the job's audio source and fills call->request's body or source and its content type. */
enum audio_opened audio_open(struct audio *a, const struct keys *keys, struct job *job, struct call *call,
			     struct outcome *out, struct error *err);
/* Fetches the job's audio_url and opens what came, as audio_open does. Blocks up to timeout_ms; http_abort() ends it. *tried: a connection was at
 * least looked for. */
enum audio_opened audio_fetch(struct audio *a, struct http *http, int64_t timeout_ms, struct job *job,
			      struct call *call, struct outcome *out, bool *tried);

/* Puts bytes under the stage key of a slot, to be renamed by the commit. 0; or -1 with err: try again later. */
int audio_stage(struct side *side, const char *key, const struct buf *bytes, int64_t ttl_ms, struct error *err);

#endif
