/* SPDX-License-Identifier: MIT
 *
 * What a pool thread does: takes a task from the stock, makes its call, says how it is to be settled, gives it back to its line.
 *
 * Each thread owns one runner: an HTTP handle with its kept connection, buffers, and a side connection to Redis for audio. */
#ifndef ADWUMA_WORKER_RUNNER_H
#define ADWUMA_WORKER_RUNNER_H

#include "worker/context.h"
#include "worker/line.h"
#include "worker/stock.h"

struct crew;

/* Returns owned. */
struct crew *crew_new(struct context *ctx, struct stock *stock, struct error *err);
void crew_free(struct crew *c);		       /* after its threads have ended */
void crew_run(void *crew, unsigned thread_id); /* for the pool: the whole life of one thread */
void crew_close(void *crew);		       /* likewise, where not all could be started: ends those that were */
void crew_abort(struct crew *c);	       /* cuts off all running calls */
void crew_log(struct crew *c);		       /* one log line per thread: what it does, since when */

#endif
