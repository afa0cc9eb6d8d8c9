/* SPDX-License-Identifier: MIT
 *
 * Walking the list of dead jobs while others change it: each entry that is there from beginning to end is met, and met
 * once. */
#ifndef ADWUMA_CLI_DEAD_SCAN_H
#define ADWUMA_CLI_DEAD_SCAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "base/json.h"
#include "queue/keys.h"
#include "redis/redis.h"

/* entries are valid during the call. *removed: how many of them it has taken out of the list, 0 before. Returns 0 to go
 * on, 1 when it has seen enough, -1 with *err. */
typedef int dead_page_fn(void *ctx, const struct span *entries, size_t n, size_t *removed, struct error *err);

/* oldest_first: else newest first. Ends with what was there when it began. Returns 0 or -1. */
int dead_scan(struct redis *redis, const struct keys *keys, bool oldest_first, dead_page_fn *page, void *ctx,
	      struct error *err);

#endif
