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
	*h = (struct health){.lock = PTHREAD_MUTEX_INITIALIZER, .answered_ms = clock_mono_ms()};
}

static void tell_lost(const char *where, const char *reason)
{
	log_event(LOG_WARN, "redis lost", "redis", where, "reason", reason, "then", "waiting and trying again", NULL);
}

void health_lost(struct health *h, const char *where, const char *reason, int64_t opened_ms)
{
	bool tell;

	pthread_mutex_lock(&h->lock);
	tell = !h->told && opened_ms >= h->lost_at_ms;
	if (h->down++ == 0)
		h->lost_at_ms = clock_mono_ms();
	h->told = h->told || tell;
	pthread_mutex_unlock(&h->lock);
	if (tell)
		tell_lost(where, reason);
}

void health_still_lost(struct health *h, const char *where, const char *reason)
{
	bool tell;

	pthread_mutex_lock(&h->lock);
	tell = !h->told;
	h->told = true;
	pthread_mutex_unlock(&h->lock);
	if (tell)
		tell_lost(where, reason);
}

void health_back(struct health *h, const char *where)
{
	int64_t lost_for_ms = 0;
	bool tell;

	pthread_mutex_lock(&h->lock);
	h->reconnects++;
	tell = --h->down == 0 && h->told;
	if (tell)
		lost_for_ms = clock_mono_ms() - h->lost_at_ms;
	if (h->down == 0)
		h->told = false;
	pthread_mutex_unlock(&h->lock);
	if (tell)
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

uint64_t health_reconnects(struct health *h)
{
	uint64_t n;

	pthread_mutex_lock(&h->lock);
	n = h->reconnects;
	pthread_mutex_unlock(&h->lock);
	return n;
}

void health_answered(struct health *h)
{
	h->answered_ms = clock_mono_ms();
}

int64_t health_backoff_ms(unsigned tries)
{
	int64_t ceiling = tries > 6 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_FIRST_MS << tries;

	if (ceiling > BACKOFF_MAX_MS)
		ceiling = BACKOFF_MAX_MS;
	/* From half to all of it; clock bits are random enough for this. */
	return ceiling / 2 + clock_mono_us() % (ceiling / 2 + 1);
}
