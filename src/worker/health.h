/* SPDX-License-Identifier: MIT
 *
 * Whether Redis can be used, over all connections of the process: so that a loss is logged once, a new reason for it once, and the
 * return once, however many connections broke. Any thread. */
#ifndef ADWUMA_WORKER_HEALTH_H
#define ADWUMA_WORKER_HEALTH_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct health {
	pthread_mutex_t lock;			/* guards all below */
	unsigned down;				/* how many connections are down now */
	bool told;				/* this loss has been logged */
	char told_where[256], told_reason[160]; /* the last it was logged with */
	int64_t told_at_ms;
	_Atomic bool
		returning; /* told, and all connections are up again; whether Redis does what it is asked is not known yet */
	int64_t lost_at_ms; /* mono; when this loss, or the last one, began */
	int64_t back_at_ms; /* mono; when the last one ended */
	uint64_t reconnects;
	_Atomic int64_t answered_ms; /* mono; when Redis last did what was asked */
};

void health_init(struct health *h);
/* A connection of the caller's is gone, cannot be made again, or works again. where: "host:port"; reason: why. opened_ms: when it was made
 * (mono; INT64_MAX where it never was). An idle connection finds out late that it broke in a loss that is over: that is no second loss. */
void health_lost(struct health *h, const char *where, const char *reason, int64_t opened_ms);
void health_still_lost(struct health *h, const char *where, const char *reason);
void health_back(struct health *h, const char *where);
bool health_up(struct health *h);
uint64_t health_reconnects(struct health *h);
void health_answered(
	struct health
		*h); /* Redis did what was asked: only now a loss is over (it may take connections and refuse writes) */

/* How long to wait before the n-th try (from 1) to reconnect: grows to 1 s, with jitter so that a fleet does not come back as one. */
int64_t health_backoff_ms(unsigned tries);

#endif
