/* SPDX-License-Identifier: MIT
 *
 * Emptying the slots of a worker that is gone (or of our own at the end), and striking it off the list.
 *
 * No lock and no leader: whoever comes first reads a slot and decides; the turn script does it only if the slot still holds the same bytes
 * and the lease has really run out. */
#ifndef ADWUMA_WORKER_REAP_H
#define ADWUMA_WORKER_REAP_H

#include <stddef.h>

#include "base/err.h"
#include "queue/keys.h"
#include "queue/turn.h"
#include "redis/redis.h"
#include "settings/settings.h"
#include "worker/metrics.h"

/* A dead worker: its jobs go back to ready (or are given up: too many crashes, or sent and not to be repeated). How many slots it had is
 * read from its hash. *jobs: how many were moved. 0; or -1 (ERR_LINK, ERR_REFUSED). A worker that is alive after all is no error. Past until_ms
 * (mono) it leaves off after a job, and the next call goes on: the caller has a lease of its own to renew. */
int reap_worker(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
		struct queue_metrics *metrics, const char *queue, const char *worker, int64_t until_ms, size_t *jobs,
		struct error *err);
/* The nslots slots of a worker that was struck off: what a wait that was served late left there goes the same way. */
int reap_gone(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
	      struct queue_metrics *metrics, const char *queue, const char *worker, int64_t nslots, int64_t until_ms,
	      size_t *jobs, struct error *err);
/* Our own slots, when every thread is done: what a lost reply left in them goes back to ready. */
int reap_own(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
	     const char *worker, unsigned nslots, struct error *err);

#endif
