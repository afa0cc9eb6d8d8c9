/* SPDX-License-Identifier: MIT
 *
 * All keepers of this worker: one for all queues; or one for each, where queues may be on different processes of Redis. There the one that hangs must
 * not keep the leases of the others from being renewed. */
#ifndef ADWUMA_WORKER_KEEPERS_H
#define ADWUMA_WORKER_KEEPERS_H

#include "worker/keeper.h"

struct keepers;

/* ctx is borrowed. Returns owned; no thread runs yet. */
struct keepers *keepers_new(struct context *ctx, struct error *err);
void keepers_free(struct keepers *ks);
struct line_listener keepers_listener(struct keepers *ks, size_t queue);
/* lines: borrowed until keepers_stop; by queue. */
int keepers_start(struct keepers *ks, struct line **lines, size_t nlines, struct error *err);
void keepers_stop(struct keepers *ks); /* ends and joins the threads */

/* As keeper.h has them, by the index of the queue; any thread. */
void keepers_figures(const struct keepers *ks, size_t queue, struct keeper_figures *out);
bool keepers_write(const struct keepers *ks, size_t queue);
int64_t keepers_turned_ms(const struct keepers *ks); /* the one that turned longest ago */

#endif
