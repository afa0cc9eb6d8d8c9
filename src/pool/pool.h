/* SPDX-License-Identifier: MIT
 *
 * A fixed crew of threads, each running one loop over its own context. Knows nothing of jobs or Redis.
 *
 * Ownership  pool_new() borrows crew and shared; both outlive the pool.
 * Threads    Call these from main only. run has its thread to itself and holds no lock of ours.
 * Lifetime   new, then join (which waits until each run has returned), then free. */
#ifndef ADWUMA_POOL_POOL_H
#define ADWUMA_POOL_POOL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"

struct pool;
struct pool_crew {
	const char *name; /* threads are called name/0, name/1 … (15 characters at most) */
	void (*run)(void *shared, unsigned thread_id); /* the whole life of one thread */
};

/* Starts nthreads, or none: on failure those that started are asked to end by give_up(shared) and joined. */
int pool_new(struct pool **out, const struct pool_crew *crew, void *shared, unsigned nthreads,
	     void (*give_up)(void *shared), struct error *err);
void pool_join(struct pool *p); /* until all have ended */
void pool_free(struct pool *p); /* after pool_join; NULL is fine */

/* One named thread with the pool's small stack, all signals blocked. 0, or -1. The caller joins it. */
int pool_thread(void *handle, const char *name, void *(*run)(void *), void *arg, struct error *err);

#endif
