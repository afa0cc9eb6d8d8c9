/* SPDX-License-Identifier: MIT
 *
 * See health.h. The log lines are written outside the lock by whoever made the change that matters. */
#include "worker/health.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 2000

void health_init(struct health *h)
{
	*h = (struct health){.lock = PTHREAD_MUTEX_INITIALIZER};
}

void health_lost(struct health *h, const char *where, const char *reason)
{
	bool first;

	pthread_mutex_lock(&h->lock);
	first = h->down++ == 0;
	if (first)
		h->lost_at_ms = clock_mono_ms();
	pthread_mutex_unlock(&h->lock);
	if (first)
		log_event(LOG_WARN, "redis lost", "redis", where, "reason", reason, "then", "waiting and trying again", NULL);
}

void health_back(struct health *h, const char *where)
{
	int64_t lost_for_ms = 0;
	bool last;

	pthread_mutex_lock(&h->lock);
	h->reconnects++;
	last = --h->down == 0;
	if (last)
		lost_for_ms = clock_mono_ms() - h->lost_at_ms;
	pthread_mutex_unlock(&h->lock);
	if (last)
		log_event(LOG_INFO, "redis back", "redis", where, "lost_for_ms", log_int(lost_for_ms), NULL);
}

bool health_up(struct health *h)
{
	bool up;

	pthread_mutex_lock(&h->lock);
	up = h->down == 0;
	pthread_mutex_unlock(&h->lock);
	return up;
}

int64_t health_backoff_ms(unsigned tries)
{
	int64_t ceiling = tries > 6 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_FIRST_MS << tries;

	if (ceiling > BACKOFF_MAX_MS)
		ceiling = BACKOFF_MAX_MS;
	/* From half to all of it; clock bits are random enough for this. */
	return ceiling / 2 + clock_mono_us() % (ceiling / 2 + 1);
}
