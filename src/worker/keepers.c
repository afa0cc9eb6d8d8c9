/* SPDX-License-Identifier: MIT */
#include "worker/keepers.h"

#include <stdlib.h>

struct keepers {
	struct keeper *each[QUEUES_MAX];
	size_t n; /* 1, or as many as there are queues */
};

static struct keeper *of(const struct keepers *ks, size_t queue)
{
	return ks->each[ks->n > 1 ? queue : 0];
}

static size_t place(const struct keepers *ks, size_t queue)
{
	return ks->n > 1 ? 0 : queue;
}

struct keepers *keepers_new(struct context *ctx, struct error *err)
{
	struct keepers *ks = calloc(1, sizeof *ks);
	size_t n = redis_spreads(&ctx->address) ? ctx->settings->nqueues : 1;

	if (!ks) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	for (; ks->n < n; ks->n++) {
		ks->each[ks->n] = keeper_new(ctx, err);
		if (ks->each[ks->n])
			continue;
		keepers_free(ks);
		return NULL;
	}
	return ks;
}

void keepers_free(struct keepers *ks)
{
	for (size_t i = 0; ks && i < ks->n; i++)
		keeper_free(ks->each[i]);
	free(ks);
}

struct line_listener keepers_listener(struct keepers *ks, size_t queue)
{
	return keeper_listener(of(ks, queue));
}

int keepers_start(struct keepers *ks, struct line **lines, size_t nlines, struct error *err)
{
	if (ks->n == 1)
		return keeper_start(ks->each[0], lines, nlines, err);
	for (size_t i = 0; i < ks->n; i++)
		if (keeper_start(ks->each[i], &lines[i], 1, err)) {
			keepers_stop(ks);
			return -1;
		}
	return 0;
}

/* All at once: each may wait for a Redis that hangs. */
void keepers_stop(struct keepers *ks)
{
	for (size_t i = 0; i < ks->n; i++)
		keeper_end(ks->each[i]);
	for (size_t i = 0; i < ks->n; i++)
		keeper_stop(ks->each[i]);
}

void keepers_figures(const struct keepers *ks, size_t queue, struct keeper_figures *out)
{
	keeper_figures(of(ks, queue), place(ks, queue), out);
}

bool keepers_write(const struct keepers *ks, size_t queue)
{
	return keeper_writes(of(ks, queue), place(ks, queue));
}

int64_t keepers_turned_ms(const struct keepers *ks)
{
	int64_t oldest = keeper_turned_ms(ks->each[0]);

	for (size_t i = 1; i < ks->n; i++)
		if (keeper_turned_ms(ks->each[i]) < oldest)
			oldest = keeper_turned_ms(ks->each[i]);
	return oldest;
}
