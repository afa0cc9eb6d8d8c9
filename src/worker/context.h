/* SPDX-License-Identifier: MIT
 *
 * What all parts of the worker service share. main fills it before any thread starts; only the members marked so change later. */
#ifndef ADWUMA_WORKER_CONTEXT_H
#define ADWUMA_WORKER_CONTEXT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "api/api.h"
#include "base/clock.h"
#include "queue/keys.h"
#include "redis/redis.h"
#include "settings/settings.h"
#include "worker/health.h"
#include "worker/metrics.h"

/* The stages of a worker's life; main alone moves it. QUIET and RUN may alternate, the rest only go on. */
enum phase {
	PHASE_RUN,     /* jobs are taken and done */
	PHASE_QUIET,   /* none are taken; what runs goes on (TSTP) */
	PHASE_DRAIN,   /* none are taken; what runs ends by itself; what waits is handed back */
	PHASE_ABORT,   /* running calls are cut off and their jobs handed back; what was answered is still written */
	PHASE_LET_GO,  /* what could not be written in time is handed back, too */
	PHASE_GIVE_UP, /* nor could that be told to Redis: what is left stays in its slots */
};

struct context {
	const struct settings *settings;
	struct http_shared *http;
	const struct api *api;
	struct redis_address address;
	struct health health;
	struct metrics *metrics;
	char base_id[WORKER_ID_MAX - 12]; /* host-pid-random: generations of worker ids are base_id.N */
	int64_t started_at_ms;
	int64_t waited_for_redis_ms; /* at the start, until it served us */
	_Atomic(enum phase) phase;
	_Atomic int64_t billed[JOB_KINDS][UNITS]; /* what was sent, by the type of the job */
	_Atomic uint64_t reaped;		  /* jobs of dead workers that the keeper put back or gave up */
};

#endif
