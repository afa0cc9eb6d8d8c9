/* SPDX-License-Identifier: MIT
 *
 * One try at a job: its call, or for a text over the API's limit one call for each piece that is not done yet, in order, joined at the end.
 * What surrounds a call, and where finished pieces are kept, is the host's: a worker keeps them in Redis, the command line in memory alone.
 *
 * Ownership: an attempt belongs to one thread and is used for one job after the other. */
#ifndef ADWUMA_EXEC_ATTEMPT_H
#define ADWUMA_EXEC_ATTEMPT_H

#include "api/api.h"

enum attempt_end {
	ATTEMPT_JUDGED,	   /* out says what came of it */
	ATTEMPT_BACK,	   /* it could not go on for no fault of the job's: a stop, a lease, Redis */
	ATTEMPT_CANCELLED, /* its producer no longer wants it */
};

enum piece_found { PIECE_FOUND, PIECE_UNKNOWN, PIECE_NO_STORE };

enum piece_put {
	PIECE_KEPT,
	PIECE_NOT_KEPT, /* it serves this try only */
	PIECE_STOP,	/* the service ends */
};

struct attempt_host {
	/* Makes call->request, after it has set its time limit: ATTEMPT_JUDGED with the response, or why none was made or none counts. */
	enum attempt_end (*call)(void *ctx, struct call *call, struct http_response *resp);
	/* A finished piece by its name, appended to out. NULL: none are kept. */
	enum piece_found (*get_piece)(void *ctx, const char *name, struct buf *out);
	/* Keeps a piece that has just been paid for, however long that takes. NULL like get_piece. */
	enum piece_put (*put_piece)(void *ctx, const char *name, const struct buf *piece);
	void *ctx;
};

struct attempt {
	const struct api *api; /* borrowed */
	struct call call;      /* built by api_build() */
	struct outcome out;
	unsigned kept_pieces; /* new ones, in this very try: it has been worth something to the next */
};

void attempt_init(struct attempt *a, const struct api *api);
void attempt_release(struct attempt *a);

/* How long one of its calls may take, and how often it may be tried: what the job says, else the queue's settings (NULL: it has none), else the
 * general ones. */
int64_t attempt_timeout_ms(const struct job *job, const struct settings *s, const struct queue_settings *queue);
int64_t attempts_allowed(const struct job *job, const struct settings *s, const struct queue_settings *queue);

/* After api_build() said 0 and the audio, where it wants any, is opened. */
enum attempt_end attempt_make(struct attempt *a, struct job *job, const struct attempt_host *host);

#endif
