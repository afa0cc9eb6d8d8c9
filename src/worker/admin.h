/* SPDX-License-Identifier: MIT
 *
 * The admin HTTP listener (contract section 5): /healthz, /readyz, /status, /metrics. Its thread is the HTTP library's; it reads figures that
 * others keep up, and never waits for Redis.
 *
 * /healthz says only that the process's own loops turn: a worker restarted in an outage of Redis would lose answers that were paid for.
 * /readyz says that a real write to every queue went through at the keeper's last round and that jobs are taken. */
#ifndef ADWUMA_WORKER_ADMIN_H
#define ADWUMA_WORKER_ADMIN_H

#include "base/err.h"
#include "worker/context.h"
#include "worker/keepers.h"
#include "worker/line.h"
#include "worker/stock.h"

/* What it looks at, all borrowed: it must be stopped before they go. */
struct admin_view {
	struct context *ctx;
	struct stock *stock;
	struct keepers *keepers;
	struct line *const *lines;
	size_t nlines;
};

struct admin;

/* Listens at admin_listen; NULL with err.code ERR_NONE where that is off, or where the default address is taken (told). */
struct admin *admin_start(const struct admin_view *view, struct error *err);
void admin_stop(struct admin *a); /* NULL is fine */

/* Whether all loops turn; any thread. */
bool admin_alive(const struct admin_view *view);

#endif
