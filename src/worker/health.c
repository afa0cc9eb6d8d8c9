/* SPDX-License-Identifier: MIT
 *
 * See health.h. The log lines are written outside the lock by whoever made the change that matters. */
#include "worker/health.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"

#define BACKOFF_FIRST_MS 50
#define BACKOFF_MAX_MS 1000	 /* so long is the service away beyond Redis, at most */
#define FOUND_LATE_MS 30000	 /* an idle connection has found out by then that it broke */
#define STILL_LOST_EVERY_MS 1000 /* connections that fail for reasons that alternate do not fill the log */

void health_init(struct health *h)
{
	*h = (struct health){.lock = PTHREAD_MUTEX_INITIALIZER, .answered_ms = clock_mono_ms()};
}

/* Under the lock: reason is about to be logged. */
static void told(struct health *h, const char *where, const char *reason)
{
	h->told = true;
	snprintf(h->told_where, sizeof h->told_where, "%s", where);
	h->told_at_ms = clock_mono_ms();
	snprintf(h->told_reason, sizeof h->told_reason, "%s", reason);
}

/* Under the lock: it is down for another reason than the one last logged (it came back and wants a password, say). */
static bool other_reason(const struct health *h, const char *reason)
{
	return h->told && strncmp(reason, h->told_reason, sizeof h->told_reason - 1) != 0 &&
	       clock_mono_ms() - h->told_at_ms >= STILL_LOST_EVERY_MS;
}

/* Under the lock, which it leaves. */
static void tell(struct health *h, bool first, const char *where, const char *reason)
{
	bool other = other_reason(h, reason);

	if (first || other)
		told(h, where, reason);
	pthread_mutex_unlock(&h->lock);
	if (first || other)
		log_event(LOG_WARN, first ? "redis lost" : "redis still lost", "redis", where, "reason", reason, "then",
			  "waiting and trying again", NULL);
}

void health_lost(struct health *h, const char *where, const char *reason, int64_t opened_ms)
{
	bool first;

	pthread_mutex_lock(&h->lock);
	first = !h->told && (opened_ms >= h->lost_at_ms || clock_mono_ms() - h->back_at_ms > FOUND_LATE_MS);
	if (h->down++ == 0 && !h->told)
		h->lost_at_ms = clock_mono_ms();
	h->returning = false;
	tell(h, first, where, reason);
}

void health_still_lost(struct health *h, const char *where, const char *reason)
{
	pthread_mutex_lock(&h->lock);
	tell(h, !h->told, where, reason);
}

void health_back(struct health *h, const char *where)
{
	pthread_mutex_lock(&h->lock);
	snprintf(h->told_where, sizeof h->told_where, "%s", where);
	h->reconnects++;
	h->returning = --h->down == 0 && h->told;
	pthread_mutex_unlock(&h->lock);
}

void health_answered(struct health *h)
{
	char where[sizeof h->told_where];
	int64_t lost_for_ms;
	bool back;

	h->answered_ms = clock_mono_ms();
	if (!h->returning)
		return;
	pthread_mutex_lock(&h->lock);
	back = h->returning;
	h->told = h->told && !back;
	h->returning = false;
	if (back)
		h->back_at_ms = clock_mono_ms();
	lost_for_ms = clock_mono_ms() - h->lost_at_ms;
	memcpy(where, h->told_where, sizeof where);
	pthread_mutex_unlock(&h->lock);
	if (back)
		log_event(LOG_INFO, "redis back", "redis", where, "lost_for_ms", log_int(lost_for_ms), NULL);
}

bool health_up(struct health *h)
{
	bool up;

	pthread_mutex_lock(&h->lock);
	up = h->down == 0 && !h->returning;
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

int64_t health_backoff_ms(unsigned tries)
{
	int64_t ceiling = tries > 6 ? BACKOFF_MAX_MS : (int64_t)BACKOFF_FIRST_MS << tries;

	if (ceiling > BACKOFF_MAX_MS)
		ceiling = BACKOFF_MAX_MS;
	/* From half to all of it; clock bits are random enough for this. */
	return ceiling / 2 + clock_mono_us() % (ceiling / 2 + 1);
}
