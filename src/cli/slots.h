/* SPDX-License-Identifier: MIT
 *
 * Looking at a queue's workers and what they hold, from outside. */
#ifndef ADWUMA_CLI_SLOTS_H
#define ADWUMA_CLI_SLOTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "queue/keys.h"
#include "redis/redis.h"

/* Redis's own clock. */
int redis_now_ms(struct redis *redis, int64_t *out, struct error *err);

/* Those whose lease holds. */
int count_live_workers(struct redis *redis, const struct keys *keys, int64_t *out, struct error *err);

/* Calls visit for each listed worker, dead ones too, with the number of its slots; stops when it fails. */
typedef int worker_fn(void *ctx, const char *worker, unsigned nslots, struct error *err);
int each_worker(struct redis *redis, const struct keys *keys, worker_fn *visit, void *ctx, struct error *err);

/* Calls visit for each job in the worker's slots, until it returns false. */
typedef bool held_fn(void *ctx, unsigned slot, const char *payload, size_t len);
int each_held(struct redis *redis, const struct keys *keys, const char *worker, unsigned nslots, held_fn *visit,
	      void *ctx, struct error *err);

#endif
