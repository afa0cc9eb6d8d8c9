/* SPDX-License-Identifier: MIT
 *
 * A keeper: one thread with a connection of its own, so that neither a slow call nor a busy queue can keep a lease from being renewed.
 *
 * Once a second (or a quarter of the lease, where that is less), and when a job that this worker delayed is due, it makes a round over its
 * queues: renew the lease, move due jobs to ready, learn of pauses, empty the slots of workers whose lease ran out. Once per lease it looks
 * into the own free slots, where a claim carried out late may have left a job that no thread has. */
#ifndef ADWUMA_WORKER_KEEPER_H
#define ADWUMA_WORKER_KEEPER_H

#include "base/err.h"
#include "worker/context.h"
#include "worker/line.h"

struct keeper;

/* ctx is borrowed. Returns owned; no thread runs yet. */
struct keeper *keeper_new(struct context *ctx, struct error *err);
void keeper_free(struct keeper *k);
struct line_listener keeper_listener(struct keeper *k);
/* lines: borrowed until keeper_stop; one connection serves them all. */
int keeper_start(struct keeper *k, struct line **lines, size_t nlines, struct error *err);
void keeper_end(struct keeper *k);  /* asks the thread to end */
void keeper_stop(struct keeper *k); /* the same, and joins it */

/* What the last round told of a queue, by the place of its line among those it was started with; any thread. */
struct keeper_figures {
	int64_t ready, delayed, dead;
	bool paused;
};
void keeper_figures(const struct keeper *k, size_t queue, struct keeper_figures *out);
bool keeper_writes(const struct keeper *k, size_t queue); /* a real write to the queue went through lately */
int64_t keeper_turned_ms(const struct keeper *k);	  /* mono: when its loop last turned; 0: it was not started */

#endif
