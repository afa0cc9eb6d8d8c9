/* SPDX-License-Identifier: MIT
 *
 * Where a job is that has no result yet. */
#ifndef ADWUMA_CLI_LOCATE_H
#define ADWUMA_CLI_LOCATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"
#include "queue/keys.h"
#include "redis/redis.h"
#include "settings/settings.h"

enum place { PLACE_UNKNOWN, PLACE_WAITING, PLACE_DELAYED, PLACE_RUNNING, PLACE_DEAD };

struct sought {
	const char *id; /* borrowed */
	enum place place;
	char queue[QUEUE_NAME_MAX + 1]; /* unless unknown */
	char worker[WORKER_ID_MAX + 1]; /* running: on which */
	int64_t due_at_ms, due_in_ms;	/* delayed */
	bool keep_payload;		/* wanted: a copy of the payload, with which it was found */
	struct buf payload;		/* owned by the caller */
};

/* Looks in one queue for all whose place is unknown, in one pass over its lists. */
int locate(struct redis *redis, const char *prefix, const char *queue, struct sought *sought, size_t n,
	   struct error *err);

/* Whether it failed because Redis's ACL lets this user put jobs there and not look at those of all: locate's first command is refused then. */
bool locate_forbidden(const struct error *err);

#endif
